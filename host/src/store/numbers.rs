//! The small files that hold one number: `myid`, `acceptedEpoch`, `currentEpoch`.
//!
//! Source: ZooKeeper `QuorumPeer`.

use std::io;
use std::path::Path;

use zabra_core::ids::Zxid;
use zabra_core::store::disk::replace;
use zabra_core::store::epochs::{self, Epochs};

use super::{Directories, Error, FsDisk};

const MYID: &str = "myid";

impl Directories {
    /// What this server of an ensemble has promised, if `last` is the last transaction that
    /// recovery found; what is missing or behind is written. Standalone servers do not ask.
    ///
    /// # Errors
    /// A file cannot be read, holds no epoch, or could not be written.
    pub fn epochs(&self, last: Zxid) -> Result<Epochs, Error> {
        let mut disk = self.snapshots();
        epochs::open(&mut disk, last).map_err(|error| Error::of_epochs(disk.path(), error))
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
        let mut disk = FsDisk::unlocked(self.data_dir().to_owned());
        replace(&mut disk, MYID, id.to_string().as_bytes())
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
