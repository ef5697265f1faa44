//! Stop 3: what comes from one connection keeps its order. A write is proposed at once, also behind
//! others; a read waits only for earlier writes of its own session.

use alloc::format;
use alloc::string::String;

use bytes::Bytes;

use super::auth::{Authenticated, authenticate, identity_bytes};
use super::commit::Kind;
use super::conn::{Conn, Cut, Pending, Stage};
use super::ensemble::{Owner, Passage};
use super::prep::{Prep, Refusal, asked, is_well_formed, portable, wants_ephemeral};
use super::read::Reads;
use super::{
    Core, Event, IDENTITY_BYTES_MAX, LONG_BYTES, OUT_BYTES_HARD, OUT_BYTES_HIGH, Output,
    PENDING_MAX, PROPOSED_BYTES_HARD, PROPOSED_BYTES_HIGH, Server, StoreOp, WAITING_MAX,
};
use crate::error::ErrorCode;
use crate::ids::{Instant, LinkId, Seq, SessionId, Xid, Zxid};
use crate::jute::{self, take};
use crate::link::LinkOutput;
use crate::sasl::{self, CLIENTS};
use crate::wire::client::{
    AuthPacket, OpCode, ReadRequest, ReplyHeader, RequestHeader, error_field,
};
use crate::wire::records::Id;
use crate::wire::txn::{self, DIGEST_VERSION, Txn, TxnDigest, TxnHeader};
use crate::zab::membership::Membership;

/// Why somebody is refused who knows a session's password.
const NOT_ITS_SESSION: &str = "its session was authenticated as another";

/// Answers a SASL token, also when it is refused, with one or null.
fn answer_token(conn: &mut Conn, xid: Xid, error: Option<ErrorCode>, token: Option<&str>) {
    let error = error_field(error);
    let zxid = Zxid::ZERO;
    conn.frame(|out| jute::append(out, &(ReplyHeader { xid, zxid, error }, token)));
}

/// What became of a frame.
enum Handled {
    /// The next may be looked at.
    Go,
    /// The next may be looked at, but others first.
    GoLater,
    /// The connection ends, for this reason.
    Refuse(&'static str),
}

impl Server {
    /// Goes on with whatever a connection sent, as far as limits allow.
    pub(super) fn proceed(&mut self, link: LinkId) {
        while let Some(conn) = self.conns.get_mut(&link) {
            if conn.stage == Stage::Handshake {
                if !self.handshake(link) {
                    break;
                }
                continue;
            }
            if let Some(hold) = self.core.holds(conn) {
                if hold == Hold::Global {
                    self.throttled.insert(link);
                }
                break;
            }
            match conn.cut(self.core.config.frame_bytes_max) {
                Cut::Frame(frame) => match self.core.request(conn, link, frame) {
                    Handled::Go => {}
                    Handled::GoLater => {
                        self.ready.insert(link);
                        break;
                    }
                    Handled::Refuse(reason) => return self.refuse(link, reason.into()),
                },
                Cut::More => break,
                Cut::Bad(length) => {
                    let most = self.core.config.frame_bytes_max;
                    let reason = format!("a frame has a length of {length}, expected 0 to {most}");
                    return self.refuse(link, reason);
                }
            }
        }
        self.settle(link);
    }

    /// Tells the driver whether to read on, and remembers that there is something to send.
    pub(super) fn settle(&mut self, link: LinkId) {
        let Some(conn) = self.conns.get_mut(&link) else {
            return;
        };
        let pause = conn.has_input() && self.core.holds(conn).is_some();
        if pause != conn.paused {
            conn.paused = pause;
            let output = if pause {
                LinkOutput::Pause
            } else {
                LinkOutput::Resume
            };
            self.core.outputs.push(Output::Link(link, output));
        }
        if !conn.out.is_empty() {
            self.dirty.push(link);
        }
    }

    /// Goes on with connections that waited for something that was not their own.
    pub(super) fn release(&mut self) {
        let last = self.core.tree.last_zxid();
        while let Some(&(zxid, link)) = self.core.syncs.first()
            && zxid <= last
        {
            self.core.syncs.pop_first();
            self.ready.insert(link);
        }
        if !self.core.is_busy() {
            self.ready.append(&mut self.throttled);
        }
        self.expire_locals();
        for link in core::mem::take(&mut self.ready) {
            if let Some(conn) = self.conns.get_mut(&link) {
                self.core.drain(conn, link);
                self.proceed(link);
            }
        }
        for session in core::mem::take(&mut self.core.locals_closed) {
            self.local_closed(session);
        }
    }
}

/// What keeps a connection's next frame from being looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// Its own doing: it is slow to read, has much in flight, or waits for its session.
    Own,
    /// There are too many requests in flight, and it has some of them.
    Global,
}

