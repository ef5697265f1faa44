//! `zabra log`, `zabra snapshot`, `zabra backup` and `zabra restore` on files that Apache ZooKeeper
//! wrote, whole and damaged: what is printed, exit codes, and that nothing is changed that must not
//! be.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is what is wanted"
)]

#[path = "files/backups.rs"]
mod backups;
#[path = "support"]
#[expect(dead_code, reason = "other tests use other parts of it")]
mod support {
    pub(crate) mod cli;
    pub(crate) mod process;
    pub(crate) mod wire;
}

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use support::cli::{command, zabra, zabra_must};
use support::process::{Directory, copy_directory};

/// Directory, last zxid, znodes. Source: an independent replay of the same files.
const CASES: &[(&str, i64, usize)] = &[
    ("mixed", 0x5_0000_0003, 30),
    ("standalone-3.8.0-gz", 0x31, 31),
    ("standalone-3.8.0-snappy", 0x31, 31),
    ("standalone-3.9.5", 0x31, 31),
    ("static-3.8.0/server1", 0x2_0000_0004, 25),
    ("static-3.8.0/server3", 0x2_0000_0004, 25),
];

fn golden(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../core/tests/golden")
        .join(path);
    path.canonicalize().unwrap().to_str().unwrap().to_owned()
}

fn data(case: &str) -> String {
    golden(&format!("data/{case}"))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn json_lines(text: &str) -> Vec<Value> {
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Every file below a directory.
fn all(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(all(&entry.path()));
        } else {
            found.insert(entry.path(), fs::read(entry.path()).unwrap());
        }
    }
    found
}

#[test]
fn a_log_is_printed_a_transaction_a_line() {
    let log = golden("torn/exact_end/log.100000001");
    let run = zabra_must(&["log", "--to", "0x100000003", &log]);
    let expected =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files/log.txt"));
    assert_eq!(run.out.replace(&log, "LOG"), expected.unwrap());
    assert_eq!(run.err, "");
}

#[test]
fn every_transaction_of_apache_zookeeper_is_printed() {
    let mut types = std::collections::BTreeSet::new();
    for (case, last, _) in CASES {
        let run = zabra_must(&["log", &data(case)]);
        let lines = json_lines(&run.out);
        let zxids: Vec<i64> = lines
            .iter()
            .map(|line| i64::from_str_radix(&line["zxid"].as_str().unwrap()[2..], 16).unwrap())
            .collect();
        assert!(zxids.is_sorted(), "{case}");
        assert_eq!(zxids.last(), Some(last), "{case}");
        types.extend(
            lines
                .iter()
                .map(|line| line["type"].as_str().unwrap().to_owned()),
        );
    }
    for kind in [
        "closeSession",
        "create",
        "createContainer",
        "createSession",
        "createTTL",
        "delete",
        "deleteContainer",
        "error",
        "multi",
        "setACL",
        "setData",
    ] {
        assert!(types.contains(kind), "{kind} is not among {types:?}");
    }
}

#[test]
fn transactions_are_chosen_by_path_and_zxid() {
    let case = data("standalone-3.9.5");
    let all = json_lines(&zabra_must(&["log", &case]).out);
    let some = json_lines(&zabra_must(&["log", "--from", "0x5", "--to", "0x9", &case]).out);
    assert_eq!(some.len(), 5);
    assert_eq!(some, all[4..9]);
    let path = all.iter().find_map(|line| line["path"].as_str()).unwrap();
    let of_path = json_lines(&zabra_must(&["log", "--path", path, &case]).out);
    let expected: Vec<_> = all
        .iter()
        .filter(|line| {
            let below = |path_found: &Value| {
                let found = path_found.as_str().unwrap_or_default();
                found == path || found.starts_with(&format!("{path}/"))
            };
            below(&line["path"])
                || line["paths"]
                    .as_array()
                    .is_some_and(|paths| paths.iter().any(below))
                || line["ops"]
                    .as_array()
                    .is_some_and(|ops| ops.iter().any(|op| below(&op["path"])))
        })
        .cloned()
        .collect();
    assert!(!expected.is_empty());
    assert_eq!(of_path, expected);
}

#[test]
fn whole_logs_and_snapshots_are_called_sound() {
    for (case, zxid, znodes) in CASES {
        let case = data(case);
        let run = zabra_must(&["log", "--verify", &case]);
        assert!(
            run.out
                .lines()
                .all(|line| line.contains(" whole, ends at offset "))
        );
        assert_eq!(run.err, "");
        let run = zabra_must(&["snapshot", "--verify", &case]);
        let end = format!("{case}: sound, the state at 0x{zxid:x}: {znodes} znodes, ");
        assert!(
            run.out.lines().last().unwrap().starts_with(&end),
            "{}",
            run.out
        );
        assert!(!run.err.contains("error"), "{}", run.err);
    }
}

