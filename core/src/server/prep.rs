//! Stop 4 of a write: it is checked against the tree and everything proposed before it, and becomes
//! a transaction; or its refusal becomes one.
//!
//! Source of every check and their order: `PrepRequestProcessor.pRequest2Txn`.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use super::auth::{permits, resolve};
use super::overlay::{NewNode, Overlay, View, next_version};
use super::{Config, Event};
use crate::error::ErrorCode;
use crate::ids::{SessionId, UnixMillis, Zxid};
use crate::jute::{self, Text, take};
use crate::path::{split, validate};
use crate::tree::{
    CONFIG, Owner, QUOTA, SYSTEM, Sequence, TTL_MS_MAX, Tree, create_kind, is_reapable,
};
use crate::wire::client::{
    CreateRequest, CreateTtlRequest, MultiHeader, OpCode, PathVersion, ReconfigRequest,
    SetAclRequest, SetDataRequest,
};
use crate::wire::records::{AclText, Id, Perms};
use crate::wire::txn::{CreateKind, Txn};

/// What a request is judged by and by whom it is made.
pub(super) struct Prep<'a> {
    config: &'a Config,
    tree: &'a Tree,
    overlay: &'a mut Overlay,
    session: SessionId,
    ids: &'a [Id],
    zxid: Zxid,
    time: UnixMillis,
    events: &'a mut Vec<Event>,
    /// What `auth` entries of ACLs may still stand for: see [`Prep::new`].
    acl_bytes_left: usize,
}

/// Why there is no transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The request cannot be decoded: it is answered without a place in the order.
    Malformed,
    /// It is refused: the refusal has a place in the order.
    Code(ErrorCode),
}

impl Refusal {
    /// What the client is told.
    pub(super) const fn code(self) -> ErrorCode {
        match self {
            Self::Code(code) => code,
            Self::Malformed => ErrorCode::MARSHALLING_ERROR,
        }
    }
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self::Code(code)
    }
}

impl From<jute::Error> for Refusal {
    fn from(_: jute::Error) -> Self {
        Self::Malformed
    }
}

/// The values of `CreateMode`.
const CREATE_FLAGS: core::ops::RangeInclusive<i32> = 0..=6;

/// A transaction's type and body.
type Prepared<'b> = (OpCode, Txn<'b>);

/// How many times as long as the longest request the identities may be that its `auth` entries
/// stand for.
///
/// Such an entry has 16 bytes and stands for about 60 when a client has one identity.
const ACL_GROWTH_MAX: usize = 4;

