//! What becomes of a log that is replayed over a snapshot which has a part of it already, as those of
//! ZooKeeper have.
#![expect(
    clippy::unwrap_used,
    reason = "a test stops where its expectation fails"
)]

use zabra_core::error::ErrorCode;
use zabra_core::ids::{SessionId, UnixMillis, Xid, Zxid};
use zabra_core::tree::{Applied, Tree};
use zabra_core::wire::client::OpCode;
use zabra_core::wire::records::{Acl, AclText, Perms, StatPersisted};
use zabra_core::wire::txn::{CreateKind, Txn, TxnHeader};

fn apply<'a>(tree: &mut Tree, zxid: i64, op: OpCode, txn: Txn<'a>) -> Applied<'a> {
    let header = TxnHeader {
        client: SessionId(1),
        cxid: Xid(1),
        zxid: Zxid(zxid),
        time: UnixMillis(0),
        op,
    };
    tree.apply(&header, txn, None)
}

fn create(path: &str, perms: Perms, parent_cversion: i32) -> Txn<'_> {
    Txn::Create {
        path: path.into(),
        data: None,
        acl: vec![AclText::from(&Acl::anyone(perms)).into_owned()],
        kind: CreateKind::Persistent,
        parent_cversion,
    }
}

fn root(tree: &Tree) -> StatPersisted {
    tree.stat_persisted(tree.find("/").unwrap())
}

/// A tree that has `/a`, created by 0x10 as the fifth child of the root.
fn ahead() -> Tree {
    let mut tree = Tree::new(0);
    apply(
        &mut tree,
        0x10,
        OpCode::CREATE,
        create("/a", Perms::READ, 5),
    );
    let stat = root(&tree);
    assert_eq!((stat.cversion, stat.pzxid), (5, Zxid(0x10)));
    tree
}

#[test]
fn an_older_create_counts_a_parents_children_no_lower() {
    let mut tree = ahead();
    apply(&mut tree, 8, OpCode::CREATE, create("/b", Perms::ALL, 3));
    assert!(tree.find("/b").is_some());
    let stat = root(&tree);
    assert_eq!((stat.cversion, stat.pzxid), (5, Zxid(0x10)));
    assert_eq!(tree.last_zxid(), Zxid(0x10));
}

#[test]
fn a_create_of_what_is_there_sets_its_acl_and_counts_for_the_parent() {
    let mut tree = ahead();
    let again = apply(&mut tree, 0x11, OpCode::CREATE, create("/a", Perms::ALL, 6));
    assert_eq!(again, Applied::Failed(ErrorCode::NODE_EXISTS));
    let stat = root(&tree);
    assert_eq!((stat.cversion, stat.pzxid), (6, Zxid(0x11)));
    let acl = tree.acl(tree.find("/a").unwrap());
    assert_eq!(&**acl, [Acl::anyone(Perms::ALL)]);
}

#[test]
fn a_create_of_what_is_there_that_counted_already_changes_nothing_of_the_parent() {
    let mut tree = ahead();
    apply(&mut tree, 0xf, OpCode::CREATE, create("/a", Perms::ALL, 5));
    let stat = root(&tree);
    assert_eq!((stat.cversion, stat.pzxid), (5, Zxid(0x10)));
}

#[test]
fn in_a_multi_it_does_not_count_for_the_parent() {
    let mut tree = ahead();
    let subs = vec![(OpCode::CREATE, create("/a", Perms::ALL, 6))];
    apply(&mut tree, 0x11, OpCode::MULTI, Txn::Multi(subs));
    let stat = root(&tree);
    assert_eq!((stat.cversion, stat.pzxid), (5, Zxid(0x10)));
}

#[test]
fn a_delete_of_what_is_gone_is_the_parents_last_change_unless_there_was_a_later() {
    let mut tree = ahead();
    let delete = || Txn::Delete {
        path: "/gone".into(),
    };
    let failed = apply(&mut tree, 8, OpCode::DELETE, delete());
    assert_eq!(failed, Applied::Failed(ErrorCode::NO_NODE));
    assert_eq!(root(&tree).pzxid, Zxid(0x10));
    apply(&mut tree, 0x11, OpCode::DELETE, delete());
    assert_eq!(root(&tree).pzxid, Zxid(0x11));
}

#[test]
fn a_delete_of_what_has_children_deletes_nothing() {
    let mut tree = ahead();
    apply(
        &mut tree,
        0x11,
        OpCode::CREATE,
        create("/a/b", Perms::ALL, 1),
    );
    let path = "/a".into();
    let failed = apply(&mut tree, 0x12, OpCode::DELETE, Txn::Delete { path });
    assert_eq!(failed, Applied::Failed(ErrorCode::NOT_EMPTY));
    assert!(tree.find("/a/b").is_some());
}

#[test]
fn a_create_without_a_count_of_children_is_one_more() {
    let mut tree = ahead();
    apply(
        &mut tree,
        0x11,
        OpCode::CREATE,
        create("/b", Perms::ALL, -1),
    );
    let stat = root(&tree);
    assert_eq!((stat.cversion, stat.pzxid), (6, Zxid(0x11)));
}
