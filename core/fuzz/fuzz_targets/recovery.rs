//! Directories of any files: recovery never panics, changes nothing when it refuses, and what it accepted
//! it accepts again, without anything left to repair.
#![no_main]

use core::ops::ControlFlow;
use std::collections::BTreeMap;

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use zabra_core::ids::{SessionId, UnixMillis, Xid, Zxid};
use zabra_core::jute::{Text, append};
use zabra_core::store::disk::{Disk, Entry};
use zabra_core::store::recovery::recover;
use zabra_core::tree::{Loader, Tree};
use zabra_core::wire::client::OpCode;
use zabra_core::wire::log::{HEADER, frame};
use zabra_core::wire::records::{AclText, Perms};
use zabra_core::wire::txn::{CreateKind, Txn, TxnHeader, append_body};
use zabra_fuzz::{SEED, assert_same, assert_sound, write_snapshot};

#[derive(Arbitrary, Debug)]
struct Directory {
    files: Vec<File>,
    piece: u8,
    verify: bool,
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
});

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
