//! What is committed: every transaction is of a request, and what that makes of the state before.

use std::rc::Rc;

use crate::ensemble::history::History;
use crate::ensemble::members::RECONFIG;
use crate::ensemble::service::sessions::{SESSION_EXPIRED, SESSION_MOVED};
use crate::ensemble::service::{QUOTA_EXCEEDED, Service, has_no_room, is_undecodable};
use crate::model::{Caller, Outcome, Settings, State, Trigger, write};
use crate::oracle::Version;
use crate::oracle::connection::Pending;
use crate::oracle::txn::{CLOSE_SESSION, CREATE_SESSION, Header};
use crate::violation::{Violation, ensure};
use crate::wire::{Body, Op, Reader};

impl Service {
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
            _ => self.write(history, &header, stamp)?,
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
        // of it. What else it has heard was judged when it proposed the end.
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
        history: &History,
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
        // What a learner, or a server without room, has refused is answered in its turn, perhaps
        // later than this is committed.
        let low_until = self.low_until.get(&line.server).copied();
        let pending = &line.connection.pending;
        while let Some((xid, _)) = line.writes.front().filter(|(xid, _)| *xid != header.xid) {
            let op = pending.iter().find(|pending| pending.xid == *xid);
            let is_refused = |it: &Pending| is_undecodable(&it.op) || has_no_room(it, low_until);
            if !op.is_some_and(is_refused) {
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
        let through = line.server;
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
        if header.kind != CLOSE_SESSION {
            let refusal = found.map(|(_, err)| err);
            self.sessions.ensure_owned(header.zxid, through, refusal)?;
        }
        let caller = Caller {
            session: header.session,
            identities: Rc::clone(&pending.caller.identities),
        };
        // Whoever leads without room tells a learner so by a transaction.
        if let (Some((_, err @ QUOTA_EXCEEDED)), -1) = (found, header.kind)
            && let Some(txn) = history.txn(header.zxid)
            && let Some(until) = self.low_until.get(&txn.proposer)
            && txn.proposed_at <= *until
        {
            self.marks.hit("disk_low_refused_a_learner");
            pending.prepared = Some((stamp.zxid, Outcome::error(err)));
            let mut state = state.clone();
            state.zxid = stamp.zxid;
            return Ok((state, Vec::new()));
        }
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
        if let Some((_, err @ (SESSION_MOVED | SESSION_EXPIRED))) = found
            && (is_over || err == SESSION_MOVED)
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
