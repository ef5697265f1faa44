//! A backup in a directory that goes on: logs are added to while the server writes them.
//!
//! What is in `manifest.json` is durable, and never more than that is relied on: logs only grow
//! after what it says of them, and it is replaced in one step. So the backup can be restored at any
//! moment, also when this was killed.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use zabra_core::ids::{UnixMillis, Zxid};
use zabra_core::jute;
use zabra_core::store::Restore as _;
use zabra_core::store::disk::Disk as _;
use zabra_core::store::names::{self, ACCEPTED_EPOCH, CURRENT_EPOCH};
use zabra_core::tree::Loader;
use zabra_core::wire::log::{End, RECORD_HEAD_BYTES, Record};
use zabra_core::wire::txn::TxnHeader;

use super::archive::{copy_durably, create_private_directory, now, partial, rename_durably};
use super::manifest::{self, FileEntry, copy_hashed, hash};
use super::source::{require_log, scan_log, store_directories};
use super::state::{follows, logs, snapshots};
use super::{Error, Manifest, format_time};
use crate::store::{self, Frozen, Part};

const LOCK: &str = "zabra.lock";

/// In how many rounds a log must seem damaged to be called so: a record that is being written looks
/// like that.
const SUSPECT_ROUNDS: u32 = 3;

/// Ships what a server writes into a backup.
pub struct Follower {
    sources: Vec<PathBuf>,
    /// As they were named.
    named: Vec<PathBuf>,
    out: PathBuf,
    files: BTreeMap<String, Copy>,
    /// The last transaction shipped, and its time.
    last: Option<(Zxid, UnixMillis)>,
    /// It was said that there is no log yet.
    waits: bool,
    /// A log that seemed damaged, where, and in how many rounds.
    suspect: Option<(String, u64, u32)>,
    /// Held as long as this lives.
    _lock: File,
}

/// A file of the backup, as far as it goes.
struct Copy {
    bytes: u64,
    /// Of these bytes.
    sha256: Sha256,
    /// Of a log: its last record.
    last: Option<LastRecord>,
}

/// What tells a record from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LastRecord {
    offset: u64,
    zxid: Zxid,
    checksum: u32,
}

/// What one round has added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shipped {
    /// Transactions.
    pub txns: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// Bytes of both.
    pub bytes: u64,
    /// The last transaction in the backup.
    pub last: Option<Zxid>,
    /// What the operator should hear of.
    pub warnings: Vec<String>,
}

/// Which of the snapshots that are not here yet are wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    /// Each, for the log does not lead to all of them.
    All,
    /// One.
    Newest,
}

impl Shipped {
    /// Whether anything was added or is to be said.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes == 0 && self.warnings.is_empty()
    }
}

impl Follower {
    /// Begins a backup in a directory, or goes on with the one that is there.
    ///
    /// # Errors
    /// The directory holds something else, a damaged backup, or is written by another process.
    pub fn open(sources: &[PathBuf], out: &Path) -> Result<Self, Error> {
        let below = out.join(store::VERSION);
        let text = out.join(manifest::NAME);
        if !text.is_file() && fs::read_dir(out).is_ok_and(|mut found| found.next().is_some()) {
            // A follower that was killed before it had anything left no more than this.
            refuse_foreign(out)?;
        }
        create_private_directory(out)?;
        create_private_directory(&below)?;
        let mut follower = Self {
            sources: store_directories(sources),
            named: sources.to_owned(),
            out: out.to_owned(),
            files: BTreeMap::new(),
            last: None,
            waits: false,
            suspect: None,
            _lock: lock(out)?,
        };
        if text.is_file() {
            follower.resume(&Manifest::read(&text)?)?;
        }
        Ok(follower)
    }

