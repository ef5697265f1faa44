//! When snapshots are written.

use zabra_core::ids::Zxid;
use zabra_core::server::{Config, Input, Recovered, SnapshotOp};
use zabra_core::tree::Loader;

use crate::bench::{A, Bench, create};

/// How many transactions come before the next snapshot begins.
fn txns_before_next(bench: &mut Bench, data: &[u8]) -> usize {
    bench.snapshot.clear();
    let before = bench.txns.len();
    while bench.snapshot.is_empty() {
        bench.frames(A);
        let path = format!("/{}", bench.txns.len());
        bench.send(A, &[create(1, &path, data)]);
        bench.store();
        assert!(bench.txns.len() < 1000, "no snapshot");
    }
    while bench.snapshot.last() != Some(&SnapshotOp::End) {
        // Slices leave at a pace.
        bench.wait_ms(1);
        bench.step([Input::SnapshotWritten(usize::MAX)]);
    }
    let zxid = bench.server.tree().last_zxid();
    bench.step([Input::SnapshotStored { zxid }]);
    bench.txns.len() - before
}

#[test]
fn a_snapshot_begins_in_the_upper_half_of_so_many_transactions() {
    let mut bench = Bench::with(Config {
        snapshot_txns: 40,
        ..Config::default()
    });
    let first = bench.txns.len() + txns_before_next(&mut bench, b"");
    let mut counts: Vec<_> = (0..20).map(|_| txns_before_next(&mut bench, b"")).collect();
    counts.push(first);
    assert!(
        counts.iter().all(|count| (20..=40).contains(count)),
        "{counts:?}"
    );
    assert!(counts.iter().any(|count| *count != first), "{counts:?}");
}

#[test]
fn a_snapshot_begins_in_the_upper_half_of_so_many_bytes_of_log() {
    let mut bench = Bench::with(Config {
        snapshot_log_bytes: 40_000,
        ..Config::default()
    });
    txns_before_next(&mut bench, &[b'x'; 1000]);
    for _ in 0..10 {
        let count = txns_before_next(&mut bench, &[b'x'; 1000]);
        assert!((17..=40).contains(&count), "{count}");
    }
}

#[test]
fn what_was_replayed_counts_towards_the_next_snapshot() {
    let config = Config {
        snapshot_txns: 40,
        ..Config::default()
    };
    let recovered = Recovered {
        snapshot: true,
        txns: 40,
        log_bytes: 0,
    };
    let mut bench = Bench::recovered(config, Loader::new(0, true), recovered);
    bench.step([]);
    let zxid = Zxid::ZERO;
    assert_eq!(bench.snapshot.first(), Some(&SnapshotOp::Begin { zxid }));
}

/// A server that writes a snapshot of many megabytes to a disk that takes none of it.
fn with_a_long_snapshot() -> Bench {
    let mut bench = Bench::with(Config {
        snapshot_txns: 40,
        ..Config::default()
    });
    bench.snapshot.clear();
    let mut xid = 0;
    while bench.snapshot.is_empty() {
        xid += 1;
        assert!(xid <= 40, "no snapshot");
        bench.send(A, &[create(xid, &format!("/{xid}"), &[b'x'; 900_000])]);
        bench.store();
        bench.frames(A);
    }
    for _ in 0..1000 {
        bench.step([]);
    }
    bench
}

#[test]
fn a_log_file_ends_where_a_snapshot_begins() {
    let mut bench = Bench::with(Config {
        snapshot_txns: 40,
        ..Config::default()
    });
    bench.rolls.clear();
    txns_before_next(&mut bench, b"");
    assert_eq!(bench.rolls, [bench.txns.len()]);
}

#[test]
fn a_snapshot_that_failed_is_written_no_further_and_another_follows() {
    let mut bench = with_a_long_snapshot();
    bench.snapshot.clear();
    bench.step([Input::SnapshotFailed { zxid: Zxid::ZERO }]);
    bench.wait_ms(1000);
    for _ in 0..1000 {
        bench.step([]);
    }
    assert_eq!(bench.snapshot, []);
    assert!(txns_before_next(&mut bench, b"") <= 40);
}

fn chunk_bytes(bench: &Bench) -> usize {
    let chunks = bench.snapshot.iter().map(|op| match op {
        SnapshotOp::Chunk(bytes) => bytes.len(),
        SnapshotOp::Abandon | SnapshotOp::Begin { .. } | SnapshotOp::End => 0,
    });
    chunks.sum()
}

/// A znode is not cut, and counts as what it is.
#[test]
fn a_snapshot_of_long_znodes_leaves_at_its_pace() {
    let mut bench = with_a_long_snapshot();
    let (before, begun) = (chunk_bytes(&bench), bench.now.instant);
    while chunk_bytes(&bench) < before + (8 << 20) {
        bench.wait_ms(1);
        bench.step([Input::SnapshotWritten(usize::MAX)]);
    }
    let left = (chunk_bytes(&bench) - before) as u64;
    let took_us = bench.now.instant.micros_since(begun);
    // 400 bytes in a microsecond, and one millisecond and one znode at once.
    assert!(took_us * 400 + 1_400_000 >= left, "{left} in {took_us} µs");
}

#[test]
fn a_snapshot_waits_for_the_disk() {
    let mut bench = with_a_long_snapshot();
    let bytes = chunk_bytes;
    for _ in 0..100 {
        bench.wait_ms(1);
        bench.step([]);
    }
    let first = bytes(&bench);
    assert!((4 << 20..6 << 20).contains(&first), "{first}");
    let now = Some(bench.now.instant);
    assert!(bench.wake > now, "it waits");
    bench.step([Input::SnapshotWritten(first)]);
    assert!(bytes(&bench) > first);
}

#[test]
fn no_snapshot_begins_before_the_last_is_durable() {
    let mut bench = Bench::with(Config {
        snapshot_txns: 4,
        ..Config::default()
    });
    bench.snapshot.clear();
    for xid in 0..20 {
        bench.send(A, &[create(xid, &format!("/{xid}"), b"")]);
        bench.store();
    }
    let begin = |op: &SnapshotOp| matches!(op, SnapshotOp::Begin { .. });
    assert!(bench.snapshot.first().is_some_and(begin));
    assert_eq!(bench.snapshot.last(), Some(&SnapshotOp::End));
    assert_eq!(bench.snapshot.iter().filter(|op| begin(op)).count(), 1);
}

#[test]
fn the_first_snapshot_is_tried_again_after_a_moment_any_other_when_it_is_due_again() {
    let config = Config {
        snapshot_txns: 40,
        ..Config::default()
    };
    let recovered = Recovered::default();
    let mut bench = Bench::recovered(config, Loader::new(0, true), recovered);
    bench.step([]);
    let zxid = Zxid::ZERO;
    let begins = |bench: &Bench| {
        let begin = |op: &&SnapshotOp| matches!(op, SnapshotOp::Begin { .. });
        bench.snapshot.iter().filter(begin).count()
    };
    bench.step([Input::SnapshotFailed { zxid }]);
    bench.wait_ms(999);
    assert_eq!(begins(&bench), 1);
    bench.wait_ms(1);
    assert_eq!(begins(&bench), 2);
    bench.step([Input::SnapshotStored { zxid }]);
    let mut bench = bench.joined();
    let count = txns_before_next(&mut bench, b"");
    assert!((18..=38).contains(&count), "{count}");
    bench.step([Input::SnapshotFailed { zxid }]);
    bench.snapshot.clear();
    bench.wait_ms(5000);
    assert_eq!(begins(&bench), 0);
}
