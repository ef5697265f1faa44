//! Directories written by Apache ZooKeeper, and directories damaged on purpose.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::store::names;
use crate::store::recovery::{Note, RecoverError, Recovered, recover};
use crate::wire::log::{End, HEADER, Scanner, frame};

fn golden(under: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(under)
}

fn disk_of(under: &str) -> MemDisk {
    let disk = MemDisk::default();
    for entry in fs::read_dir(golden(under)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        disk.put(&name, &fs::read(entry.path()).unwrap());
    }
    disk
}

fn recover_golden(
    disk: &MemDisk,
) -> (
    Result<Recovered, RecoverError<Failed, &'static str>>,
    Recorder,
) {
    let mut restored = Recorder::default();
    let result = recover(&mut disk.clone(), &mut disk.clone(), &mut restored);
    (result, restored)
}

/// Directory, then the zxids of snapshot and end.
const DATA: &[(&str, i64, i64)] = &[
    ("data/mixed", 0x3_0000_0003, 0x5_0000_0003),
    ("data/standalone-3.9.5", 0x25, 0x31),
    ("data/static-3.8.0/server1", 0x1_0000_0000, 0x2_0000_0004),
    ("data/static-3.8.0/server3", 0x1_0000_0033, 0x2_0000_0004),
];

#[test]
fn every_record_of_zookeepers_logs_is_read_and_framed_to_the_same_bytes() {
    let mut logs = 0;
    let compressed = ["data/standalone-3.8.0-gz", "data/standalone-3.8.0-snappy"];
    for under in DATA.iter().map(|case| case.0).chain(compressed) {
        for (name, bytes) in disk_of(under).all() {
            let Some(first) = names::parse_log(&name) else {
                continue;
            };
            let mut framed = HEADER.to_vec();
            let mut zxids = Vec::new();
            let mut scanner = Scanner::new();
            for piece in bytes.chunks(7) {
                let mut take = |record: crate::wire::log::Record<'_>| {
                    zxids.push(record.zxid);
                    frame(record.payload, &mut framed);
                    Ok::<(), ()>(())
                };
                scanner.feed(piece, &mut take).unwrap();
            }
            let at = framed.len() as u64;
            assert_eq!(scanner.finish(), End::Clean { at }, "{under}/{name}");
            assert_eq!(zxids[0], first, "{under}/{name}");
            framed.resize(bytes.len(), 0);
            assert_eq!(framed, bytes, "{under}/{name}");
            logs += 1;
        }
    }
    assert_eq!(logs, 22);
}

#[test]
fn zookeepers_directories_are_recovered() {
    for (under, snapshot, last) in DATA {
        let disk = disk_of(under);
        let before = disk.all();
        let (recovered, restored) = recover_golden(&disk);
        let recovered = recovered.unwrap_or_else(|error| panic!("{under}: {error}"));
        assert_eq!(recovered.snapshot, Some(Zxid(*snapshot)), "{under}");
        assert_eq!(recovered.last, Zxid(*last), "{under}");
        assert_eq!(recovered.notes, [], "{under}");
        assert_eq!(restored.txns.last(), Some(&Zxid(*last)), "{under}");
        assert_eq!(restored.txns.len() as u64, recovered.txns, "{under}");
        assert_eq!(disk.all(), before, "{under}");
    }
}

#[test]
fn without_its_newest_snapshot_a_directory_recovers_from_the_one_before() {
    let disk = disk_of("data/standalone-3.9.5");
    let mut damaged = disk.content("snapshot.25").unwrap();
    damaged[100] ^= 1;
    disk.put("snapshot.25", &damaged);

    let (recovered, restored) = recover_golden(&disk);

    let recovered = recovered.unwrap();
    assert_eq!(recovered.snapshot, Some(Zxid(0x17)));
    assert_eq!(recovered.txns, 0x31 - 0x17);
    assert_eq!(restored.txns[0], Zxid(0x18));
    assert!(matches!(&recovered.notes[..],
        [Note::SnapshotRefused { file, .. }] if file == "/mem/snapshot.25"));
}

