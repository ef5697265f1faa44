//! Records that clients, logs and snapshots share.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::ids::{UnixMillis, Zxid};
use crate::jute::Text;

/// Permissions of an ACL entry, a set of bits. Bits that mean nothing are kept as they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Perms(pub i32);

impl Perms {
    /// To read data and list children.
    pub const READ: Self = Self(1);
    /// To set data.
    pub const WRITE: Self = Self(2);
    /// To create children.
    pub const CREATE: Self = Self(4);
    /// To delete children.
    pub const DELETE: Self = Self(8);
    /// To set the ACL.
    pub const ADMIN: Self = Self(16);
    /// All of these.
    pub const ALL: Self = Self(31);

    /// Whether the two sets have a permission in common.
    #[must_use]
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The permissions of both.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Who: a scheme and what it calls somebody.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Id {
    /// `world`, `digest`, `ip`, …
    pub scheme: String,
    /// The name within the scheme.
    pub id: String,
}

/// Who may do what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Acl {
    /// What.
    pub perms: Perms,
    /// Who.
    pub id: Id,
}

impl Acl {
    /// `world:anyone` with these permissions.
    #[must_use]
    pub fn anyone(perms: Perms) -> Self {
        Self {
            perms,
            id: Id {
                scheme: "world".into(),
                id: "anyone".into(),
            },
        }
    }
}

/// An ACL entry as it arrives: anything may be null.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AclText<'a> {
    /// What.
    pub perms: Perms,
    /// The scheme.
    #[serde(borrow)]
    pub scheme: Text<'a>,
    /// The name within the scheme.
    #[serde(borrow)]
    pub id: Text<'a>,
}

impl AclText<'_> {
    /// The entry with nulls as empty strings.
    #[must_use]
    pub fn to_acl(&self) -> Acl {
        let id = Id {
            scheme: self.scheme.or_empty().into(),
            id: self.id.or_empty().into(),
        };
        Acl {
            perms: self.perms,
            id,
        }
    }
}

impl<'a> From<&'a Acl> for AclText<'a> {
    fn from(acl: &'a Acl) -> Self {
        Self {
            perms: acl.perms,
            scheme: Text(Some(Cow::Borrowed(&acl.id.scheme))),
            id: Text(Some(Cow::Borrowed(&acl.id.id))),
        }
    }
}

impl AclText<'_> {
    /// The entry without what it borrows from.
    #[must_use]
    pub fn into_owned(self) -> AclText<'static> {
        let owned = |text: Text<'_>| Text(text.0.map(|text| Cow::Owned(text.into_owned())));
        AclText {
            perms: self.perms,
            scheme: owned(self.scheme),
            id: owned(self.id),
        }
    }
}

/// Copies a list of entries.
#[must_use]
pub fn to_acls(list: &[AclText<'_>]) -> Vec<Acl> {
    list.iter().map(AclText::to_acl).collect()
}

/// What a client learns about a znode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stat {
    /// The transaction that created it.
    pub czxid: Zxid,
    /// The transaction that last set its data.
    pub mzxid: Zxid,
    /// When it was created.
    pub ctime: UnixMillis,
    /// When its data was last set.
    pub mtime: UnixMillis,
    /// How often its data was set.
    pub version: i32,
    /// How often children were created or deleted.
    pub cversion: i32,
    /// How often its ACL was set.
    pub aversion: i32,
    /// The session it belongs to if it is ephemeral, else 0.
    pub ephemeral_owner: i64,
    /// Bytes of data, 0 if null.
    pub data_length: i32,
    /// Children.
    pub num_children: i32,
    /// The transaction that last created or deleted a child.
    pub pzxid: Zxid,
}

/// What a snapshot keeps about a znode, in the order of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatPersisted {
    /// As in [`Stat`].
    pub czxid: Zxid,
    /// As in [`Stat`].
    pub mzxid: Zxid,
    /// As in [`Stat`].
    pub ctime: UnixMillis,
    /// As in [`Stat`].
    pub mtime: UnixMillis,
    /// As in [`Stat`].
    pub version: i32,
    /// How often children were created: unlike [`Stat::cversion`] it does not count deletions.
    pub cversion: i32,
    /// As in [`Stat`].
    pub aversion: i32,
    /// The owner of an ephemeral znode, or an encoding of container and TTL.
    pub ephemeral_owner: i64,
    /// As in [`Stat`].
    pub pzxid: Zxid,
}
