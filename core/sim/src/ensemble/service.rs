//! What clients of an ensemble may see, judged with the model.
//!
//! The [history](super::history) says which transactions are committed, in which order; the
//! [model](crate::model) says what each of them does; every answer carries the zxid that it shows
//! the state of, and must be what the model says at that zxid.

mod answers;
mod peers;
mod sessions;
mod txns;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::ensemble::service::sessions::Sessions;
use crate::marks::Marks;
use crate::model::{Outcome, Settings, State};
use crate::oracle::connection::{Connection, Pending, Stage};
use crate::oracle::{Rules, Versions};
use crate::violation::Violation;
use crate::wire::{ConnectRequest, Op, RawExpect};

/// What a write is answered by a server whose disk is nearly full.
const QUOTA_EXCEEDED: i32 = -125;

/// A client's connection.
#[derive(Clone, Debug)]
struct Line {
    connection: Connection,
    /// To which server.
    server: usize,
    /// The highest zxid that its client had seen when it connected: C3.
    seen: i64,
    /// What had been shown to anybody when each write was sent, and how many writes have a
    /// transaction: C1, C2.
    writes: VecDeque<(i32, i64)>,
    /// What had been shown to anybody when each sync was sent: C7.
    syncs: VecDeque<(i32, i64)>,
    /// What a sync that was answered promises.
    synced: i64,
}

/// Whether the flags of an operation in a multi mean nothing.
fn is_undecodable(op: &Op) -> bool {
    let is_odd = |op: &Op| matches!(op, Op::Create { flags, .. } if !(0..=6).contains(flags));
    matches!(op, Op::Multi(ops) if ops.iter().any(is_odd))
}

/// Whether a write may be refused by a server whose disk was nearly full until then. It need not
/// look at what it refuses.
fn has_no_room(pending: &Pending, low_until: Option<u64>) -> bool {
    let is_write = match &pending.op {
        Op::CloseSession => false,
        Op::Raw { expect, .. } => *expect == RawExpect::Marshalling,
        op => op.is_write(),
    };
    is_write && low_until.is_some_and(|until| pending.received <= until)
}

impl Line {
    /// What cannot be decoded a learner refuses without asking its leader: it has no transaction.
    /// Nor has what a server finds no room for.
    fn refuse_untold(&mut self, xid: i32, err: i32, zxid: i64, low_until: Option<u64>) {
        const MARSHALLING_ERROR: i32 = -5;
        let is_refused = |pending: &Pending| match err {
            MARSHALLING_ERROR => is_undecodable(&pending.op),
            QUOTA_EXCEEDED => has_no_room(pending, low_until),
            _ => false,
        };
        let first = self.connection.pending.front_mut();
        let refused = first.filter(|pending| pending.xid == xid && pending.prepared.is_none());
        if let Some(pending) = refused.filter(|pending| is_refused(pending)) {
            pending.prepared = Some((zxid, Outcome::error(err)));
            self.writes.retain(|(other, _)| *other != xid);
        }
    }
}

/// Judges what servers tell clients.
#[derive(Debug)]
pub struct Service {
    settings: Settings,
    timeout_ms: (i32, i32),
    /// The committed states.
    pub versions: Versions,
    /// How many of the committed transactions are in `versions`.
    applied: usize,
    lines: BTreeMap<u64, Line>,
    gone: BTreeMap<u64, Line>,
    /// What each server has shown since it started.
    shown: Vec<i64>,
    /// The same as of the end of its last turn.
    floors: Vec<i64>,
    /// What anybody was shown.
    shown_to_anybody: i64,
    /// Timeouts as granted, the least of each session.
    timeouts: BTreeMap<i64, i32>,
    /// The last transaction of each session.
    last_of_session: BTreeMap<i64, i64>,
    ended: BTreeSet<i64>,
    sessions: Sessions,
    /// Until when each server's disk was nearly full, of those where it ever was.
    low_until: BTreeMap<usize, u64>,
    /// What has happened.
    pub marks: Marks,
}

impl Service {
    /// Of servers that have not started.
    #[must_use]
    pub fn new(rules: Rules, servers: usize) -> Self {
        Self {
            settings: rules.settings,
            timeout_ms: rules.timeout_ms,
            versions: Versions::new(),
            applied: 0,
            lines: BTreeMap::new(),
            gone: BTreeMap::new(),
            shown: vec![0; servers],
            floors: vec![0; servers],
            shown_to_anybody: 0,
            timeouts: BTreeMap::new(),
            last_of_session: BTreeMap::new(),
            ended: BTreeSet::new(),
            sessions: Sessions::default(),
            low_until: BTreeMap::new(),
            marks: Marks::default(),
        }
    }

