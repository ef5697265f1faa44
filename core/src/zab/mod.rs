//! ZAB: one server's part in an ensemble that agrees on an order of transactions.
//!
//! Payloads are opaque: nothing here has heard of znodes or sessions. It knows zxids, epochs, who
//! votes, and what is durable; it says what to send, to store and, in the end, to apply.
//!
//! The rule that a dozen of ZooKeeper's bugs broke (reliability B.1) is kept by construction: an
//! acknowledgement can only be made from a `Durable`, which only the store's confirmation makes.
//!
//! ```text
//! log durable -> currentEpoch durable -> ACK NEWLEADER -> other ACKs -> deliver -> serve
//! ```
//!
//! Start reading at [`Zab`]: `election` finds a leader, then `leader` or `learner` has its turn.

mod durable;
pub mod election;
mod epochs;
mod gate;
mod history;
pub mod io;
mod lasting;
mod leader;
mod learner;
pub mod membership;
mod outbox;
mod pipe;
pub mod quorum;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::mem;

use bytes::Bytes;

use durable::Confirmed;
use election::{Election, Vote};
use epochs::Epochs;
use history::History;
pub use io::{Event, LearnerStatus, MembershipOp, Options, Output, Recovered, Role, Sasl, Status};
use lasting::{Lasting, Left};
use leader::Leader;
use learner::Learner;
pub use membership::{Member, Membership};
pub use outbox::Outbox;
pub use quorum::Views;

use crate::ids::{Instant, LinkId, Seq, ServerId, Zxid};
use crate::lane::StoreOp;
use crate::link::{LinkInput, Port};
use crate::secret::Nonces;
use crate::wire::election::State;
use crate::wire::records::Id;

/// One server's part in an ensemble.
///
/// A caller begins each step with [`begin`](Self::begin), calls what the step brings, and performs
/// [`take_outputs`](Self::take_outputs) in order.
#[derive(Debug)]
pub struct Zab {
    lasting: Lasting,
    election: Election,
    part: Part,
    /// The role that the service above was told.
    told: Role,
    /// The server is to be dropped: nothing is done any more.
    over: bool,
    looking_since: Instant,
    /// It looks without a vote, because its store stalls.
    abstains: bool,
    election_ms: u64,
}

/// What this server is doing.
#[derive(Debug)]
enum Part {
    Looking,
    Leading(Box<Leader>),
    Learning(Box<Learner>),
}

impl Zab {
    /// A server with what its store held. It begins to look for a leader.
    #[must_use]
    pub fn new(options: Options, recovered: Recovered, entropy: u64, now: Instant) -> Self {
        let mut out = Outbox::new(now);
        let election = Election::new(&options, entropy, &mut out);
        // An epoch of which something is logged was promised and begun. Source: spec 2.11.
        let history = History::recovered(recovered.base, recovered.recent);
        let member = options.committed.member(options.me);
        let observer = member.map_or(options.observer, |member| !member.voter);
        let nonces = Nonces::new(options.sasl.seed.clone(), entropy);
        let mut zab = Self {
            lasting: Lasting {
                committed: options.committed.clone(),
                last_seen: options.last_seen.clone(),
                options,
                out,
                history,
                epochs: Epochs::recovered(recovered.accepted, recovered.current),
                confirmed: Confirmed::default(),
                trusted: recovered.trusted,
                snapshot_demanded: recovered.divergent,
                observer,
                leader: None,
                memberships_changed: false,
                nonces,
            },
            election,
            part: Part::Looking,
            told: Role::Looking,
            over: false,
            looking_since: now,
            abstains: false,
            election_ms: 0,
        };
        let last = zab.lasting.history.last();
        zab.lasting.forget_pending(last.0);
        zab.settle(Ok(()));
        zab.look();
        zab
    }

    /// A step begins at `now`.
    pub fn begin(&mut self, now: Instant) {
        self.lasting.out.now = now;
    }

