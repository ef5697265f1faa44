//! How history is taken back: the end of the log that was never committed, or all of it.
//!
//! Both change several files, and the power may fail after each of them. Recovery must then find
//! the history as it was, or as it shall be, or a part of what was that holds what shall be; never
//! a gap. Hence the order: logs from the newest to the oldest, each removal durable before the
//! next, so that the log only ever loses its end; then snapshots, each of which stands for itself.
//!
//! (Snapshots first would not do: where a ZooKeeper server once took a leader's state over, its
//! older logs end before that snapshot, and without it recovery meets the gap.)
//!
//! Source: ZooKeeper `FileTxnLog.truncate`, which syncs nothing and leaves newer snapshots where
//! they are, so that what was cut off comes back.

use alloc::string::String;
use alloc::vec::Vec;
use core::convert::Infallible;
use core::fmt;
use core::ops::ControlFlow;

use crate::ids::Zxid;
use crate::jute::take;
use crate::store::Restore;
use crate::store::disk::{Disk, read_part};
use crate::store::names::{self, Compression};
use crate::store::purge::looks_whole;
use crate::store::recovery::{LogError, LogFile, Replay, files_after, list_logs};
use crate::wire::log::{End, HEADER, Record, Scanner};
use crate::wire::snapshot::{DIGEST_BYTES, DigestRecord, END, LAST_ZXID_BYTES, SEAL_BYTES};

/// Why history could not be taken back.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TruncateError<E> {
    /// The disk failed. What is on it is as after a crash.
    Disk(E),
    /// The log cannot be read up to the place of the cut. Nothing was changed.
    Log {
        /// The file concerned.
        file: String,
        /// What is wrong with it.
        error: LogError<Infallible>,
    },
    /// The transaction that was to be the last is none that recovery could end with: it is inside
    /// every snapshot there is, before the first log, or in a gap. Nothing was changed; only
    /// another server's snapshot helps.
    NotInLog {
        /// The transaction.
        to: Zxid,
        /// The newest snapshot before it, if there is one.
        snapshot: Option<Zxid>,
        /// The last transaction that can be reached from there without going beyond.
        reached: Zxid,
    },
    /// The snapshot that was to stand for all of the history is not there. Nothing was changed.
    NoSnapshot {
        /// Its name.
        zxid: Zxid,
    },
}

/// How an operator gets a leader's snapshot for a server. Without its logs it must not claim an
/// epoch any more, or it could win an election with nothing; the promise it must keep.
const SNAPSHOT_ADVICE: &str = "stop the server, move its logs, snapshots and currentEpoch away but \
    leave acceptedEpoch, and start it again: it is given the leader's state";

impl<E: fmt::Display> fmt::Display for TruncateError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(error) => error.fmt(f),
            Self::Log { file, error } => {
                let advice = error.advice();
                write!(f, "{file}: {error}; {advice}")
            }
            Self::NotInLog {
                to,
                snapshot,
                reached,
            } => {
                write!(f, "expected transaction {to} in the log, found ")?;
                match snapshot {
                    Some(snapshot) => write!(f, "only up to {reached} after snapshot {snapshot}")?,
                    None => write!(f, "only up to {reached}, and no snapshot before it")?,
                }
                write!(f, "; {SNAPSHOT_ADVICE}")
            }
            Self::NoSnapshot { zxid } => write!(
                f,
                "expected a whole snapshot of {zxid}, which is to replace the log, found none"
            ),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> core::error::Error for TruncateError<E> {}

/// A snapshot file, or what is named like one.
#[derive(Debug)]
struct Found {
    /// The name's zxid, or a later one if the content is known to be newer.
    holds: Zxid,
    zxid: Zxid,
    name: String,
    whole: bool,
}

