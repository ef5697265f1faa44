//! Faults of disks and of half of a connection, and leaders cut off with what nobody else has.

use zabra_core::server::{DiskRoom, Input};

use crate::disk::Failure;
use crate::ensemble::plan::{ACTOR, Cast, Effect, Fault, LEADER, Planned, Script, When, letter};
use crate::ensemble::{Event, World};
use crate::rng::{Rng, Stream};
use crate::violation::Violation;

/// How long an operator needs to empty a disk whose server refuses to start, in microseconds.
const OPERATOR_US: u64 = 500_000;

impl Script {
    /// What goes wrong besides. Drawn apart from all else, so that the rest of a seed is as it was.
    pub(super) fn draw_mishaps(&mut self, rng: &mut Rng) {
        let mut mishaps = Vec::new();
        if rng.one_in(3) {
            for _ in 0..rng.between(1, 4) {
                mishaps.push(self.draw_mishap(rng));
            }
        }
        if rng.one_in(3) && self.voters >= 3 {
            mishaps.extend(self.draw_cut_off(rng));
            // Whoever has kept less sends its whole state.
            self.history_txns = 500;
        }
        // One disk that loses something is what a quorum of the others can make good.
        let loses = |planned: &Planned| matches!(planned.fault, Fault::Amnesia(_));
        if rng.one_in(6) && !self.reconfigures() && !self.faults.iter().any(loses) {
            let server = rng.index(self.servers());
            mishaps.push(Planned {
                when: self.draw_time(rng),
                fault: Fault::Rot(server, rng.below(1 << 32)),
                for_us: rng.between(1, 1000) * 1000,
            });
        }
        self.faults.extend(mishaps);
    }

    fn draw_time(&self, rng: &mut Rng) -> When {
        if rng.one_in(2) {
            self.draw_condition(rng)
        } else {
            When::At(rng.below(self.base.duration_us))
        }
    }

    fn draw_mishap(&self, rng: &mut Rng) -> Planned {
        let when = self.draw_time(rng);
        let is_conditional = matches!(when, When::On { .. });
        let drawn = rng.index(self.servers());
        let other = (drawn + 1 + rng.index(self.servers() - 1)) % self.servers();
        let one = match rng.below(4) {
            0 => LEADER,
            1 if is_conditional => ACTOR,
            _ => drawn,
        };
        let fault = match rng.below(7) {
            0 => Fault::DiskFull(one, rng.below(12)),
            1 => Fault::DiskFails(one, rng.below(12)),
            2 => Fault::StallDisk(one),
            3 => Fault::HalfClose(LEADER, other),
            4 => Fault::HalfClose(other, LEADER),
            _ => Fault::HalfClose(one, other),
        };
        let for_us = *rng
            .pick(&[20_000, 200_000, 1_500_000, 4_000_000])
            .unwrap_or(&200_000);
        Planned {
            when,
            fault,
            for_us,
        }
    }

    /// A leader has proposed what reaches nobody, or few, and is cut off until others lead.
    ///
    /// Only then has a server to take back what it has logged (TRUNC), and cuts at random moments
    /// seldom fall between a proposal and its quorum.
    fn draw_cut_off(&self, rng: &mut Rng) -> Vec<Planned> {
        let limits = u64::from(self.init_limit + self.sync_limit);
        // Until it is given up, others are elected, and have proposed something.
        let for_us = limits * u64::from(self.base.tick_ms) * 1000 + rng.between(500, 2000) * 1000;
        let times = rng.between(1, 2);
        let cut_off = (0..times).map(|_| Planned {
            when: When::On {
                server: None,
                effect: Effect::Sends(PROPOSAL),
                count: rng.between(1, 150),
            },
            fault: Fault::Isolate(ACTOR),
            for_us,
        });
        cut_off.collect()
    }
}

const PROPOSAL: i32 = 2;

impl World {
    /// A disk fails, after some operations more.
    pub(super) fn break_disk(&self, server: usize, what: Failure, after: u64) {
        if let Some(host) = self.servers.get(server) {
            host.disk.break_down(what, after);
        }
    }

    pub(super) fn repair_disk(&self, server: usize) {
        if let Some(host) = self.servers.get(server) {
            host.disk.repair();
        }
    }

    pub(super) fn stall_disk(&mut self, server: usize, is_stalled: bool) {
        if let Some(host) = self.servers.get_mut(server) {
            host.is_disk_stalled = is_stalled;
        }
    }

    /// The host sees that its disk is nearly full, or that it is not any more.
    pub(super) fn disk_runs_low(&mut self, server: usize, low: bool) {
        let room = DiskRoom { low, resign: low };
        if let Some(host) = self.servers.get_mut(server) {
            host.disk_room = room;
        }
        self.give(server, Input::Disk(room));
    }

    /// The log cannot be written: the process ends, and somebody starts it again. The lane of the
    /// snapshots finishes what it was given.
    ///
    /// Source: the host's `Report::LogFailed` and `Lanes::close`.
    pub(super) fn stops(&mut self, server: usize) -> Result<(), Violation> {
        self.note(|| format!("{} stops: its log cannot be written", letter(server)));
        let host = self.servers.get_mut(server);
        if let Some(node) = host.and_then(|host| host.node.as_mut()) {
            while !node.snapshot_queue.is_empty() && node.run_snapshot().is_some() {}
        }
        self.die(server, false)
    }

    /// A process dies, and then one bit of its disk is another, unless too few others know what it
    /// knows.
    pub(super) fn rots(&mut self, server: usize, place: u64, until: u64) -> Result<(), Violation> {
        let is_rotten = self.servers.iter().any(|host| host.is_rotten);
        if is_rotten || !self.history.may_forget(server) {
            return Ok(());
        }
        self.bring_down(&[server], false, until)?;
        let is_drill = self.script.cast == Cast::Drill;
        // Epochs are bare numbers, and so is a drill's state: nothing can tell one from another.
        let may_rot =
            |name: &str| name.starts_with("log.") || (!is_drill && name.starts_with("snapshot."));
        let mut rng = Rng::keyed(place, Stream::Disk, 1, 0);
        let Some(host) = self.servers.get_mut(server) else {
            return Ok(());
        };
        let Some((name, at)) = host.disk.rot(&mut rng, may_rot) else {
            return Ok(());
        };
        host.is_rotten = true;
        self.service.marks.hit("rotten");
        self.note(|| {
            format!(
                "{}: a bit of byte {at} of {name} is flipped",
                letter(server)
            )
        });
        Ok(())
    }

    /// A server that cannot use its disk is given an empty one.
    pub(super) fn operator_wipes(&mut self, server: usize, why: &str) {
        self.note(|| format!("{} is wiped: {why}", letter(server)));
        self.wipe(server);
        if let Some(host) = self.servers.get_mut(server) {
            host.is_rotten = false;
        }
        self.after(OPERATOR_US, Event::Restart(server));
    }
}
