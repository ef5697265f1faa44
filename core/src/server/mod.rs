//! The server machine: connections, sessions and the request pipeline over the tree.
//!
//! A write passes nine stops (ARCHITECTURE.md): `conn.rs` cuts its frame, `pipeline.rs` keeps its
//! session's order, `prep.rs` makes it a transaction, the driver's store makes that durable,
//! `commit.rs` applies it and answers. Standalone, a transaction is committed when it is stored.
//!
//! Start reading at [`Server`].

#[cfg(test)]
mod alone;
mod auth;
mod commit;
pub mod config;
mod conn;
pub mod ensemble;
mod four_letter;
mod handshake;
pub mod io;
mod overlay;
mod pace;
mod pipeline;
mod prep;
mod read;
mod session;
mod snapshots;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids::{Instant, LinkId, Seq, SessionId, Zxid};
use crate::link::{LinkInput, LinkOutput, Port};
use crate::machine::{Machine, Now};
use crate::secret::Nonces;
use crate::sorted;
use crate::tree::watch::Watches;
use crate::tree::{Loader, Tree};

pub use auth::digest_id;
pub use config::Config;
pub use ensemble::EnsembleConfig;
pub use four_letter::{civil_date, days_since_1970, set_trace_mask};
pub use io::{DiskRoom, Event, HostFacts, Input, Output, Question, SnapshotOp, StoreOp, Summary};

use auth::certified;
use config::SessionPasswords;
use conn::{Conn, Stage};
use ensemble::Ensemble;
use four_letter::Latencies;
use overlay::Overlay;
use session::Tracker;

/// Bytes for one connection that is not read above which its requests wait.
const OUT_BYTES_HIGH: usize = 1 << 20;
/// Bytes that cannot wait, for one connection that is not read, above which it is closed.
const OUT_BYTES_HARD: usize = 16 << 20;
/// Requests of one connection in flight above which it is not read.
const PENDING_MAX: usize = 4096;
/// Reads of one connection that wait for its writes, likewise: their answers may have to be held in
/// memory at once.
const WAITING_MAX: usize = 32;
/// Bytes of a read that waits, or of the data it asks for, from which on nothing behind it is
/// looked at: such answers are given one by one, as their client takes them.
const LONG_BYTES: usize = 64 << 10;
/// Bytes of the identities of one connection: some hundred of the usual length.
///
/// Anybody can claim any number, each is kept, and an ACL is compared with all of them.
const IDENTITY_BYTES_MAX: usize = 8192;
/// Bytes of transactions that the store has not confirmed above which connections with requests in
/// flight wait; several times what a disk takes between two syncs.
const PROPOSED_BYTES_HIGH: usize = 64 << 20;
/// Bytes of them above which every connection waits: whoever comes and goes has no requests in
/// flight.
const PROPOSED_BYTES_HARD: usize = 256 << 20;
/// The longest answer to a multi of reads, in longest frames that a client may send. ZooKeeper
/// knows no limit, but its clients by default take none longer than one.
const MULTI_READ_FRAMES_MAX: usize = 4;
/// The longest first frame: a request for a session is 45 bytes.
const HANDSHAKE_BYTES_MAX: u32 = 4096;

/// What the store found, besides the tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovered {
    /// Whether a snapshot was there. Without one the server writes the first before it serves: a
    /// log without snapshot is no data directory to ZooKeeper.
    pub snapshot: bool,
    /// Transactions replayed from the log.
    pub txns: u64,
    /// Bytes of log since the snapshot.
    pub log_bytes: u64,
}

/// A server, alone or of an ensemble.
pub struct Server {
    core: Core,
    conns: BTreeMap<LinkId, Conn>,
    by_session: BTreeMap<SessionId, LinkId>,
    by_address: BTreeMap<IpAddr, u32>,
    /// Connections that still have to finish their handshake, in the order they came.
    unproven: VecDeque<(Instant, LinkId)>,
    /// Connections whose requests may go on though nothing arrived on them.
    ready: BTreeSet<LinkId>,
    /// Connections that wait for others' requests to be answered.
    throttled: BTreeSet<LinkId>,
    /// Connections with something in `out`.
    dirty: Vec<LinkId>,
}

