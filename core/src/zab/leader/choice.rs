//! How a leader brings a learner's history in line with its own.
//!
//! One lemma carries the table. A learner's last transaction is `p` = (e, c). That a transaction
//! of e was proposed at all means that a quorum had taken over the history with which e began, H;
//! so every later leader's history, ours included, begins with H, and what follows in ours of e is
//! a part of what e's leader proposed, as is what the learner has of e. So **whatever we have that
//! is not after `p`, the learner has too**, and if we have `p` itself, all before it is the same.
//! What the learner has beyond was never committed.
//!
//! For (e, 0), which a Java server reports that has led e or has loaded a state of its beginning,
//! the same holds with nothing of e: its history is H.
//!
//! Source: spec 2.4, 2.5; ZOOKEEPER-1154, 2832, 4352; `LearnerHandler.syncFollower`.

use crate::ids::Zxid;
use crate::zab::history::History;

/// What a leader does about a learner's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// Sends what comes after this.
    Diff {
        /// The learner's last.
        after: Zxid,
    },
    /// Sends its whole state.
    Snap,
    /// Has the learner cut what is after this, and sends what comes after it.
    Trunc {
        /// The last that both have.
        to: Zxid,
    },
}

/// Chooses for a learner whose last transaction is `peer`; -1 says that it has none that counts.
pub(super) fn choose(history: &History, peer: Zxid) -> Choice {
    let Some(floor) = history.floor(peer) else {
        // Before all that is kept.
        return Choice::Snap;
    };
    if floor == peer {
        return Choice::Diff { after: peer };
    }
    if peer.counter() == 0 {
        // Within the kept: ours before (e, 0) is H, the learner's history. After the last: right
        // as well by the lemma, but rare, and a state is right even if a server was set up by hand.
        return if peer <= history.last() {
            Choice::Diff { after: peer }
        } else {
            Choice::Snap
        };
    }
    // By the lemma the learner has `floor` and nothing else that we have. It is cut there if a cut
    // cannot be misunderstood: (e, 0) names no transaction that a learner could find in its log,
    // and a Java learner fails when a cut and what follows are of different epochs, save after our
    // last, where nothing of another epoch follows in the same breath.
    let last = floor == history.last();
    if floor.counter() != 0 && (last || floor.epoch() == peer.epoch()) {
        Choice::Trunc { to: floor }
    } else {
        Choice::Snap
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use bytes::Bytes;

    use super::*;

    fn zxid(epoch: i64, counter: i64) -> Zxid {
        Zxid(epoch << 32 | counter)
    }

    /// A history after `base` of epochs with so many transactions each.
    fn history(base: Zxid, epochs: &[(i64, i64, i64)]) -> History {
        let mut recent = Vec::new();
        for &(epoch, first, last) in epochs {
            for counter in first..=last {
                recent.push((zxid(epoch, counter), Bytes::new()));
            }
        }
        History::recovered(base, recent)
    }

    const SNAP: Choice = Choice::Snap;

    fn diff(epoch: i64, counter: i64) -> Choice {
        Choice::Diff {
            after: zxid(epoch, counter),
        }
    }

    fn trunc(epoch: i64, counter: i64) -> Choice {
        Choice::Trunc {
            to: zxid(epoch, counter),
        }
    }

    fn check(history: &History, cases: &[((i64, i64), Choice)]) {
        for &((epoch, counter), expected) in cases {
            let peer = zxid(epoch, counter);
            assert_eq!(choose(history, peer), expected, "({epoch}, {counter})");
        }
    }

    #[test]
    fn learner_is_led_from_where_both_agree() {
        let history = history(zxid(1, 5), &[(1, 6, 9), (3, 1, 4), (6, 1, 2)]);
        check(
            &history,
            &[
                ((0, 0), SNAP),
                ((1, 4), SNAP),
                ((1, 5), diff(1, 5)),
                ((1, 7), diff(1, 7)),
                ((1, 9), diff(1, 9)),
                // Never committed, of an epoch that we know.
                ((1, 10), trunc(1, 9)),
                ((3, 9), trunc(3, 4)),
                // Of an epoch of which we have nothing.
                ((2, 1), SNAP),
                ((4, 7), SNAP),
                // Beginnings of epochs.
                ((2, 0), diff(2, 0)),
                ((3, 0), diff(3, 0)),
                ((6, 0), diff(6, 0)),
                ((6, 2), diff(6, 2)),
                ((7, 0), SNAP),
                // After the last.
                ((6, 3), trunc(6, 2)),
                ((7, 1), trunc(6, 2)),
            ],
        );
        assert_eq!(choose(&history, Zxid(-1)), SNAP);
    }

    #[test]
    fn empty_history_serves_only_the_empty() {
        let history = history(Zxid::ZERO, &[]);
        check(
            &history,
            &[((0, 0), diff(0, 0)), ((1, 1), SNAP), ((1, 0), SNAP)],
        );
        assert_eq!(choose(&history, Zxid(-1)), SNAP);
    }

    #[test]
    fn whole_history_serves_the_empty() {
        let history = history(Zxid::ZERO, &[(1, 1, 3)]);
        check(&history, &[((0, 0), diff(0, 0)), ((1, 0), diff(1, 0))]);
        assert_eq!(choose(&history, Zxid(-1)), SNAP);
    }

    #[test]
    fn nobody_is_cut_to_the_beginning_of_an_epoch() {
        let history = history(zxid(4, 0), &[]);
        check(
            &history,
            &[((4, 0), diff(4, 0)), ((4, 1), SNAP), ((3, 1), SNAP)],
        );
    }

    /// ZOOKEEPER-1154: (7, 4) of a dead leader, who comes back to one that is at (8, 1).
    #[test]
    fn txn_of_a_dead_leader_is_cut_before_the_rest_is_sent() {
        let history = history(Zxid::ZERO, &[(7, 1, 3), (8, 1, 1)]);
        check(&history, &[((7, 4), trunc(7, 3))]);
    }

    /// ZOOKEEPER-2832: (2, 1) was logged by one server alone, epoch 3 had no transactions.
    #[test]
    fn txn_of_a_dead_leader_is_cut_after_an_empty_epoch() {
        let history = history(Zxid::ZERO, &[(1, 1, 2)]);
        check(&history, &[((2, 1), trunc(1, 2))]);
    }

    /// ZOOKEEPER-4352: the range begins at 0, but what is kept does not.
    #[test]
    fn empty_learner_of_a_history_without_beginning_gets_the_state() {
        let history = history(zxid(1, 1), &[(1, 2, 3)]);
        check(&history, &[((0, 0), SNAP)]);
    }
}
