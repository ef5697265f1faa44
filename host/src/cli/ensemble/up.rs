//! `zabra ensemble up`: an ensemble on this machine.

use core::time::Duration;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;
use std::{env, path, process};

use super::address::Address;
use super::condition::{self, Answer, Condition, Role};
use super::layout::{self, Layout, Settings, Shape};
use super::ports::Ports;
use super::process::{Process, how};
use super::stop::Stop;
use super::table::table;
use super::{Failure, count, print, tell};

/// More servers than that show nothing on one machine that fewer do not.
const SERVERS_MAX: i64 = 25;
const SECONDS_MAX: u64 = 3600;
const POLL: Duration = Duration::from_millis(50);
/// Ports that cannot be had are named, but not all of 150.
const TAKEN_SHOWN: usize = 3;
/// Servers of this machine answer in no time, or are about to.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);
/// Before a server is started again: at first, and at most if it ends again and again.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(30);
/// A server that has lived that long was not started in vain.
const LIFE_MIN: Duration = Duration::from_secs(30);

/// What `--help` says at its end.
pub(super) const AFTER_HELP: &str = "\
Every server is a process of its own on 127.0.0.1. Once all serve, the connect string and a table
of the servers are printed. Each server's zoo.cfg, data and log (zabra.log) are in DIR/server.N. A
server that ends is reported with the end of its log, and the others go on. Ctrl-C, SIGTERM and
SIGHUP stop all; none outlives this process, even if that is killed.

    zabra ensemble up                             three servers, all free ports
    zabra ensemble up --servers 5 --observers 1   and a server without a vote
    zabra ensemble up --dir ./zk --base-port 2181 data that stays; clients at 2181, 2182, 2183
    zabra ensemble up -- reconfigEnabled=true     a line for every zoo.cfg

Exit codes: 0 stopped when told to, 1 the servers did not come to serve or all have ended, 2 wrong
command line";

/// `zabra ensemble up`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// How many servers have a vote [default: 3, or what is in DIR]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=SERVERS_MAX))]
    servers: Option<u16>,
    /// How many servers observe [default: 0, or what is in DIR]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=SERVERS_MAX))]
    observers: Option<u16>,
    /// Where the servers' directories are; what is there is used again [default: a temporary
    /// directory, removed at the end]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The first of three ports for each server: those of clients come first, then those of the
    /// quorum, then those of elections [default: free ones, or what is in DIR]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    base_port: Option<u16>,
    /// tickTime in milliseconds: the shorter, the sooner a dead server is noticed
    #[arg(
        long,
        value_name = "MS",
        default_value_t = 2000,
        value_parser = clap::value_parser!(u32).range(1..=3_600_000)
    )]
    tick_time: u32,
    /// Starts a server again that has ended
    #[arg(long)]
    restart: bool,
    /// How long the servers may take until all serve
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 60,
        value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX)
    )]
    timeout: u64,
    /// Lines for every server's zoo.cfg
    #[arg(last = true, value_name = "KEY=VALUE")]
    extras: Vec<String>,
}

/// Runs an ensemble until it is told to stop.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let extras: Result<Vec<_>, String> = args.extras.iter().map(|it| layout::extra(it)).collect();
    let settings = Settings {
        tick_ms: args.tick_time,
        extras: extras.map_err(Failure::Usage)?,
    };
    // From here on a signal must not end this process before what it has made is gone.
    let mut stop = Stop::new()?;
    let mut directory = Directory::open(args.dir.as_deref()).map_err(Failure::Running)?;
    let shape = shape(args, &directory.path)?;
    let taken = shape.ports.taken();
    if !taken.is_empty() {
        let (shown, more) = taken.split_at(taken.len().min(TAKEN_SHOWN));
        let more = match more.len() {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        return Err(Failure::Running(format!(
            "{}{more}; stop what is there, or choose other ports by --base-port",
            shown.join(", ")
        )));
    }
    let layout = Layout::new(directory.path.clone(), shape);
    layout.write(&settings).map_err(Failure::Running)?;
    let mut ensemble = Ensemble::start(layout)?;
    let time_max = Duration::from_secs(args.timeout);
    let told = match ensemble.wait_until_serving(time_max, &mut stop) {
        Ok(told) => told,
        Err(message) => {
            ensemble.stop();
            // The logs are for whoever wants to know more.
            directory.temporary = false;
            let path = directory.path.display();
            return Err(Failure::Running(format!(
                "{message}\nall are stopped; what they wrote is left in {path}"
            )));
        }
    };
    if !told {
        print(&ensemble.introduction(&directory));
        let ended = ensemble.watch(args.restart, &mut stop);
        ensemble.stop();
        return ended;
    }
    ensemble.stop();
    Ok(())
}