/// Takes back every transaction after `to`: afterwards, and after any crash from then on, recovery
/// ends with `to`. No log file may be open.
///
/// # Errors
/// See [`TruncateError`].
pub(super) fn truncate<D: Disk>(
    logs: &mut D,
    snapshots: &mut D,
    to: Zxid,
) -> Result<(), TruncateError<D::Error>> {
    let found = list_snapshots(snapshots).map_err(TruncateError::Disk)?;
    let earlier = found.iter().filter(|file| file.whole && file.holds <= to);
    let base = earlier.map(|file| file.zxid).max();
    let files = list_logs(logs).map_err(TruncateError::Disk)?;
    let files = files_after(files, base.unwrap_or(Zxid::ZERO));
    let kept = read_until(logs, &files, base, to)?;
    cut(logs, &files, kept).map_err(TruncateError::Disk)?;
    let later = found.iter().filter(|file| file.holds > to);
    remove_snapshots(snapshots, later).map_err(TruncateError::Disk)
}

/// Takes back everything but the snapshot of `to`: afterwards, and after any crash from then on,
/// recovery reads that one and nothing else. No log file may be open.
///
/// # Errors
/// See [`TruncateError`].
pub(super) fn reset<D: Disk>(
    logs: &mut D,
    snapshots: &mut D,
    to: Zxid,
) -> Result<(), TruncateError<D::Error>> {
    let found = list_snapshots(snapshots).map_err(TruncateError::Disk)?;
    if !found.iter().any(|file| file.whole && file.zxid == to) {
        return Err(TruncateError::NoSnapshot { zxid: to });
    }
    let files = list_logs(logs).map_err(TruncateError::Disk)?;
    for file in files.iter().rev() {
        remove_log(logs, file).map_err(TruncateError::Disk)?;
    }
    // Later ones, too: they would be preferred to this one. They go last, for while logs were
    // there that follow them, the log need not have gone on from `to` without a gap.
    let others = found.iter().filter(|file| file.zxid != to);
    remove_snapshots(snapshots, others).map_err(TruncateError::Disk)
}

/// How much of which file stays: the last one that holds a transaction up to the cut, and where in
/// it that ends.
type Kept = Option<(usize, u64)>;

/// Reads what recovery would read until it meets a transaction after `to`.
fn read_until<D: Disk>(
    logs: &mut D,
    files: &[LogFile],
    base: Option<Zxid>,
    to: Zxid,
) -> Result<Kept, TruncateError<D::Error>> {
    let mut replay = Replay::new(base);
    let mut kept = None;
    for (index, file) in files.iter().enumerate() {
        let location = logs.location(&file.entry.name);
        let not_in_log = |reached| TruncateError::NotInLog {
            to,
            snapshot: base,
            reached,
        };
        replay.begin_file(file.first, &location);
        let (at, stop) =
            read_file(logs, &file.entry.name, &mut replay, to).map_err(TruncateError::Disk)?;
        if at > HEADER.len() as u64 {
            kept = Some((index, at));
        }
        match stop {
            None => {}
            Some(Stop::Later) => break,
            // What goes need not be whole.
            Some(Stop::Log(LogError::Damaged(_))) if replay.last() == to => break,
            Some(Stop::Log(LogError::Gap { .. } | LogError::NoSnapshot { .. })) => {
                return Err(not_in_log(replay.last()));
            }
            Some(Stop::Log(error)) => {
                return Err(TruncateError::Log {
                    file: location,
                    error,
                });
            }
        }
    }
    // With neither snapshot nor log, what comes next could not be read: it does not begin with 0x1.
    if replay.last() == to && (base.is_some() || kept.is_some()) {
        return Ok(kept);
    }
    Err(TruncateError::NotInLog {
        to,
        snapshot: base,
        reached: replay.last(),
    })
}

/// Why reading does not go on.
enum Stop {
    /// A transaction after the cut.
    Later,
    Log(LogError<Infallible>),
}