    /// Takes over what is there, as far as the manifest goes.
    fn resume(&mut self, manifest: &Manifest) -> Result<(), Error> {
        for entry in &manifest.files {
            let Some(name) = entry.store_name() else {
                continue;
            };
            let path = self.out.join(&entry.name);
            let part = Part::open(&path)?;
            entry.check(&part)?;
            let failed = |error| Error::at(&path, "read it", &error);
            let (_, sha256) = hash(&mut part.reader(0).take(entry.bytes)).map_err(failed)?;
            let mut copy = Copy {
                bytes: entry.bytes,
                sha256,
                last: None,
            };
            if names::parse_log(name).is_some() {
                let last = &mut self.last;
                scan_log(&part, 0, &mut |record| {
                    if record.end() > entry.bytes {
                        return None;
                    }
                    copy.last = Some(LastRecord::of(&record));
                    *last = (*last).max(seen(&record));
                    Some(())
                })?;
            }
            self.files.insert(name.to_owned(), copy);
        }
        Ok(())
    }

    /// Ships what is new.
    ///
    /// # Errors
    /// The source cannot be read or the backup not be written. What was shipped before is still
    /// there; the next round tries again.
    pub fn round(&mut self) -> Result<Shipped, Error> {
        let files = Frozen::open(&self.sources)?;
        let mut shipped = Shipped::default();
        if let Err(error) = require_log(&self.named, &files) {
            // A server that has just begun has none yet.
            if snapshots(&files).any(|(zxid, _)| zxid > Zxid::ZERO) {
                return Err(error);
            }
            if !self.waits {
                shipped
                    .warnings
                    .push(format!("{error}; waiting for the first log"));
            }
            self.waits = true;
        }
        let removed = self.take_back(&files, &mut shipped)?;
        if self.snapshots().next().is_none() {
            self.ship_snapshots(&files, Which::Newest, &mut shipped)?;
        }
        // The log first, before more of it is purged; a snapshot only spares a restore some of it,
        // unless it was purged already.
        let gap = self.ship_logs(&files, &mut shipped)?;
        self.ship_epochs(&files)?;
        if shipped.bytes > 0 || removed {
            self.commit()?;
        }
        let which = if gap { Which::All } else { Which::Newest };
        if self.ship_snapshots(&files, which, &mut shipped)? {
            self.commit()?;
        }
        shipped.last = self.last.map(|(zxid, _)| zxid);
        Ok(shipped)
    }

    /// Makes what was shipped part of the backup.
    fn commit(&self) -> Result<(), Error> {
        store::sync_directory(&self.out.join(store::VERSION))?;
        self.write_manifest()
    }

    /// Forgets what the server has taken back: transactions that were never committed.
    ///
    /// Purging takes away the oldest logs, so what is not there any more and not older than all
    /// that is there was taken back; and so was a record that is another one now.
    fn take_back(&mut self, files: &Frozen, shipped: &mut Shipped) -> Result<bool, Error> {
        let Some((oldest, _)) = logs(files).next() else {
            return Ok(false);
        };
        let ours = self.files.iter();
        let mut ours: Vec<_> = ours
            .filter_map(|(name, copy)| Some((names::parse_log(name)?, name, copy)))
            .filter(|(first, ..)| *first >= oldest)
            .collect();
        ours.sort_unstable_by_key(|(first, ..)| *first);
        let mut gone = Vec::new();
        for (first, name, copy) in ours.into_iter().rev() {
            let same = match (files.part(name), copy.last) {
                (None, _) => false,
                (Some(part), Some(last)) => last.is_in(part)?,
                (Some(_), None) => true,
            };
            if same {
                // The end is taken back, so what is before this is the same, too.
                break;
            }
            gone.push((first, name.clone()));
        }
        for (first, name) in &gone {
            self.files.remove(name);
            shipped.warnings.push(format!(
                "the server took back transactions of {name}, from {first} on, that were not \
                 committed; they are taken back here too"
            ));
        }
        if gone.is_empty() {
            return Ok(false);
        }
        self.last = None;
        for name in self.files.keys().cloned().collect::<Vec<_>>() {
            let Some(last) = self.files.get(&name).and_then(|copy| copy.last) else {
                continue;
            };
            if self.last.is_none_or(|(zxid, _)| zxid < last.zxid) {
                self.last = Some((last.zxid, self.time_of(&name, last)?));
            }
        }
        // The manifest first: what it names must be there.
        self.write_manifest()?;
        for (_, name) in &gone {
            let path = self.path(name);
            fs::remove_file(&path).map_err(|error| Error::at(&path, "remove it", &error))?;
        }
        Ok(true)
    }

