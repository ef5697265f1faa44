//! Servers of an ensemble: their turns, stores, deaths and restarts.

use core::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use zabra_core::ids::{Instant, LinkId, Seq, UnixMillis};
use zabra_core::link::{LinkInput, Port};
use zabra_core::machine::Now;
use zabra_core::server::{Event as CoreEvent, HostFacts, Input, Output, SnapshotOp, StoreOp};
use zabra_core::zab::{Membership, MembershipOp};

use crate::boot;
use crate::disk::SimDisk;
use crate::drill::Spy;
use crate::ensemble::history::kinds;
use crate::ensemble::members::View;
use crate::ensemble::network::Dial;
use crate::ensemble::plan::{Cast, Durable, Effect, Script, letter};
use crate::ensemble::{Event, WALL_START_MS, World};
use crate::model::State;
use crate::node::{Node, hash};
use crate::oracle::snapshot;
use crate::rng::{Rng, Stream};
use crate::violation::{Violation, ensure};

/// A server with its disk and clock, whether its process runs or not.
pub(super) struct Host {
    pub(super) disk: SimDisk,
    pub(super) node: Option<Node>,
    /// Which life of the process this is; what belongs to an earlier one is ignored.
    pub(super) life: u64,
    inbox: Vec<Input>,
    step_at: Option<u64>,
    pub(super) paused_until: u64,
    pub(super) is_disk_slow: bool,
    /// Whether its log's lane finishes nothing.
    pub(super) is_disk_stalled: bool,
    /// Whether a bit of what its disk holds was flipped.
    pub(super) is_rotten: bool,
    pub(super) wall_offset_ms: i64,
    clock: Clock,
    /// The ports for peers that it listens on; clients' port is always open.
    pub(super) listening: BTreeSet<Port>,
    pub(super) links: BTreeMap<LinkId, u64>,
    pub(super) dials: BTreeMap<LinkId, Dial>,
    /// Connections of which it has heard the end.
    pub(super) ended: BTreeSet<LinkId>,
    pub(super) accepted: u64,
    /// How often it has given leading up.
    pub(super) resigned: u64,
    pub(super) has_power: bool,
    /// How much slower its connections to servers are.
    pub(super) link_delay_us: u64,
    /// Connections whose other ends do not know that the power went.
    orphans: Vec<u64>,
    /// Whether its disk was lost and it must not trust what it finds.
    pub(super) is_wiped: bool,
    pub(super) is_away: bool,
    /// Until when a fault keeps it down.
    pub(super) down_until: u64,
    dies_of_power: bool,
    snapshot_file: Option<(Option<State>, Vec<u8>)>,
    pub(super) spy: Rc<RefCell<Spy>>,
    /// The memberships in its files: in force, and proposed later.
    membership: Membership,
    membership_seen: Option<Membership>,
}

/// A clock of a server: it has its own zero and its own pace.
#[derive(Clone, Copy, Debug)]
struct Clock {
    zero: u64,
    ppm: i64,
}

impl Clock {
    fn read(self, now: u64) -> u64 {
        let drift = i128::from(now) * i128::from(self.ppm) / 1_000_000;
        let read = i128::from(self.zero) + i128::from(now) + drift;
        u64::try_from(read).unwrap_or(0)
    }

    /// When it will show this.
    fn when(self, shown: u64) -> u64 {
        let since = i128::from(shown.saturating_sub(self.zero)) * 1_000_000;
        let now = since / (1_000_000 + i128::from(self.ppm)) + 1;
        u64::try_from(now).unwrap_or(u64::MAX)
    }
}

