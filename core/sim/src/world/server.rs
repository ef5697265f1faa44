//! The server's turns, its store, its deaths and restarts.

use core::num::NonZeroU32;

use zabra_core::ids::{Instant, LinkId, Seq, UnixMillis};
use zabra_core::link::{LinkInput, LinkOutput};
use zabra_core::machine::Now;
use zabra_core::server::{Event as CoreEvent, HostFacts, Input, Output, SnapshotOp, StoreOp};
use zabra_core::store::log::LogOptions;
use zabra_core::store::purge::purge;
use zabra_core::store::recovery::recover;

use super::{Event, FAULT, SERVER, STORE, World};
use crate::boot;
use crate::node::{Node, Recording, hash};
use crate::oracle::snapshot;
use crate::rng::Stream;
use crate::violation::{Violation, ensure};

impl World {
    /// Starts the server, with what is on the disk.
    pub(super) fn boot(&mut self) -> Result<(), Violation> {
        let wall = UnixMillis(self.wall());
        let now = Now {
            instant: Instant(self.now),
            wall,
        };
        let config = self.plan.config();
        let entropy = self.rng(Stream::Server, SERVER).bits();
        let inner =
            boot::restore(config, entropy).map_err(|error| Violation::new("recovery", error))?;
        let mut recording = Recording {
            inner,
            snapshot: None,
            txns: Vec::new(),
        };
        let (mut logs, mut snapshots) = (self.disk.clone(), self.disk.clone());
        let recovered = match recover(&mut logs, &mut snapshots, &mut recording) {
            Ok(recovered) => recovered,
            Err(_) if self.disk.is_dead() => return self.die_in_recovery(),
            Err(error) => {
                return Err(Violation::new("durability: recovery", format!("{error:?}")));
            }
        };
        self.check_recovered(&recording.txns, recording.snapshot, recovered.last.0)?;
        if self.life > 0 {
            self.oracle.restarted(recovered.last.0, self.now)?;
        }
        let core = recording
            .inner
            .finish(boot::found(&recovered, now))
            .map_err(|error| Violation::new("recovery", error))?;
        self.life += 1;
        let options = LogOptions {
            preallocate_bytes: self.plan.preallocate_bytes,
            file_bytes_max: self.plan.log_file_bytes,
        };
        let mut node = Node::new(core, &self.disk, options, recovered.last);
        if node.snapshots.remove_unfinished().is_err() {
            return self.die_in_recovery();
        }
        self.node = Some(node);
        self.oracle.serves(recovered.snapshot.is_some());
        self.note(|| format!("server starts with {recovered:?}"));
        self.schedule_step();
        Ok(())
    }

    /// What recovery hands over must be what was given to the log, to the byte.
    fn check_recovered(
        &mut self,
        txns: &[u64],
        snapshot: Option<i64>,
        last: i64,
    ) -> Result<(), Violation> {
        if snapshot.is_some() {
            self.oracle.marks.hit("snapshot_loaded");
        }
        if !txns.is_empty() {
            self.oracle.marks.hit("replayed_from_log");
        }
        let from = usize::try_from(snapshot.unwrap_or(0)).unwrap_or(usize::MAX);
        let upto = usize::try_from(last).unwrap_or(usize::MAX);
        let expected = self.txn_hashes.get(from..upto);
        ensure(
            expected == Some(txns),
            "durability: a prefix of what was proposed",
            || {
                format!(
                    "{} transactions from {from} to {upto} are not as they were",
                    txns.len()
                )
            },
        )?;
        self.txn_hashes.truncate(upto);
        Ok(())
    }

    /// The process dies while it reads or repairs what an earlier death has left.
    fn die_in_recovery(&mut self) -> Result<(), Violation> {
        self.oracle.marks.hit("died_in_recovery");
        self.after_death(self.dies_of_power);
        Ok(())
    }

    pub(super) fn boot_if_down(&mut self) -> Result<(), Violation> {
        if self.node.is_none() {
            self.boot()?;
        }
        Ok(())
    }

    /// The process dies; the power goes as well, or not.
    pub(super) fn die(&mut self, with_power: bool) {
        if self.node.take().is_some() {
            self.after_death(with_power);
        }
    }

