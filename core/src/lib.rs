//! Zabra's core: what Apache ZooKeeper's server does, as a deterministic state machine.
//!
//! Nothing here opens a socket, reads a clock, starts a thread or iterates a randomly ordered map:
//! a driver (the tokio host, the simulator, a WebAssembly host) hands in bytes and time, and
//! performs what [`Machine::step`] asks for. The same inputs give the same outputs, byte for byte.
//!
//! Start reading at [`server`], the machine.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod error;
pub mod ids;
pub mod jute;
pub mod lane;
pub mod link;
pub mod machine;
pub mod path;
mod sasl;
pub mod secret;
pub mod server;
mod sorted;
pub mod store;
pub mod tree;
pub mod wire;
pub mod zab;

pub use machine::Machine;
