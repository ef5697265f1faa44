//! The order in which transactions must stand in the log.

use alloc::borrow::ToOwned;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use crate::ids::Zxid;
use crate::store::Restore;
use crate::wire::log::{End, Record};

use super::{LogError, Note};

/// How many transactions back one may stand in the log again.
///
/// A ZooKeeper follower writes the proposals it had not committed again when it synchronises anew;
/// they are at most as many as a leader lets be outstanding.
const REPEATED_TXNS_MAX: usize = 1 << 16;

/// The transactions read so far, and what may come next.
#[derive(Debug)]
pub(in crate::store) struct Replay {
    snapshot: Option<Zxid>,
    /// The last one replayed, or what was there before the first.
    last: Zxid,
    /// The greatest one read, replayed or not.
    seen: Zxid,
    txns: u64,
    log_bytes: u64,
    /// By ascending zxid: what identifies each of the last ones replayed.
    recent: VecDeque<(Zxid, Fingerprint)>,
    file: File,
    /// A file that ended early, of which it is not known yet whether records follow.
    interrupted: Option<Interrupted>,
}

/// Checksum and length of a payload.
type Fingerprint = (u32, usize);

#[derive(Debug, Default)]
struct File {
    location: String,
    named_first: Zxid,
    has_records: bool,
}

#[derive(Debug)]
struct Interrupted {
    location: String,
    /// `None`: not even its header was written.
    torn_at: Option<u64>,
}

impl Replay {
    pub(in crate::store) fn new(snapshot: Option<Zxid>) -> Self {
        Self {
            snapshot,
            last: snapshot.unwrap_or(Zxid::ZERO),
            seen: Zxid::ZERO,
            txns: 0,
            log_bytes: 0,
            recent: VecDeque::new(),
            file: File::default(),
            interrupted: None,
        }
    }

    pub(in crate::store) const fn last(&self) -> Zxid {
        self.last
    }

    pub(super) const fn seen(&self) -> Zxid {
        self.seen
    }

    pub(super) const fn txns(&self) -> u64 {
        self.txns
    }

    pub(super) const fn log_bytes(&self) -> u64 {
        self.log_bytes
    }

    /// Whether there are log records, but none as new as the snapshot.
    pub(super) fn ends_before(&self, snapshot: Zxid) -> bool {
        self.seen > Zxid::ZERO && self.seen < snapshot
    }

    pub(in crate::store) fn begin_file(&mut self, named_first: Zxid, location: &str) {
        self.file = File {
            location: location.to_owned(),
            named_first,
            has_records: false,
        };
    }

    pub(in crate::store) fn end_file(&mut self, end: &End) {
        let torn_at = match end {
            End::Clean { .. } | End::Damaged(_) => return,
            End::NoHeader => None,
            End::Torn { at } => Some(*at),
        };
        // The earliest one counts: nothing may be missing there if records follow.
        self.interrupted.get_or_insert_with(|| Interrupted {
            location: self.file.location.clone(),
            torn_at,
        });
    }

    /// Takes the next record of the current file.
    pub(in crate::store) fn record<R: Restore>(
        &mut self,
        record: Record<'_>,
        restore: &mut R,
        notes: &mut Vec<Note>,
    ) -> Result<(), LogError<R::Error>> {
        let zxid = record.zxid;
        if !self.file.has_records {
            self.begin_records(zxid, notes)?;
        }
        self.seen = self.seen.max(zxid);
        if self.snapshot.is_some_and(|name| zxid <= name) {
            return Ok(());
        }
        if zxid <= self.last {
            return self.repeated(record);
        }
        if self.snapshot.is_none() && self.txns == 0 && zxid != Zxid(1) {
            return Err(LogError::NoSnapshot { first: zxid });
        }
        if !follows(self.last, zxid) {
            return Err(LogError::Gap {
                offset: record.offset,
                after: self.last,
                found: zxid,
            });
        }
        restore
            .txn(record.payload)
            .map_err(|error| LogError::Undecodable {
                offset: record.offset,
                zxid,
                error,
            })?;
        self.replayed(record);
        Ok(())
    }

    fn replayed(&mut self, record: Record<'_>) {
        self.last = record.zxid;
        self.txns += 1;
        self.log_bytes += record.end() - record.offset;
        if self.recent.len() == REPEATED_TXNS_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back((record.zxid, fingerprint(record)));
    }

    /// Checks the name of a file by its first record, and what the files before it ended with.
    fn begin_records<E>(&mut self, zxid: Zxid, notes: &mut Vec<Note>) -> Result<(), LogError<E>> {
        self.file.has_records = true;
        if zxid != self.file.named_first {
            return Err(LogError::Misnamed {
                named: self.file.named_first,
                found: zxid,
            });
        }
        let Some(interrupted) = self.interrupted.take() else {
            return Ok(());
        };
        let after = self.seen.max(self.snapshot.unwrap_or(Zxid::ZERO));
        let goes_on = epoch(zxid) == epoch(after) && zxid.0 <= after.0.saturating_add(1);
        match interrupted.torn_at {
            // ZooKeeper leaves a torn end where it is and begins a new file with the transaction
            // that was torn, or that came in its place.
            Some(at) if goes_on => {
                notes.push(Note::TornEndPassed {
                    file: interrupted.location,
                    at,
                    next: zxid,
                });
                Ok(())
            }
            torn_at => Err(LogError::Interrupted {
                earlier: interrupted.location,
                at: torn_at.unwrap_or(0),
                after,
                found: zxid,
            }),
        }
    }

    /// A transaction may stand in the log twice, but not two with the same zxid.
    fn repeated<E>(&self, record: Record<'_>) -> Result<(), LogError<E>> {
        let found = self
            .recent
            .binary_search_by_key(&record.zxid, |(zxid, _)| *zxid);
        let earlier = found.ok().and_then(|index| self.recent.get(index));
        match earlier {
            Some((_, earlier)) if *earlier == fingerprint(record) => Ok(()),
            Some(_) => Err(LogError::Differs {
                offset: record.offset,
                zxid: record.zxid,
            }),
            None => Err(LogError::Backwards {
                offset: record.offset,
                after: self.last,
                found: record.zxid,
            }),
        }
    }
}

const fn fingerprint(record: Record<'_>) -> Fingerprint {
    (record.checksum, record.payload.len())
}

/// Whether no transaction can be missing between the two: zxids of an epoch have no gaps and begin
/// with 1.
fn follows(last: Zxid, zxid: Zxid) -> bool {
    last.0.checked_add(1) == Some(zxid.0)
        || (epoch(zxid) > epoch(last) && zxid.0 & 0xffff_ffff == 1)
}

const fn epoch(zxid: Zxid) -> i64 {
    zxid.0 >> 32
}
