//! `zabra ensemble`, as whoever runs it sees it.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that panics has failed, which is what is wanted"
)]

#[path = "support"]
#[expect(dead_code, reason = "other tests use other parts of it")]
mod support {
    pub(crate) mod process;
    pub(crate) mod wire;
}

use core::net::SocketAddr;
use core::sync::atomic::{AtomicU16, Ordering};
use core::time::Duration;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::time::Instant;
use std::{env, fs, thread};

use support::process::Directory;
use support::wire::{Acl, Client};

const TIME_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
const SESSION_TIMEOUT_MS: i32 = 10_000;

/// Exit code, standard output and standard error.
struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

fn zabra(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zabra"));
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("ZABRA_") || text.starts_with("ZOO_") {
            command.env_remove(&name);
        }
    }
    command.arg("ensemble").args(arguments).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Run {
    let output = zabra(arguments).output().unwrap();
    Run {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + TIME_MAX;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < end, "expected {what}");
        thread::sleep(POLL);
    }
}

fn signal(pid: u32, name: &str) {
    let pid = pid.to_string();
    let mut kill = Command::new("kill");
    assert!(kill.args([name, &pid]).status().unwrap().success());
}

fn lives(pid: u32) -> bool {
    // What has ended and was not waited for has no arguments.
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|arguments| !arguments.is_empty())
}

/// Ports of which nobody else here takes any: the commands' own search could, between two tests,
/// find the same.
fn base_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let offset = u16::try_from(process::id() % 400).unwrap() * 25;
    loop {
        let base = 10_000 + offset % 10_000 + NEXT.fetch_add(15, Ordering::Relaxed);
        if (base..base + 15).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return base;
        }
    }
}

/// `zabra ensemble up`, until it is stopped or dropped.
struct Up {
    process: Child,
    home: Directory,
}

/// A line of the table.
#[derive(Clone, Debug)]
struct Row {
    role: String,
    address: SocketAddr,
    pid: u32,
    directory: PathBuf,
}

impl Up {
    fn start(test: &str, arguments: &[&str]) -> Self {
        Self::start_at(Directory::new(test), arguments)
    }

    fn start_at(home: Directory, arguments: &[&str]) -> Self {
        let out = fs::File::create(home.path().join("out")).unwrap();
        let err = fs::File::create(home.path().join("err")).unwrap();
        let process = zabra(&["up"])
            .args(arguments)
            .env("TMPDIR", home.path())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap();
        Self { process, home }
    }

    fn said(&self, file: &str) -> String {
        fs::read_to_string(self.home.path().join(file)).unwrap()
    }

    /// The table, once all serve.
    fn rows(&mut self) -> Vec<Row> {
        wait_for("servers that serve", || {
            let ended = self.process.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {}", self.said("err"));
            self.said("out").contains("Ctrl-C").then_some(())
        });
        let out = self.said("out");
        let lines = out.lines().skip(3).take_while(|line| !line.is_empty());
        lines
            .map(|line| {
                let cells: Vec<&str> = line.split_whitespace().collect();
                Row {
                    role: cells[1].to_owned(),
                    address: format!("127.0.0.1:{}", cells[2]).parse().unwrap(),
                    pid: cells[3].parse().unwrap(),
                    directory: cells[4].into(),
                }
            })
            .collect()
    }

    /// Sends a signal that ends it, and returns its exit code.
    fn end(&mut self, name: &str) -> Option<i32> {
        signal(self.process.id(), name);
        wait_for("an end", || self.process.try_wait().unwrap()).code()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn ensemble_runs_until_ctrl_c_and_leaves_nothing() {
    let mut up = Up::start("up", &["--servers", "1"]);
    let rows = up.rows();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].role, "standalone");
    let first = up.said("out").lines().next().unwrap().to_owned();
    assert_eq!(first, format!("connect with: {}", rows[0].address));
    assert!(rows[0].directory.join("zoo.cfg").exists());
    let mut client = Client::open(rows[0].address, SESSION_TIMEOUT_MS).unwrap();
    client.create("/a", Some(b"1"), &Acl::open(), 0).unwrap();
    drop(client);
    assert_eq!(up.end("-INT"), Some(0), "{}", up.said("err"));
    assert_eq!(up.said("err"), "");
    assert!(!lives(rows[0].pid));
    assert!(!rows[0].directory.exists());
}

