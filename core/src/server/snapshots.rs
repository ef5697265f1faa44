//! When a snapshot is written, and how it leaves in slices.
//!
//! Source of the trigger: `SyncRequestProcessor.shouldSnapshot`.

use bytes::Bytes;

use super::{Config, Core, Event, Output, Recovered, SnapshotOp, StoreOp};
use crate::ids::{Instant, Seq};
use crate::server::pace::{Pace, SLICES_MAX};
use crate::tree::Piece;

/// Bytes of a snapshot that the store may have in hand; more must wait.
const IN_HAND_BYTES_MAX: usize = 4 << 20;
/// How much of a snapshot's file leaves in a microsecond, at most.
const BYTES_PER_US: u64 = 400;
/// Milliseconds after a failure before the next attempt.
const FAILED_PAUSE_MS: u64 = 1000;

/// What has come since the last snapshot, and how much is to come before the next.
#[derive(Debug)]
pub(super) struct Schedule {
    txns: u64,
    bytes: u64,
    txns_due: u64,
    bytes_due: u64,
    /// Bytes that the store has in hand.
    in_hand: usize,
    /// Whether one is due although nothing came: the first of all.
    first: bool,
    /// Whether one is being written or made durable.
    under_way: bool,
    /// Those that are being made durable, and of which nobody wants to hear any more.
    overtaken: u32,
    /// No attempt before this: the last has failed.
    not_before: Instant,
    begun: Instant,
    pace: Pace,
    random: u64,
}

impl Schedule {
    pub(super) fn new(config: &Config, recovered: &Recovered, entropy: u64) -> Self {
        let mut schedule = Self {
            txns: recovered.txns,
            bytes: recovered.log_bytes,
            txns_due: 0,
            bytes_due: 0,
            in_hand: 0,
            first: !recovered.snapshot,
            under_way: false,
            overtaken: 0,
            not_before: Instant::default(),
            begun: Instant::default(),
            pace: Pace::default(),
            random: entropy,
        };
        schedule.draw(config);
        schedule
    }

    /// Somewhere in the upper half of the limits, so that the servers of an ensemble do not all
    /// write their snapshots at once.
    fn draw(&mut self, config: &Config) {
        let mut within = |most: u64| {
            // splitmix64
            self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.random;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            most - (z ^ (z >> 31)) % (most / 2).max(1)
        };
        let txns_due = within(u64::from(config.snapshot_txns.max(2)));
        let bytes_due = match config.snapshot_log_bytes {
            0 => u64::MAX,
            most => within(most),
        };
        (self.txns_due, self.bytes_due) = (txns_due, bytes_due);
    }

    pub(super) fn logged(&mut self, bytes: usize) {
        self.txns += 1;
        self.bytes += bytes as u64;
    }

    pub(super) fn written(&mut self, bytes: usize) {
        self.in_hand = self.in_hand.saturating_sub(bytes);
    }

    fn is_due(&self, now: Instant) -> bool {
        let due = self.first || self.txns >= self.txns_due || self.bytes >= self.bytes_due;
        due && !self.under_way && now >= self.not_before
    }

    /// The next begins as soon as it may.
    pub(super) const fn make_due(&mut self) {
        self.txns_due = 0;
    }

    /// There is no state to write before a leader has sent one.
    pub(super) const fn none_yet(&mut self) {
        self.first = false;
    }

    /// What was being written is given up; what is `whole` is reported all the same, and might be
    /// taken for what is written next.
    pub(super) const fn overtake(&mut self, whole: bool) {
        if self.under_way && whole {
            self.overtaken += 1;
        }
        self.abandoned();
    }

    /// Whether this report is of one that was overtaken: they come in order.
    pub(super) const fn was_overtaken(&mut self) -> bool {
        match self.overtaken.checked_sub(1) {
            None => false,
            Some(left) => {
                self.overtaken = left;
                true
            }
        }
    }

    const fn abandoned(&mut self) {
        self.under_way = false;
        self.in_hand = 0;
    }

    /// When the first of all is to be attempted again.
    pub(super) fn next_attempt(&self) -> Option<Instant> {
        (self.first && !self.under_way).then_some(self.not_before)
    }
}

impl Core {
    /// Begins a snapshot if one is due, and writes the slices that are due of the one that is being
    /// written.
    pub(super) fn snapshot_slices(&mut self) {
        // In an ensemble the tree may hold, before the role is established, what was never
        // committed: no snapshot may have it, for it could not be cut off. Source: ZOOKEEPER-1549.
        let committed = self.ensemble.is_none() || self.serving || self.snapshots.first;
        if committed && self.snapshots.is_due(self.now.instant) && !self.tree.snapshot_in_progress()
        {
            self.begin_snapshot();
        }
        for _ in 0..SLICES_MAX {
            if self.next_slice().is_none_or(|due| due > self.now.instant) {
                return;
            }
            self.snapshot_slice();
        }
    }

