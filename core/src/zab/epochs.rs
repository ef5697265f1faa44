//! The two epochs that a server never forgets.

use super::outbox::Outbox;
use crate::ids::{Epoch, Seq};
use crate::lane::StoreOp;

/// `acceptedEpoch` and `currentEpoch`, and which store operation wrote the first.
///
/// They change in memory when the write is asked for; whoever tells a peer of them waits for the
/// operation. Source: ZOOKEEPER-2307, file first, then anybody else.
#[derive(Clone, Copy, Debug)]
pub(super) struct Epochs {
    accepted: Epoch,
    current: Epoch,
    accepted_at: Seq,
}

impl Epochs {
    /// What a store held.
    pub(super) const fn recovered(accepted: Epoch, current: Epoch) -> Self {
        Self {
            accepted,
            current,
            accepted_at: Seq(0),
        }
    }

    /// The greatest epoch whose leader this server has promised to follow.
    pub(super) const fn accepted(self) -> Epoch {
        self.accepted
    }

    /// The epoch of the last leader whose history this server has.
    pub(super) const fn current(self) -> Epoch {
        self.current
    }

    /// Promises to follow nobody of an earlier epoch. The operation with which that is durable.
    ///
    /// # Panics
    /// If a later one was promised.
    pub(super) fn accept(&mut self, epoch: Epoch, out: &mut Outbox) -> Seq {
        assert!(epoch >= self.accepted, "a promise is not taken back");
        if epoch > self.accepted {
            self.accepted = epoch;
            self.accepted_at = out.store(StoreOp::Epochs {
                accepted: Some(epoch),
                current: None,
            });
        }
        self.accepted_at
    }

    /// Has the history of this epoch's leader: all that was stored before. The operation with which
    /// that is durable.
    ///
    /// # Panics
    /// If the epoch was not promised.
    pub(super) fn adopt(&mut self, epoch: Epoch, out: &mut Outbox) -> Seq {
        assert!(
            epoch <= self.accepted,
            "only a promised epoch's history is taken over"
        );
        assert!(epoch >= self.current, "epochs ascend");
        // Written also when it is the same: its operation comes after all appends before.
        self.current = epoch;
        out.store(StoreOp::Epochs {
            accepted: None,
            current: Some(epoch),
        })
    }
}
