//! A connection's requests keep their order and all get their answers, however slow the store and the client
//! are.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops where its expectation fails"
)]

use core::net::SocketAddr;
use std::collections::BTreeMap;

use bytes::Bytes;
use zabra_core::Machine as _;
use zabra_core::ids::{LinkId, Seq, SessionId, Xid, Zxid};
use zabra_core::jute::{append, take, to_vec};
use zabra_core::link::{LinkInput, LinkOutput};
use zabra_core::machine::Now;
use zabra_core::server::{Config, Input, Output, Recovered, Server};
use zabra_core::tree::Loader;
use zabra_core::wire::client::{
    ConnectRequest, CreateRequest, OpCode, ReadRequest, ReplyHeader, RequestHeader, SetDataRequest,
};
use zabra_core::wire::records::{AclText, Perms};

const A: LinkId = LinkId(1);
const B: LinkId = LinkId(2);

/// A server whose store and clients do only what a test says.
struct Bench {
    server: Server,
    seq: Seq,
    received: BTreeMap<LinkId, Vec<u8>>,
}

impl Bench {
    fn new(config: Config) -> Self {
        let recovered = Recovered {
            snapshot: true,
            ..Recovered::default()
        };
        let loader = Loader::new(0, true);
        Self {
            server: Server::new(config, loader, recovered, 0, Now::default()),
            seq: Seq(0),
            received: BTreeMap::new(),
        }
    }

    /// A server with two clients that have sessions.
    fn with_two_clients() -> Self {
        let mut bench = Self::new(Config::default());
        for link in [A, B] {
            let peer = SocketAddr::from(([127, 0, 0, 1], 1));
            bench.step([Input::Link(link, LinkInput::Opened { peer })]);
            let request = ConnectRequest {
                protocol_version: 0,
                last_zxid_seen: Zxid::ZERO,
                timeout_ms: 30_000,
                session: SessionId::NONE,
                password: None,
            };
            bench.send(link, &[to_vec(&request)]);
            bench.store();
            assert_eq!(bench.frames(link).len(), 1);
        }
        bench
    }

    fn step(&mut self, inputs: impl IntoIterator<Item = Input>) {
        let mut outputs = Vec::new();
        let mut inputs = inputs.into_iter().collect();
        self.server.step(Now::default(), &mut inputs, &mut outputs);
        for output in outputs {
            match output {
                Output::Store(seq, _) => self.seq = seq,
                Output::Link(link, LinkOutput::Send(bytes)) => {
                    self.received.entry(link).or_default().extend(bytes);
                }
                _ => {}
            }
        }
    }

    fn send(&mut self, link: LinkId, frames: &[Vec<u8>]) {
        let mut bytes = Vec::new();
        for frame in frames {
            append(&mut bytes, &i32::try_from(frame.len()).unwrap());
            bytes.extend_from_slice(frame);
        }
        let received = LinkInput::Received(Bytes::from(bytes));
        self.step([Input::Link(link, received)]);
    }

    /// The store confirms everything.
    fn store(&mut self) {
        self.step([Input::Stored { upto: self.seq }]);
    }

    /// The client reads everything; returns the frames.
    fn frames(&mut self, link: LinkId) -> Vec<Vec<u8>> {
        let bytes = self.received.remove(&link).unwrap_or_default();
        self.step([Input::Link(link, LinkInput::Flushed(bytes.len()))]);
        let mut rest = &*bytes;
        let mut frames = Vec::new();
        while !rest.is_empty() {
            let length: i32 = take(&mut rest).unwrap();
            let (frame, after) = rest.split_at(usize::try_from(length).unwrap());
            frames.push(frame.to_vec());
            rest = after;
        }
        frames
    }

    fn answers(&mut self, link: LinkId) -> Vec<i32> {
        let xid = |frame: &Vec<u8>| take::<ReplyHeader>(&mut &**frame).unwrap().xid.0;
        self.frames(link).iter().map(xid).collect()
    }
}

fn request<T: serde::Serialize + ?Sized>(xid: i32, op: OpCode, body: &T) -> Vec<u8> {
    let mut bytes = to_vec(&RequestHeader { xid: Xid(xid), op });
    append(&mut bytes, body);
    bytes
}

fn create(xid: i32, path: &str, data: &[u8]) -> Vec<u8> {
    let anyone = AclText {
        perms: Perms::ALL,
        scheme: "world".into(),
        id: "anyone".into(),
    };
    let body = CreateRequest {
        path: path.into(),
        data: Some(data),
        acl: vec![anyone],
        flags: 0,
    };
    request(xid, OpCode::CREATE, &body)
}

fn set(xid: i32, path: &str) -> Vec<u8> {
    let body = SetDataRequest {
        path: path.into(),
        data: Some(b"new"),
        version: -1,
    };
    request(xid, OpCode::SET_DATA, &body)
}

fn get(xid: i32, path: &str) -> Vec<u8> {
    let body = ReadRequest {
        path: path.into(),
        watch: false,
    };
    request(xid, OpCode::GET_DATA, &body)
}

/// The data in an answer to `getData`.
fn data(frame: &[u8]) -> &[u8] {
    let length = i32::from_be_bytes(frame[16..20].try_into().unwrap());
    &frame[20..20 + usize::try_from(length).unwrap()]
}

#[test]
fn a_sync_that_waits_for_another_connection_is_answered_before_the_write_after_it() {
    let mut bench = Bench::with_two_clients();
    bench.send(B, &[create(1, "/b", b"")]);
    let sync = request(1, OpCode::SYNC, "/");
    bench.send(A, &[sync, create(2, "/a", b""), get(3, "/a")]);
    bench.store();
    assert_eq!(bench.answers(A), [1, 2, 3]);
}

#[test]
fn reads_that_wait_for_a_slow_reader_are_answered_before_the_write_after_them() {
    let mut bench = Bench::with_two_clients();
    bench.send(A, &[create(1, "/a", &[b'x'; 900_000])]);
    bench.store();
    bench.send(
        A,
        &[
            create(2, "/b", b""),
            get(3, "/a"),
            get(4, "/a"),
            get(5, "/a"),
            set(6, "/a"),
            get(7, "/a"),
        ],
    );
    bench.store();
    let mut frames = Vec::new();
    loop {
        match bench.frames(A) {
            none if none.is_empty() => break,
            some => frames.extend(some),
        }
    }
    let xids: Vec<_> = frames.iter().map(|frame| frame[3]).collect();
    assert_eq!(xids, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(
        data(&frames[4]).len(),
        900_000,
        "a read sees nothing of a later write"
    );
    assert_eq!(data(&frames[6]), b"new");
}

#[test]
fn reads_that_wait_for_a_slow_reader_go_on_when_it_has_read() {
    let mut bench = Bench::with_two_clients();
    bench.send(A, &[create(1, "/a", &[b'x'; 900_000])]);
    bench.store();
    bench.send(
        A,
        &[
            create(2, "/b", b""),
            get(3, "/a"),
            get(4, "/a"),
            get(5, "/a"),
        ],
    );
    bench.store();
    assert_eq!(bench.answers(A), [1, 2, 3, 4]);
    assert_eq!(bench.answers(A), [5]);
}
