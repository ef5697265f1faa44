//! The server: the core's machine with its driver and its store.
//!
//! Start reading at [`run`].

pub mod driver;
mod ensemble;
mod full;
mod lives;
mod machine;
mod run;
#[cfg(feature = "wasm-runtime")]
mod sandbox;
mod secrets;

pub use run::{run, run_renewed};
#[cfg(feature = "wasm-runtime")]
pub(crate) use sandbox::embedded_core;
