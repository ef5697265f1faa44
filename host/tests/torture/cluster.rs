//! An ensemble of processes, and what can be done to each.

use core::fmt::Write as _;
use core::net::SocketAddr;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Instant;

use super::membership::{Members, Role};
use super::network::{Addresses, Host, Network, run, run_id};
use super::support::wire;

/// Small ticks make for short waits: a learner has `SYNC_LIMIT` of them to be heard from.
pub(crate) const TICK_MS: u64 = 500;
pub(crate) const SYNC_LIMIT: u64 = 4;
const INIT_LIMIT: u64 = 20;

/// Of a server's file system, which lives in memory.
const DISK_BYTES: u64 = 192 << 20;
const DISK_SPARED_BYTES: u64 = 1 << 20;
const WORD_TIME_MAX: Duration = Duration::from_millis(700);
const STOP_TIME_MAX: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);
const LOG_LINES_SHOWN: usize = 12;

/// What a server says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Leader,
    Follower,
    Observer,
    /// It serves nobody, or only those who asked for read-only.
    Without,
    /// It does not answer.
    Silent,
}

/// What a server answers to `srvr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) mode: Mode,
    pub(crate) zxid: i64,
}

struct Server {
    id: Host,
    home: PathBuf,
    data: PathBuf,
    process: Option<Child>,
    paused: bool,
    /// Its disk was full: it may end by itself, and is begun again as by any supervisor.
    may_end: bool,
}

/// An ensemble. It ends, whatever happens, with the run's namespaces; without them when this is
/// dropped.
pub(crate) struct Cluster {
    pub(crate) network: Network,
    /// Who is in the ensemble, as far as it is known.
    pub(crate) members: Members,
    servers: Vec<Server>,
    home: PathBuf,
    options: String,
    /// Where the logs of lost disks are.
    wiped: Vec<PathBuf>,
}

impl Cluster {
    /// Makes an ensemble of so many voters and observers, and starts it. `options` are lines for the
    /// configuration of each server.
    pub(crate) fn start(
        name: &str,
        (voters, observers): (u32, u32),
        namespaces: bool,
        options: impl Fn(Host) -> String,
    ) -> Self {
        let home = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let home = home.join(format!("torture-{}-{name}", run_id()));
        let _ = fs::remove_dir_all(&home);
        let network = Network::new(voters + observers, namespaces);
        let role = |id| {
            if id <= voters {
                Role::Participant
            } else {
                Role::Observer
            }
        };
        let members = network.servers();
        let members = members.map(|id| (id, network.member(id, role(id))));
        let members = Members(members.collect());
        let servers = network.servers().map(|id| {
            let home = home.join(format!("s{id}"));
            let data = home.join("data");
            fs::create_dir_all(&data).unwrap();
            if namespaces {
                let size = format!("size={DISK_BYTES}");
                let data = data.to_str().unwrap();
                run("mount", &["-t", "tmpfs", "-o", &size, "torture", data]);
            }
            fs::write(data.join("myid"), format!("{id}\n")).unwrap();
            // It has nothing, and nothing is right.
            fs::write(data.join("initialize"), "").unwrap();
            let lines = members.to_lines();
            fs::write(home.join("zoo.cfg"), config(&data, &lines, &options(id))).unwrap();
            Server {
                id,
                home,
                data,
                process: None,
                paused: false,
                may_end: false,
            }
        });
        let servers = servers.collect();
        let mut cluster = Self {
            network,
            members,
            servers,
            home,
            options: options(1),
            wiped: Vec::new(),
        };
        for server in cluster.network.servers() {
            cluster.launch(server);
        }
        cluster
    }

    fn of(&mut self, id: Host) -> &mut Server {
        let server = self.servers.iter_mut().find(|server| server.id == id);
        server.expect("a server of the ensemble")
    }

    /// All, whether or not they are in the ensemble.
    pub(crate) fn hosts(&self) -> Vec<Host> {
        self.servers.iter().map(|server| server.id).collect()
    }

    /// Those in the ensemble.
    pub(crate) fn ids(&self) -> Vec<Host> {
        self.members.0.keys().copied().collect()
    }

