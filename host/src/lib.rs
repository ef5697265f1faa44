//! Zabra as a library: server, configuration and command line.

pub mod admin;
pub mod audit;
pub mod backup;
pub mod cli;
pub mod config;
pub mod error;
pub mod histogram;
pub mod host_facts;
pub mod logging;
pub mod net;
pub mod server;
pub mod store;
pub mod tls;

pub use error::Error;
