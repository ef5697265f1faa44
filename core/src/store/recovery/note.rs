//! What recovery tells the operator of when it succeeds.

use alloc::string::String;
use core::fmt;

use crate::ids::Zxid;

/// Something that recovery found, judged harmless, and perhaps put in order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Note {
    /// A log file without a header, which therefore never held a confirmed record, was removed.
    EmptyLogRemoved {
        /// The file.
        file: String,
    },
    /// No log record is as new as the snapshot: the log was lost, or the snapshot came from another
    /// server.
    LogEndsBeforeSnapshot {
        /// The last record.
        log: Zxid,
        /// The snapshot.
        snapshot: Zxid,
    },
    /// A snapshot cannot be read; an older one and the log replace it.
    SnapshotRefused {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A write that was cut short, and so never confirmed, was cut off at the end of the log.
    TornEndCut {
        /// The file.
        file: String,
        /// Its length afterwards.
        at: u64,
        /// How many bytes were cut off, zeros included.
        bytes: u64,
    },
    /// A file ends with a write that was cut short, but the next one goes on without a gap.
    TornEndPassed {
        /// The file.
        file: String,
        /// The offset of the torn record.
        at: u64,
        /// The first record of the next file.
        next: Zxid,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyLogRemoved { file } => write!(
                f,
                "{file}: removed; the server stopped while creating it, it held no transaction"
            ),
            Self::LogEndsBeforeSnapshot { log, snapshot } => write!(
                f,
                "the log ends with {log}, before the snapshot of {snapshot}; going on from the \
                 snapshot"
            ),
            Self::SnapshotRefused { file, reason } => {
                write!(f, "{file}: not used, an older snapshot is: {reason}")
            }
            Self::TornEndCut { file, at, bytes } => write!(
                f,
                "{file}: cut to {at} bytes; the {bytes} after that were a write cut short, never \
                 confirmed to a client"
            ),
            Self::TornEndPassed { file, at, next } => write!(
                f,
                "{file}: ends at offset {at} with a write cut short; the next file goes on with \
                 {next}, nothing is missing"
            ),
        }
    }
}
