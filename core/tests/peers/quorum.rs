//! Packets.

use std::collections::BTreeMap;

use bytes::Bytes;
use zabra_core::ids::Zxid;
use zabra_core::wire::quorum::{
    DATA_BYTES_MAX, Error, IDS_BYTES_MAX, IDS_MAX, Packet, PacketType, Packets,
};
use zabra_core::wire::records::Id;

use super::captured::{CAPTURES, Part, captured, counts, packets, parts};
use super::hex;

fn written(parts: &[Part]) -> Vec<u8> {
    let bytes = parts.iter().map(|part| match part {
        Part::Packet(packet) => packet.to_bytes().to_vec(),
        Part::State(state) => state.clone(),
    });
    bytes.collect::<Vec<_>>().concat()
}

#[test]
fn captured_packets_are_read_and_written_again() {
    let expected = [
        "ACK 124 ACKEPOCH 7 COMMIT 111 DIFF 4 FOLLOWERINFO 5 INFORM 54 LEADERINFO 7 NEWLEADER 7
         OBSERVERINFO 2 PING 491 PROPOSAL 111 REQUEST 39 REVALIDATE 2 SNAP 2 SYNC 3 TRUNC 1
         UPTODATE 7 state 2",
        "ACK 8 ACKEPOCH 2 COMMIT 4 DIFF 2 FOLLOWERINFO 2 LEADERINFO 2 NEWLEADER 2 PING 35
         PROPOSAL 4 REQUEST 2 UPTODATE 2",
        "ACK 73 ACKEPOCH 8 COMMIT 49 COMMITANDACTIVATE 8 DIFF 5 FOLLOWERINFO 7 INFORM 4
         INFORMANDACTIVATE 1 LEADERINFO 8 NEWLEADER 8 OBSERVERINFO 1 PING 332 PROPOSAL 57
         REQUEST 19 SNAP 2 SYNC 1 TRUNC 1 UPTODATE 8 state 2",
        "ACK 42 ACKEPOCH 7 COMMIT 28 DIFF 7 FOLLOWERINFO 7 LEADERINFO 7 NEWLEADER 7 PING 419
         PROPOSAL 28 REQUEST 8 UPTODATE 7",
        "ACK 24 ACKEPOCH 3 COMMIT 18 DIFF 1 FOLLOWERINFO 2 INFORM 7 LEADERINFO 3 NEWLEADER 3
         OBSERVERINFO 1 PING 96 PROPOSAL 18 REQUEST 16 SNAP 2 SYNC 2 UPTODATE 3 state 2",
    ];
    for (name, expected) in CAPTURES.iter().zip(expected) {
        let mut found = BTreeMap::new();
        for stream in captured(name).iter().filter(|stream| stream.port == 'Q') {
            let parts = parts(&stream.bytes, usize::MAX / 2);
            assert_eq!(written(&parts), stream.bytes, "{name}");
            for part in parts {
                let kind = match part {
                    Part::Packet(packet) => packet.kind.to_string(),
                    Part::State(_) => String::from("state"),
                };
                *found.entry(kind).or_default() += 1;
            }
        }
        assert_eq!(found, counts(expected), "{name}");
    }
}

#[test]
fn packets_are_the_same_however_they_were_cut() {
    for name in CAPTURES {
        for stream in captured(name).iter().filter(|stream| stream.port == 'Q') {
            let whole = parts(&stream.bytes, usize::MAX / 2);
            for chunk in [1, 2, 3, 5, 7, 11, 16, 17, 100, 1000] {
                assert_eq!(parts(&stream.bytes, chunk), whole, "{name}, by {chunk}");
            }
        }
    }
}

#[test]
fn a_packet_cut_short_waits_for_the_rest() {
    for name in CAPTURES {
        for stream in captured(name).iter().filter(|stream| stream.port == 'Q') {
            for packet in packets(&stream.bytes) {
                let bytes = packet.to_bytes();
                for length in 0..bytes.len() {
                    let mut packets = Packets::default();
                    packets.receive(bytes.slice(..length));
                    assert_eq!(packets.next(), Ok(None));
                    packets.receive(bytes.slice(length..));
                    assert_eq!(packets.next(), Ok(Some(packet.clone())));
                    assert_eq!(packets.next(), Ok(None));
                }
            }
        }
    }
}

