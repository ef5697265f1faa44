//! What a server refuses when the state has grown to what it may take (`zabra.treeBytesMax`).

use zabra_core::error::ErrorCode;
use zabra_core::ids::LinkId;
use zabra_core::jute::{append, take, to_vec};
use zabra_core::server::{Config, Event};
use zabra_core::tree::Tree;
use zabra_core::wire::client::{
    CreateRequest, MultiHeader, OpCode, PathVersion, ReplyHeader, RequestHeader, SetDataRequest,
};

use crate::bench::{A, B, Bench, connect, create, create_with, delete, entry, request};

const FULL: i32 = ErrorCode::QUOTA_EXCEEDED.0;

/// A server whose tree may take so much beside that of a new server with two sessions and one list
/// of ACLs.
fn with_room(bytes: u64) -> Bench {
    let mut bench = Bench::with(Config::default());
    bench.send(A, &[create(1, "/x", b"")]);
    bench.store();
    let node = bench.server.tree().memory();
    bench.send(A, &[delete(2, "/x")]);
    bench.store();
    let acl = node - bench.server.tree().memory() - node_memory("/x", 0);
    let used = bench.server.tree().memory();
    Bench::with(Config {
        tree_bytes_max: used + acl + bytes,
        ..Config::default()
    })
}

/// What a znode takes, measured.
fn node_memory(path: &str, data_bytes: usize) -> u64 {
    let mut bench = Bench::with(Config::default());
    bench.send(A, &[create(1, "/other", b"")]);
    bench.store();
    let before = bench.server.tree().memory();
    bench.send(A, &[create(2, path, &vec![0; data_bytes])]);
    bench.store();
    bench.server.tree().memory() - before
}

fn set(xid: i32, path: &str, bytes: usize) -> Vec<u8> {
    let data = vec![0; bytes];
    let body = SetDataRequest {
        path: path.into(),
        data: Some(&data),
        version: -1,
    };
    request(xid, OpCode::SET_DATA, &body)
}

fn outcome(bench: &mut Bench, frame: Vec<u8>) -> i32 {
    bench.send(A, &[frame]);
    bench.store();
    bench.error(A)
}

fn check(tree: &Tree) {
    assert_eq!(tree.memory(), tree.recount_memory());
}

#[test]
fn a_create_is_refused_that_does_not_fit_and_allowed_once_there_is_room() {
    let mut bench = with_room(2 * node_memory("/a", 100));
    assert_eq!(outcome(&mut bench, create(1, "/a", &[0; 100])), 0);
    assert_eq!(outcome(&mut bench, create(2, "/b", &[0; 101])), FULL);
    assert_eq!(outcome(&mut bench, create(3, "/b", &[0; 100])), 0);
    assert_eq!(outcome(&mut bench, create(4, "/c", b"")), FULL);
    let told = |event: &&Event| matches!(event, Event::TreeFull { used, max } if used <= max);
    assert_eq!(bench.events.iter().filter(told).count(), 2);
    assert_eq!(outcome(&mut bench, delete(5, "/a")), 0);
    assert_eq!(outcome(&mut bench, create(6, "/c", b"")), 0);
    check(bench.server.tree());
}

#[test]
fn what_is_proposed_counts_before_it_is_applied() {
    let mut bench = with_room(2 * node_memory("/a", 100));
    let frames = [1, 2, 3].map(|xid| create(xid, &format!("/{xid}"), &[0; 100]));
    bench.send(A, &frames);
    bench.store();
    let errors: Vec<i32> = bench
        .frames(A)
        .iter()
        .map(|frame| take::<ReplyHeader>(&mut &**frame).unwrap().error)
        .collect();
    // The second still counts a list of ACLs of its own, as the first is not applied.
    assert_eq!(errors, [0, FULL, FULL]);
    assert_eq!(outcome(&mut bench, create(4, "/4", &[0; 100])), 0);
}

#[test]
fn data_may_shrink_and_stay_but_not_grow_in_a_full_tree() {
    let mut bench = with_room(node_memory("/a", 100));
    assert_eq!(outcome(&mut bench, create(1, "/a", &[0; 100])), 0);
    assert_eq!(outcome(&mut bench, set(2, "/a", 101)), FULL);
    assert_eq!(outcome(&mut bench, set(3, "/a", 100)), 0);
    assert_eq!(outcome(&mut bench, set(4, "/a", 10)), 0);
    assert_eq!(outcome(&mut bench, set(5, "/a", 100)), 0);
    check(bench.server.tree());
}

