//! `zabra doctor` with servers of Apache ZooKeeper.

use std::process::{Command, Stdio};

use crate::support::process::{Directory, Kind, Server};

#[test]
fn doctor_looks_at_apache_zookeeper_as_at_our_servers() {
    let home = Directory::new("java-doctor");
    let server = Server::start(Kind::Apache, home.path(), &["maxClientCnxns=0"]);
    let output = Command::new(env!("CARGO_BIN_EXE_zabra"))
        .args(["doctor", "--timeout", "10"])
        .arg(server.address.to_string())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for expected in [
        "risk: ",
        "maxClientCnxns=0",
        "a standalone server, which serves",
        "snapshots and log are in one directory",
        "everybody may create znodes under the root",
    ] {
        assert!(said.contains(expected), "{expected:?} in:\n{said}");
    }
    // Its words mntr and cons were understood, and its clock is this one.
    assert!(!said.contains("not answered"), "{said}");
    assert!(!said.contains("clocks are"), "{said}");
    server.stop();

    // And at what it has left behind.
    let output = Command::new(env!("CARGO_BIN_EXE_zabra"))
        .args(["doctor", "--no-fsync"])
        .arg(home.path().join("data"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("the state can be read up to zxid"), "{said}");
}