impl<'a> Prep<'a> {
    /// Judges one request.
    pub(super) fn new(
        config: &'a Config,
        tree: &'a Tree,
        overlay: &'a mut Overlay,
        by: (SessionId, &'a [Id]),
        at: (Zxid, UnixMillis),
        events: &'a mut Vec<Event>,
    ) -> Self {
        let (session, ids) = by;
        let (zxid, time) = at;
        Self {
            config,
            tree,
            overlay,
            session,
            ids,
            zxid,
            time,
            events,
            // A client may have many identities, a request many entries, and each stands for all of
            // them.
            acl_bytes_left: (config.frame_bytes_max as usize).saturating_mul(ACL_GROWTH_MAX),
        }
    }

    /// Makes the transaction of a request, and the changes it will make part of what later requests
    /// are judged by; or nothing of both.
    pub(super) fn request<'b>(
        &mut self,
        op: OpCode,
        body: &'b [u8],
    ) -> Result<Prepared<'b>, Refusal> {
        self.overlay.begin();
        let mut input = body;
        let prepared = match op {
            OpCode::MULTI => self.multi(body),
            OpCode::SET_ACL => take(&mut input).map_err(Refusal::from).and_then(|request| {
                let txn = self.set_acl(&request)?;
                Ok((OpCode::SET_ACL, txn))
            }),
            // Standalone; an ensemble's goes to `reconfig`.
            OpCode::RECONFIG => Err(ErrorCode::RECONFIG_DISABLED.into()),
            op => self.one(op, &mut input),
        };
        let prepared = prepared.and_then(|prepared| {
            self.admit()?;
            Ok(prepared)
        });
        match prepared {
            Ok(_) => {
                let growth = u64::try_from(self.overlay.growth()).unwrap_or(0);
                self.overlay.grow(self.zxid, growth);
            }
            Err(_) => self.overlay.undo(),
        }
        prepared
    }

    /// Whether the tree may grow as much as the request, as far as it is prepared, makes it grow.
    /// What makes room is never refused.
    fn admit(&mut self) -> Result<(), ErrorCode> {
        match self.overflow() {
            None => Ok(()),
            Some(event) => {
                self.events.push(event);
                Err(ErrorCode::QUOTA_EXCEEDED)
            }
        }
    }

    fn overflow(&self) -> Option<Event> {
        let max = self.config.tree_bytes_max;
        let growth = u64::try_from(self.overlay.growth()).unwrap_or(0);
        if max == 0 || growth == 0 {
            return None;
        }
        let used = self.overlay.memory(self.tree);
        (used.saturating_add(growth) > max).then_some(Event::TreeFull { used, max })
    }

    /// One operation, by itself or in a multi.
    fn one<'b>(&mut self, op: OpCode, input: &mut &'b [u8]) -> Result<Prepared<'b>, Refusal> {
        let txn = match op {
            OpCode::CREATE | OpCode::CREATE2 | OpCode::CREATE_CONTAINER => {
                let request: CreateRequest<'_> = take(input)?;
                self.create(op, request, -1)?
            }
            OpCode::CREATE_TTL => {
                let request: CreateTtlRequest<'_> = take(input)?;
                self.create(op, request.create, request.ttl_ms)?
            }
            OpCode::DELETE => {
                let request: PathVersion<'_> = take(input)?;
                self.delete(request)?
            }
            OpCode::SET_DATA => {
                let request: SetDataRequest<'_> = take(input)?;
                self.set_data(request)?
            }
            OpCode::CHECK => {
                let request: PathVersion<'_> = take(input)?;
                self.check(request)?
            }
            _ => return Err(Refusal::Malformed),
        };
        Ok((op, txn))
    }

    fn create<'b>(
        &mut self,
        op: OpCode,
        request: CreateRequest<'b>,
        ttl_ms: i64,
    ) -> Result<Txn<'b>, Refusal> {
        let CreateRequest {
            path,
            data,
            acl,
            flags,
        } = request;
        if !CREATE_FLAGS.contains(&flags) {
            return Err(ErrorCode::BAD_ARGUMENTS.into());
        }
        if matches!(flags, 5 | 6) && !self.config.extended_types {
            return Err(ErrorCode::UNIMPLEMENTED.into());
        }
        let (kind, sequence) = create_kind(op, flags, ttl_ms)?;
        if let CreateKind::Ttl(ttl) = kind
            && !(1..=TTL_MS_MAX).contains(&ttl)
        {
            return Err(ErrorCode::BAD_ARGUMENTS.into());
        }
        let path = path.0.ok_or(Refusal::Malformed)?;
        let parent_path = split(&path).ok_or(ErrorCode::BAD_ARGUMENTS)?.0;
        if path.contains('\0') {
            return Err(ErrorCode::BAD_ARGUMENTS.into());
        }
        let acl = resolve(self.config, &acl, self.ids, &mut self.acl_bytes_left)?;
        let parent = self.find(parent_path)?;
        self.permit(&parent, Perms::CREATE)?;
        // A parent's count of created children numbers them: it never goes back.
        let counter = parent.stat.cversion;
        let path = match sequence {
            Sequence::Appended => Cow::Owned(format!("{path}{counter:010}")),
            Sequence::None => path,
        };
        validate(&path).map_err(|_| ErrorCode::BAD_ARGUMENTS)?;
        if self.overlay.find(self.tree, &path).is_some() {
            return Err(ErrorCode::NODE_EXISTS.into());
        }
        if Owner(parent.stat.ephemeral_owner).session().is_some() {
            return Err(ErrorCode::NO_CHILDREN_FOR_EPHEMERALS.into());
        }
        self.check_quota(&path, 1, data.map_or(0, <[u8]>::len), 0)?;
        let parent_cversion = counter.wrapping_add(1);
        let owner = Owner::new(kind, self.session);
        let list: alloc::sync::Arc<[_]> = acl.into();
        let texts = list
            .iter()
            .map(|acl| AclText::from(acl).into_owned())
            .collect();
        let (zxid, time) = (self.zxid, self.time);
        let child = NewNode {
            zxid,
            time,
            owner,
            data,
            acl: list,
            parent_cversion,
        };
        self.overlay.create(self.tree, &path, child);
        Ok(Txn::Create {
            path,
            data,
            acl: texts,
            kind,
            parent_cversion,
        })
    }

    fn delete<'b>(&mut self, request: PathVersion<'b>) -> Result<Txn<'b>, Refusal> {
        let path = request.path.0.ok_or(Refusal::Malformed)?;
        let (parent_path, _) = split(&path).ok_or(ErrorCode::BAD_ARGUMENTS)?;
        let system = matches!(&*path, "/" | SYSTEM | QUOTA | CONFIG);
        if system || path.contains('\0') {
            return Err(ErrorCode::BAD_ARGUMENTS.into());
        }
        let parent = self.find(parent_path)?;
        self.permit(&parent, Perms::DELETE)?;
        let node = self.find(&path)?;
        next_version(node.stat.version, request.version)?;
        if node.children != 0 {
            return Err(ErrorCode::NOT_EMPTY.into());
        }
        self.overlay.delete(self.tree, &path, self.zxid);
        Ok(Txn::Delete { path })
    }

    /// The deletion of a container or TTL znode that has outlived its use: nobody's request.
    pub(super) fn reap<'b>(&mut self, path: &'b str) -> Result<Prepared<'b>, Refusal> {
        self.overlay.begin();
        let node = self.find(path)?;
        // It may have been used, or be another znode, since the scan.
        let never_used = self.config.container_never_used_ms_max;
        if !is_reapable(&node.stat, node.children, self.time, never_used) {
            return Err(ErrorCode::NOT_EMPTY.into());
        }
        self.overlay.delete(self.tree, path, self.zxid);
        Ok((OpCode::DELETE_CONTAINER, Txn::Delete { path: path.into() }))
    }

    /// The end of a session.
    pub(super) fn close_session(&mut self) -> Prepared<'static> {
        self.overlay.begin();
        let paths = self.overlay.ephemerals(self.tree, self.session);
        for path in &paths {
            self.overlay.delete(self.tree, path, self.zxid);
        }
        // More would not fit a log record, and the server could never close this session. What is
        // not listed is deleted all the same, as the session owns it. Source:
        // ZOOKEEPER-4306.
        let mut bytes_left = self.config.frame_bytes_max as usize;
        let listed = paths.into_iter().map_while(|path| {
            bytes_left = bytes_left.checked_sub(path.len() + 4)?;
            Some(Text(Some(Cow::Owned(path))))
        });
        let paths = Some(listed.collect());
        (OpCode::CLOSE_SESSION, Txn::CloseSession { paths })
    }

    fn set_data<'b>(&mut self, request: SetDataRequest<'b>) -> Result<Txn<'b>, Refusal> {
        let SetDataRequest {
            path,
            data,
            version,
        } = request;
        let path = valid(path)?;
        let node = self.find(&path)?;
        self.permit(&node, Perms::WRITE)?;
        self.check_quota(&path, 0, data.map_or(0, <[u8]>::len), node.data_length)?;
        let version = next_version(node.stat.version, version)?;
        self.overlay
            .set_data(self.tree, &path, data, version, self.zxid, self.time);
        Ok(Txn::SetData {
            path,
            data,
            version,
        })
    }

    fn set_acl<'b>(&mut self, request: &SetAclRequest<'b>) -> Result<Txn<'b>, Refusal> {
        let path = valid(request.path.clone())?;
        let left = &mut self.acl_bytes_left;
        let acl = resolve(self.config, &request.acl, self.ids, left)?;
        let node = self.find(&path)?;
        self.permit(&node, Perms::ADMIN)?;
        let version = next_version(node.stat.aversion, request.version)?;
        let texts = acl
            .iter()
            .map(|acl| AclText::from(acl).into_owned())
            .collect();
        self.overlay
            .set_acl(self.tree, &path, acl.into(), version, self.zxid);
        Ok(Txn::SetAcl {
            path,
            acl: texts,
            version,
        })
    }

    fn check<'b>(&self, request: PathVersion<'b>) -> Result<Txn<'b>, Refusal> {
        let path = valid(request.path)?;
        let node = self.find(&path)?;
        self.permit(&node, Perms::READ)?;
        let version = next_version(node.stat.version, request.version)?;
        Ok(Txn::Check { path, version })
    }

    fn multi<'b>(&mut self, body: &'b [u8]) -> Result<Prepared<'b>, Refusal> {
        let ops = split_multi(body).ok_or(ErrorCode::MARSHALLING_ERROR)?;
        let mut subs: Vec<Prepared<'b>> = Vec::with_capacity(ops.len());
        let mut failed = false;
        // The operation by which the tree would be too large, if none after it made room.
        let mut full = None;
        for (op, mut body) in ops {
            let sub = if failed {
                (OpCode::ERROR, Txn::Error(ErrorCode::RUNTIME_INCONSISTENCY))
            } else {
                match self.one(op, &mut body) {
                    Ok(sub) => {
                        if full.is_none() && self.overflow().is_some() {
                            full = Some(subs.len());
                        }
                        sub
                    }
                    Err(refusal) => {
                        failed = true;
                        let code = match refusal {
                            Refusal::Malformed => ErrorCode::MARSHALLING_ERROR,
                            Refusal::Code(code) => code,
                        };
                        (OpCode::ERROR, Txn::Error(code))
                    }
                }
            };
            subs.push(sub);
        }
        if !failed
            && let Some(full) = full
            && let Err(code) = self.admit()
        {
            failed = true;
            let mut code = code;
            for sub in subs.iter_mut().skip(full) {
                *sub = (OpCode::ERROR, Txn::Error(code));
                code = ErrorCode::RUNTIME_INCONSISTENCY;
            }
        }
        if failed {
            self.overlay.undo();
        }
        Ok((OpCode::MULTI, Txn::Multi(subs)))
    }

    fn find(&self, path: &str) -> Result<View, ErrorCode> {
        self.overlay.find(self.tree, path).ok_or(ErrorCode::NO_NODE)
    }

    fn permit(&self, node: &View, needed: Perms) -> Result<(), ErrorCode> {
        let permitted = permits(self.config, &node.acl, needed, self.ids);
        if permitted {
            Ok(())
        } else {
            Err(ErrorCode::NO_AUTH)
        }
    }

    /// Checks what a path's quota says to so many more znodes, and to data of another length.
    ///
    /// Source: `ZooKeeperServer.checkQuota`; usage is that of the applied tree.
    fn check_quota(
        &mut self,
        path: &str,
        count: i64,
        bytes_after: usize,
        bytes_before: usize,
    ) -> Result<(), ErrorCode> {
        if !self.config.enforce_quota {
            return Ok(());
        }
        let Some(limited) = self.tree.quota_of(path) else {
            return Ok(());
        };
        let limits = self.tree.quota_limits(limited);
        let usage = self.tree.quota_usage(limited);
        let signed = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX);
        let bytes = signed(bytes_after).saturating_sub(signed(bytes_before));
        let mut over = |used: i64, more: i64, soft: Option<i64>, hard: Option<i64>| {
            let exceeds = |limit: i64| used.saturating_add(more) > limit;
            if more != 0 && hard.is_some_and(exceeds) {
                return Err(ErrorCode::QUOTA_EXCEEDED);
            }
            if more != 0 && hard.is_none() && soft.is_some_and(exceeds) {
                self.events.push(Event::QuotaExceeded {
                    path: limited.into(),
                });
            }
            Ok(())
        };
        over(usage.count, count, limits.count, limits.count_hard)?;
        over(usage.bytes, bytes, limits.bytes, limits.bytes_hard)
    }
}

