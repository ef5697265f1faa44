//! Which snapshots and logs are needed no more.
//!
//! Source: ZooKeeper `PurgeTxnLog`, but only snapshots that look whole count.

use alloc::string::String;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use crate::ids::Zxid;
use crate::store::disk::{Disk, read_part};
use crate::store::names::{self, Compression};

/// What [`plan`] decides by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    /// The zxid in its name.
    pub zxid: Zxid,
    /// Its name.
    pub name: String,
    /// Whether it looks whole.
    pub valid: bool,
}

/// What is needed no more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Snapshots, oldest first.
    pub snapshots: Vec<String>,
    /// Logs, oldest first.
    pub logs: Vec<String>,
}

/// Decides what is needed no more when the `keep` newest valid snapshots are kept, with every log
/// that one of them needs.
///
/// With fewer valid snapshots than that, everything is needed. Neither list need be sorted.
#[must_use]
pub fn plan(
    mut snapshots: Vec<SnapshotFile>,
    mut logs: Vec<(Zxid, String)>,
    keep: NonZeroU32,
) -> Plan {
    snapshots.sort_unstable_by(|a, b| (a.zxid, &a.name).cmp(&(b.zxid, &b.name)));
    logs.sort_unstable();
    // One snapshot in two compressions is one to fall back to.
    let mut valid: Vec<Zxid> = snapshots
        .iter()
        .filter(|file| file.valid)
        .map(|file| file.zxid)
        .collect();
    valid.dedup();
    let spared = keep.get() as usize - 1;
    let Some(oldest) = valid.iter().rev().nth(spared).copied() else {
        return Plan::default();
    };
    // The log before the first that begins after `oldest` holds the transactions that follow it.
    let later = logs.partition_point(|(first, _)| *first <= oldest);
    logs.truncate(later.saturating_sub(1));
    Plan {
        snapshots: snapshots
            .into_iter()
            .filter(|file| file.zxid < oldest)
            .map(|file| file.name)
            .collect(),
        logs: logs.into_iter().map(|(_, name)| name).collect(),
    }
}

/// Plans for what is on disk, and removes it; returns what was removed.
///
/// May run while a log or a snapshot is being written. A crash half way leaves what is needed.
///
/// # Errors
/// A directory cannot be read, or a file not be removed.
pub fn purge<D: Disk>(logs: &mut D, snapshots: &mut D, keep: NonZeroU32) -> Result<Plan, D::Error> {
    let mut found = Vec::new();
    for entry in snapshots.list()? {
        if let Some((zxid, compression)) = names::parse_snapshot(&entry.name) {
            found.push(SnapshotFile {
                zxid,
                valid: looks_whole(snapshots, &entry.name, entry.bytes, compression),
                name: entry.name,
            });
        }
    }
    let found_logs = logs.list()?.into_iter();
    let found_logs =
        found_logs.filter_map(|entry| Some((names::parse_log(&entry.name)?, entry.name)));
    let plan = plan(found, found_logs.collect(), keep);
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
