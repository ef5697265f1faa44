//! What crosses (core/wasm/ABI.md), for a server that stands alone. A `Vec<u8>` is written as bytes,
//! and an index that is less than 128 as a `u8`.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// The clock in microseconds, and the wall's in milliseconds.
pub type Now = (u64, i64);

/// A snapshot, transactions, their bytes; two epochs, and whether the history counts.
pub type Found = (bool, u64, u64, [i32; 2], bool);

#[derive(Serialize)]
pub enum Input {
    Link(u64, LinkInput),
    Stored(u64),
    SnapshotWritten(usize),
    SnapshotStored(i64),
    #[expect(dead_code, reason = "memory does not fail")]
    SnapshotFailed(i64),
    Facts(u64, [u64; 9], i32, u64),
}

#[derive(Serialize)]
pub enum LinkInput {
    Opened(u8, SocketAddr),
    Received(Vec<u8>),
    Flushed(usize),
    Closed,
}

/// When to step again, and what to do; events, which are passed over, are behind it.
pub type Stepped = (Option<u64>, Vec<Output>);

#[derive(Deserialize)]
pub enum Output {
    Link(u64, LinkOutput),
    Listen,
    Restart(String),
    Store(u64, StoreOp),
    Snapshot(SnapshotOp),
    AskFacts(u64),
}

#[derive(Deserialize)]
pub enum LinkOutput {
    Dial,
    Send(Vec<u8>),
    Pause,
    Resume,
    Close,
}

#[derive(Deserialize)]
pub enum StoreOp {
    Append(i64, Vec<u8>),
    Roll,
}

#[derive(Deserialize)]
pub enum SnapshotOp {
    Begin(i64),
    Chunk(Vec<u8>),
    End,
    Abandon,
}
