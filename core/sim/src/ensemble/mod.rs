//! Many servers, observers and clients: a network between them, faults, and judges of it all.
//!
//! A run is a [`Script`](plan::Script), drawn from a seed or read from a [text](text). While it
//! runs, [`history`] judges what servers make durable and tell each other, [`service`] what they
//! tell clients. Start at [`World`]. The world of a server alone, which knows the exact time of
//! everything, is [`crate::world`].

mod clients;
mod faults;
pub mod history;
pub mod members;
mod mishaps;
pub(crate) mod network;
mod peek;
pub mod plan;
mod plots;
mod server;
pub mod service;
pub mod text;
pub mod trials;
mod votes;

use core::cell::RefCell;
use core::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::rc::Rc;

use zabra_core::ids::LinkId;

use crate::ensemble::clients::Caller;
use crate::ensemble::history::History;
use crate::ensemble::network::Link;
use crate::ensemble::plan::{Cast, Effect, Fault, LEADER, Script, When, letter};
use crate::ensemble::server::Host;
use crate::ensemble::service::Service;
use crate::ensemble::trials::Traffic;
use crate::ensemble::votes::Votes;
use crate::rng::{Rng, Stream};
use crate::violation::{Violation, ensure};
use crate::world::Report;

/// What happens at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Act(usize),
    Arrives(u64, usize),
    Begins(usize),
    Dials(usize, u64, LinkId),
    DialFails(usize, u64, LinkId),
    Ends(usize),
    Established(u64),
    Restart(usize),
    SnapshotRuns(usize, u64),
    Step(usize, u64),
    StoreReports(usize, u64, u64),
    StoreRuns(usize, u64),
}

/// One run.
#[derive(Debug)]
pub struct World {
    script: Script,
    /// Whether drilled servers shall propose nothing.
    is_quiet: Rc<RefCell<bool>>,
    /// Microseconds since the run began, by a clock that is right.
    now: u64,
    queue: BinaryHeap<Reverse<(u64, u64, Event)>>,
    queued: u64,
    servers: Vec<Host>,
    links: BTreeMap<u64, Link>,
    next_link: u64,
    /// How many faults keep bytes from passing from one server to another.
    blocked: Vec<Vec<u32>>,
    callers: Vec<Caller>,
    history: History,
    service: Service,
    /// What each was told of elections.
    votes: Vec<Votes>,
    /// How often what each conditional fault waits for has happened.
    occurred: Vec<u64>,
    /// Each fault that is at work, with the servers it has met.
    at_work: Vec<Option<Fault>>,
    is_active: bool,
    /// What servers have sent each other in a trial.
    traffic: Traffic,
    draws: u64,
    trace: Vec<String>,
    is_verbose: bool,
    trace_hash: u64,
    events: u64,
}

const TRACE_LINES: usize = 20_000;
const WALL_START_MS: i64 = 1_700_000_000_000;
const EVENTS_MAX: u64 = 5_000_000;
/// Epochs that may begin after everything is healed: reliability L2.
const EPOCHS_AFTER_HEAL_MAX: u64 = 3;

