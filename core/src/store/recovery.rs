//! How a server's state is read from disk when it starts.
//!
//! The newest snapshot that [`Restore`] accepts, then every transaction after the zxid in its name,
//! without a gap. Whatever a confirmed transaction could have been in must be there and whole; the
//! one thing that is cut off is a write cut short at the end of the newest file, which was never
//! confirmed. When recovery refuses, it has changed nothing.

mod error;
mod note;
mod replay;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::ControlFlow;

use crate::ids::Zxid;
use crate::store::Restore;
use crate::store::disk::{Disk, Entry};
use crate::store::names;
use crate::wire::log::{End, HEADER, Record, Scanner};

pub use error::{LogError, RecoverError};
pub use note::Note;

pub(super) use replay::Replay;

/// What was recovered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The name of the snapshot that was read; `None` if there was none, and the tree is as of
    /// birth.
    pub snapshot: Option<Zxid>,
    /// The last transaction, or the snapshot's name if there was none after it, or zero.
    pub last: Zxid,
    /// How many transactions were replayed.
    pub txns: u64,
    /// How many bytes of log hold them.
    pub log_bytes: u64,
    /// What the operator should hear of.
    pub notes: Vec<Note>,
}

/// A log file, in the order of the zxids in the names.
#[derive(Clone, Debug)]
pub(super) struct LogFile {
    pub(super) first: Zxid,
    pub(super) entry: Entry,
}

/// Reads what the two directories hold (which may be one) into `restore`, and cuts off or removes
/// what an interrupted write left at the end of the log.
///
/// If there is neither snapshot nor log, `restore` is not called and [`Recovered::last`] is zero. A
/// log without a snapshot is replayed only if its first transaction is 0x1: only before that one
/// the tree is known to have been empty. (An ensemble's 0x100000001 proves nothing, the servers may
/// have been standalone before.)
///
/// # Errors
/// See [`RecoverError`]; nothing on disk has been changed.
pub fn recover<D: Disk, R: Restore>(
    logs: &mut D,
    snapshots: &mut D,
    restore: &mut R,
) -> Result<Recovered, RecoverError<D::Error, R::Error>>
where
    R::Error: core::fmt::Display,
{
    let mut notes = Vec::new();
    let snapshot = read_snapshot(snapshots, restore, &mut notes)?;
    let files = list_logs(logs).map_err(RecoverError::Disk)?;
    let files = files_after(files, snapshot.unwrap_or(Zxid::ZERO));

    let mut replay = Replay::new(snapshot);
    let mut ends = Vec::new();
    for file in &files {
        ends.push(read_log(logs, file, &mut replay, restore, &mut notes)?);
    }
    for (entry, repair) in repairs(&files, &ends) {
        notes.extend(repair.apply(logs, entry).map_err(RecoverError::Disk)?);
    }
    // The names, too: who relies on what was read must find it after the next power cut.
    logs.sync_directory().map_err(RecoverError::Disk)?;
    snapshots.sync_directory().map_err(RecoverError::Disk)?;
    if let Some(name) = snapshot.filter(|name| replay.ends_before(*name)) {
        notes.push(Note::LogEndsBeforeSnapshot {
            log: replay.seen(),
            snapshot: name,
        });
    }
    Ok(Recovered {
        snapshot,
        last: replay.last(),
        txns: replay.txns(),
        log_bytes: replay.log_bytes(),
        notes,
    })
}

/// Reads the newest snapshot that can be read, and returns its name.
fn read_snapshot<D: Disk, R: Restore>(
    disk: &mut D,
    restore: &mut R,
    notes: &mut Vec<Note>,
) -> Result<Option<Zxid>, RecoverError<D::Error, R::Error>>
where
    R::Error: core::fmt::Display,
{
    let mut candidates: Vec<(Zxid, String)> = disk
        .list()
        .map_err(RecoverError::Disk)?
        .into_iter()
        .filter_map(|entry| Some((names::parse_snapshot(&entry.name)?.0, entry.name)))
        .collect();
    candidates.sort_unstable();
    for (zxid, name) in candidates.iter().rev() {
        match try_snapshot(disk, *zxid, name, restore) {
            Ok(()) => return Ok(Some(*zxid)),
            Err(reason) => notes.push(Note::SnapshotRefused {
                file: disk.location(name),
                reason,
            }),
        }
    }
    if notes.is_empty() {
        return Ok(None);
    }
    Err(RecoverError::NoSnapshotReadable {
        refused: core::mem::take(notes),
    })
}

