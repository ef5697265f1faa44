//! Zabra's core for `wasm32-unknown-unknown`, built by whichever toolchain can.
//!
//! In this order: the module that `ZABRA_CORE_WASM` names; the toolchain in use, if it has the
//! target; Debian's, which builds `core` and `alloc` itself. Without dependencies, so that a build
//! script can use it.

use core::fmt;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The variable that names a module built elsewhere; a relative path is below the workspace.
pub const VARIABLE: &str = "ZABRA_CORE_WASM";

/// What the module is built for.
pub const TARGET: &str = "wasm32-unknown-unknown";

const PACKAGE: &str = "zabra-core-wasm";
const FILE: &str = "zabra_core_wasm.wasm";
/// Its own: neither cargo may wait for the other's lock.
const PROFILE: &str = "wasm";
/// LLVM's own is 225, with which the module would have over a million bytes.
const INLINING: &str = "-Cllvm-args=-inline-threshold=120";

/// Debian's packages rustc-web, cargo-web and rust-web-src: a toolchain and the sources of core and
/// alloc.
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_SOURCE: &str = "/usr/lib/rustlib/src/rust/library/core";

/// What cargo sets for a build script or for what it runs, and what a user sets for the host's own
/// code: none of it is about the module. A nested cargo that sees it fails at once, or builds
/// everything anew.
const NOT_ITS: [&str; 20] = [
    "CARGO",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_MAKEFLAGS",
    "CARGO_PRIMARY_PACKAGE",
    "CARGO_TARGET_DIR",
    "DEBUG",
    "HOST",
    "LD_LIBRARY_PATH",
    "MAKEFLAGS",
    "NUM_JOBS",
    "OPT_LEVEL",
    "OUT_DIR",
    "PROFILE",
    "RUSTC",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTDOC",
    "RUSTFLAGS",
    "TARGET",
];
const NOT_ITS_PREFIXES: [&str; 6] = [
    "CARGO_CFG_",
    "CARGO_FEATURE_",
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "CLIPPY_",
    "DEP_",
];

/// Where a module comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// It was built elsewhere.
    Given(PathBuf),
    /// The toolchain in use has the target.
    Installed,
    /// Debian's toolchain builds core and alloc itself.
    Debian,
}

impl Source {
    /// The first that there is.
    #[must_use]
    pub fn find() -> Option<Self> {
        if let Some(given) = env::var_os(VARIABLE).filter(|given| !given.is_empty()) {
            return Some(Self::Given(given.into()));
        }
        if installed() {
            return Some(Self::Installed);
        }
        let debian = [DEBIAN_CARGO, DEBIAN_RUSTC, DEBIAN_SOURCE];
        let debian = debian.iter().all(|path| Path::new(path).exists());
        debian.then_some(Self::Debian)
    }

    /// The module's file, built if it must be, for the workspace at `root`. What is built on the
    /// way is kept in `target`.
    ///
    /// # Errors
    /// What was run and failed, or which file is none.
    pub fn module(&self, root: &Path, target: &Path) -> Result<PathBuf, String> {
        let mut command = match self {
            Self::Given(file) => return given(&root.join(file)),
            Self::Installed => {
                let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
                cargo_build(Command::new(cargo), target)
            }
            Self::Debian => debian(target),
        };
        let status = command
            .current_dir(root)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .map_err(|error| format!("{command:?}: {error}"))?;
        if !status.success() {
            return Err(format!("{command:?}: {status}"));
        }
        Ok(target.join(TARGET).join(PROFILE).join(FILE))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(file) => write!(f, "{VARIABLE}={}", file.display()),
            Self::Installed => write!(f, "the installed toolchain's {TARGET}"),
            Self::Debian => write!(f, "Debian's toolchain, {DEBIAN_CARGO}"),
        }
    }
}

/// What to do when [`Source::find`] finds nothing.
#[must_use]
pub fn ways() -> String {
    format!(
        "no toolchain for {TARGET}; any of these helps: `rustup target add {TARGET}`, `apt-get \
         install rustc-web cargo-web rust-web-src`, or {VARIABLE}=<a core built elsewhere>"
    )
}

