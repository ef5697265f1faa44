//! What a driver does, and what it sees: links, the store, the snapshot's writer, and the clock.

use core::net::SocketAddr;
use std::collections::BTreeMap;

use bytes::Bytes;
use zabra_core::Machine as _;
use zabra_core::ids::{Instant, LinkId, Seq, SessionId, UnixMillis, Xid, Zxid};
use zabra_core::jute::take;
use zabra_core::link::{LinkInput, LinkOutput, Port};
use zabra_core::machine::Now;
use zabra_core::server::io::Event;
use zabra_core::server::{
    Config, HostFacts, Input, Output, Recovered, Server, SnapshotOp, StoreOp,
};
use zabra_core::store::Restore as _;
use zabra_core::tree::{Loader, Tree};
use zabra_core::wire::client::{ConnectResponse, OpCode, ReplyHeader, RequestHeader};
use zabra_fuzz::{SEED, assert_same, assert_sound, read_snapshot};

use super::SLOTS;
use super::request::{Frame, Handshake};

/// Bytes that a connection may hold that is not read: the server's own limit, and an answer more.
const HELD_BYTES_MAX: usize = (64 << 20) + (8 << 20);

pub struct Driver {
    server: Server,
    config: Config,
    now: Now,
    inputs: Vec<Input>,
    links: BTreeMap<LinkId, Link>,
    slots: [Option<LinkId>; SLOTS],
    next_link: u64,
    next_xid: i32,
    /// Sessions that some client was given, with their passwords.
    known: Vec<(SessionId, Vec<u8>)>,
    /// Everything given to the store.
    log: Vec<(Seq, StoreOp)>,
    seq: Seq,
    acked: Seq,
    /// What stands in the log of earlier lives.
    durable: Vec<Bytes>,
    snapshot: Option<Snapshot>,
    /// Clients read at once; the store confirms at once.
    reads: bool,
    stores: bool,
    cut: usize,
}

/// A snapshot being written.
struct Snapshot {
    zxid: Zxid,
    file: Vec<u8>,
    unreported: usize,
    ended: bool,
}

/// One connection as its client sees it.
#[derive(Default)]
struct Link {
    /// Not handed to the server: it asked for a pause.
    held: Vec<Bytes>,
    paused: bool,
    /// Requests of which an answer is due, in order.
    asked: Vec<Xid>,
    /// Those that are answered whenever they come.
    asked_aside: usize,
    /// Bytes that were not made of whole frames by this harness went out.
    raw: bool,
    greeted: bool,
    received: Vec<u8>,
    answers: Vec<Xid>,
    unflushed: usize,
}

impl Driver {
    pub fn new(config: Config, first: bool, reads: bool, stores: bool, cut: u8) -> Self {
        let now = Now {
            instant: Instant(1_000_000),
            wall: UnixMillis(1_700_000_000_000),
        };
        let recovered = Recovered {
            snapshot: !first,
            ..Recovered::default()
        };
        let loader = Loader::new(SEED, true);
        let server = Server::new(config.clone(), loader, recovered, SEED, now);
        Self {
            server,
            config,
            now,
            inputs: Vec::new(),
            links: BTreeMap::new(),
            slots: [None; SLOTS],
            next_link: 1,
            next_xid: 1,
            known: Vec::new(),
            log: Vec::new(),
            seq: Seq(0),
            acked: Seq(0),
            durable: Vec::new(),
            snapshot: None,
            reads,
            stores,
            cut: usize::from(cut),
        }
    }

