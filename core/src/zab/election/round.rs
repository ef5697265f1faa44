//! One round of an election: which votes are known, and whether they decide it. No connections, no
//! clock: this is `FastLeaderElection.lookForLeader` as a function of what is heard.

use alloc::collections::{BTreeMap, BTreeSet};

use super::vote::{Ballot, Standing, Vote, Voters};
use crate::ids::{Instant, ServerId};
use crate::sorted;
use crate::wire::election::State;

/// How long a quorum waits for a better vote of those that were not heard of.
/// Source: `FastLeaderElection.finalizeWait`.
const FINALIZE_WAIT_MS: u64 = 200;

/// Who must be told the proposal after a vote was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tell {
    /// Every voter: the proposal is another.
    Everyone,
    /// Nobody: it changed nothing.
    Nobody,
    /// Who cast the vote: it cannot have heard of the proposal.
    Sender,
}

/// Whether what a server says is what it says now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// It is.
    Current,
    /// It was just connected to: a Java server repeats at first what it said last on an older
    /// connection, perhaps in another election. Source: spec 1.3.
    Perhaps,
}

/// A decided round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// The winner.
    pub(super) vote: Vote,
    /// Who voted for it.
    pub(super) electors: BTreeSet<ServerId>,
}

/// The votes of a round.
#[derive(Clone, Debug)]
pub(super) struct Round {
    me: ServerId,
    /// The logical clock. It outlives rounds: it is what tells votes of one from those of another.
    number: i64,
    /// The vote with which this server began, its round left at the beginning.
    first: Vote,
    proposal: Vote,
    /// The last vote of every voter in this round.
    received: BTreeMap<ServerId, Ballot>,
    /// The last votes of those that follow or lead, of whatever round.
    outside: BTreeMap<ServerId, Ballot>,
    /// Voters that look, but have lost their history: heard, and without a say.
    mute: BTreeSet<ServerId>,
    /// Voters whose vote of this round may be of an earlier election: see [`Word::Perhaps`].
    doubtful: BTreeSet<ServerId>,
    /// Who was told the proposal because its own vote was worse.
    told: BTreeSet<ServerId>,
    /// Since when a quorum agrees to the proposal.
    agreed: Option<Instant>,
    outcome: Option<Outcome>,
}

impl Round {
    pub(super) fn new(me: ServerId) -> Self {
        let nothing = Standing::Observer.first_vote(me, 0);
        Self {
            me,
            number: 0,
            first: nothing,
            proposal: nothing,
            received: BTreeMap::new(),
            outside: BTreeMap::new(),
            mute: BTreeSet::new(),
            doubtful: BTreeSet::new(),
            told: BTreeSet::new(),
            agreed: None,
            outcome: None,
        }
    }

    /// Begins the next round. The proposal is for everyone.
    pub(super) fn begin(&mut self, standing: Standing) {
        // A peer can make the number anything; at its end rounds are no longer told apart, and
        // votes still are by what they hold.
        self.number = self.number.saturating_add(1);
        self.first = standing.first_vote(self.me, self.number);
        self.proposal = self.first;
        self.outside.clear();
        self.outcome = None;
        self.clear();
    }

    fn clear(&mut self) {
        self.received.clear();
        self.mute.clear();
        self.doubtful.clear();
        self.told.clear();
        self.agreed = None;
    }

    /// Goes on in a later round, with this proposal.
    fn join(&mut self, number: i64, proposal: Vote) {
        self.number = number;
        self.clear();
        self.proposal = proposal;
        self.proposal.round = number;
    }

    pub(super) const fn number(&self) -> i64 {
        self.number
    }

    pub(super) const fn proposal(&self) -> &Vote {
        &self.proposal
    }

    /// Takes the vote of a voter into account.
    pub(super) fn hear(
        &mut self,
        from: ServerId,
        ballot: Ballot,
        word: Word,
        voters: &Voters,
    ) -> Tell {
        assert!(from != self.me, "a server hears of itself");
        match word {
            Word::Current => self.doubtful.remove(&from),
            Word::Perhaps => self.doubtful.insert(from),
        };
        match ballot.state {
            State::LOOKING => self.hear_looking(from, ballot, voters),
            State::FOLLOWING | State::LEADING => {
                self.hear_decided(from, ballot, voters);
                Tell::Nobody
            }
            _ => Tell::Nobody,
        }
    }

    /// The connection to a server is gone. What it did may no longer be so: a leader that died must
    /// not be joined for its last word. What it voted for while it looked it still voted for.
    pub(super) fn forget(&mut self, server: ServerId) {
        self.outside.remove(&server);
        if self
            .received
            .get(&server)
            .is_some_and(|ballot| ballot.state != State::LOOKING)
        {
            self.received.remove(&server);
        }
    }

