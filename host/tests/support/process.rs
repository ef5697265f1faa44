//! Servers as processes of their own: ours, or Apache ZooKeeper.

use core::fmt::{self, Display, Formatter, Write as _};
use core::net::{Ipv4Addr, SocketAddr};
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;
use std::{env, process};

use super::wire;

const START_TIME_MAX: Duration = Duration::from_secs(60);
const STOP_TIME_MAX: Duration = Duration::from_secs(20);
/// Apache ZooKeeper leaves a connection hanging that comes while it is about to serve.
const SERVING_ANSWER_TIME_MAX: Duration = Duration::from_millis(500);
const LOG_TIME_MAX: Duration = Duration::from_secs(10);
const LOG_LINES_SHOWN: usize = 40;
const POLL: Duration = Duration::from_millis(20);

/// Whose server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The one that Debian has.
    Apache,
    /// This release of Apache ZooKeeper, of those that `cargo xtask setup` has fetched.
    Release(&'static str),
    /// Ours, with the core that `PEERS_CORE` names.
    Zabra,
    /// Ours, with the core as a WebAssembly module.
    Sandboxed,
    /// Ours, with the core that its zoo.cfg names, or the native one.
    Configured,
}

/// Settings by which our servers run the core that `PEERS_CORE` names, `native` or `wasm`; with
/// `PEERS_CORE_MODULE` this module, which a server need not compile first.
pub(crate) fn core_settings() -> Vec<(&'static str, OsString)> {
    match env::var_os("PEERS_CORE") {
        Some(core) if core == "wasm" => sandbox_settings(),
        Some(core) => {
            assert_eq!(core, "native", "PEERS_CORE: expected native or wasm");
            Vec::new()
        }
        None => Vec::new(),
    }
}

fn sandbox_settings() -> Vec<(&'static str, OsString)> {
    let module = env::var_os("PEERS_CORE_MODULE");
    let module = module.map(|module| ("ZABRA_CORE_MODULE", module));
    [("ZABRA_CORE", "wasm".into())]
        .into_iter()
        .chain(module)
        .collect()
}

impl Kind {
    fn command(self, config: &Path) -> Command {
        let mut apache = Command::new(peer("apache-zookeeper"));
        apache.arg("server").arg(config);
        match self {
            Self::Apache => return apache,
            Self::Release(release) => {
                apache.env("RELEASE_JARS", release_jars(release));
                return apache;
            }
            // With the baseline, Apache ZooKeeper stands in for us: it shows what a test demands.
            Self::Zabra | Self::Sandboxed | Self::Configured if is_baseline() => return apache,
            Self::Zabra | Self::Sandboxed | Self::Configured => {}
        }
        let binary =
            env::var_os("PEERS_SERVER").unwrap_or_else(|| env!("CARGO_BIN_EXE_zabra").into());
        let mut command = Command::new(binary);
        command.args(["server", "--config"]).arg(config);
        // Each of ours is a setting of the server; the test's own are all in the file.
        for (name, _) in
            env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ZABRA_"))
        {
            command.env_remove(name);
        }
        command.envs(match self {
            Self::Sandboxed => sandbox_settings(),
            Self::Zabra => core_settings(),
            Self::Configured | Self::Apache | Self::Release(_) => Vec::new(),
        });
        command
    }
}

/// Whether Apache ZooKeeper stands in for us.
pub(crate) fn is_baseline() -> bool {
    env::var_os("PEERS_BASELINE").is_some()
}

impl Display for Kind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Apache => write!(f, "Apache"),
            Self::Release(release) => write!(f, "Apache-{release}"),
            Self::Sandboxed => write!(f, "Zabra-wasm"),
            Self::Zabra | Self::Configured => write!(f, "Zabra"),
        }
    }
}

/// Where `cargo xtask setup` puts the jars of one release.
fn release_jars(release: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    let jars = target
        .expect("cargo keeps it in the target directory")
        .join("peers")
        .join(format!("zookeeper-{release}"));
    assert!(
        jars.is_dir(),
        "no {}: `cargo xtask setup` fetches it",
        jars.display()
    );
    jars
}

/// A file in `host/tests/peers`.
pub(crate) fn peer(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/peers")
        .join(name)
}

