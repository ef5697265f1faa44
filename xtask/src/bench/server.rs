//! The two servers: how each is started, watched and ended.

use core::cell::Cell;
use core::net::Ipv4Addr;
use core::time::Duration;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::SystemTime;

const JARS_DIR: &str = "/usr/share/java";
/// What Debian's package puts on the class path.
const JARS: [&str; 29] = [
    "zookeeper",
    "zookeeper-jute",
    "slf4j-api",
    "slf4j-log4j12",
    "log4j-1.2",
    "snappy-java",
    "metrics-core",
    "commons-cli",
    "commons-io",
    "commons-lang3",
    "findbugs-annotations",
    "jackson-annotations",
    "jackson-core",
    "jackson-databind",
    "jetty9-server",
    "jetty9-servlet",
    "jetty9-http",
    "jetty9-io",
    "jetty9-util",
    "jetty9-util-ajax",
    "jetty9-security",
    "servlet-api",
    "netty-buffer",
    "netty-common",
    "netty-handler",
    "netty-transport",
    "netty-codec",
    "netty-resolver",
    "netty-transport-native-unix-common",
];
const READY_LIMIT_S: &str = "180";
/// What a four-letter word may take.
const WORD_LIMIT: Duration = Duration::from_secs(5);

/// Whose figure it is: that of what Zabra is compared with, or Zabra's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Peer,
    Zabra,
}

/// Apache ZooKeeper as Debian packages it.
pub(super) struct Apache {
    jars: Vec<PathBuf>,
}

impl Apache {
    pub(super) fn find() -> Result<Self, String> {
        let jars: Vec<_> = JARS
            .iter()
            .map(|jar| Path::new(JARS_DIR).join(format!("{jar}.jar")))
            .filter(|jar| jar.exists())
            .collect();
        let there = |name| jars.iter().any(|jar| jar.ends_with(name));
        if !there("zookeeper.jar") || Command::new("java").arg("-version").output().is_err() {
            return Err(format!(
                "expected Apache ZooKeeper in {JARS_DIR} and java on the path: \
                 apt-get install -y --no-install-recommends zookeeper"
            ));
        }
        Ok(Self { jars })
    }

    pub(super) fn jars(&self) -> &[PathBuf] {
        &self.jars
    }

    /// The version in the name of the file that is, or links to, zookeeper.jar.
    pub(super) fn version(&self) -> String {
        let names = fs::read_dir(JARS_DIR).into_iter().flatten().flatten();
        let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut versions = names.filter_map(|name| {
            let version = name.strip_prefix("zookeeper-")?.strip_suffix(".jar")?;
            version
                .starts_with(|c: char| c.is_ascii_digit())
                .then(|| version.to_owned())
        });
        versions
            .next()
            .unwrap_or_else(|| "of unknown version".to_owned())
    }

    /// The server with the heap that its own zkServer.sh gives it and the JVM's default collector.
    pub(super) fn command(&self) -> Vec<String> {
        let mut class_path = String::from(".");
        for jar in &self.jars {
            class_path += &format!(":{}", jar.display());
        }
        [
            "java",
            "-cp",
            &class_path,
            "-Xmx1000m",
            "-Dfile.encoding=UTF-8",
            "-Djava.awt.headless=true",
            "-Dzookeeper.jmx.log4j.disable=true",
            "-Dzookeeper.audit.enable=false",
            "-Dlog4j.configuration=file:log4j.properties",
            "-XX:+ExitOnOutOfMemoryError",
            "org.apache.zookeeper.server.quorum.QuorumPeerMain",
        ]
        .map(str::to_owned)
        .to_vec()
    }
}

/// Ports for the servers: a new one each, as a port is not free at once when its server has died.
#[derive(Debug, Default)]
pub(super) struct Ports {
    used: Cell<u16>,
}

impl Ports {
    const FIRST: u16 = 31_500;
    const COUNT: u16 = 80;

    /// The next of the range that nobody listens on.
    pub(super) fn next(&self) -> Result<u16, String> {
        for _ in 0..Self::COUNT {
            let port = Self::FIRST + self.used.get() % Self::COUNT;
            self.used.set(self.used.get() + 1);
            if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Ok(port);
            }
        }
        let last = Self::FIRST + Self::COUNT - 1;
        Err(format!(
            "expected a free port on 127.0.0.1 from {} to {last}",
            Self::FIRST
        ))
    }
}

