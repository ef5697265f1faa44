//! What the server may do, checked after everything it does.
//!
//! The oracle takes from the server only the order and time of transactions, out of the headers of
//! what it gives to its log; what each of them does, and what each client must hear, it works out
//! with the [model](crate::model). Start at [`Oracle`].

pub mod connection;
mod full;
pub mod session;
pub mod snapshot;
pub(crate) mod txn;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use full::Full;

use crate::marks::Marks;
use crate::model::{Settings, State, Trigger, quota, write};
use crate::oracle::connection::{Connection, Stage};
use crate::oracle::session::{Session, password};
use crate::violation::{Violation, ensure};
use crate::wire::{ConnectRequest, ConnectResponse, Op, Reader};

/// One transaction: the state after it, and what watches hear of it.
#[derive(Clone, Debug)]
pub struct Version {
    /// The state after it.
    pub state: State,
    /// What watches hear, in order.
    pub triggers: Vec<Trigger>,
    /// Whether they may hear it in any order: a session's znodes are deleted in none.
    pub is_unordered: bool,
    /// What was given to the log.
    pub payload: Rc<[u8]>,
}

/// The transactions that somebody may still ask about.
#[derive(Clone, Debug)]
pub struct Versions {
    versions: VecDeque<Version>,
    /// The highest zxid that anybody was shown.
    pub shown: i64,
    /// What was shown before the step that is being checked.
    pub(crate) floor: i64,
    /// The highest zxid that the store has reported durable.
    pub stored: i64,
}

impl Versions {
    pub(crate) fn new() -> Self {
        let first = Version {
            state: State::default(),
            triggers: Vec::new(),
            is_unordered: false,
            payload: Rc::from([]),
        };
        Self {
            versions: VecDeque::from([first]),
            shown: 0,
            floor: 0,
            stored: 0,
        }
    }

    /// The version of this zxid; of the beginning of an epoch, the last version before it.
    pub fn at(&self, zxid: i64) -> Result<&Version, Violation> {
        let count = self
            .versions
            .partition_point(|version| version.state.zxid <= zxid);
        let is_start = zxid.cast_unsigned() & 0xffff_ffff == 0;
        count
            .checked_sub(1)
            .and_then(|index| self.versions.get(index))
            .filter(|version| version.state.zxid == zxid || is_start)
            .ok_or_else(|| {
                let first = self.versions.front().map(|version| version.state.zxid);
                let last = self.last().state.zxid;
                Violation::new(
                    "a zxid that was proposed and not forgotten",
                    format!("found {zxid:#x}, expected one of {first:x?} to {last:#x}"),
                )
            })
    }

    /// The first version after this zxid, if it is not after the other.
    #[must_use]
    pub fn next(&self, zxid: i64, upto: i64) -> Option<&Version> {
        let count = self
            .versions
            .partition_point(|version| version.state.zxid <= zxid);
        let next = self.versions.get(count);
        next.filter(|version| version.state.zxid <= upto)
    }

    /// Adds a version after the last.
    pub(crate) fn push(&mut self, version: Version) {
        self.versions.push_back(version);
    }

    /// The last version proposed.
    #[must_use]
    pub fn last(&self) -> &Version {
        self.versions.back().expect("there is always a version")
    }

    /// Checks that a request may be answered with the state of this zxid.
    pub fn ensure_visible(&self, zxid: i64, op: &Op) -> Result<(), Violation> {
        ensure(
            zxid <= self.stored,
            "C20 nothing is shown before it is durable",
            || {
                format!(
                    "{op:?} is answered at {zxid} when {} is durable",
                    self.stored
                )
            },
        )?;
        ensure(
            zxid >= self.floor || op.is_write(),
            "C3 no read goes back",
            || {
                format!(
                    "{op:?} is answered at {zxid} after {} was shown",
                    self.floor
                )
            },
        )
    }
}

