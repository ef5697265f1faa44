//! Faults that belong together: what hurts only in an order that chance seldom brings about.

use crate::ensemble::plan::{Cast, Fault, LEADER, Planned, Script, When};
use crate::plan::OP_KINDS;
use crate::rng::Rng;

/// Where these are among the operations that clients choose from.
const CREATE: usize = 0;
const GET_DATA: usize = 7;
const SYNC: usize = 13;
const _: () = assert!(SYNC < OP_KINDS);

impl Script {
    /// A few runs have a plot.
    pub(super) fn draw_plot(&mut self, rng: &mut Rng) {
        // Somebody else must be there to lead, and another to follow.
        if self.voters < 3 {
            return;
        }
        match rng.below(24) {
            0..=3 => self.cut_the_leader_off(rng),
            4 | 5 => self.let_a_commit_be_unheard(rng),
            6 => self.snapshot_what_is_cut(rng),
            _ => {}
        }
    }

    /// A leader that nobody hears serves its clients on, while others have a new one: so long as it
    /// has not noticed, which it cannot while it is not given its turn. What its clients asked
    /// meanwhile is the first that it sees then.
    fn cut_the_leader_off(&mut self, rng: &mut Rng) {
        const ROUND_US: u64 = 2_500_000;
        const ROUNDS: u64 = 4;
        self.cast = Cast::Service;
        self.base.duration_us = (ROUNDS + 1) * ROUND_US;
        self.base.tick_ms = 200;
        // The others must miss it before its clients do.
        self.sync_limit = 2;
        // A sync waits for what was proposed before it: only who proposes nothing answers one.
        self.base.weights = [0; OP_KINDS];
        for (operation, weight) in [(CREATE, 1), (SYNC, 60), (GET_DATA, 60)] {
            if let Some(slot) = self.base.weights.get_mut(operation) {
                *slot = weight;
            }
        }
        self.base.acts = 2000;
        self.base.pace_us = 10_000;
        self.base.clients = 6;
        self.faults.clear();
        for round in 1..=ROUNDS {
            let plot = |after_us, fault, for_us| Planned {
                when: When::At(round * ROUND_US - 1_000_000 + after_us),
                fault,
                for_us,
            };
            let paused_us = rng.between(1_000_000, 1_400_000);
            self.faults.push(plot(0, Fault::Isolate(LEADER), 1_800_000));
            self.faults
                .push(plot(1000, Fault::Pause(LEADER), paused_us));
        }
    }

    /// A server has a transaction that its leader has committed, and has not heard of that; another
    /// has nothing of it, has heard of as many commits, and perhaps a better number. Then the leader
    /// dies.
    ///
    /// Both hear the same, one after the other, so that they have heard of the same commits only if
    /// there was none in between: while the leader waits for the slow one.
    fn let_a_commit_be_unheard(&mut self, rng: &mut Rng) {
        let without = rng.index(self.voters);
        let with = (without + 1 + rng.index(self.voters - 1)) % self.voters;
        // To the slow one it takes a while, back as long, and there again.
        let way_us = rng.between(30, 80) * 1000;
        let end = rng.between(1_500_000, self.base.duration_us - 1_000_000);
        let plot = |before_us, fault, for_us| Planned {
            when: When::At(end - before_us),
            fault,
            for_us,
        };
        self.base.pace_us = self.base.pace_us.min(15_000);
        self.faults = vec![
            plot(way_us * 8, Fault::SlowLinks(with, way_us), way_us * 8),
            plot(way_us * 27 / 10, Fault::Block(without, LEADER), 500_000),
            plot(way_us * 24 / 10, Fault::Block(LEADER, without), 500_000),
            plot(0, Fault::Kill(vec![LEADER]), 3_000_000),
        ];
    }

    /// A leader that is alone logs what nobody else has, and starts with it; it could have it in a
    /// snapshot before it hears that it is to be cut off.
    fn snapshot_what_is_cut(&mut self, rng: &mut Rng) {
        self.base.snapshot_txns = 4;
        self.history_txns = 500;
        self.base.pace_us = self.base.pace_us.min(15_000);
        let at = rng.between(1_000_000, 2_500_000);
        let alone_us = rng.between(50, 250) * 1000;
        let plot = |after_us, fault, for_us| Planned {
            when: When::At(at + after_us),
            fault,
            for_us,
        };
        self.faults = vec![
            plot(0, Fault::Isolate(LEADER), 3_000_000),
            plot(alone_us, Fault::Kill(vec![LEADER]), 100_000),
        ];
    }
}
