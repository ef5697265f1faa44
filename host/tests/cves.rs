//! The published vulnerabilities of Apache ZooKeeper, each by its number: docs/cves.md names the test
//! of every one, also of those that are with their subject.
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
use std::fs;
use std::process::{Command, Stdio};

use support::process::{Directory, Kind, Server};
use support::wire::{Acl, Client, Error, Reader, Writer, flags, op, word};

const SESSION_TIMEOUT_MS: i32 = 20_000;
const TIME_MAX: Duration = Duration::from_secs(20);
const NO_AUTH: i32 = -102;
const PERSISTENT_RECURSIVE: i32 = 1;
const READ: i32 = 1;
const ALL: i32 = 31;

fn start(home: &Directory, options: &[&str]) -> Server {
    Server::start(Kind::Zabra, home.path(), options)
}

fn client(server: &Server) -> Client {
    Client::open(server.address, SESSION_TIMEOUT_MS).unwrap()
}

/// A client that has shown to know this password.
fn known(server: &Server, secret: &str) -> Client {
    let mut client = client(server);
    client.add_auth("digest", secret.as_bytes()).unwrap();
    client
}

fn of_alice() -> Vec<Acl> {
    // base64(sha1("alice:secret"))
    vec![Acl::new(ALL, "digest", ALICE)]
}

const ALICE: &str = "alice:aYXlLOpEooaV1cRAvUL1fp9Qt7E=";

/// Secrets of the configuration were written into logs.
#[test]
fn cve_2026_24308_no_secret_is_in_a_log_an_error_or_an_answer() {
    const SECRETS: [&str; 3] = [
        "xQJmxLMiHGwaqBvst5y6rkB6HQs=",
        "canary-word",
        "canary-misspelt",
    ];
    let home = Directory::new("cve-2026-24308");
    let digest = format!(
        "DigestAuthenticationProvider.superDigest=super:{}",
        SECRETS[0]
    );
    let server = Server::start_within(home.path(), &[&digest], |program| {
        let mut command = Command::new(program);
        command.env("ZABRA_LOG_LEVEL", "trace");
        command
    });
    let mut known = known(&server, "bob:canary-word");
    let creator = [Acl::new(ALL, "auth", "")];
    known
        .create("/a", None, &creator, flags::PERSISTENT)
        .unwrap();
    assert!(known.add_auth("nobody", b"canary-word").is_err());
    let mut told = server.log();
    for name in [
        "conf", "envi", "cons", "dump", "stat", "mntr", "dirs", "wchp",
    ] {
        told += &word(server.address, name, TIME_MAX).unwrap();
    }
    server.stop();
    // What is refused is not shown either.
    let wrong = home.path().join("wrong.cfg");
    let text = format!(
        "dataDir={}\nclientPort=0\nDigestAuthenticationProvider.superDigest=canary-misspelt\n",
        home.path().display()
    );
    fs::write(&wrong, text).unwrap();
    for arguments in [["server", "--config"].as_slice(), ["doctor"].as_slice()] {
        let output = Command::new(env!("CARGO_BIN_EXE_zabra"))
            .args(arguments)
            .arg(&wrong)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(!output.status.success());
        let said =
            String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("superDigest"), "{said}");
        told += &said;
    }
    assert!(told.len() > 2000, "there is something to look through");
    for secret in SECRETS {
        assert!(!told.contains(secret), "{secret} in:\n{told}");
    }
}

/// A persistent watch told the paths of znodes to who may not read them.
#[test]
fn cve_2024_23944_a_watch_tells_nothing_of_what_its_client_may_not_read() {
    let home = Directory::new("cve-2024-23944");
    let server = start(&home, &[]);
    let mut alice = known(&server, "alice:secret");
    let mut spy = client(&server);
    let mut watch = Writer::default();
    watch.text("/").int(PERSISTENT_RECURSIVE);
    spy.call(op::ADD_WATCH, &watch).unwrap();
    alice
        .create("/hidden", None, &of_alice(), flags::PERSISTENT)
        .unwrap();
    alice.set_data("/hidden", Some(b"x"), -1).unwrap();
    alice
        .create("/hidden/child", None, &of_alice(), flags::PERSISTENT)
        .unwrap();
    alice.delete("/hidden/child", -1).unwrap();
    alice
        .create("/open", None, &Acl::open(), flags::PERSISTENT)
        .unwrap();
    spy.sync("/").unwrap();
    spy.ping().unwrap();
    let paths: Vec<&str> = spy.events.iter().map(|(_, path)| path.as_str()).collect();
    assert_eq!(paths, ["/open"], "what it may read is told");
    server.stop();
}

/// `getACL` showed the hashes of passwords to everybody.
#[test]
fn cve_2019_0201_getacl_shows_hashes_to_administrators_only() {
    let home = Directory::new("cve-2019-0201");
    let server = start(&home, &[]);
    let mut alice = known(&server, "alice:secret");
    let mut acl = of_alice();
    acl.push(Acl::new(READ, "world", "anyone"));
    alice.create("/a", None, &acl, flags::PERSISTENT).unwrap();
    alice
        .create("/b", None, &of_alice(), flags::PERSISTENT)
        .unwrap();
    let ids = |client: &mut Client, path: &str| -> Result<Vec<String>, Error> {
        let mut request = Writer::default();
        request.text(path);
        let body = client.call(op::GET_ACL, &request)?;
        let mut body = Reader(&body);
        let count = body.int()?;
        (0..count)
            .map(|_| {
                body.int()?;
                body.text()?;
                body.text()
            })
            .collect()
    };
    assert_eq!(ids(&mut alice, "/a").unwrap(), [ALICE, "anyone"]);
    let mut other = client(&server);
    assert_eq!(ids(&mut other, "/a").unwrap(), ["alice:x", "anyone"]);
    assert!(matches!(ids(&mut other, "/b"), Err(Error::Code(NO_AUTH))));
    server.stop();
}

/// Whoever reached the port could have every watch listed, again and again.
#[test]
fn cve_2017_5637_only_srvr_is_answered_unless_others_are_allowed() {
    let home = Directory::new("cve-2017-5637");
    // Later lines win over what tests usually have.
    let server = start(&home, &["4lw.commands.whitelist="]);
    for name in [
        "conf", "cons", "crst", "dirs", "dump", "envi", "gtmk", "isro", "mntr", "ruok", "srst",
        "stat", "stmk", "wchc", "wchp", "wchs",
    ] {
        let answer = word(server.address, name, TIME_MAX).unwrap();
        assert!(
            answer.contains("is not executed because it is not in the whitelist"),
            "{name}: {answer}"
        );
    }
    assert!(
        word(server.address, "srvr", TIME_MAX)
            .unwrap()
            .contains("Zxid")
    );
    server.stop();
}

/// A long command overran a buffer of the C client's shell.
#[test]
fn cve_2016_5017_endless_arguments_are_refused_with_an_error() {
    let long = "x".repeat(100_000);
    for arguments in [
        vec!["doctor", &long],
        vec!["ensemble", "status", &long],
        vec!["server", "--config", &long],
        vec![long.as_str()],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_zabra"))
            .args(&arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let code = output.status.code();
        assert!(
            matches!(code, Some(1 | 2)),
            "{code:?} by {:?}",
            arguments.first()
        );
        assert!(!(output.stdout.is_empty() && output.stderr.is_empty()));
    }
}
