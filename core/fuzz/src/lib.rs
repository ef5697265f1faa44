//! What fuzz targets share: trees compared and snapshots written.

use zabra_core::ids::Zxid;
use zabra_core::store::Restore;
use zabra_core::tree::{LoadError, Loader, Piece, QUOTA, Tree};

/// The seed of every tree here: inputs must behave alike in every run.
pub const SEED: u64 = 7;

/// The snapshot file of a tree, written in slices of `slice` bytes.
pub fn write_snapshot(tree: &mut Tree, digest: bool, slice: usize) -> (Zxid, Vec<u8>) {
    let zxid = tree.begin_snapshot(digest);
    let mut file = Vec::new();
    loop {
        match tree.snapshot_piece(slice) {
            Some(Piece::Part(bytes)) => file.extend(bytes),
            Some(Piece::Last(bytes)) => {
                file.extend(bytes);
                return (zxid, file);
            }
            None => panic!("a snapshot that nobody gave up has an end"),
        }
    }
}

/// Reads a snapshot file, in chunks of `chunk` bytes.
pub fn read_snapshot(
    loader: &mut Loader,
    zxid: Zxid,
    file: &[u8],
    chunk: usize,
) -> Result<(), LoadError> {
    loader.snapshot_begin(zxid);
    for bytes in file.chunks(chunk.max(1)) {
        loader.snapshot_chunk(bytes)?;
    }
    loader.snapshot_end()
}

/// The trees hold the same znodes and sessions, in every respect that lasts.
///
/// What quotas are used is not compared: a snapshot's reader counts it anew, and a client may have written
/// something else in its place.
pub fn assert_same(one: &Tree, other: &Tree) {
    assert_eq!(one.last_zxid(), other.last_zxid(), "last zxid");
    assert_eq!(one.node_count(), other.node_count(), "znodes");
    assert_eq!(one.digest(), other.digest(), "digest");
    let ephemerals = (one.ephemeral_count(), other.ephemeral_count());
    assert_eq!(ephemerals.0, ephemerals.1, "ephemeral znodes");
    assert!(one.sessions().eq(other.sessions()), "sessions");
    assert!(one.quota_paths().eq(other.quota_paths()), "quotas");
    let root = one.find("/").expect("a tree has a root");
    for id in one.walk(root) {
        let path = one.path(id);
        let twin = other
            .find(&path)
            .unwrap_or_else(|| panic!("{path:?} is missing"));
        let (mut stat, mut twin_stat) = (one.stat(id), other.stat(twin));
        if path.starts_with(QUOTA) && path.ends_with("/zookeeper_stats") {
            (stat.data_length, twin_stat.data_length) = (0, 0);
        } else {
            assert_eq!(one.data(id), other.data(twin), "data of {path:?}");
        }
        assert_eq!(stat, twin_stat, "stat of {path:?}");
        assert_eq!(one.kind(id), other.kind(twin), "kind of {path:?}");
        assert_eq!(one.acl(id), other.acl(twin), "ACL of {path:?}");
    }
}

/// What a tree says of itself is what can be counted in it.
pub fn assert_sound(tree: &Tree) {
    let root = tree.find("/").expect("a tree has a root");
    assert_eq!(tree.walk(root).count(), tree.node_count(), "znodes");
    let mut bytes = 0;
    for id in tree.walk(root) {
        let path = tree.path(id);
        assert_eq!(tree.find(&path), Some(id), "{path:?} is found where it is");
        assert_eq!(
            tree.children(id).count(),
            tree.child_count(id) as usize,
            "children of {path:?}"
        );
        let data = tree.data(id).map_or(0, <[u8]>::len);
        bytes += data as u64 + if path == "/" { 0 } else { path.len() as u64 };
    }
    assert_eq!(bytes, tree.data_size(), "bytes of paths and data");
}
