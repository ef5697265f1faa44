//! The store on real files.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops where its expectation fails"
)]

use core::num::NonZeroU32;
use core::ops::ControlFlow;
use core::sync::atomic::{AtomicU32, Ordering};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use bytes::Bytes;
use zabra_core::ids::{Epoch, Seq, Zxid};
use zabra_core::server::io::{Input, SnapshotOp, StoreOp};
use zabra_core::store::Restore;
use zabra_core::store::disk::Disk;
use zabra_core::store::epochs::Epochs;
use zabra_core::store::log::LogOptions;
use zabra_core::store::names::Compression;
use zabra_core::store::recovery::{RecoverError, Recovered, recover};
use zabra_core::tree::Loader;

use super::*;

/// A directory of its own for one test, removed at its end.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("zabra-store-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn open(&self) -> Directories {
        Directories::open(&self.0, &self.0, Autocreate::Yes).unwrap()
    }

    fn names(&self) -> Vec<String> {
        names(&self.open())
    }
}

/// What is in a directory, but for the lock.
fn names(directories: &Directories) -> Vec<String> {
    let entries = directories.snapshots().list().unwrap();
    let names = entries.into_iter().map(|entry| entry.name);
    let mut names: Vec<String> = names.filter(|name| name != "zabra.lock").collect();
    names.sort();
    names
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Accepts a snapshot that begins as ZooKeeper's do, and counts.
#[derive(Debug, Default)]
struct Recorder {
    snapshot: Vec<u8>,
    txns: Vec<Vec<u8>>,
}

impl Restore for Recorder {
    type Error = &'static str;

    fn snapshot_begin(&mut self, _: Zxid) {
        *self = Self::default();
    }

    fn snapshot_chunk(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        self.snapshot.extend_from_slice(bytes);
        Ok(())
    }

    fn snapshot_end(&mut self) -> Result<(), &'static str> {
        let whole = self.snapshot.starts_with(b"ZKSN") && self.snapshot.ends_with(b"\0\0\0\x01/");
        whole.then_some(()).ok_or("not a snapshot")
    }

    fn txn(&mut self, payload: &[u8]) -> Result<(), &'static str> {
        self.txns.push(payload.to_vec());
        Ok(())
    }
}

fn recovered(directories: &Directories) -> (Recovered, Recorder) {
    let mut restored = Recorder::default();
    let recovered = recover(
        &mut directories.logs(),
        &mut directories.snapshots(),
        &mut restored,
    );
    (recovered.unwrap(), restored)
}

fn txn(zxid: i64) -> Bytes {
    let mut payload = vec![7; 100];
    payload[12..20].copy_from_slice(&zxid.to_be_bytes());
    Bytes::from(payload)
}

fn append(zxid: i64) -> StoreOp {
    StoreOp::Append {
        zxid: Zxid(zxid),
        txn: txn(zxid),
    }
}

/// A snapshot's content that compresses, but not to nothing.
fn snapshot() -> Vec<u8> {
    let mut content = b"ZKSN".to_vec();
    for word in 0..50_000_u32 {
        content.extend_from_slice(&(word.wrapping_mul(2_654_435_761) >> 20).to_be_bytes());
    }
    content.extend_from_slice(b"\0\0\0\x01/");
    content
}

/// Starts lanes that report to a channel.
fn lanes(
    directories: &Directories,
    last: i64,
    options: LaneOptions,
) -> (Lanes, mpsc::Receiver<Report>) {
    let (sender, reports) = mpsc::channel();
    let report = move |report| sender.send(report).unwrap_or_default();
    let lanes = Lanes::start(directories, Zxid(last), options, report).unwrap();
    (lanes, reports)
}

fn store(lanes: &Lanes, seq: u64, op: StoreOp) {
    lanes.store(&mut vec![(Seq(seq), op)]);
}

fn write_snapshot(lanes: &Lanes, zxid: i64) {
    let mut ops = vec![SnapshotOp::Begin { zxid: Zxid(zxid) }];
    for chunk in snapshot().chunks(70_000) {
        ops.push(SnapshotOp::Chunk(Bytes::copy_from_slice(chunk)));
    }
    lanes.snapshot(&mut ops);
    lanes.snapshot(&mut vec![SnapshotOp::End]);
}

