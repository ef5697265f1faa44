//! Where a state comes from: a data directory, whether its server runs or not, or a backup.

use core::time::Duration;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use zabra_core::wire::log::{End, HEADER, Record, Scanner};

use super::manifest::{self, Manifest};
use super::state::logs;
use super::{Error, FileEntry};
use crate::store::{self, Frozen, Part};

/// How often a log that seems damaged is read again: a record that is being written looks like that.
const READS_MAX: u32 = 4;
/// Between two of these.
const PAUSE: Duration = Duration::from_millis(20);
/// How much of a log is read at once.
const READ_BYTES: usize = 1 << 20;

/// Files, and what they are.
pub struct Source {
    /// The logs, snapshots and epochs.
    pub files: Frozen,
    /// What a backup says of itself; nothing if this is a data directory.
    pub manifest: Option<Manifest>,
}

impl Source {
    /// Opens a backup, a file or a directory, whose checksums are right then, or a data directory.
    ///
    /// # Errors
    /// It is none of these, or a backup that is damaged.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let metadata = fs::metadata(path).map_err(|error| Error::at(path, "open it", &error))?;
        if metadata.is_file() {
            return open_archive(path);
        }
        let text = path.join(manifest::NAME);
        if text.is_file() {
            return open_directory(path, &text);
        }
        Ok(Self {
            files: data_directories(&[path])?,
            manifest: None,
        })
    }
}

/// The files of a server's data directories: `dataDir` and `dataLogDir`, or the `version-2` in them.
///
/// # Errors
/// They cannot be read, or hold nothing.
pub(super) fn data_directories(paths: &[impl AsRef<Path>]) -> Result<Frozen, Error> {
    let directories = store_directories(paths);
    let files = Frozen::open(&directories)?;
    if files.parts().next().is_none() {
        let names: Vec<_> = directories
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        return Err(Error::new(format!(
            "{}: expected log.ZXID and snapshot.ZXID of a server, or the manifest.json of a \
             backup, found none; name the server's dataDir (and dataLogDir)",
            names.join(", ")
        )));
    }
    Ok(files)
}

/// Makes sure that the log is there too: with a snapshot alone, a backup would lose all that came
/// after it. A server that has written nothing since it was restored has none, so whoever names
/// both directories is believed.
///
/// # Errors
/// One directory is named, and it has no log.
pub(super) fn require_log(paths: &[PathBuf], files: &Frozen) -> Result<(), Error> {
    match paths {
        [path] if logs(files).next().is_none() => Err(Error::new(format!(
            "{}: expected logs beside the snapshots, found none; name the server's dataLogDir with \
             --data-log-dir (the same directory again, if it has none)",
            path.display()
        ))),
        _ => Ok(()),
    }
}

/// Where the files themselves are.
pub(super) fn store_directories(paths: &[impl AsRef<Path>]) -> Vec<PathBuf> {
    let within = |path: &Path| {
        let below = path.join(store::VERSION);
        if below.is_dir() {
            below
        } else {
            path.to_owned()
        }
    };
    let mut directories: Vec<_> = paths.iter().map(|path| within(path.as_ref())).collect();
    directories.dedup();
    directories
}

fn open_directory(path: &Path, text: &Path) -> Result<Source, Error> {
    let manifest = Manifest::read(text)?;
    let mut files = Frozen::default();
    for entry in &manifest.files {
        let part = Part::open(&path.join(&entry.name))?;
        add(&mut files, entry, part)?;
    }
    Ok(Source {
        files,
        manifest: Some(manifest),
    })
}

