//! Deterministic simulator of the core.
