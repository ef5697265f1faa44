//! Clients and peers that are broken or mean harm, over real sockets: each is answered with ZooKeeper's error
//! or closed with a line in the log that says why, the server's memory stays within bounds, and a
//! session beside them fares as if they were not there.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that panics has failed, which is what is wanted"
)]

#[path = "hostile/fake.rs"]
mod fake;
#[path = "hostile/foreign.rs"]
mod foreign;
#[path = "hostile/frames.rs"]
mod frames;
#[path = "hostile/leaders.rs"]
mod leaders;
#[path = "hostile/loads.rs"]
mod loads;
#[path = "hostile/logins.rs"]
mod logins;
#[path = "hostile/peers.rs"]
mod peers;
#[path = "hostile/sessions.rs"]
mod sessions;
#[path = "support"]
#[expect(dead_code, reason = "other tests use other parts of it")]
mod support {
    pub(crate) mod process;
    pub(crate) mod raw;
    pub(crate) mod tree;
    pub(crate) mod wire;
    pub(crate) mod witness;
}

use core::time::Duration;

use support::process::{Directory, Kind, Server};
use support::witness::Witness;

const MIB: u64 = 1 << 20;

/// What a case may cost others.
struct Cost {
    /// By how much the server's memory may grow.
    memory_bytes_max: u64,
    /// How long an answer to somebody else may take, in a debug build on a busy machine.
    answer_ms_max: u64,
}

/// A few requests, or a few more connections.
const LITTLE: Cost = Cost {
    memory_bytes_max: 32 * MIB,
    answer_ms_max: 1500,
};

/// Runs a case against a server of its own, a witness beside it.
fn beside_a_witness(name: &str, options: &[&str], cost: &Cost, case: impl FnOnce(&Server)) {
    let home = Directory::new(name);
    let server = Server::start(Kind::Zabra, home.path(), options);
    let witness = Witness::start(server.address);
    let before = server.memory_bytes_most().unwrap_or(0);
    case(&server);
    let account = witness.conclude();
    let after = server.memory_bytes_most().unwrap_or(0);
    let grown = after.saturating_sub(before);
    eprintln!("{name}: {account:?}, grown by {} KiB", grown / 1024);
    let Cost {
        memory_bytes_max,
        answer_ms_max,
    } = *cost;
    assert!(
        grown <= memory_bytes_max,
        "expected at most {memory_bytes_max} bytes more, found {grown}"
    );
    assert!(
        account.slowest <= Duration::from_millis(answer_ms_max),
        "a well-behaved session waited: {account:?}"
    );
    let log = server.log();
    assert!(!log.contains("panicked"), "{log}");
    let (code, _) = server.signal("TERM");
    assert_eq!(code, Some(0), "it stops as if nothing had been");
}
