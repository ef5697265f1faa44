//! The `zabra` program, run to its end.

use std::env;
use std::process::{Command, Stdio};

use super::process::is_baseline;

/// Exit code, standard output and standard error.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// The program with these arguments, and none of this process's settings.
pub(crate) fn command(arguments: &[&str]) -> Command {
    // With the baseline, only servers are somebody else's.
    let binary = env::var_os("PEERS_SERVER").filter(|_| !is_baseline());
    let binary = binary.unwrap_or_else(|| env!("CARGO_BIN_EXE_zabra").into());
    let mut command = Command::new(binary);
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("ZABRA_") || text.starts_with("ZOO_") {
            command.env_remove(&name);
        }
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs it.
pub(crate) fn zabra(arguments: &[&str]) -> Run {
    let output = command(arguments).output().unwrap();
    Run {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs it, and fails if it fails.
pub(crate) fn zabra_must(arguments: &[&str]) -> Run {
    let run = zabra(arguments);
    assert_eq!(run.code, Some(0), "{arguments:?}: {}{}", run.out, run.err);
    run
}
