//! History that is taken back, and epochs, with the power cut at every operation.

use super::*;

use crate::ids::{Epoch, Seq};
use crate::lane::StoreOp;
use crate::store::epochs::{self, Epochs, EpochsError, NoEpoch};
use crate::store::lane::{LaneError, LogLane};
use crate::store::log::LogOptions;
use crate::store::recovery::{Recovered, recover};
use crate::store::truncate::TruncateError;

const OPTIONS: LogOptions = LogOptions {
    preallocate_bytes: 1024,
    file_bytes_max: 0,
};

const POWER_CUTS: u64 = 8;

/// A server's two directories, and the transactions that its log once had.
#[derive(Clone, Debug)]
struct Directories {
    logs: MemDisk,
    snapshots: MemDisk,
    history: Vec<i64>,
}

impl Directories {
    fn with(logs: &[&[i64]], snapshots: &[i64]) -> Self {
        let disk = MemDisk::default();
        let directories = Self {
            snapshots: disk.beside(),
            logs: disk,
            history: logs.concat(),
        };
        for zxids in logs {
            let name = crate::store::names::log(Zxid(zxids[0]));
            directories.logs.put(&name, &log_of(zxids.iter().copied()));
        }
        for zxid in snapshots {
            directories.put_snapshot(*zxid);
        }
        directories
    }

    fn put_snapshot(&self, zxid: i64) {
        let name = std::format!("snapshot.{zxid:x}");
        self.snapshots.put(&name, &snapshot_bytes());
    }

    /// A copy to be changed.
    fn copy(&self) -> Self {
        let logs = self.logs.kill();
        let snapshots = logs.beside();
        for (name, bytes) in self.snapshots.all() {
            snapshots.put(&name, &bytes);
        }
        Self {
            logs,
            snapshots,
            history: self.history.clone(),
        }
    }

    fn power_cut(&self, random: &mut Random) -> Self {
        Self {
            logs: self.logs.power_cut(random),
            snapshots: self.snapshots.power_cut(random),
            history: self.history.clone(),
        }
    }

    fn files(&self) -> (BTreeMap<String, Vec<u8>>, BTreeMap<String, Vec<u8>>) {
        (self.logs.all(), self.snapshots.all())
    }

    fn recover(&self, situation: &str) -> (Recovered, Recorder) {
        let mut restored = Recorder::default();
        let recovered = recover(
            &mut self.logs.clone(),
            &mut self.snapshots.clone(),
            &mut restored,
        );
        let recovered = recovered.unwrap_or_else(|error| panic!("{situation}: {error}"));
        (recovered, restored)
    }

    /// Recovers, and checks that it is a part of what was: its last transaction.
    fn last_of_old(&self, situation: &str) -> i64 {
        let (recovered, restored) = self.recover(situation);
        let snapshot = recovered.snapshot.map_or(0, |zxid| zxid.0);
        let between = |zxid: &&i64| (snapshot + 1..=recovered.last.0).contains(*zxid);
        let expected: Vec<i64> = self.history.iter().filter(between).copied().collect();
        let found: Vec<i64> = restored.txns.iter().map(|zxid| zxid.0).collect();
        assert_eq!(found, expected, "{situation}");
        for (zxid, found) in expected.iter().zip(&restored.payloads) {
            assert_eq!(found, &payload(*zxid, found.len(), 0), "{situation}");
        }
        recovered.last.0
    }

    fn lane(&self, last: i64) -> LogLane<MemDisk> {
        let (logs, snapshots) = (self.logs.clone(), self.snapshots.clone());
        LogLane::new(logs, snapshots, OPTIONS, Zxid(last))
    }

    fn perform(&self, op: StoreOp) -> Result<Option<Seq>, LaneError<Failed>> {
        let last = self.history.last().copied().unwrap_or(0);
        self.lane(last).perform([(Seq(1), op)])
    }

    /// What another leader proposes after `to` is all that is there of what comes after it.
    fn goes_on_after(&self, to: i64, situation: &str) {
        let new_epoch = Zxid(to).first_of_next_epoch().0;
        for first in [to + 1, new_epoch] {
            let after = self.copy();
            let zxids = [first, first + 1];
            let append = |zxid: i64| StoreOp::Append {
                zxid: Zxid(zxid),
                txn: payload(zxid, 700, 9).into(),
            };
            let ops = zxids.map(|zxid| (Seq(1), append(zxid)));
            after.lane(to).perform(ops).unwrap();
            let after = after.power_cut(&mut Random(1));
            let (recovered, restored) = after.recover(situation);
            assert_eq!(recovered.last.0, first + 1, "{situation}");
            let new = restored.payloads.len() - 2;
            let expected = zxids.map(|zxid| payload(zxid, 700, 9));
            assert_eq!(restored.payloads[new..], expected, "{situation}");
        }
    }
}