impl Core {
    fn holds(&self, conn: &Conn) -> Option<Hold> {
        // Before its handshake it is cut off by what that may be long, and has nothing to wait for.
        let own = matches!(conn.stage, Stage::Opening | Stage::Closing)
            || conn.held_out() >= OUT_BYTES_HIGH
            || conn.pending.len() >= PENDING_MAX
            || conn.waiting >= WAITING_MAX
            || conn.waiting_long > 0;
        if own {
            return Some(Hold::Own);
        }
        let global = (self.is_busy() && !conn.pending.is_empty())
            || self.proposed_bytes > PROPOSED_BYTES_HARD;
        global.then_some(Hold::Global)
    }

    /// Whether there is so much in flight that whoever has a part of it must wait.
    const fn is_busy(&self) -> bool {
        self.outstanding > self.config.outstanding_max as usize
            || self.proposed_bytes > PROPOSED_BYTES_HIGH
    }

    fn request(&mut self, conn: &mut Conn, link: LinkId, frame: Bytes) -> Handled {
        let mut body: &[u8] = &frame;
        let Ok(RequestHeader { xid, op }) = take(&mut body) else {
            return Handled::Refuse("a frame is shorter than a request's header");
        };
        conn.stats.received += 1;
        self.stats.received += 1;
        if !self.touch(conn) {
            // The session is over and the connection about to be: nothing is answered any more.
            return Handled::Go;
        }
        match op {
            OpCode::AUTH => self.auth(conn, xid, body),
            OpCode::SASL => self.sasl(conn, xid, body),
            _ if !conn.admitted => self.refuse_stranger(conn, xid),
            OpCode::CREATE
            | OpCode::CREATE2
            | OpCode::CREATE_CONTAINER
            | OpCode::CREATE_TTL
            | OpCode::DELETE
            | OpCode::SET_DATA
            | OpCode::SET_ACL
            | OpCode::MULTI
            | OpCode::RECONFIG => {
                match self.pass(conn, op, body) {
                    Passage::Free => self.write(conn, link, xid, op, body),
                    Passage::Refused(error) => self.refuse_write(conn, xid, error),
                }
                Handled::Go
            }
            OpCode::CLOSE_SESSION if !conn.local => {
                let zxid = if self.learns() {
                    self.forward((conn.session, xid), op, &[], Some(&conn.ids));
                    None
                } else {
                    self.close_session(conn.session, Some(link), xid);
                    Some(self.proposed)
                };
                self.push_write(conn, zxid, xid, (op, &[]));
                // Whatever else it sent is too late.
                conn.stage = Stage::Closing;
                Handled::Go
            }
            OpCode::SYNC if conn.read_only => {
                self.refuse_write(conn, xid, ErrorCode::NOT_READ_ONLY);
                Handled::Go
            }
            OpCode::CLOSE_SESSION
            | OpCode::EXISTS
            | OpCode::GET_DATA
            | OpCode::GET_ACL
            | OpCode::GET_CHILDREN
            | OpCode::GET_CHILDREN2
            | OpCode::SYNC
            | OpCode::PING
            | OpCode::CHECK_WATCHES
            | OpCode::REMOVE_WATCHES
            | OpCode::MULTI_READ
            | OpCode::SET_WATCHES
            | OpCode::SET_WATCHES2
            | OpCode::GET_EPHEMERALS
            | OpCode::GET_ALL_CHILDREN_NUMBER
            | OpCode::ADD_WATCH
            | OpCode::WHO_AM_I => {
                let after = match op {
                    OpCode::SYNC if self.ensemble.is_some() => {
                        if self.learns() {
                            self.forward_sync((conn.session, xid), body, &conn.ids, link);
                        } else {
                            self.sync(link);
                        }
                        Self::UNTIL_SYNCED
                    }
                    OpCode::SYNC => self.proposed,
                    _ => Zxid::ZERO,
                };
                if conn.pending.is_empty() && after <= self.tree.last_zxid() {
                    self.read(conn, link, xid, op, body);
                    self.took(conn, xid, op, self.now.instant, Kind::Read);
                    if op == OpCode::GET_ALL_CHILDREN_NUMBER {
                        // It walks a tree that may be large, for a request of a few bytes.
                        return Handled::GoLater;
                    }
                } else {
                    let since = self.now.instant;
                    let long = self.has_long_answer(op, body, frame.len());
                    // Kept by itself: the frame may be a small part of what arrived with it.
                    let frame = Bytes::copy_from_slice(&frame);
                    self.push(
                        conn,
                        Pending::Waiting {
                            frame,
                            after,
                            since,
                            long,
                        },
                    );
                    if after > Zxid::ZERO && after < Self::UNTIL_SYNCED {
                        self.syncs.insert((after, link));
                    }
                }
                Handled::Go
            }
            _ => {
                conn.reply(xid, Zxid(-1), Some(ErrorCode::UNIMPLEMENTED), |_| {});
                Handled::Refuse("it asked for an operation that does not exist")
            }
        }
    }

