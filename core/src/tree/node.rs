//! A znode in memory, kept small: most are created once and never touched again.

use alloc::boxed::Box;

use crate::ids::{SessionId, UnixMillis, Zxid};
use crate::wire::records::StatPersisted;
use crate::wire::txn::CreateKind;

/// A znode's place in the tree. Reused after deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(super) u32);

impl NodeId {
    pub(super) const NONE: Self = Self(0);
    pub(super) const ROOT: Self = Self(1);

    pub(super) const fn some(self) -> Option<Self> {
        if self.0 == 0 { None } else { Some(self) }
    }
}

/// The number of an ACL list; 0 is `world:anyone` with all permissions, of the built-in znodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct AclId(pub(super) u32);

/// What every znode has. 56 bytes: a million of them should not be 100 MB before their data.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) czxid: Zxid,
    pub(super) ctime: UnixMillis,
    /// Name, then data.
    pub(super) blob: Box<[u8]>,
    pub(super) parent: NodeIdOrNone,
    pub(super) next: NodeIdOrNone,
    pub(super) prev: NodeIdOrNone,
    /// Where the rest is; 0 while it is all as at birth.
    pub(super) rest: u32,
    pub(super) acl: AclId,
    name: NameLength,
}

pub(super) type NodeIdOrNone = u32;

/// The name's length with two flags above it.
#[derive(Clone, Copy, Debug, Default)]
struct NameLength(u32);

impl NameLength {
    const NULL_DATA: u32 = 1 << 31;
    const MARK: u32 = 1 << 30;
    const LENGTH: u32 = Self::MARK - 1;
}

/// What differs from birth: in a slab of its own, only for znodes that changed or have children.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rest {
    pub(super) mzxid: Zxid,
    pub(super) mtime: UnixMillis,
    pub(super) pzxid: Zxid,
    pub(super) owner: Owner,
    pub(super) version: i32,
    pub(super) cversion: i32,
    pub(super) aversion: i32,
    pub(super) first_child: NodeIdOrNone,
    pub(super) children: u32,
    /// The digest's head if it is known, else 0: a parent of much data changes with every child.
    pub(super) digest_head: u32,
}

impl Node {
    pub(super) fn new(name: &[u8], data: Option<&[u8]>) -> Self {
        let mut node = Self::default();
        node.set_blob(name, data);
        node
    }

    fn set_blob(&mut self, name: &[u8], data: Option<&[u8]>) {
        let length = u32::try_from(name.len()).expect("a frame is shorter than 2^30 bytes");
        assert!(
            length <= NameLength::LENGTH,
            "a frame is shorter than 2^30 bytes"
        );
        let null = if data.is_none() {
            NameLength::NULL_DATA
        } else {
            0
        };
        self.blob = [name, data.unwrap_or_default()].concat().into_boxed_slice();
        self.name = NameLength(length | null | (self.name.0 & NameLength::MARK));
    }

    fn name_length(&self) -> usize {
        (self.name.0 & NameLength::LENGTH) as usize
    }

    pub(super) fn name(&self) -> &[u8] {
        self.blob.get(..self.name_length()).unwrap_or_default()
    }

    pub(super) fn data(&self) -> Option<&[u8]> {
        if self.name.0 & NameLength::NULL_DATA != 0 {
            return None;
        }
        self.blob.get(self.name_length()..)
    }

    pub(super) fn data_length(&self) -> usize {
        self.blob.len() - self.name_length()
    }

    pub(super) fn set_data(&mut self, data: Option<&[u8]>) {
        let length = self.name_length();
        if let (Some(new), false) = (data, self.name.0 & NameLength::NULL_DATA != 0)
            && let Some(old) = self.blob.get_mut(length..)
            && old.len() == new.len()
        {
            old.copy_from_slice(new);
            return;
        }
        let blob = core::mem::take(&mut self.blob);
        self.set_blob(blob.get(..length).unwrap_or_default(), data);
    }

