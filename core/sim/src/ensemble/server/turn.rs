//! A server's turn: what it is given, and what is done of what it says.

use std::rc::Rc;

use zabra_core::ids::{Instant, LinkId, ServerId};
use zabra_core::link::{LinkInput, LinkOutput, Port};
use zabra_core::server::{Event as CoreEvent, HostFacts, Input, Output};
use zabra_core::zab::{self, MembershipOp};

use crate::ensemble::members::View;
use crate::ensemble::plan::{Cast, Effect, letter};
use crate::ensemble::{Event, World};
use crate::rng::Stream;
use crate::violation::Violation;

impl World {
    /// Gives a server something to look at in its next turn.
    pub(in crate::ensemble) fn give(&mut self, server: usize, input: Input) {
        if let Some(host) = self.servers.get_mut(server)
            && host.node.is_some()
        {
            host.inbox.push(input);
            self.schedule_step(server);
        }
    }

    pub(in crate::ensemble) fn schedule_step(&mut self, server: usize) {
        let delay_us = match self.rng(Stream::Server).below(4) {
            0 => 0,
            _ => 100,
        };
        self.schedule_step_at(server, self.now + delay_us);
    }

    fn schedule_step_at(&mut self, server: usize, at: u64) {
        let now = self.now;
        let Some(host) = self.servers.get_mut(server) else {
            return;
        };
        let at = at.max(host.paused_until).max(now);
        if host.node.is_none() || host.step_at.is_some_and(|earlier| earlier <= at) {
            return;
        }
        host.step_at = Some(at);
        self.after(at - now, Event::Step(server, at));
    }

    pub(super) fn step_is_late(&mut self, server: usize) -> bool {
        let now = self.now;
        let host = self.servers.get_mut(server);
        host.is_some_and(|host| {
            let is_late = host.step_at.is_some_and(|at| at > now);
            if is_late {
                host.step_at = None;
            }
            is_late
        })
    }

    /// A server has its turn.
    pub(in crate::ensemble) fn step(&mut self, server: usize, at: u64) -> Result<(), Violation> {
        let clocks = self.clocks(server);
        let Some(host) = self.servers.get_mut(server) else {
            return Ok(());
        };
        if host.step_at != Some(at) {
            return Ok(());
        }
        host.step_at = None;
        if self.now < host.paused_until {
            let until = host.paused_until;
            self.schedule_step_at(server, until);
            return Ok(());
        }
        let mut inputs = core::mem::take(&mut host.inbox);
        for input in &inputs {
            if let Input::Stored { upto } = input {
                self.history.stored(server, *upto)?;
            }
            if let Input::Disk(room) = input {
                self.service.disk_room(server, room.low, self.now);
            }
        }
        if self.is_verbose {
            for input in &inputs {
                let line = format!("{} in  {input:?}", letter(server));
                self.note(|| line.chars().take(500).collect());
            }
        }
        self.mix(inputs.len() as u64 ^ self.now);
        self.hears_clients(server, &inputs);
        let Some(host) = self.servers.get_mut(server) else {
            return Ok(());
        };
        let life = host.life;
        let Some(node) = &mut host.node else {
            return Ok(());
        };
        let mut outputs = Vec::new();
        let wake = node.core.step(clocks, &mut inputs, &mut outputs);
        // Only the order within a lane means anything; the judges want to know what is proposed
        // before it is sent, and what servers agree on before clients see it.
        outputs.sort_by_key(|output| self.rank(server, output));
        let parted = outputs.iter().filter_map(closes);
        self.parts(server, parted.collect());
        for output in outputs {
            if self.life(server) != life {
                return Ok(());
            }
            self.perform(server, output)?;
        }
        if self.life(server) != life {
            return Ok(());
        }
        if let Some(host) = self.servers.get_mut(server) {
            // What ended since then is in the inbox.
            let inbox = host.inbox.iter();
            host.ended = inbox.filter_map(ended).collect();
        }
        if self.script.cast == Cast::Drill {
            self.debrief(server)?;
        } else {
            self.service.catch_up(&self.history)?;
            self.service.turn_ended(server)?;
        }
        if let Some(Instant(at)) = wake {
            let clock = self.servers.get(server).map(|host| host.clock);
            let at = clock.map_or(at, |clock| clock.when(at));
            self.schedule_step_at(server, at);
        }
        Ok(())
    }

    /// Notes what a server has in its turn from its clients.
    fn hears_clients(&mut self, server: usize, inputs: &[Input]) {
        let Some(host) = self.servers.get(server) else {
            return;
        };
        for input in inputs {
            if let Input::Link(id, LinkInput::Received(_)) = input
                && let Some(link) = host.links.get(id)
            {
                self.service.hears(server, *link, self.now);
            }
        }
    }

    /// Notes that a server is about to close connections: it has let their peers go before.
    fn parts(&mut self, server: usize, ids: Vec<LinkId>) {
        for id in ids {
            let host = self.servers.get(server);
            let link = host.and_then(|host| host.links.get(&id).copied());
            self.bond_ends(link.unwrap_or(0), server);
        }
    }

    fn rank(&self, server: usize, output: &Output) -> u8 {
        match output {
            // Its files are written before anything else comes of it.
            Output::Membership(_) | Output::Store(..) => 0,
            Output::Link(id, _) => {
                let host = self.servers.get(server);
                let link = host.and_then(|host| host.links.get(id));
                let is_client = link.and_then(|link| self.port(*link)) == Some(Port::Client);
                if is_client { 2 } else { 1 }
            }
            Output::Restart(_) => 4,
            _ => 3,
        }
    }

