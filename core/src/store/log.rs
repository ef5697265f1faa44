//! The transaction log, as it is written.

use alloc::string::String;
use alloc::vec::Vec;

use crate::ids::Zxid;
use crate::store::disk::Disk;
use crate::store::names;
use crate::wire::log::{HEADER, UNSYNCED_BYTES_MAX, frame};

/// How many bytes are collected before they are written and synced even if nobody asked.
///
/// Recovery relies on it to tell a write cut short from damage, hence well below its bound.
const BATCH_BYTES_MAX: usize = 4 << 20;
const _: () = assert!(BATCH_BYTES_MAX * 2 <= UNSYNCED_BYTES_MAX);

/// How much is preallocated at once, at most.
///
/// Measured on ext4 over a virtual disk, with batches of 300 bytes to 64 KiB, each followed by
/// `fdatasync`: over blocks already filled with zeros a batch takes 0.030 ms (median), without
/// preallocation, or in a sparse or a `posix_fallocate`d file, 0.050 ms, for there the journal of
/// the file system has to be written too. Steps of 1 MiB, 4 MiB and 16 MiB have about the same
/// median and mean; their slowest batch takes 0.6 ms, 2 ms and 5 ms.
const PREALLOCATE_STEP_BYTES: u64 = 1 << 20;

/// How log files are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// `preAllocSize` in bytes: how far ahead of its end a file is filled with zeros, so that a
    /// sync need not change the file's layout; 0 is not at all, more than 1 MiB is 1 MiB.
    pub preallocate_bytes: u64,
    /// `txnLogSizeLimitInKb` in bytes: a file that has grown beyond it is followed by a new one;
    /// 0 is never.
    pub file_bytes_max: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            preallocate_bytes: 64 << 20,
            file_bytes_max: 0,
        }
    }
}

/// The writer of the log.
///
/// Never appends to a file that an earlier writer began, so it needs no knowledge of how that one
/// ended. After an error of the disk it is of no use: what is on the disk is unknown, and the
/// server must stop.
#[derive(Debug)]
pub struct LogStore<D: Disk> {
    disk: D,
    options: LogOptions,
    last: Zxid,
    /// Framed records, not written yet.
    batch: Vec<u8>,
    batch_first: Zxid,
    file: Option<OpenLog<D::File>>,
}

#[derive(Debug)]
struct OpenLog<F> {
    file: F,
    name: String,
    /// Where the next record goes.
    end: u64,
    /// How long the file is: records, then zeros.
    length: u64,
    /// 0 once the disk was too full for it.
    preallocate_bytes: u64,
}

impl<D: Disk> LogStore<D> {
    /// A writer that begins a new file after `last`, the last transaction that recovery found.
    pub const fn new(disk: D, options: LogOptions, last: Zxid) -> Self {
        Self {
            disk,
            options,
            last,
            batch: Vec::new(),
            batch_first: Zxid::ZERO,
            file: None,
        }
    }

    /// Takes one transaction. It is durable after the next [`LogStore::sync`].
    ///
    /// # Errors
    /// The batch was full and could not be written.
    ///
    /// # Panics
    /// `zxid` is not greater than the one before, or no transaction is as short or long as
    /// `payload`.
    pub fn append(&mut self, zxid: Zxid, payload: &[u8]) -> Result<(), D::Error> {
        assert!(
            zxid > self.last,
            "transaction {zxid} appended to the log after {}",
            self.last
        );
        if self.batch.is_empty() {
            self.batch_first = zxid;
        }
        self.last = zxid;
        frame(payload, &mut self.batch);
        if self.batch.len() >= BATCH_BYTES_MAX {
            self.sync()?;
        }
        Ok(())
    }

    /// Makes every transaction taken so far durable, with one fsync (two more when a file begins).
    ///
    /// # Errors
    /// The batch could not be written or made durable.
    pub fn sync(&mut self) -> Result<(), D::Error> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let log = match &mut self.file {
            Some(log) => log,
            None => {
                let log = begin_file(&mut self.disk, self.batch_first, self.options)?;
                self.file.insert(log)
            }
        };
        log.write(&mut self.disk, &self.batch)?;
        self.disk.sync(&mut log.file)?;
        let full = self.options.file_bytes_max > 0 && log.end > self.options.file_bytes_max;
        self.batch.clear();
        self.batch.shrink_to(BATCH_BYTES_MAX);
        if full { self.roll() } else { Ok(()) }
    }

    /// Lets the next transaction begin a new file; those taken so far are durable then.
    ///
    /// # Errors
    /// The batch could not be made durable, or the file not be finished.
    pub fn roll(&mut self) -> Result<(), D::Error> {
        self.sync()?;
        match self.file.take() {
            // The zeros would be harmless, only waste.
            Some(log) if log.length > log.end => self.disk.cut(&log.name, log.end),
            _ => Ok(()),
        }
    }

    /// Makes everything durable and finishes the file.
    ///
    /// # Errors
    /// It could not be done; the log is as after a crash.
    pub fn close(mut self) -> Result<(), D::Error> {
        self.roll()
    }

    /// The disk, of which every file of this writer must be finished before others touch it.
    pub(super) const fn disk(&mut self) -> &mut D {
        assert!(self.file.is_none(), "a log is changed once it is finished");
        &mut self.disk
    }

    /// Goes on after another transaction: what was after it is gone from the disk.
    ///
    /// # Panics
    /// Transactions or a file are in hand: [`LogStore::roll`] comes first.
    pub(super) fn resume_after(&mut self, last: Zxid) {
        assert!(self.batch.is_empty(), "what was taken is durable first");
        assert!(self.file.is_none(), "the next transaction begins a file");
        self.last = last;
    }

    /// The last transaction taken.
    pub const fn last(&self) -> Zxid {
        self.last
    }
}

impl<F> OpenLog<F> {
    fn write<D: Disk<File = F>>(&mut self, disk: &mut D, batch: &[u8]) -> Result<(), D::Error> {
        disk.write(&mut self.file, self.end, batch)?;
        self.end += batch.len() as u64;
        if self.end > self.length {
            self.length = self.end;
            self.preallocate(disk);
        }
        Ok(())
    }

    /// Fills the file with zeros up to the next step.
    fn preallocate<D: Disk<File = F>>(&mut self, disk: &mut D) {
        static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
        if self.preallocate_bytes == 0 {
            return;
        }
        let step = self.preallocate_bytes.min(PREALLOCATE_STEP_BYTES);
        let target = (self.length / step + 1) * step;
        while self.length < target {
            let count = usize::try_from(target - self.length).unwrap_or(usize::MAX);
            let zeros = ZEROS.get(..count).unwrap_or(&ZEROS);
            // A disk too full for the zeros may still hold the records.
            if disk.write(&mut self.file, self.length, zeros).is_err() {
                self.preallocate_bytes = 0;
                return;
            }
            self.length += zeros.len() as u64;
        }
    }
}

/// Creates the file of which `first` will be the first record.
///
/// Its name and header are durable before any record is: so a file without a header never held a
/// confirmed record, and no record is in a file that a power cut can make disappear.
fn begin_file<D: Disk>(
    disk: &mut D,
    first: Zxid,
    options: LogOptions,
) -> Result<OpenLog<D::File>, D::Error> {
    let name = names::log(first);
    let mut file = disk.create(&name)?;
    disk.write(&mut file, 0, &HEADER)?;
    disk.sync(&mut file)?;
    disk.sync_directory()?;
    Ok(OpenLog {
        file,
        name,
        end: HEADER.len() as u64,
        length: HEADER.len() as u64,
        preallocate_bytes: options.preallocate_bytes,
    })
}