/// Reads one file up to the first transaction after `to`: where the last one before it ends.
fn read_file<D: Disk>(
    logs: &mut D,
    name: &str,
    replay: &mut Replay,
    to: Zxid,
) -> Result<(u64, Option<Stop>), D::Error> {
    let mut scanner = Scanner::new();
    let mut at = HEADER.len() as u64;
    let mut stop = None;
    let mut record = |record: Record<'_>| {
        if record.zxid > to {
            return Err(Stop::Later);
        }
        at = record.end();
        let taken = replay.record(record, &mut Nowhere, &mut Vec::new());
        taken.map_err(Stop::Log)
    };
    let mut sink = |bytes: &[u8]| match scanner.feed(bytes, &mut record) {
        Ok(()) => ControlFlow::Continue(()),
        Err(reason) => {
            stop = Some(reason);
            ControlFlow::Break(())
        }
    };
    logs.read(name, 0, &mut sink)?;
    if stop.is_none() {
        let end = scanner.finish();
        if let End::Damaged(damage) = end {
            stop = Some(Stop::Log(LogError::Damaged(damage)));
        } else {
            replay.end_file(&end);
        }
    }
    Ok((at, stop))
}

/// Removes what is not kept, from the end of the log on.
fn cut<D: Disk>(logs: &mut D, files: &[LogFile], kept: Kept) -> Result<(), D::Error> {
    let later = kept.map_or(0, |(index, _)| index + 1);
    for file in files.iter().skip(later).rev() {
        remove_log(logs, file)?;
    }
    let Some((file, at)) = kept.and_then(|(index, at)| Some((files.get(index)?, at))) else {
        return Ok(());
    };
    // What an interrupted write or preallocation left after the last record goes as well: once the
    // next file begins with another epoch, it could not be told from a loss.
    logs.cut(&file.entry.name, at)
}

fn remove_log<D: Disk>(logs: &mut D, file: &LogFile) -> Result<(), D::Error> {
    logs.remove(&file.entry.name)?;
    logs.sync_directory()
}

fn remove_snapshots<'a, D: Disk>(
    snapshots: &mut D,
    files: impl Iterator<Item = &'a Found>,
) -> Result<(), D::Error> {
    for file in files {
        snapshots.remove(&file.name)?;
    }
    snapshots.sync_directory()
}

fn list_snapshots<D: Disk>(disk: &mut D) -> Result<Vec<Found>, D::Error> {
    let mut found = Vec::new();
    for entry in disk.list()? {
        let Some((zxid, compression)) = names::parse_snapshot(&entry.name) else {
            continue;
        };
        let newer = match compression {
            Compression::None => content_zxid(disk, &entry.name, entry.bytes),
            Compression::Gzip | Compression::Snappy => None,
        };
        found.push(Found {
            holds: newer.map_or(zxid, |newer| newer.max(zxid)),
            zxid,
            whole: looks_whole(disk, &entry.name, entry.bytes, compression),
            name: entry.name,
        });
    }
    Ok(found)
}

/// The last transaction whose effect is in a snapshot, if its end tells: ZooKeeper goes on applying
/// while it writes.
///
/// It does not tell if it is compressed, or without digest and from before 3.9. No harm is known to
/// come of that: what a server applies while it writes a snapshot is committed.
fn content_zxid<D: Disk>(disk: &mut D, name: &str, bytes: u64) -> Option<Zxid> {
    const LAST: usize = LAST_ZXID_BYTES + SEAL_BYTES;
    const DIGEST: usize = DIGEST_BYTES + SEAL_BYTES;
    let part = |disk: &mut D, part_bytes: usize| {
        let at = bytes.checked_sub((END.len() + part_bytes) as u64)?;
        let found = read_part(disk, name, at, END.len() + part_bytes).ok()?;
        found.strip_prefix(&END).map(<[u8]>::to_vec)
    };
    let last = part(disk, LAST).and_then(|part| take(&mut part.as_slice()).ok());
    let digest = part(disk, DIGEST).and_then(|part| {
        let record: DigestRecord = take(&mut part.as_slice()).ok()?;
        Some(record.zxid)
    });
    last.max(digest)
}

/// Takes what is only read to see whether it could be.
struct Nowhere;

impl Restore for Nowhere {
    type Error = Infallible;

    fn snapshot_begin(&mut self, _: Zxid) {}

    fn snapshot_chunk(&mut self, _: &[u8]) -> Result<(), Infallible> {
        Ok(())
    }

    fn snapshot_end(&mut self) -> Result<(), Infallible> {
        Ok(())
    }

    fn txn(&mut self, _: &[u8]) -> Result<(), Infallible> {
        Ok(())
    }
}
