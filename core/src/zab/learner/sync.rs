//! Taking the leader's history over: from DIFF, TRUNC or SNAP to UPTODATE.

use alloc::format;
use alloc::string::{String, ToString};

use bytes::Bytes;

use super::{Learner, Snapshot, Stage, unexpected};
use crate::ids::Zxid;
use crate::lane::StoreOp;
use crate::wire::quorum::{Activation, Packet, PacketType};
use crate::wire::txn::membership_text;
use crate::zab::durable::{Durable, ack};
use crate::zab::history::follows;
use crate::zab::io::{Event, Output};
use crate::zab::lasting::{Lasting, Left};
use crate::zab::membership::Membership;

impl Learner {
    /// DIFF, TRUNC or SNAP. Source: spec 2.8, step 1.
    pub(super) fn chosen(&mut self, packet: &Packet, lasting: &mut Lasting) -> Result<(), Left> {
        let whole = self.told == lasting.history.last();
        match packet.kind {
            PacketType::SNAP => return self.load(packet.zxid, lasting),
            PacketType::DIFF if whole => self.how = "DIFF".into(),
            PacketType::TRUNC if whole => {
                self.how = format!("TRUNC to {}", packet.zxid);
                self.cut(packet.zxid, lasting)?;
            }
            _ => return Err(unexpected("DIFF, TRUNC or SNAP, or only SNAP,", packet)),
        }
        if !matches!(self.stage, Stage::Cutting { .. }) {
            self.collect_after(lasting.history.last());
        }
        Ok(())
    }

    fn collect_after(&mut self, point: Zxid) {
        self.point = point;
        self.last = point;
        self.noted = point;
        self.stage = Stage::Collecting;
    }

    /// TRUNC: what comes after `to` was never committed.
    fn cut(&mut self, to: Zxid, lasting: &mut Lasting) -> Result<(), Left> {
        if to == lasting.history.last() {
            return Ok(());
        }
        if to > lasting.history.last() || !lasting.history.contains(to) {
            // Not to be found in what is kept: what the log has before that would perhaps be cut
            // wrongly, and the state from before it may not be there (ZOOKEEPER-4837). The leader
            // is asked again, so that it must send its state.
            lasting.snapshot_demanded = true;
            return Err(Left::Look(format!(
                "the leader cuts at {to}, which is not in the history from {} to {}",
                lasting.history.base(),
                lasting.history.last()
            )));
        }
        let seq = lasting.out.store(StoreOp::Truncate { to });
        // What later epochs append will hide that it is not in the history.
        lasting.forget_pending(to.0);
        if to < lasting.history.delivered() {
            self.stage = Stage::Cutting { seq };
        } else {
            lasting.history.truncate(to);
        }
        Ok(())
    }

    /// SNAP: the leader's state follows, in bytes that only the tree can read.
    fn load(&mut self, zxid: Zxid, lasting: &mut Lasting) -> Result<(), Left> {
        if zxid.epoch() > self.epoch || zxid.0 < 0 {
            return Err(Left::Look(format!(
                "a state of {zxid} from a leader of epoch {}",
                self.epoch
            )));
        }
        self.how = format!("SNAP of {zxid}");
        self.snapshot = Snapshot::Loaded(zxid);
        self.collect_after(zxid);
        self.stage = Stage::Loading;
        lasting.out.outputs.push(Output::SnapshotBegin { zxid });
        let rest = self.packets.take_rest();
        if !rest.is_empty() {
            lasting.out.outputs.push(Output::SnapshotBytes(rest));
        }
        Ok(())
    }

    /// The tree has the state; `rest` came after it.
    pub(crate) fn snapshot_loaded(
        &mut self,
        rest: Bytes,
        lasting: &mut Lasting,
    ) -> Result<(), Left> {
        if !matches!(self.stage, Stage::Loading) {
            return Ok(());
        }
        self.stage = Stage::Collecting;
        self.packets.receive(rest);
        self.read(lasting)
    }

