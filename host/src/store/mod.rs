//! The store on files: data directories, and the two threads that write logs and snapshots.
//!
//! The rules are the core's ([`zabra_core::store`]); here is only what touches the operating
//! system. Start reading at [`Directories::open`], then [`Lanes::start`].

mod compress;
mod directories;
mod disk;
mod error;
mod frozen;
mod lanes;
mod numbers;
mod room;
#[cfg(test)]
mod tests;

pub use directories::{Autocreate, Directories, VERSION};
pub(crate) use disk::sync_directory;
pub use disk::{FsDisk, FsFile, Fsyncs};
pub use error::Error;
pub use frozen::{Frozen, Part, Section};
pub use lanes::{LaneOptions, Lanes, Report};
pub use room::Room;
pub(crate) use room::{free_min, space};
