//! The store stopped at every operation, and what is there afterwards.

use super::*;
use core::num::{NonZeroU32, NonZeroU64};

use crate::store::log::{LogOptions, LogStore};
use crate::store::names::Compression;
use crate::store::purge::{Keep, LogFile, Plan, SnapshotFile, plan, purge};
use crate::store::recovery::recover;
use crate::store::snapshot::SnapshotStore;

const OPTIONS: LogOptions = LogOptions {
    preallocate_bytes: 4096,
    file_bytes_max: 9000,
};

/// What a server had done when it stopped.
#[derive(Debug, Default)]
struct Done {
    appended: i64,
    /// The last transaction that was confirmed.
    confirmed: i64,
    snapshot: i64,
}

/// Appends, rolls, takes snapshots and purges until the disk fails or all is done.
fn work(disk: &MemDisk, first: i64, seed: u64, done: &mut Done) -> Result<(), Failed> {
    let mut random = Random(seed);
    let mut snapshots = SnapshotStore::new(disk.clone());
    snapshots.remove_unfinished()?;
    let mut log = LogStore::new(disk.clone(), OPTIONS, Zxid(first - 1));
    let mut zxid = first - 1;
    for _ in 0..12 {
        for _ in 0..=random.below(4) {
            zxid += 1;
            done.appended = zxid;
            let bytes = random.below(1500);
            log.append(Zxid(zxid), &payload(zxid, bytes, 0))?;
        }
        log.sync()?;
        done.confirmed = zxid;
        match random.below(6) {
            0 => log.roll()?,
            1 => {
                snapshots.begin(Zxid(zxid), Compression::None)?;
                snapshots.chunk(&snapshot_bytes())?;
                snapshots.end()?;
                done.snapshot = zxid;
                let keep = NonZeroU32::new(2).unwrap();
                purge(&mut disk.clone(), &mut disk.clone(), keep)?;
            }
            _ => {}
        }
    }
    log.close()
}

/// Recovers, checks that nothing confirmed is missing and nothing was made up, returns the last
/// zxid.
fn check(disk: &MemDisk, done: &Done, situation: &str) -> i64 {
    let mut restored = Recorder::default();
    let recovered = recover(&mut disk.clone(), &mut disk.clone(), &mut restored);
    let recovered = recovered.unwrap_or_else(|error| panic!("{situation}: {error}"));
    let last = recovered.last.0;
    assert!(last >= done.confirmed, "{situation}: {last} of {done:?}");
    assert!(last <= done.appended, "{situation}: {last} of {done:?}");
    let snapshot = recovered.snapshot.unwrap_or_default().0;
    assert!(
        snapshot >= done.snapshot,
        "{situation}: {snapshot} of {done:?}"
    );
    let txns: Vec<i64> = restored.txns.iter().map(|zxid| zxid.0).collect();
    assert!(
        txns.iter().copied().eq(snapshot + 1..=last),
        "{situation}: {txns:?}"
    );
    for (zxid, found) in txns.iter().zip(&restored.payloads) {
        let expected = payload(*zxid, found.len(), 0);
        assert_eq!(found, &expected, "{situation}: {zxid}");
    }
    last
}

#[test]
fn nothing_confirmed_is_lost_wherever_the_power_fails() {
    for seed in 0..4 {
        let disk = MemDisk::default();
        work(&disk, 1, seed, &mut Done::default()).unwrap();
        let operations = disk.operations();
        assert!(operations > 50);
        for fail_at in 0..=operations {
            let disk = MemDisk::default();
            disk.fail_at(fail_at);
            let mut done = Done::default();
            let _ = work(&disk, 1, seed, &mut done);
            for cut in 0..6 {
                let situation = std::format!("seed {seed}, operation {fail_at}, cut {cut}");
                let mut random = Random(seed << 32 | (fail_at as u64) << 8 | cut);
                let after = match cut {
                    0 => disk.kill(),
                    _ => disk.power_cut(&mut random),
                };
                let last = check(&after, &done, &situation);
                // What was recovered is there to stay, whatever the next server does.
                let mut more = Done {
                    appended: last,
                    confirmed: last,
                    snapshot: 0,
                };
                after.fail_at(after.operations() + 20);
                let _ = work(&after, last + 1, seed + 1, &mut more);
                check(&after.power_cut(&mut random), &more, &situation);
            }
        }
    }
}