    fn after_death(&mut self, with_power: bool) {
        self.life += 1;
        if with_power {
            let mut rng = self.rng(Stream::Disk, FAULT);
            let damage = self.disk.cut_power(&mut rng);
            self.oracle.marks.hit("power_cut");
            if damage.is_torn {
                self.oracle.marks.hit("power_cut_torn");
            }
            self.note(|| format!("power cut: {damage:?}"));
        } else {
            self.disk.kill();
            self.oracle.marks.hit("kill");
            self.note(|| "killed".to_owned());
        }
        self.inbox.clear();
        self.step_at = None;
        self.snapshot_file = None;
        self.links.clear();
        self.oracle.connections.clear();
        for client in &mut self.clients {
            client.link = None;
        }
        let down_us = self.rng(Stream::Fault, FAULT).between(1, 800) * 1000;
        self.after(down_us, Event::Restart);
    }

    /// Gives the server a turn soon.
    pub(super) fn schedule_step(&mut self) {
        let delay_us = match self.rng(Stream::Server, SERVER).below(4) {
            0 => 0,
            _ => 100,
        };
        self.schedule_step_at(self.now + delay_us);
    }

    fn schedule_step_at(&mut self, at: u64) {
        let at = at.max(self.paused_until).max(self.now);
        if self.node.is_none() || self.step_at.is_some_and(|earlier| earlier <= at) {
            return;
        }
        self.step_at = Some(at);
        self.after(at - self.now, Event::Step(at));
    }

    /// The server has its turn.
    pub(super) fn step(&mut self) -> Result<(), Violation> {
        self.step_at = None;
        if self.now < self.paused_until {
            self.schedule_step_at(self.paused_until);
            return Ok(());
        }
        self.oracle.step_begins();
        let mut inputs = core::mem::take(&mut self.inbox);
        let mut cut = Vec::new();
        for input in &inputs {
            self.tell_oracle(input);
            if let Input::Link(LinkId(link), LinkInput::Closed) = input {
                cut.push(*link);
            }
        }
        let now = Now {
            instant: Instant(self.now),
            wall: UnixMillis(self.wall()),
        };
        let mut outputs = Vec::new();
        let Some(node) = &mut self.node else {
            return Ok(());
        };
        let wake = node.core.step(now, &mut inputs, &mut outputs);
        // Only the order within a lane means anything; the oracle wants to know the transactions
        // first.
        let is_store = |output: &Output| matches!(output, Output::Store(..));
        let (store, rest): (Vec<_>, Vec<_>) = outputs.into_iter().partition(is_store);
        for output in store.into_iter().chain(rest) {
            self.perform(output)?;
        }
        for link in cut {
            self.oracle.closed_by_network(link, self.now);
        }
        self.oracle.step_ended(self.now)?;
        if let Some(Instant(at)) = wake {
            self.schedule_step_at(at);
        }
        Ok(())
    }

    fn tell_oracle(&mut self, input: &Input) {
        self.note(|| format!("in  {}", shown(&format!("{input:?}"))));
        match input {
            Input::Link(LinkId(link), LinkInput::Received(bytes)) => {
                self.oracle.received(*link, bytes.len(), self.now);
            }
            Input::Link(LinkId(link), LinkInput::Closed) => self.oracle.closing(*link),
            Input::SnapshotStored { .. } => self.oracle.serves(true),
            Input::Stored { upto } => {
                let Some(node) = &mut self.node else { return };
                let count = node.appended.partition_point(|(seq, _)| seq <= upto);
                if let Some((_, zxid)) = node.appended.drain(..count).next_back() {
                    self.oracle.stored(zxid);
                }
            }
            _ => {}
        }
    }

    fn perform(&mut self, output: Output) -> Result<(), Violation> {
        self.note(|| format!("out {}", shown(&format!("{output:?}"))));
        match output {
            Output::AskFacts(link) => {
                self.inbox.push(Input::Facts(link, HostFacts::default()));
                self.schedule_step();
                Ok(())
            }
            Output::Event(
                event @ (CoreEvent::DigestMismatch { .. } | CoreEvent::OrphanDeleted { .. }),
            ) => Err(Violation::new(
                "C19 state after a restart",
                format!("{event:?}"),
            )),
            Output::Event(_) => Ok(()),
            Output::Listen(..) | Output::Membership(_) | Output::Restart(_) => Err(Violation::new(
                "a server alone has no peers",
                format!("{output:?}"),
            )),
            Output::Link(LinkId(link), output) => self.perform_link(link, output),
            Output::Snapshot(op) => self.perform_snapshot(op),
            Output::Store(seq, op) => self.perform_store(seq, op),
        }
    }

