//! How much of its learners' requests a leader takes.

#![expect(
    clippy::unwrap_used,
    reason = "a test may stop at what it did not expect"
)]

use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::ids::{Epoch, LinkId, ServerId, SessionId, Xid, Zxid};
use crate::jute;
use crate::link::{LinkInput, Port};
use crate::server::alone::{Alone, open_session};
use crate::server::config::FourLetterWords;
use crate::server::{EnsembleConfig, Input};
use crate::wire::client::OpCode;
use crate::wire::quorum::{AckEpoch, Forwarded, LearnerInfo, PROTOCOL, Packet, PacketType};
use crate::wire::records::{Acl, Id, Perms};

const LEARNER: LinkId = LinkId(7);
const SESSION: SessionId = SessionId(0x200_0000_0000_0001);
const MIB: usize = 1 << 20;
const SEQUENTIAL: i32 = 2;
/// What a leader has in hand at most, of one learner or of all, in requests of a mebibyte.
const REQUESTS_MAX: usize = 256;

fn say(alone: &mut Alone, packet: &Packet) {
    alone.step([Input::Link(LEARNER, LinkInput::Received(packet.to_bytes()))]);
}

/// Leads with an observer in step.
fn leading() -> Alone {
    let config = EnsembleConfig {
        leader_serves: true,
        ..EnsembleConfig::default()
    };
    let mut alone = Alone::new(1, config, FourLetterWords::All);
    alone.pass(1000);
    let peer = ([127, 0, 0, 1], 30_000).into();
    let port = Port::Quorum;
    alone.step([Input::Link(LEARNER, LinkInput::Opened { port, peer })]);
    let info = LearnerInfo {
        server: ServerId(2),
        protocol: PROTOCOL,
        config_version: 0,
    };
    let observer = PacketType::OBSERVER_INFO;
    let hello = Packet::with_data(observer, Zxid::ZERO, info.to_bytes());
    say(&mut alone, &hello);
    let answer = AckEpoch {
        current: Some(Epoch(0)),
    };
    let promise = Packet::with_data(PacketType::ACK_EPOCH, Zxid::ZERO, answer.to_bytes());
    say(&mut alone, &promise);
    say(&mut alone, &Packet::new(PacketType::ACK, Epoch(1).start()));
    let synced = alone
        .events
        .iter()
        .any(|event| event.contains("LearnerSynced"));
    assert!(synced, "{:?}", alone.events);
    alone
}

fn request(op: OpCode, body: &[u8]) -> Packet {
    let forwarded = Forwarded {
        session: SESSION,
        cxid: Xid(1),
        op,
        body,
    };
    Packet {
        ids: Some(Vec::new()),
        ..Packet::with_data(PacketType::REQUEST, Zxid(-1), forwarded.to_bytes())
    }
}

/// A create whose data is almost as long as it may be.
fn create() -> Packet {
    let data = Bytes::from(vec![1; MIB - 200]);
    let acl = vec![Acl::anyone(Perms::ALL)];
    let mut body = jute::to_vec(&("/x", serde_bytes::Bytes::new(&data)));
    jute::append(&mut body, &(acl, SEQUENTIAL));
    request(OpCode::CREATE, &body)
}

/// Sends so many, until the connection is closed.
fn sent_until_closed(alone: &mut Alone, packet: &Packet, max: usize) -> usize {
    for count in 0..max {
        if !alone.closed.is_empty() {
            return count;
        }
        say(alone, packet);
    }
    max
}

#[test]
fn learner_whose_requests_wait_behind_its_sync_without_end_is_dropped() {
    let mut alone = leading();
    // The sync waits for what was proposed before it.
    alone.stalled = true;
    alone.receive(LinkId(1), &open_session());
    say(&mut alone, &request(OpCode::SYNC, &jute::to_vec("/")));
    let most = sent_until_closed(&mut alone, &create(), 2 * REQUESTS_MAX);
    assert_eq!(
        (alone.closed.as_slice(), most),
        (&[LEARNER][..], REQUESTS_MAX)
    );
    let said = alone.events.pop().unwrap();
    assert!(
        said.contains("bytes of its requests wait behind its sync"),
        "{said}"
    );
}

#[test]
fn learner_whose_requests_outrun_the_store_is_dropped() {
    let mut alone = leading();
    say(
        &mut alone,
        &request(OpCode::CREATE_SESSION, &jute::to_vec(&30_000_i32)),
    );
    alone.stalled = true;
    let most = sent_until_closed(&mut alone, &create(), 2 * REQUESTS_MAX);
    assert_eq!(alone.closed, [LEARNER]);
    // A transaction has more bytes than its request, or fewer.
    assert!(most.abs_diff(REQUESTS_MAX) <= 2, "{most}");
    let said = alone.events.pop().unwrap();
    let reason = "bytes of transactions wait to be stored, and it asks for more";
    assert!(said.contains(reason), "{said}");
}

/// A learner's client has shown who it is: with the next learner, too, its session is nobody
/// else's.
#[test]
fn leader_remembers_whose_a_learners_session_is() {
    let mut alone = leading();
    let by = |scheme: &str, op, body: &[u8]| {
        let ids = vec![Id {
            scheme: scheme.into(),
            id: "bob".into(),
        }];
        Packet {
            ids: Some(ids),
            ..request(op, body)
        }
    };
    let create = |path: &str| {
        let mut body = jute::to_vec(&(path, serde_bytes::Bytes::new(b"")));
        jute::append(&mut body, &(vec![Acl::anyone(Perms::ALL)], 0_i32));
        body
    };
    let timeout = jute::to_vec(&30_000_i32);
    say(&mut alone, &request(OpCode::CREATE_SESSION, &timeout));
    for (scheme, path, may) in [
        ("ip", "/before", true),
        ("sasl", "/own", true),
        ("ip", "/other", false),
        ("x509", "/another", false),
        ("sasl", "/again", true),
    ] {
        say(&mut alone, &by(scheme, OpCode::CREATE, &create(path)));
        let made = alone.server.tree().find(path).is_some();
        assert_eq!(made, may, "{path}");
    }
    say(&mut alone, &by("ip", OpCode::CLOSE_SESSION, &[]));
    assert_eq!(alone.server.tree().sessions().count(), 1);
    say(&mut alone, &by("sasl", OpCode::CLOSE_SESSION, &[]));
    assert_eq!(alone.server.tree().sessions().count(), 0);
}
