//! ZooKeeper's records and framings, without behaviour: what clients send, what logs and snapshots
//! hold, what servers of an ensemble tell each other.

pub mod audit;
pub mod client;
pub mod election;
pub mod log;
pub mod properties;
pub mod quorum;
pub mod records;
pub mod snapshot;
mod stream;
pub mod txn;
