//! The examples of ABI.md, which others write their hosts from, are what is said and answered.
#![expect(
    clippy::unwrap_used,
    reason = "a test may stop at what it did not expect"
)]

use core::net::SocketAddr;
use std::collections::BTreeMap;

use bytes::Bytes;
use zabra_core::ids::{Instant, LinkId, Seq, UnixMillis, Zxid};
use zabra_core::link::{LinkInput, LinkOutput, Port};
use zabra_core::machine::Now;
use zabra_core::server::config::{FourLetterWords, HostConfig};
use zabra_core::server::{Config, Input, Output, SnapshotOp, StoreOp};
use zabra_core_wasm::Node;
use zabra_core_wasm::abi::{
    Begin, Found, Open, Opened, StepIn, StepOut, decode, decode_result, encode,
};

const NOW: Now = Now {
    instant: Instant(1_000_000),
    wall: UnixMillis(1_700_000_000_000),
};

/// The lines of the page's block of bytes, by their names.
fn page() -> BTreeMap<String, Vec<u8>> {
    let page = include_str!("../ABI.md");
    let block = page
        .split("## Bytes to begin with")
        .nth(1)
        .and_then(|rest| rest.split("```").nth(1))
        .unwrap();
    let lines = block.lines().skip(1);
    lines
        .map(|line| {
            let (name, hex) = line.split_once(':').unwrap();
            let bytes = hex.split_whitespace();
            let bytes = bytes.map(|byte| u8::from_str_radix(byte, 16).unwrap());
            (name.to_owned(), bytes.collect())
        })
        .collect()
}

/// What the page says of this name is these bytes; if not, the line that would be right.
fn assert_line(name: &str, bytes: &[u8]) {
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let right = format!("{name}: {}", hex.join(" "));
    assert!(
        page().get(name).is_some_and(|line| line == bytes),
        "ABI.md must say\n{right}"
    );
}

/// The third column of the page's table.
fn plain() -> Config {
    Config {
        tick_ms: 2000,
        session_timeout_ms_min: 4000,
        session_timeout_ms_max: 40_000,
        four_letter_words: FourLetterWords::All,
        host: HostConfig {
            client_port: 2181,
            listen_backlog: -1,
            environment: vec![(
                "zookeeper.version".to_owned(),
                "3.9.5-mine, built on a day".to_owned(),
            )],
            ..HostConfig::default()
        },
        ..Config::default()
    }
}

fn pieces() -> [(&'static str, Open); 2] {
    let begin = Begin {
        entropy: 42,
        config: plain(),
        place: None,
    };
    let found = Found {
        now: NOW,
        trusted: true,
        ..Found::default()
    };
    [
        ("Begin, alone", Open::Begin(begin.into())),
        ("Done, nothing found", Open::Done(found)),
    ]
}

fn steps() -> [(&'static str, Vec<Input>); 3] {
    let peer: SocketAddr = "127.0.0.1:40000".parse().unwrap();
    let received = LinkInput::Received(Bytes::from_static(b"ruok"));
    let port = Port::Client;
    [
        ("StepIn, the first", Vec::new()),
        (
            "StepIn, the first snapshot is durable",
            vec![
                Input::Stored { upto: Seq(1) },
                Input::SnapshotWritten(4096),
                Input::SnapshotStored { zxid: Zxid(0) },
            ],
        ),
        (
            "StepIn, a link opens and says ruok",
            vec![
                Input::Link(LinkId(1), LinkInput::Opened { port, peer }),
                Input::Link(LinkId(1), received),
            ],
        ),
    ]
}

#[test]
fn what_a_host_says_is_on_the_page() {
    for (name, open) in pieces() {
        assert_line(name, &encode(&open).unwrap());
        assert_eq!(decode::<Open>(page().get(name).unwrap()).unwrap(), open);
    }
    for (name, inputs) in steps() {
        let step = StepIn { now: NOW, inputs };
        assert_line(name, &encode(&step).unwrap());
    }
}

#[test]
fn what_the_module_answers_is_on_the_page() {
    let result = StepOut {
        next: Some(Instant(2_000_000)),
        outputs: vec![
            Output::Store(
                Seq(2),
                StoreOp::Append {
                    zxid: Zxid(1),
                    txn: Bytes::from_static(&[1, 2, 3]),
                },
            ),
            Output::Snapshot(SnapshotOp::Chunk(Bytes::from_static(&[7]))),
            Output::Link(LinkId(1), LinkOutput::Close),
        ],
        events: Vec::new(),
    };
    assert_line("StepOut, three orders", &encode(&result).unwrap());
    let refused = Opened::Refused("why".to_owned());
    assert_line("Opened, refused", &encode(&refused).unwrap());
}

#[test]
fn page_is_enough_to_be_served() {
    let page = page();
    let mut node = Node::default();
    for (name, _) in pieces() {
        assert_eq!(node.open(page.get(name).unwrap()), [0], "{name}");
    }
    let mut answers = Vec::new();
    for (name, _) in steps() {
        let answer = node.step(page.get(name).unwrap(), Vec::new());
        answers.push(decode_result(&answer).unwrap().outputs);
    }
    let [first, _, last] = answers.try_into().unwrap();
    let begins = |output: &Output| matches!(output, Output::Snapshot(SnapshotOp::Begin { .. }));
    assert!(first.iter().any(begins), "{first:?}");
    let imok = LinkOutput::Send(Bytes::from_static(b"imok"));
    assert!(last.contains(&Output::Link(LinkId(1), imok)), "{last:?}");
}
