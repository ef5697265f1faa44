//! Backups: what a server has on disk, copied while it runs, and brought back.
//!
//! A backup is ZooKeeper's own files as they are, a snapshot and the log after it, with a
//! [`Manifest`] that says what they are and how to tell that they are whole. It is read by
//! [`Source`], like a data directory; [`State`] is what either holds at one zxid, read by the rules
//! by which a server recovers. Nothing here writes to the directory of a server that may run, and
//! nothing here knows a second way to read a log or a snapshot.

mod archive;
mod client;
mod error;
mod follow;
mod manifest;
mod moment;
mod restore;
mod source;
mod state;
mod subtree;
mod verify;

pub use archive::{Format, Made, Take};
pub use client::{Auth, Client};
pub use error::Error;
pub use follow::{Follower, Shipped};
pub use manifest::{FileEntry, Manifest, VERSION};
pub use moment::{format_time, parse_time};
pub use restore::{Occupied, Restored, restore, restore_tree};
pub use source::{Source, read_log};
pub use state::{Point, State};
pub use subtree::{Existing, Subtree, Written, is_below};
pub use verify::{Content, check_log, check_order};
