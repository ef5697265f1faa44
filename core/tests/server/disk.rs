//! What a server refuses while its disk is nearly full.

use zabra_core::error::ErrorCode;
use zabra_core::ids::LinkId;
use zabra_core::jute::take;
use zabra_core::server::{Config, DiskRoom, Input};
use zabra_core::wire::client::{CreateRequest, OpCode, ReplyHeader};

use crate::bench::{A, B, Bench, connect, create, delete, entry, get, ping, request};

const FULL: i32 = ErrorCode::QUOTA_EXCEEDED.0;

fn low(bench: &mut Bench, low: bool) {
    // Nobody is there to whom it could leave leading.
    bench.step([Input::Disk(DiskRoom { low, resign: true })]);
}

fn errors(bench: &mut Bench) -> Vec<i32> {
    let frames = bench.frames(A);
    let headers = frames
        .iter()
        .map(|frame| take::<ReplyHeader>(&mut &**frame));
    headers.map(|header| header.unwrap().error).collect()
}

#[test]
fn writes_are_refused_without_a_transaction_until_there_is_room() {
    let mut bench = Bench::with_two_clients();
    bench.send(A, &[create(1, "/a", b"")]);
    bench.store();
    bench.frames(A);
    let before = bench.txns.len();
    low(&mut bench, true);
    bench.send(A, &[create(2, "/b", b""), delete(3, "/a"), get(4, "/a")]);
    assert_eq!(errors(&mut bench), [FULL, FULL, 0]);
    assert_eq!(bench.txns.len(), before);
    low(&mut bench, false);
    bench.send(A, &[create(5, "/b", b"")]);
    bench.store();
    assert_eq!(errors(&mut bench), [0]);
}

#[test]
fn what_was_proposed_before_is_done_and_answered_first() {
    let mut bench = Bench::with_two_clients();
    bench.send(A, &[create(1, "/a", b"")]);
    low(&mut bench, true);
    bench.send(A, &[create(2, "/b", b""), get(3, "/a")]);
    assert_eq!(errors(&mut bench), [0; 0], "in the order of the requests");
    bench.store();
    assert_eq!(errors(&mut bench), [0, FULL, 0]);
}

#[test]
fn sessions_begin_and_end_all_the_same() {
    let mut bench = Bench::with_two_clients();
    low(&mut bench, true);
    let link = LinkId(3);
    bench.open(link);
    bench.send(link, &[connect(30_000)]);
    bench.store();
    assert_eq!(bench.frames(link).len(), 1);
    bench.send(link, &[request(1, OpCode::CLOSE_SESSION, &())]);
    bench.store();
    assert!(bench.closed.contains(&link));
}

#[test]
fn containers_wait_for_room_and_nobody_is_kept_busy_by_that() {
    let mut bench = Bench::with(Config {
        container_never_used_ms_max: 1000,
        ..Config::default()
    });
    let body = CreateRequest {
        path: "/c".into(),
        data: None,
        acl: vec![entry(31, "world", "anyone")],
        flags: 4,
    };
    bench.send(A, &[request(1, OpCode::CREATE_CONTAINER, &body)]);
    bench.store();
    low(&mut bench, true);
    for _ in 0..10 {
        // The clients stay alive.
        bench.send(A, &[ping()]);
        bench.send(B, &[ping()]);
        bench.wait_ms(10_000);
        let wake = bench.wake.unwrap();
        assert!(wake > bench.now.instant, "{wake:?}");
    }
    bench.store();
    assert!(bench.server.tree().find("/c").is_some());
    low(&mut bench, false);
    bench.store();
    assert!(bench.server.tree().find("/c").is_none());
}
