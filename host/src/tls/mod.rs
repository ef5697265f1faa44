//! TLS: keys and trust from files, and what a connection needs of them.
//!
//! It knows rustls and certificates, but no socket: [`net`](crate::net) moves the bytes. Nothing
//! here asks the name of an address (CVE-2026-24281): names come from the configuration. Start
//! reading at [`Context`].

mod context;
mod ec;
mod error;
mod names;
mod stores;
mod subject;
mod suites;
mod trust;
mod watch;

pub use context::Context;
pub use error::TlsError;
pub use names::Names;
pub use subject::{not_after, subject};
pub use watch::{Expiry, Watch};

/// What TLS may cost before a connection is one: handshakes under way at once, if the operator does
/// not say. One holds a few KiB, at worst 64 KiB of a message that never ends.
pub const HANDSHAKES_MAX: usize = 1000;
