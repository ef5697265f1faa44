//! The layout of a snapshot file.
//!
//! ```text
//! header    magic "ZKSN" 4 | version 4 (2) | dbid 8 (-1)
//! sessions  count 4 | { id 8 | timeout 4 } *
//! ACLs      count 4 | { id 8 | list of ACL } *
//! znodes    { path | data | ACL id 8 | StatPersisted 60 } *      the root first, with an empty path
//! end       path "/"
//! seal      Adler-32 of all bytes before, as a long 8 | path "/"
//! digest    zxid 8 | version 4 (2) | digest 8 | seal             since 3.6, if digests are on
//! last      zxid 8 | seal                                        since 3.9
//! ```
//!
//! The last two parts carry no tag: readers tell them apart by how many bytes are left.
//!
//! A leader sends its state as the same sessions, ACLs and znodes with their end, without header
//! and seals, and then [`STREAM_END`].
//! Source: `FileSnap`, `SnapStream`, `DataTree.serialize`.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::ids::{SessionId, Zxid};
use crate::jute::Text;
use crate::wire::records::{AclText, StatPersisted};

/// The first 16 bytes of every snapshot that is written.
pub const HEADER: [u8; 16] = *b"ZKSN\x00\x00\x00\x02\xff\xff\xff\xff\xff\xff\xff\xff";
/// The first 4 bytes of every snapshot.
pub const MAGIC: [u8; 4] = *b"ZKSN";
/// A path of "/", with which the znodes and each seal end.
pub const END: [u8; 5] = *b"\x00\x00\x00\x01/";
/// What follows the znodes and their end where a leader sends them: the string `BenWasHere`.
///
/// Source: `LearnerHandler.run`.
pub const STREAM_END: [u8; 14] = *b"\x00\x00\x00\x0aBenWasHere";
/// Bytes of a seal: a checksum and [`END`].
pub const SEAL_BYTES: usize = 13;
/// Bytes of the digest part without its seal.
pub const DIGEST_BYTES: usize = 20;
/// Bytes of the last zxid without its seal.
pub const LAST_ZXID_BYTES: usize = 8;

/// A session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Its id.
    pub id: SessionId,
    /// Its timeout in milliseconds.
    pub timeout_ms: i32,
}

/// An entry of the ACL map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AclRecord<'a> {
    /// What znodes call it.
    pub id: i64,
    /// The list.
    #[serde(borrow)]
    pub list: Vec<AclText<'a>>,
}

/// A znode after its path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord<'a> {
    /// Its data.
    #[serde(with = "serde_bytes", borrow)]
    pub data: Option<&'a [u8]>,
    /// Which list of the ACL map it has; -1 is `world:anyone` with all permissions.
    pub acl: i64,
    /// Its stat.
    pub stat: StatPersisted,
}

/// The path of a znode, or the end of znodes.
pub type NodePath<'a> = Text<'a>;

/// The digest part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestRecord {
    /// The transaction after which it holds; 0 if there is no digest.
    pub zxid: Zxid,
    /// The version of the algorithm.
    pub version: i32,
    /// The digest.
    pub digest: i64,
}
