//! Making a backup at once: an archive, or a directory.
//!
//! ```text
//! manifest.json                     what it is, and the checksums of the rest
//! version-2/snapshot.ZXID[.gz|.snappy]
//! version-2/log.ZXID                cut off after the last whole record
//! version-2/acceptedEpoch, currentEpoch
//! ```

use core::time::Duration;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};
use zabra_core::ids::{UnixMillis, Zxid};
use zabra_core::store::names;
use zabra_core::store::recovery::Note;

use super::manifest::{self, FileEntry, hash};
use super::source::{data_directories, require_log};
use super::state::{logs, snapshots};
use super::{Error, Manifest, Point, State, format_time};
use crate::store::{self, Frozen, Part};

/// How often it is tried: what a server takes back or replaces meanwhile looks like damage.
const ATTEMPTS_MAX: u32 = 3;
/// Between two of these.
const PAUSE: Duration = Duration::from_millis(200);

/// What a backup is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A directory, in which the files are.
    Directory,
    /// A tar archive.
    Tar,
}

/// How much of the past goes into a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// All that is there: every snapshot and log.
    Everything,
    /// The newest snapshot and the log after it.
    Newest,
}

/// A backup that was made.
#[derive(Debug)]
pub struct Made {
    /// What it says of itself.
    pub manifest: Manifest,
    /// What a server would log when it started from there.
    pub notes: Vec<Note>,
    /// The first transaction after which the tree is not what the log says that it is.
    pub mismatch: Option<Zxid>,
}

impl Made {
    /// Makes a backup of a server's data directories, `dataDir` and `dataLogDir`, and returns
    /// what it is. The state in it has been read, as a server would.
    ///
    /// The server may run. Nothing is written to its directories, and its lock is left alone.
    ///
    /// # Errors
    /// The directories hold no state that a server would start from, or the backup cannot be
    /// written; then there is nothing at `out`.
    pub fn write(
        directories: &[PathBuf],
        take: Take,
        format: Format,
        out: &Path,
    ) -> Result<Self, Error> {
        refuse_existing(out)?;
        let write = |made: &Self, files: &Frozen| match format {
            Format::Directory => write_directory(&made.manifest, files, out),
            Format::Tar => write_file(&made.manifest, files, out),
        };
        attempt(directories, take, write)
    }

    /// Writes the archive to `out`, which may be a pipe.
    ///
    /// # Errors
    /// As of [`Made::write`]; what was written by then is no backup.
    pub fn stream(
        directories: &[PathBuf],
        take: Take,
        out: &mut impl Write,
    ) -> Result<Self, Error> {
        let (made, files) = prepare(directories, take)?;
        write_archive(&made.manifest, &files, out)?;
        Ok(made)
    }
}

/// Prepares and writes, again if what is read changed meanwhile.
fn attempt(
    directories: &[PathBuf],
    take: Take,
    write: impl Fn(&Made, &Frozen) -> Result<(), Error>,
) -> Result<Made, Error> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let done = prepare(directories, take).and_then(|(made, files)| {
            write(&made, &files)?;
            Ok(made)
        });
        match done {
            Err(_) if attempts < ATTEMPTS_MAX => thread::sleep(PAUSE),
            done => return done,
        }
    }
}

/// Chooses the files, reads the state that they hold, and hashes them.
fn prepare(directories: &[PathBuf], take: Take) -> Result<(Made, Frozen), Error> {
    let mut files = data_directories(directories)?;
    require_log(directories, &files)?;
    let all = files.clone();
    let state = State::replay(&mut files, Point::Newest)?;
    if let Some(until) = state.fuzzy_until {
        return Err(Error::new(format!(
            "expected the log to go on to {until}, which the snapshot {} has something of, found \
             its end at {}; if the server runs, try again in a moment",
            state.snapshot.unwrap_or_default(),
            state.zxid
        )));
    }
    match take {
        Take::Newest => keep_needed(&mut files, state.snapshot),
        Take::Everything => files = all,
    }
    let oldest = snapshots(&files).next().map(|(zxid, _)| zxid);
    let source: Vec<_> = directories
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let mut manifest = Manifest::new(source.join(", "), now());
    manifest.first_zxid = oldest.unwrap_or_default().to_string();
    manifest.last_zxid = state.zxid.to_string();
    manifest.last_time = state.time.map(format_time);
    manifest.znodes = u64::try_from(state.tree.node_count()).ok();
    manifest.digest = Some(format!("{:x}", state.tree.digest()));
    for (name, part) in files.parts() {
        let failed = |error| Error::at(Path::new(part.location()), "read it", &error);
        let (bytes, sha256) = hash(&mut part.reader(0)).map_err(failed)?;
        if bytes < part.bytes() {
            return Err(changed(part));
        }
        manifest.files.push(FileEntry::new(name, bytes, sha256));
    }
    let made = Made {
        manifest,
        notes: state.notes,
        mismatch: state.mismatch,
    };
    Ok((made, files))
}

/// Keeps the snapshot and the logs that a server would read.
fn keep_needed(files: &mut Frozen, snapshot: Option<Zxid>) {
    let base = snapshot.unwrap_or_default();
    let newest_snapshot = snapshots(files).rfind(|(zxid, _)| Some(*zxid) == snapshot);
    // As recovery does: all logs that begin after it, and the one before these.
    let first_log = logs(files).rfind(|(first, _)| *first <= base);
    let first_log = first_log.map_or(Zxid::ZERO, |(first, _)| first);
    files.retain(|name| {
        if names::parse_snapshot(name).is_some() {
            return newest_snapshot
                .as_ref()
                .is_some_and(|(_, newest)| newest == name);
        }
        names::parse_log(name).is_none_or(|first| first >= first_log)
    });
}

