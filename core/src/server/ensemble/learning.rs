//! What a follower or observer does for its clients: it sends on what it may not decide.
//!
//! Source: `LearnerZooKeeperServer`, `FollowerRequestProcessor`, `LearnerSessionTracker`.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use bytes::Bytes;

use super::{Core, Server};
use crate::ids::{Instant, LinkId, SessionId, Xid, Zxid};
use crate::server::conn::{Pending, Stage};
use crate::wire::client::OpCode;
use crate::wire::quorum::{Forwarded, Revalidated, Revalidation, Touch};
use crate::wire::records::Id;
use crate::wire::txn::TxnHeader;

/// What only a learner knows.
#[derive(Default)]
pub(in crate::server) struct Learning {
    /// Sessions whose clients gave a sign since the leader last asked, with their timeouts.
    touched: BTreeMap<SessionId, u32>,
    /// Whose syncs the leader has not answered, in order.
    pub(super) syncs: VecDeque<LinkId>,
    /// Connections whose sessions the leader was asked about.
    asked: BTreeMap<SessionId, LinkId>,
    /// Local sessions that are about to be everybody's.
    upgrading: BTreeSet<SessionId>,
}

impl Learning {
    pub(super) fn forget(&mut self, session: SessionId) {
        self.touched.remove(&session);
        self.upgrading.remove(&session);
    }

    /// Returns whether a session was not being upgraded yet.
    pub(super) fn upgrade(&mut self, session: SessionId) -> bool {
        self.upgrading.insert(session)
    }
}

impl Server {
    /// The leader knows whether a session is alive.
    pub(super) fn revalidated(&mut self, data: &Bytes) {
        let Ok(Revalidated { session, valid }) = Revalidated::decode(data) else {
            return;
        };
        let Some(ensemble) = self.core.ensemble_mut() else {
            return;
        };
        let Some(link) = ensemble.learning.asked.remove(&session) else {
            return;
        };
        if !self.conns.contains_key(&link) {
            // Its client did not wait.
            return;
        }
        if valid {
            self.attach_session(link, session);
        } else {
            self.refuse_session(link, session);
        }
        self.proceed(link);
    }

    /// Answers the leader's PING. The next sign of each client is then to be told with the next.
    pub(super) fn answer_ping(&mut self) {
        for Touch { session, .. } in self.core.tell_touched() {
            let link = self.by_session.get(&session);
            if let Some(conn) = link.and_then(|link| self.conns.get_mut(link)) {
                conn.quiet_until = Instant::default();
            }
        }
    }

    /// The connection that waits for a transaction, if it is one of this server's.
    pub(in crate::server) fn waiter(&self, header: &TxnHeader) -> Option<LinkId> {
        let &link = self.by_session.get(&header.client)?;
        let conn = self.conns.get(&link)?;
        if header.op == OpCode::CREATE_SESSION {
            return (conn.stage == Stage::Opening).then_some(link);
        }
        let first = conn.pending.iter().find_map(|pending| match pending {
            Pending::Write { zxid, xid, op, .. } => Some((*zxid, *xid, *op)),
            Pending::Refused { .. } | Pending::Waiting { .. } => None,
        });
        let (zxid, xid, op) = first?;
        // What a leader makes of its own accord in a session's name has no number of its client's.
        // Some clients begin to count anew with a connection: an older request of the session may
        // have the same number.
        let same = header.op == op || header.op == OpCode::ERROR;
        (zxid.is_none() && xid == header.cxid && same).then_some(link)
    }
}

impl Core {
    /// Sends a client's request to the leader.
    pub(in crate::server) fn forward(
        &mut self,
        by: (SessionId, Xid),
        op: OpCode,
        body: &[u8],
        ids: Option<&[Id]>,
    ) {
        let (session, cxid) = by;
        let request = Forwarded {
            session,
            cxid,
            op,
            body,
        };
        if let Some(ensemble) = self.ensemble_mut() {
            let ids = ids.map(<[Id]>::to_vec);
            ensemble.zab.request(request.to_bytes(), ids);
        }
    }

    /// Asks the leader whether a session is alive whose client came here. Returns the connection on
    /// which it had come before, if that still waits for an answer.
    pub(in crate::server) fn ask_for_session(
        &mut self,
        session: SessionId,
        timeout_ms: u32,
        link: LinkId,
    ) -> Option<LinkId> {
        let timeout_ms = i32::try_from(timeout_ms).unwrap_or(i32::MAX);
        let question = Revalidation {
            session,
            timeout_ms,
        };
        let ensemble = self.ensemble_mut()?;
        ensemble.zab.revalidate(question.to_bytes());
        ensemble.learning.asked.insert(session, link)
    }

    /// A learner's client's sync: what REQUEST it is, the leader answers by SYNC.
    pub(in crate::server) fn forward_sync(
        &mut self,
        by: (SessionId, Xid),
        body: &[u8],
        ids: &[Id],
        link: LinkId,
    ) {
        let (session, cxid) = by;
        let request = Forwarded {
            session,
            cxid,
            op: OpCode::SYNC,
            body,
        };
        if let Some(ensemble) = self.ensemble_mut() {
            ensemble.learning.syncs.push_back(link);
            let data = request.to_bytes();
            ensemble.zab.sync_for(data, Some(ids.to_vec()));
        }
    }

    /// A session's client gave a sign.
    pub(in crate::server) fn learner_touch(&mut self, session: SessionId, timeout_ms: u32) {
        if let Some(ensemble) = self.ensemble_mut() {
            ensemble.learning.touched.insert(session, timeout_ms);
        }
    }

    /// The leader asks for a sign of life, and for those of the clients. Returns whose they were.
    fn tell_touched(&mut self) -> Vec<Touch> {
        let Some(ensemble) = self.ensemble_mut() else {
            return Vec::new();
        };
        let touched = core::mem::take(&mut ensemble.learning.touched);
        let touches = touched.into_iter().map(|(session, timeout_ms)| Touch {
            session,
            timeout_ms: i32::try_from(timeout_ms).unwrap_or(i32::MAX),
        });
        let touches: Vec<Touch> = touches.collect();
        ensemble.zab.pong(Touch::to_bytes(&touches));
        touches
    }

    /// Whether what waits for the leader's SYNC does.
    pub(in crate::server) const UNTIL_SYNCED: Zxid = Zxid(i64::MAX);
}
