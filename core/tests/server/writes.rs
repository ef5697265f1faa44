//! How writes are judged, with others before them that are not applied.

use zabra_core::error::ErrorCode;
use zabra_core::ids::{SessionId, UnixMillis, Xid, Zxid};
use zabra_core::jute::{take, to_vec};
use zabra_core::server::{Config, Event};
use zabra_core::store::Restore as _;
use zabra_core::tree::Loader;
use zabra_core::wire::client::{CreateRequest, MultiHeader, OpCode, ReplyHeader, SetDataRequest};
use zabra_core::wire::records::Stat;
use zabra_core::wire::txn::{Txn, TxnHeader, append_body, decode};

use crate::bench::{A, Bench, create, delete, entry, request, set};

fn set_to(xid: i32, path: &str, bytes: usize) -> Vec<u8> {
    let body = SetDataRequest {
        path: path.into(),
        data: Some(&vec![b'x'; bytes]),
        version: -1,
    };
    request(xid, OpCode::SET_DATA, &body)
}

/// Stores everything; returns the errors of the answers.
fn errors(bench: &mut Bench) -> Vec<i32> {
    bench.store();
    let error = |frame: &Vec<u8>| take::<ReplyHeader>(&mut &**frame).unwrap().error;
    bench.frames(A).iter().map(error).collect()
}

/// A server that enforces quotas, with these limits for `/a`, which has two bytes.
fn limited(limits: &str) -> Bench {
    let mut bench = Bench::with(Config {
        enforce_quota: true,
        ..Config::default()
    });
    bench.send(
        A,
        &[
            create(1, "/a", b"xx"),
            create(2, "/zookeeper/quota/a", b""),
            create(3, "/zookeeper/quota/a/zookeeper_limits", limits.as_bytes()),
            create(4, "/zookeeper/quota/a/zookeeper_stats", b""),
        ],
    );
    assert_eq!(errors(&mut bench), [0; 4]);
    bench
}

fn warnings(bench: &Bench) -> usize {
    let exceeded = |event: &&Event| matches!(event, Event::QuotaExceeded { path } if path == "/a");
    bench.events.iter().filter(exceeded).count()
}

#[test]
fn a_refusal_in_the_log_has_no_digest() {
    let mut bench = Bench::with_two_clients();
    bench.send(A, &[set(1, "/none")]);
    assert_eq!(bench.txns.last().unwrap().len(), 32 + 4);
    bench.send(A, &[create(2, "/a", b"")]);
    assert!(bench.txns.last().unwrap().len() > 32 + 12);
    assert_eq!(errors(&mut bench), [ErrorCode::NO_NODE.0, 0]);
}

#[test]
fn a_server_alone_has_no_ensemble_to_change() {
    let mut bench = Bench::with_two_clients();
    bench.send(A, &[request(1, OpCode::RECONFIG, &())]);
    assert_eq!(errors(&mut bench), [ErrorCode::RECONFIG_DISABLED.0]);
}

#[test]
fn a_znode_whose_last_child_is_about_to_go_can_be_deleted() {
    let mut bench = Bench::with_two_clients();
    bench.send(A, &[create(1, "/a", b""), create(2, "/a/b", b"")]);
    bench.store();
    bench.send(A, &[delete(3, "/a"), delete(4, "/a/b"), delete(5, "/a")]);
    assert_eq!(errors(&mut bench), [0, 0, ErrorCode::NOT_EMPTY.0, 0, 0]);
}

#[test]
fn a_soft_limit_warns_and_a_hard_one_refuses() {
    let mut bench = limited("bytes=4");
    bench.send(A, &[set_to(5, "/a", 4)]);
    assert_eq!((errors(&mut bench), warnings(&bench)), (vec![0], 0));
    bench.send(A, &[set_to(6, "/a", 5)]);
    assert_eq!((errors(&mut bench), warnings(&bench)), (vec![0], 1));
    let mut bench = limited("bytes=4;byteHardLimit=6");
    bench.send(A, &[set_to(5, "/a", 6)]);
    assert_eq!((errors(&mut bench), warnings(&bench)), (vec![0], 0));
    bench.send(A, &[set_to(6, "/a", 7)]);
    let refused = vec![ErrorCode::QUOTA_EXCEEDED.0];
    assert_eq!((errors(&mut bench), warnings(&bench)), (refused, 0));
}

#[test]
fn a_limit_of_nothing_is_a_limit() {
    let mut bench = limited("byteHardLimit=0");
    bench.send(A, &[set_to(5, "/a", 3), set_to(6, "/a", 0)]);
    assert_eq!(errors(&mut bench), [ErrorCode::QUOTA_EXCEEDED.0, 0]);
}

#[test]
fn usage_is_kept_while_there_are_limits() {
    let mut bench = limited("count=9");
    let bytes = |bench: &Bench| bench.server.tree().quota_usage("/a").bytes;
    bench.send(A, &[set_to(5, "/a", 3)]);
    assert_eq!((errors(&mut bench), bytes(&bench)), (vec![0], 3));
    bench.send(A, &[delete(6, "/zookeeper/quota/a/zookeeper_limits")]);
    bench.send(A, &[set_to(7, "/a", 4)]);
    assert_eq!((errors(&mut bench), bytes(&bench)), (vec![0, 0], 3));
}

#[test]
fn what_data_grows_by_is_told_from_the_data_it_will_replace() {
    let mut bench = limited("byteHardLimit=10");
    bench.send(A, &[set_to(5, "/a", 8), set_to(6, "/a", 11)]);
    // Usage is that of the applied tree, as in ZooKeeper: 2, and 3 more are fewer than 10.
    assert_eq!(errors(&mut bench), [0, 0]);
}

#[test]
fn no_version_is_minus_one() {
    let mut loader = Loader::new(0, true);
    let header = |zxid, op| TxnHeader {
        client: SessionId(1),
        cxid: Xid(1),
        zxid: Zxid(zxid),
        time: UnixMillis(0),
        op,
    };
    let mut txn = to_vec(&header(1, OpCode::SET_DATA));
    let body = Txn::SetData {
        path: "/".into(),
        data: None,
        version: -2,
    };
    append_body(&mut txn, &body);
    loader.txn(&txn).unwrap();
    let mut bench = Bench::over(loader);
    bench.send(A, &[set(1, "/")]);
    bench.store();
    let frame = bench.frames(A).remove(0);
    let stat: Stat = take(&mut &frame[16..]).unwrap();
    assert_eq!(stat.version, 0);
}

#[test]
fn a_check_is_logged_with_the_version_after_the_one_it_found() {
    let mut bench = Bench::with_two_clients();
    let check = (OpCode::CHECK, false, -1, "/", 0);
    bench.send(A, &[request(1, OpCode::MULTI, &(check, MultiHeader::END))]);
    let (_, txn, _) = decode(bench.txns.last().unwrap()).unwrap();
    let check = Txn::Check {
        path: "/".into(),
        version: 1,
    };
    assert_eq!(txn, Txn::Multi(vec![(OpCode::CHECK, check)]));
}

#[test]
fn null_data_uses_nothing_of_a_quota() {
    let mut bench = limited("byteHardLimit=2");
    let null = CreateRequest {
        path: "/a/b".into(),
        data: None,
        acl: vec![entry(31, "world", "anyone")],
        flags: 0,
    };
    bench.send(A, &[request(5, OpCode::CREATE, &null)]);
    bench.send(A, &[create(6, "/a/c", b"x")]);
    assert_eq!(errors(&mut bench), [0, ErrorCode::QUOTA_EXCEEDED.0]);
}
