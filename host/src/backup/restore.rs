//! A state put into a data directory.

use std::fs;
use std::path::{Path, PathBuf};

use zabra_core::ids::Zxid;
use zabra_core::store::disk::{Disk, read_small, replace};
use zabra_core::store::names::{self, ACCEPTED_EPOCH, Compression};
use zabra_core::store::snapshot::SnapshotStore;
use zabra_core::tree::{Piece, Tree};

use super::archive::now;
use super::source::data_directories;
use super::{Error, Point, Source, State};
use crate::store::{self, Autocreate, Directories, FsDisk};

/// How much of a snapshot is written at once.
const PIECE_BYTES: usize = 1 << 20;

/// No epoch has more digits.
const EPOCH_BYTES_MAX: usize = 32;

/// What to do about a data directory that holds a state already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occupied {
    /// Refuse, and leave it as it is.
    Refuse,
    /// Give its `version-2` another name, and begin an empty one.
    SetAside,
}

/// What was restored.
#[derive(Debug)]
pub struct Restored {
    /// The state is the one after this transaction.
    pub zxid: Zxid,
    /// How many znodes it has, the root included.
    pub znodes: usize,
    /// Its digest.
    pub digest: u64,
    /// Where what was there before is now.
    pub set_aside: Vec<PathBuf>,
}

/// Puts the state at `point` into a data directory (`dataDir` and `dataLogDir`), as one snapshot.
///
/// # Errors
/// The state cannot be had from the source, or the directory is occupied or used by a server:
/// nothing was changed. Or it could not be written: what is there then is no state, but for what
/// was set aside.
pub fn restore(
    source: &Source,
    point: Point,
    directories: (&Path, &Path),
    occupied: Occupied,
) -> Result<Restored, Error> {
    let mut state = State::read(&source.files, point)?;
    if let Some(until) = state.fuzzy_until {
        return Err(Error::new(format!(
            "expected the log to go on to {until}, which the snapshot has something of, found its \
             end at {}; take an older point, or a newer backup",
            state.zxid
        )));
    }
    let accepted = accepted_epoch(source);
    restore_tree(&mut state.tree, accepted, directories, occupied)
}

/// Puts a tree into a data directory. `accepted` is the promise of the server it came from.
///
/// # Errors
/// As of [`restore`].
pub fn restore_tree(
    tree: &mut Tree,
    accepted: Option<i64>,
    (data_dir, data_log_dir): (&Path, &Path),
    occupied: Occupied,
) -> Result<Restored, Error> {
    let found = occupant(data_dir)?.or(occupant(data_log_dir)?);
    if let (Some(found), Occupied::Refuse) = (&found, occupied) {
        return Err(Error::new(format!(
            "{}: expected an empty data directory, found a state in it; name another directory, or \
             have it moved aside with --set-aside",
            found.display()
        )));
    }
    let mut set_aside = Vec::new();
    if found.is_some() {
        // Locked while it is moved: no server of ours uses it.
        let _locked = Directories::open(data_dir, data_log_dir, Autocreate::Yes)?;
        for directory in [data_dir, data_log_dir] {
            set_aside.extend(move_aside(directory)?);
        }
    }
    let directories = Directories::open(data_dir, data_log_dir, Autocreate::Yes)?;
    let mut snapshots = directories.snapshots();
    write_accepted(&mut snapshots, accepted)?;
    let zxid = write_snapshot(snapshots, tree)?;
    // What was written is read before it is called restored.
    let written = State::read(&data_directories(&[data_dir, data_log_dir])?, Point::Newest)?;
    if (written.zxid, written.tree.digest()) != (zxid, tree.digest()) {
        return Err(Error::new(format!(
            "{}: expected to read back the state at {zxid} with digest {:x}, found {} with {:x}; \
             is the disk sound?",
            data_dir.display(),
            tree.digest(),
            written.zxid,
            written.tree.digest()
        )));
    }
    Ok(Restored {
        zxid,
        znodes: tree.node_count(),
        digest: tree.digest(),
        set_aside,
    })
}

/// A file of a state that is in the directory already.
fn occupant(directory: &Path) -> Result<Option<PathBuf>, Error> {
    let below = directory.join(store::VERSION);
    if !below.is_dir() {
        return Ok(None);
    }
    let mut disk = FsDisk::unlocked(below.clone());
    let state =
        |name: &str| names::parse_log(name).is_some() || names::parse_snapshot(name).is_some();
    let mut names = disk.list()?.into_iter().map(|entry| entry.name);
    Ok(names.find(|name| state(name)).map(|name| below.join(name)))
}

fn move_aside(directory: &Path) -> Result<Option<PathBuf>, Error> {
    let from = directory.join(store::VERSION);
    if !from.is_dir() {
        // Both directories are one, and it was moved.
        return Ok(None);
    }
    let time = now().replace(':', "-");
    let to = directory.join(format!("{}.before-{time}", store::VERSION));
    fs::rename(&from, &to).map_err(|error| Error::at(&from, "move it aside", &error))?;
    store::sync_directory(directory)?;
    Ok(Some(to))
}

/// The promise that the source's server has made: whoever leads what is restored begins a later
/// epoch, so that none of its zxids is one that clients have seen of another transaction.
///
/// `currentEpoch` is not brought back: with it, a restored server could win against others that
/// were not restored and have more.
fn accepted_epoch(source: &Source) -> Option<i64> {
    read_epoch(&mut source.files.clone()).ok().flatten()
}

fn read_epoch<D: Disk>(disk: &mut D) -> Result<Option<i64>, D::Error> {
    let text = read_small(disk, ACCEPTED_EPOCH, EPOCH_BYTES_MAX)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    Ok(text.trim().parse().ok().filter(|epoch| *epoch >= 0))
}

fn write_accepted(disk: &mut FsDisk, accepted: Option<i64>) -> Result<(), Error> {
    // A directory without a state may still hold a promise.
    let before = read_epoch(disk)?;
    if let Some(accepted) = accepted.filter(|accepted| before.is_none_or(|it| it < *accepted)) {
        replace(disk, ACCEPTED_EPOCH, accepted.to_string().as_bytes())?;
    }
    Ok(())
}

fn write_snapshot(disk: FsDisk, tree: &mut Tree) -> Result<Zxid, Error> {
    let zxid = tree.begin_snapshot(true);
    let mut snapshots = SnapshotStore::new(disk);
    snapshots.begin(zxid, Compression::None)?;
    while let Some(piece) = tree.snapshot_piece(PIECE_BYTES) {
        match piece {
            Piece::Part(bytes) => snapshots.chunk(&bytes)?,
            Piece::Last(bytes) => {
                snapshots.chunk(&bytes)?;
                snapshots.end()?;
            }
        }
    }
    Ok(zxid)
}
