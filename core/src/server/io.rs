//! What a driver tells a server, and what a server asks of its driver.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};

use crate::ids::{LinkId, Seq, SessionId, Zxid};
pub use crate::lane::{SnapshotOp, StoreOp};
use crate::link::{Endpoint, LinkInput, LinkOutput, Port};
use crate::zab::{self, MembershipOp};

/// What the driver reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// Something happened on a client's connection.
    Link(LinkId, LinkInput),
    /// Every [`StoreOp`] up to this one is durable: it survives a power cut.
    Stored {
        /// The last durable operation.
        upto: Seq,
    },
    /// This many bytes of snapshot chunks were written (durably or not).
    SnapshotWritten(usize),
    /// The snapshot is durable under its name.
    SnapshotStored {
        /// Its name.
        zxid: Zxid,
    },
    /// The snapshot could not be written; what there was of it is gone. The server goes on.
    SnapshotFailed {
        /// Its name.
        zxid: Zxid,
    },
    /// The answer to [`Output::AskFacts`].
    Facts(LinkId, #[serde(deserialize_with = "facts")] HostFacts),
    /// How much room the disk has. A server that hears nothing has enough.
    Disk(DiskRoom),
    /// Whoever administers this process asks a four-letter word, with what follows it (the mask of
    /// `stmk`), and says what the answer needs of the host: [`Event::Told`] in the same step.
    Ask(
        Question,
        Bytes,
        #[serde(deserialize_with = "facts")] HostFacts,
    ),
}

/// Whether the disk has room for writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskRoom {
    /// It is nearly full: whoever stands alone or leads refuses writes. Transactions of sessions
    /// are still made, and whoever follows stores what its leader proposes.
    pub low: bool,
    /// And a leader that is not needed for a quorum gives up leading, once.
    pub resign: bool,
}

/// Reads facts, by the same code wherever they are: the module has little room.
#[inline(never)]
fn facts<'de, D: Deserializer<'de>>(input: D) -> Result<HostFacts, D::Error> {
    HostFacts::deserialize(input)
}

/// One [`Input::Ask`], numbered by who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Question(pub u64);

/// What the driver must do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Output {
    /// Do something on a connection.
    Link(LinkId, LinkOutput),
    /// Accept connections for this port at these addresses, and no others any more; none is not at
    /// all. Not used for clients' ports.
    Listen(Port, Vec<Endpoint>),
    /// This server cannot go on with the state it holds: drop it with every connection, let the
    /// store finish, recover, and begin anew with what is on disk. As after a crash.
    Restart(String),
    /// Do something with the log. Operations are numbered from 1 without gaps, performed in order,
    /// and reported by [`Input::Stored`] only once durable; many may share one fsync.
    Store(Seq, StoreOp),
    /// Do something with the snapshot being written, in order; a lane of its own beside the log's.
    Snapshot(SnapshotOp),
    /// Answer with [`Input::Facts`]: a four-letter word on this link needs them.
    AskFacts(LinkId),
    /// Write what is to be known of the ensemble at the next start, before anything of this step
    /// that comes after it is performed.
    Membership(MembershipOp),
    /// Tell whoever watches over this server. Across a border events go in a batch of their own:
    /// here they need not know how to be written.
    #[serde(skip)]
    Event(Event),
}

/// What only the host can know at the moment a four-letter word asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// Bytes of the snapshots' directory.
    pub data_dir_bytes: u64,
    /// Bytes of the logs' directory.
    pub log_dir_bytes: u64,
    /// File descriptors that the process has open.
    pub open_files: u64,
    /// File descriptors that it may have open.
    pub open_files_max: u64,
    /// Resident memory in bytes.
    pub memory_bytes: u64,
    /// Duration of the last fsyncs in milliseconds: count, sum, minimum, maximum.
    pub fsync_ms: Summary,
    /// Local time as Java's `Date.toString` prints it is derived from this offset: seconds east of
    /// UTC.
    pub utc_offset_s: i32,
    /// Bytes that are free where the store writes, on the fuller of its disks; 0 if that is not
    /// known.
    pub disk_free_bytes: u64,
}

