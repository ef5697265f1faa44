//! The server under test with its store: what the host is in production.

use std::collections::VecDeque;

use zabra_core::ids::{Seq, Zxid};
use zabra_core::server::{Input, SnapshotOp, StoreOp};
use zabra_core::store::Restore;
use zabra_core::store::lane::LogLane;
use zabra_core::store::log::LogOptions;
use zabra_core::store::names::Compression;
use zabra_core::store::snapshot::SnapshotStore;

use crate::boot::Core;
use crate::disk::{Failure, SimDisk};

/// One life of a server process.
pub struct Node {
    /// The machine.
    pub core: Core,
    /// The log's lane.
    pub log: LogLane<SimDisk>,
    /// What the log is yet to do.
    pub log_queue: VecDeque<(Seq, StoreOp)>,
    /// Whether the log is at work.
    pub is_log_busy: bool,
    /// The snapshot's lane.
    pub snapshots: SnapshotStore<SimDisk>,
    /// What it is yet to do.
    pub snapshot_queue: VecDeque<SnapshotOp>,
    /// Whether it is at work.
    pub is_snapshot_busy: bool,
    /// The snapshot being written, if it has not failed.
    pub snapshot: Option<Zxid>,
    /// The operation on the log that the server numbers next.
    pub next_seq: Seq,
    /// The last transaction at each operation that is not reported durable.
    pub appended: VecDeque<(Seq, i64)>,
}

impl Node {
    /// A life that begins after what was recovered.
    #[must_use]
    pub fn new(core: Core, disk: &SimDisk, options: LogOptions, last: Zxid) -> Self {
        Self {
            core,
            log: LogLane::new(disk.clone(), disk.clone(), options, last),
            log_queue: VecDeque::new(),
            is_log_busy: false,
            snapshots: SnapshotStore::new(disk.clone()),
            snapshot_queue: VecDeque::new(),
            is_snapshot_busy: false,
            snapshot: None,
            next_seq: Seq(1),
            appended: VecDeque::new(),
        }
    }

    /// Performs some operations on the log: what is durable then.
    ///
    /// # Errors
    /// The process died, or the lane refuses what it is asked.
    pub fn run_log(&mut self, count: usize) -> Result<Option<Seq>, String> {
        let count = count.min(self.log_queue.len());
        let ops = self.log_queue.drain(..count);
        self.log.perform(ops).map_err(|error| error.to_string())
    }

    /// Performs one operation on the snapshot: what to report, or `None` if the process died.
    pub fn run_snapshot(&mut self) -> Option<Vec<Input>> {
        let Some(op) = self.snapshot_queue.pop_front() else {
            return Some(Vec::new());
        };
        match self.write_snapshot(op) {
            Ok(input) => Some(input.into_iter().collect()),
            Err(Failure::Dead) => None,
            // As the host's lane: this snapshot is given up, and life goes on.
            Err(Failure::Full | Failure::Io) => Some(self.fail_snapshot().into_iter().collect()),
        }
    }

    fn write_snapshot(&mut self, op: SnapshotOp) -> Result<Option<Input>, Failure> {
        match op {
            SnapshotOp::Begin { zxid } => {
                self.snapshot = Some(zxid);
                self.snapshots.begin(zxid, Compression::None)?;
                Ok(None)
            }
            SnapshotOp::Chunk(bytes) => {
                if self.snapshot.is_none() {
                    return Ok(None);
                }
                self.snapshots.chunk(&bytes)?;
                Ok(Some(Input::SnapshotWritten(bytes.len())))
            }
            SnapshotOp::End => {
                if self.snapshot.is_none() {
                    return Ok(None);
                }
                self.snapshots.end()?;
                let zxid = self.snapshot.take();
                Ok(zxid.map(|zxid| Input::SnapshotStored { zxid }))
            }
            SnapshotOp::Abandon => {
                self.snapshot = None;
                self.snapshots.abandon();
                Ok(None)
            }
        }
    }

    /// Gives up the snapshot that is being written, if one is.
    pub fn fail_snapshot(&mut self) -> Option<Input> {
        let zxid = self.snapshot.take()?;
        self.snapshots.abandon();
        Some(Input::SnapshotFailed { zxid })
    }
}

impl core::fmt::Debug for Node {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Node")
            .field("next_seq", &self.next_seq)
            .finish_non_exhaustive()
    }
}

/// Watches over what recovery reads, on its way to the server.
#[derive(Debug)]
pub struct Recording<R> {
    /// The server to be.
    pub inner: R,
    /// The snapshot that was read.
    pub snapshot: Option<i64>,
    /// Hashes of the transactions that were read.
    pub txns: Vec<u64>,
}

impl<R: Restore> Restore for Recording<R> {
    type Error = R::Error;

    fn snapshot_begin(&mut self, zxid: Zxid) {
        self.snapshot = Some(zxid.0);
        self.txns.clear();
        self.inner.snapshot_begin(zxid);
    }

    fn snapshot_chunk(&mut self, bytes: &[u8]) -> Result<(), Self::Error> {
        self.inner.snapshot_chunk(bytes)
    }

    fn snapshot_end(&mut self) -> Result<(), Self::Error> {
        self.inner.snapshot_end()
    }

    fn txn(&mut self, payload: &[u8]) -> Result<(), Self::Error> {
        self.txns.push(hash(payload, 0));
        self.inner.txn(payload)
    }
}

/// FNV-1a: two runs are compared by it.
#[must_use]
pub fn hash(bytes: &[u8], start: u64) -> u64 {
    bytes
        .iter()
        .fold(start ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        })
}
