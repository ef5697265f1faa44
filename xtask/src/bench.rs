//! `cargo xtask bench`: Apache ZooKeeper and Zabra in turn on this machine, in one run; or Zabra's
//! native core and its WebAssembly core.
//!
//! A machine's speed changes from minute to minute by more than most changes to the code are worth.
//! Hence every figure is taken from both servers in each round, first from the one and then from
//! the other, the ratio is formed pair by pair, and the table shows medians. Start reading at
//! [`run`].

mod ensemble;
mod limits;
mod server;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use self::ensemble::Ensemble;
use self::limits::Limits;
use self::server::{Apache, Ports, Server, Side};
use self::table::Table;

/// The groups of figures that `--only` chooses from, of one server and of three.
const MEASURES: [&str; 6] = ["start", "reads", "writes", "latency", "memory", "size"];
const MEASURES_ENSEMBLE: [&str; 6] = ["start", "reads", "writes", "latency", "failover", "join"];
const MEASURES_WASM: [&str; 6] = ["start", "reads", "writes", "latency", "memory", "crossing"];
/// Seconds of load before a measurement: a JVM compiles meanwhile.
const WARMUP_PIPELINED: u32 = 4;
const WARMUP_SYNCHRONOUS: u32 = 2;

const USAGE: &str = "\
usage: cargo xtask bench [--ensemble | --wasm] [--rounds 3] [--seconds 6] [--znodes 1000000]
                         [--only NAME,...] [--write] [--control]
  --ensemble three servers instead of one
  --wasm     the native core and the WebAssembly core, instead of Apache ZooKeeper and Zabra
  --only     some of start, reads, writes, latency; memory, size; with --ensemble failover, join;
             with --wasm memory, crossing
  --write    puts the table into BENCHMARKS.md; only with all of them, in 3 rounds or more
  --control  Apache ZooKeeper in Zabra's place too: shows how far apart equal servers come out";

struct Options {
    kind: Kind,
    rounds: u32,
    seconds: u32,
    znodes: u64,
    only: Vec<&'static str>,
    write: bool,
    control: bool,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// One server of each side.
    Alone,
    /// Three of each.
    Ensemble,
    /// One with the native core, one with the WebAssembly core.
    Wasm,
}

impl Kind {
    const fn measures(self) -> [&'static str; 6] {
        match self {
            Self::Alone => MEASURES,
            Self::Ensemble => MEASURES_ENSEMBLE,
            Self::Wasm => MEASURES_WASM,
        }
    }

    const fn place(self) -> table::Place {
        match self {
            Self::Alone => table::ALONE,
            Self::Ensemble => table::ENSEMBLE,
            Self::Wasm => table::WASM,
        }
    }
}

/// What Zabra is compared with.
enum Peer {
    Apache(Apache),
    /// Itself, natively; Zabra runs this compiled module.
    Native {
        module: PathBuf,
    },
}