impl Host {
    pub(super) fn new(script: &Script, server: usize) -> Self {
        let mut rng = Rng::keyed(script.base.seed, Stream::Server, 200, server as u64);
        let drift = script.drift_ppm;
        let ppm = rng.below(2 * drift + 1).cast_signed() - drift.cast_signed();
        Self {
            disk: SimDisk::default(),
            node: None,
            life: 0,
            inbox: Vec::new(),
            step_at: None,
            paused_until: 0,
            is_disk_slow: false,
            is_disk_stalled: false,
            is_rotten: false,
            wall_offset_ms: rng.below(2000).cast_signed() - 1000,
            clock: Clock {
                zero: rng.below(1_000_000_000),
                ppm,
            },
            listening: BTreeSet::new(),
            links: BTreeMap::new(),
            dials: BTreeMap::new(),
            ended: BTreeSet::new(),
            accepted: 0,
            resigned: 0,
            has_power: true,
            link_delay_us: 0,
            orphans: Vec::new(),
            is_wiped: false,
            is_away: false,
            down_until: 0,
            dies_of_power: false,
            snapshot_file: None,
            spy: Rc::default(),
            membership: boot::membership(script, server),
            membership_seen: None,
        }
    }

    /// Whether its files name a membership that is not in force.
    pub(super) const fn has_pending_membership(&self) -> bool {
        self.membership_seen.is_some()
    }
}

impl World {
    fn clocks(&self, server: usize) -> Now {
        let Some(host) = self.servers.get(server) else {
            return Now::default();
        };
        let wall = WALL_START_MS + (self.now / 1000).cast_signed() + host.wall_offset_ms;
        Now {
            instant: Instant(host.clock.read(self.now)),
            wall: UnixMillis(wall),
        }
    }

    pub(super) fn boot_if_down(&mut self, server: usize) -> Result<(), Violation> {
        let now = self.now;
        let is_due = self
            .servers
            .get(server)
            .is_some_and(|host| host.node.is_none() && host.down_until <= now);
        if is_due { self.boot(server) } else { Ok(()) }
    }

    /// Starts a server, with what is on its disk.
    fn boot(&mut self, server: usize) -> Result<(), Violation> {
        let now = self.clocks(server);
        let entropy = self.rng(Stream::Server).bits();
        let Some(host) = self.servers.get_mut(server) else {
            return Ok(());
        };
        host.has_power = true;
        let orphans = core::mem::take(&mut host.orphans);
        let birth = boot::Birth {
            script: &self.script,
            is_quiet: &self.is_quiet,
            spy: &host.spy,
            server,
            disk: &host.disk,
            membership: &host.membership,
            membership_seen: host.membership_seen.as_ref(),
            is_wiped: host.is_wiped,
            may_fail: self.is_active,
            entropy,
            now,
        };
        let born = match boot::ensemble(birth) {
            Ok(born) => born,
            Err(_) if host.disk.is_dead() => {
                let with_power = host.dies_of_power;
                self.after_death(server, with_power);
                return Ok(());
            }
            Err(_) if host.disk.take_met_trouble() => {
                self.service.marks.hit("start_refused_by_disk");
                self.after_death(server, false);
                return Ok(());
            }
            Err(error) if host.is_rotten => {
                self.service.marks.hit("rot_refused");
                self.operator_wipes(server, &error);
                return Ok(());
            }
            Err(error) => {
                let name = letter(server);
                return Err(Violation::new(
                    "durability: recovery",
                    format!("{name}: {error}"),
                ));
            }
        };
        if host.is_rotten && !self.history.survives_rot(server, born.last) {
            self.service.marks.hit("rot_beyond_budget");
            self.operator_wipes(server, "nobody can tell what is missing from what was torn");
            return Ok(());
        }
        host.life += 1;
        host.accepted = 0;
        host.is_wiped &= !born.is_trusted;
        host.node = Some(born.node);
        for link in orphans {
            self.reset(link);
        }
        self.note(|| {
            let (name, last) = (letter(server), born.last);
            format!(
                "{name} starts: last {last:#x}, epochs {} and {}",
                born.accepted, born.current
            )
        });
        self.history
            .recovered(server, born.last, (born.accepted, born.current))?;
        self.occurs(server, Effect::Starts)?;
        self.schedule_step(server);
        Ok(())
    }

    /// A process dies; the power goes as well, or not.
    pub(super) fn die(&mut self, server: usize, with_power: bool) -> Result<(), Violation> {
        let node = self.servers.get_mut(server).and_then(|it| it.node.take());
        if node.is_some() {
            drop(node);
            self.after_death(server, with_power);
        }
        Ok(())
    }

