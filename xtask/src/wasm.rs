//! The core for `wasm32-unknown-unknown`, with whichever toolchain can build it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::module;
use crate::report::Outcome;
use crate::workspace::{Workspace, ask, run};

const TARGET: &str = "wasm32-unknown-unknown";
const PACKAGE: &str = "zabra-core-wasm";
/// Debian's packages rustc-web, cargo-web and rust-web-src: a toolchain and the sources of core and
/// alloc.
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_SOURCE: &str = "/usr/lib/rustlib/src/rust/library/core";

enum Toolchain {
    /// The one in use has the target.
    Installed,
    /// Debian's, which builds core and alloc itself.
    Debian,
}

pub(crate) fn step(workspace: &Workspace) -> crate::Result {
    if let Some(ready) = env::var_os("ZABRA_CORE_WASM") {
        check(Path::new(&ready))?;
        eprintln!("ZABRA_CORE_WASM={} is taken as it is", ready.display());
        return Ok(Outcome::Passed);
    }
    match find(workspace) {
        Some(Toolchain::Installed) => run(&mut workspace.cargo(&build_arguments(workspace)))?,
        Some(Toolchain::Debian) => run(&mut debian(workspace))?,
        None => {
            let ways = "`rustup target add wasm32-unknown-unknown`, `apt-get install rustc-web cargo-web \
                        rust-web-src`, or ZABRA_CORE_WASM=<a core built elsewhere>";
            return Ok(Outcome::Skipped(format!(
                "no toolchain for {TARGET}; any of these helps: {ways}"
            )));
        }
    }
    let built = workspace.target.join("wasm").join(TARGET).join("wasm");
    check(&built.join("zabra_core_wasm.wasm"))?;
    Ok(Outcome::Passed)
}

/// Where [`step`] leaves the module.
pub(crate) fn module(workspace: &Workspace) -> PathBuf {
    let built = || {
        let directory = workspace.target.join("wasm").join(TARGET);
        directory.join("wasm/zabra_core_wasm.wasm")
    };
    env::var_os("ZABRA_CORE_WASM").map_or_else(built, PathBuf::from)
}

/// Whether [`step`] would find a toolchain.
pub(crate) fn available(workspace: &Workspace) -> bool {
    env::var_os("ZABRA_CORE_WASM").is_some() || find(workspace).is_some()
}

fn check(path: &Path) -> Result<(), String> {
    let shown = path.display();
    let bytes = fs::read(path).map_err(|error| format!("{shown}: {error}"))?;
    module::check(&bytes).map_err(|error| format!("{shown}: {error}"))
}

fn find(workspace: &Workspace) -> Option<Toolchain> {
    if installed() || workspace.rustup_add && add(workspace) {
        return Some(Toolchain::Installed);
    }
    let debian = [DEBIAN_CARGO, DEBIAN_RUSTC, DEBIAN_SOURCE]
        .iter()
        .all(|path| Path::new(path).exists());
    debian.then_some(Toolchain::Debian)
}

/// Asks the rustc in use, not rustup: right with a toolchain file, and without rustup.
fn installed() -> bool {
    let libdir = ask(Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]));
    let files = libdir.and_then(|directory| fs::read_dir(directory).ok());
    files.is_some_and(|mut files| {
        files.any(|file| file.is_ok_and(|file| is_core(&file.file_name().to_string_lossy())))
    })
}

fn is_core(name: &str) -> bool {
    name.starts_with("libcore-") && Path::new(name).extension().is_some_and(|end| end == "rlib")
}

fn add(workspace: &Workspace) -> bool {
    let mut command = Command::new("timeout");
    command
        .args(["60", "rustup", "target", "add", TARGET])
        .current_dir(&workspace.root);
    run(&mut command).is_ok() && installed()
}

fn build_arguments(workspace: &Workspace) -> Vec<String> {
    // Two cargos must not wait for each other's lock, nor clear each other's files.
    let target = workspace.target.join("wasm").to_string_lossy().into_owned();
    [
        "rustc",
        "--lib",
        "--crate-type",
        "cdylib",
        "--profile",
        "wasm",
        "--locked",
        "-p",
        PACKAGE,
        "--target",
        TARGET,
        "--target-dir",
        &target,
    ]
    .map(str::to_owned)
    .to_vec()
}

fn debian(workspace: &Workspace) -> Command {
    let mut command = Command::new(DEBIAN_CARGO);
    command
        .args(build_arguments(workspace))
        .arg("-Zbuild-std=core,alloc")
        .current_dir(&workspace.root);
    for name in [
        "RUSTUP_TOOLCHAIN",
        "RUSTUP_HOME",
        "LD_LIBRARY_PATH",
        "RUSTC_WRAPPER",
        "CARGO",
    ] {
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
    let sysroot = ask(Command::new("rustc").args(["--print", "sysroot"]))?;
    let hosts = fs::read_dir(Path::new(&sysroot).join("lib/rustlib")).ok()?;
    hosts
        .filter_map(Result::ok)
        .map(|host| host.path().join("bin/rust-lld"))
        .find(|path| path.exists())
}
