//! Trials of an ensemble that is well: reliability L6 to L9.
//!
//! While faults come at random nothing can be demanded of the time that anything takes. So these
//! come once all servers of a core have converged, one at a time, and each with what must follow.

use core::fmt;

use zabra_core::link::Port;

use crate::border;
use crate::disk::Failure;
use crate::ensemble::World;
use crate::ensemble::plan::{Cast, letter};
use crate::rng::{Rng, Stream};
use crate::violation::{Violation, ensure};

/// What is tried once all is well again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// Nothing.
    None,
    /// L6: nobody asks for anything, and little must be heard.
    Idle,
    /// L7: a server that is not needed fails again and again, and nobody else must notice.
    Nuisance,
    /// L8: the disk of the leader stalls, and others must lead.
    Stall,
    /// L9: the leader only hears, or is only heard, and must give up.
    OneWay,
}

const TRIALS: &[(&str, Trial)] = &[
    ("none", Trial::None),
    ("idle", Trial::Idle),
    ("nuisance", Trial::Nuisance),
    ("stall", Trial::Stall),
    ("one-way", Trial::OneWay),
];

/// Stands for whatever is sent on a connection for elections.
pub(super) const ELECTION: i32 = 0;
const PING: i32 = 5;
/// Ticks in which an idle ensemble is watched.
const IDLE_TICKS: u64 = 20;
/// How often a nuisance is one.
const NUISANCES: u64 = 8;

/// How many packets servers of the core have sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traffic {
    pings: u64,
    elections: u64,
    others: u64,
}

/// A time in which one server leads.
#[derive(Clone, Copy, Debug)]
struct Term {
    leader: usize,
    life: u64,
    resigned: u64,
}

impl Trial {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        match rng.below(8) {
            0 | 1 => Self::Idle,
            2 | 3 => Self::Nuisance,
            4 => Self::Stall,
            5 => Self::OneWay,
            _ => Self::None,
        }
    }

    /// The trial of this name.
    ///
    /// # Errors
    /// There is none.
    pub fn parse(name: &str) -> Result<Self, String> {
        let found = TRIALS.iter().find(|(known, _)| *known == name);
        found
            .map(|(_, trial)| *trial)
            .ok_or_else(|| format!("no trial is called {name}"))
    }
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = TRIALS.iter().find(|(_, trial)| trial == self);
        f.write_str(found.map_or("?", |(name, _)| name))
    }
}

impl World {
    /// Tries what the script says.
    pub(super) fn undergo_trial(&mut self) -> Result<(), Violation> {
        // Who leads, and who is needed, is clear only if nobody comes or goes by itself.
        if self.script.reconfigures() || self.script.voters < 3 || border::may_trap() {
            return Ok(());
        }
        let trial = self.script.trial;
        self.note(|| format!("trial: {trial}"));
        match trial {
            Trial::None => return Ok(()),
            Trial::Idle => self.stay_idle()?,
            Trial::Nuisance => self.bear_a_nuisance()?,
            Trial::Stall => self.stall_the_leader()?,
            Trial::OneWay => self.cut_the_leader_one_way()?,
        }
        self.drop_probes();
        self.converge()
    }

    /// Counts what a server of the core has sent.
    pub(super) fn traffic_of(&mut self, server: usize, kind: i32) {
        if self.servers.get(server).is_none_or(|host| host.is_away) {
            return;
        }
        let traffic = &mut self.traffic;
        let count = match kind {
            ELECTION => &mut traffic.elections,
            PING => &mut traffic.pings,
            _ => &mut traffic.others,
        };
        *count += 1;
    }

    fn ticks_us(&self, ticks: u64) -> u64 {
        ticks * u64::from(self.script.base.tick_ms) * 1000
    }

    fn sync_limit_us(&self) -> u64 {
        // By the slowest clock.
        let limit_us = self.ticks_us(u64::from(self.script.sync_limit));
        limit_us + limit_us * self.script.drift_ppm / 1_000_000
    }

    /// A leader, if it leads, in the term that it is in.
    fn term(&self) -> Option<Term> {
        let leader = self.history.leader();
        let host = self.servers.get(leader)?;
        host.listening.contains(&Port::Quorum).then_some(Term {
            leader,
            life: host.life,
            resigned: host.resigned,
        })
    }

    fn is_over(&self, term: Term) -> bool {
        let host = self.servers.get(term.leader);
        host.is_none_or(|it| it.life != term.life || it.resigned != term.resigned)
    }

    /// Servers of the core with a vote.
    fn voters_up(&self) -> Vec<usize> {
        let mut up = self.up();
        up.retain(|server| *server < self.script.voters);
        up
    }

