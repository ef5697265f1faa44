//! `zabra log`, `zabra snapshot`, `zabra backup` and `zabra restore` on files that Apache ZooKeeper
//! wrote, whole and damaged: what is printed, exit codes, and that nothing is changed that must not
//! be.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is what is wanted"
)]

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
        for command in ["log", "snapshot"] {
            let run = zabra(&[command, text(&copy)]);
            assert!(matches!(run.code, Some(0 | 1)), "{case}: {}", run.err);
        }
        assert_eq!(all(&copy), before, "{case}");
    }
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
fn a_backup_of_every_release_restores_to_the_same_tree() {
    let home = Directory::new("files-backup");
    for (case, zxid, _) in CASES {
        let name = case.replace('/', "-");
        let from = data(case);
        let before = all(Path::new(&from));
        for format in ["tar", "directory"] {
            let out = home.path().join(format!("{name}-{format}"));
            let run = zabra_must(&["backup", "--format", format, &from, text(&out)]);
            assert!(
                run.out.contains(&format!("the state at 0x{zxid:x}")),
                "{}",
                run.out
            );
            let to = home.path().join(format!("{name}-{format}-restored"));
            zabra_must(&["restore", text(&out), text(&to)]);
            let run = zabra(&["snapshot", "diff", &from, text(&to)]);
            assert_eq!(
                (run.code, run.out.as_str()),
                (Some(0), ""),
                "{case}: {}",
                run.err
            );
            // The promise to later leaders, but no claim to have been in their epochs.
            let accepted = |directory: &Path| fs::read(directory.join("acceptedEpoch")).ok();
            let restored = to.join("version-2");
            assert_eq!(accepted(&restored), accepted(Path::new(&from)), "{case}");
            assert!(!restored.join("currentEpoch").exists());
        }
        assert_eq!(all(Path::new(&from)), before, "{case}");
    }
}

#[test]
fn every_state_that_is_there_can_be_restored() {
    let home = Directory::new("files-points");
    let case = data("standalone-3.9.5");
    let backup = home.path().join("all.tar");
    zabra_must(&["backup", "--all", &case, text(&backup)]);
    for zxid in 1..=0x31 {
        let to = home.path().join(format!("at-{zxid:x}"));
        zabra_must(&[
            "restore",
            "--zxid",
            &format!("0x{zxid:x}"),
            text(&backup),
            text(&to),
        ]);
        let run = zabra(&["snapshot", "diff", &format!("{case}@0x{zxid:x}"), text(&to)]);
        assert_eq!(
            (run.code, run.out.as_str()),
            (Some(0), ""),
            "0x{zxid:x}: {}",
            run.err
        );
    }
    let mut compared = 0;
    // The digest in the log is that of the state after its transaction.
    for line in json_lines(&zabra_must(&["log", &case]).out) {
        let zxid = line["zxid"].as_str().unwrap();
        // A request that was refused has none.
        let Some(digest) = line["digest"].as_str() else {
            continue;
        };
        compared += 1;
        let to = home.path().join(format!("at-{}", &zxid[2..]));
        let run = zabra_must(&["snapshot", "--verify", text(&to)]);
        let digest = format!("digest {digest}\n");
        assert!(
            run.out.ends_with(&digest),
            "{zxid}: {} and {digest}",
            run.out
        );
    }
    assert!(compared > 30, "{compared} digests");
}

#[test]
fn a_time_is_the_last_state_before_it() {
    let home = Directory::new("files-times");
    let case = data("standalone-3.9.5");
    let backup = home.path().join("all.tar");
    zabra_must(&["backup", "--all", &case, text(&backup)]);
    let lines = json_lines(&zabra_must(&["log", &case]).out);
    let mut later = 0;
    for pair in lines.windows(2) {
        let (time, next) = (
            pair[0]["time"].as_str().unwrap(),
            pair[1]["time"].as_str().unwrap(),
        );
        if time >= next {
            continue;
        }
        later += 1;
        let to = home.path().join(format!("at-{later}"));
        let run = zabra_must(&["restore", "--time", time, text(&backup), text(&to)]);
        let zxid = pair[0]["zxid"].as_str().unwrap();
        assert!(
            run.out.contains(&format!("the state at {zxid},")),
            "{time}: {}",
            run.out
        );
    }
    assert!(later > 3, "{later} times");
    let to = home.path().join("before");
    let run = zabra(&[
        "restore",
        "--time",
        "2000-01-01T00:00:00Z",
        text(&backup),
        text(&to),
    ]);
    assert_eq!(run.code, Some(1));
    assert!(
        run.err.contains("choose a later time, or an older backup"),
        "{}",
        run.err
    );
    assert!(!to.exists());
}

