//! Stops 8 and 9: what is durable is applied in order, watches fire, and whoever asked is answered.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::auth::{permits, user_name};
use super::conn::{Conn, Pending, Stage};
use super::prep::Prep;
use super::read::notify;
use super::{Core, Event, OUT_BYTES_HARD, Proposal, Server, Stats};
use crate::error::ErrorCode;
use crate::ids::{Instant, LinkId, SessionId, Xid, Zxid};
use crate::jute::{self, Text};
use crate::tree::watch::Table;
use crate::tree::{Applied, CONFIG, Change};
use crate::wire::audit::Audited;
use crate::wire::client::{Create2Response, EventType, GetDataResponse, MultiHeader, OpCode};
use crate::wire::records::{Acl, Perms};
use crate::wire::txn::{self, DIGEST_VERSION, Txn, TxnDigest, TxnHeader};

/// Transactions between two digests that are remembered. Source: `DataTree.DIGEST_LOG_INTERVAL`.
const DIGEST_INTERVAL: i64 = 128;
/// How many of them are. Source: `DataTree.DIGEST_LOG_LIMIT`.
const DIGESTS_MAX: usize = 1024;

/// What a request was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It changed nothing.
    Read,
    /// It was proposed, whatever came of it.
    Write,
}

impl Server {
    /// Applies every proposal that is durable.
    pub(super) fn commit(&mut self) {
        while let Some(proposal) = self.core.proposals.front()
            && proposal.seq <= self.core.stored
        {
            let Some(proposal) = self.core.proposals.pop_front() else {
                return;
            };
            self.core.proposed_bytes -= proposal.bytes;
            let Proposal {
                zxid, txn, link, ..
            } = proposal;
            if let Err(reason) = self.commit_one(zxid, &txn, link, true) {
                unreachable!("a transaction of this server's own: {reason}");
            }
        }
    }

    /// Applies a committed transaction, `mine` if this server has proposed it.
    ///
    /// An error says what is wrong with it, or with the tree: this server must not go on.
    pub(super) fn commit_one(
        &mut self,
        zxid: Zxid,
        txn: &[u8],
        link: Option<LinkId>,
        mine: bool,
    ) -> Result<(), String> {
        let (header, body, digest) = txn::decode(txn)
            .map_err(|error| format!("transaction {zxid} cannot be decoded: {error}"))?;
        if header.zxid != zxid {
            return Err(format!(
                "transaction {zxid} says of itself that it is {}",
                header.zxid
            ));
        }
        let last = self.core.tree.last_zxid();
        if zxid <= last {
            return Err(format!("transaction {zxid} is committed after {last}"));
        }
        let link = if mine { link } else { self.waiter(&header) };
        self.answer_earlier(link);
        self.apply(&header, body, digest, link)
    }

    /// Answers what the same connection asked before: a session never reads what it wrote only
    /// later.
    fn answer_earlier(&mut self, link: Option<LinkId>) {
        if let Some(link) = link
            && let Some(conn) = self.conns.get_mut(&link)
            && matches!(
                conn.pending.front(),
                Some(Pending::Waiting { .. } | Pending::Refused { .. })
            )
        {
            self.core.drain(conn, link);
            self.dirty.push(link);
            let front = conn.pending.front();
            if front.is_some_and(|pending| !matches!(pending, Pending::Write { .. })) {
                self.refuse(link, "it does not read its answers".into());
            }
        }
    }

    fn apply(
        &mut self,
        header: &TxnHeader,
        txn: Txn<'_>,
        digest: Option<TxnDigest>,
        link: Option<LinkId>,
    ) -> Result<(), String> {
        let closed = matches!(txn, Txn::CloseSession { .. });
        let opened = matches!(txn, Txn::CreateSession { .. });
        if closed && self.core.config.audit {
            self.core.audit_ephemerals(header.client);
        }
        let mut changes = Vec::new();
        let watched = !self.core.watches.is_empty();
        let applied = self
            .core
            .tree
            .apply(header, txn, watched.then_some(&mut changes));
        self.core.applied(header.zxid);
        // The proposal says what the tree is to be: two ways to the same sum.
        self.core.compare(header.zxid, digest)?;
        for change in &changes {
            self.fire(change, header.zxid);
        }
        if opened && self.core.is_local(header.client) {
            self.promoted(header.client);
        }
        self.answer(link, header, &applied);
        if closed {
            self.session_closed(header.client);
        }
        Ok(())
    }