/// Everything but the connections, so that one of those can be at hand beside it.
struct Core {
    config: Config,
    /// `None`: it stands alone, and what is stored is committed.
    ensemble: Option<Box<Ensemble>>,
    tree: Tree,
    watches: Watches,
    overlay: Overlay,
    tracker: Tracker,
    proposals: VecDeque<Proposal>,
    /// Bytes of their transactions.
    proposed_bytes: usize,
    /// The last transaction proposed.
    proposed: Zxid,
    seq: Seq,
    stored: Seq,
    next_session: SessionId,
    /// Requests accepted and not answered.
    outstanding: usize,
    /// Waiting requests that anybody's commit may release.
    syncs: BTreeSet<(Zxid, LinkId)>,
    snapshots: snapshots::Schedule,
    reaper: Reaper,
    now: Now,
    started: Instant,
    serving: bool,
    stats: Stats,
    events: Vec<Event>,
    outputs: Vec<Output>,
    /// Whether the digests of transactions must be those of the tree: not while a state is being
    /// completed that a leader went on changing while it sent it.
    digests_settled: bool,
    /// Local sessions whose clients have closed them in this step.
    locals_closed: Vec<SessionId>,
    /// Of whom each session is whose client has shown who it is: see `Core::may_act`.
    pins: BTreeMap<SessionId, u32>,
    /// The sessions that have ZooKeeper's passwords: see [`config::SessionPasswords`].
    old_passwords: BTreeSet<SessionId>,
    nonces: Nonces,
    /// What the host says of the disk.
    disk: DiskRoom,
    /// The recent digests, for the word `hash`.
    digests: VecDeque<(Zxid, u64)>,
}

/// A transaction that the store was given.
struct Proposal {
    zxid: Zxid,
    seq: Seq,
    /// Not kept in an ensemble, which gives it back.
    txn: Bytes,
    /// Its length.
    bytes: usize,
    /// The connection that waits for it.
    link: Option<LinkId>,
}

/// What deletes containers and TTL znodes.
#[derive(Default)]
struct Reaper {
    next_scan: Instant,
    next_delete: Instant,
    queue: VecDeque<String>,
}

/// What four-letter words tell about the server as a whole.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stats {
    received: u64,
    sent: u64,
    latency_ms: Summary,
    read_ms: Latencies,
    write_ms: Latencies,
    response_bytes: u64,
    response_bytes_last: Option<usize>,
    response_bytes_min: usize,
    response_bytes_max: usize,
    bytes_received: u64,
    watch_bytes: u64,
    watchers_created: Summary,
    watchers_deleted: Summary,
    watchers_changed: Summary,
    watchers_children: Summary,
    snapshot_ms: Summary,
    startup_txns: Summary,
    sessions_asked: u64,
    refused_not_serving: u64,
    connections_refused: u64,
    connections_dropped: u64,
    sessions_expired: u64,
    sessionless_expired: u64,
    revalidated: u64,
    proposals: u64,
    commits: u64,
    auth_failed: u64,
    snapshots_failed: u64,
    digest_mismatches: u64,
    /// Of the transactions that this leader has proposed.
    proposal_bytes: Sizes,
    /// How often a leader was looked for, and how long that took.
    looking: u64,
    election_ms: Summary,
    trace_mask: Option<i64>,
}

/// Sizes of what comes one by one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sizes {
    last: Option<usize>,
    min: usize,
    max: usize,
}

impl Sizes {
    fn record(&mut self, bytes: usize) {
        self.min = match self.last {
            Some(_) => self.min.min(bytes),
            None => bytes,
        };
        self.max = self.max.max(bytes);
        self.last = Some(bytes);
    }
}