    /// Those in the ensemble with this role.
    pub(crate) fn with_role(&self, wanted: Role) -> Vec<Host> {
        let roles = self.members.roles().into_iter();
        roles.filter(|it| it.1 == wanted).map(|it| it.0).collect()
    }

    /// Those that are not in the ensemble.
    pub(crate) fn outside(&self) -> BTreeSet<Host> {
        let hosts = self.hosts().into_iter();
        hosts
            .filter(|id| !self.members.0.contains_key(id))
            .collect()
    }

    pub(crate) fn runs(&mut self, id: Host) -> bool {
        self.of(id).process.is_some()
    }

    /// Starts a server outside the ensemble, with a configuration by which it finds the others: the
    /// membership that is known, and itself as an observer.
    pub(crate) fn launch_outside(&mut self, id: Host) {
        let mut lines = self.members.to_lines();
        let member = self.network.member(id, Role::Observer);
        writeln!(lines, "server.{id}={member}").unwrap();
        let options = self.options.clone();
        let server = self.of(id);
        for entry in fs::read_dir(&server.home).unwrap().flatten() {
            if entry.file_name().to_string_lossy().starts_with("zoo.cfg") {
                fs::remove_file(entry.path()).unwrap();
            }
        }
        let text = config(&server.data, &lines, &options);
        fs::write(server.home.join("zoo.cfg"), text).unwrap();
        self.launch(id);
    }

    pub(crate) fn client_addresses(&self) -> Vec<SocketAddr> {
        let ids = self.network.servers();
        ids.map(|id| self.network.of(id).client).collect()
    }

    pub(crate) fn data(&self) -> impl Iterator<Item = (Host, &Path)> {
        let servers = self.servers.iter();
        servers.map(|server| (server.id, server.data.as_path()))
    }

    /// The logs of disks that were lost.
    pub(crate) fn wiped(&self) -> impl Iterator<Item = &Path> {
        self.wiped.iter().map(PathBuf::as_path)
    }

    /// Starts a server's process, unless it has one.
    pub(crate) fn launch(&mut self, id: Host) {
        let binary =
            env::var_os("TORTURE_SERVER").unwrap_or_else(|| env!("CARGO_BIN_EXE_zabra").into());
        let mut command = self.network.command(id, Path::new(&binary));
        let server = self.of(id);
        if server.process.is_some() {
            return;
        }
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(server.home.join("log"))
            .unwrap();
        command
            .args(["server", "--exit-with-stdin", "--config"])
            .arg(server.home.join("zoo.cfg"))
            // It ends with this process, whatever ends that.
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        // Each of ours is a setting of the server; the test's own are all in the file.
        for (name, _) in env::vars_os().filter(|it| it.0.to_string_lossy().starts_with("ZABRA_")) {
            command.env_remove(name);
        }
        server.process = Some(command.spawn().unwrap());
        server.paused = false;
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self, id: Host) {
        let server = self.of(id);
        if let Some(mut process) = server.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
        server.paused = false;
    }

    /// Takes note of a process that has ended by itself.
    pub(crate) fn ended(&mut self, id: Host) -> Option<ExitStatus> {
        let server = self.of(id);
        let status = server.process.as_mut()?.try_wait().unwrap()?;
        server.process = None;
        Some(status)
    }

    fn signal(&mut self, id: Host, signal: &str) {
        let process = self.of(id).process.as_ref().expect("it runs");
        let pid = process.id().to_string();
        run("sh", &["-c", &format!("kill -{signal} {pid}")]);
    }

    /// Keeps a process from running, if there is one; its connections stay.
    pub(crate) fn pause(&mut self, id: Host) {
        if self.runs(id) {
            self.signal(id, "STOP");
            self.of(id).paused = true;
        }
    }

    /// Lets all run again that do not.
    pub(crate) fn resume_all(&mut self) {
        for id in self.hosts() {
            if self.of(id).paused {
                self.signal(id, "CONT");
                self.of(id).paused = false;
            }
        }
    }