    /// Tells watchers of a change; those that may not read the znode are not told, and their
    /// one-shot watches are spent all the same. Source: CVE-2024-23944.
    fn fire(&mut self, change: &Change, zxid: Zxid) {
        let Change {
            kind,
            path,
            acl,
            parent_acl,
        } = change;
        let told = self.core.watches.fire(Table::Data, path, *kind);
        self.core.stats.fired(*kind, told.len());
        self.notify(&told, *kind, path, acl, zxid);
        if *kind == EventType::DELETED {
            let mut others = self.core.watches.fire(Table::Child, path, *kind);
            self.core.stats.fired(*kind, others.len());
            others.retain(|link| told.binary_search(link).is_err());
            self.notify(&others, *kind, path, acl, zxid);
        }
        if let Some(parent_acl) = parent_acl {
            let (parent, _) = crate::path::split(path).unwrap_or_default();
            let parent = if parent.is_empty() { "/" } else { parent };
            let kind = EventType::CHILDREN_CHANGED;
            let told = self.core.watches.fire(Table::Child, parent, kind);
            self.core.stats.fired(kind, told.len());
            self.notify(&told, kind, parent, parent_acl, zxid);
        }
    }

    fn notify(&mut self, links: &[LinkId], kind: EventType, path: &str, acl: &[Acl], zxid: Zxid) {
        for &link in links {
            let Some(conn) = self.conns.get_mut(&link) else {
                continue;
            };
            if conn.stage != Stage::Open && conn.stage != Stage::Closing {
                continue;
            }
            if !permits(&self.core.config, acl, Perms::READ, &conn.ids) {
                continue;
            }
            notify(conn, &mut self.core.stats, kind, path, zxid);
            if conn.held_out() > OUT_BYTES_HARD {
                self.refuse(link, "it does not read its notifications".into());
            } else {
                self.dirty.push(link);
            }
        }
    }

    fn answer(&mut self, link: Option<LinkId>, header: &TxnHeader, applied: &Applied<'_>) {
        let Some(link) = link else { return };
        let Some(conn) = self.conns.get_mut(&link) else {
            return;
        };
        if header.op == OpCode::CREATE_SESSION {
            conn.stage = Stage::Open;
            let since = conn.asked_session;
            self.core
                .took(conn, header.cxid, header.op, since, Kind::Write);
            let (session, timeout_ms, peer) = (conn.session, conn.timeout_ms, conn.peer);
            self.core.events.push(Event::SessionOpened {
                session,
                timeout_ms,
                peer,
            });
            self.greet(link);
            self.ready.insert(link);
            return;
        }
        let Some(Pending::Write {
            zxid,
            asked,
            audited,
            ..
        }) = conn.pending.front_mut()
        else {
            unreachable!("the front of a connection's queue is its first write in flight");
        };
        assert!(
            zxid.is_none_or(|zxid| zxid == header.zxid),
            "a connection's writes are answered in order"
        );
        let asked = asked.take();
        let audited = audited.take();
        let Some(Pending::Write { xid, op, since, .. }) = self.core.pop(conn) else {
            return;
        };
        if is_moved(applied) {
            // Its client is served elsewhere: what it still has here is somebody's who was cut off.
            // Source: `FinalRequestProcessor`, which closes and never replies so (ZOOKEEPER-710).
            self.close(link);
            return;
        }
        if let Some(request) = audited {
            self.core.events.push(audit(conn, op, &request, applied));
        }
        let before = conn.out.len();
        let last = self.core.tree.last_zxid();
        match applied {
            Applied::Set { stat } if op == OpCode::RECONFIG => {
                // Source: `FinalRequestProcessor`, case `reconfig`: as `getConfig` answers.
                let tree = &self.core.tree;
                let data = tree.find(CONFIG).and_then(|node| tree.data(node));
                conn.answer(header.cxid, last, &GetDataResponse { data, stat: *stat });
            }
            Applied::Failed(code) => conn.reply(xid, last, Some(*code), |_| {}),
            Applied::Created { .. } | Applied::Done | Applied::Multi(_) | Applied::Set { .. } => {
                conn.reply(xid, last, None, |out| {
                    append_asked(out, op, applied, asked.as_deref())
                })
            }
        }
        self.core.stats.answered(conn.out.len() - before);
        let op = match applied {
            Applied::Failed(_) => OpCode::ERROR,
            Applied::Created { .. } | Applied::Done | Applied::Multi(_) | Applied::Set { .. } => op,
        };
        self.core.took(conn, xid, op, since, Kind::Write);
        self.core.drain(conn, link);
        let waiting = conn.has_input() || !conn.pending.is_empty() || conn.paused;
        self.dirty.push(link);
        if waiting {
            self.ready.insert(link);
        }
    }

