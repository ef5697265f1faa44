//! One run: virtual time, a server, links, clients and faults.

mod network;
mod server;

use core::cmp::Reverse;
use core::fmt;
use std::collections::{BTreeMap, BinaryHeap};

use zabra_core::server::Input;

use crate::client::Client;
use crate::disk::SimDisk;
use crate::marks::Marks;
use crate::model::State;
use crate::node::{Node, hash};
use crate::oracle::Oracle;
use crate::plan::{Fault, Plan};
use crate::rng::{Rng, Stream};
use crate::violation::{Violation, ensure};
use crate::wire::Op;
use network::Link;

/// What happens at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Act(usize),
    ClientSees(u64),
    Fault(usize),
    Restart,
    ServerSees(u64),
    SnapshotRuns(u64),
    Step(u64),
    StoreReports(u64, u64),
    StoreRuns(u64),
}

/// What a run has come to.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was violated, if anything.
    pub violation: Option<Violation>,
    /// The hash of everything that went in and out of the server.
    pub trace_hash: u64,
    /// How many events there were.
    pub events: u64,
    /// What has happened.
    pub marks: Marks,
    /// The last lines of the trace, or all of them if asked for.
    pub trace: Vec<String>,
}

/// One run.
#[derive(Debug)]
pub struct World {
    plan: Plan,
    /// Microseconds since the run began.
    now: u64,
    wall_offset_ms: i64,
    queue: BinaryHeap<Reverse<(u64, u64, Event)>>,
    queued: u64,
    disk: SimDisk,
    node: Option<Node>,
    /// Which life of the server this is; what belongs to an earlier one is ignored.
    life: u64,
    inbox: Vec<Input>,
    /// When the server has its next turn.
    step_at: Option<u64>,
    paused_until: u64,
    /// Whether the power goes, too, when the fuse of the disk has burnt down.
    dies_of_power: bool,
    txn_hashes: Vec<u64>,
    snapshot_file: Option<(State, Vec<u8>)>,
    links: BTreeMap<u64, Link>,
    next_link: u64,
    clients: Vec<Client>,
    oracle: Oracle,
    is_active: bool,
    counters: [u64; 4],
    trace: Vec<String>,
    is_verbose: bool,
    trace_hash: u64,
    events: u64,
}

const LINK: usize = 0;
const STORE: usize = 1;
const SERVER: usize = 2;
const FAULT: usize = 3;
const TRACE_LINES: usize = 60;
const WALL_START_MS: i64 = 1_700_000_000_000;

impl World {
    /// The world of this plan.
    #[must_use]
    pub fn new(plan: Plan, is_verbose: bool) -> Self {
        let clients = (0..plan.clients as u64).map(|id| {
            let mut rng = Rng::keyed(plan.seed, Stream::Plan, 1, id);
            Client::new(id, &plan, &mut rng)
        });
        Self {
            clients: clients.collect(),
            oracle: Oracle::new(plan.rules()),
            plan,
            now: 1_000_000,
            wall_offset_ms: 0,
            queue: BinaryHeap::new(),
            queued: 0,
            disk: SimDisk::default(),
            node: None,
            life: 0,
            inbox: Vec::new(),
            step_at: None,
            paused_until: 0,
            dies_of_power: false,
            txn_hashes: Vec::new(),
            snapshot_file: None,
            links: BTreeMap::new(),
            next_link: 0,
            is_active: true,
            counters: [0; 4],
            trace: Vec::new(),
            is_verbose,
            trace_hash: 0,
            events: 0,
        }
    }

    /// Runs until everything has come to rest, or something is violated.
    ///
    /// # Panics
    /// The core did; [`World::report`] still tells how it came to that.
    pub fn run(&mut self) -> Option<Violation> {
        self.play().err()
    }

    /// What the run has come to.
    #[must_use]
    pub fn report(self, violation: Option<Violation>) -> Report {
        Report {
            violation,
            trace_hash: self.trace_hash,
            events: self.events,
            marks: self.oracle.marks,
            trace: self.trace,
        }
    }