    fn snapshot_slice(&mut self) {
        let slice_bytes = self.config.snapshot_slice_bytes as usize;
        let piece = self.tree.snapshot_piece(slice_bytes);
        let bytes = piece.as_ref().map_or(0, Piece::bytes).max(slice_bytes);
        let pace = &mut self.snapshots.pace;
        pace.left(self.now.instant, bytes, BYTES_PER_US);
        match piece {
            Some(Piece::Part(bytes)) => self.chunk(bytes.into()),
            Some(Piece::Last(bytes)) => {
                self.chunk(bytes.into());
                self.outputs.push(Output::Snapshot(SnapshotOp::End));
            }
            None => {}
        }
    }

    /// Begins to write the state that a leader has sent.
    pub(super) fn begin_install(&mut self) {
        self.snapshots.abandoned();
        self.begin_snapshot();
    }

    fn begin_snapshot(&mut self) {
        let zxid = self.tree.begin_snapshot(self.config.tree_digest);
        self.snapshots.under_way = true;
        self.snapshots.begun = self.now.instant;
        self.snapshots.first = false;
        self.snapshots.txns = 0;
        self.snapshots.bytes = 0;
        self.snapshots.in_hand = 0;
        self.snapshots.draw(&self.config);
        // The log after it begins with its own file, so that the files before can go when they are
        // old.
        match self.ensemble_mut() {
            Some(ensemble) => {
                ensemble.zab.store(StoreOp::Roll);
            }
            None => {
                self.seq = Seq(self.seq.0 + 1);
                self.outputs.push(Output::Store(self.seq, StoreOp::Roll));
            }
        }
        self.outputs
            .push(Output::Snapshot(SnapshotOp::Begin { zxid }));
        self.events.push(Event::SnapshotBegun { zxid });
    }

    fn chunk(&mut self, bytes: Bytes) {
        self.snapshots.in_hand += bytes.len();
        self.outputs
            .push(Output::Snapshot(SnapshotOp::Chunk(bytes)));
    }

    /// When the next slice is due, if one can be written.
    pub(super) fn next_slice(&self) -> Option<Instant> {
        let wants = self.tree.snapshot_in_progress()
            && self.sending().is_none()
            && self.snapshots.in_hand < IN_HAND_BYTES_MAX;
        wants.then_some(self.snapshots.pace.due())
    }

    pub(super) fn snapshot_done(&mut self) {
        self.snapshots.under_way = false;
        let took_us = self.now.instant.micros_since(self.snapshots.begun);
        self.stats.snapshot_ms.record(took_us / 1000);
        if self.ensemble.is_some() {
            self.begin_ensemble();
        } else {
            self.serving = true;
        }
    }

    /// The next attempt comes when as much was logged again; the first, without which nobody is
    /// served, is made again after a moment.
    pub(super) fn snapshot_failed(&mut self) {
        self.snapshots.first = if self.ensemble.is_some() {
            !self.ensemble_begun()
        } else {
            !self.serving
        };
        self.snapshots.not_before = self.now.instant.plus_ms(FAILED_PAUSE_MS);
        self.stats.snapshots_failed += 1;
        self.snapshots.under_way = false;
        self.snapshots.in_hand = 0;
        self.tree.abandon_snapshot();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writing() -> Schedule {
        let mut schedule = Schedule::new(&Config::default(), &Recovered::default(), 1);
        schedule.under_way = true;
        schedule
    }

    #[test]
    fn late_report_of_a_file_is_not_taken_for_the_state_that_overtook_it() {
        let mut schedule = writing();
        schedule.overtake(true);
        // The leader's state is being written meanwhile.
        schedule.under_way = true;
        assert!(schedule.was_overtaken(), "the old file's report");
        assert!(
            !schedule.was_overtaken(),
            "the report of the leader's state"
        );
    }

    #[test]
    fn file_that_was_given_up_unfinished_is_not_reported() {
        let mut schedule = writing();
        schedule.overtake(false);
        assert!(!schedule.was_overtaken());
    }

    #[test]
    fn nothing_is_overtaken_when_nothing_is_being_written() {
        let mut schedule = writing();
        schedule.under_way = false;
        schedule.overtake(true);
        assert!(!schedule.was_overtaken());
    }
}