    /// L6: without requests there are heartbeats, and nothing grows.
    fn stay_idle(&mut self) -> Result<(), Violation> {
        if self.script.cast == Cast::Service {
            // What sessions leave behind, and what was to be reaped, has gone after a while.
            self.let_sessions_expire()?;
        }
        // What was under way arrives, and whoever still dials somebody has an answer.
        let settled_us = self.ticks_us(4) + 10 * self.script.base.sync_us + 3_000_000;
        self.run_until(self.now + settled_us)?;
        let proposed = self.history.proposed();
        let links = self.links.len();
        self.traffic = Traffic::default();
        self.run_until(self.now + self.ticks_us(IDLE_TICKS))?;
        let Traffic {
            pings,
            elections,
            others,
        } = self.traffic;
        let servers = self.up().len() as u64;
        // Leader and learner, twice per tick, and clocks that are fast.
        let most = (servers - 1) * 2 * (IDLE_TICKS * 2 + 4) * 11 / 10;
        ensure(
            pings > 0 && pings <= most,
            "L6 an idle ensemble exchanges heartbeats",
            || format!("{pings} PINGs in {IDLE_TICKS} ticks, of {servers} servers; most: {most}"),
        )?;
        ensure(
            elections == 0,
            "L6 an idle ensemble holds no elections",
            || format!("{elections} notifications in {IDLE_TICKS} ticks"),
        )?;
        // PROPOSAL, ACK, COMMIT, and one packet more in which something may be asked or told.
        let proposed = self.history.proposed() - proposed;
        let most = proposed * 4 * servers;
        ensure(
            others <= most,
            "L6 an idle ensemble exchanges heartbeats only",
            || format!("{others} other packets for {proposed} transactions"),
        )?;
        let grown = self.links.len().saturating_sub(links);
        ensure(grown == 0, "L6 connections do not pile up", || {
            format!("{grown} more in {IDLE_TICKS} ticks")
        })?;
        self.service.marks.hit("trial: idle");
        Ok(())
    }

    /// L7: who is not needed can fail as it likes.
    fn bear_a_nuisance(&mut self) -> Result<(), Violation> {
        let mut rng = self.rng(Stream::Fault);
        let Some(term) = self.term() else {
            return Ok(());
        };
        let leader = term.leader;
        let quorum = self.script.voters / 2 + 1;
        let up = self.voters_up();
        let is_dispensable = |server: &usize| {
            let left = up.iter().filter(|it| *it != server).count();
            *server != leader && left >= quorum
        };
        let servers = 0..self.servers.len();
        let dispensable: Vec<usize> = servers.filter(is_dispensable).collect();
        let Some(nuisance) = rng.pick(&dispensable).copied() else {
            return Ok(());
        };
        self.come_back(nuisance);
        let begun = self.history.established;
        for _ in 0..NUISANCES {
            self.annoy(nuisance, &mut rng)?;
            ensure(
                self.history.established == begun && !self.is_over(term),
                "L7 who is not needed disturbs nobody",
                || {
                    let (nuisance, leader) = (letter(nuisance), letter(leader));
                    let epochs = self.history.established - begun;
                    format!("{nuisance} fails; {epochs} new epochs, {leader} led")
                },
            )?;
        }
        self.service.marks.hit("trial: nuisance");
        Ok(())
    }

    /// A server that was kept away is let in again.
    fn come_back(&mut self, server: usize) {
        let Some(host) = self.servers.get_mut(server) else {
            return;
        };
        if !core::mem::take(&mut host.is_away) {
            return;
        }
        for other in 0..self.servers.len() {
            if other != server {
                self.unblock(server, other);
                self.unblock(other, server);
            }
        }
        self.after(0, crate::ensemble::Event::Restart(server));
    }

