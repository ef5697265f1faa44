//! How a call into the module can fail.

use core::error::Error;
use core::fmt;

/// A call that did not return, or returned what cannot be. As a crash of that server: the instance
/// is dropped, and what the call would have asked for is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trap {
    /// The core panicked: its message with the place.
    Panicked(String),
    /// A step took longer than it may.
    Endless {
        /// The limit.
        step_ms_max: u64,
    },
    /// The module wanted more memory than it may have.
    OutOfMemory {
        /// The limit.
        memory_bytes_max: usize,
    },
    /// What the module returned is not a batch of its memory.
    Corrupt(String),
    /// Another trap of WebAssembly.
    Other(String),
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked(message) => write!(f, "the sandboxed core {message}"),
            Self::Endless { step_ms_max } => {
                write!(
                    f,
                    "a step of the sandboxed core took more than {step_ms_max} ms"
                )
            }
            Self::OutOfMemory { memory_bytes_max } => write!(
                f,
                "the sandboxed core needs more memory than the {memory_bytes_max} bytes it may have"
            ),
            Self::Corrupt(what) => write!(f, "the sandboxed core returned no batch: {what}"),
            Self::Other(trap) => write!(f, "the sandboxed core trapped: {trap}"),
        }
    }
}

impl Error for Trap {}