fn refuse_existing(out: &Path) -> Result<(), Error> {
    if out.symlink_metadata().is_ok() {
        return Err(Error::new(format!(
            "{}: expected nothing there, found a file or directory; choose another name",
            out.display()
        )));
    }
    Ok(())
}

/// The name under which something is written until it is whole.
pub(super) fn partial(out: &Path) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    out.with_file_name(name)
}

fn write_file(manifest: &Manifest, files: &Frozen, out: &Path) -> Result<(), Error> {
    let temporary = partial(out);
    let failed = |error: io::Error| Error::at(&temporary, "write it", &error);
    let mut file = create_private(&temporary).map_err(failed)?;
    let written = write_archive(manifest, files, &mut file)
        .map_err(|error| Error::new(format!("{}: {error}", temporary.display())))
        .and_then(|()| file.sync_all().map_err(failed))
        .and_then(|()| rename_durably(&temporary, out));
    if written.is_err() {
        let _left = fs::remove_file(&temporary);
    }
    written
}

fn write_archive(manifest: &Manifest, files: &Frozen, out: &mut impl Write) -> Result<(), Error> {
    let failed = |error: io::Error| Error::new(format!("the archive cannot be written: {error}"));
    let mut archive = tar::Builder::new(out);
    let text = manifest.to_text();
    let mut header = header(text.len() as u64);
    archive
        .append_data(&mut header, manifest::NAME, text.as_slice())
        .map_err(failed)?;
    for (entry, part) in entries(manifest, files) {
        let mut header = self::header(entry.bytes);
        let mut content = Hashed::new(part, entry.bytes);
        archive
            .append_data(&mut header, &entry.name, &mut content)
            .map_err(failed)?;
        content.check(entry, part)?;
    }
    let out = archive.into_inner().map_err(failed)?;
    out.flush().map_err(failed)
}

fn write_directory(manifest: &Manifest, files: &Frozen, out: &Path) -> Result<(), Error> {
    let temporary = partial(out);
    // Perhaps left by a backup that was interrupted; perhaps something of the user's.
    refuse_existing(&temporary)?;
    let written =
        fill_directory(manifest, files, &temporary).and_then(|()| rename_durably(&temporary, out));
    if written.is_err() {
        let _left = fs::remove_dir_all(&temporary);
    }
    written
}

fn fill_directory(manifest: &Manifest, files: &Frozen, directory: &Path) -> Result<(), Error> {
    let below = directory.join(store::VERSION);
    create_private_directory(directory)?;
    create_private_directory(&below)?;
    for (entry, part) in entries(manifest, files) {
        let mut content = Hashed::new(part, entry.bytes);
        copy_durably(&mut content, &directory.join(&entry.name))?;
        content.check(entry, part)?;
    }
    let text = manifest.to_text();
    copy_durably(&mut text.as_slice(), &directory.join(manifest::NAME))?;
    store::sync_directory(&below)?;
    store::sync_directory(directory)?;
    Ok(())
}

fn entries<'a>(
    manifest: &'a Manifest,
    files: &'a Frozen,
) -> impl Iterator<Item = (&'a FileEntry, &'a Part)> {
    let part = |entry: &'a FileEntry| Some((entry, files.part(entry.store_name()?)?));
    manifest.files.iter().filter_map(part)
}

/// Writes a new file, durably but for its name.
pub(super) fn copy_durably(content: &mut impl Read, to: &Path) -> Result<(), Error> {
    let mut copy = || {
        let mut file = create_private(to)?;
        io::copy(content, &mut file)?;
        file.sync_all()
    };
    copy().map_err(|error| Error::at(to, "write it", &error))
}

/// Creates or empties a file that only its owner can read: a backup has every znode, whatever its
/// ACL.
pub(super) fn create_private(path: &Path) -> io::Result<File> {
    let mut open = OpenOptions::new();
    open.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut open, 0o600);
    open.open(path)
}

/// The same for a directory, which may be there.
pub(super) fn create_private_directory(path: &Path) -> Result<(), Error> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(path)
        .map_err(|error| Error::at(path, "create it", &error))
}

/// Gives a file its name, and makes that durable.
pub(super) fn rename_durably(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(|error| Error::at(to, "give it its name", &error))?;
    let directory = match to.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    store::sync_directory(directory)?;
    Ok(())
}

/// Content that is hashed while it is read.
struct Hashed {
    content: io::Take<store::Section>,
    sha256: Sha256,
    bytes: u64,
}

impl Hashed {
    fn new(part: &Part, bytes: u64) -> Self {
        Self {
            content: part.reader(0).take(bytes),
            sha256: Sha256::new(),
            bytes: 0,
        }
    }

    /// Makes sure that what was read is what was hashed before.
    fn check(self, entry: &FileEntry, part: &Part) -> Result<(), Error> {
        let name = entry.store_name().unwrap_or_default();
        if FileEntry::new(name, self.bytes, self.sha256) == *entry {
            Ok(())
        } else {
            Err(changed(part))
        }
    }
}

impl Read for Hashed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(buffer)?;
        self.sha256.update(buffer.get(..count).unwrap_or_default());
        self.bytes += count as u64;
        Ok(count)
    }
}

fn changed(part: &Part) -> Error {
    Error::new(format!(
        "{}: it changed while it was read, because the server took back transactions or its disk \
         fails; try again",
        part.location()
    ))
}

fn header(bytes: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes);
    header.set_mode(0o600);
    header.set_mtime(now_seconds());
    header
}

fn now_seconds() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// The time, as a manifest has it.
pub(super) fn now() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let millis = since.map_or(0, |since| since.as_millis());
    format_time(UnixMillis(i64::try_from(millis).unwrap_or(i64::MAX)))
}
