//! What goes wrong with files.

use core::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The file system failed, or holds what must not be there.
#[derive(Debug)]
pub struct Error {
    path: PathBuf,
    what: What,
}

#[derive(Debug)]
enum What {
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
            what: What::Failed { action, source },
        }
    }

    pub(super) fn refused(path: &Path, reason: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            what: What::Refused(reason.into()),
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
        write!(f, "{}: ", self.path.display())?;
        match &self.what {
            What::Failed { action, source } => {
                write!(f, "cannot {action}: {source}")?;
                advice(source.kind()).map_or(Ok(()), |advice| write!(f, "; {advice}"))
            }
            What::Refused(reason) => f.write_str(reason),
        }
    }
}

impl core::error::Error for Error {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match &self.what {
            What::Failed { source, .. } => Some(source),
            What::Refused(_) => None,
        }
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the kinds are open ended, and most need no advice"
)]
const fn advice(kind: io::ErrorKind) -> Option<&'static str> {
    match kind {
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
