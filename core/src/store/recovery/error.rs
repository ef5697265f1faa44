//! Why recovery refuses, and what the operator can do.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::ids::Zxid;
use crate::wire::log::Damage;

use super::Note;

/// Why a server's state cannot be read from its disk. Nothing has been changed there.
///
/// `D` is the disk's error, `R` that of what was to be restored.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecoverError<D, R> {
    /// The disk failed.
    Disk(D),
    /// The log is not whole.
    Log {
        /// The file.
        file: String,
        /// What is wrong.
        error: LogError<R>,
    },
    /// There are snapshots, but none can be read.
    NoSnapshotReadable {
        /// Each of them, newest first.
        refused: Vec<Note>,
    },
}

/// What is wrong with a log file. Offsets are those of records.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogError<R> {
    /// A transaction is older than one before it, and no repetition of a recent one.
    Backwards {
        /// Where it is.
        offset: u64,
        /// The greatest one before it.
        after: Zxid,
        /// What it is.
        found: Zxid,
    },
    /// Data that was once written whole is not there any more.
    Damaged(Damage),
    /// A transaction has the zxid of an earlier one, but is another.
    Differs {
        /// Where it is.
        offset: u64,
        /// The zxid.
        zxid: Zxid,
    },
    /// Transactions are missing before this one.
    Gap {
        /// Where it is.
        offset: u64,
        /// The last one before the gap.
        after: Zxid,
        /// What was found instead of the next.
        found: Zxid,
    },
    /// An earlier file ends with a write cut short, and transactions may be missing between it and
    /// this file.
    Interrupted {
        /// The earlier file.
        earlier: String,
        /// Where it was cut short.
        at: u64,
        /// The last transaction before that.
        after: Zxid,
        /// The first transaction of this file.
        found: Zxid,
    },
    /// The file's name is not the zxid of its first record.
    Misnamed {
        /// The zxid in the name.
        named: Zxid,
        /// That of the first record.
        found: Zxid,
    },
    /// There is no snapshot, and the log does not begin with the first transaction of all.
    NoSnapshot {
        /// What it begins with.
        first: Zxid,
    },
    /// The record is whole, but what it holds is no transaction.
    Undecodable {
        /// Where it is.
        offset: u64,
        /// Its zxid.
        zxid: Zxid,
        /// Why it cannot be decoded.
        error: R,
    },
}

/// What an operator can do about a log that is not whole.
const LOG_ADVICE: &str = "nothing was changed; replace the data directory by a copy of a healthy \
    server's or a backup, or move this file and all later logs and snapshots away to go back to \
    the state before them";

impl<D: fmt::Display, R: fmt::Display> fmt::Display for RecoverError<D, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(error) => error.fmt(f),
            Self::Log { file, error } => {
                let advice = error.advice();
                write!(f, "{file}: {error}; {advice}")
            }
            Self::NoSnapshotReadable { refused } => {
                write!(f, "none of {} snapshots can be read", refused.len())?;
                for note in refused {
                    if let Note::SnapshotRefused { file, reason } = note {
                        write!(f, "; {file}: {reason}")?;
                    }
                }
                write!(
                    f,
                    "; restore a snapshot and the logs after it from a backup"
                )
            }
        }
    }
}

impl<D, R> core::error::Error for RecoverError<D, R>
where
    D: fmt::Debug + fmt::Display,
    R: fmt::Debug + fmt::Display,
{
}

impl<R> LogError<R> {
    /// What the operator can do, as a clause to end the message with.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::Misnamed { .. } => {
                "nothing was changed; give the file its name back, or move it away if it does not \
                 belong here"
            }
            Self::NoSnapshot { .. } => {
                "nothing was changed; restore the newest snapshot (snapshot.<zxid>) from a backup"
            }
            Self::Undecodable { .. } => {
                "nothing was changed; was it written by a newer version, which has to be used then?"
            }
            Self::Backwards { .. }
            | Self::Damaged(_)
            | Self::Differs { .. }
            | Self::Gap { .. }
            | Self::Interrupted { .. } => LOG_ADVICE,
        }
    }
}

impl<R: fmt::Display> fmt::Display for LogError<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Backwards {
                offset,
                after,
                found,
            } => write!(
                f,
                "at offset {offset}: expected a transaction after {after}, found {found}, which \
                 was not read before"
            ),
            Self::Damaged(damage) => damage.fmt(f),
            Self::Differs { offset, zxid } => write!(
                f,
                "at offset {offset}: expected the same transaction {zxid} as was read before, \
                 found another with that zxid"
            ),
            Self::Gap {
                offset,
                after,
                found,
            } => write!(
                f,
                "at offset {offset}: expected the transaction that follows {after}, found {found}"
            ),
            Self::Interrupted {
                earlier,
                at,
                after,
                found,
            } => write!(
                f,
                "expected the log's end, because {earlier} ends at offset {at} with a write cut \
                 short after {after}; found {found}"
            ),
            Self::Misnamed { named, found } => write!(
                f,
                "expected {named} as the first transaction, as the name says, found {found}"
            ),
            Self::NoSnapshot { first } => write!(
                f,
                "expected a snapshot before the first log, or the first transaction 0x1, found no \
                 snapshot and {first}"
            ),
            Self::Undecodable {
                offset,
                zxid,
                error,
            } => write!(
                f,
                "at offset {offset}: expected a transaction in record {zxid}, found: {error}"
            ),
        }
    }
}
