//! A naive znode service, written from ZooKeeper's rules and sharing no code with the core: the
//! oracle.
//!
//! Every znode stands under its whole path in one map, children are found by looking through it,
//! and a transaction makes a new state from a whole old one. Slow, and simple enough to be
//! believed. Start at [`State`]; writes are in [`write`], reads in [`read`], one connection's
//! watches in [`watch`].

pub mod acl;
pub mod memory;
pub mod path;
pub mod quota;
pub mod read;
pub mod watch;
pub mod write;

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::model::acl::{Identity, READ};
use crate::wire::{Acl, Body, Stat};

/// The owner of a container, as stored.
pub const CONTAINER_OWNER: i64 = i64::MIN;

/// What is set for the whole server.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `extendedTypesEnabled`.
    pub extended_types: bool,
    /// `enforceQuota`.
    pub enforce_quota: bool,
    /// `zabra.treeBytesMax`; 0 is unlimited. Whether a write passes it is the server's to say, and
    /// the oracle's to believe.
    pub tree_bytes_max: u64,
    /// The operation of a request for which there is no room, if the server says so.
    pub full_at: Option<usize>,
}

/// Who asks, and under which transaction.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The session.
    pub session: i64,
    /// Who the connection has shown itself to be when it sent the request.
    pub identities: Rc<[Identity]>,
}

/// A znode as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its data.
    pub data: Option<Rc<[u8]>>,
    /// Who may do what.
    pub acl: Rc<[Acl]>,
    /// The txn that created it.
    pub czxid: i64,
    /// The txn that last changed its data.
    pub mzxid: i64,
    /// When it was created.
    pub ctime: i64,
    /// When its data last changed.
    pub mtime: i64,
    /// Changes of its data.
    pub version: i32,
    /// How many children were ever created; what is reported is computed from it.
    pub cversion: i32,
    /// Changes of its ACL.
    pub aversion: i32,
    /// A session, or the mark of a container or TTL znode.
    pub owner: i64,
    /// The txn that last changed its children.
    pub pzxid: i64,
}

impl Node {
    fn system(acl: &Rc<[Acl]>, aversion: i32) -> Rc<Self> {
        Rc::new(Self {
            data: Some(Rc::from([])),
            acl: Rc::clone(acl),
            czxid: 0,
            mzxid: 0,
            ctime: 0,
            mtime: 0,
            version: 0,
            cversion: 0,
            aversion,
            owner: 0,
            pzxid: 0,
        })
    }

    /// Bytes of data.
    #[must_use]
    pub fn data_len(&self) -> usize {
        self.data.as_ref().map_or(0, |data| data.len())
    }

    /// The time to live in milliseconds, if it has one.
    #[must_use]
    pub const fn ttl(&self, settings: &Settings) -> Option<i64> {
        if settings.extended_types && self.owner >> 56 == -1 {
            Some(self.owner & 0xff_ffff_ffff)
        } else {
            None
        }
    }

    /// Whether a session's end deletes it.
    #[must_use]
    pub const fn is_ephemeral(&self, settings: &Settings) -> bool {
        self.owner != 0 && self.owner != CONTAINER_OWNER && self.ttl(settings).is_none()
    }
}

/// What a request is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The error code, or 0.
    pub err: i32,
    /// The body if there is no error.
    pub body: Body,
}

impl Outcome {
    /// An error.
    #[must_use]
    pub const fn error(err: i32) -> Self {
        Self {
            err,
            body: Body::Empty,
        }
    }

    /// A body, or an error.
    #[must_use]
    pub fn of(result: Result<Body, i32>) -> Self {
        match result {
            Ok(body) => Self { err: 0, body },
            Err(err) => Self::error(err),
        }
    }
}

/// A change that watches hear of.
#[derive(Clone, Debug)]
pub struct Trigger {
    /// 1 created, 2 deleted, 3 data changed, 4 children changed.
    pub kind: i32,
    /// The znode.
    pub path: Rc<str>,
    /// Its ACL: who cannot read the znode does not hear of it.
    pub acl: Rc<[Acl]>,
}

