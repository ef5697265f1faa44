//! What a tree makes of files that no server of ours wrote.
#![expect(
    clippy::unwrap_used,
    reason = "a test stops where its expectation fails"
)]

use simd_adler32::Adler32;
use zabra_core::ids::{SessionId, UnixMillis, Xid, Zxid};
use zabra_core::jute::{append, to_vec};
use zabra_core::store::Restore as _;
use zabra_core::tree::{Applied, LoadError, Loader, Tree};
use zabra_core::wire::client::OpCode;
use zabra_core::wire::records::StatPersisted;
use zabra_core::wire::snapshot::{END, HEADER, NodeRecord};
use zabra_core::wire::txn::{CreateKind, Txn, TxnHeader, append_body};

/// A whole snapshot file of znodes with these paths.
fn snapshot(paths: &[&str]) -> Vec<u8> {
    let mut file = HEADER.to_vec();
    append(&mut file, &(0_i32, 0_i32));
    for path in paths {
        append(&mut file, path);
        let node = NodeRecord {
            data: None,
            acl: -1,
            stat: StatPersisted::default(),
        };
        append(&mut file, &node);
    }
    file.extend_from_slice(&END);
    let mut adler = Adler32::new();
    adler.write(&file);
    append(&mut file, &i64::from(adler.finish()));
    file.extend_from_slice(&END);
    file
}

fn load(file: &[u8]) -> Result<Tree, LoadError> {
    let mut loader = Loader::new(0, true);
    loader.snapshot_begin(Zxid(1));
    loader.snapshot_chunk(file)?;
    loader.snapshot_end()?;
    Ok(loader.finish().0)
}

fn create_txn(zxid: i64, path: &str, kind: CreateKind) -> (TxnHeader, Txn<'_>) {
    let header = TxnHeader {
        client: SessionId(1),
        cxid: Xid(1),
        zxid: Zxid(zxid),
        time: UnixMillis(0),
        op: OpCode::CREATE,
    };
    let txn = Txn::Create {
        path: path.into(),
        data: None,
        acl: Vec::new(),
        kind,
        parent_cversion: -1,
    };
    (header, txn)
}

fn create<'a>(tree: &mut Tree, path: &'a str) -> Applied<'a> {
    let (header, txn) = create_txn(tree.last_zxid().0 + 1, path, CreateKind::Persistent);
    tree.apply(&header, txn, None)
}

#[test]
fn a_snapshot_without_a_root_is_refused() {
    assert_eq!(load(&snapshot(&[])).err(), Some(LoadError::NoRoot));
    assert_eq!(load(&snapshot(&[""])).unwrap().node_count(), 1);
}

#[test]
fn a_znode_that_is_there_twice_is_refused() {
    for twice in ["", "/a", "/a/b"] {
        let refused = load(&snapshot(&["", "/a", "/a/b", twice])).err();
        assert_eq!(refused, Some(LoadError::Twice(twice.into())));
    }
}

#[test]
fn a_znode_whose_parent_is_called_slash_is_an_orphan() {
    let refused = load(&snapshot(&["", "/a", "//a"])).err();
    assert_eq!(refused, Some(LoadError::Orphan("//a".into())));
    let mut tree = Tree::new(0);
    let before = (tree.node_count(), tree.digest());
    assert!(matches!(create(&mut tree, "//a"), Applied::Failed(_)));
    assert_eq!((tree.node_count(), tree.digest()), before);
}

#[test]
fn paths_of_any_depth_are_written_whole() {
    let mut tree = Tree::new(0);
    let mut path = String::new();
    for depth in 1..=100 {
        path.push_str(&format!("/{depth}"));
        assert!(matches!(create(&mut tree, &path), Applied::Created { .. }));
        assert_eq!(tree.path(tree.find(&path).unwrap()), path);
    }
}

#[test]
fn orphans_go_with_orphans_below_them() {
    let mut loader = Loader::new(0, true);
    for (zxid, path) in (1..).zip(["/a", "/a/b", "/a/b/c"]) {
        let (header, txn) = create_txn(zxid, path, CreateKind::Ephemeral);
        let mut payload = to_vec(&header);
        append_body(&mut payload, &txn);
        loader.txn(&payload).unwrap();
    }
    let (tree, _, orphans) = loader.finish();
    assert_eq!(orphans, ["/a/b/c", "/a/b", "/a"]);
    assert_eq!(tree.find("/a"), None);
}

#[test]
fn a_list_that_seems_endless_is_not_read_anew_with_every_chunk() {
    let mut file = HEADER.to_vec();
    // One ACL, of 2^31 - 1 entries.
    append(&mut file, &(0, 1, 1_i64, i32::MAX));
    file.resize(2_000_000, 0);
    let mut loader = Loader::new(0, true);
    loader.snapshot_begin(Zxid(1));
    // As many attempts as there are chunks would take minutes.
    for chunk in file.chunks(16) {
        loader.snapshot_chunk(chunk).unwrap();
    }
    assert_eq!(loader.snapshot_end(), Err(LoadError::Short));
}