    /// Whether a connection belongs to the ensemble.
    #[must_use]
    pub fn owns(&self, link: LinkId) -> bool {
        let part = match &self.part {
            Part::Looking => false,
            Part::Leading(leader) => leader.owns(link),
            Part::Learning(learner) => learner.owns(link),
        };
        part || self.election.owns(link)
    }

    /// Something happened on a connection of the election or the quorum port.
    pub fn link(&mut self, link: LinkId, input: LinkInput) {
        if self.over {
            return;
        }
        let accepted = matches!(
            input,
            LinkInput::Opened {
                port: Port::Quorum,
                ..
            }
        );
        let outcome = match &mut self.part {
            Part::Learning(learner) if learner.owns(link) => learner.link(input, &mut self.lasting),
            Part::Leading(leader) if accepted || leader.owns(link) => leader
                .link(link, input, &mut self.lasting)
                .and_then(|()| leader.check_outbid(&self.election, &self.lasting)),
            Part::Looking | Part::Leading(_) | Part::Learning(_) if accepted => {
                // A learner comes for a role that is over.
                self.lasting.out.close(link);
                Ok(())
            }
            Part::Looking | Part::Leading(_) | Part::Learning(_) => {
                self.election.link(link, input, &mut self.lasting.out);
                Ok(())
            }
        };
        self.settle(outcome);
    }

    /// Every operation up to `upto` is durable.
    pub fn stored(&mut self, upto: Seq) {
        if self.over {
            return;
        }
        self.lasting.confirmed.confirm(upto);
        self.lasting.out.stored(upto);
        let outcome = match &mut self.part {
            Part::Looking => {
                // The disk is back: this server has a vote again.
                if mem::take(&mut self.abstains) {
                    self.look();
                }
                Ok(())
            }
            Part::Leading(leader) => leader.stored(&mut self.lasting),
            Part::Learning(learner) => learner.stored(&mut self.lasting),
        };
        self.settle(outcome);
    }

    /// Time has passed.
    pub fn tick(&mut self) {
        if self.over {
            return;
        }
        self.election.tick(&mut self.lasting.out);
        let outcome = match &mut self.part {
            Part::Looking => Ok(()),
            Part::Leading(leader) => {
                let returned = core::iter::from_fn(|| self.election.voter_returned());
                leader
                    .abandoned(returned, &self.lasting)
                    .and_then(|()| leader.tick(&mut self.lasting))
                    .and_then(|()| leader.check_outbid(&self.election, &self.lasting))
            }
            Part::Learning(learner) => learner.tick(&mut self.lasting),
        };
        self.settle(outcome);
    }

    /// When to call [`tick`](Self::tick) at the latest.
    #[must_use]
    pub fn next_wake(&self) -> Option<Instant> {
        let own = match &self.part {
            Part::Looking => None,
            Part::Leading(leader) => Some(leader.wake()),
            Part::Learning(learner) => Some(learner.wake(&self.lasting)),
        };
        own.into_iter().chain(self.election.next_wake()).min()
    }

    /// Gives the log's lane an operation of the service above: all share one numbering.
    pub fn store(&mut self, op: StoreOp) -> Seq {
        self.lasting.out.store(op)
    }

    /// What must be done, in this order. The step ends.
    pub fn take_outputs(&mut self) -> Vec<Output> {
        match &mut self.part {
            Part::Looking => {}
            Part::Leading(leader) => leader.flush(&mut self.lasting),
            Part::Learning(learner) => learner.flush(&mut self.lasting),
        }
        mem::take(&mut self.lasting.out.outputs)
    }

