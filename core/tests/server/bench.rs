//! A server under test, and what its clients send.

use core::net::SocketAddr;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use zabra_core::Machine as _;
use zabra_core::ids::{Instant, LinkId, Seq, SessionId, Xid, Zxid};
use zabra_core::jute::{append, take, to_vec};
use zabra_core::link::{LinkInput, LinkOutput, Port};
use zabra_core::machine::Now;
use zabra_core::server::{Config, Event, Input, Output, Recovered, Server, SnapshotOp, StoreOp};
use zabra_core::tree::Loader;
use zabra_core::wire::client::{
    AuthPacket, ConnectRequest, CreateRequest, OpCode, PathVersion, ReadRequest, ReplyHeader,
    RequestHeader, SetDataRequest,
};
use zabra_core::wire::records::{AclText, Perms};

pub(crate) const A: LinkId = LinkId(1);
pub(crate) const B: LinkId = LinkId(2);

/// A server whose store and clients do only what a test says.
pub(crate) struct Bench {
    pub(crate) server: Server,
    /// What the clocks show at the next step.
    pub(crate) now: Now,
    pub(crate) seq: Seq,
    /// What was given to the store.
    pub(crate) txns: Vec<Bytes>,
    /// After how many of these it was to begin a new file.
    pub(crate) rolls: Vec<usize>,
    pub(crate) received: BTreeMap<LinkId, Vec<u8>>,
    /// Connections that are not read.
    pub(crate) paused: BTreeSet<LinkId>,
    /// Connections that the server has closed.
    pub(crate) closed: BTreeSet<LinkId>,
    pub(crate) snapshot: Vec<SnapshotOp>,
    pub(crate) events: Vec<Event>,
    /// When the server wants its next turn.
    pub(crate) wake: Option<Instant>,
}

impl Bench {
    pub(crate) fn new(config: Config, loader: Loader) -> Self {
        let recovered = Recovered {
            snapshot: true,
            ..Recovered::default()
        };
        Self::recovered(config, loader, recovered)
    }

    pub(crate) fn recovered(config: Config, loader: Loader, recovered: Recovered) -> Self {
        Self {
            server: Server::new(config, loader, recovered, 0, Now::default()),
            now: Now::default(),
            seq: Seq(0),
            txns: Vec::new(),
            rolls: Vec::new(),
            received: BTreeMap::new(),
            paused: BTreeSet::new(),
            closed: BTreeSet::new(),
            snapshot: Vec::new(),
            events: Vec::new(),
            wake: None,
        }
    }

    /// A server with two clients that have sessions.
    pub(crate) fn with_two_clients() -> Self {
        Self::over(Loader::new(0, true))
    }

    pub(crate) fn over(loader: Loader) -> Self {
        Self::new(Config::default(), loader).joined()
    }

    pub(crate) fn with(config: Config) -> Self {
        Self::new(config, Loader::new(0, true)).joined()
    }

    /// The same with two clients that have sessions.
    pub(crate) fn joined(mut self) -> Self {
        for link in [A, B] {
            self.open(link);
            self.send(link, &[connect(30_000)]);
            self.store();
            assert_eq!(self.frames(link).len(), 1);
        }
        self
    }

    pub(crate) fn open(&mut self, link: LinkId) {
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        self.step([Input::Link(
            link,
            LinkInput::Opened {
                port: Port::Client,
                peer,
            },
        )]);
    }

    /// Lets time pass, by both clocks.
    pub(crate) fn wait_ms(&mut self, ms: u64) {
        self.now.instant = self.now.instant.plus_ms(ms);
        self.now.wall.0 += i64::try_from(ms).unwrap();
        self.step([]);
    }

    pub(crate) fn step(&mut self, inputs: impl IntoIterator<Item = Input>) {
        let mut outputs = Vec::new();
        let mut inputs = inputs.into_iter().collect();
        self.wake = self.server.step(self.now, &mut inputs, &mut outputs);
        for output in outputs {
            match output {
                Output::Store(seq, op) => {
                    self.seq = seq;
                    match op {
                        StoreOp::Append { txn, .. } => self.txns.push(txn),
                        StoreOp::Roll => self.rolls.push(self.txns.len()),
                        StoreOp::Epochs { .. }
                        | StoreOp::Reset { .. }
                        | StoreOp::Truncate { .. } => {
                            unreachable!("for ensembles")
                        }
                    }
                }
                Output::Link(link, LinkOutput::Send(bytes)) => {
                    self.received.entry(link).or_default().extend(bytes);
                }
                Output::Link(link, LinkOutput::Pause) => {
                    self.paused.insert(link);
                }
                Output::Link(link, LinkOutput::Resume) => {
                    self.paused.remove(&link);
                }
                Output::Link(link, LinkOutput::Close) => {
                    self.closed.insert(link);
                }
                Output::Snapshot(op) => self.snapshot.push(op),
                Output::Event(event) => self.events.push(event),
                Output::AskFacts(_) => {}
                Output::Link(_, LinkOutput::Dial { .. })
                | Output::Listen(..)
                | Output::Membership(_)
                | Output::Restart(_) => unreachable!("for ensembles"),
            }
        }
    }