/// Case, exit code of `log --verify`, and what is said.
const TORN: &[(&str, i32, &str)] = &[
    ("bad_B", 1, "expected 0x42 after the record, found 0x58"),
    (
        "bad_crc",
        1,
        "at offset 4417: expected a record with checksum",
    ),
    ("bad_mid_B", 1, "at offset 396: expected 0x42"),
    (
        "badmagic_tail",
        1,
        "log.10000002d: at offset 0: expected a log file",
    ),
    (
        "cut_before_B",
        0,
        "ends at offset 4417 with a write cut short",
    ),
    ("cut_in_crc", 0, "whole, ends at offset 4417"),
    (
        "cut_in_len",
        0,
        "ends at offset 4417 with a write cut short",
    ),
    (
        "cut_mid_payload",
        0,
        "ends at offset 4417 with a write cut short",
    ),
    ("empty_tail", 0, "not even a header was written"),
    ("exact_end", 0, "whole, ends at offset"),
    (
        "flip_payload",
        1,
        "at offset 4417: expected a record with checksum",
    ),
    ("hdr_only_tail", 0, "whole, ends at offset"),
    ("huge_len", 1, "at offset 4417: expected a record length"),
    ("len_minus1", 1, "at offset 4417: expected a record length"),
    ("neg_len", 1, "at offset 4417: expected a record length"),
    ("no_snap", 0, "whole, ends at offset"),
    (
        "payload_zeroed_tail",
        0,
        "ends at offset 4417 with a write cut short",
    ),
    ("short_hdr_tail", 0, "not even a header was written"),
    ("snap_corrupt_body", 0, "whole, ends at offset"),
    ("snap_short", 0, "whole, ends at offset"),
    (
        "torn_then_next",
        1,
        "ends at offset 4417 with a write cut short",
    ),
    ("zero_pad", 0, "whole, ends at offset"),
];

#[test]
fn every_damage_is_named_and_nothing_is_changed() {
    let home = Directory::new("files-torn");
    assert_eq!(fs::read_dir(golden("torn")).unwrap().count(), TORN.len());
    for (case, code, words) in TORN {
        let copy = home.path().join(case);
        copy_directory(Path::new(&golden(&format!("torn/{case}"))), &copy);
        let before = all(&copy);
        // By name, the files are taken as they are, as if no server could be writing them.
        let logs: Vec<_> = before
            .keys()
            .filter(|path| text(path).contains("/log."))
            .map(|path| text(path))
            .collect();
        let run = zabra(&[&["log", "--verify"], logs.as_slice()].concat());
        assert_eq!(run.code, Some(*code), "{case}: {}{}", run.out, run.err);
        let said = format!("{}{}", run.out, run.err);
        assert!(said.contains(words), "{case}: {said}");
        assert_eq!(
            run.err.contains("error: "),
            *code == 1,
            "{case}: {}",
            run.err
        );
        // What can be read is printed before what cannot be is named.
        let run = zabra(&[&["log"], logs.as_slice()].concat());
        assert!(run.out.lines().count() > 2, "{case}");
        let run = zabra(&["log", "--verify", text(&copy)]);
        assert_eq!(run.code, Some(*code), "{case}: {}", run.err);
        for command in ["log", "snapshot"] {
            let run = zabra(&[command, text(&copy)]);
            assert!(matches!(run.code, Some(0 | 1)), "{case}: {}", run.err);
        }
        assert_eq!(all(&copy), before, "{case}");
    }
}

#[test]
fn a_log_without_a_snapshot_is_judged_by_its_beginning() {
    let home = Directory::new("files-alone");
    let log = "log.1";
    fs::copy(
        format!("{}/{log}", data("standalone-3.9.5")),
        home.path().join(log),
    )
    .unwrap();
    let run = zabra_must(&["snapshot", "--verify", text(home.path())]);
    assert!(run.out.contains("sound, the state at 0xf"), "{}", run.out);
    fs::rename(home.path().join(log), home.path().join("log.2")).unwrap();
    let run = zabra(&["snapshot", "--verify", text(home.path())]);
    assert_eq!(run.code, Some(1), "{}", run.out);
    let run = zabra(&["log", "--verify", text(home.path())]);
    assert_eq!(run.code, Some(1), "{}", run.out);
    assert!(
        run.err.contains("expected 0x2 as the first transaction"),
        "{}",
        run.err
    );
}

#[test]
fn a_damaged_snapshot_is_named() {
    for (case, words) in [
        ("snap_corrupt_body", "it ends too early"),
        ("snap_short", "30 bytes follow its znodes, of no known form"),
    ] {
        let directory = golden(&format!("torn/{case}"));
        let run = zabra(&["snapshot", "--verify", &directory]);
        assert_eq!(run.code, Some(1), "{case}");
        assert!(run.err.contains(words), "{case}: {}", run.err);
        // Another is in its place.
        assert!(
            run.out.contains("sound, the state at 0x10000002c"),
            "{case}: {}",
            run.out
        );
    }
}

