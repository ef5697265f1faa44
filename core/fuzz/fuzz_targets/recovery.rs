//! Directories of any files: recovery never panics, changes nothing when it refuses, and what it accepted
//! it accepts again, without anything left to repair. Then history is taken back: recovery ends where the
//! log was cut, or the cut was refused and nothing has changed.
#![no_main]

use core::cell::RefCell;
use core::ops::ControlFlow;
use std::collections::BTreeMap;
use std::rc::Rc;

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use zabra_core::ids::{Seq, SessionId, UnixMillis, Xid, Zxid};
use zabra_core::jute::{Text, append};
use zabra_core::lane::StoreOp;
use zabra_core::store::disk::{Disk, Entry};
use zabra_core::store::lane::LogLane;
use zabra_core::store::log::LogOptions;
use zabra_core::store::names::parse_snapshot;
use zabra_core::store::recovery::recover;
use zabra_core::tree::{Loader, Tree};
use zabra_core::wire::client::OpCode;
use zabra_core::wire::log::{HEADER, frame};
use zabra_core::wire::records::{AclText, Perms};
use zabra_core::wire::txn::{CreateKind, Txn, TxnHeader, append_body};
use zabra_fuzz::{SEED, assert_same, assert_sound, read_snapshot, write_snapshot};

#[derive(Arbitrary, Debug)]
struct Directory {
    files: Vec<File>,
    piece: u8,
    verify: bool,
    cut: Cut,
}

/// How history is taken back.
#[derive(Arbitrary, Debug)]
enum Cut {
    Reset(Number),
    Truncate(Number),
}

#[derive(Arbitrary, Debug)]
struct File {
    name: Name,
    content: Content,
    damage: Vec<Damage>,
}

#[derive(Arbitrary, Debug)]
enum Name {
    Any(String),
    Log(Number),
    LogDigits(String),
    Snapshot(Number),
}

#[derive(Arbitrary, Debug)]
enum Content {
    Any(Vec<u8>),
    Log(Vec<Entries>),
    Snapshot(Number),
}

/// So many transactions from a zxid on.
#[derive(Arbitrary, Debug)]
struct Entries {
    first: Number,
    count: u8,
    what: What,
}

#[derive(Arbitrary, Debug)]
enum What {
    Any(Vec<u8>),
    Create(u8),
    Error,
    Session,
}

#[derive(Arbitrary, Debug)]
enum Damage {
    Cut(u16),
    Flip(u16, u8),
    Zero(u16, u16),
    Append(Vec<u8>),
    Pad(u16),
}

/// A zxid: mostly small ones, so that files fit each other; the rest where arithmetic ends.
#[derive(Debug)]
struct Number(i64);

impl<'a> Arbitrary<'a> for Number {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let small = i64::from(u.int_in_range(0..=20_u8)?);
        Ok(Self(match u.int_in_range(0..=15_u8)? {
            0 => u.arbitrary()?,
            1 => i64::MAX - small,
            2 => small << 32 | 1,
            3 => (small << 32) + i64::from(u.int_in_range(0..=5_u8)?),
            4 => (small << 32) - 1,
            _ => small,
        }))
    }
}

fuzz_target!(|directory: Directory| {
    let mut disk = MemDisk {
        // Short inputs mean long pieces: single bytes are slow.
        piece: usize::from(u8::MAX - directory.piece) * 16 + 1,
        ..MemDisk::default()
    };
    for file in &directory.files {
        disk.files.insert(file.name.text(), file.bytes());
    }
    let before = disk.files.clone();
    let mut loader = Loader::new(SEED, directory.verify);
    let recovered = match recover(&mut disk.clone_of(), &mut disk.clone_of(), &mut loader) {
        Ok(_) => {
            loader = Loader::new(SEED, directory.verify);
            let mut snapshots = disk.clone_of();
            recover(&mut disk, &mut snapshots, &mut loader).expect("it was accepted a moment ago")
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            let mut snapshots = disk.clone_of();
            let mut loader = Loader::new(SEED, directory.verify);
            assert!(recover(&mut disk, &mut snapshots, &mut loader).is_err());
            assert_eq!(disk.files, before, "nothing is changed by a refusal");
            return;
        }
    };
    for note in &recovered.notes {
        assert!(!note.to_string().is_empty());
    }
    let (tree, _, _) = loader.finish();
    assert_sound(&tree);
    assert!(recovered.last >= tree.last_zxid());
    if disk.files.len() < before.len() {
        // The file before a removed one is read from then on, though nothing in it is needed.
        return;
    }
    let repaired = disk.files.clone();
    let mut loader = Loader::new(SEED, directory.verify);
    let mut snapshots = disk.clone_of();
    let again =
        recover(&mut disk, &mut snapshots, &mut loader).expect("what was repaired is whole");
    assert_eq!(disk.files, repaired, "there is nothing left to repair");
    assert_eq!(again.snapshot, recovered.snapshot);
    assert_eq!(again.last, recovered.last);
    assert_eq!(again.txns, recovered.txns);
    assert_same(&tree, &loader.finish().0);
    take_back(&directory.cut, &disk, again.last, directory.verify);
});

