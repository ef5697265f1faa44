//! Installs what the tests need and a fresh machine lacks. Nothing here fails: a step whose peer is
//! still missing says so itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::report::Outcome;
use crate::workspace::{Workspace, ask, on_path, run};
use crate::{torture, wasm};

pub(crate) const ZOOKEEPER_JAR: &str = "/usr/share/java/zookeeper.jar";
/// Releases of Apache ZooKeeper beside Debian's: the last of each line from 3.4 to 3.9.
const RELEASES: &[&str] = &["3.4.14", "3.5.10", "3.6.4", "3.7.2", "3.8.6", "3.9.5"];
pub(crate) const C_CLIENT_HEADER: &str = "/usr/include/zookeeper/zookeeper.h";
/// Not in the PATH of everyone. `zabra ensemble start` is tested with it.
const SSHD: &str = "/usr/sbin/sshd";

pub(crate) fn step(workspace: &Workspace) -> crate::Result {
    let packages = missing_packages(workspace);
    if !packages.is_empty() {
        install(&packages);
    }
    for environment in [
        kazoo(workspace),
        python_host(workspace),
        packaging(workspace),
    ] {
        if let Err(message) = environment.install() {
            eprintln!("no Python environment: {message}");
        }
    }
    for release in RELEASES {
        if let Err(message) = fetch(workspace, release) {
            eprintln!("no Apache ZooKeeper {release}: {message}");
        }
    }
    Ok(Outcome::Passed)
}

fn missing_packages(workspace: &Workspace) -> Vec<&'static str> {
    let mut packages = Vec::new();
    if !Path::new(ZOOKEEPER_JAR).exists() {
        packages.push("zookeeper");
    }
    if !on_path("java") {
        packages.push("default-jre-headless");
    }
    if !releases_ready(workspace) && !on_path("mvn") {
        packages.push("maven");
    }
    if !Path::new(C_CLIENT_HEADER).exists() {
        packages.push("libzookeeper-mt-dev");
    }
    if !on_path("cc") {
        packages.extend(["gcc", "libc6-dev"]);
    }
    // Only for its `promtool`.
    if !on_path("promtool") {
        packages.push("prometheus");
    }
    if !on_path("node") {
        packages.push("nodejs");
    }
    if !on_path("openssl") {
        packages.push("openssl");
    }
    if !on_path("ssh") {
        packages.push("openssh-client");
    }
    if !Path::new(SSHD).exists() {
        packages.push("openssh-server");
    }
    if !on_path("systemd-analyze") {
        packages.push("systemd");
    }
    if ask(Command::new("python3").args(["-c", "import ensurepip, venv"])).is_none() {
        packages.extend(["python3", "python3-venv"]);
    }
    let tools = torture::PROGRAMS
        .iter()
        .filter(|(program, _)| !on_path(program));
    packages.extend(tools.map(|(_, package)| package));
    if !wasm::available(workspace) {
        packages.extend(["rustc-web", "cargo-web", "rust-web-src"]);
    }
    packages
}

fn install(packages: &[&str]) {
    let root = ask(Command::new("id").arg("-u")).is_some_and(|id| id == "0");
    if !root || !on_path("apt-get") {
        eprintln!(
            "missing, and skipped unless you install them: {}",
            packages.join(" ")
        );
        return;
    }
    let update = run(Command::new("apt-get").arg("update"));
    let mut install = Command::new("apt-get");
    install
        .args(["install", "-y", "--no-install-recommends"])
        .args(packages);
    install.env("DEBIAN_FRONTEND", "noninteractive");
    if let Err(message) = update.and_then(|()| run(&mut install)) {
        eprintln!("{message}; the steps that need these packages are skipped");
    }
}

/// Whether every release that the tests ask for has been fetched.
pub(crate) fn releases_ready(workspace: &Workspace) -> bool {
    let mut releases = RELEASES.iter();
    releases.all(|release| release_jars(workspace, release).is_dir())
}

/// Where the tests look for it too.
fn release_jars(workspace: &Workspace, release: &str) -> PathBuf {
    workspace
        .peers_target()
        .join(format!("zookeeper-{release}"))
}

fn fetch(workspace: &Workspace, release: &str) -> Result<(), String> {
    let jars = release_jars(workspace, release);
    if jars.is_dir() {
        return Ok(());
    }
    let partial = release_jars(workspace, &format!("{release}.partial"));
    let mut maven = Command::new("mvn");
    maven.args(["--batch-mode", "--quiet", "dependency:copy-dependencies"]);
    maven.arg("--file");
    maven.arg(workspace.peers().join("releases/pom.xml"));
    maven.arg(format!("-Dzookeeper.version={release}"));
    maven.arg(format!("-DoutputDirectory={}", partial.display()));
    run(maven.arg("-DincludeScope=runtime"))?;
    // Last, so that a download that was cut short is done again.
    fs::rename(&partial, &jars).map_err(|error| format!("{}: {error}", jars.display()))
}

/// The interpreter that kazoo is installed for, if [`step`] could do that.
pub(crate) fn python_ready(workspace: &Workspace) -> Option<PathBuf> {
    kazoo(workspace).ready()
}

/// The interpreter for `examples/python-host`, likewise.
pub(crate) fn python_host_ready(workspace: &Workspace) -> Option<PathBuf> {
    python_host(workspace).ready()
}

fn kazoo(workspace: &Workspace) -> Environment {
    Environment {
        directory: workspace.peers_target().join("python"),
        requirements: workspace.peers().join("kazoo/requirements.txt"),
    }
}

/// One of its own: whoever cannot have it still has the peers.
fn python_host(workspace: &Workspace) -> Environment {
    Environment {
        directory: workspace.peers_target().join("python-host"),
        requirements: workspace.root.join("examples/python-host/requirements.txt"),
    }
}

/// The interpreter for `packaging/check.py`, likewise.
pub(crate) fn packaging_ready(workspace: &Workspace) -> Option<PathBuf> {
    packaging(workspace).ready()
}

/// Linters of what is in `packaging`.
fn packaging(workspace: &Workspace) -> Environment {
    Environment {
        directory: workspace.peers_target().join("packaging"),
        requirements: workspace.root.join("packaging/requirements.txt"),
    }
}

/// A Python with packages.
struct Environment {
    directory: PathBuf,
    requirements: PathBuf,
}

impl Environment {
    fn ready(&self) -> Option<PathBuf> {
        let wanted = fs::read(&self.requirements).ok()?;
        (fs::read(self.marker()).ok()? == wanted).then(|| self.interpreter())
    }

    fn install(&self) -> Result<(), String> {
        if self.ready().is_some() {
            return Ok(());
        }
        run(Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&self.directory))?;
        let mut pip = Command::new(self.interpreter());
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--requirement",
        ]);
        run(pip.arg(&self.requirements))?;
        // Last, so that an installation that was cut short is done again.
        fs::copy(&self.requirements, self.marker()).map_err(|error| error.to_string())?;
        Ok(())
    }

    fn interpreter(&self) -> PathBuf {
        self.directory.join("bin/python")
    }

    fn marker(&self) -> PathBuf {
        self.directory.join("requirements-installed.txt")
    }
}