    fn port(&self, link: u64) -> Option<Port> {
        self.far(link, 0).map(|(port, _)| port)
    }

    fn perform(&mut self, server: usize, output: Output) -> Result<(), Violation> {
        if self.is_verbose {
            let line = format!("{} out {output:?}", letter(server));
            self.note(|| line.chars().take(500).collect());
        }
        match output {
            Output::AskFacts(link) => {
                self.give(server, Input::Facts(link, HostFacts::default()));
                Ok(())
            }
            Output::Event(
                event @ (CoreEvent::DigestMismatch { .. } | CoreEvent::OrphanDeleted { .. }),
            ) => Err(Violation::new(
                "S12 state after a restart",
                format!("{}: {event:?}", letter(server)),
            )),
            Output::Link(link, output) => {
                self.server_links(server, link, output)?;
                Ok(())
            }
            Output::Listen(port, endpoints) => self.listens(server, port, !endpoints.is_empty()),
            Output::Restart(reason) => self.restart(server, &reason),
            Output::Snapshot(op) => self.perform_snapshot(server, op),
            Output::Store(seq, op) => self.perform_store(server, seq, op),
            Output::Membership(op) => self.remembers(server, op),
            Output::Event(CoreEvent::Zab(zab::Event::Elected { leader, round, .. })) => {
                self.elects(server, leader, round)
            }
            Output::Event(_) => Ok(()),
        }
    }

    fn elects(&self, server: usize, leader: ServerId, round: i64) -> Result<(), Violation> {
        let is_itself = usize::try_from(leader.0).is_ok_and(|leader| leader == server + 1);
        let views = &self.history.server(server).views;
        match self.votes.get(server) {
            Some(votes) if is_itself => votes.judge(server, round, views),
            _ => Ok(()),
        }
    }

    /// A server writes its membership files, and waits for the disk.
    fn remembers(&mut self, server: usize, op: MembershipOp) -> Result<(), Violation> {
        let Some(host) = self.servers.get_mut(server) else {
            return Ok(());
        };
        if host.disk.is_broken() {
            // The host's hook has failed, and with it the process.
            return self.stops(server);
        }
        match op {
            MembershipOp::Seen(membership) => host.membership_seen = Some(membership),
            MembershipOp::Active(membership) => host.membership = membership,
        }
        let version = host.membership.version;
        host.membership_seen.take_if(|seen| seen.version <= version);
        let in_force = View::parse(&host.membership.to_text()).unwrap_or_default();
        let seen = host.membership_seen.as_ref();
        let seen = seen.and_then(|seen| View::parse(&seen.to_text()));
        self.mix(version.cast_unsigned());
        self.note(|| {
            let seen = seen.as_ref().map(|it| format!(", {it} is proposed"));
            let name = letter(server);
            format!("{name} has {in_force} in force{}", seen.unwrap_or_default())
        });
        self.service.marks.hit("membership_written");
        self.history.remembers(server, in_force, seen)
    }

    fn listens(&mut self, server: usize, port: Port, is_on: bool) -> Result<(), Violation> {
        let Some(host) = self.servers.get_mut(server) else {
            return Ok(());
        };
        let has_changed = if is_on {
            host.listening.insert(port)
        } else {
            host.listening.remove(&port)
        };
        if has_changed && port == Port::Quorum {
            host.resigned += u64::from(!is_on);
            self.service.changes_role(server);
            self.occurs(
                server,
                if is_on {
                    Effect::Leads
                } else {
                    Effect::Resigns
                },
            )?;
        }
        Ok(())
    }

    /// A server gives its state up: its store finishes, and it begins with what is on disk.
    fn restart(&mut self, server: usize, reason: &str) -> Result<(), Violation> {
        self.note(|| format!("{} restarts: {reason}", letter(server)));
        self.service.marks.hit("restarted_itself");
        if let Some(host) = self.servers.get_mut(server)
            && let Some(node) = &mut host.node
        {
            host.disk_room.resign = false;
            let count = node.log_queue.len();
            if node.run_log(count).is_err() && host.disk.is_dead() {
                let with_power = host.dies_of_power;
                return self.die(server, with_power);
            }
        }
        self.die(server, false)
    }

    /// Looks at what a server of a drill has delivered.
    fn debrief(&mut self, server: usize) -> Result<(), Violation> {
        let Some(spy) = self.servers.get(server).map(|host| Rc::clone(&host.spy)) else {
            return Ok(());
        };
        let delivered = core::mem::take(&mut spy.borrow_mut().delivered);
        for (zxid, hash) in delivered {
            self.history.delivers(server, zxid, hash)?;
        }
        let loaded = spy.borrow_mut().loaded.take();
        if let Some((zxid, digest)) = loaded {
            self.history.loads(server, zxid, digest)?;
        }
        Ok(())
    }
}

fn closes(output: &Output) -> Option<LinkId> {
    match output {
        Output::Link(link, LinkOutput::Close) => Some(*link),
        _ => None,
    }
}

fn ended(input: &Input) -> Option<LinkId> {
    match input {
        Input::Link(link, LinkInput::Closed) => Some(*link),
        _ => None,
    }
}
