//! What a server says when it starts, and when it cannot: what is wrong, where, and what to do; and
//! that it then has changed nothing.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is what is wanted"
)]

#[path = "start/members.rs"]
mod members;
#[path = "support"]
#[expect(dead_code, reason = "other tests use other parts of it")]
mod support {
    pub(crate) mod process;
    pub(crate) mod wire;
}

use core::time::Duration;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use std::{env, fs, thread};

use support::process::{Directory, Kind, Server};
use support::wire::{Acl, Client, flags};

const END_TIME_MAX: Duration = Duration::from_secs(30);
const SESSION_TIMEOUT_MS: i32 = 10_000;

/// A failure that starting again may cure.
const FAILURE: i32 = 1;
/// The configuration must be changed.
const USAGE: i32 = 2;

fn zabra(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zabra"));
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("ZABRA_") || text.starts_with("ZOO_") {
            command.env_remove(&name);
        }
    }
    command.envs(support::process::core_settings());
    command
        .arg("server")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The exit code and the log of a server that ends by itself.
fn end(mut process: Child) -> (Option<i32>, String) {
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = process.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > END_TIME_MAX {
            process.kill().unwrap();
            process.wait().unwrap();
            panic!("the server goes on");
        }
        thread::sleep(Duration::from_millis(10));
    };
    let mut log = String::new();
    process
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut log)
        .unwrap();
    (status.code(), log)
}

/// A server with this configuration does not start, with this code and all of these words in its
/// log.
fn does_not_start(config: &Path, code: i32, words: &[&str]) {
    let config = config.to_str().unwrap();
    let (found, log) = end(zabra(&["--config", config]).spawn().unwrap());
    assert_eq!(found, Some(code), "{log}");
    for word in words {
        assert!(log.contains(word), "expected {word:?} in:\n{log}");
    }
    assert!(!log.contains("panicked"), "{log}");
    assert!(log.lines().count() <= 4, "{log}");
}

fn write_config(home: &Path, lines: &[String]) -> PathBuf {
    let file = home.join("start.cfg");
    fs::write(&file, lines.join("\n") + "\n").unwrap();
    file
}

fn line(key: &str, value: &Path) -> String {
    format!("{key}={}", value.display())
}

/// The bytes of every file below a directory, but for the lock, which tells who had it last.
fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            all.insert(path.clone(), Vec::new());
            all.append(&mut contents(&path));
        } else if !path.ends_with("zabra.lock") {
            all.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    all
}

/// A data directory with a few hundred transactions in it.
fn home_with_data(name: &str, options: &[&str]) -> Directory {
    let home = Directory::new(name);
    let server = Server::start(Kind::Zabra, home.path(), options);
    let mut client = Client::open(server.address, SESSION_TIMEOUT_MS).unwrap();
    for number in 0..300 {
        let path = format!("/n{number}");
        client
            .create(&path, Some(b"data"), &Acl::open(), flags::PERSISTENT)
            .unwrap();
    }
    client.close().unwrap();
    server.stop();
    home
}

fn files(directory: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with(prefix)
        })
        .collect();
    files.sort();
    files
}

