//! The smallest service on [`Zab`]: it proposes by itself, and remembers what was delivered.
//!
//! With it, elections, synchronisation and broadcast are run without znodes and sessions, and what
//! each server delivers is seen itself, not only what clients are shown of it.

use core::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use zabra_core::Machine;
use zabra_core::ids::{Instant, LinkId, Zxid};
use zabra_core::machine::Now;
use zabra_core::server::{Input, Output, SnapshotOp};
use zabra_core::store::Restore;
use zabra_core::zab::{self, Options, Role, Zab};

use crate::ensemble::members::RECONFIG;
use crate::node::hash;
use crate::rng::{Rng, Stream};
use crate::wire::Writer;

/// What a server has done that the world cannot see from outside.
#[derive(Debug, Default)]
pub struct Spy {
    /// Delivered since the world has looked: zxid and hash.
    pub delivered: Vec<(i64, u64)>,
    /// Whether it serves.
    pub is_serving: bool,
    /// The last transaction in its state.
    pub last: i64,
    /// The hash over all transactions in its state, in order.
    pub digest: u64,
    /// Whether its state came from a leader as a whole.
    pub loaded: Option<(i64, u64)>,
    /// Syncs that are done.
    pub synced: u64,
    /// Who joins, who leaves and the version it must be, if the membership is to change.
    pub reconfig: Option<(String, String, i64)>,
}

/// The state: a hash over the transactions, in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    last: i64,
    digest: u64,
}

impl State {
    fn apply(&mut self, zxid: i64, payload: &[u8]) {
        assert!(
            zxid > self.last,
            "{zxid:#x} delivered after {:#x}",
            self.last
        );
        self.last = zxid;
        self.digest = next_digest(self.digest, hash(payload, 0));
    }

    fn bytes(self) -> Bytes {
        let mut bytes = BytesMut::from(MAGIC);
        bytes.extend_from_slice(&self.last.to_be_bytes());
        bytes.extend_from_slice(&self.digest.to_be_bytes());
        // Enough that it does not pass in one piece.
        bytes.extend_from_slice(&[7; 200]);
        // What the store takes for the end of a snapshot.
        bytes.extend_from_slice(b"\0\0\0\x01/");
        bytes.freeze()
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (last, rest) = bytes.strip_prefix(MAGIC)?.split_first_chunk()?;
        let (digest, _) = rest.split_first_chunk()?;
        Some(Self {
            last: i64::from_be_bytes(*last),
            digest: u64::from_be_bytes(*digest),
        })
    }
}

/// The digest after one more transaction.
#[must_use]
pub const fn next_digest(digest: u64, hash: u64) -> u64 {
    (digest ^ hash)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(23)
}

/// What the store takes for the beginning of a snapshot.
const MAGIC: &[u8] = b"ZKSN";
const STATE_BYTES: usize = 225;
const SIGNATURE: &[u8] = b"\0\0\0\x0aBenWasHere";

/// What recovery restores into.
#[derive(Debug, Default)]
pub struct DrillLoader {
    state: State,
    chunk: Vec<u8>,
}

impl DrillLoader {
    /// A file that holds this beginning.
    #[must_use]
    pub fn birth() -> Bytes {
        State::default().bytes()
    }
}

impl Restore for DrillLoader {
    type Error = String;

    fn snapshot_begin(&mut self, _: Zxid) {
        *self = Self::default();
    }

    fn snapshot_chunk(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.chunk.extend_from_slice(bytes);
        Ok(())
    }

    fn snapshot_end(&mut self) -> Result<(), String> {
        self.state = State::parse(&self.chunk).ok_or("too short")?;
        Ok(())
    }

    fn txn(&mut self, payload: &[u8]) -> Result<(), String> {
        let zxid = payload.get(12..20).and_then(|bytes| bytes.try_into().ok());
        let zxid = zxid.map(i64::from_be_bytes).ok_or("no zxid")?;
        self.state.apply(zxid, payload);
        Ok(())
    }
}

/// One server of a drill.
#[derive(Debug)]
pub struct Drill {
    zab: Zab,
    state: State,
    spy: Rc<RefCell<Spy>>,
    role: Role,
    is_serving: bool,
    /// Transactions between two snapshots, and since the last.
    snapshot_txns: u32,
    txns: u32,
    /// A leader's state that is being received, or written down.
    loading: Option<(Zxid, Vec<u8>)>,
    storing: Option<Zxid>,
    writing: bool,
    wanted: VecDeque<LinkId>,
    propose_at: Instant,
    pace_us: u64,
    is_quiet: Rc<RefCell<bool>>,
    rng: Rng,
}

