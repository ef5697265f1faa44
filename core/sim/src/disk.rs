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
    trouble: Option<Trouble>,
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

/// Why nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The process is dead: nothing can be done with the disk.
    Dead,
    /// ENOSPC: no file can be made, and none grow.
    Full,
    /// EIO: nothing can be written, and nothing made durable.
    Io,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dead => "the process is dead",
            Self::Full => "no space left on device",
            Self::Io => "input/output error",
        })
    }
}

/// A disk that does not do what it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Trouble {
    what: Failure,
    /// How many operations it still does.
    after: u64,
    /// Whether somebody has met it since it was asked.
    is_met: bool,
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

    /// Fails like this after so many operations more, until it is [repaired](Self::repair).
    pub fn break_down(&self, what: Failure, after: u64) {
        self.0.borrow_mut().trouble = Some(Trouble {
            what,
            after,
            is_met: false,
        });
    }

    /// Does again what it is asked.
    pub fn repair(&self) {
        self.0.borrow_mut().trouble = None;
    }

    /// Whether something was refused since this was last asked.
    #[must_use]
    pub fn take_met_trouble(&self) -> bool {
        let mut contents = self.0.borrow_mut();
        let trouble = contents.trouble.as_mut();
        trouble.is_some_and(|trouble| core::mem::take(&mut trouble.is_met))
    }

    /// Whether a small file could not be written.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        let contents = self.0.borrow();
        contents.trouble.is_some_and(|trouble| trouble.after == 0)
    }

    /// Flips one bit of one of the files that `may_rot`: which file and at which byte.
    pub fn rot(&self, rng: &mut Rng, may_rot: impl Fn(&str) -> bool) -> Option<(String, usize)> {
        let mut contents = self.0.borrow_mut();
        let names = contents.names.iter();
        let names: Vec<_> = names
            .filter(|(name, _)| may_rot(name))
            .map(|(name, inode)| (name.clone(), *inode))
            .collect();
        let (name, inode) = rng.pick(&names)?.clone();
        let file = contents.inodes.get_mut(&inode)?;
        // What was preallocated holds nothing.
        let used = file.durable.iter().rposition(|byte| *byte != 0)? + 1;
        let at = rng.index(used);
        let bit = 1 << rng.below(8);
        for bytes in [&mut file.durable, &mut file.visible] {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= bit;
            }
        }
        Some((name, at))
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
    fn operate(&mut self) -> Result<(), Failure> {
        self.operations += 1;
        if let Some(trouble) = &mut self.trouble {
            trouble.after = trouble.after.saturating_sub(1);
        }
        match &mut self.fuse {
            Some(0) => Err(Failure::Dead),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Fails if the disk has this trouble by now.
    fn meet(&mut self, what: Failure) -> Result<(), Failure> {
        match &mut self.trouble {
            Some(trouble) if trouble.what == what && trouble.after == 0 => {
                trouble.is_met = true;
                Err(what)
            }
            _ => Ok(()),
        }
    }

    fn file(&mut self, inode: Inode) -> Result<&mut File, Failure> {
        self.inodes.get_mut(&inode).ok_or(Failure::Dead)
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

fn position(offset: u64) -> Result<usize, Failure> {
    usize::try_from(offset).map_err(|_| Failure::Dead)
}

impl Disk for SimDisk {
    type Error = Failure;
    type File = Inode;

    fn location(&self, name: &str) -> String {
        name.to_owned()
    }

    fn list(&mut self) -> Result<Vec<Entry>, Failure> {
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
    ) -> Result<(), Failure> {
        let bytes = {
            let contents = self.0.borrow();
            let inode = contents.names.get(name).ok_or(Failure::Dead)?;
            let file = contents.inodes.get(inode).ok_or(Failure::Dead)?;
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

    fn create(&mut self, name: &str) -> Result<Inode, Failure> {
        let mut contents = self.0.borrow_mut();
        contents.operate()?;
        contents.meet(Failure::Io)?;
        contents.meet(Failure::Full)?;
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

    fn write(&mut self, file: &mut Inode, offset: u64, bytes: &[u8]) -> Result<(), Failure> {
        let mut contents = self.0.borrow_mut();
        let alive = contents.operate();
        let offset = position(offset)?;
        contents.meet(Failure::Io)?;
        let length = contents.file(*file)?.visible.len();
        if offset + bytes.len() > length
            && let Err(full) = contents.meet(Failure::Full)
        {
            // What still found room is written.
            let room = bytes.len() / 2;
            let bytes = bytes.get(..room).unwrap_or_default().to_vec();
            contents
                .file(*file)?
                .change(Change::Write { offset, bytes });
            return Err(full);
        }
        // A process that dies in a write may have written.
        contents.file(*file)?.change(Change::Write {
            offset,
            bytes: bytes.to_vec(),
        });
        alive
    }

    fn sync(&mut self, file: &mut Inode) -> Result<(), Failure> {
        let mut contents = self.0.borrow_mut();
        contents.operate()?;
        contents.meet(Failure::Io)?;
        let file = contents.file(*file)?;
        let changes = core::mem::take(&mut file.unsynced);
        for change in changes {
            change.apply(&mut file.durable);
        }
        Ok(())
    }

    fn cut(&mut self, name: &str, length: u64) -> Result<(), Failure> {
        let mut contents = self.0.borrow_mut();
        contents.operate()?;
        contents.meet(Failure::Io)?;
        let inode = contents.names.get(name).copied().ok_or(Failure::Dead)?;
        contents
            .file(inode)?
            .change(Change::Length(position(length)?));
        drop(contents);
        self.sync(&mut { inode })
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), Failure> {
        let mut contents = self.0.borrow_mut();
        contents.operate()?;
        contents.meet(Failure::Io)?;
        let inode = contents.names.get(from).copied().ok_or(Failure::Dead)?;
        contents.change_name(NameChange::Rename(from.to_owned(), to.to_owned(), inode));
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<(), Failure> {
        let mut contents = self.0.borrow_mut();
        contents.operate()?;
        contents.meet(Failure::Io)?;
        if contents.names.contains_key(name) {
            contents.change_name(NameChange::Unlink(name.to_owned()));
        }
        Ok(())
    }

    fn sync_directory(&mut self) -> Result<(), Failure> {
        let mut contents = self.0.borrow_mut();
        contents.operate()?;
        contents.meet(Failure::Io)?;
        contents.unsynced_names.clear();
        contents.durable_names = contents.names.clone();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failure is the test's")]

    use core::cell::RefCell;
    use core::ops::ControlFlow;
    use std::rc::Rc;

    use zabra_core::store::disk::Disk;

    use super::{Contents, Failure, SimDisk};
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
    fn a_full_disk_takes_what_needs_no_room() {
        let mut disk = SimDisk::default();
        let mut file = disk.create("a").unwrap();
        disk.write(&mut file, 0, &[1; 20]).unwrap();
        disk.break_down(Failure::Full, 0);
        assert_eq!(disk.write(&mut file, 10, &[2; 20]), Err(Failure::Full));
        assert!(disk.take_met_trouble() && !disk.take_met_trouble());
        assert_eq!(disk.create("b"), Err(Failure::Full));
        disk.write(&mut file, 0, &[3; 20]).unwrap();
        disk.sync(&mut file).unwrap();
        disk.remove("a").unwrap();
        disk.repair();
        assert!(disk.create("b").is_ok());
    }

    #[test]
    fn what_a_broken_disk_could_not_sync_is_not_durable() {
        let mut disk = SimDisk::default();
        let mut file = disk.create("a").unwrap();
        disk.sync_directory().unwrap();
        disk.write(&mut file, 0, b"lost").unwrap();
        disk.break_down(Failure::Io, 1);
        assert_eq!(disk.sync(&mut file), Err(Failure::Io));
        disk.repair();
        let lengths = (0..50).map(|seed| {
            let mut disk = SimDisk(Rc::new(RefCell::new(Contents {
                inodes: disk.0.borrow().inodes.clone(),
                names: disk.0.borrow().names.clone(),
                durable_names: disk.0.borrow().durable_names.clone(),
                ..Contents::default()
            })));
            disk.cut_power(&mut Rng::keyed(seed, Stream::Disk, 0, 0));
            content(&mut disk, "a").len()
        });
        assert!(lengths.collect::<Vec<_>>().contains(&0));
    }

    #[test]
    fn rot_changes_one_bit_of_what_holds_something() {
        for seed in 0..50 {
            let mut disk = SimDisk::default();
            let mut file = disk.create("a").unwrap();
            disk.write(&mut file, 0, &[7; 20]).unwrap();
            disk.write(&mut file, 20, &[0; 200]).unwrap();
            disk.sync(&mut file).unwrap();
            let mut rng = Rng::keyed(seed, Stream::Disk, 0, 0);
            let (_, at) = disk.rot(&mut rng, |name| name == "a").unwrap();
            let bytes = content(&mut disk, "a");
            let flipped = bytes.iter().enumerate().map(|(index, byte)| {
                let before: u8 = if index < 20 { 7 } else { 0 };
                (byte ^ before).count_ones()
            });
            assert!(at < 20 && flipped.sum::<u32>() == 1);
        }
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