/// What becomes of a damaged directory.
enum Outcome {
    /// Everything is read and nothing changed.
    Whole(i64),
    /// The end is cut off the first log, which is this long afterwards.
    Cut(i64, u64),
    /// The second log is removed.
    Removed(i64),
    /// A snapshot is passed over.
    Fallback(i64),
    /// An error with these words, and nothing changed.
    Refused(&'static str),
}

/// Case, what Apache ZooKeeper makes of it (3.8.0 / 3.9.5: the last zxid, or failure), what we do.
const TORN: &[(&str, &str, Outcome)] = {
    use Outcome::{Cut, Fallback, Refused, Removed, Whole};
    const LAST: i64 = 0x1_0000_002c;
    const BUT_ONE: i64 = LAST - 1;
    &[
        (
            "bad_B",
            "10000002b",
            Refused("expected 0x42 after the record, found 0x58"),
        ),
        (
            "bad_crc",
            "fails",
            Refused("at offset 4417: expected a record with checksum"),
        ),
        (
            "bad_mid_B",
            "100000004",
            Refused("at offset 396: expected 0x42"),
        ),
        (
            "badmagic_tail",
            "fails",
            Refused("log.10000002d: at offset 0: expected a log file"),
        ),
        ("cut_before_B", "10000002b", Cut(BUT_ONE, 4417)),
        // What is left of the checksum is its first bytes, which are zeros.
        ("cut_in_crc", "10000002b", Whole(BUT_ONE)),
        ("cut_in_len", "10000002b", Cut(BUT_ONE, 4417)),
        ("cut_mid_payload", "10000002b", Cut(BUT_ONE, 4417)),
        ("empty_tail", "fails / 10000002c", Removed(LAST)),
        ("exact_end", "10000002c", Whole(LAST)),
        (
            "flip_payload",
            "fails",
            Refused("at offset 4417: expected a record with checksum"),
        ),
        ("hdr_only_tail", "10000002c", Whole(LAST)),
        (
            "huge_len",
            "fails",
            Refused("at offset 4417: expected a record length"),
        ),
        (
            "len_minus1",
            "fails",
            Refused("at offset 4417: expected a record length"),
        ),
        (
            "neg_len",
            "fails",
            Refused("at offset 4417: expected a record length"),
        ),
        (
            "no_snap",
            "fails",
            Refused("expected a snapshot before the first log"),
        ),
        ("payload_zeroed_tail", "10000002b", Cut(BUT_ONE, 4417)),
        ("short_hdr_tail", "fails", Removed(LAST)),
        ("snap_corrupt_body", "10000002c", Fallback(LAST)),
        ("snap_short", "10000002c", Fallback(LAST)),
        (
            "torn_then_next",
            "100000033 / fails",
            Refused("log.100000001 ends at offset 4417"),
        ),
        ("zero_pad", "10000002c", Whole(LAST)),
    ]
};

#[test]
fn every_damage_has_its_outcome() {
    let cases = fs::read_dir(golden("torn")).unwrap().count();
    assert_eq!(cases, TORN.len());
    for (case, _, outcome) in TORN {
        let disk = disk_of(&std::format!("torn/{case}"));
        let mut expected = disk.all();
        let (recovered, restored) = recover_golden(&disk);
        let last = recovered.as_ref().map(|recovered| recovered.last.0);
        let notes = recovered
            .as_ref()
            .map_or(&[][..], |recovered| &recovered.notes);
        match outcome {
            Outcome::Whole(zxid) => {
                assert_eq!(last, Ok(*zxid), "{case}");
                assert_eq!(notes, [], "{case}");
            }
            Outcome::Cut(zxid, length) => {
                assert_eq!(last, Ok(*zxid), "{case}");
                assert!(
                    matches!(notes, [Note::TornEndCut { at, .. }] if at == length),
                    "{case}"
                );
                let log = expected.get_mut("log.100000001").unwrap();
                log.truncate(usize::try_from(*length).unwrap());
            }
            Outcome::Removed(zxid) => {
                assert_eq!(last, Ok(*zxid), "{case}");
                assert!(matches!(notes, [Note::EmptyLogRemoved { .. }]), "{case}");
                expected.remove("log.10000002d").unwrap();
            }
            Outcome::Fallback(zxid) => {
                assert_eq!(last, Ok(*zxid), "{case}");
                assert!(matches!(notes, [Note::SnapshotRefused { .. }]), "{case}");
                assert_eq!(restored.snapshot, Some(Zxid::ZERO), "{case}");
            }
            Outcome::Refused(words) => {
                let message = recovered.as_ref().unwrap_err().to_string();
                assert!(message.contains(words), "{case}: {message}");
            }
        }
        assert_eq!(disk.all(), expected, "{case}");
    }
}
