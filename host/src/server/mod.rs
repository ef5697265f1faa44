//! The server: the core's machine with its driver and its store.
//!
//! Start reading at [`run`].

pub mod driver;
mod ensemble;
mod lives;
mod run;

pub use run::run;
