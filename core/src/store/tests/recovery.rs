//! The rules of recovery, one situation each.

use super::*;
use crate::store::recovery::{LogError, Note, RecoverError, Recovered, recover};
use crate::wire::log::{HEADER, RECORD_FRAME_BYTES};

type Outcome = Result<Recovered, RecoverError<Failed, &'static str>>;

fn run(disk: &MemDisk) -> (Outcome, Vec<i64>) {
    let mut restored = Recorder::default();
    let result = recover(&mut disk.clone(), &mut disk.clone(), &mut restored);
    (result, restored.txns.iter().map(|zxid| zxid.0).collect())
}

fn refusal(disk: &MemDisk) -> LogError<&'static str> {
    let before = disk.all();
    let (result, _) = run(disk);
    assert_eq!(disk.all(), before, "a refusal changes nothing");
    match result {
        Err(RecoverError::Log { error, .. }) => error,
        other => panic!("expected the log to be refused, got {other:?}"),
    }
}

#[test]
fn nothing_is_recovered_from_nothing() {
    let (recovered, txns) = run(&MemDisk::default());
    let recovered = recovered.unwrap();
    assert_eq!((recovered.snapshot, recovered.last), (None, Zxid::ZERO));
    assert_eq!(txns, []);
}

#[test]
fn a_log_without_snapshot_is_replayed_from_the_first_transaction_of_all() {
    let disk = MemDisk::with(&[("log.1", &log_of(1..=4))]);
    let (recovered, txns) = run(&disk);
    let recovered = recovered.unwrap();
    assert_eq!((recovered.snapshot, recovered.last), (None, Zxid(4)));
    assert_eq!(txns, [1, 2, 3, 4]);
}

#[test]
fn a_log_without_snapshot_is_refused_if_something_can_have_been_before_it() {
    for first in [2, 0x1_0000_0001] {
        let name = crate::store::names::log(Zxid(first));
        let disk = MemDisk::with(&[(&name, &log_of(first..first + 3))]);
        assert_eq!(refusal(&disk), LogError::NoSnapshot { first: Zxid(first) });
    }
}

#[test]
fn only_transactions_after_the_snapshot_are_replayed() {
    let disk = MemDisk::with(&[
        ("snapshot.6", &snapshot_bytes()),
        ("log.1", b"not read: log.3 begins before what is needed"),
        ("log.3", &log_of(3..=7)),
        ("log.8", &log_of(8..=9)),
    ]);
    let (recovered, txns) = run(&disk);
    let recovered = recovered.unwrap();
    assert_eq!(txns, [7, 8, 9]);
    assert_eq!(recovered.txns, 3);
    assert_eq!(recovered.log_bytes, 3 * (60 + RECORD_FRAME_BYTES as u64));
}

#[test]
fn an_epoch_begins_with_its_first_transaction() {
    let epochs = [1, 2, 0x1_0000_0001, 0x1_0000_0002, 0x3_0000_0001];
    let disk = MemDisk::with(&[
        ("snapshot.0", &snapshot_bytes()),
        ("log.1", &log_of(epochs)),
    ]);
    assert_eq!(run(&disk).1, epochs);

    let disk = MemDisk::with(&[
        ("snapshot.0", &snapshot_bytes()),
        ("log.1", &log_of([1, 2, 0x1_0000_0002])),
    ]);
    assert!(matches!(
        refusal(&disk),
        LogError::Gap { after: Zxid(2), .. }
    ));
}

#[test]
fn a_gap_is_refused() {
    let cases: &[&[(&str, &[u8])]] = &[
        &[("log.1", &log_of([1, 2, 4]))],
        &[("log.1", &log_of([1, 2])), ("log.4", &log_of([4]))],
        &[("log.2", &log_of([2]))],
    ];
    for files in cases {
        let disk = MemDisk::with(files);
        disk.put("snapshot.0", &snapshot_bytes());
        assert!(matches!(refusal(&disk), LogError::Gap { .. }), "{files:?}");
    }
}

