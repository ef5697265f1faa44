//! From a learner's ACK of NEWLEADER on: proposals, commits, and what learners ask for.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;

use super::handler::{Handler, Stage, commit, inform, proposal};
use super::{Leader, Phase, Proposal};
use crate::ids::{Epoch, LinkId, ServerId, Zxid};
use crate::lane::StoreOp;
use crate::wire::quorum::{Activation, Packet, PacketType};
use crate::wire::txn::membership_text;
use crate::zab::io::{Event, LearnerStatus, Output, Role};
use crate::zab::lasting::{Lasting, Left};
use crate::zab::membership::Membership;

impl Leader {
    /// A packet of a learner that was sent NEWLEADER.
    pub(super) fn heard(
        &mut self,
        link: LinkId,
        packet: Packet,
        lasting: &mut Lasting,
    ) -> Result<(), String> {
        if packet.kind == PacketType::ACK {
            return self.acked(link, packet.zxid, lasting);
        }
        let Some(handler) = self.learners.get_mut(&link) else {
            return Ok(());
        };
        if packet.kind == PacketType::PING && handler.stage < Stage::Live {
            // Nobody answers PINGs before UPTODATE, but nothing depends on that.
            return Ok(());
        }
        if handler.stage < Stage::Live {
            return Err(format!(
                "expected an ACK of NEWLEADER, found {}",
                packet.kind
            ));
        }
        let data = packet.data.unwrap_or_default();
        let output = if packet.kind == PacketType::PING {
            handler.pongs = (handler.pongs + 1).min(handler.pings);
            if data.is_empty() {
                return Ok(());
            }
            Output::Touches(data)
        } else if packet.kind == PacketType::REQUEST {
            Output::Request {
                from: link,
                data,
                ids: packet.ids.unwrap_or_default(),
            }
        } else if packet.kind == PacketType::REVALIDATE {
            Output::Revalidate { from: link, data }
        } else {
            return Err(format!(
                "expected what a learner sends in the broadcast, found {}",
                packet.kind
            ));
        };
        lasting.out.outputs.push(output);
        Ok(())
    }

    /// An ACK: of NEWLEADER if it names the beginning of the epoch, which need not be the first
    /// that comes (ZOOKEEPER-4685), else of a transaction.
    fn acked(&mut self, link: LinkId, zxid: Zxid, lasting: &Lasting) -> Result<(), String> {
        let Some(epoch) = self.phase.epoch() else {
            return Ok(());
        };
        let Some(handler) = self.learners.get_mut(&link) else {
            return Ok(());
        };
        if zxid == epoch.start() {
            if handler.stage == Stage::Following {
                handler.stage = Stage::Synced;
                handler.acknowledged(handler.cut, lasting.out.now);
            }
            return Ok(());
        }
        if zxid.counter() == 0 {
            return Ok(());
        }
        if zxid > lasting.history.last() {
            return Err(format!(
                "an ACK of {zxid}, the last transaction is {}",
                lasting.history.last()
            ));
        }
        if zxid > handler.proposed {
            return Err(format!(
                "an ACK of {zxid}, of which the learner was sent nothing after {}",
                handler.proposed
            ));
        }
        // Before the ACK of NEWLEADER an old server acknowledges what it only means to write.
        if handler.stage >= Stage::Synced {
            handler.acknowledged(zxid, lasting.out.now);
        }
        Ok(())
    }

    /// The epoch is established: the membership that was last seen is in force, and clients are
    /// served. Source: spec 2.9, 4.6.
    pub(super) fn begin_epoch(&mut self, epoch: Epoch, lasting: &mut Lasting) -> Result<(), Left> {
        let role = Role::Leading { epoch };
        lasting.out.outputs.push(Output::Role(role));
        lasting.out.outputs.push(Output::Serve);
        if let Some(pending) = lasting.views().pending().cloned() {
            let designated = designated(lasting, &pending, || self.best(&pending));
            self.activate(pending, designated, lasting)?;
        }
        Ok(())
    }

    /// The id of the next transaction.
    pub(crate) fn next_zxid(&self, lasting: &Lasting) -> Option<Zxid> {
        let epoch = self.established()?;
        let last = lasting.history.last();
        last.max(epoch.start()).next()
    }