fn word(address: SocketAddr, word: &str) -> String {
    support::wire::word(address, word, TIME_MAX).unwrap()
}

#[test]
fn ensemble_of_several_servers_survives_its_leader() {
    let arguments = ["--servers", "3", "--observers", "1", "--tick-time", "200"];
    let mut up = Up::start("up-ensemble", &arguments);
    let rows = up.rows();
    let mut roles: Vec<&str> = rows.iter().map(|row| row.role.as_str()).collect();
    roles.sort_unstable();
    assert_eq!(roles, ["follower", "follower", "leader", "observer"]);
    assert_eq!(rows[3].role, "observer");
    let servers: Vec<String> = rows.iter().map(|row| row.address.to_string()).collect();
    let servers = servers.join(",");
    assert!(
        up.said("out")
            .starts_with(&format!("connect with: {servers}\n"))
    );
    let leader = rows
        .iter()
        .find(|row| row.role == "leader")
        .unwrap()
        .clone();
    let other = rows
        .iter()
        .find(|row| row.role == "follower")
        .unwrap()
        .clone();

    let mut client = Client::open(other.address, SESSION_TIMEOUT_MS).unwrap();
    client.create("/a", Some(b"1"), &Acl::open(), 0).unwrap();
    let found = run(&["status", &servers]);
    assert_eq!(found.code, Some(0), "{}{}", found.out, found.err);
    let well = format!(
        "well: {} leads, 3 of 3 voters serve, 1 observer\n",
        leader.address
    );
    assert!(found.out.contains(&well), "{}", found.out);
    let row = found
        .out
        .lines()
        .find(|line| line.contains("leader"))
        .unwrap();
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(
        cells[2..5],
        ["0x100000002", "1", "1"],
        "zxid, epoch, sessions"
    );

    for (row, state) in [
        (
            &leader,
            "leading - broadcast\nzk_quorum_size\t3\nzk_learners\t3\nzk_synced_followers\t2\n",
        ),
        (&other, "following - broadcast\nzk_quorum_size\t3\n"),
        (&rows[3], "observing - broadcast\nzk_observer_master_id\t"),
    ] {
        let answer = word(row.address, "mntr");
        let line = format!("zk_server_state\t{}\nzk_peer_state\t{state}", row.role);
        assert!(answer.contains(&line), "{line} in {answer}");
        assert!(answer.contains("zk_global_sessions\t1\n"), "{answer}");
        let conf = word(row.address, "conf");
        let peer_type = u8::from(row.role == "observer");
        let line = format!("peerType={peer_type}\nmembership: \nserver.1=127.0.0.1:");
        assert!(
            conf.contains(&line) && conf.ends_with("\nversion=0"),
            "{conf}"
        );
        let session = client.session_id;
        let dump = word(row.address, "dump");
        let line = match row.role.as_str() {
            "leader" => format!("\t0x{session:x}\n"),
            _ => format!(
                "Global Sessions(1):\n0x{session:x}\t{}ms\n",
                client.timeout_ms
            ),
        };
        assert!(dump.contains(&line), "{line} in {dump}");
    }
    let answer = word(leader.address, "srvr");
    assert!(
        answer.contains("\nProposal sizes last/min/max: "),
        "{answer}"
    );

    signal(leader.pid, "-KILL");
    // The observer comes back in its own time.
    let well = "leads, 2 of 3 voters serve, 1 observer\n";
    let out = wait_for("another leader", || {
        let found = run(&["status", &servers]);
        (found.code == Some(0) && found.out.contains(well)).then_some(found.out)
    });
    let note = format!("note: {} refused the connection", leader.address);
    assert!(out.contains(&note), "{out}");
    let mut client = wait_for("a session", || {
        Client::open(other.address, SESSION_TIMEOUT_MS).ok()
    });
    assert_eq!(client.data("/a", false).unwrap().0, Some(b"1".to_vec()));
    wait_for("a report", || {
        up.said("err")
            .contains("was killed (signal 9)")
            .then_some(())
    });
    assert_eq!(up.end("-INT"), Some(0), "{}", up.said("err"));
    for row in rows {
        assert!(!lives(row.pid), "{row:?}");
    }
}

