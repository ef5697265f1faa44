//! What clients of an ensemble may see, judged with the model.
//!
//! The [history](super::history) says which transactions are committed, in which order; the
//! [model](crate::model) says what each of them does; every answer carries the zxid that it shows
//! the state of, and must be what the model says at that zxid.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use crate::ensemble::history::History;
use crate::ensemble::members::RECONFIG;
use crate::ensemble::plan::letter;
use crate::marks::Marks;
use crate::model::{Caller, Outcome, Settings, State, Trigger, write};
use crate::oracle::connection::{Connection, Pending, Stage};
use crate::oracle::session::password;
use crate::oracle::txn::{CLOSE_SESSION, CREATE_SESSION, Header};
use crate::oracle::{Rules, Version, Versions, next_frame};
use crate::violation::{Violation, ensure};
use crate::wire::{Body, ConnectRequest, ConnectResponse, Op, Reader};

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
    /// Whether its session was asked for on another connection later.
    is_moved: bool,
}

/// Whether the flags of an operation in a multi mean nothing.
fn is_undecodable(op: &Op) -> bool {
    let is_odd = |op: &Op| matches!(op, Op::Create { flags, .. } if !(0..=6).contains(flags));
    matches!(op, Op::Multi(ops) if ops.iter().any(is_odd))
}

impl Line {
    /// What cannot be decoded a learner refuses without asking its leader: it has no transaction.
    fn refuse_undecodable(&mut self, xid: i32, err: i32, zxid: i64) {
        const MARSHALLING_ERROR: i32 = -5;
        if err != MARSHALLING_ERROR {
            return;
        }
        let first = self.connection.pending.front_mut();
        let refused = first.filter(|pending| pending.xid == xid && pending.prepared.is_none());
        if let Some(pending) = refused.filter(|pending| is_undecodable(&pending.op)) {
            pending.prepared = Some((zxid, Outcome::error(err)));
            self.writes.retain(|(other, _)| *other != xid);
        }
    }
}

