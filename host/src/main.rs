//! The `zabra` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    zabra::cli::main()
}
