//! The broadcast, as a learner sees it, and what it asks of its leader.

use alloc::format;
use alloc::vec::Vec;

use bytes::Bytes;

use super::sync::{activation, membership};
use super::{Learner, Stage, unexpected};
use crate::ids::{ServerId, SessionId, Xid, Zxid};
use crate::jute;
use crate::wire::client::OpCode;
use crate::wire::quorum::{Forwarded, Packet, PacketType};
use crate::wire::records::Id;
use crate::zab::durable::ack;
use crate::zab::history::follows;
use crate::zab::io::Output;
use crate::zab::lasting::{Lasting, Left};

impl Learner {
    /// A packet of the broadcast. Source: spec 3.1 and what follows.
    pub(super) fn live(&mut self, mut packet: Packet, lasting: &mut Lasting) -> Result<(), Left> {
        let zxid = packet.zxid;
        let data = packet.data.take().unwrap_or_default();
        match packet.kind {
            PacketType::PING => {
                self.pings.push_back(zxid);
                lasting.out.outputs.push(Output::PingDue);
                Ok(())
            }
            PacketType::REVALIDATE => {
                lasting.out.outputs.push(Output::Revalidated(data));
                Ok(())
            }
            PacketType::SYNC => {
                let Some(left) = self.syncs.checked_sub(1) else {
                    return Err(unexpected("no SYNC that was not asked for", &packet));
                };
                self.syncs = left;
                lasting.out.outputs.push(Output::Synced);
                Ok(())
            }
            PacketType::PROPOSAL | PacketType::COMMIT if self.observer => Ok(()),
            PacketType::PROPOSAL => self.live_proposal(zxid, data, lasting),
            PacketType::COMMIT => commit(zxid, lasting),
            PacketType::COMMIT_AND_ACTIVATE if !self.observer => {
                let activation = activation(&data)?;
                commit(zxid, lasting)?;
                activate(zxid, activation.designated, lasting)
            }
            PacketType::INFORM if self.observer => {
                self.live_proposal(zxid, data, lasting)?;
                commit(zxid, lasting)
            }
            PacketType::INFORM_AND_ACTIVATE if self.observer => {
                let activation = activation(&data)?;
                self.live_proposal(zxid, activation.txn, lasting)?;
                commit(zxid, lasting)?;
                activate(zxid, activation.designated, lasting)
            }
            _ => Err(unexpected("what a leader sends in the broadcast", &packet)),
        }
    }

    fn live_proposal(&mut self, zxid: Zxid, txn: Bytes, lasting: &mut Lasting) -> Result<(), Left> {
        let last = lasting.history.last();
        if zxid <= last {
            return Err(Left::Restart(format!(
                "a PROPOSAL of {zxid} after the one of {last}"
            )));
        }
        if !follows(last, zxid) || zxid.epoch() != self.epoch {
            return Err(Left::Look(format!(
                "a PROPOSAL of {zxid} in epoch {}, the last was {last}",
                self.epoch
            )));
        }
        if let Some(membership) = membership(&txn) {
            lasting.see(membership);
        }
        self.append(zxid, txn, lasting);
        Ok(())
    }

    /// Acknowledges what is durable, one by one: a Java leader looks each up by its zxid.
    pub(super) fn acknowledge(&mut self, lasting: &mut Lasting) {
        while let Some(&(seq, zxid)) = self.acks.front() {
            let Some(proof) = lasting.confirmed.of(seq) else {
                return;
            };
            self.acks.pop_front();
            self.send(&ack(proof, zxid), lasting);
        }
    }

    /// Forwards a client's request.
    pub(crate) fn request(&mut self, data: Bytes, ids: Option<Vec<Id>>, lasting: &mut Lasting) {
        let packet = Packet {
            ids,
            ..Packet::with_data(PacketType::REQUEST, Zxid(-1), data)
        };
        self.send(&packet.to_bytes(), lasting);
    }

    /// Asks for a sync, for a client's request or for itself.
    pub(crate) fn sync(
        &mut self,
        request: Option<(Bytes, Option<Vec<Id>>)>,
        lasting: &mut Lasting,
    ) {
        if !matches!(self.stage, Stage::Live) {
            return;
        }
        let (data, ids) = request.unwrap_or_else(|| {
            let path = jute::to_vec("/");
            let sync = Forwarded {
                session: SessionId::NONE,
                cxid: Xid(0),
                op: OpCode::SYNC,
                body: &path,
            };
            (sync.to_bytes(), Some(Vec::new()))
        });
        self.syncs += 1;
        self.request(data, ids, lasting);
    }

    /// Syncs of own clients that wait.
    pub(crate) const fn syncs(&self) -> usize {
        self.syncs
    }

    /// Asks whether a session still is.
    pub(crate) fn revalidate(&mut self, data: Bytes, lasting: &mut Lasting) {
        let packet = Packet::with_data(PacketType::REVALIDATE, Zxid(-1), data);
        self.send(&packet.to_bytes(), lasting);
    }

    /// Answers the oldest PING.
    pub(crate) fn pong(&mut self, touches: Bytes, lasting: &mut Lasting) {
        if let Some(zxid) = self.pings.pop_front() {
            let packet = Packet::with_data(PacketType::PING, zxid, touches);
            self.send(&packet.to_bytes(), lasting);
        }
    }
}

/// A COMMIT must be of the next transaction: else something is missing here, and a tree without it
/// cannot be mended.
fn commit(zxid: Zxid, lasting: &mut Lasting) -> Result<(), Left> {
    let committed = lasting.history.committed();
    let next = lasting.history.after(committed).next().map(|next| next.0);
    if next != Some(zxid) {
        return Err(Left::Restart(format!(
            "a COMMIT of {zxid}, expected {next:?} after {committed}"
        )));
    }
    lasting.history.commit(zxid);
    lasting.deliver(zxid);
    Ok(())
}

/// A membership comes into force with the transaction `zxid`.
fn activate(zxid: Zxid, designated: ServerId, lasting: &mut Lasting) -> Result<(), Left> {
    match membership(&lasting.history.get(zxid)) {
        Some(membership) => lasting.activate(membership, Some(designated)),
        None => Err(Left::Look(format!(
            "{zxid} is to be activated, but is no reconfiguration"
        ))),
    }
}
