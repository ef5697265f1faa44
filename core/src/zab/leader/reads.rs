//! `sync`, as a read of the quorum.
//!
//! A sync is answered when everything proposed before it is committed, and a quorum has answered
//! PINGs that left after it came: none of these had then gone over to another leader, so none was
//! established, and nothing was committed elsewhere that this leader has not. ZooKeeper's leader
//! answers at once if nothing is outstanding, and can then be an old one (reliability C7, B.4.8).

use alloc::collections::{BTreeMap, VecDeque};

use crate::ids::{LinkId, Zxid};

/// Syncs that wait, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Reads {
    waiting: VecDeque<Read>,
    /// The last round of PINGs begun, and the last that a quorum answered.
    begun: u64,
    confirmed: u64,
    /// The PINGs of the last round have not left: who comes now is in time.
    open: bool,
    /// Of the last round: how many answers a learner will have given.
    marks: BTreeMap<LinkId, u64>,
}

/// A sync.
#[derive(Debug)]
struct Read {
    /// The learner that asks, or nobody: a client of the leader.
    from: Option<LinkId>,
    after: Zxid,
    round: u64,
}

impl Reads {
    /// Takes a sync in; whether a round is to be begun.
    pub(super) fn ask(&mut self, from: Option<LinkId>, after: Zxid) -> bool {
        let round = self.begun + u64::from(!self.open);
        self.waiting.push_back(Read { from, after, round });
        self.idle() && !self.open
    }

    /// Whether no round is being answered.
    pub(super) const fn idle(&self) -> bool {
        self.begun == self.confirmed
    }

    /// Whether somebody waits for a round that is not begun.
    pub(super) fn wanted(&self) -> bool {
        self.waiting
            .back()
            .is_some_and(|read| read.round > self.begun)
    }

    /// Begins a round.
    pub(super) fn begin(&mut self) {
        self.begun += 1;
        self.open = true;
        self.marks.clear();
    }

    /// A learner has been sent the round's PING, its `ping`th.
    pub(super) fn mark(&mut self, link: LinkId, ping: u64) {
        self.marks.insert(link, ping);
    }

    /// Whether a learner has answered the round's PING.
    pub(super) fn answered(&self, link: LinkId, pongs: u64) -> bool {
        self.marks.get(&link).is_some_and(|&mark| pongs >= mark)
    }

    /// A quorum has answered.
    pub(super) const fn confirm(&mut self) {
        self.confirmed = self.begun;
    }

    /// What was sent in this step leaves.
    pub(super) const fn close(&mut self) {
        self.open = false;
    }

    /// The next that can be answered.
    pub(super) fn next(&mut self, committed: Zxid) -> Option<Option<LinkId>> {
        let read = self.waiting.front()?;
        if read.round > self.confirmed || read.after > committed {
            return None;
        }
        self.waiting.pop_front().map(|read| read.from)
    }

    /// How many wait.
    pub(super) fn count(&self) -> usize {
        self.waiting.len()
    }
}
