//! A disk in memory that loses in a power cut what was not synced, and what is restored from it.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops where its expectation fails"
)]

extern crate std;

mod crash;
mod golden;
mod recent;
mod recovery;
mod taking_back;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::RefCell;
use core::ops::ControlFlow;

use crate::ids::Zxid;
use crate::store::Restore;
use crate::store::disk::{Disk, Entry};

const SECTOR: usize = 512;

/// A directory in memory. Its clones are the same directory.
#[derive(Clone, Debug, Default)]
struct MemDisk(Rc<RefCell<State>>);

#[derive(Debug, Default)]
struct State {
    files: Vec<MemFile>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// Names that changed since the directory was synced, and what they mean since.
    unsynced_names: Vec<Vec<(String, Option<usize>)>>,
    fuse: Rc<RefCell<Fuse>>,
    /// Bytes handed out by reads.
    read_piece: usize,
}

/// Operations that change something, so far; at `fail_at` they begin to fail.
#[derive(Debug, Default)]
struct Fuse {
    operations: usize,
    fail_at: Option<usize>,
}

#[derive(Clone, Debug, Default)]
struct MemFile {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    unsynced: BTreeSet<usize>,
}

#[derive(Debug, PartialEq, Eq)]
struct Failed(String);

impl core::fmt::Display for Failed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.0)
    }
}

impl MemDisk {
    fn with(files: &[(&str, &[u8])]) -> Self {
        let disk = Self::default();
        for (name, bytes) in files {
            disk.put(name, bytes);
        }
        disk
    }

    /// Puts a durable file there.
    fn put(&self, name: &str, bytes: &[u8]) {
        let state = &mut *self.0.borrow_mut();
        state.files.push(MemFile {
            bytes: bytes.to_vec(),
            durable: bytes.to_vec(),
            unsynced: BTreeSet::new(),
        });
        let file = state.files.len() - 1;
        state.names.insert(name.to_string(), file);
        state.durable_names.insert(name.to_string(), file);
    }

    fn content(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.0.borrow();
        let file = *state.names.get(name)?;
        Some(state.files[file].bytes.clone())
    }

    fn all(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.0.borrow();
        let content =
            |(name, file): (&String, &usize)| (name.clone(), state.files[*file].bytes.clone());
        state.names.iter().map(content).collect()
    }

    /// A second directory, which fails when this one does.
    fn beside(&self) -> Self {
        let other = Self::default();
        other.0.borrow_mut().fuse = Rc::clone(&self.0.borrow().fuse);
        other
    }

    fn fail_at(&self, operation: usize) {
        self.0.borrow().fuse.borrow_mut().fail_at = Some(operation);
    }

    fn operations(&self) -> usize {
        self.0.borrow().fuse.borrow().operations
    }

    fn read_pieces_of(&self, bytes: usize) {
        self.0.borrow_mut().read_piece = bytes;
    }

    /// What is there after a power cut: durable names and any choice of the changes since, and of
    /// each file any choice of unsynced sectors.
    fn power_cut(&self, random: &mut Random) -> Self {
        let state = self.0.borrow();
        let after = Self::default();
        let mut names = state.durable_names.clone();
        for change in &state.unsynced_names {
            if random.below(2) == 0 {
                for (name, file) in change {
                    match file {
                        Some(file) => names.insert(name.clone(), *file),
                        None => names.remove(name),
                    };
                }
            }
        }
        for (name, file) in &names {
            after.put(name, &state.files[*file].after_power_cut(random));
        }
        after
    }

    /// What is there after the process was killed.
    fn kill(&self) -> Self {
        let after = Self::default();
        for (name, bytes) in self.all() {
            after.put(&name, &bytes);
        }
        after
    }

    fn change(&self, name: &str) -> Result<core::cell::RefMut<'_, State>, Failed> {
        let state = self.0.borrow_mut();
        let mut fuse = state.fuse.borrow_mut();
        fuse.operations += 1;
        if fuse.fail_at.is_some_and(|at| fuse.operations > at) {
            return Err(Failed(alloc::format!("{name}: the power is off")));
        }
        drop(fuse);
        Ok(state)
    }
}

impl State {
    /// Changes some names in one step.
    fn change_names(&mut self, change: &[(&str, Option<usize>)]) {
        for (name, file) in change {
            match file {
                Some(file) => self.names.insert(name.to_string(), *file),
                None => self.names.remove(*name),
            };
        }
        let change = change.iter().map(|(name, file)| (name.to_string(), *file));
        self.unsynced_names.push(change.collect());
    }
}

impl MemFile {
    fn after_power_cut(&self, random: &mut Random) -> Vec<u8> {
        if self.unsynced.is_empty() && self.bytes.len() == self.durable.len() {
            return self.durable.clone();
        }
        // The length is metadata: it becomes durable before or after the data.
        let mut bytes = self.durable.clone();
        if random.below(2) == 0 {
            bytes.resize(self.bytes.len(), 0);
        }
        let in_order = random.below(2) == 0;
        let count = random.below(self.unsynced.len() + 1);
        for (index, sector) in self.unsynced.iter().enumerate() {
            let kept = if in_order {
                index < count
            } else {
                random.below(2) == 0
            };
            let end = ((sector + 1) * SECTOR)
                .min(self.bytes.len())
                .min(bytes.len());
            let start = (sector * SECTOR).min(end);
            if kept {
                bytes[start..end].copy_from_slice(&self.bytes[start..end]);
            }
        }
        bytes
    }
}

impl Disk for MemDisk {
    type Error = Failed;
    type File = usize;

    fn location(&self, name: &str) -> String {
        alloc::format!("/mem/{name}")
    }