    fn time_of(&self, name: &str, last: LastRecord) -> Result<UnixMillis, Error> {
        let part = Part::open(&self.path(name))?;
        let mut time = UnixMillis(0);
        scan_log(&part, last.offset, &mut |record| {
            time = seen(&record).map_or(time, |(_, time)| time);
            None
        })?;
        Ok(time)
    }

    /// Ships snapshots that are whole and newer than those that are here; says whether there were
    /// any.
    fn ship_snapshots(
        &mut self,
        files: &Frozen,
        which: Which,
        shipped: &mut Shipped,
    ) -> Result<bool, Error> {
        let newest = self.snapshots().max();
        let before = shipped.snapshots;
        let later = |zxid: &Zxid| newest.is_none_or(|newest| *zxid > newest);
        for (zxid, name) in snapshots(files).rev() {
            if !later(&zxid) {
                break;
            }
            let Some(part) = files.part(&name) else {
                continue;
            };
            // Apache ZooKeeper writes it under its name, so it may not be whole yet.
            if !is_whole(files, zxid, &name) {
                continue;
            }
            let path = self.path(&name);
            let temporary = partial(&path);
            copy_durably(&mut part.reader(0), &temporary)?;
            rename_durably(&temporary, &path)?;
            let failed = |error| Error::at(&path, "read it", &error);
            let (bytes, sha256) = hash(&mut part.reader(0)).map_err(failed)?;
            let last = None;
            self.files.insert(
                name,
                Copy {
                    bytes,
                    sha256,
                    last,
                },
            );
            shipped.snapshots += 1;
            shipped.bytes += bytes;
            if which == Which::Newest {
                break;
            }
        }
        Ok(shipped.snapshots > before)
    }

    /// The zxids of the snapshots that are here.
    fn snapshots(&self) -> impl Iterator<Item = Zxid> + Clone {
        let names = self.files.keys();
        names.filter_map(|name| Some(names::parse_snapshot(name)?.0))
    }

    /// Ships what was added to the logs; says whether something is missing before that.
    fn ship_logs(&mut self, files: &Frozen, shipped: &mut Shipped) -> Result<bool, Error> {
        let mut gap = false;
        let base = self.snapshots().min().unwrap_or(Zxid::ZERO);
        let all: Vec<_> = logs(files).collect();
        // As recovery does: all logs that begin after it, and the one before these.
        let later = all.partition_point(|(first, _)| *first <= base);
        for (first, name) in all.into_iter().skip(later.saturating_sub(1)) {
            if let Some(part) = files.part(&name) {
                gap |= self.ship_log(first, &name, part, shipped)?;
            }
        }
        Ok(gap)
    }