    /// Proposes a transaction.
    ///
    /// # Panics
    /// If `zxid` is not [`next_zxid`](Self::next_zxid).
    pub(crate) fn propose(
        &mut self,
        zxid: Zxid,
        txn: Bytes,
        membership: Option<Membership>,
        lasting: &mut Lasting,
    ) -> Result<(), Left> {
        assert!(
            self.next_zxid(lasting) == Some(zxid),
            "transactions are proposed in order, by an established leader"
        );
        if let Some(membership) = &membership {
            lasting.see(membership.clone());
            self.rules = Arc::new(lasting.views().iter().cloned().collect());
        }
        let packet = proposal(zxid, &txn);
        lasting.history.append(zxid, txn.clone());
        let seq = lasting.out.store(StoreOp::Append { zxid, txn });
        self.appends.push_back((seq, zxid, lasting.out.now));
        self.proposals.push_back(Proposal {
            zxid,
            rules: Arc::clone(&self.rules),
            membership,
        });
        for handler in self.learners.values_mut() {
            if handler.stage == Stage::Live && !handler.observer {
                handler.propose(zxid, &packet, lasting);
            }
        }
        Ok(())
    }

    /// Commits what quorums have, in order.
    pub(super) fn commit(&mut self, lasting: &mut Lasting) -> Result<(), Left> {
        while let Some(front) = self.proposals.front() {
            let zxid = front.zxid;
            let acked = |id: ServerId| self.acked_upto(id, lasting) >= zxid;
            if !front.rules.iter().all(|rule| rule.has_quorum_of(acked)) {
                return Ok(());
            }
            let membership = front.membership.clone();
            self.proposals.pop_front();
            lasting.history.commit(zxid);
            match membership {
                None => self.tell_committed(zxid, None, lasting),
                Some(membership) => {
                    let designated = designated(lasting, &membership, || self.best(&membership));
                    self.tell_committed(zxid, Some(designated), lasting);
                    let pin = self.pin(lasting);
                    lasting.deliver(pin);
                    self.activate(membership, designated, lasting)?;
                }
            }
            let pin = self.pin(lasting);
            lasting.deliver(pin);
        }
        if self.established().is_some() && self.next_zxid(lasting).is_none() {
            // Source: spec 0.2; a new epoch has a new counter.
            return Err(Left::Look("the epoch's transaction ids are used up".into()));
        }
        Ok(())
    }

    /// Up to where a server has everything durably.
    fn acked_upto(&self, id: ServerId, lasting: &Lasting) -> Zxid {
        if id == lasting.options.me {
            return self.own;
        }
        let link = self.ids.get(&id);
        let handler = link.and_then(|link| self.learners.get(link));
        handler.map_or(Zxid::ZERO, |handler| handler.acked)
    }

    /// Tells everyone in the broadcast that a transaction is committed.
    fn tell_committed(&mut self, zxid: Zxid, designated: Option<ServerId>, lasting: &mut Lasting) {
        let observed = |handler: &Handler| handler.observer && handler.stage == Stage::Live;
        let (to_follower, to_observer) = match designated {
            // Most ensembles have none, and theirs is a copy of the transaction.
            None if !self.learners.values().any(observed) => (commit(zxid), Bytes::new()),
            None => (commit(zxid), inform(zxid, &lasting.history.get(zxid))),
            Some(designated) => activations(zxid, designated, lasting.history.get(zxid)),
        };
        for handler in self.learners.values_mut() {
            if handler.stage != Stage::Live {
                continue;
            }
            if handler.observer {
                handler.send(&to_observer, lasting);
                handler.proposed = zxid;
            } else {
                handler.send(&to_follower, lasting);
            }
        }
    }

