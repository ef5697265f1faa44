//! Other people's clients and servers against ours.

use core::time::Duration;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::Instant;

use crate::report::Outcome;
use crate::rust;
use crate::setup::{self, C_CLIENT_HEADER, ZOOKEEPER_JAR};
use crate::wasm;
use crate::workspace::{Workspace, on_path, run};

/// kazoo's tests mostly wait, so two at once take half the time even on a small machine.
const KAZOO_SHARDS: usize = 2;
const KAZOO_TIME_MAX: Duration = Duration::from_secs(20 * 60);
const KAZOO_TEST_SECONDS_MAX: &str = "120";
const POLL: Duration = Duration::from_millis(100);

pub(crate) fn c(workspace: &Workspace) -> crate::Result {
    if !on_path("cc") {
        return skipped("no C compiler (`apt-get install gcc libc6-dev`)");
    }
    if !Path::new(C_CLIENT_HEADER).exists() {
        return skipped("no C client (`apt-get install libzookeeper-mt-dev`)");
    }
    rust_peers(workspace, "c_client::")
}

pub(crate) fn java(workspace: &Workspace) -> crate::Result {
    if let Some(why) = no_java() {
        return skipped(why);
    }
    if !setup::releases_ready(workspace) {
        return skipped("releases of Apache ZooKeeper are missing (`cargo xtask setup`)");
    }
    rust_tests(workspace, "peers", &["java::", "sasl::", "backup::"])
}

pub(crate) fn admin(workspace: &Workspace) -> crate::Result {
    if let Some(why) = no_java() {
        return skipped(why);
    }
    if !setup::releases_ready(workspace) {
        return skipped("releases of Apache ZooKeeper are missing (`cargo xtask setup`)");
    }
    if !on_path("promtool") {
        return skipped("no promtool (`apt-get install prometheus`)");
    }
    rust_peers(workspace, "admin::")
}

pub(crate) fn zkcli(workspace: &Workspace) -> crate::Result {
    if let Some(why) = no_java() {
        return skipped(why);
    }
    rust_peers(workspace, "zkcli::")
}

pub(crate) fn tls(workspace: &Workspace) -> crate::Result {
    if let Some(why) = no_java() {
        return skipped(why);
    }
    if !on_path("openssl") {
        return skipped("no OpenSSL (`apt-get install openssl`)");
    }
    if setup::python_ready(workspace).is_none() {
        return skipped("no kazoo (`cargo xtask setup`)");
    }
    // The others use what Apache ZooKeeper 3.8 does not have: TLS 1.3, and keys as OpenSSL 3 encrypts
    // them.
    let tests = if workspace.baseline {
        "tls::zkcli"
    } else {
        "tls::"
    };
    rust_peers(workspace, tests)
}

pub(crate) fn ensemble(workspace: &Workspace) -> crate::Result {
    if let Some(why) = no_java() {
        return skipped(why);
    }
    if !setup::releases_ready(workspace) {
        return skipped("releases of Apache ZooKeeper are missing (`cargo xtask setup`)");
    }
    // Two at once: they wait for elections more than they compute.
    rust_tests(workspace, "ensemble", &["--test-threads=2"])
}

pub(crate) fn kazoo(workspace: &Workspace) -> crate::Result {
    kazoo_of(workspace, 1, Core::Native)
}

pub(crate) fn kazoo_wasm(workspace: &Workspace) -> crate::Result {
    if workspace.baseline {
        return skipped("Apache ZooKeeper is no WebAssembly module");
    }
    if !wasm::available(workspace) {
        return skipped(&wasm::ways());
    }
    kazoo_of(workspace, 1, Core::Sandboxed)
}

/// Every test of a server in a process, again with the core as a module.
pub(crate) fn host_wasm(workspace: &Workspace) -> crate::Result {
    build_server(workspace)?;
    let Some(module) = wasm::compiled(workspace)? else {
        return skipped(&wasm::ways());
    };
    run(workspace
        .cargo(&["test", "--workspace", "--locked", "--quiet"])
        .args(workspace.features())
        .args(["--test", "admin", "--test", "crash", "--test", "hostile"])
        .args(["--test", "start", "--test", "upgrade"])
        .env("PEERS_SERVER", workspace.server())
        .env("PEERS_CORE", "wasm")
        .env("PEERS_CORE_MODULE", module))?;
    Ok(Outcome::Passed)
}

/// Which core our server runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Core {
    Native,
    Sandboxed,
}

pub(crate) fn kazoo_ensemble(workspace: &Workspace) -> crate::Result {
    if workspace.baseline {
        return skipped("Apache ZooKeeper takes too long to start ensembles");
    }
    kazoo_of(workspace, 3, Core::Native)
}

fn kazoo_of(workspace: &Workspace, servers: usize, core: Core) -> crate::Result {
    let Some(python) = setup::python_ready(workspace) else {
        return skipped("kazoo is not installed (`cargo xtask setup`)");
    };
    if workspace.baseline && no_java().is_some() {
        return skipped("no Apache ZooKeeper for --baseline");
    }
    build_server(workspace)?;
    let command = server_command(workspace, core)?;
    let mut shards = Vec::new();
    for index in 0..KAZOO_SHARDS {
        shards.push(Shard::start(workspace, &python, index, servers, &command)?);
    }
    let end = Instant::now() + KAZOO_TIME_MAX;
    let results: Vec<_> = shards.into_iter().map(|shard| shard.finish(end)).collect();
    let failed = results
        .into_iter()
        .filter_map(Result::err)
        .collect::<Vec<_>>();
    if failed.is_empty() {
        Ok(Outcome::Passed)
    } else {
        Err(failed.join("; "))
    }
}

