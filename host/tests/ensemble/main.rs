//! Ensembles of our servers and Apache ZooKeeper's, releases 3.5 to 3.9, under load. Run by `cargo
//! xtask test` (or `ensemble`), which sees to it that they are installed.
//!
//! `PEERS_SERVER` and `PEERS_BASELINE` are those of `host/tests/peers`: with the latter, Apache
//! ZooKeeper is in our place, which shows that what is demanded here is what its ensembles do.
#![expect(
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is what is wanted"
)]

mod hanging;
mod hierarchy;
mod history;
mod load;
mod locals;
mod members;
mod membership;
mod mixed;
mod quotas;
mod rejoin;
mod restored;
mod rolling;
mod sasl;
mod session;
mod sessions;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "other tests use other parts of it")]
mod support;
mod tls;
mod watcher;
