//! From a learner that is let in to its NEWLEADER.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::choice::{Choice, choose};
use super::handler::{Stage, commit, proposal};
use super::{Leader, Phase};
use crate::ids::{Epoch, LinkId, Seq, Zxid};
use crate::wire::quorum::{AckEpoch, LeaderInfo, PROTOCOL, Packet, PacketType};
use crate::zab::io::{Event, Output};
use crate::zab::lasting::{Lasting, Left};

impl Leader {
    /// When a quorum is there, the epoch is one that none of it has promised itself to.
    pub(super) fn count_promises(&mut self, lasting: &mut Lasting) -> Result<(), Left> {
        if !self.have_quorum(lasting, true, |handler| handler.stage >= Stage::Known) {
            return Ok(());
        }
        // A server that is none of the ensemble's has no say in its epochs.
        let views = lasting.views();
        let known = self.learners.values().filter(|handler| {
            let member = || views.iter().any(|view| view.member(handler.id).is_some());
            handler.stage >= Stage::Known && member()
        });
        let greatest = known.map(|handler| handler.accepted).max();
        let greatest = greatest
            .unwrap_or(Epoch(0))
            .max(lasting.epochs.accepted())
            .max(lasting.history.last().epoch());
        let Some(epoch) = greatest.0.checked_add(1).map(Epoch) else {
            return Err(Left::Look("epochs are used up".into()));
        };
        let seq = lasting.epochs.accept(epoch, &mut lasting.out);
        self.phase = Phase::Promising { epoch, seq };
        Ok(())
    }

    /// The own promise is durable: tells the epoch. Source: spec 2.3, steps 3 and 4.
    pub(super) fn announce(&mut self, epoch: Epoch, seq: Seq, lasting: &mut Lasting) {
        if lasting.confirmed.of(seq).is_none() {
            return;
        }
        self.phase = Phase::Agreeing { epoch };
        self.deadline = lasting.ticks(lasting.options.init_limit);
        for link in self.at(Stage::Known) {
            self.inform(link, epoch, lasting);
        }
    }

    pub(super) fn inform(&mut self, link: LinkId, epoch: Epoch, lasting: &mut Lasting) {
        if let Some(handler) = self.learners.get_mut(&link) {
            let info = LeaderInfo { protocol: PROTOCOL };
            let packet = Packet::with_data(PacketType::LEADER_INFO, epoch.start(), info.to_bytes());
            handler.send(&packet.to_bytes(), lasting);
            handler.stage = Stage::Promising;
        }
    }

    /// ACKEPOCH. Source: spec 2.3, steps 5 and 6.
    pub(super) fn promised(
        &mut self,
        link: LinkId,
        packet: &Packet,
        lasting: &mut Lasting,
    ) -> Result<(), String> {
        if packet.kind != PacketType::ACK_EPOCH {
            return Err(format!("expected ACKEPOCH, found {}", packet.kind));
        }
        let data = packet.data.as_deref().unwrap_or_default();
        let promise = AckEpoch::decode(data).map_err(|error| error.to_string())?;
        let own = (lasting.epochs.current(), lasting.history.last());
        let Some(handler) = self.learners.get_mut(&link) else {
            return Ok(());
        };
        handler.promise = promise.current;
        handler.last = packet.zxid;
        match self.phase {
            Phase::Adopting { .. } | Phase::Established { .. } => {
                self.bring_in_line(link, lasting);
                Ok(())
            }
            Phase::Discovering | Phase::Promising { .. } | Phase::Agreeing { .. } => {
                if promise
                    .current
                    .is_some_and(|current| (current, packet.zxid) > own)
                {
                    return Err(format!(
                        "server {} is ahead: epoch and last transaction {:?} and {}, this \
                         leader's {} and {}",
                        handler.id, promise.current, packet.zxid, own.0, own.1
                    ));
                }
                handler.stage = Stage::Promised;
                Ok(())
            }
        }
    }

    /// When a quorum has promised itself to the epoch, this server's history is that of the epoch.
    pub(super) fn count_answers(&mut self, epoch: Epoch, lasting: &mut Lasting) {
        let counts = |handler: &super::Handler| {
            // An answer of -1 for the epoch or the last transaction is none. Source: spec 2.3.
            handler.stage >= Stage::Promised && handler.promise.is_some() && handler.last.0 >= 0
        };
        if !self.have_quorum(lasting, true, counts) {
            return;
        }
        let seq = lasting.epochs.adopt(epoch, &mut lasting.out);
        self.phase = Phase::Adopting { epoch, seq };
        self.deadline = lasting.ticks(lasting.options.init_limit);
        if lasting.newest().version == 0 {
            // The first leader of all gives the membership a version. Source: spec 2.9.
            let mut first = lasting.committed.clone();
            first.version = epoch.start().0;
            lasting.see(first);
        }
        for link in self.at(Stage::Promised) {
            self.bring_in_line(link, lasting);
        }
    }