/// One pytest process with its part of the suite, and its own server.
struct Shard {
    process: Child,
    log: std::path::PathBuf,
    index: usize,
}

impl Shard {
    fn start(
        workspace: &Workspace,
        python: &Path,
        index: usize,
        servers: usize,
        server: &str,
    ) -> Result<Self, String> {
        let log = workspace
            .peers_target()
            .join(format!("kazoo-{servers}-{index}.log"));
        let output = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        let errors = output.try_clone().map_err(|error| error.to_string())?;
        let plugin = workspace.peers().join("kazoo");
        let mut command = Command::new(python);
        command
            .args([
                "-m",
                "pytest",
                "-p",
                "zabra_kazoo",
                "--pyargs",
                "kazoo.tests",
                "-q",
                "--tb=short",
            ])
            .args([
                "-p",
                "no:cacheprovider",
                "-W",
                "ignore",
                "-rfE",
                "--durations=15",
            ])
            .args(["--timeout", KAZOO_TEST_SECONDS_MAX])
            .current_dir(workspace.peers_target())
            .env("PYTHONPATH", &plugin)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PEERS_KAZOO_EXPECTED", plugin.join("expected.txt"))
            .env("PEERS_KAZOO_SERVER", server)
            .env(
                "ZOOKEEPER_VERSION",
                if workspace.baseline { "3.8.0" } else { "3.9.5" },
            )
            .env("PEERS_KAZOO_SERVERS", servers.to_string())
            .env("PEERS_KAZOO_SHARD", format!("{index}/{KAZOO_SHARDS}"))
            .stdout(output)
            .stderr(errors);
        eprintln!(
            "kazoo {}/{KAZOO_SHARDS}: log in {}",
            index + 1,
            log.display()
        );
        let process = command
            .spawn()
            .map_err(|error| format!("{}: {error}", python.display()))?;
        Ok(Self {
            process,
            log,
            index,
        })
    }

    fn finish(mut self, end: Instant) -> Result<(), String> {
        let status = loop {
            if let Some(status) = self.process.try_wait().map_err(|error| error.to_string())? {
                break status;
            }
            if Instant::now() > end {
                let _ = self.process.kill();
            }
            thread::sleep(POLL);
        };
        let mut log = String::new();
        File::open(&self.log)
            .and_then(|mut file| file.read_to_string(&mut log))
            .map_err(|error| format!("{}: {error}", self.log.display()))?;
        let wrong = |line: &&str| {
            line.starts_with("FAILED ") || line.starts_with("ERROR ") && line.contains("::")
        };
        let summary = log
            .lines()
            .rfind(|line| line.contains(" passed") || line.contains(" failed"));
        for line in log.lines().filter(wrong).chain(summary) {
            eprintln!("kazoo {}/{KAZOO_SHARDS}: {line}", self.index + 1);
        }
        if status.success() {
            return Ok(());
        }
        let count = log.lines().filter(wrong).count();
        Err(format!(
            "kazoo: {count} wrong, {status}, see {}",
            self.log.display()
        ))
    }
}

/// The command that starts a server, as a JSON list; the plugin appends the zoo.cfg.
fn server_command(workspace: &Workspace, core: Core) -> Result<String, String> {
    let mut words = if workspace.baseline {
        vec![
            workspace
                .peers()
                .join("apache-zookeeper")
                .display()
                .to_string(),
            "server".into(),
        ]
    } else {
        vec![workspace.server().display().to_string(), "server".into()]
    };
    if core == Core::Sandboxed {
        words.extend(["--core".into(), "wasm".into()]);
        if let Some(module) = wasm::compiled(workspace)? {
            words.extend(["--core-module".into(), module.display().to_string()]);
        }
    }
    if !workspace.baseline {
        words.push("--config".into());
    }
    let quoted: Vec<_> = words.iter().map(|word| format!("{word:?}")).collect();
    Ok(format!("[{}]", quoted.join(",")))
}

/// The Rust tests in `host/tests/peers`.
fn rust_peers(workspace: &Workspace, filter: &str) -> crate::Result {
    rust_tests(workspace, "peers", &[filter])
}

/// Tests against real peers, which a plain `cargo test` leaves out.
fn rust_tests(workspace: &Workspace, target: &str, arguments: &[&str]) -> crate::Result {
    build_server(workspace)?;
    // The feature set of the whole workspace, as everywhere, or dependencies would be built again.
    let mut command = workspace.cargo(&["test", "--workspace", "--locked", "--test", target]);
    command
        .args(workspace.features())
        .arg("--")
        .args(arguments)
        .env("PEERS_SERVER", workspace.server());
    if workspace.baseline {
        command.env("PEERS_BASELINE", "1");
    } else if let Some(module) = wasm::compiled(workspace)? {
        command.env("PEERS_CORE_MODULE", module);
    }
    run(&mut command)?;
    Ok(Outcome::Passed)
}

fn build_server(workspace: &Workspace) -> Result<(), String> {
    fs::create_dir_all(workspace.peers_target()).map_err(|error| error.to_string())?;
    if workspace.quick || workspace.baseline {
        return Ok(());
    }
    rust::build(workspace).map(|_| ())
}

fn no_java() -> Option<&'static str> {
    if !on_path("java") {
        Some("no Java (`apt-get install default-jre-headless`)")
    } else if !Path::new(ZOOKEEPER_JAR).exists() {
        Some("no Apache ZooKeeper (`apt-get install zookeeper`)")
    } else {
        None
    }
}

fn skipped(why: &str) -> crate::Result {
    Ok(Outcome::Skipped(why.to_owned()))
}
