//! What is wrong with keys and certificates.

use core::fmt;
use std::error;
use std::path::{Path, PathBuf};

/// Why TLS cannot be had with what was configured. Never shows a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError {
    /// The setting: `ssl.keyStore.location`.
    pub setting: String,
    /// The file, if it is about one.
    pub path: Option<PathBuf>,
    /// What was expected, what was found, what to do.
    pub text: String,
}

impl TlsError {
    pub(super) fn new(setting: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            setting: setting.into(),
            path: None,
            text: text.into(),
        }
    }

    pub(super) fn at(mut self, path: &Path) -> Self {
        self.path = Some(path.to_path_buf());
        self
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.setting)?;
        if let Some(path) = &self.path {
            write!(f, "{}: ", path.display())?;
        }
        f.write_str(&self.text)
    }
}

impl error::Error for TlsError {}
