//! The two threads that write: one the log, one snapshots.
//!
//! The log's lane takes all that is waiting, writes it, syncs once and reports once: the slower the
//! disk, the larger the batch. Snapshots have a lane of their own, so that none of them ever delays
//! a transaction.

use core::num::{NonZeroU32, NonZeroU64};
use core::panic::AssertUnwindSafe;
use core::time::Duration;
use std::io;
use std::panic::catch_unwind;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::thread::{self, JoinHandle};

use zabra_core::ids::{Seq, Zxid};
use zabra_core::server::io::{Input, SnapshotOp, StoreOp, Summary};
use zabra_core::store::lane::LogLane;
use zabra_core::store::log::LogOptions;
use zabra_core::store::names::Compression;
use zabra_core::store::purge::{Keep, Plan, purge};
use zabra_core::store::snapshot::SnapshotStore;

use super::compress::Compressor;
use super::disk::{Fsyncs, Timing};
use super::room::{LOOK_AT_LEAST_EVERY, Room, Rooms, is_tight};
use super::{Directories, Error, FsDisk};

/// From how many operations on no more are awaited before a sync: the last to come must not delay
/// the first to be confirmed.
///
/// Source: ZooKeeper `SyncRequestProcessor`, `zookeeper.maxBatchSize`.
const OPS_PER_SYNC_MAX: usize = 1000;

/// Bytes of a snapshot between two looks at the room that is left.
const LOOK_EVERY_BYTES: u64 = 4 << 20;

/// How a server writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneOptions {
    /// How log files are laid out.
    pub log: LogOptions,
    /// `snapshot.compression.method`.
    pub compression: Compression,
    /// How many snapshots to keep, with their logs, whenever one more is durable; `None` is all.
    /// `autopurge.snapRetainCount`, for which ZooKeeper's minimum is 3.
    pub retain: Option<NonZeroU32>,
    /// A sync of the log that takes longer is worth a warning; `None` is never.
    /// `fsync.warningthresholdms`.
    pub fsync_warning: Option<Duration>,
    /// `zabra.purge.bytesMax`: with `retain`, fewer if they take more bytes.
    pub retain_bytes_max: Option<NonZeroU64>,
    /// `zabra.diskFreeMin`.
    pub disk_free_min: Option<u64>,
}

/// What the lanes tell their host.
#[derive(Debug)]
pub enum Report {
    /// An input for the machine.
    Input(Input),
    /// The log cannot be written any more: the server must stop. The last report of its lane.
    LogFailed(Error),
    /// A snapshot could not be written (the machine is told too), or old files not be purged.
    SnapshotTrouble(Error),
    /// These files were needed no more, and are gone.
    Purged(Plan),
    /// A disk is nearly full, or all have room again.
    Room(Room),
}

/// What the snapshots' lane is given.
#[derive(Debug)]
enum SnapshotWork {
    Ops(Vec<SnapshotOp>),
    /// History is about to be taken back: give up what is unfinished, then answer.
    Fence(SyncSender<()>),
}

/// The two threads. Dropped, they finish what they were given, unattended.
#[derive(Debug)]
pub struct Lanes {
    log: Sender<Vec<(Seq, StoreOp)>>,
    snapshots: Sender<SnapshotWork>,
    threads: [JoinHandle<()>; 2],
    fsyncs: Arc<Fsyncs>,
}

impl Lanes {
    /// Starts the threads, to go on after `last`, the last transaction that recovery found.
    ///
    /// Both call `report` (each its own clone), which must not block for long.
    ///
    /// # Errors
    /// A thread cannot be started, or an unfinished snapshot not be removed.
    pub fn start<F>(
        directories: &Directories,
        last: Zxid,
        options: LaneOptions,
        report: F,
    ) -> Result<Self, Error>
    where
        F: FnMut(Report) + Clone + Send + 'static,
    {
        let fsyncs = Arc::new(Fsyncs::default());
        let logs = directories.logs().timed(Timing {
            fsyncs: Arc::clone(&fsyncs),
            warning: options.fsync_warning.unwrap_or(Duration::MAX),
        });
        let mut snapshots = SnapshotStore::new(directories.snapshots());
        snapshots.remove_unfinished()?;

        let path = logs.path().to_owned();
        let snapshots_path = directories.snapshots().path().to_owned();
        let snapshot_lane = SnapshotLane {
            store: snapshots,
            logs: directories.logs(),
            options,
            current: None,
            unlooked: 0,
            compressed: Vec::new(),
            report: report.clone(),
        };
        let (log, log_ops) = mpsc::channel();
        let (snapshots, snapshot_ops) = mpsc::channel();
        let log_path = path.clone();
        let lane = LogLane::new(logs, directories.snapshots(), options.log, last);
        let fence = snapshots.clone();
        let spawn = |name: &str, lane: Box<dyn FnOnce() + Send>| {
            let thread = thread::Builder::new().name(name.to_owned()).spawn(lane);
            thread.map_err(|source| Error::new(&path, "start a thread", source))
        };
        let rooms = Rooms::new(
            vec![log_path.clone(), snapshots_path],
            options.disk_free_min,
        );
        let work = LogWork {
            lane,
            rooms,
            ops: log_ops,
            snapshots: fence,
        };
        let log_lane = Box::new(move || run_log(work, &log_path, report));
        let threads = [
            spawn("zabra-log", log_lane)?,
            spawn(
                "zabra-snapshot",
                Box::new(move || snapshot_lane.run(&snapshot_ops)),
            )?,
        ];
        Ok(Self {
            log,
            snapshots,
            threads,
            fsyncs,
        })
    }

