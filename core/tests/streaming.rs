//! A leader's state as it comes from the network.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops where its expectation fails"
)]

use std::path::Path;

use bytes::Bytes;
use zabra_core::ids::{SessionId, UnixMillis, Zxid};
use zabra_core::jute::{self, append};
use zabra_core::store::Restore as _;
use zabra_core::tree::{LoadError, Loader, Piece, StreamLoader, Tree};
use zabra_core::wire::records::{Acl, AclText, Perms, StatPersisted};
use zabra_core::wire::snapshot::{END, HEADER, NodeRecord, STREAM_END};

/// What a Java server of default settings refuses to exceed.
const BYTES_MAX: usize = 2 * 0xf_ffff;

fn golden(name: &str) -> Vec<u8> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    std::fs::read(directory.join(name)).unwrap()
}

fn loader() -> StreamLoader {
    StreamLoader::new(0, Zxid(5), BYTES_MAX)
}

/// Reads a state cut into chunks: the tree, and what followed in the last chunk.
fn read(stream: &[u8], chunk: usize) -> Result<(Tree, Bytes), LoadError> {
    let mut loader = loader();
    for bytes in stream.chunks(chunk) {
        if let Some(rest) = loader.feed(Bytes::copy_from_slice(bytes))? {
            return Ok((loader.finish()?, rest));
        }
    }
    loader.finish().map(|tree| (tree, Bytes::new()))
}

fn write(tree: &mut Tree) -> Vec<u8> {
    tree.begin_snapshot_stream();
    let Some(Piece::Last(stream)) = tree.snapshot_piece(1 << 20) else {
        panic!("the state is small");
    };
    stream
}

/// A state of znodes with these paths, up to their end.
fn znodes(paths: &[&str]) -> Vec<u8> {
    let mut stream = Vec::new();
    append(&mut stream, &(0_i32, 0_i32));
    for path in paths {
        znode(&mut stream, path, None, -1);
    }
    stream
}

fn znode(stream: &mut Vec<u8>, path: &str, data: Option<&[u8]>, acl: i64) {
    append(stream, &path);
    let stat = StatPersisted::default();
    append(stream, &NodeRecord { data, acl, stat });
}

fn ended(mut stream: Vec<u8>) -> Vec<u8> {
    stream.extend_from_slice(&END);
    stream.extend_from_slice(&STREAM_END);
    stream
}

const CONFIG: &str = "server.1=127.0.0.1:22881:23881:participant\n\
    server.2=127.0.0.1:22882:23882:participant\n\
    server.3=127.0.0.1:22883:23883:participant\n\
    server.4=127.0.0.1:22884:23884:observer\n\
    version=0";

#[test]
fn a_first_leaders_state_is_read_byte_by_byte() {
    let captured = golden("snap/static-3+1-100000000");
    let readable = [AclText::from(&Acl::anyone(Perms::READ)).into_owned()].to_vec();
    let mtime = read(&captured, usize::MAX).unwrap().0;
    let mtime = mtime
        .stat_persisted(mtime.find("/zookeeper/config").unwrap())
        .mtime;
    assert_ne!(mtime, UnixMillis(0));

    let mut stream = Vec::new();
    append(&mut stream, &(0_i32, 1_i32, 1_i64, readable));
    znode(&mut stream, "", Some(b""), -1);
    znode(&mut stream, "/zookeeper", Some(b""), -1);
    append(&mut stream, &"/zookeeper/config");
    let config = NodeRecord {
        data: Some(CONFIG.as_bytes()),
        acl: 1,
        stat: StatPersisted {
            mtime,
            version: -1,
            aversion: -1,
            ..StatPersisted::default()
        },
    };
    append(&mut stream, &config);
    znode(&mut stream, "/zookeeper/quota", Some(b""), -1);
    let stream = ended(stream);
    assert_eq!(stream.len(), 587);
    assert_eq!(stream, captured[..587]);

    let (tree, rest) = read(&captured, usize::MAX).unwrap();
    assert_eq!(rest, captured[587..]);
    assert_eq!(rest[..4], [0, 0, 0, 10], "NEWLEADER follows");
    assert_eq!(tree.last_zxid(), Zxid(5));
    assert_eq!(tree.digest(), 0x51c6_d660);
    let config = tree.find("/zookeeper/config").unwrap();
    assert_eq!(tree.data(config), Some(CONFIG.as_bytes()), "kept as it is");
    assert_eq!(tree.acl(config)[..], [Acl::anyone(Perms::READ)]);
    assert_eq!(tree.stat_persisted(config).version, -1);
}

