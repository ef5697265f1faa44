//! Durable operations, as a machine asks for them.
//!
//! Two lanes, each in order by itself: the log with what must stay in order with it, and the
//! snapshot being written.

use bytes::Bytes;

use crate::ids::{Epoch, Zxid};

/// An operation on the log's lane. None is begun before the one before it is durable, save that
/// appends in a row may share one fsync.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Write the epochs that are given: `acceptedEpoch`, `currentEpoch`.
    Epochs {
        /// The greatest epoch whose leader this server has promised to follow.
        accepted: Option<Epoch>,
        /// The epoch of the last leader whose history this server has taken over.
        current: Option<Epoch>,
    },
    /// Cut every transaction after `to` off the log, and remove every snapshot named later: they
    /// were never committed. The next append is greater than `to`.
    Truncate {
        /// The last transaction that stays.
        to: Zxid,
    },
    /// Remove every log file, and every snapshot named earlier than `to`: the snapshot `to`, which
    /// is durable, came from a leader, and what was before is another history. The next append is
    /// greater than `to`.
    Reset {
        /// The name of the snapshot.
        to: Zxid,
    },
}

/// An operation on the one snapshot being written.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Give up what was begun; nothing is reported.
    Abandon,
}