    /// Gives the log's lane its next operations, draining `ops`.
    pub fn store(&self, ops: &mut Vec<(Seq, StoreOp)>) {
        // A lane that is gone has reported why.
        let _ = self.log.send(core::mem::take(ops));
    }

    /// Gives the snapshots' lane its next operations, draining `ops`.
    pub fn snapshot(&self, ops: &mut Vec<SnapshotOp>) {
        let _ = self.snapshots.send(SnapshotWork::Ops(core::mem::take(ops)));
    }

    /// Tells, on any thread, how long the log's syncs took so far, in milliseconds.
    pub fn fsync_ms(&self) -> impl Fn() -> Summary + Send + 'static {
        let fsyncs = Arc::clone(&self.fsyncs);
        move || fsyncs.ms()
    }

    /// What is counted of the log's syncs.
    #[must_use]
    pub fn fsyncs(&self) -> Arc<Fsyncs> {
        Arc::clone(&self.fsyncs)
    }

    /// Waits until everything given is done and reported, and the log's file is finished.
    pub fn close(self) {
        let Self {
            log,
            snapshots,
            threads,
            fsyncs: _,
        } = self;
        drop((log, snapshots));
        for thread in threads {
            // What a lane could not do, it has reported.
            let _ = thread.join();
        }
    }
}

/// What the log's thread works with.
struct LogWork {
    lane: LogLane<FsDisk>,
    rooms: Rooms,
    ops: Receiver<Vec<(Seq, StoreOp)>>,
    snapshots: Sender<SnapshotWork>,
}

/// Writes the log until there will be no more operations; every end but that is reported.
fn run_log(work: LogWork, path: &Path, mut report: impl FnMut(Report)) {
    let run = AssertUnwindSafe(|| write_log(work, path, &mut report));
    let ended = catch_unwind(run).unwrap_or_else(|_| {
        let source = io::Error::other("the thread panicked, see its message on standard error");
        Err(Error::new(path, "write the log", source))
    });
    if let Err(error) = ended {
        report(Report::LogFailed(error));
    }
}

