//! What the store has confirmed, and the one way to say so to a leader.

use bytes::Bytes;

use crate::ids::{Seq, Zxid};
use crate::wire::quorum::{Packet, PacketType};

/// Up to where the store has confirmed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Confirmed {
    upto: Seq,
}

/// That an operation is durable, and with it, as the log's lane is in order, all before it.
///
/// Only [`Confirmed::of`] makes one, and without one there is no [`ack`]: an acknowledgement of
/// what is not durable cannot be written down. Source: reliability B.1; ZOOKEEPER-3911, 4643, 4646,
/// 4785 are such acknowledgements.
#[derive(Clone, Copy, Debug)]
pub(super) struct Durable(());

impl Confirmed {
    /// Takes the store's word.
    ///
    /// # Panics
    /// If the store takes something back.
    pub(super) fn confirm(&mut self, upto: Seq) {
        assert!(upto >= self.upto, "what is durable stays durable");
        self.upto = upto;
    }

    /// Proof that this operation is durable, if it is.
    pub(super) fn of(self, seq: Seq) -> Option<Durable> {
        (seq <= self.upto).then_some(Durable(()))
    }
}

/// An ACK of `zxid`, the transaction or the beginning of an epoch whose durability is proven.
pub(super) fn ack(_proof: Durable, zxid: Zxid) -> Bytes {
    Packet::new(PacketType::ACK, zxid).to_bytes()
}