/// Packets of a transcript, annotated by hand.
#[test]
fn packets_are_as_in_the_transcript() {
    let new = Packet::new;
    let with = |kind, zxid, data: &str| Packet::with_data(kind, zxid, hex(data));
    let none = Zxid(-1);
    let epoch = Zxid(0x1_0000_0000);
    let zxid = |counter: i64| Zxid(epoch.0 | counter);
    let ip = Id {
        scheme: "ip".into(),
        id: "127.0.0.1".into(),
    };
    for (bytes, packet) in [
        (
            "0000000b 0000000000000000 00000014 0000000000000002 00010000 0000000000000000
             ffffffff",
            with(
                PacketType::FOLLOWER_INFO,
                Zxid(0),
                "0000000000000002 00010000 0000000000000000",
            ),
        ),
        (
            "00000011 0000000100000000 00000004 00010000 ffffffff",
            with(PacketType::LEADER_INFO, epoch, "00010000"),
        ),
        (
            "00000012 0000000000000000 00000004 00000000 ffffffff",
            with(PacketType::ACK_EPOCH, Zxid(0), "00000000"),
        ),
        (
            "0000000d 0000000000000000 ffffffff ffffffff",
            new(PacketType::DIFF, Zxid(0)),
        ),
        (
            "0000000c ffffffffffffffff ffffffff ffffffff",
            new(PacketType::UP_TO_DATE, none),
        ),
        (
            "00000005 0000000100000000 ffffffff ffffffff",
            new(PacketType::PING, epoch),
        ),
        (
            "00000005 0000000100000000 00000000 ffffffff",
            with(PacketType::PING, epoch, ""),
        ),
        (
            "0000000f 0000000100000000 ffffffff ffffffff",
            new(PacketType::SNAP, epoch),
        ),
        (
            "00000004 0000000100000001 ffffffff ffffffff",
            new(PacketType::COMMIT, zxid(1)),
        ),
        (
            "00000002 000000010000000d 00000024 0100001f544a0000 0000000c 000000010000000d
             000001a2036a6f5d ffffffff ffffff99 ffffffff",
            with(
                PacketType::PROPOSAL,
                zxid(13),
                "0100001f544a0000 0000000c 000000010000000d 000001a2036a6f5d ffffffff ffffff99",
            ),
        ),
        (
            "00000001 ffffffffffffffff 0000001a 0200001f3eae0000 00000002 00000009 00000006
             2f7669612d32 00000001 00000002 6970 00000009 3132372e302e302e31",
            Packet {
                ids: Some(vec![ip]),
                ..with(
                    PacketType::REQUEST,
                    none,
                    "0200001f3eae0000 00000002 00000009 00000006 2f7669612d32",
                )
            },
        ),
        (
            "00000009 0000000100000006 00000008 0000000000000002 ffffffff",
            with(PacketType::COMMIT_AND_ACTIVATE, zxid(6), "0000000000000002"),
        ),
        (
            "00000007 0000000000000000 ffffffff ffffffff",
            new(PacketType::SYNC, Zxid(0)),
        ),
    ] {
        let bytes = hex(bytes);
        assert_eq!(packet.to_bytes(), bytes);
        let mut packets = Packets::default();
        packets.receive(bytes.into());
        assert_eq!(packets.next(), Ok(Some(packet)));
    }
}

#[test]
fn null_differs_from_empty() {
    let mut packet = Packet::new(PacketType::REQUEST, Zxid(-1));
    for (data, ids) in [(None, None), (Some(Bytes::new()), Some(Vec::new()))] {
        (packet.data, packet.ids) = (data, ids);
        let mut packets = Packets::default();
        packets.receive(packet.to_bytes());
        assert_eq!(packets.next(), Ok(Some(packet.clone())));
    }
}

