//! Members of an ensemble: what they say, what they cannot do without, and how one that cannot go
//! on with its state comes back in the same process.

use core::fmt::Write as _;
use core::net::SocketAddr;
use core::time::Duration;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Instant;
use std::{fs, thread};

use crate::support::process::{Directory, free_address};
use crate::support::wire::{Acl, Client, flags};
use crate::{FAILURE, SESSION_TIMEOUT_MS, end, zabra};

const TIME_MAX: Duration = Duration::from_secs(30);

/// Where one member is found.
struct Place {
    client: SocketAddr,
    quorum: SocketAddr,
    election: SocketAddr,
}

/// Members of one ensemble, whose directories are below one home.
struct Ensemble {
    home: Directory,
    places: Vec<Place>,
}

impl Ensemble {
    fn new(name: &str) -> Self {
        let places = (0..3).map(|_| Place {
            client: free_address(),
            quorum: free_address(),
            election: free_address(),
        });
        Self {
            home: Directory::new(name),
            places: places.collect(),
        }
    }

    fn home(&self, member: usize) -> PathBuf {
        self.home.path().join(member.to_string())
    }

    /// The lines `server.N`.
    fn servers(&self) -> String {
        let mut lines = String::new();
        for (index, place) in self.places.iter().enumerate() {
            let (quorum, election) = (place.quorum.port(), place.election.port());
            writeln!(lines, "server.{}=127.0.0.1:{quorum}:{election}", index + 1).unwrap();
        }
        lines
    }

    /// Writes the configuration of a member, counted from 1.
    fn configure(&self, member: usize, servers: &str) -> PathBuf {
        let home = self.home(member);
        let data = home.join("data");
        fs::create_dir_all(&data).unwrap();
        fs::write(data.join("myid"), member.to_string()).unwrap();
        let port = self.places[member - 1].client.port();
        let config = home.join("zoo.cfg");
        let text = format!(
            "tickTime=1000\ninitLimit=10\nsyncLimit=5\ndataDir={}\nclientPort={port}\n\
             clientPortAddress=127.0.0.1\nelectionPortBindRetry=1\n{servers}",
            data.display()
        );
        fs::write(&config, text).unwrap();
        config
    }

    fn start(&self, member: usize) -> Member {
        self.start_with(member, &self.servers())
    }

    fn start_with(&self, member: usize, servers: &str) -> Member {
        let config = self.configure(member, servers);
        let log = self.home(member).join("log");
        let process = zabra(&["--config", config.to_str().unwrap()])
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Member { process, log }
    }

    fn client(&self, member: usize) -> Client {
        Client::open(self.places[member - 1].client, SESSION_TIMEOUT_MS).unwrap()
    }
}

struct Member {
    process: Child,
    log: PathBuf,
}

impl Member {
    fn log(&self) -> String {
        log_of(&self.log)
    }

    /// Waits until it has logged this so many times.
    fn wait_for(&self, words: &str, times: usize) {
        let begun = Instant::now();
        while self.log().matches(words).count() < times {
            let log = self.log();
            assert!(begun.elapsed() < TIME_MAX, "expected {words:?} in:\n{log}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn stop(mut self) {
        let pid = self.process.id().to_string();
        let interrupt = Command::new("kill").args(["-INT", &pid]).status().unwrap();
        assert!(interrupt.success());
        let status = self.process.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn log_of(log: &Path) -> String {
    fs::read_to_string(log).unwrap()
}

const IN_STEP: &str = "in step with the ensemble";

#[test]
fn election_port_that_is_in_use_ends_the_server() {
    let ensemble = Ensemble::new("election-port");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let own = ensemble.places[0].election.port().to_string();
    let servers = ensemble
        .servers()
        .replace(&own, &address.port().to_string());
    let config = ensemble.configure(1, &servers);

    let (code, log) = end(zabra(&["--config", config.to_str().unwrap()])
        .spawn()
        .unwrap());

    assert_eq!(code, Some(FAILURE), "{log}");
    for words in [
        &format!("ERROR cannot listen for elections on {address}: ") as &str,
        "server.N",
    ] {
        assert!(log.contains(words), "expected {words:?} in:\n{log}");
    }
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn server_without_data_says_that_it_has_no_vote() {
    let ensemble = Ensemble::new("no-vote");
    let servers = ensemble.servers();
    let member = ensemble.start_with(1, &(servers + "db.autocreate=false\n"));

    member.wait_for("this server has no vote before a leader", 1);
    // It looks for the others, and would hear that it is to stop.
    member.wait_for("cannot connect to a peer's election port", 2);

    member.stop();
    // Nothing that would be taken for a history at the next start.
    let versioned = ensemble.home(1).join("data/version-2");
    for entry in fs::read_dir(versioned).unwrap() {
        let name = entry.unwrap().file_name();
        let name = name.to_str().unwrap();
        assert!(
            !name.starts_with("snapshot") && !name.starts_with("log"),
            "{name}"
        );
    }
}

#[test]
fn member_with_another_history_begins_anew_in_place() {
    let ensemble = Ensemble::new("restart");
    let mut members: Vec<Member> = (1..=3).map(|member| ensemble.start(member)).collect();
    members
        .iter()
        .for_each(|member| member.wait_for(IN_STEP, 1));
    let introduced = "server 1, voter, with 2, 3; elections on 127.0.0.1:";
    members[0].wait_for(introduced, 1);
    let create = |client: &mut Client, path: &str| {
        let created = client.create(path, Some(b"data"), &Acl::open(), flags::PERSISTENT);
        created.unwrap();
    };
    let mut client = ensemble.client(1);
    create(&mut client, "/kept");
    client.close().unwrap();

    // What it writes alone, the ensemble never hears of.
    members.remove(0).stop();
    let alone = ensemble.start_with(1, "");
    alone.wait_for("connect with", 1);
    let mut client = ensemble.client(1);
    (0..5).for_each(|number| create(&mut client, &format!("/lost{number}")));
    client.close().unwrap();
    alone.stop();
    // Neither leads without the other: both begin a new epoch.
    members.remove(0).stop();
    let second = ensemble.start(2);
    second.wait_for(IN_STEP, 1);
    members[0].wait_for(IN_STEP, 2);

    let first = ensemble.start(1);

    first.wait_for("begins anew with what is on disk", 1);
    first.wait_for(IN_STEP, 1);
    let log = first.log();
    assert_eq!(log.matches("data read").count(), 2, "{log}");
    // Where clients connect is announced once: it was never given up.
    assert_eq!(log.matches("listening for clients").count(), 1, "{log}");
    let mut client = ensemble.client(1);
    assert_eq!(client.children("/").unwrap().0, ["kept", "zookeeper"]);
    client.close().unwrap();
    for member in [first, second, members.remove(0)] {
        member.stop();
    }
}
