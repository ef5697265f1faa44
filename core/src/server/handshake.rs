//! Connections up to their session: accepted, asked for a word or a session, attached to one.
//!
//! Source of the order of checks: `ZooKeeperServer.processConnectRequest`, `reopenSession`.

use alloc::format;
use core::net::SocketAddr;

use bytes::Bytes;

use super::conn::{Conn, Cut, Stage};
use super::ensemble::Owner;
use super::four_letter::Word;
use super::{Event, HANDSHAKE_BYTES_MAX, Server};
use crate::ids::{LinkId, SessionId, Xid};
use crate::jute::{self, take};
use crate::wire::client::{ConnectRequest, ConnectResponse, OpCode};

impl Server {
    pub(super) fn opened(&mut self, link: LinkId, peer: SocketAddr) {
        let core = &mut self.core;
        let conn = Conn::new(peer, core.now.instant, core.now.wall);
        let from_there = self.by_address.entry(peer.ip()).or_insert(0);
        *from_there += 1;
        let (of_address, most) = (*from_there, core.config.connections_per_address_max);
        self.conns.insert(link, conn);
        let most_in_all = core.config.connections_max as usize;
        if most != 0 && of_address > most {
            core.stats.connections_refused += 1;
            let from = peer.ip();
            return self.refuse(
                link,
                format!("{from} has {most} connections (maxClientCnxns)"),
            );
        }
        if most_in_all != 0 && self.conns.len() > most_in_all {
            core.stats.connections_refused += 1;
            return self.refuse(
                link,
                format!("there are {most_in_all} connections (maxCnxns)"),
            );
        }
        let deadline = core
            .now
            .instant
            .plus_ms(u64::from(core.config.handshake_timeout_ms));
        self.unproven.push_back((deadline, link));
    }

    /// Goes on with a connection that has no session.
    ///
    /// Returns whether there may be more to do with it.
    pub(super) fn handshake(&mut self, link: LinkId) -> bool {
        let Some(conn) = self.conns.get_mut(&link) else {
            return false;
        };
        let Some(first) = conn.first_word() else {
            return false;
        };
        if let Some(word) = Word::recognise(first) {
            self.word(link, word);
            return false;
        }
        match conn.cut(HANDSHAKE_BYTES_MAX.min(self.core.config.frame_bytes_max)) {
            Cut::Frame(frame) => {
                self.connect(link, &frame);
                true
            }
            Cut::More => false,
            Cut::Bad(length) => {
                self.refuse(link, format!("its first frame has a length of {length}"));
                false
            }
        }
    }