#[test]
fn a_batch_is_one_write_and_one_sync() {
    let disk = MemDisk::default();
    let mut log = LogStore::new(disk.clone(), LogOptions::default(), Zxid::ZERO);
    log.append(Zxid(1), &payload(1, 40, 0)).unwrap();
    log.sync().unwrap();
    let before = disk.operations();
    for zxid in 2..100 {
        log.append(Zxid(zxid), &payload(zxid, 400, 0)).unwrap();
    }
    log.sync().unwrap();
    assert_eq!(disk.operations() - before, 2);
    log.sync().unwrap();
    assert_eq!(disk.operations() - before, 2);
}

#[test]
fn a_batch_that_nobody_syncs_is_synced_before_it_is_too_long() {
    let disk = MemDisk::default();
    let mut log = LogStore::new(disk.clone(), LogOptions::default(), Zxid::ZERO);
    for zxid in 1..=5 {
        log.append(Zxid(zxid), &payload(zxid, 1 << 20, 0)).unwrap();
    }
    assert!(disk.0.borrow().files[0].durable.len() > 4 << 20);
}

#[test]
fn the_zeros_ahead_of_the_end_are_cut_off_a_finished_file() {
    let disk = MemDisk::default();
    let mut log = LogStore::new(disk.clone(), LogOptions::default(), Zxid::ZERO);
    log.append(Zxid(1), &payload(1, 60, 0)).unwrap();
    log.sync().unwrap();
    assert_eq!(disk.content("log.1").unwrap().len(), 1 << 20);
    log.roll().unwrap();
    assert_eq!(disk.content("log.1").unwrap(), log_of([1]));
    log.append(Zxid(2), &payload(2, 60, 0)).unwrap();
    log.close().unwrap();
    assert_eq!(disk.content("log.2").unwrap(), log_of([2]));
}

#[test]
fn a_file_over_its_size_is_followed_by_a_new_one() {
    let disk = MemDisk::default();
    let options = LogOptions {
        preallocate_bytes: 0,
        file_bytes_max: 150,
    };
    let mut log = LogStore::new(disk.clone(), options, Zxid::ZERO);
    for zxid in 1..=4 {
        log.append(Zxid(zxid), &payload(zxid, 60, 0)).unwrap();
        log.sync().unwrap();
    }
    assert_eq!(disk.content("log.1").unwrap(), log_of(1..=2));
    assert_eq!(disk.content("log.3").unwrap(), log_of(3..=4));
}

#[test]
#[should_panic(expected = "transaction 0x2 appended to the log after 0x2")]
fn a_transaction_out_of_order_never_reaches_the_log() {
    let mut log = LogStore::new(MemDisk::default(), LogOptions::default(), Zxid(2));
    let _ = log.append(Zxid(2), &payload(2, 60, 0));
}

#[test]
fn a_failed_snapshot_leaves_nothing_behind() {
    let disk = MemDisk::default();
    let mut snapshots = SnapshotStore::new(disk.clone());
    snapshots.begin(Zxid(7), Compression::Gzip).unwrap();
    snapshots.chunk(b"half of").unwrap();
    assert_eq!(
        disk.all().into_keys().collect::<Vec<_>>(),
        ["tmp-snapshot.7.gz"]
    );
    snapshots.abandon();
    assert_eq!(disk.all(), BTreeMap::new());

    disk.put("tmp-snapshot.9", b"left by a crash");
    disk.put("snapshot.9.tmp", b"not ours");
    snapshots.remove_unfinished().unwrap();
    assert_eq!(
        disk.all().into_keys().collect::<Vec<_>>(),
        ["snapshot.9.tmp"]
    );
}

fn snapshot_file(zxid: i64, valid: bool) -> SnapshotFile {
    SnapshotFile {
        zxid: Zxid(zxid),
        name: std::format!("snapshot.{zxid:x}"),
        bytes: 100,
        valid,
    }
}

fn log_files(zxids: &[i64]) -> Vec<LogFile> {
    let file = |zxid: &i64| LogFile {
        first: Zxid(*zxid),
        name: std::format!("log.{zxid:x}"),
        bytes: 10,
    };
    zxids.iter().map(file).collect()
}