/// How many servers and which ports: as it is said, as it was when the directory was made, or as it
/// goes without saying.
fn shape(args: &Args, directory: &Path) -> Result<Shape, Failure> {
    let made = Shape::read(directory).map_err(Failure::Running)?;
    let Some(made) = made else {
        let (servers, observers) = (args.servers.unwrap_or(3), args.observers.unwrap_or(0));
        let all = servers + observers;
        let ports = match args.base_port {
            Some(base) => Ports::at(base, all).map_err(Failure::Usage)?,
            None => Ports::find(all).map_err(Failure::Running)?,
        };
        return Ok(Shape {
            servers,
            observers,
            ports,
        });
    };
    for (option, said, was) in [
        ("--servers", args.servers, made.servers),
        ("--observers", args.observers, made.observers),
        ("--base-port", args.base_port, made.ports.base),
    ] {
        if let Some(said) = said
            && said != was
        {
            return Err(Failure::Usage(format!(
                "{}: there is an ensemble with {option} {was}, found {option} {said}; leave the \
                 option out, or choose another directory",
                directory.display()
            )));
        }
    }
    Ok(made)
}

/// Where an ensemble is. A temporary one is removed when it is dropped.
struct Directory {
    path: PathBuf,
    temporary: bool,
}

impl Directory {
    fn open(named: Option<&Path>) -> Result<Self, String> {
        let Some(path) = named else {
            return Self::temporary();
        };
        // Servers are told of it by paths, and a server's own are absolute.
        let wrong = |error| {
            let error = layout::about(path, &error);
            format!("--dir: expected a directory, or a place to make one: {error}")
        };
        let path = path::absolute(path).map_err(wrong)?;
        fs::create_dir_all(&path).map_err(wrong)?;
        Ok(Self {
            path,
            temporary: false,
        })
    }

    fn temporary() -> Result<Self, String> {
        let parent = env::temp_dir();
        let path = parent.join(format!("zabra-ensemble-{}", process::id()));
        // An old one of that name was left by a process that was killed: it is nobody's now.
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(layout::about(&path, &error));
            }
            _ => {}
        }
        // Others of this machine need not read what is in it.
        let mut builder = fs::DirBuilder::new();
        let made = builder.mode(0o700).create(&path);
        made.map_err(|error| layout::about(&path, &error))?;
        Ok(Self {
            path,
            temporary: true,
        })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.temporary
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            tell(&format!(
                "warning: {} is left over: {error}",
                self.path.display()
            ));
        }
    }
}

/// A server and its process.
struct Member {
    id: u16,
    address: Address,
    process: Option<Process>,
    started: Instant,
    /// When it is started again.
    again: Option<Instant>,
    pause: Duration,
}

/// The servers of a local ensemble.
struct Ensemble {
    layout: Layout,
    members: Vec<Member>,
    /// As they were when all served.
    roles: Vec<Role>,
}

impl Ensemble {
    fn start(layout: Layout) -> Result<Self, Failure> {
        let mut members = Vec::new();
        for id in layout.servers() {
            let process = Process::start(&layout.config(id), &layout.log(id)).map_err(|error| {
                Failure::Running(format!("server {id} cannot be started: {error}"))
            })?;
            members.push(Member {
                id,
                address: Address {
                    host: "127.0.0.1".to_owned(),
                    port: layout.shape.ports.client(id),
                },
                process: Some(process),
                started: Instant::now(),
                again: None,
                pause: RESTART_PAUSE,
            });
        }
        Ok(Self {
            layout,
            members,
            roles: Vec::new(),
        })
    }

    /// Returns whether it was told to stop before.
    fn wait_until_serving(&mut self, limit: Duration, stop: &mut Stop) -> Result<bool, String> {
        let end = Instant::now() + limit;
        loop {
            if let Some(ended) = self.members.iter_mut().find_map(Member::end) {
                return Err(ended);
            }
            let roles: Option<Vec<Role>> = self.members.iter().map(Member::role).collect();
            if let Some(roles) = roles {
                self.roles = roles;
                return Ok(false);
            }
            if Instant::now() >= end {
                return Err(self.those_that_do_not_serve(limit));
            }
            if stop.within(POLL) {
                return Ok(true);
            }
        }
    }

