//! Deterministic simulator of the core.

pub mod marks;
pub mod model;
pub mod oracle;
pub mod rng;
pub mod violation;
pub mod wire;
