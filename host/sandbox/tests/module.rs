//! The real module, beside the same core compiled natively.
#![expect(
    clippy::unwrap_used,
    reason = "a test may stop at what it did not expect"
)]

use std::env;
use std::path::Path;

use bytes::{BufMut, Bytes, BytesMut};
use zabra_core::ids::{Epoch, Instant, LinkId, Seq, UnixMillis};
use zabra_core::link::{LinkInput, Port};
use zabra_core::machine::Now;
use zabra_core::server::config::{Config, FourLetterWords};
use zabra_core::server::{Input, Output};
use zabra_core_wasm::Node;
use zabra_core_wasm::abi::{self, Begin, Found, Open, Opened};
use zabra_sandbox::faults::Faults;
use zabra_sandbox::{Engine, Instance, Limits, Module, Trap};

fn module(engine: &Engine) -> Module {
    let file = env::var_os("ZABRA_CORE_WASM")
        .expect("ZABRA_CORE_WASM names the module to be tested; `cargo xtask wasm` sets it");
    Module::load(engine, Path::new(&file)).unwrap()
}

fn pieces() -> [Open; 2] {
    let begin = Begin {
        entropy: 7,
        config: Config {
            four_letter_words: FourLetterWords::All,
            ..Config::default()
        },
        place: None,
    };
    let found = Found {
        now: now(0),
        trusted: true,
        accepted: Epoch(0),
        ..Found::default()
    };
    [Open::Begin(begin.into()), Open::Done(found)]
}

const fn now(ms: u64) -> Now {
    Now {
        instant: Instant(ms * 1000),
        wall: UnixMillis(1_700_000_000_000 + ms.cast_signed()),
    }
}

fn frame(body: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_i32(i32::try_from(body.len()).unwrap());
    frame.put_slice(body);
    frame.freeze()
}

fn connect() -> Bytes {
    let mut body = BytesMut::new();
    body.put_i32(0);
    body.put_i64(0);
    body.put_i32(30_000);
    body.put_i64(0);
    body.put_i32(16);
    body.put_bytes(0, 16);
    body.put_u8(0);
    frame(&body)
}

/// A create of `/a<n>` with this much data.
fn create(n: i32, data: usize) -> Bytes {
    let path = format!("/a{n}");
    let mut body = BytesMut::new();
    body.put_i32(n);
    body.put_i32(1);
    body.put_i32(i32::try_from(path.len()).unwrap());
    body.put_slice(path.as_bytes());
    body.put_i32(i32::try_from(data).unwrap());
    body.put_bytes(b'x', data);
    body.put_i32(1);
    body.put_i32(31);
    for text in ["world", "anyone"] {
        body.put_i32(i32::try_from(text.len()).unwrap());
        body.put_slice(text.as_bytes());
    }
    body.put_i32(0);
    frame(&body)
}

fn received(bytes: Bytes) -> Input {
    Input::Link(LinkId(1), LinkInput::Received(bytes))
}

/// A session and so many creates, a step each, with a store that is as fast as it is asked.
fn script(creates: i32, data: usize) -> Vec<Vec<Input>> {
    let opened = LinkInput::Opened {
        port: Port::Client,
        peer: "127.0.0.1:5000".parse().unwrap(),
    };
    let mut steps = vec![
        vec![Input::SnapshotStored {
            zxid: zabra_core::ids::Zxid(0),
        }],
        vec![Input::Link(LinkId(1), opened), received(connect())],
    ];
    for n in 1..=creates {
        steps.push(vec![received(create(n, data))]);
    }
    let stored = |(at, mut inputs): (usize, Vec<Input>)| {
        if at > 1 {
            inputs.push(Input::Stored {
                upto: Seq(at as u64 - 1),
            });
        }
        inputs
    };
    steps.into_iter().enumerate().map(stored).collect()
}

fn open(instance: &mut Instance) -> Result<(), Trap> {
    for piece in pieces() {
        assert_eq!(instance.open(&piece)?, Opened::Ok);
    }
    Ok(())
}