    fn perform_link(&mut self, link: u64, output: LinkOutput) -> Result<(), Violation> {
        match output {
            LinkOutput::Close => self.link_closes(link),
            LinkOutput::Dial { .. } => Err(Violation::new(
                "a server alone has no peers",
                format!("link {link}: {output:?}"),
            )),
            LinkOutput::Pause => {
                self.oracle.paused(link)?;
                if let Some(link) = self.links.get_mut(&link) {
                    link.is_paused = true;
                }
                Ok(())
            }
            LinkOutput::Resume => {
                if let Some(link) = self.links.get_mut(&link) {
                    link.is_paused = false;
                }
                self.after(0, Event::ServerSees(link));
                Ok(())
            }
            LinkOutput::Send(bytes) => self.link_sends(link, &bytes),
        }
    }

    fn perform_store(&mut self, seq: Seq, op: StoreOp) -> Result<(), Violation> {
        if let StoreOp::Append { zxid, txn } = &op {
            let (zxid, wall) = (zxid.0, self.wall());
            self.txn_hashes.push(hash(txn, 0));
            self.oracle.appended(zxid, txn, self.now, wall)?;
            if let Some(node) = &mut self.node {
                node.appended.push_back((seq, zxid));
            }
        }
        let Some(node) = &mut self.node else {
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
            let sync_us = self.plan.sync_us;
            let delay_us = self.rng(Stream::Store, STORE).below(sync_us / 4 + 1);
            self.after(delay_us, Event::StoreRuns(self.life));
        }
        Ok(())
    }

    pub(super) fn store_runs(&mut self) -> Result<(), Violation> {
        let mut rng = self.rng(Stream::Store, STORE);
        let Some(node) = &mut self.node else {
            return Ok(());
        };
        let waiting = node.log_queue.len();
        let count = if rng.one_in(3) {
            1 + rng.index(waiting)
        } else {
            waiting
        };
        let Ok(Some(upto)) = node.run_log(count) else {
            self.die(self.dies_of_power);
            return Ok(());
        };
        let delay_us = rng.below(self.plan.sync_us + 1);
        self.after(delay_us, Event::StoreReports(self.life, upto.0));
        Ok(())
    }

    pub(super) fn store_reports(&mut self, seq: u64) {
        self.inbox.push(Input::Stored { upto: Seq(seq) });
        self.schedule_step();
        let Some(node) = &mut self.node else { return };
        if node.log_queue.is_empty() {
            node.is_log_busy = false;
        } else {
            self.after(0, Event::StoreRuns(self.life));
        }
    }

    fn perform_snapshot(&mut self, op: SnapshotOp) -> Result<(), Violation> {
        match (&op, &mut self.snapshot_file) {
            (SnapshotOp::Begin { zxid }, file) => {
                let state = self.oracle.versions.at(zxid.0)?.state.clone();
                *file = Some((state, Vec::new()));
            }
            (SnapshotOp::Chunk(bytes), Some((_, file))) => file.extend_from_slice(bytes),
            (SnapshotOp::End, Some((state, file))) => {
                snapshot::check(file, state, None)?;
                self.oracle.marks.hit("snapshot_written");
                self.snapshot_file = None;
            }
            (SnapshotOp::Abandon, file) => *file = None,
            (_, None) => {
                return Err(Violation::new(
                    "snapshot",
                    format!("{op:?} without a beginning"),
                ));
            }
        }
        let Some(node) = &mut self.node else {
            return Ok(());
        };
        node.snapshot_queue.push_back(op);
        if !node.is_snapshot_busy {
            node.is_snapshot_busy = true;
            self.after(0, Event::SnapshotRuns(self.life));
        }
        Ok(())
    }

    pub(super) fn snapshot_runs(&mut self) -> Result<(), Violation> {
        let mut rng = self.rng(Stream::Store, STORE);
        let Some(node) = &mut self.node else {
            return Ok(());
        };
        let Some(inputs) = node.run_snapshot() else {
            self.die(self.dies_of_power);
            return Ok(());
        };
        let is_more = !node.snapshot_queue.is_empty();
        node.is_snapshot_busy = is_more;
        let is_stored = matches!(inputs.first(), Some(Input::SnapshotStored { .. }));
        if !inputs.is_empty() {
            self.inbox.extend(inputs);
            self.schedule_step();
        }
        if is_more {
            let delay_us = rng.below(self.plan.sync_us * 2 + 1);
            self.after(delay_us, Event::SnapshotRuns(self.life));
        }
        let keep = NonZeroU32::new(3).unwrap_or(NonZeroU32::MIN);
        if is_stored && rng.one_in(3) {
            let purged = purge(&mut self.disk.clone(), &mut self.disk.clone(), keep);
            if purged.is_err() {
                self.die(self.dies_of_power);
            }
        }
        Ok(())
    }
}

/// A line of the trace, without the bulk of what is big.
fn shown(text: &str) -> String {
    text.chars().take(600).collect()
}