    fn hear_looking(&mut self, from: ServerId, ballot: Ballot, voters: &Voters) -> Tell {
        let vote = ballot.vote;
        // It looks: it no longer follows or leads.
        self.outside.remove(&from);
        if vote.is_untrusted() {
            // It stays in its round, for it listens to nobody that looks.
            self.mute.insert(from);
        }
        if vote.round < self.number {
            // Of one without a vote nobody need learn the round; two that answer each other's
            // rounds at once would never stop.
            let voter = voters.contains(self.me);
            return if voter { Tell::Sender } else { Tell::Nobody };
        }
        if vote.is_untrusted() {
            return Tell::Nobody;
        }
        if self.first.is_untrusted() {
            return Tell::Nobody;
        }
        if !voters.contains(vote.leader) {
            // It has a vote, and does not know it yet, and stays in its round. In ZooKeeper, which
            // ignores it, nobody is elected any more if its vote is needed.
            return if vote.round > self.number {
                self.join(vote.round, self.first);
                Tell::Everyone
            } else {
                Tell::Nobody
            };
        }
        let tell = if vote.round > self.number {
            let better = voters.beats(&vote, &self.first);
            self.join(vote.round, if better { vote } else { self.first });
            Tell::Everyone
        } else if voters.beats(&vote, &self.proposal) {
            self.proposal = vote;
            self.told.clear();
            self.agreed = None;
            Tell::Everyone
        } else if voters.beats(&self.proposal, &vote) && self.told.insert(from) {
            // Not in ZooKeeper, where it would hear the proposal when somebody has heard nothing
            // for 200 ms: it began to look after the proposal was sent.
            Tell::Sender
        } else {
            Tell::Nobody
        };
        self.mute.remove(&from);
        self.received.insert(from, ballot);
        tell
    }

    fn hear_decided(&mut self, from: ServerId, ballot: Ballot, voters: &Voters) {
        // What it voted for while it looked, it votes for no longer.
        self.mute.remove(&from);
        self.received.remove(&from);
        if !voters.contains(ballot.vote.leader) {
            return;
        }
        if ballot.vote.round == self.number {
            self.received.insert(from, ballot);
            let electors = self.agreeing(&ballot, voters);
            if voters.have_quorum(&electors) && self.leads(&self.received, ballot.vote) {
                self.decide(ballot.vote, electors);
                return;
            }
        }
        self.outside.insert(from, ballot);
        let agreeing = self
            .outside
            .iter()
            .filter(|(_, other)| other.agrees(&ballot));
        let electors = agreeing.map(|(id, _)| *id).collect();
        // To follow one that leads, it is enough that the membership in force wants it: this server
        // may know of a pending one that its leader will never know of, as that was never committed.
        let wanted = if ballot.vote.leader == self.me {
            voters.have_quorum(&electors)
        } else {
            voters.committed.has_quorum(&electors)
        };
        if wanted && self.leads(&self.outside, ballot.vote) {
            self.number = ballot.vote.round;
            self.decide(ballot.vote, electors);
        }
    }

    /// Whether the leader of a vote really leads: it says so itself. If it is this server, the vote
    /// must be of this round, and this server must have its history.
    ///
    /// Source: `FastLeaderElection.checkLeader`.
    fn leads(&self, ballots: &BTreeMap<ServerId, Ballot>, vote: Vote) -> bool {
        if vote.leader == self.me {
            return vote.round == self.number && !self.first.is_untrusted();
        }
        ballots
            .get(&vote.leader)
            .is_some_and(|ballot| ballot.state == State::LEADING)
    }

    /// Who votes in this round as `ballot` says, this server included.
    fn agreeing(&self, ballot: &Ballot, voters: &Voters) -> BTreeSet<ServerId> {
        let others = self
            .received
            .iter()
            .filter(|(_, other)| other.agrees(ballot));
        let mut agreeing = sorted::set(others.map(|(id, _)| *id));
        if voters.contains(self.me) && !self.first.is_untrusted() && self.proposal == ballot.vote {
            agreeing.insert(self.me);
        }
        agreeing
    }

    fn decide(&mut self, vote: Vote, electors: BTreeSet<ServerId>) {
        self.outcome.get_or_insert(Outcome { vote, electors });
    }

    /// What the votes decide by now, once; `absent` are voters that cannot be reached.
    ///
    /// A quorum that agrees waits for better votes, but only for those that there can be: the
    /// proposal is the best vote of this round that was heard, so when every voter was heard or
    /// cannot be reached there is nothing to wait for. That a better one comes later costs time, as
    /// it does after any wait, and nothing else: what keeps histories apart is the agreement on an
    /// epoch that follows, in which a quorum must have promised itself to the leader.
    pub(super) fn verdict(
        &mut self,
        now: Instant,
        voters: &Voters,
        absent: impl Fn(ServerId) -> bool,
    ) -> Option<Outcome> {
        if let Some(outcome) = self.outcome.take() {
            return Some(outcome);
        }
        let electors = self.supporters(voters);
        if electors.is_empty() || !voters.have_quorum(&electors) {
            self.agreed = None;
            return None;
        }
        let since = *self.agreed.get_or_insert(now);
        let heard = |id| self.received.contains_key(&id) || self.mute.contains(&id);
        let accounted_for = |id: ServerId| {
            id == self.me || absent(id) || (heard(id) && !self.doubtful.contains(&id))
        };
        if now < since.plus_ms(FINALIZE_WAIT_MS) && !voters.ids().into_iter().all(accounted_for) {
            return None;
        }
        self.agreed = None;
        let vote = self.proposal;
        Some(Outcome { vote, electors })
    }

    fn supporters(&self, voters: &Voters) -> BTreeSet<ServerId> {
        if self.first.is_untrusted() || !voters.contains(self.proposal.leader) {
            return BTreeSet::new();
        }
        let proposal = Ballot {
            state: State::LOOKING,
            vote: self.proposal,
            format: crate::wire::election::VERSION,
        };
        self.agreeing(&proposal, voters)
    }

    /// When a quorum has waited long enough.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        self.agreed.map(|since| since.plus_ms(FINALIZE_WAIT_MS))
    }
}