impl Server {
    /// A server over what was recovered. `entropy` must be another in every life of a server:
    /// session ids begin with it.
    #[must_use]
    pub fn new(
        config: Config,
        loader: Loader,
        recovered: Recovered,
        entropy: u64,
        now: Now,
    ) -> Self {
        let (tree, mismatches, orphans) = loader.finish();
        let parts = (tree, mismatches, orphans);
        Self::with_tree(config, parts, recovered, entropy, now)
    }

    fn with_tree(
        config: Config,
        (tree, mismatches, orphans): (Tree, Vec<Zxid>, Vec<String>),
        recovered: Recovered,
        entropy: u64,
        now: Now,
    ) -> Self {
        // That orphans are gone stands in no log: without a snapshot, the next start would delete
        // what has their names by then. Source: `ZooKeeperServer.loadData` writes one too.
        let snapshot = recovered.snapshot && orphans.is_empty();
        let recovered = Recovered {
            snapshot,
            ..recovered
        };
        let mut events: Vec<Event> = Vec::new();
        events.extend(
            mismatches
                .iter()
                .map(|&zxid| Event::DigestMismatch { zxid }),
        );
        events.extend(
            orphans
                .into_iter()
                .map(|path| Event::OrphanDeleted { path }),
        );
        let mut tracker = Tracker::new(config.tick_ms);
        for (session, timeout) in tree.sessions() {
            tracker.add(session, u32::try_from(timeout).unwrap_or(0), now.instant);
        }
        let overlay = Overlay::new(&tree, config.tree_digest, entropy);
        let snapshots = snapshots::Schedule::new(&config, &recovered, entropy);
        let scan = now.instant.plus_ms(u64::from(config.container_check_ms));
        let mut stats = Stats {
            digest_mismatches: mismatches.len() as u64,
            ..Stats::default()
        };
        if recovered.snapshot {
            stats.startup_txns.record(recovered.txns);
        }
        let has_old = config.auth.session_passwords == SessionPasswords::OfSecretFromNow;
        let old_passwords = tree
            .sessions()
            .filter(|_| has_old)
            .map(|(session, _)| session);
        let old_passwords = sorted::set(old_passwords);
        let core = Core {
            pins: BTreeMap::new(),
            old_passwords,
            // Others than those between servers.
            nonces: Nonces::new(config.auth.nonce_seed.clone(), entropy.rotate_left(32)),
            next_session: session::first_id(config.server_id, entropy),
            proposed: tree.last_zxid(),
            serving: recovered.snapshot,
            ensemble: None,
            config,
            tree,
            watches: Watches::with_seed(entropy),
            overlay,
            tracker,
            proposals: VecDeque::new(),
            proposed_bytes: 0,
            seq: Seq(0),
            stored: Seq(0),
            outstanding: 0,
            syncs: BTreeSet::new(),
            snapshots,
            reaper: Reaper {
                next_scan: scan,
                ..Reaper::default()
            },
            now,
            started: now.instant,
            stats,
            events,
            outputs: Vec::new(),
            digests_settled: true,
            locals_closed: Vec::new(),
            disk: DiskRoom::default(),
            digests: VecDeque::new(),
        };
        Self {
            core,
            conns: BTreeMap::new(),
            by_session: BTreeMap::new(),
            by_address: BTreeMap::new(),
            unproven: VecDeque::new(),
            ready: BTreeSet::new(),
            throttled: BTreeSet::new(),
            dirty: Vec::new(),
        }
    }

    /// The replicated state, for whoever checks it.
    #[must_use]
    pub const fn tree(&self) -> &Tree {
        &self.core.tree
    }

