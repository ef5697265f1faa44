//! What packets carry.

use bytes::Bytes;
use zabra_core::ids::{Epoch, ServerId, SessionId, Xid};
use zabra_core::wire::client::OpCode;
use zabra_core::wire::quorum::{
    AckEpoch, Activation, Error, Forwarded, LeaderInfo, LearnerInfo, PROTOCOL, Packet, PacketType,
    Revalidated, Revalidation, Touch,
};
use zabra_core::wire::txn;

use super::captured::{CAPTURES, captured, packets};
use super::hex;

/// All packets, with whether a learner sent them. A learner connects.
fn all_packets() -> Vec<(Packet, bool)> {
    let streams = CAPTURES.iter().flat_map(|name| captured(name));
    let streams = streams.filter(|stream| stream.port == 'Q');
    streams
        .flat_map(|stream| packets(&stream.bytes).map(move |packet| (packet, stream.dialled)))
        .collect()
}

/// The data, read and written again.
fn again(kind: PacketType, learner: bool, data: &Bytes) -> Option<Bytes> {
    Some(match kind {
        PacketType::FOLLOWER_INFO | PacketType::OBSERVER_INFO => {
            LearnerInfo::decode(data).unwrap().to_bytes()
        }
        PacketType::LEADER_INFO => LeaderInfo::decode(data).unwrap().to_bytes(),
        PacketType::ACK_EPOCH => AckEpoch::decode(data).unwrap().to_bytes(),
        PacketType::REQUEST => Forwarded::take(data).unwrap().to_bytes(),
        PacketType::PING => Touch::to_bytes(&Touch::decode(data).unwrap()),
        PacketType::REVALIDATE if learner => Revalidation::decode(data).unwrap().to_bytes(),
        PacketType::REVALIDATE => Revalidated::decode(data).unwrap().to_bytes(),
        PacketType::COMMIT_AND_ACTIVATE | PacketType::INFORM_AND_ACTIVATE => {
            Activation::decode(data).unwrap().to_bytes()
        }
        _ => return None,
    })
}

#[test]
fn captured_data_is_read_and_written_again() {
    let mut count = 0;
    for (packet, learner) in all_packets() {
        let Some(data) = &packet.data else { continue };
        if let Some(again) = again(packet.kind, learner, data) {
            assert_eq!(again, data, "{}", packet.kind);
            count += 1;
        }
    }
    assert!(count > 700, "{count} packets carry something");
}

#[test]
fn captured_transactions_are_those_their_packets_name() {
    let mut count = 0;
    for (packet, _) in all_packets() {
        let Some(data) = &packet.data else { continue };
        let txn = match packet.kind {
            PacketType::PROPOSAL | PacketType::INFORM => data.clone(),
            PacketType::INFORM_AND_ACTIVATE => Activation::decode(data).unwrap().txn,
            _ => continue,
        };
        let (header, ..) = txn::decode(&txn).unwrap();
        assert_eq!(header.zxid, packet.zxid);
        let text = txn::membership_text(&txn);
        assert_eq!(text.is_some(), header.op == OpCode::RECONFIG);
        if let Some(text) = text {
            // A membership's version is the transaction that made it.
            let version = format!("version={:x}", header.zxid.0);
            assert_eq!(text.lines().last(), Some(&*version));
        }
        count += usize::from(text.is_some());
    }
    assert_eq!(count, 9, "reconfigurations, each to every learner");
}

#[test]
fn data_cut_short_is_refused() {
    type Read = fn(&Bytes) -> Result<(), Error>;
    let cases: [(usize, Read); 8] = [
        (8, |data| LearnerInfo::decode(data).map(drop)),
        (4, |data| LeaderInfo::decode(data).map(drop)),
        (4, |data| AckEpoch::decode(data).map(drop)),
        (16, |data| Forwarded::take(data).map(drop)),
        (12, |data| Revalidation::decode(data).map(drop)),
        (9, |data| Revalidated::decode(data).map(drop)),
        (8, |data| Activation::decode(data).map(drop)),
        // No touches are touches.
        (0, |data| Touch::decode(data).map(drop)),
    ];
    for (shortest, read) in cases {
        for length in 0..shortest {
            let data = Bytes::from(vec![0; length]);
            let Err(Error::Body { length: found, .. }) = read(&data) else {
                panic!("{length} of {shortest} bytes were read");
            };
            assert_eq!(found, length);
        }
        read(&Bytes::from(vec![0; shortest])).unwrap();
    }
    for length in 1..12 {
        assert!(Touch::decode(&vec![0; 24 + length]).is_err());
    }
}

#[test]
fn old_learners_say_less_of_themselves() {
    let all = hex("0000000000000003 00010000 0000000100000006");
    for (length, protocol, config_version) in [(8, 1, 0), (12, PROTOCOL, 0), (19, PROTOCOL, 0)] {
        let info = LearnerInfo {
            server: ServerId(3),
            protocol,
            config_version,
        };
        assert_eq!(LearnerInfo::decode(&all[..length]), Ok(info));
    }
    let info = LearnerInfo::decode(&all).unwrap();
    assert_eq!(info.config_version, 0x1_0000_0006);
}

#[test]
fn an_epoch_accepted_before_is_not_acknowledged_with_a_number() {
    let acks = [None, Some(Epoch(0)), Some(Epoch(7))].map(|current| AckEpoch { current });
    for (ack, bytes) in acks.iter().zip(["ffffffff", "00000000", "00000007"]) {
        assert_eq!(ack.to_bytes(), hex(bytes));
        assert_eq!(AckEpoch::decode(&hex(bytes)).as_ref(), Ok(ack));
    }
}

#[test]
fn bodies_are_as_in_the_transcript() {
    let session = SessionId(0x0100_001f_544a_0000);
    let touches = [(session, 10_000), (SessionId(0x0300_001f_3ed0_0001), 6000)];
    let touches = touches.map(|(session, timeout_ms)| Touch {
        session,
        timeout_ms,
    });
    let bytes = hex("0100001f544a0000 00002710 0300001f3ed00001 00001770");
    assert_eq!(Touch::to_bytes(&touches), bytes);
    assert_eq!(Touch::decode(&bytes).unwrap(), touches);

    let asked = Revalidation {
        session,
        timeout_ms: 10_000,
    };
    assert_eq!(asked.to_bytes(), hex("0100001f544a0000 00002710"));
    let answered = Revalidated {
        session,
        valid: true,
    };
    assert_eq!(answered.to_bytes(), hex("0100001f544a0000 01"));

    let forwarded = Forwarded {
        session,
        cxid: Xid(0),
        op: OpCode::CREATE_SESSION,
        body: &[0, 0, 0x27, 0x10],
    };
    let bytes = hex("0100001f544a0000 00000000 fffffff6 00002710");
    assert_eq!(forwarded.to_bytes(), bytes);
    assert_eq!(Forwarded::take(&bytes), Ok(forwarded));
}
