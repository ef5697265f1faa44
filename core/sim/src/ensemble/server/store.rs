//! A server's two lanes to its disk.

use zabra_core::ids::Seq;
use zabra_core::server::{Input, SnapshotOp, StoreOp};

use crate::ensemble::history::store::kinds;
use crate::ensemble::plan::{Cast, Durable, Effect, letter};
use crate::ensemble::{Event, World};
use crate::node::{Node, hash};
use crate::oracle::snapshot;
use crate::rng::Stream;
use crate::violation::{Violation, ensure};

impl World {
    pub(super) fn perform_store(
        &mut self,
        server: usize,
        seq: Seq,
        op: StoreOp,
    ) -> Result<(), Violation> {
        let life = self.life(server);
        if let StoreOp::Append { txn, .. } = &op {
            self.mix(hash(txn, 0));
        }
        self.history.asks(server, seq, &op, self.now)?;
        if let StoreOp::Append { zxid, txn } = &op
            && self.script.cast == Cast::Service
            && self.history.is_proposed(zxid.0, server, self.now)
        {
            self.service.proposes(server, zxid.0, txn, self.now)?;
        }
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

    pub(in crate::ensemble) fn store_runs(
        &mut self,
        server: usize,
        life: u64,
    ) -> Result<(), Violation> {
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

    pub(in crate::ensemble) fn store_reports(
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

    pub(super) fn perform_snapshot(
        &mut self,
        server: usize,
        op: SnapshotOp,
    ) -> Result<(), Violation> {
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

    pub(in crate::ensemble) fn snapshot_runs(
        &mut self,
        server: usize,
        life: u64,
    ) -> Result<(), Violation> {
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
    pub(in crate::ensemble) fn fail_snapshot(&mut self, server: usize) {
        let host = self.servers.get_mut(server);
        let node = host.and_then(|host| host.node.as_mut());
        if let Some(input) = node.and_then(Node::fail_snapshot) {
            self.give(server, input);
        }
    }

    /// What a restart could load holds nothing beyond the log.
    pub(in crate::ensemble) fn ensure_snapshots(&self, server: usize) -> Result<(), Violation> {
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
