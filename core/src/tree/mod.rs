//! The replicated state: znodes, their ACLs and quotas, and the sessions that own some of them.
//!
//! It changes only by [`Tree::apply`], in the order of zxids, and knows nothing of connections,
//! elections or disks. Watches ([`watch`]) are kept beside it, by whoever serves connections.
//!
//! Start reading at [`Tree`]; `apply.rs` has what each transaction does.

mod acl;
mod apply;
mod digest;
pub(crate) mod footprint;
mod load;
mod node;
mod quota;
mod slab;
mod snapshot;
pub mod watch;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hash::{BuildHasher, Hasher as _};

use hashbrown::HashTable;

use crate::ids::{SessionId, UnixMillis, Zxid};
use crate::wire::records::{Acl, Perms, Stat, StatPersisted};
use crate::wire::txn::CreateKind;

use acl::AclTable;
use node::{Node, Rest};
use slab::Slab;

pub use apply::{Applied, Change};
pub(crate) use apply::{Sequence, create_kind};
pub(crate) use digest::NodeDigest;
pub use load::{LoadError, Loader, StreamLoader};
pub(crate) use node::Owner;
pub use node::{NodeId, TTL_MS_MAX};
pub use quota::{Limits, Usage};
pub use snapshot::Piece;

/// Where ZooKeeper keeps its own znodes.
pub const SYSTEM: &str = "/zookeeper";
/// Below it: limits and usage by path.
pub const QUOTA: &str = "/zookeeper/quota";
/// The ensemble's configuration; empty when standalone.
pub const CONFIG: &str = "/zookeeper/config";

type PathHasher = foldhash::fast::FixedState;

/// The znodes and sessions as of one transaction.
pub struct Tree {
    nodes: Slab<Node>,
    rests: Slab<Rest>,
    /// Full paths' hashes to znodes. The hash is kept so that growing touches no znode.
    index: HashTable<(u32, u32)>,
    hasher: PathHasher,
    acls: AclTable,
    sessions: BTreeMap<SessionId, i32>,
    ephemerals: BTreeMap<SessionId, BTreeSet<NodeId>>,
    containers: BTreeSet<NodeId>,
    ttls: BTreeSet<NodeId>,
    quotas: BTreeMap<String, ()>,
    count: usize,
    data_size: u64,
    /// The znodes' part of [`Tree::memory`].
    nodes_memory: u64,
    digest: u64,
    last: Zxid,
    snapshot: Option<snapshot::Writer>,
    /// The value of a znode's mark that means "the snapshot has it".
    mark: bool,
}