#[test]
fn leaders_states_are_read_however_they_are_cut() {
    let session = (SessionId(0x00ff_ff6e_1a00_0000), 8000);
    let cases = [
        ("static-3+1-100000000", 587_usize, 0x51c6_d660, 4, None),
        ("reconfig-100000004", 735, 0x1_5aa1_a4cc, 5, None),
        (
            "observer-master-100000002",
            718,
            0x1_babb_5448,
            5,
            Some(session),
        ),
    ];
    for (name, length, digest, znodes, session) in cases {
        let captured = golden(&format!("snap/{name}"));
        for chunk in 1..captured.len() {
            let (mut tree, rest) = read(&captured, chunk).unwrap();
            let read = length.div_ceil(chunk) * chunk;
            assert_eq!(rest, captured[length..read.min(captured.len())]);
            assert_eq!(tree.digest(), digest, "{name}");
            assert_eq!(tree.node_count(), znodes, "{name}");
            if chunk > 1 {
                continue;
            }
            let timeouts = tree.sessions().map(|(_, timeout_ms)| timeout_ms);
            assert!(timeouts.eq(session.iter().map(|(_, timeout_ms)| *timeout_ms)));
            let (again, rest) = self::read(&write(&mut tree), 7).unwrap();
            assert_eq!((again.digest(), rest.len()), (digest, 0));
            assert!(again.sessions().eq(tree.sessions()));
        }
        for cut in 0..length {
            let mut loader = loader();
            let fed = loader.feed(Bytes::copy_from_slice(&captured[..cut]));
            assert_eq!(fed, Ok(None), "{name}: {cut} bytes are not all");
            assert_eq!(loader.finish().err(), Some(LoadError::Short));
        }
    }
}

#[test]
fn what_follows_the_end_is_given_back() {
    let stream = ended(znodes(&[""]));
    let mut loader = loader();
    assert_eq!(loader.feed(stream.into()), Ok(Some(Bytes::new())));
    let more = Bytes::from_static(b"packets");
    assert_eq!(loader.feed(more.clone()), Ok(Some(more)));
    assert_eq!(loader.finish().unwrap().node_count(), 1);
}

/// The znodes of a file of ZooKeeper's, as they would come from the network.
fn as_stream(file: &[u8]) -> Vec<u8> {
    let end = file.windows(5).position(|bytes| bytes == END);
    let znodes_end = end.unwrap();
    ended(file[HEADER.len()..znodes_end].to_vec())
}

#[test]
fn a_state_makes_the_same_tree_as_a_file() {
    for name in ["snapshot.17", "snapshot.25"] {
        let file = golden(&format!("data/standalone-3.9.5/{name}"));
        let mut loader = Loader::new(0, false);
        loader.snapshot_begin(Zxid(5));
        loader.snapshot_chunk(&file).unwrap();
        loader.snapshot_end().unwrap();
        let (mut expected, _, orphans) = loader.finish();
        assert_eq!(orphans, [""; 0]);
        let (mut tree, _) = read(&as_stream(&file), 100).unwrap();
        assert!(tree.node_count() > 8);
        assert_eq!(tree.digest(), expected.digest());
        assert_eq!(write(&mut tree), write(&mut expected));
    }
}

#[test]
fn what_does_not_end_with_the_signature_is_refused_at_the_first_wrong_byte() {
    let stream = ended(znodes(&[""]));
    let begin = stream.len() - STREAM_END.len();
    for at in begin..stream.len() {
        let mut changed = stream[..=at].to_vec();
        changed[at] ^= 1;
        let mut loader = loader();
        let fed = loader.feed(changed.into());
        assert_eq!(fed, Err(LoadError::Signature), "at {at}");
    }
}

#[test]
fn znodes_that_make_no_tree_are_refused() {
    let refusal = |paths: &[&str]| read(&ended(znodes(paths)), 50).err().unwrap();
    assert_eq!(refusal(&[]), LoadError::NoRoot);
    assert_eq!(refusal(&["", "/a/b"]), LoadError::Orphan("/a/b".into()));
    assert_eq!(refusal(&["", "/a", "/a"]), LoadError::Twice("/a".into()));
    assert_eq!(refusal(&["", ""]), LoadError::Twice(String::new()));
}

