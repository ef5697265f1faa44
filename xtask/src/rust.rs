//! The steps that need nothing but cargo. All of them take the whole workspace with one set of
//! features, with WebAssembly if the module can be built: asking for single packages would unify
//! features differently and build dependencies again.

use std::process::Command;

use crate::report::Outcome;
use crate::workspace::{Workspace, run};

/// So many that the rarest of what a campaign must have met is among it. A bound in time would have
/// a busy machine meet less, and fail for it.
const SEEDS: &str = "450";

pub(crate) fn fmt(workspace: &Workspace) -> crate::Result {
    run(&mut workspace.cargo(&["fmt", "--all", "--check"]))?;
    Ok(Outcome::Passed)
}

pub(crate) fn clippy(workspace: &Workspace) -> crate::Result {
    let deny = ["--locked", "--", "-D", "warnings"];
    run(workspace
        .cargo(&["clippy", "--workspace", "--all-targets"])
        .args(workspace.features())
        .args(deny))?;
    // `test = false` keeps them out of a plain `cargo test`, and so out of --all-targets.
    run(workspace
        .cargo(&["clippy", "--workspace"])
        .args(["--test", "peers", "--test", "ensemble", "--test", "torture"])
        .args(if workspace.features().is_empty() {
            [].as_slice()
        } else {
            &["--test", "upgrade", "--test", "module"]
        })
        .args(workspace.features())
        .args(deny))?;
    // What most people build, and the small build: only what differs is looked at again.
    if !workspace.quick && !workspace.features().is_empty() {
        let small: [&[&str]; 2] = [&[], &["--features", "zabra/wasm-runtime"]];
        for features in small {
            run(workspace
                .cargo(&["clippy", "--workspace"])
                .args(features)
                .args(deny))?;
        }
    }
    Ok(Outcome::Passed)
}

pub(crate) fn unit(workspace: &Workspace) -> crate::Result {
    // One run tells everything that is wrong.
    run(workspace
        .cargo(&[
            "test",
            "--workspace",
            "--locked",
            "--quiet",
            "--no-fail-fast",
        ])
        .args(workspace.features()))?;
    Ok(Outcome::Passed)
}

pub(crate) fn build(workspace: &Workspace) -> crate::Result {
    run(workspace
        .cargo(&["build", "--workspace", "--locked", "--release"])
        .args(workspace.features()))?;
    Ok(Outcome::Passed)
}

pub(crate) fn sim(workspace: &Workspace) -> crate::Result {
    build(workspace)?;
    let simulator = workspace.target.join("release/zabra-sim");
    if !simulator.exists() {
        return Ok(Outcome::Skipped("the simulator has no program yet".into()));
    }
    run(Command::new(simulator)
        .args(["run", "--seeds", SEEDS])
        .current_dir(&workspace.root))?;
    Ok(Outcome::Passed)
}
