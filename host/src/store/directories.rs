//! A server's data directories: their layout, and the lock that keeps a second server out.
//!
//! ```text
//! <dataDir>/myid
//! <dataDir>/version-2/                snapshots, acceptedEpoch, currentEpoch
//! <dataLogDir or dataDir>/version-2/  logs
//! …/version-2/zabra.lock              the lock, with the number of the process that holds it
//! ```
//!
//! Source: ZooKeeper `FileTxnSnapLog`, which has no lock.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zabra_core::store::names;

use super::disk::sync_directory;
use super::{Error, FsDisk};

/// The subdirectory that holds the files of the only version there is.
pub const VERSION: &str = "version-2";

const LOCK: &str = "zabra.lock";

/// What to do about a directory that does not exist: `zookeeper.datadir.autocreate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Autocreate {
    /// Create it.
    Yes,
    /// Refuse to start.
    No,
}

/// The directories of one server, locked for as long as this or one of its [`FsDisk`]s lives.
#[derive(Debug)]
pub struct Directories {
    data_dir: PathBuf,
    snapshots: FsDisk,
    logs: FsDisk,
}

impl Directories {
    /// Opens the directories of a server and locks them.
    ///
    /// `data_log_dir` may be the same as `data_dir`.
    ///
    /// # Errors
    /// A directory cannot be used, another server uses it, or files are where the other directory's
    /// belong.
    pub fn open(
        data_dir: &Path,
        data_log_dir: &Path,
        autocreate: Autocreate,
    ) -> Result<Self, Error> {
        let snapshots_path = prepare(data_dir, autocreate)?;
        let logs_path = prepare(data_log_dir, autocreate)?;
        let mut snapshots = FsDisk::locked(snapshots_path.clone(), lock(&snapshots_path)?);
        if logs_path == snapshots_path {
            return Ok(Self {
                data_dir: data_dir.to_owned(),
                logs: snapshots.clone(),
                snapshots,
            });
        }
        let mut logs = FsDisk::locked(logs_path.clone(), lock(&logs_path)?);
        let log = snapshots.holds(|name| names::parse_log(name).is_some())?;
        let snapshot = logs.holds(|name| names::parse_snapshot(name).is_some())?;
        refuse_misplaced(&snapshots_path, log, "log", "dataDir", &logs_path)?;
        refuse_misplaced(
            &logs_path,
            snapshot,
            "snapshot",
            "dataLogDir",
            &snapshots_path,
        )?;
        Ok(Self {
            data_dir: data_dir.to_owned(),
            snapshots,
            logs,
        })
    }

    /// `dataDir` itself, where `myid` is.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Where snapshots and epochs are.
    #[must_use]
    pub fn snapshots(&self) -> FsDisk {
        self.snapshots.clone()
    }

    /// Where logs are.
    #[must_use]
    pub fn logs(&self) -> FsDisk {
        self.logs.clone()
    }
}

/// Makes sure that a directory and its subdirectory exist, and returns the latter without links.
fn prepare(directory: &Path, autocreate: Autocreate) -> Result<PathBuf, Error> {
    let versioned = directory.join(VERSION);
    if !versioned.is_dir() {
        if autocreate == Autocreate::No {
            return Err(Error::refused(
                &versioned,
                "the directory does not exist, and zookeeper.datadir.autocreate is false; create \
                 it, or correct dataDir and dataLogDir",
            ));
        }
        create_durably(&versioned)?;
    }
    fs::canonicalize(&versioned)
        .map_err(|source| Error::new(&versioned, "open the directory", source))
}

/// Creates a directory and what is missing above it, so that it is still there after a power cut.
fn create_durably(directory: &Path) -> Result<(), Error> {
    let missing: Vec<&Path> = directory
        .ancestors()
        .take_while(|ancestor| !ancestor.as_os_str().is_empty() && !ancestor.is_dir())
        .collect();
    for directory in missing.into_iter().rev() {
        match fs::create_dir(directory) {
            Err(source) if !directory.is_dir() => {
                return Err(Error::new(directory, "create the directory", source));
            }
            _ => {}
        }
        let parent = match directory.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        sync_directory(parent)?;
    }
    Ok(())
}

/// Locks a directory; the lock goes with the file, and with the process.
fn lock(directory: &Path) -> Result<Arc<File>, Error> {
    let path = directory.join(LOCK);
    let open = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path);
    let mut file = open.map_err(|source| Error::new(&path, "open the lock", source))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::Error(source)) => {
            return Err(Error::new(&path, "take the lock", source));
        }
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            let holder = holder.trim();
            return Err(Error::refused(
                directory,
                format!(
                    "another server uses this directory (process {}); stop it, or give this one \
                     a dataDir and dataLogDir of its own",
                    if holder.is_empty() { "unknown" } else { holder }
                ),
            ));
        }
    }
    // Only for the message above: whether it is there does not matter.
    let _ = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(Arc::new(file))
}

/// Refuses a directory with files that a server with this configuration would never see.
fn refuse_misplaced(
    directory: &Path,
    found: Option<String>,
    kind: &str,
    setting: &str,
    right: &Path,
) -> Result<(), Error> {
    let Some(name) = found else {
        return Ok(());
    };
    Err(Error::refused(
        &directory.join(name),
        format!(
            "a {kind} is in {setting}, though dataDir and dataLogDir differ; correct the \
             configuration, or move every {kind} to {}",
            right.display()
        ),
    ))
}