/// Asks rustup for the target. Only when the user asked for that: it changes the toolchain.
#[must_use]
pub fn add_target(root: &Path) -> bool {
    let mut command = Command::new("timeout");
    command
        .args(["60", "rustup", "target", "add", TARGET])
        .current_dir(root);
    command.status().is_ok_and(|status| status.success()) && installed()
}

fn given(file: &Path) -> Result<PathBuf, String> {
    let error = |what: &dyn fmt::Display| format!("{VARIABLE}={}: {what}", file.display());
    let bytes = fs::read(file).map_err(|source| error(&source))?;
    if bytes.starts_with(b"\0asm") || bytes.starts_with(b"ZABRA-CWASM") {
        Ok(file.to_owned())
    } else {
        let start = bytes.get(..8).unwrap_or(&bytes);
        Err(error(&format_args!(
            "expected a WebAssembly module or a compiled core, found {} bytes that begin with \
             {start:02x?}",
            bytes.len()
        )))
    }
}

/// Asks the rustc in use, not rustup: right with a toolchain file, and without rustup.
fn installed() -> bool {
    let libdir = ask(rustc().args(["--print", "target-libdir", "--target", TARGET]));
    let files = libdir.and_then(|directory| fs::read_dir(directory).ok());
    files.is_some_and(|mut files| {
        files.any(|file| file.is_ok_and(|file| is_core(&file.file_name().to_string_lossy())))
    })
}

fn is_core(name: &str) -> bool {
    name.starts_with("libcore-") && Path::new(name).extension().is_some_and(|end| end == "rlib")
}

fn cargo_build(mut command: Command, target: &Path) -> Command {
    let of_the_host = |name: &str| {
        NOT_ITS.contains(&name) || NOT_ITS_PREFIXES.iter().any(|it| name.starts_with(it))
    };
    for (name, _) in env::vars_os() {
        if of_the_host(&name.to_string_lossy()) {
            command.env_remove(name);
        }
    }
    command
        .env("CARGO_ENCODED_RUSTFLAGS", INLINING)
        .args(["rustc", "--lib", "--crate-type", "cdylib", "--locked"])
        .args(["-p", PACKAGE, "--profile", PROFILE, "--target", TARGET])
        .arg("--target-dir")
        .arg(target);
    command
}

fn debian(target: &Path) -> Command {
    let mut command = cargo_build(Command::new(DEBIAN_CARGO), target);
    command.arg("-Zbuild-std=core,alloc");
    for name in ["RUSTUP_TOOLCHAIN", "RUSTUP_HOME", "RUSTC_WRAPPER"] {
        command.env_remove(name);
    }
    // build-std is unstable; the compiler is a release.
    command
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTC", DEBIAN_RUSTC);
    let path = env::var_os("PATH").unwrap_or_default();
    let path = [PathBuf::from("/usr/bin")]
        .into_iter()
        .chain(env::split_paths(&path));
    if let Ok(path) = env::join_paths(path) {
        command.env("PATH", path);
    }
    if let Some(linker) = rust_lld() {
        command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
    }
    command
}

/// Debian's toolchain comes without a linker for WebAssembly, rustup's with one.
fn rust_lld() -> Option<PathBuf> {
    let sysroot = ask(rustc().args(["--print", "sysroot"]))?;
    let hosts = fs::read_dir(Path::new(&sysroot).join("lib/rustlib")).ok()?;
    hosts
        .filter_map(Result::ok)
        .map(|host| host.path().join("bin/rust-lld"))
        .find(|path| path.exists())
}

/// The compiler in use: for a build script, cargo says which.
fn rustc() -> Command {
    Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
}

/// The first line of what a command prints, if it can be run and succeeds.
fn ask(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    output
        .status
        .success()
        .then(|| text.lines().next().unwrap_or_default().to_owned())
}
