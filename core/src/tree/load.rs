//! Reading a tree back: a snapshot of any ZooKeeper from 3.4 on, then the log; or a leader's state
//! from the network.

mod items;
mod stream;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use simd_adler32::Adler32;

use super::Tree;
use crate::ids::Zxid;
use crate::jute::{self, take};
use crate::store::Restore;
use crate::wire::snapshot::{DIGEST_BYTES, DigestRecord, END, LAST_ZXID_BYTES, SEAL_BYTES};
use crate::wire::txn::{self, DIGEST_VERSION};

use items::{Items, Part};

pub use stream::StreamLoader;

/// Why a snapshot or a transaction was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadError {
    /// The file does not begin as a snapshot does.
    Magic,
    /// The file ends too early.
    Short,
    /// A record cannot be decoded.
    Record(jute::Error),
    /// A checksum is wrong.
    Checksum,
    /// There is no znode in it, not even the root.
    NoRoot,
    /// A znode's parent is not there before it.
    Orphan(String),
    /// A znode is there twice.
    Twice(String),
    /// What follows the znodes is of no known form.
    Tail(usize),
    /// The snapshot's own digest is not that of what was read.
    Digest,
    /// A string, data or an ACL is longer than may be.
    TooLong {
        /// Its length.
        found: usize,
        /// The greatest length.
        max: usize,
    },
    /// A leader's state does not end as it must.
    Signature,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => f.write_str("it does not begin with ZKSN"),
            Self::Short => f.write_str("it ends too early"),
            Self::Record(error) => write!(f, "a record cannot be decoded: {error}"),
            Self::Checksum => f.write_str("its checksum is wrong"),
            Self::NoRoot => f.write_str("it has no root znode"),
            Self::Orphan(path) => write!(f, "the parent of {path:?} is missing"),
            Self::Twice(path) => write!(f, "{path:?} is in it twice"),
            Self::Tail(bytes) => write!(f, "{bytes} bytes follow its znodes, of no known form"),
            Self::Digest => f.write_str("its digest is not that of its content"),
            Self::TooLong { found, max } => write!(
                f,
                "a string, data or an ACL has {found} bytes, more than the {max} of jute.maxbuffer"
            ),
            Self::Signature => f.write_str("its znodes are not followed by BenWasHere"),
        }
    }
}

impl core::error::Error for LoadError {}

impl From<jute::Error> for LoadError {
    fn from(error: jute::Error) -> Self {
        Self::Record(error)
    }
}

/// Builds a tree from what recovery reads.
pub struct Loader {
    seed: u64,
    tree: Tree,
    file: File,
    /// The digest that a fuzzy snapshot will have once its log was replayed up to there.
    later: Option<(Zxid, u64)>,
    mismatches: Vec<Zxid>,
    verify: bool,
}

/// How far a snapshot file was read.
struct File {
    zxid: Zxid,
    items: Items,
    adler: Adler32,
}

impl Loader {
    /// A loader of nothing yet, which makes the tree of a new server if nothing comes.
    ///
    /// `verify` compares the digests in logs and snapshots with what they should describe.
    #[must_use]
    pub fn new(seed: u64, verify: bool) -> Self {
        let tree = Tree::new(seed);
        let file = File::new(Zxid::ZERO);
        Self {
            seed,
            tree,
            file,
            later: None,
            mismatches: Vec::new(),
            verify,
        }
    }

    /// The tree as far as it was read.
    #[must_use]
    pub const fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The transaction up to which the log must be replayed before a fuzzy snapshot that was read
    /// has its digest; `None` if it is exact, has no digest, or the log was replayed so far.
    #[must_use]
    pub fn fuzzy_until(&self) -> Option<Zxid> {
        self.later.map(|(zxid, _)| zxid)
    }

    /// The tree, with the transactions after which its digest was not what the log says, and the
    /// paths of ephemeral znodes that had no session and are gone.
    #[must_use]
    pub fn finish(mut self) -> (Tree, Vec<Zxid>, Vec<String>) {
        let orphans = self.tree.remove_orphans();
        (self.tree, self.mismatches, orphans)
    }

