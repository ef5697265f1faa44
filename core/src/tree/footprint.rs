//! How much memory the replicated state takes, as an estimate that every server agrees on.
//!
//! It is a function of the znodes, ACLs and sessions alone: not of how a server came to have them,
//! nor of its allocator or the width of its addresses. So what one leader refuses because of
//! `Config::tree_bytes_max`, another with the same setting refuses too. The tree keeps the sum as it
//! changes; [`Tree::recount_memory`] is the definition.
//!
//! It is more than what is asked of the allocator for a tree that only grew, natively and in a
//! module of 32 bits, whatever is in it. What the allocator takes for that is up to 1.7 times as
//! much in a module: of data between two of its classes it can use no gap again; and places of
//! znodes that were deleted are kept for others. So memory of twice `tree_bytes_max` is enough,
//! with what links and proposals take beside it.

use alloc::collections::BTreeSet;

use super::{NodeId, Tree, quota};
use crate::wire::records::Acl;

/// A znode without its name and data: both its halves (56 bytes each), its place in the index,
/// which may just have doubled and then has the old one beside it, and in a set of ephemerals,
/// containers or TTL znodes.
const NODE_BYTES: u64 = 192;

/// What an allocation costs beside what was asked for, rounding included.
const ALLOCATION_BYTES: u64 = 32;

/// A list of ACLs without its entries: its places by number and by content.
const ACL_BYTES: u64 = 192;

/// An entry of such a list without its two strings.
const ACL_ENTRY_BYTES: u64 = 64;

/// A path that has a quota, beside the znodes that say so.
const QUOTA_BYTES: u64 = 64;

/// The longest text of a usage is 53 bytes.
const USAGE_BYTES: usize = 64;

/// A session: in the tree, as an owner of znodes, in the timers, and who has its client.
pub(crate) const SESSION_BYTES: u64 = 512;

/// A znode with so much data.
pub(crate) fn node(path: &str, data_bytes: usize) -> u64 {
    let name = crate::path::split(path).map_or("", |(_, name)| name);
    let key = if quota::is_limit(path) {
        QUOTA_BYTES + allocation(path.len())
    } else {
        0
    };
    // What is counted anew when a server starts may have other digits.
    let data_bytes = if quota::is_usage(path) {
        data_bytes.max(USAGE_BYTES)
    } else {
        data_bytes
    };
    NODE_BYTES + allocation(name.len() + data_bytes) + key
}

/// A list of ACLs, once however many znodes have it.
pub(crate) fn acl(list: &[Acl]) -> u64 {
    let entry =
        |acl: &Acl| ACL_ENTRY_BYTES + allocation(acl.id.scheme.len()) + allocation(acl.id.id.len());
    ACL_BYTES + list.iter().map(entry).sum::<u64>()
}

/// So many bytes in one piece: an allocator loses a part of what it is asked for to fragments.
const fn allocation(bytes: usize) -> u64 {
    let bytes = bytes as u64;
    bytes + bytes / 16 + ALLOCATION_BYTES
}

impl Tree {
    /// An estimate of the memory that this state takes, in bytes; the same on every server.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.nodes_memory + self.acls.memory() + self.sessions.len() as u64 * SESSION_BYTES
    }

    /// The same, counted anew: for whoever checks it. Takes as long as there are znodes.
    #[must_use]
    pub fn recount_memory(&self) -> u64 {
        let nodes = self.walk(NodeId::ROOT).map(|id| {
            let path = self.path(id);
            node(&path, self.node(id).data_length())
        });
        let nodes: u64 = nodes.sum();
        let used: BTreeSet<_> = self
            .walk(NodeId::ROOT)
            .filter(|&id| self.node(id).acl != super::node::AclId(0))
            .map(|id| self.acl(id))
            .collect();
        let acls: u64 = used.into_iter().map(|list| acl(list)).sum();
        nodes + acls + self.sessions.len() as u64 * SESSION_BYTES
    }

    /// What a list of ACLs will take beside those that are there.
    pub(crate) fn acl_growth(&self, list: &[Acl]) -> u64 {
        if self.acls.has(list) { 0 } else { acl(list) }
    }
}
