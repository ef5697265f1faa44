//! Sessions that only the server knows that a client is connected to: those of
//! `localSessionsEnabled`, and those of read-only mode.
//!
//! Source: `LocalSessionTracker`, `UpgradeableSessionTracker`, `ReadOnlyZooKeeperServer`.

use crate::error::ErrorCode;
use crate::ids::{Instant, LinkId, SessionId, Xid};
use crate::jute;
use crate::server::conn::{Conn, Stage};
use crate::server::prep::wants_ephemeral;
use crate::server::{Core, Event, Server};
use crate::wire::client::OpCode;
use crate::zab::Role;

use super::Owner;

/// Milliseconds without a leader, at least, before read-only mode begins.
///
/// Source: `QuorumPeer.run`: `Math.max(2000, tickTime)`.
const READ_ONLY_AFTER_MS: u32 = 2000;

/// What may be done with a write of a session that may be local.
pub(in crate::server) enum Passage {
    /// Go on.
    Free,
    /// It is refused.
    Refused(ErrorCode),
}

impl Server {
    /// Gives a connection a session that nobody else hears of.
    pub(in crate::server) fn open_local(&mut self, link: LinkId, session: SessionId) {
        let Some(conn) = self.conns.get_mut(&link) else {
            return;
        };
        conn.session = session;
        conn.stage = Stage::Open;
        conn.local = true;
        self.by_session.insert(session, link);
        let (timeout_ms, peer) = (conn.timeout_ms, conn.peer);
        let now = self.core.now.instant;
        if let Some(ensemble) = self.core.ensemble_mut() {
            ensemble.locals.add(session, timeout_ms, now);
        }
        self.core.events.push(Event::SessionOpened {
            session,
            timeout_ms,
            peer,
        });
        self.greet(link);
    }

    /// Ends the local sessions whose clients are silent.
    pub(in crate::server) fn expire_locals(&mut self) {
        let now = self.core.now.instant;
        let Some(ensemble) = self.core.ensemble_mut() else {
            return;
        };
        for session in ensemble.locals.expired(now) {
            self.core.events.push(Event::SessionExpired { session });
            self.core.stats.sessions_expired += 1;
            self.local_closed(session);
        }
    }

    /// A local session is over.
    pub(in crate::server) fn local_closed(&mut self, session: SessionId) {
        if let Some(ensemble) = self.core.ensemble_mut() {
            ensemble.locals.remove(session);
        }
        self.core.pins.remove(&session);
        self.core.events.push(Event::SessionClosed { session });
        if let Some(&link) = self.by_session.get(&session) {
            self.close(link);
        }
    }

    /// A session that was local is everybody's.
    pub(in crate::server) fn promoted(&mut self, session: SessionId) {
        let Some(ensemble) = self.core.ensemble_mut() else {
            return;
        };
        ensemble.locals.remove(session);
        let link = self.by_session.get(&session);
        if let Some(conn) = link.and_then(|link| self.conns.get_mut(link)) {
            conn.local = false;
            conn.quiet_until = Instant::default();
        }
    }
}

impl Core {
    /// Whether clients that ask for it may read, though there is no leader.
    pub(in crate::server) fn is_read_only(&self) -> bool {
        let Some(ensemble) = self.ensemble.as_deref() else {
            return false;
        };
        let after_ms = u64::from(self.config.tick_ms.max(READ_ONLY_AFTER_MS));
        let since = ensemble.looking_since.plus_ms(after_ms);
        ensemble.config.read_only_mode
            && ensemble.begun
            && ensemble.role == Role::Looking
            && !self.serving
            && self.now.instant >= since
    }

    /// Whether new sessions are local.
    pub(in crate::server) fn opens_locals(&self) -> bool {
        let ensemble = self.ensemble.as_deref();
        ensemble.is_some_and(|ensemble| ensemble.config.local_sessions)
    }

    /// A client with a local session gave a sign of life.
    pub(in crate::server) fn local_alive(&mut self, conn: &mut Conn) -> bool {
        let now = self.now.instant;
        let until = self
            .ensemble_mut()
            .and_then(|ensemble| ensemble.locals.touch(conn.session, now));
        match until {
            Some(until) => {
                conn.quiet_until = until;
                true
            }
            None => false,
        }
    }

    /// Whether a write of a connection may be done; a local session that needs to be everybody's
    /// becomes so first.
    pub(in crate::server) fn pass(&mut self, conn: &Conn, op: OpCode, body: &[u8]) -> Passage {
        if conn.read_only {
            return Passage::Refused(ErrorCode::NOT_READ_ONLY);
        }
        // Without a transaction: it would take room as well.
        if self.disk.low && self.leads() {
            return Passage::Refused(ErrorCode::QUOTA_EXCEEDED);
        }
        if !conn.local || !wants_ephemeral(op, body) {
            return Passage::Free;
        }
        let Some(ensemble) = self.ensemble_mut() else {
            return Passage::Free;
        };
        if !ensemble.config.local_sessions_upgrading {
            return Passage::Refused(ErrorCode::EPHEMERAL_ON_LOCAL_SESSION);
        }
        // Once is enough: what follows is behind it in the order.
        if ensemble.learning.upgrade(conn.session) {
            if !self.admits_session() {
                self.session_forgotten(conn.session);
                return Passage::Refused(ErrorCode::QUOTA_EXCEEDED);
            }
            let timeout_ms = i32::try_from(conn.timeout_ms).unwrap_or(i32::MAX);
            if self.learns() {
                let op = OpCode::CREATE_SESSION;
                let body = jute::to_vec(&timeout_ms);
                self.forward((conn.session, Xid(0)), op, &body, None);
            } else {
                self.create_session(conn.session, timeout_ms, Owner::Here, None);
            }
        }
        Passage::Free
    }

    /// Whether a session is known here to be local.
    pub(in crate::server) fn is_local(&self, session: SessionId) -> bool {
        let ensemble = self.ensemble.as_deref();
        ensemble.is_some_and(|ensemble| ensemble.locals.contains(session))
    }
}
