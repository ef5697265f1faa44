//! Runs campaigns of seeds, and replays one.
//!
//! Each seed is two runs: one of a server alone, whose every moment is judged, one of an ensemble.

mod shrink;

use core::panic::AssertUnwindSafe;
use std::io::Write;
use std::panic::catch_unwind;
use std::process::ExitCode;

use zabra_sim::ensemble::plan::Script;
use zabra_sim::ensemble::{self, text};
use zabra_sim::marks::Marks;
use zabra_sim::plan::Plan;
use zabra_sim::violation::Violation;
use zabra_sim::world::{Report, World};

const USAGE: &str = "\
usage: zabra-sim run [--seeds N] [--from SEED] [--seconds N] [--servers 1|3..7] [--no-marks]
       zabra-sim run FILE [-v]          a script; see core/sim/scenarios
       zabra-sim replay SEED [-v] [--servers 1|3..7]
       zabra-sim show SEED              the script of an ensemble's seed
       zabra-sim shrink SEED|FILE [--servers 1|3..7]

       zabra-sim --beside MODULE ...    every call natively and in the WebAssembly module
       zabra-sim --alone MODULE ...     servers of the module only
       zabra-sim --trapping MODULE ...  and some of them trap or lack memory
       (built with --features wasm)";

/// Which runs a seed stands for.
#[derive(Clone, Copy, Debug)]
struct Servers {
    /// Whether a server alone is among them.
    alone: bool,
    /// The least and the most servers of an ensemble, if there is one.
    ensemble: Option<(usize, usize)>,
}

impl Servers {
    const ALL: Self = Self {
        alone: true,
        ensemble: Some((3, 7)),
    };

    fn parse(word: &str) -> Option<Self> {
        if word == "1" {
            return Some(Self {
                alone: true,
                ensemble: None,
            });
        }
        let (least, most) = word.split_once("..").unwrap_or((word, word));
        Some(Self {
            alone: false,
            ensemble: Some((least.parse().ok()?, most.parse().ok()?)),
        })
    }

    fn of(options: &[&str]) -> Option<Self> {
        let at = options.iter().position(|option| *option == "--servers");
        match at {
            None => Some(Self::ALL),
            Some(at) => Self::parse(options.get(at + 1)?),
        }
    }

    /// The script of a seed, if it is one of an ensemble.
    fn script(self, seed: u64) -> Option<Script> {
        let (least, most) = self.ensemble?;
        let mut script = Script::new(seed);
        script.voters = script.voters.clamp(least, most);
        if most == 1 {
            script.observers = 0;
        }
        Some(script)
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let words = match words.as_slice() {
        [
            look @ ("--beside" | "--alone" | "--trapping"),
            module,
            words @ ..,
        ] => {
            if let Err(error) = choose(look, module) {
                say(error);
                return ExitCode::from(2);
            }
            words
        }
        words => words,
    };
    match words.split_first() {
        Some((&"run", [file, options @ ..])) if !file.starts_with('-') => {
            run_file(file, options.contains(&"-v"))
        }
        Some((&"run", options)) => match Campaign::parse(options) {
            Some(campaign) => campaign.run(),
            None => usage(),
        },
        Some((&"replay", [seed, options @ ..])) => match (seed.parse(), Servers::of(options)) {
            (Ok(seed), Some(servers)) => replay(seed, servers, options.contains(&"-v")),
            _ => usage(),
        },
        Some((&"show", [seed])) => seed.parse().map_or_else(
            |_| usage(),
            |seed| {
                say(Script::new(seed));
                ExitCode::SUCCESS
            },
        ),
        Some((&"shrink", [what, options @ ..])) => match Servers::of(options) {
            Some(servers) => shrink_what(what, servers),
            None => usage(),
        },
        _ => usage(),
    }
}

/// Makes servers of a module from now on.
#[cfg(feature = "wasm")]
fn choose(look: &str, module: &str) -> Result<(), String> {
    use zabra_sim::border;
    use zabra_sim::sandbox::{Look, Modules};

    let look = match look {
        "--beside" => Look::Beside,
        "--alone" => Look::Alone,
        _ => Look::Trapping,
    };
    let modules = Modules::load(module.as_ref(), look).map_err(|error| error.to_string())?;
    border::choose(Box::new(modules));
    Ok(())
}

#[cfg(not(feature = "wasm"))]
fn choose(look: &str, _: &str) -> Result<(), String> {
    Err(format!(
        "{look} needs a simulator built with --features wasm"
    ))
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
    let violation = ran.unwrap_or_else(|panic| Some(violation_of(&*panic)));
    world.report(violation)
}

/// Runs a script; a panic of the core is a violation as any other.
fn run_script(script: &Script, is_verbose: bool) -> Report {
    let mut world = ensemble::World::new(script.clone(), is_verbose);
    let ran = catch_unwind(AssertUnwindSafe(|| world.run()));
    let violation = ran.unwrap_or_else(|panic| Some(violation_of(&*panic)));
    world.report(violation)
}

fn violation_of(panic: &(dyn core::any::Any + Send)) -> Violation {
    let text = panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    Violation::new("panic", text.unwrap_or_default())
}

fn read(file: &str) -> Result<Script, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    text::parse(&text).map_err(|error| format!("{file}: {error}"))
}

