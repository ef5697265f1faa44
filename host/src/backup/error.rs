//! Why something about a backup cannot be done.

use core::fmt;
use std::io;
use std::path::Path;

use crate::store;

/// A sentence: the place, what was expected and found there, and what to do.
#[derive(Debug)]
pub struct Error(String);

impl Error {
    /// Something that is not as it must be.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// An operation that failed at a path.
    pub fn at(path: &Path, action: &str, error: &io::Error) -> Self {
        Self(format!("{}: cannot {action}: {error}", path.display()))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for Error {}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self(error.to_string())
    }
}
