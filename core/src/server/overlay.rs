//! The tree as it will be when everything proposed is applied: what the next request is judged by.
//!
//! Source: `PrepRequestProcessor.getRecordForPath` and its outstanding changes.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use hashbrown::HashMap;

use crate::error::ErrorCode;
use crate::ids::{SessionId, UnixMillis, Zxid};
use crate::path::split;
use crate::sorted;
use crate::tree::{NodeDigest, Owner, Tree, footprint};
use crate::wire::records::{Acl, StatPersisted};

/// Changes that are proposed but not applied.
#[derive(Debug)]
pub(super) struct Overlay {
    records: HashMap<Arc<str>, Record, foldhash::fast::FixedState>,
    /// Which record was changed by which transaction, in order: when to forget it.
    changed: VecDeque<(Zxid, Arc<str>)>,
    /// What to put back if the request under way is refused.
    undo: Vec<(Arc<str>, Option<Record>)>,
    /// What the request under way will add to [`Tree::memory`].
    growth: i64,
    /// Which transaction will add to it, and how much at most, in order.
    grown: VecDeque<(Zxid, u64)>,
    /// What they add together.
    memory: u64,
    digest: u64,
    digest_before: u64,
    digests: bool,
}

/// A znode as it will be.
#[derive(Clone, Debug)]
struct Record {
    zxid: Zxid,
    exists: bool,
    stat: StatPersisted,
    children: u32,
    data_length: usize,
    acl: Arc<[Acl]>,
    digest: Option<NodeDigest>,
}

/// What a check wants to know about a znode.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) stat: StatPersisted,
    pub(super) children: u32,
    pub(super) data_length: usize,
    pub(super) acl: Arc<[Acl]>,
}

impl Overlay {
    /// No changes over this tree; `digests` says whether digests are kept at all. `seed` is as in
    /// [`Tree::new`].
    pub(super) fn new(tree: &Tree, digests: bool, seed: u64) -> Self {
        Self {
            records: HashMap::with_hasher(foldhash::fast::FixedState::with_seed(seed)),
            changed: VecDeque::new(),
            undo: Vec::new(),
            growth: 0,
            grown: VecDeque::new(),
            memory: 0,
            digest: tree.digest(),
            digest_before: tree.digest(),
            digests,
        }
    }

    /// The tree's digest after everything proposed.
    pub(super) const fn digest(&self) -> Option<u64> {
        if self.digests {
            Some(self.digest)
        } else {
            None
        }
    }

    /// What the request under way, as far as it is prepared, will add to [`Tree::memory`]; less
    /// than zero if it makes room.
    pub(super) const fn growth(&self) -> i64 {
        self.growth
    }

    /// What the tree will take at most, by [`Tree::memory`], when everything proposed is applied.
    ///
    /// What will make room does so only when it is applied.
    pub(super) fn memory(&self, tree: &Tree) -> u64 {
        tree.memory().saturating_add(self.memory)
    }

    /// The transaction will add so much to [`Tree::memory`].
    pub(super) fn grow(&mut self, zxid: Zxid, bytes: u64) {
        if bytes > 0 {
            self.grown.push_back((zxid, bytes));
            self.memory += bytes;
        }
    }

    /// A request begins to be prepared: until the next its changes can be undone.
    pub(super) fn begin(&mut self) {
        self.undo.clear();
        self.growth = 0;
        self.digest_before = self.digest;
    }

    /// The request is refused: none of its changes will be.
    pub(super) fn undo(&mut self) {
        for (path, record) in core::mem::take(&mut self.undo).into_iter().rev() {
            match record {
                Some(record) => self.records.insert(path, record),
                None => self.records.remove(&path),
            };
        }
        self.digest = self.digest_before;
        self.growth = 0;
    }

    /// The transaction is applied: the tree itself knows now.
    pub(super) fn retire(&mut self, applied: Zxid) {
        while let Some(&(zxid, bytes)) = self.grown.front()
            && zxid <= applied
        {
            self.grown.pop_front();
            self.memory -= bytes;
        }
        while let Some((zxid, _)) = self.changed.front()
            && *zxid <= applied
        {
            let Some((zxid, path)) = self.changed.pop_front() else {
                return;
            };
            if self
                .records
                .get(&path)
                .is_some_and(|record| record.zxid == zxid)
            {
                self.records.remove(&path);
            }
        }
    }