    /// The state is durable under its name: the log from before goes, and history begins there.
    ///
    /// Not earlier: until here a power cut leaves this server with what it had, of which a leader
    /// may have counted something.
    pub(crate) fn snapshot_stored(
        &mut self,
        zxid: Zxid,
        lasting: &mut Lasting,
    ) -> Result<(), Left> {
        if self.snapshot != Snapshot::Loaded(zxid) {
            return Ok(());
        }
        assert!(
            !matches!(self.stage, Stage::Loading),
            "a state is stored when it was loaded"
        );
        lasting.out.store(StoreOp::Reset { to: zxid });
        lasting.history.reset(zxid);
        // What was pending in the history that is gone is not, unless the leader says so.
        let offered = self.offered.as_ref().map_or(0, |offered| offered.version);
        lasting.forget_pending(offered);
        self.snapshot = Snapshot::Stored;
        if self.adopt_later {
            self.adopt(lasting)?;
        }
        Ok(())
    }

    /// A packet between the choice and UPTODATE. Source: spec 2.8, step 2.
    pub(super) fn synchronize(
        &mut self,
        packet: Packet,
        lasting: &mut Lasting,
    ) -> Result<(), Left> {
        let data = packet.data.clone().unwrap_or_default();
        match packet.kind {
            PacketType::PROPOSAL => self.proposed(packet.zxid, data, lasting),
            PacketType::COMMIT => self.noted(packet.zxid, lasting),
            PacketType::INFORM => {
                self.proposed(packet.zxid, data, lasting)?;
                self.noted(packet.zxid, lasting)
            }
            PacketType::COMMIT_AND_ACTIVATE => {
                let activation = activation(&data)?;
                self.designated = Some(activation.designated);
                self.noted(packet.zxid, lasting)
            }
            PacketType::INFORM_AND_ACTIVATE => {
                let activation = activation(&data)?;
                self.designated = Some(activation.designated);
                self.proposed(packet.zxid, activation.txn, lasting)?;
                self.noted(packet.zxid, lasting)
            }
            PacketType::NEW_LEADER => self.new_leader(&packet, lasting),
            PacketType::UP_TO_DATE => self.up_to_date(&packet, lasting),
            // PINGs are not answered before UPTODATE, and nothing else was asked for.
            _ => Ok(()),
        }
    }

    fn proposed(&mut self, zxid: Zxid, txn: Bytes, lasting: &mut Lasting) -> Result<(), Left> {
        if self.snapshot != Snapshot::None && zxid <= self.point {
            // A Java leader decides what to send before it reads the zxid of its state (spec 2.6).
            return Ok(());
        }
        if !follows(self.last, zxid) || zxid.epoch() > self.epoch {
            return Err(Left::Look(format!(
                "{zxid} does not follow {} in the leader's history",
                self.last
            )));
        }
        if let Some(membership) = membership(&txn) {
            lasting.see(membership);
        }
        self.last = zxid;
        if matches!(self.stage, Stage::Collecting) {
            self.pending.push_back((zxid, txn));
        } else {
            self.append(zxid, txn, lasting);
        }
        Ok(())
    }

    /// Logs a transaction, to be acknowledged when it is durable.
    pub(super) fn append(&mut self, zxid: Zxid, txn: Bytes, lasting: &mut Lasting) {
        lasting.history.append(zxid, txn.clone());
        let seq = lasting.out.store(StoreOp::Append { zxid, txn });
        if !self.observer {
            self.acks.push_back((seq, zxid));
        }
    }

    fn noted(&mut self, zxid: Zxid, lasting: &Lasting) -> Result<(), Left> {
        if self.snapshot != Snapshot::None && zxid <= self.point {
            return Ok(());
        }
        let noted = self.noted;
        let next = if matches!(self.stage, Stage::Collecting) {
            // They ascend, and there may be as many as a busy leader commits while it sends a state.
            let index = self.pending.partition_point(|entry| entry.0 <= noted);
            self.pending.get(index)
        } else {
            lasting.history.after(noted).next()
        };
        if next.is_none_or(|next| next.0 != zxid) {
            return Err(Left::Look(format!(
                "a COMMIT of {zxid}, expected {:?} after {noted}",
                next.map(|next| next.0)
            )));
        }
        self.noted = zxid;
        Ok(())
    }

