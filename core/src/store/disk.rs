//! What the store needs of a disk: one directory of files.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::ControlFlow;

/// One directory of files, with blocking operations.
///
/// What has been written is lost in a power cut, wholly or in any part, until [`Disk::sync`]
/// returned for its file; the existence, name and removal of a file until [`Disk::sync_directory`]
/// returned. A reader of the same disk sees everything at once. After an error nothing is known
/// about the file or directory concerned: it must not be synced again in the hope that it succeeds.
pub trait Disk {
    /// Why an operation failed. Its text names the file.
    type Error: fmt::Debug + fmt::Display;

    /// A file open for writing; dropping it closes it and makes nothing durable.
    type File;

    /// The file as an operator would name it: with its whole path, where there is one.
    fn location(&self, name: &str) -> String;

    /// The files of the directory, in any order; no directories.
    ///
    /// # Errors
    /// The directory cannot be read.
    fn list(&mut self) -> Result<Vec<Entry>, Self::Error>;

    /// Hands the file's content from `offset` on to `sink`, in pieces of any size that are not
    /// empty, until it breaks or the file ends. A compressed snapshot is decompressed; its offset
    /// must be 0.
    ///
    /// # Errors
    /// The file cannot be read or decompressed.
    fn read(
        &mut self,
        name: &str,
        offset: u64,
        sink: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), Self::Error>;

    /// Creates a file, or empties the one that has this name.
    ///
    /// # Errors
    /// The file cannot be created.
    fn create(&mut self, name: &str) -> Result<Self::File, Self::Error>;

    /// Writes all of `bytes` at `offset`, which is not after the end of the file.
    ///
    /// # Errors
    /// The bytes could not be written, or only some of them.
    fn write(
        &mut self,
        file: &mut Self::File,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), Self::Error>;

    /// Makes the file's content and length durable.
    ///
    /// # Errors
    /// It could not be done; what was written since the last sync may be lost in any part.
    fn sync(&mut self, file: &mut Self::File) -> Result<(), Self::Error>;

    /// Cuts the file to `length` bytes, durably.
    ///
    /// # Errors
    /// It could not be done, or is not durable.
    fn cut(&mut self, name: &str, length: u64) -> Result<(), Self::Error>;

    /// Gives a file another name, replacing the file that has it, in one step.
    ///
    /// # Errors
    /// It could not be done.
    fn rename(&mut self, from: &str, to: &str) -> Result<(), Self::Error>;

    /// Removes a file; one that is not there counts as removed.
    ///
    /// # Errors
    /// It could not be done.
    fn remove(&mut self, name: &str) -> Result<(), Self::Error>;

    /// Makes every creation, renaming and removal up to here durable.
    ///
    /// # Errors
    /// It could not be done.
    fn sync_directory(&mut self) -> Result<(), Self::Error>;
}

/// A file of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its length (compressed, if it is).
    pub bytes: u64,
}

/// Puts a small file in the place of the one with this name, durably and in one step: after a
/// crash it holds either what it held before or `content`. An interrupted replacement leaves
/// `<name>.tmp` behind, which means nothing.
///
/// Source: ZooKeeper `AtomicFileOutputStream`, which does not sync the directory, so that a power
/// cut can undo a promise.
///
/// # Errors
/// It could not be done, or is not durable.
pub fn replace<D: Disk>(disk: &mut D, name: &str, content: &[u8]) -> Result<(), D::Error> {
    let temporary = format!("{name}.tmp");
    let mut file = disk.create(&temporary)?;
    disk.write(&mut file, 0, content)?;
    disk.sync(&mut file)?;
    drop(file);
    disk.rename(&temporary, name)?;
    disk.sync_directory()
}

/// The content of a small file up to its first `bytes_max` bytes, or `None` if it is not there.
///
/// # Errors
/// The directory or the file cannot be read.
pub fn read_small<D: Disk>(
    disk: &mut D,
    name: &str,
    bytes_max: usize,
) -> Result<Option<Vec<u8>>, D::Error> {
    if !disk.list()?.iter().any(|entry| entry.name == name) {
        return Ok(None);
    }
    read_part(disk, name, 0, bytes_max).map(Some)
}

/// Up to `count` bytes of a file from `offset` on.
///
/// # Errors
/// The file cannot be read.
pub(super) fn read_part<D: Disk>(
    disk: &mut D,
    name: &str,
    offset: u64,
    count: usize,
) -> Result<Vec<u8>, D::Error> {
    let mut bytes = Vec::new();
    let mut sink = |piece: &[u8]| {
        bytes.extend(piece.iter().take(count - bytes.len()));
        if bytes.len() == count {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    };
    disk.read(name, offset, &mut sink)?;
    Ok(bytes)
}