fn write_log(work: LogWork, path: &Path, report: &mut impl FnMut(Report)) -> Result<(), Error> {
    let LogWork {
        mut lane,
        mut rooms,
        ops,
        snapshots,
    } = work;
    loop {
        // Also while nothing is written: others write to the disk, and somebody makes room.
        if let Some(room) = rooms.look() {
            report(Report::Room(room));
        }
        let mut waiting = match ops.recv_timeout(LOOK_AT_LEAST_EVERY) {
            Ok(waiting) => waiting,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        while waiting.len() < OPS_PER_SYNC_MAX
            && let Ok(more) = ops.try_recv()
        {
            waiting.extend(more);
        }
        if waiting.iter().any(|(_, op)| takes_back(op)) {
            finish_snapshots(&snapshots);
        }
        let performed = lane.perform(waiting);
        let upto = performed.map_err(|error| Error::of_lane(path, error))?;
        if let Some(upto) = upto {
            report(Report::Input(Input::Stored { upto }));
        }
    }
    lane.close()
}

const fn takes_back(op: &StoreOp) -> bool {
    match op {
        StoreOp::Reset { .. } | StoreOp::Truncate { .. } => true,
        StoreOp::Append { .. } | StoreOp::Epochs { .. } | StoreOp::Roll => false,
    }
}

/// Waits until no snapshot is being written: one of what is to be taken back must not appear
/// after the others were removed.
fn finish_snapshots(snapshots: &Sender<SnapshotWork>) {
    let (done, is_done) = mpsc::sync_channel(1);
    if snapshots.send(SnapshotWork::Fence(done)).is_ok() {
        // A lane that is gone writes none.
        let _ = is_done.recv();
    }
}

struct SnapshotLane<F> {
    store: SnapshotStore<FsDisk>,
    logs: FsDisk,
    options: LaneOptions,
    /// What is being written; `None` also after a failure, until the next begins.
    current: Option<(Zxid, Compressor)>,
    /// Bytes written since the room was looked at.
    unlooked: u64,
    compressed: Vec<u8>,
    report: F,
}

impl<F: FnMut(Report)> SnapshotLane<F> {
    fn run(mut self, work: &Receiver<SnapshotWork>) {
        // Files are needed no more only because there is another snapshot: no timer is wanted.
        self.purge();
        while let Ok(work) = work.recv() {
            match work {
                SnapshotWork::Ops(ops) => ops.into_iter().for_each(|op| self.perform(op)),
                SnapshotWork::Fence(done) => {
                    self.abandon();
                    // Who waits may have panicked.
                    let _ = done.send(());
                }
            }
        }
        self.store.abandon();
    }

    fn perform(&mut self, op: SnapshotOp) {
        match op {
            SnapshotOp::Begin { zxid } => self.begin(zxid),
            SnapshotOp::Chunk(bytes) => self.chunk(&bytes),
            SnapshotOp::End => self.end(),
            SnapshotOp::Abandon => self.abandon(),
        }
    }

    fn abandon(&mut self) {
        self.current = None;
        self.store.abandon();
    }

    fn begin(&mut self, zxid: Zxid) {
        let compression = self.options.compression;
        self.current = Some((zxid, Compressor::new(compression)));
        let begun = self.store.begin(zxid, compression);
        self.give_up_if_failed(begun);
    }

    fn chunk(&mut self, bytes: &[u8]) {
        let Some((_, compressor)) = &mut self.current else {
            return;
        };
        self.compressed.clear();
        let compressed = compressor.write(bytes, &mut self.compressed);
        let written = self.write_compressed(compressed);
        if self.give_up_if_failed(written) {
            (self.report)(Report::Input(Input::SnapshotWritten(bytes.len())));
        }
    }

    fn end(&mut self) {
        let Some((zxid, compressor)) = self.current.take() else {
            return;
        };
        self.compressed.clear();
        let compressed = compressor.finish(&mut self.compressed);
        let ended = self
            .write_compressed(compressed)
            .and_then(|()| self.store.end());
        if let Err(error) = ended {
            self.failed(zxid, error);
            return;
        }
        (self.report)(Report::Input(Input::SnapshotStored { zxid }));
        self.purge();
    }

    fn write_compressed(&mut self, compressed: io::Result<()>) -> Result<(), Error> {
        compressed.map_err(|source| {
            let directory = self.store.disk().path();
            Error::new(directory, "compress a snapshot", source)
        })?;
        self.unlooked += self.compressed.len() as u64;
        if self.unlooked >= LOOK_EVERY_BYTES {
            self.unlooked = 0;
            let directory = self.store.disk().path();
            if is_tight(directory, self.options.disk_free_min) {
                return Err(Error::refused(
                    directory,
                    "a snapshot is given up: what is free on the disk is for the log; make room, \
                     or set zabra.diskFreeMin lower",
                ));
            }
        }
        self.store.chunk(&self.compressed)
    }

    /// Returns whether nothing failed.
    fn give_up_if_failed(&mut self, result: Result<(), Error>) -> bool {
        match (result, &self.current) {
            (Err(error), Some((zxid, _))) => {
                self.failed(*zxid, error);
                false
            }
            _ => true,
        }
    }

    fn failed(&mut self, zxid: Zxid, error: Error) {
        self.abandon();
        (self.report)(Report::SnapshotTrouble(error));
        (self.report)(Report::Input(Input::SnapshotFailed { zxid }));
    }

    fn purge(&mut self) {
        let Some(snapshots) = self.options.retain else {
            return;
        };
        let keep = Keep {
            snapshots,
            bytes_max: self.options.retain_bytes_max,
        };
        let purged = purge(&mut self.logs, self.store.disk(), keep);
        match purged {
            Ok(plan) if plan == Plan::default() => {}
            Ok(plan) => (self.report)(Report::Purged(plan)),
            Err(error) => (self.report)(Report::SnapshotTrouble(error)),
        }
    }
}
