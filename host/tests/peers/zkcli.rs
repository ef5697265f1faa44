//! Apache ZooKeeper's command line client says the same to our server as to its own, see
//! `zkcli.txt`.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread;

use crate::support::process::{Directory, Kind, Server, peer};

const EVENT: &str = "WatchedEvent state:SyncConnected type:";
const BANNER_END: &str = "JLine support is disabled";

/// A command and what it prints.
struct Exchange {
    command: String,
    output: Vec<String>,
}

#[test]
fn zkcli_prints_what_it_prints_with_apache_zookeeper() {
    let (expected, expected_events) = read_transcript();
    let directory = Directory::new("zkcli");
    let server = Server::start(
        Kind::Zabra,
        directory.path(),
        &["extendedTypesEnabled=true"],
    );
    let printed = run_interactively(&server, &expected);
    let (found, found_events) = split(&printed, &expected);
    for (expected, mut found) in expected.iter().zip(found) {
        if expected.command == "whoami" {
            found.sort_unstable(); // Apache ZooKeeper keeps the answers in a hash set.
        }
        let command = &expected.command;
        let same = expected.output.len() == found.len()
            && expected
                .output
                .iter()
                .zip(&found)
                .all(|(pattern, line)| matches(pattern, line));
        let expected = expected.output.join("\n");
        let found = found.join("\n");
        assert!(
            same,
            "> {command}\n--- expected\n{expected}\n--- found\n{found}\n---"
        );
    }
    assert_eq!(found_events, expected_events, "the watch events");
}

#[test]
fn zkcli_exits_with_the_result_of_a_single_command() {
    let directory = Directory::new("zkcli-exit");
    let server = Server::start(Kind::Zabra, directory.path(), &[]);
    let exit_code = |arguments: &[&str]| {
        zkcli(&server)
            .args(arguments)
            .output()
            .unwrap()
            .status
            .code()
    };
    assert_eq!(exit_code(&["create", "/single", "data"]), Some(0));
    assert_eq!(exit_code(&["create", "/single", "data"]), Some(1));
    assert_eq!(exit_code(&["get", "/single"]), Some(0));
}

fn zkcli(server: &Server) -> Command {
    let mut command = Command::new(peer("apache-zookeeper"));
    command.args(["cli", "-server", &server.address.to_string()]);
    command
}

/// The exchanges, and all events in order: they are printed by another thread than the output is.
fn read_transcript() -> (Vec<Exchange>, Vec<String>) {
    let mut exchanges: Vec<Exchange> = Vec::new();
    let mut events = Vec::new();
    for line in fs::read_to_string(peer("zkcli.txt")).unwrap().lines() {
        if let Some(command) = line.strip_prefix("> ") {
            exchanges.push(Exchange {
                command: command.into(),
                output: Vec::new(),
            });
        } else if let Some(event) = line.strip_prefix("! ") {
            events.push(event.to_owned());
        } else if !line.is_empty() && !line.starts_with('#') {
            exchanges.last_mut().unwrap().output.push(line.into());
        }
    }
    (exchanges, events)
}

/// After each command comes one whose complaint ends its output.
fn marker(number: usize) -> String {
    format!("/no-such-znode-{number}")
}

fn run_interactively(server: &Server, exchanges: &[Exchange]) -> String {
    let mut script = String::new();
    for (number, exchange) in exchanges.iter().enumerate() {
        script += &format!("{}\nstat {}\n", exchange.command, marker(number));
    }
    script += "quit\n";
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut process = zkcli(server)
        .stdin(Stdio::piped())
        .stdout(writer.try_clone().unwrap())
        .stderr(writer)
        .spawn()
        .unwrap();
    let mut input = process.stdin.take().unwrap();
    let typing = thread::spawn(move || input.write_all(script.as_bytes()));
    let printed = std::io::read_to_string(&mut reader).unwrap();
    typing.join().unwrap().unwrap();
    process.wait().unwrap();
    printed
}

/// Each command's output, and the events.
fn split(printed: &str, exchanges: &[Exchange]) -> (Vec<Vec<String>>, Vec<String>) {
    let mut outputs = Vec::new();
    let mut events = Vec::new();
    let mut output = Vec::new();
    let (_, printed) = printed
        .split_once(BANNER_END)
        .unwrap_or_else(|| panic!("{printed}"));
    for line in printed.lines() {
        if let Some(event) = line.strip_prefix(EVENT) {
            if !event.starts_with("None") {
                events.push(event.replace(" path:", " "));
            }
        } else if line == format!("Node does not exist: {}", marker(outputs.len())) {
            outputs.push(core::mem::take(&mut output));
        } else if !line.trim().is_empty() && line != "WATCHER::" {
            output.push(line.to_owned());
        }
    }
    assert_eq!(
        outputs.len(),
        exchanges.len(),
        "zkCli ended early:\n{printed}"
    );
    (outputs, events)
}

/// Whether a line is what a pattern with at most one `*` stands for.
fn matches(pattern: &str, line: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == line,
        Some((head, tail)) => line
            .strip_prefix(head)
            .is_some_and(|rest| rest.ends_with(tail)),
    }
}
