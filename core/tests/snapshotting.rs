//! A snapshot that is written in slices is the tree as it was when it began, whatever happens meanwhile.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops where its expectation fails"
)]

use zabra_core::ids::{SessionId, UnixMillis, Xid, Zxid};
use zabra_core::store::Restore as _;
use zabra_core::tree::{Loader, Piece, StreamLoader, Tree};
use zabra_core::wire::client::OpCode;
use zabra_core::wire::records::{Acl, AclText, Perms, StatPersisted};
use zabra_core::wire::txn::{CreateKind, Txn, TxnHeader};

/// A random number generator: splitmix64.
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn path(&mut self) -> String {
        let depth = 1 + self.below(3);
        let names = (0..depth).map(|_| ["/a", "/b", "/c"][usize::try_from(self.below(3)).unwrap()]);
        names.collect()
    }

    /// A transaction that may fit the tree or not.
    fn txn(&mut self) -> (OpCode, Txn<'static>) {
        let path = self.path().into();
        let anyone = Acl::anyone(Perms(i32::try_from(self.below(32)).unwrap()));
        let acl = vec![AclText::from(&anyone).into_owned()];
        let version = i32::try_from(self.below(100)).unwrap();
        let data = [None, Some(&b""[..]), Some(b"one"), Some(b"three")];
        let data = data[usize::try_from(self.below(4)).unwrap()];
        match self.below(12) {
            0..=4 => {
                let kinds = [
                    CreateKind::Container,
                    CreateKind::Ephemeral,
                    CreateKind::Persistent,
                    CreateKind::Ttl(5),
                ];
                let create = Txn::Create {
                    path,
                    data,
                    acl,
                    kind: kinds[usize::try_from(self.below(4)).unwrap()],
                    parent_cversion: -1,
                };
                (OpCode::CREATE, create)
            }
            5 | 6 => (OpCode::DELETE, Txn::Delete { path }),
            7 | 8 => {
                let set = Txn::SetData {
                    path,
                    data,
                    version,
                };
                (OpCode::SET_DATA, set)
            }
            9 => (OpCode::SET_ACL, Txn::SetAcl { path, acl, version }),
            10 => {
                let timeout_ms = 1000;
                (OpCode::CREATE_SESSION, Txn::CreateSession { timeout_ms })
            }
            _ => {
                let paths = Some(Vec::new());
                (OpCode::CLOSE_SESSION, Txn::CloseSession { paths })
            }
        }
    }

    fn apply(&mut self, tree: &mut Tree) {
        let (op, txn) = self.txn();
        if let Txn::Create { path, .. } = &txn
            && let Some(parent) = tree.find(path.rsplit_once('/').unwrap().0)
            && tree.kind(parent) == CreateKind::Ephemeral
        {
            return;
        }
        let zxid = tree.last_zxid().next().unwrap();
        let client = SessionId(1 + self.below(3).cast_signed());
        // Ephemeral znodes of others would be orphans to the loader.
        let lives = tree.sessions().any(|(session, _)| session == client);
        let op = if lives { op } else { OpCode::CREATE_SESSION };
        let txn = if lives {
            txn
        } else {
            Txn::CreateSession { timeout_ms: 7 }
        };
        let header = TxnHeader {
            client,
            cxid: Xid(0),
            zxid,
            time: UnixMillis(zxid.0 * 10),
            op,
        };
        tree.apply(&header, txn, None);
    }
}

type Znode = (String, Option<Vec<u8>>, StatPersisted, Vec<Acl>);

/// All that a tree is.
#[derive(PartialEq)]
struct Dump {
    last: Zxid,
    digest: u64,
    node_count: usize,
    data_size: u64,
    sessions: Vec<(SessionId, i32)>,
    owned: Vec<(SessionId, Vec<String>)>,
    reapable: Vec<String>,
    znodes: Vec<Znode>,
}

fn dump(tree: &Tree) -> Dump {
    let top = tree.find("/").unwrap();
    let znodes = tree.walk(top).map(|id| {
        let data = tree.data(id).map(<[u8]>::to_vec);
        let acl = tree.acl(id).to_vec();
        (tree.path(id), data, tree.stat_persisted(id), acl)
    });
    let mut znodes: Vec<_> = znodes.collect();
    znodes.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let owned = tree.ephemeral_owners().map(|owner| {
        let mut paths: Vec<_> = tree.ephemerals(owner).map(|id| tree.path(id)).collect();
        paths.sort_unstable();
        (owner, paths)
    });
    let mut reapable = tree.reapable(UnixMillis(i64::MAX), 1);
    reapable.sort_unstable();
    Dump {
        last: tree.last_zxid(),
        digest: tree.digest(),
        node_count: tree.node_count(),
        data_size: tree.data_size(),
        sessions: tree.sessions().collect(),
        owned: owned.collect(),
        reapable,
        znodes,
    }
}

