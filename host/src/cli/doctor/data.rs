//! What is wrong with a data directory, without touching it.

use core::ops::ControlFlow;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use zabra_core::ids::Zxid;
use zabra_core::store::disk::{Disk, Entry};
use zabra_core::store::names;
use zabra_core::store::recovery::{Recovered, recover};
use zabra_core::tree::{Loader, Tree};

use super::config::others_may_read;
use super::disk::{self, Measure};
use super::finding::{Finding, Weight};
use crate::store::{Error, FsDisk};

/// A start that replays more takes minutes.
const REPLAY_TXNS_RISKY: u64 = 2_000_000;
const REPLAY_BYTES_RISKY: u64 = 2 << 30;

/// More snapshots than this nobody keeps on purpose.
const SNAPSHOTS_RISKY: usize = 20;

/// The last sixteenth of an epoch's numbers: at their end a leader has to go (ZOOKEEPER-1277).
const COUNTER_RISKY: i64 = 0xf000_0000;

/// Half of `jute.maxbuffer`'s default: a list, or data, that clients soon cannot read.
pub(super) const ANSWER_BYTES_RISKY: usize = 512 << 10;

/// Not more of them are named.
const NAMED_MAX: usize = 5;

/// Looks at one directory, which holds snapshots, logs, or both.
pub(super) fn look(directory: &Path, measure: Measure) -> Vec<Finding> {
    let mut findings = Vec::new();
    let versioned = directory.join("version-2");
    let files = if versioned.is_dir() {
        versioned
    } else {
        directory.to_owned()
    };
    my_id(directory, &mut findings);
    look_at(&files, &files, &mut findings);
    disk::look(&files, None, measure, &mut findings);
    findings
}

/// Looks at what snapshots and logs hold.
pub(super) fn look_at(snapshots: &Path, logs: &Path, findings: &mut Vec<Finding>) {
    let about = snapshots.display().to_string();
    let (found_snapshots, found_logs) = match (names_of(snapshots), names_of(logs)) {
        (Ok(snapshots), Ok(logs)) => (snapshots, logs),
        (Err(error), _) | (_, Err(error)) => {
            findings.push(Finding::new(Weight::Wrong, about, error, ""));
            return;
        }
    };
    let is_snapshot = |name: &&String| names::parse_snapshot(name).is_some();
    let is_log = |name: &&String| names::parse_log(name).is_some();
    let snapshot_count = found_snapshots.iter().filter(is_snapshot).count();
    let log_count = found_logs.iter().filter(is_log).count();
    if snapshot_count > SNAPSHOTS_RISKY {
        findings.push(Finding::new(
            Weight::Risk,
            &about,
            format!("there are {snapshot_count} snapshots: nothing is purged"),
            "set autopurge.purgeInterval=1, or call zkCleanup.sh",
        ));
    }
    if others_may_read(snapshots) {
        findings.push(Finding::new(
            Weight::Risk,
            &about,
            "every user of this machine may read it, whatever the ACLs of znodes say",
            "chmod o-rwx",
        ));
    }
    match (snapshot_count, log_count) {
        (0, 0) => findings.push(Finding::new(
            Weight::Note,
            &about,
            "there is no data: neither a snapshot nor a log",
            "",
        )),
        (0, _) => findings.push(Finding::new(
            Weight::Note,
            &about,
            "there are logs only: what they hold was not looked at",
            "name the zoo.cfg, which says where snapshots are",
        )),
        _ if is_in_use(snapshots) => findings.push(Finding::new(
            Weight::Note,
            &about,
            "a server runs on it: what the files hold was not looked at",
            "ask the server: zabra doctor HOST:PORT",
        )),
        _ => {
            if log_count == 0 {
                findings.push(Finding::new(
                    Weight::Note,
                    &about,
                    "there are snapshots only: if dataLogDir is elsewhere, what came after them was \
                     not looked at",
                    "name the zoo.cfg, which says where logs are",
                ));
            }
            content(&about, snapshots, logs, findings);
        }
    }
}

fn content(about: &str, snapshots: &Path, logs: &Path, findings: &mut Vec<Finding>) {
    let mut loader = Loader::new(0, true);
    let mut snapshots = Untouched(FsDisk::unlocked(snapshots.to_owned()));
    let mut logs = Untouched(FsDisk::unlocked(logs.to_owned()));
    let found = match recover(&mut logs, &mut snapshots, &mut loader) {
        Ok(found) => found,
        Err(error) => {
            let error = crate::Error::from(error);
            findings.push(Finding::new(
                Weight::Wrong,
                about,
                format!("a server would not start: {error}"),
                "in an ensemble, move the files away and let the leader send the state; alone, \
                 restore a backup",
            ));
            return;
        }
    };
    for note in &found.notes {
        findings.push(Finding::new(Weight::Risk, about, note.to_string(), ""));
    }
    history(about, &found, findings);
    let (tree, mismatches) = loader.finish_with_orphans();
    if let Some(first) = mismatches.first() {
        findings.push(Finding::new(
            Weight::Wrong,
            about,
            format!(
                "the digests of {} transactions, {first} the first, are not those of the state: it \
                 is not what was written",
                mismatches.len()
            ),
            "in an ensemble, move the files away and let the leader send the state",
        ));
    }
    findings.push(Finding::new(
        Weight::Note,
        about,
        format!(
            "the state can be read up to zxid {}: {} znodes, {} MiB, {} sessions",
            found.last,
            tree.node_count(),
            tree.data_size() >> 20,
            tree.sessions().len(),
        ),
        "",
    ));
    znodes(about, &tree, findings);
}

