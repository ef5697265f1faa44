//! What the state takes is counted as it changes, and is the same however a server came to it.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops where its expectation fails"
)]

use zabra_core::ids::{SessionId, UnixMillis, Xid, Zxid};
use zabra_core::store::Restore as _;
use zabra_core::tree::{Loader, Piece, Tree};
use zabra_core::wire::client::OpCode;
use zabra_core::wire::records::{Acl, AclText, Id, Perms};
use zabra_core::wire::txn::{CreateKind, Txn, TxnHeader};

/// Numbers that look random and are the same in every run.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn path(&mut self) -> String {
        let top = ["", "/zookeeper/quota", "/a"][usize::try_from(self.below(3)).unwrap()];
        let names = [
            "a",
            "bb",
            "zookeeper_limits",
            "zookeeper_stats",
            "long-enough",
        ];
        let mut path = String::from(top);
        for _ in 0..=self.below(3) {
            let name = names[usize::try_from(self.below(5)).unwrap()];
            path = format!("{path}/{name}");
        }
        path
    }

    fn acl(&mut self) -> Vec<AclText<'static>> {
        let entry = |id: u64| Acl {
            perms: Perms(31),
            id: Id {
                scheme: "digest".into(),
                id: "x".repeat(usize::try_from(id * 7).unwrap()),
            },
        };
        (0..self.below(3))
            .map(|_| AclText::from(&entry(self.below(4))).into_owned())
            .collect()
    }

    fn data(&mut self) -> Option<Vec<u8>> {
        let bytes = self.below(300);
        (bytes > 0).then(|| vec![b'x'; usize::try_from(bytes).unwrap()])
    }

    fn kind(&mut self) -> CreateKind {
        match self.below(5) {
            0 => CreateKind::Container,
            1 => CreateKind::Ttl(1000),
            2 => CreateKind::Ephemeral,
            _ => CreateKind::Persistent,
        }
    }
}

/// One transaction, which may or may not fit the tree.
fn change(draw: &mut Draw, tree: &mut Tree, zxid: i64) {
    let session = SessionId(1 + i64::try_from(draw.below(5)).unwrap());
    let (path, data) = (draw.path(), draw.data());
    let path = std::borrow::Cow::Owned(path);
    let data = data.as_deref();
    let (op, txn) = match draw.below(12) {
        0 => (OpCode::CREATE_SESSION, Txn::CreateSession { timeout_ms: 9 }),
        1 => (OpCode::CLOSE_SESSION, Txn::CloseSession { paths: None }),
        2..=3 => (OpCode::DELETE, Txn::Delete { path }),
        4..=5 => {
            let version = 7;
            (
                OpCode::SET_DATA,
                Txn::SetData {
                    path,
                    data,
                    version,
                },
            )
        }
        6 => {
            let (acl, version) = (draw.acl(), 7);
            (OpCode::SET_ACL, Txn::SetAcl { path, acl, version })
        }
        7 => {
            let delete = Txn::Delete { path: path.clone() };
            let version = 9;
            let set = Txn::SetData {
                path,
                data,
                version,
            };
            let subs = vec![(OpCode::SET_DATA, set), (OpCode::DELETE, delete)];
            (OpCode::MULTI, Txn::Multi(subs))
        }
        _ => {
            let (acl, kind) = (draw.acl(), draw.kind());
            let parent_cversion = -1;
            let create = Txn::Create {
                path,
                data,
                acl,
                kind,
                parent_cversion,
            };
            (OpCode::CREATE, create)
        }
    };
    let header = TxnHeader {
        client: session,
        cxid: Xid(1),
        zxid: Zxid(zxid),
        time: UnixMillis(zxid),
        op,
    };
    tree.apply(&header, txn, None);
}

fn reloaded(tree: &mut Tree) -> Tree {
    let zxid = tree.begin_snapshot(true);
    let mut loader = Loader::new(99, true);
    loader.snapshot_begin(zxid);
    loop {
        match tree.snapshot_piece(512).unwrap() {
            Piece::Part(bytes) => loader.snapshot_chunk(&bytes).unwrap(),
            Piece::Last(bytes) => {
                loader.snapshot_chunk(&bytes).unwrap();
                break;
            }
        }
    }
    loader.snapshot_end().unwrap();
    loader.finish_with_orphans().0
}

#[test]
fn what_the_state_takes_is_what_a_recount_finds_after_every_change() {
    for seed in 0..20 {
        let mut draw = Draw(seed);
        let mut tree = Tree::new(seed);
        for zxid in 1..500 {
            change(&mut draw, &mut tree, zxid);
            assert_eq!(tree.memory(), tree.recount_memory(), "{seed} {zxid}");
        }
        assert!(tree.node_count() > 10, "{}", tree.node_count());
    }
}

#[test]
fn a_state_takes_the_same_however_a_server_came_to_it() {
    for seed in 0..20 {
        let mut draw = Draw(seed);
        let mut tree = Tree::new(seed);
        for zxid in 1..200 {
            change(&mut draw, &mut tree, zxid);
        }
        let mut other = reloaded(&mut tree);
        assert_eq!(other.memory(), tree.memory(), "{seed}");
        assert_eq!(other.memory(), other.recount_memory(), "{seed}");
        // And it stays so: what both apply from here on changes both alike.
        let mut again = Draw(draw.0);
        for zxid in 200..300 {
            change(&mut draw, &mut tree, zxid);
            change(&mut again, &mut other, zxid);
            assert_eq!(other.memory(), tree.memory(), "{seed} {zxid}");
        }
    }
}

#[test]
fn an_empty_state_and_what_is_added_to_it_take_what_they_always_took() {
    // Voters of different releases must agree: whoever changes these numbers changes what a leader
    // refuses.
    let mut tree = Tree::new(0);
    let empty = tree.memory();
    let mut draw = Draw(1);
    for zxid in 1..300 {
        change(&mut draw, &mut tree, zxid);
    }
    assert_eq!((empty, tree.memory()), (1247, 14060));
}
