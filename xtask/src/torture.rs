//! Real servers whose network, disks and processes fail.

use crate::report::Outcome;
use crate::rust;
use crate::workspace::{Workspace, on_path, run};

/// What a run needs of the system to cut servers off; without it the test says what it leaves out.
pub(crate) const PROGRAMS: [(&str, &str); 4] = [
    ("nft", "nftables"),
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
    ("strace", "strace"),
];

/// As part of `cargo xtask test`.
pub(crate) fn step(workspace: &Workspace) -> crate::Result {
    with(workspace, &[])
}

/// With options of its own: `--minutes`, `--servers`, `--seed` and what else the test takes, which
/// `--help` prints.
pub(crate) fn with(workspace: &Workspace, options: &[String]) -> crate::Result {
    let help = options.iter().any(|option| option == "--help");
    if !help {
        rust::build(workspace)?;
    }
    for (program, package) in PROGRAMS {
        if !on_path(program) {
            eprintln!("torture: no {program} (`apt-get install {package}`)");
        }
    }
    // The feature set of the whole workspace, as everywhere, or dependencies would be built again.
    let mut command =
        workspace.cargo(&["test", "--workspace", "--locked", "--test", "torture", "--"]);
    let server = workspace.target.join("release/zabra");
    run(command.args(options).env("TORTURE_SERVER", server))?;
    Ok(Outcome::Passed)
}
