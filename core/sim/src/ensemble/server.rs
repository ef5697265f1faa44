//! Servers of an ensemble: their clocks, starts and deaths; [`turn`] and [`store`] are what they do
//! meanwhile.

mod store;
mod turn;

use core::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use zabra_core::ids::{Instant, LinkId, UnixMillis};
use zabra_core::link::Port;
use zabra_core::machine::Now;
use zabra_core::server::{DiskRoom, Input};
use zabra_core::zab::Membership;

use crate::boot;
use crate::disk::SimDisk;
use crate::drill::Spy;
use crate::ensemble::network::Dial;
use crate::ensemble::plan::{Effect, Script, letter};
use crate::ensemble::{Event, WALL_START_MS, World};
use crate::model::State;
use crate::node::Node;
use crate::rng::{Rng, Stream};
use crate::violation::Violation;

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
    /// What its host says of the room on its disk.
    pub(super) disk_room: DiskRoom,
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
            disk_room: DiskRoom::default(),
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
        let room = host.disk_room;
        if room.low {
            host.inbox.push(Input::Disk(room));
        }
        self.service.disk_room(server, room.low, self.now);
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
        if self.servers.get(server).is_some_and(|it| it.disk_room.low) {
            self.disk_runs_low(server, false);
        }
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
}

impl core::fmt::Debug for Host {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Host")
            .field("life", &self.life)
            .finish_non_exhaustive()
    }
}