/// Makes of every `create2` in a multi a `create`, which applies the same.
///
/// A follower of ZooKeeper up to 3.7.1 or 3.8.1 does not know the former there: it drops the rest of
/// the multi, and nobody hears of it. What the client asked for is told from its request.
pub(super) fn portable(txn: &mut Txn<'_>) {
    if let Txn::Multi(subs) = txn {
        for (op, _) in subs {
            if *op == OpCode::CREATE2 {
                *op = OpCode::CREATE;
            }
        }
    }
}

/// The operations of a multi, if [`portable`] changes any.
pub(super) fn asked(body: &[u8]) -> Option<Box<[OpCode]>> {
    let ops = split_multi(body)?;
    let changed = ops.iter().any(|(op, _)| *op == OpCode::CREATE2);
    changed.then(|| ops.into_iter().map(|(op, _)| op).collect())
}

/// Whether a request would create an ephemeral znode.
pub(super) fn wants_ephemeral(op: OpCode, body: &[u8]) -> bool {
    let mut input = body;
    match op {
        OpCode::CREATE | OpCode::CREATE2 => {
            let request = take::<CreateRequest<'_>>(&mut input);
            request.is_ok_and(|request| matches!(request.flags, 1 | 3))
        }
        OpCode::MULTI => {
            let ops = split_multi(body).unwrap_or_default();
            ops.into_iter().any(|(op, body)| wants_ephemeral(op, body))
        }
        _ => false,
    }
}