    fn ship_log(
        &mut self,
        first: Zxid,
        name: &str,
        part: &Part,
        shipped: &mut Shipped,
    ) -> Result<bool, Error> {
        let from = self.files.get(name).map_or(0, |copy| copy.bytes);
        if from > 0 && !has_more(part, from)? {
            return Ok(false);
        }
        let mut last = None;
        let mut newest = None;
        let mut txns = 0;
        // Whatever follows the last whole record may be one that is being written.
        let log_end = scan_log(part, from, &mut |record| {
            last = Some(LastRecord::of(&record));
            newest = Some((record.end(), seen(&record)));
            txns += 1;
            Some(())
        })?;
        let Some((end, seen)) = newest else {
            self.suspect(name, part, log_end, shipped);
            return Ok(false);
        };
        let mut gap = false;
        if from == 0 {
            // What came before is in the last log that is here, or in the snapshot it began with.
            let before = self
                .last
                .map(|(zxid, _)| zxid)
                .or_else(|| self.snapshots().min());
            let before = before.unwrap_or_default();
            gap = !follows(before, first);
            if gap {
                shipped.warnings.push(format!(
                    "the server purged transactions after {before} and before {first} before they \
                     were shipped; states from {before} to the next snapshot cannot be restored"
                ));
            }
        }
        let copy = self.append(name, part, from, end)?;
        copy.last = last;
        self.last = self.last.max(seen);
        shipped.txns += txns;
        shipped.bytes += end - from;
        Ok(gap)
    }

    /// Says once that a log is damaged, when it has been for some rounds.
    fn suspect(&mut self, name: &str, part: &Part, end: Option<End>, shipped: &mut Shipped) {
        let Some(End::Damaged(damage)) = end else {
            return;
        };
        let rounds = match &self.suspect {
            Some((before, offset, rounds)) if before == name && *offset == damage.offset => {
                rounds.saturating_add(1)
            }
            _ => 1,
        };
        if rounds == SUSPECT_ROUNDS {
            let place = part.location();
            shipped.warnings.push(format!(
                "{place}: {damage}; nothing after that can be shipped, look at the server and its \
                 disk"
            ));
        }
        self.suspect = Some((name.to_owned(), damage.offset, rounds));
    }

    /// Copies bytes to the end of our file, durably.
    fn append(&mut self, name: &str, part: &Part, from: u64, end: u64) -> Result<&mut Copy, Error> {
        let path = self.path(name);
        let failed = |error: io::Error| Error::at(&path, "write it", &error);
        let mut open = OpenOptions::new();
        let open = open.write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(open, 0o600);
        let mut file = open.open(&path).map_err(failed)?;
        // What is beyond was written before we were killed.
        file.set_len(from).map_err(failed)?;
        file.seek(SeekFrom::Start(from)).map_err(failed)?;
        let copy = self.files.entry(name.to_owned()).or_insert_with(|| Copy {
            bytes: 0,
            sha256: Sha256::new(),
            last: None,
        });
        let mut content = part.reader(from).take(end - from);
        let mut sha256 = copy.sha256.clone();
        let bytes = copy_hashed(&mut content, &mut sha256, &mut file).map_err(failed)?;
        if bytes < end - from {
            return Err(Error::new(format!(
                "{}: it was cut while it was read; the next round takes that back",
                part.location()
            )));
        }
        file.sync_all().map_err(failed)?;
        copy.sha256 = sha256;
        copy.bytes = end;
        Ok(copy)
    }

    fn ship_epochs(&mut self, files: &Frozen) -> Result<(), Error> {
        for name in [ACCEPTED_EPOCH, CURRENT_EPOCH] {
            let Some(part) = files.part(name) else {
                continue;
            };
            let path = self.path(name);
            let failed = |error| Error::at(&path, "read it", &error);
            let (bytes, sha256) = hash(&mut part.reader(0)).map_err(failed)?;
            let before = self
                .files
                .get(name)
                .map(|copy| copy.sha256.clone().finalize());
            if before == Some(sha256.clone().finalize()) {
                continue;
            }
            let temporary = partial(&path);
            copy_durably(&mut part.reader(0).take(bytes), &temporary)?;
            rename_durably(&temporary, &path)?;
            let last = None;
            self.files.insert(
                name.to_owned(),
                Copy {
                    bytes,
                    sha256,
                    last,
                },
            );
        }
        Ok(())
    }