#[test]
fn a_packet_of_an_unknown_type_is_cut_out() {
    let packet = Packet::with_data(PacketType(42), Zxid(1), &b"?"[..]);
    let mut packets = Packets::default();
    packets.receive(packet.to_bytes());
    assert_eq!(packets.next(), Ok(Some(packet)));
    assert_eq!(PacketType(42).to_string(), "packet of type 42");
}

#[test]
fn data_is_a_slice_of_what_arrived_whole() {
    let packet = Packet::with_data(PacketType::PROPOSAL, Zxid(1), vec![7; 100]);
    let bytes = packet.to_bytes();
    let mut packets = Packets::default();
    packets.receive(bytes.clone());
    let data = packets.next().unwrap().unwrap().data.unwrap();
    assert_eq!(data.as_ptr(), bytes.slice(16..).as_ptr());
}

/// Looked at from its beginning at every read, this would take minutes.
#[test]
fn a_large_packet_in_small_reads_is_looked_at_once() {
    let data: Vec<u8> = (0..10_000_000_u32).map(|at| (at % 251) as u8).collect();
    let packet = Packet::with_data(PacketType::PROPOSAL, Zxid(1), data);
    let (bytes, small) = (packet.to_bytes(), 4096);
    let mut packets = Packets::new(10_000_000);
    for part in bytes.chunks(small) {
        assert_eq!(packets.next(), Ok(None));
        packets.receive(Bytes::copy_from_slice(part));
    }
    assert!(packets.next() == Ok(Some(packet)), "the same packet");
}

#[test]
fn data_over_the_limit_is_refused_before_it_comes() {
    for length in [101, i32::MAX, -2, i32::MIN] {
        let mut packets = Packets::new(100);
        let mut head = hex("00000002 0000000100000001");
        head.extend_from_slice(&length.to_be_bytes());
        packets.receive(head.into());
        let error = Error::Data { length, max: 100 };
        assert_eq!(packets.next(), Err(error));
        // Nothing after it is taken for a packet.
        packets.receive(Packet::new(PacketType::PING, Zxid(0)).to_bytes());
        assert_eq!(packets.next(), Err(error));
    }
    let error = Error::Data {
        length: 101,
        max: 100,
    };
    assert_eq!(
        error.to_string(),
        "a packet's data has a length of 101, the limit is 100"
    );
    let mut packets = Packets::new(100);
    packets.receive(Packet::with_data(PacketType::PROPOSAL, Zxid(1), vec![0; 100]).to_bytes());
    assert!(packets.next().unwrap().is_some(), "at the limit");
}

#[test]
fn ids_over_the_limits_are_refused_before_they_come() {
    let head = hex("00000001 ffffffffffffffff ffffffff");
    for count in [IDS_MAX as i32 + 1, i32::MAX, -2] {
        let mut packets = Packets::default();
        packets.receive([&head[..], &count.to_be_bytes()].concat().into());
        let max = IDS_MAX;
        assert_eq!(packets.next(), Err(Error::Ids { count, max }));
    }
    let half = IDS_BYTES_MAX as i32 / 2;
    let id = vec![b'a'; half as usize];
    let one = [&head[..], &hex("00000001"), &half.to_be_bytes(), &id].concat();
    for length in [half + 1, i32::MAX, -2] {
        let mut packets = Packets::default();
        packets.receive([&one[..], &length.to_be_bytes()].concat().into());
        let max = half as usize;
        assert_eq!(packets.next(), Err(Error::Name { length, max }));
    }
    let mut packets = Packets::default();
    packets.receive([&one[..], &half.to_be_bytes(), &id].concat().into());
    assert!(packets.next().unwrap().is_some(), "at the limit");
}

#[test]
fn the_limit_of_a_java_server_is_the_default() {
    let mut packets = Packets::default();
    let length = DATA_BYTES_MAX as i32 + 1;
    let head = [&hex("00000002 0000000100000001")[..], &length.to_be_bytes()].concat();
    packets.receive(head.into());
    let max = DATA_BYTES_MAX;
    assert_eq!(packets.next(), Err(Error::Data { length, max }));
}