/// What a change of the membership, or its refusal, makes of the state. Whether a quorum was there,
/// and which version, only its leader knew.
fn reconfigured(
    state: &State,
    header: &Header<'_>,
    stamp: write::Stamp,
    settings: &Settings,
) -> Result<(State, Vec<Trigger>, Outcome), Violation> {
    const REFUSALS: &[i32] = &[-8, -13, -14, -103, -112, -118];
    let found = header
        .refusal()
        .map_err(|error| Violation::new("txn", error))?;
    if let Some((_, err)) = found {
        ensure(
            REFUSALS.contains(&err),
            "a reconfig is refused for a reason",
            || format!("{header:?} refuses with {err}"),
        )?;
        let mut state = state.clone();
        state.zxid = stamp.zxid;
        return Ok((state, Vec::new(), Outcome::error(err)));
    }
    ensure(header.kind == RECONFIG, "a reconfig is one", || {
        format!("{header:?}")
    })?;
    let mut input = Reader(header.body);
    let wrong = |error| Violation::new("txn", error);
    let path = input.path().map_err(wrong)?;
    let data = input.buffer().map_err(wrong)?.unwrap_or_default();
    let text = String::from_utf8(data).map_err(|error| wrong(error.to_string()))?;
    let op = Op::SetData {
        path,
        data: Some(text.as_bytes().into()),
        version: -1,
    };
    let caller = Caller {
        session: header.session,
        identities: Rc::from([("super".to_owned(), String::new())]),
    };
    let applied = state.write(&op, &caller, stamp, settings, state);
    let outcome = Outcome {
        err: 0,
        body: Body::Path(text, None),
    };
    Ok((applied.state, applied.triggers, outcome))
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
    /// Sessions that were asked for on more than their first connection.
    resumed: BTreeSet<i64>,
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
            resumed: BTreeSet::new(),
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
        let mut is_moved = false;
        if request.session != 0 {
            for line in self.lines.values_mut().chain(self.gone.values_mut()) {
                line.is_moved |= line.connection.session() == request.session;
            }
            // The leader may hear of two connections in the wrong order, and of the timeout that is
            // asked for before it is granted.
            is_moved = !self.resumed.insert(request.session);
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
            is_moved,
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
        let of_server = |(link, line): (&u64, &Line)| (line.server == server).then_some(*link);
        let links: Vec<u64> = self.lines.iter().filter_map(of_server).collect();
        for link in links {
            self.closed(link);
        }
    }

    /// Takes bytes that a server sends to a client.
    ///
    /// # Errors
    /// They are not what the model says.
    pub fn sends(
        &mut self,
        history: &mut History,
        link: u64,
        bytes: &[u8],
    ) -> Result<(), Violation> {
        self.catch_up(history)?;
        let Some(mut line) = self.lines.remove(&link) else {
            return Ok(());
        };
        line.connection.partial.extend_from_slice(bytes);
        let mut result = Ok(());
        while result.is_ok() {
            let Some(frame) = next_frame(&mut line.connection.partial) else {
                break;
            };
            result = self.frame(history, link, &mut line, &frame);
        }
        self.lines.insert(link, line);
        result.map_err(|violation| Violation {
            detail: format!("link {link}: {}", violation.detail),
            ..violation
        })
    }

    fn frame(
        &mut self,
        history: &mut History,
        link: u64,
        line: &mut Line,
        frame: &[u8],
    ) -> Result<(), Violation> {
        if matches!(line.connection.stage, Stage::Connecting(_)) {
            return self.connected(history, line, frame);
        }
        let header = Reader(frame)
            .reply_header()
            .map_err(|error| Violation::new("wire", error))?;
        if header.zxid > 0 {
            history.shows(line.server, header.zxid)?;
            if !history.committed_after(self.applied).is_empty() {
                // What is committed by this prepares the answer, on a line that is taken out.
                self.lines.insert(link, line.clone());
                let caught_up = self.catch_up(history);
                if let Some(prepared) = self.lines.remove(&link) {
                    *line = prepared;
                }
                caught_up?;
            }
        }
        self.versions.floor = self.floors.get(line.server).copied().unwrap_or(0);
        self.versions.stored = history.visible();
        line.refuse_undecodable(header.xid, header.err, header.zxid);
        line.connection
            .frame(frame, &self.versions, &mut self.marks)?;
        if header.zxid <= 0 {
            return Ok(());
        }
        let found = self.versions.at(header.zxid)?.state.zxid;
        let is_event = header.xid == -1;
        ensure(
            is_event || found >= self.resolved(line.seen),
            "C3 a client sees no past",
            || {
                let (server, seen) = (letter(line.server), line.seen);
                format!("{server} shows {found:#x} to one who had seen {seen:#x}")
            },
        )?;
        ensure(
            is_event || found >= self.resolved(line.synced),
            "C7 a read after sync",
            || {
                let (server, synced) = (letter(line.server), line.synced);
                format!("{server} shows {found:#x} after a sync that began at {synced:#x}")
            },
        )?;
        let is_synced = line
            .syncs
            .front()
            .is_some_and(|(xid, _)| *xid == header.xid);
        let synced = if is_synced {
            line.syncs.pop_front()
        } else {
            None
        };
        if let Some((_, floor)) = synced.filter(|_| header.err == 0) {
            self.marks.hit("synced");
            line.synced = line.synced.max(floor);
            ensure(found >= self.resolved(floor), "C7 a sync", || {
                let server = letter(line.server);
                format!("{server} answers a sync of {floor:#x} at {found:#x}")
            })?;
        }
        self.shown_to_anybody = self.shown_to_anybody.max(header.zxid);
        if let Some(shown) = self.shown.get_mut(line.server) {
            *shown = (*shown).max(header.zxid);
        }
        Ok(())
    }

    /// The transaction whose state this zxid names.
    fn resolved(&self, zxid: i64) -> i64 {
        self.versions
            .at(zxid)
            .map_or(zxid, |version| version.state.zxid)
    }

    fn connected(
        &mut self,
        history: &mut History,
        line: &mut Line,
        frame: &[u8],
    ) -> Result<(), Violation> {
        let Stage::Connecting(request) = line.connection.stage.clone() else {
            return Ok(());
        };
        let response =
            ConnectResponse::decode(frame).map_err(|error| Violation::new("wire", error))?;
        let describe = || format!("{request:x?} is answered {response:x?}");
        ensure(
            response.read_only == request.read_only.map(|_| false),
            "handshake mirrors the byte for read-only",
            describe,
        )?;
        if response.session == 0 {
            self.marks.hit("session_refused");
            line.connection.must_close = false;
            line.connection.may_close = Some("its session was refused");
            return Ok(());
        }
        ensure(
            response.password == password(response.session),
            "a session's password",
            describe,
        )?;
        if request.session == 0 {
            self.announced(history, line.server, response.session)?;
        } else {
            ensure(
                response.session == request.session && response.password == request.password,
                "a session keeps id and password",
                describe,
            )?;
            let shown = self.shown.get(line.server).copied().unwrap_or(0);
            let state = &self.versions.at(shown)?.state;
            let is_over = self.ended.contains(&response.session)
                && !state.sessions.contains_key(&response.session)
                && shown > 0;
            let was_there = self.timeouts.contains_key(&response.session);
            ensure(
                was_there && (!is_over || shown < self.last_of(response.session)),
                "C14 only a session that lives is resumed",
                describe,
            )?;
            self.marks.hit("session_resumed");
        }
        let (least, greatest) = self.timeout_ms;
        let expected = request.timeout_ms.max(least).min(greatest);
        ensure(
            response.timeout_ms == expected,
            "the negotiated timeout",
            || format!("expected {expected} ms, found {response:x?}"),
        )?;
        let granted = self
            .timeouts
            .entry(response.session)
            .or_insert(response.timeout_ms);
        *granted = response.timeout_ms.min(*granted);
        line.connection.stage = Stage::Open(response.session);
        // Others may have been shown more in this very turn, after this one was let in.
        let floor = self.floors.get(line.server).copied().unwrap_or(0);
        line.connection.heard = self.resolved(floor);
        for pending in &mut line.connection.pending {
            pending.caller.session = response.session;
        }
        Ok(())
    }

    fn last_of(&self, session: i64) -> i64 {
        self.last_of_session.get(&session).copied().unwrap_or(0)
    }

    /// A session that is announced is committed.
    fn announced(
        &mut self,
        history: &mut History,
        server: usize,
        session: i64,
    ) -> Result<(), Violation> {
        let is_creation = |payload: &[u8]| {
            let header = Header::decode(payload);
            header.is_ok_and(|it| it.kind == CREATE_SESSION && it.session == session)
        };
        if !self.last_of_session.contains_key(&session) {
            let found = history
                .uncommitted(server)
                .find(|(_, txn)| is_creation(&txn.payload))
                .map(|(zxid, _)| zxid);
            if let Some(zxid) = found {
                history.commit(zxid, server)?;
                self.catch_up(history)?;
            }
        }
        ensure(
            self.last_of_session.contains_key(&session),
            "C20 a session is announced once committed",
            || format!("{} announces {session:#x}", letter(server)),
        )
    }

    /// Works out what has been committed.
    ///
    /// # Errors
    /// A transaction is not what its request makes of the state before.
    pub fn catch_up(&mut self, history: &History) -> Result<(), Violation> {
        for zxid in history.committed_after(self.applied) {
            if let Some(txn) = history.txn(*zxid) {
                self.applies(history, *zxid, &Rc::clone(&txn.payload))?;
            }
            self.applied += 1;
        }
        Ok(())
    }

    fn applies(
        &mut self,
        history: &History,
        zxid: i64,
        payload: &Rc<[u8]>,
    ) -> Result<(), Violation> {
        let header = Header::decode(payload).map_err(|error| Violation::new("txn", error))?;
        ensure(header.zxid == zxid, "txn", || {
            format!("{header:?} at {zxid:#x}")
        })?;
        let stamp = write::Stamp {
            zxid,
            time: header.time,
        };
        let is_end = header.kind == CLOSE_SESSION;
        let (state, triggers) = match header.kind {
            CREATE_SESSION => (self.open_session(&header)?, Vec::new()),
            _ if header.session == 0 => self.reap(&header, stamp)?,
            CLOSE_SESSION if header.xid == 0 => self.expire(history, &header, stamp)?,
            _ => self.write(&header, stamp)?,
        };
        self.last_of_session.insert(header.session, zxid);
        if is_end {
            self.ended.insert(header.session);
        }
        self.versions.push(Version {
            state,
            triggers,
            is_unordered: is_end,
            payload: Rc::clone(payload),
        });
        Ok(())
    }

    fn open_session(&mut self, header: &Header<'_>) -> Result<State, Violation> {
        let timeout_ms = Reader(header.body)
            .int()
            .map_err(|error| Violation::new("txn", error))?;
        ensure(
            !self.last_of_session.contains_key(&header.session),
            "a session id is used once",
            || format!("{:#x} is given again", header.session),
        )?;
        self.timeouts.insert(header.session, timeout_ms);
        Ok(self
            .state()
            .open_session(header.session, timeout_ms, header.zxid))
    }

    fn expire(
        &mut self,
        history: &History,
        header: &Header<'_>,
        stamp: write::Stamp,
    ) -> Result<(State, Vec<Trigger>), Violation> {
        let state = self.state();
        ensure(
            state.sessions.contains_key(&header.session),
            "C14 a session ends once",
            || format!("{:#x} is closed and is not there", header.session),
        )?;
        // The leader that ends a session gave it a whole timeout since it last proposed something
        // of it.
        let previous = history.txn(self.last_of(header.session));
        if let (Some(end), Some(previous)) = (history.txn(header.zxid), previous)
            && end.proposer == previous.proposer
        {
            let timeout_ms = self.timeouts.get(&header.session).copied().unwrap_or(0);
            let silent_us = end.proposed_at - previous.proposed_at;
            // Clocks run at most a twentieth too fast.
            let least_us = u64::try_from(timeout_ms).unwrap_or(0) * 930;
            ensure(
                silent_us >= least_us,
                "C14 no session expires early",
                || {
                    let session = header.session;
                    format!("{session:#x} of {timeout_ms} ms expires after {silent_us} us")
                },
            )?;
        }
        self.marks.hit("session_expired");
        let caller = Caller {
            session: header.session,
            identities: Rc::from([]),
        };
        let state = &self.versions.last().state;
        let applied = state.write(&Op::CloseSession, &caller, stamp, &self.settings, state);
        if state.ephemerals(header.session).is_empty() {
            return Ok((applied.state, applied.triggers));
        }
        self.marks.hit("ephemeral_deleted_by_expiry");
        Ok((applied.state, applied.triggers))
    }

    fn reap(
        &mut self,
        header: &Header<'_>,
        stamp: write::Stamp,
    ) -> Result<(State, Vec<Trigger>), Violation> {
        let state = self.state();
        if header.kind == -1 {
            let mut state = state.clone();
            state.zxid = stamp.zxid;
            return Ok((state, Vec::new()));
        }
        let path = Reader(header.body)
            .path()
            .map_err(|error| Violation::new("txn", error))?;
        // Whose clock it was judged by, and when, only the leader knows; and clocks jump.
        let late = write::Stamp {
            time: i64::MAX / 2,
            ..stamp
        };
        let applied = state
            .reap(&path, late, &self.settings)
            .map_err(|error| Violation::new("what is reaped may be reaped", error))?;
        self.marks.hit("reaped");
        Ok((applied.state, applied.triggers))
    }

    /// Finds the request that a transaction is of, and works it out.
    fn write(
        &mut self,
        header: &Header<'_>,
        stamp: write::Stamp,
    ) -> Result<(State, Vec<Trigger>), Violation> {
        let state = &self.versions.last().state;
        let lines = self.lines.values_mut().chain(self.gone.values_mut());
        let mut of_session = lines.filter(|line| line.connection.session() == header.session);
        let line = of_session.find(|line| line.writes.iter().any(|(xid, _)| *xid == header.xid));
        let Some(line) = line else {
            return Err(Violation::new(
                "C2 a transaction is of a request, once",
                format!("{header:?} is of none that is open"),
            ));
        };
        // What a learner has refused is answered in its turn, perhaps later than this is committed.
        let pending = &line.connection.pending;
        while let Some((xid, _)) = line.writes.front().filter(|(xid, _)| *xid != header.xid) {
            let op = pending.iter().find(|pending| pending.xid == *xid);
            if !op.is_some_and(|pending| is_undecodable(&pending.op)) {
                break;
            }
            line.writes.pop_front();
        }
        let next = line.writes.pop_front();
        ensure(
            next.is_some_and(|(xid, _)| xid == header.xid),
            "C2 writes in order of requests",
            || format!("{header:?} before {next:?}"),
        )?;
        let floor = next.map_or(0, |(_, floor)| floor);
        ensure(
            header.zxid > floor,
            "C1 writes follow what was shown",
            || format!("{header:?} was asked for when {floor:#x} had been shown"),
        )?;
        let is_moved = line.is_moved;
        let mut pending = line.connection.pending.iter_mut();
        let is_next = |pending: &&mut Pending| {
            pending.op.is_write() && pending.prepared.is_none() && pending.xid == header.xid
        };
        let Some(pending) = pending.find(is_next) else {
            return Err(Violation::new(
                "C1 a write is answered after its transaction",
                format!("{header:?} was answered before"),
            ));
        };
        let found = header
            .refusal()
            .map_err(|error| Violation::new("txn", error))?;
        let caller = Caller {
            session: header.session,
            identities: Rc::clone(&pending.caller.identities),
        };
        if let Op::Reconfig { .. } = &pending.op {
            let (state, triggers, outcome) = reconfigured(state, header, stamp, &self.settings)?;
            self.marks.hit(if outcome.err == 0 {
                "reconfigured"
            } else {
                "reconfig_refused"
            });
            pending.prepared = Some((stamp.zxid, outcome));
            return Ok((state, triggers));
        }
        let applied = state.write(&pending.op, &caller, stamp, &self.settings, state);
        // Of a session that is over the leader refuses a multi as a whole, where ZooKeeper refuses
        // its first operation.
        let is_over = !state.sessions.contains_key(&header.session) && header.kind == -1;
        if let Some((_, err @ (-118 | -112))) = found
            && (is_over || (is_moved && err == -118))
        {
            self.marks.hit(if is_over {
                "write_of_ended_session"
            } else {
                "session_moved"
            });
            pending.prepared = Some((stamp.zxid, Outcome::error(err)));
            let mut state = state.clone();
            state.zxid = stamp.zxid;
            return Ok((state, Vec::new()));
        }
        let is_as_expected =
            applied.kind == header.kind && write::refusal(&applied.outcome) == found;
        ensure(
            is_as_expected,
            "C1 a transaction is what its request makes of the state",
            || {
                format!(
                    "{:?} is expected to be {:?}, and becomes {header:?}",
                    pending.op, applied.outcome
                )
            },
        )?;
        pending.prepared = Some((stamp.zxid, applied.outcome));
        Ok((applied.state, applied.triggers))
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