fn append(zxid: i64, bytes: usize) -> StoreOp {
    StoreOp::Append {
        zxid: Zxid(zxid),
        txn: payload(zxid, bytes, 0).into(),
    }
}

const EPOCH_1: i64 = 1 << 32;
const EPOCH_2: i64 = 2 << 32;

/// Histories as servers have them.
fn histories() -> Vec<(&'static str, Directories)> {
    let plain = Directories::with(
        &[&[1, 2, 3, 4, 5], &[6, 7, 8], &[9, 10], &[11, 12]],
        &[0, 3, 5, 9, 12],
    );
    let no_snapshot = Directories::with(&[&[1, 2, 3], &[4, 5]], &[]);
    let epochs = Directories::with(
        &[
            &[EPOCH_1 + 1, EPOCH_1 + 2],
            &[EPOCH_1 + 3, EPOCH_2 + 1, EPOCH_2 + 2],
        ],
        &[0, EPOCH_1 + 2, EPOCH_2 + 1],
    );
    // As of a ZooKeeper server that was given a leader's state at 20.
    let gap = Directories::with(&[&[1, 2, 3], &[4, 5], &[21, 22], &[23, 24]], &[0, 20, 22]);
    let torn = Directories::with(&[&[1, 2, 3], &[4, 5], &[6]], &[0]);
    let mut log = log_of([1, 2, 3]);
    log.extend_from_slice(&[0, 0, 0, 0, 7, 7]);
    torn.logs.put("log.1", &log);
    let unfinished = Directories::with(&[&[1, 2, 3], &[4, 5]], &[0, 4]);
    let mut log = log_of([4, 5]);
    log.resize(2000, 0);
    unfinished.logs.put("log.4", &log);
    unfinished.logs.put("log.6", b"");
    std::vec![
        ("plain", plain),
        ("no snapshot", no_snapshot),
        ("epochs", epochs),
        ("gap", gap),
        ("torn", torn),
        ("unfinished", unfinished),
    ]
}

/// Where each of these histories can be cut.
fn cuts() -> impl Iterator<Item = (String, Directories, i64)> {
    histories().into_iter().flat_map(|(name, directories)| {
        let mut cuts = directories.history.clone();
        match name {
            "gap" => cuts.extend([0, 20]),
            "no snapshot" => {}
            _ => cuts.push(0),
        }
        cuts.into_iter()
            .map(move |to| (std::format!("{name}, to {to:#x}"), directories.copy(), to))
    })
}

#[test]
fn a_log_that_was_cut_ends_where_it_was_cut() {
    for (situation, directories, to) in cuts() {
        let before = directories.files();
        let op = StoreOp::Truncate { to: Zxid(to) };
        assert_eq!(directories.perform(op), Ok(Some(Seq(1))), "{situation}");
        for cut in 0..POWER_CUTS {
            let after = directories.power_cut(&mut Random(cut));
            assert_eq!(after.last_of_old(&situation), to, "{situation}");
            after.goes_on_after(to, &situation);
        }
        let (logs, snapshots) = directories.files();
        assert!(logs.keys().all(|name| before.0.contains_key(name)));
        let snapshots = snapshots.keys().filter_map(|name| {
            let (zxid, _) = crate::store::names::parse_snapshot(name)?;
            Some(zxid.0)
        });
        let snapshots: Vec<i64> = snapshots.collect();
        assert!(snapshots.iter().all(|zxid| *zxid <= to), "{situation}");
        let kept = |zxid: &i64| *zxid <= to;
        let kept = before.1.keys().filter_map(|name| {
            let zxid = crate::store::names::parse_snapshot(name)?.0.0;
            kept(&zxid).then_some(zxid)
        });
        assert_eq!(snapshots.len(), kept.count(), "{situation}");
    }
}