fn golden(under: &str) -> PathBuf {
    let core = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core");
    core.join("tests/golden").join(under)
}

#[test]
fn what_was_stored_is_recovered() {
    let temporary = Temporary::new();
    for start in 0..3 {
        let directories = temporary.open();
        let (found, restored) = recovered(&directories);
        assert_eq!(found.last, Zxid(start * 500));
        let zxids = (1..=found.last.0).map(txn);
        assert!(restored.txns.into_iter().map(Bytes::from).eq(zxids));

        let (lanes, reports) = lanes(&directories, found.last.0, LaneOptions::default());
        for (seq, zxid) in (1..).zip(found.last.0 + 1..=found.last.0 + 500) {
            store(&lanes, seq, append(zxid));
        }
        store(&lanes, 501, StoreOp::Roll);
        let mut confirmed = Seq(0);
        while confirmed < Seq(501) {
            let report = reports.recv().unwrap();
            let Report::Input(Input::Stored { upto }) = report else {
                panic!("expected Stored, got {report:?}");
            };
            assert!(upto > confirmed);
            confirmed = upto;
        }
        assert!(lanes.fsync_ms()().count >= 2);
        lanes.close();
        assert!(reports.recv().is_err(), "nothing else is reported");
    }
    assert_eq!(temporary.names(), ["log.1", "log.1f5", "log.3e9"]);
}

#[test]
fn snapshots_are_written_and_read_in_every_compression() {
    for compression in [Compression::None, Compression::Gzip, Compression::Snappy] {
        let temporary = Temporary::new();
        let directories = temporary.open();
        let options = LaneOptions {
            compression,
            ..LaneOptions::default()
        };
        fs::write(
            directories.snapshots().path().join("tmp-snapshot.3"),
            b"left",
        )
        .unwrap();
        let (lanes, reports) = lanes(&directories, 0, options);
        write_snapshot(&lanes, 5);
        lanes.close();

        let written: Vec<Report> = reports.iter().collect();
        let bytes = written.iter().map(|report| {
            if let Report::Input(Input::SnapshotWritten(bytes)) = report {
                return *bytes;
            }
            0
        });
        assert_eq!(bytes.sum::<usize>(), snapshot().len());
        let last = written.last();
        assert!(matches!(
            last,
            Some(Report::Input(Input::SnapshotStored { zxid: Zxid(5) }))
        ));
        let (found, restored) = recovered(&directories);
        assert_eq!(found.snapshot, Some(Zxid(5)));
        assert!(restored.snapshot == snapshot(), "{compression:?}");
        let name = zabra_core::store::names::snapshot(Zxid(5), compression);
        drop(directories);
        assert_eq!(temporary.names(), [name]);
    }
}

#[test]
fn zookeepers_compressed_snapshots_are_read() {
    for (under, snapshot, last) in [
        ("data/standalone-3.8.0-gz", 0x29, 0x31),
        ("data/standalone-3.8.0-snappy", 0x23, 0x31),
    ] {
        let mut disk = FsDisk::unlocked(golden(under));
        for entry in disk.list().unwrap() {
            let mut content = Vec::new();
            let mut sink = |bytes: &[u8]| {
                content.extend_from_slice(bytes);
                ControlFlow::Continue(())
            };
            disk.read(&entry.name, 0, &mut sink).unwrap();
            assert!(content.starts_with(b"ZKSN") || content.starts_with(b"ZKLG"));
        }
        let mut restored = Recorder::default();
        let found = recover(&mut disk.clone(), &mut disk, &mut restored).unwrap();
        assert_eq!(
            (found.snapshot, found.last),
            (Some(Zxid(snapshot)), Zxid(last)),
            "{under}"
        );
        assert_eq!(found.notes, [], "{under}");
    }
}