fn take_back(cut: &Cut, disk: &MemDisk, last: Zxid, verify: bool) {
    let (op, to) = match *cut {
        Cut::Reset(Number(to)) => (StoreOp::Reset { to: Zxid(to) }, Zxid(to)),
        Cut::Truncate(Number(to)) => (StoreOp::Truncate { to: Zxid(to) }, Zxid(to)),
    };
    let shared = Shared(Rc::new(RefCell::new(disk.clone_of())));
    let options = LogOptions::default();
    let mut lane = LogLane::new(shared.clone(), shared.clone(), options, last);
    let performed = lane.perform([(Seq(1), op)]);
    let left = shared.0.borrow();
    if let Err(error) = performed {
        assert!(!error.to_string().is_empty());
        assert_eq!(left.files, disk.files, "nothing is changed by a refusal");
        return;
    }
    let unreadable = left.files.iter().any(|(name, file)| {
        let mut loader = Loader::new(SEED, verify);
        parse_snapshot(name)
            .is_some_and(|(zxid, _)| read_snapshot(&mut loader, zxid, file, 4096).is_err())
    });
    if unreadable {
        // It looked whole, and nobody reads all of it to be sure.
        return;
    }
    let mut loader = Loader::new(SEED, verify);
    let recovered = recover(&mut left.clone_of(), &mut left.clone_of(), &mut loader)
        .expect("the part of the log that stays was read");
    assert_eq!(recovered.last, to, "it ends where it was cut");
}

/// One directory, whatever the number of handles.
#[derive(Clone, Debug)]
struct Shared(Rc<RefCell<MemDisk>>);

impl Disk for Shared {
    type Error = String;
    type File = String;

    fn location(&self, name: &str) -> String {
        self.0.borrow().location(name)
    }

    fn list(&mut self) -> Result<Vec<Entry>, String> {
        self.0.borrow_mut().list()
    }

    fn read(
        &mut self,
        name: &str,
        offset: u64,
        sink: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), String> {
        self.0.borrow_mut().read(name, offset, sink)
    }

    fn create(&mut self, name: &str) -> Result<String, String> {
        self.0.borrow_mut().create(name)
    }

    fn write(&mut self, file: &mut String, offset: u64, bytes: &[u8]) -> Result<(), String> {
        self.0.borrow_mut().write(file, offset, bytes)
    }

    fn sync(&mut self, file: &mut String) -> Result<(), String> {
        self.0.borrow_mut().sync(file)
    }

    fn cut(&mut self, name: &str, length: u64) -> Result<(), String> {
        self.0.borrow_mut().cut(name, length)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), String> {
        self.0.borrow_mut().rename(from, to)
    }

    fn remove(&mut self, name: &str) -> Result<(), String> {
        self.0.borrow_mut().remove(name)
    }

    fn sync_directory(&mut self) -> Result<(), String> {
        self.0.borrow_mut().sync_directory()
    }
}

impl Name {
    fn text(&self) -> String {
        match self {
            Self::Any(name) => name.clone(),
            Self::Log(Number(zxid)) => format!("log.{zxid:x}"),
            Self::LogDigits(digits) => format!("log.{digits}"),
            Self::Snapshot(Number(zxid)) => format!("snapshot.{zxid:x}"),
        }
    }
}

impl File {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = match &self.content {
            Content::Any(bytes) => bytes.clone(),
            Content::Log(entries) => {
                let mut bytes = HEADER.to_vec();
                for entries in entries {
                    entries.append(&mut bytes);
                }
                bytes
            }
            Content::Snapshot(Number(zxid)) => {
                let mut tree = Tree::new(SEED);
                let header = header(*zxid, OpCode::CREATE_SESSION);
                tree.apply(&header, Txn::CreateSession { timeout_ms: 4000 }, None);
                write_snapshot(&mut tree, true, 4096).1
            }
        };
        for damage in &self.damage {
            damage.apply(&mut bytes);
        }
        bytes
    }
}