#[test]
fn no_server_outlives_a_killed_command() {
    let mut up = Up::start("up-killed", &["--servers", "1"]);
    let rows = up.rows();
    assert_eq!(up.end("-KILL"), None);
    wait_for("the server's end", || (!lives(rows[0].pid)).then_some(()));
    let log = fs::read_to_string(rows[0].directory.join("zabra.log")).unwrap();
    assert!(log.contains("stopping"), "stopped in good order: {log}");
}

#[test]
fn directory_that_is_named_stays_with_its_data_and_ports() {
    let base = base_port().to_string();
    let kept = Directory::new("up-dir");
    let directory = kept.path().join("my ensemble");
    let dir = directory.to_str().unwrap().to_owned();
    let home = Directory::new("up-dir-1");
    let mut up = Up::start_at(
        home,
        &["--servers", "1", "--dir", &dir, "--base-port", &base],
    );
    let address: SocketAddr = format!("127.0.0.1:{base}").parse().unwrap();
    wait_for("a table", || {
        up.said("out").contains("Ctrl-C").then_some(())
    });
    let mut client = Client::open(address, SESSION_TIMEOUT_MS).unwrap();
    client.create("/kept", Some(b"1"), &Acl::open(), 0).unwrap();
    assert_eq!(up.end("-TERM"), Some(0), "{}", up.said("err"));

    let home = Directory::new("up-dir-2");
    let mut up = Up::start_at(home, &["--dir", &dir]);
    wait_for("a table", || {
        up.said("out").contains("Ctrl-C").then_some(())
    });
    let mut client = Client::open(address, SESSION_TIMEOUT_MS).unwrap();
    assert_eq!(client.data("/kept", false).unwrap().0, Some(b"1".to_vec()));
    assert_eq!(up.end("-INT"), Some(0), "{}", up.said("err"));

    let found = run(&["up", "--dir", &dir, "--servers", "3"]);
    assert_eq!(found.code, Some(2));
    let message = format!("error: {dir}: there is an ensemble with --servers 1, found --servers 3");
    assert!(found.err.starts_with(&message), "{}", found.err);
}

#[test]
fn killed_server_is_reported_and_started_again_if_wanted() {
    let mut up = Up::start("up-restart", &["--servers", "1", "--restart"]);
    let rows = up.rows();
    signal(rows[0].pid, "-KILL");
    let said = wait_for("a new server", || {
        let said = up.said("err");
        said.contains("is started again").then_some(said)
    });
    let expected = format!(
        "server 1 (pid {}) was killed (signal 9); the end of its log",
        rows[0].pid
    );
    assert!(said.starts_with(&expected), "{said}");
    assert!(
        said.contains("connect with: zkCli.sh"),
        "its log is shown: {said}"
    );
    wait_for("a session", || {
        Client::open(rows[0].address, SESSION_TIMEOUT_MS).ok()
    });
    assert_eq!(up.end("-TERM"), Some(0));
}

#[test]
fn last_server_that_ends_ends_the_command() {
    let mut up = Up::start("up-last", &["--servers", "1"]);
    let rows = up.rows();
    signal(rows[0].pid, "-TERM");
    let status = wait_for("an end", || up.process.try_wait().unwrap());
    assert_eq!(status.code(), Some(1));
    let said = up.said("err");
    assert!(said.contains("ended with exit code 0"), "{said}");
    assert!(said.ends_with("error: no server is left\n"), "{said}");
}

#[test]
fn port_in_use_is_named_with_its_purpose() {
    let base = base_port();
    let _listener = TcpListener::bind(("127.0.0.1", base + 4)).unwrap();
    let found = run(&["up", "--base-port", &base.to_string()]);
    assert_eq!(found.code, Some(1));
    let message = format!(
        "error: port {} (quorum of server 2) is in use; stop what is there, or choose other ports \
         by --base-port\n",
        base + 4
    );
    assert_eq!(found.err, message);
}