/// A server with its data, killed when dropped.
pub(super) struct Server {
    dir: PathBuf,
    port: u16,
    command: Vec<String>,
    child: Option<Child>,
}

impl Server {
    /// Writes the configuration. `command` gets its path appended.
    pub(super) fn create(dir: PathBuf, port: u16, command: Vec<String>) -> Result<Self, String> {
        Self::create_with(dir, port, command, "")
    }

    /// The same with more lines in the configuration.
    fn create_with(
        dir: PathBuf,
        port: u16,
        command: Vec<String>,
        more: &str,
    ) -> Result<Self, String> {
        let failed = |error| format!("{}: {error}", dir.display());
        fs::create_dir_all(dir.join("data")).map_err(failed)?;
        let config = format!(
            "tickTime=2000\ninitLimit=10\nsyncLimit=5\ndataDir={}\nclientPort={port}\n\
             clientPortAddress=127.0.0.1\nmaxClientCnxns=0\nadmin.enableServer=false\n{more}",
            dir.join("data").display()
        );
        fs::write(dir.join("zoo.cfg"), config).map_err(failed)?;
        fs::write(dir.join("log4j.properties"), LOG4J).map_err(failed)?;
        Ok(Self {
            dir,
            port,
            command,
            child: None,
        })
    }

    /// The server `id` of an ensemble whose lines of the configuration are `servers`.
    pub(super) fn create_member(
        dir: PathBuf,
        port: u16,
        command: Vec<String>,
        (id, servers): (usize, &str),
    ) -> Result<Self, String> {
        let server = Self::create_with(dir, port, command, servers)?;
        let path = server.dir.join("data").join("myid");
        let written = fs::write(&path, format!("{id}\n"));
        written.map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(server)
    }

    /// Starts it; milliseconds from before the start to the first reply.
    pub(super) fn start(&mut self, zabra: &Path) -> Result<f64, String> {
        let start = self.spawn()?;
        let ready = self.ready(zabra)?;
        let start = start
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Ok(ready.field("ready_at_unix_us")? / 1000.0 - start.as_secs_f64() * 1000.0)
    }

    /// Starts it and does not wait; the time before the start.
    pub(super) fn spawn(&mut self) -> Result<SystemTime, String> {
        let out = self.dir.join("out");
        let file = |_| File::create(&out).map_err(|error| format!("{}: {error}", out.display()));
        let (program, arguments) = self.command.split_first().ok_or("an empty command")?;
        let start = SystemTime::now();
        let child = Command::new(program)
            .args(arguments)
            .arg(self.dir.join("zoo.cfg"))
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(file(())?)
            .stderr(file(())?)
            .spawn()
            .map_err(|error| format!("{program}: {error}"))?;
        self.child = Some(child);
        Ok(start)
    }

    /// Waits until it answers.
    pub(super) fn ready(&self, zabra: &Path) -> Result<Figures, String> {
        let ready = run_bench(
            zabra,
            &[
                "ready",
                "--host",
                &self.address(),
                "--limit",
                READY_LIMIT_S,
                "--json",
            ],
        );
        ready.map_err(|error| format!("{error}\n{}", self.last_words()))
    }

    /// Runs `zabra bench` against it.
    pub(super) fn bench(&self, zabra: &Path, arguments: &[&str]) -> Result<Figures, String> {
        let (address, pid) = (self.address(), self.pid()?.to_string());
        let common = ["--hosts", &address, "--server-pid", &pid, "--json"];
        let result = run_bench(zabra, &[arguments, &common].concat());
        result.map_err(|error| format!("{error}\n{}", self.last_words()))
    }

    /// Resident memory.
    pub(super) fn resident_mb(&self) -> Result<f64, String> {
        let path = format!("/proc/{}/status", self.pid()?);
        let status = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
        let kib: f64 = kib.ok_or_else(|| format!("{path}: expected a line VmRSS: N kB"))?;
        Ok(kib * 1024.0 / 1e6)
    }

