//! The core for `wasm32-unknown-unknown`, with whichever toolchain can build it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use zabra_core_wasm_build::{Source, add_target};

use crate::module;
use crate::report::Outcome;
use crate::rust;
use crate::workspace::{Workspace, run};

pub(crate) use zabra_core_wasm_build::ways;

/// Builds and checks the module, and says where it is; `None` without a toolchain.
pub(crate) fn module(workspace: &Workspace) -> Result<Option<PathBuf>, String> {
    let Some(source) = find(workspace) else {
        return Ok(None);
    };
    eprintln!("the core as WebAssembly: {source}");
    let module = source.module(&workspace.root, &workspace.target.join("wasm"))?;
    check(&module)?;
    Ok(Some(module))
}

pub(crate) fn step(workspace: &Workspace) -> crate::Result {
    if module(workspace)?.is_none() {
        return Ok(Outcome::Skipped(ways()));
    }
    let Some(module) = compiled(workspace)? else {
        return Ok(Outcome::Passed);
    };
    run(workspace
        .cargo(&["test", "--workspace", "--locked", "--quiet"])
        .args(workspace.features())
        .args(["--test", "module"])
        .env("PEERS_CORE_MODULE", module))?;
    Ok(Outcome::Passed)
}

/// Runs of the simulator: how it looks at the module, with which servers, over how many seeds.
const RUNS: [(&str, &str, &str); 3] = [
    ("--beside", "1", "2000"),
    ("--beside", "3..7", "150"),
    ("--trapping", "3..7", "150"),
];

pub(crate) fn sim(workspace: &Workspace) -> crate::Result {
    rust::build(workspace)?;
    let Some(module) = compiled(workspace)? else {
        return Ok(Outcome::Skipped(ways()));
    };
    for (look, servers, seeds) in RUNS {
        run(Command::new(workspace.target.join("release/zabra-sim"))
            .arg(look)
            .arg(&module)
            .args(["run", "--no-marks", "--servers", servers, "--seeds", seeds])
            .current_dir(&workspace.root))?;
    }
    Ok(Outcome::Passed)
}

fn check(path: &Path) -> Result<(), String> {
    let shown = path.display();
    let bytes = fs::read(path).map_err(|error| format!("{shown}: {error}"))?;
    module::check(&bytes).map_err(|error| format!("{shown}: {error}"))?;
    eprintln!("{shown}: {} bytes", bytes.len());
    Ok(())
}

/// Whether [`step`] would find a toolchain.
pub(crate) fn available(workspace: &Workspace) -> bool {
    find(workspace).is_some()
}

fn find(workspace: &Workspace) -> Option<Source> {
    Source::find().or_else(|| {
        let added = workspace.rustup_add && add_target(&workspace.root);
        added.then_some(Source::Installed)
    })
}

/// The module that our server carries, compiled by it, so that tests need not do that at every
/// start; `None` if it carries none, or is a debug build, whose compiler takes a minute.
pub(crate) fn compiled(workspace: &Workspace) -> Result<Option<PathBuf>, String> {
    if workspace.quick || !available(workspace) {
        return Ok(None);
    }
    let server = workspace.server();
    let module = workspace.target.join("wasm").join("core.cwasm");
    let age = |path| fs::metadata(path).and_then(|data| data.modified()).ok();
    if age(&module).is_none_or(|compiled| age(&server).is_none_or(|built| built > compiled)) {
        run(Command::new(&server).args(["wasm", "compile"]).arg(&module))?;
    }
    Ok(Some(module))
}
