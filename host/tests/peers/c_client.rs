//! ZooKeeper's C client does each kind of operation.

use std::process::Command;

use crate::support::process::{Directory, Kind, Server, peer};

#[test]
fn c_client_does_each_kind_of_operation() {
    let directory = Directory::new("c-client");
    let program = directory.path().join("client");
    let compiled = Command::new("cc")
        .args(["-DTHREADED", "-Wall", "-Wextra", "-Werror", "-O1", "-o"])
        .arg(&program)
        .arg(peer("c/client.c"))
        .args(["-lzookeeper_mt", "-lpthread"])
        .status()
        .unwrap();
    assert!(compiled.success(), "the C program does not compile");
    let server = Server::start(
        Kind::Zabra,
        directory.path(),
        &["extendedTypesEnabled=true"],
    );
    let output = Command::new(&program)
        .arg(server.address.to_string())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{errors}\nserver's log:\n{}",
        server.log_end()
    );
}
