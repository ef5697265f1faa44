//! Plants mutants in the core, one at a time, and sees whether the simulator finds them.
//!
//! A simulator that finds nothing may be blind. Each file of `core/sim/mutants` brings one known
//! mistake back; random seeds must show it within the mutant's budget, or the simulator is to be
//! mended. The sources are never touched: a copy is, under the target directory.

mod planted;

use core::time::Duration;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Instant;

use crate::report::Outcome;
use crate::workspace::{Workspace, ask};

use planted::Mutant;

/// How many mutants `cargo xtask test` tries.
const SAMPLE: usize = 3;
/// Where the seeds of a mutant begin: far from those that everybody runs all day.
const MASTERS: [u64; 5] = [1_000_000, 2_000_000, 3_000_000, 4_000_000, 5_000_000];
/// For how long the core is run without a mutant first.
const CONTROL_SECONDS: u64 = 15;
/// How often a running simulator is looked at.
const POLL: Duration = Duration::from_millis(200);
/// On a machine with much else to do, so many times its budget a mutant may take by the wall.
const WALL_FACTOR: f64 = 8.0;
/// The profile: quick to build anew after a change of one file. Overflow is checked as in release.
const PROFILE: [(&str, &str); 4] = [
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "64"),
    ("CARGO_PROFILE_RELEASE_INCREMENTAL", "true"),
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1"),
];

/// As part of `cargo xtask test`: a few, other ones with each commit.
pub(crate) fn step(workspace: &Workspace) -> crate::Result {
    with(workspace, &["--sample".to_owned(), SAMPLE.to_string()])
}

/// What is asked for.
struct Options {
    names: Vec<String>,
    sample: Option<usize>,
    masters: usize,
    /// No budget is greater.
    seconds: u64,
}

impl Options {
    fn parse(words: &[String]) -> Result<Self, String> {
        let mut options = Self {
            names: Vec::new(),
            sample: None,
            masters: 1,
            seconds: u64::MAX,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut number = || {
                let value = words.next().and_then(|value| value.parse().ok());
                value.ok_or_else(|| format!("expected a number after {word}"))
            };
            match word.as_str() {
                "--sample" => options.sample = Some(number()?),
                "--masters" => options.masters = number()?.clamp(1, MASTERS.len()),
                "--seconds" => options.seconds = number()? as u64,
                name if name.starts_with('-') => {
                    return Err(format!(
                        "expected names of mutants, --sample N, --masters N or --seconds N, \
                         found {name:?}"
                    ));
                }
                name => options.names.push(name.trim_end_matches(".txt").to_owned()),
            }
        }
        Ok(options)
    }

    fn choose(&self, mut mutants: Vec<Mutant>, commit: &str) -> Result<Vec<Mutant>, String> {
        if let Some(unknown) = self
            .names
            .iter()
            .find(|name| mutants.iter().all(|mutant| mutant.name != **name))
        {
            return Err(format!("no mutant is called {unknown:?}"));
        }
        mutants.retain(|mutant| match self.names.is_empty() {
            true => !mutant.is_open,
            false => self.names.contains(&mutant.name),
        });
        for mutant in &mut mutants {
            mutant.budget = mutant.budget.min(self.seconds);
        }
        if let Some(count) = self.sample {
            mutants.sort_by_key(|mutant| fnv(&[commit.as_bytes(), mutant.name.as_bytes()]));
            mutants.truncate(count);
        }
        Ok(mutants)
    }
}

