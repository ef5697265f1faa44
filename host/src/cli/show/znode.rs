//! A znode, and a session.

use serde::Serialize;
use zabra_core::ids::SessionId;
use zabra_core::tree::{NodeId, Tree};
use zabra_core::wire::txn::CreateKind;

use super::{AclLine, Data};
use crate::backup::format_time;

/// A znode as a client would see it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct ZnodeLine {
    pub(in crate::cli) path: String,
    #[serde(flatten)]
    content: Content,
    #[serde(skip_serializing_if = "Option::is_none")]
    stat: Option<StatLine>,
}

/// What clients wrote.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Content {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_ms: Option<i64>,
    #[serde(flatten)]
    data: Data,
    acl: Vec<AclLine>,
}

/// What the server knows about it.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct StatLine {
    czxid: String,
    mzxid: String,
    pzxid: String,
    ctime: String,
    mtime: String,
    version: i32,
    cversion: i32,
    aversion: i32,
    children: i32,
}

/// A session.
#[derive(Serialize)]
pub(in crate::cli) struct SessionLine {
    session: String,
    timeout_ms: i32,
}

impl ZnodeLine {
    /// A znode, with its stat if `with_stat`.
    pub(in crate::cli) fn new(tree: &Tree, id: NodeId, with_stat: bool) -> Self {
        let stat = tree.stat(id);
        let kind = tree.kind(id);
        let content = Content {
            kind: match kind {
                CreateKind::Container => "container",
                CreateKind::Ephemeral => "ephemeral",
                CreateKind::Persistent => "persistent",
                CreateKind::Ttl(_) => "ttl",
            },
            session: (kind == CreateKind::Ephemeral)
                .then(|| SessionId(stat.ephemeral_owner).to_string()),
            ttl_ms: match kind {
                CreateKind::Ttl(ttl_ms) => Some(ttl_ms),
                CreateKind::Container | CreateKind::Ephemeral | CreateKind::Persistent => None,
            },
            data: tree.data(id).into(),
            acl: tree.acl(id).iter().map(AclLine::from).collect(),
        };
        let stat = StatLine {
            czxid: stat.czxid.to_string(),
            mzxid: stat.mzxid.to_string(),
            pzxid: stat.pzxid.to_string(),
            ctime: format_time(stat.ctime),
            mtime: format_time(stat.mtime),
            version: stat.version,
            cversion: stat.cversion,
            aversion: stat.aversion,
            children: stat.num_children,
        };
        Self {
            path: tree.path(id),
            content,
            stat: with_stat.then_some(stat),
        }
    }
}

impl SessionLine {
    pub(in crate::cli) fn new((id, timeout_ms): (SessionId, i32)) -> Self {
        Self {
            session: id.to_string(),
            timeout_ms,
        }
    }
}

/// A znode and all below it, parents first, children by their names.
pub(in crate::cli) fn preorder(tree: &Tree, top: NodeId) -> impl Iterator<Item = NodeId> + '_ {
    let mut open = vec![top];
    core::iter::from_fn(move || {
        let id = open.pop()?;
        let begin = open.len();
        open.extend(tree.children(id));
        let children = open.get_mut(begin..).unwrap_or_default();
        children.sort_by(|a, b| tree.name(*b).cmp(tree.name(*a)));
        Some(id)
    })
}
