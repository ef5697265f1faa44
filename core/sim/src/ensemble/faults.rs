//! What goes wrong, when its time has come, and how it ends.

use zabra_core::link::Port;

use crate::disk::Failure;
use crate::ensemble::network::Who;
use crate::ensemble::plan::{Fault, LEADER};
use crate::ensemble::{Event, World};
use crate::violation::Violation;

impl World {
    /// A fault begins.
    pub(super) fn begins(&mut self, index: usize, actor: usize) -> Result<(), Violation> {
        let Some(mut planned) = self.script.faults.get(index).cloned() else {
            return Ok(());
        };
        let leader = self.history.leader();
        planned.fault = match actor {
            LEADER => planned.fault.resolved(leader, leader),
            actor => planned.fault.resolved(actor, leader),
        };
        if !self.is_active || !self.are_servers(&planned.fault) {
            return Ok(());
        }
        self.note(|| format!("begins: {planned}"));
        self.mix(index as u64);
        self.service.marks.hit(kind(&planned.fault));
        if let Some(at_work) = self.at_work.get_mut(index) {
            *at_work = Some(planned.fault.clone());
        }
        let until = match planned.for_us {
            0 => u64::MAX,
            for_us => self.now + for_us,
        };
        if planned.for_us > 0 {
            self.after(planned.for_us, Event::Ends(index));
        }
        match planned.fault {
            Fault::Kill(servers) => self.bring_down(&servers, false, until),
            Fault::Power(servers) => self.bring_down(&servers, true, until),
            Fault::PowerInStore(server, operations) => {
                self.light_fuse(server, operations, true);
                Ok(())
            }
            Fault::KillInStore(server, operations) => {
                self.light_fuse(server, operations, false);
                Ok(())
            }
            Fault::Amnesia(server) => {
                if self.history.may_forget(server) {
                    self.bring_down(&[server], true, until)?;
                    self.wipe(server);
                    self.service.marks.hit("disk_lost");
                }
                Ok(())
            }
            Fault::Rot(server, place) => self.rots(server, place, until),
            fault => {
                self.disturb(fault, until);
                Ok(())
            }
        }
    }

    fn disturb(&mut self, fault: Fault, until: u64) {
        match fault {
            Fault::Pause(server) => {
                if let Some(host) = self.servers.get_mut(server) {
                    host.paused_until = until.min(self.now + 10_000_000);
                }
            }
            Fault::SlowDisk(server) => {
                if let Some(host) = self.servers.get_mut(server) {
                    host.is_disk_slow = true;
                }
            }
            Fault::ClockJump(server, ms) => {
                if let Some(host) = self.servers.get_mut(server) {
                    host.wall_offset_ms += ms;
                }
            }
            Fault::SnapshotFails(server) => self.fail_snapshot(server),
            Fault::Reset(one, other) => self.reset_between(one, other),
            Fault::SlowLinks(server, us) => {
                if let Some(host) = self.servers.get_mut(server) {
                    host.link_delay_us = us;
                }
            }
            Fault::DropClients(server) => self.cut_clients(server),
            Fault::Reconfig(changes, version) => self.operate(&changes, version),
            Fault::HalfClose(near, far) => self.half_close(near, far, until),
            Fault::DiskFull(server, after) => self.break_disk(server, Failure::Full, after),
            Fault::DiskFails(server, after) => self.break_disk(server, Failure::Io, after),
            Fault::DiskLow(server) => self.disk_runs_low(server, true),
            Fault::StallDisk(server) => self.stall_disk(server, true),
            fault => {
                for (from, to) in obstacles(&fault, self.servers.len()) {
                    self.block(from, to);
                }
            }
        }
    }

    /// A fault ends.
    pub(super) fn ends(&mut self, index: usize) {
        let at_work = self.at_work.get_mut(index);
        let Some(fault) = at_work.and_then(Option::take) else {
            return;
        };
        if !self.is_active {
            return;
        }
        match fault {
            Fault::SlowDisk(server) => {
                if let Some(host) = self.servers.get_mut(server) {
                    host.is_disk_slow = false;
                }
            }
            Fault::SlowLinks(server, _) => {
                if let Some(host) = self.servers.get_mut(server) {
                    host.link_delay_us = 0;
                }
            }
            Fault::Kill(servers) | Fault::Power(servers) => {
                for server in servers {
                    self.after(0, Event::Restart(server));
                }
            }
            Fault::Amnesia(server) | Fault::Rot(server, _) => {
                self.after(0, Event::Restart(server));
            }
            Fault::DiskFull(server, _) | Fault::DiskFails(server, _) => self.repair_disk(server),
            Fault::DiskLow(server) => self.disk_runs_low(server, false),
            Fault::StallDisk(server) => self.stall_disk(server, false),
            fault => {
                for (from, to) in obstacles(&fault, self.servers.len()) {
                    self.unblock(from, to);
                }
            }
        }
    }

