//! Who may do what.

use zabra_core::error::ErrorCode;
use zabra_core::ids::{SessionId, UnixMillis, Xid, Zxid};
use zabra_core::jute::to_vec;
use zabra_core::server::Config;
use zabra_core::store::Restore as _;
use zabra_core::tree::Loader;
use zabra_core::wire::client::OpCode;
use zabra_core::wire::txn::{CreateKind, Txn, TxnHeader, append_body};

use crate::bench::{A, Bench, auth, create_with, entry, get, set};

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
