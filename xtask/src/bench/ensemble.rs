//! Three servers, and what only they can show: writes that a majority has on its disks, the time
//! without a leader, and a server that begins with nothing.

use core::time::Duration;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Instant, SystemTime};

use super::server::{Figures, Ports, Server, run_bench};
use super::table::median;

/// How many servers.
const TOTAL: usize = 3;
/// Of one kill to the next a server's timers are elsewhere: one kill says little.
const KILLS: usize = 3;
/// What forming, and joining with a whole state, may take.
const FORMED_LIMIT: Duration = Duration::from_secs(300);
/// Between two looks: short against what is measured.
const LOOK: Duration = Duration::from_millis(2);
/// An ensemble that has just formed, or changed, is left alone for so long.
const SETTLE: Duration = Duration::from_secs(2);
/// Two synchronous clients, as many as servers stay: what they feel of the third, not what the
/// machine can do.
const CLIENTS: &[&str] = &[
    "--mix",
    "get=50,set=50",
    "--connections",
    "2",
    "--outstanding",
    "1",
];

/// Three servers of one ensemble on this machine.
pub(super) struct Ensemble<'a> {
    servers: Vec<Server>,
    zabra: &'a Path,
}

/// What a server that came with nothing took, and what others felt of it.
pub(super) struct Join {
    pub(super) ms: f64,
    /// Quotients of the 99th percentiles meanwhile and before.
    pub(super) get_p99: f64,
    pub(super) set_p99: f64,
    /// The percentiles meanwhile.
    pub(super) get_p99_us: f64,
    pub(super) set_p99_us: f64,
}

impl<'a> Ensemble<'a> {
    /// Starts all, in `dir`; the second is milliseconds until all answer.
    pub(super) fn start(
        dir: &Path,
        ports: &Ports,
        command: &[String],
        zabra: &'a Path,
    ) -> Result<(Self, f64), String> {
        let mut lines = String::new();
        let mut places = Vec::new();
        for id in 1..=TOTAL {
            let [client, quorum, election] = [ports.next()?, ports.next()?, ports.next()?];
            lines += &format!("server.{id}=127.0.0.1:{quorum}:{election}\n");
            places.push((id, client));
        }
        let mut servers = Vec::new();
        for (id, port) in places {
            let dir: PathBuf = dir.join(id.to_string());
            let command = command.to_vec();
            servers.push(Server::create_member(dir, port, command, (id, &lines))?);
        }
        let start = SystemTime::now();
        for server in &mut servers {
            server.spawn()?;
        }
        let mut ready_us: f64 = 0.0;
        for server in &servers {
            let ready = server.ready(zabra)?;
            ready_us = ready_us.max(ready.field("ready_at_unix_us")?);
        }
        let start = start
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let ensemble = Self { servers, zabra };
        ensemble.leader()?;
        thread::sleep(SETTLE);
        Ok((ensemble, ready_us / 1000.0 - start.as_secs_f64() * 1000.0))
    }

    /// A load on all servers alike, and what it cost all of them.
    pub(super) fn bench(&self, arguments: &[&str]) -> Result<Figures, String> {
        let hosts = self.hosts(|_| true);
        let pids: Result<Vec<_>, _> = self.servers.iter().map(Server::pid).collect();
        let pids: Vec<_> = pids?.iter().map(u32::to_string).collect();
        let pids = pids.join(",");
        let common = ["--hosts", &hosts, "--server-pid", &pids, "--json"];
        self.run(&[arguments, &common].concat())
    }

    /// Creates znodes by way of the leader.
    pub(super) fn fill(&self, znodes: u64) -> Result<Figures, String> {
        let leader = self.leader()?;
        let (hosts, znodes) = (self.hosts(|i| i == leader), znodes.to_string());
        self.run(&["fill", "--hosts", &hosts, "--znodes", &znodes, "--json"])
    }

    /// Kills the leader while one client of the others writes: the longest time without an
    /// acknowledged write, the median of several kills. Whoever was killed comes back.
    pub(super) fn outage_ms(&mut self) -> Result<f64, String> {
        let mut figures = Vec::new();
        for _ in 0..KILLS {
            let leader = self.leader()?;
            let hosts = self.hosts(|i| i != leader);
            let arguments = ["outage", "--hosts", &hosts, "--seconds", "4", "--json"];
            let writer = self.begin(&arguments)?;
            thread::sleep(Duration::from_secs(2));
            self.server(leader)?.kill();
            let output = writer
                .wait_with_output()
                .map_err(|error| format!("outage: {error}"))?;
            figures.push(Figures::of(&output, &arguments)?.field("outage_ms")?);
            self.server(leader)?.spawn()?;
            self.await_mode(leader, "follower")?;
            thread::sleep(SETTLE);
        }
        median(&figures).ok_or_else(|| "no kill was measured".to_owned())
    }