#[test]
fn zookeepers_directories_make_the_tree_that_their_digests_describe() {
    for under in [
        "data/mixed",
        "data/standalone-3.8.0-gz",
        "data/standalone-3.8.0-snappy",
        "data/standalone-3.9.5",
        "data/static-3.8.0/server1",
        "data/static-3.8.0/server3",
    ] {
        let mut disk = FsDisk::unlocked(golden(under));
        let mut loader = Loader::new(0, true);
        let found = recover(&mut disk.clone(), &mut disk, &mut loader).unwrap();
        let (tree, mismatches, _) = loader.finish();
        assert_eq!(tree.last_zxid(), found.last, "{under}");
        assert_eq!(mismatches, [], "{under}");
    }
}

#[test]
fn a_damaged_compressed_snapshot_gives_way_to_an_older_one() {
    for (under, newest, older) in [
        ("data/standalone-3.8.0-gz", "snapshot.29.gz", 0x1f),
        ("data/standalone-3.8.0-snappy", "snapshot.23.snappy", 0x1a),
    ] {
        let temporary = Temporary::new();
        let directories = temporary.open();
        let target = directories.snapshots().path().to_owned();
        for entry in fs::read_dir(golden(under)).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), target.join(entry.file_name())).unwrap();
        }
        let whole = fs::read(target.join(newest)).unwrap();
        fs::write(target.join(newest), &whole[..whole.len() - 3]).unwrap();

        let (found, _) = recovered(&directories);

        assert_eq!(
            (found.snapshot, found.last),
            (Some(Zxid(older)), Zxid(0x31))
        );
        let note = found.notes[0].to_string();
        assert!(note.contains(newest), "{note}");
    }
}

#[test]
fn old_snapshots_and_logs_are_purged() {
    let temporary = Temporary::new();
    let directories = temporary.open();
    let options = LaneOptions {
        retain: NonZeroU32::new(3),
        ..LaneOptions::default()
    };
    let (lanes, reports) = lanes(&directories, 0, options);
    for zxid in 1..=5_i64 {
        store(&lanes, zxid.cast_unsigned() * 2, append(zxid));
        store(&lanes, zxid.cast_unsigned() * 2 + 1, StoreOp::Roll);
        while !matches!(reports.recv().unwrap(), Report::Input(Input::Stored { upto })
            if upto == Seq(zxid.cast_unsigned() * 2 + 1))
        {}
        write_snapshot(&lanes, zxid);
        while !matches!(
            reports.recv().unwrap(),
            Report::Input(Input::SnapshotStored { .. })
        ) {}
    }
    lanes.close();
    let expected = [
        "log.3",
        "log.4",
        "log.5",
        "snapshot.3",
        "snapshot.4",
        "snapshot.5",
    ];
    drop(directories);
    assert_eq!(temporary.names(), expected);
}

#[test]
fn a_log_that_cannot_be_written_is_reported_once() {
    let temporary = Temporary::new();
    let directories = temporary.open();
    let (lanes, reports) = lanes(&directories, 0, LaneOptions::default());
    fs::create_dir(directories.logs().path().join("log.1")).unwrap();
    for zxid in 1..=3_i64 {
        store(&lanes, zxid.cast_unsigned(), append(zxid));
    }
    let Report::LogFailed(error) = reports.recv().unwrap() else {
        panic!("expected the failure");
    };
    let path = directories.logs().path().join("log.1");
    assert_eq!(error.path(), path);
    assert!(
        error.to_string().contains("cannot create the file"),
        "{error}"
    );
    lanes.close();
    assert!(reports.recv().is_err());
}

#[test]
fn a_panic_of_the_logs_lane_is_reported() {
    let temporary = Temporary::new();
    let directories = temporary.open();
    let (lanes, reports) = lanes(&directories, 9, LaneOptions::default());
    store(&lanes, 1, append(9));
    let report = reports.recv().unwrap();
    assert!(matches!(&report, Report::LogFailed(error) if error.to_string().contains("panicked")));
    lanes.close();
}