#[test]
fn an_older_snapshot_is_no_way_around_a_gap() {
    // A follower that was sent a snapshot has no log between its old one and that snapshot.
    let disk = MemDisk::with(&[
        ("snapshot.0", &snapshot_bytes()),
        ("log.1", &log_of(1..=3)),
        ("snapshot.9", b"damaged"),
        ("log.a", &log_of(10..=11)),
    ]);
    assert!(matches!(
        refusal(&disk),
        LogError::Gap {
            after: Zxid(3),
            found: Zxid(10),
            ..
        }
    ));
}

#[test]
fn a_repeated_transaction_is_replayed_once() {
    let disk = MemDisk::with(&[
        ("snapshot.0", &snapshot_bytes()),
        ("log.1", &log_of([1, 2, 3, 2, 3, 4])),
        ("log.3", &log_of([3, 4, 5])),
    ]);
    assert_eq!(run(&disk).1, [1, 2, 3, 4, 5]);
}

#[test]
fn another_transaction_with_the_same_zxid_is_refused() {
    let mut log = log_of([1, 2]);
    crate::wire::log::frame(&payload(2, 60, 1), &mut log);
    let disk = MemDisk::with(&[("snapshot.0", &snapshot_bytes()), ("log.1", &log)]);
    assert!(matches!(
        refusal(&disk),
        LogError::Differs { zxid: Zxid(2), .. }
    ));
}

#[test]
fn a_transaction_from_before_that_was_never_read_is_refused() {
    let log = log_of([1, 0x1_0000_0001, 2]);
    let disk = MemDisk::with(&[("snapshot.0", &snapshot_bytes()), ("log.1", &log)]);
    assert!(matches!(
        refusal(&disk),
        LogError::Backwards { found: Zxid(2), .. }
    ));
}

#[test]
fn a_file_must_begin_with_the_transaction_in_its_name() {
    let disk = MemDisk::with(&[
        ("snapshot.0", &snapshot_bytes()),
        ("log.2", &log_of([1, 2])),
    ]);
    assert!(matches!(refusal(&disk), LogError::Misnamed { .. }));
}

#[test]
fn a_record_that_is_no_transaction_is_refused() {
    let mut odd = payload(2, 60, 0);
    odd.extend_from_slice(b"undecodable");
    let mut log = log_of([1]);
    crate::wire::log::frame(&odd, &mut log);
    let disk = MemDisk::with(&[("log.1", &log)]);
    assert!(matches!(
        refusal(&disk),
        LogError::Undecodable { zxid: Zxid(2), .. }
    ));
}

#[test]
fn a_torn_end_that_zookeeper_left_is_passed_if_nothing_is_missing() {
    let mut torn = log_of(1..=3);
    torn.truncate(torn.len() - 5);
    torn.resize(9000, 0);
    let files: &[(&str, &[u8])] = &[("snapshot.0", &snapshot_bytes()), ("log.1", &torn)];

    let disk = MemDisk::with(files);
    disk.put("log.3", &log_of(3..=5));
    let before = disk.all();
    let (recovered, txns) = run(&disk);
    assert_eq!(txns, [1, 2, 3, 4, 5]);
    assert!(matches!(
        &recovered.unwrap().notes[..],
        [Note::TornEndPassed { next: Zxid(3), .. }]
    ));
    assert_eq!(disk.all(), before);

    for next in [4, 0x1_0000_0001] {
        let disk = MemDisk::with(files);
        disk.put(&crate::store::names::log(Zxid(next)), &log_of([next]));
        assert!(matches!(
            refusal(&disk),
            LogError::Interrupted { after: Zxid(2), .. }
        ));
    }
}

#[test]
fn a_torn_end_is_cut_also_before_files_without_records() {
    let mut torn = log_of(1..=3);
    torn.truncate(torn.len() - 5);
    let disk = MemDisk::with(&[
        ("snapshot.0", &snapshot_bytes()),
        ("log.1", &torn),
        ("log.3", &[&HEADER[..], &[0, 0, 0, 0, 9]].concat()),
        ("log.4", &HEADER),
        ("log.5", &[0; 9000]),
        ("log.6", b""),
    ]);
    let (recovered, txns) = run(&disk);
    assert_eq!(txns, [1, 2]);
    assert_eq!(recovered.unwrap().notes.len(), 4);
    let left = disk.all();
    let names: Vec<&str> = left.keys().map(String::as_str).collect();
    assert_eq!(names, ["log.1", "log.3", "log.4", "snapshot.0"]);
    assert_eq!(left["log.1"], log_of(1..=2));
    assert_eq!(left["log.3"], HEADER);
}

