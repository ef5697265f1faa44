//! Which snapshots and logs are needed no more.
//!
//! Source: ZooKeeper `PurgeTxnLog`, but only snapshots that look whole count, and bytes may be
//! limited as well.

use alloc::string::String;
use alloc::vec::Vec;
use core::num::{NonZeroU32, NonZeroU64};

use crate::ids::Zxid;
use crate::store::disk::{Disk, read_part};
use crate::store::names::{self, Compression};

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// So many snapshots that look whole, with every log that one of them needs.
    pub snapshots: NonZeroU32,
    /// If all that takes more bytes, fewer: but always the newest two, and their logs. A snapshot
    /// that looks whole may turn out not to be, and then the one before it is the state.
    pub bytes_max: Option<NonZeroU64>,
}

/// Snapshots that no number of bytes takes away.
const SNAPSHOTS_MIN: usize = 2;

impl From<NonZeroU32> for Keep {
    fn from(snapshots: NonZeroU32) -> Self {
        Self {
            snapshots,
            bytes_max: None,
        }
    }
}

/// What [`plan`] decides by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    /// The zxid in its name.
    pub zxid: Zxid,
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Whether it looks whole.
    pub valid: bool,
}

/// A log, likewise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// The zxid in its name: of its first transaction.
    pub first: Zxid,
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
}

/// What is needed no more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Snapshots, oldest first.
    pub snapshots: Vec<String>,
    /// Logs, oldest first.
    pub logs: Vec<String>,
}

/// Decides what is needed no more when the newest valid snapshots are kept, with every log that one
/// of them needs.
///
/// With fewer valid snapshots than are to be kept, everything is needed. Neither list need be
/// sorted.
#[must_use]
pub fn plan(mut snapshots: Vec<SnapshotFile>, mut logs: Vec<LogFile>, keep: Keep) -> Plan {
    snapshots.sort_unstable_by(|a, b| (a.zxid, &a.name).cmp(&(b.zxid, &b.name)));
    logs.sort_unstable_by(|a, b| (a.first, &a.name).cmp(&(b.first, &b.name)));
    // One snapshot in two compressions is one to fall back to.
    let mut valid: Vec<Zxid> = snapshots
        .iter()
        .filter(|file| file.valid)
        .map(|file| file.zxid)
        .collect();
    valid.dedup();
    let oldest_of = |kept: usize| valid.iter().rev().nth(kept.checked_sub(1)?).copied();
    let bytes_max = keep.bytes_max.map_or(u64::MAX, NonZeroU64::get);
    let mut kept = (keep.snapshots.get() as usize).min(valid.len() + 1);
    let mut oldest = oldest_of(kept);
    while kept > SNAPSHOTS_MIN && needed_bytes(&snapshots, &logs, oldest) > bytes_max {
        kept -= 1;
        oldest = oldest_of(kept);
    }
    let Some(oldest) = oldest else {
        return Plan::default();
    };
    logs.truncate(unneeded_logs(&logs, oldest));
    Plan {
        snapshots: snapshots
            .into_iter()
            .filter(|file| file.zxid < oldest)
            .map(|file| file.name)
            .collect(),
        logs: logs.into_iter().map(|file| file.name).collect(),
    }
}
/// What is left when everything is removed that this snapshot does not need; `None` is all.
fn needed_bytes(snapshots: &[SnapshotFile], logs: &[LogFile], oldest: Option<Zxid>) -> u64 {
    let spared = oldest.map_or(0, |oldest| unneeded_logs(logs, oldest));
    let logs = logs.iter().skip(spared).map(|file| file.bytes);
    let snapshots = snapshots.iter();
    let snapshots = snapshots.filter(|file| oldest.is_none_or(|oldest| file.zxid >= oldest));
    logs.chain(snapshots.map(|file| file.bytes)).sum()
}

/// How many of these, sorted, are not needed to go on from a snapshot: the log before the first
/// that begins after it holds the transactions that follow it.
fn unneeded_logs(logs: &[LogFile], snapshot: Zxid) -> usize {
    let later = logs.partition_point(|log| log.first <= snapshot);
    later.saturating_sub(1)
}

/// Plans for what is on disk, and removes it; returns what was removed.
///
/// May run while a log or a snapshot is being written. A crash half way leaves what is needed.
///
/// # Errors
/// A directory cannot be read, or a file not be removed.
pub fn purge<D: Disk>(
    logs: &mut D,
    snapshots: &mut D,
    keep: impl Into<Keep>,
) -> Result<Plan, D::Error> {
    let mut found = Vec::new();
    for entry in snapshots.list()? {
        if let Some((zxid, compression)) = names::parse_snapshot(&entry.name) {
            found.push(SnapshotFile {
                zxid,
                valid: looks_whole(snapshots, &entry.name, entry.bytes, compression),
                name: entry.name,
                bytes: entry.bytes,
            });
        }
    }
    let found_logs = logs.list()?.into_iter();
    let found_logs = found_logs.filter_map(|entry| {
        Some(LogFile {
            first: names::parse_log(&entry.name)?,
            name: entry.name,
            bytes: entry.bytes,
        })
    });
    let plan = plan(found, found_logs.collect(), keep.into());
    for name in &plan.snapshots {
        snapshots.remove(name)?;
    }
    for name in &plan.logs {
        logs.remove(name)?;
    }
    Ok(plan)
}

/// ZooKeeper's quick test: the right beginning, and where it costs nothing the right end.
///
/// Source: `SnapStream.isValidSnapshot`. A file that cannot be read does not look whole.
pub(super) fn looks_whole<D: Disk>(
    disk: &mut D,
    name: &str,
    bytes: u64,
    compression: Compression,
) -> bool {
    const MAGIC: &[u8] = b"ZKSN";
    const LAST_BYTES: &[u8] = &[0, 0, 0, 1, b'/'];
    let mut holds = |at: u64, expected: &[u8]| {
        read_part(disk, name, at, expected.len()).is_ok_and(|found| found == expected)
    };
    holds(0, MAGIC)
        && (compression != Compression::None
            || bytes
                .checked_sub(LAST_BYTES.len() as u64)
                .is_some_and(|at| holds(at, LAST_BYTES)))
}