#[test]
fn a_snapshot_that_cannot_be_written_does_not_stop_the_next() {
    let temporary = Temporary::new();
    let directories = temporary.open();
    let (lanes, reports) = lanes(&directories, 0, LaneOptions::default());
    let obstacle = directories.snapshots().path().join("tmp-snapshot.1");
    fs::create_dir(&obstacle).unwrap();
    write_snapshot(&lanes, 1);
    assert!(matches!(
        reports.recv().unwrap(),
        Report::SnapshotTrouble(_)
    ));
    let failed = reports.recv().unwrap();
    assert!(matches!(
        failed,
        Report::Input(Input::SnapshotFailed { zxid: Zxid(1) })
    ));
    fs::remove_dir(&obstacle).unwrap();
    write_snapshot(&lanes, 2);
    lanes.close();
    let last = reports.iter().last();
    assert!(matches!(
        last,
        Some(Report::Input(Input::SnapshotStored { zxid: Zxid(2) }))
    ));
}

#[test]
fn two_servers_never_share_a_directory() {
    let temporary = Temporary::new();
    let directories = temporary.open();
    let message = Directories::open(&temporary.0, &temporary.0, Autocreate::No)
        .unwrap_err()
        .to_string();
    let process = format!("(process {})", std::process::id());
    assert!(message.contains(&process), "{message}");
    // The lock is held for as long as anything can write.
    let disk = directories.logs();
    drop(directories);
    assert!(Directories::open(&temporary.0, &temporary.0, Autocreate::No).is_err());
    drop(disk);
    assert!(Directories::open(&temporary.0, &temporary.0, Autocreate::No).is_ok());
}

#[test]
fn a_missing_directory_is_created_only_if_that_is_wanted() {
    let temporary = Temporary::new();
    let data = temporary.0.join("deep/data");
    let message = Directories::open(&data, &data, Autocreate::No)
        .unwrap_err()
        .to_string();
    assert!(message.contains("autocreate is false"), "{message}");
    let logs = temporary.0.join("logs");
    let directories = Directories::open(&data, &logs, Autocreate::Yes).unwrap();
    assert!(
        directories
            .snapshots()
            .path()
            .ends_with("deep/data/version-2")
    );
    assert!(directories.logs().path().ends_with("logs/version-2"));
}

#[test]
fn misplaced_files_are_refused() {
    let temporary = Temporary::new();
    let (data, logs) = (temporary.0.join("data"), temporary.0.join("logs"));
    let open = || Directories::open(&data, &logs, Autocreate::Yes);
    drop(open().unwrap());
    for misplaced in [
        data.join("version-2/log.1"),
        logs.join("version-2/snapshot.0.gz"),
    ] {
        fs::write(&misplaced, b"").unwrap();
        let error = open().unwrap_err();
        assert_eq!(error.path(), misplaced.canonicalize().unwrap());
        assert!(
            error
                .to_string()
                .contains("correct the configuration, or move"),
            "{error}"
        );
        fs::remove_file(&misplaced).unwrap();
    }
    open().unwrap();
}

#[test]
fn numbers_are_zookeepers_files() {
    let temporary = Temporary::new();
    let directories = temporary.open();
    let epochs = |accepted, current| Epochs {
        accepted: Epoch(accepted),
        current: Epoch(current),
    };
    assert_eq!(directories.epochs(Zxid(3 << 32)).unwrap(), epochs(3, 3));
    let path = directories.snapshots().path().to_owned();
    assert_eq!(fs::read(path.join("acceptedEpoch")).unwrap(), b"3");
    fs::write(path.join("acceptedEpoch"), "12").unwrap();
    assert_eq!(directories.epochs(Zxid(3 << 32)).unwrap(), epochs(12, 3));
    fs::write(path.join("currentEpoch"), "twelve").unwrap();
    let error = directories.epochs(Zxid(3 << 32)).unwrap_err();
    assert_eq!(error.path(), path.join("currentEpoch"));
    let message = error.to_string();
    assert!(message.contains("found \"twelve\"; restore"), "{message}");

    fs::write(temporary.0.join("myid"), "3\n").unwrap();
    assert_eq!(directories.myid().unwrap(), Some(3));
    directories.set_myid(4).unwrap();
    assert_eq!(directories.myid().unwrap(), Some(4));
    fs::write(temporary.0.join("myid"), "three").unwrap();
    let message = directories.myid().unwrap_err().to_string();
    assert!(
        message.contains("expected a decimal number, found \"three\""),
        "{message}"
    );
}