#[test]
fn server_that_does_not_start_says_why() {
    let home = Directory::new("up-refused");
    let dir = home.path().to_str().unwrap();
    let found = run(&[
        "up",
        "--servers",
        "1",
        "--dir",
        dir,
        "--",
        "syncEnabled=maybe",
    ]);
    assert_eq!(found.code, Some(1));
    assert!(
        found.err.starts_with("error: server 1 (pid "),
        "{}",
        found.err
    );
    let log = format!("ended with exit code 2; the end of its log {dir}/server.1/zabra.log:\n");
    assert!(found.err.contains(&log), "{}", found.err);
    assert!(found.err.contains("found \"maybe\""), "{}", found.err);
}

/// A server of which only the answers to words are there.
fn answering(answers: &'static [(&str, &str)]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for mut stream in listener.incoming().map(Result::unwrap) {
            let mut word = [0; 4];
            if stream.read_exact(&mut word).is_err() {
                continue;
            }
            let found = answers.iter().find(|(known, _)| known.as_bytes() == word);
            let answer = found.map_or(NOT_ALLOWED, |(_, answer)| answer);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

const NOT_ALLOWED: &str = "mntr is not executed because it is not in the whitelist.\n";
const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests\n";
/// As Apache ZooKeeper 3.9.3 answers.
const LEADER: &str = "\
Zookeeper version: 3.9.3-c26634f34490bb0ea7a09cc51e05ede3b4e320ee, built on 2024-10-17 23:21 UTC
Latency min/avg/max: 0/0.5/3
Received: 8
Sent: 7
Connections: 2
Outstanding: 0
Zxid: 0x500000004
Mode: leader
Node count: 5
Proposal sizes last/min/max: 36/36/36
";
const LEADER_METRICS: &str = "zk_server_state\tleader\nzk_global_sessions\t7\nzk_quorum_size\t3\n\
                              zk_synced_followers\t2\n";
const FOLLOWER: &str = "\
Zookeeper version: 3.9.3-c26634f34490bb0ea7a09cc51e05ede3b4e320ee, built on 2024-10-17 23:21 UTC
Latency min/avg/max: 0/0.0/0
Received: 1
Sent: 0
Connections: 1
Outstanding: 0
Zxid: 0x500000004
Mode: follower
Node count: 5
";

/// An address where nobody listens: tcpmux has long been nobody's service, and no test is given a
/// port below 1024.
const NOBODY: &str = "127.0.0.1:1";

#[test]
fn status_shows_every_server_and_what_it_does_not_know() {
    let leader = answering(&[("srvr", LEADER), ("mntr", LEADER_METRICS)]);
    let follower = answering(&[("srvr", FOLLOWER)]);
    let nobody = NOBODY;
    let found = run(&["status", &format!("{leader},{follower},{nobody}/app")]);
    assert_eq!(found.code, Some(0), "{}{}", found.out, found.err);
    let cells: Vec<Vec<&str>> = found
        .out
        .lines()
        .take(4)
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        cells[1],
        [
            &leader,
            "leader",
            "0x500000004",
            "5",
            "7",
            "2",
            "0/0.5/3",
            "3.9.3"
        ]
    );
    assert_eq!(
        cells[2],
        [
            &follower,
            "follower",
            "0x500000004",
            "5",
            "-",
            "1",
            "0/0/0",
            "3.9.3"
        ]
    );
    assert_eq!(cells[3][..3], [nobody, "no", "answer"]);
    for line in [
        format!("well: {leader} leads, 2 of 3 voters serve\n"),
        format!("note: {nobody} refused the connection: no server listens there\n"),
        format!("note: SESSIONS is not shown for {follower}: mntr is not answered there; put"),
    ] {
        assert!(found.out.contains(&line), "{line} in:\n{}", found.out);
    }
}

#[test]
fn status_for_machines_is_json() {
    let leader = answering(&[("srvr", LEADER), ("mntr", LEADER_METRICS)]);
    let nobody = NOBODY;
    let found = run(&["status", "--json", &format!("{leader},{nobody}")]);
    assert_eq!(found.code, Some(0), "{}", found.err);
    let expected = format!(
        "{{\"well\":true,\"problems\":[],\"remarks\":[\"{nobody} refused the connection: no server \
         listens there\"],\"servers\":[{{\"server\":\"{leader}\",\"role\":\"leader\",\
         \"zxid\":\"0x500000004\",\"epoch\":5,\"sessions\":7,\"connections\":2,\
         \"latency_ms\":{{\"min\":0,\"avg\":0.5,\"max\":3}},\"nodes\":5,\"quorum_size\":3,\
         \"synced_followers\":2,\"version\":\"3.9.3\",\"error\":null}},{{\"server\":\"{nobody}\",\
         \"role\":null,\"error\":\"refused the connection: no server listens there\"}}]}}\n"
    );
    assert_eq!(found.out, expected);
}

