//! The store on files: data directories, and the two threads that write logs and snapshots.
//!
//! The rules are the core's ([`zabra_core::store`]); here is only what touches the operating
//! system. Start reading at [`Directories::open`], then [`Lanes::start`].

mod compress;
mod directories;
mod disk;
mod error;
mod lanes;
mod numbers;
#[cfg(test)]
mod tests;

pub use directories::{Autocreate, Directories};
pub use disk::{FsDisk, FsFile, Fsyncs};
pub use error::Error;
pub use lanes::{LaneOptions, Lanes, Report};