    /// A connection's client gave a sign of life. Returns whether its session is alive too.
    pub(super) fn touch(&mut self, conn: &mut Conn) -> bool {
        if self.now.instant < conn.quiet_until {
            return true;
        }
        if conn.local {
            return self.local_alive(conn);
        }
        if self.learns() {
            return self.learner_alive(conn);
        }
        match self.tracker.touch(conn.session, self.now.instant) {
            Some(until) => {
                conn.quiet_until = until;
                true
            }
            None => false,
        }
    }

    fn push(&mut self, conn: &mut Conn, pending: Pending) {
        match pending {
            Pending::Refused { .. } => {}
            Pending::Waiting { long, .. } => {
                conn.waiting += 1;
                conn.waiting_long += usize::from(long);
            }
            Pending::Write { .. } => conn.writes += 1,
        }
        conn.pending.push_back(pending);
        self.outstanding += 1;
    }

    /// Takes the front of a connection's queue away.
    pub(super) fn pop(&mut self, conn: &mut Conn) -> Option<Pending> {
        let pending = conn.pending.pop_front()?;
        match pending {
            Pending::Refused { .. } => {}
            Pending::Waiting { long, .. } => {
                conn.waiting -= 1;
                conn.waiting_long -= usize::from(long);
            }
            Pending::Write { .. } => conn.writes -= 1,
        }
        self.outstanding -= 1;
        Some(pending)
    }

