//! Our own module under a server with real clients: another one takes its place, and it runs out of
//! memory. Run by `cargo xtask host-wasm`, which names the module in `PEERS_CORE_MODULE`.
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
use std::path::{Path, PathBuf};
use std::time::Instant;
use std::{env, fs, thread};

use support::process::{Directory, Kind, Server};
use support::wire::{Acl, Client, Error, flags};

const SESSION_TIMEOUT_MS: i32 = 20_000;
const TIME_MAX: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);
/// Lives that end for want of memory.
const LIVES: usize = 3;
const NODE_EXISTS: i32 = -110;

/// Speaks an ABI that there is not.
const OTHER_ABI: &str = r#"(module
    (memory (export "memory") 1)
    (global (export "panicked") i32 (i32.const 16))
    (func (export "abi") (result i32) i32.const 99)
    (func (export "alloc") (param i32) (result i32) i32.const 0)
    (func (export "open") (param i32) (result i64) i64.const 0)
    (func (export "step") (param i32) (result i64) i64.const 0))"#;

fn module() -> PathBuf {
    let module = env::var_os("PEERS_CORE_MODULE");
    let module = module.expect("PEERS_CORE_MODULE names our module; `cargo xtask host-wasm` does");
    module.into()
}

/// A server with this core, and these lines in its zoo.cfg.
fn start(home: &Path, core: &Path, options: &[&str]) -> Server {
    let core = format!("core=wasm\ncore.module={}", core.display());
    let lines: Vec<&str> = [core.as_str()].iter().chain(options).copied().collect();
    Server::start(Kind::Configured, home, &lines)
}

/// The same session on a new connection.
fn reattach(address: SocketAddr, client: &Client) -> Client {
    let begun = Instant::now();
    loop {
        match Client::reattach(address, client) {
            Ok(client) => return client,
            Err(error) => assert!(begun.elapsed() < TIME_MAX, "{error:?}"),
        }
        thread::sleep(POLL);
    }
}

#[test]
fn another_core_takes_its_place_and_sessions_go_on() {
    let home = Directory::new("upgrade");
    let core = home.path().join("core.cwasm");
    fs::copy(module(), &core).unwrap();
    let mut server = start(home.path(), &core, &[]);
    let address = server.address;
    let mut client = Client::open(address, SESSION_TIMEOUT_MS).unwrap();
    let session = client.session_id;
    client
        .create("/e", None, &Acl::open(), flags::EPHEMERAL)
        .unwrap();
    client
        .create("/p", Some(b"0"), &Acl::open(), flags::PERSISTENT)
        .unwrap();

    let whole = fs::read(&core).unwrap();
    let other_abi = wat::parse_str(OTHER_ABI).unwrap();
    let refused = [
        (whole.get(..whole.len() / 2).unwrap(), "cut short"),
        (other_abi.as_slice(), "found version 99"),
        (b"no module", "expected a core of Zabra"),
    ];
    for (bytes, words) in refused {
        fs::write(&core, bytes).unwrap();
        server.hang_up();
        server.wait_for_log(words);
        client.set_data("/p", Some(b"1"), -1).unwrap();
    }
    let log = server.log();
    assert_eq!(log.matches("the core is not replaced").count(), 3, "{log}");

    fs::write(&core, &whole).unwrap();
    for round in 0..3 {
        let value = format!("{round}").into_bytes();
        client.set_data("/p", Some(&value), -1).unwrap();
        server.hang_up();
        while client.ping().is_ok() {
            thread::sleep(POLL);
        }
        client = reattach(address, &client);
        assert_eq!(client.session_id, session);
        let (_, stat) = client.data("/e", false).unwrap();
        assert_eq!(stat.ephemeral_owner, session);
        assert_eq!(client.data("/p", false).unwrap().0, Some(value));
    }
    let log = server.log();
    assert_eq!(log.matches("another core goes on").count(), 3, "{log}");
    server.assert_running();
    client.close().unwrap();
    server.stop();
}

#[test]
fn core_without_memory_loses_nothing_that_was_acknowledged() {
    let home = Directory::new("memory");
    let core = module();
    let mut server = start(
        home.path(),
        &core,
        &["core.memoryLimitInMb=16", "zabra.treeBytesMax=0"],
    );
    let mut acknowledged = Vec::new();
    let begun = Instant::now();
    let lacked = format!(
        "{}: the sandboxed core needs more memory than the 16777216 bytes it may have",
        core.display()
    );
    while server.log().matches(&lacked).count() < LIVES {
        server.assert_running();
        assert!(begun.elapsed() < 3 * TIME_MAX, "{}", server.log_end());
        let Ok(mut client) = Client::open(server.address, SESSION_TIMEOUT_MS) else {
            thread::sleep(POLL);
            continue;
        };
        loop {
            let path = format!("/n{}", acknowledged.len());
            let data = [7; 400_000];
            let created = client.create(&path, Some(&data), &Acl::open(), flags::PERSISTENT);
            match created {
                // It was done, and the answer was lost.
                Ok(_) | Err(Error::Code(NODE_EXISTS)) => acknowledged.push(path),
                Err(_) => break,
            }
        }
    }
    assert!(acknowledged.len() > 3, "{}", acknowledged.len());
    // It is not to be laid to what came last.
    assert!(
        !server.log().contains("trapped the core twice"),
        "{}",
        server.log()
    );
    server.kill();

    let server = Server::start(Kind::Configured, home.path(), &[]);
    let mut client = Client::open(server.address, SESSION_TIMEOUT_MS).unwrap();
    for path in &acknowledged {
        assert_eq!(client.data(path, false).unwrap().1.data_length, 400_000);
    }
    client.close().unwrap();
    server.stop();
}
