//! A server whose core is a WebAssembly module: modules that are none, that give up over what is
//! on disk, and that some bytes trap. None of these modules is ours; they are a few instructions.
//!
//! With our own module the tests of `cargo xtask host-wasm` run, `upgrade.rs` among them.
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

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::{env, fs};

use support::process::{Directory, Kind, Server, free_address};
use support::wire::{Acl, Client, flags};
use zabra_sandbox::abi::ABI;

const READ_TIME_MAX: Duration = Duration::from_secs(20);
const SESSION_TIMEOUT_MS: i32 = 10_000;
/// What an operator must change.
const USAGE: i32 = 2;
const FAILURE: i32 = 1;

/// The answers "take it" and "nothing to do, nothing to wait for".
const TAKES_ALL: &str = "(i64.const 0x40000000001)";
const DOES_NOTHING: &str = "(i64.const 0x40000000003)";
/// Traps if the batch, behind its address, has the word "TRAP" in it.
const TRAPS_ON_A_WORD: &str = r"(local $at i32)
    (loop $next
        (if (i32.eq (i32.load (i32.add (local.get $at) (i32.const 65536)))
                    (i32.const 0x50415254))
            (then unreachable))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br_if $next (i32.lt_u (local.get $at) (local.get 0))))
    (i64.const 0x40000000003)";
const WORD: &[u8] = b"TRAP";

/// A module with our exports, whose `open` and `step` do this.
fn module(file: &Path, abi: u32, open: &str, step: &str) -> PathBuf {
    // The answers are zeros at 1024, batches at 65536.
    let text = format!(
        r#"(module
            (memory (export "memory") 64)
            (global (export "panicked") i32 (i32.const 16))
            (func (export "abi") (result i32) i32.const {abi})
            (func (export "alloc") (param i32) (result i32) i32.const 65536)
            (func (export "open") (param i32) (result i64) {open})
            (func (export "step") (param i32) (result i64) {step}))"#
    );
    fs::write(file, wat::parse_str(text).unwrap()).unwrap();
    file.to_owned()
}

fn zabra(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zabra"));
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("ZABRA_") || text.starts_with("ZOO_") {
            command.env_remove(&name);
        }
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

fn server(home: &Path, address: SocketAddr, core: &Path) -> Command {
    let data = home.join("data");
    let mut command = zabra(&["server", "--core", "wasm"]);
    command
        .arg("--core-module")
        .arg(core)
        .arg("--data-dir")
        .arg(data)
        .args(["--client-port", &address.port().to_string()]);
    command
}

/// The exit code and the log of a server that ends by itself.
fn end(home: &Path, core: &Path) -> (Option<i32>, String) {
    let output = server(home, free_address(), core).output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), log)
}

fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::read_dir(directory).unwrap();
    let files = files.map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.is_file() && !path.ends_with("zabra.lock"))
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

/// Data that the native core wrote.
fn home_with_data(name: &str) -> Directory {
    let home = Directory::new(name);
    let server = Server::start(Kind::Configured, home.path(), &[]);
    let mut client = Client::open(server.address, SESSION_TIMEOUT_MS).unwrap();
    client
        .create("/a", Some(b"1"), &Acl::open(), flags::PERSISTENT)
        .unwrap();
    client.close().unwrap();
    server.stop();
    home
}

#[test]
fn what_is_no_core_is_refused_with_file_expected_and_found() {
    let home = Directory::new("no-core");
    let file = home.path().join("core.wasm");
    let name = file.display().to_string();
    let refused = |words: &[&str]| {
        let (code, log) = end(home.path(), &file);
        assert_eq!(code, Some(USAGE), "{log}");
        for word in words {
            assert!(log.contains(word), "expected {word:?} in:\n{log}");
        }
        assert!(log.contains(&name) && !log.contains("panicked"), "{log}");
        assert!(!home.path().join("data").exists(), "nothing is created");
    };
    refused(&["No such file"]);
    fs::write(&file, "#!/bin/sh\n").unwrap();
    refused(&["expected a core of Zabra as a WebAssembly module, found"]);
    module(&file, 99, TAKES_ALL, DOES_NOTHING);
    refused(&["expected a core of ABI version", "found version 99"]);
    fs::write(&file, wat::parse_str("(module)").unwrap()).unwrap();
    refused(&["no export memory"]);

    let source = module(&home.path().join("a.wasm"), ABI, TAKES_ALL, DOES_NOTHING);
    let compiled = compile(&source, &file);
    assert!(compiled.status.success(), "{compiled:?}");
    let whole = fs::read(&file).unwrap();
    for bytes in [20, whole.len() / 2, whole.len() - 1] {
        fs::write(&file, whole.get(..bytes).unwrap()).unwrap();
        refused(&["a compiled core", "cut short"]);
    }
}

fn compile(source: &Path, to: &Path) -> Output {
    let mut command = zabra(&["wasm", "compile", "--core-module"]);
    command.arg(source).arg(to).output().unwrap()
}

