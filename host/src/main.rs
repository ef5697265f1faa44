//! The `zabra` command.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use zabra::cli::bench::{self, BenchArgs};

/// ZooKeeper, run anywhere.
#[derive(Parser)]
#[command(name = "zabra", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Bench(BenchArgs),
}

fn main() -> ExitCode {
    let Command::Bench(args) = Cli::parse().command;
    match bench::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("zabra: {error}");
            ExitCode::FAILURE
        }
    }
}
