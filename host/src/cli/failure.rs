//! How the commands that read and write files end.

use std::io::{self, Write as _};
use std::process::ExitCode;

use super::USAGE;
use crate::{backup, store};

/// Why a command has not done what it was asked for.
pub(super) enum Failure {
    /// Nobody reads what is printed any more.
    Closed,
    /// Something failed. Everything that there is to say.
    Failed(String),
    /// All that is wrong has been said.
    Said,
    /// The command line is wrong.
    Usage(String),
}

impl Failure {
    /// The exit code, once the reason has been told.
    pub(super) fn code(done: Result<(), Self>) -> ExitCode {
        match done {
            // As with `head`: who does not want more is not told of an error.
            Ok(()) | Err(Self::Closed) => ExitCode::SUCCESS,
            Err(Self::Failed(message)) => {
                tell(&format!("error: {message}"));
                ExitCode::FAILURE
            }
            Err(Self::Said) => ExitCode::FAILURE,
            Err(Self::Usage(message)) => {
                tell(&format!("error: {message}"));
                ExitCode::from(USAGE)
            }
        }
    }
}

impl From<backup::Error> for Failure {
    fn from(error: backup::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Of standard output.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::Closed
        } else {
            Self::Failed(format!("cannot write to standard output: {error}"))
        }
    }
}

/// A line for a person.
pub(super) fn tell(line: &str) {
    // Unlike `eprintln`, this does not panic when nobody listens.
    let _closed = writeln!(io::stderr(), "{line}");
}

/// The word with its number: `1 server`, `2 servers`.
pub(super) fn count(number: usize, word: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {word}{plural}")
}
