// What is durable: numbered files of records, one after the other. A record is the u32 length and
// a u32 checksum of the rest, a u8 that says what it is, an i64 zxid, and bytes.
// Writing blocks: what arrives meanwhile waits for the next step, and shares its fsync. What cannot
// be written ends the process, for nobody may be told that it was.

import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { inputs } from './core.mjs';

const RECORDS = ['append', 'begin', 'chunk', 'end'];

export function openStore(directory) {
  const path = (number) => join(directory, String(number));
  const list = () => fs.readdirSync(directory).map(Number).sort((a, b) => a - b);
  let last = 0; // The newest file's number.
  let file; // That which is written, once there is something for it.
  let snapshotZxid; // Of the snapshot that is written.

  /** Gives the core the newest snapshot that is whole, and every transaction after it. */
  function recover(core) {
    let [snapshot, begun, txns] = [{ zxid: 0n, chunks: [] }, undefined, []];
    const numbers = list();
    last = numbers.at(-1) ?? 0;
    for (const number of numbers) {
      const bytes = fs.readFileSync(path(number));
      let at = 0;
      for (let record; (record = readRecord(bytes, at)); at = record.end) {
        if (record.op === 'append') txns.push(record);
        if (record.op === 'begin') begun = { zxid: record.zxid, chunks: [] };
        if (record.op === 'chunk') begun.chunks.push(record.bytes);
        if (record.op === 'end') snapshot = begun;
      }
      // A write that was cut short was never confirmed; before the end, it is damage.
      if (at < bytes.length && number < last) throw new Error(`${path(number)}: damaged at ${at}`);
      fs.truncateSync(path(number), at);
      sync(path(number)); // Whoever was killed has written what it did not sync.
    }
    sync(directory);
    roll();
    const found = snapshot.chunks.length > 0;
    if (found) core.snapshotBegin(snapshot.zxid);
    snapshot.chunks.forEach(core.snapshotChunk);
    if (found) core.snapshotEnd();
    txns = txns.filter(({ zxid }) => zxid > snapshot.zxid);
    for (const [index, { zxid, bytes }] of txns.entries()) {
      // Of a server that stands alone they go up by one: else something is missing.
      if (zxid !== snapshot.zxid + BigInt(index) + 1n) throw new Error(`a gap before ${zxid}`);
      core.txn(bytes);
    }
    const logBytes = txns.reduce((sum, { bytes }) => sum + bytes.length, 0);
    return { snapshot: found, txns: txns.length, logBytes };
  }

  /** Performs what a step wants, in order. All is durable then; returns what to report of it. */
  function perform(ops) {
    const reports = [];
    for (const { op, seq, zxid, bytes } of ops) {
      if (op === 'roll') roll();
      // What is abandoned has no end, and does not count.
      if (RECORDS.includes(op)) write(op, zxid || 0n, bytes || Buffer.alloc(0));
      if (op === 'begin') snapshotZxid = zxid;
      if (op === 'chunk') reports.push(inputs.snapshotWritten(bytes.length));
      if (op === 'end') reports.push(inputs.snapshotStored(snapshotZxid));
      if (seq) reports.push(inputs.stored(seq));
    }
    if (file) fs.fdatasyncSync(file);
    // A snapshot stands for all files before its own but one: what was under way when it began, and
    // comes after it, is in that one.
    const old = ops.some(({ op }) => op === 'end') ? list().slice(0, -2) : [];
    old.forEach((number) => fs.rmSync(path(number)));
    return reports;
  }

  function write(op, zxid, bytes) {
    if (!file) {
      file = fs.openSync(path(++last), 'wx');
      sync(directory);
    }
    const record = Buffer.concat([Buffer.alloc(17), bytes]);
    record.writeUInt32LE(9 + bytes.length);
    record.writeUInt8(RECORDS.indexOf(op), 8);
    record.writeBigInt64LE(zxid, 9);
    record.writeUInt32LE(checksum(record.subarray(8)), 4);
    for (let at = 0; at < record.length; ) at += fs.writeSync(file, record, at);
  }

  function roll() {
    if (file) sync(file);
    file = undefined;
  }

  fs.mkdirSync(directory, { recursive: true });
  return { recover, perform };
}

function readRecord(file, at) {
  const end = at + 17 <= file.length ? at + 8 + file.readUInt32LE(at) : Infinity;
  const body = file.subarray(at + 8, end);
  if (end > file.length || checksum(body) !== file.readUInt32LE(at + 4)) return undefined;
  return { op: RECORDS[body[0]], zxid: body.readBigInt64LE(1), bytes: body.subarray(9), end };
}

const checksum = (bytes) => createHash('sha256').update(bytes).digest().readUInt32LE();

/** Makes durable what is written to a file, or a directory's names, and closes it. */
function sync(path) {
  const file = typeof path === 'string' ? fs.openSync(path, 'r') : path;
  fs.fsyncSync(file);
  fs.closeSync(file);
}
