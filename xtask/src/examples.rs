//! The hosts of `examples/`, which know nothing of ours but the module and its contract, and a
//! client that we did not write either.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::report::Outcome;
use crate::setup;
use crate::wasm;
use crate::workspace::{Workspace, on_path, run};

/// So few transactions between two snapshots that they come while the client writes.
const SNAPSHOT_TXNS: &str = "200";

pub(crate) fn step(workspace: &Workspace) -> crate::Result {
    let Some(kazoo) = setup::python_ready(workspace) else {
        return skipped("kazoo is not installed (`cargo xtask setup`)");
    };
    let Some(built) = wasm::module(workspace)? else {
        return Ok(Outcome::Skipped(wasm::ways()));
    };
    let check = |host: &[&str]| {
        let mut command = Command::new(&kazoo);
        command.arg("check.py").args(host);
        run(command.current_dir(examples(workspace)))
    };
    let module = built.to_string_lossy();
    let options = [
        "--module",
        &*module,
        "--data",
        "{data}",
        "--port",
        "{port}",
        "--snapshot-txns",
        SNAPSHOT_TXNS,
    ];
    let plugin_host = plugin_host(workspace)?;
    let plugins = plugins(workspace, &built)?;
    check(&[
        "--forgets",
        &plugin_host.to_string_lossy(),
        &plugins.to_string_lossy(),
        "{port}",
    ])?;
    // Whatever is missing, the others have been tried.
    let mut missing = Vec::new();
    if on_path("node") {
        check(&[&["node", "js-host/host.mjs"], options.as_slice()].concat())?;
    } else {
        missing.push("Node.js (`apt-get install nodejs`)");
    }
    if let Some(python) = setup::python_host_ready(workspace) {
        let python = python.to_string_lossy();
        check(&[&[&*python, "python-host/host.py"], options.as_slice()].concat())?;
    } else {
        missing.push("the package for examples/python-host (`cargo xtask setup`)");
    }
    if missing.is_empty() {
        Ok(Outcome::Passed)
    } else {
        skipped(&format!("missing: {}", missing.join(", ")))
    }
}

/// Builds it: outside of the workspace, for nobody else needs what it needs.
fn plugin_host(workspace: &Workspace) -> Result<PathBuf, String> {
    let target = workspace.target.join("examples");
    let manifest = examples(workspace).join("plugin-host/Cargo.toml");
    let mut command = workspace.cargo(&["build", "--locked", "--manifest-path"]);
    command.arg(manifest).env("CARGO_TARGET_DIR", &target);
    run(&mut command)?;
    Ok(target.join("debug/plugin-host"))
}

/// A directory with the plugins of the example and the node.
fn plugins(workspace: &Workspace, node: &Path) -> Result<PathBuf, String> {
    let directory = workspace.target.join("examples/plugins");
    let failed = |error| format!("{}: {error}", directory.display());
    fs::create_dir_all(&directory).map_err(failed)?;
    let copy = |from: &Path| -> std::io::Result<()> {
        let name = from.file_name().unwrap_or_default();
        fs::copy(from, directory.join(name)).map(drop)
    };
    let own = fs::read_dir(examples(workspace).join("plugin-host/plugins")).map_err(failed)?;
    for plugin in own {
        copy(&plugin.map_err(failed)?.path()).map_err(failed)?;
    }
    copy(node).map_err(failed)?;
    Ok(directory)
}

fn examples(workspace: &Workspace) -> PathBuf {
    workspace.root.join("examples")
}

fn skipped(why: &str) -> crate::Result {
    Ok(Outcome::Skipped(why.to_owned()))
}