impl World {
    /// The world of this script.
    #[must_use]
    pub fn new(mut script: Script, is_verbose: bool) -> Self {
        let count = script.servers();
        if script.cast == Cast::Drill {
            script.base.clients = 0;
        }
        let callers = (0..script.base.clients as u64).map(|id| {
            let mut rng = Rng::keyed(script.base.seed, Stream::Plan, 1, id);
            Caller::new(id, &script.base, &mut rng)
        });
        Self {
            callers: callers.collect(),
            history: History::new(script.voters, script.observers, count),
            service: Service::new(script.base.rules(), count),
            servers: (0..count)
                .map(|server| Host::new(&script, server))
                .collect(),
            votes: (0..count).map(|_| Votes::default()).collect(),
            blocked: vec![vec![0; count]; count],
            occurred: vec![0; script.faults.len()],
            at_work: vec![None; script.faults.len()],
            script,
            is_quiet: Rc::default(),
            now: 1_000_000,
            queue: BinaryHeap::new(),
            queued: 0,
            links: BTreeMap::new(),
            next_link: 0,
            is_active: true,
            traffic: Traffic::default(),
            draws: 0,
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
    pub fn report(mut self, violation: Option<Violation>) -> Report {
        for mark in core::mem::take(&mut self.history.seen) {
            self.service.marks.hit(mark);
        }
        Report {
            violation,
            trace_hash: self.trace_hash,
            events: self.events,
            marks: self.service.marks,
            trace: self.trace,
        }
    }

    fn play(&mut self) -> Result<(), Violation> {
        for server in 0..self.servers.len() {
            let delay_us = self.rng(Stream::Server).below(50_000);
            self.after(delay_us, Event::Restart(server));
        }
        for id in 0..self.callers.len() {
            self.after(id as u64 * 1000, Event::Act(id));
        }
        for (index, planned) in self.script.faults.clone().into_iter().enumerate() {
            if let When::At(at) = planned.when {
                self.after(at, Event::Begins(index));
            }
        }
        let end = self.now + self.script.base.duration_us;
        self.run_until(end)?;
        self.heal();
        self.converge()?;
        self.undergo_trial()?;
        if self.rng(Stream::Fault).one_in(2) {
            self.note(|| "power cut of all".to_owned());
            let up: Vec<usize> = (0..self.servers.len())
                .filter(|server| self.servers.get(*server).is_some_and(|it| !it.is_away))
                .collect();
            for server in &up {
                self.die(*server, true)?;
            }
            for server in up {
                self.after(1000, Event::Restart(server));
            }
            self.converge()?;
        }
        if self.script.cast == Cast::Service {
            self.let_sessions_expire()
        } else {
            Ok(())
        }
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
            ensure(self.events < EVENTS_MAX, "a run ends", || {
                format!("{event:?} at {at}")
            })?;
            self.happen(event)?;
        }
        self.now = end;
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Act(caller) => {
                self.act(caller);
                Ok(())
            }
            Event::Arrives(link, side) => self.arrives(link, side),
            Event::Begins(index) => self.begins(index, LEADER),
            Event::Dials(server, life, link) => {
                self.dials(server, life, link);
                Ok(())
            }
            Event::DialFails(server, life, link) => {
                self.dial_fails(server, life, link);
                Ok(())
            }
            Event::Ends(index) => {
                self.ends(index);
                Ok(())
            }
            Event::Established(link) => {
                self.established(link);
                Ok(())
            }
            Event::Restart(server) => self.boot_if_down(server),
            Event::SnapshotRuns(server, life) => self.snapshot_runs(server, life),
            Event::Step(server, at) => self.step(server, at),
            Event::StoreReports(server, life, seq) => self.store_reports(server, life, seq),
            Event::StoreRuns(server, life) => self.store_runs(server, life),
        }
    }

    /// Ends all faults; a quorum of the servers is well from here on, the others stay away.
    fn heal(&mut self) {
        self.is_active = false;
        for row in &mut self.blocked {
            row.fill(0);
        }
        let count = self.servers.len();
        let voters = self.script.voters;
        let mut rng = self.rng(Stream::Fault);
        let most = voters - (voters / 2 + 1);
        // Whoever has lost its disk does not vote, and so is no part of a quorum.
        let is_rotten = |server: &usize| self.servers.get(*server).is_some_and(|it| it.is_rotten);
        let trusted =
            |server: &usize| self.history.server(*server).is_trusted && !is_rotten(server);
        let spare = (0..voters)
            .filter(trusted)
            .count()
            .saturating_sub(voters / 2 + 1);
        let mut away = Vec::new();
        for server in 0..count {
            let is_spare = server >= voters || away.len() < spare.min(most);
            // Who must be there once the membership has changed is not known yet.
            if is_spare && !self.script.reconfigures() && rng.one_in(4) {
                away.push(server);
            }
        }
        self.note(|| format!("heal, {away:?} stay away"));
        for server in 0..count {
            self.well(server);
            if away.contains(&server) {
                for other in 0..count {
                    self.block(server, other);
                    self.block(other, server);
                }
                if let Some(host) = self.servers.get_mut(server) {
                    host.is_away = true;
                }
            } else {
                self.after(0, Event::Restart(server));
            }
        }
        self.end_half_closed();
        for link in self.links.keys().copied().collect::<Vec<_>>() {
            self.after(0, Event::Arrives(link, 0));
            self.after(0, Event::Arrives(link, 1));
        }
        for server in away {
            self.cut_clients(server);
        }
    }

    /// The servers that must serve after the faults.
    fn up(&self) -> Vec<usize> {
        let servers = self.servers.iter().enumerate();
        servers
            .filter(|(server, host)| !host.is_away && self.history.is_member(*server))
            .map(|(server, _)| server)
            .collect()
    }

    /// Waits until every server of the core serves, and compares what it shows with the model.
    fn converge(&mut self) -> Result<(), Violation> {
        let begun = self.now;
        let established = self.history.established;
        let tick_us = u64::from(self.script.base.tick_ms) * 1000;
        let limits = u64::from(self.script.init_limit + self.script.sync_limit);
        // Reliability L1 and L3: three rounds of what may time out, and elections' longest pause.
        let end = begun + 3 * limits * tick_us + 15_000_000 + 400 * self.script.base.sync_us;
        self.is_quiet.replace(false);
        if self.script.cast == Cast::Drill {
            // What is proposed from here on must be committed, and reach everybody.
            let committed = self.history.committed();
            while self.now < end && self.history.committed() <= committed {
                self.run_until(self.now + 20_000)?;
            }
            self.is_quiet.replace(true);
        } else {
            self.add_probes();
        }
        self.tend_probes_until(end)?;
        let stuck = self.stuck();
        ensure(
            stuck.is_none(),
            "L3 every server of the core serves",
            || {
                format!(
                    "{} us after the heal: {}",
                    self.now - begun,
                    stuck.unwrap_or_default()
                )
            },
        )?;
        let epochs = self.history.established - established;
        ensure(epochs <= EPOCHS_AFTER_HEAL_MAX, "L2 elections end", || {
            format!("{epochs} epochs began after the heal")
        })?;
        self.service.marks.hit("converged");
        let took_us = self.now - begun;
        self.note(|| format!("converged after {took_us} us"));
        self.drop_probes();
        Ok(())
    }

