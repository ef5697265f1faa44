//! `zabra backup` and `zabra restore`.

use std::fs;
use std::path::{Path, PathBuf};

use super::support::cli::{command, zabra, zabra_must};
use super::support::process::{Directory, copy_directory};
use super::{CASES, all, data, json_lines, text};

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
fn a_time_of_which_transactions_are_missing_is_no_state() {
    let home = Directory::new("files-gap");
    let case = data("standalone-3.9.5");
    let lines = json_lines(&zabra_must(&["log", &case]).out);
    let copy = home.path().join("copy");
    copy_directory(Path::new(&case), &copy);
    // 0x10 to 0x18.
    fs::remove_file(copy.join("log.10")).unwrap();
    let to = home.path().join("to");
    let at = |zxid: usize| lines[zxid - 1]["time"].as_str().unwrap().to_owned();
    let run = zabra(&["restore", "--time", &at(0x12), text(&copy), text(&to)]);
    assert_eq!(run.code, Some(1), "{}", run.out);
    let words = "found no transactions between 0xf and 0x19; choose 0xf with --zxid";
    assert!(run.err.contains(words), "{}", run.err);
    assert!(!to.exists());
    zabra_must(&["restore", "--time", &at(0x28), text(&copy), text(&to)]);
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

#[cfg(unix)]
#[test]
fn backups_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Directory::new("files-private");
    let case = data("standalone-3.9.5");
    let path = |name: &str| home.path().join(name);
    zabra_must(&["backup", &case, text(&path("tar"))]);
    zabra_must(&[
        "backup",
        "--format",
        "directory",
        &case,
        text(&path("directory")),
    ]);
    zabra_must(&["backup", "--follow", "--once", &case, text(&path("follow"))]);
    let made = [
        "tar",
        "directory",
        "directory/manifest.json",
        "directory/version-2/log.27",
        "follow",
        "follow/manifest.json",
        "follow/version-2/snapshot.25",
    ];
    for name in made {
        let mode = fs::metadata(path(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o77, 0, "{name}: {mode:o}");
    }
}

#[test]
fn an_archive_is_piped_and_read_by_others() {
    let home = Directory::new("files-pipe-archive");
    let case = data("standalone-3.9.5");
    let out = home.path().join("piped.tar");
    let process = command(&["backup", &case, "-"])
        .stdout(fs::File::create(&out).unwrap())
        .output()
        .unwrap();
    assert_eq!(process.status.code(), Some(0));
    let said = String::from_utf8(process.stderr).unwrap();
    assert!(said.contains("the state at 0x31"), "{said}");
    // As whoever has no zabra would: unpacked, it is a data directory.
    let unpacked = home.path().join("unpacked");
    tar::Archive::new(fs::File::open(&out).unwrap())
        .unpack(&unpacked)
        .unwrap();
    let run = zabra(&["snapshot", "diff", &case, text(&unpacked.join("version-2"))]);
    assert_eq!((run.code, run.out.as_str()), (Some(0), ""), "{}", run.err);
    // And a backup, too.
    let to = home.path().join("to");
    zabra_must(&["restore", text(&unpacked), text(&to)]);
    let run = zabra_must(&["log", "--from", "0x31", text(&out)]);
    assert_eq!(json_lines(&run.out).len(), 1);
}

#[test]
fn logs_may_be_in_a_directory_of_their_own() {
    let home = Directory::new("files-log-dir");
    let case = data("standalone-3.9.5");
    let path = |name: &str| home.path().join(name);
    for (directory, kind) in [("data", "snapshot."), ("logs", "log.")] {
        let to = path(directory).join("version-2");
        fs::create_dir_all(&to).unwrap();
        for (file, bytes) in all(Path::new(&case)) {
            let name = file.file_name().unwrap().to_str().unwrap();
            if name.starts_with(kind) {
                fs::write(to.join(name), bytes).unwrap();
            }
        }
    }
    let (from, logs, out) = (path("data"), path("logs"), path("backup.tar"));
    let log_dir = ["--data-log-dir", text(&logs)];
    let run = zabra_must(&[&["backup", text(&from), text(&out)], &log_dir[..]].concat());
    assert!(run.out.contains("the state at 0x31"), "{}", run.out);
    let run = zabra(&["backup", text(&from), text(&path("half.tar"))]);
    assert_eq!(
        run.code,
        Some(1),
        "a fuzzy snapshot without its log: {}",
        run.out
    );

    let (to, to_logs) = (path("to"), path("to-logs"));
    let log_dir = ["--data-log-dir", text(&to_logs)];
    let restore = [&["restore", text(&out), text(&to)], &log_dir[..]].concat();
    zabra_must(&restore);
    assert!(to_logs.join("version-2").is_dir());
    let run = zabra(&["snapshot", "diff", &case, text(&to)]);
    assert_eq!((run.code, run.out.as_str()), (Some(0), ""), "{}", run.err);
    assert_eq!(zabra(&restore).code, Some(1));
    // A log alone is a state that is in the way, too.
    fs::remove_dir_all(to.join("version-2")).unwrap();
    fs::write(to_logs.join("version-2/log.5"), "").unwrap();
    let run = zabra(&restore);
    assert!(
        run.err.contains("expected an empty data directory"),
        "{}",
        run.err
    );
    let run = zabra_must(&[&restore[..], &["--set-aside"]].concat());
    assert!(run.out.contains("what was there is in"), "{}", run.out);
}