    /// The role, once it is established: until then a server looks.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.told
    }

    /// The membership in force, and the last that was proposed.
    #[must_use]
    pub const fn membership(&self) -> (&Membership, Option<&Membership>) {
        (&self.lasting.committed, self.lasting.last_seen.as_ref())
    }

    /// What four-letter words tell.
    #[must_use]
    pub fn status(&self) -> Status {
        let history = &self.lasting.history;
        let (txns, bytes) = history.size();
        let (learners, pending_syncs) = match &self.part {
            Part::Leading(leader) => (leader.learners(&self.lasting), leader.syncs()),
            Part::Learning(learner) => (Vec::new(), learner.syncs()),
            Part::Looking => (Vec::new(), 0),
        };
        Status {
            role: self.told,
            election_ms: self.election_ms,
            accepted: self.lasting.epochs.accepted(),
            current: self.lasting.epochs.current(),
            proposed: history.last(),
            committed: history.committed(),
            delivered: history.delivered(),
            history_first: history.first().unwrap_or_else(|| history.last()),
            history_last: history.last(),
            history_txns: txns,
            history_bytes: bytes,
            voters: self.lasting.committed.voters().count(),
            learners,
            pending_syncs,
        }
    }

    // On the leader.

    /// The id of the next transaction; `None` if this server does not lead, or not yet.
    #[must_use]
    pub fn next_zxid(&self) -> Option<Zxid> {
        match &self.part {
            Part::Leading(leader) if !self.over => leader.next_zxid(&self.lasting),
            Part::Looking | Part::Leading(_) | Part::Learning(_) => None,
        }
    }

    /// Whether this server leads, and the voters in step with it are a quorum without it.
    #[must_use]
    pub fn is_dispensable(&self) -> bool {
        match &self.part {
            Part::Leading(leader) => !self.over && leader.is_dispensable(&self.lasting),
            Part::Looking | Part::Learning(_) => false,
        }
    }

    /// Proposes a transaction; `membership` is the one that it makes, if it does.
    ///
    /// # Panics
    /// If `zxid` is not [`next_zxid`](Self::next_zxid).
    pub fn propose(&mut self, zxid: Zxid, txn: Bytes, membership: Option<Membership>) {
        let Part::Leading(leader) = &mut self.part else {
            panic!("only a leader proposes");
        };
        let outcome = leader.propose(zxid, txn, membership, &mut self.lasting);
        self.settle(outcome);
    }

    /// Whether a quorum of the voters of a membership takes part in the broadcast.
    #[must_use]
    pub fn can_reconfigure_to(&self, membership: &Membership) -> bool {
        match &self.part {
            Part::Leading(leader) => leader.can_reconfigure_to(membership, &self.lasting),
            Part::Looking | Part::Learning(_) => false,
        }
    }

    /// A learner's forwarded sync: answered with SYNC, in order.
    pub fn sync_learner(&mut self, from: LinkId) {
        if let Part::Leading(leader) = &mut self.part {
            leader.sync(Some(from), &mut self.lasting);
        }
    }

    /// Closes the connection of a learner that does what it must not.
    pub fn drop_learner(&mut self, learner: LinkId, reason: &str) {
        if let Part::Leading(leader) = &mut self.part {
            leader.drop_learner(learner, reason, &mut self.lasting);
        }
    }

    /// The answer to [`Output::Revalidate`].
    pub fn revalidated(&mut self, to: LinkId, data: Bytes) {
        if let Part::Leading(leader) = &mut self.part {
            leader.revalidated(to, data, &mut self.lasting);
        }
    }

    /// The state that [`Output::SnapshotWanted`] asked for is of `zxid`, the last delivered
    /// transaction.
    ///
    /// # Panics
    /// If it is of another, or the learner did not want it.
    pub fn snapshot_begin(&mut self, to: LinkId, zxid: Zxid) {
        if let Part::Leading(leader) = &mut self.part {
            leader.snapshot_begin(to, zxid, &mut self.lasting);
        }
    }

    /// The next bytes of the state, as they follow SNAP on the wire.
    pub fn snapshot_chunk(&mut self, to: LinkId, bytes: &Bytes) {
        if let Part::Leading(leader) = &mut self.part {
            leader.snapshot_chunk(to, bytes, &mut self.lasting);
        }
    }

    /// That was all of the state, with what marks its end.
    pub fn snapshot_end(&mut self, to: LinkId) {
        if let Part::Leading(leader) = &mut self.part {
            let outcome = leader.snapshot_end(to, &mut self.lasting);
            self.settle(outcome);
        }
    }

    /// Bytes of the state that may be handed over; `None` if the learner is gone.
    #[must_use]
    pub fn snapshot_room(&self, to: LinkId) -> Option<usize> {
        match &self.part {
            Part::Leading(leader) => leader.snapshot_room(to),
            Part::Looking | Part::Learning(_) => None,
        }
    }

    // On a learner.

    /// Forwards a client's request to the leader.
    pub fn request(&mut self, data: Bytes, ids: Option<Vec<Id>>) {
        if let Part::Learning(learner) = &mut self.part {
            learner.request(data, ids, &mut self.lasting);
        }
    }

    /// Asks the leader whether a session still is; answered by [`Output::Revalidated`].
    pub fn revalidate(&mut self, data: Bytes) {
        if let Part::Learning(learner) = &mut self.part {
            learner.revalidate(data, &mut self.lasting);
        }
    }

    /// Answers an [`Output::PingDue`], each once.
    pub fn pong(&mut self, touches: Bytes) {
        if let Part::Learning(learner) = &mut self.part {
            learner.pong(touches, &mut self.lasting);
        }
    }

    /// The tree has read the state that a SNAP brought; `rest` are the bytes that came after it.
    pub fn snapshot_loaded(&mut self, rest: Bytes) {
        if let Part::Learning(learner) = &mut self.part {
            let outcome = learner.snapshot_loaded(rest, &mut self.lasting);
            self.settle(outcome);
        }
    }

    /// The state that was loaded is durable as the snapshot of `zxid`.
    pub fn snapshot_stored(&mut self, zxid: Zxid) {
        if let Part::Learning(learner) = &mut self.part {
            let outcome = learner.snapshot_stored(zxid, &mut self.lasting);
            self.settle(outcome);
        }
    }

    /// The state that the leader sends cannot be read, or not be stored.
    pub fn snapshot_failed(&mut self, reason: &str) {
        if let Part::Learning(_) = &self.part {
            self.settle(Err(Left::Restart(reason.into())));
        }
    }

    // On both.

    /// A sync of this server's own client: [`Output::Synced`] comes later, in order, unless the
    /// role is lost. Nothing happens without a role.
    pub fn sync(&mut self) {
        match &mut self.part {
            Part::Leading(leader) => leader.sync(None, &mut self.lasting),
            Part::Learning(learner) => learner.sync(None, &mut self.lasting),
            Part::Looking => {}
        }
    }

    /// As [`sync`](Self::sync), and a learner's leader is told which client of which session asks:
    /// `data` is the REQUEST's. A Java leader logs a complaint about a session that it does not
    /// know.
    pub fn sync_for(&mut self, data: Bytes, ids: Option<Vec<Id>>) {
        match &mut self.part {
            Part::Leading(leader) => leader.sync(None, &mut self.lasting),
            Part::Learning(learner) => learner.sync(Some((data, ids)), &mut self.lasting),
            Part::Looking => {}
        }
    }

    /// Draws the conclusions of what happened.
    fn settle(&mut self, outcome: Result<(), Left>) {
        let mut outcome = outcome;
        while let Err(left) = mem::replace(&mut outcome, Ok(())) {
            outcome = self.leave(left);
        }
        self.tell_established();
        if mem::take(&mut self.lasting.memberships_changed) {
            let seen = self.lasting.last_seen.clone();
            let committed = self.lasting.committed.clone();
            self.election
                .memberships(committed, seen, &mut self.lasting.out);
        }
        if let (Part::Looking, Some(newer)) = (&self.part, self.election.gossiped()) {
            // Source: spec 1.5, a server that looks takes a newer membership over at once.
            let outcome = self.lasting.activate(newer, None);
            assert!(outcome.is_ok(), "who looks has no leader to lose");
            self.look();
            self.settle(Ok(()));
            return;
        }
        if let Some(vote) = self.election.decision()
            && matches!(self.part, Part::Looking)
        {
            let outcome = self.follow(vote);
            self.settle(outcome);
        }
    }

    /// Begins the part that a vote gives this server.
    fn follow(&mut self, vote: Vote) -> Result<(), Left> {
        let since = self.looking_since;
        self.election_ms = self.lasting.out.now.micros_since(since) / 1000;
        self.lasting.leader = Some(vote.leader);
        if vote.leader == self.lasting.options.me {
            let mut leader = Leader::begin(&mut self.lasting)?;
            let outcome = leader.tick(&mut self.lasting);
            self.part = Part::Leading(Box::new(leader));
            outcome
        } else {
            let learner = Learner::begin(vote, self.lasting.observer, &mut self.lasting)?;
            self.part = Part::Learning(Box::new(learner));
            Ok(())
        }
    }

    /// Gives up what this server was doing.
    fn leave(&mut self, left: Left) -> Result<(), Left> {
        // A role may be established and end in one turn, as that of a leader whose epoch brings a
        // membership into force in which another leads: the service must hear of both.
        self.tell_established();
        let ended = match &mut self.part {
            Part::Looking => Ok(()),
            Part::Leading(leader) => {
                leader.end(&mut self.lasting);
                Ok(())
            }
            Part::Learning(learner) => learner.end(&mut self.lasting),
        };
        self.part = Part::Looking;
        self.lasting.leader = None;
        match (left, ended) {
            (Left::Restart(reason), _) => self.restart(reason),
            (Left::Look(reason), Err(worse)) => {
                self.lasting.out.event(Event::RoleLost { reason });
                self.restart(worse);
            }
            (Left::Move { .. }, Err(worse)) => self.restart(worse),
            (Left::Look(reason), Ok(())) => {
                self.lasting.out.event(Event::RoleLost { reason });
                self.tell(Role::Looking);
                self.look();
            }
            (Left::Move { leader }, Ok(())) => {
                self.tell(Role::Looking);
                return self.go_to(leader);
            }
        }
        Ok(())
    }

    /// Follows, or leads, without an election. Source: spec 4.5, steps 7 and 8.
    fn go_to(&mut self, leader: ServerId) -> Result<(), Left> {
        let vote = Vote {
            leader,
            zxid: self.lasting.history.last(),
            round: -1,
            epoch: -1,
        };
        let state = if leader == self.lasting.options.me {
            State::LEADING
        } else if self.lasting.observer {
            State::OBSERVING
        } else {
            State::FOLLOWING
        };
        self.election.designate(vote, state);
        self.looking_since = self.lasting.out.now;
        self.follow(vote)
    }

    fn restart(&mut self, reason: String) {
        self.over = true;
        self.lasting.out.outputs.push(Output::Restart(reason));
    }

    fn look(&mut self) {
        self.looking_since = self.lasting.out.now;
        self.abstains = self.lasting.store_stalls();
        let standing = self.lasting.standing();
        self.election.look(standing, &mut self.lasting.out);
    }

    /// An established role is told to the election; its part told the service above.
    fn tell_established(&mut self) {
        let (epoch, role) = match &self.part {
            Part::Looking => (None, Role::Looking),
            Part::Leading(leader) => match leader.established() {
                Some(epoch) => (Some(epoch), Role::Leading { epoch }),
                None => (None, Role::Looking),
            },
            Part::Learning(learner) => (learner.established(), learner.role()),
        };
        if let Some(epoch) = epoch
            && self.told != role
        {
            self.told = role;
            self.election.established(epoch);
        }
    }

    fn tell(&mut self, role: Role) {
        if self.told != role {
            self.told = role;
            self.lasting.out.outputs.push(Output::Role(role));
        }
    }
}
