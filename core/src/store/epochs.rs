//! The two promises of an ensemble's server that outlive it: `acceptedEpoch` and `currentEpoch`.
//!
//! They stand beside the snapshots as decimal text without a line feed. Servers that are not part
//! of an ensemble have none.
//!
//! Source: ZooKeeper `QuorumPeer.loadDataBase`, which refuses to start where [`open`] mends.

use alloc::string::{String, ToString};
use core::fmt;

use crate::ids::{Epoch, Zxid};
use crate::store::disk::{Disk, read_small, replace};
use crate::store::names::{ACCEPTED_EPOCH, CURRENT_EPOCH};

/// Longer than any number that is an epoch.
const TEXT_BYTES_MAX: usize = 64;

/// What a server has promised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Epochs {
    /// The greatest epoch whose leader it has promised to follow; never less than `current`.
    pub accepted: Epoch,
    /// The epoch of the last leader whose history it has taken over; never less than that of its
    /// last transaction.
    pub current: Epoch,
}

/// Why the epochs are not known.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EpochsError<E> {
    /// The disk failed.
    Disk(E),
    /// A file does not hold an epoch.
    Unreadable {
        /// The file.
        file: String,
        /// What it holds.
        error: NoEpoch,
    },
}

/// What a file holds that should hold an epoch.
#[derive(Debug, PartialEq, Eq)]
pub struct NoEpoch(pub String);

impl fmt::Display for NoEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "expected an epoch, a decimal number from 0 to {}, found {:?}; restore the file from a \
             backup of this very server, or take the server out of the ensemble and add it anew \
             with an empty directory",
            i32::MAX,
            self.0
        )
    }
}

impl<E: fmt::Display> fmt::Display for EpochsError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(error) => error.fmt(f),
            Self::Unreadable { file, error } => write!(f, "{file}: {error}"),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> core::error::Error for EpochsError<E> {}

/// Reads the epochs of a server whose last transaction is `last`, and writes back what is missing
/// or behind. What an interrupted write left, `currentEpoch.tmp`, counts for nothing: it was never
/// acknowledged.
///
/// * `currentEpoch` is missing, or less than the epoch of `last`: it becomes that epoch. ZooKeeper
///   refuses the second case, which a crash between the end of the log and `currentEpoch` leaves
///   behind. It is safe here. A transaction of epoch e follows, without a gap, the whole history
///   with which e began: the log and the snapshot came from a leader of e or later, in order, and
///   recovery refuses gaps. So this server is as one that followed the leader of e up to `last`,
///   and that is what it says. Whoever has more of e, or has followed a later leader, still wins an
///   election against it.
/// * `acceptedEpoch` is missing, or less than `currentEpoch` (ZooKeeper refuses this, too): it
///   becomes that. Whoever has followed the leader of an epoch has promised it at least that epoch,
///   and a greater promise only makes a server refuse more.
///
/// # Errors
/// A file cannot be read, holds no epoch, or could not be written.
pub fn open<D: Disk>(snapshots: &mut D, last: Zxid) -> Result<Epochs, EpochsError<D::Error>> {
    let accepted = read(snapshots, ACCEPTED_EPOCH)?;
    let current = read(snapshots, CURRENT_EPOCH)?;
    let of_log = last.epoch();
    let new_current = current.map_or(of_log, |current| current.max(of_log));
    let new_accepted = accepted.map_or(new_current, |accepted| accepted.max(new_current));
    let epochs = Epochs {
        accepted: new_accepted,
        current: new_current,
    };
    // The promise first, so that a crash in between never leaves it behind.
    if accepted != Some(epochs.accepted) {
        write(snapshots, ACCEPTED_EPOCH, epochs.accepted).map_err(EpochsError::Disk)?;
    }
    if current != Some(epochs.current) {
        write(snapshots, CURRENT_EPOCH, epochs.current).map_err(EpochsError::Disk)?;
    }
    Ok(epochs)
}

/// Makes one of the two durable.
///
/// # Errors
/// It could not be done: what it stands for must not be said to anybody.
pub(super) fn write<D: Disk>(disk: &mut D, name: &str, epoch: Epoch) -> Result<(), D::Error> {
    replace(disk, name, epoch.to_string().as_bytes())
}

fn read<D: Disk>(disk: &mut D, name: &str) -> Result<Option<Epoch>, EpochsError<D::Error>> {
    let found = read_small(disk, name, TEXT_BYTES_MAX).map_err(EpochsError::Disk)?;
    let Some(bytes) = found else {
        return Ok(None);
    };
    let content = String::from_utf8_lossy(&bytes);
    // Only the first line counts, as in Java.
    let line = content.lines().next().unwrap_or_default().trim();
    match line.parse() {
        Ok(epoch) if epoch >= 0 => Ok(Some(Epoch(epoch))),
        _ => Err(EpochsError::Unreadable {
            file: disk.location(name),
            error: NoEpoch(content.into_owned()),
        }),
    }
}