    /// The znode as it will be.
    pub(super) fn find(&self, tree: &Tree, path: &str) -> Option<View> {
        let path = key(path);
        if let Some(record) = self.records.get(path) {
            let Record {
                exists,
                stat,
                children,
                data_length,
                ref acl,
                ..
            } = *record;
            return exists.then(|| View {
                stat,
                children,
                data_length,
                acl: acl.clone(),
            });
        }
        let id = tree.find(path)?;
        Some(View {
            stat: tree.stat_persisted(id),
            children: tree.child_count(id),
            data_length: tree.data(id).map_or(0, <[u8]>::len),
            acl: tree.acl(id).clone(),
        })
    }

    /// A child is created: the parent is changed, the child is there.
    pub(super) fn create(&mut self, tree: &Tree, path: &str, child: NewNode<'_>) {
        let NewNode {
            zxid,
            time,
            owner,
            data,
            acl,
            parent_cversion,
        } = child;
        let (parent, _) = split(path).unwrap_or_default();
        self.change(tree, parent, zxid, |record| {
            record.children += 1;
            if parent_cversion > record.stat.cversion {
                record.stat.cversion = parent_cversion;
                record.stat.pzxid = zxid;
            }
        });
        let stat = StatPersisted {
            czxid: zxid,
            mzxid: zxid,
            ctime: time,
            mtime: time,
            ephemeral_owner: owner.0,
            pzxid: zxid,
            ..StatPersisted::default()
        };
        let digest = self.digests.then(|| NodeDigest::new(path, data));
        if let Some(head) = &digest {
            self.digest = self.digest.wrapping_add(head.with(&stat));
        }
        let data_length = data.map_or(0, <[u8]>::len);
        self.added(footprint::node(path, data_length) + tree.acl_growth(&acl));
        let record = Record {
            zxid,
            exists: true,
            stat,
            children: 0,
            data_length,
            acl,
            digest,
        };
        self.put(Arc::from(path), record);
    }

    /// A znode is deleted, and its parent changed.
    pub(super) fn delete(&mut self, tree: &Tree, path: &str, zxid: Zxid) {
        let (parent, _) = split(path).unwrap_or_default();
        self.change(tree, parent, zxid, |record| {
            record.children = record.children.saturating_sub(1);
            record.stat.pzxid = record.stat.pzxid.max(zxid);
        });
        let mut bytes = 0;
        self.change(tree, path, zxid, |record| {
            record.exists = false;
            bytes = record.data_length;
        });
        self.freed(footprint::node(path, bytes));
    }

    /// Data is set.
    pub(super) fn set_data(
        &mut self,
        tree: &Tree,
        path: &str,
        data: Option<&[u8]>,
        version: i32,
        zxid: Zxid,
        time: UnixMillis,
    ) {
        let digest = self.digests.then(|| NodeDigest::new(key(path), data));
        let mut before = 0;
        let after = data.map_or(0, <[u8]>::len);
        self.change(tree, path, zxid, |record| {
            record.stat.version = version;
            record.stat.mzxid = zxid;
            record.stat.mtime = time;
            before = core::mem::replace(&mut record.data_length, after);
            record.digest = digest;
        });
        self.freed(footprint::node(path, before));
        self.added(footprint::node(path, after));
    }

    /// An ACL is set.
    pub(super) fn set_acl(
        &mut self,
        tree: &Tree,
        path: &str,
        acl: Arc<[Acl]>,
        version: i32,
        zxid: Zxid,
    ) {
        // The list that the znode had may be others' too.
        self.added(tree.acl_growth(&acl));
        self.change(tree, path, zxid, |record| {
            record.acl = acl;
            record.stat.aversion = version;
        });
    }

