//! Durable operations, as a machine asks for them.
//!
//! Two lanes, each in order by itself: the log with what must stay in order with it, and the
//! snapshot being written.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, Zxid};

/// An operation on the log's lane. None is begun before the one before it is durable, save that
/// appends in a row may share one fsync.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoreOp {
    /// Append one transaction.
    Append {
        /// Its id, greater than that of every append before it.
        zxid: Zxid,
        /// Header, body and digest as they also stand in a PROPOSAL; the store adds checksum and
        /// frame.
        txn: Bytes,
    },
    /// Let the next append begin a new file.
    Roll,
    /// Write the epochs that are given: `acceptedEpoch`, then `currentEpoch`. Neither ever goes
    /// back.
    Epochs {
        /// The greatest epoch whose leader this server has promised to follow.
        accepted: Option<Epoch>,
        /// The epoch of the last leader whose history this server has taken over.
        current: Option<Epoch>,
    },
    /// Cut every transaction after `to` off the log, and remove every snapshot named later: they
    /// were never committed. The next append is greater than `to`.
    ///
    /// `to` is in the log, or the name of a snapshot; otherwise nothing is changed, and the lane
    /// fails. A snapshot that is being written, and may hold what is cut off, is abandoned by the
    /// machine first ([`SnapshotOp::Abandon`]), and is abandoned by the driver in any case.
    Truncate {
        /// The last transaction that stays.
        to: Zxid,
    },
    /// Remove every log file, and every snapshot but that named `to`, earlier or later: it came
    /// from a leader and is durable, and what was before is another history. The next append is
    /// greater than `to`. If that snapshot is not there nothing is changed, and the lane fails.
    ///
    /// Given only once [`Input::SnapshotStored`](crate::server::Input::SnapshotStored) said so, and
    /// while no other snapshot is being written, as for [`StoreOp::Truncate`].
    Reset {
        /// The name of the snapshot.
        to: Zxid,
    },
}

/// An operation on the one snapshot being written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotOp {
    /// Begin a snapshot of the state at `zxid`.
    Begin {
        /// Its name.
        zxid: Zxid,
    },
    /// The next bytes of the file.
    Chunk(Bytes),
    /// The file is whole: make it durable under its name, then report it.
    End,
    /// Give up what was begun, and remove it; nothing is reported. If nothing was, nothing is done.
    Abandon,
}
