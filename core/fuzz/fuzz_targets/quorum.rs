//! Any bytes as what a leader and its learners say: nothing panics, however they are cut the same packets
//! come out, and what was read is written so that it reads the same.
//!
//! The first byte says how long the pieces are, and whether the limit of data is small.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use zabra_core::wire::client::OpCode;
use zabra_core::wire::quorum::{
    AckEpoch, Activation, DATA_BYTES_MAX, Error, Forwarded, IDS_BYTES_MAX, LeaderInfo, LearnerInfo,
    Packet, PacketType, Packets, Revalidated, Revalidation, Touch,
};
use zabra_core::wire::txn::{self, Txn};

fuzz_target!(|data: &[u8]| {
    let Some((how, bytes)) = data.split_first() else {
        return;
    };
    let max = if how & 0x80 == 0 { DATA_BYTES_MAX } else { 64 };
    let (packets, end) = cut(bytes, usize::MAX, max);
    let pieces = cut(bytes, usize::from(how & 0x7f) + 1, max);
    assert_eq!(pieces, (packets.clone(), end));
    for packet in &packets {
        again(packet);
        if let Some(data) = &packet.data {
            bodies(data);
        }
    }
    if packets.iter().all(|packet| packet.ids.is_none()) {
        let written: Vec<_> = packets.iter().map(Packet::to_bytes).collect();
        let written = written.concat();
        assert_eq!(bytes.get(..written.len()), Some(&*written), "without gaps");
    }
    bodies(&Bytes::copy_from_slice(bytes));
});

/// The packets, and what came instead of the next.
fn cut(bytes: &[u8], piece: usize, max: usize) -> (Vec<Packet>, Result<(), Error>) {
    let (mut packets, mut found) = (Packets::new(max), Vec::new());
    for part in bytes.chunks(piece) {
        packets.receive(Bytes::copy_from_slice(part));
        loop {
            match packets.next() {
                Ok(Some(packet)) => {
                    if packet.kind == PacketType::SNAP {
                        let rest = packets.take_rest();
                        assert!(packets.take_rest().is_empty(), "that was all");
                        packets.receive(rest);
                    }
                    found.push(packet);
                }
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(packets.next(), Err(error), "there is no way on");
                    return (found, Err(error));
                }
            }
        }
    }
    (found, Ok(()))
}

fn again(packet: &Packet) {
    let ids = packet.ids.iter().flatten();
    // A byte that is not UTF-8 becomes three, which may pass the limit.
    if ids.map(|id| id.scheme.len() + id.id.len()).sum::<usize>() > IDS_BYTES_MAX {
        return;
    }
    let (packets, end) = cut(&packet.to_bytes(), usize::MAX, DATA_BYTES_MAX);
    assert_eq!((&*packets, end), (core::slice::from_ref(packet), Ok(())));
}

fn bodies(data: &Bytes) {
    if let Ok(info) = LearnerInfo::decode(data) {
        assert_eq!(LearnerInfo::decode(&info.to_bytes()), Ok(info));
    }
    if let Ok(info) = LeaderInfo::decode(data) {
        assert_eq!(LeaderInfo::decode(&info.to_bytes()), Ok(info));
    }
    if let Ok(ack) = AckEpoch::decode(data) {
        assert_eq!(AckEpoch::decode(&ack.to_bytes()), Ok(ack));
    }
    if let Ok(forwarded) = Forwarded::take(data) {
        assert_eq!(forwarded.to_bytes(), data);
    }
    if let Ok(touches) = Touch::decode(data) {
        assert_eq!(Touch::to_bytes(&touches), data);
    }
    if let Ok(asked) = Revalidation::decode(data) {
        assert_eq!(Revalidation::decode(&asked.to_bytes()), Ok(asked));
    }
    if let Ok(answered) = Revalidated::decode(data) {
        assert_eq!(Revalidated::decode(&answered.to_bytes()), Ok(answered));
    }
    if let Ok(activation) = Activation::decode(data) {
        assert_eq!(activation.to_bytes(), data);
        membership(&activation.txn);
    }
    membership(data);
}

/// What `membership_text` finds is what a whole reading finds.
fn membership(payload: &[u8]) {
    let Ok((header, Txn::SetData { data, .. }, _)) = txn::decode(payload) else {
        return;
    };
    let text = data.and_then(|data| str::from_utf8(data).ok());
    let expected = text.filter(|_| header.op == OpCode::RECONFIG);
    assert_eq!(txn::membership_text(payload), expected);
}
