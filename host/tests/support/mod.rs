//! What tests over sockets share: a server in a process of its own and a client of a few hundred
//! lines that has nothing in common with ours, so that the two cannot agree on a mistake.

pub(crate) mod acts;
pub(crate) mod backups;
pub(crate) mod certs;
pub(crate) mod cli;
pub(crate) mod http;
pub(crate) mod process;
pub(crate) mod raw;
pub(crate) mod tree;
pub(crate) mod wire;
pub(crate) mod writers;