/// Whether a write's body is what its operation takes.
pub(super) fn is_well_formed(op: OpCode, body: &[u8]) -> bool {
    let mut input = body;
    match op {
        OpCode::CREATE | OpCode::CREATE2 | OpCode::CREATE_CONTAINER => {
            take::<CreateRequest<'_>>(&mut input).is_ok()
        }
        OpCode::CREATE_TTL => take::<CreateTtlRequest<'_>>(&mut input).is_ok(),
        OpCode::DELETE => take::<PathVersion<'_>>(&mut input).is_ok(),
        OpCode::MULTI => split_multi(body).is_some(),
        OpCode::RECONFIG => take::<ReconfigRequest<'_>>(&mut input).is_ok(),
        OpCode::SET_ACL => take::<SetAclRequest<'_>>(&mut input).is_ok(),
        OpCode::SET_DATA => take::<SetDataRequest<'_>>(&mut input).is_ok(),
        _ => false,
    }
}

fn valid(path: Text<'_>) -> Result<Cow<'_, str>, ErrorCode> {
    let path = path.0.ok_or(ErrorCode::BAD_ARGUMENTS)?;
    match validate(&path) {
        Ok(()) => Ok(path),
        Err(_) => Err(ErrorCode::BAD_ARGUMENTS),
    }
}

/// The operations of a multi that writes, each with the bytes of its record; `None` if they do not
/// end, or cannot be of one.
///
/// The whole is decoded before any of it is judged, as in ZooKeeper.
fn split_multi(body: &[u8]) -> Option<Vec<(OpCode, &[u8])>> {
    let mut input = body;
    let mut ops = Vec::new();
    loop {
        let header: MultiHeader = take(&mut input).ok()?;
        if header.done {
            return Some(ops);
        }
        let start = input;
        match header.op {
            OpCode::CREATE | OpCode::CREATE2 | OpCode::CREATE_CONTAINER => {
                let request: CreateRequest<'_> = take(&mut input).ok()?;
                CREATE_FLAGS.contains(&request.flags).then_some(())?;
            }
            OpCode::CREATE_TTL => {
                let request: CreateTtlRequest<'_> = take(&mut input).ok()?;
                CREATE_FLAGS.contains(&request.create.flags).then_some(())?;
            }
            OpCode::DELETE | OpCode::CHECK => {
                take::<PathVersion<'_>>(&mut input).ok()?;
            }
            OpCode::SET_DATA => {
                take::<SetDataRequest<'_>>(&mut input).ok()?;
            }
            _ => return None,
        }
        let length = start.len() - input.len();
        ops.push((header.op, start.get(..length)?));
    }
}