    pub(super) fn after_death(&mut self, server: usize, with_power: bool) {
        let mut rng = self.rng(Stream::Disk);
        let links = self.links_of(server);
        for (link, side) in links {
            if with_power {
                self.leave(link, side);
                if let Some(host) = self.servers.get_mut(server) {
                    host.orphans.push(link);
                }
            } else {
                self.close(link, side);
            }
        }
        let Some(host) = self.servers.get_mut(server) else {
            return;
        };
        host.life += 1;
        host.node = None;
        host.inbox.clear();
        host.step_at = None;
        host.snapshot_file = None;
        host.links.clear();
        host.dials.clear();
        host.ended.clear();
        host.listening.clear();
        if with_power {
            host.has_power = false;
            let damage = host.disk.cut_power(&mut rng);
            self.service.marks.hit("power_cut");
            if damage.is_torn {
                self.service.marks.hit("power_cut_torn");
            }
            self.note(|| format!("{} power cut: {damage:?}", letter(server)));
        } else {
            host.disk.kill();
            self.service.marks.hit("kill");
            self.note(|| format!("{} killed", letter(server)));
        }
        self.service.died(server);
        let down_us = rng.between(1, 800) * 1000;
        self.after(down_us, Event::Restart(server));
    }

    /// Empties a disk.
    pub(super) fn wipe(&mut self, server: usize) {
        if let Some(host) = self.servers.get_mut(server) {
            host.disk = SimDisk::default();
            host.is_wiped = true;
        }
        self.history.forgets(server);
    }

    /// Ends what a fault does to a server.
    pub(super) fn well(&mut self, server: usize) {
        if let Some(host) = self.servers.get_mut(server) {
            host.disk.put_out_fuse();
            host.disk.repair();
            host.is_disk_stalled = false;
            host.is_disk_slow = false;
            host.link_delay_us = 0;
            host.down_until = 0;
            host.paused_until = host.paused_until.min(self.now);
        }
        if self.step_is_late(server) {
            self.schedule_step(server);
        }
    }

    fn step_is_late(&mut self, server: usize) -> bool {
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

    pub(super) fn disk(&self, server: usize) -> Option<&SimDisk> {
        self.servers.get(server).map(|host| &host.disk)
    }

    /// Lets the process die, or the power go, after some operations of the disk.
    pub(super) fn light_fuse(&mut self, server: usize, operations: u64, is_power: bool) {
        if let Some(host) = self.servers.get_mut(server) {
            host.dies_of_power = is_power;
            host.disk.light_fuse(operations);
        }
    }

    /// Gives a server something to look at in its next turn.
    pub(super) fn give(&mut self, server: usize, input: Input) {
        if let Some(host) = self.servers.get_mut(server)
            && host.node.is_some()
        {
            host.inbox.push(input);
            self.schedule_step(server);
        }
    }

    pub(super) fn schedule_step(&mut self, server: usize) {
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

    /// A server has its turn.
    pub(super) fn step(&mut self, server: usize, at: u64) -> Result<(), Violation> {
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
        }
        if self.is_verbose {
            for input in &inputs {
                let line = format!("{} in  {input:?}", letter(server));
                self.note(|| line.chars().take(500).collect());
            }
        }
        self.mix(inputs.len() as u64 ^ self.now);
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
            Output::Event(_) => Ok(()),
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
            let count = node.log_queue.len();
            if node.run_log(count).is_err() && host.disk.is_dead() {
                let with_power = host.dies_of_power;
                return self.die(server, with_power);
            }
        }
        self.die(server, false)
    }

