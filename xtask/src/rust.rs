//! The steps that need nothing but cargo. All of them take the whole workspace with its one set of
//! features: asking for single packages would unify features differently and build dependencies
//! again.

use std::process::Command;

use crate::report::Outcome;
use crate::workspace::{Workspace, run};

const SEEDS: &str = "2000";
const SEEDS_QUICK: &str = "200";
/// Of a busy machine: what is not run by then is left to the next time.
const SIM_SECONDS_MAX: &str = "60";

pub(crate) fn fmt(workspace: &Workspace) -> crate::Result {
    run(&mut workspace.cargo(&["fmt", "--all", "--check"]))?;
    Ok(Outcome::Passed)
}

pub(crate) fn clippy(workspace: &Workspace) -> crate::Result {
    let deny = ["--locked", "--", "-D", "warnings"];
    run(workspace
        .cargo(&["clippy", "--workspace", "--all-targets"])
        .args(deny))?;
    // `test = false` keeps them out of a plain `cargo test`, and so out of --all-targets.
    run(workspace
        .cargo(&["clippy", "--workspace"])
        .args(["--test", "peers", "--test", "ensemble", "--test", "torture"])
        .args(deny))?;
    Ok(Outcome::Passed)
}

pub(crate) fn unit(workspace: &Workspace) -> crate::Result {
    run(&mut workspace.cargo(&["test", "--workspace", "--locked", "--quiet"]))?;
    Ok(Outcome::Passed)
}

pub(crate) fn build(workspace: &Workspace) -> crate::Result {
    run(&mut workspace.cargo(&["build", "--workspace", "--locked", "--release"]))?;
    Ok(Outcome::Passed)
}

pub(crate) fn sim(workspace: &Workspace) -> crate::Result {
    build(workspace)?;
    let seeds = if workspace.quick { SEEDS_QUICK } else { SEEDS };
    let simulator = workspace.target.join("release/zabra-sim");
    if !simulator.exists() {
        return Ok(Outcome::Skipped("the simulator has no program yet".into()));
    }
    run(Command::new(simulator)
        .args(["run", "--seeds", seeds, "--seconds", SIM_SECONDS_MAX])
        .current_dir(&workspace.root))?;
    Ok(Outcome::Passed)
}