impl Tree {
    /// The tree of a new server. `seed` keeps others from guessing which paths collide; it never
    /// shows.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut tree = Self::bare(seed);
        let open = node::AclId(0);
        for (path, acl) in [("", open), (SYSTEM, open), (QUOTA, open)] {
            tree.insert(path, Some(&[]), acl, StatPersisted::default());
        }
        let readable = tree.acls.acquire(alloc::vec![Acl::anyone(Perms::READ)]);
        // Source: ZooKeeper creates this one through setACL with version -1.
        let stat = StatPersisted {
            aversion: -1,
            ..StatPersisted::default()
        };
        tree.insert(CONFIG, Some(&[]), readable, stat);
        tree
    }

    fn bare(seed: u64) -> Self {
        Self {
            nodes: Slab::new(),
            rests: Slab::new(),
            index: HashTable::new(),
            hasher: PathHasher::with_seed(seed),
            acls: AclTable::new(),
            sessions: BTreeMap::new(),
            ephemerals: BTreeMap::new(),
            containers: BTreeSet::new(),
            ttls: BTreeSet::new(),
            quotas: BTreeMap::new(),
            count: 0,
            data_size: 0,
            nodes_memory: 0,
            digest: 0,
            last: Zxid::ZERO,
            snapshot: None,
            mark: false,
        }
    }

    /// The last transaction applied.
    #[must_use]
    pub const fn last_zxid(&self) -> Zxid {
        self.last
    }

    /// Znodes, the root counted once.
    #[must_use]
    pub const fn node_count(&self) -> usize {
        self.count
    }

    /// Bytes of all paths and data.
    #[must_use]
    pub const fn data_size(&self) -> u64 {
        self.data_size
    }

    /// ZooKeeper's digest of the tree, version 2.
    #[must_use]
    pub const fn digest(&self) -> u64 {
        self.digest
    }

    /// The znode at `path`. Both `/` and the empty path are the root.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<NodeId> {
        if path.is_empty() || path == "/" {
            return Some(NodeId::ROOT);
        }
        let (hash, short) = self.hash(path);
        let found = self
            .index
            .find(hash, |&(other, id)| other == short && self.is_at(id, path));
        found.map(|&(_, id)| NodeId(id))
    }

    /// The parent that a child's path names. The root's alias `/` is none: as `//a` its child would
    /// be found nowhere, and be written to a snapshot as `/a`.
    fn find_parent(&self, path: &str) -> Option<NodeId> {
        (path != "/").then(|| self.find(path)).flatten()
    }

    fn hash(&self, path: &str) -> (u64, u32) {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(path.as_bytes());
        let hash = hasher.finish();
        let short = (hash >> 32) as u32;
        (spread(short), short)
    }

    fn is_at(&self, id: u32, path: &str) -> bool {
        let mut rest = path.as_bytes();
        let mut id = id;
        loop {
            let node = self.nodes.get(id);
            let Some(head) = rest
                .strip_suffix(node.name())
                .and_then(|head| head.strip_suffix(b"/"))
            else {
                return false;
            };
            if node.parent == NodeId::ROOT.0 {
                return head.is_empty();
            }
            rest = head;
            id = node.parent;
        }
    }

    /// The path of a znode; the root's is `/`.
    #[must_use]
    pub fn path(&self, id: NodeId) -> String {
        let mut path = String::new();
        self.write_path(id, &mut path);
        if path.is_empty() {
            path.push('/');
        }
        path
    }

    /// Appends the path of a znode; of the root nothing.
    fn write_path(&self, id: NodeId, out: &mut String) {
        let mut chain = [NodeId::NONE; 32];
        let mut depth = 0;
        // What is above the array: no recursion, a path of a megabyte has half a million parts.
        let mut above = Vec::new();
        let mut at = id;
        while at != NodeId::ROOT {
            match chain.get_mut(depth) {
                Some(place) => *place = at,
                None => above.push(at),
            }
            depth += 1;
            at = NodeId(self.node(at).parent);
        }
        let chain = chain.iter().take(depth);
        for &id in above.iter().rev().chain(chain.rev()) {
            out.push('/');
            // Names are parts of paths that were strings when they came in.
            out.push_str(core::str::from_utf8(self.node(id).name()).unwrap_or("\u{fffd}"));
        }
    }

    fn node(&self, id: NodeId) -> &Node {
        self.nodes.get(id.0)
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(id.0)
    }

    fn rest(&self, id: NodeId) -> Rest {
        let node = self.node(id);
        if node.rest == 0 {
            node.rest_at_birth()
        } else {
            *self.rests.get(node.rest)
        }
    }

    fn rest_mut(&mut self, id: NodeId) -> &mut Rest {
        let node = self.nodes.get_mut(id.0);
        if node.rest == 0 {
            node.rest = self.rests.insert(node.rest_at_birth());
        }
        self.rests.get_mut(node.rest)
    }

    /// A znode's data; `None` is null.
    #[must_use]
    pub fn data(&self, id: NodeId) -> Option<&[u8]> {
        self.node(id).data()
    }

    /// A znode's ACL.
    #[must_use]
    pub fn acl(&self, id: NodeId) -> &Arc<[Acl]> {
        self.acls.list(self.node(id).acl)
    }

    /// What is stored about a znode.
    #[must_use]
    pub fn stat_persisted(&self, id: NodeId) -> StatPersisted {
        self.node(id).stat(&self.rest(id))
    }

    /// A znode's share of the digest, but for its stat.
    pub(crate) fn node_digest(&self, id: NodeId, path: &str) -> NodeDigest {
        match self.rest(id).digest_head {
            0 => NodeDigest::new(path, self.data(id)),
            head => NodeDigest::resume(path, head),
        }
    }

    /// How many children a znode has.
    #[must_use]
    pub fn child_count(&self, id: NodeId) -> u32 {
        let node = self.node(id);
        if node.rest == 0 {
            0
        } else {
            self.rests.get(node.rest).children
        }
    }

    /// What a znode is, and for how long.
    #[must_use]
    pub fn kind(&self, id: NodeId) -> CreateKind {
        self.rest(id).owner.kind()
    }

    /// What a client learns about a znode.
    #[must_use]
    pub fn stat(&self, id: NodeId) -> Stat {
        let node = self.node(id);
        let rest = self.rest(id);
        let children = i32::try_from(rest.children).unwrap_or(i32::MAX);
        Stat {
            czxid: node.czxid,
            mzxid: rest.mzxid,
            ctime: node.ctime,
            mtime: rest.mtime,
            version: rest.version,
            // Only creations are counted; what was created and is not there was deleted.
            cversion: rest.cversion.wrapping_mul(2).wrapping_sub(children),
            aversion: rest.aversion,
            ephemeral_owner: rest.owner.session().map_or(0, |session| session.0),
            data_length: i32::try_from(node.data_length()).unwrap_or(i32::MAX),
            num_children: children,
            pzxid: rest.pzxid,
        }
    }

    /// The children of a znode, in no order that means anything.
    pub fn children(&self, id: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let node = self.node(id);
        let first = if node.rest == 0 {
            0
        } else {
            self.rests.get(node.rest).first_child
        };
        let next = |id: &NodeId| NodeId(self.node(*id).next).some();
        core::iter::successors(NodeId(first).some(), next)
    }

    /// A znode's name, the last part of its path.
    #[must_use]
    pub fn name(&self, id: NodeId) -> &[u8] {
        self.node(id).name()
    }

    /// How many znodes are below this one.
    #[must_use]
    pub fn descendant_count(&self, id: NodeId) -> usize {
        if id == NodeId::ROOT {
            self.count - 1
        } else {
            self.walk(id).count() - 1
        }
    }

    /// A znode and all below it, parents first.
    pub fn walk(&self, top: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        core::iter::successors(Some(top), move |&id| self.after(id, top))
    }

    /// The next znode in preorder within the subtree of `top`.
    fn after(&self, id: NodeId, top: NodeId) -> Option<NodeId> {
        let node = self.node(id);
        if node.rest != 0
            && let Some(child) = NodeId(self.rests.get(node.rest).first_child).some()
        {
            return Some(child);
        }
        self.after_subtree(id, top)
    }

    fn after_subtree(&self, id: NodeId, top: NodeId) -> Option<NodeId> {
        let mut at = id;
        while at != top {
            let node = self.node(at);
            if let Some(next) = NodeId(node.next).some() {
                return Some(next);
            }
            at = NodeId(node.parent);
        }
        None
    }

    /// The sessions and their timeouts in milliseconds.
    pub fn sessions(&self) -> impl ExactSizeIterator<Item = (SessionId, i32)> + '_ {
        self.sessions.iter().map(|(&id, &timeout)| (id, timeout))
    }

    /// Whether a session is there.
    #[must_use]
    pub fn has_session(&self, session: SessionId) -> bool {
        self.sessions.contains_key(&session)
    }

    /// The ephemeral znodes of a session.
    pub fn ephemerals(&self, session: SessionId) -> impl Iterator<Item = NodeId> + '_ {
        self.ephemerals.get(&session).into_iter().flatten().copied()
    }

    /// The sessions that own ephemeral znodes.
    pub fn ephemeral_owners(&self) -> impl ExactSizeIterator<Item = SessionId> + '_ {
        self.ephemerals.keys().copied()
    }

    /// How many ephemeral znodes there are.
    #[must_use]
    pub fn ephemeral_count(&self) -> usize {
        self.ephemerals.values().map(BTreeSet::len).sum()
    }

    /// The containers and TTL znodes that should be deleted at `now`.
    ///
    /// `never_used_ms` is the age at which a container that never had a child should, 0 for never.
    /// Source: `ContainerManager.getCandidates`.
    #[must_use]
    pub fn reapable(&self, now: UnixMillis, never_used_ms: u64) -> Vec<String> {
        let due = |&&id: &&NodeId| {
            let stat = self.stat_persisted(id);
            is_reapable(&stat, self.child_count(id), now, never_used_ms)
        };
        let both = self.containers.iter().chain(&self.ttls);
        both.filter(due).map(|&id| self.path(id)).collect()
    }

    /// Adds a znode whose parent is there and which is not.
    fn insert(
        &mut self,
        path: &str,
        data: Option<&[u8]>,
        acl: node::AclId,
        stat: StatPersisted,
    ) -> NodeId {
        let (parent_path, name) = crate::path::split(path).unwrap_or_default();
        let mut node = Node::new(name.as_bytes(), data);
        node.czxid = stat.czxid;
        node.ctime = stat.ctime;
        node.acl = acl;
        node.set_mark(self.mark);
        self.data_size += (path.len() + node.data_length()) as u64;
        self.nodes_memory += footprint::node(path, node.data_length());
        let born = node.stat(&node.rest_at_birth());
        let id = NodeId(self.nodes.insert(node));
        if id != NodeId::ROOT {
            let parent = self
                .find(parent_path)
                .expect("callers make sure of the parent");
            self.link(id, parent);
            let (hash, short) = self.hash(path);
            self.index
                .insert_unique(hash, (short, id.0), |&(short, _)| spread(short));
        }
        if stat != born {
            let rest = self.rest_mut(id);
            rest.mzxid = stat.mzxid;
            rest.mtime = stat.mtime;
            rest.pzxid = stat.pzxid;
            rest.owner = Owner(stat.ephemeral_owner);
            rest.version = stat.version;
            rest.cversion = stat.cversion;
            rest.aversion = stat.aversion;
        }
        self.register(id, Owner(stat.ephemeral_owner));
        self.count += 1;
        self.digest = self.digest.wrapping_add(digest::of(path, data, &stat));
        id
    }

    fn register(&mut self, id: NodeId, owner: Owner) {
        match owner.kind() {
            CreateKind::Container => {
                self.containers.insert(id);
            }
            CreateKind::Ephemeral => {
                self.ephemerals
                    .entry(SessionId(owner.0))
                    .or_default()
                    .insert(id);
            }
            CreateKind::Persistent => {}
            CreateKind::Ttl(_) => {
                self.ttls.insert(id);
            }
        }
    }

    fn link(&mut self, id: NodeId, parent: NodeId) {
        let rest = self.rest_mut(parent);
        let second = core::mem::replace(&mut rest.first_child, id.0);
        rest.children += 1;
        let node = self.node_mut(id);
        node.parent = parent.0;
        node.next = second;
        if second != 0 {
            self.nodes.get_mut(second).prev = id.0;
        }
    }

    /// Takes out a znode without children.
    fn remove(&mut self, id: NodeId, path: &str) {
        assert!(id != NodeId::ROOT, "the root is never deleted");
        assert!(
            self.child_count(id) == 0,
            "a znode with children is never deleted"
        );
        self.preserve(id);
        self.step_over(id);
        let stat = self.stat_persisted(id);
        let share = self.node_digest(id, path).with(&stat);
        self.digest = self.digest.wrapping_sub(share);
        let (hash, _) = self.hash(path);
        if let Ok(entry) = self.index.find_entry(hash, |&(_, other)| other == id.0) {
            entry.remove();
        }
        let node = self.nodes.remove(id.0);
        if node.prev != 0 {
            self.nodes.get_mut(node.prev).next = node.next;
        }
        if node.next != 0 {
            self.nodes.get_mut(node.next).prev = node.prev;
        }
        let parent = self.rest_mut(NodeId(node.parent));
        parent.children -= 1;
        if parent.first_child == id.0 {
            parent.first_child = node.next;
        }
        if node.rest != 0 {
            self.rests.remove(node.rest);
        }
        match Owner(stat.ephemeral_owner).kind() {
            CreateKind::Container => {
                self.containers.remove(&id);
            }
            CreateKind::Ephemeral => self.disown(SessionId(stat.ephemeral_owner), id),
            CreateKind::Persistent => {}
            CreateKind::Ttl(_) => {
                self.ttls.remove(&id);
            }
        }
        self.acls.release(node.acl);
        self.data_size -= (path.len() + node.data_length()) as u64;
        self.nodes_memory -= footprint::node(path, node.data_length());
        self.count -= 1;
    }

    fn disown(&mut self, session: SessionId, id: NodeId) {
        if let Some(owned) = self.ephemerals.get_mut(&session) {
            owned.remove(&id);
            if owned.is_empty() {
                self.ephemerals.remove(&session);
            }
        }
    }
}

/// Whether a znode with this stat and so many children should be deleted at `now`: see
/// [`Tree::reapable`].
pub(crate) fn is_reapable(
    stat: &StatPersisted,
    children: u32,
    now: UnixMillis,
    never_used_ms: u64,
) -> bool {
    let age = u64::try_from(now.0.saturating_sub(stat.mtime.0)).unwrap_or(0);
    let due = match Owner(stat.ephemeral_owner).kind() {
        CreateKind::Container => {
            let unused = never_used_ms != 0 && age > never_used_ms;
            stat.cversion > 0 || unused
        }
        CreateKind::Ttl(ttl) => age > u64::try_from(ttl).unwrap_or(0),
        CreateKind::Ephemeral | CreateKind::Persistent => false,
    };
    due && children == 0
}

/// Half a hash made whole again, for a table that takes its top bits and its low bits.
const fn spread(short: u32) -> u64 {
    (short as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
