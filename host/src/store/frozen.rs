//! Files of a data directory as they are now: read, and never changed.
//!
//! They may belong to a server that runs: each is held open, so that one which is purged meanwhile
//! can still be read, and one that grows ends where it is said to end. To [`recover`] this is a
//! [`Disk`] like any other; what recovery cuts off or removes is cut off or removed here only, so
//! afterwards the files are what a server would go on from.
//!
//! [`recover`]: zabra_core::store::recovery::recover

use core::convert::Infallible;
use core::ops::ControlFlow;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use zabra_core::store::disk::{Disk, Entry};
use zabra_core::store::names::{self, ACCEPTED_EPOCH, CURRENT_EPOCH, Compression};

use super::disk::pump;
use super::{Error, compress};

/// How often a directory is listed again because one of its files was purged before it was opened.
const LISTINGS_MAX: usize = 10;

/// Some files by their names. Its clones share them, but not what is cut off.
#[derive(Clone, Debug, Default)]
pub struct Frozen {
    files: BTreeMap<String, Part>,
}

/// A part of an open file: from an offset on, so many bytes.
#[derive(Clone, Debug)]
pub struct Part {
    file: Arc<File>,
    location: String,
    at: u64,
    bytes: u64,
}

/// Reads a [`Part`].
#[derive(Debug)]
pub struct Section {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Frozen {
    /// The logs, snapshots and epochs in these directories.
    ///
    /// # Errors
    /// A directory or a file cannot be read.
    pub fn open<P: AsRef<Path>>(directories: &[P]) -> Result<Self, Error> {
        let mut frozen = Self::default();
        for directory in directories {
            frozen.add_directory(directory.as_ref())?;
        }
        Ok(frozen)
    }

    fn add_directory(&mut self, directory: &Path) -> Result<(), Error> {
        let mut listings = 0;
        'again: loop {
            listings += 1;
            let mut found = Vec::new();
            for name in list(directory)? {
                let path = directory.join(&name);
                match Part::open(&path) {
                    Ok(part) => found.push((name, part)),
                    Err(_) if listings < LISTINGS_MAX && !path.exists() => continue 'again,
                    Err(error) => return Err(error),
                }
            }
            self.files.extend(found);
            return Ok(());
        }
    }

    /// Adds a file.
    pub fn insert(&mut self, name: String, part: Part) {
        self.files.insert(name, part);
    }

    /// A file.
    #[must_use]
    pub fn part(&self, name: &str) -> Option<&Part> {
        self.files.get(name)
    }

    /// All files, by name.
    pub fn parts(&self) -> impl Iterator<Item = (&str, &Part)> {
        self.files.iter().map(|(name, part)| (name.as_str(), part))
    }

    /// Lets a file end after so many bytes, if it has more.
    pub fn shorten(&mut self, name: &str, bytes: u64) {
        if let Some(part) = self.files.get_mut(name) {
            part.bytes = part.bytes.min(bytes);
        }
    }

    /// Keeps only the files whose names pass.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.files.retain(|name, _| keep(name));
    }
}

impl Part {
    /// A whole file, as long as it is now.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let open = || {
            let file = File::open(path)?;
            let bytes = file.metadata()?.len();
            Ok((file, bytes))
        };
        let (file, bytes) = open().map_err(|source| Error::new(path, "open the file", source))?;
        let location = path.display().to_string();
        Ok(Self::within(Arc::new(file), location, 0, bytes))
    }

    /// A part of a file that is open.
    #[must_use]
    pub const fn within(file: Arc<File>, location: String, at: u64, bytes: u64) -> Self {
        Self {
            file,
            location,
            at,
            bytes,
        }
    }

    /// How many bytes it has.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The file as an operator would name it.
    #[must_use]
    pub fn location(&self) -> &str {
        &self.location
    }

    /// A reader from `offset` on. What others cut off meanwhile is missing at its end.
    #[must_use]
    pub fn reader(&self, offset: u64) -> Section {
        let skipped = offset.min(self.bytes);
        Section {
            file: Arc::clone(&self.file),
            at: self.at.saturating_add(skipped),
            left: self.bytes - skipped,
        }
    }
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        let most = most.min(buffer.len());
        let buffer = buffer.get_mut(..most).unwrap_or_default();
        let mut file = &*self.file;
        // Sections of the same file share its position.
        file.seek(SeekFrom::Start(self.at))?;
        let count = file.read(buffer)?;
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

impl Disk for Frozen {
    type Error = Error;
    type File = Infallible;

    fn location(&self, name: &str) -> String {
        let part = self.files.get(name);
        part.map_or_else(|| name.to_owned(), |part| part.location.clone())
    }

    fn list(&mut self) -> Result<Vec<Entry>, Error> {
        let entry = |(name, part): (&String, &Part)| Entry {
            name: name.clone(),
            bytes: part.bytes,
        };
        Ok(self.files.iter().map(entry).collect())
    }

    fn read(
        &mut self,
        name: &str,
        offset: u64,
        sink: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let Some(part) = self.files.get(name) else {
            return Err(missing(name));
        };
        let compression = names::parse_snapshot(name).map_or(Compression::None, |found| found.1);
        let content = compress::reader(part.reader(offset), compression);
        pump(content, sink)
            .map_err(|source| Error::new(Path::new(&part.location), "read the file", source))
    }

    fn create(&mut self, name: &str) -> Result<Infallible, Error> {
        Err(read_only(name))
    }

    fn write(&mut self, file: &mut Infallible, _: u64, _: &[u8]) -> Result<(), Error> {
        match *file {}
    }

    fn sync(&mut self, file: &mut Infallible) -> Result<(), Error> {
        match *file {}
    }

    fn cut(&mut self, name: &str, length: u64) -> Result<(), Error> {
        self.shorten(name, length);
        Ok(())
    }

    fn rename(&mut self, from: &str, _: &str) -> Result<(), Error> {
        Err(read_only(from))
    }

    fn remove(&mut self, name: &str) -> Result<(), Error> {
        self.files.remove(name);
        Ok(())
    }

    fn sync_directory(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

/// The names of the files in a directory that hold a server's state.
fn list(directory: &Path) -> Result<Vec<String>, Error> {
    let failed = |source| Error::new(directory, "list the directory", source);
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        // A name that is not text is none of ours.
        if let Ok(name) = name.into_string()
            && (names::parse_log(&name).is_some()
                || names::parse_snapshot(&name).is_some()
                || [ACCEPTED_EPOCH, CURRENT_EPOCH].contains(&name.as_str()))
        {
            names.push(name);
        }
    }
    Ok(names)
}

fn missing(name: &str) -> Error {
    Error::new(
        Path::new(name),
        "read the file",
        io::ErrorKind::NotFound.into(),
    )
}

fn read_only(name: &str) -> Error {
    Error::refused(Path::new(name), "it is only read here, never written")
}
