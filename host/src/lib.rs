//! Zabra as a library: server, configuration and command line.

pub mod cli;