    /// Answers at once, also before requests that came earlier.
    fn auth(&mut self, conn: &mut Conn, xid: Xid, body: &[u8]) -> Handled {
        let mut input = body;
        let Ok(packet) = take::<AuthPacket<'_>>(&mut input) else {
            return Handled::Refuse("an auth packet is cut short");
        };
        let (address, secret) = (conn.peer.ip(), packet.auth.unwrap_or_default());
        let came = authenticate(&self.config, address, packet.scheme.or_empty(), secret);
        match came {
            Authenticated::As(ids) => {
                for id in ids {
                    if !conn.ids.contains(&id) {
                        conn.ids.push(id);
                    }
                }
                if conn.ids.iter().map(identity_bytes).sum::<usize>() > IDENTITY_BYTES_MAX {
                    self.stats.auth_failed += 1;
                    conn.reply(xid, Zxid::ZERO, Some(ErrorCode::AUTH_FAILED), |_| {});
                    return Handled::Refuse("it claims more identities than anybody has");
                }
                conn.admitted = self.admits(conn);
                conn.reply(xid, Zxid::ZERO, None, |_| {});
                self.stats.sent += 1;
                Handled::Go
            }
            Authenticated::Failed => {
                self.stats.auth_failed += 1;
                conn.reply(xid, Zxid::ZERO, Some(ErrorCode::AUTH_FAILED), |_| {});
                Handled::Refuse("it authenticates by a scheme that is not known")
            }
        }
    }

    /// Takes a token. Source: `ZooKeeperServer.processSasl`.
    fn sasl(&mut self, conn: &mut Conn, xid: Xid, body: &[u8]) -> Handled {
        let mut input = body;
        let Ok(token) = take::<Option<&serde_bytes::Bytes>>(&mut input) else {
            return Handled::Refuse("a SASL token is cut short");
        };
        self.stats.sent += 1;
        let auth = &self.config.auth;
        let Some(users) = &auth.sasl_users else {
            // What a server without SASL says; the client then gives up by itself.
            answer_token(conn, xid, None, None);
            return Handled::Go;
        };
        let token = token.map_or(&[][..], |token| token);
        let again = matches!(conn.sasl, sasl::Server::Over);
        let step = conn.sasl.evaluate(&CLIENTS, token, users, &mut self.nonces);
        let reason = match step {
            Ok(sasl::Step::Challenge(token)) => {
                answer_token(conn, xid, None, Some(&token));
                return Handled::Go;
            }
            Ok(sasl::Step::Done { user, token }) => {
                let is_super = auth.super_users.contains(&user);
                let id = |scheme: &str, id| Id {
                    scheme: scheme.into(),
                    id,
                };
                conn.ids.push(id("sasl", user));
                if is_super {
                    conn.ids.push(id("super", String::new()));
                }
                conn.admitted = self.admits(conn);
                if conn.admitted {
                    answer_token(conn, xid, None, Some(&token));
                    return Handled::Go;
                }
                NOT_ITS_SESSION
            }
            Err(reason) => reason,
        };
        self.stats.auth_failed += 1;
        let auth = &self.config.auth;
        let required = auth.schemes_required.iter().any(|scheme| scheme == "sasl");
        if auth.allow_failed && !required && !again && reason != NOT_ITS_SESSION {
            self.events.push(Event::SaslFailed {
                peer: conn.peer,
                reason: reason.into(),
            });
            answer_token(conn, xid, None, None);
            return Handled::Go;
        }
        let error = if required {
            ErrorCode::SESSION_CLOSED_REQUIRE_SASL_AUTH
        } else {
            ErrorCode::AUTH_FAILED
        };
        answer_token(conn, xid, Some(error), None);
        Handled::Refuse(reason)
    }

    /// Refuses a request of somebody who has not shown who it is. Its session stays.
    ///
    /// Source: `AuthenticationHelper.enforceAuthentication`.
    fn refuse_stranger(&mut self, conn: &mut Conn, xid: Xid) -> Handled {
        let error = ErrorCode::SESSION_CLOSED_REQUIRE_SASL_AUTH;
        self.stats.auth_failed += 1;
        self.stats.sent += 1;
        conn.reply(xid, Zxid::ZERO, Some(error), |_| {});
        Handled::Refuse(if self.may_act(conn.session, &conn.ids) {
            "it has not authenticated by a scheme of enforce.auth.schemes"
        } else {
            NOT_ITS_SESSION
        })
    }

    pub(super) fn read(
        &mut self,
        conn: &mut Conn,
        link: LinkId,
        xid: Xid,
        op: OpCode,
        body: &[u8],
    ) {
        if op == OpCode::CLOSE_SESSION {
            // A local one: nobody else need hear of it.
            conn.reply(xid, self.tree.last_zxid(), None, |_| {});
            conn.stage = Stage::Closing;
            self.locals_closed.push(conn.session);
            return;
        }
        let mut reads = Reads {
            config: &self.config,
            tree: &self.tree,
            watches: &mut self.watches,
            stats: &mut self.stats,
        };
        let before = conn.out.len();
        reads.answer(conn, link, xid, op, body);
        self.stats.answered(conn.out.len() - before);
    }

    /// Proposes a write, or its refusal.
    fn write(&mut self, conn: &mut Conn, link: LinkId, xid: Xid, op: OpCode, body: &[u8]) {
        if self.learns() {
            return self.forward_write(conn, xid, op, body);
        }
        let Some(zxid) = self.next_zxid() else {
            // The reign is over, and with it this connection.
            return;
        };
        let ephemeral = self.ensemble.is_some() && wants_ephemeral(op, body);
        let owned = self.owned(conn.session, Owner::Here, ephemeral);
        if op == OpCode::RECONFIG && self.ensemble.is_some() && owned.is_ok() {
            let by = (conn.session, xid);
            match self.reconfigure(by, body, &conn.ids, Some(link)) {
                Ok(()) => self.push_write(conn, Some(zxid), xid, (op, body)),
                Err(_) => self.refuse_write(conn, xid, ErrorCode::MARSHALLING_ERROR),
            }
            return;
        }
        let mut prep = Prep::new(
            &self.config,
            &self.tree,
            &mut self.overlay,
            (conn.session, &conn.ids),
            (zxid, self.now.wall),
            &mut self.events,
        );
        let prepared = owned.map_err(Refusal::Code);
        let prepared = match prepared.and_then(|()| prep.request(op, body)) {
            Ok(prepared) => prepared,
            Err(Refusal::Code(code)) => (OpCode::ERROR, Txn::Error(code)),
            Err(Refusal::Malformed) => {
                return self.refuse_write(conn, xid, ErrorCode::MARSHALLING_ERROR);
            }
        };
        let (proposed, mut txn) = prepared;
        if self.ensemble.is_some() {
            portable(&mut txn);
        }
        self.propose(conn.session, xid, proposed, &txn, Some(link));
        self.push_write(conn, Some(zxid), xid, (op, body));
    }

    fn push_write(
        &mut self,
        conn: &mut Conn,
        zxid: Option<Zxid>,
        xid: Xid,
        (op, body): (OpCode, &[u8]),
    ) {
        let since = self.now.instant;
        let several = self.ensemble.is_some() && op == OpCode::MULTI;
        let asked = if several { asked(body) } else { None };
        let audited = self.config.audit.then(|| Bytes::copy_from_slice(body));
        self.push(
            conn,
            Pending::Write {
                zxid,
                xid,
                op,
                since,
                asked,
                audited,
            },
        );
    }

    /// A learner's client's write: the leader judges it, once it is known to be a request at all.
    fn forward_write(&mut self, conn: &mut Conn, xid: Xid, op: OpCode, body: &[u8]) {
        // Source: a leader of ZooKeeper 3.9 gives two transactions one zxid when it cannot decode
        // a request.
        if !is_well_formed(op, body) {
            return self.refuse_write(conn, xid, ErrorCode::MARSHALLING_ERROR);
        }
        self.forward((conn.session, xid), op, body, Some(&conn.ids));
        self.push_write(conn, None, xid, (op, body));
    }

    /// Refuses a write that gets no place in the order, in its turn.
    fn refuse_write(&mut self, conn: &mut Conn, xid: Xid, error: ErrorCode) {
        if conn.pending.is_empty() {
            conn.reply(xid, self.tree.last_zxid(), Some(error), |_| {});
            self.stats.sent += 1;
            self.took(conn, xid, OpCode::ERROR, self.now.instant, Kind::Read);
        } else {
            self.push(conn, Pending::Refused { xid, error });
        }
    }

    /// A learner's client gave a sign of life: the leader will hear of it.
    fn learner_alive(&mut self, conn: &mut Conn) -> bool {
        if conn.stage == Stage::Open && !self.tree.has_session(conn.session) {
            return false;
        }
        if conn.session == SessionId::NONE {
            return true;
        }
        // Until the leader is told: after that another sign is news.
        conn.quiet_until = Instant(u64::MAX);
        self.learner_touch(conn.session, conn.timeout_ms);
        true
    }

    /// Proposes the end of a session, by its client's wish or because its time has come.
    pub(super) fn close_session(&mut self, session: SessionId, link: Option<LinkId>, xid: Xid) {
        let Some(zxid) = self.next_zxid() else {
            return;
        };
        let mut prep = Prep::new(
            &self.config,
            &self.tree,
            &mut self.overlay,
            (session, &[]),
            (zxid, self.now.wall),
            &mut self.events,
        );
        let (op, txn) = prep.close_session();
        self.tracker.close(session);
        self.propose(session, xid, op, &txn, link);
    }

    /// Standalone there is no leader to step down when the counter is used up, twelve hours of
    /// writes at full speed: the next epoch begins by itself.
    ///
    /// A leader does step down: then there is none.
    pub(super) fn next_zxid(&self) -> Option<Zxid> {
        match self.ensemble.as_deref() {
            Some(ensemble) => ensemble.zab.next_zxid(),
            None => {
                let next = self.proposed.next();
                Some(next.unwrap_or_else(|| self.proposed.first_of_next_epoch()))
            }
        }
    }

    pub(super) fn new_session_id(&mut self) -> SessionId {
        while self.tracker.contains(self.next_session) || self.tree.has_session(self.next_session) {
            self.next_session.0 = self.next_session.0.wrapping_add(1);
        }
        let session = self.next_session;
        self.next_session.0 = self.next_session.0.wrapping_add(1);
        session
    }

    /// Stop 5: encodes a transaction, once, and gives it to the store.
    pub(super) fn propose(
        &mut self,
        session: SessionId,
        xid: Xid,
        op: OpCode,
        txn: &Txn<'_>,
        link: Option<LinkId>,
    ) {
        self.propose_any((session, xid), op, txn, None, link);
    }

    /// The same for a change of the membership.
    pub(super) fn propose_membership(
        &mut self,
        by: (SessionId, Xid),
        txn: &Txn<'_>,
        membership: Membership,
        link: Option<LinkId>,
    ) {
        self.propose_any(by, OpCode::RECONFIG, txn, Some(membership), link);
    }

    fn propose_any(
        &mut self,
        (session, xid): (SessionId, Xid),
        op: OpCode,
        txn: &Txn<'_>,
        membership: Option<Membership>,
        link: Option<LinkId>,
    ) {
        let Some(zxid) = self.next_zxid() else {
            return;
        };
        let mut bytes = alloc::vec::Vec::with_capacity(192);
        let header = TxnHeader {
            client: session,
            cxid: xid,
            zxid,
            time: self.now.wall,
            op,
        };
        jute::append(&mut bytes, &header);
        txn::append_body(&mut bytes, txn);
        // Errors carry none: the tree stays as it was.
        if op != OpCode::ERROR
            && let Some(digest) = self.overlay.digest()
        {
            let digest = TxnDigest {
                version: DIGEST_VERSION,
                digest: digest.cast_signed(),
            };
            jute::append(&mut bytes, &digest);
        }
        let txn = Bytes::from(bytes);
        self.proposed = zxid;
        self.stats.proposals += 1;
        let bytes = txn.len();
        self.stats.proposal_bytes.record(bytes);
        self.proposed_bytes += bytes;
        let kept = match self.ensemble_mut() {
            Some(ensemble) => {
                ensemble.zab.propose(zxid, txn, membership);
                Bytes::new()
            }
            None => {
                self.append(zxid, txn.clone());
                txn
            }
        };
        self.proposals.push_back(super::Proposal {
            zxid,
            seq: self.seq,
            txn: kept,
            bytes,
            link,
        });
    }

    /// Standing alone, a transaction goes to the store and to nobody else.
    fn append(&mut self, zxid: Zxid, txn: Bytes) {
        self.seq = Seq(self.seq.0 + 1);
        self.snapshots.logged(txn.len());
        let append = StoreOp::Append { zxid, txn };
        self.outputs.push(Output::Store(self.seq, append));
    }

    /// Whether what waits holds much memory, or its answer will.
    fn has_long_answer(&self, op: OpCode, body: &[u8], frame_bytes: usize) -> bool {
        let mut input = body;
        match op {
            OpCode::GET_ACL
            | OpCode::GET_CHILDREN
            | OpCode::GET_CHILDREN2
            | OpCode::GET_EPHEMERALS
            | OpCode::MULTI_READ
            | OpCode::SET_WATCHES
            | OpCode::SET_WATCHES2 => true,
            OpCode::GET_DATA => take::<ReadRequest<'_>>(&mut input).is_ok_and(|request| {
                let path = request.path.or_empty();
                let node = self.overlay.find(&self.tree, path);
                node.is_some_and(|node| node.data_length > LONG_BYTES)
            }),
            _ => frame_bytes > LONG_BYTES,
        }
    }

    /// Answers requests of a connection whose turn has come.
    pub(super) fn drain(&mut self, conn: &mut Conn, link: LinkId) {
        // Before a write of its own they must be answered, however slow the client is to read: few
        // enough wait, but each may be many reads in one. After the last of them they can
        // wait for the client.
        while conn.held_out() < OUT_BYTES_HIGH
            || (conn.writes > 0 && conn.held_out() < OUT_BYTES_HARD)
        {
            match conn.pending.front() {
                Some(Pending::Waiting { after, .. }) if *after <= self.tree.last_zxid() => {
                    let Some(Pending::Waiting { frame, since, .. }) = self.pop(conn) else {
                        return;
                    };
                    let mut body: &[u8] = &frame;
                    if let Ok(RequestHeader { xid, op }) = take(&mut body) {
                        self.read(conn, link, xid, op, body);
                        self.took(conn, xid, op, since, Kind::Read);
                    }
                }
                Some(&Pending::Refused { xid, error }) => {
                    self.pop(conn);
                    conn.reply(xid, self.tree.last_zxid(), Some(error), |_| {});
                    self.stats.sent += 1;
                    self.took(conn, xid, OpCode::ERROR, self.now.instant, Kind::Read);
                }
                _ => return,
            }
        }
    }
}