    fn those_that_do_not_serve(&self, limit: Duration) -> String {
        let mut text = String::new();
        for member in &self.members {
            if member.role().is_none()
                && let Some(process) = &member.process
            {
                let (id, words) = (member.id, process.last_words());
                text += &format!("\nserver {id} does not serve; {words}");
            }
        }
        let (all, seconds) = (count(self.members.len(), "server"), limit.as_secs());
        format!("expected {all} to serve within {seconds} s (--timeout){text}")
    }

    fn introduction(&self, directory: &Directory) -> String {
        let servers: Vec<String> = self
            .members
            .iter()
            .map(|member| member.address.to_string())
            .collect();
        let rows: Vec<[String; 5]> = self
            .members
            .iter()
            .zip(&self.roles)
            .map(|(member, role)| {
                let process = member.process.as_ref();
                [
                    member.id.to_string(),
                    role.name().to_owned(),
                    member.address.port.to_string(),
                    process.map_or_else(String::new, |it| it.id().to_string()),
                    self.layout.home(member.id).display().to_string(),
                ]
            })
            .collect();
        let headings = ["ID", "ROLE", "CLIENT PORT", "PID", "DIRECTORY"];
        let end = if directory.temporary {
            "Ctrl-C stops all and removes their data."
        } else {
            "Ctrl-C stops all; their data stays."
        };
        format!(
            "connect with: {}\n\n{}\n{end}\n",
            servers.join(","),
            table(headings, &rows)
        )
    }

    /// Watches until it is told to stop, or no server is left.
    fn watch(&mut self, restart: bool, stop: &mut Stop) -> Result<(), Failure> {
        while !stop.within(POLL) {
            for member in &mut self.members {
                if let Some(ended) = member.end() {
                    tell(&ended);
                    if restart {
                        member.plan();
                    }
                }
                member.start_again(&self.layout);
            }
            let done = |member: &Member| member.process.is_none() && member.again.is_none();
            if self.members.iter().all(done) {
                return Err(Failure::Running("no server is left".to_owned()));
            }
        }
        Ok(())
    }

    /// Stops all servers, at once.
    fn stop(&mut self) {
        for process in self.members.iter_mut().filter_map(|it| it.process.as_mut()) {
            process.stop();
        }
        for member in &mut self.members {
            if let Some(process) = member.process.take()
                && let Err(message) = process.wait()
            {
                tell(&format!("warning: server {} {message}", member.id));
            }
        }
    }
}

impl Member {
    /// What it does, if it serves.
    fn role(&self) -> Option<Role> {
        match condition::ask_role(&self.address, ANSWER_TIME_MAX) {
            Answer::Condition(Condition { role, .. }) => match role {
                Role::NotServing | Role::ReadOnly => None,
                Role::Follower | Role::Leader | Role::Observer | Role::Standalone => Some(role),
            },
            Answer::Silence(_) | Answer::Strange(_) => None,
        }
    }

    /// What there is to say if its process has just ended.
    fn end(&mut self) -> Option<String> {
        let process = self.process.as_mut()?;
        let how = match process.ended() {
            Ok(None) => return None,
            Ok(Some(status)) => how(status),
            Err(error) => format!("cannot be looked at: {error}"),
        };
        let (pid, words) = (process.id(), process.last_words());
        self.process = None;
        Some(format!("server {} (pid {pid}) {how}; {words}", self.id))
    }

    /// One that ends again and again is not started all the time.
    fn plan(&mut self) {
        if self.started.elapsed() >= LIFE_MIN {
            self.pause = RESTART_PAUSE;
        }
        self.again = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(RESTART_PAUSE_MAX);
    }

    fn start_again(&mut self, layout: &Layout) {
        if self.again.is_none_or(|again| Instant::now() < again) {
            return;
        }
        self.again = None;
        self.started = Instant::now();
        match Process::start(&layout.config(self.id), &layout.log(self.id)) {
            Ok(process) => {
                tell(&format!(
                    "server {} is started again, pid {}",
                    self.id,
                    process.id()
                ));
                self.process = Some(process);
            }
            Err(error) => {
                tell(&format!("server {} cannot be started: {error}", self.id));
                self.plan();
            }
        }
    }
}