#[test]
fn a_restore_that_is_refused_changes_nothing() {
    let home = Directory::new("files-refused");
    let case = data("standalone-3.9.5");
    let backup = home.path().join("good.tar");
    zabra_must(&["backup", &case, text(&backup)]);
    let good = fs::read(&backup).unwrap();
    let to = home.path().join("to");
    let bad = home.path().join("bad.tar");
    let refused = |bytes: &[u8], words: &str| {
        fs::write(&bad, bytes).unwrap();
        let run = zabra(&["restore", text(&bad), text(&to)]);
        assert_eq!(run.code, Some(1), "{words}: {}", run.out);
        assert!(run.err.contains(words), "{words:?} is not in {}", run.err);
        assert!(!to.exists(), "{words}");
    };
    refused(b"", "expected a backup");
    refused(&good[..300], "expected a backup");
    refused(
        &fs::read(format!("{case}/snapshot.17")).unwrap(),
        "expected a backup",
    );
    refused(&[0x5a; 4096], "expected a backup");
    // The last blocks of an archive are zeros.
    for length in (512..good.len() - 2048).step_by(997) {
        refused(&good[..length], "");
    }
    for at in (0..good.len() - 2048).step_by(1009) {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        fs::write(&bad, &bytes).unwrap();
        let run = zabra(&["restore", text(&bad), text(&to)]);
        // What tar headers say of modes and times, and what fills up blocks, does not matter.
        if run.code == Some(0) {
            let run = zabra(&["snapshot", "diff", &case, text(&to)]);
            assert_eq!(run.code, Some(0), "byte {at}");
            fs::remove_dir_all(&to).unwrap();
        }
        assert!(!to.exists(), "byte {at}: {}", run.err);
    }
    let change = |from: &str, to: &str| {
        let at = good
            .windows(from.len())
            .position(|bytes| bytes == from.as_bytes())
            .unwrap();
        let mut bytes = good.clone();
        bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
        bytes
    };
    refused(
        &change("\"version\": 1", "\"version\": 9"),
        "format version 1 or less, found 9",
    );
    refused(
        &change("zabra-backup", "other-backup"),
        "found \"other-backup\"",
    );
    refused(&change("version-2/snapshot", "version-2/../../sn"), "");
}

#[test]
fn a_directory_that_holds_a_state_is_left_alone_or_set_aside() {
    let home = Directory::new("files-occupied");
    let case = data("standalone-3.9.5");
    let backup = home.path().join("good.tar");
    zabra_must(&["backup", &case, text(&backup)]);
    let run = zabra(&["backup", &case, text(&backup)]);
    assert_eq!(run.code, Some(1));
    assert!(run.err.contains("choose another name"), "{}", run.err);

    let to = home.path().join("to");
    fs::create_dir_all(&to).unwrap();
    fs::write(to.join("myid"), "3\n").unwrap();
    zabra_must(&["restore", "--zxid", "0x30", text(&backup), text(&to)]);
    let before = all(&to);
    let run = zabra(&["restore", text(&backup), text(&to)]);
    assert_eq!(run.code, Some(1));
    assert!(run.err.contains("--set-aside"), "{}", run.err);
    assert_eq!(all(&to), before);

    let run = zabra_must(&["restore", "--set-aside", text(&backup), text(&to)]);
    let aside = run
        .out
        .trim_end()
        .rsplit_once("what was there is in ")
        .unwrap()
        .1;
    assert!(Path::new(aside).join("snapshot.30").exists(), "{aside}");
    assert!(to.join("version-2/snapshot.31").exists());
    assert_eq!(fs::read_to_string(to.join("myid")).unwrap(), "3\n");
    let run = zabra(&[
        "restore",
        "--zxid",
        "0x99",
        text(&backup),
        text(&home.path().join("no")),
    ]);
    assert!(
        run.err.contains("expected transaction 0x99, found none"),
        "{}",
        run.err
    );
}