#[test]
fn status_says_what_is_wrong() {
    let leader = answering(&[("srvr", LEADER)]);
    let other = answering(&[("srvr", LEADER)]);
    let looking = answering(&[("srvr", NOT_SERVING)]);
    let web = answering(&[("srvr", "HTTP/1.1 400 Bad Request\r\n")]);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent
        .local_addr()
        .map(|it| (silent, it.to_string()))
        .unwrap();
    let nobody = NOBODY;
    for (servers, problem, remark) in [
        (
            format!("{looking},{nobody}"),
            "not well: no leader: of 2 servers 1 answered, and none of them leads or follows\n"
                .to_owned(),
            format!("note: {looking} does not serve: it looks for a leader, or is starting\n"),
        ),
        (
            format!("{leader},{other}"),
            format!("not well: two leaders: {leader} at zxid 0x500000004, {other} at"),
            String::new(),
        ),
        (
            format!("{leader},{looking},{nobody}"),
            format!("not well: no quorum: {leader} leads, but only 1 of 3 voters serve\n"),
            String::new(),
        ),
        (
            web.clone(),
            "not well: no leader: no server answers\n".to_owned(),
            format!(
                "note: {web} is no ZooKeeper server: expected the answer to srvr, found \"HTTP"
            ),
        ),
        (
            silent.1.clone(),
            "not well: no leader: no server answers\n".to_owned(),
            format!("note: {} gave no answer within 1 s\n", silent.1),
        ),
        (
            "no-such-host.invalid".to_owned(),
            "not well: no leader: no server answers\n".to_owned(),
            "note: no-such-host.invalid:2181 has a name without an address: ".to_owned(),
        ),
    ] {
        let found = run(&["status", "--timeout", "1", &servers]);
        assert_eq!(found.code, Some(1), "{servers}");
        assert!(found.err.starts_with(&problem), "{}", found.err);
        assert!(found.out.contains(&remark), "{remark} in:\n{}", found.out);
    }
}

#[test]
fn wrong_command_lines_exit_with_2_and_say_what_is_expected() {
    let home = Directory::new("ensemble-wrong");
    let hosts = home.path().join("hosts");
    fs::write(&hosts, "zoo1 /etc/zoo.cfg\nzoo2\n").unwrap();
    let hosts = hosts.to_str().unwrap();
    let missing = home.path().join("missing");
    let missing = missing.to_str().unwrap();
    for (arguments, message) in [
        (
            &["status", "zoo1:x"] as &[_],
            "error: expected HOST, HOST:PORT or [IPV6]:PORT",
        ),
        (
            &["status"],
            "error: the following required arguments were not provided",
        ),
        (
            &["status", "a", "--hosts", hosts],
            "error: the argument '[HOST[:PORT],…]' cannot be used",
        ),
        (
            &["up", "--servers", "0"],
            "error: invalid value '0' for '--servers <N>'",
        ),
        (
            &["up", "--base-port", "65530"],
            "error: --base-port: expected a port from 1 to 65527",
        ),
        (
            &["up", "--", "clientPort=1"],
            "error: clientPort is decided by `zabra ensemble up`",
        ),
        (
            &["up", "--", "x"],
            "error: expected KEY=VALUE for every zoo.cfg, found \"x\"",
        ),
        (&["start", "--hosts", missing], "No such file or directory"),
        (
            &["stop", "--hosts", hosts],
            ":2: expected [user@]host[:sshport] config-path, found \"zoo2\"",
        ),
    ] {
        let found = run(arguments);
        assert_eq!(found.code, Some(2), "{arguments:?}: {}", found.err);
        assert!(found.err.contains(message), "{arguments:?}: {}", found.err);
        assert_eq!(found.out, "");
    }
}

