//! What a data directory or a backup holds at one zxid.

use core::fmt;
use std::vec;

use zabra_core::ids::{UnixMillis, Zxid};
use zabra_core::jute;
use zabra_core::store::Restore;
use zabra_core::store::names;
use zabra_core::store::recovery::{Note, RecoverError, recover};
use zabra_core::tree::{LoadError, Loader, Tree};
use zabra_core::wire::txn::TxnHeader;

use super::source::settle;
use super::{Error, format_time, read_log};
use crate::store::Frozen;

/// Which state is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// The last one.
    Newest,
    /// The last one of which no transaction has a later time.
    Time(UnixMillis),
    /// The one after this transaction.
    Zxid(Zxid),
}

/// A state, and how it came about.
pub struct State {
    /// The znodes and sessions.
    pub tree: Tree,
    /// After which transaction.
    pub zxid: Zxid,
    /// The name of the snapshot it began with.
    pub snapshot: Option<Zxid>,
    /// How many transactions followed that.
    pub txns: u64,
    /// The time of the last of these.
    pub time: Option<UnixMillis>,
    /// What a server would log when it started from there.
    pub notes: Vec<Note>,
    /// The first transaction after which the tree is not what the log says that it is.
    pub mismatch: Option<Zxid>,
    /// The snapshot was written while the tree changed, and is only a state once the log was
    /// replayed up to here, which is later than `zxid`.
    pub fuzzy_until: Option<Zxid>,
}

impl State {
    /// Reads the state of these files at a point.
    ///
    /// # Errors
    /// It cannot be had from them, or they are damaged: the reason, as the server would give it.
    pub fn read(files: &Frozen, point: Point) -> Result<Self, Error> {
        let mut files = files.clone();
        Self::replay(&mut files, point)
    }

    /// The same, and leaves in `files` what a server would keep: a write cut short is cut off.
    ///
    /// # Errors
    /// As of [`State::read`].
    pub fn replay(files: &mut Frozen, point: Point) -> Result<Self, Error> {
        settle(files)?;
        let target = match point {
            Point::Newest => None,
            Point::Time(time) => Some(last_until(files, time)?),
            Point::Zxid(zxid) => Some(zxid),
        };
        if let Some(target) = target {
            leave_out_later(files, target)?;
        }
        let mut past = Past::new(target.unwrap_or(Zxid(i64::MAX)), target.is_some());
        let mut snapshots = files.clone();
        let recovered = recover(files, &mut snapshots, &mut past).map_err(|error| told(&error))?;
        let (tree, mismatches) = past.loader.finish_with_orphans();
        let zxid = tree.last_zxid();
        if let Point::Zxid(target) = point
            && zxid != target
        {
            return Err(Error::new(format!(
                "expected transaction {target}, found none; the last one before it is {zxid}, \
                 choose that, or a newer backup"
            )));
        }
        Ok(Self {
            zxid,
            snapshot: recovered.snapshot,
            txns: past.txns,
            time: past.time,
            notes: recovered.notes,
            mismatch: mismatches.first().copied(),
            fuzzy_until: past.settled.filter(|settled| *settled > zxid),
            tree,
        })
    }
}

/// Takes what recovery reads, up to one transaction.
struct Past {
    loader: Loader,
    upto: Zxid,
    /// Whether a snapshot must be a state at `upto` by itself and the log up to there.
    strict: bool,
    txns: u64,
    time: Option<UnixMillis>,
    /// The last transaction of which the snapshot holds something.
    settled: Option<Zxid>,
}

/// Why something that was read is not taken.
#[derive(Debug)]
enum PastError {
    Fuzzy { settled: Zxid, upto: Zxid },
    Load(LoadError),
}

impl Past {
    fn new(upto: Zxid, strict: bool) -> Self {
        Self {
            loader: Loader::new(1, true),
            upto,
            strict,
            txns: 0,
            time: None,
            settled: None,
        }
    }
}

impl Restore for Past {
    type Error = PastError;

    fn snapshot_begin(&mut self, zxid: Zxid) {
        self.settled = None;
        self.loader.snapshot_begin(zxid);
    }

    fn snapshot_chunk(&mut self, bytes: &[u8]) -> Result<(), PastError> {
        self.loader.snapshot_chunk(bytes).map_err(PastError::Load)
    }

    fn snapshot_end(&mut self) -> Result<(), PastError> {
        self.loader.snapshot_end().map_err(PastError::Load)?;
        let settled = newest(self.loader.tree()).max(self.loader.fuzzy_until());
        self.settled = settled;
        match settled {
            Some(settled) if self.strict && settled > self.upto => Err(PastError::Fuzzy {
                settled,
                upto: self.upto,
            }),
            _ => Ok(()),
        }
    }

