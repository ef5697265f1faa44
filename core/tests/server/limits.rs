//! How much one client, or all of them, may ask for before the server reads on.

use zabra_core::error::ErrorCode;
use zabra_core::ids::{LinkId, Xid};
use zabra_core::jute::{append, to_vec};
use zabra_core::link::LinkInput;
use zabra_core::server::{Config, Input};
use zabra_core::wire::client::{MultiHeader, OpCode, RequestHeader, WatchRequest};

use crate::bench::{A, B, Bench, connect, create, get, ping, request};

const C: LinkId = LinkId(3);

fn creates(range: core::ops::Range<i32>) -> Vec<Vec<u8>> {
    range.map(|n| create(n, &format!("/{n}"), b"")).collect()
}

#[test]
fn thirty_two_reads_may_wait_for_a_write() {
    let mut bench = Bench::with_two_clients();
    let mut frames = vec![create(1, "/a", b"")];
    frames.extend((0..32).map(|_| ping()));
    bench.send(A, &frames);
    assert!(!bench.paused.contains(&A));
    bench.send(A, &[ping()]);
    assert!(bench.paused.contains(&A));
    bench.store();
    assert_eq!(bench.unread(A).len(), 34, "nothing more was needed");
    assert!(!bench.paused.contains(&A));
}

#[test]
fn four_thousand_and_ninety_six_writes_may_be_in_flight() {
    let mut bench = Bench::with(Config {
        outstanding_max: 10_000,
        ..Config::default()
    });
    let before = bench.txns.len();
    bench.send(A, &creates(0..4096));
    assert!(!bench.paused.contains(&A));
    bench.send(A, &creates(4096..4097));
    assert!(bench.paused.contains(&A));
    assert_eq!(bench.txns.len(), before + 4096);
    bench.store();
    assert!(!bench.paused.contains(&A));
    assert_eq!(bench.txns.len(), before + 4097);
}

#[test]
fn answers_to_a_client_that_does_not_read_are_not_piled_up() {
    let mut bench = Bench::with_two_clients();
    bench.send(A, &[create(0, "/a", &[b'x'; 900_000])]);
    bench.store();
    let reads: Vec<_> = (1..50).map(|xid| get(xid, "/a")).collect();
    bench.send(A, &reads);
    assert!(bench.paused.contains(&A));
    assert!(bench.received[&A].len() < 2 << 20);
    let mut xids = Vec::new();
    while xids.len() < 50 {
        let some = bench.answers(A);
        assert!(!some.is_empty());
        xids.extend(some);
    }
    assert_eq!(xids, (0..50).collect::<Vec<_>>());
    assert!(!bench.paused.contains(&A));
}

#[test]
fn a_client_that_reads_no_notifications_is_closed() {
    let mut bench = Bench::with_two_clients();
    let watch = WatchRequest {
        path: "/".into(),
        kind: 1,
    };
    bench.send(B, &[request(1, OpCode::ADD_WATCH, &watch)]);
    for xid in 0..80 {
        let path = format!("/{xid}{}", "x".repeat(900_000));
        bench.send(A, &[create(xid, &path, b"")]);
        bench.store();
        bench.frames(A);
    }
    assert!(bench.closed.contains(&B));
    assert!(bench.received[&B].len() < 66 << 20);
    assert!(!bench.closed.contains(&A));
}

#[test]
fn above_the_global_limit_only_those_without_requests_in_flight_are_read() {
    let mut bench = Bench::with(Config {
        outstanding_max: 3,
        ..Config::default()
    });
    let before = bench.txns.len();
    bench.send(A, &creates(0..6));
    assert_eq!(bench.txns.len(), before + 4);
    assert!(bench.paused.contains(&A));
    bench.send(B, &[ping(), create(1, "/b", b""), ping()]);
    assert_eq!(bench.txns.len(), before + 5);
    assert_eq!(bench.answers(B), [-2]);
    assert!(bench.paused.contains(&B));
    bench.store();
    assert_eq!(bench.unread(B).len(), 2);
    assert_eq!(bench.txns.len(), before + 7);
    assert!(bench.paused.is_empty());
}

#[test]
fn below_the_global_limit_those_are_read_on_that_still_have_requests_in_flight() {
    let mut bench = Bench::with(Config {
        outstanding_max: 3,
        ..Config::default()
    });
    bench.send(B, &creates(0..3));
    let of_b = bench.seq;
    bench.send(A, &creates(3..5));
    let before = bench.txns.len();
    assert!(bench.paused.contains(&A));
    bench.step([Input::Stored { upto: of_b }]);
    assert_eq!(bench.unread(A).len(), 0);
    assert_eq!(bench.txns.len(), before + 1);
}

#[test]
fn requests_of_connections_that_are_gone_are_not_in_flight() {
    let mut bench = Bench::with(Config {
        outstanding_max: 1,
        ..Config::default()
    });
    bench.send(A, &creates(0..2));
    bench.step([Input::Link(A, LinkInput::Closed)]);
    let before = bench.txns.len();
    bench.send(B, &creates(2..4));
    assert_eq!(bench.txns.len(), before + 2);
}

#[test]
fn an_address_has_no_more_connections_than_it_may_and_gets_back_what_it_closes() {
    for config in [
        Config {
            connections_per_address_max: 2,
            ..Config::default()
        },
        Config {
            connections_max: 2,
            ..Config::default()
        },
    ] {
        let mut bench = Bench::with(config);
        assert!(bench.closed.is_empty());
        bench.open(C);
        assert!(bench.closed.contains(&C));
        bench.step([Input::Link(A, LinkInput::Closed)]);
        bench.open(LinkId(4));
        assert!(!bench.closed.contains(&LinkId(4)));
    }
}

#[test]
fn a_first_frame_may_not_be_long() {
    let mut bench = Bench::with_two_clients();
    for (length, is_closed) in [(4096, false), (4097, true)] {
        let link = LinkId(length);
        bench.open(link);
        let head = u32::try_from(length).unwrap().to_be_bytes();
        let bytes = bytes::Bytes::copy_from_slice(&head);
        bench.step([Input::Link(link, LinkInput::Received(bytes))]);
        assert_eq!(bench.closed.contains(&link), is_closed, "{length}");
    }
}

#[test]
fn what_comes_with_the_request_for_a_session_is_answered_after_it() {
    let mut bench = Bench::with_two_clients();
    bench.open(C);
    bench.send(C, &[connect(30_000), ping()]);
    bench.store();
    assert_eq!(bench.unread(C).len(), 2, "nothing more was needed");
}

#[test]
fn many_reads_in_one_have_a_bounded_answer() {
    let mut bench = Bench::with_two_clients();
    bench.send(A, &[create(0, "/a", &[b'x'; 900_000])]);
    bench.store();
    bench.frames(A);
    for (count, error) in [(4, 0), (5, ErrorCode::MARSHALLING_ERROR.0)] {
        let op = OpCode::MULTI_READ;
        let mut reads = to_vec(&RequestHeader { xid: Xid(1), op });
        for _ in 0..count {
            append(&mut reads, &(OpCode::GET_DATA, false, -1, "/a", false));
        }
        append(&mut reads, &MultiHeader::END);
        bench.send(A, &[reads]);
        assert_eq!(bench.error(A), error, "{count}");
    }
}
