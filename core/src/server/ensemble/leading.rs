//! What a leader does for its learners' clients: their writes, their sessions, their syncs.
//!
//! Source: `LearnerHandler`, `LeaderSessionTracker`, `PrepRequestProcessor`.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::vec::Vec;

use bytes::Bytes;

use super::{Core, Server};
use crate::error::ErrorCode;
use crate::ids::{LinkId, SessionId, Xid, Zxid};
use crate::jute::take;
use crate::server::conn::Pending;
use crate::server::prep::{Prep, Refusal, portable, wants_ephemeral};
use crate::server::{DiskRoom, Event};
use crate::tree::footprint;
use crate::wire::client::OpCode;
use crate::wire::quorum::{Forwarded, Revalidated, Revalidation, Touch};
use crate::wire::records::Id;
use crate::wire::txn::Txn;

/// Bytes of learners' requests that a leader has in hand, at most: far more than learners send that
/// let their clients wait as they should.
const FORWARDED_BYTES_MAX: usize = 256 << 20;
/// What a request costs beside its bytes.
const REQUEST_BYTES: usize = 256;

/// What sessions may take beside a tree that is as large as it may be: this share of that, and at
/// least so many bytes.
const SESSIONS_SHARE: u64 = 16;
const SESSIONS_BYTES_MIN: u64 = 1 << 20;

/// Requests of a learner that wait for its `sync`.
#[derive(Default)]
struct Held {
    requests: VecDeque<(Bytes, Vec<Id>)>,
    bytes: usize,
}

/// Where a session's client is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Owner {
    /// To this server.
    Here,
    /// To this learner.
    Learner(LinkId),
}

/// What only a leader knows.
#[derive(Default)]
pub(in crate::server) struct Leading {
    /// Where each session's client was last heard of, if it was.
    owners: BTreeMap<SessionId, Owner>,
    /// Connections of clients whose syncs are not done, in order.
    syncs: VecDeque<LinkId>,
    /// What learners asked after a sync of theirs that is not done. A learner of ZooKeeper knows
    /// its own writes by their place behind its syncs.
    held: BTreeMap<LinkId, Held>,
}

impl Server {
    /// Stop 3 for a learner's client.
    pub(super) fn forwarded(&mut self, from: LinkId, data: Bytes, ids: Vec<Id>) {
        let Some(ensemble) = self.core.ensemble_mut() else {
            return;
        };
        if let Some(held) = ensemble.leading.held.get_mut(&from) {
            let names = ids.iter().map(|id| id.scheme.len() + id.id.len());
            held.bytes += REQUEST_BYTES + data.len() + names.sum::<usize>();
            held.requests.push_back((data, ids));
            if held.bytes > FORWARDED_BYTES_MAX {
                let reason = format!("{} bytes of its requests wait behind its sync", held.bytes);
                ensemble.zab.drop_learner(from, &reason);
            }
            return;
        }
        let core = &mut self.core;
        let waiting = core.proposed_bytes + core.proposals.len() * REQUEST_BYTES;
        if waiting > FORWARDED_BYTES_MAX {
            let reason =
                format!("{waiting} bytes of transactions wait to be stored, and it asks for more");
            if let Some(ensemble) = core.ensemble_mut() {
                ensemble.zab.drop_learner(from, &reason);
            }
            return;
        }
        core.forwarded(from, &data, &ids);
    }

    /// The oldest sync is done: whoever asked may read now.
    pub(super) fn synced(&mut self) {
        let core = &mut self.core;
        let learns = core.learns();
        let Some(ensemble) = core.ensemble_mut() else {
            return;
        };
        let client = if learns {
            ensemble.learning.syncs.pop_front()
        } else {
            ensemble.leading.syncs.pop_front()
        };
        let conn = client.and_then(|link| Some((link, self.conns.get_mut(&link)?)));
        let Some((link, conn)) = conn else {
            return;
        };
        let first = conn.pending.iter_mut().find_map(|pending| match pending {
            Pending::Waiting { after, .. } if *after == Core::UNTIL_SYNCED => Some(after),
            Pending::Refused { .. } | Pending::Waiting { .. } | Pending::Write { .. } => None,
        });
        if let Some(after) = first {
            *after = Zxid::ZERO;
        }
        self.ready.insert(link);
    }

    /// A learner's sync is answered: what it asked after it may be done.
    pub(super) fn release_learner(&mut self, link: LinkId) {
        let ensemble = self.core.ensemble_mut();
        let held = ensemble.and_then(|it| it.leading.held.remove(&link));
        for (data, ids) in held.unwrap_or_default().requests {
            self.forwarded(link, data, ids);
        }
    }

