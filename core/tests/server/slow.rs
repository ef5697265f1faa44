//! Clients that are slow, greedy or unlucky.

use bytes::Bytes;
use zabra_core::Machine as _;
use zabra_core::error::ErrorCode;
use zabra_core::ids::{SessionId, UnixMillis, Xid, Zxid};
use zabra_core::jute::{append, take, to_vec};
use zabra_core::link::LinkInput;
use zabra_core::machine::Now;
use zabra_core::server::{Config, Input, Output, Recovered, Server, SnapshotOp};
use zabra_core::store::Restore as _;
use zabra_core::tree::Loader;
use zabra_core::wire::client::{MultiHeader, OpCode, ReplyHeader, RequestHeader};
use zabra_core::wire::txn::{CreateKind, Txn, TxnHeader, append_body};

use crate::bench::{A, B, Bench, auth, create, create_with, data, entry, get, request, set};

#[test]
fn a_sync_that_waits_for_another_connection_is_answered_before_the_write_after_it() {
    let mut bench = Bench::with_two_clients();
    bench.send(B, &[create(1, "/b", b"")]);
    let sync = request(1, OpCode::SYNC, "/");
    bench.send(A, &[sync, create(2, "/a", b""), get(3, "/a")]);
    bench.store();
    assert_eq!(bench.answers(A), [1, 2, 3]);
}

#[test]
fn writes_wait_outside_while_the_store_has_much_in_hand() {
    let mut bench = Bench::with_two_clients();
    let before = bench.seq.0;
    for xid in 1..=200 {
        bench.send(A, &[create(xid, &format!("/{xid}"), &[b'x'; 1_000_000])]);
    }
    let proposed = bench.seq.0 - before;
    assert!((60..80).contains(&proposed), "{proposed} megabytes");
    // Others have nothing in flight and are served.
    bench.send(B, &[get(1, "/")]);
    assert_eq!(bench.answers(B), [1]);
    let mut answers = Vec::new();
    while answers.len() < 200 {
        bench.store();
        let more = bench.answers(A);
        assert!(!more.is_empty(), "it goes on when the store does");
        answers.extend(more);
    }
    assert!(answers.into_iter().eq(1..=200));
}

