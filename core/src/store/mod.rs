//! The rules by which logs and snapshots are written, recovered and purged, over an abstract disk.
//!
//! The host runs them on files, the simulator on a disk that forgets what was not synced. Nothing
//! here knows what a transaction or a snapshot means: payloads are bytes, and [`Restore`] takes
//! what is read. Start reading at [`recovery::recover`], then [`lane::LogLane`].
//!
//! What is stricter than ZooKeeper: a log file's name and header are durable before its first
//! record is written; a snapshot has its name only once it is durable; at start, only a write cut
//! short at the very end of the log is tolerated (and cut off), everything else that is missing is
//! an error.

pub mod disk;
pub mod epochs;
pub mod lane;
pub mod log;
pub mod names;
pub mod purge;
pub mod recent;
pub mod recovery;
pub mod snapshot;
#[cfg(test)]
mod tests;
pub mod truncate;

use crate::ids::Zxid;

/// Where recovery puts what it reads.
///
/// A snapshot may be begun several times: a damaged one is given up for the next older.
pub trait Restore {
    /// Why something could not be taken.
    type Error;

    /// Forgets everything and begins with the snapshot of this name.
    fn snapshot_begin(&mut self, zxid: Zxid);

    /// Takes the next bytes of the snapshot file, cut anywhere.
    ///
    /// # Errors
    /// The bytes are not a snapshot's; this snapshot is given up.
    fn snapshot_chunk(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Says that the snapshot file has no more bytes.
    ///
    /// # Errors
    /// Something is missing, or a checksum is wrong; this snapshot is given up.
    fn snapshot_end(&mut self) -> Result<(), Self::Error>;

    /// Takes the next transaction: the payload of a log record, whose checksum was right.
    ///
    /// # Errors
    /// The payload cannot be decoded: the log is damaged and the server must not start.
    fn txn(&mut self, payload: &[u8]) -> Result<(), Self::Error>;
}
