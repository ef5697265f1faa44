//! The server machine: connections, sessions and the request pipeline over the tree.

pub mod config;
pub mod io;

pub use config::Config;
pub use io::{Event, HostFacts, Input, Output, SnapshotOp, StoreOp};
