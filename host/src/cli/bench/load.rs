//! The closed loop: every connection keeps a fixed number of requests in flight.
//!
//! Latency runs from queueing a request to having received its reply. As every reply makes room for
//! the next request, a server that stalls is also asked less: the percentiles are those of the
//! answered requests, and `oldest_unanswered` says how long the others were waiting at the end.

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use mio::event::Event;
use mio::{Events, Interest, Poll, Token};
use zabra_core::error::ErrorCode;

use super::connection::{self, Answer, Connection, Pending, Progress};
use super::error::Error;
use super::frame::Request;
use super::histogram::Histogram;
use super::mix::{Mix, Operation};
use super::process;
use super::report::Report;

const SESSION_TIMEOUT_MS: i32 = 30_000;
/// What each wait of the set-up may take.
const SET_UP_TIMEOUT: Duration = Duration::from_secs(30);
/// Requests in flight while the znodes are made: one at a time takes minutes on a slow disk.
const SET_UP_WINDOW: usize = 256;
const ZNODES_PER_DIRECTORY: u64 = 1000;
const LS_CHILDREN: u64 = 10;
const POLL_TIMEOUT: Duration = Duration::from_millis(100);
/// What answering the last requests may take, and then closing the sessions.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// What is to be measured.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) hosts: Vec<String>,
    pub(super) connections: u32,
    pub(super) outstanding: u32,
    /// Bytes of data in a znode.
    pub(super) size: u32,
    /// Processes of the servers.
    pub(super) servers: Vec<u32>,
    pub(super) workload: Workload,
    /// Ends the load before its time.
    pub(super) stop: Arc<AtomicBool>,
}

/// Which requests, and how long.
#[derive(Clone, Debug)]
pub(super) enum Workload {
    /// Creates `znodes`, 1,000 to a directory.
    Fill { znodes: u64, limit: Duration },
    /// Sends `mix` for `window`, after `warmup`.
    Load {
        mix: Mix,
        znodes: u64,
        warmup: Duration,
        window: Duration,
    },
}

impl Workload {
    fn warmup(&self) -> Duration {
        match self {
            Self::Fill { .. } => Duration::ZERO,
            Self::Load { warmup, .. } => *warmup,
        }
    }

    fn window(&self) -> Duration {
        match self {
            Self::Fill { limit, .. } => *limit,
            Self::Load { window, .. } => *window,
        }
    }
}

/// What was counted and timed.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) all: Histogram,
    pub(super) by_operation: Vec<(Operation, Histogram)>,
    pub(super) refused: u64,
    pub(super) refused_last: Option<ErrorCode>,
}

impl Tally {
    fn new(workload: &Workload) -> Self {
        let operations = match workload {
            Workload::Fill { .. } => vec![Operation::Create],
            Workload::Load { mix, .. } => mix.operations().collect(),
        };
        Self {
            all: Histogram::new(),
            by_operation: operations
                .into_iter()
                .map(|one| (one, Histogram::new()))
                .collect(),
            refused: 0,
            refused_last: None,
        }
    }

    fn add(&mut self, pending: Pending, answer: Answer, now: Instant) {
        let Some(operation) = pending.operation else {
            return;
        };
        let latency = now.saturating_duration_since(pending.at);
        self.all.record(latency);
        if let Some((_, own)) = self
            .by_operation
            .iter_mut()
            .find(|(one, _)| *one == operation)
        {
            own.record(latency);
        }
        if let Err(code) = answer {
            self.refused += 1;
            self.refused_last = Some(code);
        }
    }
}

/// Makes the next request.
#[derive(Debug)]
struct Generator {
    workload: Workload,
    data: Vec<u8>,
    /// How many znodes were created so far: their names.
    created: u64,
    random: u64,
    run: u32,
}

impl Generator {
    fn new(plan: &Plan) -> Self {
        Self {
            workload: plan.workload.clone(),
            data: vec![b'x'; plan.size as usize],
            created: 0,
            random: 0x9e37_79b9_7f4a_7c15,
            run: std::process::id(),
        }
    }

