"""A server: `python host.py --module <wasm> --data <directory> --port <port>`.

It may be killed at any time. The line `trap` on standard input makes the module crash. What it owes to the
module, and what crosses, is in core/wasm/ABI.md.
"""

import argparse
import asyncio
import fcntl
import ipaddress
import os
import pathlib
import secrets
import struct
import sys
import threading
import time
import zlib

import wasmtime

ABI = 3
MEMORY_BYTES_MAX = 512 << 20
TICK_SECONDS = 0.1
TICKS_MAX = 20  # Of a call.
CLOSE_SECONDS_MAX = 5
FLUSHED_BYTES = 512 << 10


def uint(*values):
    """Unsigned integers of 16 bits and more, lengths, indices of variants."""
    encoded = bytearray()
    for value in values:
        while value > 127:
            encoded.append(value & 127 | 128)
            value >>= 7
        encoded.append(value)
    return bytes(encoded)


def sint(value):
    return uint(-2 * value - 1 if value < 0 else 2 * value)


def blob(content):
    content = content.encode() if isinstance(content, str) else content
    return uint(len(content)) + content


class Reader:
    def __init__(self, batch):
        self.batch, self.at = batch, 0

    def take(self, count):
        self.at += count
        return self.batch[self.at - count : self.at]

    def uint(self):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    def sint(self):
        value = self.uint()
        return -(value >> 1) - 1 if value & 1 else value >> 1

    def blob(self):
        return self.take(self.uint())


class Trap(Exception):
    """The server died: its instance must not be called again."""


class Core:
    def __init__(self, engine, module):
        self.store = wasmtime.Store(engine)
        self.store.set_limits(memory_size=MEMORY_BYTES_MAX)
        self.store.set_epoch_deadline(TICKS_MAX)
        self.exports = wasmtime.Instance(self.store, module, []).exports(self.store)
        assert self.exports["abi"](self.store) == ABI, "the module has another ABI"

    def call(self, name, batch):
        memory = self.exports["memory"]
        self.store.set_epoch_deadline(TICKS_MAX)
        try:
            at = self.exports["alloc"](self.store, len(batch)) & 0xFFFFFFFF
            memory.write(self.store, batch, at)
            place = self.exports[name](self.store, len(batch)) & 0xFFFFFFFFFFFFFFFF
        except (wasmtime.Trap, wasmtime.WasmtimeError) as trap:
            at = self.exports["panicked"].value(self.store) & 0xFFFFFFFF
            (length,) = struct.unpack("<I", memory.read(self.store, at, at + 4))
            raise Trap(memory.read(self.store, at + 4, at + 4 + length).decode() or trap) from None
        start = place >> 32
        return Reader(memory.read(self.store, start, start + (place & 0xFFFFFFFF)))

    def open(self, *pieces):
        answer = self.call("open", b"".join(pieces))
        if answer.uint() != 0:
            raise RuntimeError(answer.blob().decode())

    def step(self, inputs):
        result = self.call("step", now() + uint(len(inputs)) + b"".join(inputs))
        wanted = result.uint() if result.uint() == 1 else None
        # Behind the outputs are the events, which nobody here wants to hear.
        return wanted, [output(result) for _ in range(result.uint())]


