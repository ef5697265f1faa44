//! Who may do what.

use zabra_core::error::ErrorCode;
use zabra_core::ids::{SessionId, UnixMillis, Xid, Zxid};
use zabra_core::jute::to_vec;
use zabra_core::server::Config;
use zabra_core::store::Restore as _;
use zabra_core::tree::Loader;
use zabra_core::wire::client::OpCode;
use zabra_core::wire::txn::{CreateKind, Txn, TxnHeader, append_body};

use crate::bench::{A, B, Bench, auth, create_with, entry, get, request, set};

#[test]
fn acls_are_checked_unless_they_are_to_be_skipped() {
    for (skip_acl, error) in [(false, ErrorCode::NO_AUTH.0), (true, 0)] {
        let mut bench = Bench::with(Config {
            skip_acl,
            ..Config::default()
        });
        let readers = vec![entry(1, "world", "anyone")];
        bench.send(A, &[create_with(1, "/a", b"", readers, 0)]);
        bench.store();
        assert_eq!(bench.error(A), 0);
        bench.send(A, &[set(2, "/a")]);
        bench.store();
        assert_eq!(bench.error(A), error);
    }
}

#[test]
fn an_acl_without_entries_keeps_nobody_out() {
    let mut loader = Loader::new(0, true);
    let header = TxnHeader {
        client: SessionId(1),
        cxid: Xid(1),
        zxid: Zxid(1),
        time: UnixMillis(0),
        op: OpCode::CREATE,
    };
    let create = Txn::Create {
        path: "/a".into(),
        data: None,
        acl: Vec::new(),
        kind: CreateKind::Persistent,
        parent_cversion: 1,
    };
    let mut txn = to_vec(&header);
    append_body(&mut txn, &create);
    loader.txn(&txn).unwrap();
    let mut bench = Bench::over(loader);
    bench.send(A, &[get(1, "/a")]);
    assert_eq!(bench.error(A), 0);
}

#[test]
fn an_entry_for_ones_own_identities_needs_some() {
    let mut bench = Bench::with_two_clients();
    let acl = || vec![entry(31, "world", "anyone"), entry(31, "auth", "")];
    bench.send(A, &[create_with(1, "/a", b"", acl(), 0)]);
    bench.store();
    assert_eq!(bench.error(A), ErrorCode::INVALID_ACL.0);
    bench.send(A, &[auth("me:password")]);
    assert_eq!(bench.error(A), 0);
    bench.send(A, &[create_with(2, "/a", b"", acl(), 0)]);
    bench.store();
    assert_eq!(bench.error(A), 0);
}

/// CVE-2019-0201: whoever reached a server was told the hashes of the passwords in any ACL.
#[test]
fn cve_2019_0201_hashes_are_shown_to_administrators_only() {
    let mut bench = Bench::with_two_clients();
    bench.send(A, &[auth("me:password")]);
    bench.frames(A);
    let acl = vec![entry(31, "auth", ""), entry(1, "world", "anyone")];
    bench.send(A, &[create_with(1, "/a", b"", acl, 0)]);
    bench.store();
    bench.frames(A);
    let own = vec![entry(31, "auth", "")];
    bench.send(A, &[create_with(2, "/b", b"", own, 0)]);
    bench.store();
    bench.frames(A);
    let hash = zabra_core::server::digest_id(b"me:password");
    let mut shown = |link, path| {
        bench.send(link, &[request(3, OpCode::GET_ACL, path)]);
        let frames = bench.frames(link);
        String::from_utf8_lossy(&frames[0]).into_owned()
    };
    assert!(shown(A, "/a").contains(&hash));
    let masked = shown(B, "/a");
    assert!(masked.contains("me:x") && !masked.contains(&hash));
    // ZOOKEEPER-1392: who may neither read nor administer it is not told its ACL at all.
    assert!(!shown(B, "/b").contains("me"));
}

/// CVE-2024-23944: a watch of a whole subtree told of znodes that its owner may not read.
#[test]
fn cve_2024_23944_watches_tell_nothing_that_may_not_be_read() {
    const PERSISTENT_RECURSIVE: i32 = 1;
    let mut bench = Bench::with_two_clients();
    bench.send(
        B,
        &[request(1, OpCode::ADD_WATCH, &("/", PERSISTENT_RECURSIVE))],
    );
    assert_eq!(bench.error(B), 0);
    bench.send(A, &[auth("me:password")]);
    let own = || vec![entry(31, "auth", "")];
    bench.send(A, &[create_with(1, "/secret", b"", own(), 0)]);
    bench.send(A, &[create_with(2, "/secret/child", b"", own(), 0)]);
    bench.store();
    assert_eq!(bench.frames(B), [[0_u8; 0]; 0], "it may read neither");
    let open = vec![entry(31, "world", "anyone")];
    bench.send(A, &[create_with(3, "/open", b"", open, 0)]);
    bench.store();
    assert_eq!(bench.frames(B).len(), 1);
}