    fn perform_store(&mut self, server: usize, seq: Seq, op: StoreOp) -> Result<(), Violation> {
        let life = self.life(server);
        if let StoreOp::Append { txn, .. } = &op {
            self.mix(hash(txn, 0));
        }
        self.history.asks(server, seq, &op, self.now)?;
        let asked = kinds(&op);
        let is_slow = self.servers.get(server).is_some_and(|it| it.is_disk_slow);
        let sync_us = self.script.base.sync_us * if is_slow { 100 } else { 1 };
        let delay_us = self.rng(Stream::Store).below(sync_us / 4 + 1);
        let Some(host) = self.servers.get_mut(server) else {
            return Ok(());
        };
        let Some(node) = &mut host.node else {
            return Ok(());
        };
        ensure(
            seq == node.next_seq,
            "store operations are numbered",
            || format!("expected {:?}, found {seq:?}", node.next_seq),
        )?;
        node.next_seq = Seq(seq.0 + 1);
        node.log_queue.push_back((seq, op));
        if !node.is_log_busy {
            node.is_log_busy = true;
            self.after(delay_us, Event::StoreRuns(server, life));
        }
        for kind in asked.into_iter().flatten() {
            if !self.occurs(server, Effect::Asks(kind))? {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn store_runs(&mut self, server: usize, life: u64) -> Result<(), Violation> {
        if self.life(server) != life {
            return Ok(());
        }
        let mut rng = self.rng(Stream::Store);
        let sync_us = self.script.base.sync_us;
        let Some(host) = self.servers.get_mut(server) else {
            return Ok(());
        };
        if host.is_disk_stalled {
            self.after(10_000, Event::StoreRuns(server, life));
            return Ok(());
        }
        let sync_us = sync_us * if host.is_disk_slow { 100 } else { 1 };
        let Some(node) = &mut host.node else {
            return Ok(());
        };
        let waiting = node.log_queue.len();
        let count = if rng.one_in(3) {
            1 + rng.index(waiting)
        } else {
            waiting
        };
        let upto = match node.run_log(count) {
            Ok(upto) => upto.unwrap_or_default(),
            Err(_) if host.disk.take_met_trouble() => {
                self.service.marks.hit("log_failed");
                return self.stops(server);
            }
            Err(error) if !host.disk.is_dead() => {
                return Err(Violation::new(
                    "the store does what it is asked",
                    format!("{}: {error}", letter(server)),
                ));
            }
            Err(_) => {
                let with_power = host.dies_of_power;
                return self.die(server, with_power);
            }
        };
        let delay_us = rng.below(sync_us + 1);
        self.after(delay_us, Event::StoreReports(server, life, upto.0));
        Ok(())
    }

    pub(super) fn store_reports(
        &mut self,
        server: usize,
        life: u64,
        seq: u64,
    ) -> Result<(), Violation> {
        if self.life(server) != life {
            return Ok(());
        }
        for kind in self.history.kinds_upto(server, Seq(seq)) {
            if !self.occurs(server, Effect::Stores(kind))? {
                return Ok(());
            }
        }
        self.give(server, Input::Stored { upto: Seq(seq) });
        let Some(host) = self.servers.get_mut(server) else {
            return Ok(());
        };
        let Some(node) = &mut host.node else {
            return Ok(());
        };
        if node.log_queue.is_empty() {
            node.is_log_busy = false;
        } else {
            self.after(0, Event::StoreRuns(server, life));
        }
        Ok(())
    }

    fn perform_snapshot(&mut self, server: usize, op: SnapshotOp) -> Result<(), Violation> {
        let life = self.life(server);
        if let SnapshotOp::Begin { zxid } = &op {
            self.history.writes_snapshot(server, zxid.0);
        }
        if self.script.cast == Cast::Service {
            self.service.catch_up(&self.history)?;
        }
        let cast = self.script.cast;
        let Some(host) = self.servers.get_mut(server) else {
            return Ok(());
        };
        match (&op, &mut host.snapshot_file) {
            (SnapshotOp::Begin { zxid }, file) => {
                // A leader's state that a learner writes down may not be committed yet.
                let committed = zxid.0 <= self.history.visible() && cast == Cast::Service;
                let version = self.service.versions.at(zxid.0).ok();
                let state = version.filter(|_| committed).map(|it| it.state.clone());
                *file = Some((state, Vec::new()));
            }
            (SnapshotOp::Chunk(bytes), Some((_, file))) => {
                if !file.is_empty() {
                    self.service.marks.hit("snapshot_of_many_slices");
                }
                file.extend_from_slice(bytes);
            }
            (SnapshotOp::End, Some((state, file))) => {
                if let Some(state) = state {
                    snapshot::check(file, state, Some("/zookeeper/config")).map_err(
                        |violation| Violation {
                            detail: format!("{}: {}", letter(server), violation.detail),
                            ..violation
                        },
                    )?;
                    self.service.marks.hit("snapshot_written");
                }
                host.snapshot_file = None;
            }
            (SnapshotOp::Abandon, file) => *file = None,
            (_, None) => {
                return Err(Violation::new(
                    "snapshot",
                    format!("{op:?} without a beginning"),
                ));
            }
        }
        let Some(node) = &mut host.node else {
            return Ok(());
        };
        node.snapshot_queue.push_back(op);
        if !node.is_snapshot_busy {
            node.is_snapshot_busy = true;
            self.after(0, Event::SnapshotRuns(server, life));
        }
        Ok(())
    }

    pub(super) fn snapshot_runs(&mut self, server: usize, life: u64) -> Result<(), Violation> {
        if self.life(server) != life {
            return Ok(());
        }
        let mut rng = self.rng(Stream::Store);
        let Some(host) = self.servers.get_mut(server) else {
            return Ok(());
        };
        let Some(node) = &mut host.node else {
            return Ok(());
        };
        let Some(inputs) = node.run_snapshot() else {
            let with_power = host.dies_of_power;
            return self.die(server, with_power);
        };
        let is_more = !node.snapshot_queue.is_empty();
        node.is_snapshot_busy = is_more;
        if host.disk.take_met_trouble() {
            self.service.marks.hit("snapshot_failed_on_disk");
        }
        let is_stored = matches!(inputs.first(), Some(Input::SnapshotStored { .. }));
        if is_stored && !self.occurs(server, Effect::Stores(Durable::Snapshot))? {
            return Ok(());
        }
        for input in inputs {
            self.give(server, input);
        }
        if is_more {
            let delay_us = rng.below(self.script.base.sync_us * 2 + 1);
            self.after(delay_us, Event::SnapshotRuns(server, life));
        }
        if is_stored && rng.one_in(3) {
            self.purge(server)?;
        }
        Ok(())
    }

    fn purge(&mut self, server: usize) -> Result<(), Violation> {
        let keep = core::num::NonZeroU32::new(3).unwrap_or(core::num::NonZeroU32::MIN);
        let Some(mut disk) = self.disk(server).cloned() else {
            return Ok(());
        };
        let purged = zabra_core::store::purge::purge(&mut disk.clone(), &mut disk, keep);
        if purged.is_err() && disk.take_met_trouble() {
            // Only a warning, in the host.
            return Ok(());
        }
        if purged.is_err() {
            let power = self.servers.get(server).is_some_and(|it| it.dies_of_power);
            return self.die(server, power);
        }
        Ok(())
    }

    /// The snapshot that is being written fails.
    pub(super) fn fail_snapshot(&mut self, server: usize) {
        let host = self.servers.get_mut(server);
        let node = host.and_then(|host| host.node.as_mut());
        if let Some(input) = node.and_then(Node::fail_snapshot) {
            self.give(server, input);
        }
    }

    /// What a restart could load holds nothing beyond the log.
    pub(super) fn ensure_snapshots(&self, server: usize) -> Result<(), Violation> {
        let Some(disk) = self.disk(server) else {
            return Ok(());
        };
        for name in disk.names() {
            let digits = name.strip_prefix("snapshot.");
            if let Some(Ok(zxid)) = digits.map(|digits| i64::from_str_radix(digits, 16)) {
                self.history.ensure_snapshot(server, zxid)?;
            }
        }
        Ok(())
    }
}

impl World {
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

fn ended(input: &Input) -> Option<LinkId> {
    match input {
        Input::Link(link, LinkInput::Closed) => Some(*link),
        _ => None,
    }
}

impl core::fmt::Debug for Host {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Host")
            .field("life", &self.life)
            .finish_non_exhaustive()
    }
}
