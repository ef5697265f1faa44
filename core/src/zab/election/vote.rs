//! Votes, who casts them, and which of two is better.

use alloc::collections::BTreeSet;
use core::cmp::Ordering;

use crate::ids::{Epoch, ServerId, Zxid};
use crate::sorted;
use crate::wire::election::State;
use crate::zab::membership::Membership;
use crate::zab::quorum::Views;

/// What stands for "nobody" and "nothing" in the votes of those who cannot be elected.
/// Source: spec 1.7; `Long.MIN_VALUE` in `FastLeaderElection.getInitId`.
pub(super) const NOBODY: i64 = i64::MIN;

/// The last transaction of a voter whose history does not count. Source: spec 1.7.
const UNTRUSTED: Zxid = Zxid(-1);

/// Whom a server wants to lead, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vote {
    /// The proposed leader.
    pub leader: ServerId,
    /// Its last transaction.
    pub zxid: Zxid,
    /// The round in which it is proposed: the voter's logical clock.
    pub round: i64,
    /// The epoch of the last leader whose history the proposed one has: `peerEpoch`, 64 bits wide
    /// as on the wire.
    pub epoch: i64,
}

impl Vote {
    /// The order by which the best server wins; the round is no part of it.
    ///
    /// Source: spec 1.8; the epoch comes first since ZOOKEEPER-1419.
    pub(super) fn cmp_merit(&self, other: &Self) -> Ordering {
        (self.epoch, self.zxid, self.leader).cmp(&(other.epoch, other.zxid, other.leader))
    }

    /// Whether the proposed server has lost its history: nobody counts such a vote.
    pub(super) fn is_untrusted(&self) -> bool {
        self.zxid == UNTRUSTED
    }
}

/// What a server is when a round begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It votes.
    Voter {
        /// Its last transaction, committed or not.
        zxid: Zxid,
        /// `currentEpoch`.
        epoch: Epoch,
    },
    /// It takes part without being in the membership: it will follow, and has no vote.
    NonVoter {
        /// Its last transaction, committed or not.
        zxid: Zxid,
        /// `currentEpoch`.
        epoch: Epoch,
    },
    /// It observes.
    Observer,
    /// It would vote, but has perhaps lost its history: it may only follow whom others elected.
    Untrusted {
        /// `currentEpoch`.
        epoch: Epoch,
    },
}

impl Standing {
    /// The vote with which `me` begins a round. Source: spec 1.7.
    pub(super) fn first_vote(self, me: ServerId, round: i64) -> Vote {
        let (leader, zxid, epoch) = match self {
            Self::Voter { zxid, epoch } => (me, zxid, i64::from(epoch.0)),
            Self::NonVoter { zxid, epoch } => (ServerId(NOBODY), zxid, i64::from(epoch.0)),
            Self::Observer => (ServerId(NOBODY), Zxid(NOBODY), NOBODY),
            Self::Untrusted { epoch } => (me, UNTRUSTED, i64::from(epoch.0)),
        };
        Vote {
            leader,
            zxid,
            round,
            epoch,
        }
    }
}

/// A vote as somebody cast it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ballot {
    /// What the voter was doing.
    pub(super) state: State,
    /// Its vote.
    pub(super) vote: Vote,
    /// The version of its notifications; 0 is of servers that knew no epochs.
    pub(super) format: i32,
}

impl Ballot {
    /// Whether both want the same. Of those who look everything must be equal; of those who have
    /// decided only leader and epoch, for one that joined later knows round and zxid of another
    /// election (ZOOKEEPER-1732, ZOOKEEPER-1805).
    ///
    /// Source: spec 1.9; `Vote.equals`.
    pub(super) fn agrees(&self, other: &Self) -> bool {
        if self.state == State::LOOKING || other.state == State::LOOKING {
            return self.vote == other.vote;
        }
        let comparable = (self.format > 0) == (other.format > 0);
        self.vote.leader == other.vote.leader
            && (!comparable || self.vote.epoch == other.vote.epoch)
    }
}

/// Whose votes count.
#[derive(Clone, Debug)]
pub(super) struct Voters {
    /// The membership in force.
    pub(super) committed: Membership,
    /// One that was proposed, whose quorums are needed too as long as it is the later one.
    pub(super) last_seen: Option<Membership>,
}

impl Voters {
    pub(super) const fn new(committed: Membership, last_seen: Option<Membership>) -> Self {
        Self {
            committed,
            last_seen,
        }
    }

    pub(super) fn views(&self) -> Views<'_> {
        Views::new(&self.committed, self.last_seen.as_ref())
    }

    /// Whether it has a vote in either membership.
    pub(super) fn contains(&self, server: ServerId) -> bool {
        self.views().is_voter(server)
    }

    /// Every voter of either membership.
    pub(super) fn ids(&self) -> BTreeSet<ServerId> {
        let views = self.views();
        let voters = views.iter().flat_map(Membership::voters);
        sorted::set(voters.map(|(id, _)| id))
    }

    /// Whether `these` are a quorum of every membership.
    pub(super) fn have_quorum(&self, these: &BTreeSet<ServerId>) -> bool {
        self.views().have_quorum(these)
    }

    /// Whether `candidate` replaces `current`. A server without weight never wins, not even over
    /// another that cannot: ZooKeeper's server without weight stays with itself when its history is
    /// the longest, and then never hears the others agree.
    ///
    /// Source: spec 1.8; ZOOKEEPER-498.
    pub(super) fn beats(&self, candidate: &Vote, current: &Vote) -> bool {
        let round = candidate.round;
        if !self.weighs(candidate.leader, round) {
            return false;
        }
        !self.weighs(current.leader, round) || candidate.cmp_merit(current).is_gt()
    }

    /// Whether a pending change lets another server lead than the membership in force does. A voter
    /// that has not heard of the change does not know such a server, nor where it is, and will not
    /// vote for it. If there is no quorum without that voter, only one that it knows can be
    /// elected; but the others may be those that have all that is committed. So they take turns.
    pub(super) fn takes_turns(&self) -> bool {
        self.views().pending().is_some_and(|pending| {
            let mut voters = pending.voters();
            voters.any(|(id, _)| !self.committed.is_voter(id))
        })
    }

    fn weighs(&self, server: ServerId, round: i64) -> bool {
        let weighs = |members: &Membership| members.is_voter(server) && members.weight(server) > 0;
        let is_turn_of_all = round % 2 != 0;
        let views = self.views();
        weighs(&self.committed) || (is_turn_of_all && views.pending().is_some_and(weighs))
    }
}
