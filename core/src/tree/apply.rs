//! What each transaction does, live, in replay and after a snapshot that was not exact.
//!
//! Applying is total: a transaction that does not fit the tree (it was already contained in a fuzzy
//! snapshot) has a result, never a panic. Source: `DataTree.processTxn`.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::node::{NodeId, Owner};
use super::{CONFIG, Tree, digest, footprint};
use crate::error::ErrorCode;
use crate::ids::{UnixMillis, Zxid};
use crate::wire::client::{EventType, OpCode};
use crate::wire::records::{Acl, AclText, Stat, StatPersisted, to_acls};
use crate::wire::txn::{CreateKind, Txn, TxnHeader};

/// A change that watches may be set on, in the order in which they fire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Created, deleted, or data set.
    pub kind: EventType,
    /// The znode.
    pub path: String,
    /// Its ACL, of a deleted one the last.
    pub acl: Arc<[Acl]>,
    /// Its parent's ACL; none when only data was set.
    pub parent_acl: Option<Arc<[Acl]>>,
}

/// What came of a transaction, for the reply to whoever asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied<'a> {
    /// A znode was created.
    Created {
        /// Where.
        path: Cow<'a, str>,
        /// As it was right after.
        stat: Stat,
    },
    /// There is nothing to tell.
    Done,
    /// It was refused; 0 within a multi means it would have been done.
    Failed(ErrorCode),
    /// The results of a multi.
    Multi(Vec<(OpCode, Self)>),
    /// Data or ACL was set.
    Set {
        /// As the znode was right after.
        stat: Stat,
    },
}

/// The place and time that all of a transaction's changes get.
#[derive(Clone, Copy)]
struct When {
    zxid: Zxid,
    time: UnixMillis,
}

type Changes<'c> = Option<&'c mut Vec<Change>>;

