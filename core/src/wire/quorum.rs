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

use alloc::string::String;
use alloc::vec::Vec;
use core::{fmt, mem};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::stream::Stream;
use crate::ids::{Epoch, ServerId, SessionId, Xid, Zxid};
use crate::jute;
use crate::wire::client::OpCode;
use crate::wire::records::Id;

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

/// Cuts packets out of bytes that arrive cut anywhere.
///
/// Work is proportional to the bytes received. A packet's data is a slice of what arrived if it
/// arrived in one piece, else it is collected once. Packets of unknown types are cut out as well.
#[derive(Debug)]
pub struct Packets {
    stream: Stream,
    data_bytes_max: usize,
    stage: Stage,
}

/// Which part of a packet comes next.
#[derive(Debug, Default)]
enum Stage {
    /// Type, zxid and the length of the data.
    #[default]
    Head,
    /// So many bytes of data.
    Data(Packet, usize),
    /// The number of ids.
    Count(Packet),
    /// Ids.
    Ids(Packet, Ids),
    /// Nothing: what is no packet has no known end.
    Failed(Error),
}

/// What is known of the ids of a packet.
#[derive(Debug)]
struct Ids {
    left: usize,
    list: Vec<Id>,
    scheme: Option<String>,
    /// The length of the string that comes next.
    length: Option<usize>,
    bytes_left: usize,
}

impl Ids {
    fn new(count: i32) -> Result<Self, Error> {
        match usize::try_from(count) {
            Ok(left) if left <= IDS_MAX => Ok(Self {
                left,
                list: Vec::new(),
                scheme: None,
                length: None,
                bytes_left: IDS_BYTES_MAX,
            }),
            _ => Err(Error::Ids {
                count,
                max: IDS_MAX,
            }),
        }
    }

    /// Takes what is there, and tells whether that was all.
    fn complete(&mut self, stream: &mut Stream) -> Result<bool, Error> {
        while self.left > 0 {
            let length = match self.length {
                Some(length) => length,
                None => match stream.array() {
                    Some(length) => self.name(i32::from_be_bytes(length))?,
                    None => return Ok(false),
                },
            };
            self.length = Some(length);
            let Some(name) = stream.take(length) else {
                return Ok(false);
            };
            self.length = None;
            let name = String::from_utf8_lossy(&name).into_owned();
            match self.scheme.take() {
                None => self.scheme = Some(name),
                Some(scheme) => {
                    self.list.push(Id { scheme, id: name });
                    self.left -= 1;
                }
            }
        }
        Ok(true)
    }

    /// Accounts for a name of this length. Null is read as empty: an [`Id`] knows no other.
    fn name(&mut self, length: i32) -> Result<usize, Error> {
        let error = Error::Name {
            length,
            max: self.bytes_left,
        };
        let bytes = match length {
            -1 => 0,
            length => usize::try_from(length).map_err(|_| error)?,
        };
        self.bytes_left = self.bytes_left.checked_sub(bytes).ok_or(error)?;
        Ok(bytes)
    }
}

impl Packets {
    /// Packets of at most so many bytes of data.
    #[must_use]
    pub fn new(data_bytes_max: usize) -> Self {
        Self {
            stream: Stream::default(),
            data_bytes_max,
            stage: Stage::Head,
        }
    }

    /// Takes what arrived. All packets in it should be taken before more is received: what waits
    /// is not bounded here.
    pub fn receive(&mut self, bytes: Bytes) {
        self.stream.receive(bytes);
    }