/// Reads one snapshot, or says why it cannot be read. Even an error of the disk only condemns this
/// one: an older snapshot and the log hold the same state.
fn try_snapshot<D: Disk, R: Restore>(
    disk: &mut D,
    zxid: Zxid,
    name: &str,
    restore: &mut R,
) -> Result<(), String>
where
    R::Error: core::fmt::Display,
{
    restore.snapshot_begin(zxid);
    let mut refused = None;
    let mut sink = |bytes: &[u8]| match restore.snapshot_chunk(bytes) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            refused = Some(error);
            ControlFlow::Break(())
        }
    };
    disk.read(name, 0, &mut sink)
        .map_err(|error| error.to_string())?;
    match refused {
        Some(error) => Err(error.to_string()),
        None => restore.snapshot_end().map_err(|error| error.to_string()),
    }
}

/// The log files, in their order.
pub(super) fn list_logs<D: Disk>(disk: &mut D) -> Result<Vec<LogFile>, D::Error> {
    let mut files: Vec<LogFile> = disk
        .list()?
        .into_iter()
        .filter_map(|entry| {
            Some(LogFile {
                first: names::parse_log(&entry.name)?,
                entry,
            })
        })
        .collect();
    files.sort_unstable_by(|a, b| (a.first, &a.entry.name).cmp(&(b.first, &b.entry.name)));
    Ok(files)
}

/// The files in which transactions after `zxid` may be: all that begin after it, and the one before
/// these.
pub(super) fn files_after(mut files: Vec<LogFile>, zxid: Zxid) -> Vec<LogFile> {
    let later = files.partition_point(|file| file.first <= zxid);
    files.split_off(later.saturating_sub(1))
}

/// Replays one file, and returns how it ends.
fn read_log<D: Disk, R: Restore>(
    disk: &mut D,
    file: &LogFile,
    replay: &mut Replay,
    restore: &mut R,
    notes: &mut Vec<Note>,
) -> Result<End, RecoverError<D::Error, R::Error>> {
    let location = disk.location(&file.entry.name);
    let mut scanner = Scanner::new();
    let mut failed = None;
    replay.begin_file(file.first, &location);
    let mut sink = |bytes: &[u8]| {
        let mut take = |record: Record<'_>| replay.record(record, restore, notes);
        match scanner.feed(bytes, &mut take) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    };
    disk.read(&file.entry.name, 0, &mut sink)
        .map_err(RecoverError::Disk)?;
    if let Some(error) = failed {
        return Err(RecoverError::Log {
            file: location,
            error,
        });
    }
    let end = scanner.finish();
    if let End::Damaged(damage) = end {
        return Err(RecoverError::Log {
            file: location,
            error: LogError::Damaged(damage),
        });
    }
    replay.end_file(&end);
    Ok(end)
}

/// What is changed on disk, once everything could be read.
#[derive(Debug)]
enum Repair {
    Cut {
        at: u64,
    },
    /// Whole, but perhaps not durable: a killed process leaves written what it did not get to sync.
    Keep,
    Remove,
}

impl Repair {
    /// Does it, durably.
    fn apply<D: Disk>(self, disk: &mut D, entry: &Entry) -> Result<Option<Note>, D::Error> {
        let file = disk.location(&entry.name);
        match self {
            Self::Cut { at } => {
                disk.cut(&entry.name, at)?;
                Ok(Some(Note::TornEndCut {
                    file,
                    at,
                    bytes: entry.bytes.saturating_sub(at),
                }))
            }
            Self::Keep => {
                disk.cut(&entry.name, entry.bytes)?;
                Ok(None)
            }
            Self::Remove => {
                disk.remove(&entry.name)?;
                disk.sync_directory()?;
                Ok(Some(Note::EmptyLogRemoved { file }))
            }
        }
    }
}

/// The repairs of the last file that holds a record, and of those after it, which an interrupted
/// write has left torn or without a header.
///
/// What is torn before those was passed by [`Replay`], which refuses it unless the log goes on
/// without gap.
fn repairs<'a>(files: &'a [LogFile], ends: &[End]) -> Vec<(&'a Entry, Repair)> {
    let mut repairs = Vec::new();
    for (file, end) in files.iter().zip(ends).rev() {
        let at = match end {
            End::NoHeader => {
                repairs.push((&file.entry, Repair::Remove));
                continue;
            }
            End::Torn { at } => {
                repairs.push((&file.entry, Repair::Cut { at: *at }));
                *at
            }
            End::Clean { at } => {
                repairs.push((&file.entry, Repair::Keep));
                *at
            }
            End::Damaged(_) => break,
        };
        if at > HEADER.len() as u64 {
            break;
        }
    }
    repairs
}