impl Tree {
    /// Applies one transaction and reports what watches may be interested in.
    ///
    /// Source of every effect: `DataTree.processTxn`.
    pub fn apply<'a>(
        &mut self,
        header: &TxnHeader,
        txn: Txn<'a>,
        mut changes: Changes<'_>,
    ) -> Applied<'a> {
        let applied = match txn {
            Txn::CloseSession { paths } => {
                self.close_session(header, paths.unwrap_or_default(), changes);
                Applied::Done
            }
            Txn::CreateSession { timeout_ms } => {
                self.sessions.insert(header.client, timeout_ms);
                Applied::Done
            }
            Txn::Multi(subs) => self.multi(header, subs, changes),
            Txn::Check { .. }
            | Txn::Create { .. }
            | Txn::Delete { .. }
            | Txn::Error(_)
            | Txn::SetData { .. }
            | Txn::SetAcl { .. } => self.one(header, header.op, txn, true, &mut changes),
        };
        self.last = self.last.max(header.zxid);
        applied
    }

    fn multi<'a>(
        &mut self,
        header: &TxnHeader,
        subs: Vec<(OpCode, Txn<'a>)>,
        mut changes: Changes<'_>,
    ) -> Applied<'a> {
        let failed = subs.iter().any(|(_, sub)| matches!(sub, Txn::Error(_)));
        let mut results = Vec::with_capacity(subs.len());
        for (op, sub) in subs {
            let result = match (failed, sub) {
                (true, Txn::Error(code)) => Applied::Failed(code),
                (true, _) => Applied::Failed(ErrorCode(0)),
                (false, sub) => self.one(header, op, sub, false, &mut changes),
            };
            results.push((op, result));
        }
        Applied::Multi(results)
    }

    fn one<'a>(
        &mut self,
        header: &TxnHeader,
        op: OpCode,
        txn: Txn<'a>,
        top: bool,
        changes: &mut Changes<'_>,
    ) -> Applied<'a> {
        let when = When {
            zxid: header.zxid,
            time: header.time,
        };
        let result = match txn {
            Txn::Check { .. } => Ok(Applied::Done),
            Txn::Create {
                path,
                data,
                acl,
                kind,
                parent_cversion,
            } => {
                let owner = Owner::new(kind, header.client);
                let replayed = top && op == OpCode::CREATE;
                self.create(
                    &path,
                    data,
                    &acl,
                    owner,
                    parent_cversion,
                    when,
                    replayed,
                    changes,
                )
                .map(|stat| Applied::Created { path, stat })
            }
            Txn::Delete { path } => self.delete(&path, when, changes).map(|()| Applied::Done),
            Txn::Error(code) => Err(code),
            Txn::SetData {
                path,
                data,
                version,
            } => self
                .set_data(&path, data, version, when, changes)
                .map(|stat| Applied::Set { stat }),
            Txn::SetAcl { path, acl, version } => self
                .set_acl(&path, &acl, version)
                .map(|stat| Applied::Set { stat }),
            // The decoder gives these at top level only.
            Txn::CloseSession { .. } | Txn::CreateSession { .. } | Txn::Multi(_) => {
                Ok(Applied::Done)
            }
        };
        result.unwrap_or_else(Applied::Failed)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "they are the fields of the transaction"
    )]
    fn create(
        &mut self,
        path: &str,
        data: Option<&[u8]>,
        acl: &[AclText<'_>],
        owner: Owner,
        parent_cversion: i32,
        when: When,
        replayed: bool,
        changes: &mut Changes<'_>,
    ) -> Result<Stat, ErrorCode> {
        let (parent_path, _) = crate::path::split(path).ok_or(ErrorCode::BAD_ARGUMENTS)?;
        let parent = self.find_parent(parent_path).ok_or(ErrorCode::NO_NODE)?;
        let next = |cversion: i32| {
            if parent_cversion == -1 {
                cversion.wrapping_add(1)
            } else {
                parent_cversion
            }
        };
        let stored = self.rest(parent).cversion;
        let raised = next(stored);
        if let Some(id) = self.find(path) {
            // A fuzzy snapshot was ahead of the log: bring what this transaction says about ACL and
            // parent in line. Sources: ZOOKEEPER-4846 (ACL), ZOOKEEPER-1046 (cversion).
            if id != NodeId::ROOT {
                self.replace_acl(id, acl);
            }
            if replayed && raised > stored {
                self.touch_parent(parent, parent_path, Some(raised), when.zxid);
            }
            return Err(ErrorCode::NODE_EXISTS);
        }
        if raised > stored {
            self.touch_parent(parent, parent_path, Some(raised), when.zxid);
        }
        let acl = self.acls.acquire(to_acls(acl));
        let stat = StatPersisted {
            czxid: when.zxid,
            mzxid: when.zxid,
            ctime: when.time,
            mtime: when.time,
            ephemeral_owner: owner.0,
            pzxid: when.zxid,
            ..StatPersisted::default()
        };
        let id = self.insert(path, data, acl, stat);
        self.quota_created(path, data.map_or(0, <[u8]>::len));
        if let Some(changes) = changes {
            changes.push(Change {
                kind: EventType::CREATED,
                path: path.into(),
                acl: self.acl(id).clone(),
                parent_acl: Some(self.acl(parent).clone()),
            });
        }
        Ok(self.stat(id))
    }

    /// Raises a parent's count of created children, its pzxid, or both.
    fn touch_parent(&mut self, id: NodeId, path: &str, cversion: Option<i32>, pzxid: Zxid) {
        self.change(id, path, |rest| {
            match cversion {
                Some(cversion) => {
                    rest.cversion = cversion;
                    rest.pzxid = pzxid;
                }
                None => rest.pzxid = rest.pzxid.max(pzxid),
            };
        });
    }

    /// Changes what is stored about a znode besides its data, and the digest with it.
    fn change(&mut self, id: NodeId, path: &str, change: impl FnOnce(&mut super::Rest)) {
        self.preserve(id);
        let head = self.node_digest(id, path);
        let old = head.with(&self.stat_persisted(id));
        let rest = self.rest_mut(id);
        change(rest);
        rest.digest_head = head.head();
        let new = head.with(&self.stat_persisted(id));
        self.digest = self.digest.wrapping_sub(old).wrapping_add(new);
    }

    fn delete(
        &mut self,
        path: &str,
        when: When,
        changes: &mut Changes<'_>,
    ) -> Result<(), ErrorCode> {
        let (parent_path, _) = crate::path::split(path).ok_or(ErrorCode::BAD_ARGUMENTS)?;
        let parent = self.find_parent(parent_path).ok_or(ErrorCode::NO_NODE)?;
        // Even when the child is gone already: a fuzzy snapshot may have seen the child's end only.
        self.touch_parent(parent, parent_path, None, when.zxid);
        let id = self.find(path).ok_or(ErrorCode::NO_NODE)?;
        if id == NodeId::ROOT || self.child_count(id) != 0 {
            return Err(ErrorCode::NOT_EMPTY);
        }
        let acl = changes.is_some().then(|| self.acl(id).clone());
        let bytes = self.node(id).data_length();
        self.remove(id, path);
        self.quota_deleted(path, bytes);
        if let (Some(changes), Some(acl)) = (changes, acl) {
            changes.push(Change {
                kind: EventType::DELETED,
                path: path.into(),
                acl,
                parent_acl: Some(self.acl(parent).clone()),
            });
        }
        Ok(())
    }

    fn set_data(
        &mut self,
        path: &str,
        data: Option<&[u8]>,
        version: i32,
        when: When,
        changes: &mut Changes<'_>,
    ) -> Result<Stat, ErrorCode> {
        let id = self.find(path).ok_or(ErrorCode::NO_NODE)?;
        self.preserve(id);
        let before = self.node(id).data_length();
        let old = self.node_digest(id, path).with(&self.stat_persisted(id));
        self.replace_data(id, path, data);
        let rest = self.rest_mut(id);
        rest.version = version;
        rest.mzxid = when.zxid;
        rest.mtime = when.time;
        let new = digest::of(path, data, &self.stat_persisted(id));
        self.digest = self.digest.wrapping_sub(old).wrapping_add(new);
        self.quota_set(path, before, data.map_or(0, <[u8]>::len));
        if let Some(changes) = changes {
            changes.push(Change {
                kind: EventType::DATA_CHANGED,
                path: if path.is_empty() {
                    "/".into()
                } else {
                    path.into()
                },
                acl: self.acl(id).clone(),
                parent_acl: None,
            });
        }
        Ok(self.stat(id))
    }

    /// Writes the membership that is in force into its znode, as each server does for itself.
    ///
    /// No transaction, and no part of the digest. Source: `QuorumPeer.setQuorumVerifier`,
    /// `DataTree.addConfigNode`.
    pub fn set_membership(&mut self, text: &str, version: Zxid, time: UnixMillis) {
        let when = When {
            zxid: version,
            time,
        };
        // A foreign snapshot may be without it: then there is nothing to be told.
        let _ = self.set_data(CONFIG, Some(text.as_bytes()), -1, when, &mut None);
    }

    /// Sets data and nothing else.
    pub(super) fn replace_data(&mut self, id: NodeId, path: &str, data: Option<&[u8]>) {
        let node = self.nodes.get_mut(id.0);
        self.data_size -= node.data_length() as u64;
        self.nodes_memory -= footprint::node(path, node.data_length());
        node.set_data(data);
        self.data_size += node.data_length() as u64;
        self.nodes_memory += footprint::node(path, node.data_length());
        if node.rest != 0 {
            self.rests.get_mut(node.rest).digest_head = 0;
        }
    }

    fn set_acl(
        &mut self,
        path: &str,
        acl: &[AclText<'_>],
        version: i32,
    ) -> Result<Stat, ErrorCode> {
        let id = self.find(path).ok_or(ErrorCode::NO_NODE)?;
        self.replace_acl(id, acl);
        self.change(id, path, |rest| rest.aversion = version);
        Ok(self.stat(id))
    }

    fn replace_acl(&mut self, id: NodeId, acl: &[AclText<'_>]) {
        self.preserve(id);
        let new = self.acls.acquire(to_acls(acl));
        let old = core::mem::replace(&mut self.node_mut(id).acl, new);
        self.acls.release(old);
    }

    /// Ends a session: the listed znodes go, then whatever else it owns.
    fn close_session(
        &mut self,
        header: &TxnHeader,
        paths: Vec<crate::jute::Text<'_>>,
        mut changes: Changes<'_>,
    ) {
        let when = When {
            zxid: header.zxid,
            time: header.time,
        };
        for path in paths {
            // Gone already is no error: see the module's first words.
            let _ = self.delete(path.or_empty(), when, &mut changes);
        }
        let left: Vec<NodeId> = self.ephemerals(header.client).collect();
        for id in left {
            let path = self.path(id);
            let _ = self.delete(&path, when, &mut changes);
        }
        self.sessions.remove(&header.client);
    }

    /// Deletes ephemeral znodes whose session does not exist, which only damage or another
    /// implementation leaves behind. Returns their paths.
    ///
    /// Source: `ZooKeeperServer.loadData` does the same before it serves.
    pub(super) fn remove_orphans(&mut self) -> Vec<String> {
        let dead = |session: &crate::ids::SessionId| !self.sessions.contains_key(session);
        let sessions = self.ephemeral_owners().filter(dead);
        let mut orphans: Vec<String> = sessions
            .flat_map(|session| self.ephemerals(session))
            .map(|id| self.path(id))
            .collect();
        // Children first: where an ephemeral znode has any, they may be orphans too.
        orphans.sort();
        orphans.reverse();
        let when = When {
            zxid: self.last,
            time: UnixMillis::default(),
        };
        orphans.retain(|path| self.delete(path, when, &mut None).is_ok());
        orphans
    }
}

/// The kind of a created znode, from the operation that creates it and its flags.
///
/// Flags ask for more than they name with some operations in ZooKeeper's server, which then stores
/// something else or fails while applying; here each operation takes the flags that its clients
/// send.
///
/// # Errors
/// The flags are not such ones.
pub(crate) fn create_kind(
    op: OpCode,
    flags: i32,
    ttl_ms: i64,
) -> Result<(CreateKind, Sequence), ErrorCode> {
    let sequence = match flags {
        2 | 3 | 6 => Sequence::Appended,
        0 | 1 | 4 | 5 => Sequence::None,
        _ => return Err(ErrorCode::BAD_ARGUMENTS),
    };
    let kind = match (op, flags) {
        (OpCode::CREATE_CONTAINER, 4) => CreateKind::Container,
        // The operation decides what is stored, not the flag: plain creates with flag 4 are
        // persistent.
        (OpCode::CREATE | OpCode::CREATE2, 0 | 2 | 4) => CreateKind::Persistent,
        (OpCode::CREATE | OpCode::CREATE2, 1 | 3) => CreateKind::Ephemeral,
        (OpCode::CREATE_TTL, 5 | 6) => CreateKind::Ttl(ttl_ms),
        _ => return Err(ErrorCode::BAD_ARGUMENTS),
    };
    Ok((kind, sequence))
}

/// Whether a sequence number is appended to a created znode's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sequence {
    Appended,
    None,
}
