//! ZooKeeper's records and framings, without behaviour: what clients send, what logs and snapshots
//! hold.

pub mod client;
pub mod log;
pub mod records;
pub mod snapshot;
pub mod txn;