#[test]
fn an_acl_that_nobody_has_needs_room() {
    let mut bench = with_room(node_memory("/a", 0));
    let long = format!("user:{}", "x".repeat(1000));
    let acl = || {
        vec![
            entry(31, "world", "anyone"),
            entry(31, "ip", "1.2.3.4"),
            entry(31, "digest", &long),
        ]
    };
    assert_eq!(
        outcome(&mut bench, create_with(1, "/a", b"", acl(), 0)),
        FULL
    );
    assert_eq!(outcome(&mut bench, create(2, "/a", b"")), 0);
    check(bench.server.tree());
}

enum Op {
    Create(&'static str, usize),
    Delete(&'static str),
}

fn multi(xid: i32, ops: &[Op]) -> Vec<u8> {
    let mut frame = to_vec(&RequestHeader {
        xid: zabra_core::ids::Xid(xid),
        op: OpCode::MULTI,
    });
    let header = |op, done| MultiHeader {
        op,
        done,
        error: -1,
    };
    for op in ops {
        match op {
            Op::Create(path, bytes) => {
                append(&mut frame, &header(OpCode::CREATE, false));
                let body = CreateRequest {
                    path: (*path).into(),
                    data: Some(&vec![0; *bytes]),
                    acl: vec![entry(31, "world", "anyone")],
                    flags: 0,
                };
                append(&mut frame, &body);
            }
            Op::Delete(path) => {
                append(&mut frame, &header(OpCode::DELETE, false));
                let body = PathVersion {
                    path: (*path).into(),
                    version: -1,
                };
                append(&mut frame, &body);
            }
        }
    }
    append(&mut frame, &header(OpCode::ERROR, true));
    frame
}

#[test]
fn a_multi_is_judged_as_a_whole() {
    let mut bench = with_room(2 * node_memory("/a", 100));
    assert_eq!(outcome(&mut bench, create(1, "/a", &[0; 100])), 0);
    assert_eq!(outcome(&mut bench, create(2, "/b", &[0; 100])), 0);
    // In between it would be too much, at its end it is not.
    let moved = [Op::Create("/c", 100), Op::Delete("/a")];
    bench.send(A, &[multi(3, &moved)]);
    bench.store();
    bench.frames(A);
    assert!(bench.server.tree().find("/c").is_some());
    let grown = [
        Op::Delete("/b"),
        Op::Create("/d", 100),
        Op::Create("/e", 0),
        Op::Create("/f", 0),
    ];
    bench.send(A, &[multi(4, &grown)]);
    bench.store();
    let frames = bench.frames(A);
    // Four results of nine bytes of header and four of error each, after the reply's header.
    let errors: Vec<i32> = (0..4)
        .map(|at| {
            let at = 16 + at * 13 + 9;
            i32::from_be_bytes(frames[0][at..at + 4].try_into().unwrap())
        })
        .collect();
    assert_eq!(errors, [0, 0, FULL, ErrorCode::RUNTIME_INCONSISTENCY.0]);
    assert!(bench.server.tree().find("/b").is_some());
    assert!(bench.server.tree().find("/d").is_none());
    assert_eq!(outcome(&mut bench, create(5, "/g", b"")), FULL);
    check(bench.server.tree());
}

#[test]
fn sessions_come_in_when_znodes_do_not_until_there_are_too_many() {
    let mut bench = with_room(0);
    assert_eq!(outcome(&mut bench, create(1, "/a", b"")), FULL);
    let max = 1_u64 << 20;
    let before = bench.server.tree().memory();
    let mut refused = None;
    for link in 3..3000 {
        let link = LinkId(link);
        bench.open(link);
        bench.send(link, &[connect(30_000)]);
        bench.store();
        if bench.closed.contains(&link) {
            refused = Some(link);
            break;
        }
        bench.frames(link);
        bench.step([zabra_core::server::Input::Link(
            link,
            zabra_core::link::LinkInput::Closed,
        )]);
    }
    assert!(refused.is_some());
    let sessions = bench.server.tree().memory() - before;
    assert!((max - 2000..=max + 2000).contains(&sessions), "{sessions}");
    check(bench.server.tree());
    // Who goes makes room.
    bench.send(B, &[request(1, OpCode::CLOSE_SESSION, &())]);
    bench.store();
    bench.open(LinkId(4000));
    bench.send(LinkId(4000), &[connect(30_000)]);
    bench.store();
    assert!(!bench.closed.contains(&LinkId(4000)));
}

#[test]
fn without_a_limit_nothing_is_refused() {
    let mut bench = Bench::with(Config::default());
    assert_eq!(outcome(&mut bench, create(1, "/a", &[0; 900_000])), 0);
}
