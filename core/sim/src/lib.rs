//! Deterministic simulator of the core.
//!
//! One server with its store, many clients, faults; every decision follows from a seed. What the
//! server does is judged by the [`oracle`], which knows from the [`model`] what it should do.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "what a check does not name is no business of it"
)]

pub mod boot;
pub mod border;
pub mod client;
pub mod disk;
pub mod drill;
pub mod ensemble;
pub mod marks;
pub mod model;
pub mod node;
pub mod oracle;
pub mod plan;
pub mod rng;
#[cfg(feature = "wasm")]
pub mod sandbox;
pub mod violation;
pub mod wire;
pub mod world;
