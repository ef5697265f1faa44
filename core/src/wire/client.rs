//! What clients and servers say to each other on the client port.
//!
//! Source: `zookeeper.jute`, `org.apache.zookeeper.ZooDefs.OpCode`.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::error::ErrorCode;
use crate::ids::{SessionId, Xid, Zxid};
use crate::jute::Text;
use crate::wire::records::{AclText, Stat};

/// What a request asks for: the number in its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OpCode(pub i32);

macro_rules! op_codes {
    ($($name:ident = $value:literal;)*) => {
        #[expect(missing_docs, reason = "each is named as in ZooKeeper and explained there")]
        impl OpCode {
            $(pub const $name: Self = Self($value);)*
        }
    };
}

op_codes! {
    CREATE_SESSION = -10;
    CLOSE_SESSION = -11;
    ERROR = -1;
    CREATE = 1;
    DELETE = 2;
    EXISTS = 3;
    GET_DATA = 4;
    SET_DATA = 5;
    GET_ACL = 6;
    SET_ACL = 7;
    GET_CHILDREN = 8;
    SYNC = 9;
    PING = 11;
    GET_CHILDREN2 = 12;
    CHECK = 13;
    MULTI = 14;
    CREATE2 = 15;
    RECONFIG = 16;
    CHECK_WATCHES = 17;
    REMOVE_WATCHES = 18;
    CREATE_CONTAINER = 19;
    DELETE_CONTAINER = 20;
    CREATE_TTL = 21;
    MULTI_READ = 22;
    AUTH = 100;
    SET_WATCHES = 101;
    SASL = 102;
    GET_EPHEMERALS = 103;
    GET_ALL_CHILDREN_NUMBER = 104;
    SET_WATCHES2 = 105;
    ADD_WATCH = 106;
    WHO_AM_I = 107;
}

/// The xid of notifications.
pub const XID_NOTIFICATION: Xid = Xid(-1);
/// The xid of replies to pings.
pub const XID_PING: Xid = Xid(-2);
/// `KeeperState.SyncConnected`, the state in every notification.
pub const STATE_SYNC_CONNECTED: i32 = 3;

/// The first frame of a connection, without its optional last byte `readOnly`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectRequest<'a> {
    /// Always 0; ignored.
    pub protocol_version: i32,
    /// The highest zxid that the client has seen.
    pub last_zxid_seen: Zxid,
    /// The session timeout it would like, in milliseconds.
    pub timeout_ms: i32,
    /// The session to resume, or none.
    pub session: SessionId,
    /// The password of that session.
    #[serde(with = "serde_bytes", borrow)]
    pub password: Option<&'a [u8]>,
}

/// The answer to it, again without `readOnly`, which only those get that sent one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectResponse<'a> {
    /// Always 0.
    pub protocol_version: i32,
    /// The negotiated timeout in milliseconds; 0 if there is no such session.
    pub timeout_ms: i32,
    /// The session; none if there is no such session.
    pub session: SessionId,
    /// Its password.
    #[serde(with = "serde_bytes", borrow)]
    pub password: &'a [u8],
}

/// The beginning of every request after the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestHeader {
    /// Echoed in the reply.
    pub xid: Xid,
    /// What is asked for.
    pub op: OpCode,
}

/// The beginning of every reply and notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyHeader {
    /// The request's.
    pub xid: Xid,
    /// The last transaction that the server had applied.
    pub zxid: Zxid,
    /// An [`ErrorCode`], or 0.
    pub error: i32,
}

/// `create`, `create2`, `createContainer`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateRequest<'a> {
    /// Where.
    #[serde(borrow)]
    pub path: Text<'a>,
    /// The data; null is kept as null.
    #[serde(with = "serde_bytes", borrow)]
    pub data: Option<&'a [u8]>,
    /// Who may do what.
    #[serde(borrow)]
    pub acl: Vec<AclText<'a>>,
    /// A `CreateMode`.
    pub flags: i32,
}

/// `createTTL`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateTtlRequest<'a> {
    /// Everything else.
    #[serde(borrow)]
    pub create: CreateRequest<'a>,
    /// Milliseconds.
    pub ttl_ms: i64,
}

/// `delete`, and `check` within a multi.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathVersion<'a> {
    /// Which znode.
    #[serde(borrow)]
    pub path: Text<'a>,
    /// The version it must have, -1 for any.
    pub version: i32,
}

/// `exists`, `getData`, `getChildren`, `getChildren2`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadRequest<'a> {
    /// Which znode.
    #[serde(borrow)]
    pub path: Text<'a>,
    /// Whether to leave a watch.
    pub watch: bool,
}