    /// Connections that are open, for whoever checks that none is forgotten.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.conns.len()
    }

    fn input(&mut self, input: Input) {
        match input {
            Input::Link(link, input) if self.is_peers(link, &input) => {
                if let Some(ensemble) = self.core.ensemble_mut() {
                    ensemble.zab.link(link, input);
                }
                self.perform();
            }
            Input::Link(link, LinkInput::Opened { port: _, peer }) => self.opened(link, peer),
            Input::Link(link, LinkInput::Received(bytes)) => self.received(link, bytes),
            Input::Link(link, LinkInput::Flushed(bytes)) => self.flushed(link, bytes),
            Input::Link(link, LinkInput::Secured { principal }) => {
                if let (Some(conn), Some(name)) = (self.conns.get_mut(&link), principal) {
                    conn.ids.extend(certified(&self.core.config, name));
                }
            }
            Input::Link(link, LinkInput::Closed) => {
                self.core.stats.connections_dropped += 1;
                self.drop_link(link);
            }
            Input::Stored { upto } => {
                self.core.stored = self.core.stored.max(upto);
                match self.core.ensemble_mut() {
                    Some(ensemble) => ensemble.zab.stored(upto),
                    None => self.commit(),
                }
                self.perform();
            }
            Input::SnapshotWritten(bytes) => self.core.snapshots.written(bytes),
            Input::SnapshotStored { zxid } => {
                self.core.events.push(Event::SnapshotDone { zxid });
                if self.core.snapshots.was_overtaken() {
                    return;
                }
                self.core.snapshot_done();
                self.core.installed(zxid);
                self.perform();
            }
            Input::SnapshotFailed { zxid } => {
                self.core.events.push(Event::SnapshotFailed { zxid });
                if self.core.snapshots.was_overtaken() {
                    return;
                }
                self.core.snapshot_failed();
                self.core.install_failed(zxid);
            }
            Input::Facts(link, facts) => self.facts(link, &facts),
            Input::Disk(room) => self.core.disk = room,
            Input::Ask(question, word, facts) => self.ask(question, &word, &facts),
        }
    }

    /// Whether a connection is another server's.
    fn is_peers(&self, link: LinkId, input: &LinkInput) -> bool {
        let Some(ensemble) = self.core.ensemble.as_deref() else {
            return false;
        };
        match input {
            LinkInput::Opened { port, .. } => *port != Port::Client,
            LinkInput::Closed
            | LinkInput::Flushed(_)
            | LinkInput::Received(_)
            | LinkInput::Secured { .. } => ensemble.zab.owns(link),
        }
    }

    fn received(&mut self, link: LinkId, bytes: Bytes) {
        let Some(conn) = self.conns.get_mut(&link) else {
            return;
        };
        if conn.stage == Stage::Closing {
            return;
        }
        self.core.stats.bytes_received += bytes.len() as u64;
        // Its client is alive, even if its requests must wait.
        self.core.touch(conn);
        conn.receive(bytes);
        self.proceed(link);
    }

    fn flushed(&mut self, link: LinkId, bytes: usize) {
        let Some(conn) = self.conns.get_mut(&link) else {
            return;
        };
        conn.unflushed = conn.unflushed.saturating_sub(bytes);
        if conn.paused || conn.has_input() || !conn.pending.is_empty() {
            self.ready.insert(link);
        }
    }

    /// A connection is gone; its session stays until it expires.
    fn drop_link(&mut self, link: LinkId) {
        let Some(conn) = self.conns.remove(&link) else {
            return;
        };
        let count = self.by_address.get_mut(&conn.peer.ip());
        if let Some(count) = count {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&conn.peer.ip());
            }
        }
        if self.by_session.get(&conn.session) == Some(&link) {
            self.by_session.remove(&conn.session);
        }
        self.core.watches.drop_link(link);
        self.core.outstanding -= conn.pending.len();
        self.ready.remove(&link);
        self.throttled.remove(&link);
    }

    /// Closes a connection once what it still has to be told is sent.
    fn close(&mut self, link: LinkId) {
        let Some(conn) = self.conns.get_mut(&link) else {
            return;
        };
        let out = core::mem::take(&mut conn.out);
        if !out.is_empty() {
            self.core
                .outputs
                .push(Output::Link(link, LinkOutput::Send(Bytes::from(out))));
        }
        self.core
            .outputs
            .push(Output::Link(link, LinkOutput::Close));
        self.drop_link(link);
    }

    /// Closes a connection for a fault of its peer.
    fn refuse(&mut self, link: LinkId, reason: String) {
        if let Some(conn) = self.conns.get(&link) {
            self.core.events.push(Event::LinkRefused {
                peer: conn.peer,
                reason,
            });
        }
        self.core.stats.connections_dropped += 1;
        self.close(link);
    }

    /// Whether a session's connection is not read because its requests are not answered yet: what
    /// its client sent to stay alive is then not seen, for no fault of the client's.
    fn waits_for_us(&self, session: SessionId) -> bool {
        let conn = self
            .by_session
            .get(&session)
            .and_then(|link| self.conns.get(link));
        conn.is_some_and(|conn| {
            conn.paused && !conn.pending.is_empty() && conn.held_out() < OUT_BYTES_HIGH
        })
    }

    fn timers(&mut self) {
        let now = self.core.now.instant;
        if let Some(ensemble) = self.core.ensemble_mut() {
            ensemble.zab.tick();
            self.perform();
        }
        for session in self.core.tracker.expired(now) {
            if self.waits_for_us(session) {
                self.core.tracker.renew(session, now);
                continue;
            }
            self.core.events.push(Event::SessionExpired { session });
            self.core.stats.sessions_expired += 1;
            self.core.close_session(session, None, crate::ids::Xid(0));
        }
        while let Some(&(deadline, link)) = self.unproven.front()
            && deadline <= now
        {
            self.unproven.pop_front();
            let silent = self.conns.get(&link);
            if silent.is_some_and(|conn| conn.stage == Stage::Handshake) {
                self.core.stats.sessionless_expired += 1;
                self.refuse(link, "no session was asked for in time".into());
            }
        }
        self.core.resign_if_full();
        if self.core.reaps() {
            self.core.reap();
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        let handshake = self.unproven.front().map(|&(deadline, _)| deadline);
        let core = self.core.next_wake();
        let now = (!self.ready.is_empty()).then_some(self.core.now.instant);
        let slice = self.core.next_state_slice();
        let ensemble = self.core.ensemble.as_deref();
        let zab = ensemble.and_then(Ensemble::next_wake);
        [
            self.core.tracker.next_expiry(),
            handshake,
            core,
            now,
            slice,
            zab,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Hands the driver what this step wrote.
    fn flush(&mut self, outputs: &mut Vec<Output>) {
        for link in core::mem::take(&mut self.dirty) {
            let Some(conn) = self.conns.get_mut(&link) else {
                continue;
            };
            let out = core::mem::take(&mut conn.out);
            if !out.is_empty() {
                conn.unflushed += out.len();
                outputs.push(Output::Link(link, LinkOutput::Send(Bytes::from(out))));
            }
        }
    }
}

impl Machine for Server {
    type Input = Input;
    type Output = Output;

    fn step(
        &mut self,
        now: Now,
        inputs: &mut Vec<Input>,
        outputs: &mut Vec<Output>,
    ) -> Option<Instant> {
        self.core.now = now;
        if let Some(ensemble) = self.core.ensemble_mut() {
            ensemble.zab.begin(now.instant);
        }
        for input in inputs.drain(..) {
            self.input(input);
        }
        self.timers();
        self.release();
        self.core.snapshot_slices();
        self.core.state_slices();
        self.perform();
        self.flush(outputs);
        outputs.append(&mut self.core.outputs);
        outputs.extend(self.core.events.drain(..).map(Output::Event));
        self.next_wake()
    }
}
