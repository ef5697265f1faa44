//! Snapshots, as they are written.

use alloc::string::String;

use crate::ids::Zxid;
use crate::store::disk::Disk;
use crate::store::names::{self, Compression, UNFINISHED_SNAPSHOT_PREFIX};

/// How many bytes are written between two syncs.
///
/// One sync of a whole snapshot at its end would keep the disk busy for seconds, and the log with
/// it.
const PACE_BYTES: u64 = 4 << 20;

/// The writer of snapshots, one at a time.
///
/// A snapshot has a temporary name until it is durable, so a file with a snapshot's name is always
/// whole.
#[derive(Debug)]
pub struct SnapshotStore<D: Disk> {
    disk: D,
    current: Option<Unfinished<D::File>>,
}

#[derive(Debug)]
struct Unfinished<F> {
    file: F,
    temporary: String,
    name: String,
    written: u64,
    synced: u64,
}

impl<D: Disk> SnapshotStore<D> {
    /// A writer with nothing begun.
    pub const fn new(disk: D) -> Self {
        Self {
            disk,
            current: None,
        }
    }

    /// The disk.
    pub const fn disk(&mut self) -> &mut D {
        &mut self.disk
    }

    /// Removes what an interrupted writer left behind.
    ///
    /// # Errors
    /// The directory cannot be read, or a file not be removed.
    pub fn remove_unfinished(&mut self) -> Result<(), D::Error> {
        for entry in self.disk.list()? {
            if entry.name.starts_with(UNFINISHED_SNAPSHOT_PREFIX) {
                self.disk.remove(&entry.name)?;
            }
        }
        Ok(())
    }

    /// Begins the snapshot of the state at `zxid`; one that was begun before is given up.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn begin(&mut self, zxid: Zxid, compression: Compression) -> Result<(), D::Error> {
        self.abandon();
        let temporary = names::unfinished_snapshot(zxid, compression);
        self.current = Some(Unfinished {
            file: self.disk.create(&temporary)?,
            temporary,
            name: names::snapshot(zxid, compression),
            written: 0,
            synced: 0,
        });
        Ok(())
    }

    /// Writes the next bytes of the file as they shall stand in it: compressed, if its name says
    /// so.
    ///
    /// # Errors
    /// They could not be written; the snapshot is given up.
    ///
    /// # Panics
    /// No snapshot was begun.
    pub fn chunk(&mut self, bytes: &[u8]) -> Result<(), D::Error> {
        let snapshot = self.current.as_mut().expect("a snapshot has a beginning");
        let written = snapshot.write(&mut self.disk, bytes);
        self.abandon_if_failed(written)
    }

    /// Makes the snapshot durable under its name.
    ///
    /// # Errors
    /// It could not be done; the snapshot is given up.
    ///
    /// # Panics
    /// No snapshot was begun.
    pub fn end(&mut self) -> Result<(), D::Error> {
        let snapshot = self.current.as_mut().expect("a snapshot has a beginning");
        let finished = snapshot.finish(&mut self.disk);
        self.abandon_if_failed(finished)?;
        self.current = None;
        Ok(())
    }

    /// Gives up the snapshot that was begun, if one was.
    pub fn abandon(&mut self) {
        if let Some(snapshot) = self.current.take() {
            drop(snapshot.file);
            // If it stays, the next start removes it: nobody takes it for a snapshot.
            let _ = self.disk.remove(&snapshot.temporary);
        }
    }

    fn abandon_if_failed(&mut self, result: Result<(), D::Error>) -> Result<(), D::Error> {
        if result.is_err() {
            self.abandon();
        }
        result
    }
}

impl<F> Unfinished<F> {
    fn write<D: Disk<File = F>>(&mut self, disk: &mut D, bytes: &[u8]) -> Result<(), D::Error> {
        disk.write(&mut self.file, self.written, bytes)?;
        self.written += bytes.len() as u64;
        if self.written - self.synced >= PACE_BYTES {
            disk.sync(&mut self.file)?;
            self.synced = self.written;
        }
        Ok(())
    }

    fn finish<D: Disk<File = F>>(&mut self, disk: &mut D) -> Result<(), D::Error> {
        disk.sync(&mut self.file)?;
        disk.rename(&self.temporary, &self.name)?;
        disk.sync_directory()
    }
}
