//! Apache ZooKeeper's own client logs in by DIGEST-MD5, and sessions go from its server to ours.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::process::{Directory, Kind, Server, copy_directory, peer};
use crate::support::wire::Client;

const SERVER: &str = "Server {\n org.apache.zookeeper.server.auth.DigestLoginModule required\n \
                      user_bob=\"bob's \\\"password\\\"\"\n user_root=\"root's password\";\n};\n";
const SESSION_MS: i32 = 30_000;

/// What a client that logs in as somebody needs.
fn login(directory: &Path, user: &str, password: &str) -> std::path::PathBuf {
    let file = directory.join(format!("{user}-{}.conf", password.len()));
    let text = format!(
        "Client {{\n org.apache.zookeeper.server.auth.DigestLoginModule required\n \
         username=\"{user}\"\n password=\"{password}\";\n}};\n"
    );
    fs::write(&file, text).unwrap();
    file
}

/// Runs one command; whether it succeeded, and what was printed.
fn zkcli(server: &Server, login: Option<&Path>, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(peer("apache-zookeeper"));
    command.args(["cli", "-server", &server.address.to_string()]);
    if let Some(login) = login {
        command.env("CLIENT_JAAS", login);
    }
    let output = command.args(arguments).output().unwrap();
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed).into_owned();
    (output.status.success(), printed)
}

#[test]
fn java_clients_log_in_by_digest_md5() {
    let directory = Directory::new("sasl-java");
    let home = directory.path();
    fs::write(home.join("jaas.conf"), SERVER).unwrap();
    let lines = [
        "authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider",
        "superUser=root",
    ];
    let server = Server::start(Kind::Zabra, home, &lines);
    let bob = login(home, "bob", "bob's \\\"password\\\"");
    let root = login(home, "root", "root's password");
    let wrong = login(home, "bob", "guess");

    let create = ["create", "/bob", "data", "sasl:bob:cdrwa"];
    let (created, printed) = zkcli(&server, Some(&bob), &create);
    assert!(created, "{printed}");
    let get = ["get", "/bob"];
    for (login, may) in [(Some(&bob), true), (Some(&root), true), (None, false)] {
        let (done, printed) = zkcli(&server, login.map(|path| path.as_path()), &get);
        assert_eq!(done, may, "{login:?}: {printed}");
    }
    let (done, printed) = zkcli(&server, Some(&wrong), &get);
    assert!(!done, "{printed}");
    server.wait_for_log("there is no such user, or the password is wrong");
    assert!(!server.log().contains("bob's"), "no password is logged");
}

#[test]
fn only_java_clients_that_log_in_are_served_where_they_must() {
    let directory = Directory::new("sasl-java-required");
    let home = directory.path();
    fs::write(home.join("jaas.conf"), SERVER).unwrap();
    let server = Server::start(Kind::Zabra, home, &["sessionRequireClientSASLAuth=true"]);
    let bob = login(home, "bob", "bob's \\\"password\\\"");
    let (done, printed) = zkcli(&server, Some(&bob), &["create", "/a", "data"]);
    assert!(done, "{printed}");
    let (done, printed) = zkcli(&server, None, &["get", "/a"]);
    assert!(!done, "{printed}");
    server.wait_for_log("it has not authenticated by a scheme of enforce.auth.schemes");
}

/// Without a setting: who takes a directory over gives its sessions passwords that nobody can
/// compute, and a session is not lost by it.
#[test]
fn sessions_of_apache_zookeeper_are_resumed_and_get_other_passwords() {
    let directory = Directory::new("sasl-passwords");
    let (theirs, ours) = (
        directory.path().join("theirs"),
        directory.path().join("ours"),
    );
    let server = Server::start(Kind::Apache, &theirs, &[]);
    let before = Client::open(server.address, SESSION_MS).unwrap();
    server.kill();
    copy_directory(&theirs.join("data"), &ours.join("data"));

    let server = Server::start(Kind::Zabra, &ours, &[]);
    let resumed = Client::reattach(server.address, &before).unwrap();
    assert_ne!(resumed.password, before.password);
    server.kill();
    let server = Server::start(Kind::Zabra, &ours, &[]);
    let again = Client::reattach(server.address, &resumed).unwrap();
    assert_eq!(again.password, resumed.password);
    assert!(Client::reattach(server.address, &before).is_err());
}
