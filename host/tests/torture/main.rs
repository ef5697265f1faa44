//! Real servers that are killed, stopped, cut off, and run out of disk, under a load whose history
//! is then checked against the transactions in their logs.
//!
//! ```text
//! episode: cluster (servers in network namespaces) + load (recording clients) + faults, then
//! check:   history (the union of all logs) -> model -> every answer that a client had
//! ```
//!
//! Faults come one at a time or two at once, and while some of them last the membership is changed.
//!
//! Run by `cargo xtask torture`. Start reading at `episode`. Options: `--minutes N`, `--servers N`,
//! `--observers N`, `--seed N`, and `--only minority` or `--only episodes`.
#![expect(
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is what is wanted"
)]

mod change;
mod check;
mod client;
mod cluster;
mod episode;
mod fault;
mod forgery;
mod history;
mod load;
mod membership;
mod minority;
mod model;
mod network;
mod options;
mod random;

#[path = "../support"]
#[expect(dead_code, reason = "other tests use other parts of it")]
mod support {
    pub(crate) mod wire;
}

use std::process::{self, ExitCode};
use std::thread;
use std::time::Instant;

use network::Inside;
use options::{Options, Part};

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--help") {
        eprintln!("{}", options::HELP);
        return ExitCode::SUCCESS;
    }
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("error: {message}");
            return ExitCode::FAILURE;
        }
    };
    let namespaces = match network::enter(&options) {
        Inside::Left(code) => return code,
        Inside::Namespaces => true,
        Inside::Loopback => false,
    };
    watch_the_time(&options);
    let begun = Instant::now();
    if options.part != Some(Part::Episodes) {
        if namespaces {
            minority::run();
        } else {
            eprintln!("minority: left out, it needs network namespaces");
        }
    }
    if options.part != Some(Part::Minority) {
        episode::run_all(&options, namespaces);
    }
    eprintln!(
        "torture: ok, {} s; again with --seed {}",
        begun.elapsed().as_secs(),
        options.seed
    );
    ExitCode::SUCCESS
}

/// Whatever hangs ends. In a namespace of processes this is its first process: the others end with
/// it.
fn watch_the_time(options: &Options) {
    let time_max = options.time_max();
    thread::spawn(move || {
        thread::sleep(time_max);
        eprintln!("error: not finished after {} s", time_max.as_secs());
        process::exit(2);
    });
}
