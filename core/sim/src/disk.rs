//! A disk that keeps what was synced and may forget, keep or tear anything else.

use core::cell::RefCell;
use core::fmt;
use core::ops::ControlFlow;
use std::collections::BTreeMap;
use std::rc::Rc;

use zabra_core::store::disk::{Disk, Entry};

use crate::rng::Rng;

/// What a power cut keeps or loses as one.
const SECTOR_BYTES: usize = 512;

/// A handle to the disk; clones share it.
#[derive(Clone, Debug, Default)]
pub struct SimDisk(Rc<RefCell<Contents>>);

/// The number of an inode.
type Inode = u64;

#[derive(Debug, Default)]
struct Contents {
    inodes: BTreeMap<Inode, File>,
    /// Names as everyone sees them.
    names: BTreeMap<String, Inode>,
    /// Names as they are after a power cut in which everything is lost.
    durable_names: BTreeMap<String, Inode>,
    /// What has changed since.
    unsynced_names: Vec<NameChange>,
    next: Inode,
    /// After how many operations more the power goes or the process dies.
    fuse: Option<u64>,
    operations: u64,
}

#[derive(Clone, Debug, Default)]
struct File {
    durable: Vec<u8>,
    visible: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Length(usize),
    Write { offset: usize, bytes: Vec<u8> },
}

#[derive(Clone, Debug)]
enum NameChange {
    Link(String, Inode),
    Rename(String, String, Inode),
    Unlink(String),
}

/// How much of what was not synced a power cut keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    All,
    Nothing,
    /// What came first, up to any byte.
    Prefix,
    /// Any sectors, the last one torn.
    Subset,
}

/// The process is dead: nothing can be done with the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dead;

impl fmt::Display for Dead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the process is dead")
    }
}

/// What a power cut has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Some of what was written but not synced is lost.
    pub is_lossy: bool,
    /// A file is neither as it was synced nor as it was written.
    pub is_torn: bool,
}

impl SimDisk {
    /// Lets the process die after this many operations more.
    pub fn light_fuse(&self, operations: u64) {
        self.0.borrow_mut().fuse = Some(operations);
    }

    /// Whether the fuse has burnt down.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.0.borrow().fuse == Some(0)
    }

    /// Lets nothing happen after all.
    pub fn put_out_fuse(&self) {
        self.0.borrow_mut().fuse = None;
    }

    /// The names of the files, as everyone sees them.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.0.borrow().names.keys().cloned().collect()
    }

    /// How many operations were done.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.0.borrow().operations
    }

    /// The process is dead. The system lives, and with it all that was written; none of it is more
    /// durable than before.
    pub fn kill(&self) {
        self.0.borrow_mut().fuse = None;
    }

    /// The power is gone: of what was not synced, some stays.
    pub fn cut_power(&self, rng: &mut Rng) -> Damage {
        let mut damage = Damage::default();
        let mut contents = self.0.borrow_mut();
        contents.fuse = None;
        for file in contents.inodes.values_mut() {
            let keep = choose(rng);
            let after = file.after_cut(keep, rng);
            let as_synced = after == file.durable;
            let as_written = after == file.visible;
            damage.is_lossy |= !as_written;
            damage.is_torn |= !as_synced && !as_written;
            file.unsynced.clear();
            file.durable.clone_from(&after);
            file.visible = after;
        }
        let changes = core::mem::take(&mut contents.unsynced_names);
        let keep = choose(rng);
        let prefix = rng.index(changes.len() + 1);
        let mut names = core::mem::take(&mut contents.durable_names);
        for (index, change) in changes.iter().enumerate() {
            let is_kept = match keep {
                Keep::All => true,
                Keep::Nothing => false,
                Keep::Prefix => index < prefix,
                Keep::Subset => rng.one_in(2),
            };
            damage.is_lossy |= !is_kept;
            if is_kept {
                change.apply(&mut names);
            }
        }
        contents.names = names;
        contents.settle_names();
        damage
    }
}

fn choose(rng: &mut Rng) -> Keep {
    match rng.below(4) {
        0 => Keep::All,
        1 => Keep::Nothing,
        2 => Keep::Prefix,
        _ => Keep::Subset,
    }
}

impl Contents {
    fn settle_names(&mut self) {
        self.unsynced_names.clear();
        self.durable_names.clone_from(&self.names);
        let names = &self.names;
        self.inodes
            .retain(|inode, _| names.values().any(|named| named == inode));
    }