    /// A learner's client wants its session back.
    pub(super) fn revalidate(&mut self, from: LinkId, data: &Bytes) {
        let Ok(Revalidation {
            session,
            timeout_ms,
        }) = Revalidation::decode(data)
        else {
            return;
        };
        let core = &mut self.core;
        let valid = core.tracker.is_alive(session);
        if valid {
            let timeout_ms = u32::try_from(timeout_ms).unwrap_or(0);
            core.tracker
                .set_timeout(session, timeout_ms, core.now.instant);
        }
        let Some(ensemble) = core.ensemble_mut() else {
            return;
        };
        if valid {
            ensemble
                .leading
                .owners
                .insert(session, Owner::Learner(from));
        }
        let answer = Revalidated { session, valid };
        ensemble.zab.revalidated(from, answer.to_bytes());
        // Its client has left this server: what it sent here before is not to be done any more.
        if valid && let Some(&old) = self.by_session.get(&session) {
            self.close(old);
        }
    }
}

impl Core {
    /// The reign begins: every session gets its whole timeout anew, and what belongs to nobody
    /// is deleted, by a transaction, on every server.
    ///
    /// ZooKeeper's leader deletes such ephemerals from its own tree only, which then differs
    /// from all others.
    pub(super) fn begin_reign(&mut self) {
        self.proposed = self.tree.last_zxid();
        let now = self.now.instant;
        for (session, timeout) in self.tree.sessions() {
            let timeout_ms = u32::try_from(timeout).unwrap_or(0);
            self.tracker.add(session, timeout_ms, now);
        }
        let period = u64::from(self.config.container_check_ms.max(1));
        self.reaper.next_scan = now.plus_ms(period);
        let orphaned: Vec<SessionId> = self
            .tree
            .ephemeral_owners()
            .filter(|&owner| !self.tracker.contains(owner))
            .collect();
        for session in orphaned {
            self.close_session(session, None, Xid(0));
        }
    }

    fn forwarded(&mut self, from: LinkId, data: &Bytes, ids: &[Id]) {
        if !self.serving {
            return;
        }
        let Ok(Forwarded {
            session,
            cxid,
            op,
            body,
        }) = Forwarded::take(data)
        else {
            if let Some(ensemble) = self.ensemble_mut() {
                let reason = "it forwards a request that is cut short";
                ensemble.zab.drop_learner(from, reason);
            }
            return;
        };
        // A request is a sign of its client, too: ZooKeeper's leader waits for the learner's next
        // answer to a PING, and can end a session right after what it has just written.
        self.tracker.touch(session, self.now.instant);
        // What a learner's client has shown counts here too, lest the session is another's with the
        // next learner.
        let free = matches!(op, OpCode::CREATE_SESSION | OpCode::SYNC);
        if !free && !self.may_act(session, ids) {
            let error = Txn::Error(ErrorCode::SESSION_CLOSED_REQUIRE_SASL_AUTH);
            return self.propose(session, cxid, OpCode::ERROR, &error, None);
        }
        match op {
            OpCode::CREATE_SESSION => {
                let mut input = body;
                let timeout_ms: i32 = take(&mut input).unwrap_or(0);
                // The learner closes the connection when its patience ends: there is no answer by
                // which a session is refused that is not there yet.
                if !self.tree.has_session(session) && !self.admits_session() {
                    return;
                }
                self.create_session(session, timeout_ms, Owner::Learner(from), None);
            }
            OpCode::CLOSE_SESSION => self.close_session(session, None, cxid),
            OpCode::SYNC => {
                if let Some(ensemble) = self.ensemble_mut() {
                    ensemble.leading.held.entry(from).or_default();
                    ensemble.zab.sync_learner(from);
                }
            }
            OpCode::RECONFIG => {
                let by = (session, cxid);
                let done = match self.owned_with_room(session, from, false) {
                    Ok(()) => self.reconfigure(by, body, ids, None),
                    Err(code) => Err(Refusal::Code(code)),
                };
                if let Err(refusal) = done {
                    let error = Txn::Error(refusal.code());
                    self.propose(session, cxid, OpCode::ERROR, &error, None);
                }
            }
            _ => self.forwarded_write(from, (session, cxid), op, (body, ids)),
        }
    }

    fn forwarded_write(
        &mut self,
        from: LinkId,
        by: (SessionId, Xid),
        op: OpCode,
        request: (&[u8], &[Id]),
    ) {
        let ((session, cxid), (body, ids)) = (by, request);
        let ephemeral = wants_ephemeral(op, body);
        let prepared = match self.owned_with_room(session, from, ephemeral) {
            Err(code) => Err(Refusal::Code(code)),
            Ok(()) => {
                let Some(zxid) = self.next_zxid() else {
                    return;
                };
                let mut prep = Prep::new(
                    &self.config,
                    &self.tree,
                    &mut self.overlay,
                    (session, ids),
                    (zxid, self.now.wall),
                    &mut self.events,
                );
                prep.request(op, body)
            }
        };
        // Its place in the order is its answer: even what cannot be decoded has one.
        let (op, mut txn) =
            prepared.unwrap_or_else(|refusal| (OpCode::ERROR, Txn::Error(refusal.code())));
        portable(&mut txn);
        self.propose(session, cxid, op, &txn, None);
    }