/// Builds Zabra, measures both servers and prints the table. `root` is the workspace's directory,
/// `target` Cargo's; `flags` follow `bench` on the command line.
pub(crate) fn run(root: &Path, target: &Path, flags: &[String]) -> Result<ExitCode, String> {
    let Some(options) = Options::parse(flags)? else {
        eprintln!("{USAGE}");
        return Ok(ExitCode::SUCCESS);
    };
    let (peer, zabra) = if options.kind == Kind::Wasm {
        let zabra = build(root, target, &["--features", "wasm"])?;
        let module = target.join("wasm/bench.cwasm");
        let mut compile = Command::new(&zabra);
        crate::workspace::run(compile.args(["wasm", "compile"]).arg(&module))?;
        (Peer::Native { module }, zabra)
    } else {
        (Peer::Apache(Apache::find()?), build(root, target, &[])?)
    };
    let bench = Bench {
        root: root.to_path_buf(),
        target: target.to_path_buf(),
        dir: Scratch::new(target)?,
        ports: Ports::default(),
        peer,
        zabra,
        options,
    };
    // Before the run, which takes long enough for others to go on.
    let commit = limits::commit(root);
    let load_before = limits::load_average();
    let (table, limits) = bench.run()?;
    let text = bench.report(flags, &commit, &load_before, &table, &limits)?;
    eprintln!("\n{text}");
    if bench.options.write {
        let place = bench.options.kind.place();
        table::write(&root.join("BENCHMARKS.md"), place, &text)?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Options {
    /// `None` when help was asked for.
    fn parse(flags: &[String]) -> Result<Option<Self>, String> {
        let has = |name| flags.iter().any(|flag| flag == name);
        let kind = match (has("--ensemble"), has("--wasm")) {
            (false, false) => Kind::Alone,
            (true, false) => Kind::Ensemble,
            (false, true) => Kind::Wasm,
            (true, true) => return Err("--wasm: expected no --ensemble beside it".into()),
        };
        let mut options = Self {
            kind,
            rounds: 3,
            seconds: 6,
            znodes: 1_000_000,
            only: kind.measures().to_vec(),
            write: false,
            control: false,
        };
        let mut flags = flags.iter();
        while let Some(flag) = flags.next() {
            match flag.as_str() {
                "--help" | "-h" => return Ok(None),
                "--ensemble" | "--wasm" => {}
                "--write" => options.write = true,
                "--control" => options.control = true,
                "--rounds" | "--seconds" | "--znodes" | "--only" => {
                    let value = flags
                        .next()
                        .ok_or_else(|| format!("{flag}: expected a value"))?;
                    options.set(flag, value)?;
                }
                _ => return Err(format!("unknown option {flag:?}\n{USAGE}")),
            }
        }
        if options.control && kind == Kind::Wasm {
            return Err("--control: expected no --wasm beside it".into());
        }
        if options.write && (options.only.len() < MEASURES.len() || options.control) {
            return Err("--write: expected a run without --only and --control".into());
        }
        if options.write && (options.rounds < 3 || options.znodes != 1_000_000) {
            return Err("--write: expected 3 rounds or more and 1000000 znodes".into());
        }
        Ok(Some(options))
    }

    fn set(&mut self, flag: &str, value: &str) -> Result<(), String> {
        if flag == "--only" {
            let measures = self.kind.measures();
            let known = |name| measures.into_iter().find(|&measure| measure == name);
            self.only = value
                .split(',')
                .map(known)
                .collect::<Option<_>>()
                .ok_or_else(|| {
                    format!(
                        "--only: expected some of {}, found {value:?}",
                        measures.join(",")
                    )
                })?;
            return Ok(());
        }
        let number = value.parse::<u32>().ok().filter(|&number| number > 0);
        let number =
            number.ok_or_else(|| format!("{flag}: expected 1 or more, found {value:?}"))?;
        match flag {
            "--rounds" => self.rounds = number,
            "--seconds" => self.seconds = number,
            _ => self.znodes = number.into(),
        }
        Ok(())
    }

    fn wants(&self, measure: &str) -> bool {
        self.only.contains(&measure)
    }
}

/// Builds the release binary as users get it.
fn build(root: &Path, target: &Path, features: &[&str]) -> Result<PathBuf, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--locked", "--package", "zabra"])
        .args(features)
        .env("CARGO_TARGET_DIR", target)
        .current_dir(root)
        .status()
        .map_err(|error| format!("cargo build: {error}"))?;
    if !status.success() {
        return Err(format!("cargo build --release: {status}"));
    }
    Ok(target.join("release").join("zabra"))
}

/// Everything a round needs.
struct Bench {
    root: PathBuf,
    target: PathBuf,
    dir: Scratch,
    ports: Ports,
    peer: Peer,
    zabra: PathBuf,
    options: Options,
}

impl Bench {
    fn run(&self) -> Result<(Table, Limits), String> {
        let mut table = Table::default();
        let mut limits = Limits::default();
        for round in 1..=self.options.rounds {
            limits.measure(&self.dir.0)?;
            let mut sides = [Side::Peer, Side::Zabra];
            if round % 2 == 0 {
                // What a machine that slows down takes from the second, it takes in turn.
                sides.reverse();
            }
            for side in sides {
                eprintln!("round {round} of {}: {side:?}", self.options.rounds);
                let figures = if self.options.kind == Kind::Ensemble {
                    self.three(side, round, &mut table)
                } else {
                    self.one(side, round, &mut table)
                };
                figures.map_err(|error| format!("{side:?}: {error}"))?;
            }
            if self.options.wants("crossing") {
                self.crossing(&mut table)?;
            }
        }
        Ok((table, limits))
    }

    /// All figures of one server in one round.
    fn one(&self, side: Side, round: u32, table: &mut Table) -> Result<(), String> {
        let wants = |measure| self.options.wants(measure);
        let mut put = |name: &str, unit, value| table.put(name, unit, side, value);
        if wants("size") {
            put(
                "binary (Apache ZooKeeper: jars, without the JVM)",
                "MB",
                self.size(side)?,
            );
        }
        let of_a_server = |measure: &&str| !["size", "crossing"].contains(measure);
        let measures = self.options.kind.measures();
        if !measures
            .iter()
            .any(|measure| of_a_server(measure) && wants(measure))
        {
            return Ok(());
        }
        let dir = self.dir.0.join(format!("{side:?}-{round}"));
        let mut server = Server::create(dir, self.ports.next()?, self.command(side))?;
        let ready_ms = server.start(&self.zabra)?;
        if wants("start") {
            put("empty start, to the first reply", "ms", ready_ms);
            put("memory, idle", "MB", server.resident_mb()?);
        }
        for (measure, op) in [("reads", "get"), ("writes", "set")] {
            if !wants(measure) {
                continue;
            }
            let load = self.load(&server, op, 4, 64, WARMUP_PIPELINED)?;
            put(
                &format!("pipelined {op}, 4 x 64"),
                "ops/s",
                load.field("ops_per_s")?,
            );
            put(
                &format!("server CPU per pipelined {op}"),
                "µs",
                load.field("server_cpu_us_per_op")?,
            );
        }
        if wants("latency") {
            for (op, clients) in [("get", 1), ("get", 8), ("set", 1), ("set", 8)] {
                let load = self.load(&server, op, clients, 1, WARMUP_SYNCHRONOUS)?;
                let s = if clients == 1 { "" } else { "s" };
                for quantile in ["p50", "p99"] {
                    let value = load.field(&format!("{quantile}_us"))?;
                    let name = format!("synchronous {op}, {clients} client{s}, {quantile}");
                    put(&name, "µs", value);
                }
            }
        }
        if wants("memory") {
            let znodes = self.options.znodes;
            let fill = server.bench(&self.zabra, &["fill", "--znodes", &znodes.to_string()])?;
            put(
                &format!("create {znodes} znodes of 100 B"),
                "ops/s",
                fill.field("ops_per_s")?,
            );
            put(
                &format!("memory with {znodes} znodes"),
                "MB",
                server.resident_mb()?,
            );
            server.kill();
            let ready_ms = server.start(&self.zabra)?;
            put(
                &format!("start with {znodes} znodes, to the first reply"),
                "ms",
                ready_ms,
            );
        }
        server.remove()
    }

    /// All figures of three servers in one round.
    fn three(&self, side: Side, round: u32, table: &mut Table) -> Result<(), String> {
        let wants = |measure| self.options.wants(measure);
        let mut put = |name: &str, unit, value| table.put(name, unit, side, value);
        let dir = self.dir.0.join(format!("{side:?}-{round}"));
        let command = self.command(side);
        let (mut ensemble, ready_ms) = Ensemble::start(&dir, &self.ports, &command, &self.zabra)?;
        if wants("start") {
            put("empty start, until all three answer", "ms", ready_ms);
        }
        for (measure, op) in [("reads", "get"), ("writes", "set")] {
            if !wants(measure) {
                continue;
            }
            let arguments = self.load_arguments(op, 6, 64, WARMUP_PIPELINED);
            let load = ensemble.bench(&as_strs(&arguments))?;
            let name = format!("pipelined {op}, 6 x 64");
            put(&name, "ops/s", load.field("ops_per_s")?);
            let name = format!("CPU of all three per pipelined {op}");
            put(&name, "µs", load.field("server_cpu_us_per_op")?);
        }
        if wants("latency") {
            for (op, clients) in [("get", 1), ("set", 1), ("set", 6)] {
                let arguments = self.load_arguments(op, clients, 1, WARMUP_SYNCHRONOUS);
                let load = ensemble.bench(&as_strs(&arguments))?;
                let s = if clients == 1 { "" } else { "s" };
                for quantile in ["p50", "p99"] {
                    let value = load.field(&format!("{quantile}_us"))?;
                    let name = format!("synchronous {op}, {clients} client{s}, {quantile}");
                    put(&name, "µs", value);
                }
            }
        }
        if wants("failover") {
            let outage_ms = ensemble.outage_ms()?;
            put(
                "leader killed, to the next acknowledged write",
                "ms",
                outage_ms,
            );
        }
        if wants("join") {
            let znodes = self.options.znodes;
            let fill = ensemble.fill(znodes)?;
            let rate = fill.field("ops_per_s")?;
            put(&format!("create {znodes} znodes of 100 B"), "ops/s", rate);
            let join = ensemble.join(self.options.seconds)?;
            let name = format!("empty server joins, {znodes} znodes");
            put(&name, "ms", join.ms);
            let others = [
                ("get", join.get_p99_us, join.get_p99),
                ("set", join.set_p99_us, join.set_p99),
            ];
            for (op, p99_us, quotient) in others {
                put(&format!("{op} of others meanwhile, p99"), "µs", p99_us);
                let name = format!("the same, times its p99 before ({op})");
                put(&name, "times", quotient);
            }
        }
        ensemble.remove()
    }

    fn load(
        &self,
        server: &Server,
        op: &str,
        connections: u32,
        outstanding: u32,
        warmup: u32,
    ) -> Result<server::Figures, String> {
        let arguments = self.load_arguments(op, connections, outstanding, warmup);
        server.bench(&self.zabra, &as_strs(&arguments))
    }

    fn load_arguments(
        &self,
        op: &str,
        connections: u32,
        outstanding: u32,
        warmup: u32,
    ) -> Vec<String> {
        let [connections, outstanding, warmup, seconds] =
            [connections, outstanding, warmup, self.options.seconds].map(|n| n.to_string());
        let arguments = [
            "load",
            "--mix",
            op,
            "--connections",
            &connections,
            "--outstanding",
            &outstanding,
            "--warmup",
            &warmup,
            "--seconds",
            &seconds,
        ];
        arguments.map(str::to_owned).to_vec()
    }

    /// What the border costs, natively and in the module.
    fn crossing(&self, table: &mut Table) -> Result<(), String> {
        let Peer::Native { module } = &self.peer else {
            return Ok(());
        };
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args([
                "bench",
                "--locked",
                "--package",
                "zabra-sandbox",
                "--bench",
                "crossing",
                "--features",
                "compile",
            ])
            .env("CARGO_TARGET_DIR", &self.target)
            .env("PEERS_CORE_MODULE", module)
            .current_dir(&self.root)
            .output()
            .map_err(|error| format!("cargo bench: {error}"))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let [name, _, native, module] = line.split('\t').collect::<Vec<_>>()[..] else {
                continue;
            };
            for (side, value) in [(Side::Peer, native), (Side::Zabra, module)] {
                let value = value
                    .parse()
                    .map_err(|_| format!("expected a number in {line:?}"))?;
                table.put(name, "ns", side, value);
            }
        }
        Ok(())
    }

    fn command(&self, side: Side) -> Vec<String> {
        let mut zabra = vec![self.zabra.display().to_string(), "server".into()];
        match (&self.peer, side) {
            (Peer::Apache(apache), Side::Peer) => return apache.command(),
            (Peer::Apache(apache), Side::Zabra) if self.options.control => return apache.command(),
            (Peer::Native { module }, Side::Zabra) => {
                let module = module.display().to_string();
                zabra.extend(["--core", "wasm", "--core-module"].map(str::to_owned));
                zabra.push(module);
            }
            (Peer::Apache(_), Side::Zabra) | (Peer::Native { .. }, Side::Peer) => {}
        }
        zabra.push("--config".into());
        zabra
    }

    fn size(&self, side: Side) -> Result<f64, String> {
        let files = match &self.peer {
            Peer::Apache(apache) if side == Side::Peer || self.options.control => apache.jars(),
            Peer::Apache(_) | Peer::Native { .. } => core::slice::from_ref(&self.zabra),
        };
        let mut bytes = 0;
        for file in files {
            let metadata = fs::metadata(file);
            bytes += metadata
                .map_err(|error| format!("{}: {error}", file.display()))?
                .len();
        }
        Ok(bytes as f64 / 1e6)
    }

    fn report(
        &self,
        flags: &[String],
        commit: &str,
        load_before: &str,
        table: &Table,
        limits: &Limits,
    ) -> Result<String, String> {
        let mut command = vec!["cargo xtask bench".to_owned()];
        command.extend_from_slice(flags);
        let (first, second) = match &self.peer {
            Peer::Apache(_) if self.options.control => ("Apache ZooKeeper", "Apache again"),
            Peer::Apache(_) => ("Apache ZooKeeper", "Zabra"),
            Peer::Native { .. } => ("native core", "WebAssembly core"),
        };
        let mut text = format!(
            "`{}`, {}, commit {commit}.\n",
            command.join(" "),
            limits::date()
        );
        text += &format!(
            "{}; load average {load_before} before the run.\n",
            limits::machine()
        );
        if let Peer::Apache(apache) = &self.peer {
            let (version, java) = (apache.version(), limits::java());
            text += &format!("Apache ZooKeeper {version} on {java}.\n");
        }
        text += "\n";
        text += &table.markdown(first, second)?;
        text += "\n";
        text += &limits.markdown();
        Ok(text)
    }
}

