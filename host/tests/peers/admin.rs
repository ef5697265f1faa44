//! Our AdminServer beside Apache ZooKeeper's: the same commands, the same keys, the same kinds of
//! values; and our metrics as Prometheus's own tool sees them.

use core::net::SocketAddr;
use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::acts::act;
use crate::support::http::get;
use crate::support::process::{Directory, Kind, Server, free_address};
use crate::support::wire::{Acl, Client, flags};

const SESSION_MS: i32 = 30_000;
/// The release whose behaviour ours is.
const RELEASE: &str = "3.9.5";
const PROVIDER: &str = "metricsProvider.className=org.apache.zookeeper.metrics.prometheus.\
                        PrometheusMetricsProvider";

/// A server in which there is something of everything that commands tell.
struct Told {
    _server: Server,
    _client: Client,
    admin: SocketAddr,
}

fn start(kind: Kind, directory: &Directory) -> Told {
    let admin = free_address();
    let port = format!("admin.serverPort={}", admin.port());
    let address = "admin.serverAddress=127.0.0.1";
    let home = directory.path().join(format!("{kind}"));
    let options = ["admin.enableServer=true", &port, address];
    let server = Server::start(kind, &home, &options);
    let mut client = Client::open(server.address, SESSION_MS).unwrap();
    client
        .create("/eph", None, &Acl::open(), flags::EPHEMERAL)
        .unwrap();
    client.data("/eph", true).unwrap();
    for number in 0..300 {
        let data = number.to_string();
        client.set_data("/eph", Some(data.as_bytes()), -1).unwrap();
    }
    client.data("/eph", true).unwrap();
    Told {
        _server: server,
        _client: client,
        admin,
    }
}

impl Told {
    fn names(&self) -> BTreeSet<String> {
        let text = get(self.admin, "/commands").unwrap().text();
        let links = text.lines().filter_map(|line| {
            let name = line
                .strip_prefix("<a href=\"/commands/")?
                .split('"')
                .next()?;
            Some(name.to_owned())
        });
        links.collect()
    }

    fn command(&self, name: &str) -> (u16, Value) {
        let answer = get(self.admin, &format!("/commands/{name}")).unwrap();
        (answer.status, serde_json::from_slice(&answer.body).unwrap())
    }
}

/// Each key by its place, with the kind of its value.
fn shape(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                // Times, sessions and paths differ from server to server.
                let number = key.parse::<i64>().is_ok();
                let key = if number { "NUMBER" } else { key };
                shape(value, &format!("{at}.{key}"), found);
            }
        }
        Value::Array(items) => {
            found.insert(format!("{at}[]"));
            for item in items {
                shape(item, &format!("{at}[]"), found);
            }
        }
        Value::Null => drop(found.insert(format!("{at}: null"))),
        Value::Bool(_) => drop(found.insert(format!("{at}: bool"))),
        Value::Number(number) => {
            let kind = if number.is_f64() { "fraction" } else { "whole" };
            found.insert(format!("{at}: {kind}"));
        }
        Value::String(_) => drop(found.insert(format!("{at}: text"))),
    }
}

/// What differs between two answers to a command, as far as it should not.
fn differences(name: &str, theirs: &Value, ours: &Value) -> Vec<String> {
    if name == "system_properties" {
        // Java's; ours are what the environment is to it.
        return Vec::new();
    }
    let (mut their_shape, mut our_shape) = (BTreeSet::new(), BTreeSet::new());
    shape(theirs, "", &mut their_shape);
    shape(ours, "", &mut our_shape);
    let differing = their_shape.symmetric_difference(&our_shape);
    let differing = differing.filter(|key| {
        // One for each top-level znode, which ours does not count; and what is of ours alone.
        !key.contains("_per_namespace") && !key.contains("zabra_")
    });
    let told = differing.map(|key| {
        let who = if our_shape.contains(key) {
            "ours"
        } else {
            "theirs"
        };
        format!("{name}: {who} has {key}")
    });
    told.collect()
}

#[test]
fn commands_have_the_shapes_of_apache_zookeepers() {
    let directory = Directory::new("admin-shapes");
    let theirs = start(Kind::Release(RELEASE), &directory);
    let ours = start(Kind::Zabra, &directory);
    assert_eq!(ours.names(), theirs.names());
    for name in ours.names() {
        let (status, answer) = theirs.command(&name);
        let (our_status, our_answer) = ours.command(&name);
        assert_eq!(our_status, status, "{name}");
        let differences = differences(&name, &answer, &our_answer);
        assert_eq!(differences, [""; 0], "{answer:#}\n{our_answer:#}");
    }
}