/// `setData`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetDataRequest<'a> {
    /// Which znode.
    #[serde(borrow)]
    pub path: Text<'a>,
    /// The data; null is kept as null.
    #[serde(with = "serde_bytes", borrow)]
    pub data: Option<&'a [u8]>,
    /// The version it must have, -1 for any.
    pub version: i32,
}

/// `setACL`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAclRequest<'a> {
    /// Which znode.
    #[serde(borrow)]
    pub path: Text<'a>,
    /// Who may do what.
    #[serde(borrow)]
    pub acl: Vec<AclText<'a>>,
    /// The ACL version it must have, -1 for any.
    pub version: i32,
}

/// `reconfig`: who joins and leaves, or the whole new membership.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReconfigRequest<'a> {
    /// `server.N=…` of each server that joins or changes, separated by commas.
    #[serde(borrow)]
    pub joining: Text<'a>,
    /// The ids of those that leave, separated by commas.
    #[serde(borrow)]
    pub leaving: Text<'a>,
    /// All servers, instead of both.
    #[serde(borrow)]
    pub members: Text<'a>,
    /// The version that the membership must have, -1 for any.
    pub version: i64,
}

/// `checkWatches` and `removeWatches` (a watcher type), `addWatch` (a mode).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchRequest<'a> {
    /// Which path.
    #[serde(borrow)]
    pub path: Text<'a>,
    /// Which kind of watch.
    pub kind: i32,
}

/// `auth`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthPacket<'a> {
    /// Always 0; ignored.
    pub kind: i32,
    /// `digest`, …
    #[serde(borrow)]
    pub scheme: Text<'a>,
    /// What the scheme wants.
    #[serde(with = "serde_bytes", borrow)]
    pub auth: Option<&'a [u8]>,
}

/// `setWatches`, and the beginning of `setWatches2`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetWatches<'a> {
    /// The last transaction that the client has seen.
    pub relative_zxid: Zxid,
    /// Paths with a watch on their data.
    #[serde(borrow)]
    pub data: Vec<Text<'a>>,
    /// Paths with a watch for their creation.
    #[serde(borrow)]
    pub exist: Vec<Text<'a>>,
    /// Paths with a watch on their children.
    #[serde(borrow)]
    pub child: Vec<Text<'a>>,
}

/// The rest of `setWatches2`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersistentWatches<'a> {
    /// Paths with a persistent watch.
    #[serde(borrow)]
    pub persistent: Vec<Text<'a>>,
    /// Paths with a persistent recursive watch.
    #[serde(borrow)]
    pub recursive: Vec<Text<'a>>,
}

/// What precedes each operation of a multi, and each of its results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MultiHeader {
    /// The operation.
    pub op: OpCode,
    /// Whether this is the end.
    pub done: bool,
    /// An [`ErrorCode`], 0, or -1 in requests.
    pub error: i32,
}

impl MultiHeader {
    /// The end of a multi.
    pub const END: Self = Self {
        op: OpCode::ERROR,
        done: true,
        error: -1,
    };

    /// What precedes a result.
    #[must_use]
    pub const fn result(op: OpCode) -> Self {
        Self {
            op,
            done: false,
            error: 0,
        }
    }

    /// What precedes the result of an operation that failed, or would have succeeded (`error` 0).
    #[must_use]
    pub const fn failure(error: i32) -> Self {
        Self {
            op: OpCode::ERROR,
            done: false,
            error,
        }
    }
}

/// What happened to a znode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EventType(pub i32);

impl EventType {
    /// It was created.
    pub const CREATED: Self = Self(1);
    /// It was deleted.
    pub const DELETED: Self = Self(2);
    /// Its data was set.
    pub const DATA_CHANGED: Self = Self(3);
    /// A child was created or deleted.
    pub const CHILDREN_CHANGED: Self = Self(4);
}

/// A notification's body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatcherEvent<'a> {
    /// What happened.
    pub kind: EventType,
    /// Always [`STATE_SYNC_CONNECTED`].
    pub state: i32,
    /// Where.
    #[serde(borrow)]
    pub path: Text<'a>,
}

/// The answer to `create2` and its kin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Create2Response<'a> {
    /// The path with its sequence number.
    #[serde(borrow)]
    pub path: Text<'a>,
    /// The new znode's.
    pub stat: Stat,
}

/// The answer to `getData`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetDataResponse<'a> {
    /// The data.
    #[serde(with = "serde_bytes", borrow)]
    pub data: Option<&'a [u8]>,
    /// The znode's.
    pub stat: Stat,
}

/// One identity, as `whoAmI` tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientInfo<'a> {
    /// The scheme.
    #[serde(borrow)]
    pub scheme: Text<'a>,
    /// The user's name within it.
    #[serde(borrow)]
    pub user: Text<'a>,
}

/// The error field of a header.
#[must_use]
pub fn error_field(error: Option<ErrorCode>) -> i32 {
    error.map_or(0, |code| code.0)
}