/// A directory that is gone when the test has passed, and stays to be looked at when it has not.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new(test: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{test}-{}-{number}", process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("left for you to look at: {}", self.0.display());
        } else {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// Copies a data directory, as an operator would.
pub(crate) fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A server that runs until it is stopped, killed or dropped.
pub(crate) struct Server {
    process: Child,
    /// Where clients connect.
    pub(crate) address: SocketAddr,
    log: PathBuf,
}

impl Server {
    /// Starts a standalone server on `home/data` with these lines added to its zoo.cfg, and waits
    /// until it serves.
    pub(crate) fn start(kind: Kind, home: &Path, options: &[&str]) -> Self {
        Self::start_by(kind, home, options, |command| command)
    }

    /// The same, with at most so many files open.
    #[cfg(unix)]
    pub(crate) fn start_with_files(home: &Path, options: &[&str], open_files_max: u32) -> Self {
        Self::start_within(home, options, |program| {
            let mut shell = Command::new("sh");
            shell
                .arg("-c")
                .arg(format!("ulimit -n {open_files_max}; exec \"$0\" \"$@\""))
                .arg(program);
            shell
        })
    }

    /// The same, by a command that runs the program that it is given.
    #[cfg(unix)]
    pub(crate) fn start_within(
        home: &Path,
        options: &[&str],
        within: impl FnOnce(&OsStr) -> Command,
    ) -> Self {
        Self::start_by(Kind::Zabra, home, options, |command| {
            let mut outer = within(command.get_program());
            outer.args(command.get_args());
            for (name, value) in command.get_envs() {
                match value {
                    Some(value) => outer.env(name, value),
                    None => outer.env_remove(name),
                };
            }
            outer
        })
    }

    fn start_by(
        kind: Kind,
        home: &Path,
        options: &[&str],
        wrap: impl FnOnce(Command) -> Command,
    ) -> Self {
        let address = free_address();
        let data = home.join("data");
        fs::create_dir_all(&data).unwrap();
        let mut text = String::new();
        writeln!(text, "tickTime=2000\ndataDir={}", data.display()).unwrap();
        writeln!(
            text,
            "clientPort={}\nclientPortAddress=127.0.0.1",
            address.port()
        )
        .unwrap();
        writeln!(text, "admin.enableServer=false\n4lw.commands.whitelist=*").unwrap();
        for option in options {
            writeln!(text, "{option}").unwrap();
        }
        let config = home.join("zoo.cfg");
        fs::write(&config, text).unwrap();
        let log = home.join(format!("{kind}-{}.log", address.port()));
        let mut server = Self::spawn(wrap(kind.command(&config)), address, log);
        server.wait_until_serving();
        server
    }

    /// Starts a server with this zoo.cfg, which says the address too, and does not wait.
    pub(crate) fn spawn_with(kind: Kind, config: &Path, address: SocketAddr, log: PathBuf) -> Self {
        Self::spawn(kind.command(config), address, log)
    }

    /// Starts a server by a command that says it all, and does not wait.
    pub(crate) fn spawn(mut command: Command, address: SocketAddr, log: PathBuf) -> Self {
        let output = File::create(&log).unwrap();
        let process = command
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        Self {
            process,
            address,
            log,
        }
    }

    /// Fails if it has ended by itself.
    pub(crate) fn assert_running(&mut self) {
        let ended = self.process.try_wait().unwrap();
        assert!(
            ended.is_none(),
            "the server ended with {ended:?}:\n{}",
            self.log_end()
        );
    }

    /// Waits until it answers clients.
    pub(crate) fn wait_until_serving(&mut self) {
        let end = Instant::now() + START_TIME_MAX;
        loop {
            self.assert_running();
            let answer = wire::word(self.address, "srvr", SERVING_ANSWER_TIME_MAX);
            let serving = answer.is_ok_and(|text| text.contains("Zxid:"));
            if serving {
                return;
            }
            assert!(
                Instant::now() < end,
                "the server does not serve:\n{}",
                self.log_end()
            );
            thread::sleep(POLL);
        }
    }

    /// Everything it has logged.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }

    /// The last lines of it, for messages.
    pub(crate) fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        let start = lines.len().saturating_sub(LOG_LINES_SHOWN);
        lines
            .iter()
            .skip(start)
            .fold(String::new(), |text, line| text + line + "\n")
    }

    /// The most resident memory that it ever had, where the system tells.
    pub(crate) fn memory_bytes_most(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
        let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib * 1024)
    }

    /// The processor time that it has used, in clock ticks, where the system tells.
    pub(crate) fn processor_ticks(&self) -> Option<u64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id())).ok()?;
        // The name before may have spaces in it; user and system time are the 12th and 13th after.
        let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
    }

    /// Waits until it has logged this.
    pub(crate) fn wait_for_log(&self, text: &str) {
        self.wait_for_logs(text, 1);
    }

    /// Waits until it has logged this so many times.
    pub(crate) fn wait_for_logs(&self, text: &str, times: usize) {
        let end = Instant::now() + LOG_TIME_MAX;
        while self.log().matches(text).count() < times {
            assert!(
                Instant::now() < end,
                "expected {text:?} in the log, found:\n{}",
                self.log_end()
            );
            thread::sleep(POLL);
        }
    }

    /// The zxid of the last transaction it knows.
    pub(crate) fn zxid(&self) -> i64 {
        let answer = wire::word(self.address, "srvr", STOP_TIME_MAX).unwrap();
        let zxid = answer
            .lines()
            .find_map(|line| line.strip_prefix("Zxid: 0x"))
            .unwrap();
        i64::from_str_radix(zxid, 16).unwrap()
    }

    /// Has it do nothing, with all its connections open, until [`resume`](Self::resume).
    pub(crate) fn pause(&self) {
        self.send("STOP");
    }

    pub(crate) fn resume(&self) {
        self.send("CONT");
    }

    fn send(&self, signal: &str) {
        let pid = self.process.id().to_string();
        let mut kill = Command::new("kill");
        let status = kill.args([&format!("-{signal}"), &pid]).status();
        assert!(status.unwrap().success(), "kill -{signal}");
    }

    /// Like a power cut for the process: nothing is said, nothing is flushed.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Asks it to end, as a service manager does, and waits for it.
    pub(crate) fn stop(self) {
        self.signal("TERM");
    }

    /// Has it read its core again.
    pub(crate) fn hang_up(&self) {
        self.send("HUP");
    }

    /// Sends a signal that ends it; returns its exit code, and how long that took.
    pub(crate) fn signal(mut self, name: &str) -> (Option<i32>, Duration) {
        let begun = Instant::now();
        self.send(name);
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return (status.code(), begun.elapsed());
            }
            assert!(
                begun.elapsed() < STOP_TIME_MAX,
                "the server does not stop:\n{}",
                self.log()
            );
            thread::sleep(POLL);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An address that nobody listens on, outside the range from which the kernel takes ports for
/// connections.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let offset = process::id()
            .wrapping_mul(37)
            .wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(10_000 + offset % 10_000).expect("below 20,000");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