    pub(super) fn bring_down(
        &mut self,
        servers: &[usize],
        with_power: bool,
        until: u64,
    ) -> Result<(), Violation> {
        for server in servers {
            if let Some(host) = self.servers.get_mut(*server) {
                host.down_until = host.down_until.max(until);
            }
            self.die(*server, with_power)?;
        }
        Ok(())
    }

    fn reset_between(&mut self, one: usize, other: usize) {
        for (link, side) in self.links_of(one) {
            let far = self.far(link, side);
            if far.is_some_and(|(_, who)| matches!(who, Who::Server(server, _) if server == other))
            {
                self.reset(link);
            }
        }
    }

    /// The clients of a server lose their connections.
    pub(super) fn cut_clients(&mut self, server: usize) {
        for (link, side) in self.links_of(server) {
            if self
                .far(link, side)
                .is_some_and(|(port, _)| port == Port::Client)
            {
                self.reset(link);
            }
        }
    }

    /// Whether a fault is about servers that there are: a script may have been cut down.
    fn are_servers(&self, fault: &Fault) -> bool {
        let count = self.servers.len();
        match fault {
            Fault::Kill(servers) | Fault::Power(servers) => servers.iter().all(|it| *it < count),
            Fault::Partition(groups) => groups.iter().flatten().all(|it| *it < count),
            Fault::Block(one, other) | Fault::Reset(one, other) | Fault::HalfClose(one, other) => {
                *one < count && *other < count
            }
            Fault::PowerInStore(one, _)
            | Fault::KillInStore(one, _)
            | Fault::Amnesia(one)
            | Fault::Pause(one)
            | Fault::SlowDisk(one)
            | Fault::ClockJump(one, _)
            | Fault::SnapshotFails(one)
            | Fault::Isolate(one)
            | Fault::SlowLinks(one, _)
            | Fault::DropClients(one)
            | Fault::DiskFull(one, _)
            | Fault::DiskFails(one, _)
            | Fault::DiskLow(one)
            | Fault::StallDisk(one)
            | Fault::Rot(one, _) => *one < count,
            Fault::Reconfig(changes, _) => changes.iter().all(|it| it.server() < count),
        }
    }
}

/// Which pairs of servers a fault keeps apart, by direction.
fn obstacles(fault: &Fault, count: usize) -> Vec<(usize, usize)> {
    match fault {
        Fault::Isolate(one) => (0..count)
            .filter(|other| other != one)
            .flat_map(|other| [(*one, other), (other, *one)])
            .collect(),
        Fault::Block(from, to) => vec![(*from, *to)],
        Fault::Partition(groups) => {
            let mut pairs = Vec::new();
            for (index, group) in groups.iter().enumerate() {
                let others = groups.iter().enumerate();
                let others = others.filter(|(other, _)| *other != index);
                for other in others.flat_map(|(_, group)| group) {
                    pairs.extend(group.iter().map(|server| (*server, *other)));
                }
            }
            pairs
        }
        _ => Vec::new(),
    }
}

const fn kind(fault: &Fault) -> &'static str {
    match fault {
        Fault::Kill(_) => "fault: kill",
        Fault::Power(_) => "fault: power",
        Fault::PowerInStore(..) => "fault: power-in-store",
        Fault::KillInStore(..) => "fault: kill-in-store",
        Fault::Amnesia(_) => "fault: amnesia",
        Fault::Pause(_) => "fault: pause",
        Fault::SlowDisk(_) => "fault: slow-disk",
        Fault::ClockJump(..) => "fault: clock",
        Fault::SnapshotFails(_) => "fault: snapshot-fails",
        Fault::Isolate(_) => "fault: isolate",
        Fault::Block(..) => "fault: block",
        Fault::Partition(_) => "fault: partition",
        Fault::Reset(..) => "fault: reset",
        Fault::SlowLinks(..) => "fault: slow-links",
        Fault::DropClients(_) => "fault: drop-clients",
        Fault::Reconfig(..) => "fault: reconfig",
        Fault::HalfClose(..) => "fault: half-close",
        Fault::DiskFull(..) => "fault: disk-full",
        Fault::DiskFails(..) => "fault: disk-fails",
        Fault::DiskLow(_) => "fault: disk-low",
        Fault::StallDisk(_) => "fault: stall-disk",
        Fault::Rot(..) => "fault: rot",
    }
}