    /// Sends a learner what it lacks. Source: spec 2.4.
    fn bring_in_line(&mut self, link: LinkId, lasting: &mut Lasting) {
        let upto = self.agreed(lasting);
        let Some(handler) = self.learners.get_mut(&link) else {
            return;
        };
        let choice = choose(&lasting.history, handler.last);
        let after = match choice {
            Choice::Snap => {
                handler.stage = Stage::Snapshot;
                handler.proposed = lasting.history.delivered();
                lasting.out.outputs.push(Output::SnapshotWanted(link));
                return;
            }
            Choice::Diff { after } => {
                handler.say(PacketType::DIFF, upto.max(after), lasting);
                after
            }
            Choice::Trunc { to } => {
                handler.say(PacketType::TRUNC, to, lasting);
                to
            }
        };
        let count = self.history_after(link, after, lasting);
        if let Some(handler) = self.learners.get_mut(&link) {
            handler.how = match choice {
                Choice::Trunc { to } => format!("TRUNC to {to} and {count} transactions"),
                Choice::Diff { .. } | Choice::Snap => format!("DIFF of {count} transactions"),
            };
        }
    }

    /// Up to where a learner's history is made whole before NEWLEADER: all, for a leader that is
    /// not established, for with it all of it will be committed; else what is committed.
    ///
    /// What is proposed and not committed is held back until UPTODATE, where ZooKeeper's leader
    /// sends it before NEWLEADER and its COMMIT when it comes: followers before 3.9.3 crash on that
    /// COMMIT (ZOOKEEPER-4394, spec 2.10).
    fn agreed(&self, lasting: &Lasting) -> Zxid {
        match self.phase {
            Phase::Established { .. } => lasting.history.committed(),
            Phase::Discovering
            | Phase::Promising { .. }
            | Phase::Agreeing { .. }
            | Phase::Adopting { .. } => lasting.history.last(),
        }
    }

    /// Sends the history after `after`, then NEWLEADER. The number of transactions.
    pub(super) fn history_after(
        &mut self,
        link: LinkId,
        after: Zxid,
        lasting: &mut Lasting,
    ) -> usize {
        let upto = self.agreed(lasting);
        let (Some(handler), Some(epoch)) = (self.learners.get_mut(&link), self.phase.epoch())
        else {
            return 0;
        };
        let mut count = 0;
        for (zxid, txn) in lasting.history.after(after) {
            if *zxid > upto {
                break;
            }
            handler.pipe.send(&proposal(*zxid, txn), &mut lasting.out);
            handler.pipe.send(&commit(*zxid), &mut lasting.out);
            count += 1;
        }
        // A learner can have more than is committed: then it waits for UPTODATE until that is.
        handler.proposed = upto.max(after);
        handler.cut = handler.proposed;
        // The learner has it in force with UPTODATE. A pending one of this epoch is not committed;
        // it comes after that, as what it is.
        let membership = if matches!(self.phase, Phase::Established { .. }) {
            &lasting.committed
        } else {
            lasting.newest()
        };
        let text = membership.to_text();
        let packet = Packet::with_data(PacketType::NEW_LEADER, epoch.start(), text.into_bytes());
        handler.send(&packet.to_bytes(), lasting);
        handler.stage = Stage::Following;
        handler.heard = lasting.out.now;
        count
    }

    /// When a quorum has the history, and this server too, it is committed: the epoch begins.
    ///
    /// Source: spec 2.9; the own history is durable with the own currentEpoch, as the log's lane is
    /// in order.
    pub(super) fn count_followers(
        &mut self,
        epoch: Epoch,
        seq: Seq,
        lasting: &mut Lasting,
    ) -> Result<(), Left> {
        let own = lasting.confirmed.of(seq).is_some();
        if !self.have_quorum(lasting, own, |handler| handler.stage >= Stage::Synced) {
            return Ok(());
        }
        let last = lasting.history.last();
        assert!(
            last.epoch() < epoch,
            "nothing is proposed before the epoch is established"
        );
        self.phase = Phase::Established { epoch };
        self.own = last;
        lasting.history.commit(last);
        let pin = self.pin(lasting);
        lasting.deliver(pin);
        self.rules = alloc::sync::Arc::new(lasting.views().iter().cloned().collect());
        let followers = self.at(Stage::Synced).len();
        lasting.out.event(Event::Synced {
            how: format!("epoch {epoch} after {last}, with {followers} learners"),
        });
        self.begin_epoch(epoch, lasting)
    }

    /// Links of the learners at a stage.
    pub(super) fn at(&self, stage: Stage) -> Vec<LinkId> {
        let at = self
            .learners
            .iter()
            .filter(|(_, handler)| handler.stage == stage);
        at.map(|(&link, _)| link).collect()
    }
}

impl Phase {
    /// The epoch, once it is known.
    pub(super) const fn epoch(self) -> Option<Epoch> {
        match self {
            Self::Discovering => None,
            Self::Promising { epoch, .. }
            | Self::Agreeing { epoch }
            | Self::Adopting { epoch, .. }
            | Self::Established { epoch } => Some(epoch),
        }
    }
}