    pub(crate) fn send(&mut self, link: LinkId, frames: &[Vec<u8>]) {
        let mut bytes = Vec::new();
        for frame in frames {
            append(&mut bytes, &i32::try_from(frame.len()).unwrap());
            bytes.extend_from_slice(frame);
        }
        let received = LinkInput::Received(Bytes::from(bytes));
        self.step([Input::Link(link, received)]);
    }

    /// The store confirms everything.
    pub(crate) fn store(&mut self) {
        self.step([Input::Stored { upto: self.seq }]);
    }

    /// The client reads everything; returns the frames.
    pub(crate) fn frames(&mut self, link: LinkId) -> Vec<Vec<u8>> {
        let frames = self.unread(link);
        let bytes = self.received.remove(&link).unwrap_or_default();
        self.step([Input::Link(link, LinkInput::Flushed(bytes.len()))]);
        frames
    }

    /// The frames that are on their way to a client, which does not read them.
    pub(crate) fn unread(&self, link: LinkId) -> Vec<Vec<u8>> {
        let mut rest = self.received.get(&link).map_or(&[][..], Vec::as_slice);
        let mut frames = Vec::new();
        while !rest.is_empty() {
            let length: i32 = take(&mut rest).unwrap();
            let (frame, after) = rest.split_at(usize::try_from(length).unwrap());
            frames.push(frame.to_vec());
            rest = after;
        }
        frames
    }

    /// The error of the only answer there is, 0 if it is none.
    pub(crate) fn error(&mut self, link: LinkId) -> i32 {
        let frames = self.frames(link);
        assert_eq!(frames.len(), 1);
        take::<ReplyHeader>(&mut &*frames[0]).unwrap().error
    }

    pub(crate) fn answers(&mut self, link: LinkId) -> Vec<i32> {
        let xid = |frame: &Vec<u8>| take::<ReplyHeader>(&mut &**frame).unwrap().xid.0;
        self.frames(link).iter().map(xid).collect()
    }
}

pub(crate) fn connect(timeout_ms: i32) -> Vec<u8> {
    to_vec(&ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: Zxid::ZERO,
        timeout_ms,
        session: SessionId::NONE,
        password: None,
    })
}

pub(crate) fn request<T: serde::Serialize + ?Sized>(xid: i32, op: OpCode, body: &T) -> Vec<u8> {
    let mut bytes = to_vec(&RequestHeader { xid: Xid(xid), op });
    append(&mut bytes, body);
    bytes
}

pub(crate) fn create(xid: i32, path: &str, data: &[u8]) -> Vec<u8> {
    create_with(xid, path, data, vec![entry(31, "world", "anyone")], 0)
}

pub(crate) fn create_with(
    xid: i32,
    path: &str,
    data: &[u8],
    acl: Vec<AclText<'_>>,
    flags: i32,
) -> Vec<u8> {
    let body = CreateRequest {
        path: path.into(),
        data: Some(data),
        acl,
        flags,
    };
    request(xid, OpCode::CREATE, &body)
}

pub(crate) fn entry<'a>(perms: i32, scheme: &'a str, id: &'a str) -> AclText<'a> {
    AclText {
        perms: Perms(perms),
        scheme: scheme.into(),
        id: id.into(),
    }
}

pub(crate) fn auth(secret: &str) -> Vec<u8> {
    let body = AuthPacket {
        kind: 0,
        scheme: "digest".into(),
        auth: Some(secret.as_bytes()),
    };
    request(-4, OpCode::AUTH, &body)
}

pub(crate) fn ping() -> Vec<u8> {
    request(-2, OpCode::PING, &())
}

pub(crate) fn delete(xid: i32, path: &str) -> Vec<u8> {
    let body = PathVersion {
        path: path.into(),
        version: -1,
    };
    request(xid, OpCode::DELETE, &body)
}

pub(crate) fn set(xid: i32, path: &str) -> Vec<u8> {
    let body = SetDataRequest {
        path: path.into(),
        data: Some(b"new"),
        version: -1,
    };
    request(xid, OpCode::SET_DATA, &body)
}

pub(crate) fn get(xid: i32, path: &str) -> Vec<u8> {
    let body = ReadRequest {
        path: path.into(),
        watch: false,
    };
    request(xid, OpCode::GET_DATA, &body)
}

/// The data in an answer to `getData`.
pub(crate) fn data(frame: &[u8]) -> &[u8] {
    let length = i32::from_be_bytes(frame[16..20].try_into().unwrap());
    &frame[20..20 + usize::try_from(length).unwrap()]
}