#[test]
fn core_that_gives_up_over_what_is_on_disk_ends_the_process_and_leaves_the_disk() {
    let home = home_with_data("gives-up");
    let core = home.path().join("core.wasm");
    module(&core, ABI, "unreachable", DOES_NOTHING);
    let versioned = home.path().join("data/version-2");
    let before = contents(&versioned);
    assert!(before.len() >= 2, "a snapshot and a log");

    let (code, log) = end(home.path(), &core);

    assert_eq!(code, Some(FAILURE), "{log}");
    let begun = log.matches("begins anew with what is on disk").count();
    assert_eq!(begun, 4, "five attempts:\n{log}");
    let last = log.lines().last().unwrap();
    for word in [
        &*core.display().to_string(),
        "cannot open what is on disk",
        "unreachable",
        "native",
    ] {
        assert!(last.contains(word), "expected {word:?} in:\n{last}");
    }
    assert!(before == contents(&versioned), "the data is as it was");
    Server::start(Kind::Configured, home.path(), &[]).stop();
}

/// A connection that the server should see.
fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(READ_TIME_MAX)).unwrap();
    stream
}

/// Sends the word that traps, and waits until the server has closed the connection.
fn send_the_word(address: SocketAddr) {
    let mut stream = connect(address);
    stream.write_all(WORD).unwrap();
    let mut byte = [0];
    match stream.read(&mut byte) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("expected the end of the connection, found {other:?}"),
    }
}

#[test]
fn bytes_that_trap_twice_are_kept_and_cost_their_sender_the_connection() {
    let home = Directory::new("quarantine");
    let core = home.path().join("core.wasm");
    module(&core, ABI, TAKES_ALL, TRAPS_ON_A_WORD);
    let address = free_address();
    let log = home.path().join("log");
    let mut server = Server::spawn(server(home.path(), address, &core), address, log);
    server.wait_for_log("listening for clients");

    let trapped = format!("{}: the sandboxed core trapped: ", core.display());
    send_the_word(address);
    server.wait_for_log(&trapped);
    send_the_word(address);
    server.wait_for_log("trapped the core twice");
    // In the life after that nobody else suffers.
    let mut innocent = connect(address);
    innocent.write_all(b"hello").unwrap();
    send_the_word(address);
    server.wait_for_log("was closed: it brought 4 bytes that trapped the core twice");
    send_the_word(address);
    innocent
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let error = innocent.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock, "it is still open");
    server.assert_running();
    let text = server.log();
    assert_eq!(text.matches("begins anew").count(), 2, "{text}");
    server.stop();

    let data = home.path().join("data");
    let journals: Vec<PathBuf> = contents(&data)
        .into_keys()
        .filter(|path| path.extension().is_some_and(|end| end == "journal"))
        .collect();
    let [journal] = journals.as_slice() else {
        panic!("{journals:?}")
    };
    let again = replay(journal, &core);
    assert_eq!(again.status.code(), Some(FAILURE), "{again:?}");
    let said = String::from_utf8(again.stdout).unwrap();
    assert!(
        said.contains(" traps: the sandboxed core trapped"),
        "{said}"
    );
    // A core in which it is mended.
    module(&core, ABI, TAKES_ALL, DOES_NOTHING);
    let mended = replay(journal, &core);
    assert_eq!(mended.status.code(), Some(0), "{mended:?}");

    fs::write(journal, "ZABRA").unwrap();
    let none = replay(journal, &core);
    assert_eq!(none.status.code(), Some(USAGE), "{none:?}");
    let said = String::from_utf8(none.stderr).unwrap();
    assert!(
        said.contains("expected a journal's head at byte 0"),
        "{said}"
    );
}

#[test]
fn core_that_cannot_open_what_is_on_disk_does_not_replace_one_that_can() {
    let home = Directory::new("revert");
    let core = home.path().join("core.wasm");
    module(&core, ABI, TAKES_ALL, DOES_NOTHING);
    let address = free_address();
    let log = home.path().join("log");
    let mut server = Server::spawn(server(home.path(), address, &core), address, log);
    server.wait_for_log("listening for clients");
    // The second refuses everything, for the reason "no".
    let refuses = "(i32.store (i32.const 1024) (i32.const 0x6f6e0201)) (i64.const 0x40000000004)";
    for (number, open) in ["unreachable", refuses].into_iter().enumerate() {
        module(&core, ABI, open, DOES_NOTHING);
        server.hang_up();
        server.wait_for_logs("the core before it goes on", number + 1);
        server.wait_for_logs("data read", number + 2);
        let mut client = connect(address);
        client.write_all(b"hello").unwrap();
        server.assert_running();
    }
    let text = server.log();
    assert!(text.contains("core.wasm: no"), "{text}");
    assert_eq!(text.matches("another core goes on").count(), 2, "{text}");
    server.stop();
}

fn replay(journal: &Path, core: &Path) -> Output {
    let mut command = zabra(&["wasm", "replay", "--core-module"]);
    command.arg(core).arg(journal).output().unwrap()
}