impl Entries {
    fn append(&self, file: &mut Vec<u8>) {
        for step in 0..i64::from(self.count % 8) + 1 {
            let zxid = self.first.0.wrapping_add(step);
            let mut payload = Vec::new();
            let (op, txn) = match &self.what {
                What::Any(bytes) => {
                    append(&mut payload, &header(zxid, OpCode::CREATE));
                    payload.extend_from_slice(bytes);
                    frame(&payload, file);
                    continue;
                }
                What::Create(name) => (OpCode::CREATE, create(*name)),
                What::Error => (
                    OpCode::ERROR,
                    Txn::Error(zabra_core::error::ErrorCode::NO_NODE),
                ),
                What::Session => (OpCode::CREATE_SESSION, Txn::CreateSession { timeout_ms: 1 }),
            };
            append(&mut payload, &header(zxid, op));
            append_body(&mut payload, &txn);
            frame(&payload, file);
        }
    }
}

fn header(zxid: i64, op: OpCode) -> TxnHeader {
    TxnHeader {
        client: SessionId(0x0100_0000_0000_0001),
        cxid: Xid(1),
        zxid: Zxid(zxid),
        time: UnixMillis(1_700_000_000_000),
        op,
    }
}

fn create(name: u8) -> Txn<'static> {
    Txn::Create {
        path: format!("/{name}").into(),
        data: Some(b"data"),
        acl: vec![AclText {
            perms: Perms::ALL,
            scheme: Text::from("world"),
            id: Text::from("anyone"),
        }],
        kind: if name % 3 == 0 {
            CreateKind::Ephemeral
        } else {
            CreateKind::Persistent
        },
        parent_cversion: i32::from(name),
    }
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Cut(at) => bytes.truncate(usize::from(*at)),
            Self::Flip(at, mask) => {
                if let Some(byte) = bytes.get_mut(usize::from(*at)) {
                    *byte ^= mask;
                }
            }
            Self::Zero(from, count) => {
                let zeroed = bytes.iter_mut().skip(usize::from(*from));
                zeroed.take(usize::from(*count)).for_each(|byte| *byte = 0);
            }
            Self::Append(more) => bytes.extend_from_slice(more),
            Self::Pad(count) => bytes.resize(bytes.len() + usize::from(*count), 0),
        }
    }
}

#[derive(Debug, Default)]
struct MemDisk {
    files: BTreeMap<String, Vec<u8>>,
    piece: usize,
}

impl MemDisk {
    /// A copy: of two handles on one directory, only that of the logs is written to.
    fn clone_of(&self) -> Self {
        Self {
            files: self.files.clone(),
            piece: self.piece,
        }
    }
}

impl Disk for MemDisk {
    type Error = String;
    type File = String;

    fn location(&self, name: &str) -> String {
        name.to_owned()
    }

    fn list(&mut self) -> Result<Vec<Entry>, String> {
        let entry = |(name, bytes): (&String, &Vec<u8>)| Entry {
            name: name.clone(),
            bytes: bytes.len() as u64,
        };
        Ok(self.files.iter().map(entry).collect())
    }

    fn read(
        &mut self,
        name: &str,
        offset: u64,
        sink: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), String> {
        let bytes = self.files.get(name).ok_or("no such file")?;
        let from = usize::try_from(offset).map_err(|_| "offset")?;
        for piece in bytes.get(from..).ok_or("offset")?.chunks(self.piece) {
            if sink(piece).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn create(&mut self, name: &str) -> Result<String, String> {
        panic!("recovery creates nothing, and not {name}")
    }

    fn write(&mut self, name: &mut String, _: u64, _: &[u8]) -> Result<(), String> {
        panic!("recovery writes nothing, and not {name}")
    }

    fn sync(&mut self, _: &mut String) -> Result<(), String> {
        Ok(())
    }

    fn cut(&mut self, name: &str, length: u64) -> Result<(), String> {
        let bytes = self.files.get_mut(name).ok_or("no such file")?;
        let length = usize::try_from(length).map_err(|_| "length")?;
        assert!(length <= bytes.len(), "a cut makes a file shorter");
        bytes.truncate(length);
        Ok(())
    }

    fn rename(&mut self, from: &str, _: &str) -> Result<(), String> {
        panic!("recovery renames nothing, and not {from}")
    }

    fn remove(&mut self, name: &str) -> Result<(), String> {
        self.files.remove(name);
        Ok(())
    }

    fn sync_directory(&mut self) -> Result<(), String> {
        Ok(())
    }
}
