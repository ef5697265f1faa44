//! Sessions: who has which, how long, and what is left of them.

use bytes::Bytes;
use zabra_core::ids::{LinkId, SessionId, UnixMillis, Xid, Zxid};
use zabra_core::jute::{append, to_vec};
use zabra_core::link::LinkInput;
use zabra_core::server::config::FourLetterWords;
use zabra_core::server::{Config, Event, Input, Recovered, SnapshotOp};
use zabra_core::store::Restore as _;
use zabra_core::tree::Loader;
use zabra_core::wire::client::{OpCode, ReadRequest};
use zabra_core::wire::txn::{self, Txn, TxnHeader};

use crate::bench::{A, B, Bench, connect, create, create_with, entry, get, ping, request};

fn ephemeral(xid: i32, path: &str) -> Vec<u8> {
    create_with(xid, path, b"", vec![entry(31, "world", "anyone")], 1)
}

fn with_words() -> Bench {
    Bench::with(Config {
        four_letter_words: FourLetterWords::All,
        ..Config::default()
    })
}

/// What the server answers to a word.
fn word(bench: &mut Bench, link: LinkId, word: &'static str) -> String {
    bench.open(link);
    let bytes = Bytes::from_static(word.as_bytes());
    bench.step([Input::Link(link, LinkInput::Received(bytes))]);
    let facts = Input::Facts(link, zabra_core::server::HostFacts::default());
    bench.step([facts]);
    String::from_utf8(bench.received[&link].clone()).unwrap()
}

#[test]
fn nothing_is_done_for_a_session_after_its_end() {
    let mut bench = Bench::with_two_clients();
    let close = request(1, OpCode::CLOSE_SESSION, &());
    bench.send(A, &[close, ephemeral(2, "/a"), ping()]);
    let listed = bench.txns.len();
    bench.store();
    assert_eq!(bench.answers(A), [1]);
    assert!(bench.closed.contains(&A));
    assert_eq!(bench.txns.len(), listed);
    assert_eq!(bench.server.tree().find("/a"), None);
}

#[test]
fn the_end_of_a_session_lists_what_it_owns_applied_or_not() {
    let mut bench = Bench::with_two_clients();
    bench.send(A, &[ephemeral(1, "/a"), ephemeral(2, "/b")]);
    bench.store();
    let close = request(5, OpCode::CLOSE_SESSION, &());
    bench.send(
        A,
        &[ephemeral(3, "/c"), crate::bench::delete(4, "/a"), close],
    );
    let (_, txn, _) = txn::decode(bench.txns.last().unwrap()).unwrap();
    let paths = Some(vec!["/b".into(), "/c".into()]);
    assert_eq!(txn, Txn::CloseSession { paths });
    bench.store();
    assert_eq!(bench.server.tree().ephemeral_count(), 0);
}

#[test]
fn no_session_gets_the_id_of_one_that_lives() {
    let mut loader = Loader::new(0, true);
    let id = SessionId(0x0100_0000_0000_0000);
    let header = TxnHeader {
        client: id,
        cxid: Xid(0),
        zxid: Zxid(1),
        time: UnixMillis(0),
        op: OpCode::CREATE_SESSION,
    };
    let mut txn = to_vec(&header);
    append(&mut txn, &30_000);
    loader.txn(&txn).unwrap();
    let bench = Bench::over(loader);
    let ids: Vec<i64> = bench.server.tree().sessions().map(|(id, _)| id.0).collect();
    assert_eq!(ids, [id.0, id.0 + 1, id.0 + 2]);
}

#[test]
fn a_session_that_ended_is_counted_no_more() {
    let mut bench = with_words();
    assert!(word(&mut bench, LinkId(8), "mntr").contains("zk_global_sessions\t2\n"));
    bench.send(A, &[request(1, OpCode::CLOSE_SESSION, &())]);
    bench.store();
    assert!(word(&mut bench, LinkId(9), "mntr").contains("zk_global_sessions\t1\n"));
}

#[test]
fn the_watches_of_a_connection_go_with_it() {
    let mut bench = with_words();
    let read = ReadRequest {
        path: "/".into(),
        watch: true,
    };
    bench.send(A, &[request(1, OpCode::EXISTS, &read)]);
    assert!(word(&mut bench, LinkId(8), "wchs").contains("Total watches:1"));
    bench.step([Input::Link(A, LinkInput::Closed)]);
    assert!(word(&mut bench, LinkId(9), "wchs").contains("Total watches:0"));
}