    /// The voters of a membership without this server, best first: who has acknowledged most.
    fn best(&self, membership: &Membership) -> Vec<ServerId> {
        let acked = |id: ServerId| {
            let handler = self.ids.get(&id).and_then(|link| self.learners.get(link))?;
            (handler.stage >= Stage::Synced).then_some(handler.acked)
        };
        let voters = membership.voters().map(|(id, _)| id);
        let mut best: Vec<(Zxid, ServerId)> = Vec::new();
        for (zxid, id) in voters.filter_map(|id| acked(id).map(|zxid| (zxid, id))) {
            let at = best.partition_point(|&(other, _)| other >= zxid);
            best.insert(at, (zxid, id));
        }
        best.into_iter().map(|(_, id)| id).collect()
    }

    /// Lets learners in that have the history: UPTODATE, then what was held back.
    pub(super) fn admit_synced(&mut self, lasting: &mut Lasting) {
        for link in self.at(Stage::Synced) {
            self.admit(link, lasting);
        }
    }

    fn admit(&mut self, link: LinkId, lasting: &mut Lasting) {
        let committed = lasting.history.committed();
        let base = lasting.history.base();
        let Some(handler) = self.learners.get_mut(&link) else {
            return;
        };
        if handler.cut > committed {
            return;
        }
        if handler.proposed < base {
            let reason = "so much was committed before it had the history that it is not kept";
            self.lose(link, reason, super::Close::Dropped, lasting);
            return;
        }
        handler.stage = Stage::Live;
        handler.heard = lasting.out.now;
        handler.say(PacketType::UP_TO_DATE, Zxid(-1), lasting);
        let held: Vec<(Zxid, Bytes)> = lasting.history.after(handler.proposed).cloned().collect();
        let me = lasting.options.me;
        for (zxid, txn) in held {
            let activates = lasting.options.reconfig_enabled && membership_text(&txn).is_some();
            let (to_follower, to_observer) = if activates {
                // In force since, and this server leads on.
                activations(zxid, me, txn.clone())
            } else {
                (commit(zxid), inform(zxid, &txn))
            };
            if handler.observer {
                if zxid <= committed {
                    handler.send(&to_observer, lasting);
                    handler.proposed = zxid;
                }
                continue;
            }
            handler.propose(zxid, &proposal(zxid, &txn), lasting);
            if zxid <= committed {
                handler.send(&to_follower, lasting);
                handler.acknowledged(zxid, lasting.out.now);
            }
        }
        if !self.reads.idle() {
            handler.ping(lasting.history.last(), lasting);
            self.reads.mark(link, handler.pings);
        }
        lasting.out.event(Event::LearnerSynced {
            learner: handler.id,
            how: handler.how.clone(),
        });
    }

    /// Sends a learner the answer to its REVALIDATE.
    pub(crate) fn revalidated(&mut self, link: LinkId, data: Bytes, lasting: &mut Lasting) {
        if let Some(handler) = self.learners.get_mut(&link) {
            let packet = Packet::with_data(PacketType::REVALIDATE, Zxid(-1), data);
            handler.send(&packet.to_bytes(), lasting);
        }
    }

    /// Takes a sync, of a learner or of this server's own client.
    pub(crate) fn sync(&mut self, from: Option<LinkId>, lasting: &mut Lasting) {
        if self.reads.ask(from, lasting.history.last()) {
            self.ask_all(lasting);
        }
        self.answer_reads(lasting);
    }

    fn ask_all(&mut self, lasting: &mut Lasting) {
        self.reads.begin();
        let last = lasting.history.last();
        for (&link, handler) in &mut self.learners {
            if handler.stage == Stage::Live && lasting.views().is_voter(handler.id) {
                handler.ping(last, lasting);
                self.reads.mark(link, handler.pings);
            }
        }
    }

    /// Answers the syncs that have what they wait for.
    pub(super) fn answer_reads(&mut self, lasting: &mut Lasting) {
        loop {
            if !self.reads.idle() {
                let answered = lasting.views().have_quorum_of(|id| {
                    id == lasting.options.me
                        || self.ids.get(&id).is_some_and(|link| {
                            let handler = self.learners.get(link);
                            handler.is_some_and(|h| self.reads.answered(*link, h.pongs))
                        })
                });
                if !answered {
                    break;
                }
                self.reads.confirm();
            }
            if !self.reads.wanted() {
                break;
            }
            self.ask_all(lasting);
        }
        while let Some(from) = self.reads.next(lasting.history.committed()) {
            match from {
                None => lasting.out.outputs.push(Output::Synced),
                Some(link) => {
                    if let Some(handler) = self.learners.get_mut(&link) {
                        handler.say(PacketType::SYNC, Zxid::ZERO, lasting);
                        lasting.out.outputs.push(Output::SyncAnswered(link));
                    }
                }
            }
        }
    }