/// With options of its own: names, `--sample`, `--masters`.
pub(crate) fn with(workspace: &Workspace, words: &[String]) -> crate::Result {
    let options = Options::parse(words)?;
    let mutants = planted::all(&workspace.root)?;
    // A text that has changed makes its mutant say nothing: all are looked at, also by a sample.
    for mutant in &mutants {
        mutant.edits(&workspace.root)?;
    }
    let commit = ask(Command::new("git")
        .args(["rev-parse", "HEAD"])
        .current_dir(&workspace.root));
    let chosen = options.choose(mutants, &commit.unwrap_or_default())?;
    let copy = Copy::make(workspace)?;
    copy.see_nothing(workspace)?;
    let mut rows = Vec::new();
    for mutant in &chosen {
        let row = copy.try_one(workspace, mutant, options.masters)?;
        eprintln!("{row}");
        rows.push(row);
    }
    eprintln!("\n{}", Row::HEAD);
    for row in &rows {
        eprintln!("{row}");
    }
    let missed: Vec<&str> = rows
        .iter()
        .filter(|row| !row.is_good())
        .map(|row| row.name.as_str())
        .collect();
    if missed.is_empty() {
        Ok(Outcome::Passed)
    } else {
        Err(format!(
            "not found in time, or by another invariant than expected: {}",
            missed.join(", ")
        ))
    }
}

/// A copy of the core's sources, in which mutants are planted.
struct Copy {
    root: PathBuf,
    target: PathBuf,
    /// Two at a time would plant in each other's sources; held until the end.
    _lock: fs::File,
}