    /// A follower loses everything and comes back, while clients of the others read and write.
    pub(super) fn join(&mut self, seconds: u32) -> Result<Join, String> {
        let leader = self.leader()?;
        let joiner = (0..TOTAL).find(|&i| i != leader).unwrap_or_default();
        self.server(joiner)?.kill();
        self.server(joiner)?.wipe()?;
        thread::sleep(SETTLE);
        let hosts = self.hosts(|i| i != joiner);
        let load = ["load", "--hosts", &hosts, "--json"];
        let load = [&load, CLIENTS].concat();
        let seconds = seconds.to_string();
        let idle = self.run(&[&load[..], &["--seconds", &seconds]].concat())?;
        let limit = FORMED_LIMIT.as_secs().to_string();
        let options = ["--until-eof", "--warmup", "0", "--seconds", &limit];
        let arguments = [&load[..], &options].concat();
        let mut clients = self.begin(&arguments)?;
        let begin = Instant::now();
        self.server(joiner)?.spawn()?;
        self.await_mode(joiner, "follower")?;
        let ms = begin.elapsed().as_secs_f64() * 1000.0;
        drop(clients.stdin.take());
        let output = clients
            .wait_with_output()
            .map_err(|error| format!("load: {error}"))?;
        let meanwhile = Figures::of(&output, &arguments)?;
        let quotient =
            |name| Ok::<f64, String>(meanwhile.field(name)? / idle.field(name)?.max(0.1));
        Ok(Join {
            ms,
            get_p99: quotient("get_p99_us")?,
            set_p99: quotient("set_p99_us")?,
            get_p99_us: meanwhile.field("get_p99_us")?,
            set_p99_us: meanwhile.field("set_p99_us")?,
        })
    }

    /// Ends all and removes their data.
    pub(super) fn remove(self) -> Result<(), String> {
        self.servers.into_iter().try_for_each(Server::remove)
    }

    /// Which server leads, waiting until all have a part.
    fn leader(&self) -> Result<usize, String> {
        let begin = Instant::now();
        while begin.elapsed() < FORMED_LIMIT {
            let modes: Vec<_> = self.servers.iter().filter_map(Server::mode).collect();
            if let [_, _, _] = modes.as_slice()
                && let Some(leader) = modes.iter().position(|mode| mode == "leader")
            {
                return Ok(leader);
            }
            thread::sleep(LOOK);
        }
        Err(format!("no ensemble came about\n{}", self.last_words()))
    }

    fn await_mode(&self, i: usize, wanted: &str) -> Result<(), String> {
        let begin = Instant::now();
        while begin.elapsed() < FORMED_LIMIT {
            let mode = self.servers.get(i).and_then(Server::mode);
            if mode.as_deref() == Some(wanted) {
                return Ok(());
            }
            thread::sleep(LOOK);
        }
        let words = self.last_words();
        Err(format!(
            "server {} did not become a {wanted}\n{words}",
            i + 1
        ))
    }

    fn server(&mut self, i: usize) -> Result<&mut Server, String> {
        let server = self.servers.get_mut(i);
        server.ok_or_else(|| format!("expected one of {TOTAL} servers, found number {}", i + 1))
    }

    fn hosts(&self, which: impl Fn(usize) -> bool) -> String {
        let servers = self.servers.iter().enumerate();
        let servers = servers.filter(|(i, _)| which(*i));
        let hosts: Vec<_> = servers.map(|(_, server)| server.address()).collect();
        hosts.join(",")
    }

    fn run(&self, arguments: &[&str]) -> Result<Figures, String> {
        run_bench(self.zabra, arguments).map_err(|error| format!("{error}\n{}", self.last_words()))
    }

    fn begin(&self, arguments: &[&str]) -> Result<std::process::Child, String> {
        Command::new(self.zabra)
            .arg("bench")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", self.zabra.display()))
    }

    fn last_words(&self) -> String {
        let words: Vec<_> = self.servers.iter().map(Server::last_words).collect();
        words.join("\n")
    }
}