/// Waits until this operation is reported durable.
fn wait_stored(reports: &mpsc::Receiver<Report>, seq: u64) {
    loop {
        match reports.recv().unwrap() {
            Report::Input(Input::Stored { upto }) if upto == Seq(seq) => return,
            Report::Input(_) | Report::Room(_) => {}
            other @ (Report::LogFailed(_) | Report::Purged(_) | Report::SnapshotTrouble(_)) => {
                panic!("expected Stored, found {other:?}")
            }
        }
    }
}

#[test]
fn what_was_never_committed_is_taken_back() {
    let temporary = Temporary::new();
    let directories = temporary.open();
    let (lanes, reports) = lanes(&directories, 0, LaneOptions::default());
    write_snapshot(&lanes, 0);
    for (seq, zxid) in (1..).zip(1..=5) {
        store(&lanes, seq, append(zxid));
    }
    store(&lanes, 6, StoreOp::Roll);
    store(&lanes, 7, append(6));
    write_snapshot(&lanes, 6);
    store(&lanes, 8, StoreOp::Truncate { to: Zxid(3) });
    let epochs = StoreOp::Epochs {
        accepted: Some(Epoch(1)),
        current: Some(Epoch(1)),
    };
    store(&lanes, 9, epochs);
    wait_stored(&reports, 9);
    let expected = ["acceptedEpoch", "currentEpoch", "log.1", "snapshot.0"];
    assert_eq!(names(&directories), expected);
    store(&lanes, 10, append((1 << 32) + 1));
    lanes.close();
    let (found, restored) = recovered(&directories);
    assert_eq!(found.last, Zxid((1 << 32) + 1));
    let zxids = [1, 2, 3, (1 << 32) + 1].map(txn);
    assert!(restored.txns.into_iter().map(Bytes::from).eq(zxids));
    assert_eq!(
        directories.epochs(found.last).unwrap().accepted,
        Epoch(1),
        "what the lane wrote is read"
    );
}

#[test]
fn a_leaders_snapshot_replaces_all_history() {
    let temporary = Temporary::new();
    let directories = temporary.open();
    let (lanes, reports) = lanes(&directories, 0, LaneOptions::default());
    write_snapshot(&lanes, 0);
    for (seq, zxid) in (1..).zip(1..=5) {
        store(&lanes, seq, append(zxid));
    }
    write_snapshot(&lanes, 1 << 32);
    let stored = Input::SnapshotStored {
        zxid: Zxid(1 << 32),
    };
    while !matches!(reports.recv().unwrap(), Report::Input(input) if input == stored) {}
    store(&lanes, 6, StoreOp::Reset { to: Zxid(1 << 32) });
    store(&lanes, 7, append((1 << 32) + 1));
    lanes.close();
    let expected = ["log.100000001", "snapshot.100000000"];
    assert_eq!(names(&directories), expected);
    assert_eq!(recovered(&directories).0.last, Zxid((1 << 32) + 1));
}

#[test]
fn a_cut_that_cannot_be_made_ends_the_lane_with_what_to_do() {
    let temporary = Temporary::new();
    let directories = temporary.open();
    let (lanes, reports) = lanes(&directories, 7, LaneOptions::default());
    write_snapshot(&lanes, 7);
    store(&lanes, 1, append(8));
    wait_stored(&reports, 1);
    store(&lanes, 2, StoreOp::Truncate { to: Zxid(5) });
    let error = loop {
        match reports.recv().unwrap() {
            Report::LogFailed(error) => break error,
            Report::Input(Input::Stored { upto }) => panic!("{upto:?} was not done"),
            Report::Input(_) | Report::Purged(_) | Report::Room(_) | Report::SnapshotTrouble(_) => {
            }
        }
    };
    lanes.close();
    let message = error.to_string();
    assert!(
        message.contains("expected transaction 0x5 in the log, found"),
        "{message}"
    );
    assert!(message.contains("leave acceptedEpoch"), "{message}");
    assert_eq!(names(&directories), ["log.8", "snapshot.7"]);
}

