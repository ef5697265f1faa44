//! What goes wrong with files.

use core::fmt;
use std::io;
use std::path::{Path, PathBuf};

use zabra_core::store::epochs::EpochsError;
use zabra_core::store::lane::LaneError;
use zabra_core::store::recovery::{Note, RecoverError};
use zabra_core::store::truncate::TruncateError;

/// The file system failed, or holds what must not be there.
#[derive(Debug)]
pub struct Error {
    path: PathBuf,
    reason: Reason,
}

/// What went wrong with the file.
#[derive(Debug)]
enum Reason {
    /// An operation failed.
    Failed {
        action: &'static str,
        source: io::Error,
    },
    /// Something must be put right first: what is wrong, and what to do.
    Refused(String),
}

impl Error {
    pub(super) fn new(path: &Path, action: &'static str, source: io::Error) -> Self {
        Self {
            path: path.to_owned(),
            reason: Reason::Failed { action, source },
        }
    }

    pub(super) fn refused(path: &Path, reason: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            reason: Reason::Refused(reason.into()),
        }
    }

    /// What the log's lane could not do in this directory.
    pub(super) fn of_lane(logs: &Path, error: LaneError<Self>) -> Self {
        match error {
            LaneError::Disk(error) | LaneError::Truncate(TruncateError::Disk(error)) => error,
            LaneError::Truncate(TruncateError::Log { file, error }) => {
                Self::refused(Path::new(&file), format!("{error}; {}", error.advice()))
            }
            other @ (LaneError::Truncate(_) | _) => Self::refused(logs, other.to_string()),
        }
    }

    /// Why the epochs in this directory are not known.
    pub(super) fn of_epochs(snapshots: &Path, error: EpochsError<Self>) -> Self {
        match error {
            EpochsError::Disk(error) => error,
            EpochsError::Unreadable { file, error } => {
                Self::refused(Path::new(&file), error.to_string())
            }
            other => Self::refused(snapshots, other.to_string()),
        }
    }

    /// The file or directory concerned.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

impl core::error::Error for Error {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        self.reason.source()
    }
}

impl From<Error> for crate::Error {
    fn from(error: Error) -> Self {
        Self::Store {
            path: error.path,
            source: Box::new(error.reason),
        }
    }
}

impl<R: fmt::Display> From<RecoverError<Error, R>> for crate::Error {
    fn from(error: RecoverError<Error, R>) -> Self {
        match error {
            RecoverError::Disk(error) => error.into(),
            RecoverError::Log { file, error } => Self::Store {
                path: file.into(),
                source: format!("{error}; {}", error.advice()).into(),
            },
            other @ (RecoverError::NoSnapshotReadable { .. } | _) => Self::Store {
                path: snapshots_directory(&other),
                source: other.to_string().into(),
            },
        }
    }
}

/// Where the snapshots are of which none can be read.
fn snapshots_directory<R>(error: &RecoverError<Error, R>) -> PathBuf {
    let RecoverError::NoSnapshotReadable { refused } = error else {
        return PathBuf::new();
    };
    let Some(Note::SnapshotRefused { file, .. }) = refused.first() else {
        return PathBuf::new();
    };
    Path::new(file)
        .parent()
        .map(Path::to_owned)
        .unwrap_or_default()
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed { action, source } => {
                write!(f, "cannot {action}: {source}")?;
                advice(source.kind()).map_or(Ok(()), |advice| write!(f, "; {advice}"))
            }
            Self::Refused(reason) => f.write_str(reason),
        }
    }
}

impl core::error::Error for Reason {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Failed { source, .. } => Some(source),
            Self::Refused(_) => None,
        }
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the kinds are open ended, and most need no advice"
)]
const fn advice(kind: io::ErrorKind) -> Option<&'static str> {
    match kind {
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            Some("a file is there, or on the way; correct dataDir and dataLogDir")
        }
        io::ErrorKind::NotFound => {
            Some("check dataDir and dataLogDir, and that the disk is mounted")
        }
        io::ErrorKind::PermissionDenied => {
            Some("let the user that runs the server read and write there")
        }
        io::ErrorKind::QuotaExceeded | io::ErrorKind::StorageFull => {
            Some("free space on this disk, then start the server again")
        }
        io::ErrorKind::ReadOnlyFilesystem => Some("mount the disk writable"),
        _ => None,
    }
}