#[test]
fn a_length_that_may_not_be_is_refused_before_its_bytes_come() {
    let count = |bytes: &[i32]| -> Vec<u8> {
        let mut stream = Vec::new();
        bytes.iter().for_each(|int| append(&mut stream, int));
        stream
    };
    let too_long = |found| LoadError::TooLong {
        found,
        max: BYTES_MAX,
    };
    let below = |length| LoadError::Record(jute::Error::Length(length));
    let path = "/a".repeat(50);
    let mut data = znodes(&[""]);
    append(&mut data, &path.as_str());
    let with = |mut stream: Vec<u8>, length: i32| {
        append(&mut stream, &length);
        stream
    };
    let max = i32::try_from(BYTES_MAX).unwrap();
    let acl = |lengths: &[i32]| [count(&[0, 1, 0, 7, 9, 31]), count(lengths)].concat();
    let cases = [
        ("path", with(znodes(&[]), i32::MAX), too_long(0x7fff_ffff)),
        ("path", with(znodes(&[]), max + 1), too_long(BYTES_MAX + 1)),
        ("path", with(znodes(&[]), -2), below(-2)),
        ("data", with(data.clone(), i32::MAX), too_long(0x7fff_ffff)),
        ("data", with(data.clone(), i32::MIN), below(i32::MIN)),
        ("scheme", acl(&[i32::MAX]), too_long(0x7fff_ffff)),
        ("id", acl(&[-1, max + 1]), too_long(BYTES_MAX + 1)),
        ("id", acl(&[0, -5]), below(-5)),
        // Each may be that long, but not both.
        ("list", acl(&[max]), too_long(BYTES_MAX + 8)),
    ];
    for (what, stream, expected) in cases {
        for chunk in [1, 13, usize::MAX] {
            let found = read(&stream, chunk).err().unwrap();
            assert_eq!(found, expected, "{what}");
        }
    }
    let accepted = read(&with(data, max), usize::MAX).err();
    assert_eq!(accepted, Some(LoadError::Short), "the longest is awaited");
}

#[test]
fn a_list_that_seems_endless_is_refused_when_it_is_too_long() {
    let mut stream = Vec::new();
    append(&mut stream, &(0, 1, 1_i64, i32::MAX));
    stream.resize(3 * BYTES_MAX, 0);
    let mut loader = loader();
    let mut fed = 0;
    let error = loop {
        let chunk = Bytes::copy_from_slice(&stream[fed..fed + 1000]);
        fed += 1000;
        if let Err(error) = loader.feed(chunk) {
            break error;
        }
    };
    assert!(matches!(error, LoadError::TooLong { .. }), "{error}");
    assert!(fed < BYTES_MAX + 2000);
}

#[test]
fn a_long_item_is_not_read_anew_with_every_chunk() {
    let mut stream = znodes(&[""]);
    let data = vec![7; BYTES_MAX];
    // As many attempts as there are chunks, each over all of the path, would take minutes.
    let path = format!("/{}", "a".repeat(BYTES_MAX - 1));
    znode(&mut stream, &path, Some(&data), -1);
    let (tree, _) = read(&ended(stream), 8).unwrap();
    let id = tree.find(&path).unwrap();
    assert_eq!(tree.data(id), Some(data.as_slice()));
}

#[test]
fn counts_below_zero_are_none() {
    for count in [-1, i32::MIN] {
        let mut stream = Vec::new();
        append(&mut stream, &(count, count));
        znode(&mut stream, "", None, -1);
        let (tree, _) = read(&ended(stream), 3).unwrap();
        assert_eq!((tree.node_count(), tree.sessions().len()), (1, 0));
    }
}

#[test]
fn a_znode_whose_acl_is_missing_is_nobodys_until_a_transaction_says_whose() {
    let mut stream = znodes(&[""]);
    znode(&mut stream, "/a", None, 77);
    let (tree, _) = read(&ended(stream), 9).unwrap();
    let id = tree.find("/a").unwrap();
    assert_eq!(tree.acl(id)[..], [Acl::anyone(Perms(0))]);
}

#[test]
fn an_ephemeral_znode_without_session_stays_as_with_the_leader() {
    let mut stream = znodes(&[""]);
    append(&mut stream, &"/e");
    let stat = StatPersisted {
        ephemeral_owner: 0x1234,
        ..StatPersisted::default()
    };
    let node = NodeRecord {
        data: None,
        acl: -1,
        stat,
    };
    append(&mut stream, &node);
    let (tree, _) = read(&ended(stream), 9).unwrap();
    assert!(tree.ephemeral_owners().eq([SessionId(0x1234)]));
}

#[test]
fn what_a_quota_uses_is_counted_anew() {
    let mut stream = znodes(&["", "/a", "/zookeeper", "/zookeeper/quota"]);
    znode(&mut stream, "/a/b", Some(b"12345"), -1);
    znode(&mut stream, "/zookeeper/quota/a", None, -1);
    let limits = Some(&b"count=5,bytes=-1"[..]);
    znode(
        &mut stream,
        "/zookeeper/quota/a/zookeeper_limits",
        limits,
        -1,
    );
    let stats = Some(&b"count=99,bytes=99"[..]);
    znode(&mut stream, "/zookeeper/quota/a/zookeeper_stats", stats, -1);
    let (tree, _) = read(&ended(stream), 1000).unwrap();
    let id = tree.find("/zookeeper/quota/a/zookeeper_stats").unwrap();
    assert_eq!(tree.data(id), Some(&b"count=2,bytes=5"[..]));
}
