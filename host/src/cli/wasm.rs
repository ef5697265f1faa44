//! `zabra wasm`: what there is to do with a core that is a WebAssembly module.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use zabra_sandbox::journal::Kept;
use zabra_sandbox::{Engine, Module};

use super::USAGE;
use crate::server::embedded_core;

/// `zabra wasm COMMAND`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Compiles a module, so that a server starts with it at once
    #[cfg(feature = "wasm")]
    Compile {
        /// The module, .wasm [default: the one in this binary]
        #[arg(long, value_name = "FILE")]
        core_module: Option<PathBuf>,
        /// Where the compiled one is written; for servers of this build only
        #[arg(value_name = "OUT")]
        out: PathBuf,
    },
    /// Gives a journal that a server kept (zabra-trap-TIME.journal) to a module again; exit code 1
    /// if it traps
    Replay {
        /// The journal
        #[arg(value_name = "JOURNAL")]
        journal: PathBuf,
        /// The module [default: the one in this binary]
        #[arg(long, value_name = "FILE")]
        core_module: Option<PathBuf>,
    },
}

/// Runs a command.
pub(super) fn main(args: &Args) -> ExitCode {
    let done = match &args.command {
        #[cfg(feature = "wasm")]
        Command::Compile { core_module, out } => compile(core_module.as_deref(), out),
        Command::Replay {
            journal,
            core_module,
        } => replay(journal, core_module.as_deref()),
    };
    match done {
        Ok(code) => code,
        Err(message) => {
            // Unlike `eprintln`, this does not panic when nobody listens.
            let _closed = writeln!(io::stderr(), "error: {message}");
            ExitCode::from(USAGE)
        }
    }
}

#[cfg(feature = "wasm")]
fn compile(file: Option<&Path>, out: &Path) -> Result<ExitCode, String> {
    let (name, wasm) = match file {
        Some(file) => (file.display().to_string(), read(file)?),
        None => embedded()?,
    };
    let code = Module::compile(&name, &wasm).map_err(|error| error.to_string())?;
    fs::write(out, &code).map_err(|error| format!("{}: {error}", out.display()))?;
    say(&format!(
        "{}: {} bytes, compiled from {name}",
        out.display(),
        code.len()
    ));
    Ok(ExitCode::SUCCESS)
}

fn replay(journal: &Path, file: Option<&Path>) -> Result<ExitCode, String> {
    let of_journal = |error: &dyn core::fmt::Display| format!("{}: {error}", journal.display());
    let bytes = read(journal)?;
    let kept = Kept::read(&bytes).map_err(|error| of_journal(&error))?;
    let engine = Engine::new().map_err(|error| error.to_string())?;
    let module = match file {
        Some(file) => Module::load(&engine, file),
        None => {
            let (name, bytes) = embedded()?;
            Module::from_bytes(&engine, &name, &bytes)
        }
    };
    let module = module.map_err(|error| error.to_string())?;
    let replayed = kept.replay(&engine, &module);
    let replayed = replayed.map_err(|error| of_journal(&error))?;
    say(&format!("it ended with: {}", kept.trap));
    match replayed.trap {
        Some(trap) => {
            say(&format!("now call {} traps: {trap}", replayed.calls));
            Ok(ExitCode::FAILURE)
        }
        None => {
            say(&format!("now none of {} calls traps", replayed.calls));
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn embedded() -> Result<(String, Vec<u8>), String> {
    let (name, bytes) = embedded_core();
    let bytes =
        bytes.ok_or("this build of zabra has no module in it; name one by --core-module")?;
    Ok((name.to_owned(), bytes.to_vec()))
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|error| format!("{}: {error}", file.display()))
}

fn say(line: &str) {
    // There is nobody to tell if it fails.
    let _closed = writeln!(io::stdout(), "{line}");
}
