//! Reading a tree back: a snapshot of any ZooKeeper from 3.5 on, then the log.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use simd_adler32::Adler32;

use super::Tree;
use super::node::AclId;
use crate::ids::Zxid;
use crate::jute::{self, take};
use crate::store::Restore;
use crate::wire::records::{Acl, Perms, to_acls};
use crate::wire::snapshot::{
    AclRecord, DIGEST_BYTES, DigestRecord, END, LAST_ZXID_BYTES, MAGIC, NodePath, NodeRecord,
    SEAL_BYTES, SessionRecord,
};
use crate::wire::txn::{self, DIGEST_VERSION};

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

/// How far a snapshot was read.
struct File {
    zxid: Zxid,
    buffer: Vec<u8>,
    /// With fewer bytes in `buffer` no item is looked for: one that is long, or damaged so that it
    /// seems to be, would be read from its beginning with every chunk.
    bytes_wanted: usize,
    adler: Adler32,
    part: Part,
    acls: BTreeMap<i64, AclId>,
}

#[derive(Clone, Copy, Debug)]
enum Part {
    Header,
    SessionCount,
    Sessions(i32),
    AclCount,
    Acls(i32),
    Nodes,
    Tail,
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

    /// The tree, with the transactions after which its digest was not what the log says, and the
    /// paths of ephemeral znodes that had no session and are gone.
    #[must_use]
    pub fn finish(mut self) -> (Tree, Vec<Zxid>, Vec<String>) {
        let orphans = self.tree.remove_orphans();
        (self.tree, self.mismatches, orphans)
    }

    /// Reads every item that is all there.
    fn items(&mut self) -> Result<(), LoadError> {
        let mut buffer = core::mem::take(&mut self.file.buffer);
        let mut input = buffer.as_slice();
        if !matches!(self.file.part, Part::Tail) {
            while !input.is_empty() && self.item(&mut input)? {}
        }
        let taken = buffer.len() - input.len();
        self.file
            .adler
            .write(buffer.get(..taken).unwrap_or_default());
        buffer.drain(..taken);
        self.file.bytes_wanted = buffer.len() * 2;
        self.file.buffer = buffer;
        Ok(())
    }

    /// Reads one item from the front of the buffer; `false` if it is not all there.
    fn item(&mut self, input: &mut &[u8]) -> Result<bool, LoadError> {
        let before = *input;
        match self.whole_item(input) {
            Ok(()) => Ok(true),
            Err(LoadError::Record(jute::Error::End)) => {
                *input = before;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn whole_item(&mut self, input: &mut &[u8]) -> Result<(), LoadError> {
        self.file.part = match self.file.part {
            Part::Header => {
                let (head, rest) = input
                    .split_at_checked(16)
                    .ok_or(LoadError::Record(jute::Error::End))?;
                if !head.starts_with(&MAGIC) {
                    return Err(LoadError::Magic);
                }
                *input = rest;
                Part::SessionCount
            }
            Part::SessionCount => Part::Sessions(take(input)?),
            Part::Sessions(left) if left > 0 => {
                let session: SessionRecord = take(input)?;
                self.tree.sessions.insert(session.id, session.timeout_ms);
                Part::Sessions(left - 1)
            }
            Part::Sessions(_) => Part::AclCount,
            Part::AclCount => Part::Acls(take(input)?),
            Part::Acls(left) if left > 0 => {
                let record: AclRecord<'_> = take(input)?;
                self.file
                    .acl(&mut self.tree, record.id, to_acls(&record.list).into());
                Part::Acls(left - 1)
            }
            Part::Acls(_) => Part::Nodes,
            Part::Nodes => {
                let path: NodePath<'_> = take(input)?;
                let path = path.or_empty();
                if path == "/" {
                    if self.tree.node_count() == 0 {
                        return Err(LoadError::NoRoot);
                    }
                    self.tree.acls.drop_unused();
                    Part::Tail
                } else {
                    let record: NodeRecord<'_> = take(input)?;
                    self.node(path, &record)?;
                    Part::Nodes
                }
            }
            Part::Tail => return Err(LoadError::Record(jute::Error::End)),
        };
        Ok(())
    }

    fn node(&mut self, path: &str, record: &NodeRecord<'_>) -> Result<(), LoadError> {
        let root = path.is_empty();
        let parent = crate::path::split(path).map(|(parent, _)| parent);
        let rooted = self.tree.node_count() > 0;
        if rooted && self.tree.find(path).is_some() {
            return Err(LoadError::Twice(path.into()));
        }
        let below = parent.is_some_and(|parent| self.tree.find_parent(parent).is_some());
        if !(root || rooted && below) {
            return Err(LoadError::Orphan(path.into()));
        }
        let acl = self.file.acl_of(&mut self.tree, record.acl);
        self.tree.acls.retain(acl);
        self.tree.insert(path, record.data, acl, record.stat);
        Ok(())
    }

    /// Checks the seals, and the digest if there is one.
    fn tail(&mut self) -> Result<(), LoadError> {
        let buffer = core::mem::take(&mut self.file.buffer);
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
        // Most chunks begin inside a record: only that record is moved.
        self.file.buffer.extend_from_slice(bytes);
        if self.file.buffer.len() < self.file.bytes_wanted {
            return Ok(());
        }
        self.items()
    }

    fn snapshot_end(&mut self) -> Result<(), LoadError> {
        self.items()?;
        if !matches!(self.file.part, Part::Tail) {
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
        let (buffer, adler) = (Vec::new(), Adler32::new());
        Self {
            zxid,
            buffer,
            bytes_wanted: 0,
            adler,
            part: Part::Header,
            acls: BTreeMap::new(),
        }
    }

    fn acl(&mut self, tree: &mut Tree, id: i64, list: Arc<[Acl]>) -> AclId {
        let own = tree.acls.next_id();
        tree.acls.restore(own, list);
        self.acls.insert(id, own);
        own
    }

    /// Our number for the file's. A znode may name a list that a fuzzy snapshot does not have; the
    /// log will give it one, and until then nobody may do anything. Source: ZOOKEEPER-4689.
    fn acl_of(&mut self, tree: &mut Tree, id: i64) -> AclId {
        if id == -1 {
            return AclId(0);
        }
        match self.acls.get(&id) {
            Some(&own) => own,
            None => self.acl(tree, id, Arc::new([Acl::anyone(Perms(0))])),
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