    /// A flag of the snapshot writer; see `snapshot.rs`.
    pub(super) const fn mark(&self) -> bool {
        self.name.0 & NameLength::MARK != 0
    }

    pub(super) const fn set_mark(&mut self, mark: bool) {
        let flag = if mark { NameLength::MARK } else { 0 };
        self.name.0 = (self.name.0 & !NameLength::MARK) | flag;
    }

    /// What the rest of a znode is while nothing happened to it.
    pub(super) fn rest_at_birth(&self) -> Rest {
        Rest {
            mzxid: self.czxid,
            mtime: self.ctime,
            pzxid: self.czxid,
            ..Rest::default()
        }
    }

    pub(super) const fn stat(&self, rest: &Rest) -> StatPersisted {
        StatPersisted {
            czxid: self.czxid,
            mzxid: rest.mzxid,
            ctime: self.ctime,
            mtime: rest.mtime,
            version: rest.version,
            cversion: rest.cversion,
            aversion: rest.aversion,
            ephemeral_owner: rest.owner.0,
            pzxid: rest.pzxid,
        }
    }
}

/// `ephemeralOwner` as it is stored: a session, or an encoding of what else a znode can be.
///
/// A TTL is recognised whether or not `extendedTypesEnabled` is set: no session id has 0xff as its
/// top byte (server ids end at 254), and taking a TTL znode for a dead session's would delete it.
/// Source: `org.apache.zookeeper.server.EphemeralType`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Owner(pub(crate) i64);

const TTL_MASK: i64 = 0xff_ffff_ffff;
const TTL_TAG: i64 = 0xff << 56;

/// The longest TTL in milliseconds.
pub const TTL_MS_MAX: i64 = TTL_MASK;

impl Owner {
    pub(crate) const fn new(kind: CreateKind, session: SessionId) -> Self {
        Self(match kind {
            CreateKind::Container => i64::MIN,
            CreateKind::Ephemeral => session.0,
            CreateKind::Persistent => 0,
            CreateKind::Ttl(ttl) => TTL_TAG | (ttl & TTL_MASK),
        })
    }

    pub(crate) const fn kind(self) -> CreateKind {
        match self.0 {
            0 => CreateKind::Persistent,
            i64::MIN => CreateKind::Container,
            owner if owner & !TTL_MASK == TTL_TAG => CreateKind::Ttl(owner & TTL_MASK),
            _ => CreateKind::Ephemeral,
        }
    }

    pub(crate) fn session(self) -> Option<SessionId> {
        (self.kind() == CreateKind::Ephemeral).then_some(SessionId(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_small() {
        assert_eq!(size_of::<Node>(), 56);
        assert_eq!(size_of::<Rest>(), 56);
    }

    #[test]
    fn null_and_empty_data_differ_and_names_stay() {
        let mut node = Node::new(b"name", None);
        assert_eq!((node.name(), node.data()), (&b"name"[..], None));
        node.set_mark(true);
        for data in [Some(&b""[..]), Some(b"abc"), Some(b"xyz"), None, Some(b"1")] {
            node.set_data(data);
            assert_eq!((node.name(), node.data()), (&b"name"[..], data));
            assert!(node.mark());
        }
    }

    #[test]
    fn owners_encode_what_a_znode_is() {
        let session = SessionId(0x0100_0000_0000_0001);
        for kind in [
            CreateKind::Container,
            CreateKind::Ephemeral,
            CreateKind::Persistent,
            CreateKind::Ttl(1),
            CreateKind::Ttl(TTL_MS_MAX),
        ] {
            assert_eq!(Owner::new(kind, session).kind(), kind);
        }
        assert_eq!(Owner::new(CreateKind::Container, session).0, i64::MIN);
        assert_eq!(
            Owner::new(CreateKind::Ttl(5), session).0.cast_unsigned(),
            0xff00_0000_0000_0005
        );
    }
}