    fn play(&mut self) -> Result<(), Violation> {
        self.boot()?;
        for id in 0..self.clients.len() {
            self.after(id as u64 * 1000, Event::Act(id));
        }
        for (index, (at, _)) in self.plan.faults.clone().into_iter().enumerate() {
            self.after(at, Event::Fault(index));
        }
        let end = self.now + self.plan.duration_us;
        self.run_until(end)?;
        self.come_to_rest()?;
        self.compare_tree()?;
        if Rng::keyed(self.plan.seed, Stream::Plan, 2, 0).one_in(2) {
            self.die(true);
            self.boot()?;
            self.compare_tree()?;
        }
        self.let_sessions_expire()
    }

    fn run_until(&mut self, end: u64) -> Result<(), Violation> {
        while let Some(Reverse((at, _, _))) = self.queue.peek() {
            if *at > end {
                break;
            }
            let Some(Reverse((at, _, event))) = self.queue.pop() else {
                break;
            };
            self.now = at;
            self.events += 1;
            ensure(self.events < 2_000_000, "a run ends", || {
                format!("{event:?} at {at}")
            })?;
            self.happen(event)?;
        }
        self.now = end;
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Act(client) => self.act(client),
            Event::ClientSees(link) => self.client_sees(link),
            Event::Fault(index) => self.fault(index),
            Event::Restart => self.boot_if_down(),
            Event::ServerSees(link) => {
                self.server_sees(link);
                Ok(())
            }
            Event::SnapshotRuns(life) if life == self.life => self.snapshot_runs(),
            Event::Step(at) if self.step_at == Some(at) => self.step(),
            Event::StoreReports(life, seq) if life == self.life => {
                self.store_reports(seq);
                Ok(())
            }
            Event::StoreRuns(life) if life == self.life => self.store_runs(),
            _ => Ok(()),
        }
    }

    fn fault(&mut self, index: usize) -> Result<(), Violation> {
        let Some((_, fault)) = self.plan.faults.get(index).copied() else {
            return Ok(());
        };
        if !self.is_active {
            return Ok(());
        }
        self.note(|| format!("fault {fault:?}"));
        match fault {
            Fault::ClockJump(ms) => {
                self.oracle.wall_before_jump = self.wall() + i64::from(self.plan.reap_ms);
                self.wall_offset_ms += ms;
                self.oracle.marks.hit("wall_clock_jumped");
            }
            Fault::Hostile => self.open_hostile_link(),
            Fault::Kill => self.die(false),
            Fault::KillInStore(operations) | Fault::PowerCutInStore(operations) => {
                self.dies_of_power = matches!(fault, Fault::PowerCutInStore(_));
                self.disk.light_fuse(operations);
            }
            Fault::Pause(ms) => self.paused_until = self.now + ms * 1000,
            Fault::PowerCut => self.die(true),
            Fault::SnapshotFails => {
                let failed = self.node.as_mut().and_then(Node::fail_snapshot);
                if let Some(input) = failed {
                    self.inbox.push(input);
                    self.schedule_step();
                }
            }
        }
        Ok(())
    }

    /// Ends all disruption and waits until every request is answered.
    fn come_to_rest(&mut self) -> Result<(), Violation> {
        self.is_active = false;
        self.disk.put_out_fuse();
        self.note(|| "come to rest".to_owned());
        let settle_us = 3_000_000 + self.plan.latency_us * 200 + self.plan.sync_us * 200;
        for link in self.links.values_mut() {
            link.is_slow = false;
        }
        for link in self.links.keys().copied().collect::<Vec<_>>() {
            self.after(0, Event::ServerSees(link));
            self.after(0, Event::ClientSees(link));
        }
        self.run_until(self.now + settle_us)?;
        if self.node.is_none() {
            self.boot()?;
            self.run_until(self.now + settle_us)?;
        }
        self.ensure_quiet()
    }

    /// Waits until nothing is under way; what the server does on its own may just have begun
    /// something.
    fn ensure_quiet(&mut self) -> Result<(), Violation> {
        for _ in 0..50 {
            if self.oracle.ensure_quiet().is_ok() {
                return Ok(());
            }
            self.run_until(self.now + self.plan.sync_us + 20_000)?;
        }
        self.oracle.ensure_quiet()
    }

    /// Reads every znode, and so compares the whole tree with the model.
    fn compare_tree(&mut self) -> Result<(), Violation> {
        let mut reader = Client::new(999, &self.plan, &mut Rng::keyed(0, Stream::Plan, 3, 0));
        reader.timeout_ms = i32::MAX;
        self.clients.push(reader);
        let id = self.clients.len() - 1;
        self.open_link(id, &mut Rng::keyed(1, Stream::Plan, 3, 1));
        self.request(
            id,
            Op::Auth {
                scheme: "digest".to_owned(),
                auth: b"super:admin".to_vec(),
            },
        );
        let paths: Vec<String> = {
            let state = &self.oracle.versions.last().state;
            state.nodes.keys().map(ToString::to_string).collect()
        };
        for path in paths {
            self.request(
                id,
                Op::GetData {
                    path: path.clone(),
                    watch: false,
                },
            );
            self.request(
                id,
                Op::GetChildren {
                    path: path.clone(),
                    watch: false,
                    stat: true,
                },
            );
            self.request(id, Op::GetAcl { path });
        }
        self.run_until(self.now + 2_000_000 + 400 * self.plan.latency_us)?;
        self.ensure_quiet()?;
        let is_served = self.clients.last().is_some_and(|reader| reader.is_open);
        ensure(is_served, "L4 a server that is up serves", || {
            "a client that came when all was quiet was not let in".to_owned()
        })?;
        self.oracle.marks.hit("tree_compared");
        self.clients.pop();
        Ok(())
    }

    /// All clients vanish: all sessions must end, and with them their znodes.
    fn let_sessions_expire(&mut self) -> Result<(), Violation> {
        self.note(|| "let sessions expire".to_owned());
        for link in self.links.values_mut() {
            link.is_dead = true;
        }
        let longest_ms = u64::from(self.plan.tick_ms) * 23 + 1000;
        self.run_until(self.now + longest_ms * 1000)?;
        ensure(
            self.oracle.session_count() == 0,
            "C14 sessions expire",
            || format!("{} are left at the end", self.oracle.session_count()),
        )?;
        let within_ms = u64::from(self.plan.reap_ms) * 3 + 1000;
        self.run_until(self.now + (within_ms + 1000) * 1000)?;
        self.oracle
            .reaping(self.now - within_ms * 1000, self.wall(), within_ms)?;
        self.run_until(self.now + (within_ms + 1000) * 1000)?;
        self.oracle.reaping(self.now, self.wall(), within_ms)
    }

    fn after(&mut self, delay_us: u64, event: Event) {
        self.queued += 1;
        self.queue
            .push(Reverse((self.now + delay_us, self.queued, event)));
    }

    fn wall(&self) -> i64 {
        WALL_START_MS + (self.now / 1000).cast_signed() + self.wall_offset_ms
    }

    fn rng(&mut self, stream: Stream, counter: usize) -> Rng {
        let slot = self.counters.get_mut(counter);
        let count = slot.map_or(0, |slot| {
            *slot += 1;
            *slot
        });
        Rng::keyed(self.plan.seed, stream, counter as u64, count)
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        let line = format!("{:>10} {}", self.now, line());
        self.trace_hash = hash(line.as_bytes(), self.trace_hash);
        if !self.is_verbose && self.trace.len() >= 2 * TRACE_LINES {
            self.trace.drain(..TRACE_LINES);
        }
        self.trace.push(line);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            let shown: String = line.chars().take(400).collect();
            writeln!(f, "{shown}")?;
        }
        match &self.violation {
            Some(violation) => write!(f, "violated: {violation}"),
            None => write!(
                f,
                "ok: {} events, hash {:016x}",
                self.events, self.trace_hash
            ),
        }
    }
}
