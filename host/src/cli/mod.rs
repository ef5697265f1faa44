//! The command line of `zabra`.

pub mod bench;
