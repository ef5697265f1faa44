//! What is told of a write that was judged, for an audit log. Ours: ZooKeeper's never leaves its
//! process.

use serde::{Deserialize, Serialize};

use crate::ids::SessionId;
use crate::jute::Text;
use crate::wire::client::OpCode;

/// A write of one of this server's clients, or the end of a session with its ephemeral znodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audited<'a> {
    /// Whose.
    pub session: SessionId,
    /// What was asked for, or [`OpCode::CLOSE_SESSION`] at a session's end.
    pub op: OpCode,
    /// An [`ErrorCode`](crate::error::ErrorCode), 0 if it was done.
    pub error: i32,
    /// Where the client is and whom it has proved to be, with commas between; empty at a session's
    /// end.
    #[serde(borrow)]
    pub users: Text<'a>,
    /// The znodes that were created, or that went with the session, each with a NUL after it: no
    /// path has one.
    #[serde(borrow)]
    pub paths: Text<'a>,
    /// The request, without its header.
    #[serde(with = "serde_bytes", borrow)]
    pub request: Option<&'a [u8]>,
}