    /// Removes everything but the server's number, as if it had a new disk. Its logs are kept
    /// elsewhere: when every server has been wiped once, nobody else has the beginning.
    pub(crate) fn wipe(&mut self, id: Host) {
        let versioned = self.of(id).data.join("version-2");
        let aside = self.home.join(format!("wiped-{}", self.wiped.len()));
        fs::create_dir_all(&aside).unwrap();
        for entry in fs::read_dir(&versioned).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with("log.") {
                fs::copy(entry.path(), aside.join(entry.file_name())).unwrap();
            }
        }
        self.wiped.push(aside);
        // Whoever is wiped twice may have had nothing yet.
        let _ = fs::remove_dir_all(versioned);
    }

    /// Leaves no room on a server's disk.
    pub(crate) fn fill_disk(&mut self, id: Host) {
        self.of(id).may_end = true;
        let filler = self.of(id).data.join("filler");
        let filler = filler.display();
        // At once nearly all, then what is left beside what the server writes meanwhile.
        let command = format!(
            "free=$(df --output=avail -B1 $(dirname '{filler}') | tail -1)
             fallocate -l $((free - {DISK_SPARED_BYTES})) '{filler}'
             cat /dev/zero >>'{filler}' 2>/dev/null || true"
        );
        run("sh", &["-c", &command]);
    }

    /// Gives the room back.
    pub(crate) fn free_disk(&mut self, id: Host) {
        let _ = fs::remove_file(self.of(id).data.join("filler"));
    }

    /// Has every `fdatasync` of a server's log take so long, until the tracer ends.
    pub(crate) fn slow_disk(&mut self, id: Host, delay: Duration) -> Option<Child> {
        let process = self.of(id).process.as_ref()?;
        let tasks = fs::read_dir(format!("/proc/{}/task", process.id())).ok()?;
        let log_lane = tasks.flatten().find(|task| {
            let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            name.trim() == "zabra-log"
        })?;
        let inject = format!("inject=fdatasync,fsync:delay_exit={}", delay.as_micros());
        Command::new("strace")
            .args([
                "-q",
                "-o",
                "/dev/null",
                "-e",
                "trace=fdatasync,fsync",
                "-e",
                &inject,
            ])
            .arg("-p")
            .arg(log_lane.file_name())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()
    }

    pub(crate) fn addresses(&self, id: Host) -> Addresses {
        self.network.of(id)
    }

    pub(crate) fn status(&self, id: Host) -> Status {
        let answer = wire::word(self.network.of(id).client, "srvr", WORD_TIME_MAX);
        let text = answer.unwrap_or_default();
        let after = |name| text.lines().find_map(|line| line.strip_prefix(name));
        let mode = match after("Mode: ") {
            Some("leader") => Mode::Leader,
            Some("follower") => Mode::Follower,
            Some("observer") => Mode::Observer,
            _ if text.is_empty() => Mode::Silent,
            _ => Mode::Without,
        };
        let zxid = after("Zxid: 0x").and_then(|hex| i64::from_str_radix(hex, 16).ok());
        Status {
            mode,
            zxid: zxid.unwrap_or(-1),
        }
    }

    /// How many sessions it knows of.
    fn sessions(&self, id: Host) -> Option<u64> {
        let answer = wire::word(self.network.of(id).client, "mntr", WORD_TIME_MAX).ok()?;
        let mut counts = answer
            .lines()
            .filter_map(|line| line.strip_prefix("zk_global_sessions\t"));
        counts.next()?.trim().parse().ok()
    }

    /// The server that leads, as far as it is known from outside.
    pub(crate) fn leader(&self) -> Option<Host> {
        let ids = self.ids().into_iter();
        let leaders = ids.filter(|&id| self.status(id).mode == Mode::Leader);
        leaders.max_by_key(|&id| self.status(id).zxid)
    }

    /// Waits until one leads and all others follow or observe, and returns how long that took.
    ///
    /// # Panics
    /// If it takes too long, or a process has ended.
    pub(crate) fn wait_until_whole(&mut self, time_max: Duration) -> Duration {
        let begun = Instant::now();
        loop {
            let roles = self.members.roles();
            for &id in roles.keys() {
                let Some(status) = self.ended(id) else {
                    continue;
                };
                let text = format!("server {id} ended: {status}");
                assert!(self.of(id).may_end, "{text}\n{}", self.log_ends());
                eprintln!("  without room {text}");
                self.launch(id);
            }
            let modes: BTreeMap<Host, Mode> =
                roles.keys().map(|&id| (id, self.status(id).mode)).collect();
            let as_they_should = roles.iter().all(|(id, role)| match modes.get(id) {
                Some(Mode::Leader | Mode::Follower) => *role == Role::Participant,
                Some(Mode::Observer) => *role == Role::Observer,
                Some(Mode::Without | Mode::Silent) | None => false,
            });
            let leaders = modes.values().filter(|&&mode| mode == Mode::Leader);
            if as_they_should && leaders.count() == 1 {
                for server in &mut self.servers {
                    server.may_end = false;
                }
                return begun.elapsed();
            }
            assert!(
                begun.elapsed() < time_max,
                "after {time_max:?} the ensemble is not whole: {modes:?}\n{}",
                self.log_ends()
            );
            thread::sleep(POLL);
        }
    }

    /// Waits until all have the same last zxid for a while and no session is left, and returns it. A
    /// session whose client never heard of it ends a timeout after the last leader began.
    pub(crate) fn wait_until_equal(&self, time_max: Duration) -> i64 {
        let begun = Instant::now();
        let mut before = Vec::new();
        loop {
            let statuses: Vec<Status> = self.ids().iter().map(|&id| self.status(id)).collect();
            let first = statuses.first().map_or(-1, |status| status.zxid);
            let equal = first >= 0 && statuses.iter().all(|status| status.zxid == first);
            let sessions: Vec<_> = self.ids().iter().map(|&id| self.sessions(id)).collect();
            let over = sessions.iter().all(|count| *count == Some(0));
            if equal && over && before == statuses {
                return first;
            }
            assert!(
                begun.elapsed() < time_max,
                "after {time_max:?} servers differ: {statuses:x?}, or sessions are left: \
                 {sessions:?}\n{}",
                self.log_ends()
            );
            before = statuses;
            thread::sleep(Duration::from_millis(2 * TICK_MS));
        }
    }

    /// Ends every process as an operator would.
    pub(crate) fn stop(&mut self) {
        for id in self.hosts() {
            if self.of(id).process.is_some() {
                self.signal(id, "TERM");
            }
        }
        let end = Instant::now() + STOP_TIME_MAX;
        for id in self.hosts() {
            while self.of(id).process.is_some() {
                if let Some(status) = self.ended(id) {
                    assert!(
                        status.success(),
                        "server {id}: {status}\n{}",
                        self.log_ends()
                    );
                }
                assert!(Instant::now() < end, "server {id} does not stop");
                thread::sleep(POLL);
            }
        }
    }

    /// The last lines of every server's log.
    fn log_ends(&self) -> String {
        let mut text = String::new();
        for server in &self.servers {
            let log = fs::read(server.home.join("log")).unwrap_or_default();
            let log = String::from_utf8_lossy(&log).into_owned();
            let mut lines: Vec<&str> = log.lines().rev().take(LOG_LINES_SHOWN).collect();
            lines.reverse();
            writeln!(text, "--- server {}\n{}", server.id, lines.join("\n")).unwrap();
        }
        text
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for id in self.hosts() {
            self.kill(id);
        }
        let wrong = thread::panicking();
        for server in &self.servers {
            if wrong {
                copy_directory(&server.data, &server.home.join("kept"));
            }
            if self.network.can_cut() {
                let _ = Command::new("umount").arg(&server.data).status();
            }
        }
        if wrong {
            eprintln!("left for you to look at: {}", self.home.display());
        } else {
            let _ = fs::remove_dir_all(&self.home);
        }
    }
}

fn config(data: &Path, members: &str, options: &str) -> String {
    format!(
        "tickTime={TICK_MS}\ninitLimit={INIT_LIMIT}\nsyncLimit={SYNC_LIMIT}\n\
         dataDir={}\n\
         admin.enableServer=false\n4lw.commands.whitelist=*\nmaxClientCnxns=0\n\
         preAllocSize=64\ndb.autocreate=false\n{options}\n{members}",
        data.display(),
    )
}

/// What of it can be copied.
fn copy_directory(from: &Path, to: &Path) {
    let _ = fs::create_dir_all(to);
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_directory(&entry.path(), &target);
        } else if entry.file_name() != "filler"
            && let (Ok(mut from), Ok(mut to)) = (File::open(entry.path()), File::create(target))
        {
            let _ = std::io::copy(&mut from, &mut to);
        }
    }
}
