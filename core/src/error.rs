//! The codes with which a server refuses a request.

use core::fmt;

use serde::{Deserialize, Serialize};

/// ZooKeeper's error codes as they stand in a reply's header; 0 is no error and has no value here.
///
/// An integer newtype and not an enum: codes of a later server must survive a round trip.
/// Source: `org.apache.zookeeper.KeeperException.Code`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ErrorCode(pub i32);

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal;)*) => {
        impl ErrorCode {
            $($(#[$doc])* pub const $name: Self = Self($value);)*

            /// ZooKeeper's own words for the code, as they follow `KeeperErrorCode = `.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self.0 {
                    $($value => $text,)*
                    _ => "Unknown error",
                }
            }
        }
    };
}

codes! {
    /// Given, in a failed `multi`, to the operations after the one that failed.
    RUNTIME_INCONSISTENCY = -2, "RuntimeInconsistency";
    /// The request could not be decoded.
    MARSHALLING_ERROR = -5, "MarshallingError";
    /// The server does not know the operation, or has it switched off.
    UNIMPLEMENTED = -6, "Unimplemented";
    /// A path, flag or other argument is not valid.
    BAD_ARGUMENTS = -8, "BadArguments";
    /// Too few of the voters of the new configuration are in step with the leader.
    NEW_CONFIG_NO_QUORUM = -13, "NewConfigNoQuorum";
    /// Another reconfiguration is not done yet.
    RECONFIG_IN_PROGRESS = -14, "ReconfigInProgress";
    /// The session is not known (only in a race with its end).
    UNKNOWN_SESSION = -12, "Unknown session";
    /// The znode, or the parent of one to be created, does not exist.
    NO_NODE = -101, "NoNode";
    /// The znode's ACL does not permit it.
    NO_AUTH = -102, "NoAuth";
    /// The znode has another version than the request expects.
    BAD_VERSION = -103, "BadVersion";
    /// An ephemeral znode cannot have children.
    NO_CHILDREN_FOR_EPHEMERALS = -108, "NoChildrenForEphemerals";
    /// The znode exists already.
    NODE_EXISTS = -110, "NodeExists";
    /// The znode has children.
    NOT_EMPTY = -111, "Directory not empty";
    /// The session is being closed.
    SESSION_EXPIRED = -112, "Session expired";
    /// The ACL is empty, or names a scheme or id that cannot be.
    INVALID_ACL = -114, "InvalidACL";
    /// Authentication failed; the connection is closed.
    AUTH_FAILED = -115, "AuthFailed";
    /// The session's client is connected to another server by now.
    SESSION_MOVED = -118, "Session moved";
    /// The server has no leader: it answers reads only.
    NOT_READ_ONLY = -119, "Not a read-only call";
    /// A local session cannot own ephemeral znodes.
    EPHEMERAL_ON_LOCAL_SESSION = -120, "Ephemeral node on local session";
    /// No such watch is set by this connection.
    NO_WATCHER = -121, "No such watcher";
    /// Reconfiguration is switched off.
    RECONFIG_DISABLED = -123, "Reconfig is disabled";
    /// Who sends it has not shown who it is, or is not who opened the session.
    SESSION_CLOSED_REQUIRE_SASL_AUTH = -124,
        "Session closed because client failed to authenticate";
    /// The quota of an ancestor would be exceeded.
    QUOTA_EXCEEDED = -125, "Quota has exceeded";
    /// The server is too busy.
    THROTTLED_OP = -127, "Op throttled due to high load";
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text(), self.0)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