#[test]
fn a_file_without_header_is_refused_if_records_follow() {
    for bytes in [&b""[..], b"ZKLG", &[0; 700]] {
        let disk = MemDisk::with(&[
            ("snapshot.0", &snapshot_bytes()),
            ("log.1", &log_of([1])),
            ("log.2", bytes),
            ("log.3", &log_of([2])),
        ]);
        disk.put("log.2", bytes);
        disk.0.borrow_mut().names.remove("log.3");
        disk.put("log.3", &log_of([3]));
        assert!(matches!(
            refusal(&disk),
            LogError::Interrupted { at: 0, .. }
        ));
    }
}

#[test]
fn without_a_readable_snapshot_all_are_named() {
    let disk = MemDisk::with(&[
        ("snapshot.0", b""),
        ("snapshot.5", b"x"),
        ("log.1", &log_of(1..=9)),
    ]);
    let (result, _) = run(&disk);
    let message = result.unwrap_err().to_string();
    assert!(
        message.starts_with("none of 2 snapshots can be read"),
        "{message}"
    );
    assert!(
        message.contains("/mem/snapshot.5: not a snapshot"),
        "{message}"
    );
}

#[test]
fn a_log_that_ends_before_the_snapshot_is_told() {
    let disk = MemDisk::with(&[("snapshot.9", &snapshot_bytes()), ("log.1", &log_of(1..=3))]);
    let (recovered, txns) = run(&disk);
    let recovered = recovered.unwrap();
    assert_eq!((recovered.last, txns.len()), (Zxid(9), 0));
    assert!(matches!(
        recovered.notes[..],
        [Note::LogEndsBeforeSnapshot { log: Zxid(3), .. }]
    ));

    let disk = MemDisk::with(&[("snapshot.9", &snapshot_bytes()), ("log.1", &log_of(1..=9))]);
    let (recovered, _) = run(&disk);
    assert_eq!(recovered.unwrap().notes, []);
}

#[test]
fn pieces_of_any_size_give_the_same() {
    for piece in [1, 2, 11, 12, 13, 100] {
        let disk = MemDisk::with(&[("snapshot.0", &snapshot_bytes()), ("log.1", &log_of(1..=9))]);
        disk.read_pieces_of(piece);
        assert_eq!(run(&disk).1.len(), 9);
    }
}

#[test]
fn zxids_end_where_numbers_do() {
    let mut torn = log_of([i64::MAX]);
    torn.extend_from_slice(&[0, 0, 0, 0, 1]);
    let disk = MemDisk::with(&[
        ("snapshot.7ffffffffffffffe", &snapshot_bytes()),
        ("log.07fffffffffffffff", &torn),
        ("log.7fffffffffffffff", &log_of([i64::MAX])),
    ]);
    let (recovered, txns) = run(&disk);
    assert_eq!(recovered.unwrap().last, Zxid(i64::MAX));
    assert_eq!(txns, [i64::MAX]);
}

#[test]
fn the_names_of_what_was_recovered_survive_the_next_power_cut() {
    let (logs, snapshots) = (MemDisk::default(), MemDisk::default());
    // As a killed process leaves it: written and synced, but for the directory.
    let left = |disk: &MemDisk, name: &str, bytes: &[u8]| {
        let mut disk = disk.clone();
        let mut file = disk.create(name).unwrap();
        disk.write(&mut file, 0, bytes).unwrap();
        disk.sync(&mut file).unwrap();
    };
    left(&snapshots, "snapshot.6", &snapshot_bytes());
    left(&logs, "log.7", &log_of(7..=8));
    let mut restored = Recorder::default();
    let recovered = recover(&mut logs.clone(), &mut snapshots.clone(), &mut restored);
    assert_eq!(recovered.unwrap().last, Zxid(8));
    let mut random = Random(1);
    assert_eq!(snapshots.power_cut(&mut random).all(), snapshots.all());
    assert_eq!(logs.power_cut(&mut random).all(), logs.all());
}
