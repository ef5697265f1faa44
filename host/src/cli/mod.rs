//! The command line: `zabra server`, and what else will come.
//!
//! Exit codes: 0 after a clean stop, 1 when something failed while running, 2 when the command line
//! or the configuration is wrong.

pub mod backup;
pub mod bench;
pub mod doctor;
pub mod ensemble;
mod failure;
pub mod log;
pub mod probe;
pub mod restore;
pub mod server;
mod show;
pub mod snapshot;
#[cfg(feature = "wasm-runtime")]
pub mod wasm;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A coordination server that speaks ZooKeeper's protocol.
///
/// Without a command it is `zabra server`.
#[derive(Parser)]
#[command(name = "zabra", version, args_conflicts_with_subcommands = true)]
#[command(after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    server: server::Options,
}

#[derive(Subcommand)]
enum Command {
    /// Copies what a server has on disk, while it runs.
    #[command(after_long_help = backup::AFTER_HELP)]
    Backup(backup::Args),
    /// Loads a server, or times its start.
    Bench(bench::BenchArgs),
    /// Says what is wrong with a configuration, a data directory or servers, and what to do
    Doctor(doctor::Args),
    /// Runs an ensemble on this machine, or looks at one anywhere.
    Ensemble(ensemble::Args),
    /// Prints the transactions in logs, or checks whether the logs are whole.
    #[command(after_long_help = log::AFTER_HELP)]
    Log(log::Args),
    /// Says by its exit code whether a server serves, for orchestrators
    Probe(probe::Args),
    /// Brings a backup back: all of it or one subtree, as it was at any point.
    #[command(after_long_help = restore::AFTER_HELP)]
    Restore(restore::Args),
    /// Runs a server until it is told to stop.
    Server(server::Args),
    /// Prints the znodes in a snapshot, a data directory or a backup, checks or compares them.
    #[command(after_long_help = snapshot::AFTER_HELP)]
    Snapshot(snapshot::Args),
    /// Compiles a core that is a WebAssembly module, or finds out why one trapped.
    #[cfg(feature = "wasm-runtime")]
    Wasm(wasm::Args),
}

const EXIT_CODES: &str = "Exit codes: 0 clean stop, 1 failure while running, 2 wrong \
                          command line or \
                          configuration";

/// Exit code for a wrong command line or configuration, as clap has it too.
const USAGE: u8 = 2;

/// Runs the command that the process's arguments ask for.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too, with exit code 0. There is nobody to tell if it
            // fails.
            let _closed_pipe = error.print();
            return u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
        }
    };
    match cli.command {
        Some(Command::Backup(args)) => backup::main(&args),
        Some(Command::Bench(args)) => match bench::run(args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                // Unlike `eprintln`, this does not panic when nobody listens.
                let _closed = writeln!(io::stderr(), "error: {error}");
                ExitCode::FAILURE
            }
        },
        Some(Command::Doctor(args)) => doctor::main(&args),
        Some(Command::Ensemble(args)) => ensemble::main(args),
        Some(Command::Log(args)) => log::main(&args),
        Some(Command::Probe(args)) => probe::main(&args),
        Some(Command::Restore(args)) => restore::main(&args),
        Some(Command::Server(args)) => server::main(args),
        Some(Command::Snapshot(args)) => snapshot::main(&args),
        #[cfg(feature = "wasm-runtime")]
        Some(Command::Wasm(args)) => wasm::main(&args),
        None => server::main(server::Args::from(cli.server)),
    }
}
