//! Data directories written by Apache ZooKeeper, read into the tree by the real store.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::fs;
use std::path::{Path, PathBuf};

use zabra::store::{Autocreate, Directories};
use zabra_core::ids::Zxid;
use zabra_core::jute;
use zabra_core::store::Restore;
use zabra_core::store::disk::Disk;
use zabra_core::store::names::{parse_log, parse_snapshot};
use zabra_core::store::recovery::recover;
use zabra_core::tree::{Loader, Piece, Tree};
use zabra_core::wire::client::OpCode;
use zabra_core::wire::log::{HEADER, Record, Scanner};
use zabra_core::wire::txn::{self, append_body};

/// Directory, last zxid, znodes (the root once). Source: an independent replay of the same files.
const CASES: &[(&str, i64, usize)] = &[
    ("mixed", 0x5_0000_0003, 30),
    ("standalone-3.8.0-gz", 0x31, 31),
    ("standalone-3.8.0-snappy", 0x31, 31),
    ("standalone-3.9.5", 0x31, 31),
    ("static-3.8.0/server1", 0x2_0000_0004, 25),
    ("static-3.8.0/server3", 0x2_0000_0004, 25),
];

/// A copy of a golden directory that goes with the test.
struct Copy(PathBuf);

impl Copy {
    fn of(case: &str) -> Self {
        let from = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../core/tests/golden/data")
            .join(case);
        let name = format!(
            "{}-{:?}",
            case.replace('/', "-"),
            std::thread::current().id()
        );
        let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("golden-{name}"));
        let _ = fs::remove_dir_all(&to);
        fs::create_dir_all(to.join("version-2")).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), to.join("version-2").join(entry.file_name())).unwrap();
        }
        Self(to)
    }

    fn open(&self) -> Directories {
        Directories::open(&self.0, &self.0, Autocreate::No).unwrap()
    }

    fn load(&self) -> (Tree, Vec<Zxid>) {
        let directories = self.open();
        let mut loader = Loader::new(1, true);
        recover(
            &mut directories.logs(),
            &mut directories.snapshots(),
            &mut loader,
        )
        .map_err(|error| error.to_string())
        .unwrap();
        let (tree, mismatches, orphans) = loader.finish();
        assert_eq!(orphans, Vec::<String>::new());
        (tree, mismatches)
    }

    fn names(&self) -> Vec<String> {
        let entries = self.open().snapshots().list().unwrap();
        entries.into_iter().map(|entry| entry.name).collect()
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Everything that a client could see, by path.
fn dump(tree: &Tree) -> Vec<String> {
    let root = tree.find("/").unwrap();
    let mut lines: Vec<String> = tree
        .walk(root)
        .map(|id| {
            let (path, data, stat) = (tree.path(id), tree.data(id), tree.stat(id));
            let persisted = tree.stat_persisted(id);
            format!("{path} {data:?} {stat:?} {persisted:?} {:?}", tree.acl(id))
        })
        .collect();
    lines.sort();
    lines.extend(tree.sessions().map(|session| format!("{session:?}")));
    lines.extend(tree.quota_paths().map(str::to_owned));
    lines
}

fn assert_same(found: &[String], expected: &[String], what: &str) {
    let differing = found
        .iter()
        .zip(expected)
        .find(|(found, expected)| found != expected);
    assert_eq!(differing, None, "{what}");
    assert_eq!(found.len(), expected.len(), "{what}");
}

fn written(tree: &mut Tree) -> Vec<u8> {
    tree.begin_snapshot(true);
    let mut file = Vec::new();
    loop {
        match tree.snapshot_piece(100).unwrap() {
            Piece::Part(bytes) => file.extend(bytes),
            Piece::Last(bytes) => {
                file.extend(bytes);
                return file;
            }
        }
    }
}

#[test]
fn zookeepers_data_is_read_with_the_digests_it_recorded() {
    for &(case, zxid, nodes) in CASES {
        let (tree, mismatches) = Copy::of(case).load();
        assert_eq!(mismatches, [], "{case}");
        assert_eq!(
            (tree.last_zxid(), tree.node_count()),
            (Zxid(zxid), nodes),
            "{case}"
        );
    }
}

#[test]
fn every_snapshot_with_its_log_leads_to_the_same_tree() {
    for &(case, ..) in CASES {
        let copy = Copy::of(case);
        // A server of an ensemble writes its configuration's znode anew at each start, by no
        // transaction.
        let replicated = |tree: &Tree| {
            let mut lines = dump(tree);
            lines.retain(|line| !line.starts_with("/zookeeper/config "));
            lines
        };
        let expected = replicated(&copy.load().0);
        let mut snapshots: Vec<_> = copy
            .names()
            .into_iter()
            .filter_map(|name| Some((parse_snapshot(&name)?.0, name)))
            .collect();
        let first_log = copy
            .names()
            .iter()
            .filter_map(|name| parse_log(name))
            .min()
            .unwrap();
        snapshots.sort();
        while let Some((_, newest)) = snapshots.pop() {
            fs::remove_file(copy.0.join("version-2").join(newest)).unwrap();
            let Some(&(before, _)) = snapshots.last() else {
                break;
            };
            if before.0 + 1 < first_log.0 {
                break;
            }
            assert_same(
                &replicated(&copy.load().0),
                &expected,
                &format!("{case} from {before}"),
            );
        }
    }
}

#[test]
fn a_written_snapshot_reads_back_as_the_same_tree() {
    for &(case, ..) in CASES {
        let (mut tree, _) = Copy::of(case).load();
        let file = written(&mut tree);
        for size in [1, 13, 4096] {
            let mut loader = Loader::new(2, true);
            loader.snapshot_begin(tree.last_zxid());
            for chunk in file.chunks(size) {
                loader.snapshot_chunk(chunk).unwrap();
            }
            loader.snapshot_end().unwrap();
            let (read, ..) = loader.finish();
            assert_same(
                &dump(&read),
                &dump(&tree),
                &format!("{case} in pieces of {size}"),
            );
            assert_eq!(read.digest(), tree.digest());
            assert_eq!(read.data_size(), tree.data_size());
        }
    }
}

#[test]
fn every_changed_byte_of_a_snapshot_is_noticed() {
    let (mut tree, _) = Copy::of("standalone-3.9.5").load();
    let file = written(&mut tree);
    let mut noticed = 0;
    // The version and dbid in the header are not checked by anybody, but sealed like the rest.
    for at in 0..file.len() {
        let mut file = file.clone();
        *file.get_mut(at).unwrap() ^= 0x10;
        let mut loader = Loader::new(2, true);
        loader.snapshot_begin(tree.last_zxid());
        let read = loader
            .snapshot_chunk(&file)
            .and_then(|()| loader.snapshot_end());
        assert!(
            read.is_err(),
            "a flipped bit in byte {at} of {}",
            file.len()
        );
        noticed += 1;
    }
    for length in 0..file.len() {
        let mut loader = Loader::new(2, true);
        loader.snapshot_begin(tree.last_zxid());
        let cut = file.get(..length).unwrap();
        let read = loader
            .snapshot_chunk(cut)
            .and_then(|()| loader.snapshot_end());
        // Cut right before the digest it is a snapshot of before 3.6.
        let older = file.len() - length == 33;
        assert_eq!(
            read.is_ok(),
            older,
            "cut to {length} of {} bytes",
            file.len()
        );
    }
    assert_eq!(noticed, file.len());
}

#[test]
fn transactions_of_zookeeper_encode_to_the_same_bytes() {
    let mut kinds = std::collections::BTreeSet::new();
    for &(case, ..) in CASES {
        let copy = Copy::of(case);
        for name in copy.names() {
            if parse_log(&name).is_none() {
                continue;
            }
            let bytes = fs::read(copy.0.join("version-2").join(&name)).unwrap();
            let mut scanner = Scanner::new();
            assert!(bytes.starts_with(&HEADER));
            let mut check = |record: Record<'_>| {
                let (header, body, digest) = txn::decode(record.payload).unwrap();
                let mut out = jute::to_vec(&header);
                append_body(&mut out, &body);
                if let Some(digest) = digest {
                    jute::append(&mut out, &digest);
                }
                assert_eq!(out, record.payload, "{case} {name} {:?}", header.zxid);
                kinds.insert(header.op.0);
                Ok::<(), ()>(())
            };
            scanner.feed(&bytes, &mut check).unwrap();
        }
    }
    let expected = [
        OpCode::CLOSE_SESSION,
        OpCode::CREATE_SESSION,
        OpCode::ERROR,
        OpCode::CREATE,
        OpCode::DELETE,
        OpCode::SET_DATA,
        OpCode::SET_ACL,
        OpCode::MULTI,
        OpCode::CREATE_CONTAINER,
        OpCode::DELETE_CONTAINER,
        OpCode::CREATE_TTL,
    ];
    for op in expected {
        assert!(
            kinds.contains(&op.0),
            "the golden logs have a transaction of kind {}",
            op.0
        );
    }
}