    fn list(&mut self) -> Result<Vec<Entry>, Failed> {
        let state = self.0.borrow();
        let entry = |(name, file): (&String, &usize)| Entry {
            name: name.clone(),
            bytes: state.files[*file].bytes.len() as u64,
        };
        Ok(state.names.iter().map(entry).collect())
    }

    fn read(
        &mut self,
        name: &str,
        offset: u64,
        sink: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), Failed> {
        let bytes = self.content(name).ok_or_else(|| Failed(name.to_string()))?;
        let piece = match self.0.borrow().read_piece {
            0 => 4096,
            piece => piece,
        };
        for piece in bytes[usize::try_from(offset).unwrap()..].chunks(piece) {
            if sink(piece).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn create(&mut self, name: &str) -> Result<usize, Failed> {
        let mut state = self.change(name)?;
        state.files.push(MemFile::default());
        let file = state.files.len() - 1;
        state.change_names(&[(name, Some(file))]);
        Ok(file)
    }

    fn write(&mut self, file: &mut usize, offset: u64, bytes: &[u8]) -> Result<(), Failed> {
        let mut state = self.change("write")?;
        let file = &mut state.files[*file];
        let start = usize::try_from(offset).unwrap();
        let end = start + bytes.len();
        assert!(start <= file.bytes.len(), "a write leaves a hole");
        if file.bytes.len() < end {
            file.bytes.resize(end, 0);
        }
        file.bytes[start..end].copy_from_slice(bytes);
        file.unsynced.extend(start / SECTOR..end.div_ceil(SECTOR));
        Ok(())
    }

    fn sync(&mut self, file: &mut usize) -> Result<(), Failed> {
        let mut state = self.change("sync")?;
        let file = &mut state.files[*file];
        file.durable = file.bytes.clone();
        file.unsynced.clear();
        Ok(())
    }

    fn cut(&mut self, name: &str, length: u64) -> Result<(), Failed> {
        let mut state = self.change(name)?;
        let file = state.names[name];
        let file = &mut state.files[file];
        file.bytes.truncate(usize::try_from(length).unwrap());
        file.durable = file.bytes.clone();
        file.unsynced.clear();
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), Failed> {
        let mut state = self.change(from)?;
        let file = state.names[from];
        state.change_names(&[(from, None), (to, Some(file))]);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<(), Failed> {
        self.change(name)?.change_names(&[(name, None)]);
        Ok(())
    }

    fn sync_directory(&mut self) -> Result<(), Failed> {
        let mut state = self.change("directory")?;
        state.durable_names = state.names.clone();
        state.unsynced_names.clear();
        Ok(())
    }
}

/// Remembers what it is given, and accepts a snapshot whose bytes end as ZooKeeper's do.
#[derive(Debug, Default, PartialEq, Eq)]
struct Recorder {
    snapshot: Option<Zxid>,
    snapshot_bytes: Vec<u8>,
    txns: Vec<Zxid>,
    payloads: Vec<Vec<u8>>,
}

impl Restore for Recorder {
    type Error = &'static str;

    fn snapshot_begin(&mut self, zxid: Zxid) {
        *self = Self::default();
        self.snapshot = Some(zxid);
    }

    fn snapshot_chunk(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        self.snapshot_bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn snapshot_end(&mut self) -> Result<(), &'static str> {
        let bytes = &self.snapshot_bytes;
        let seal = bytes.windows(13).position(|window| {
            window[..4] == [0; 4] && window[8..] == [0, 0, 0, 1, b'/'] && {
                let before = window.as_ptr() as usize - bytes.as_ptr() as usize;
                let stored = u32::from_be_bytes(window[4..8].try_into().unwrap());
                simd_adler32::adler32(&&bytes[..before]) == stored
            }
        });
        let whole = bytes.starts_with(b"ZKSN") && bytes.ends_with(&[0, 0, 0, 1, b'/']);
        match seal {
            Some(_) if whole => Ok(()),
            _ => Err("not a snapshot"),
        }
    }

    fn txn(&mut self, payload: &[u8]) -> Result<(), &'static str> {
        if payload.ends_with(b"undecodable") {
            return Err("not a transaction");
        }
        self.txns.push(zxid_of(payload));
        self.payloads.push(payload.to_vec());
        Ok(())
    }
}

fn zxid_of(payload: &[u8]) -> Zxid {
    Zxid(i64::from_be_bytes(payload[12..20].try_into().unwrap()))
}

/// A payload with this zxid whose content follows from `seed`.
fn payload(zxid: i64, bytes: usize, seed: u64) -> Vec<u8> {
    let mut random = Random(seed.wrapping_mul(31) ^ zxid.cast_unsigned());
    let mut payload: Vec<u8> = (0..bytes.max(32)).map(|_| random.byte()).collect();
    payload[12..20].copy_from_slice(&zxid.to_be_bytes());
    payload
}

/// A log file of these transactions.
fn log_of(zxids: impl IntoIterator<Item = i64>) -> Vec<u8> {
    let mut log = crate::wire::log::HEADER.to_vec();
    for zxid in zxids {
        crate::wire::log::frame(&payload(zxid, 60, 0), &mut log);
    }
    log
}

/// The smallest bytes that [`Recorder`] accepts as a snapshot.
fn snapshot_bytes() -> Vec<u8> {
    let mut bytes = b"ZKSN\0\0\0\x02content\0\0\0\x01/".to_vec();
    let checksum = simd_adler32::adler32(&bytes.as_slice());
    bytes.extend_from_slice(&u64::from(checksum).to_be_bytes());
    bytes.extend_from_slice(&[0, 0, 0, 1, b'/']);
    bytes
}

/// SplitMix64.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}