#[test]
fn a_cut_that_is_interrupted_anywhere_leaves_a_history_that_can_be_cut() {
    let mut interrupted = 0;
    for (situation, directories, to) in cuts() {
        let op = StoreOp::Truncate { to: Zxid(to) };
        let old_last = directories.copy().last_of_old(&situation);
        for fail_at in 0.. {
            let directories = directories.copy();
            directories.logs.fail_at(fail_at);
            let performed = directories.perform(op.clone());
            for cut in 0..POWER_CUTS {
                let situation = std::format!("{situation}, operation {fail_at}, cut {cut}");
                let after = directories.power_cut(&mut Random((fail_at as u64) << 8 | cut));
                let last = after.last_of_old(&situation);
                assert!((to..=old_last).contains(&last), "{situation}: {last:#x}");
                let last = Zxid(last);
                let mut lane =
                    LogLane::new(after.logs.clone(), after.snapshots.clone(), OPTIONS, last);
                let again = lane.perform([(Seq(1), op.clone())]);
                assert_eq!(again, Ok(Some(Seq(1))), "{situation}");
                assert_eq!(after.last_of_old(&situation), to, "{situation}");
            }
            if performed.is_ok() {
                break;
            }
            interrupted += 1;
        }
    }
    assert!(interrupted > 100, "{interrupted}");
}

#[test]
fn what_the_lane_took_is_cut_as_well() {
    for (to, file) in [(2, "log.1"), (4, "log.4"), (6, "log.4")] {
        let directories = Directories::with(&[&[1, 2, 3]], &[0]);
        let mut lane = directories.lane(3);
        let ops = [
            append(4, 60),
            append(5, 60),
            append(6, 60),
            StoreOp::Truncate { to: Zxid(to) },
            append(to + 1, 61),
        ];
        let ops = ops.into_iter().zip(1..).map(|(op, seq)| (Seq(seq), op));
        assert_eq!(lane.perform(ops), Ok(Some(Seq(5))));
        assert_eq!(lane.last(), Zxid(to + 1));
        let (recovered, restored) = directories.power_cut(&mut Random(0)).recover("taken");
        assert_eq!(recovered.last, Zxid(to + 1));
        assert_eq!(restored.payloads.last(), Some(&payload(to + 1, 61, 0)));
        let first: i64 = if file == "log.1" { 1 } else { 4 };
        assert_eq!(directories.logs.content(file), Some(log_of(first..=to)));
    }
}

#[test]
fn a_cut_at_what_the_log_does_not_hold_is_refused_and_changes_nothing() {
    let plain = || Directories::with(&[&[4, 5], &[6, 7]], &[3, 6]);
    let gap = || Directories::with(&[&[1, 2], &[21, 22]], &[0, 20]);
    let epochs = || Directories::with(&[&[1, 2], &[EPOCH_2 + 1]], &[0]);
    let damaged = || {
        let directories = plain();
        directories
            .snapshots
            .put("snapshot.3", b"ZKSN, but no more");
        directories
    };
    let cases = [
        ("before all", plain(), 2, None, 0),
        ("after all", plain(), 8, Some(6), 7),
        ("in a gap", gap(), 10, Some(0), 2),
        ("at an epoch's beginning", epochs(), EPOCH_2, Some(0), 2),
        ("in a later epoch", epochs(), EPOCH_1 + 5, Some(0), 2),
        ("without a whole snapshot", damaged(), 4, None, 0),
        ("to nothing", Directories::with(&[&[1, 2]], &[]), 0, None, 0),
    ];
    for (situation, directories, to, snapshot, reached) in cases {
        let before = directories.files();
        let refused = directories.perform(StoreOp::Truncate { to: Zxid(to) });
        let expected = TruncateError::NotInLog {
            to: Zxid(to),
            snapshot: snapshot.map(Zxid),
            reached: Zxid(reached),
        };
        assert_eq!(refused, Err(LaneError::Truncate(expected)), "{situation}");
        assert_eq!(directories.files(), before, "{situation}");
    }
}