def now():
    return uint(time.monotonic_ns() // 1000) + sint(time.time_ns() // 1_000_000)


def config(port, directory, snapshot_txns):
    return b"".join([
        uint(2000, 4000, 40_000),  # tick_ms, session_timeout_ms_min, session_timeout_ms_max
        uint(0xFFFFF, 60, 0),  # frame_bytes_max, connections_per_address_max, connections_max
        uint(1000, 10_000),  # outstanding_max, handshake_timeout_ms
        # server_id, skip_acl, enforce_quota, tree_bytes_max, extended_types, tree_digest, digest_auth
        bytes([1, 0, 0, 0, 1, 1, 1]),
        uint(0, 0),  # super_digest: none, four_letter_words: all
        # snapshot_txns, snapshot_log_bytes, snapshot_slice_bytes, state_slice_bytes
        uint(snapshot_txns, 4 << 30, 32 << 10, 16 << 10),
        uint(60_000, 10_000, 0),  # container_check_ms, _deletes_per_minute_max, _never_used_ms_max
        uint(port) + blob(directory) + blob(directory) + sint(-1),  # What `conf` shows.
        uint(1) + blob("zookeeper.version") + blob("3.9.5-zabra-python-host, built on a day"),
        bytes(9),  # sasl_users to nonce_seed: nobody logs in, passwords of sessions are of ids
    ])


OPS = {
    0: ["", "send", "pause", "resume", "close"],
    3: ["append", "roll"],
    4: ["begin", "chunk", "end", "abandon"],
}


def output(batch):
    """What to do: the operation, the number of its link or its own, a zxid, bytes."""
    variant = batch.uint()
    if variant == 2:
        return "restart", None, None, batch.blob().decode()
    if variant == 5:
        return "facts", batch.uint(), None, None
    assert variant in OPS, f"output {variant} is not for a server that stands alone"
    number = batch.uint() if variant < 4 else None
    op = OPS[variant][batch.uint()]
    zxid = batch.sint() if op in ("append", "begin") else None
    return op, number, zxid, batch.blob() if op in ("send", "append", "chunk") else b""


RECORDS = ["append", "begin", "chunk", "end"]
HEADER = struct.Struct("<IIBq")  # Bytes that follow it, CRC of the rest, what it is, zxid.


class Store:
    """Numbered files of records, one after the other. Writing blocks: what arrives meanwhile shares the next
    fsync. What cannot be written ends the process."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.lock = open(self.directory / "lock", "w")
        fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.file = self.begun = None

    def files(self):
        return sorted(self.directory.glob("[0-9]*"), key=lambda path: int(path.name))

    def recover(self, core):
        """Gives the core the newest snapshot that is whole, and every transaction after it."""
        snapshot, begun, txns, files = None, None, [], self.files()
        for path in files:
            content, at = path.read_bytes(), 0
            for op, zxid, body, end in records(content):
                at = end
                if op == "append":
                    txns.append((zxid, body))
                elif op == "begin":
                    begun = (zxid, [])
                elif op == "chunk":
                    begun[1].append(body)
                else:
                    snapshot = begun
            # A write that was cut short was never confirmed; before the end, it is damage.
            assert at == len(content) or path == files[-1], f"{path} is damaged at {at}"
            os.truncate(path, at)
            sync(path)  # Whoever was killed has written what it did not sync.
        sync(self.directory)
        self.last, self.file = int(files[-1].name) if files else 0, None
        last = snapshot[0] if snapshot else 0
        if snapshot:
            core.open(uint(1), sint(last))
            for chunk in snapshot[1]:
                core.open(uint(2), blob(chunk))
            core.open(uint(3))
        txns = [txn for txn in txns if txn[0] > last]
        for number, (zxid, body) in enumerate(txns, last + 1):
            # Of a server that stands alone they go up by one: else something is missing.
            assert zxid == number, f"expected transaction {number:#x}, found {zxid:#x}"
            core.open(uint(4), blob(body))
        return snapshot is not None, len(txns), sum(len(body) for _, body in txns)

    def perform(self, outputs):
        """Performs what a step wants, in order. All is durable then; returns what to report of it."""
        inputs, whole = [], False
        for op, number, zxid, body in outputs:
            if op == "roll" and self.file:
                os.fdatasync(self.file)
                self.file = os.close(self.file)
            if op in RECORDS:  # What is abandoned has no end, and does not count.
                self.write(op, zxid or 0, body)
            if op == "begin":
                self.begun = zxid
            if op == "chunk":
                inputs.append(uint(2, len(body)))
            if op == "end":
                inputs.append(uint(3) + sint(self.begun))
                whole = True
            if op in ("append", "roll"):
                inputs.append(uint(1, number))
        if self.file:
            os.fdatasync(self.file)
        # A snapshot stands for all files before its own but one: what was under way when it began, and comes
        # after it, is in that one.
        for path in self.files()[:-2] if whole else []:
            path.unlink()
        return inputs

    def write(self, op, zxid, body):
        if not self.file:
            self.last += 1
            self.file = os.open(self.directory / str(self.last), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            sync(self.directory)
        rest = HEADER.pack(0, 0, RECORDS.index(op), zxid)[8:] + body
        record = memoryview(struct.pack("<II", len(rest), zlib.crc32(rest)) + rest)
        while record:
            record = record[os.write(self.file, record) :]


def records(content):
    at = 0
    while at + HEADER.size <= len(content):
        length, crc, op, zxid = HEADER.unpack_from(content, at)
        end = at + 8 + length
        if end > len(content) or zlib.crc32(content[at + 8 : end]) != crc:
            return
        yield RECORDS[op], zxid, content[at + HEADER.size : end], end
        at = end


def sync(path):
    file = os.open(path, os.O_RDONLY)
    os.fsync(file)
    os.close(file)


class Link(asyncio.Protocol):
    """A connection, until the server or its peer is done with it."""

    def __init__(self, life):
        self.life, self.silent, self.sent, self.reported = life, False, 0, 0

    def connection_made(self, transport):
        self.transport = transport
        transport.set_write_buffer_limits(0)
        self.number = self.life.last = self.life.last + 1
        self.life.links[self.number] = self
        host, port = transport.get_extra_info("peername")
        self.life.report(uint(0, self.number, 0, 0, 0) + ipaddress.ip_address(host).packed + uint(port))

    def data_received(self, data):
        if self.number in self.life.links:
            self.life.report(uint(0, self.number, 1) + blob(data))

    def eof_received(self):
        self.silent = True
        self.life.wake()
        return True  # It is still to be answered.

    def connection_lost(self, _):
        if self.life.links.pop(self.number, None):
            self.life.report(uint(0, self.number, 3))

    def flushed(self):
        return self.sent - self.transport.get_write_buffer_size()

    def resume_writing(self):
        """Any step reports what left the buffer, but it may be all that the server waits for."""
        unreported = self.flushed() - self.reported
        if unreported >= (FLUSHED_BYTES if self.transport.is_reading() else 1):
            self.life.wake()

    def send(self, content):
        self.sent += len(content)
        self.transport.write(content)
        self.resume_writing()

    def pause(self, _):
        self.transport.pause_reading()
        self.resume_writing()

    def resume(self, _):
        self.transport.resume_reading()

    def close(self, _=None):
        """Sends what is left, for a while; the server hears nothing more."""
        del self.life.links[self.number]
        self.transport.close()
        asyncio.get_running_loop().call_later(CLOSE_SECONDS_MAX, self.transport.abort)


class Life:
    """From what is stored to a trap, or to a wish to begin anew: then `ended` has the reason."""

    def __init__(self, core, store, settings):
        self.core, self.store, self.links, self.last = core, store, {}, 0
        self.inputs, self.timer, self.woken = [], None, False
        self.loop = asyncio.get_running_loop()
        self.ended = self.loop.create_future()
        core.open(uint(0, secrets.randbits(64)), settings, uint(0))
        found = store.recover(core)
        # The epochs, and whether nothing may be right, are for ensembles.
        core.open(uint(5), now(), uint(*found, 0, 0, 1))
        print("recovered: snapshot, transactions, bytes:", found, flush=True)
        self.wake()

    def report(self, *inputs):
        self.inputs += inputs
        if inputs:
            self.wake()

    def wake(self):
        """Takes one step for all that this turn of the loop brings."""
        if not self.woken:
            self.loop.call_soon(self.guard, self.step)
        self.woken = True

    def guard(self, work):
        try:
            if not self.ended.done():
                work()
        except Trap as trap:
            self.end(f"the module trapped: {trap}")
        except Exception as error:
            self.ended.set_exception(error)

    def step(self):
        self.woken = False
        for link in self.links.values():
            before, link.reported = link.reported, link.flushed()
            if link.reported > before:
                self.inputs.append(uint(0, link.number, 2, link.reported - before))
        inputs, self.inputs = self.inputs, []
        wanted, outputs = self.core.step(inputs)
        # Nothing is done before the step is over: if it traps, it has never been.
        asked = [number for op, number, _, _ in outputs if op == "facts"]
        for op, number, _, body in outputs:
            if op in OPS[0] and number in self.links:
                getattr(self.links[number], op)(body)
        self.report(*(uint(5, number, *[0] * 10) for number in asked))
        self.report(*self.store.perform(outputs))
        # A link's end is told after a step with all that came before, so that this is answered.
        for link in [link for link in self.links.values() if link.silent and link.number not in asked]:
            link.close()
            self.report(uint(0, link.number, 3))
        if self.timer:
            self.timer.cancel()
        if wanted is not None:
            self.timer = self.loop.call_later(wanted / 1e6 - time.monotonic(), self.wake)
        for op, _, _, reason in outputs:
            if op == "restart":
                self.end(reason)

    def trap(self):
        self.core.call("step", b"")

    def end(self, reason):
        self.ended.set_result(reason)
        for link in list(self.links.values()):
            link.transport.abort()


def tick(engine):
    while True:
        time.sleep(TICK_SECONDS)
        engine.increment_epoch()


async def main():
    parser = argparse.ArgumentParser()
    for name, kind in {"module": str, "data": str, "port": int}.items():
        parser.add_argument(f"--{name}", type=kind, required=True)
    parser.add_argument("--snapshot-txns", type=int, default=100_000)
    arguments = parser.parse_args()
    limits = wasmtime.Config()
    limits.epoch_interruption = True
    engine = wasmtime.Engine(limits)
    threading.Thread(target=tick, args=(engine,), daemon=True).start()
    module = wasmtime.Module.from_file(engine, arguments.module)
    store = Store(arguments.data)
    settings = config(arguments.port, arguments.data, arguments.snapshot_txns)
    loop, life = asyncio.get_running_loop(), None

    def read_commands():
        for line in sys.stdin:
            if line == "trap\n":
                loop.call_soon_threadsafe(life.guard, life.trap)

    threading.Thread(target=read_commands, daemon=True).start()
    while True:
        life = Life(Core(engine, module), store, settings)
        server = await loop.create_server(lambda: Link(life), "127.0.0.1", arguments.port)
        print(f"serving on 127.0.0.1:{arguments.port}", flush=True)
        reason = await life.ended
        server.close()
        print(f"{reason}; beginning anew", file=sys.stderr, flush=True)
        await asyncio.sleep(0.2)


asyncio.run(main())
