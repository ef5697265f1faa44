// A server: `node host.mjs --module <wasm> --data <directory> --port <port>`.
// It may be killed at any time. The line `trap` on standard input makes the module crash.

import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { Trap, inputs, instantiate } from './core.mjs';
import { openStore } from './store.mjs';

const CLOSE_MS_MAX = 5000;
const FLUSHED_BYTES = 512 << 10;
const [PAUSE_MS_MIN, PAUSE_MS_MAX, LIFE_MS] = [100, 10_000, 60_000];

const type = 'string';
const options = { module: { type }, data: { type }, port: { type }, 'snapshot-txns': { type } };
const { values } = parseArgs({ options });
const [port, snapshotTxns] = [Number(values.port), Number(values['snapshot-txns'] ?? 100_000)];
const module = new WebAssembly.Module(readFileSync(values.module));
const store = openStore(values.data);
let life, pause;
const now = () => ({ instant: process.hrtime.bigint() / 1000n, wall: Date.now() });

/** Lives from what is stored to a trap, or to a wish to begin anew. Then there is another life. */
function live() {
  const [core, links, begun] = [instantiate(module), new Map(), Date.now()];
  let [lastLink, waiting, woken, over, timer] = [0n, [], false, false];

  function accept(socket) {
    const link = { id: ++lastLink, socket, flushed: 0, silent: false };
    links.set(link.id, link);
    report(inputs.opened(link.id, socket));
    socket.on('data', (bytes) => links.has(link.id) && report(inputs.received(link.id, bytes)));
    socket.on('end', () => {
      link.silent = true;
      wake();
    });
    socket.on('error', () => {}); // 'close' comes after it.
    socket.on('close', () => links.delete(link.id) && report(inputs.closed(link.id)));
  }

  function report(...reports) {
    waiting.push(...reports);
    wake();
  }

  /** Takes one step for all that this turn of the event loop brings. */
  function wake() {
    if (!woken) setImmediate(() => guard(step));
    woken = true;
  }

  function guard(work) {
    try {
      if (!over) work();
    } catch (error) {
      if (!(error instanceof Trap)) throw error;
      end(`the module trapped: ${error.message}`);
    }
  }

  function step() {
    woken = false;
    for (const link of links.values()) {
      if (link.flushed > 0) waiting.push(inputs.flushed(link.id, link.flushed));
      link.flushed = 0;
    }
    const { next, outputs } = core.step(now(), waiting.splice(0));
    // Nothing is done before the step is over: if it traps, it has never been.
    const all = (kind) => outputs.filter(({ what }) => what === kind);
    all('link').forEach((output) => perform(links.get(output.link), output));
    const asked = all('askFacts').map(({ link }) => link);
    asked.forEach((link) => report(inputs.facts(link)));
    if (all('store').length > 0) report(...store.perform(all('store')));
    // A link's end is told after a step with all that came before, so that this is answered.
    for (const link of links.values()) {
      if (!link.silent || asked.includes(link.id)) continue;
      report(inputs.closed(link.id));
      close(link);
    }
    clearTimeout(timer);
    const ms = next === undefined ? LIFE_MS : Number(next - now().instant) / 1000;
    timer = setTimeout(wake, Math.min(Math.ceil(ms), LIFE_MS));
    all('restart').forEach(({ reason }) => end(reason));
  }

  function perform(link, { op, bytes }) {
    if (!link) return; // The module has not heard yet that it is gone.
    if (op === 'pause') link.socket.pause();
    if (op === 'resume') link.socket.resume();
    if (op === 'close') close(link);
    if (op !== 'send') return;
    link.socket.write(bytes, () => {
      link.flushed += bytes.length;
      // Any step reports it, but it may be all that the server waits for.
      if (link.flushed >= FLUSHED_BYTES || link.socket.isPaused()) wake();
    });
  }

  /** Sends what is left, for a while; the module hears nothing more. */
  function close({ id, socket }) {
    links.delete(id);
    socket.end();
    socket.resume();
    setTimeout(() => socket.destroy(), CLOSE_MS_MAX).unref();
  }

  function end(reason) {
    [over, life] = [true, undefined];
    clearTimeout(timer);
    links.forEach(({ socket }) => socket.destroy());
    // Whatever ended this life may be there again.
    const short = pause && Date.now() - begun < LIFE_MS;
    pause = short ? Math.min(2 * pause, PAUSE_MS_MAX) : PAUSE_MS_MIN;
    console.error(`${reason}; beginning anew in ${pause} ms`);
    setTimeout(() => (life = live()), pause);
  }

  core.begin(randomBytes(8).readBigUInt64LE(), { port, directory: values.data, snapshotTxns });
  const found = store.recover(core);
  core.done(now(), found);
  console.log('recovered', found);
  wake();
  return { accept, trap: () => guard(core.trap) };
}

life = live();
createInterface({ input: process.stdin }).on('line', (line) => line === 'trap' && life?.trap());
const accept = (socket) => (life ? life.accept(socket) : socket.destroy());
const server = createServer({ allowHalfOpen: true, noDelay: true }, accept);
server.listen(port, '127.0.0.1', () => console.log(`serving on 127.0.0.1:${port}`));