impl Copy {
    fn make(workspace: &Workspace) -> Result<Self, String> {
        let base = workspace.target.join("mutants");
        fs::create_dir_all(&base).map_err(|e| format!("{}: {e}", base.display()))?;
        let path = base.join("lock");
        let lock = fs::File::create(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        lock.lock()
            .map_err(|e| format!("{}: {e}", path.display()))?;
        let copy = Self {
            root: base.join("source"),
            target: base.join("target"),
            _lock: lock,
        };
        copy.refresh(&workspace.root)?;
        let manifest = read(&workspace.root.join("Cargo.toml"))?;
        let lines = manifest.lines().filter_map(|line| {
            if line.starts_with("members =") {
                Some("members = [\"core\", \"core/sim\"]")
            } else {
                (!line.starts_with("default-members")).then_some(line)
            }
        });
        let lines: Vec<&str> = lines.collect();
        write(&copy.root.join("Cargo.toml"), lines.join("\n").as_bytes())?;
        let lock = copy.root.join("Cargo.lock");
        if !lock.exists() {
            write(&lock, read(&workspace.root.join("Cargo.lock"))?.as_bytes())?;
        }
        Ok(copy)
    }

    /// Makes the copied sources what they are in the workspace.
    fn refresh(&self, root: &Path) -> Result<(), String> {
        // The simulator is built without the sandbox, but cargo looks for what it could be built with.
        for part in ["core/src", "core/sim/src", "core/wasm/src", "host/sandbox"] {
            mirror(&root.join(part), &self.root.join(part))?;
        }
        for part in ["core", "core/sim", "core/wasm"] {
            let file = format!("{part}/Cargo.toml");
            let file = file.as_str();
            write(&self.root.join(file), read(&root.join(file))?.as_bytes())?;
        }
        Ok(())
    }

    /// Runs the seeds over the core as it is: where they find something anyway, that a mutant is
    /// found says nothing.
    fn see_nothing(&self, workspace: &Workspace) -> Result<(), String> {
        let nobody = Mutant::nobody(CONTROL_SECONDS);
        self.refresh(&workspace.root)?;
        if !self.build(workspace)? {
            return Err("the core does not build without a mutant".to_owned());
        }
        let find = self.run(&nobody, MASTERS[0])?;
        match (find.seeds, find.invariant) {
            (Some(seeds), Some(invariant)) => Err(format!(
                "without any mutant, seed {} violates {invariant}",
                MASTERS[0] + seeds - 1
            )),
            _ => Ok(()),
        }
    }

    /// Plants a mutant, builds and runs. The next takes it out again.
    fn try_one(
        &self,
        workspace: &Workspace,
        mutant: &Mutant,
        masters: usize,
    ) -> Result<Row, String> {
        self.refresh(&workspace.root)?;
        for (file, text) in mutant.edits(&workspace.root)? {
            write(&self.root.join(file), text.as_bytes())?;
        }
        let mut finds = Vec::new();
        if !self.build(workspace)? {
            finds.push(Find::unbuilt());
            return Ok(Row::new(mutant, finds));
        }
        for from in MASTERS.iter().take(masters) {
            finds.push(self.run(mutant, *from)?);
        }
        Ok(Row::new(mutant, finds))
    }

    /// Whether what is planted is a program at all.
    fn build(&self, workspace: &Workspace) -> Result<bool, String> {
        let mut cargo = workspace.cargo(&["build", "--release", "--quiet", "-p", "zabra-sim"]);
        cargo
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("RUSTFLAGS", "-Awarnings")
            .envs(PROFILE);
        let status = cargo
            .status()
            .map_err(|error| format!("cargo build: {error}"))?;
        Ok(status.success())
    }

    /// Runs seeds until one fails or the budget is used up.
    fn run(&self, mutant: &Mutant, from: u64) -> Result<Find, String> {
        let simulator = self.target.join("release/zabra-sim");
        let begun = Instant::now();
        let mut child = Command::new(&simulator)
            .args(["run", "--no-marks", "--seeds", "1000000"])
            .args(["--from", &from.to_string()])
            .args(
                ["--servers", &mutant.servers]
                    .iter()
                    .filter(|_| !mutant.servers.is_empty()),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("{}: {error}", simulator.display()))?;
        let (tell, lines) = mpsc::channel();
        if let Some(out) = child.stdout.take() {
            // It ends with the pipe, which ends with the child.
            std::thread::spawn(move || {
                for line in BufReader::new(out).lines().map_while(Result::ok) {
                    if tell.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        let mut cpu = Duration::ZERO;
        let found = loop {
            match lines.recv_timeout(POLL) {
                Ok(line) => {
                    if let Some(found) = violation(&line) {
                        cpu = cpu_of(&child).unwrap_or_else(|| begun.elapsed());
                        break Some(found);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break None,
            }
            cpu = cpu_of(&child).unwrap_or_else(|| begun.elapsed());
            let wall = begun.elapsed().as_secs_f64();
            if cpu.as_secs() >= mutant.budget || wall > WALL_FACTOR * mutant.budget as f64 {
                break None;
            }
        };
        // It is our own child, and may have ended by itself.
        let _ = child.kill();
        let _ = child.wait();
        Ok(Find {
            cpu,
            seeds: found.as_ref().map(|found| found.0 + 1 - from),
            invariant: found.map(|found| found.1),
        })
    }
}

/// What a campaign came to.
struct Find {
    /// The time it had of a core.
    cpu: Duration,
    /// How many seeds it took.
    seeds: Option<u64>,
    invariant: Option<String>,
}

impl Find {
    fn unbuilt() -> Self {
        Self {
            cpu: Duration::ZERO,
            seeds: None,
            invariant: Some("DOES NOT BUILD: mend its text".to_owned()),
        }
    }
}

/// A line of the table.
struct Row {
    name: String,
    expect: Vec<String>,
    budget: u64,
    finds: Vec<Find>,
}

impl Row {
    const HEAD: &str = "mutant                       seeds   seconds   budget  found by";

    fn new(mutant: &Mutant, mut finds: Vec<Find>) -> Self {
        // The worst first: what was not found, then what took longest.
        finds.sort_by_key(|find| (find.seeds.is_some(), core::cmp::Reverse(find.cpu)));
        Self {
            name: mutant.name.clone(),
            expect: mutant.expect.clone(),
            budget: mutant.budget,
            finds,
        }
    }

    /// The median of the campaigns; of an even number the worse.
    fn median(&self) -> Option<&Find> {
        self.finds.get((self.finds.len() - 1) / 2)
    }

    fn is_good(&self) -> bool {
        let invariant = self.median().and_then(|find| find.invariant.as_deref());
        invariant.is_some_and(|found| self.expects(found))
    }

    fn expects(&self, found: &str) -> bool {
        self.expect.is_empty() || self.expect.iter().any(|one| found.starts_with(&**one))
    }
}

impl core::fmt::Display for Row {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Some(find) = self.median() else {
            return Ok(());
        };
        let seeds = find
            .seeds
            .map_or_else(|| "-".to_owned(), |seeds| seeds.to_string());
        let by = find.invariant.as_deref().unwrap_or("NOT FOUND");
        let surprise = match &find.invariant {
            Some(found) if !self.expects(found) => "  (UNEXPECTED)",
            _ => "",
        };
        write!(
            f,
            "{:<27} {seeds:>6}  {:>8.1}  {:>7}  {by}{surprise}",
            self.name,
            find.cpu.as_secs_f64(),
            self.budget
        )
    }
}

/// The seed and the invariant of a line that tells of a violation.
fn violation(line: &str) -> Option<(u64, String)> {
    let (head, what) = line.split_once(" violates ")?;
    let seed = head
        .strip_prefix("seed ")?
        .split(' ')
        .next()?
        .parse()
        .ok()?;
    let name = what.split(": ").next().unwrap_or(what);
    Some((seed, name.to_owned()))
}

/// How much of a core a child has had; where the system does not tell, nothing.
fn cpu_of(child: &Child) -> Option<Duration> {
    const TICKS_PER_SECOND: u64 = 100;
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let ticks = field(11)? + field(12)?;
    Some(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// Copies what differs, and removes what is gone: what stays as it is need not be built again.
fn mirror(from: &Path, to: &Path) -> Result<(), String> {
    fs::create_dir_all(to).map_err(|error| format!("{}: {error}", to.display()))?;
    let list = |directory: &Path| -> Result<Vec<PathBuf>, String> {
        let failed = |error| format!("{}: {error}", directory.display());
        let entries = fs::read_dir(directory).map_err(failed)?;
        entries
            .map(|entry| entry.map(|entry| entry.path()).map_err(failed))
            .collect()
    };
    for entry in list(from)? {
        let Some(name) = entry.file_name() else {
            continue;
        };
        if entry.is_dir() {
            mirror(&entry, &to.join(name))?;
        } else {
            let content = fs::read(&entry).map_err(|e| format!("{}: {e}", entry.display()))?;
            write(&to.join(name), &content)?;
        }
    }
    for entry in list(to)? {
        let gone = entry
            .file_name()
            .is_some_and(|name| !from.join(name).exists());
        if gone && entry.is_file() {
            fs::remove_file(&entry).map_err(|e| format!("{}: {e}", entry.display()))?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Writes a file unless it is so already.
fn write(path: &Path, content: &[u8]) -> Result<(), String> {
    if fs::read(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    let failed = |error| format!("{}: {error}", path.display());
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    fs::write(path, content).map_err(failed)
}

/// FNV-1a: the same choice for a commit everywhere.
fn fnv(parts: &[&[u8]]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.iter());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seed_and_invariant_are_read_from_a_report() {
        let line = "seed 1000007 of 3..7 violates S2 all commit one sequence: A commits 0x1: x";
        let expected = (1_000_007, "S2 all commit one sequence".to_owned());
        assert_eq!(violation(line), Some(expected));
        assert_eq!(violation("  cargo run --release"), None);
    }

    #[test]
    fn sample_follows_the_commit() {
        let mutant = |name: &str| Mutant {
            name: name.to_owned(),
            ..Mutant::default()
        };
        let all = || ["a", "b", "c", "d", "e", "f"].map(mutant).into();
        let options = Options::parse(&["--sample".to_owned(), "2".to_owned()]).expect("right");
        let names = |commit: &str| -> Vec<String> {
            let chosen = options
                .choose(all(), commit)
                .expect("nothing is asked for by name");
            chosen.into_iter().map(|mutant| mutant.name).collect()
        };
        assert_eq!(names("x").len(), 2);
        assert_eq!(names("x"), names("x"));
        assert!((0..20).any(|commit| names(&commit.to_string()) != names("x")));
    }

    #[test]
    fn who_finds_another_thing_than_expected_has_not_found_it() {
        let row = |invariant: Option<&str>| {
            let mutant = Mutant {
                expect: vec!["S16".to_owned()],
                ..Mutant::default()
            };
            let find = Find {
                cpu: Duration::ZERO,
                seeds: invariant.map(|_| 1),
                invariant: invariant.map(str::to_owned),
            };
            Row::new(&mutant, vec![find])
        };
        assert!(row(Some("S16 ACK only of what is durable")).is_good());
        assert!(!row(Some("panic")).is_good());
        assert!(!row(None).is_good());
    }
}
