//! What a leader and its learners say to each other on the quorum port.
//!
//! ```text
//! packet    type 4 | zxid 8 | data: length 4, bytes | ids: count 4, { scheme | id } *
//! ```
//!
//! No length stands before a packet: where the last ends the next begins, and after SNAP a whole
//! state stands between two. Null, a length or count of -1, differs from empty: an answer to a PING
//! without data and a REQUEST without ids both crash a thread of a Java leader.
//! Source: `zookeeper.jute`, `Leader`, `LearnerHandler`, `Learner`.

pub(crate) mod auth;
mod bodies;
mod packets;

use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids::Zxid;
use crate::jute;
use crate::wire::records::Id;

pub use bodies::{
    AckEpoch, Activation, Forwarded, LeaderInfo, LearnerInfo, Revalidated, Revalidation, Touch,
};
pub use packets::Packets;

/// The version of the protocol: with LEADERINFO and ACKEPOCH, since ZooKeeper 3.4.
pub const PROTOCOL: i32 = 0x10000;
/// What ends the state after SNAP, as a string with its length before it.
pub const SNAPSHOT_END: &str = "BenWasHere";
/// Bytes of a packet's data that a Java server takes if nothing else is configured.
///
/// Source: `jute.maxbuffer`, and as much again, `zookeeper.jute.maxbuffer.extrasize`.
pub const DATA_BYTES_MAX: usize = 2 * 0xf_ffff;
/// Ids of a packet, and the bytes of all their names. A client has one for its address, and one for each scheme and
/// name it has given.
pub const IDS_MAX: usize = 4096;
/// See [`IDS_MAX`].
pub const IDS_BYTES_MAX: usize = 64 << 10;
/// A packet up to its data.
const HEAD_BYTES: usize = 16;

/// What a packet says: the number at its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PacketType(pub i32);

macro_rules! packet_types {
    ($($name:ident = $value:literal $java:literal;)*) => {
        #[expect(missing_docs, reason = "each is named as in ZooKeeper and explained there")]
        impl PacketType {
            $(pub const $name: Self = Self($value);)*

            /// As ZooKeeper's logs call it.
            const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some($java),)*
                    _ => None,
                }
            }
        }
    };
}

packet_types! {
    REQUEST = 1 "REQUEST";
    PROPOSAL = 2 "PROPOSAL";
    ACK = 3 "ACK";
    COMMIT = 4 "COMMIT";
    PING = 5 "PING";
    REVALIDATE = 6 "REVALIDATE";
    SYNC = 7 "SYNC";
    INFORM = 8 "INFORM";
    COMMIT_AND_ACTIVATE = 9 "COMMITANDACTIVATE";
    NEW_LEADER = 10 "NEWLEADER";
    FOLLOWER_INFO = 11 "FOLLOWERINFO";
    UP_TO_DATE = 12 "UPTODATE";
    DIFF = 13 "DIFF";
    TRUNC = 14 "TRUNC";
    SNAP = 15 "SNAP";
    OBSERVER_INFO = 16 "OBSERVERINFO";
    LEADER_INFO = 17 "LEADERINFO";
    ACK_EPOCH = 18 "ACKEPOCH";
    INFORM_AND_ACTIVATE = 19 "INFORMANDACTIVATE";
}

impl fmt::Display for PacketType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "packet of type {}", self.0),
        }
    }
}

/// Why bytes are no packet, or a packet's data not what its type wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The data of a packet is too long, or its length below -1.
    Data {
        /// Its length as it came.
        length: i32,
        /// The limit.
        max: usize,
    },
    /// There are more ids in a packet than can fit in their limit, or fewer than -1.
    Ids {
        /// Their number as it came.
        count: i32,
        /// The limit.
        max: usize,
    },
    /// A name among the ids of a packet is longer than what is left of their limit, or its length
    /// is below -1.
    Name {
        /// Its length as it came.
        length: i32,
        /// The limit.
        max: usize,
    },
    /// The data is too short for what it should hold, or not a multiple of it.
    Body {
        /// What it should hold.
        name: &'static str,
        /// The length found.
        length: usize,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data { length, max } => {
                write!(
                    f,
                    "a packet's data has a length of {length}, the limit is {max}"
                )
            }
            Self::Ids { count, max } => {
                write!(f, "a packet has {count} ids, the limit is {max}")
            }
            Self::Name { length, max } => write!(
                f,
                "a name in a packet's ids has a length of {length}, the limit is {max}"
            ),
            Self::Body { name, length } => {
                write!(f, "expected {name} in a packet, found {length} bytes")
            }
        }
    }
}

impl core::error::Error for Error {}

/// A packet, `QuorumPacket` in ZooKeeper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// What it says.
    pub kind: PacketType,
    /// Of what, by its type.
    pub zxid: Zxid,
    /// More, by its type; `None` is Jute's null.
    pub data: Option<Bytes>,
    /// Who asks, in a REQUEST; `None` is Jute's null.
    pub ids: Option<Vec<Id>>,
}

impl Packet {
    /// A packet without data and ids.
    #[must_use]
    pub const fn new(kind: PacketType, zxid: Zxid) -> Self {
        Self {
            kind,
            zxid,
            data: None,
            ids: None,
        }
    }

    /// A packet without ids.
    #[must_use]
    pub fn with_data(kind: PacketType, zxid: Zxid, data: impl Into<Bytes>) -> Self {
        Self {
            data: Some(data.into()),
            ..Self::new(kind, zxid)
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let data = self.data.as_deref().map(serde_bytes::Bytes::new);
        let capacity = HEAD_BYTES + data.map_or(0, |data| data.len()) + 4;
        let mut out = Vec::with_capacity(capacity);
        jute::append(&mut out, &(self.kind, self.zxid, data, &self.ids));
        out.into()
    }
}
