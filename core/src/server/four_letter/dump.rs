//! What sessions hold: `dump`, `wchs`, `wchc`, `wchp`; and what the tree was: `hash`.
//!
//! The order within ZooKeeper's answers is that of its hash tables; here it is that of paths,
//! sessions and connections.
//!
//! Source: `DumpCommand`, `ExpiryQueue.dump`, `WatchManager.dumpWatches`.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::date::Date;
use super::status::address;
use crate::ids::{Instant, LinkId, SessionId, UnixMillis};
use crate::server::conn::Conn;
use crate::server::ensemble::Ensemble;
use crate::server::session::Tracker;
use crate::server::{HostFacts, Server};

impl Server {
    pub(super) fn dump(&self, facts: &HostFacts) -> String {
        let mut text = String::from("SessionTracker dump:\n");
        let core = &self.core;
        let ensemble = core.ensemble.as_deref();
        let locals = ensemble.filter(|ensemble| ensemble.config.local_sessions);
        if let Some(ensemble) = locals {
            text += "Local ";
            text += &self.tracked(&ensemble.locals, facts);
        }
        if ensemble.is_none_or(Ensemble::leads) {
            if locals.is_some() {
                text += "Global ";
            }
            text += &self.tracked(&core.tracker, facts);
        } else {
            // Source: `LearnerSessionTracker.dumpSessions`. When they end, the leader knows.
            text += &format!("Global Sessions({}):\n", core.global_sessions());
            for (session, timeout_ms) in core.tree.sessions() {
                text += &format!("{session}\t{timeout_ms}ms\n");
            }
        }
        text += "ephemeral nodes dump:\n";
        text += &self.ephemerals();
        text += "Connections dump:\n";
        text + &self.connections(facts)
    }

    fn tracked(&self, tracker: &Tracker, facts: &HostFacts) -> String {
        let buckets = tracker.buckets();
        let mut text = format!("Session Sets ({})/({}):\n", buckets.len(), tracker.len());
        for (at, sessions) in buckets {
            let at = self.date(at, facts);
            text += &format!("{} expire at {at}:\n", sessions.len());
            for session in sessions {
                text += &format!("\t{session}\n");
            }
        }
        text
    }

    fn ephemerals(&self) -> String {
        let tree = &self.core.tree;
        let owners = tree.ephemeral_owners();
        let mut text = format!("Sessions with Ephemerals ({}):\n", owners.len());
        for session in owners {
            text += &format!("{session}:\n");
            for path in self.core.ephemeral_paths(session) {
                text += &format!("\t{path}\n");
            }
        }
        text
    }

    /// ZooKeeper has timers for connections too. Here one lives as long as its session, or as it
    /// may take to get one.
    fn connections(&self, facts: &HostFacts) -> String {
        let mut buckets: BTreeMap<Instant, Vec<&Conn>> = BTreeMap::new();
        for conn in self.conns.values() {
            buckets.entry(self.expiry(conn)).or_default().push(conn);
        }
        let all = self.conns.len();
        let mut text = format!("Connections Sets ({})/({all}):\n", buckets.len());
        for (at, conns) in buckets {
            let at = self.date(at, facts);
            text += &format!("{} expire at {at}:\n", conns.len());
            for conn in conns {
                let (address, session) = (address(conn), conn.session);
                text += &format!("\tip: {address} sessionId: {session}\n");
            }
        }
        text
    }

    fn expiry(&self, conn: &Conn) -> Instant {
        let core = &self.core;
        let ensemble = core.ensemble.as_deref();
        let local = || ensemble.and_then(|it| it.locals.expiry(conn.session));
        let of_session = core.tracker.expiry(conn.session).or_else(local);
        // A learner's leader knows when: no sooner than this.
        let learnt = (conn.session != SessionId::NONE)
            .then(|| core.now.instant.plus_ms(u64::from(conn.timeout_ms)));
        of_session.or(learnt).unwrap_or_else(|| {
            let patience_ms = self.core.config.handshake_timeout_ms;
            conn.opened.plus_ms(u64::from(patience_ms))
        })
    }

    fn date(&self, at: Instant, facts: &HostFacts) -> Date {
        let now = self.core.now;
        let ms = |micros: u64| i64::try_from(micros / 1000).unwrap_or(i64::MAX);
        let (ahead, behind) = (at.micros_since(now.instant), now.instant.micros_since(at));
        let wall = now
            .wall
            .0
            .saturating_add(ms(ahead))
            .saturating_sub(ms(behind));
        Date {
            at: UnixMillis(wall),
            utc_offset_s: facts.utc_offset_s,
        }
    }

    pub(super) fn watches_in_all(&self) -> String {
        let watches = &self.core.watches;
        format!(
            "{} connections watching {} paths\nTotal watches:{}\n",
            watches.data_by_link().len(),
            watches.data_by_path().len(),
            watches.data_entries(),
        )
    }

    pub(super) fn watches_by_connection(&self) -> String {
        let mut text = String::new();
        for (link, paths) in self.core.watches.data_by_link() {
            text += &format!("{}\n", self.session_of(link));
            for path in paths {
                text += &format!("\t{path}\n");
            }
        }
        text + "\n"
    }

    pub(super) fn watches_by_path(&self) -> String {
        let mut text = String::new();
        for (path, links) in self.core.watches.data_by_path() {
            text += &format!("{path}\n");
            for link in links {
                text += &format!("\t{}\n", self.session_of(link));
            }
        }
        text + "\n"
    }

    fn session_of(&self, link: LinkId) -> SessionId {
        let conn = self.conns.get(&link);
        conn.map_or(SessionId::NONE, |conn| conn.session)
    }

    /// Source: `HashCommand`.
    pub(super) fn digests(&self) -> String {
        let mut text = String::new();
        for (zxid, digest) in &self.core.digests {
            text += &format!("{:x}: {}\n", zxid.0, digest.cast_signed());
        }
        text
    }
}