/// A count of measurements with their sum and extremes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// How many.
    pub count: u64,
    /// Their sum.
    pub sum: u64,
    /// The smallest, 0 if none.
    pub min: u64,
    /// The largest, 0 if none.
    pub max: u64,
}

impl Summary {
    /// Takes one more measurement in.
    pub fn record(&mut self, value: u64) {
        self.min = if self.count == 0 {
            value
        } else {
            self.min.min(value)
        };
        self.max = self.max.max(value);
        self.count += 1;
        self.sum = self.sum.saturating_add(value);
    }

    /// The mean, 0 if there is no measurement, in thousandths.
    #[must_use]
    pub const fn mean_milli(&self) -> u64 {
        match self.sum.saturating_mul(1000).checked_div(self.count) {
            Some(mean) => mean,
            None => 0,
        }
    }
}

/// What is worth telling an operator. Events never influence the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Event {
    /// A connection was closed by the server for a reason that is the peer's fault.
    LinkRefused {
        /// Where its client is.
        peer: SocketAddr,
        /// Why, as a clause for a log line: "frame length 2147483647 is over the limit of
        /// 1048575".
        reason: String,
    },
    /// A session was opened.
    SessionOpened {
        /// Its id.
        session: SessionId,
        /// Its negotiated timeout.
        timeout_ms: u32,
        /// Where its client is.
        peer: SocketAddr,
    },
    /// A session moved to a new connection.
    SessionResumed {
        /// Its id.
        session: SessionId,
        /// Where its client is.
        peer: SocketAddr,
    },
    /// A client asked for a session that is not there, or with the wrong password.
    SessionRefused {
        /// The id it asked for.
        session: SessionId,
        /// Where its client is.
        peer: SocketAddr,
    },
    /// A session's timeout passed without a sign of its client.
    SessionExpired {
        /// Its id.
        session: SessionId,
    },
    /// A session was closed, by its client or after expiry.
    SessionClosed {
        /// Its id.
        session: SessionId,
    },
    /// A snapshot is being written.
    SnapshotBegun {
        /// Its name.
        zxid: Zxid,
    },
    /// A snapshot is durable.
    SnapshotDone {
        /// Its name.
        zxid: Zxid,
    },
    /// A snapshot could not be written.
    SnapshotFailed {
        /// Its name.
        zxid: Zxid,
    },
    /// An ephemeral znode whose session does not exist was found at start, and deleted.
    OrphanDeleted {
        /// Its path.
        path: String,
    },
    /// A digest in the log differs from the state it should describe. Reading on continues.
    DigestMismatch {
        /// The transaction after which they differ.
        zxid: Zxid,
    },
    /// Something happened between this server and its ensemble.
    Zab(zab::Event),
    /// Another membership is in force.
    Membership {
        /// Its text.
        text: String,
    },
    /// A quota without hard limit is exceeded.
    QuotaExceeded {
        /// The path that has the quota.
        path: String,
    },
    /// A write or a session was refused: the state has grown to what it may take.
    TreeFull {
        /// What it takes with everything proposed, in bytes.
        used: u64,
        /// What it may take (`zabra.treeBytesMax`).
        max: u64,
    },
    /// A client could not authenticate and goes on as nobody (`allowSaslFailedClients`).
    SaslFailed {
        /// Where its client is.
        peer: SocketAddr,
        /// Why, as a clause for a log line.
        reason: String,
    },
    /// The answer to an [`Input::Ask`].
    Told {
        /// Which.
        question: Question,
        /// What a client would be sent; nothing if there is no such word.
        text: String,
    },
    /// A write of one of this server's clients was judged, or a session ended here with its
    /// ephemeral znodes; only if `Config::audit` asks for it. An encoded
    /// [`Audited`](crate::wire::audit::Audited): what is made of it is no business of the core's.
    Audited(Bytes),
}