fn with_quota(tree: &mut Tree) {
    for path in [
        "/zookeeper/quota/a",
        "/zookeeper/quota/a/zookeeper_limits",
        "/zookeeper/quota/a/zookeeper_stats",
    ] {
        let header = TxnHeader {
            client: SessionId::NONE,
            cxid: Xid(0),
            zxid: tree.last_zxid().next().unwrap(),
            time: UnixMillis(0),
            op: OpCode::CREATE,
        };
        let create = Txn::Create {
            path: path.into(),
            data: Some(b"count=0,bytes=0"),
            acl: Vec::new(),
            kind: CreateKind::Persistent,
            parent_cversion: -1,
        };
        tree.apply(&header, create, None);
    }
}

#[test]
fn a_snapshot_is_of_the_moment_it_began() {
    for seed in 0..300 {
        let mut rng = Rng(seed);
        let mut tree = Tree::new(seed);
        with_quota(&mut tree);
        for snapshot in 0..4 {
            for _ in 0..rng.below(60) {
                rng.apply(&mut tree);
            }
            let expected = dump(&tree);
            let zxid = tree.begin_snapshot(true);
            let slice = usize::try_from(16 + rng.below(60)).unwrap();
            let changes = rng.below(4);
            let mut file = Vec::new();
            loop {
                for _ in 0..rng.below(changes + 1) {
                    rng.apply(&mut tree);
                }
                match tree.snapshot_piece(slice).unwrap() {
                    Piece::Part(bytes) => file.extend_from_slice(&bytes),
                    Piece::Last(bytes) => {
                        file.extend_from_slice(&bytes);
                        break;
                    }
                }
            }
            let mut loader = Loader::new(seed, true);
            loader.snapshot_begin(zxid);
            loader.snapshot_chunk(&file).unwrap();
            loader.snapshot_end().unwrap();
            let (loaded, mismatches, orphans) = loader.finish();
            assert!(
                dump(&loaded) == expected,
                "seed {seed}, snapshot {snapshot}"
            );
            assert_eq!((mismatches, orphans), (Vec::new(), Vec::new()));
        }
    }
}

#[test]
fn what_a_learner_is_sent_is_of_the_moment_it_began() {
    for seed in 0..300 {
        let mut rng = Rng(seed);
        let mut tree = Tree::new(seed);
        with_quota(&mut tree);
        for snapshot in 0..4 {
            for _ in 0..rng.below(60) {
                rng.apply(&mut tree);
            }
            let expected = dump(&tree);
            let zxid = tree.begin_snapshot_stream();
            assert!(tree.snapshot_in_progress());
            let slice = usize::try_from(16 + rng.below(60)).unwrap();
            let changes = rng.below(4);
            let mut loader = StreamLoader::new(seed, zxid, 1 << 20);
            loop {
                for _ in 0..rng.below(changes + 1) {
                    rng.apply(&mut tree);
                }
                match tree.snapshot_piece(slice).unwrap() {
                    Piece::Part(bytes) => assert_eq!(loader.feed(bytes.into()), Ok(None)),
                    Piece::Last(bytes) => {
                        let rest = loader.feed(bytes.into()).unwrap();
                        assert_eq!(rest.map(|rest| rest.len()), Some(0));
                        break;
                    }
                }
            }
            assert!(!tree.snapshot_in_progress());
            let loaded = loader.finish().unwrap();
            assert!(
                dump(&loaded) == expected,
                "seed {seed}, snapshot {snapshot}"
            );
        }
    }
}

#[test]
#[should_panic(expected = "one snapshot is written at a time")]
fn a_second_snapshot_waits_for_the_first() {
    let mut tree = Tree::new(0);
    tree.begin_snapshot(true);
    tree.begin_snapshot_stream();
}

