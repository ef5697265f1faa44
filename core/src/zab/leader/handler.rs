//! One learner, as its leader sees it: `LearnerHandler` in ZooKeeper.

use alloc::string::String;
use core::net::SocketAddr;

use bytes::Bytes;

use super::door::Claim;
use crate::ids::{Epoch, Instant, LinkId, ServerId, Zxid};
use crate::wire::quorum::{Packet, PacketType, Packets};
use crate::zab::gate::{Gate, Then};
use crate::zab::lasting::Lasting;
use crate::zab::pipe::Pipe;

/// How far a learner is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// It has said nothing.
    Connected,
    /// Its FOLLOWERINFO came, and what that says is in doubt.
    Claimed,
    /// Its FOLLOWERINFO came; the epoch is not known or not durable.
    Known,
    /// LEADERINFO is sent.
    Promising,
    /// Its ACKEPOCH came; not enough have answered.
    Promised,
    /// The state is on its way.
    Snapshot,
    /// Everything up to NEWLEADER is sent.
    Following,
    /// It has the history durably: NEWLEADER is acknowledged.
    Synced,
    /// UPTODATE is sent: it takes part in the broadcast.
    Live,
}

/// A learner's connection and what is known of it.
#[derive(Debug)]
pub(super) struct Handler {
    pub(super) peer: SocketAddr,
    pub(super) packets: Packets,
    pub(super) pipe: Pipe,
    /// Until it is let in, nothing else is heard of it.
    pub(super) gate: Option<Gate>,
    pub(super) stage: Stage,
    pub(super) claim: Option<Claim>,
    /// Who it says it is; known from [`Stage::Known`].
    pub(super) id: ServerId,
    pub(super) observer: bool,
    /// The epoch it had promised itself to.
    pub(super) accepted: Epoch,
    /// What it answered to LEADERINFO: its current epoch, if that counts, and its last.
    pub(super) promise: Option<Epoch>,
    pub(super) last: Zxid,
    /// The last sign of it, or of progress of what is sent to it.
    pub(super) heard: Instant,
    /// Up to here PROPOSALs, or INFORMs, are sent, or not needed.
    pub(super) proposed: Zxid,
    /// Its history when NEWLEADER was sent: its acknowledgement is of all that.
    pub(super) cut: Zxid,
    /// Up to here it has everything durably.
    pub(super) acked: Zxid,
    /// A proposal that it has not acknowledged, and since when; one at a time.
    pub(super) watched: Option<(Zxid, Instant)>,
    /// PINGs since UPTODATE, and answers to them.
    pub(super) pings: u64,
    pub(super) pongs: u64,
    /// How it was brought in line.
    pub(super) how: String,
}

impl Handler {
    pub(super) fn new(link: LinkId, peer: SocketAddr, lasting: &Lasting) -> Self {
        Self {
            peer,
            packets: Packets::new(lasting.options.packet_bytes_max),
            pipe: Pipe::new(link),
            gate: Gate::server(&lasting.options.sasl),
            stage: Stage::Connected,
            claim: None,
            id: ServerId(-1),
            observer: false,
            accepted: Epoch(0),
            promise: None,
            last: Zxid::ZERO,
            heard: lasting.out.now,
            proposed: Zxid::ZERO,
            cut: Zxid::ZERO,
            acked: Zxid::ZERO,
            watched: None,
            pings: 0,
            pongs: 0,
            how: String::new(),
        }
    }

    /// What is not of its login. An error: it is not let in.
    pub(super) fn through(&mut self, bytes: Bytes, lasting: &mut Lasting) -> Result<Bytes, String> {
        let Some(gate) = &mut self.gate else {
            return Ok(bytes);
        };
        let turn = gate.receive(&bytes, &lasting.options.sasl, &mut lasting.nonces);
        if let Some(bytes) = turn.send {
            self.send(&bytes, lasting);
        }
        match turn.then {
            Then::Wait => Ok(Bytes::new()),
            Then::Through(bytes) => {
                self.gate = None;
                Ok(bytes)
            }
            Then::Refuse(reason) => Err(reason),
        }
    }

    /// Sends a packet of nothing but its type and zxid.
    pub(super) fn say(&mut self, kind: PacketType, zxid: Zxid, lasting: &mut Lasting) {
        self.send(&Packet::new(kind, zxid).to_bytes(), lasting);
    }

    pub(super) fn send(&mut self, bytes: &Bytes, lasting: &mut Lasting) {
        self.pipe.send(bytes, &mut lasting.out);
    }

    /// Sends a proposal that was made.
    pub(super) fn propose(&mut self, zxid: Zxid, packet: &Bytes, lasting: &mut Lasting) {
        self.send(packet, lasting);
        self.proposed = zxid;
        if self.watched.is_none() {
            self.watched = Some((zxid, lasting.out.now));
        }
    }

    /// Knows that it has everything up to `zxid` durably.
    pub(super) fn acknowledged(&mut self, zxid: Zxid, now: Instant) {
        self.acked = self.acked.max(zxid);
        if self.watched.is_some_and(|(watched, _)| watched <= zxid) {
            // The next to watch is the last sent: it was sent at this moment at the latest.
            self.watched = (self.proposed > zxid).then_some((self.proposed, now));
        }
    }

    /// Sends a PING; only those after UPTODATE are answered.
    pub(super) fn ping(&mut self, last: Zxid, lasting: &mut Lasting) {
        self.say(PacketType::PING, last, lasting);
        if self.stage == Stage::Live {
            self.pings += 1;
        }
    }

    /// When it is given up if nothing is heard of it, and why.
    ///
    /// Until it has the history a learner reads for long and says nothing; before UPTODATE it
    /// answers no PING. Source: spec 2.2, 3.6.
    pub(super) fn limit_ticks(&self, lasting: &Lasting) -> u32 {
        if self.stage == Stage::Live {
            lasting.options.sync_limit
        } else {
            lasting.options.init_limit
        }
    }
}

/// A PROPOSAL, once for all who get it.
pub(super) fn proposal(zxid: Zxid, txn: &Bytes) -> Bytes {
    Packet::with_data(PacketType::PROPOSAL, zxid, txn.clone()).to_bytes()
}

/// An INFORM, once for all who get it.
pub(super) fn inform(zxid: Zxid, txn: &Bytes) -> Bytes {
    Packet::with_data(PacketType::INFORM, zxid, txn.clone()).to_bytes()
}

/// A COMMIT.
pub(super) fn commit(zxid: Zxid) -> Bytes {
    Packet::new(PacketType::COMMIT, zxid).to_bytes()
}