/// What a drill is told at its birth.
#[derive(Debug)]
pub struct Birth {
    /// Its place.
    pub options: Options,
    /// What its store held.
    pub recovered: zab::Recovered,
    /// What was restored.
    pub loader: DrillLoader,
    /// How often it writes a snapshot.
    pub snapshot_txns: u32,
    /// How often it proposes.
    pub pace_us: u64,
    /// Random bits.
    pub entropy: u64,
    /// Where it tells what it does.
    pub spy: Rc<RefCell<Spy>>,
    /// Whether it shall propose nothing.
    pub is_quiet: Rc<RefCell<bool>>,
}

impl Drill {
    /// A server that has found this.
    #[must_use]
    pub fn new(birth: Birth, now: Now) -> Self {
        let state = birth.loader.state;
        {
            let mut spy = birth.spy.borrow_mut();
            *spy = Spy {
                last: state.last,
                digest: state.digest,
                ..Spy::default()
            };
        }
        Self {
            zab: Zab::new(birth.options, birth.recovered, birth.entropy, now.instant),
            state,
            spy: birth.spy,
            role: Role::Looking,
            is_serving: false,
            snapshot_txns: birth.snapshot_txns.max(2),
            txns: 0,
            loading: None,
            storing: None,
            writing: false,
            wanted: VecDeque::new(),
            propose_at: now.instant,
            pace_us: birth.pace_us,
            is_quiet: birth.is_quiet,
            rng: Rng::keyed(birth.entropy, Stream::Server, 300, 0),
        }
    }

    fn take(&mut self, input: Input, outputs: &mut Vec<Output>) {
        match input {
            Input::Link(link, input) => self.zab.link(link, input),
            Input::Stored { upto } => self.zab.stored(upto),
            Input::SnapshotStored { zxid } => {
                self.writing = false;
                if self.storing == Some(zxid) {
                    self.storing = None;
                    self.zab.snapshot_stored(zxid);
                }
            }
            Input::SnapshotFailed { zxid } => {
                self.writing = false;
                if self.storing.take() == Some(zxid) {
                    self.zab.snapshot_failed("it could not be written");
                }
            }
            Input::Ask(..) | Input::Disk(_) | Input::Facts(..) | Input::SnapshotWritten(_) => {}
        }
        self.settle(outputs);
    }

    /// Does what zab asks for, and what follows from that.
    fn settle(&mut self, outputs: &mut Vec<Output>) {
        loop {
            let asked = self.zab.take_outputs();
            if asked.is_empty() {
                return;
            }
            for output in asked {
                self.perform(output, outputs);
            }
        }
    }

    fn perform(&mut self, output: zab::Output, outputs: &mut Vec<Output>) {
        match output {
            zab::Output::Link(link, output) => outputs.push(Output::Link(link, output)),
            zab::Output::Listen(port, to) => outputs.push(Output::Listen(port, to)),
            zab::Output::Store(seq, op) => outputs.push(Output::Store(seq, op)),
            zab::Output::Membership(op) => outputs.push(Output::Membership(op)),
            zab::Output::Restart(reason) => outputs.push(Output::Restart(reason)),
            zab::Output::Role(role) => {
                self.role = role;
                self.is_serving = false;
                self.spy.borrow_mut().is_serving = false;
                // The state that was being read or written down is nobody's.
                self.loading = None;
                self.wanted.clear();
            }
            zab::Output::Serve => {
                self.is_serving = true;
                self.spy.borrow_mut().is_serving = true;
            }
            zab::Output::Deliver { zxid, txn } => self.deliver(zxid, &txn, outputs),
            zab::Output::SnapshotBegin { zxid } => {
                self.loading = Some((zxid, Vec::new()));
                if self.writing {
                    self.writing = false;
                    outputs.push(Output::Snapshot(SnapshotOp::Abandon));
                }
            }
            zab::Output::SnapshotBytes(bytes) => self.load(&bytes, outputs),
            zab::Output::SnapshotWanted(link) => self.wanted.push_back(link),
            zab::Output::PingDue => self.zab.pong(Bytes::new()),
            zab::Output::Revalidate { from, data } => self.zab.revalidated(from, data),
            zab::Output::Request { from, .. } => self.zab.sync_learner(from),
            zab::Output::Synced => self.spy.borrow_mut().synced += 1,
            zab::Output::Activated(_)
            | zab::Output::Event(_)
            | zab::Output::LearnerGone(_)
            | zab::Output::Revalidated(_)
            | zab::Output::SyncAnswered(_)
            | zab::Output::Touches(_) => {}
        }
    }

    fn deliver(&mut self, zxid: Zxid, txn: &Bytes, outputs: &mut Vec<Output>) {
        self.state.apply(zxid.0, txn);
        {
            let mut spy = self.spy.borrow_mut();
            spy.delivered.push((zxid.0, hash(txn, 0)));
            spy.last = self.state.last;
            spy.digest = self.state.digest;
        }
        self.txns += 1;
        let is_due = self.txns >= self.snapshot_txns && self.is_serving;
        if is_due && !self.writing && self.storing.is_none() && self.loading.is_none() {
            self.txns = 0;
            self.write_state(zxid, outputs);
        }
    }