    pub fn connect(&mut self, slot: usize, handshake: &Handshake) {
        self.close(slot);
        let link = LinkId(self.next_link);
        self.next_link += 1;
        let port = u16::try_from(link.0 % 60_000).unwrap_or(1);
        let peer = match slot {
            0 => SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], port)),
            _ => SocketAddr::from(([127, 0, 0, 1], port)),
        };
        self.links.insert(link, Link::default());
        self.slots[slot] = Some(link);
        self.inputs
            .push(Input::Link(link, LinkInput::Opened { port: Port::Client, peer }));
        self.send(link, &framed(&handshake.bytes(&self.known)));
    }

    pub fn request(&mut self, slot: usize, frames: &[Frame]) {
        let Some(link) = self.slots[slot] else { return };
        let mut all = Vec::new();
        for frame in frames.iter().take(40) {
            let xid = Xid(self.next_xid);
            self.next_xid += 1;
            let (bytes, _) = frame.bytes(xid);
            all.extend(framed(&bytes));
            let Some(link) = self.links.get_mut(&link) else {
                return;
            };
            let mut input = &*bytes;
            match take::<RequestHeader>(&mut input) {
                Ok(RequestHeader { op, .. }) if op == OpCode::AUTH || op == OpCode::SASL => {
                    link.asked_aside += 1;
                }
                Ok(RequestHeader { op, .. }) if op == OpCode::PING => link.asked.push(Xid(-2)),
                Ok(header) => link.asked.push(header.xid),
                Err(_) => link.raw = true,
            }
        }
        self.send(link, &all);
    }

    pub fn raw(&mut self, slot: usize, bytes: &[u8]) {
        let Some(link) = self.slots[slot] else { return };
        if let Some(link) = self.links.get_mut(&link) {
            link.raw = true;
        }
        self.send(link, bytes);
    }

    /// Sends bytes in pieces, as far as the server reads.
    fn send(&mut self, link: LinkId, bytes: &[u8]) {
        let Some(client) = self.links.get_mut(&link) else {
            return;
        };
        let piece = if self.cut == 0 { usize::MAX } else { self.cut };
        // A long frame byte by byte is only slow.
        let piece = piece.max(bytes.len() / 64).max(1);
        for piece in bytes.chunks(piece) {
            let piece = Bytes::copy_from_slice(piece);
            if client.paused {
                client.held.push(piece);
            } else {
                self.inputs
                    .push(Input::Link(link, LinkInput::Received(piece)));
            }
        }
    }

    pub fn close(&mut self, slot: usize) {
        if let Some(link) = self.slots[slot].take()
            && self.links.remove(&link).is_some()
        {
            self.inputs.push(Input::Link(link, LinkInput::Closed));
        }
    }

    pub fn flush(&mut self, slot: usize, share: u8) {
        let Some(link) = self.slots[slot] else { return };
        let Some(client) = self.links.get_mut(&link) else {
            return;
        };
        let bytes = client.unflushed * (usize::from(share) + 1) / 256;
        client.unflushed -= bytes;
        self.inputs
            .push(Input::Link(link, LinkInput::Flushed(bytes)));
    }

    pub fn ack(&mut self, count: usize) {
        let upto = Seq((self.acked.0 + count as u64).min(self.seq.0));
        if upto > self.acked {
            self.acked = upto;
            self.inputs.push(Input::Stored { upto });
        }
    }

    pub fn snapshot_written(&mut self, bytes: usize) {
        if let Some(snapshot) = &mut self.snapshot {
            let bytes = bytes.min(snapshot.unreported);
            snapshot.unreported -= bytes;
            self.inputs.push(Input::SnapshotWritten(bytes));
        }
    }

    pub fn snapshot_stored(&mut self) {
        let Some(snapshot) = self.snapshot.take_if(|snapshot| snapshot.ended) else {
            return;
        };
        self.check_snapshot(&snapshot);
        let zxid = snapshot.zxid;
        self.inputs.push(Input::SnapshotStored { zxid });
    }

    pub fn snapshot_failed(&mut self) {
        if let Some(Snapshot { zxid, .. }) = self.snapshot.take() {
            self.inputs.push(Input::SnapshotFailed { zxid });
        }
    }

    pub const fn set_wall(&mut self, ms: i64) {
        self.now.wall = UnixMillis(ms);
    }

    /// One step, `ms` after the last one. Returns whether anything came of it.
    pub fn step(&mut self, ms: u64) {
        self.advance(ms);
    }

    fn advance(&mut self, ms: u64) -> bool {
        self.now.instant = self.now.instant.plus_ms(ms);
        self.now.wall.0 = self.now.wall.0.saturating_add(ms.cast_signed());
        let mut outputs = Vec::new();
        let quiet = self.inputs.is_empty();
        self.server.step(self.now, &mut self.inputs, &mut outputs);
        assert!(self.inputs.is_empty(), "a step takes all its inputs");
        let quiet = quiet && outputs.is_empty();
        for output in outputs {
            self.perform(output);
        }
        if self.stores {
            self.ack(usize::MAX >> 1);
        }
        if self.reads {
            self.flush_all();
        }
        !quiet
    }

    fn flush_all(&mut self) {
        for (&link, client) in &mut self.links {
            let bytes = core::mem::take(&mut client.unflushed);
            if bytes > 0 {
                self.inputs
                    .push(Input::Link(link, LinkInput::Flushed(bytes)));
            }
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::AskFacts(link) => {
                self.inputs.push(Input::Facts(link, HostFacts::default()));
            }
            Output::Event(Event::DigestMismatch { zxid }) => {
                panic!("the digest differs after {zxid}")
            }
            Output::Event(Event::OrphanDeleted { path }) => panic!("{path} had lost its session"),
            Output::Event(_) => {}
            // Of a server of an ensemble.
            Output::Listen(..) | Output::Membership(_) | Output::Restart(_) => {
                panic!("{output:?} of a server that stands alone")
            }
            Output::Link(link, output) => self.perform_link(link, output),
            Output::Snapshot(op) => self.perform_snapshot(op),
            Output::Store(seq, op) => {
                assert_eq!(seq.0, self.seq.0 + 1, "the store's operations have no gaps");
                self.seq = seq;
                if let StoreOp::Append { zxid, txn } = &op {
                    assert!(*zxid > self.last_logged(), "zxids rise");
                    assert!(txn.len() >= 32, "a transaction has a header");
                }
                self.log.push((seq, op));
            }
        }
    }

    fn last_logged(&self) -> Zxid {
        let appended = self.log.iter().rev().find_map(|(_, op)| match op {
            StoreOp::Append { zxid, .. } => Some(*zxid),
            StoreOp::Roll
            | StoreOp::Epochs { .. }
            | StoreOp::Truncate { .. }
            | StoreOp::Reset { .. } => None,
        });
        appended.unwrap_or(Zxid(self.durable.len() as i64))
    }

    fn perform_link(&mut self, link: LinkId, output: LinkOutput) {
        // A link that its client closed in the same step still gets what was on its way.
        let Some(client) = self.links.get_mut(&link) else {
            return;
        };
        match output {
            LinkOutput::Dial { .. } => panic!("a server that stands alone dials nobody"),
            LinkOutput::Send(bytes) => {
                assert!(!bytes.is_empty(), "nothing is not sent");
                client.unflushed += bytes.len();
                assert!(
                    client.unflushed <= HELD_BYTES_MAX,
                    "what is not read is bounded"
                );
                client.receive(&bytes, &mut self.known);
            }
            LinkOutput::Pause => {
                assert!(!client.paused, "a link is paused once");
                client.paused = true;
            }
            LinkOutput::Resume => {
                assert!(client.paused, "a link is resumed after a pause");
                client.paused = false;
                for bytes in core::mem::take(&mut client.held) {
                    self.inputs
                        .push(Input::Link(link, LinkInput::Received(bytes)));
                }
            }
            LinkOutput::Close => {
                assert!(client.received.is_empty(), "the last frame is whole");
                self.links.remove(&link);
            }
        }
    }

    fn perform_snapshot(&mut self, op: SnapshotOp) {
        match op {
            SnapshotOp::Begin { zxid } => {
                assert!(self.snapshot.is_none(), "one snapshot is written at a time");
                self.snapshot = Some(Snapshot {
                    zxid,
                    file: Vec::new(),
                    unreported: 0,
                    ended: false,
                });
            }
            SnapshotOp::Abandon => panic!("only a leader's state overtakes a snapshot"),
            // After a failure pieces may be on their way.
            SnapshotOp::Chunk(bytes) => {
                if let Some(snapshot) = &mut self.snapshot {
                    assert!(!snapshot.ended, "nothing follows the end");
                    snapshot.unreported += bytes.len();
                    snapshot.file.extend_from_slice(&bytes);
                }
            }
            SnapshotOp::End => {
                if let Some(snapshot) = &mut self.snapshot {
                    snapshot.ended = true;
                }
            }
        }
    }

    /// The power fails, and the server starts again from what was confirmed.
    pub fn crash(&mut self) {
        let acked = self.acked;
        let confirmed = self.log.drain(..).filter(|(seq, _)| *seq <= acked);
        self.durable
            .extend(confirmed.filter_map(|(_, op)| match op {
                StoreOp::Append { txn, .. } => Some(txn),
                StoreOp::Roll
                | StoreOp::Epochs { .. }
                | StoreOp::Truncate { .. }
                | StoreOp::Reset { .. } => None,
            }));
        self.inputs.clear();
        self.links.clear();
        self.slots = [None; SLOTS];
        self.snapshot = None;
        (self.seq, self.acked) = (Seq(0), Seq(0));
        let recovered = Recovered {
            snapshot: true,
            txns: self.durable.len() as u64,
            log_bytes: self.durable.iter().map(|txn| txn.len() as u64).sum(),
        };
        let loader = self.replay(Zxid(i64::MAX));
        self.server = Server::new(self.config.clone(), loader, recovered, SEED, self.now);
        self.step(0);
    }

    /// What recovery makes of the log up to a transaction.
    fn replay(&self, upto: Zxid) -> Loader {
        let mut loader = Loader::new(SEED, true);
        let log = self.log.iter().filter_map(|(_, op)| match op {
            StoreOp::Append { txn, .. } => Some(txn),
            StoreOp::Roll
            | StoreOp::Epochs { .. }
            | StoreOp::Truncate { .. }
            | StoreOp::Reset { .. } => None,
        });
        for txn in self.durable.iter().chain(log) {
            let (header, _, _) =
                zabra_core::wire::txn::decode(txn).expect("what it wrote is a txn");
            if header.zxid <= upto {
                loader.txn(txn).expect("what it wrote can be read");
            }
        }
        loader
    }

    fn replayed(&self, upto: Zxid) -> Tree {
        let (tree, mismatches, orphans) = self.replay(upto).finish();
        assert!(mismatches.is_empty(), "digests differ after {mismatches:?}");
        assert!(orphans.is_empty(), "{orphans:?} have no session");
        tree
    }

    fn check_snapshot(&self, snapshot: &Snapshot) {
        let mut loader = Loader::new(SEED, true);
        let read = read_snapshot(&mut loader, snapshot.zxid, &snapshot.file, 4096);
        assert_eq!(read, Ok(()), "a snapshot can be read");
        let (tree, _, orphans) = loader.finish();
        assert!(orphans.is_empty(), "{orphans:?} have no session");
        assert_same(&tree, &self.replayed(snapshot.zxid));
    }

    /// Lets everything that was begun come to its end, without time passing.
    pub fn settle(&mut self) {
        (self.reads, self.stores) = (true, true);
        self.flush_all();
        self.ack(usize::MAX >> 1);
        for _ in 0..2000 {
            let mut busy = self.advance(0);
            if let Some(snapshot) = &self.snapshot {
                busy = true;
                if snapshot.ended {
                    self.snapshot_stored();
                } else {
                    self.snapshot_written(usize::MAX);
                }
            }
            if !busy && self.inputs.is_empty() {
                return;
            }
        }
        panic!("the server never comes to rest");
    }

    /// After everything came to its end.
    pub fn check(&self) {
        let tree = self.server.tree();
        assert_sound(tree);
        assert_same(tree, &self.replayed(tree.last_zxid()));
        assert_eq!(
            tree.last_zxid(),
            self.last_logged(),
            "what is stored is applied"
        );
        for (link, client) in &self.links {
            client.check(*link);
        }
    }

    /// Everybody goes, and time passes.
    pub fn end(&mut self) {
        for slot in 0..SLOTS {
            self.close(slot);
        }
        self.settle();
        assert_eq!(self.server.connection_count(), 0, "no connection is left");
        for _ in 0..3 {
            self.advance(40_000);
            self.settle();
        }
        let tree = self.server.tree();
        assert_eq!(tree.sessions().len(), 0, "all sessions expired");
        assert_eq!(tree.ephemeral_count(), 0, "no ephemeral znode is left");
        assert_sound(tree);
        assert_same(tree, &self.replayed(tree.last_zxid()));
    }
}

