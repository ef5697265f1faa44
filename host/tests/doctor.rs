//! `zabra doctor`, as whoever runs it sees it.
#![expect(
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is what is wanted"
)]

#[path = "support"]
#[expect(dead_code, reason = "other tests use other parts of it")]
mod support {
    pub(crate) mod process;
    pub(crate) mod wire;
}

use core::time::Duration;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use support::process::{Directory, Kind, Server, free_address};
use support::wire::{Acl, Client, flags};

const SESSION_TIMEOUT_MS: i32 = 20_000;

/// What one visit found.
struct Visit {
    code: Option<i32>,
    said: String,
}

impl Visit {
    fn of(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zabra"));
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("ZABRA_") || text.starts_with("ZOO_") {
                command.env_remove(&name);
            }
        }
        let output = command
            .arg("doctor")
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            code: output.status.code(),
            said: text(&output.stdout) + &text(&output.stderr),
        }
    }

    /// The finding that has all of these words.
    fn says(&self, weight: &str, words: &[&str]) {
        let start = format!("{weight}: ");
        let found = self
            .said
            .lines()
            .any(|line| line.starts_with(&start) && words.iter().all(|it| line.contains(it)));
        assert!(
            found,
            "expected a {weight} of {words:?}, found:\n{}",
            self.said
        );
    }

    fn does_not_say(&self, words: &str) {
        assert!(!self.said.contains(words), "{words:?} in:\n{}", self.said);
    }
}

fn file(home: &Directory, name: &str, lines: &str) -> PathBuf {
    let path = home.path().join(name);
    fs::write(&path, lines).unwrap();
    path
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn what_is_neither_file_nor_directory_nor_servers_is_a_wrong_command_line() {
    for what in ["/nowhere/zoo.cfg", "zoo.cfg", "", "a b", "host:port"] {
        let visit = Visit::of(&[what]);
        assert_eq!(visit.code, Some(2), "{what}: {}", visit.said);
    }
}

#[test]
fn configuration_that_would_not_start_is_wrong_with_every_reason() {
    let home = Directory::new("doctor-config-wrong");
    let config = file(
        &home,
        "zoo.cfg",
        "dataDir=/x\nclientPort=lots\ntickTime=-1\n",
    );
    let visit = Visit::of(&[text(&config)]);
    assert_eq!(visit.code, Some(1));
    visit.says("wrong", &["zoo.cfg:2", "clientPort"]);
    visit.says("wrong", &["zoo.cfg:3", "tickTime"]);
}

#[test]
fn risks_of_a_configuration_are_told_with_what_to_do() {
    let home = Directory::new("doctor-config-risks");
    let data = home.path().join("data");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("myid"), "1\n").unwrap();
    let config = file(
        &home,
        "zoo.cfg",
        &format!(
            "dataDir={}\nclientPort=2181\ninitLimit=5\nsyncLimit=2\nserver.1=10.0.0.1:2888:3888\n\
             server.2=localhost:2888:3888\nautopurge.purgeInterval=0\nmaxClientCnxns=0\n\
             4lw.commands.whitelist=*\nskipACL=yes\n",
            data.display()
        ),
    );
    let visit = Visit::of(&["--no-fsync", text(&config)]);
    assert_eq!(visit.code, Some(1));
    visit.says("risk", &["purgeInterval=0", "set it to 1"]);
    visit.says("risk", &["2 servers vote, an even number", "observer"]);
    visit.says("risk", &["maxClientCnxns=0"]);
    visit.says("risk", &["4lw.commands.whitelist=*", "CVE-2017-5637"]);
    visit.says("risk", &["quorum and election ports", "firewall"]);
    visit.says("wrong", &["skipACL=yes"]);
    visit.says("wrong", &["name localhost"]);
    visit.says("note", &["on one disk"]);
    visit.does_not_say("fsync takes");
    visit.does_not_say("would not start");

    // And of one that has none of them, nothing of the kind.
    let config = file(
        &home,
        "good.cfg",
        &format!(
            "dataDir={}\nclientPort=0\nclientPortAddress=127.0.0.1\n",
            data.display()
        ),
    );
    let visit = Visit::of(&[text(&config)]);
    visit.says("note", &["an fsync takes", "median of"]);
    for word in [
        "even",
        "whitelist",
        "skipACL",
        "purge",
        "localhost",
        "without saying",
    ] {
        visit.does_not_say(word);
    }
    let left = fs::read_dir(&data).unwrap().count();
    assert_eq!(left, 1, "the file that was measured with is gone");
}

#[test]
fn data_directory_is_read_to_its_end_and_not_changed() {
    let home = Directory::new("doctor-data");
    let server = Server::start(Kind::Zabra, home.path(), &["preAllocSize=64"]);
    let mut client = Client::open(server.address, SESSION_TIMEOUT_MS).unwrap();
    let acl = Acl::open();
    for number in 0..5 {
        let path = format!("/{number}");
        client.create(&path, None, &acl, flags::PERSISTENT).unwrap();
    }
    let large = vec![0; 600_000];
    client
        .create("/large", Some(&large), &acl, flags::PERSISTENT)
        .unwrap();
    let data = home.path().join("data");
    let busy = Visit::of(&["--no-fsync", text(&data)]);
    busy.says("note", &["a server runs on it"]);
    server.kill();

    let versioned = data.join("version-2");
    let content = || {
        let files = fs::read_dir(&versioned).unwrap().map(Result::unwrap);
        let mut all: Vec<(String, Vec<u8>)> = files
            .map(|it| {
                let name = it.file_name().into_string().unwrap();
                (name, fs::read(it.path()).unwrap())
            })
            .collect();
        all.sort();
        all
    };
    let before = content();
    let visit = Visit::of(&[text(&data)]);
    // A session, six znodes.
    visit.says("note", &["the state can be read up to zxid 0x7:"]);
    visit.says("risk", &["/large has 585 KiB of data", "spread it"]);
    assert!(content() == before, "nothing is touched");

    // A byte of a record in the midst of the log.
    let log = versioned.join("log.1");
    let mut bytes = fs::read(&log).unwrap();
    *bytes.get_mut(100).unwrap() ^= 1;
    fs::write(&log, bytes).unwrap();
    let visit = Visit::of(&["--no-fsync", text(&versioned)]);
    assert_eq!(visit.code, Some(1));
    visit.says(
        "wrong",
        &[
            "a server would not start",
            "log.1",
            "let the leader send the state",
        ],
    );
}

