//! ZooKeeper's digest of the tree: the sum of the CRC-32s of all znodes, so that it follows every
//! change.
//!
//! Source: `DigestCalculator`, `AdHash`; digest version 2.

use crc32fast::Hasher;

use crate::wire::records::StatPersisted;

/// A znode's share of the digest, with path and data already taken in: a change of its stat alone
/// needs no second look at them.
#[derive(Clone, Debug)]
pub(crate) struct NodeDigest {
    counts: bool,
    head: Hasher,
}

impl NodeDigest {
    pub(crate) fn new(path: &str, data: Option<&[u8]>) -> Self {
        let path = if path == "/" { "" } else { path };
        let counts = counts(path);
        let mut head = Hasher::new();
        if counts {
            head.update(path.as_bytes());
            head.update(data.unwrap_or_default());
        }
        Self { counts, head }
    }

    /// Goes on from the [`NodeDigest::head`] of a znode.
    pub(super) fn resume(path: &str, head: u32) -> Self {
        Self {
            counts: counts(path),
            head: Hasher::new_with_initial(head),
        }
    }

    /// The checksum of path and data; 0 if the znode does not count.
    pub(super) fn head(&self) -> u32 {
        self.head.clone().finalize()
    }

    pub(crate) fn with(&self, stat: &StatPersisted) -> u64 {
        if !self.counts {
            return 0;
        }
        let mut hasher = self.head.clone();
        let mut bytes = [0; 60];
        let longs = [
            stat.czxid.0,
            stat.mzxid.0,
            stat.pzxid.0,
            stat.ctime.0,
            stat.mtime.0,
        ];
        let mut rest = bytes.as_mut_slice();
        let mut put = |value: &[u8]| {
            let (head, tail) = core::mem::take(&mut rest).split_at_mut(value.len());
            head.copy_from_slice(value);
            rest = tail;
        };
        for long in longs {
            put(&long.to_be_bytes());
        }
        for int in [stat.version, stat.cversion, stat.aversion] {
            put(&int.to_be_bytes());
        }
        put(&stat.ephemeral_owner.to_be_bytes());
        hasher.update(&bytes);
        u64::from(hasher.finalize())
    }
}

/// ZooKeeper's own znodes differ between servers and are left out.
fn counts(path: &str) -> bool {
    !path.starts_with("/zookeeper/")
}

/// A znode's share of the digest.
pub(super) fn of(path: &str, data: Option<&[u8]>, stat: &StatPersisted) -> u64 {
    NodeDigest::new(path, data).with(stat)
}