    /// The last committed state.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.versions.last().state
    }

    /// Notes a connection and the request to connect on it.
    pub fn opened(
        &mut self,
        link: u64,
        server: usize,
        request: ConnectRequest,
        address: &str,
        now: u64,
    ) {
        if request.session != 0 {
            // The leader hears of the timeout that is asked for before it is granted.
            let (least, greatest) = self.timeout_ms;
            let asked = request.timeout_ms.max(least).min(greatest);
            if let Some(timeout_ms) = self.timeouts.get_mut(&request.session) {
                *timeout_ms = asked.min(*timeout_ms);
            }
        }
        let seen = request.last_zxid_seen;
        let size = request.frame().len() as u64;
        let mut connection = Connection::new(Stage::Connecting(request), now, address);
        connection.sent = size;
        connection.connect_end = size;
        let line = Line {
            connection,
            server,
            seen,
            writes: VecDeque::new(),
            syncs: VecDeque::new(),
            synced: 0,
        };
        self.lines.insert(link, line);
    }

    /// Notes a request that a client sends.
    pub fn requests(&mut self, link: u64, xid: i32, op: Op, bytes: usize) {
        let floor = self.shown_to_anybody;
        if let Some(line) = self.lines.get_mut(&link) {
            if op.is_write() {
                line.writes.push_back((xid, floor));
            }
            if matches!(op, Op::Sync { .. }) {
                line.syncs.push_back((xid, floor));
            }
            line.connection.send(xid, op, bytes);
        }
    }

    /// Notes that a server is given bytes of a connection.
    pub fn received(&mut self, link: u64, bytes: usize, now: u64) {
        let Some(line) = self.lines.get_mut(&link) else {
            return;
        };
        let connection = &mut line.connection;
        connection.delivered += bytes as u64;
        let delivered = connection.delivered;
        let arrived = connection.pending.iter_mut();
        for pending in arrived.filter(|pending| pending.end <= delivered) {
            pending.received = pending.received.max(now);
        }
    }

    /// Whether every request that a server was given on this connection is answered.
    #[must_use]
    pub fn is_quiet(&self, link: u64) -> bool {
        let line = self.lines.get(&link);
        line.is_none_or(|line| line.connection.pending.is_empty())
    }

    /// The first request on this connection that is not answered.
    #[must_use]
    pub fn waiting(&self, link: u64) -> Option<&Op> {
        let line = self.lines.get(&link)?;
        line.connection.pending.front().map(|pending| &pending.op)
    }

    /// Notes whether a server has heard that its disk is nearly full.
    pub fn disk_room(&mut self, server: usize, is_low: bool, now: u64) {
        if is_low {
            self.low_until.insert(server, u64::MAX);
        } else if let Some(until) = self.low_until.get_mut(&server) {
            *until = now.min(*until);
        }
    }

    /// Notes that a connection is gone: what was sent on it may still be done.
    pub fn closed(&mut self, link: u64) {
        if let Some(line) = self.lines.remove(&link)
            && !line.writes.is_empty()
        {
            self.gone.insert(link, line);
        }
    }

    /// Notes that a server is not what it was: it shows from now on what it shows.
    pub fn died(&mut self, server: usize) {
        for shown in [&mut self.shown, &mut self.floors] {
            if let Some(shown) = shown.get_mut(server) {
                *shown = 0;
            }
        }
        self.sessions.begins_anew(server);
        let of_server = |(link, line): (&u64, &Line)| (line.server == server).then_some(*link);
        let links: Vec<u64> = self.lines.iter().filter_map(of_server).collect();
        for link in links {
            self.closed(link);
        }
    }

    /// The transaction whose state this zxid names.
    fn resolved(&self, zxid: i64) -> i64 {
        self.versions
            .at(zxid)
            .map_or(zxid, |version| version.state.zxid)
    }

    fn last_of(&self, session: i64) -> i64 {
        self.last_of_session.get(&session).copied().unwrap_or(0)
    }

    /// Checks what must hold after every turn of a server.
    ///
    /// # Errors
    /// A client was not told what others were shown.
    pub fn turn_ended(&mut self, server: usize) -> Result<(), Violation> {
        let shown = self.shown.get(server).copied().unwrap_or(0);
        if let Some(floor) = self.floors.get_mut(server) {
            *floor = shown;
        }
        self.sessions.turn_ended(server);
        let lines = self.lines.iter_mut();
        for (link, line) in lines.filter(|(_, line)| line.server == server) {
            if matches!(line.connection.stage, Stage::Open(_)) {
                line.connection
                    .hear_up_to(shown, &self.versions, &mut self.marks)
                    .map_err(|violation| Violation {
                        detail: format!("link {link}: {}", violation.detail),
                        ..violation
                    })?;
            }
        }
        Ok(())
    }
}