    fn connect(&mut self, link: LinkId, frame: &Bytes) {
        let mut input: &[u8] = frame;
        let Ok(request) = take::<ConnectRequest<'_>>(&mut input) else {
            return self.refuse(link, "its request for a session is cut short".into());
        };
        let Some(conn) = self.conns.get_mut(&link) else {
            return;
        };
        conn.read_only_byte = !input.is_empty();
        conn.stats.received += 1;
        conn.asked_session = self.core.now.instant;
        self.core.stats.received += 1;
        self.core.stats.sessions_asked += 1;
        let asks_read_only = input.first().is_some_and(|&byte| byte != 0);
        let read_only = asks_read_only && self.core.is_read_only();
        if !self.core.serving && !read_only {
            self.core.stats.refused_not_serving += 1;
            return self.refuse(link, "the server is not serving yet".into());
        }
        if self.core.leads_only() {
            return self.refuse(link, "a leader serves no clients (leaderServes=no)".into());
        }
        let last = self.core.tree.last_zxid();
        if request.last_zxid_seen > last {
            let seen = request.last_zxid_seen;
            let reason = format!("its client has seen {seen}, this server only {last}");
            return self.refuse(link, reason);
        }
        let config = &self.core.config;
        let timeout_ms = u32::try_from(request.timeout_ms).unwrap_or(0);
        let timeout_ms = timeout_ms
            .max(config.session_timeout_ms_min)
            .min(config.session_timeout_ms_max);
        conn.timeout_ms = timeout_ms;
        conn.read_only = read_only;
        if request.session == SessionId::NONE {
            self.open_session(link, timeout_ms);
        } else if read_only {
            // Whether it is still alive, only a leader knows. The client goes on looking.
            self.refuse(
                link,
                "its session cannot be resumed in read-only mode".into(),
            );
        } else {
            self.resume_session(link, request.session, request.password.unwrap_or_default());
        }
    }

    fn open_session(&mut self, link: LinkId, timeout_ms: u32) {
        let session = self.core.new_session_id();
        let Some(conn) = self.conns.get_mut(&link) else {
            return;
        };
        if conn.read_only || self.core.opens_locals() {
            return self.open_local(link, session);
        }
        if !self.core.admits_session() {
            // As ZooKeeper does with connections that are too many: another server may be right,
            // and sessions end by themselves.
            return self.refuse(link, "there is no room for another session".into());
        }
        conn.session = session;
        conn.stage = Stage::Opening;
        self.by_session.insert(session, link);
        let timeout_ms = i32::try_from(timeout_ms).unwrap_or(i32::MAX);
        if self.core.learns() {
            let body = jute::to_vec(&timeout_ms);
            let op = OpCode::CREATE_SESSION;
            self.core.forward((session, Xid(0)), op, &body, None);
        } else {
            self.core
                .create_session(session, timeout_ms, Owner::Here, Some(link));
        }
    }

    fn resume_session(&mut self, link: LinkId, session: SessionId, given: &[u8]) {
        let Some(conn) = self.conns.get(&link) else {
            return;
        };
        // Before anything else is closed: who does not know the password must not disturb who does,
        // nor who has another certificate than the session's owner. (SASL comes after this.)
        let core = &mut self.core;
        let is_anothers = core.is_anothers(session, &conn.ids);
        if !core.password_is_right(session, given, &conn.ids) || is_anothers {
            return self.refuse_session(link, session);
        }
        if self.core.is_local(session) {
            return self.attach_session(link, session);
        }
        if self.core.learns() {
            let Some(conn) = self.conns.get_mut(&link) else {
                return;
            };
            conn.stage = Stage::Opening;
            let timeout_ms = conn.timeout_ms;
            if let Some(before) = self.core.ask_for_session(session, timeout_ms, link) {
                self.close(before);
            }
            return;
        }
        if self.core.tracker.is_alive(session) {
            self.core.own(session, Owner::Here);
            self.attach_session(link, session);
        } else {
            self.refuse_session(link, session);
        }
    }

    /// Tells a client that its session is over.
    pub(super) fn refuse_session(&mut self, link: LinkId, session: SessionId) {
        if let Some(conn) = self.conns.get_mut(&link) {
            let peer = conn.peer;
            self.core
                .events
                .push(Event::SessionRefused { session, peer });
            conn.timeout_ms = 0;
            conn.session = SessionId::NONE;
        }
        self.greet(link);
        self.close(link);
    }

    /// Gives a client's connection its session.
    pub(super) fn attach_session(&mut self, link: LinkId, session: SessionId) {
        if let Some(&old) = self.by_session.get(&session) {
            self.close(old);
        }
        let Some(conn) = self.conns.get_mut(&link) else {
            return;
        };
        conn.session = session;
        conn.stage = Stage::Open;
        self.by_session.insert(session, link);
        self.core
            .tracker
            .set_timeout(session, conn.timeout_ms, self.core.now.instant);
        self.core.stats.revalidated += 1;
        self.core.events.push(Event::SessionResumed {
            session,
            peer: conn.peer,
        });
        self.greet(link);
    }

    /// Answers the request for a session.
    pub(super) fn greet(&mut self, link: LinkId) {
        let Some(conn) = self.conns.get_mut(&link) else {
            return;
        };
        let session = conn.session;
        let password = if session == SessionId::NONE {
            [0; 16]
        } else {
            self.core.password(session, &conn.ids)
        };
        conn.admitted = session != SessionId::NONE && self.core.admits(conn);
        let response = ConnectResponse {
            protocol_version: 0,
            timeout_ms: i32::try_from(conn.timeout_ms).unwrap_or(i32::MAX),
            session,
            password: &password,
        };
        // Source: ZOOKEEPER-4814: old clients cannot bear a byte that they did not send.
        let (read_only, only_reads) = (conn.read_only_byte, conn.read_only);
        conn.frame(|out| {
            jute::append(out, &response);
            if read_only {
                out.push(u8::from(only_reads));
            }
        });
        self.core.stats.sent += 1;
        self.dirty.push(link);
    }
}