/// Three servers of one ensemble, two of them Apache's.
fn ensemble(directory: &Directory) -> Vec<(Server, SocketAddr)> {
    let kinds = [Kind::Release(RELEASE), Kind::Zabra, Kind::Release(RELEASE)];
    let servers: String = (1..=kinds.len())
        .map(|id| {
            let (quorum, election) = (free_address(), free_address());
            format!("server.{id}={quorum}:{}\n", election.port())
        })
        .collect();
    let started = (1..).zip(kinds).map(|(id, kind)| {
        let (client, admin) = (free_address(), free_address());
        let home = directory.path().join(format!("{id}"));
        let data = home.join("data");
        fs::create_dir_all(&data).unwrap();
        fs::write(data.join("myid"), format!("{id}\n")).unwrap();
        let text = format!(
            "tickTime=500\ninitLimit=20\nsyncLimit=10\ndataDir={}\nclientPort={}\n\
             clientPortAddress=127.0.0.1\nadmin.serverAddress=127.0.0.1\n\
             admin.serverPort={}\n4lw.commands.whitelist=*\n{servers}",
            data.display(),
            client.port(),
            admin.port(),
        );
        let config = home.join("zoo.cfg");
        fs::write(&config, text).unwrap();
        let server = Server::spawn_with(kind, &config, client, home.join("log"));
        (server, admin)
    });
    let mut started: Vec<_> = started.collect();
    for (server, _) in &mut started {
        server.wait_until_serving();
    }
    started
}

#[test]
fn commands_have_the_shapes_of_apache_zookeepers_in_an_ensemble() {
    let directory = Directory::new("admin-ensemble");
    let servers = ensemble(&directory);
    let ask = |index: usize, name: &str| -> Value {
        let (_, admin) = &servers[index];
        let answer = get(*admin, &format!("/commands/{name}")).unwrap();
        serde_json::from_slice(&answer.body).unwrap()
    };
    let state = |index| ask(index, "server_stats")["server_stats"]["server_state"].clone();
    // Two of three are followers: one of Apache's is like ours, unless ours leads.
    let like = [0, 2].into_iter().find(|&index| state(index) == state(1));
    let like = like.unwrap_or(0);
    for name in [
        "configuration",
        "leader",
        "observers",
        "voting_view",
        "zabstate",
        "monitor",
    ] {
        let (theirs, ours) = (ask(like, name), ask(1, name));
        if state(like) != state(1) && name == "monitor" {
            continue;
        }
        let differences = differences(name, &theirs, &ours);
        assert_eq!(differences, [""; 0], "{theirs:#}\n{ours:#}");
        if name == "voting_view" {
            // Each knows its own address for clients, and nobody has told it the others'.
            let (ours, theirs) = (&ours["current_config"], &theirs["current_config"]);
            assert_eq!(
                ours["3"]["server_addresses"],
                theirs["3"]["server_addresses"]
            );
            assert_eq!(
                ours["2"]["client_address"],
                servers[1].0.address.to_string()
            );
            assert_eq!(ours["1"]["client_address"], "");
        }
    }
    assert_eq!(ask(1, "leader")["leader_id"], ask(0, "leader")["leader_id"]);
}

/// The lines of an audit log without their times, in the order of what happened.
fn audited(kind: Kind, directory: &Directory) -> Vec<String> {
    let home = directory.path().join(format!("{kind}"));
    let server = Server::start(kind, &home, &["audit.enable=true"]);
    let session = act(&server);
    server.wait_for_log("ephemeralZNodeDeletionOnSessionCloseOrExpire");
    let log = server.log();
    let lines = log.lines().filter_map(|line| {
        let at = line.find("session=0x")?;
        line.contains("\toperation=")
            .then(|| line.get(at..))
            .flatten()
    });
    // Theirs are in the order of a hash table, ours in that in which they were proved.
    lines
        .map(|line| line.replace(&session, "SESSION"))
        .map(|line| line.replace("user=ann,127.0.0.1", "user=127.0.0.1,ann"))
        .collect()
}

#[test]
fn audit_log_is_apache_zookeepers() {
    let directory = Directory::new("admin-audit");
    let theirs = audited(Kind::Release(RELEASE), &directory);
    let ours = audited(Kind::Zabra, &directory);
    assert!(theirs.len() > 10, "{theirs:?}");
    assert_eq!(ours, theirs);
}

#[test]
fn metrics_are_what_promtool_expects() {
    let directory = Directory::new("admin-promtool");
    let metrics = free_address();
    let port = format!("metricsProvider.httpPort={}", metrics.port());
    let options = [PROVIDER, &port, "metricsProvider.httpHost=127.0.0.1"];
    let server = Server::start(Kind::Zabra, directory.path(), &options);
    let mut client = Client::open(server.address, SESSION_MS).unwrap();
    client
        .create("/a", None, &Acl::open(), flags::PERSISTENT)
        .unwrap();
    let page = get(metrics, "/metrics").unwrap();
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool, of Debian's package prometheus: `cargo xtask setup` installs it");
    let mut input = promtool.stdin.take().unwrap();
    input.write_all(&page.body).unwrap();
    drop(input);
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    // 3: it could read everything, and has advice on names. Those are ZooKeeper's.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{said}");
    let advice: Vec<&str> = said.lines().filter(|line| !line.is_empty()).collect();
    let about_ours = advice
        .iter()
        .filter(|line| line.starts_with("zabra_") || line.starts_with("process_"));
    assert_eq!(about_ours.count(), 0, "{said}");
    let other = advice.iter().filter(|line| {
        ![
            "_total\" suffix",
            "_count\"",
            "non-",
            "abbreviated",
            "base units",
        ]
        .iter()
        .any(|known| line.contains(known))
    });
    assert_eq!(other.count(), 0, "{said}");
}