/// Judges a server.
#[derive(Debug)]
pub struct Oracle {
    settings: Settings,
    tick_ms: u32,
    /// All versions.
    pub versions: Versions,
    /// All open connections, by link.
    pub connections: BTreeMap<u64, Connection>,
    /// Connections that are gone but may have requests on their way into the log.
    gone: Vec<Connection>,
    sessions: BTreeMap<i64, Session>,
    /// Every session id ever handed out.
    used_ids: BTreeSet<i64>,
    /// Sessions whose end is proposed in the step that is being checked.
    ending: BTreeSet<i64>,
    handshake_timeout_ms: u32,
    timeout_ms: (i32, i32),
    /// When each container or TTL znode could first be reaped.
    reapable: BTreeMap<Rc<str>, u64>,
    /// What the wall clock would show if it had not jumped lately.
    pub wall_before_jump: i64,
    /// Whether the server has a snapshot, without which it takes no clients.
    is_serving: bool,
    served_before_step: bool,
    /// When sessions that were heard of in this step had been heard of before.
    touched_before: BTreeMap<i64, u64>,
    /// What has happened.
    pub marks: Marks,
}

/// What the oracle must know of the server's configuration.
#[derive(Clone, Debug)]
pub struct Rules {
    /// What is set for the model.
    pub settings: Settings,
    /// `tickTime`.
    pub tick_ms: u32,
    /// The least and the greatest session timeout.
    pub timeout_ms: (i32, i32),
    /// How long a handshake may take.
    pub handshake_timeout_ms: u32,
}