    /// The same with the orphans left in the tree: in an ensemble it must be the same on every
    /// server, and its leader deletes them for all.
    #[must_use]
    pub fn finish_with_orphans(self) -> (Tree, Vec<Zxid>) {
        (self.tree, self.mismatches)
    }

    /// Checks the seals, and the digest if there is one.
    fn tail(&mut self) -> Result<(), LoadError> {
        let buffer = self.file.items.take_rest();
        let mut rest = self.file.seal(&buffer)?;
        let digest = rest.len() >= DIGEST_BYTES + SEAL_BYTES;
        if digest {
            let (head, tail) = rest
                .split_at_checked(DIGEST_BYTES)
                .ok_or(LoadError::Short)?;
            self.file.adler.write(head);
            let mut head = head;
            let record: DigestRecord = take(&mut head)?;
            rest = self.file.seal(tail)?;
            self.digest(record)?;
        }
        if rest.len() == LAST_ZXID_BYTES + SEAL_BYTES {
            let (head, tail) = rest
                .split_at_checked(LAST_ZXID_BYTES)
                .ok_or(LoadError::Short)?;
            self.file.adler.write(head);
            rest = self.file.seal(tail)?;
        }
        if rest.is_empty() {
            Ok(())
        } else {
            Err(LoadError::Tail(rest.len()))
        }
    }

    fn digest(&mut self, record: DigestRecord) -> Result<(), LoadError> {
        let known = record.version == DIGEST_VERSION && record.zxid != Zxid::ZERO;
        if !known || !self.verify {
            return Ok(());
        }
        let digest = record.digest.cast_unsigned();
        if record.zxid == self.file.zxid && digest != self.tree.digest {
            return Err(LoadError::Digest);
        }
        if record.zxid > self.file.zxid {
            self.later = Some((record.zxid, digest));
        }
        Ok(())
    }

    fn verify(&mut self, zxid: Zxid, digest: Option<txn::TxnDigest>) {
        let recorded = match self.later {
            // In between, a fuzzy snapshot holds some of the later changes.
            Some((at, _)) if zxid < at => None,
            Some((at, digest)) => {
                self.later = None;
                (zxid == at).then_some(digest)
            }
            None => digest
                .filter(|digest| digest.version == DIGEST_VERSION)
                .map(|digest| digest.digest.cast_unsigned()),
        };
        // Orphans that another server removed, or a changed character set, make every digest after
        // the first differ: one is enough to tell.
        let differs = recorded.is_some_and(|digest| digest != self.tree.digest);
        if self.verify && differs && self.mismatches.is_empty() {
            self.mismatches.push(zxid);
        }
    }
}

impl Restore for Loader {
    type Error = LoadError;

    fn snapshot_begin(&mut self, zxid: Zxid) {
        self.tree = Tree::bare(self.seed);
        self.tree.last = zxid;
        self.file = File::new(zxid);
        self.later = None;
    }

    fn snapshot_chunk(&mut self, bytes: &[u8]) -> Result<(), LoadError> {
        let File { items, adler, .. } = &mut self.file;
        items.feed(bytes, &mut self.tree, &mut |taken| adler.write(taken))
    }

    fn snapshot_end(&mut self) -> Result<(), LoadError> {
        if !self.file.items.are_complete() {
            return Err(LoadError::Short);
        }
        self.tail()?;
        self.tree.recount_quotas();
        Ok(())
    }

    fn txn(&mut self, payload: &[u8]) -> Result<(), LoadError> {
        let (header, txn, digest) = txn::decode(payload)?;
        self.tree.apply(&header, txn, None);
        self.verify(header.zxid, digest);
        Ok(())
    }
}

impl File {
    fn new(zxid: Zxid) -> Self {
        Self {
            zxid,
            items: Items::new(Part::Header, usize::MAX),
            adler: Adler32::new(),
        }
    }

    /// Checks the seal at the front, and returns what follows it.
    fn seal<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8], LoadError> {
        let (seal, rest) = bytes.split_at_checked(SEAL_BYTES).ok_or(LoadError::Short)?;
        let mut input = seal;
        let stored: i64 = take(&mut input)?;
        if stored != i64::from(self.adler.finish()) || input != END {
            return Err(LoadError::Checksum);
        }
        self.adler.write(seal);
        Ok(rest)
    }
}
