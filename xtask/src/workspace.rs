//! Where things are, what was asked for, and how a command is run.

use core::fmt::Write as _;
use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::wasm;

/// The workspace on disk and this run's options.
pub(crate) struct Workspace {
    /// The directory of the workspace's `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Cargo's target directory.
    pub(crate) target: PathBuf,
    /// Nothing may be skipped.
    pub(crate) ci: bool,
    /// Only what people wait for between two edits.
    pub(crate) quick: bool,
    /// Peers talk to Apache ZooKeeper: shows what they expect.
    pub(crate) baseline: bool,
    /// `rustup target add` is allowed.
    pub(crate) rustup_add: bool,
}

impl Workspace {
    pub(crate) fn find(flags: &[String]) -> Result<Self, String> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = manifest
            .parent()
            .ok_or("xtask has no parent directory")?
            .to_path_buf();
        let mut workspace = Self {
            target: target_directory(&root),
            root,
            ci: env::var("CI").is_ok_and(|value| value == "true"),
            quick: false,
            baseline: false,
            rustup_add: false,
        };
        for flag in flags {
            match flag.as_str() {
                "--quick" => workspace.quick = true,
                "--baseline" => workspace.baseline = true,
                "--rustup-add" => workspace.rustup_add = true,
                _ => return Err(format!("unknown option {flag:?}; `cargo xtask` lists them")),
            }
        }
        Ok(workspace)
    }

    /// Options of cargo for every step alike.
    pub(crate) fn features(&self) -> &'static [&'static str] {
        if wasm::available(self) {
            &[
                "--features",
                "zabra/wasm,zabra-sim/wasm,zabra-sandbox/compile",
            ]
        } else {
            &[]
        }
    }

    /// The server that the peers talk to. The quick loop takes the one that `cargo test` has built
    /// anyway.
    pub(crate) fn server(&self) -> PathBuf {
        self.target
            .join(if self.quick { "debug" } else { "release" })
            .join("zabra")
    }

    /// The directory with the peers' own sources.
    pub(crate) fn peers(&self) -> PathBuf {
        self.root.join("host/tests/peers")
    }

    /// Where downloaded peers and their logs go.
    pub(crate) fn peers_target(&self) -> PathBuf {
        self.target.join("peers")
    }

    /// The cargo that runs us, in the workspace's root.
    pub(crate) fn cargo<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(arguments).current_dir(&self.root);
        // What `cargo run` adds for us is not what it would see from a shell, and may cause
        // rebuilds.
        for (name, _) in env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
                command.env_remove(&*name);
            }
        }
        command.env("CARGO_TARGET_DIR", &self.target);
        command
    }
}

/// Two levels above our own binary: right with `CARGO_TARGET_DIR`, with a configured one, and
/// without.
fn target_directory(root: &Path) -> PathBuf {
    let binary = env::current_exe().ok();
    let target = binary
        .as_deref()
        .and_then(Path::parent)
        .and_then(Path::parent);
    target.map_or_else(|| root.join("target"), Path::to_path_buf)
}

/// Runs a command with our output and input.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let shown = show(command);
    eprintln!("$ {shown}");
    let status = command
        .status()
        .map_err(|error| format!("{shown}: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{shown}: {status}"))
    }
}

/// The first line of what a command prints, if it can be run and succeeds.
pub(crate) fn ask(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    output
        .status
        .success()
        .then(|| text.lines().next().unwrap_or_default().to_owned())
}

/// Whether a program is on the path.
pub(crate) fn on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

fn show(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        let _ = write!(text, " {}", argument.to_string_lossy());
    }
    text
}
