//! A directory of the file system as a [`Disk`].

use core::ops::ControlFlow;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tracing::warn;
use zabra_core::server::io::Summary;
use zabra_core::store::disk::{Disk, Entry};
use zabra_core::store::names::{self, Compression};

use super::{Error, compress};
use crate::histogram::Histogram;

/// How much is read at once.
const READ_BYTES: usize = 1 << 20;

/// One directory. Its clones are the same directory, and keep its lock.
#[derive(Clone, Debug)]
pub struct FsDisk {
    directory: PathBuf,
    lock: Option<Arc<File>>,
    timing: Option<Timing>,
}

/// How long syncs take, and from when on that is worth a warning.
#[derive(Clone, Debug)]
pub(super) struct Timing {
    pub(super) fsyncs: Arc<Fsyncs>,
    pub(super) warning: Duration,
}

/// Microseconds: from a disk that only pretends to one that hangs.
const FSYNC_US: &[u64] = &[
    50, 100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 5_000_000,
];

/// How long the log's syncs took so far; read on any thread.
#[derive(Debug)]
pub struct Fsyncs {
    ms: Mutex<Summary>,
    us: Histogram,
    slow: AtomicU64,
}

impl Default for Fsyncs {
    fn default() -> Self {
        Self {
            ms: Mutex::default(),
            us: Histogram::new(FSYNC_US),
            slow: AtomicU64::new(0),
        }
    }
}

impl Fsyncs {
    /// In milliseconds.
    pub fn ms(&self) -> Summary {
        *self.ms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In microseconds.
    pub const fn times(&self) -> &Histogram {
        &self.us
    }

    /// Those that took longer than `fsync.warningthresholdms`.
    pub fn slow(&self) -> u64 {
        self.slow.load(Ordering::Relaxed)
    }
}

impl Timing {
    fn record(&self, path: &Path, took: Duration) {
        let number = |it: u128| u64::try_from(it).unwrap_or(u64::MAX);
        let ms = number(took.as_millis());
        let mut all = self
            .fsyncs
            .ms
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.record(ms);
        drop(all);
        self.fsyncs.us.record(number(took.as_micros()));
        if took > self.warning {
            self.fsyncs.slow.fetch_add(1, Ordering::Relaxed);
            // Every write waited for it. Source: ZooKeeper `FileTxnLog.commit`.
            warn!(file = %path.display(), milliseconds = ms, "an fsync of the log was slow");
        }
    }
}

/// A file of an [`FsDisk`], open for writing.
#[derive(Debug)]
pub struct FsFile {
    file: File,
    path: PathBuf,
    position: u64,
}

impl FsDisk {
    /// The directory at this path, which must exist. Nothing keeps another process from using it.
    #[must_use]
    pub const fn unlocked(directory: PathBuf) -> Self {
        Self {
            directory,
            lock: None,
            timing: None,
        }
    }

    pub(super) const fn locked(directory: PathBuf, lock: Arc<File>) -> Self {
        Self {
            directory,
            lock: Some(lock),
            timing: None,
        }
    }

    /// The same directory, whose syncs are timed.
    pub(super) fn timed(self, timing: Timing) -> Self {
        Self {
            timing: Some(timing),
            ..self
        }
    }

    /// Whether this keeps other servers out of the directory.
    #[must_use]
    pub const fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// The sum of the lengths of its files.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn bytes(&mut self) -> Result<u64, Error> {
        Ok(self.list()?.iter().map(|entry| entry.bytes).sum())
    }

    /// Whether files are in it as `names` says.
    pub(super) fn holds(&mut self, ours: impl Fn(&str) -> bool) -> Result<Option<String>, Error> {
        let names = self.list()?.into_iter().map(|entry| entry.name);
        Ok(names.filter(|name| ours(name)).min())
    }
}

impl Disk for FsDisk {
    type Error = Error;
    type File = FsFile;

    fn location(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    fn list(&mut self) -> Result<Vec<Entry>, Error> {
        let failed = |source| Error::new(&self.directory, "list the directory", source);
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            // A file purged meanwhile, or with a name that is not text, is none of ours.
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if let Ok(name) = entry.file_name().into_string()
                && metadata.is_file()
            {
                let bytes = metadata.len();
                entries.push(Entry { name, bytes });
            }
        }
        Ok(entries)
    }

    fn read(
        &mut self,
        name: &str,
        offset: u64,
        sink: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let path = self.directory.join(name);
        let compression = names::parse_snapshot(name).map_or(Compression::None, |found| found.1);
        let mut read = || {
            let mut file = File::open(&path)?;
            file.seek(SeekFrom::Start(offset))?;
            pump(compress::reader(file, compression), sink)
        };
        read().map_err(|source| Error::new(&path, "read the file", source))
    }

    fn create(&mut self, name: &str) -> Result<FsFile, Error> {
        let path = self.directory.join(name);
        match File::create(&path) {
            Ok(file) => Ok(FsFile {
                file,
                path,
                position: 0,
            }),
            Err(source) => Err(Error::new(&path, "create the file", source)),
        }
    }

    fn write(&mut self, file: &mut FsFile, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        file.write_at(offset, bytes)
            .map_err(|source| Error::new(&file.path, "write to the file", source))
    }

    fn sync(&mut self, file: &mut FsFile) -> Result<(), Error> {
        let begun = Instant::now();
        file.file
            .sync_data()
            .map_err(|source| Error::new(&file.path, "make the file durable", source))?;
        if let Some(timing) = &self.timing {
            timing.record(&file.path, begun.elapsed());
        }
        Ok(())
    }

    fn cut(&mut self, name: &str, length: u64) -> Result<(), Error> {
        let path = self.directory.join(name);
        let cut = || {
            let file = OpenOptions::new().write(true).open(&path)?;
            file.set_len(length)?;
            file.sync_all()
        };
        cut().map_err(|source| Error::new(&path, "cut the file", source))
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), Error> {
        let from = self.directory.join(from);
        fs::rename(&from, self.directory.join(to))
            .map_err(|source| Error::new(&from, "rename the file", source))
    }

    fn remove(&mut self, name: &str) -> Result<(), Error> {
        let path = self.directory.join(name);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(Error::new(&path, "remove the file", source))
            }
            _ => Ok(()),
        }
    }

    fn sync_directory(&mut self) -> Result<(), Error> {
        sync_directory(&self.directory)
    }
}

impl FsFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.position != offset {
            self.file.seek(SeekFrom::Start(offset))?;
        }
        self.file.write_all(bytes)?;
        self.position = offset + bytes.len() as u64;
        Ok(())
    }
}

/// Hands all of `content` to `sink`, piece by piece, until it breaks.
pub(super) fn pump(
    mut content: impl Read,
    sink: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
) -> io::Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let count = match content.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        match buffer.get(..count) {
            Some(bytes) if count > 0 && sink(bytes).is_continue() => {}
            _ => return Ok(()),
        }
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(directory: &Path) -> Result<(), Error> {
    // Elsewhere a directory cannot be opened, and its entries are as durable as the system likes.
    if !cfg!(unix) {
        return Ok(());
    }
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| Error::new(directory, "make the directory durable", source))
}
