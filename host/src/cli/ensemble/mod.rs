//! `zabra ensemble`: a local ensemble in one command, the state of any ensemble, and servers
//! started and stopped on other machines.
//!
//! It runs and asks servers; it takes no part in an ensemble itself.

pub(super) mod address;
pub(super) mod condition;
mod hosts;
mod layout;
mod ports;
mod process;
mod remote;
mod ssh;
pub(super) mod status;
mod stop;
mod table;
mod up;
pub(super) mod verdict;
pub(super) mod word;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Subcommand;

use super::USAGE;
use super::failure::{count, tell};

/// `zabra ensemble`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Starts the servers of a file of hosts over ssh
    #[command(after_long_help = hosts::FORMAT)]
    Start(remote::StartArgs),
    /// Shows every server's role and condition, and whether the ensemble is well
    #[command(after_long_help = status::AFTER_HELP)]
    Status(status::Args),
    /// Stops the servers of a file of hosts over ssh
    #[command(after_long_help = hosts::FORMAT)]
    Stop(remote::StopArgs),
    /// Runs an ensemble on this machine until it is told to stop
    #[command(after_long_help = up::AFTER_HELP)]
    Up(up::Args),
}

/// Why a command has not done what it was asked for.
enum Failure {
    /// The command line, or a file that it names, is wrong.
    Usage(String),
    /// Something failed on the way. Everything that there is to say.
    Running(String),
    /// All that is wrong has been said.
    Said,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Running(error.to_string())
    }
}

/// Runs the command.
pub(super) fn main(args: Args) -> ExitCode {
    let done = match args.command {
        Command::Start(args) => remote::start(&args),
        Command::Status(args) => status::run(&args),
        Command::Stop(args) => remote::stop(&args),
        Command::Up(args) => up::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(message)) => {
            tell(&format!("error: {message}"));
            ExitCode::from(USAGE)
        }
        Err(Failure::Running(message)) => {
            tell(&format!("error: {message}"));
            ExitCode::FAILURE
        }
        Err(Failure::Said) => ExitCode::FAILURE,
    }
}

/// What the command was asked for.
fn print(text: &str) {
    let mut out = io::stdout();
    // As above.
    let _closed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