#[test]
fn only_what_no_kept_snapshot_needs_is_purged() {
    let logs = log_files;
    let two = Keep::from(NonZeroU32::new(2).unwrap());

    let all = [1, 3, 6, 7, 9]
        .map(|zxid| snapshot_file(zxid, zxid != 7))
        .to_vec();
    let expected = Plan {
        snapshots: ["snapshot.1", "snapshot.3"].map(String::from).to_vec(),
        logs: ["log.1", "log.2"].map(String::from).to_vec(),
    };
    assert_eq!(plan(all, logs(&[8, 1, 2, 5, 7]), two), expected);

    let damaged = [1, 3, 6]
        .map(|zxid| snapshot_file(zxid, zxid == 1))
        .to_vec();
    assert_eq!(plan(damaged, logs(&[1, 2, 5]), two), Plan::default());
    assert_eq!(plan(Vec::new(), logs(&[1, 2, 5]), two), Plan::default());

    let twice = [3, 6, 6].map(|zxid| snapshot_file(zxid, true)).to_vec();
    let no_more = plan(twice, logs(&[1, 3, 6]), two);
    assert_eq!(no_more.snapshots, [""; 0], "one in two compressions is one");
    assert_eq!(no_more.logs, ["log.1"], "the log from 3 on follows 3");
}

/// What is left of five snapshots and their logs, 550 bytes, by number.
fn left_by(snapshots: u32, bytes: u64, damaged: &[i64]) -> Vec<i64> {
    let keep = Keep {
        snapshots: NonZeroU32::new(snapshots).unwrap(),
        bytes_max: NonZeroU64::new(bytes),
    };
    let zxids = [10, 20, 30, 40, 50];
    let all = zxids.map(|zxid| snapshot_file(zxid, !damaged.contains(&zxid)));
    let plan = plan(all.to_vec(), log_files(&[1, 11, 21, 31, 41]), keep);
    // A snapshot without every log after it would be no state to go on from.
    let left: Vec<i64> = zxids
        .into_iter()
        .filter(|zxid| !plan.snapshots.contains(&std::format!("snapshot.{zxid:x}")))
        .collect();
    let first_needed = left.first().unwrap() - 9;
    for log in [1, 11, 21, 31, 41] {
        let is_gone = plan.logs.contains(&std::format!("log.{log:x}"));
        assert_eq!(is_gone, log < first_needed, "log.{log:x} of {left:?}");
    }
    left
}

#[test]
fn bytes_take_snapshots_away_but_never_the_newest_two() {
    assert_eq!(left_by(5, 550, &[]), [10, 20, 30, 40, 50]);
    assert_eq!(left_by(5, 549, &[]), [20, 30, 40, 50]);
    assert_eq!(left_by(5, 330, &[]), [30, 40, 50]);
    assert_eq!(left_by(5, 1, &[]), [40, 50]);
    assert_eq!(left_by(3, 1000, &[]), [30, 40, 50], "the number counts too");
    // Fewer than are to be kept, and too many bytes for all of them.
    assert_eq!(left_by(9, 550, &[]), [10, 20, 30, 40, 50]);
    assert_eq!(left_by(9, 1, &[]), [40, 50]);
    // What does not look whole is nothing to fall back to.
    assert_eq!(left_by(5, 1, &[40]), [30, 40, 50]);
    assert_eq!(left_by(5, 1, &[20, 30, 40, 50]), [10, 20, 30, 40, 50]);
    // Whoever wants but one has said so.
    assert_eq!(left_by(1, 1, &[]), [50]);
}

#[test]
fn purge_counts_only_snapshots_that_look_whole() {
    let disk = MemDisk::with(&[
        ("snapshot.0", &snapshot_bytes()),
        ("snapshot.3", &snapshot_bytes()),
        ("snapshot.5", &snapshot_bytes()[..18]),
        ("log.1", &log_of(1..=3)),
        ("log.4", &log_of(4..=9)),
        ("myid", b"1"),
    ]);
    let one = NonZeroU32::MIN;
    purge(&mut disk.clone(), &mut disk.clone(), one).unwrap();
    let left = disk.all();
    let names: Vec<&str> = left.keys().map(String::as_str).collect();
    // log.1 begins before transaction 3 and ends with it: ZooKeeper keeps it too.
    assert_eq!(
        names,
        ["log.1", "log.4", "myid", "snapshot.3", "snapshot.5"]
    );
}