    fn write_state(&mut self, zxid: Zxid, outputs: &mut Vec<Output>) {
        self.writing = true;
        outputs.push(Output::Snapshot(SnapshotOp::Begin { zxid }));
        outputs.push(Output::Snapshot(SnapshotOp::Chunk(self.state.bytes())));
        outputs.push(Output::Snapshot(SnapshotOp::End));
    }

    fn load(&mut self, bytes: &Bytes, outputs: &mut Vec<Output>) {
        let Some((zxid, state)) = &mut self.loading else {
            return;
        };
        let zxid = *zxid;
        state.extend_from_slice(bytes);
        let whole = STATE_BYTES + SIGNATURE.len();
        if state.len() < whole {
            return;
        }
        let rest = Bytes::from(state.split_off(whole));
        assert_eq!(
            state.get(STATE_BYTES..),
            Some(SIGNATURE),
            "a state is whole"
        );
        let Some(read) = State::parse(state) else {
            return;
        };
        self.loading = None;
        self.state = read;
        self.txns = 0;
        {
            let mut spy = self.spy.borrow_mut();
            spy.loaded = Some((zxid.0, read.digest));
            spy.last = read.last;
            spy.digest = read.digest;
        }
        self.storing = Some(zxid);
        self.write_state(zxid, outputs);
        self.zab.snapshot_loaded(rest);
    }

    fn give_states(&mut self) {
        while let Some(link) = self.wanted.pop_front() {
            if self.zab.snapshot_room(link).is_none() {
                continue;
            }
            let zxid = self.zab.status().delivered;
            self.zab.snapshot_begin(link, zxid);
            self.zab.snapshot_chunk(link, &self.state.bytes());
            self.zab
                .snapshot_chunk(link, &Bytes::from_static(SIGNATURE));
            self.zab.snapshot_end(link);
        }
    }

    /// Proposes the membership that the world asks for, as a server would.
    fn reconfigure(&mut self) {
        let Some((joining, leaving, version)) = self.spy.borrow_mut().reconfig.take() else {
            return;
        };
        let (committed, seen) = self.zab.membership();
        let is_pending = seen.is_some_and(|seen| seen.version > committed.version);
        let is_refused = is_pending || (version != -1 && version != committed.version);
        let next = committed.reconfigured(Some(&joining), Some(&leaving), None, false);
        let (Ok(mut next), Some(zxid)) = (next, self.zab.next_zxid()) else {
            return;
        };
        if !self.is_serving || is_refused || !self.zab.can_reconfigure_to(&next) {
            return;
        }
        next.version = zxid.0;
        let text = next.to_text();
        let mut txn = Writer::default();
        txn.long(0);
        txn.int(0);
        txn.long(zxid.0);
        txn.long(0);
        txn.int(RECONFIG);
        txn.string("/zookeeper/config");
        txn.buffer(Some(text.as_bytes()));
        txn.int(-1);
        self.zab.propose(zxid, Bytes::from(txn.bytes), Some(next));
    }

    fn propose(&mut self, now: Instant) {
        if now < self.propose_at || !self.is_serving || *self.is_quiet.borrow() {
            return;
        }
        let pause_us = self.rng.between(self.pace_us / 4, self.pace_us * 2);
        self.propose_at = Instant(now.0 + pause_us);
        for _ in 0..self.rng.between(1, 3) {
            let Some(zxid) = self.zab.next_zxid() else {
                return;
            };
            let mut txn = vec![0; 12];
            txn.extend_from_slice(&zxid.0.to_be_bytes());
            txn.extend_from_slice(&self.rng.bits().to_be_bytes());
            txn.resize(32 + self.rng.index(60), 1);
            self.zab.propose(zxid, Bytes::from(txn), None);
        }
    }
}

impl Machine for Drill {
    type Input = Input;
    type Output = Output;

    fn step(
        &mut self,
        now: Now,
        inputs: &mut Vec<Input>,
        outputs: &mut Vec<Output>,
    ) -> Option<Instant> {
        self.zab.begin(now.instant);
        for input in inputs.drain(..) {
            self.take(input, outputs);
        }
        self.zab.tick();
        self.settle(outputs);
        self.give_states();
        self.reconfigure();
        self.propose(now.instant);
        self.settle(outputs);
        let wake = self.zab.next_wake();
        let leads = matches!(self.role, Role::Leading { .. }) && self.is_serving;
        let own = (leads && !*self.is_quiet.borrow()).then_some(self.propose_at);
        wake.into_iter().chain(own).min()
    }
}