    /// The next packet, or `None` until more arrives.
    ///
    /// # Errors
    /// The bytes are no packet, or it passes a limit; so does every call afterwards.
    #[expect(
        clippy::should_implement_trait,
        reason = "it has an end only until more arrives"
    )]
    pub fn next(&mut self) -> Result<Option<Packet>, Error> {
        loop {
            match self.advance() {
                Ok(Step::Cut(packet)) => return Ok(Some(packet)),
                Ok(Step::Next(stage)) => self.stage = stage,
                Ok(Step::Wait(stage)) => {
                    self.stage = stage;
                    return Ok(None);
                }
                Err(error) => {
                    self.stage = Stage::Failed(error);
                    return Err(error);
                }
            }
        }
    }

    /// All bytes that were not cut yet: after SNAP, the beginning of the state.
    ///
    /// # Panics
    /// If [`next`](Self::next) was called since it gave the SNAP: some bytes of the state were then
    /// taken for a packet.
    #[must_use]
    pub fn take_rest(&mut self) -> Bytes {
        assert!(
            matches!(self.stage, Stage::Head),
            "between two packets, not inside one"
        );
        self.stream.take_rest()
    }

    /// Takes the next part of a packet. The stage is left at its default.
    fn advance(&mut self) -> Result<Step, Error> {
        Ok(match mem::take(&mut self.stage) {
            Stage::Head => match self.stream.array::<HEAD_BYTES>() {
                Some(head) => Step::Next(self.head(&head)?),
                None => Step::Wait(Stage::Head),
            },
            Stage::Data(mut packet, length) => match self.stream.take(length) {
                Some(data) => {
                    packet.data = Some(data);
                    Step::Next(Stage::Count(packet))
                }
                None => Step::Wait(Stage::Data(packet, length)),
            },
            Stage::Count(packet) => match self.stream.array() {
                Some(count) => match i32::from_be_bytes(count) {
                    -1 => Step::Cut(packet),
                    count => Step::Next(Stage::Ids(packet, Ids::new(count)?)),
                },
                None => Step::Wait(Stage::Count(packet)),
            },
            Stage::Ids(mut packet, mut ids) => {
                if ids.complete(&mut self.stream)? {
                    packet.ids = Some(ids.list);
                    Step::Cut(packet)
                } else {
                    Step::Wait(Stage::Ids(packet, ids))
                }
            }
            Stage::Failed(error) => return Err(error),
        })
    }

    fn head(&self, head: &[u8; HEAD_BYTES]) -> Result<Stage, Error> {
        let max = self.data_bytes_max;
        let (kind, zxid, length): (PacketType, Zxid, i32) =
            jute::take(&mut &head[..]).map_err(|_| Error::Data { length: 0, max })?;
        let packet = Packet::new(kind, zxid);
        match usize::try_from(length) {
            Ok(bytes) if bytes <= max => Ok(Stage::Data(packet, bytes)),
            Err(_) if length == -1 => Ok(Stage::Count(packet)),
            _ => Err(Error::Data { length, max }),
        }
    }
}

/// What became of a part.
enum Step {
    /// It was the last.
    Cut(Packet),
    /// Another follows.
    Next(Stage),
    /// Its bytes are not there yet.
    Wait(Stage),
}

impl Default for Packets {
    /// With the limit of a Java server.
    fn default() -> Self {
        Self::new(DATA_BYTES_MAX)
    }
}

/// The data of FOLLOWERINFO and OBSERVERINFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LearnerInfo {
    /// Who connects.
    pub server: ServerId,
    /// [`PROTOCOL`].
    pub protocol: i32,
    /// The version of its committed membership.
    pub config_version: i64,
}

impl LearnerInfo {
    /// Its 20 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        jute::to_vec(self).into()
    }

    /// Reads it, also in the forms of old learners: without a version of the membership, which is
    /// then 0 and thus never newer than the leader's, or with the server alone, whose protocol is
    /// then 1.
    ///
    /// Source: `LearnerHandler.run`.
    ///
    /// # Errors
    /// There are fewer than 8 bytes.
    pub fn decode(data: &[u8]) -> Result<Self, Error> {
        let mut input = data;
        let mut info = Self {
            server: field(&mut input, "a learner's id of 8 bytes")?,
            protocol: 1,
            config_version: 0,
        };
        if let Ok(protocol) = jute::take(&mut input) {
            info.protocol = protocol;
            info.config_version = jute::take(&mut input).unwrap_or(0);
        }
        Ok(info)
    }
}

/// The data of LEADERINFO; the epoch is in its zxid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderInfo {
    /// [`PROTOCOL`].
    pub protocol: i32,
}

impl LeaderInfo {
    /// Its 4 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        jute::to_vec(self).into()
    }

    /// Reads it.
    ///
    /// # Errors
    /// There are fewer than 4 bytes.
    pub fn decode(data: &[u8]) -> Result<Self, Error> {
        field(&mut &*data, "a protocol version of 4 bytes")
    }
}

/// The data of ACKEPOCH; the learner's last transaction is in its zxid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckEpoch {
    /// The learner's current epoch, or `None` if it had promised itself to this epoch before: its
    /// answer then counts for nothing.
    pub current: Option<Epoch>,
}

impl AckEpoch {
    /// On the wire, instead of a current epoch.
    const NONE: Epoch = Epoch(-1);

    /// Its 4 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        jute::to_vec(&self.current.unwrap_or(Self::NONE)).into()
    }

    /// Reads it.
    ///
    /// # Errors
    /// There are fewer than 4 bytes.
    pub fn decode(data: &[u8]) -> Result<Self, Error> {
        let current: Epoch = field(&mut &*data, "a current epoch of 4 bytes")?;
        Ok(Self {
            current: (current != Self::NONE).then_some(current),
        })
    }
}