impl Oracle {
    /// Judges a server that has never run.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self {
            settings: rules.settings,
            tick_ms: rules.tick_ms,
            versions: Versions::new(),
            connections: BTreeMap::new(),
            gone: Vec::new(),
            sessions: BTreeMap::new(),
            used_ids: BTreeSet::new(),
            ending: BTreeSet::new(),
            handshake_timeout_ms: rules.handshake_timeout_ms,
            timeout_ms: rules.timeout_ms,
            reapable: BTreeMap::new(),
            wall_before_jump: 0,
            is_serving: false,
            served_before_step: false,
            touched_before: BTreeMap::new(),
            marks: Marks::default(),
        }
    }

    /// How many sessions there are.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Notes that a step begins.
    pub fn step_begins(&mut self) {
        self.versions.floor = self.versions.shown;
        self.ending.clear();
        self.touched_before.clear();
        self.served_before_step = self.is_serving;
        let stored = self.versions.stored;
        for connection in self.connections.values_mut() {
            // What was applied and shown to nobody yet was judged by who it was then.
            if connection.heard >= stored {
                connection.identities_before = Rc::clone(&connection.identities);
            }
        }
    }

    /// Notes that the server was given bytes of a link: what is whole touches the session.
    pub fn received(&mut self, link: u64, bytes: usize, now: u64) {
        let Some(connection) = self.connections.get_mut(&link) else {
            return;
        };
        let before = connection.delivered;
        connection.delivered += bytes as u64;
        let after = connection.delivered;
        let is_new = |pending: &&connection::Pending| pending.end > before && pending.end <= after;
        let count = connection.pending.iter().filter(is_new).count();
        for pending in &mut connection.pending {
            if pending.end > before && pending.end <= after {
                pending.received = now;
            }
        }
        if count > 1 {
            self.marks.hit("pipelined");
        }
        let arrived = connection
            .pending
            .iter()
            .filter(|pending| pending.end <= after);
        if arrived
            .map(|pending| pending.op.is_write())
            .is_sorted_by(|a, b| !a | b)
        {
            // Nothing but reads, then nothing but writes.
        } else {
            self.marks.hit("read_behind_a_write");
        }
        // What is pipelined behind the handshake counts from the handshake on, if not later.
        if let (Stage::Open(session), true) = (&connection.stage, count > 0)
            && let Some(state) = self.sessions.get_mut(session)
        {
            self.touched_before.entry(*session).or_insert(state.touched);
            state.touched = now;
        }
        let is_connecting = matches!(connection.stage, Stage::Connecting(_));
        if is_connecting && before < connection.connect_end && after >= connection.connect_end {
            let session = connection.session();
            // Who does not know the password must not disturb who does.
            let knows = matches!(&connection.stage, Stage::Connecting(request)
                if request.password == password(session));
            for (other, older) in &mut self.connections {
                if *other != link && knows && older.stage == Stage::Open(session) {
                    older.may_close.get_or_insert("its session moved");
                }
            }
        }
    }

    /// Takes an operation on the log.
    pub fn appended(
        &mut self,
        zxid: i64,
        payload: &[u8],
        now: u64,
        wall: i64,
    ) -> Result<(), Violation> {
        let header = txn::Header::decode(payload).map_err(|error| Violation::new("txn", error))?;
        let last = self.versions.last().state.zxid;
        ensure(
            zxid == last + 1 && header.zxid == zxid,
            "C1 zxids without gaps",
            || {
                format!(
                    "appended {zxid}, in the header {}, after {last}",
                    header.zxid
                )
            },
        )?;
        ensure(header.time == wall, "txn time", || {
            format!("appended {header:?} at {wall}")
        })?;
        let stamp = write::Stamp {
            zxid,
            time: header.time,
        };
        let (state, triggers) = match header.kind {
            txn::CREATE_SESSION => (self.open_session(&header, now)?, Vec::new()),
            _ if header.session == 0 => self.reap(&header, stamp)?,
            txn::CLOSE_SESSION if header.xid == 0 => self.expire(&header, stamp, now)?,
            _ => self.write(&header, stamp)?,
        };
        self.versions.versions.push_back(Version {
            state,
            triggers,
            is_unordered: header.kind == txn::CLOSE_SESSION,
            payload: payload.into(),
        });
        Ok(())
    }

    fn open_session(&mut self, header: &txn::Header<'_>, now: u64) -> Result<State, Violation> {
        let timeout_ms = Reader(header.body)
            .int()
            .map_err(|error| Violation::new("txn", error))?;
        ensure(
            self.used_ids.insert(header.session),
            "a session id is used once",
            || format!("{:#x} is given again", header.session),
        )?;
        let session = Session {
            timeout_ms: timeout_ms.cast_unsigned(),
            touched: now,
            active: now,
            link: None,
        };
        self.sessions.insert(header.session, session);
        let state = &self.versions.last().state;
        Ok(state.open_session(header.session, timeout_ms, header.zxid))
    }

    fn expire(
        &mut self,
        header: &txn::Header<'_>,
        stamp: write::Stamp,
        now: u64,
    ) -> Result<(State, Vec<Trigger>), Violation> {
        let session = self.sessions.remove(&header.session).ok_or_else(|| {
            Violation::new(
                "C14 a session ends once",
                format!("{:#x} is closed and is not there", header.session),
            )
        })?;
        // What came in the same step as the expiry may be looked at after it; and what still waits
        // may not have been looked at, and then is no sign of its client.
        let touched = self.touched_before.get(&header.session).copied();
        let connection = session.link.and_then(|link| self.connections.get(&link));
        let looked_at = connection
            .filter(|connection| connection.is_waiting())
            .map(|connection| connection.looked_at.min(session.touched));
        let judged = Session {
            touched: looked_at.or(touched).unwrap_or(session.touched),
            ..session
        };
        ensure(
            now >= judged.expires_after(),
            "C14 no session expires early",
            || {
                format!(
                    "{:#x} expires at {now}, last heard of at {}, timeout {} ms",
                    header.session, session.touched, session.timeout_ms
                )
            },
        )?;
        self.marks.hit("session_expired");
        self.end_session(header.session);
        let state = &self.versions.last().state;
        if !state.ephemerals(header.session).is_empty() {
            self.marks.hit("ephemeral_deleted_by_expiry");
        }
        let caller = crate::model::Caller {
            session: header.session,
            identities: Rc::from([]),
        };
        let applied = state.write(&Op::CloseSession, &caller, stamp, &self.settings, state);
        Ok((applied.state, applied.triggers))
    }

    fn end_session(&mut self, session: i64) {
        self.ending.insert(session);
        self.sessions.remove(&session);
        for connection in self.connections.values_mut() {
            if connection.stage == Stage::Open(session) {
                connection.may_close.get_or_insert("its session ended");
            }
        }
    }

    fn reap(
        &mut self,
        header: &txn::Header<'_>,
        stamp: write::Stamp,
    ) -> Result<(State, Vec<Trigger>), Violation> {
        let state = &self.versions.last().state;
        if header.kind == -1 {
            let mut state = state.clone();
            state.zxid = stamp.zxid;
            return Ok((state, Vec::new()));
        }
        let path = Reader(header.body)
            .path()
            .map_err(|error| Violation::new("txn", error))?;
        let is_ttl = state
            .node(&path)
            .is_some_and(|node| node.ttl(&self.settings).is_some());
        // Whether its time has come was judged when it was found; the clock may have jumped since.
        let stamp_of_scan = write::Stamp {
            time: stamp.time.max(self.wall_before_jump),
            ..stamp
        };
        let applied = state
            .reap(&path, stamp_of_scan, &self.settings)
            .map_err(|error| Violation::new("what is reaped may be reaped", error))?;
        self.marks.hit(if is_ttl {
            "ttl_reaped"
        } else {
            "container_reaped"
        });
        Ok((applied.state, applied.triggers))
    }

    /// Finds the request that a transaction is of, and works it out.
    fn write(
        &mut self,
        header: &txn::Header<'_>,
        stamp: write::Stamp,
    ) -> Result<(State, Vec<Trigger>), Violation> {
        let state = &self.versions.last().state;
        let found = self
            .gone
            .iter_mut()
            .chain(self.connections.values_mut())
            .filter(|connection| connection.session() == header.session)
            .find_map(|connection| {
                let delivered = connection.delivered;
                let looked_at = &mut connection.looked_at;
                connection
                    .pending
                    .iter_mut()
                    .filter(|pending| pending.end <= delivered && pending.op.is_write())
                    .find(|pending| pending.prepared.is_none())
                    .filter(|pending| pending.xid == header.xid)
                    .inspect(|pending| *looked_at = pending.received.max(*looked_at))
            });
        let Some(pending) = found else {
            return Err(Violation::new(
                "C2 writes in order of requests",
                format!("{header:?} is of no session's next write"),
            ));
        };
        let mut usage = state;
        let mut applied = state.write(&pending.op, &pending.caller, stamp, &self.settings, usage);
        let found = header
            .refusal()
            .map_err(|error| Violation::new("txn", error))?;
        // A quota may be judged by any usage between what is applied and what is proposed.
        if self.settings.enforce_quota && write::refusal(&applied.outcome) != found {
            for version in &self.versions.versions {
                usage = &version.state;
                let other = state.write(&pending.op, &pending.caller, stamp, &self.settings, usage);
                let is_about_quota = write::is_quota_refusal(&other.outcome)
                    != write::is_quota_refusal(&applied.outcome);
                if is_about_quota && write::refusal(&other.outcome) == found {
                    applied = other;
                    break;
                }
            }
        }
        if self.settings.tree_bytes_max > 0 {
            let versions = self.versions.versions.iter().map(|version| &version.state);
            let full = Full {
                max: self.settings.tree_bytes_max,
                before: state,
                granted: &applied,
            };
            if let Some(at) = full.judge(found, versions)? {
                let settings = Settings {
                    full_at: Some(at),
                    ..self.settings.clone()
                };
                applied = state.write(&pending.op, &pending.caller, stamp, &settings, usage);
                self.marks.hit("tree_full");
            }
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
        if header.kind == txn::CLOSE_SESSION {
            self.end_session(header.session);
        }
        Ok((applied.state, applied.triggers))
    }

    /// Notes a link, with the request to connect that the client sends, if it speaks the protocol.
    pub fn opened(&mut self, link: u64, request: Option<ConnectRequest>, now: u64, address: &str) {
        let stage = request.map_or(Stage::Hostile, Stage::Connecting);
        let mut connection = Connection::new(stage, now, address);
        if let Stage::Connecting(request) = &connection.stage {
            connection.sent = request.frame().len() as u64;
            connection.connect_end = connection.sent;
        }
        connection.heard = self.versions.floor;
        self.connections.insert(link, connection);
    }

    /// Takes bytes that the server sends. Returns whether the connection is now open or refused.
    pub fn sent(&mut self, link: u64, bytes: &[u8], now: u64) -> Result<(), Violation> {
        let Some(mut connection) = self.connections.remove(&link) else {
            return Err(Violation::new(
                "wire",
                format!("bytes on link {link}, which is closed"),
            ));
        };
        connection.partial.extend_from_slice(bytes);
        let mut result = Ok(());
        while result.is_ok() && connection.stage != Stage::Hostile {
            let Some(frame) = next_frame(&mut connection.partial) else {
                break;
            };
            result = if matches!(connection.stage, Stage::Connecting(_)) {
                self.connected(link, &mut connection, &frame, now)
            } else {
                connection.frame(&frame, &self.versions, &mut self.marks)
            };
            if let Some(header) = Reader(&frame)
                .reply_header()
                .ok()
                .filter(|_| result.is_ok())
            {
                let is_open = matches!(connection.stage, Stage::Open(_));
                if is_open && header.zxid <= self.versions.stored {
                    self.versions.shown = self.versions.shown.max(header.zxid);
                }
                // Events are no sign of its client.
                if let Some(session) = self.sessions.get_mut(&connection.session())
                    && header.xid != -1
                {
                    session.active = now;
                }
            }
        }
        self.connections.insert(link, connection);
        result.map_err(|violation| Violation {
            detail: format!("link {link}: {}", violation.detail),
            ..violation
        })
    }

    fn connected(
        &mut self,
        link: u64,
        connection: &mut Connection,
        frame: &[u8],
        now: u64,
    ) -> Result<(), Violation> {
        let Stage::Connecting(request) = connection.stage.clone() else {
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
        if request.read_only.is_none() {
            self.marks.hit("old_client");
        }
        let last = self.versions.last().state.zxid;
        ensure(
            request.last_zxid_seen <= last,
            "C3 a client from the future is turned away",
            describe,
        )?;
        if request.session == 0 {
            self.connected_anew(link, &request, &response, now)?;
            connection.stage = Stage::Open(response.session);
            connection.heard = self.versions.floor;
            for pending in &mut connection.pending {
                pending.caller.session = response.session;
            }
            return Ok(());
        }
        let is_valid = self.sessions.contains_key(&request.session)
            && request.password == password(request.session);
        if response.session == 0 {
            ensure(
                !is_valid || self.ending.contains(&request.session),
                "a session can be resumed",
                describe,
            )?;
            let is_empty = response.timeout_ms == 0 && response.password == [0; 16];
            ensure(is_empty, "a refusal of a session is all zeros", describe)?;
            let is_wrong = self.sessions.contains_key(&request.session);
            self.marks.hit(if is_wrong {
                "wrong_password"
            } else {
                "session_refused"
            });
            connection.may_close = Some("its session was refused");
            connection.must_close = true;
            return Ok(());
        }
        ensure(
            is_valid || self.ending.contains(&request.session),
            "only a session that lives is resumed",
            describe,
        )?;
        ensure(
            response.session == request.session && response.password == request.password,
            "a session keeps id and password",
            describe,
        )?;
        self.ensure_timeout(&request, &response)?;
        connection.stage = Stage::Open(response.session);
        connection.heard = self.versions.floor;
        self.marks.hit("session_resumed");
        if let Some(session) = self.sessions.get_mut(&request.session) {
            match session.link {
                None => self.marks.hit("session_resumed_after_restart"),
                Some(other) if self.connections.contains_key(&other) => {
                    self.marks.hit("session_moved");
                }
                Some(_) => {}
            }
            session.link = Some(link);
            session.touched = now;
            session.timeout_ms = response.timeout_ms.cast_unsigned();
        }
        Ok(())
    }

    fn connected_anew(
        &mut self,
        link: u64,
        request: &ConnectRequest,
        response: &ConnectResponse,
        now: u64,
    ) -> Result<(), Violation> {
        self.ensure_timeout(request, response)?;
        let created = self
            .versions
            .versions
            .iter()
            .filter(|version| version.state.zxid <= self.versions.stored)
            .any(|version| version.state.sessions.contains_key(&response.session));
        ensure(created, "a session is announced once durable", || {
            format!("{response:x?} when {} is durable", self.versions.stored)
        })?;
        ensure(
            response.password == password(response.session),
            "a session's password",
            || format!("{response:x?}"),
        )?;
        if let Some(session) = self.sessions.get_mut(&response.session) {
            ensure(
                session.link.is_none(),
                "a session is announced once",
                || format!("{response:x?} is also of link {:?}", session.link),
            )?;
            let timeout_ms = response.timeout_ms.cast_unsigned();
            ensure(
                session.timeout_ms == timeout_ms,
                "the timeout that was stored",
                || format!("{} ms is stored, {response:x?} is sent", session.timeout_ms),
            )?;
            session.link = Some(link);
            // The server may count from the request or from the answer; judge leniently both ways.
            session.touched = session.touched.min(now);
        }
        Ok(())
    }

    fn ensure_timeout(
        &self,
        request: &ConnectRequest,
        response: &ConnectResponse,
    ) -> Result<(), Violation> {
        let (least, greatest) = self.timeout_ms;
        let expected = request.timeout_ms.max(least).min(greatest);
        ensure(
            response.timeout_ms == expected,
            "the negotiated timeout",
            || format!("expected {expected} ms, found {response:x?}"),
        )
    }

    /// Notes whether the server has a snapshot; whom it turns away in the same step may have come
    /// before.
    pub const fn serves(&mut self, serves: bool) {
        self.is_serving = serves;
    }

    /// Takes the server's closing of a link.
    pub fn closed_by_server(&mut self, link: u64, now: u64) -> Result<(), Violation> {
        let Some(connection) = self.connections.remove(&link) else {
            return Err(Violation::new(
                "wire",
                format!("link {link} is closed twice"),
            ));
        };
        let handshake_us = u64::from(self.handshake_timeout_ms) * 1000;
        let is_excused = match &connection.stage {
            Stage::Hostile => true,
            Stage::Connecting(request) => {
                let is_late = now >= connection.opened + handshake_us
                    && connection.delivered < connection.connect_end;
                let is_ahead = request.last_zxid_seen > self.versions.floor;
                if is_ahead {
                    self.marks.hit("handshake_from_the_future");
                }
                is_late || is_ahead || !self.served_before_step
            }
            Stage::Open(session) => !self.sessions.contains_key(session),
        };
        let reason = connection.may_close;
        ensure(
            is_excused || reason.is_some(),
            "a connection is kept",
            || {
                let pending = connection.pending.front();
                format!(
                    "link {link} ({:x?}) is closed, pending {pending:?}",
                    connection.stage
                )
            },
        )?;
        self.gone.push(connection);
        Ok(())
    }

    /// Takes the server's wish not to read from a link.
    pub fn paused(&self, link: u64) -> Result<(), Violation> {
        let Some(connection) = self.connections.get(&link) else {
            return Ok(());
        };
        let is_mid_handshake = matches!(connection.stage, Stage::Connecting(_))
            && connection.delivered < connection.connect_end;
        ensure(
            !is_mid_handshake,
            "L4 a handshake is read to its end",
            || format!("link {link} is paused after {} bytes", connection.delivered),
        )
    }

    /// Notes that the server hears in this step that a link was cut.
    pub fn closing(&mut self, link: u64) {
        if let Some(connection) = self.connections.get_mut(&link) {
            connection.may_close = Some("it is cut");
        }
    }

    /// Notes that a link was cut under way.
    pub fn closed_by_network(&mut self, link: u64, now: u64) {
        // What waited may have been looked at before the end was noticed.
        if let Some(connection) = self.connections.get(&link).filter(|it| it.is_waiting())
            && let Some(session) = self.sessions.get_mut(&connection.session())
        {
            session.active = now;
            session.touched = session.touched.min(connection.looked_at);
        }
        self.gone.extend(self.connections.remove(&link));
    }

    /// Notes what the store reported durable.
    pub fn stored(&mut self, zxid: i64) {
        if zxid > self.versions.stored + 1 {
            self.marks.hit("group_commit");
        }
        self.versions.stored = self.versions.stored.max(zxid);
    }

    /// Checks what must hold after every step.
    pub fn step_ended(&mut self, now: u64) -> Result<(), Violation> {
        let shown = self.versions.shown;
        for (link, connection) in &mut self.connections {
            ensure(
                !connection.must_close,
                "a connection that is over is closed",
                || format!("link {link} stays: {:?}", connection.may_close),
            )?;
            if matches!(connection.stage, Stage::Open(_)) {
                connection
                    .hear_up_to(shown, &self.versions, &mut self.marks)
                    .map_err(|violation| Violation {
                        detail: format!("link {link}: {}", violation.detail),
                        ..violation
                    })?;
            }
        }
        for (id, session) in &self.sessions {
            let connection = session.link.and_then(|link| self.connections.get(&link));
            if connection.is_some_and(Connection::is_waiting) {
                continue;
            }
            ensure(
                now <= session.expires_before(self.tick_ms),
                "C14 sessions expire",
                || format!("{id:#x} lives at {now}: {session:?}"),
            )?;
        }
        while self
            .versions
            .versions
            .front()
            .is_some_and(|version| version.state.zxid < shown)
        {
            self.versions.versions.pop_front();
        }
        if self.gone.len() > 64 {
            self.gone.drain(..32);
        }
        Ok(())
    }

    /// Checks that containers and TTL znodes go, after a search for them at this time.
    pub fn reaping(&mut self, now: u64, wall: i64, within_ms: u64) -> Result<(), Violation> {
        let state = &self.versions.last().state;
        let stamp = write::Stamp {
            zxid: state.zxid + 1,
            time: wall,
        };
        let due: Vec<Rc<str>> = state
            .nodes
            .iter()
            .filter(|(_, node)| node.owner != 0)
            .map(|(path, _)| path)
            .filter(|path| state.reap(path, stamp, &self.settings).is_ok())
            .map(Rc::clone)
            .collect();
        self.reapable.retain(|path, _| due.contains(path));
        for path in due {
            let since = *self.reapable.entry(Rc::clone(&path)).or_insert(now);
            ensure(
                now - since <= within_ms * 1000,
                "containers and TTL znodes go",
                || format!("{path} could go since {since}, and is there at {now}"),
            )?;
        }
        Ok(())
    }

    /// Checks what must hold when nothing is under way any more.
    pub fn ensure_quiet(&self) -> Result<(), Violation> {
        for (link, connection) in &self.connections {
            let Stage::Open(session) = &connection.stage else {
                continue;
            };
            let answered = |pending: &&connection::Pending| pending.end <= connection.delivered;
            let waiting = connection.pending.iter().find(answered);
            ensure(waiting.is_none(), "L4 every request is answered", || {
                format!("link {link} waits for {waiting:?}")
            })?;
            ensure(
                self.sessions.contains_key(session),
                "a dead session has no connection",
                || format!("link {link} is open with session {session:#x}"),
            )?;
        }
        let last = self.versions.last().state.zxid;
        ensure(last == self.versions.stored, "everything is stored", || {
            format!("{last} is proposed, {} is durable", self.versions.stored)
        })
    }

    /// The transactions that are not reported durable, or the last: what recovery may find.
    #[must_use]
    pub fn payload(&self, zxid: i64) -> Option<&[u8]> {
        self.versions.at(zxid).ok().map(|version| &*version.payload)
    }

    /// Notes a restart that found everything up to this zxid.
    pub fn restarted(&mut self, zxid: i64, now: u64) -> Result<(), Violation> {
        let last = self.versions.last().state.zxid;
        ensure(
            (self.versions.stored..=last).contains(&zxid),
            "durability: what survives",
            || {
                format!(
                    "{zxid} of {last}, when {} was durable",
                    self.versions.stored
                )
            },
        )?;
        if zxid < last {
            self.marks.hit("power_cut_lost_a_txn");
        }
        let first = self
            .versions
            .versions
            .front()
            .map_or(0, |version| version.state.zxid);
        let keep = usize::try_from(zxid - first + 1).unwrap_or(0);
        self.versions.versions.truncate(keep);
        if let Some(version) = self.versions.versions.back_mut() {
            quota::recount_all(&mut version.state);
        }
        self.versions.stored = zxid;
        self.connections.clear();
        self.gone.clear();
        self.reapable.clear();
        let fresh = |(id, timeout_ms): (&i64, &i32)| {
            let session = Session {
                timeout_ms: timeout_ms.cast_unsigned(),
                touched: now,
                active: now,
                link: None,
            };
            (*id, session)
        };
        self.sessions = self
            .versions
            .last()
            .state
            .sessions
            .iter()
            .map(fresh)
            .collect();
        Ok(())
    }
}

/// Takes a whole frame, without its length, from the front.
pub fn next_frame(bytes: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = usize::try_from(u32::from_be_bytes(*bytes.first_chunk()?)).ok()?;
    let frame = bytes.get(4..4 + length)?.to_vec();
    bytes.drain(..4 + length);
    Some(frame)
}