fn open_archive(path: &Path) -> Result<Source, Error> {
    let failed = |error: &io::Error| {
        if error.raw_os_error().is_some() {
            return Error::at(path, "read it", error);
        }
        // What the reader of archives says of others has their bytes in it.
        Error::new(format!(
            "{}: expected a backup, which is a tar archive, found something else or a part of one; \
             is it truncated or compressed?",
            path.display()
        ))
    };
    let file = File::open(path).map_err(|error| Error::at(path, "open it", &error))?;
    let end = file.metadata().map_err(|error| failed(&error))?.len();
    let shared = Arc::new(file);
    let mut archive = tar::Archive::new(&*shared);
    let mut found: Vec<(String, Part)> = Vec::new();
    let mut text = None;
    for entry in archive
        .entries_with_seek()
        .map_err(|error| failed(&error))?
    {
        let mut entry = entry.map_err(|error| failed(&error))?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if name == manifest::NAME && text.is_none() {
            let mut bytes = Vec::new();
            let mut content = entry.by_ref().take(manifest::BYTES_MAX);
            content
                .read_to_end(&mut bytes)
                .map_err(|error| failed(&error))?;
            text = Some(bytes);
            continue;
        }
        let at = entry.raw_file_position();
        let bytes = entry.size().min(end.saturating_sub(at));
        let location = format!("{}: {name}", path.display());
        found.push((name, Part::within(Arc::clone(&shared), location, at, bytes)));
    }
    let text = text.ok_or_else(|| {
        Error::new(format!(
            "{}: expected a backup with a manifest.json, found an archive without; it was not made \
             by zabra backup, or is empty or truncated",
            path.display()
        ))
    })?;
    let place = format!("{}: {}", path.display(), manifest::NAME);
    let manifest = Manifest::parse(&text, &place)?;
    let mut files = Frozen::default();
    for entry in &manifest.files {
        let part = found.iter().find(|(name, _)| *name == entry.name);
        let (_, part) = part.ok_or_else(|| {
            Error::new(format!(
                "{}: expected {} in it, found it missing; the backup is truncated, take another \
                 copy of it",
                path.display(),
                entry.name
            ))
        })?;
        add(&mut files, entry, part.clone())?;
    }
    Ok(Source {
        files,
        manifest: Some(manifest),
    })
}

fn add(files: &mut Frozen, entry: &FileEntry, part: Part) -> Result<(), Error> {
    entry.check(&part)?;
    if let Some(name) = entry.store_name() {
        files.insert(name.to_owned(), part);
        files.shorten(name, entry.bytes);
    }
    Ok(())
}

/// Lets every log end after its last whole record, if nothing but a write that has not ended
/// follows there: then what is written meanwhile is not seen.
///
/// What is damaged stays as it is, for whoever reads it to say so.
///
/// # Errors
/// A log cannot be read.
pub(super) fn settle(files: &mut Frozen) -> Result<(), Error> {
    let logs: Vec<_> = logs(files).collect();
    for (index, (_, name)) in logs.iter().enumerate() {
        let Some(part) = files.part(name) else {
            continue;
        };
        let newest = index + 1 == logs.len();
        match read_log(part, &mut |_| Some(()))? {
            Some(End::Clean { at }) => files.shorten(name, at),
            Some(End::Torn { at }) if newest => files.shorten(name, at),
            _ => {}
        }
    }
    Ok(())
}

/// Reads the records of a log, which may be written meanwhile, until `sink` wants no more. Says how
/// the log ends, if it came there.
///
/// # Errors
/// It cannot be read.
pub fn read_log(
    part: &Part,
    sink: &mut dyn FnMut(Record<'_>) -> Option<()>,
) -> Result<Option<End>, Error> {
    let mut at = 0;
    let mut reads = 0;
    loop {
        let end = scan_log(part, at, &mut |record| {
            at = record.end();
            sink(record)
        })?;
        reads += 1;
        // The server wrote while we read: some of it we saw before it came, some after.
        if reads == READS_MAX || !matches!(end, Some(End::Damaged(_))) {
            return Ok(end);
        }
        thread::sleep(PAUSE);
    }
}

/// Reads the records of a log from `offset` on, which is 0 or the end of a record, until `sink`
/// wants no more. Says how the log ends, if it came there; offsets are those in the file.
///
/// # Errors
/// It cannot be read.
pub(super) fn scan_log(
    part: &Part,
    offset: u64,
    sink: &mut dyn FnMut(Record<'_>) -> Option<()>,
) -> Result<Option<End>, Error> {
    let failed = |error: &io::Error| Error::at(Path::new(part.location()), "read it", error);
    let mut scanner = Scanner::new();
    // A scanner begins at a header; in the middle of the file it is given one.
    let base = offset.saturating_sub(HEADER.len() as u64);
    if offset > 0 {
        let begun: Result<(), ()> = scanner.feed(&HEADER, &mut |_| Ok(()));
        debug_assert!(begun.is_ok(), "a header is no record");
    }
    let mut take = |record: Record<'_>| {
        let offset = record.offset + base;
        sink(Record { offset, ..record }).ok_or(())
    };
    let mut content = part.reader(offset);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let count = match content.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other.map_err(|error| failed(&error))?,
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        if bytes.is_empty() {
            break;
        }
        if scanner.feed(bytes, &mut take).is_err() {
            return Ok(None);
        }
    }
    Ok(Some(moved(scanner.finish(), base)))
}

fn moved(end: End, base: u64) -> End {
    match end {
        End::Clean { at } => End::Clean { at: at + base },
        End::Torn { at } => End::Torn { at: at + base },
        End::NoHeader => End::NoHeader,
        End::Damaged(mut damage) => {
            damage.offset += base;
            End::Damaged(damage)
        }
    }
}
