//! What was ordered: the transactions in the servers' logs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use zabra::store::{Autocreate, Directories};
use zabra_core::ids::Zxid;
use zabra_core::store::names::parse_log;
use zabra_core::store::recovery::recover;
use zabra_core::tree::{Loader, Tree};
use zabra_core::wire::log::{Record, Scanner};

use super::network::Host;

/// Transactions by zxid, from the very first on and without a gap.
pub(crate) type History = BTreeMap<i64, Vec<u8>>;

/// The history that all logs agree on.
///
/// A server that was given a state by another has a gap before it, and what it had before that gap
/// may be what nobody else ever agreed to. So each server counts from its last gap on, and the
/// servers are put together where they overlap.
///
/// Those `outside` the ensemble have been told nothing since they left it; of those `wiped` are logs
/// that only we have.
///
/// # Panics
/// If two servers have different transactions with one zxid, at any time; if what they have since
/// their last gaps is not the same; or if no server has the beginning.
pub(crate) fn read<'a>(
    servers: impl Iterator<Item = (Host, &'a Path)>,
    outside: &BTreeSet<Host>,
    wiped: impl Iterator<Item = &'a Path>,
) -> History {
    let logs = servers.map(|(id, data)| (id, read_log(&data.join("version-2"))));
    let logs: Vec<(Host, History)> = logs.collect();
    let wiped: Vec<History> = wiped.map(read_log).collect();
    let mut union = History::new();
    let mut before = BTreeMap::new();
    for log in logs.iter().map(|(_, log)| log).chain(&wiped) {
        let mut last = None;
        for (zxid, txn) in log {
            let first = union.entry(*zxid).or_insert_with(|| txn.clone());
            assert_eq!(first, txn, "two transactions with zxid 0x{zxid:x}");
            if let Some(last) = last.filter(|last| follows(*last, *zxid)) {
                before.insert(*zxid, last);
            }
            last = Some(*zxid);
        }
    }
    let mut tails: Vec<(Host, History)> = logs
        .into_iter()
        .filter(|(id, _)| !outside.contains(id))
        .map(|(id, log)| (id, since_last_gap(log)))
        .collect();
    tails.sort_by_key(|(_, tail)| tail.keys().next().copied().unwrap_or(i64::MAX));
    let (first, mut history) = tails.first().cloned().expect("an ensemble has servers");
    let last = history.keys().next_back().copied();
    for (id, tail) in &tails {
        let Some(&begin) = tail.keys().next() else {
            panic!("server {id} has no log");
        };
        let same = history.range(begin..).eq(tail);
        assert!(
            same && tail.keys().next_back().copied() == last,
            "servers {first} and {id} differ from 0x{begin:x} on: {}",
            first_difference(history.range(begin..), tail.iter())
        );
    }
    complete(&mut history, &union, &before);
    history
}

/// Adds what comes before the first, as some log has it right `before`.
fn complete(history: &mut History, union: &History, before: &BTreeMap<i64, i64>) {
    while let Some(&first) = history.keys().next()
        && !begins(first)
    {
        let entry = before.get(&first).and_then(|it| union.get_key_value(it));
        let Some((zxid, txn)) = entry else {
            panic!("no log has what is before 0x{first:x}");
        };
        history.insert(*zxid, txn.clone());
    }
}

fn first_difference<'a>(
    mut a: impl Iterator<Item = (&'a i64, &'a Vec<u8>)>,
    mut b: impl Iterator<Item = (&'a i64, &'a Vec<u8>)>,
) -> String {
    loop {
        match (a.next(), b.next()) {
            (None, None) => return "not at all".to_owned(),
            (x, y) if x == y => {}
            (x, y) => return format!("{:x?} and {:x?}", x.map(|it| it.0), y.map(|it| it.0)),
        }
    }
}

/// Whether nothing can be before it.
const fn begins(zxid: i64) -> bool {
    zxid == (1 << 32) + 1
}

fn follows(before: i64, after: i64) -> bool {
    let (before, after) = (Zxid(before), Zxid(after));
    if before.epoch() == after.epoch() {
        after.0 == before.0 + 1
    } else {
        after > before && after.counter() == 1
    }
}

fn since_last_gap(mut log: History) -> History {
    let zxids: Vec<i64> = log.keys().copied().collect();
    let gap = zxids.windows(2).rfind(|pair| match pair {
        [before, after] => !follows(*before, *after),
        _ => false,
    });
    match gap {
        Some([_, after]) => log.split_off(after),
        _ => log,
    }
}

fn read_log(directory: &Path) -> History {
    let mut files = Vec::new();
    // A server that was wiped and never came back has none.
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        if let Some(zxid) = name.to_str().and_then(parse_log) {
            files.push((zxid, entry.path()));
        }
    }
    files.sort();
    let mut log = History::new();
    for (_, file) in files {
        let mut scanner = Scanner::new();
        let mut sink = |record: Record<'_>| {
            let zxid = record.zxid.0;
            let twice = log.insert(zxid, record.payload.to_vec());
            assert_eq!(twice, None, "{}: 0x{zxid:x} is there twice", file.display());
            Ok::<(), ()>(())
        };
        scanner.feed(&fs::read(&file).unwrap(), &mut sink).unwrap();
        let _end = scanner.finish();
    }
    log
}

/// The state that each server would start with.
///
/// # Panics
/// If one could not start, or has a log whose digests are not those of what it describes.
pub(crate) fn load_trees<'a>(servers: impl Iterator<Item = (Host, &'a Path)>) -> Vec<(Host, Tree)> {
    let trees = servers.map(|(id, data)| {
        let directories = Directories::open(data, data, Autocreate::No)
            .unwrap_or_else(|error| panic!("server {id}: {error}"));
        let mut loader = Loader::new(1, true);
        recover(
            &mut directories.logs(),
            &mut directories.snapshots(),
            &mut loader,
        )
        .map_err(|error| error.to_string())
        .unwrap_or_else(|error| panic!("server {id}: {error}"));
        let (tree, mismatches) = loader.finish_with_orphans();
        assert_eq!(mismatches, Vec::<Zxid>::new(), "server {id}: wrong digests");
        (id, tree)
    });
    trees.collect()
}