    /// A server fails somehow, for a while, and recovers.
    fn annoy(&mut self, server: usize, rng: &mut Rng) -> Result<(), Violation> {
        let for_us = self.ticks_us(rng.between(1, 12));
        let others: Vec<usize> = (0..self.servers.len()).filter(|it| *it != server).collect();
        let (is_deaf, is_mute) = match rng.below(3) {
            0 => (true, false),
            1 => (false, true),
            _ => (true, true),
        };
        let kind = rng.below(7);
        self.note(|| {
            format!(
                "{} is a nuisance: {kind}, {is_deaf}, {is_mute}",
                letter(server)
            )
        });
        let until = self.now + for_us;
        match kind {
            0 => self.die(server, rng.one_in(2))?,
            1 => {
                if let Some(host) = self.servers.get_mut(server) {
                    host.paused_until = until;
                }
            }
            2 => self.break_disk(server, Failure::Full, rng.below(4)),
            3 => self.stall_disk(server, true),
            4 => {
                for other in &others {
                    self.half_close(server, *other, until);
                }
            }
            _ => {
                for other in &others {
                    self.obstruct(server, *other, (is_deaf, is_mute), Self::block);
                }
            }
        }
        self.run_until(until)?;
        if kind > 4 {
            for other in &others {
                self.obstruct(server, *other, (is_deaf, is_mute), Self::unblock);
            }
        }
        self.well(server);
        self.after(0, crate::ensemble::Event::Restart(server));
        self.run_until(self.now + self.ticks_us(rng.below(8)))
    }

    fn obstruct(
        &mut self,
        server: usize,
        other: usize,
        (is_deaf, is_mute): (bool, bool),
        change: fn(&mut Self, usize, usize),
    ) {
        if is_deaf {
            change(self, other, server);
        }
        if is_mute {
            change(self, server, other);
        }
    }

    /// L8: a leader whose log stores nothing gives up, and the others go on without it.
    fn stall_the_leader(&mut self) -> Result<(), Violation> {
        let Some(term) = self.term() else {
            return Ok(());
        };
        let leader = term.leader;
        let others = self.voters_up().iter().filter(|it| **it != leader).count();
        if others <= self.script.voters / 2 {
            return Ok(());
        }
        self.stall_disk(leader, true);
        self.keep_busy();
        // The bound counts from the first transaction that has to wait.
        let second = self.now + 1_000_000;
        while self.now < second && !self.has_log_to_write(leader) {
            self.go_on()?;
        }
        if !self.has_log_to_write(leader) {
            self.stall_disk(leader, false);
            return Ok(());
        }
        let end = self.now + self.sync_limit_us() + self.ticks_us(2) + 100_000;
        while self.now < end && !self.is_over(term) {
            self.go_on()?;
        }
        ensure(
            self.is_over(term),
            "L8 a leader whose disk stalls gives up",
            || format!("{} still leads after syncLimit", letter(leader)),
        )?;
        let committed = self.history.committed();
        let limits = u64::from(self.script.init_limit + self.script.sync_limit);
        let end = self.now + 3 * self.ticks_us(limits) + 15_000_000;
        while self.now < end && self.history.committed() <= committed {
            self.go_on()?;
        }
        ensure(
            self.history.committed() > committed,
            "L8 others go on without a leader whose disk stalls",
            || format!("nothing is committed after {committed:#x}"),
        )?;
        self.stall_disk(leader, false);
        self.is_quiet.replace(true);
        self.service.marks.hit("trial: stall");
        Ok(())
    }

    /// Lets something be written from here on.
    fn keep_busy(&mut self) {
        self.is_quiet.replace(false);
        if self.script.cast == Cast::Service {
            for server in self.up() {
                self.add_probe(server);
            }
        }
    }

    fn go_on(&mut self) -> Result<(), Violation> {
        self.tend_probes();
        self.run_until(self.now + 20_000)
    }

    fn has_log_to_write(&self, server: usize) -> bool {
        let node = self.servers.get(server).and_then(|it| it.node.as_ref());
        node.is_some_and(|node| !node.log_queue.is_empty())
    }

    /// L9: a leader that only hears the others, or is only heard, gives up.
    fn cut_the_leader_one_way(&mut self) -> Result<(), Violation> {
        let mut rng = self.rng(Stream::Fault);
        let Some(term) = self.term() else {
            return Ok(());
        };
        let leader = term.leader;
        let is_deaf = rng.one_in(2);
        let way = (is_deaf, !is_deaf);
        let others: Vec<usize> = (0..self.servers.len()).filter(|it| *it != leader).collect();
        for other in &others {
            self.obstruct(leader, *other, way, Self::block);
        }
        let end = self.now + 2 * self.sync_limit_us() + 100_000;
        while self.now < end && !self.is_over(term) {
            self.go_on()?;
        }
        ensure(
            self.is_over(term),
            "L9 a leader with links of one way gives up",
            || {
                let what = if is_deaf {
                    "hears nobody"
                } else {
                    "is not heard"
                };
                format!(
                    "{} {what}, and still leads after 2 syncLimit",
                    letter(leader)
                )
            },
        )?;
        for other in &others {
            self.obstruct(leader, *other, way, Self::unblock);
        }
        self.service.marks.hit("trial: one-way");
        Ok(())
    }
}