    /// Ends it as a power cut would: what was acknowledged must be there after the next start.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only when it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Ends it and removes its data.
    pub(super) fn remove(mut self) -> Result<(), String> {
        self.kill();
        fs::remove_dir_all(&self.dir).map_err(|error| format!("{}: {error}", self.dir.display()))
    }

    /// What `srvr` calls its part in the ensemble; `None` if it has none, or no answer.
    pub(super) fn mode(&self) -> Option<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()?;
        stream.set_read_timeout(Some(WORD_LIMIT)).ok()?;
        stream.write_all(b"srvr").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let mode = answer
            .lines()
            .find_map(|line| line.strip_prefix("Mode: "))?;
        Some(mode.to_owned())
    }

    /// Removes what it has stored, as if it had never been.
    pub(super) fn wipe(&self) -> Result<(), String> {
        let stored = self.dir.join("data").join("version-2");
        fs::remove_dir_all(&stored).map_err(|error| format!("{}: {error}", stored.display()))
    }

    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(super) fn pid(&self) -> Result<u32, String> {
        self.child
            .as_ref()
            .map(Child::id)
            .ok_or_else(|| "the server is not running".to_owned())
    }

    /// The end of what it wrote, for an error message: its directory is about to be removed.
    pub(super) fn last_words(&self) -> String {
        let mut words = String::new();
        for name in ["out", "zk.log"] {
            let text = fs::read_to_string(self.dir.join(name)).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            let last = lines
                .get(lines.len().saturating_sub(15)..)
                .unwrap_or_default();
            words += &last.join("\n");
        }
        words
    }
}

/// Runs `zabra bench`.
pub(super) fn run_bench(zabra: &Path, arguments: &[&str]) -> Result<Figures, String> {
    let output = Command::new(zabra).arg("bench").args(arguments).output();
    let output = output.map_err(|error| format!("{}: {error}", zabra.display()))?;
    Figures::of(&output, arguments)
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

const LOG4J: &str = "\
log4j.rootLogger=WARN, FILE
log4j.appender.FILE=org.apache.log4j.FileAppender
log4j.appender.FILE.File=zk.log
log4j.appender.FILE.layout=org.apache.log4j.PatternLayout
log4j.appender.FILE.layout.ConversionPattern=%d{ISO8601} %-5p [%t:%C{1}@%L] - %m%n
";

/// The line of JSON that `zabra bench --json` prints.
#[derive(Debug)]
pub(super) struct Figures(String);

impl Figures {
    /// What a `zabra bench` that has ended printed.
    pub(super) fn of(output: &Output, arguments: &[&str]) -> Result<Self, String> {
        if output.status.success() {
            let line = String::from_utf8_lossy(&output.stdout);
            Ok(Self(line.into_owned()))
        } else {
            let words = String::from_utf8_lossy(&output.stderr);
            Err(format!("bench {}: {}", arguments.join(" "), words.trim()))
        }
    }

    /// A number of the line, which has no nesting.
    pub(super) fn field(&self, name: &str) -> Result<f64, String> {
        let rest = self
            .0
            .split_once(&format!("\"{name}\":"))
            .map(|(_, rest)| rest);
        let number = rest.and_then(|rest| rest.split([',', '}']).next()?.trim().parse().ok());
        number.ok_or_else(|| format!("expected a number {name:?} in {}", self.0.trim()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_by_their_whole_name() -> Result<(), String> {
        let line = r#"{"mix":"get=100","get_p50_us":7.5,"p50_us":8,"errors":0}"#;
        let figures = Figures(line.to_owned());
        assert!((figures.field("p50_us")? - 8.0).abs() < 1e-9);
        assert!((figures.field("get_p50_us")? - 7.5).abs() < 1e-9);
        assert!(figures.field("errors")?.abs() < 1e-9);
        assert!(figures.field("p99_us").is_err());
        assert!(figures.field("mix").is_err());
        Ok(())
    }

    #[test]
    fn port_in_use_is_passed_over() -> Result<(), String> {
        let first = Ports::default().next()?;
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, first));
        assert_ne!(Ports::default().next()?, first);
        drop(held);
        Ok(())
    }
}