#[test]
fn nobody_is_served_before_there_is_a_snapshot() {
    let recovered = Recovered::default();
    let mut bench = Bench::recovered(Config::default(), Loader::new(0, true), recovered);
    bench.open(A);
    bench.send(A, &[connect(30_000)]);
    assert!(bench.closed.contains(&A));
    assert!(bench.received.is_empty());
    assert_eq!(bench.snapshot.last(), Some(&SnapshotOp::End));
    let zxid = Zxid::ZERO;
    bench.step([Input::SnapshotStored { zxid }]);
    bench.open(B);
    bench.send(B, &[connect(30_000)]);
    bench.store();
    assert_eq!(bench.frames(B).len(), 1);
}

#[test]
fn a_sync_waits_for_what_others_wrote_before_it_and_no_longer() {
    let mut bench = Bench::with_two_clients();
    bench.send(A, &[create(1, "/a", b"")]);
    let own = bench.seq;
    bench.send(B, &[create(1, "/b", b"")]);
    bench.send(A, &[request(2, OpCode::SYNC, "/")]);
    bench.step([Input::Stored { upto: own }]);
    assert_eq!(bench.answers(A), [1]);
    bench.store();
    assert_eq!(bench.answers(A), [2]);
}

#[test]
fn a_session_does_not_expire_while_it_waits_for_the_store() {
    let mut bench = Bench::with_two_clients();
    let mut frames = vec![create(1, "/a", b"")];
    frames.extend((0..40).map(|_| ping()));
    bench.send(A, &frames);
    assert!(bench.paused.contains(&A));
    for _ in 0..10 {
        bench.wait_ms(20_000);
        bench.send(B, &[ping()]);
    }
    bench.store();
    assert_eq!(bench.frames(A).len(), 41);
}

#[test]
fn a_session_that_waited_for_the_store_expires_when_its_client_is_gone() {
    let mut bench = Bench::with_two_clients();
    let mut frames = vec![create(1, "/a", b"")];
    frames.extend((0..40).map(|_| ping()));
    bench.send(A, &frames);
    for _ in 0..2 {
        bench.wait_ms(20_000);
        bench.send(B, &[ping()]);
    }
    let expired = |event: &Event| matches!(event, Event::SessionExpired { .. });
    assert!(!bench.events.iter().any(expired));
    bench.step([Input::Link(A, LinkInput::Closed)]);
    for _ in 0..3 {
        bench.wait_ms(20_000);
        bench.send(B, &[ping()]);
    }
    assert!(bench.events.iter().any(expired));
}

#[test]
fn the_server_asks_for_its_turn_when_a_session_or_a_handshake_is_late() {
    let mut bench = Bench::with_two_clients();
    let expiry = bench.now.instant.plus_ms(33_000);
    bench.wait_ms(10_000);
    assert_eq!(bench.wake, Some(expiry));
    bench.open(LinkId(3));
    let deadline = bench.now.instant.plus_ms(10_000);
    assert_eq!(bench.wake, Some(deadline));
    bench.wait_ms(10_000);
    assert!(bench.closed.contains(&LinkId(3)));
    assert_eq!(bench.wake, Some(expiry));
}

#[test]
fn a_session_expires_while_the_server_waits_for_its_client_to_read() {
    let mut bench = Bench::with_two_clients();
    bench.send(A, &[create(1, "/a", &[b'x'; 900_000])]);
    bench.store();
    let reads = (3..6).map(|xid| get(xid, "/a"));
    let frames: Vec<_> = core::iter::once(create(2, "/b", b""))
        .chain(reads)
        .collect();
    bench.send(A, &frames);
    bench.store();
    bench.send(A, &[ping()]);
    assert!(bench.paused.contains(&A));
    for _ in 0..10 {
        bench.wait_ms(20_000);
        bench.send(B, &[ping()]);
    }
    let expired = |event: &Event| matches!(event, Event::SessionExpired { .. });
    assert_eq!(
        bench.events.iter().filter(|event| expired(event)).count(),
        1
    );
}

#[test]
fn what_a_client_sends_keeps_its_session_though_its_turn_has_not_come() {
    let mut bench = Bench::with_two_clients();
    bench.send(A, &[create(1, "/a", &[b'x'; 900_000])]);
    bench.store();
    bench.send(A, &[get(2, "/a"), get(3, "/a"), ping()]);
    assert!(bench.paused.contains(&A));
    for _ in 0..10 {
        bench.wait_ms(20_000);
        bench.send(A, &[ping()]);
        bench.send(B, &[ping()]);
    }
    let expired = |event: &Event| matches!(event, Event::SessionExpired { .. });
    assert!(!bench.events.iter().any(expired));
}

#[test]
fn a_client_that_tries_sasl_is_told_that_there_is_none() {
    let mut bench = Bench::with_two_clients();
    bench.send(A, &[request(1, OpCode::SASL, &-1_i32)]);
    let frames = bench.frames(A);
    let mut expected = vec![0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    expected.extend_from_slice(&[0xff; 4]);
    assert_eq!(frames, [expected]);
}