    fn txn(&mut self, payload: &[u8]) -> Result<(), PastError> {
        let mut input = payload;
        let header: TxnHeader =
            jute::take(&mut input).map_err(|error| PastError::Load(error.into()))?;
        if header.zxid > self.upto {
            return Ok(());
        }
        self.loader.txn(payload).map_err(PastError::Load)?;
        self.txns += 1;
        self.time = Some(header.time);
        Ok(())
    }
}

impl fmt::Display for PastError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fuzzy { settled, upto } => write!(
                f,
                "it was written while the tree changed and has some of what happened until \
                 {settled}, so it is no beginning for the state at {upto}"
            ),
            Self::Load(error) => error.fmt(f),
        }
    }
}

/// The newest transaction that a znode tells of.
fn newest(tree: &Tree) -> Option<Zxid> {
    let root = tree.find("/")?;
    let zxids = tree.walk(root).map(|id| {
        let stat = tree.stat_persisted(id);
        stat.czxid.max(stat.mzxid).max(stat.pzxid)
    });
    zxids.max()
}

/// The last transaction before the first with a later time.
fn last_until(files: &Frozen, time: UnixMillis) -> Result<Zxid, Error> {
    let mut before = None;
    let mut later = None;
    for (_, name) in logs(files) {
        let Some(part) = files.part(&name) else {
            continue;
        };
        read_log(part, &mut |record| {
            let mut input = record.payload;
            let header: TxnHeader = jute::take(&mut input).ok()?;
            if header.time.0 > time.0 {
                later = Some(header);
                return None;
            }
            before = before.max(Some(record.zxid));
            Some(())
        })?;
        if later.is_some() {
            break;
        }
    }
    match (before, later) {
        (Some(before), Some(later)) if !follows(before, later.zxid) => Err(Error::new(format!(
            "expected to know what happened until {}, found no transactions between {before} and \
             {}; choose {before} with --zxid, or a time from {} on",
            format_time(time),
            later.zxid,
            format_time(later.time)
        ))),
        (Some(zxid), _) => Ok(zxid),
        (None, Some(first)) => Err(Error::new(format!(
            "expected a time after the first transaction that is there, {} of {}, found {}; choose \
             a later time, or an older backup",
            first.zxid,
            format_time(first.time),
            format_time(time)
        ))),
        (None, None) => Err(Error::new(
            "there is no transaction, so no time is known; leave out --time",
        )),
    }
}

/// Takes away the files that have nothing from before `target`, so that nothing that is wrong with
/// them matters.
fn leave_out_later(files: &mut Frozen, target: Zxid) -> Result<(), Error> {
    let first_snapshot = snapshots(files).next();
    let first_log = logs(files).next();
    let oldest = match (first_snapshot, first_log) {
        // From the first transaction of all, no snapshot is needed.
        (_, Some((Zxid(1), _))) | (None, _) => Zxid::ZERO,
        (Some((zxid, _)), _) => zxid,
    };
    if target < oldest {
        return Err(Error::new(format!(
            "expected a point at or after the oldest snapshot, {oldest}, found {target}; choose a \
             later point, or an older backup"
        )));
    }
    files.retain(|name| {
        let snapshot = names::parse_snapshot(name).map(|found| found.0);
        let first = snapshot.or_else(|| names::parse_log(name));
        first.is_none_or(|first| first <= target)
    });
    Ok(())
}

/// Whether no transaction can be missing between the two: zxids of an epoch have no gaps and begin
/// with 1.
pub(super) const fn follows(before: Zxid, zxid: Zxid) -> bool {
    zxid.0 <= before.0.saturating_add(1) || zxid.counter() == 1
}

/// The logs in their order.
pub(super) fn logs(files: &Frozen) -> vec::IntoIter<(Zxid, String)> {
    sorted(files, names::parse_log)
}

/// The snapshots in their order.
pub(super) fn snapshots(files: &Frozen) -> vec::IntoIter<(Zxid, String)> {
    sorted(files, |name| Some(names::parse_snapshot(name)?.0))
}

fn sorted(files: &Frozen, zxid: impl Fn(&str) -> Option<Zxid>) -> vec::IntoIter<(Zxid, String)> {
    let names = files.parts().map(|(name, _)| name);
    let mut found: Vec<_> = names
        .filter_map(|name| Some((zxid(name)?, name.to_owned())))
        .collect();
    found.sort_unstable();
    found.into_iter()
}

fn told(error: &RecoverError<crate::store::Error, PastError>) -> Error {
    Error::new(error.to_string())
}