#[test]
fn a_cut_behind_damage_is_refused_and_changes_nothing() {
    let directories = Directories::with(&[&[1, 2, 3, 4, 5]], &[0]);
    let mut log = log_of(1..=5);
    log[16 + 73 + 40] ^= 1;
    directories.logs.put("log.1", &log);
    let before = directories.files();
    let refused = directories.perform(StoreOp::Truncate { to: Zxid(4) });
    let Err(LaneError::Truncate(error @ TruncateError::Log { .. })) = refused else {
        panic!("expected the log to be refused, found {refused:?}");
    };
    let text = error.to_string();
    assert!(
        text.starts_with("/mem/log.1: at offset 89: expected"),
        "{text}"
    );
    assert_eq!(directories.files(), before);
    let before_it = directories.perform(StoreOp::Truncate { to: Zxid(1) });
    assert_eq!(before_it, Ok(Some(Seq(1))), "what goes need not be whole");
    assert_eq!(directories.last_of_old("damage"), 1);
}

/// The end of a snapshot file: after the znodes, and each part sealed.
fn with_tail(parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = b"ZKSN\0\0\0\x02content\0\0\0\x01/".to_vec();
    for part in core::iter::once(&b""[..]).chain(parts.iter().copied()) {
        bytes.extend_from_slice(part);
        let checksum = u64::from(simd_adler32::adler32(&bytes.as_slice()));
        bytes.extend_from_slice(&checksum.to_be_bytes());
        bytes.extend_from_slice(&[0, 0, 0, 1, b'/']);
    }
    bytes
}

#[test]
fn a_snapshot_whose_content_is_newer_than_its_name_goes_with_what_is_cut() {
    let digest = |zxid: i64| [&zxid.to_be_bytes()[..], &[0, 0, 0, 2], &[7; 8]].concat();
    let last = |zxid: i64| zxid.to_be_bytes().to_vec();
    for (parts, stays) in [
        (std::vec![], true),
        (std::vec![digest(3)], true),
        (std::vec![digest(5)], false),
        (std::vec![digest(0), last(5)], false),
        (std::vec![digest(4), last(4)], true),
        (std::vec![last(5)], false),
        (std::vec![last(4)], true),
    ] {
        let directories = Directories::with(&[&[1, 2, 3, 4, 5]], &[0]);
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        directories.snapshots.put("snapshot.3", &with_tail(&parts));
        let op = StoreOp::Truncate { to: Zxid(4) };
        assert_eq!(directories.perform(op), Ok(Some(Seq(1))));
        let left = directories.snapshots.content("snapshot.3").is_some();
        assert_eq!(left, stays, "{parts:?}");
        assert_eq!(directories.last_of_old("newer"), 4);
    }
}

/// A leader's snapshot was taken over, perhaps older than what is there.
fn resets() -> impl Iterator<Item = (String, Directories, i64)> {
    histories().into_iter().flat_map(|(name, directories)| {
        let mut names = directories.history.clone();
        if name == "gap" {
            names.push(20);
        }
        names.push(directories.history.last().unwrap() + 30);
        names.push(EPOCH_2 << 1);
        names.into_iter().map(move |to| {
            let directories = directories.copy();
            directories.put_snapshot(to);
            (std::format!("{name}, at {to:#x}"), directories, to)
        })
    })
}

#[test]
fn after_a_reset_there_is_the_snapshot_and_nothing_else() {
    for (situation, directories, to) in resets() {
        let op = StoreOp::Reset { to: Zxid(to) };
        assert_eq!(directories.perform(op), Ok(Some(Seq(1))), "{situation}");
        for cut in 0..POWER_CUTS {
            let after = directories.power_cut(&mut Random(cut));
            let (logs, snapshots) = after.files();
            assert_eq!(logs, BTreeMap::new(), "{situation}");
            let name = std::format!("snapshot.{to:x}");
            assert!(snapshots.into_keys().eq([name]), "{situation}");
            assert_eq!(after.last_of_old(&situation), to, "{situation}");
            after.goes_on_after(to, &situation);
        }
    }
}

#[test]
fn a_reset_that_is_interrupted_anywhere_leaves_a_history_that_can_be_reset() {
    let mut interrupted = 0;
    for (situation, directories, to) in resets() {
        let op = StoreOp::Reset { to: Zxid(to) };
        let old_last = directories.copy().last_of_old(&situation);
        for fail_at in 0.. {
            let directories = directories.copy();
            directories.logs.fail_at(fail_at);
            let performed = directories.perform(op.clone());
            for cut in 0..POWER_CUTS {
                let situation = std::format!("{situation}, operation {fail_at}, cut {cut}");
                let after = directories.power_cut(&mut Random((fail_at as u64) << 8 | cut));
                let last = after.last_of_old(&situation);
                assert!((to..=old_last).contains(&last), "{situation}: {last:#x}");
                let again = after.perform(op.clone());
                assert_eq!(again, Ok(Some(Seq(1))), "{situation}");
                assert_eq!(after.last_of_old(&situation), to, "{situation}");
            }
            if performed.is_ok() {
                break;
            }
            interrupted += 1;
        }
    }
    assert!(interrupted > 100, "{interrupted}");
}