/// An sshd of our own on loopback, which lets in whoever has its key.
struct Sshd {
    process: Child,
    home: PathBuf,
    port: u16,
}

impl Sshd {
    /// `None` where there is no sshd.
    fn start(home: &Path) -> Option<Self> {
        let places = ["/usr/sbin/sshd", "/usr/bin/sshd", "/usr/local/sbin/sshd"];
        let program = places.iter().find(|place| Path::new(place).exists());
        let (Some(program), Ok(_)) = (program, Command::new("ssh").arg("-V").output()) else {
            eprintln!(
                "skipped: no sshd or no ssh (`apt-get install openssh-server openssh-client`)"
            );
            return None;
        };
        // Where its service does not run, nobody has made the directory that sshd demands of root.
        let _exists_or_not_root = fs::create_dir("/run/sshd");
        for key in ["host_key", "key"] {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]);
            assert!(keygen.arg(home.join(key)).status().unwrap().success());
        }
        fs::copy(home.join("key.pub"), home.join("authorized_keys")).unwrap();
        let port = base_port();
        let path = home.display();
        let config = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey {path}/host_key\nPidFile none\n\
             AuthorizedKeysFile {path}/authorized_keys\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n"
        );
        fs::write(home.join("sshd_config"), config).unwrap();
        let host_key = fs::read_to_string(home.join("host_key.pub")).unwrap();
        let known = format!("[127.0.0.1]:{port} {host_key}");
        fs::write(home.join("known_hosts"), known).unwrap();
        let log = fs::File::create(home.join("sshd.log")).unwrap();
        let process = Command::new(program)
            .args(["-D", "-e", "-f"])
            .arg(home.join("sshd_config"))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut sshd = Self {
            process,
            home: home.to_owned(),
            port,
        };
        wait_for("an sshd", || {
            if let Some(status) = sshd.process.try_wait().unwrap() {
                panic!(
                    "{status}: {}",
                    fs::read_to_string(home.join("sshd.log")).unwrap()
                );
            }
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Some(sshd)
    }

    /// `zabra ensemble <action> --hosts FILE` with its keys.
    fn zabra(&self, action: &str, hosts: &Path, arguments: &[&str]) -> Run {
        let option = |name: &str, file: &str| format!("{name}={}", self.home.join(file).display());
        let (key, known) = (
            option("IdentityFile", "key"),
            option("UserKnownHostsFile", "known_hosts"),
        );
        let mut all = vec![action, "--hosts", hosts.to_str().unwrap()];
        all.extend(["-o", &key, "-o", "IdentitiesOnly=yes", "-o", &known]);
        all.extend(arguments);
        run(&all)
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Ends a server that a failed test has left.
struct Leftover(PathBuf);

impl Drop for Leftover {
    fn drop(&mut self) {
        if let Ok(pid) = fs::read_to_string(&self.0)
            && let Ok(pid) = pid.trim().parse()
            && lives(pid)
        {
            signal(pid, "-KILL");
        }
    }
}

#[test]
fn servers_of_other_hosts_are_started_found_and_stopped_over_ssh() {
    let home = Directory::new("ensemble-ssh");
    let Some(sshd) = Sshd::start(home.path()) else {
        return;
    };
    // Every character that a shell would make something of.
    let odd = home.path().join("it's a $(touch hacked) `dir`; \"x\" & é");
    let data = odd.join("data");
    fs::create_dir_all(&data).unwrap();
    let base = base_port();
    let config = odd.join("zoo.cfg");
    let text = format!(
        "tickTime=2000\ndataDir=/nowhere\ndataDir = {}\nclientPort={base}\n\
         clientPortAddress=127.0.0.1\n",
        data.display()
    );
    fs::write(&config, text).unwrap();
    let broken = home.path().join("broken.cfg");
    let text = format!(
        "dataDir={}\nclientPort=x\n",
        home.path().join("broken").display()
    );
    fs::write(&broken, text).unwrap();
    let pid_file = data.join("zabra.pid");
    let _leftover = Leftover(pid_file.clone());

    let place = format!("127.0.0.1:{}", sshd.port);
    let good = home.path().join("good");
    fs::write(&good, format!("# one\n{place} {}\n", config.display())).unwrap();
    let closed = NOBODY;
    let mixed = home.path().join("mixed");
    let lines = format!(
        "{place} {}\n{place} {}\n{place} /no/such.cfg\n{closed} /etc/zoo.cfg\n",
        broken.display(),
        config.display()
    );
    fs::write(&mixed, lines).unwrap();
    let binary = ["--binary", env!("CARGO_BIN_EXE_zabra")];

    let found = sshd.zabra("start", &good, &["--binary", "/no/zabra"]);
    assert_eq!(found.code, Some(1));
    let message = "error: there is no program /no/zabra there; name it by --binary, with its path";
    assert!(found.out.contains(message), "{}{}", found.out, found.err);

    let found = sshd.zabra("start", &mixed, &binary);
    assert_eq!(found.code, Some(1), "{}{}", found.out, found.err);
    let pid: u32 = fs::read_to_string(&pid_file)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    for text in [
        "error: it ended with exit code 2 as soon as it was started",
        "clientPort: expected a port from 0 to 65535",
        &format!("started, pid {pid}\n"),
        "error: expected a configuration at /no/such.cfg, which cannot be read",
        "error: ssh: connect to host 127.0.0.1 port",
    ] {
        assert!(found.out.contains(text), "{text} in:\n{}", found.out);
    }
    assert_eq!(found.err, "error: 3 of 4 servers could not be started\n");

    let address = SocketAddr::from(([127, 0, 0, 1], base));
    wait_for("a session", || {
        Client::open(address, SESSION_TIMEOUT_MS).ok()
    });
    let found = sshd.zabra("status", &good, &[]);
    assert_eq!(found.code, Some(0), "{}{}", found.out, found.err);
    assert!(
        found.out.contains(&format!("runs, pid {pid}\n")),
        "{}",
        found.out
    );
    assert!(
        found.out.contains("well: a standalone server"),
        "{}",
        found.out
    );

    let found = sshd.zabra("start", &good, &binary);
    assert_eq!(found.code, Some(0), "{}{}", found.out, found.err);
    assert!(
        found.out.contains(&format!("runs already, pid {pid}\n")),
        "{}",
        found.out
    );

    let found = sshd.zabra("stop", &good, &[]);
    assert_eq!(found.code, Some(0), "{}{}", found.out, found.err);
    assert!(
        found.out.contains(&format!("stopped, was pid {pid}\n")),
        "{}",
        found.out
    );
    assert!(!lives(pid) && !pid_file.exists());
    let log = fs::read_to_string(data.join("zabra.log")).unwrap();
    assert!(log.contains("stopping"), "{log}");

    // The id of the process that ended may be another's by then.
    fs::write(&pid_file, process::id().to_string()).unwrap();
    let found = sshd.zabra("status", &good, &[]);
    assert_eq!(found.code, Some(1), "{}{}", found.out, found.err);
    assert!(
        found.out.contains("error: does not run, by "),
        "{}",
        found.out
    );
    let found = sshd.zabra("stop", &good, &[]);
    assert_eq!(found.code, Some(0), "{}{}", found.out, found.err);
    assert!(found.out.contains("does not run, by "), "{}", found.out);
}

#[test]
fn key_that_is_not_let_in_is_an_error_and_no_question() {
    let home = Directory::new("ensemble-ssh-denied");
    let Some(sshd) = Sshd::start(home.path()) else {
        return;
    };
    fs::write(home.path().join("authorized_keys"), "").unwrap();
    let hosts = home.path().join("hosts");
    fs::write(&hosts, format!("127.0.0.1:{} /zoo.cfg\n", sshd.port)).unwrap();
    let found = sshd.zabra("stop", &hosts, &[]);
    assert_eq!(found.code, Some(1));
    assert!(found.out.contains("Permission denied"), "{}", found.out);
    assert!(
        found.out.contains("ssh may not ask for a password here"),
        "{}",
        found.out
    );
    fs::write(home.path().join("known_hosts"), "").unwrap();
    let found = sshd.zabra("stop", &hosts, &[]);
    assert_eq!(found.code, Some(1));
    assert!(found.out.contains("accept its key"), "{}", found.out);
}