    fn session_closed(&mut self, session: SessionId) {
        self.core.tracker.remove(session);
        self.core.session_forgotten(session);
        self.core.pins.remove(&session);
        self.core.old_passwords.remove(&session);
        self.core.events.push(Event::SessionClosed { session });
        if let Some(&link) = self.by_session.get(&session) {
            self.close(link);
        }
    }
}

/// Who asked for a write, and what came of it.
#[inline(never)]
fn audit(conn: &Conn, op: OpCode, request: &[u8], applied: &Applied<'_>) -> Event {
    let mut users = String::new();
    for id in &conn.ids {
        if !users.is_empty() {
            users.push(',');
        }
        users.push_str(user_name(id));
    }
    let (mut paths, mut error) = (String::new(), ErrorCode(0));
    outcome(applied, &mut paths, &mut error);
    audited(Audited {
        session: conn.session,
        op,
        error: error.0,
        users: (&*users).into(),
        paths: (&*paths).into(),
        request: Some(request),
    })
}

fn audited(what: Audited<'_>) -> Event {
    Event::Audited(jute::to_vec(&what).into())
}

/// The znodes that were created, and the first error.
fn outcome(applied: &Applied<'_>, paths: &mut String, error: &mut ErrorCode) {
    match applied {
        Applied::Created { path, .. } => {
            paths.push_str(path);
            paths.push('\0');
        }
        Applied::Failed(code) if error.0 == 0 => *error = *code,
        Applied::Multi(results) => {
            for (_, result) in results {
                outcome(result, paths, error);
            }
        }
        Applied::Done | Applied::Failed(_) | Applied::Set { .. } => {}
    }
}

/// Whether a write was refused because its session is another server's.
fn is_moved(applied: &Applied<'_>) -> bool {
    match applied {
        Applied::Failed(code) => *code == ErrorCode::SESSION_MOVED,
        Applied::Multi(results) => results.iter().any(|(_, result)| is_moved(result)),
        Applied::Created { .. } | Applied::Done | Applied::Set { .. } => false,
    }
}

/// Appends the body of a successful write's reply, as it was asked for.
fn append_asked(out: &mut Vec<u8>, op: OpCode, applied: &Applied<'_>, asked: Option<&[OpCode]>) {
    let Applied::Multi(results) = applied else {
        return append_result(out, op, applied);
    };
    append_results(out, results, asked.unwrap_or_default());
}

/// Appends the body of a successful write's reply.
fn append_result(out: &mut Vec<u8>, op: OpCode, applied: &Applied<'_>) {
    match applied {
        Applied::Created { path, .. } if op == OpCode::CREATE => jute::append(out, &**path),
        Applied::Created { path, stat } => {
            let path = Text(Some(Cow::Borrowed(&**path)));
            jute::append(out, &Create2Response { path, stat: *stat });
        }
        Applied::Set { stat } => jute::append(out, stat),
        Applied::Multi(results) => append_results(out, results, &[]),
        Applied::Done | Applied::Failed(_) => {}
    }
}