fn run_file(file: &str, is_verbose: bool) -> ExitCode {
    match read(file) {
        Ok(script) => {
            let report = run_script(&script, is_verbose);
            say_marks(&report.marks);
            conclude(&report)
        }
        Err(error) => {
            say(error);
            ExitCode::from(2)
        }
    }
}

fn say_marks(marks: &Marks) {
    for (name, count) in marks.iter() {
        say(format_args!("{count:>10} {name}"));
    }
}

fn shrink_what(what: &str, servers: Servers) -> ExitCode {
    let Ok(seed) = what.parse() else {
        return match read(what) {
            Ok(script) => shrink::shrink_script(script),
            Err(error) => {
                say(error);
                ExitCode::from(2)
            }
        };
    };
    match servers.script(seed) {
        Some(script) if !servers.alone => shrink::shrink_script(script),
        _ => shrink::shrink(seed),
    }
}

fn conclude(report: &Report) -> ExitCode {
    say(report);
    if report.violation.is_some() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn replay(seed: u64, servers: Servers, is_verbose: bool) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    if servers.alone {
        code = conclude(&run(&Plan::new(seed), is_verbose));
    }
    match servers.script(seed) {
        Some(script) if code == ExitCode::SUCCESS => conclude(&run_script(&script, is_verbose)),
        _ => code,
    }
}

/// Many seeds.
struct Campaign {
    from: u64,
    seeds: u64,
    seconds_max: u64,
    servers: Servers,
    needs_marks: bool,
}

/// How often a seed is run twice, to see that it means the same both times.
const SELF_TEST_EVERY: u64 = 50;
/// How many failing seeds are shown before a campaign gives up.
const FAILURES_MAX: u64 = 5;

/// What a campaign has come to.
#[derive(Default)]
struct Tally {
    marks: Marks,
    seeds: u64,
    failures: u64,
    events: u64,
}

impl Campaign {
    fn parse(options: &[&str]) -> Option<Self> {
        let mut campaign = Self {
            from: 1,
            seeds: 1000,
            seconds_max: u64::MAX,
            servers: Servers::ALL,
            needs_marks: true,
        };
        let mut options = options.iter();
        while let Some(option) = options.next() {
            match *option {
                "--from" => campaign.from = options.next()?.parse().ok()?,
                "--no-marks" => campaign.needs_marks = false,
                "--seconds" => campaign.seconds_max = options.next()?.parse().ok()?,
                "--seeds" => campaign.seeds = options.next()?.parse().ok()?,
                "--servers" => campaign.servers = Servers::parse(options.next()?)?,
                _ => return None,
            }
        }
        Some(campaign)
    }

    #[expect(
        clippy::disallowed_types,
        reason = "how long a campaign runs is no part of a run"
    )]
    fn run(&self) -> ExitCode {
        let begun = std::time::Instant::now();
        let mut tally = Tally::default();
        for seed in self.from..self.from + self.seeds {
            if begun.elapsed().as_secs() >= self.seconds_max || tally.failures >= FAILURES_MAX {
                break;
            }
            tally.seeds += 1;
            if self.servers.alone {
                let plan = Plan::new(seed);
                tally.take(seed, "1", || run(&plan, false));
            }
            if let Some(script) = self.servers.script(seed) {
                tally.take(seed, "3..7", || run_script(&script, false));
            }
        }
        say_marks(&tally.marks);
        let millis = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let per_second = tally.events * 1000 / millis.max(1);
        say(format_args!(
            "{} seeds, {} events, {per_second} events/s, {} failures",
            tally.seeds, tally.events, tally.failures
        ));
        let missing = tally
            .marks
            .missing(self.servers.alone, self.servers.ensemble.is_some());
        if self.needs_marks && !missing.is_empty() {
            say(format_args!("never happened: {}", missing.join(", ")));
            return ExitCode::FAILURE;
        }
        if tally.failures > 0 {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }
}

impl Tally {
    /// Runs a seed, now and then twice.
    fn take(&mut self, seed: u64, servers: &str, run: impl Fn() -> Report) {
        let report = run();
        self.events += report.events;
        self.marks.merge(&report.marks);
        let is_random =
            seed.is_multiple_of(SELF_TEST_EVERY) && run().trace_hash != report.trace_hash;
        if is_random {
            say(format_args!("seed {seed} is not the same twice"));
            self.failures += 1;
        }
        if let Some(violation) = &report.violation {
            self.failures += 1;
            say(format_args!(
                "seed {seed} of {servers} violates {violation}"
            ));
            say(format_args!(
                "  cargo run --release -p zabra-sim -- replay {seed} --servers {servers} -v"
            ));
        }
    }
}