    /// Queues the next request, if there is one to make.
    fn queue(&mut self, connection: &mut Connection<mio::net::TcpStream>) {
        let data = self.data.as_slice();
        match &self.workload {
            Workload::Fill { znodes, .. } => {
                if self.created == *znodes {
                    return;
                }
                let directory = self.created / ZNODES_PER_DIRECTORY;
                let n = self.created % ZNODES_PER_DIRECTORY;
                self.created += 1;
                let request = if n == 0 {
                    Request::Create {
                        path: format_args!("/zbench/f{directory}"),
                        data,
                    }
                } else {
                    Request::Create {
                        path: format_args!("/zbench/f{directory}/n{n}"),
                        data,
                    }
                };
                connection.queue(Operation::Create, request);
            }
            Workload::Load { mix, znodes, .. } => {
                let operation = mix.pick(xorshift(&mut self.random));
                if operation == Operation::Create {
                    self.created += 1;
                }
                let (n, run) = (self.created, self.run);
                let znode = xorshift(&mut self.random) % znodes;
                let path = format_args!("/zbench/{znode}");
                let request = match operation {
                    Operation::Create => Request::Create {
                        path: format_args!("/zbench/c{run}-{n}"),
                        data,
                    },
                    Operation::Exists => Request::Exists { path },
                    Operation::Get => Request::Get { path },
                    Operation::Ls => Request::Ls {
                        path: format_args!("/zbench/dir"),
                    },
                    Operation::Set => Request::Set { path, data },
                };
                connection.queue(operation, request);
            }
        }
    }
}

fn xorshift(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Connects, makes the znodes that the load works on, loads, closes the sessions and reports.
///
/// # Errors
///
/// When a server cannot be reached, breaks the protocol or closes a connection, and when a fill is
/// not done in time. Requests that are refused while it measures are counted and no error.
pub(super) fn run(plan: &Plan) -> Result<Report, Error> {
    process::usage(&plan.servers)?;
    let addresses = connection::resolve(&plan.hosts)?;
    let addresses = addresses.iter().cycle().take(plan.connections as usize);
    let mut generator = Generator::new(plan);
    let mut connections = Vec::new();
    for (i, &address) in addresses.enumerate() {
        let mut connection = Connection::open(address, SESSION_TIMEOUT_MS, SET_UP_TIMEOUT)?;
        if i == 0 {
            // Before there are others, whose sessions could expire meanwhile.
            set_up(&mut connection, plan, &generator.data)?;
        }
        connections.push(connection);
    }
    let mut engine = Engine::new(connections, Tally::new(&plan.workload))?;
    engine.start(&mut generator, plan.outstanding)?;
    let report = engine.measure(&mut generator, plan)?;
    engine.close(&mut generator)?;
    Ok(report)
}

/// Makes the znodes that the load works on; those of an earlier run get this run's data.
fn set_up(connection: &mut Connection<TcpStream>, plan: &Plan, data: &[u8]) -> Result<(), Error> {
    let mut there_already = 0_u64;
    let mut refused = 0_u64;
    let mut refused_last = None;
    let mut answer = |_: Pending, answer: Answer| match answer {
        Ok(()) => {}
        Err(ErrorCode::NODE_EXISTS) => there_already += 1,
        Err(code) => {
            refused += 1;
            refused_last = Some(code);
        }
    };
    let root = Request::Create {
        path: format_args!("/zbench"),
        data: b"",
    };
    connection.queue(Operation::Create, root);
    connection.settle(0, &mut answer)?;
    if let Workload::Load { znodes, .. } = plan.workload {
        let directory = Request::Create {
            path: format_args!("/zbench/dir"),
            data: b"",
        };
        connection.queue(Operation::Create, directory);
        for i in 0..LS_CHILDREN {
            let path = format_args!("/zbench/dir/{i}");
            connection.queue(Operation::Create, Request::Create { path, data: b"" });
        }
        for i in 0..znodes {
            let path = format_args!("/zbench/{i}");
            connection.queue(Operation::Create, Request::Create { path, data });
            connection.queue(Operation::Set, Request::Set { path, data });
            connection.settle(SET_UP_WINDOW, &mut answer)?;
        }
        connection.settle(0, &mut answer)?;
    }
    match refused_last {
        None => Ok(()),
        Some(last) => Err(Error::Refused {
            count: refused,
            last,
        }),
    }
}

/// The connections under load, and what they have shown so far.
#[derive(Debug)]
struct Engine {
    poll: Poll,
    events: Events,
    connections: Vec<Connection<mio::net::TcpStream>>,
    tally: Tally,
}

/// What becomes of the replies, and whether each makes room for a new request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    WarmingUp,
    Measuring,
    Draining,
}

impl Engine {
    fn new(connections: Vec<Connection<TcpStream>>, tally: Tally) -> Result<Self, Error> {
        let poll = Poll::new().map_err(Error::io("creating a poll"))?;
        let mut polled = Vec::with_capacity(connections.len());
        for (i, connection) in connections.into_iter().enumerate() {
            let mut connection = connection.into_polled()?;
            let interest = Interest::READABLE | Interest::WRITABLE;
            let registered = poll
                .registry()
                .register(connection.stream_mut(), Token(i), interest);
            registered.map_err(Error::io("registering a socket"))?;
            polled.push(connection);
        }
        Ok(Self {
            poll,
            events: Events::with_capacity(256),
            connections: polled,
            tally,
        })
    }