    fn write_manifest(&self) -> Result<(), Error> {
        let source: Vec<_> = self
            .sources
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let mut manifest = Manifest::new(source.join(", "), now());
        let bases = self.snapshots();
        let base = bases.clone().min().unwrap_or_default();
        let newest = bases.max().max(self.last.map(|(zxid, _)| zxid));
        manifest.first_zxid = base.to_string();
        manifest.last_zxid = newest.unwrap_or_default().to_string();
        manifest.last_time = self.last.map(|(_, time)| format_time(time));
        let entry =
            |(name, copy): (&String, &Copy)| FileEntry::new(name, copy.bytes, copy.sha256.clone());
        manifest.files = self.files.iter().map(entry).collect();
        let path = self.out.join(manifest::NAME);
        let temporary = partial(&path);
        copy_durably(&mut manifest.to_text().as_slice(), &temporary)?;
        rename_durably(&temporary, &path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.out.join(store::VERSION).join(name)
    }
}

impl LastRecord {
    const fn of(record: &Record<'_>) -> Self {
        Self {
            offset: record.offset,
            zxid: record.zxid,
            checksum: record.checksum,
        }
    }

    /// Whether it is still where it was.
    fn is_in(self, part: &Part) -> Result<bool, Error> {
        let mut found = None;
        scan_log(part, self.offset, &mut |record| {
            found = Some(Self::of(&record));
            None
        })?;
        Ok(found == Some(self))
    }
}

/// Whether something was written after `offset`: most rounds end with this, over zeros.
fn has_more(part: &Part, offset: u64) -> Result<bool, Error> {
    let mut head = Vec::new();
    let mut content = part.reader(offset).take(RECORD_HEAD_BYTES as u64);
    let failed = |error| Error::at(Path::new(part.location()), "read it", &error);
    content.read_to_end(&mut head).map_err(failed)?;
    Ok(head.iter().any(|byte| *byte != 0))
}

/// Whether a snapshot can be read.
fn is_whole(files: &Frozen, zxid: Zxid, name: &str) -> bool {
    let mut loader = Loader::new(1, true);
    loader.snapshot_begin(zxid);
    let mut files = files.clone();
    let mut taken = true;
    let mut sink = |bytes: &[u8]| {
        taken = loader.snapshot_chunk(bytes).is_ok();
        if taken {
            core::ops::ControlFlow::Continue(())
        } else {
            core::ops::ControlFlow::Break(())
        }
    };
    let read = files.read(name, 0, &mut sink).is_ok();
    read && taken && loader.snapshot_end().is_ok()
}

fn seen(record: &Record<'_>) -> Option<(Zxid, UnixMillis)> {
    let mut input = record.payload;
    let header: TxnHeader = jute::take(&mut input).ok()?;
    Some((record.zxid, header.time))
}

/// Only a directory of an earlier round may be used.
fn refuse_foreign(out: &Path) -> Result<(), Error> {
    let found = fs::read_dir(out).map_err(|error| Error::at(out, "list it", &error))?;
    let names = found.filter_map(|entry| Some(entry.ok()?.file_name()));
    let known = [store::VERSION, LOCK, "manifest.json.partial"];
    let mut others = names.filter(|name| !known.iter().any(|known| *known == name));
    match others.next() {
        None => Ok(()),
        Some(other) => Err(Error::new(format!(
            "{}: expected an empty directory or a backup, found {}; name another directory",
            out.display(),
            other.display()
        ))),
    }
}

fn lock(out: &Path) -> Result<File, Error> {
    let path = out.join(LOCK);
    let failed = |error: io::Error| Error::at(&path, "open it", &error);
    let mut open = OpenOptions::new();
    let open = open.write(true).create(true).truncate(false);
    let file = open.open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::Error(error)) => Err(failed(error)),
        Err(TryLockError::WouldBlock) => Err(Error::new(format!(
            "{}: another process writes this backup; stop it, or name another directory",
            out.display()
        ))),
    }
}