#[test]
fn reads_that_wait_for_a_slow_reader_are_answered_before_the_write_after_them() {
    let mut bench = Bench::with_two_clients();
    bench.send(A, &[create(1, "/a", &[b'x'; 900_000])]);
    bench.store();
    bench.send(
        A,
        &[
            create(2, "/b", b""),
            get(3, "/a"),
            get(4, "/a"),
            get(5, "/a"),
            set(6, "/a"),
            get(7, "/a"),
        ],
    );
    bench.store();
    let mut frames = Vec::new();
    // Long answers are given one by one, and the write after them is proposed only then.
    loop {
        bench.store();
        match bench.frames(A) {
            none if none.is_empty() => break,
            some => frames.extend(some),
        }
    }
    let xids: Vec<_> = frames.iter().map(|frame| frame[3]).collect();
    assert_eq!(xids, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(
        data(&frames[4]).len(),
        900_000,
        "a read sees nothing of a later write"
    );
    assert_eq!(data(&frames[6]), b"new");
}

#[test]
fn reads_that_wait_for_a_slow_reader_go_on_when_it_has_read() {
    let mut bench = Bench::with_two_clients();
    bench.send(A, &[create(1, "/a", &[b'x'; 900_000])]);
    bench.store();
    bench.send(
        A,
        &[
            create(2, "/b", b""),
            get(3, "/a"),
            get(4, "/a"),
            get(5, "/a"),
        ],
    );
    bench.store();
    assert_eq!(bench.answers(A), [1, 2, 3, 4]);
    assert_eq!(bench.answers(A), [5]);
}

#[test]
fn reads_that_wait_for_a_slow_reader_go_on_though_it_sends_something_too() {
    let mut bench = Bench::with_two_clients();
    bench.send(A, &[create(1, "/a", &[b'x'; 900_000])]);
    bench.store();
    let reads = (3..6).map(|xid| get(xid, "/a"));
    let frames: Vec<_> = core::iter::once(create(2, "/b", b""))
        .chain(reads)
        .collect();
    bench.send(A, &frames);
    bench.store();
    let bytes = bench.received[&A].len();
    bench.step([
        Input::Link(A, LinkInput::Flushed(bytes)),
        Input::Link(A, LinkInput::Received(Bytes::from_static(b"\0"))),
    ]);
    assert_eq!(bench.answers(A), [1, 2, 3, 4, 5]);
}

#[test]
fn a_session_with_more_ephemerals_than_a_record_can_list_is_closed_all_the_same() {
    let mut bench = Bench::with_two_clients();
    for xid in 1..=5 {
        let path = format!("/{xid}{}", "x".repeat(500_000));
        let anyone = vec![entry(31, "world", "anyone")];
        bench.send(A, &[create_with(xid, &path, b"", anyone, 1)]);
    }
    bench.store();
    assert_eq!(bench.server.tree().ephemeral_count(), 5);
    assert_eq!(bench.frames(A).len(), 5);
    bench.send(A, &[request(6, OpCode::CLOSE_SESSION, &())]);
    bench.store();
    assert_eq!(bench.server.tree().ephemeral_count(), 0);
    assert!(bench.txns.last().unwrap().len() < 1 << 20);
}

#[test]
fn an_acl_does_not_multiply_a_clients_identities_without_bound() {
    let mut bench = Bench::with_two_clients();
    for user in 0..100 {
        bench.send(A, &[auth(&format!("{user}:password"))]);
    }
    assert_eq!(bench.frames(A).len(), 100);
    let acl = (0..60_000).map(|perms| entry(perms, "auth", "")).collect();
    bench.send(A, &[create_with(1, "/a", b"", acl, 0)]);
    bench.store();
    assert_eq!(bench.error(A), ErrorCode::INVALID_ACL.0);
    let acl = (0..100).map(|perms| entry(perms, "auth", "")).collect();
    bench.send(A, &[create_with(2, "/a", b"", acl, 0)]);
    bench.store();
    assert_eq!(bench.error(A), 0);
}

#[test]
fn a_connection_with_too_many_identities_is_closed() {
    let mut bench = Bench::with_two_clients();
    for user in 0..1000 {
        bench.send(A, &[auth(&format!("{user}:password"))]);
    }
    assert_eq!(bench.server.connection_count(), 1);
    let frames = bench.frames(A);
    assert!(frames.len() > 100);
    let last = take::<ReplyHeader>(&mut &**frames.last().unwrap()).unwrap();
    assert_eq!(last.error, ErrorCode::AUTH_FAILED.0);
}

#[test]
fn a_server_alone_counts_on_after_two_to_the_32_transactions() {
    let mut loader = Loader::new(0, true);
    let header = TxnHeader {
        client: SessionId::NONE,
        cxid: Xid(0),
        zxid: Zxid(0xffff_fffc),
        time: UnixMillis(0),
        op: OpCode::ERROR,
    };
    let mut txn = to_vec(&header);
    append(&mut txn, &ErrorCode::NO_NODE);
    loader.txn(&txn).unwrap();
    let mut bench = Bench::over(loader);
    bench.send(A, &[create(1, "/a", b""), create(2, "/b", b"")]);
    bench.store();
    assert_eq!(bench.answers(A), [1, 2]);
    // 0xffffffff and 0x100000000 are nobody's: an epoch begins with its first transaction.
    assert_eq!(bench.server.tree().last_zxid(), Zxid(0x1_0000_0002));
}

#[test]
fn a_server_that_deleted_orphans_writes_a_snapshot_before_it_serves() {
    let mut loader = Loader::new(0, true);
    let header = TxnHeader {
        client: SessionId(5),
        cxid: Xid(1),
        zxid: Zxid(1),
        time: UnixMillis(0),
        op: OpCode::CREATE,
    };
    let create = Txn::Create {
        path: "/orphan".into(),
        data: None,
        acl: Vec::new(),
        kind: CreateKind::Ephemeral,
        parent_cversion: 1,
    };
    let mut txn = to_vec(&header);
    append_body(&mut txn, &create);
    loader.txn(&txn).unwrap();
    let recovered = Recovered {
        snapshot: true,
        ..Recovered::default()
    };
    let mut server = Server::new(Config::default(), loader, recovered, 0, Now::default());
    let mut outputs = Vec::new();
    server.step(Now::default(), &mut Vec::new(), &mut outputs);
    let begin = Output::Snapshot(SnapshotOp::Begin { zxid: Zxid(1) });
    assert!(outputs.contains(&begin));
    assert_eq!(server.tree().find("/orphan"), None);
}

#[test]
fn a_client_that_asks_for_more_than_it_reads_waits() {
    let mut bench = Bench::with_two_clients();
    bench.send(A, &[create(1, "/a", &[b'x'; 900_000])]);
    bench.store();
    assert_eq!(bench.frames(A).len(), 1);
    let op = OpCode::MULTI_READ;
    let mut reads = to_vec(&RequestHeader { xid: Xid(2), op });
    for _ in 0..50 {
        append(&mut reads, &(OpCode::GET_DATA, false, -1, "/a", false));
    }
    append(&mut reads, &MultiHeader::END);
    let mut frames = vec![create(2, "/b", b"")];
    frames.extend(core::iter::repeat_n(reads, 20));
    frames.push(set(3, "/a"));
    bench.send(A, &frames);
    bench.store();
    assert_eq!(bench.server.connection_count(), 2);
    assert!(bench.received[&A].len() < 16 << 20);
}