fn as_strs(strings: &[String]) -> Vec<&str> {
    strings.iter().map(String::as_str).collect()
}

/// A directory on the disk that Cargo builds on, removed at the end of the run.
struct Scratch(PathBuf);

impl Scratch {
    fn new(target: &Path) -> Result<Self, String> {
        let dir = target.join(format!("bench-{}", std::process::id()));
        fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Options>, String> {
        let flags: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Options::parse(&flags)
    }

    #[test]
    fn options_choose_measures_and_length() -> Result<(), String> {
        let options = parse("--rounds 5 --seconds 1 --only reads,start")?.ok_or("help")?;
        assert_eq!((options.rounds, options.seconds), (5, 1));
        assert!(options.wants("reads") && options.wants("start") && !options.wants("memory"));
        Ok(())
    }

    #[test]
    fn three_servers_have_measures_of_their_own() -> Result<(), String> {
        let options = parse("--only failover --ensemble")?.ok_or("help")?;
        assert!(options.wants("failover") && !options.wants("reads"));
        assert!(parse("--only failover").is_err());
        assert!(parse("--ensemble --only memory").is_err());
        Ok(())
    }

    #[test]
    fn cores_have_measures_of_their_own() -> Result<(), String> {
        let options = parse("--wasm --only crossing,memory")?.ok_or("help")?;
        assert!(options.wants("crossing") && !options.wants("start"));
        assert!(parse("--wasm --only size").is_err());
        assert!(parse("--wasm --control").is_err());
        assert!(parse("--wasm --ensemble").is_err());
        Ok(())
    }

    #[test]
    fn table_of_record_needs_a_whole_run() {
        assert!(parse("--write").is_ok());
        for line in ["--only reads", "--control", "--rounds 2", "--znodes 1000"] {
            assert!(parse(&format!("--write {line}")).is_err(), "{line}");
            assert!(parse(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn option_that_makes_no_sense_is_named() {
        for line in [
            "--rounds",
            "--rounds 0",
            "--seconds x",
            "--only reads,all",
            "--fast",
        ] {
            let error = parse(line).err().unwrap_or_default();
            let flag = line.split(' ').next().unwrap_or_default();
            assert!(error.contains(flag), "{line}: {error}");
        }
    }
}
