//! Why a measurement has no result, or one that does not count.

use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;
use std::io;

use zabra_core::error::ErrorCode;

/// Why a measurement has no result, or one that does not count.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The server closed a connection.
    Closed,
    /// No connection came about.
    Connect {
        /// With what.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// A system call failed.
    Io {
        /// What it was for.
        doing: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// There is no such process on this machine, or it cannot be looked at.
    NoProcess(u32),
    /// The server granted no session.
    NoSession,
    /// The server sent what the protocol does not allow.
    Protocol {
        /// What had to come.
        expected: &'static str,
        /// What came.
        found: i64,
    },
    /// The server refused requests.
    Refused {
        /// How many.
        count: u64,
        /// With which code the last of them.
        last: ErrorCode,
    },
    /// The work was not done in time.
    TimedOut {
        /// What was waited for.
        doing: &'static str,
        /// For how long.
        limit: Duration,
    },
    /// An address has no `:PORT`, or its host has no address.
    UnknownHost(String),
}

impl Error {
    /// For `map_err`: a failed system call and what it was for.
    pub(super) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io { doing, error }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => write!(f, "the server closed a connection"),
            Self::Connect { address, error } => {
                write!(f, "expected a server at {address}: {error}")
            }
            Self::Io { doing, error } => write!(f, "{doing}: {error}"),
            Self::NoProcess(pid) => write!(f, "--server-pid: no process {pid} in /proc"),
            Self::NoSession => write!(f, "the server granted no session"),
            Self::Protocol { expected, found } => {
                write!(
                    f,
                    "the server broke the protocol: expected {expected}, found {found}"
                )
            }
            Self::Refused { count, last } => {
                write!(
                    f,
                    "the server refused {count} requests, the last with {last}"
                )
            }
            Self::TimedOut { doing, limit } => {
                write!(f, "{doing}: not done within {} s", limit.as_secs())
            }
            Self::UnknownHost(host) => {
                write!(
                    f,
                    "expected HOST:PORT with a host that has an address, found {host:?}"
                )
            }
        }
    }
}

impl core::error::Error for Error {}