    /// The paths that a session will own, sorted.
    pub(super) fn ephemerals(&self, tree: &Tree, session: SessionId) -> BTreeSet<String> {
        let mut paths = sorted::set(tree.ephemerals(session).map(|id| tree.path(id)));
        for (path, record) in &self.records {
            let owner = Owner(record.stat.ephemeral_owner).session();
            if record.exists && owner == Some(session) {
                paths.insert(String::from(&**path));
            } else {
                paths.remove(&**path);
            }
        }
        paths
    }

    fn added(&mut self, bytes: u64) {
        self.growth = self.growth.saturating_add_unsigned(bytes);
    }

    fn freed(&mut self, bytes: u64) {
        self.growth = self.growth.saturating_sub_unsigned(bytes);
    }

    fn change(&mut self, tree: &Tree, path: &str, zxid: Zxid, change: impl FnOnce(&mut Record)) {
        let path = key(path);
        let known = self
            .records
            .get_key_value(path)
            .map(|(key, record)| (key.clone(), record));
        let (key, before) = match known {
            Some((key, record)) => (key, Some(record.clone())),
            None => (Arc::from(path), None),
        };
        let Some(mut record) = before.clone().or_else(|| self.load(tree, path)) else {
            return;
        };
        let old = record.share();
        change(&mut record);
        record.zxid = zxid;
        self.digest = self.digest.wrapping_sub(old).wrapping_add(record.share());
        self.undo.push((key.clone(), before));
        self.changed.push_back((zxid, key.clone()));
        self.records.insert(key, record);
    }

    fn put(&mut self, path: Arc<str>, record: Record) {
        self.changed.push_back((record.zxid, path.clone()));
        let before = self.records.insert(path.clone(), record);
        self.undo.push((path, before));
    }

    fn load(&self, tree: &Tree, path: &str) -> Option<Record> {
        let id = tree.find(path)?;
        Some(Record {
            zxid: tree.last_zxid(),
            exists: true,
            stat: tree.stat_persisted(id),
            children: tree.child_count(id),
            data_length: tree.data(id).map_or(0, <[u8]>::len),
            acl: tree.acl(id).clone(),
            digest: self.digests.then(|| tree.node_digest(id, path)),
        })
    }
}

/// What a record is about to say of a created znode.
#[derive(Debug)]
pub(super) struct NewNode<'a> {
    pub(super) zxid: Zxid,
    pub(super) time: UnixMillis,
    pub(super) owner: Owner,
    pub(super) data: Option<&'a [u8]>,
    pub(super) acl: Arc<[Acl]>,
    pub(super) parent_cversion: i32,
}

impl Record {
    /// Its share of the tree's digest.
    fn share(&self) -> u64 {
        match &self.digest {
            Some(head) if self.exists => head.with(&self.stat),
            _ => 0,
        }
    }
}

/// The root has one record, under the name that a child's parent has.
fn key(path: &str) -> &str {
    if path == "/" { "" } else { path }
}

/// Checks a version that a request expects, -1 for any, and returns the one after it.
///
/// A version never becomes -1: it would then match nothing but everything. Source: ZOOKEEPER-4743.
pub(super) const fn next_version(current: i32, expected: i32) -> Result<i32, ErrorCode> {
    if expected != -1 && expected != current {
        return Err(ErrorCode::BAD_VERSION);
    }
    match current.wrapping_add(1) {
        -1 => Ok(0),
        next => Ok(next),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::records::Perms;

    #[test]
    fn what_is_applied_is_forgotten_unless_it_changed_again() {
        let tree = Tree::new(0);
        let mut overlay = Overlay::new(&tree, true, 0);
        let child = NewNode {
            zxid: Zxid(1),
            time: UnixMillis(0),
            owner: Owner(0),
            data: None,
            acl: Arc::new([Acl::anyone(Perms::ALL)]),
            parent_cversion: 1,
        };
        overlay.create(&tree, "/a", child);
        overlay.set_data(&tree, "/a", Some(b"x"), 1, Zxid(2), UnixMillis(0));
        overlay.retire(Zxid(1));
        assert_eq!(overlay.records.keys().map(|key| &**key).next(), Some("/a"));
        assert_eq!((overlay.records.len(), overlay.changed.len()), (1, 1));
        overlay.retire(Zxid(2));
        assert_eq!((overlay.records.len(), overlay.changed.len()), (0, 0));
    }
}