/// The data of a REQUEST: what a client of a learner asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forwarded<'a> {
    /// The client's session.
    pub session: SessionId,
    /// The client's number for it.
    pub cxid: Xid,
    /// What it asks for.
    pub op: OpCode,
    /// The client's record as the learner received it; the timeout for `createSession`, nothing
    /// for `closeSession`.
    pub body: &'a [u8],
}

impl<'a> Forwarded<'a> {
    /// Its bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = Vec::with_capacity(HEAD_BYTES + self.body.len());
        jute::append(&mut out, &(self.session, self.cxid, self.op));
        out.extend_from_slice(self.body);
        out.into()
    }

    /// Reads it. The body may be had as `Bytes` with `data.slice_ref(forwarded.body)`.
    ///
    /// # Errors
    /// There are fewer than 16 bytes.
    pub fn take(data: &'a [u8]) -> Result<Self, Error> {
        let mut body = data;
        let (session, cxid, op) = field(&mut body, "session, xid and operation of 16 bytes")?;
        Ok(Self {
            session,
            cxid,
            op,
            body,
        })
    }
}

/// A session whose client gave a sign: many of them are the data of a learner's PING.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touch {
    /// Which.
    pub session: SessionId,
    /// Its timeout.
    pub timeout_ms: i32,
}

impl Touch {
    /// Bytes of one.
    const BYTES: usize = 12;

    /// Their bytes, one after the other. Without any these are none, but not null: a Java leader
    /// needs the difference.
    #[must_use]
    pub fn to_bytes(touches: &[Self]) -> Bytes {
        let mut out = Vec::with_capacity(touches.len() * Self::BYTES);
        for touch in touches {
            jute::append(&mut out, touch);
        }
        out.into()
    }

    /// Reads them.
    ///
    /// # Errors
    /// The last is cut short.
    pub fn decode(data: &[u8]) -> Result<Vec<Self>, Error> {
        let (touches, rest) = data.as_chunks::<{ Self::BYTES }>();
        if !rest.is_empty() {
            return Err(Error::Body {
                name: "sessions and timeouts of 12 bytes each",
                length: data.len(),
            });
        }
        let name = "a session and timeout of 12 bytes";
        let touches = touches.iter().map(|touch| field(&mut &touch[..], name));
        touches.collect()
    }
}

/// The data of a learner's REVALIDATE: a client of its wants to go on with this session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revalidation {
    /// Which.
    pub session: SessionId,
    /// Its timeout.
    pub timeout_ms: i32,
}

impl Revalidation {
    /// Its 12 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        jute::to_vec(self).into()
    }

    /// Reads it.
    ///
    /// # Errors
    /// There are fewer than 12 bytes.
    pub fn decode(data: &[u8]) -> Result<Self, Error> {
        field(&mut &*data, "a session and timeout of 12 bytes")
    }
}

/// The data of the leader's REVALIDATE, the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revalidated {
    /// Which session was asked for.
    pub session: SessionId,
    /// Whether it still is.
    pub valid: bool,
}

impl Revalidated {
    /// Its 9 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        jute::to_vec(self).into()
    }

    /// Reads it.
    ///
    /// # Errors
    /// There are fewer than 9 bytes.
    pub fn decode(data: &[u8]) -> Result<Self, Error> {
        field(&mut &*data, "a session and its validity of 9 bytes")
    }
}

/// The data of COMMITANDACTIVATE and INFORMANDACTIVATE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activation {
    /// Who leads from here on.
    pub designated: ServerId,
    /// The transaction, in an INFORMANDACTIVATE; nothing in a COMMITANDACTIVATE, as the follower
    /// has it.
    pub txn: Bytes,
}

impl Activation {
    /// Its bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = jute::to_vec(&self.designated);
        out.extend_from_slice(&self.txn);
        out.into()
    }

    /// Reads it.
    ///
    /// # Errors
    /// There are fewer than 8 bytes.
    pub fn decode(data: &Bytes) -> Result<Self, Error> {
        let mut txn = &**data;
        let designated = field(&mut txn, "a designated leader of 8 bytes")?;
        Ok(Self {
            designated,
            txn: data.slice_ref(txn),
        })
    }
}

fn field<T: DeserializeOwned>(input: &mut &[u8], name: &'static str) -> Result<T, Error> {
    let length = input.len();
    jute::take(input).map_err(|_| Error::Body { name, length })
}