#[test]
fn a_snapshot_that_was_given_up_is_over_after_a_walk() {
    let mut rng = Rng(0);
    let mut tree = Tree::new(0);
    for _ in 0..200 {
        rng.apply(&mut tree);
    }
    tree.abandon_snapshot();
    assert!(!tree.snapshot_in_progress(), "there was none");
    tree.begin_snapshot_stream();
    tree.snapshot_piece(64).unwrap();
    tree.abandon_snapshot();
    assert!(tree.snapshot_in_progress(), "the marks are not in line");
    assert_eq!(tree.snapshot_piece(1 << 20), None);
    assert!(!tree.snapshot_in_progress());
}

#[test]
fn a_snapshot_that_was_given_up_leaves_the_next_one_whole() {
    for seed in 0..100 {
        let mut rng = Rng(seed);
        let mut tree = Tree::new(seed);
        for _ in 0..40 {
            rng.apply(&mut tree);
        }
        if seed % 2 == 0 {
            tree.begin_snapshot(true);
        } else {
            tree.begin_snapshot_stream();
        }
        tree.snapshot_piece(64).unwrap();
        tree.abandon_snapshot();
        while tree.snapshot_in_progress() {
            rng.apply(&mut tree);
            assert_eq!(tree.snapshot_piece(64), None);
        }
        let expected = dump(&tree);
        let zxid = tree.begin_snapshot(true);
        let Some(Piece::Last(file)) = tree.snapshot_piece(1 << 20) else {
            panic!("the file is small");
        };
        let mut loader = Loader::new(seed, true);
        loader.snapshot_begin(zxid);
        loader.snapshot_chunk(&file).unwrap();
        loader.snapshot_end().unwrap();
        assert!(dump(&loader.finish().0) == expected, "seed {seed}");
    }
}

#[test]
fn a_snapshot_has_the_acls_that_are_in_use() {
    let mut tree = Tree::new(0);
    let acl = |id: &'static str| {
        vec![AclText {
            perms: Perms::ALL,
            scheme: "ip".into(),
            id: id.into(),
        }]
    };
    let mut apply = |zxid, op, txn| {
        let header = TxnHeader {
            client: SessionId::NONE,
            cxid: Xid(0),
            zxid: Zxid(zxid),
            time: UnixMillis(0),
            op,
        };
        tree.apply(&header, txn, None);
    };
    for (zxid, path, id) in [(1, "/a", "10.0.0.1"), (2, "/b", "10.0.0.2")] {
        let create = Txn::Create {
            path: path.into(),
            data: None,
            acl: acl(id),
            kind: CreateKind::Persistent,
            parent_cversion: -1,
        };
        apply(zxid, OpCode::CREATE, create);
    }
    apply(3, OpCode::DELETE, Txn::Delete { path: "/a".into() });
    let set = Txn::SetAcl {
        path: "/b".into(),
        acl: acl("10.0.0.3"),
        version: 1,
    };
    apply(4, OpCode::SET_ACL, set);
    tree.begin_snapshot(true);
    let Some(Piece::Last(file)) = tree.snapshot_piece(1 << 20) else {
        panic!("the file is small");
    };
    let has = |id: &str| file.windows(id.len()).any(|part| part == id.as_bytes());
    assert_eq!(
        [has("10.0.0.1"), has("10.0.0.2"), has("10.0.0.3")],
        [false, false, true]
    );
}

#[test]
fn what_a_quota_uses_is_written_as_it_was() {
    let mut tree = Tree::new(0);
    with_quota(&mut tree);
    let create = |path: &'static str| Txn::Create {
        path: path.into(),
        data: None,
        acl: Vec::new(),
        kind: CreateKind::Persistent,
        parent_cversion: -1,
    };
    let apply = |tree: &mut Tree, txn| {
        let header = TxnHeader {
            client: SessionId::NONE,
            cxid: Xid(0),
            zxid: tree.last_zxid().next().unwrap(),
            time: UnixMillis(0),
            op: OpCode::CREATE,
        };
        tree.apply(&header, txn, None);
    };
    apply(&mut tree, create("/a"));
    tree.begin_snapshot(true);
    apply(&mut tree, create("/a/b"));
    let Some(Piece::Last(file)) = tree.snapshot_piece(1 << 20) else {
        panic!("the file is small");
    };
    let has = |text: &str| file.windows(text.len()).any(|part| part == text.as_bytes());
    assert_eq!(
        [has("count=1,bytes=0"), has("count=2,bytes=0")],
        [true, false]
    );
}