#[test]
fn a_snapshot_that_is_abandoned_leaves_nothing_and_reports_nothing() {
    let temporary = Temporary::new();
    let directories = temporary.open();
    let (lanes, reports) = lanes(&directories, 0, LaneOptions::default());
    let chunk = || SnapshotOp::Chunk(Bytes::from(snapshot()));
    let begin = |zxid| SnapshotOp::Begin { zxid: Zxid(zxid) };
    let abandoned = [
        SnapshotOp::Abandon,
        begin(5),
        chunk(),
        SnapshotOp::Abandon,
        chunk(),
        SnapshotOp::End,
        SnapshotOp::Abandon,
    ];
    lanes.snapshot(&mut abandoned.to_vec());
    write_snapshot(&lanes, 6);
    lanes.close();
    assert_eq!(names(&directories), ["snapshot.6"]);
    let stored = |report: &Report| matches!(report, Report::Input(Input::SnapshotStored { .. }));
    let failed = |report: &Report| matches!(report, Report::Input(Input::SnapshotFailed { .. }));
    let reports: Vec<Report> = reports.iter().collect();
    assert_eq!(reports.iter().filter(|report| stored(report)).count(), 1);
    assert_eq!(reports.iter().filter(|report| failed(report)).count(), 0);
}

#[test]
fn a_snapshot_of_what_is_taken_back_never_appears() {
    let temporary = Temporary::new();
    let directories = temporary.open();
    let (lanes, reports) = lanes(&directories, 0, LaneOptions::default());
    write_snapshot(&lanes, 0);
    for (seq, zxid) in (1..).zip(1..=5) {
        store(&lanes, seq, append(zxid));
    }
    wait_stored(&reports, 5);
    let chunk = SnapshotOp::Chunk(Bytes::from(snapshot()));
    lanes.snapshot(&mut vec![SnapshotOp::Begin { zxid: Zxid(5) }, chunk]);
    store(&lanes, 6, StoreOp::Truncate { to: Zxid(3) });
    wait_stored(&reports, 6);
    lanes.snapshot(&mut vec![SnapshotOp::End]);
    lanes.close();
    assert_eq!(names(&directories), ["log.1", "snapshot.0"]);
}

#[test]
fn preallocated_zeros_are_on_the_disk_and_go_away() {
    let temporary = Temporary::new();
    let directories = temporary.open();
    let options = LaneOptions {
        log: LogOptions::default(),
        ..LaneOptions::default()
    };
    let (lanes, reports) = lanes(&directories, 0, options);
    store(&lanes, 1, append(1));
    reports.recv().unwrap();
    assert_eq!(directories.logs().list().unwrap().len(), 2);
    assert!(directories.logs().bytes().unwrap() > 1 << 20);
    lanes.close();
    assert!(directories.logs().bytes().unwrap() < 1000);
}

#[test]
fn errors_name_the_path_once_and_what_to_do() {
    let temporary = Temporary::new();
    let path = temporary.0.join("version-2");
    let directories = temporary.open();
    fs::write(
        path.join("log.1"),
        b"ZKLG\0\0\0\x02\0\0\0\0\0\0\0\0not a record",
    )
    .unwrap();
    let mut restored = Recorder::default();
    let refused = recover(
        &mut directories.logs(),
        &mut directories.snapshots(),
        &mut restored,
    );
    let refused: RecoverError<Error, &str> = refused.unwrap_err();
    let message = crate::Error::from(refused).to_string();
    let log = path
        .canonicalize()
        .unwrap()
        .join("log.1")
        .display()
        .to_string();
    assert_eq!(message.matches(&log).count(), 1, "{message}");
    assert!(
        message.contains("nothing was changed; replace"),
        "{message}"
    );

    let error = directories.logs().cut("log.9", 0).unwrap_err();
    let message = crate::Error::from(error).to_string();
    assert_eq!(message.matches("log.9").count(), 1, "{message}");
    assert!(
        message.contains("log.9: cannot cut the file: "),
        "{message}"
    );
}
