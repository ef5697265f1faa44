//! Records and framings as they stand on the wire and on disk; no behaviour.

pub mod log;
