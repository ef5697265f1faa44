//! Runs campaigns of seeds, and replays one.

mod shrink;

use core::panic::AssertUnwindSafe;
use std::io::Write;
use std::panic::catch_unwind;
use std::process::ExitCode;

use zabra_sim::marks::Marks;
use zabra_sim::plan::Plan;
use zabra_sim::violation::Violation;
use zabra_sim::world::{Report, World};

const USAGE: &str = "\
usage: zabra-sim run [--seeds N] [--from SEED] [--no-marks]
       zabra-sim replay SEED [-v]
       zabra-sim shrink SEED";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.split_first() {
        Some((&"run", options)) => match Campaign::parse(options) {
            Some(campaign) => campaign.run(),
            None => usage(),
        },
        Some((&"replay", [seed, options @ ..])) => match seed.parse() {
            Ok(seed) => replay(seed, options.contains(&"-v")),
            Err(_) => usage(),
        },
        Some((&"shrink", [seed])) => match seed.parse() {
            Ok(seed) => shrink::shrink(seed),
            Err(_) => usage(),
        },
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    say(USAGE);
    ExitCode::from(2)
}

/// Writes a line; that nobody reads it is no error of the run.
fn say(line: impl core::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Runs a plan; a panic of the core is a violation as any other.
fn run(plan: &Plan, is_verbose: bool) -> Report {
    let mut world = World::new(plan.clone(), is_verbose);
    let ran = catch_unwind(AssertUnwindSafe(|| world.run()));
    let violation = ran.unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Some(Violation::new("panic", text.unwrap_or_default()))
    });
    world.report(violation)
}

fn replay(seed: u64, is_verbose: bool) -> ExitCode {
    let report = run(&Plan::new(seed), is_verbose);
    say(&report);
    if report.violation.is_some() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// Many seeds.
struct Campaign {
    from: u64,
    seeds: u64,
    needs_marks: bool,
}

/// How often a seed is run twice, to see that it means the same both times.
const SELF_TEST_EVERY: u64 = 50;
/// How many failing seeds are shown before a campaign gives up.
const FAILURES_MAX: u64 = 5;

impl Campaign {
    fn parse(options: &[&str]) -> Option<Self> {
        let mut campaign = Self {
            from: 1,
            seeds: 1000,
            needs_marks: true,
        };
        let mut options = options.iter();
        while let Some(option) = options.next() {
            match *option {
                "--from" => campaign.from = options.next()?.parse().ok()?,
                "--no-marks" => campaign.needs_marks = false,
                "--seeds" => campaign.seeds = options.next()?.parse().ok()?,
                _ => return None,
            }
        }
        Some(campaign)
    }

    fn run(&self) -> ExitCode {
        let mut marks = Marks::default();
        let mut failures = 0;
        let mut events = 0;
        for seed in self.from..self.from + self.seeds {
            let report = run(&Plan::new(seed), false);
            events += report.events;
            marks.merge(&report.marks);
            let is_random = seed.is_multiple_of(SELF_TEST_EVERY)
                && run(&Plan::new(seed), false).trace_hash != report.trace_hash;
            if is_random {
                say(format_args!("seed {seed} is not the same twice"));
                failures += 1;
            }
            if let Some(violation) = &report.violation {
                failures += 1;
                say(format_args!("seed {seed} violates {violation}"));
                say(format_args!(
                    "  cargo run --release -p zabra-sim -- replay {seed}"
                ));
            }
            if failures >= FAILURES_MAX {
                break;
            }
        }
        for (name, count) in marks.iter() {
            say(format_args!("{count:>10} {name}"));
        }
        let missing = marks.missing();
        say(format_args!(
            "{} seeds, {events} events, {failures} failures",
            self.seeds
        ));
        if self.needs_marks && !missing.is_empty() {
            say(format_args!("never happened: {}", missing.join(", ")));
            return ExitCode::FAILURE;
        }
        if failures > 0 {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }
}