/// Source: `FinalRequestProcessor`, `MultiResponse`; ZOOKEEPER-4026 for the stat of a created
/// znode.
fn append_results(out: &mut Vec<u8>, results: &[(OpCode, Applied<'_>)], asked: &[OpCode]) {
    for (index, (op, result)) in results.iter().enumerate() {
        let op = match asked.get(index) {
            Some(&OpCode::CREATE2) if *op == OpCode::CREATE => &OpCode::CREATE2,
            _ => op,
        };
        match result {
            Applied::Failed(code) => jute::append(out, &(MultiHeader::failure(code.0), code)),
            // libzookeeper takes a container's result for a plain create's whatever its header
            // says, and would lose its place behind a stat; the others take both. So it
            // gets the plain form.
            Applied::Created { .. } if *op == OpCode::CREATE_CONTAINER => {
                jute::append(out, &MultiHeader::result(OpCode::CREATE));
                append_result(out, OpCode::CREATE, result);
            }
            Applied::Created { .. } if *op == OpCode::CREATE_TTL => {
                jute::append(out, &MultiHeader::result(OpCode::CREATE2));
                append_result(out, *op, result);
            }
            Applied::Created { .. } | Applied::Done | Applied::Multi(_) | Applied::Set { .. } => {
                jute::append(out, &MultiHeader::result(*op));
                append_result(out, *op, result);
            }
        }
    }
    jute::append(out, &MultiHeader::END);
}

impl Core {
    /// Tells which ephemeral znodes go with a session that ends.
    fn audit_ephemerals(&mut self, session: SessionId) {
        let mut paths = String::new();
        for path in self.ephemeral_paths(session) {
            paths.push_str(&path);
            paths.push('\0');
        }
        self.events.push(audited(Audited {
            session,
            op: OpCode::CLOSE_SESSION,
            error: 0,
            users: Text(None),
            paths: (&*paths).into(),
            request: None,
        }));
    }

    /// The ephemeral znodes of a session, in order.
    #[inline(never)]
    pub(super) fn ephemeral_paths(&self, session: SessionId) -> Vec<String> {
        let tree = &self.tree;
        let mut paths: Vec<String> = tree.ephemerals(session).map(|id| tree.path(id)).collect();
        paths.sort();
        paths
    }

    /// Compares the tree with what a transaction says of it.
    ///
    /// ZooKeeper logs the difference, once in a quarter of an hour, and goes on.
    fn compare(&mut self, zxid: Zxid, digest: Option<TxnDigest>) -> Result<(), String> {
        let Some(TxnDigest { version, digest }) = digest else {
            return Ok(());
        };
        let (expected, found) = (digest.cast_unsigned(), self.tree.digest());
        if !self.config.tree_digest || version != DIGEST_VERSION || expected == found {
            return Ok(());
        }
        if !self.digests_settled {
            // A state newer than its name has made a snapshot that is, too: another is to follow.
            self.snapshots.make_due();
            return Ok(());
        }
        self.stats.digest_mismatches += 1;
        self.events.push(Event::DigestMismatch { zxid });
        // A tree that came from this very leader cannot be replaced by a better one: the leader
        // computes something else. Known of Java servers in a locale without UTF-8.
        if self
            .ensemble
            .as_deref()
            .is_some_and(|it| it.tree_is_leaders)
        {
            return Ok(());
        }
        Err(format!(
            "after transaction {zxid} the tree's digest is {found:x}, its leader's {expected:x}"
        ))
    }

    fn applied(&mut self, zxid: Zxid) {
        self.overlay.retire(zxid);
        self.stats.commits += 1;
        if zxid.0 % DIGEST_INTERVAL == 0 {
            self.digests.push_back((zxid, self.tree.digest()));
            if self.digests.len() > DIGESTS_MAX {
                self.digests.pop_front();
            }
        }
    }

    /// A request was answered: for `cons`, `stat` and `mntr`.
    ///
    /// A refused write is no operation to `cons`. Source: `FinalRequestProcessor.updateStats`.
    pub(super) fn took(
        &mut self,
        conn: &mut Conn,
        xid: Xid,
        op: OpCode,
        since: Instant,
        kind: Kind,
    ) {
        let latency_ms = self.now.instant.micros_since(since) / 1000;
        conn.stats.last_op = op;
        if xid.0 >= 0 {
            conn.stats.last_cxid = Some(xid.0);
        }
        conn.stats.last_zxid = self.tree.last_zxid();
        conn.stats.last_response = self.now.instant;
        conn.stats.last_latency_ms = latency_ms;
        conn.stats.latency_ms.record(latency_ms);
        self.stats.latency_ms.record(latency_ms);
        match kind {
            Kind::Read => self.stats.read_ms.record(latency_ms),
            Kind::Write => self.stats.write_ms.record(latency_ms),
        }
    }

    /// Proposes the deletion of containers and TTL znodes that have outlived their use, at a
    /// bounded pace.
    ///
    /// Source: `ContainerManager`.
    pub(super) fn reap(&mut self) {
        let now = self.now.instant;
        if now >= self.reaper.next_scan {
            let period = u64::from(self.config.container_check_ms.max(1));
            self.reaper.next_scan = now.plus_ms(period);
            let never_used = self.config.container_never_used_ms_max;
            self.reaper.queue.clear();
            self.reaper
                .queue
                .extend(self.tree.reapable(self.now.wall, never_used));
        }
        let pace_ms = 60_000 / u64::from(self.config.container_deletes_per_minute_max.max(1));
        while now >= self.reaper.next_delete
            && let Some(path) = self.reaper.queue.pop_front()
        {
            self.reaper.next_delete = now.plus_ms(pace_ms);
            self.reap_one(&path);
        }
    }

    /// Whether this server deletes what nobody uses: not while there is no room for transactions.
    pub(super) fn reaps(&self) -> bool {
        self.serving && self.leads() && !self.disk.low
    }

    fn reap_one(&mut self, path: &str) {
        let Some(zxid) = self.next_zxid() else {
            return;
        };
        let mut prep = Prep::new(
            &self.config,
            &self.tree,
            &mut self.overlay,
            (SessionId::NONE, &[]),
            (zxid, self.now.wall),
            &mut self.events,
        );
        // What was used again since the scan stays, and there is nobody to tell.
        if let Ok((op, txn)) = prep.reap(path) {
            self.propose(SessionId::NONE, Xid(0), op, &txn, None);
        }
    }

    pub(super) fn next_wake(&self) -> Option<Instant> {
        let reap = if self.reaper.queue.is_empty() {
            self.reaper.next_scan
        } else {
            self.reaper.next_delete
        };
        let reap = self.reaps().then_some(reap);
        let snapshot = self.next_slice();
        [snapshot, self.snapshots.next_attempt(), reap]
            .into_iter()
            .flatten()
            .min()
    }
}

impl Stats {
    /// Watches fired. Source: `WatchManager.triggerWatch`.
    fn fired(&mut self, event: EventType, watchers: usize) {
        if watchers > 0 {
            let watchers = watchers as u64;
            match event {
                EventType::CREATED => self.watchers_created.record(watchers),
                EventType::DELETED => self.watchers_deleted.record(watchers),
                EventType::DATA_CHANGED => self.watchers_changed.record(watchers),
                _ => self.watchers_children.record(watchers),
            }
        }
    }

    /// A reply was written.
    pub(super) fn answered(&mut self, bytes: usize) {
        self.sent += 1;
        // ZooKeeper does not count a frame's own length.
        let bytes = bytes.saturating_sub(4);
        self.response_bytes += bytes as u64;
        self.response_bytes_min = match self.response_bytes_last {
            Some(_) => self.response_bytes_min.min(bytes),
            None => bytes,
        };
        self.response_bytes_max = self.response_bytes_max.max(bytes);
        self.response_bytes_last = Some(bytes);
    }
}
