//! Build and test automation: `cargo xtask <step>`. What `.ci/run` calls and people call are the
//! same steps.
//!
//! Start reading at [`STEPS`].

mod bench;
mod examples;
mod module;
mod mutants;
mod packages;
mod peers;
mod report;
mod rust;
mod setup;
mod torture;
mod wasm;
mod workspace;

use std::process::ExitCode;

use crate::report::{Outcome, Report};
use crate::workspace::Workspace;

/// What one step gives: done, skipped with a reason, or what went wrong.
type Result = core::result::Result<Outcome, String>;

/// A step that runs alone as `cargo xtask <name>` and, in this order, as part of `cargo xtask
/// test`.
struct Step {
    name: &'static str,
    about: &'static str,
    run: fn(&Workspace) -> Result,
    /// Part of `cargo xtask test --quick` too.
    quick: bool,
}

const STEPS: &[Step] = &[
    Step {
        name: "setup",
        about: "install what the tests need: Debian packages (as root) and a Python environment",
        run: setup::step,
        quick: true,
    },
    Step {
        name: "fmt",
        about: "cargo fmt --check",
        run: rust::fmt,
        quick: true,
    },
    Step {
        name: "clippy",
        about: "every lint, warnings are errors",
        run: rust::clippy,
        quick: true,
    },
    Step {
        name: "unit",
        about: "cargo test --workspace",
        run: rust::unit,
        quick: true,
    },
    Step {
        name: "build",
        about: "the release binaries that the steps below test",
        run: rust::build,
        quick: true,
    },
    Step {
        name: "wasm",
        about: "the core for wasm32-unknown-unknown (--rustup-add: may add the target)",
        run: wasm::step,
        quick: false,
    },
    Step {
        name: "examples",
        about: "the hosts of examples/ serve kazoo, crash and are killed",
        run: examples::step,
        quick: false,
    },
    Step {
        name: "c",
        about: "ZooKeeper's C client against our server",
        run: peers::c,
        quick: true,
    },
    Step {
        name: "admin",
        about: "our AdminServer and audit log beside Apache ZooKeeper's, our metrics with promtool",
        run: peers::admin,
        quick: false,
    },
    Step {
        name: "java",
        about: "data directories there and back between Apache ZooKeeper and our server",
        run: peers::java,
        quick: false,
    },
    Step {
        name: "ensemble",
        about: "ensembles of our servers and Apache ZooKeeper's, releases 3.5 to 3.9, under load",
        run: peers::ensemble,
        quick: false,
    },
    Step {
        name: "zkcli",
        about: "Apache ZooKeeper's zkCli against our server",
        run: peers::zkcli,
        quick: false,
    },
    Step {
        name: "tls",
        about: "zkCli, kazoo and OpenSSL by TLS against our server",
        run: peers::tls,
        quick: false,
    },
    Step {
        name: "kazoo",
        about: "kazoo's own test-suite against our server",
        run: peers::kazoo,
        quick: false,
    },
    Step {
        name: "kazoo-wasm",
        about: "kazoo's own test-suite against our server with the core as a WebAssembly module",
        run: peers::kazoo_wasm,
        quick: false,
    },
    Step {
        name: "host-wasm",
        about: "the tests of server processes, again with the core as a WebAssembly module",
        run: peers::host_wasm,
        quick: false,
    },
    Step {
        name: "kazoo-ensemble",
        about: "kazoo's own test-suite against an ensemble of three of our servers",
        run: peers::kazoo_ensemble,
        quick: false,
    },
    Step {
        name: "packages",
        about: "systemd unit, image, manifests and chart, by the tools that lint them",
        run: packages::step,
        quick: false,
    },
    Step {
        name: "sim",
        about: "the simulator over many seeds",
        run: rust::sim,
        quick: true,
    },
    Step {
        name: "sim-wasm",
        about: "the simulator on the WebAssembly module: beside the native core, and trapping",
        run: wasm::sim,
        quick: false,
    },
    Step {
        name: "mutants",
        about: "the simulator finds planted mistakes ([NAME…], --sample N, --masters N)",
        run: mutants::step,
        quick: false,
    },
    Step {
        name: "torture",
        about: "real servers that are killed, cut off and out of disk (--help: its options)",
        run: torture::step,
        quick: false,
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (name, flags) = match arguments.split_first() {
        None => ("help", [].as_slice()),
        Some((name, flags)) => (name.as_str(), flags),
    };
    match dispatch(name, flags) {
        Ok(code) => code,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(name: &str, flags: &[String]) -> core::result::Result<ExitCode, String> {
    if name == "bench" {
        let workspace = Workspace::find(&[])?;
        return bench::run(&workspace.root, &workspace.target, flags);
    }
    if name == "torture" {
        let workspace = Workspace::find(&[])?;
        let mut report = Report::new(&workspace);
        report.run("torture", || torture::with(&workspace, flags));
        return Ok(report.finish());
    }
    if name == "mutants" {
        let workspace = Workspace::find(&[])?;
        let mut report = Report::new(&workspace);
        report.run("mutants", || mutants::with(&workspace, flags));
        return Ok(report.finish());
    }
    let workspace = Workspace::find(flags)?;
    match name {
        "help" | "--help" | "-h" => {
            help();
            Ok(ExitCode::SUCCESS)
        }
        "test" => Ok(test(&workspace)),
        _ => {
            let step = STEPS
                .iter()
                .find(|step| step.name == name)
                .ok_or_else(|| format!("no step is called {name:?}; `cargo xtask` lists them"))?;
            let mut report = Report::new(&workspace);
            report.run(step.name, || (step.run)(&workspace));
            Ok(report.finish())
        }
    }
}

/// Every step in order. A failed step does not keep the later ones from being tried: one run shows
/// all.
fn test(workspace: &Workspace) -> ExitCode {
    let mut report = Report::new(workspace);
    for step in STEPS.iter().filter(|step| step.quick || !workspace.quick) {
        report.run(step.name, || (step.run)(workspace));
    }
    report.finish()
}

#[expect(
    clippy::print_stdout,
    reason = "help was asked for, it is this command's output"
)]
fn help() {
    println!("cargo xtask <step>\n");
    println!(
        "  {:<8} every step below in order; --quick: the loop for people",
        "test"
    );
    for step in STEPS {
        let quick = if step.quick { "*" } else { " " };
        println!("{quick} {:<8} {}", step.name, step.about);
    }
    println!(
        "  {:<8} our server and Apache ZooKeeper side by side\n",
        "bench"
    );
    println!("* also part of `test --quick`\n");
    println!("--baseline   run a peer step with Apache ZooKeeper in our server's place");
    println!("CI=true      a step that is skipped counts as failed");
}