    /// Whether a quorum of the voters of a membership takes part in the broadcast. Whoever observes
    /// is sent no proposals, and could not acknowledge the change; one that does not know yet that
    /// it observes will come back as one that does, which a ZooKeeper leader does not look at.
    ///
    /// Source: `Leader.isQuorumSynced`, which counts `forwardingFollowers`.
    pub(crate) fn can_reconfigure_to(&self, membership: &Membership, lasting: &Lasting) -> bool {
        let follows = |id| {
            let link = self.ids.get(&id);
            let handler = link.and_then(|link| self.learners.get(link));
            handler.is_some_and(|handler| handler.stage == Stage::Live && !handler.observer)
        };
        let observes = |id| {
            let member = lasting.committed.member(id);
            member.is_some_and(|member| !member.voter)
        };
        membership.has_quorum_of(|id| id == lasting.options.me || (follows(id) && !observes(id)))
    }

    /// A membership comes into force.
    fn activate(
        &mut self,
        membership: Membership,
        designated: ServerId,
        lasting: &mut Lasting,
    ) -> Result<(), Left> {
        lasting.activate(membership, Some(designated))?;
        self.rules = Arc::new(lasting.views().iter().cloned().collect());
        Ok(())
    }
}

/// Who leads when a membership comes into force: this server if it votes there at the same
/// address, else the best of the others. Source: spec 4.4, step 3; `Leader.getDesignatedLeader`.
fn designated(
    lasting: &Lasting,
    membership: &Membership,
    best: impl FnOnce() -> Vec<ServerId>,
) -> ServerId {
    let me = lasting.options.me;
    let old = lasting.committed.member(me);
    let new = membership.member(me);
    let stays = new.is_some_and(|new| new.voter && old.is_some_and(|old| old.quorum == new.quorum));
    if stays {
        return me;
    }
    best().into_iter().find(|id| *id != me).unwrap_or(me)
}

/// COMMITANDACTIVATE and INFORMANDACTIVATE.
fn activations(zxid: Zxid, designated: ServerId, txn: Bytes) -> (Bytes, Bytes) {
    let to_follower = Activation {
        designated,
        txn: Bytes::new(),
    };
    let to_observer = Activation { designated, txn };
    let follower = Packet::with_data(
        PacketType::COMMIT_AND_ACTIVATE,
        zxid,
        to_follower.to_bytes(),
    );
    let observer = Packet::with_data(
        PacketType::INFORM_AND_ACTIVATE,
        zxid,
        to_observer.to_bytes(),
    );
    (follower.to_bytes(), observer.to_bytes())
}

impl Leader {
    /// For four-letter words: the phase in words.
    pub(super) const fn phase_name(&self) -> &'static str {
        match self.phase {
            Phase::Discovering | Phase::Promising { .. } | Phase::Agreeing { .. } => "discovery",
            Phase::Adopting { .. } => "synchronization",
            Phase::Established { .. } => "broadcast",
        }
    }

    /// For four-letter words: the learners.
    pub(crate) fn learners(&self, lasting: &Lasting) -> Vec<LearnerStatus> {
        let known = self
            .learners
            .iter()
            .filter(|(_, handler)| handler.stage >= Stage::Known);
        let status = |(&link, handler): (&LinkId, &Handler)| LearnerStatus {
            learner: handler.id,
            link,
            peer: handler.peer,
            observer: handler.observer,
            voter: lasting.views().is_voter(handler.id),
            synced: handler.stage == Stage::Live,
            acked: handler.acked,
            waiting_bytes: handler.pipe.waiting(),
        };
        known.map(status).collect()
    }

    /// Syncs that wait.
    pub(crate) fn syncs(&self) -> usize {
        self.reads.count()
    }
}