#[test]
fn a_port_that_is_in_use() {
    let home = home_with_data("port", &[]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let data = home.path().join("data");
    let before = contents(&data);
    let config = write_config(
        home.path(),
        &[
            line("dataDir", &data),
            format!("clientPort={}\nclientPortAddress=127.0.0.1", address.port()),
        ],
    );
    let words = [&format!("cannot listen on {address}") as &str, "clientPort"];
    does_not_start(&config, FAILURE, &words);
    assert!(before == contents(&data), "nothing is changed");
}

#[test]
fn a_file_where_the_data_directory_should_be() {
    let home = Directory::new("file");
    let data = home.path().join("data");
    fs::write(&data, "something of somebody's").unwrap();
    let config = write_config(
        home.path(),
        &[line("dataDir", &data), "clientPort=0".into()],
    );
    let before = contents(home.path());
    let place = data.display().to_string();
    does_not_start(&config, FAILURE, &[&place, "a file is there", "dataDir"]);
    assert!(before == contents(home.path()), "nothing is changed");
}

#[cfg(unix)]
#[test]
fn a_data_directory_that_cannot_be_written() {
    use std::os::unix::fs::PermissionsExt as _;

    let home = home_with_data("unwritable", &[]);
    let data = home.path().join("data");
    let versioned = data.join("version-2");
    fs::remove_file(versioned.join("zabra.lock")).unwrap();
    fs::set_permissions(&versioned, fs::Permissions::from_mode(0o555)).unwrap();
    // The superuser writes anywhere.
    if fs::write(versioned.join("probe"), "").is_ok() {
        fs::remove_file(versioned.join("probe")).unwrap();
    } else {
        let before = contents(&data);
        let config = write_config(
            home.path(),
            &[line("dataDir", &data), "clientPort=0".into()],
        );
        let place = versioned.display().to_string();
        does_not_start(&config, FAILURE, &[&place, "let the user"]);
        assert!(before == contents(&data), "nothing is changed");
    }
    fs::set_permissions(&versioned, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn logs_and_snapshots_in_each_others_directories() {
    let home = Directory::new("mixed");
    let (data, logs) = (home.path().join("data"), home.path().join("logs"));
    let option = line("dataLogDir", &logs);
    let server = Server::start(Kind::Zabra, home.path(), &[&option]);
    let client = Client::open(server.address, SESSION_TIMEOUT_MS).unwrap();
    client.close().unwrap();
    server.stop();
    let before = contents(home.path());
    for (data, logs) in [(&logs, &data), (&data, &home.path().join("other"))] {
        fs::create_dir_all(logs).unwrap();
        let config = write_config(
            home.path(),
            &[
                line("dataDir", data),
                line("dataLogDir", logs),
                "clientPort=0".into(),
            ],
        );
        if logs.ends_with("other") {
            // Snapshots are there, but not their logs; and with all in one place, logs are where
            // snapshots belong.
            let both = home.path().join("both");
            support::process::copy_directory(data, &both);
            support::process::copy_directory(&home.path().join("logs"), &both);
            let config = write_config(
                home.path(),
                &[
                    line("dataDir", &both),
                    line("dataLogDir", logs),
                    "clientPort=0".into(),
                ],
            );
            let words = [
                "both",
                "a log is in dataDir",
                "dataLogDir",
                "move every log",
            ];
            does_not_start(&config, FAILURE, &words);
            fs::remove_dir_all(&both).unwrap();
            fs::remove_dir_all(logs).unwrap();
        } else {
            let words = ["a log is in dataDir", "correct the configuration"];
            does_not_start(&config, FAILURE, &words);
        }
        fs::remove_file(&config).unwrap();
    }
    assert!(before == contents(home.path()), "nothing is changed");
}

#[test]
fn a_second_server_on_the_same_data() {
    let home = Directory::new("second");
    let server = Server::start(Kind::Zabra, home.path(), &[]);
    let mut client = Client::open(server.address, SESSION_TIMEOUT_MS).unwrap();
    let data = home.path().join("data");
    let before = contents(&data);
    let lock = data.join("version-2/zabra.lock");
    let holder = fs::read(&lock).unwrap();
    let config = write_config(
        home.path(),
        &[line("dataDir", &data), "clientPort=0".into()],
    );
    let versioned = data.join("version-2").display().to_string();
    let words = [
        &versioned as &str,
        "another server uses this directory",
        "process",
    ];
    does_not_start(&config, FAILURE, &words);
    assert!(before == contents(&data), "nothing is changed");
    assert_eq!(holder, fs::read(&lock).unwrap());
    client.ping().unwrap();
    drop(client);
    server.stop();
}

#[test]
fn a_log_with_a_byte_changed_in_the_middle() {
    let home = home_with_data("flipped", &[]);
    let data = home.path().join("data");
    let logs = files(&data.join("version-2"), "log.");
    let log = logs.last().unwrap();
    let mut bytes = fs::read(log).unwrap();
    // Among a few hundred records of more than a hundred bytes, this is not in the last.
    *bytes.get_mut(10_000).unwrap() ^= 0x10;
    fs::write(log, &bytes).unwrap();
    let before = contents(&data);
    let config = write_config(
        home.path(),
        &[line("dataDir", &data), "clientPort=0".into()],
    );
    let name = log.display().to_string();
    let words = [
        &name as &str,
        "at offset ",
        "nothing was changed",
        "a backup",
    ];
    does_not_start(&config, FAILURE, &words);
    assert!(before == contents(&data), "nothing is changed");
}

#[test]
fn a_log_without_the_snapshot_before_it() {
    let home = home_with_data("no-snapshot", &["snapCount=50"]);
    let versioned = home.path().join("data/version-2");
    for snapshot in files(&versioned, "snapshot.") {
        fs::remove_file(snapshot).unwrap();
    }
    let first = files(&versioned, "log.").into_iter().min_by_key(|path| {
        let hex = path.extension().unwrap().to_str().unwrap().to_owned();
        u64::from_str_radix(&hex, 16).unwrap()
    });
    fs::remove_file(first.unwrap()).unwrap();
    let data = home.path().join("data");
    let before = contents(&data);
    let config = write_config(
        home.path(),
        &[line("dataDir", &data), "clientPort=0".into()],
    );
    let words = ["log.", "no snapshot", "restore the newest snapshot"];
    does_not_start(&config, FAILURE, &words);
    assert!(before == contents(&data), "nothing is changed");
}

#[test]
fn snapshots_that_cannot_be_read() {
    let home = home_with_data("bad-snapshot", &[]);
    let data = home.path().join("data");
    for snapshot in files(&data.join("version-2"), "snapshot.") {
        let bytes = fs::read(&snapshot).unwrap();
        fs::write(&snapshot, bytes.get(..bytes.len() / 2).unwrap()).unwrap();
    }
    let before = contents(&data);
    let config = write_config(
        home.path(),
        &[line("dataDir", &data), "clientPort=0".into()],
    );
    let words = ["snapshot.", "can be read", "backup"];
    does_not_start(&config, FAILURE, &words);
    assert!(before == contents(&data), "nothing is changed");
}

#[test]
fn a_configuration_with_mistakes() {
    let home = Directory::new("config");
    let data = home.path().join("data");
    let config = write_config(
        home.path(),
        &[line("dataDir", &data), "clientPort=70000".into()],
    );
    does_not_start(
        &config,
        USAGE,
        &["start.cfg:2: clientPort", "from 0 to 65535", "70000"],
    );
    let missing = home.path().join("missing.cfg");
    does_not_start(&missing, USAGE, &["missing.cfg"]);
    assert!(!data.exists(), "nothing is created");
}

/// Starts it on any port, waits for its last line about the start, interrupts it, and returns its
/// log.
fn start_and_interrupt(home: &Path, arguments: &[&str]) -> String {
    let data = home.join("data");
    let mut process = zabra(&["--client-port", "0", "--data-dir", data.to_str().unwrap()])
        .args(arguments)
        .stderr(fs::File::create(home.join("log")).unwrap())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    let log = || fs::read_to_string(home.join("log")).unwrap();
    while !log().contains("snapshot done") {
        assert!(begun.elapsed() < END_TIME_MAX, "{}", log());
        thread::sleep(Duration::from_millis(10));
    }
    let pid = process.id().to_string();
    let interrupt = Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(interrupt.success());
    let status = process.wait().unwrap();
    assert_eq!(status.code(), Some(0), "{}", log());
    log()
}

#[test]
fn a_start_and_a_stop_are_a_few_lines() {
    let home = Directory::new("clean");
    let log = start_and_interrupt(home.path(), &[]);
    let data = home.path().join("data").display().to_string();
    for words in [
        "listening for clients on 127.0.0.1:",
        &format!("data in {data}"),
        "connect with: zkCli.sh -server 127.0.0.1:",
        "stopping",
    ] {
        assert!(log.contains(words), "expected {words:?} in:\n{log}");
    }
    assert!(log.lines().count() <= 12, "{log}");
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
}

#[test]
fn lines_are_json_if_wanted() {
    let home = Directory::new("json");
    let log = start_and_interrupt(home.path(), &["--log-format", "json"]);
    assert!(log.lines().count() > 3, "{log}");
    for line in log.lines() {
        let mut rest = line;
        assert!(json_value(&mut rest).is_some(), "{line}");
        assert!(rest.is_empty(), "{line}");
        assert!(line.starts_with('{'), "{line}");
        for name in ["\"timestamp\":", "\"level\":", "\"message\":"] {
            assert!(line.contains(name), "{line}");
        }
    }
}

/// Takes one JSON value without spaces from the front; numbers are whatever numbers are made of.
fn json_value(rest: &mut &str) -> Option<()> {
    match rest.chars().next()? {
        '{' => json_list(rest, '}', |rest| {
            json_text(rest)?;
            *rest = rest.strip_prefix(':')?;
            json_value(rest)
        }),
        '[' => json_list(rest, ']', json_value),
        '"' => json_text(rest),
        _ => {
            for word in ["true", "false", "null"] {
                if let Some(after) = rest.strip_prefix(word) {
                    *rest = after;
                    return Some(());
                }
            }
            let after =
                rest.trim_start_matches(|c: char| c.is_ascii_digit() || "+-.eE".contains(c));
            let moved = after.len() < rest.len();
            *rest = after;
            moved.then_some(())
        }
    }
}

fn json_list(
    rest: &mut &str,
    end: char,
    mut element: impl FnMut(&mut &str) -> Option<()>,
) -> Option<()> {
    *rest = rest.get(1..)?;
    if let Some(after) = rest.strip_prefix(end) {
        *rest = after;
        return Some(());
    }
    loop {
        element(rest)?;
        if let Some(after) = rest.strip_prefix(end) {
            *rest = after;
            return Some(());
        }
        *rest = rest.strip_prefix(',')?;
    }
}

fn json_text(rest: &mut &str) -> Option<()> {
    *rest = rest.strip_prefix('"')?;
    loop {
        let special = rest.find(['"', '\\'])?;
        let found = rest.get(special..)?;
        if let Some(after) = found.strip_prefix('"') {
            *rest = after;
            return Some(());
        }
        *rest = found.get(2..)?;
    }
}