fn history(about: &str, found: &Recovered, findings: &mut Vec<Finding>) {
    if found.txns > REPLAY_TXNS_RISKY || found.log_bytes > REPLAY_BYTES_RISKY {
        findings.push(Finding::new(
            Weight::Risk,
            about,
            format!(
                "the newest snapshot is old: a start replays {} transactions, {} MiB of log",
                found.txns,
                found.log_bytes >> 20
            ),
            "lower snapCount or snapSizeLimitInKb, and see in the log why snapshots fail",
        ));
    }
    let Zxid(last) = found.last;
    if last & 0xffff_ffff > COUNTER_RISKY {
        findings.push(Finding::new(
            Weight::Risk,
            about,
            format!(
                "zxid {}: the numbers of this epoch are nearly used up, and when they are another \
                 leader is elected (ZOOKEEPER-1277)",
                found.last
            ),
            "restart the leader at a quiet time",
        ));
    }
}

/// Znodes whose children or data hardly fit an answer.
fn znodes(about: &str, tree: &Tree, findings: &mut Vec<Finding>) {
    let Some(root) = tree.find("/") else {
        return;
    };
    let mut large = Vec::new();
    for id in tree.walk(root) {
        let data = tree.data(id).map_or(0, <[u8]>::len);
        if data > ANSWER_BYTES_RISKY {
            large.push((
                data,
                format!("{} has {} KiB of data", tree.path(id), data >> 10),
            ));
        }
        // No name is longer than the answer may be for so few.
        if tree.child_count(id) < 1000 {
            continue;
        }
        let bytes: usize = tree
            .children(id)
            .map(|child| tree.name(child).len() + 4)
            .sum();
        if bytes > ANSWER_BYTES_RISKY {
            let text = format!("{} has {} children", tree.path(id), tree.child_count(id));
            large.push((bytes, text));
        }
    }
    large.sort_unstable_by(|one, other| other.cmp(one));
    for (_, text) in large.into_iter().take(NAMED_MAX) {
        findings.push(too_large(about, text));
    }
}

pub(super) fn too_large(about: &str, text: String) -> Finding {
    Finding::new(
        Weight::Risk,
        about,
        format!(
            "{text}: with a little more the answer is longer than jute.maxbuffer, and clients \
                 lose their connection over it"
        ),
        "spread it over more znodes",
    )
}

fn my_id(directory: &Path, findings: &mut Vec<Finding>) {
    let path = directory.join("myid");
    let Ok(text) = fs::read_to_string(&path) else {
        return;
    };
    if !text.trim().parse().is_ok_and(|id: u8| id > 0) {
        findings.push(Finding::new(
            Weight::Wrong,
            path.display().to_string(),
            format!("expected a number from 1 to 255, found {:?}", text.trim()),
            "write the N of this server's server.N line into it",
        ));
    }
}

fn names_of(directory: &Path) -> Result<Vec<String>, String> {
    let mut disk = FsDisk::unlocked(directory.to_owned());
    let entries = disk.list().map_err(|error| error.to_string())?;
    Ok(entries.into_iter().map(|entry| entry.name).collect())
}

/// Whether one of our servers holds its lock.
fn is_in_use(directory: &Path) -> bool {
    let lock: PathBuf = directory.join("zabra.lock");
    File::open(lock)
        .is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// A directory that is only read: whatever recovery would mend or make durable stays as it is.
struct Untouched(FsDisk);

impl Disk for Untouched {
    type Error = Error;
    type File = ();

    fn location(&self, name: &str) -> String {
        self.0.location(name)
    }

    fn list(&mut self) -> Result<Vec<Entry>, Error> {
        self.0.list()
    }

    fn read(
        &mut self,
        name: &str,
        offset: u64,
        sink: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        self.0.read(name, offset, sink)
    }

    fn create(&mut self, _: &str) -> Result<(), Error> {
        Ok(())
    }

    fn write(&mut self, (): &mut (), _: u64, _: &[u8]) -> Result<(), Error> {
        Ok(())
    }

    fn sync(&mut self, (): &mut ()) -> Result<(), Error> {
        Ok(())
    }

    fn cut(&mut self, _: &str, _: u64) -> Result<(), Error> {
        Ok(())
    }

    fn rename(&mut self, _: &str, _: &str) -> Result<(), Error> {
        Ok(())
    }

    fn remove(&mut self, _: &str) -> Result<(), Error> {
        Ok(())
    }

    fn sync_directory(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
