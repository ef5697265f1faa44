//! The small files that hold one number: `myid`, `acceptedEpoch`, `currentEpoch`.
//!
//! Source: ZooKeeper `QuorumPeer`, `AtomicFileOutputStream` (which does not sync the directory).

use std::io;
use std::path::Path;

use zabra_core::store::disk::Disk;

use super::{Directories, Error, FsDisk};

const ACCEPTED_EPOCH: &str = "acceptedEpoch";
const CURRENT_EPOCH: &str = "currentEpoch";
const MYID: &str = "myid";

impl Directories {
    /// The epoch this server has promised to follow; `None` if it never took part in an ensemble.
    ///
    /// # Errors
    /// The file cannot be read, or holds no number.
    pub fn accepted_epoch(&self) -> Result<Option<i64>, Error> {
        read(self.snapshots().path(), ACCEPTED_EPOCH)
    }

    /// Makes the promise durable.
    ///
    /// # Errors
    /// It could not be done; the promise must not be given.
    pub fn set_accepted_epoch(&self, epoch: i64) -> Result<(), Error> {
        write(&mut self.snapshots(), ACCEPTED_EPOCH, epoch)
    }

    /// The epoch this server is in; `None` if it never took part in an ensemble.
    ///
    /// # Errors
    /// The file cannot be read, or holds no number.
    pub fn current_epoch(&self) -> Result<Option<i64>, Error> {
        read(self.snapshots().path(), CURRENT_EPOCH)
    }

    /// Makes the epoch durable.
    ///
    /// # Errors
    /// It could not be done; the epoch must not be acknowledged.
    pub fn set_current_epoch(&self, epoch: i64) -> Result<(), Error> {
        write(&mut self.snapshots(), CURRENT_EPOCH, epoch)
    }

    /// This server's number in its ensemble, if it has one.
    ///
    /// # Errors
    /// The file cannot be read, or holds no number.
    pub fn myid(&self) -> Result<Option<i64>, Error> {
        read(self.data_dir(), MYID)
    }

    /// Gives this server a number.
    ///
    /// # Errors
    /// It could not be done.
    pub fn set_myid(&self, id: i64) -> Result<(), Error> {
        write(&mut FsDisk::unlocked(self.data_dir().to_owned()), MYID, id)
    }
}

fn read(directory: &Path, name: &str) -> Result<Option<i64>, Error> {
    let path = directory.join(name);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::new(&path, "read the file", source)),
    };
    // Only the first line counts; spaces around it are forgiven.
    let line = text.lines().next().unwrap_or_default().trim();
    match line.parse() {
        Ok(number) if number >= 0 => Ok(Some(number)),
        _ => Err(Error::refused(
            &path,
            format!(
                "expected a decimal number, found {line:?}; restore the file from a backup or \
                 correct it"
            ),
        )),
    }
}

fn write(disk: &mut FsDisk, name: &str, number: i64) -> Result<(), Error> {
    let temporary = format!("{name}.tmp");
    let mut file = disk.create(&temporary)?;
    disk.write(&mut file, 0, number.to_string().as_bytes())?;
    disk.sync(&mut file)?;
    drop(file);
    disk.rename(&temporary, name)?;
    disk.sync_directory()
}
