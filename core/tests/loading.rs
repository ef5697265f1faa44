//! What a tree makes of files that no server of ours wrote.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops where its expectation fails"
)]

use simd_adler32::Adler32;
use zabra_core::ids::{SessionId, UnixMillis, Xid, Zxid};
use zabra_core::jute::{append, to_vec};
use zabra_core::store::Restore as _;
use zabra_core::tree::{Applied, LoadError, Loader, Piece, Tree};
use zabra_core::wire::client::OpCode;
use zabra_core::wire::records::{Acl, AclText, Perms, StatPersisted};
use zabra_core::wire::snapshot::{AclRecord, DigestRecord, END, HEADER, NodeRecord};
use zabra_core::wire::txn::{CreateKind, DIGEST_VERSION, Txn, TxnDigest, TxnHeader, append_body};

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

/// A snapshot file of the root alone, with what may follow its first seal.
fn snapshot_with(parts: &[&[u8]]) -> Vec<u8> {
    let mut file = snapshot(&[""]);
    for part in parts {
        file.extend_from_slice(part);
        let mut adler = Adler32::new();
        adler.write(&file);
        append(&mut file, &i64::from(adler.finish()));
        file.extend_from_slice(&END);
    }
    file
}

fn digest_record(zxid: i64, version: i32, digest: u64) -> Vec<u8> {
    to_vec(&DigestRecord {
        zxid: Zxid(zxid),
        version,
        digest: digest.cast_signed(),
    })
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

#[test]
fn a_snapshot_that_is_cut_short_or_changed_anywhere_is_refused() {
    let digest = load(&snapshot(&[""])).unwrap().digest();
    let file = snapshot_with(&[&digest_record(1, DIGEST_VERSION, digest), &[0; 8]]);
    assert!(load(&file).is_ok());
    // Without its last parts it is as older versions write it.
    let whole = [file.len() - 21, file.len() - 54];
    for length in 0..file.len() {
        let is_whole = whole.contains(&length);
        assert_eq!(load(&file[..length]).is_ok(), is_whole, "{length}");
    }
    for at in 0..file.len() {
        let mut changed = file.clone();
        changed[at] ^= 1;
        assert!(load(&changed).is_err(), "{at}");
    }
    let mut other = file.clone();
    other[0] ^= 1;
    assert_eq!(load(&other).err(), Some(LoadError::Magic));
    let mut longer = file;
    longer.push(0);
    // 21 bytes would be the last zxid: what is longer is nothing known.
    assert_eq!(load(&longer).err(), Some(LoadError::Tail(22)));
}

#[test]
fn a_snapshot_whose_digest_is_another_is_refused() {
    let digest = load(&snapshot(&[""])).unwrap().digest();
    let with =
        |zxid, version, digest| load(&snapshot_with(&[&digest_record(zxid, version, digest)]));
    assert!(with(1, DIGEST_VERSION, digest).is_ok());
    let refused = with(1, DIGEST_VERSION, digest + 1).err();
    assert_eq!(refused, Some(LoadError::Digest));
    assert!(with(1, 1, digest + 1).is_ok(), "of a version not known");
    assert!(with(0, DIGEST_VERSION, digest + 1).is_ok(), "of nothing");
}

#[test]
fn a_digest_for_a_later_transaction_is_compared_after_that_one() {
    let loaded = |digest: u64, verify: bool| {
        let mut loader = Loader::new(0, verify);
        loader.snapshot_begin(Zxid(1));
        let record = digest_record(3, DIGEST_VERSION, digest);
        loader.snapshot_chunk(&snapshot_with(&[&record])).unwrap();
        loader.snapshot_end().unwrap();
        for (zxid, path) in [(2, "/a"), (3, "/b")] {
            let (header, txn) = create_txn(zxid, path, CreateKind::Persistent);
            let mut payload = to_vec(&header);
            append_body(&mut payload, &txn);
            // In between the snapshot may have had some of the changes already.
            let wrong = TxnDigest {
                version: DIGEST_VERSION,
                digest: 5,
            };
            append(&mut payload, &wrong);
            loader.txn(&payload).unwrap();
        }
        let (tree, mismatches, _) = loader.finish();
        (tree.digest(), mismatches)
    };
    let (right, mismatches) = loaded(7, true);
    assert_eq!(mismatches, [Zxid(3)]);
    assert_eq!(loaded(right, true), (right, Vec::new()));
    assert_eq!(loaded(7, false), (right, Vec::new()));
}

#[test]
fn a_log_whose_digest_is_another_is_told_once() {
    let told = |version, verify| {
        let mut loader = Loader::new(0, verify);
        for (zxid, path) in [(1, "/a"), (2, "/b")] {
            let (header, txn) = create_txn(zxid, path, CreateKind::Persistent);
            let mut payload = to_vec(&header);
            append_body(&mut payload, &txn);
            append(&mut payload, &TxnDigest { version, digest: 5 });
            loader.txn(&payload).unwrap();
        }
        loader.finish().1
    };
    assert_eq!(told(DIGEST_VERSION, true), [Zxid(1)]);
    assert_eq!(told(DIGEST_VERSION, false), []);
    assert_eq!(told(1, true), [], "of a version not known");
}

/// A snapshot with this ACL list, which `/a` names by number.
fn snapshot_with_acl(list: i64, named: i64) -> Vec<u8> {
    let mut file = HEADER.to_vec();
    append(&mut file, &0_i32);
    let record = AclRecord {
        id: list,
        list: vec![AclText::from(&Acl::anyone(Perms::READ)).into_owned()],
    };
    append(&mut file, &vec![record]);
    for (path, acl) in [("", -1), ("/a", named)] {
        append(&mut file, path);
        let node = NodeRecord {
            data: None,
            acl,
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

#[test]
fn a_znode_whose_acl_is_missing_is_nobodys() {
    for (named, perms) in [(7, Perms::READ), (8, Perms(0)), (-1, Perms::ALL)] {
        let tree = load(&snapshot_with_acl(7, named)).unwrap();
        let acl = tree.acl(tree.find("/a").unwrap());
        assert_eq!(&**acl, [Acl::anyone(perms)], "{named}");
    }
}

#[test]
fn an_acl_that_no_znode_has_is_forgotten() {
    let written = |named| {
        let mut tree = load(&snapshot_with_acl(7, named)).unwrap();
        tree.begin_snapshot(false);
        let Some(Piece::Last(file)) = tree.snapshot_piece(1 << 20) else {
            panic!("the file is small");
        };
        file.len()
    };
    assert!(written(-1) < written(7));
}

#[test]
fn what_a_quota_uses_is_counted_anew() {
    let quota = "/zookeeper/quota/a";
    let (limits, stats) = (
        format!("{quota}/zookeeper_limits"),
        format!("{quota}/zookeeper_stats"),
    );
    let above = ["", "/a", "/a/b", "/zookeeper", "/zookeeper/quota", quota];
    let all: Vec<&str> = above.into_iter().chain([&*limits, &*stats]).collect();
    let tree = load(&snapshot(&all)).unwrap();
    assert_eq!(tree.quota_of("/a/b"), Some("/a"));
    assert_eq!(tree.quota_usage("/a").count, 2);
}

#[test]
fn to_the_digest_null_is_empty() {
    let digest = |data| {
        let mut tree = Tree::new(0);
        let (header, txn) = create_txn(1, "/a", CreateKind::Persistent);
        tree.apply(&header, txn, None);
        let header = TxnHeader {
            zxid: Zxid(2),
            op: OpCode::SET_DATA,
            ..header
        };
        let set = Txn::SetData {
            path: "/a".into(),
            data,
            version: 1,
        };
        tree.apply(&header, set, None);
        tree.digest()
    };
    assert_eq!(digest(None), digest(Some(b"")));
    assert_ne!(digest(None), digest(Some(b"x")));
}

#[test]
fn paths_whose_hashes_are_alike_are_told_apart() {
    // Half a hash is compared first: of so many paths some have the same.
    let mut tree = Tree::new(0);
    let paths: Vec<String> = (0..200_000).map(|n| format!("/{n}")).collect();
    for path in &paths {
        assert!(matches!(create(&mut tree, path), Applied::Created { .. }));
    }
    for path in &paths {
        assert_eq!(tree.path(tree.find(path).unwrap()), *path);
    }
}
