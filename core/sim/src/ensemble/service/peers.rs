//! What servers tell each other of their clients.

use crate::ensemble::history::packets::Bond;
use crate::ensemble::peek::Packet;
use crate::ensemble::service::Service;
use crate::ensemble::service::sessions::{SESSION_EXPIRED, SESSION_MOVED, revalidated};
use crate::oracle::connection::Stage;
use crate::oracle::txn::{CLOSE_SESSION, CREATE_SESSION, Header};
use crate::violation::Violation;
use crate::wire::{Op, RawExpect};

const PING: i32 = 5;
const REVALIDATE: i32 = 6;
/// What a learner sends before it learns: FOLLOWERINFO, OBSERVERINFO and ACKEPOCH.
const INTRODUCTIONS: [i32; 3] = [11, 16, 18];

/// Whether a server may close the connection for this request.
fn is_last(op: &Op) -> bool {
    match op {
        Op::Auth { .. } | Op::CloseSession => true,
        Op::Raw { expect, .. } => *expect == RawExpect::Unimplemented,
        _ => false,
    }
}

impl Service {
    /// Notes that a server has its turn, and bytes of a client in it.
    pub(in crate::ensemble) fn hears(&mut self, server: usize, link: u64, now: u64) {
        let Some(line) = self.lines.get(&link) else {
            return;
        };
        let mut pending = line.connection.pending.iter();
        // What follows such a request is not looked at any more.
        let is_over = line.connection.may_close.is_some() || pending.any(|it| is_last(&it.op));
        if let Stage::Open(session) = line.connection.stage
            && !is_over
        {
            self.sessions.hears(server, session, now);
        }
    }

    /// Notes that a server begins, or ceases, to lead.
    pub(in crate::ensemble) fn changes_role(&mut self, server: usize) {
        self.sessions.begins_anew(server);
    }

    /// Notes that a connection of two servers ends.
    pub(in crate::ensemble) fn parts(&mut self, bond: &Bond) {
        self.sessions.loses(bond.leader, bond.learner);
    }

    /// Judges a packet that a server sends to another.
    ///
    /// # Errors
    /// C14 is broken.
    pub(in crate::ensemble) fn peer_sends(
        &mut self,
        bond: &Bond,
        from: usize,
        packet: &Packet,
        now: u64,
    ) -> Result<(), Violation> {
        let data = packet.data.as_deref().unwrap_or_default();
        if from == bond.learner {
            if INTRODUCTIONS.contains(&packet.kind) {
                self.sessions.begins_anew(from);
            }
            if packet.kind == PING {
                let ended = &self.ended;
                let is_over = |session| ended.contains(&session);
                self.sessions.tells(from, data, is_over)?;
            }
        } else if packet.kind == REVALIDATE
            && let Some(session) = revalidated(data)?
        {
            self.sessions.moves(from, session, bond.learner, now);
        }
        Ok(())
    }

    /// Notes a packet that a server is given by another.
    ///
    /// # Errors
    /// It cannot be read.
    pub(in crate::ensemble) fn peer_hears(
        &mut self,
        bond: &Bond,
        to: usize,
        packet: &Packet,
        now: u64,
    ) -> Result<(), Violation> {
        if to == bond.leader && packet.kind == PING {
            let data = packet.data.as_deref().unwrap_or_default();
            self.sessions.is_told(to, data, now)?;
        }
        Ok(())
    }

    /// Judges a transaction that its leader proposes.
    ///
    /// # Errors
    /// It ends a session early.
    pub(in crate::ensemble) fn proposes(
        &mut self,
        leader: usize,
        zxid: i64,
        payload: &[u8],
        now: u64,
    ) -> Result<(), Violation> {
        let header = Header::decode(payload).map_err(|error| Violation::new("txn", error))?;
        let session = header.session;
        if session == 0 || header.kind == CREATE_SESSION {
            return Ok(());
        }
        if header.kind == CLOSE_SESSION {
            if header.xid == 0 && !self.ended.contains(&session) {
                let timeout_ms = self.timeouts.get(&session).copied().unwrap_or(0);
                return self
                    .sessions
                    .ensure_silent(leader, session, timeout_ms, now);
            }
            return Ok(());
        }
        let refusal = header
            .refusal()
            .map_err(|error| Violation::new("txn", error))?;
        let is_let_in = !matches!(refusal, Some((_, SESSION_EXPIRED | SESSION_MOVED)));
        let mut lines = self.lines.values().chain(self.gone.values());
        let line = lines.find(|line| {
            line.connection.session() == session
                && line.writes.iter().any(|(xid, _)| *xid == header.xid)
        });
        let through = line.map(|line| line.server).filter(|_| is_let_in);
        self.sessions.proposes(leader, zxid, session, through);
        Ok(())
    }
}