#[test]
fn my_id_that_is_none_is_wrong() {
    let home = Directory::new("doctor-myid");
    fs::write(home.path().join("myid"), "one\n").unwrap();
    let visit = Visit::of(&["--no-fsync", text(home.path())]);
    visit.says("wrong", &["myid", "expected a number from 1 to 255"]);
    visit.says("note", &["there is no data"]);
}

#[test]
fn standalone_server_is_well_and_what_it_holds_that_hurts_is_told() {
    let home = Directory::new("doctor-live");
    let server = Server::start(Kind::Zabra, home.path(), &["maxClientCnxns=0"]);
    let mut client = Client::open(server.address, SESSION_TIMEOUT_MS).unwrap();
    let acl = Acl::open();
    client
        .create("/wide", None, &acl, flags::PERSISTENT)
        .unwrap();
    for number in 0..3000 {
        let path = format!("/wide/{number:0>200}");
        client.create(&path, None, &acl, flags::PERSISTENT).unwrap();
    }
    let visit = Visit::of(&[&server.address.to_string()]);
    assert_eq!(visit.code, Some(1));
    visit.says("note", &["a standalone server, which serves"]);
    visit.says("risk", &["/wide has 3000 children"]);
    visit.says("risk", &["maxClientCnxns=0"]);
    visit.says("note", &["everybody may create znodes under the root"]);
    // Its clock is this one.
    visit.does_not_say("clocks");
    let json = Visit::of(&["--json", &server.address.to_string()]);
    assert_eq!(json.code, Some(1));
    assert!(
        json.said
            .starts_with("{\"well\":false,\"findings\":[{\"weight\":\"risk\"")
    );
    assert!(json.said.ends_with("}]}\n"), "{}", json.said);
    server.stop();
}

#[test]
fn server_that_is_not_there_is_wrong() {
    let nobody = free_address();
    let visit = Visit::of(&[&nobody.to_string()]);
    assert_eq!(visit.code, Some(1));
    visit.says("wrong", &["no server answers"]);
    visit.says("wrong", &[&nobody.to_string(), "no server listens there"]);
}

#[test]
fn servers_that_are_not_one_ensemble_are_told_apart() {
    let home = Directory::new("doctor-two");
    let starts = |name: &str, tick: &str| {
        let home = home.path().join(name);
        fs::create_dir_all(&home).unwrap();
        Server::start(Kind::Zabra, &home, &[tick])
    };
    let one = starts("one", "tickTime=1000");
    let two = starts("two", "tickTime=3000");
    let visit = Visit::of(&[&format!("{},{}", one.address, two.address)]);
    assert_eq!(visit.code, Some(1));
    visit.says("wrong", &["is a standalone server, not one of an ensemble"]);
    visit.says("risk", &["tickTime differs: 1000 on", "3000 on"]);
    one.stop();
    two.stop();
}

fn probe(arguments: &[&str]) -> Option<i32> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zabra"));
    let output = command.arg("probe").args(arguments).output().unwrap();
    output.status.code()
}

#[test]
fn probe_tells_who_serves_from_who_only_lives_and_who_is_gone() {
    let home = Directory::new("probe");
    let server = Server::start(Kind::Zabra, home.path(), &[]);
    let address = server.address.to_string();
    assert_eq!(probe(&[&address]), Some(0));
    server.stop();
    assert_eq!(probe(&[&address]), Some(1));
    assert_eq!(probe(&["--alive", &address]), Some(1));
    assert_eq!(probe(&["a:1,b:2"]), Some(2));

    // One of three, alone: it looks for a leader.
    let peers: Vec<String> = (1..=3)
        .map(|id| {
            let (quorum, election) = (free_address().port(), free_address().port());
            format!("server.{id}=127.0.0.1:{quorum}:{election}\n")
        })
        .collect();
    let data = home.path().join("alone");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("myid"), "1\n").unwrap();
    let address = free_address();
    let config = file(
        &home,
        "member.cfg",
        &format!(
            "dataDir={}\nclientPort={}\nclientPortAddress=127.0.0.1\ninitLimit=5\nsyncLimit=2\n{}",
            data.display(),
            address.port(),
            peers.concat()
        ),
    );
    let log = home.path().join("member.log");
    let member = Server::spawn_with(Kind::Zabra, &config, address, log);
    let address = address.to_string();
    let end = Instant::now() + Duration::from_secs(20);
    while probe(&["--alive", &address]) != Some(0) {
        assert!(Instant::now() < end, "{}", member.log());
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(probe(&[&address]), Some(1), "it serves nobody");
    member.stop();
}
