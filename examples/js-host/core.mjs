// The module: its exports, and the batches that cross (core/wasm/ABI.md).

import { blobs, ints, reader, uints } from './postcard.mjs';

const ABI = 3;
const MEMORY_BYTES_MAX = 1 << 30;

/** The server died: its instance must not be called again. */
export class Trap extends Error {}

/** An instance of the module: a server that is opened piece by piece, then stepped. */
export function instantiate(module) {
  const { abi, alloc, memory, panicked, ...exports } = new WebAssembly.Instance(module).exports;
  if (abi() !== ABI) throw new Error(`expected a module of ABI ${ABI}, found ${abi()}`);

  function call(name, ...pieces) {
    const batch = Buffer.concat(pieces.map((piece) => Buffer.from(piece)));
    try {
      const at = alloc(batch.length) >>> 0;
      // Not before `alloc`: when memory grows, views of it become void.
      Buffer.from(memory.buffer).set(batch, at);
      const place = BigInt.asUintN(64, exports[name](batch.length));
      if (memory.buffer.byteLength > MEMORY_BYTES_MAX) throw new Error('too much memory');
      return reader(Buffer.from(memory.buffer, ...[place >> 32n, place & 0xffff_ffffn].map(Number)));
    } catch (error) {
      const [bytes, at] = [Buffer.from(memory.buffer), panicked.value >>> 0];
      const message = bytes.toString('utf8', at + 4, at + 4 + bytes.readUInt32LE(at));
      throw new Trap(message || String(error));
    }
  }

  function open(...pieces) {
    const answer = call('open', ...pieces);
    if (answer.count() !== 0) throw new Error(answer.bytes().toString());
  }

  /** Takes a step: when to take another if nothing happens, and what to do. */
  function step(now, inputs) {
    const head = [uints(now.instant), ints(now.wall), uints(inputs.length)];
    const result = call('step', ...head, ...inputs);
    const next = result.count() === 1 ? result.uint() : undefined;
    // Behind the outputs are the events, which nobody here wants to hear.
    return { next, outputs: Array.from({ length: result.count() }, () => decodeOutput(result)) };
  }

  return {
    // The last byte says that it has no place in an ensemble: it stands alone.
    begin: (entropy, config) => open(uints(0, entropy), encodeConfig(config), [0]),
    snapshotBegin: (zxid) => open(uints(1), ints(zxid)),
    snapshotChunk: (bytes) => open(uints(2), blobs(bytes)),
    snapshotEnd: () => open(uints(3)),
    txn: (bytes) => open(uints(4), blobs(bytes)),
    // The last three, epochs and whether nothing may be right, are for ensembles.
    done: (now, { snapshot, txns, logBytes }) =>
      open(uints(5, now.instant), ints(now.wall), [snapshot], uints(txns, logBytes), [0, 0, 1]),
    step,
    trap: () => call('step'),
  };
}

function encodeConfig({ port, directory, snapshotTxns }) {
  const pieces = [
    // tick_ms, session_timeout_ms_min, session_timeout_ms_max, frame_bytes_max
    uints(2000, 4000, 40_000, 0xf_ffff),
    uints(60, 0, 1000), // connections_per_address_max, connections_max, outstanding_max
    uints(10_000), // handshake_timeout_ms
    // server_id, skip_acl, enforce_quota, tree_bytes_max, extended_types, tree_digest, digest_auth
    [1, 0, 0, 0, 1, 1, 1],
    [0, 0], // super_digest: none, four_letter_words: all
    // snapshot_txns, snapshot_log_bytes, snapshot_slice_bytes, state_slice_bytes
    uints(snapshotTxns, 4n << 30n, 32 << 10, 16 << 10),
    uints(60_000, 10_000, 0), // container_check_ms, _deletes_per_minute_max, _never_used_ms_max
    [...uints(port), ...blobs(directory, directory), ...ints(-1)], // What the word `conf` shows.
    // What the word `envi` shows. Clients look for the version there, and in what `srvr` shows.
    [...uints(1), ...blobs('zookeeper.version', '3.9.5-zabra-js-host, built on a day')],
    new Uint8Array(9), // sasl_users to nonce_seed: nobody logs in, passwords of sessions are of ids
  ];
  return Buffer.concat(pieces.map((piece) => Buffer.from(piece)));
}

/** What is reported to the server. */
export const inputs = {
  opened: (link, { remoteAddress, remotePort }) =>
    Buffer.from([...uints(0, link, 0, 0, 0), ...remoteAddress.split('.'), ...uints(remotePort)]),
  received: (link, bytes) => Buffer.concat([uints(0, link, 1), blobs(bytes)]),
  flushed: (link, count) => uints(0, link, 2, count),
  closed: (link) => uints(0, link, 3),
  stored: (seq) => uints(1, seq),
  snapshotWritten: (count) => uints(2, count),
  snapshotStored: (zxid) => Buffer.concat([uints(3), ints(zxid)]),
  // Zero is what a host does not know, or does not want to tell.
  facts: (link) => uints(5, link, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
};

const OPS = {
  0: ['', 'send', 'pause', 'resume', 'close'],
  3: ['append', 'roll'],
  4: ['begin', 'chunk', 'end', 'abandon'],
};

function decodeOutput(batch) {
  const variant = batch.count();
  if (variant === 2) return { what: 'restart', reason: batch.bytes().toString() };
  if (variant === 5) return { what: 'askFacts', link: batch.uint() };
  const number = variant < 4 && batch.uint(); // A link's, or that of an operation of the log.
  const op = OPS[variant]?.[batch.count()];
  if (!op) throw new Error(`output ${variant} is not for a server that stands alone`);
  const zxid = ['append', 'begin'].includes(op) && batch.int();
  const bytes = ['send', 'append', 'chunk'].includes(op) && batch.bytes();
  return { what: variant === 0 ? 'link' : 'store', link: number, seq: number, op, zxid, bytes };
}