    /// Counts an operation; the last one before death may still have its effect.
    fn operate(&mut self) -> Result<(), Dead> {
        self.operations += 1;
        match &mut self.fuse {
            Some(0) => Err(Dead),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn file(&mut self, inode: Inode) -> Result<&mut File, Dead> {
        self.inodes.get_mut(&inode).ok_or(Dead)
    }

    fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.unsynced_names.push(change);
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, Inode>) {
        match self {
            Self::Link(name, inode) => {
                names.insert(name.clone(), *inode);
            }
            Self::Rename(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
            Self::Unlink(name) => {
                names.remove(name);
            }
        }
    }
}

impl File {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.visible);
        self.unsynced.push(change);
    }

    fn after_cut(&self, keep: Keep, rng: &mut Rng) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        match keep {
            Keep::Nothing => {}
            Keep::All => bytes.clone_from(&self.visible),
            Keep::Prefix => {
                let sizes = self.unsynced.iter().map(Change::size);
                let mut left = rng.index(sizes.sum::<usize>() + 1);
                for change in &self.unsynced {
                    change.cut_to(left).apply(&mut bytes);
                    if change.size() > left {
                        break;
                    }
                    left -= change.size();
                }
            }
            Keep::Subset => {
                for change in &self.unsynced {
                    change.apply_sectors(&mut bytes, rng);
                }
            }
        }
        bytes
    }
}

impl Change {
    const fn size(&self) -> usize {
        match self {
            Self::Length(_) => 1,
            Self::Write { bytes, .. } => bytes.len(),
        }
    }

    fn cut_to(&self, size: usize) -> Self {
        match self {
            Self::Length(length) => Self::Length(*length),
            Self::Write { offset, bytes } => Self::Write {
                offset: *offset,
                bytes: bytes.get(..size).unwrap_or(bytes).to_vec(),
            },
        }
    }

    fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Self::Length(length) => file.resize(*length, 0),
            Self::Write { offset, bytes } => write_at(file, *offset, bytes),
        }
    }

    /// Applies any sectors of a write, of the last one only its beginning.
    fn apply_sectors(&self, file: &mut Vec<u8>, rng: &mut Rng) {
        let Self::Write { offset, bytes } = self else {
            if rng.one_in(2) {
                self.apply(file);
            }
            return;
        };
        let mut at = *offset;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let to_boundary = SECTOR_BYTES - at % SECTOR_BYTES;
            let (sector, after) = rest.split_at(to_boundary.min(rest.len()));
            let kept = if after.is_empty() {
                rng.index(sector.len() + 1)
            } else if rng.one_in(2) {
                sector.len()
            } else {
                0
            };
            if kept > 0 {
                write_at(file, at, sector.get(..kept).unwrap_or_default());
            }
            at += sector.len();
            rest = after;
        }
    }
}

fn write_at(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    if let Some(target) = file.get_mut(offset..end) {
        target.copy_from_slice(bytes);
    }
}

fn position(offset: u64) -> Result<usize, Dead> {
    usize::try_from(offset).map_err(|_| Dead)
}

impl Disk for SimDisk {
    type Error = Dead;
    type File = Inode;

    fn location(&self, name: &str) -> String {
        name.to_owned()
    }

    fn list(&mut self) -> Result<Vec<Entry>, Dead> {
        let contents = self.0.borrow();
        let entry = |(name, inode): (&String, &Inode)| Entry {
            name: name.clone(),
            bytes: contents
                .inodes
                .get(inode)
                .map_or(0, |file| file.visible.len() as u64),
        };
        Ok(contents.names.iter().map(entry).collect())
    }

