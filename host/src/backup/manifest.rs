//! What a backup says about itself: `manifest.json`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zabra_core::store::names::{self, ACCEPTED_EPOCH, CURRENT_EPOCH};

use super::Error;
use crate::store::{self, Part};

/// What every manifest calls its format.
const FORMAT: &str = "zabra-backup";

/// The version of the format that is written, and the greatest that is read.
pub const VERSION: u32 = 1;

/// The manifest's name in a backup.
pub(super) const NAME: &str = "manifest.json";

/// More than any manifest has: a hundred thousand files take some fifteen megabytes.
pub(super) const BYTES_MAX: u64 = 64 << 20;

/// How much is copied at once.
const COPY_BYTES: usize = 1 << 16;

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Always `zabra-backup`.
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// When it was made or last added to, in UTC.
    pub created: String,
    /// Where it was made from.
    pub source: String,
    /// The state that it begins with: the zxid of its oldest snapshot.
    pub first_zxid: String,
    /// The last transaction in it.
    pub last_zxid: String,
    /// When that was proposed, by the leader's clock.
    pub last_time: Option<String>,
    /// How many znodes there are at the end, where it was counted.
    pub znodes: Option<u64>,
    /// ZooKeeper's digest of the tree at the end, where it was computed.
    pub digest: Option<String>,
    /// The files.
    pub files: Vec<FileEntry>,
}

/// A file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its path in the backup: `version-2/` and ZooKeeper's name.
    pub name: String,
    /// Its length. What a directory has beyond that is not part of the backup yet.
    pub bytes: u64,
    /// Its SHA-256, as `sha256sum` prints it.
    pub sha256: String,
}

/// What is known of a manifest before its version is.
#[derive(Deserialize)]
struct Head {
    format: String,
    version: u32,
}

impl Manifest {
    /// A manifest of this format and version.
    #[must_use]
    pub fn new(source: String, created: String) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            created,
            source,
            first_zxid: String::new(),
            last_zxid: String::new(),
            last_time: None,
            znodes: None,
            digest: None,
            files: Vec::new(),
        }
    }

    /// Reads a manifest in a file.
    ///
    /// # Errors
    /// It cannot be read, is none, or one of a later version.
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let failed = |error| Error::at(path, "read it", &error);
        let mut text = Vec::new();
        let file = File::open(path).map_err(failed)?;
        file.take(BYTES_MAX)
            .read_to_end(&mut text)
            .map_err(failed)?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// It is none, or one of a later version.
    pub fn parse(text: &[u8], place: &str) -> Result<Self, Error> {
        let wrong = |error: serde_json::Error| {
            Error::new(format!(
                "{place}: expected the manifest of a backup, found: {error}; was it made by zabra \
                 backup?"
            ))
        };
        let head: Head = serde_json::from_slice(text).map_err(wrong)?;
        if head.format != FORMAT {
            return Err(Error::new(format!(
                "{place}: expected format {FORMAT:?}, found {:?}; it was not made by zabra backup",
                head.format
            )));
        }
        if !(1..=VERSION).contains(&head.version) {
            return Err(Error::new(format!(
                "{place}: expected a backup of format version {VERSION} or less, found {}; use the \
                 zabra that made it, or a newer one",
                head.version
            )));
        }
        let manifest: Self = serde_json::from_slice(text).map_err(wrong)?;
        for file in &manifest.files {
            if file.store_name().is_none() {
                return Err(Error::new(format!(
                    "{place}: expected logs, snapshots and epochs in {}, found {:?}; the backup is \
                     damaged or not made by zabra backup",
                    store::VERSION,
                    file.name
                )));
            }
        }
        Ok(manifest)
    }

    /// The manifest as it is written.
    #[must_use]
    pub fn to_text(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self)
            .expect("strings and numbers are written without errors");
        text.push(b'\n');
        text
    }

    /// The bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

impl FileEntry {
    /// An entry of a file in the store, with the checksum of its content.
    #[must_use]
    pub fn new(store_name: &str, bytes: u64, sha256: Sha256) -> Self {
        Self {
            name: format!("{}/{store_name}", store::VERSION),
            bytes,
            sha256: base16(&sha256.finalize()),
        }
    }

    /// The name that the file has in a data directory, if it may have it.
    #[must_use]
    pub fn store_name(&self) -> Option<&str> {
        let name = self.name.strip_prefix(store::VERSION)?.strip_prefix('/')?;
        let known = names::parse_log(name).is_some()
            || names::parse_snapshot(name).is_some()
            || [ACCEPTED_EPOCH, CURRENT_EPOCH].contains(&name);
        known.then_some(name)
    }

    /// Makes sure that this is the file that was written, and leaves off what it has beyond.
    ///
    /// # Errors
    /// It is shorter, or has another content.
    pub fn check(&self, part: &Part) -> Result<(), Error> {
        let failed = |error| Error::new(format!("{}: cannot read it: {error}", part.location()));
        let (bytes, sha256) = hash(&mut part.reader(0).take(self.bytes)).map_err(failed)?;
        if bytes < self.bytes {
            return Err(Error::new(format!(
                "{}: expected {} bytes, found {bytes}; the backup is truncated, take another copy \
                 of it",
                part.location(),
                self.bytes
            )));
        }
        let found = base16(&sha256.finalize());
        if found != self.sha256 {
            return Err(Error::new(format!(
                "{}: expected SHA-256 {}, found {found}; the backup is damaged, take another copy \
                 of it",
                part.location(),
                self.sha256
            )));
        }
        Ok(())
    }
}

/// How many bytes there are, and their checksum so far.
pub(super) fn hash(content: &mut impl Read) -> io::Result<(u64, Sha256)> {
    let mut sha256 = Sha256::new();
    let bytes = copy_hashed(content, &mut sha256, &mut io::sink())?;
    Ok((bytes, sha256))
}

/// Copies all there is, and hashes it on its way; says how many bytes it was.
pub(super) fn copy_hashed(
    content: &mut impl Read,
    sha256: &mut Sha256,
    out: &mut impl Write,
) -> io::Result<u64> {
    let mut buffer = vec![0; COPY_BYTES];
    let mut bytes = 0;
    loop {
        let count = match content.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        let piece = buffer.get(..count).unwrap_or_default();
        if piece.is_empty() {
            return Ok(bytes);
        }
        sha256.update(piece);
        out.write_all(piece)?;
        bytes += count as u64;
    }
}

fn base16(bytes: &[u8]) -> String {
    use core::fmt::Write as _;
    let mut text = String::new();
    for byte in bytes {
        let _infallible = write!(text, "{byte:02x}");
    }
    text
}