    /// As [`Core::owned`], of a learner's client; not while this server's disk is nearly full. A
    /// learner hears of a refusal by a transaction only, which takes some of what is spared.
    fn owned_with_room(
        &mut self,
        session: SessionId,
        from: LinkId,
        ephemeral: bool,
    ) -> Result<(), ErrorCode> {
        self.owned(session, Owner::Learner(from), ephemeral)?;
        if self.disk.low {
            return Err(ErrorCode::QUOTA_EXCEEDED);
        }
        Ok(())
    }

    /// Lets others lead that have room, if they are a quorum without this server.
    pub(in crate::server) fn resign_if_full(&mut self) {
        let DiskRoom { low, resign } = self.disk;
        let ensemble = self.ensemble.as_deref();
        if low && resign && ensemble.is_some_and(|ensemble| ensemble.zab.is_dispensable()) {
            self.disk.resign = false;
            self.restart("its disk is nearly full, and others can lead".into());
        }
    }

    /// Whether a session's request may be done that came this way.
    ///
    /// Source: `SessionTrackerImpl.checkSession`.
    pub(in crate::server) fn owned(
        &mut self,
        session: SessionId,
        by: Owner,
        ephemeral: bool,
    ) -> Result<(), ErrorCode> {
        let alive = self.tracker.is_alive(session);
        let Some(ensemble) = self.ensemble_mut() else {
            // Standing alone, it was asked before.
            return Ok(());
        };
        if !alive {
            // Where sessions may be local to a learner, nobody else knows them. A dead one may then
            // still write, as in ZooKeeper, but never own a znode.
            let local = ensemble.config.local_sessions;
            return if local && !ephemeral {
                Ok(())
            } else {
                Err(ErrorCode::SESSION_EXPIRED)
            };
        }
        let owner = *ensemble.leading.owners.entry(session).or_insert(by);
        if owner == by {
            Ok(())
        } else {
            Err(ErrorCode::SESSION_MOVED)
        }
    }

    /// Says where a session's client is.
    pub(in crate::server) fn own(&mut self, session: SessionId, owner: Owner) {
        if let Some(ensemble) = self.ensemble_mut() {
            ensemble.leading.owners.insert(session, owner);
        }
    }

    /// Proposes a session.
    pub(in crate::server) fn create_session(
        &mut self,
        session: SessionId,
        timeout_ms: i32,
        owner: Owner,
        link: Option<LinkId>,
    ) {
        let (alive_ms, now) = (u32::try_from(timeout_ms).unwrap_or(0), self.now.instant);
        // A learner may ask for one that is there.
        if self.tracker.contains(session) {
            self.tracker.set_timeout(session, alive_ms, now);
        } else {
            self.tracker.add(session, alive_ms, now);
        }
        self.own(session, owner);
        if let Some(zxid) = self.next_zxid() {
            self.overlay.grow(zxid, footprint::SESSION_BYTES);
        }
        let txn = Txn::CreateSession { timeout_ms };
        self.propose(session, Xid(0), OpCode::CREATE_SESSION, &txn, link);
    }

    /// Whether there is room for another session.
    ///
    /// There still is some when there is none for znodes: who wants to delete some needs a session.
    pub(in crate::server) fn admits_session(&mut self) -> bool {
        let max = self.config.tree_bytes_max;
        let used = self.overlay.memory(&self.tree);
        let reserve = (max / SESSIONS_SHARE).max(SESSIONS_BYTES_MIN);
        let full = max != 0 && used + footprint::SESSION_BYTES > max.saturating_add(reserve);
        if full {
            self.events.push(Event::TreeFull { used, max });
        }
        !full
    }

    /// A local client's sync. Leading, its turn comes when a quorum has confirmed that it does.
    pub(in crate::server) fn sync(&mut self, link: LinkId) {
        if let Some(ensemble) = self.ensemble_mut() {
            ensemble.leading.syncs.push_back(link);
            ensemble.zab.sync();
        }
    }

    pub(super) fn touched(&mut self, data: &Bytes) {
        let now = self.now.instant;
        // What cannot be decoded is no sign of anybody's life.
        for Touch { session, .. } in Touch::decode(data).unwrap_or_default() {
            self.tracker.touch(session, now);
        }
    }

    pub(super) fn learner_gone(&mut self, link: LinkId) {
        if let Some(ensemble) = self.ensemble_mut() {
            let gone = Owner::Learner(link);
            ensemble.leading.owners.retain(|_, owner| *owner != gone);
            ensemble.leading.held.remove(&link);
        }
    }

    pub(in crate::server) fn session_forgotten(&mut self, session: SessionId) {
        if let Some(ensemble) = self.ensemble_mut() {
            ensemble.leading.owners.remove(&session);
            ensemble.learning.forget(session);
        }
    }
}