    fn read(
        &mut self,
        name: &str,
        offset: u64,
        sink: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), Dead> {
        let bytes = {
            let contents = self.0.borrow();
            let inode = contents.names.get(name).ok_or(Dead)?;
            let file = contents.inodes.get(inode).ok_or(Dead)?;
            file.visible
                .get(position(offset)?..)
                .unwrap_or_default()
                .to_vec()
        };
        // Pieces of an odd size, so that nothing can rely on where they end.
        for piece in bytes.chunks(4093) {
            if sink(piece).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn create(&mut self, name: &str) -> Result<Inode, Dead> {
        let mut contents = self.0.borrow_mut();
        contents.operate()?;
        if let Some(inode) = contents.names.get(name).copied() {
            contents.file(inode)?.change(Change::Length(0));
            return Ok(inode);
        }
        contents.next += 1;
        let inode = contents.next;
        contents.inodes.insert(inode, File::default());
        contents.change_name(NameChange::Link(name.to_owned(), inode));
        Ok(inode)
    }

    fn write(&mut self, file: &mut Inode, offset: u64, bytes: &[u8]) -> Result<(), Dead> {
        let mut contents = self.0.borrow_mut();
        let alive = contents.operate();
        let offset = position(offset)?;
        // A process that dies in a write may have written.
        contents.file(*file)?.change(Change::Write {
            offset,
            bytes: bytes.to_vec(),
        });
        alive
    }

    fn sync(&mut self, file: &mut Inode) -> Result<(), Dead> {
        let mut contents = self.0.borrow_mut();
        contents.operate()?;
        let file = contents.file(*file)?;
        let changes = core::mem::take(&mut file.unsynced);
        for change in changes {
            change.apply(&mut file.durable);
        }
        Ok(())
    }

    fn cut(&mut self, name: &str, length: u64) -> Result<(), Dead> {
        let mut contents = self.0.borrow_mut();
        contents.operate()?;
        let inode = contents.names.get(name).copied().ok_or(Dead)?;
        contents
            .file(inode)?
            .change(Change::Length(position(length)?));
        drop(contents);
        self.sync(&mut { inode })
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), Dead> {
        let mut contents = self.0.borrow_mut();
        contents.operate()?;
        let inode = contents.names.get(from).copied().ok_or(Dead)?;
        contents.change_name(NameChange::Rename(from.to_owned(), to.to_owned(), inode));
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<(), Dead> {
        let mut contents = self.0.borrow_mut();
        contents.operate()?;
        if contents.names.contains_key(name) {
            contents.change_name(NameChange::Unlink(name.to_owned()));
        }
        Ok(())
    }

    fn sync_directory(&mut self) -> Result<(), Dead> {
        let mut contents = self.0.borrow_mut();
        contents.operate()?;
        contents.unsynced_names.clear();
        contents.durable_names = contents.names.clone();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failure is the test's")]

    use core::ops::ControlFlow;

    use zabra_core::store::disk::Disk;

    use super::SimDisk;
    use crate::rng::{Rng, Stream};

    fn content(disk: &mut SimDisk, name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        disk.read(name, 0, &mut |piece| {
            bytes.extend_from_slice(piece);
            ControlFlow::Continue(())
        })
        .unwrap();
        bytes
    }

    #[test]
    fn what_was_synced_survives_every_power_cut() {
        for seed in 0..200 {
            let mut disk = SimDisk::default();
            let mut file = disk.create("a").unwrap();
            disk.write(&mut file, 0, b"durable").unwrap();
            disk.sync(&mut file).unwrap();
            disk.sync_directory().unwrap();
            disk.write(&mut file, 7, &[1; 2000]).unwrap();
            disk.cut_power(&mut Rng::keyed(seed, Stream::Disk, 0, 0));
            assert!(content(&mut disk, "a").starts_with(b"durable"));
        }
    }

    #[test]
    fn what_was_not_synced_may_be_lost_kept_or_torn() {
        let mut lengths = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let mut disk = SimDisk::default();
            let mut file = disk.create("a").unwrap();
            disk.sync_directory().unwrap();
            disk.write(&mut file, 0, &[1; 2000]).unwrap();
            disk.cut_power(&mut Rng::keyed(seed, Stream::Disk, 0, 0));
            lengths.insert(content(&mut disk, "a").len());
        }
        assert!(lengths.contains(&0) && lengths.contains(&2000) && lengths.len() > 20);
    }

    #[test]
    fn a_name_that_was_not_synced_may_vanish() {
        let mut outcomes = std::collections::BTreeSet::new();
        for seed in 0..50 {
            let mut disk = SimDisk::default();
            let mut file = disk.create("a").unwrap();
            disk.sync(&mut file).unwrap();
            disk.cut_power(&mut Rng::keyed(seed, Stream::Disk, 0, 0));
            outcomes.insert(disk.list().unwrap().len());
        }
        assert_eq!(outcomes.into_iter().collect::<Vec<_>>(), [0, 1]);
    }
}
