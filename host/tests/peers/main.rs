//! Real peers: Apache ZooKeeper's server and command line client, and its C client. Run by `cargo
//! xtask test` (or `java`, `zkcli`, `c`), which sees to it that they are installed.
//!
//! `PEERS_SERVER` names the server under test, by default the one cargo has just built; with
//! `PEERS_BASELINE` set, Apache ZooKeeper takes its place, which shows that what is demanded here
//! is what Apache ZooKeeper does.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that panics has failed, which is what is wanted"
)]

mod admin;
mod backup;
mod c_client;
mod java;
mod sasl;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "other tests use other parts of it")]
mod support;
mod tls;
mod zkcli;
