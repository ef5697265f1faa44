//! What is in `packaging`, checked by the tools that can do it without a cluster.

use std::process::Command;

use crate::report::Outcome;
use crate::setup;
use crate::workspace::{Workspace, on_path, run};

pub(crate) fn step(workspace: &Workspace) -> crate::Result {
    let Some(python) = setup::packaging_ready(workspace) else {
        return skipped("the linters are not installed (`cargo xtask setup`)");
    };
    let mut check = Command::new(python);
    check
        .arg(workspace.root.join("packaging/check.py"))
        .arg(workspace.server());
    run(&mut check)?;
    if on_path("systemd-analyze") {
        Ok(Outcome::Passed)
    } else {
        skipped("all but the unit is checked: systemd-analyze is missing (Debian: systemd)")
    }
}

fn skipped(why: &str) -> crate::Result {
    Ok(Outcome::Skipped(why.to_owned()))
}
