//! What a crossing of the border costs, and a copy over it: one line `name<TAB>unit<TAB>native<TAB>module`
//! each, for `cargo xtask bench --wasm`.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "a benchmark may stop at what it did not expect, and prints"
)]

use core::hint::black_box;
use core::iter;
use std::env;
use std::path::Path;
use std::time::Instant as Clock;

use bytes::{BufMut, Bytes, BytesMut};
use zabra_core::Machine;
use zabra_core::ids::{Instant, LinkId, Seq, UnixMillis, Zxid};
use zabra_core::link::{LinkInput, LinkOutput, Port};
use zabra_core::machine::Now;
use zabra_core::server::{Config, Input, Output};
use zabra_core_wasm::Opening;
use zabra_core_wasm::abi::{Begin, Found};
use zabra_sandbox::{Engine, Instance, Limits, Module, Restoring, Sandboxed};

type Core = Box<dyn Machine<Input = Input, Output = Output>>;

const NOW: Now = Now {
    instant: Instant(1_000_000),
    wall: UnixMillis(1_700_000_000_000),
};
const LINK: LinkId = LinkId(1);
/// Bytes of the znode that is read and of what is received.
const DATA_BYTES: usize = 512 << 10;
const ROUNDS: u32 = 9;

fn main() {
    let file = env::var_os("PEERS_CORE_MODULE").expect("PEERS_CORE_MODULE names the module");
    let engine = Engine::new().unwrap();
    let module = Module::load(&engine, Path::new(&file)).unwrap();
    let begin = || Begin {
        entropy: 7,
        config: Config::default(),
        place: None,
    };
    let found = Found {
        now: NOW,
        trusted: true,
        ..Found::default()
    };
    let native: Core = Box::new(Opening::new(begin()).server(found));
    let instance = Instance::new(&engine, &module, Limits::default()).unwrap();
    let instance = Restoring::begin(instance, begin()).unwrap();
    let sandboxed: Core = Box::new(Sandboxed::new(instance.finish(found).unwrap()));
    let mut cores = [native, sandboxed];
    for core in &mut cores {
        prepare(core);
    }
    show(
        "step that does nothing",
        "ns",
        &mut cores,
        200_000,
        1.0,
        |core| step(core, &mut Vec::new()).len(),
    );
    show("ping of a client", "ns", &mut cores, 100_000, 1.0, |core| {
        let ping = Bytes::from_static(&[0, 0, 0, 8, 255, 255, 255, 254, 0, 0, 0, 11]);
        let flushed = Input::Link(LINK, LinkInput::Flushed(20));
        step(
            core,
            &mut vec![Input::Link(LINK, LinkInput::Received(ping)), flushed],
        )
        .len()
    });
    let kib = DATA_BYTES as f64 / 1024.0;
    let data = Bytes::from(vec![7; DATA_BYTES]);
    show("1 KiB that comes in", "ns", &mut cores, 300, kib, |core| {
        // Of a link that is gone, so that it is copied, and no more.
        let input = Input::Link(LinkId(99), LinkInput::Received(data.clone()));
        step(core, &mut vec![input]).len()
    });
    show("1 KiB that goes out", "ns", &mut cores, 300, kib, |core| {
        let read = request(5, 4, |body| {
            string(body, b"/a");
            body.put_u8(0);
        });
        let outputs = step(
            core,
            &mut vec![Input::Link(LINK, LinkInput::Received(read))],
        );
        let sent = sent(&outputs);
        assert!(sent > DATA_BYTES, "{outputs:?}");
        step(core, &mut vec![Input::Link(LINK, LinkInput::Flushed(sent))]);
        sent
    });
}

/// The least of some rounds, of both cores in turn.
fn show(
    name: &str,
    unit: &str,
    cores: &mut [Core; 2],
    count: u32,
    divisor: f64,
    mut act: impl FnMut(&mut Core) -> usize,
) {
    let mut best = [f64::INFINITY; 2];
    for _ in 0..ROUNDS {
        for (core, best) in iter::zip(cores.iter_mut(), &mut best) {
            let begun = Clock::now();
            for _ in 0..count {
                black_box(act(core));
            }
            let each = begun.elapsed().as_nanos() as f64 / f64::from(count) / divisor;
            *best = best.min(each);
        }
    }
    let [native, module] = best;
    println!("{name}\t{unit}\t{native:.1}\t{module:.1}");
}

fn step(core: &mut Core, inputs: &mut Vec<Input>) -> Vec<Output> {
    let mut outputs = Vec::new();
    core.step(NOW, inputs, &mut outputs);
    outputs
}

/// A session, and the znode `/a`.
fn prepare(core: &mut Core) {
    let opened = LinkInput::Opened {
        port: Port::Client,
        peer: "127.0.0.1:5000".parse().unwrap(),
    };
    let mut body = BytesMut::new();
    body.put_i32(0);
    body.put_i64(0);
    body.put_i32(60_000);
    body.put_i64(0);
    body.put_i32(16);
    body.put_bytes(0, 16);
    body.put_u8(0);
    let create = request(1, 1, |body| {
        string(body, b"/a");
        string(body, &vec![b'x'; DATA_BYTES]);
        body.put_i32(1);
        body.put_i32(31);
        string(body, b"world");
        string(body, b"anyone");
        body.put_i32(0);
    });
    let mut stored = 0;
    let mut inputs = vec![Input::SnapshotStored { zxid: Zxid(0) }];
    for next in [
        vec![Input::Link(LINK, opened), received(frame(&body))],
        vec![received(create)],
        Vec::new(),
        Vec::new(),
    ] {
        let outputs = step(core, &mut inputs);
        let seqs = outputs.iter().filter_map(|output| match output {
            Output::Store(Seq(seq), _) => Some(*seq),
            _ => None,
        });
        stored = seqs.max().unwrap_or(stored);
        inputs = vec![Input::Stored { upto: Seq(stored) }];
        let sent = sent(&outputs);
        if sent > 0 {
            inputs.push(Input::Link(LINK, LinkInput::Flushed(sent)));
        }
        inputs.extend(next);
    }
}

fn sent(outputs: &[Output]) -> usize {
    let sent = outputs.iter().filter_map(|output| match output {
        Output::Link(_, LinkOutput::Send(bytes)) => Some(bytes.len()),
        _ => None,
    });
    sent.sum()
}

fn received(bytes: Bytes) -> Input {
    Input::Link(LINK, LinkInput::Received(bytes))
}

fn request(xid: i32, op: i32, fill: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut body = BytesMut::new();
    body.put_i32(xid);
    body.put_i32(op);
    fill(&mut body);
    frame(&body)
}

fn frame(body: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    string(&mut frame, body);
    frame.freeze()
}

fn string(out: &mut BytesMut, bytes: &[u8]) {
    out.put_i32(i32::try_from(bytes.len()).unwrap());
    out.put_slice(bytes);
}