    /// NEWLEADER: that is the history. Source: spec 2.8, `NEWLEADER`.
    fn new_leader(&mut self, packet: &Packet, lasting: &mut Lasting) -> Result<(), Left> {
        if !matches!(self.stage, Stage::Collecting) || self.adopt_later {
            return Err(unexpected("no second NEWLEADER", packet));
        }
        if packet.zxid != self.epoch.start() {
            return Err(unexpected(&format!("NEWLEADER of {}", self.epoch), packet));
        }
        let data = packet.data.as_deref().unwrap_or_default();
        if data.len() > 1 {
            let membership = parse(data).map_err(Left::Look)?;
            lasting.see(membership.clone());
            self.offered = Some(membership);
        }
        if let Snapshot::Loaded(_) = self.snapshot {
            self.adopt_later = true;
            return Ok(());
        }
        self.adopt(lasting)
    }

    /// Logs the history, then the epoch; the answer waits for both.
    fn adopt(&mut self, lasting: &mut Lasting) -> Result<(), Left> {
        let count = self.pending.len();
        while let Some((zxid, txn)) = self.pending.pop_front() {
            self.append(zxid, txn, lasting);
        }
        self.how = format!("{} and {count} transactions", self.how);
        let offered = self.offered.as_ref().map_or(0, |offered| offered.version);
        lasting.forget_pending(self.last.0.max(offered));
        let seq = lasting.epochs.adopt(self.epoch, &mut lasting.out);
        self.stage = Stage::Adopting { seq };
        Ok(())
    }

    /// The history and the epoch are durable.
    pub(super) fn adopted(&mut self, proof: Durable, lasting: &mut Lasting) -> Result<(), Left> {
        lasting.trusted = true;
        lasting.snapshot_demanded = false;
        self.stage = Stage::Adopted { proof };
        self.send(&ack(proof, self.epoch.start()), lasting);
        self.heard = lasting.out.now;
        Ok(())
    }

    /// UPTODATE: a quorum has the history, and it is committed.
    fn up_to_date(&mut self, packet: &Packet, lasting: &mut Lasting) -> Result<(), Left> {
        let Stage::Adopted { proof } = self.stage else {
            return Err(unexpected("NEWLEADER before", packet));
        };
        // All that both had, for an established leader sends UPTODATE only when it has committed
        // that; all of earlier epochs, for that is the history with which the epoch began; and
        // what it said itself.
        let before_epoch = lasting.history.floor(self.epoch.start());
        let committed = self.noted.max(before_epoch.unwrap_or(self.point));
        lasting.history.commit(committed);
        let last = lasting.history.last();
        lasting.deliver(last);
        // The leader ignores it, but a Java learner sends it, and so an old leader may expect it.
        self.send(&ack(proof, self.epoch.start()), lasting);
        self.acks.retain(|&(_, zxid)| zxid > committed);
        self.stage = Stage::Live;
        self.heard = lasting.out.now;
        lasting.out.event(Event::Synced {
            how: self.how.clone(),
        });
        lasting.out.outputs.push(Output::Role(self.role()));
        lasting.out.outputs.push(Output::Serve);
        self.acknowledge(lasting);
        match self.offered.take() {
            Some(offered) => lasting.activate(offered, self.designated),
            None => Ok(()),
        }
    }
}

/// The membership that a transaction proposes, if it does.
pub(super) fn membership(txn: &[u8]) -> Option<Membership> {
    Membership::parse(membership_text(txn)?).ok()
}

pub(super) fn activation(data: &Bytes) -> Result<Activation, Left> {
    Activation::decode(data).map_err(|error| Left::Look(error.to_string()))
}

fn parse(text: &[u8]) -> Result<Membership, String> {
    let text = core::str::from_utf8(text).map_err(|error| error.to_string())?;
    Membership::parse(text).map_err(|error| error.to_string())
}