/// Runs the script until it ends or traps, and returns how many steps were taken.
fn run(instance: &mut Instance, script: Vec<Vec<Input>>) -> (usize, Vec<Output>, Option<Trap>) {
    let mut outputs = Vec::new();
    if let Err(trap) = open(instance) {
        return (0, outputs, Some(trap));
    }
    for (at, mut inputs) in script.into_iter().enumerate() {
        if let Err(trap) = instance.step(now(at as u64), &mut inputs, &mut outputs) {
            return (at, outputs, Some(trap));
        }
    }
    (usize::MAX, outputs, None)
}

#[test]
fn module_answers_with_the_bytes_of_the_native_core() {
    let engine = Engine::new().unwrap();
    let mut instance = Instance::new(&engine, &module(&engine), Limits::default()).unwrap();
    let mut node = Node::default();
    for piece in pieces() {
        let native: Opened = abi::decode(&node.open(&abi::encode(&piece).unwrap())).unwrap();
        assert_eq!(instance.open(&piece).unwrap(), native);
    }
    let mut written = 0;
    let mut native = Vec::new();
    for (at, inputs) in script(300, 900).into_iter().enumerate() {
        let mut batch = vec![0; abi::step_bytes_max(&inputs)];
        let bytes = abi::encode_step_into(now(at as u64), &inputs, &mut batch).unwrap();
        batch.truncate(bytes);
        native = node.step(&batch, native);
        assert_eq!(instance.step_encoded(&batch).unwrap(), native, "step {at}");
        written += native.len();
    }
    assert!(written > 300 * 900, "the transactions went to the store");
}

#[test]
fn trap_at_any_call_leaves_what_was_before_it() {
    let engine = Engine::new().unwrap();
    let module = module(&engine);
    let (_, whole, trap) = run(
        &mut Instance::new(&engine, &module, Limits::default()).unwrap(),
        script(20, 10),
    );
    assert_eq!(trap, None);
    for call in 1..=24 {
        for (trap_at_call, corrupt_at_call) in [(Some(call), None), (None, Some(call))] {
            let faults = Faults {
                trap_at_call,
                corrupt_at_call,
                ..Faults::default()
            };
            let mut instance =
                Instance::with_faults(&engine, &module, Limits::default(), faults).unwrap();
            let (steps, outputs, trap) = run(&mut instance, script(20, 10));
            match trap {
                Some(Trap::Endless { .. }) if trap_at_call.is_some() => {}
                Some(Trap::Corrupt(_)) if corrupt_at_call.is_some() => {}
                other => panic!("call {call}: {other:?}"),
            }
            assert_eq!(steps as u64, call.saturating_sub(3));
            assert!(whole.starts_with(&outputs), "call {call}");
        }
    }
}

#[test]
fn memory_is_refused_beyond_the_limit_and_at_any_growth() {
    let engine = Engine::new().unwrap();
    let module = module(&engine);
    let limits = Limits {
        memory_bytes_max: 8 << 20,
        ..Limits::default()
    };
    let mut instance = Instance::new(&engine, &module, limits).unwrap();
    let (steps, _, trap) = run(&mut instance, script(100, 500_000));
    assert!(steps < 40, "{steps} steps of half a megabyte each");
    assert_eq!(
        trap.unwrap().to_string(),
        "the sandboxed core needs more memory than the 8388608 bytes it may have"
    );
    assert!(instance.memory_bytes() <= 8 << 20);
    for every in 1..8 {
        let faults = Faults {
            refuse_growth_every: Some(every),
            ..Faults::default()
        };
        let Ok(mut instance) = Instance::with_faults(&engine, &module, Limits::default(), faults)
        else {
            continue;
        };
        let (_, _, trap) = run(&mut instance, script(100, 500_000));
        assert!(
            matches!(trap, Some(Trap::OutOfMemory { .. })),
            "{every}: {trap:?}"
        );
    }
}