/// All znodes and sessions after one transaction.
#[derive(Clone, Debug)]
pub struct State {
    /// Znodes by path.
    pub nodes: BTreeMap<Rc<str>, Rc<Node>>,
    /// Timeouts by session, as they were when the session was created.
    pub sessions: BTreeMap<i64, i32>,
    /// The last transaction.
    pub zxid: i64,
}

impl Default for State {
    /// What a server starts with.
    fn default() -> Self {
        let all: Rc<[Acl]> = Rc::from([Acl::new(31, "world", "anyone")]);
        let read: Rc<[Acl]> = Rc::from([Acl::new(READ, "world", "anyone")]);
        let nodes = [
            ("/", Node::system(&all, 0)),
            ("/zookeeper", Node::system(&all, 0)),
            ("/zookeeper/config", Node::system(&read, -1)),
            ("/zookeeper/quota", Node::system(&all, 0)),
        ];
        Self {
            nodes: nodes
                .into_iter()
                .map(|(path, node)| (Rc::from(path), node))
                .collect(),
            sessions: BTreeMap::new(),
            zxid: 0,
        }
    }
}

impl State {
    /// The znode at this path. The empty path is another name of the root.
    #[must_use]
    pub fn node(&self, path: &str) -> Option<&Rc<Node>> {
        self.nodes.get(if path.is_empty() { "/" } else { path })
    }

    /// All descendants, with their paths.
    pub fn descendants<'a>(
        &'a self,
        path: &str,
    ) -> impl Iterator<Item = (&'a Rc<str>, &'a Rc<Node>)> + use<'a> {
        let prefix = path::child_prefix(path);
        self.nodes
            .range::<str, _>((
                core::ops::Bound::Excluded(prefix.as_str()),
                core::ops::Bound::Unbounded,
            ))
            .take_while({
                let prefix = prefix.clone();
                move |(path, _)| path.starts_with(&prefix)
            })
    }

    /// The names of the children, sorted.
    #[must_use]
    pub fn children(&self, path: &str) -> Vec<String> {
        let prefix = path::child_prefix(path);
        self.descendants(path)
            .filter_map(|(path, _)| path.strip_prefix(&prefix))
            .filter(|name| !name.contains('/'))
            .map(str::to_owned)
            .collect()
    }

    /// The `Stat` of a znode that is there.
    #[must_use]
    pub fn stat(&self, path: &str) -> Stat {
        let Some(node) = self.node(path) else {
            return Stat::default();
        };
        let children = i32::try_from(self.children(path).len()).unwrap_or(i32::MAX);
        // ZooKeeper: DataNode.copyStat, EphemeralType: markers are not shown.
        let marked = node.owner == CONTAINER_OWNER || node.owner >> 56 == -1;
        Stat {
            czxid: node.czxid,
            mzxid: node.mzxid,
            ctime: node.ctime,
            mtime: node.mtime,
            version: node.version,
            cversion: node.cversion.wrapping_mul(2).wrapping_sub(children),
            aversion: node.aversion,
            ephemeral_owner: if marked { 0 } else { node.owner },
            data_length: i32::try_from(node.data_len()).unwrap_or(i32::MAX),
            num_children: children,
            pzxid: node.pzxid,
        }
    }

    /// The ephemeral znodes of a session.
    #[must_use]
    pub fn ephemerals(&self, session: i64) -> Vec<Rc<str>> {
        self.nodes
            .iter()
            .filter(|(_, node)| node.owner == session)
            .map(|(path, _)| Rc::clone(path))
            .collect()
    }

    /// Changes a znode that is there.
    fn change(&mut self, path: &str, change: impl FnOnce(&mut Node)) {
        let path = if path.is_empty() { "/" } else { path };
        if let Some(node) = self.nodes.get_mut(path) {
            change(Rc::make_mut(node));
        }
    }
}