impl Link {
    /// Takes in what the server sent, frame by frame.
    fn receive(&mut self, bytes: &[u8], known: &mut Vec<(SessionId, Vec<u8>)>) {
        self.received.extend_from_slice(bytes);
        let received = core::mem::take(&mut self.received);
        let mut rest = &*received;
        while let Some((head, after)) = rest.split_first_chunk() {
            let length =
                usize::try_from(i32::from_be_bytes(*head)).expect("a length is not negative");
            let Some((mut frame, after)) = after.split_at_checked(length) else {
                break;
            };
            rest = after;
            if self.greeted {
                let header: ReplyHeader = take(&mut frame).expect("an answer has a header");
                assert!(header.error <= 0, "errors are not positive");
                if header.error != 0 {
                    assert!(frame.is_empty(), "an error has no body");
                }
                self.answers.push(header.xid);
            } else {
                let response: ConnectResponse<'_> = take(&mut frame).expect("a greeting");
                assert!(frame.len() <= 1, "a greeting has at most one byte more");
                self.greeted = true;
                if response.session != SessionId::NONE && known.len() < 64 {
                    known.push((response.session, response.password.to_vec()));
                }
            }
        }
        self.received = rest.to_vec();
    }

    /// Everything asked was answered, in order.
    fn check(&self, link: LinkId) {
        assert!(
            self.received.is_empty(),
            "{link:?}: the last frame is whole"
        );
        if !self.greeted {
            return;
        }
        assert!(
            !self.paused,
            "{link:?}: nothing is left that could hold it up"
        );
        assert!(self.held.is_empty());
        if self.raw {
            return;
        }
        let mut expected = self.asked.iter();
        let mut next = expected.next();
        let mut aside = 0;
        for answer in &self.answers {
            match next {
                Some(xid) if xid == answer => next = expected.next(),
                // Notifications, and what is answered at once.
                _ if answer.0 == -1 => {}
                _ => aside += 1,
            }
        }
        assert_eq!(
            next, None,
            "{link:?}: answered in order: {:?} of {:?}",
            self.answers, self.asked
        );
        assert_eq!(aside, self.asked_aside, "{link:?}: answered aside");
    }
}

fn framed(content: &[u8]) -> Vec<u8> {
    let length = i32::try_from(content.len()).expect("frames here are short");
    [&length.to_be_bytes(), content].concat()
}