#[test]
fn no_flipped_bit_and_no_cut_goes_unnoticed_or_breaks_anything() {
    let home = Directory::new("files-flipped");
    let log = fs::read(golden("torn/exact_end/log.100000001")).unwrap();
    let changed = home.path().join("log.100000001");
    // The header's version and database id are checked by nobody.
    for at in (0..4).chain((16..log.len()).step_by(97)) {
        let mut bytes = log.clone();
        bytes[at] ^= 0x20;
        fs::write(&changed, &bytes).unwrap();
        let run = zabra(&["log", "--verify", text(&changed)]);
        assert_eq!(run.code, Some(1), "byte {at}: {}", run.out);
    }
    for length in (0..log.len()).step_by(101) {
        fs::write(&changed, &log[..length]).unwrap();
        let run = zabra(&["log", "--verify", text(&changed)]);
        assert_eq!(run.code, Some(0), "cut to {length}: {}", run.err);
    }
}

#[test]
fn znodes_are_printed_and_differences_found() {
    let case = data("standalone-3.9.5");
    let znodes = json_lines(&zabra_must(&["snapshot", &case]).out);
    let paths: Vec<_> = znodes
        .iter()
        .filter_map(|line| line["path"].as_str())
        .collect();
    assert_eq!(paths.len(), 31);
    assert_eq!(paths[0], "/");
    // Gzip, Snappy and plain: the same operations, so the same content in the same order.
    let gz = data("standalone-3.8.0-gz");
    assert_eq!(zabra(&["snapshot", "diff", &gz, &gz]).code, Some(0));
    let at = |zxid: &str| format!("{case}@{zxid}");
    let run = zabra(&["snapshot", "diff", &at("0x8"), &at("0x9")]);
    assert_eq!(run.code, Some(1), "{}", run.err);
    assert!(!run.out.is_empty());
    for line in json_lines(&run.out) {
        let change = line["change"].as_str().unwrap();
        assert_eq!(line["before"].is_null(), change == "added", "{line}");
        assert_eq!(line["after"].is_null(), change == "removed", "{line}");
    }
    // A snapshot that was written while clients wrote is no state by itself; the log makes it one.
    let run = zabra_must(&["snapshot", "--verify", &format!("{case}/snapshot.17")]);
    assert!(
        run.err.contains("some of what happened until 0x18"),
        "{}",
        run.err
    );
    let run = zabra_must(&["snapshot", "--verify", &at("0x17")]);
    assert!(run.out.contains("sound, the state at 0x17"), "{}", run.out);
}

#[test]
fn whoever_closes_the_pipe_is_not_told_of_an_error() {
    let home = Directory::new("files-pipe");
    let copy = home.path().join("data");
    copy_directory(Path::new(&data("standalone-3.9.5")), &copy);
    for command_name in ["log", "snapshot"] {
        let source = text(&copy);
        let sources = vec![source; 200];
        let mut process = command(&[&[command_name], sources.as_slice()].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(process.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        drop(out);
        assert!(line.starts_with('{'), "{line}");
        let mut err = String::new();
        process
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut err)
            .unwrap();
        assert_eq!(
            (process.wait().unwrap().code(), err.as_str()),
            (Some(0), "")
        );
    }
}

#[test]
fn wrong_command_lines_exit_with_2() {
    for (arguments, words) in [
        (&["log"] as &[_], "<FILE|DIR>"),
        (
            &["log", "--from", "31", "x"],
            "expected a zxid in hexadecimal",
        ),
        (
            &["log", "--verify", "--path", "/", "x"],
            "cannot be used with",
        ),
        (
            &["log", "--path", "app", "x"],
            "expected a znode's path such as /app, found \"app\"",
        ),
        (&["snapshot"], "<SOURCE[@POINT]>"),
        (
            &["snapshot", "x@yesterday"],
            "expected a zxid such as 0x10000002d or a time",
        ),
        (&["snapshot", "diff", "a"], "<B[@POINT]>"),
        (&["backup", "x"], "<OUT>"),
        (&["backup", "--once", "a", "b"], "--follow"),
        (&["restore", "x"], "<DATA_DIR>"),
        (&["restore", "--to", "/a", "x", "y"], "--path"),
        (
            &["restore", "--time", "now", "x", "y"],
            "expected a time in UTC",
        ),
        (&["restore", "--server", "x:1", "y"], "--path"),
    ] {
        let run = zabra(arguments);
        assert_eq!(run.code, Some(2), "{arguments:?}: {}", run.err);
        assert!(run.err.contains(words), "{arguments:?}: {}", run.err);
        assert_eq!(run.out, "");
    }
    for command in ["log", "snapshot", "backup"] {
        let arguments = [command, "/nonexistent/x", "/nonexistent/y"];
        let run = zabra(&arguments);
        assert_eq!(run.code, Some(1), "{command}: {}", run.err);
        assert!(
            run.err.starts_with("error: /nonexistent/x: cannot "),
            "{}",
            run.err
        );
    }
}