    fn start(&mut self, generator: &mut Generator, outstanding: u32) -> Result<(), Error> {
        for connection in &mut self.connections {
            for _ in 0..outstanding {
                generator.queue(connection);
            }
            connection.send()?;
        }
        Ok(())
    }

    fn measure(&mut self, generator: &mut Generator, plan: &Plan) -> Result<Report, Error> {
        let warm = Instant::now() + plan.workload.warmup();
        while Instant::now() < warm {
            self.turn(Phase::WarmingUp, generator)?;
        }
        let before = process::usage(&plan.servers)?;
        let own_before = process::own_cpu();
        let begin = Instant::now();
        let end = begin + plan.workload.window();
        loop {
            if let Workload::Fill { znodes, limit } = plan.workload {
                if self.tally.all.total() >= znodes {
                    break;
                }
                if Instant::now() >= end {
                    return Err(Error::TimedOut {
                        doing: "creating the znodes",
                        limit,
                    });
                }
            } else if Instant::now() >= end || plan.stop.load(Ordering::Relaxed) {
                break;
            }
            self.turn(Phase::Measuring, generator)?;
        }
        let took = begin.elapsed();
        let after = process::usage(&plan.servers)?;
        let tally = core::mem::replace(&mut self.tally, Tally::new(&plan.workload));
        Ok(Report {
            plan: plan.clone(),
            took,
            tally,
            oldest_unanswered: self.oldest_unanswered(),
            own_cpu: process::own_cpu().saturating_sub(own_before),
            server_cpu: after.cpu.saturating_sub(before.cpu),
            server_resident_bytes: after.resident_bytes,
        })
    }

    fn oldest_unanswered(&self) -> Duration {
        let oldest = self
            .connections
            .iter()
            .filter_map(Connection::oldest)
            .map(|one| one.at)
            .min();
        oldest.map_or(Duration::ZERO, |at| at.elapsed())
    }

    /// Waits for the sockets once, takes the replies and sends what they make room for.
    fn turn(&mut self, phase: Phase, generator: &mut Generator) -> Result<(), Error> {
        match self.poll.poll(&mut self.events, Some(POLL_TIMEOUT)) {
            Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
                return Err(Error::Io {
                    doing: "polling",
                    error,
                });
            }
            _ => {}
        }
        for event in &self.events {
            let Some(connection) = self.connections.get_mut(event.token().0) else {
                continue;
            };
            match serve(connection, event, phase, &mut self.tally, generator) {
                Err(_) if phase == Phase::Draining => connection.abandon(),
                result => result?,
            }
        }
        Ok(())
    }

    /// Waits for the last replies and ends the sessions: one left behind would expire, which is a
    /// write, in the middle of a later measurement. What fails here cannot change the result.
    fn close(mut self, generator: &mut Generator) -> Result<(), Error> {
        self.drain(generator)?;
        for connection in &mut self.connections {
            connection.queue_close();
            if connection.send().is_err() {
                connection.abandon();
            }
        }
        self.drain(generator)
    }

    fn drain(&mut self, generator: &mut Generator) -> Result<(), Error> {
        let end = Instant::now() + DRAIN_TIMEOUT;
        while self.connections.iter().any(|one| one.in_flight() > 0) && Instant::now() < end {
            self.turn(Phase::Draining, generator)?;
        }
        Ok(())
    }
}

/// Takes what a connection has received and sends what that makes room for.
fn serve(
    connection: &mut Connection<mio::net::TcpStream>,
    event: &Event,
    phase: Phase,
    tally: &mut Tally,
    generator: &mut Generator,
) -> Result<(), Error> {
    let mut progress = if event.is_readable() {
        Progress::More
    } else {
        Progress::Blocked
    };
    while progress == Progress::More {
        progress = connection.receive()?;
        if event.is_read_closed() {
            // The end may hide behind a short read, and no further edge would tell.
            progress = Progress::More;
        }
        let now = Instant::now();
        let replies = connection.take_replies(|pending, answer| {
            if phase == Phase::Measuring {
                tally.add(pending, answer, now);
            }
        })?;
        if phase != Phase::Draining {
            (0..replies).for_each(|_| generator.queue(connection));
        }
    }
    connection.send().map(|_| ())
}