#[test]
fn a_subtree_becomes_a_state_of_its_own() {
    let home = Directory::new("files-subtree");
    let case = data("standalone-3.9.5");
    let znodes = json_lines(&zabra_must(&["snapshot", &case]).out);
    let paths: Vec<_> = znodes
        .iter()
        .filter_map(|line| line["path"].as_str())
        .collect();
    let top = paths
        .iter()
        .find(|path| {
            let below = format!("{path}/");
            !path.starts_with("/zookeeper")
                && path.len() > 1
                && paths.iter().any(|path| path.starts_with(&below))
        })
        .unwrap();
    let to = home.path().join("to");
    zabra_must(&["restore", "--path", top, "--to", "/a/b", &case, text(&to)]);
    let content = |source: &str, path: &str| {
        let out = zabra_must(&["snapshot", "--path", path, source]).out;
        let content = json_lines(&out)
            .into_iter()
            .filter(|line| line["kind"] != "ephemeral");
        let moved = content.map(|line| {
            let below = line["path"]
                .as_str()
                .unwrap()
                .strip_prefix(path)
                .unwrap()
                .to_owned();
            (
                below,
                line["data"].clone(),
                line["acl"].clone(),
                line["kind"].clone(),
            )
        });
        moved.collect::<Vec<_>>()
    };
    let found = content(text(&to), "/a/b");
    assert!(found.len() > 1);
    assert_eq!(found, content(&case, top));
    let run = zabra(&[
        "restore",
        "--path",
        "/none",
        &case,
        text(&home.path().join("no")),
    ]);
    assert_eq!(run.code, Some(1));
    assert!(run.err.contains("expected a znode /none"), "{}", run.err);
}

#[test]
fn a_backup_that_goes_on_is_never_anything_but_one() {
    let home = Directory::new("files-follow");
    let case = data("standalone-3.9.5");
    let (source, out) = (home.path().join("source"), home.path().join("out"));
    fs::create_dir_all(source.join("version-2")).unwrap();
    let mut names: Vec<_> = all(Path::new(&case)).into_keys().collect();
    let zxid = |path: &PathBuf| {
        let name = path.extension().unwrap_or_default().to_str().unwrap();
        i64::from_str_radix(name, 16).unwrap_or(0)
    };
    names.sort_by_key(zxid);
    let follow = ["backup", "--follow", "--once", text(&source), text(&out)];
    let mut last = 0;
    for name in names {
        let to = source.join("version-2").join(name.file_name().unwrap());
        let bytes = fs::read(&name).unwrap();
        // Half a file, in the middle of a record or of a snapshot, then all of it.
        for length in [bytes.len() / 60, bytes.len() / 3, bytes.len()] {
            fs::write(&to, &bytes[..length]).unwrap();
            zabra_must(&follow);
            if !out.join("manifest.json").exists() {
                continue;
            }
            let run = zabra_must(&["snapshot", "--verify", text(&out)]);
            let state = run.out.rsplit_once("the state at 0x").unwrap().1;
            let found = i64::from_str_radix(state.split_once(':').unwrap().0, 16).unwrap();
            assert!(found >= last, "{found:x} after {last:x}");
            last = found;
        }
    }
    assert_eq!(last, 0x31);
    assert_eq!(
        zabra(&["snapshot", "diff", &case, text(&out)]).code,
        Some(0)
    );
    assert_eq!(zabra_must(&follow).out, "");

    // The server takes its last transactions back and writes others.
    let cut = source.join("version-2/log.27");
    let bytes = fs::read(&cut).unwrap();
    let line = zabra_must(&["log", "--from", "0x2b", "--to", "0x2b", text(&cut)]).out;
    let offset = json_lines(&line)[0]["offset"].as_u64().unwrap();
    fs::write(&cut, &bytes[..usize::try_from(offset).unwrap()]).unwrap();
    let run = zabra_must(&follow);
    assert!(
        run.err.contains("took back transactions of log.27"),
        "{}",
        run.err
    );
    let run = zabra_must(&["snapshot", "--verify", text(&out)]);
    assert!(
        run.out
            .contains(&format!("{}: sound, the state at 0x2a", text(&out))),
        "{}",
        run.out
    );
    fs::write(&cut, &bytes).unwrap();
    zabra_must(&follow);
    assert_eq!(
        zabra(&["snapshot", "diff", &case, text(&out)]).code,
        Some(0)
    );

    // Something else's directory is not written to.
    let other = home.path().join("other");
    fs::create_dir_all(&other).unwrap();
    fs::write(other.join("mine"), "").unwrap();
    let run = zabra(&["backup", "--follow", "--once", text(&source), text(&other)]);
    assert_eq!(run.code, Some(1));
    assert!(
        run.err
            .contains("expected an empty directory or a backup, found mine")
    );
    assert_eq!(all(&other).len(), 1);
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
