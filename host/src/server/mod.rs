//! The server: the core's machine with its driver.

pub mod driver;