    /// Waits until nobody is stuck any more.
    fn tend_probes_until(&mut self, end: u64) -> Result<(), Violation> {
        while self.now < end && self.stuck().is_some() {
            self.tend_probes();
            self.run_until(self.now + 20_000)?;
        }
        Ok(())
    }

    /// Who does not serve yet, and why.
    fn stuck(&self) -> Option<String> {
        if self.script.cast == Cast::Service {
            return self.stuck_probe();
        }
        let committed = self.history.committed();
        let digest = self.history.digest(committed);
        let up = self.up();
        let hosts = up.iter().filter_map(|server| self.servers.get(*server));
        let stuck: Vec<String> = hosts
            .map(|host| host.spy.borrow())
            .filter(|spy| !spy.is_serving || spy.digest != digest)
            .map(|spy| {
                format!(
                    "serves: {}, at {:#x} of {committed:#x}",
                    spy.is_serving, spy.last
                )
            })
            .collect();
        (!stuck.is_empty()).then(|| stuck.join("; "))
    }

    /// All clients vanish: all sessions must end, and with them their znodes.
    fn let_sessions_expire(&mut self) -> Result<(), Violation> {
        self.note(|| "let sessions expire".to_owned());
        for caller in 0..self.callers.len() {
            self.vanish(caller);
        }
        let longest_ms = u64::from(self.script.base.tick_ms) * 25 + 2000;
        let mut open = Vec::new();
        // What a client had sent before it vanished is a sign of it when a throttled server comes to
        // it, seconds later.
        for _ in 0..2 {
            self.run_until(self.now + longest_ms * 1000)?;
            self.service.catch_up(&self.history)?;
            open = self.service.state().sessions.keys().copied().collect();
            if open.is_empty() {
                break;
            }
        }
        if open.is_empty() {
            return Ok(());
        }
        // A leader that is a quorum by itself commits and tells nobody, until it is asked.
        self.add_probes();
        self.tend_probes_until(self.now + 5_000_000)?;
        self.service.catch_up(&self.history)?;
        let sessions = &self.service.state().sessions;
        let left = open.iter().filter(|id| sessions.contains_key(id));
        let left: Vec<String> = left.map(|id| format!("{id:#x}")).collect();
        ensure(left.is_empty(), "L5 sessions expire", || {
            format!("{} are left at the end", left.join(", "))
        })
    }

    /// Notes that something happened that a fault may wait for. Returns whether the server lives.
    fn occurs(&mut self, server: usize, effect: Effect) -> Result<bool, Violation> {
        let life = self.life(server);
        if self.is_active {
            for index in 0..self.script.faults.len() {
                if self.is_due(index, server, effect) {
                    self.begins(index, server)?;
                }
            }
        }
        Ok(self.life(server) == life)
    }

    fn is_due(&mut self, index: usize, server: usize, effect: Effect) -> bool {
        let Some(planned) = self.script.faults.get(index) else {
            return false;
        };
        let When::On {
            server: wanted,
            effect: awaited,
            count,
        } = planned.when
        else {
            return false;
        };
        if awaited != effect || wanted.is_some_and(|wanted| wanted != server) {
            return false;
        }
        let Some(occurred) = self.occurred.get_mut(index) else {
            return false;
        };
        *occurred += 1;
        *occurred == count
    }

    fn life(&self, server: usize) -> u64 {
        self.servers.get(server).map_or(0, |host| host.life)
    }

    fn after(&mut self, delay_us: u64, event: Event) {
        self.queued += 1;
        self.queue
            .push(Reverse((self.now + delay_us, self.queued, event)));
    }

    fn rng(&mut self, stream: Stream) -> Rng {
        self.draws += 1;
        Rng::keyed(self.script.base.seed, stream, 100, self.draws)
    }

    /// Takes something into the hash by which two runs are compared.
    const fn mix(&mut self, value: u64) {
        self.trace_hash = (self.trace_hash ^ value)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29);
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if !self.is_verbose {
            return;
        }
        let line = format!("{:>10} {}", self.now, line());
        if self.trace.len() >= 2 * TRACE_LINES {
            self.trace.drain(..TRACE_LINES);
        }
        self.trace.push(line);
    }

    fn names(servers: &[usize]) -> String {
        servers.iter().map(|server| letter(*server)).collect()
    }
}