#[test]
fn a_leaders_snapshot_is_a_place_to_cut_at() {
    for (situation, directories, to) in resets() {
        if to > *directories.history.last().unwrap() {
            continue;
        }
        let op = StoreOp::Truncate { to: Zxid(to) };
        assert_eq!(directories.perform(op), Ok(Some(Seq(1))), "{situation}");
        let after = directories.power_cut(&mut Random(0));
        assert_eq!(after.last_of_old(&situation), to, "{situation}");
        after.goes_on_after(to, &situation);
    }
}

#[test]
fn nothing_is_reset_to_a_snapshot_that_is_not_there() {
    let directories = Directories::with(&[&[1, 2, 3]], &[0, 2]);
    directories
        .snapshots
        .put("snapshot.5", b"ZKSN, but no more");
    let before = directories.files();
    for to in [1, 3, 5] {
        let refused = directories.perform(StoreOp::Reset { to: Zxid(to) });
        let expected = TruncateError::NoSnapshot { zxid: Zxid(to) };
        assert_eq!(refused, Err(LaneError::Truncate(expected)));
        assert_eq!(directories.files(), before);
    }
}

/// What a server writes as it follows leader after leader: the epochs with what must precede them.
fn promises() -> Vec<StoreOp> {
    let epochs = |accepted: Option<i32>, current: Option<i32>| StoreOp::Epochs {
        accepted: accepted.map(Epoch),
        current: current.map(Epoch),
    };
    std::vec![
        epochs(Some(1), None),
        epochs(None, Some(1)),
        append(EPOCH_1 + 1, 100),
        append(EPOCH_1 + 2, 2000),
        epochs(Some(3), None),
        append(EPOCH_1 + 3, 1000),
        append(EPOCH_2 + 1, 100),
        epochs(None, Some(3)),
        append((3 << 32) + 1, 100),
        epochs(Some(4), Some(4)),
        append((4 << 32) + 1, 100),
    ]
}

fn number(disk: &MemDisk, name: &str) -> Option<i32> {
    let text = String::from_utf8(disk.content(name)?).unwrap();
    Some(text.parse().unwrap())
}

#[test]
fn an_epoch_on_disk_has_its_history_before_it_and_is_never_lost() {
    for batch in 1..=4 {
        for fail_at in 0.. {
            let directories = Directories::with(&[], &[0]);
            directories.logs.fail_at(fail_at);
            let mut lane = directories.lane(0);
            let mut done = 0;
            let ops: Vec<_> = (1..).map(Seq).zip(promises()).collect();
            for ops in ops.chunks(batch) {
                match lane.perform(ops.iter().cloned()) {
                    Ok(upto) => {
                        done = usize::try_from(upto.unwrap().0).unwrap();
                        assert_eq!(upto, Some(ops.last().unwrap().0));
                    }
                    Err(_) => break,
                }
            }
            for cut in 0..POWER_CUTS {
                let situation = std::format!("batch {batch}, operation {fail_at}, cut {cut}");
                let after = directories.power_cut(&mut Random((fail_at as u64) << 8 | cut));
                check_promises(&after, done, &situation);
            }
            if done == promises().len() {
                assert!(fail_at > 30);
                break;
            }
        }
    }
}

/// Checks the files after `done` operations were confirmed.
fn check_promises(after: &Directories, done: usize, situation: &str) {
    let accepted = number(&after.snapshots, "acceptedEpoch");
    let current = number(&after.snapshots, "currentEpoch");
    assert!(current <= accepted, "{situation}");
    let last = after.recover(situation).0.last;
    let mut before = Zxid::ZERO;
    for (index, op) in promises().into_iter().enumerate() {
        match op {
            StoreOp::Append { zxid, .. } => before = zxid,
            StoreOp::Epochs {
                accepted: promised,
                current: taken,
            } => {
                let has = |file: Option<i32>, epoch: Option<Epoch>| {
                    epoch.is_some_and(|epoch| file >= Some(epoch.0))
                };
                if index < done {
                    assert!(promised.is_none() || has(accepted, promised), "{situation}");
                    assert!(taken.is_none() || has(current, taken), "{situation}");
                }
                if has(accepted, promised) || has(current, taken) {
                    assert!(last >= before, "{situation}: {last} is before {before}");
                }
            }
            StoreOp::Roll | StoreOp::Truncate { .. } | StoreOp::Reset { .. } => {}
        }
        assert!(index >= done || last >= before, "{situation}");
    }
    let epochs = epochs::open(&mut after.snapshots.clone(), last).unwrap();
    assert!(epochs.accepted >= epochs.current, "{situation}");
    assert!(epochs.current >= last.epoch(), "{situation}");
    assert!(epochs.current.0 >= current.unwrap_or(0), "{situation}");
    assert!(epochs.accepted.0 >= accepted.unwrap_or(0), "{situation}");
    let durable = after.snapshots.power_cut(&mut Random(3));
    assert_eq!(number(&durable, "acceptedEpoch"), Some(epochs.accepted.0));
    assert_eq!(number(&durable, "currentEpoch"), Some(epochs.current.0));
}

#[test]
fn epochs_that_are_missing_or_behind_are_mended() {
    type File = Option<&'static [u8]>;
    let cases: [(File, File, i64, i32, i32); 9] = [
        (None, None, 0, 0, 0),
        (None, None, EPOCH_2 + 7, 2, 2),
        (Some(b"5"), Some(b"4"), EPOCH_2, 5, 4),
        (Some(b"5\n"), Some(b" 4 \nmore"), EPOCH_2, 5, 4),
        (Some(b"5"), None, EPOCH_2, 5, 2),
        (None, Some(b"4"), EPOCH_2, 4, 4),
        (Some(b"3"), Some(b"4"), EPOCH_2, 4, 4),
        (Some(b"5"), Some(b"1"), EPOCH_2, 5, 2),
        (Some(b"1"), Some(b"1"), EPOCH_2, 2, 2),
    ];
    for (accepted, current, last, new_accepted, new_current) in cases {
        let disk = MemDisk::default();
        disk.put("currentEpoch.tmp", b"9");
        for (name, content) in [("acceptedEpoch", accepted), ("currentEpoch", current)] {
            if let Some(content) = content {
                disk.put(name, content);
            }
        }
        let epochs = epochs::open(&mut disk.clone(), Zxid(last)).unwrap();
        let expected = Epochs {
            accepted: Epoch(new_accepted),
            current: Epoch(new_current),
        };
        assert_eq!(epochs, expected);
        let operations = disk.operations();
        let durable = disk.power_cut(&mut Random(0));
        assert_eq!(
            number_of_first_line(&durable, "acceptedEpoch"),
            new_accepted
        );
        assert_eq!(number_of_first_line(&durable, "currentEpoch"), new_current);
        assert_eq!(epochs::open(&mut disk.clone(), Zxid(last)), Ok(expected));
        assert_eq!(disk.operations(), operations, "nothing is left to mend");
    }
}

fn number_of_first_line(disk: &MemDisk, name: &str) -> i32 {
    let text = String::from_utf8(disk.content(name).unwrap()).unwrap();
    text.lines().next().unwrap().trim().parse().unwrap()
}

#[test]
fn what_is_no_epoch_is_told_with_its_file() {
    for content in ["", "-1", "x", "0x5", "2147483648", "\n5", "5 6"] {
        for name in ["acceptedEpoch", "currentEpoch"] {
            let disk = MemDisk::with(&[(name, content.as_bytes())]);
            let error = epochs::open(&mut disk.clone(), Zxid(EPOCH_1)).unwrap_err();
            let expected = EpochsError::Unreadable {
                file: std::format!("/mem/{name}"),
                error: NoEpoch(content.to_string()),
            };
            assert_eq!(error, expected);
            assert_eq!(disk.operations(), 0);
        }
    }
}

#[test]
#[should_panic(expected = "promises are kept")]
fn an_epoch_never_goes_back() {
    let directories = Directories::with(&[], &[]);
    let mut lane = directories.lane(0);
    for epoch in [5, 4] {
        let accepted = Some(Epoch(epoch));
        let op = StoreOp::Epochs {
            accepted,
            current: None,
        };
        let _ = lane.perform([(Seq(1), op)]);
    }
}
