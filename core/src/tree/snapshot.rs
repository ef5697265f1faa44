//! Writing a snapshot of the tree as it is at one zxid, in slices, while it goes on changing.
//!
//! The writer walks the znodes in preorder. A znode that is about to change before the writer came
//! to it is written first, as it still is, with those above it (a file has parents before
//! children). A mark on each znode says whether the file has it; which value means "has it"
//! alternates from snapshot to snapshot, so that beginning one touches no znode. Znodes created
//! meanwhile are born with the mark and left out.
//!
//! So a snapshot is exact, unlike ZooKeeper's own, which the loader understands as well. One is
//! written at a time, to a file or to a learner.

use alloc::string::String;
use alloc::vec::Vec;

use simd_adler32::Adler32;

use super::Tree;
use super::node::NodeId;
use crate::ids::Zxid;
use crate::jute;
use crate::wire::records::AclText;
use crate::wire::snapshot::{
    AclRecord, DigestRecord, END, HEADER, NodeRecord, STREAM_END, SessionRecord,
};
use crate::wire::txn::DIGEST_VERSION;

/// A snapshot being written.
pub(super) struct Writer {
    zxid: Zxid,
    form: Form,
    out: Vec<u8>,
    adler: Adler32,
    /// The next znode of the walk; none when all were visited.
    next: Option<NodeId>,
    /// The file was given up: only the marks are still brought in line.
    abandoned: bool,
    path: String,
}

/// What the snapshot is for.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// A file, with this digest.
    File { digest: Option<u64> },
    /// A learner: what follows a SNAP packet.
    Stream,
}

/// A piece of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// These bytes; more follow.
    Part(Vec<u8>),
    /// These bytes, and that was all.
    Last(Vec<u8>),
}

impl Piece {
    /// How much it is: a znode is not cut, however long.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        match self {
            Self::Part(bytes) | Self::Last(bytes) => bytes.len(),
        }
    }
}

impl Tree {
    /// Begins a snapshot file of the tree as it is, with its digest if `digest` says so.
    ///
    /// # Panics
    /// If [`Tree::snapshot_in_progress`].
    pub fn begin_snapshot(&mut self, digest: bool) -> Zxid {
        let digest = digest.then_some(self.digest);
        self.begin(Form::File { digest })
    }

    /// Begins what is sent to a learner after SNAP with the zxid that is returned: the tree as it
    /// is, to be taken by [`Tree::snapshot_piece`] like a file.
    ///
    /// # Panics
    /// If [`Tree::snapshot_in_progress`].
    pub fn begin_snapshot_stream(&mut self) -> Zxid {
        self.begin(Form::Stream)
    }

    fn begin(&mut self, form: Form) -> Zxid {
        assert!(self.snapshot.is_none(), "one snapshot is written at a time");
        self.mark = !self.mark;
        let mut out = Vec::with_capacity(64 * 1024);
        if let Form::File { .. } = form {
            out.extend_from_slice(&HEADER);
        }
        let sessions: Vec<_> = self
            .sessions()
            .map(|(id, timeout_ms)| SessionRecord { id, timeout_ms })
            .collect();
        jute::append(&mut out, &sessions);
        let lists = self.acls.iter().map(|(id, list)| {
            let list: Vec<_> = list.iter().map(AclText::from).collect();
            AclRecord {
                id: i64::from(id.0),
                list,
            }
        });
        jute::append(&mut out, &lists.collect::<Vec<_>>());
        self.snapshot = Some(Writer {
            zxid: self.last,
            form,
            out,
            adler: Adler32::new(),
            next: Some(NodeId::ROOT),
            abandoned: false,
            path: String::new(),
        });
        self.last
    }

    /// Whether a snapshot is being written, or one that was given up still has to be walked to its
    /// end: another cannot begin before.
    #[must_use]
    pub const fn snapshot_in_progress(&self) -> bool {
        self.snapshot.is_some()
    }

    /// Gives up the snapshot being written, if one is. Costs nothing by itself, but
    /// [`Tree::snapshot_piece`] must still be called while [`Tree::snapshot_in_progress`].
    pub fn abandon_snapshot(&mut self) {
        if let Some(writer) = &mut self.snapshot {
            writer.abandoned = true;
            writer.out = Vec::new();
        }
    }

    /// The next piece of the snapshot, of about `bytes`, or `None` if none is being written or it
    /// was given up.
    pub fn snapshot_piece(&mut self, bytes: usize) -> Option<Piece> {
        let mut writer = self.snapshot.take()?;
        // Znodes cost time even when nothing is written of them.
        let mut visits = (bytes / 16).max(1);
        while let Some(id) = writer.next
            && writer.out.len() < bytes
            && visits > 0
        {
            visits -= 1;
            writer.next = self.after(id, NodeId::ROOT);
            self.write_node(&mut writer, id);
        }
        let done = writer.next.is_none();
        if !writer.abandoned {
            if done {
                writer.end();
            }
            if let Form::File { .. } = writer.form {
                writer.adler.write(&writer.out);
            }
        }
        let out = core::mem::take(&mut writer.out);
        match (done, writer.abandoned) {
            (true, true) => None,
            (true, false) => Some(Piece::Last(out)),
            (false, abandoned) => {
                self.snapshot = Some(writer);
                (!abandoned).then_some(Piece::Part(out))
            }
        }
    }

    /// Writes a znode unless it is written, or was born after the snapshot began.
    fn write_node(&mut self, writer: &mut Writer, id: NodeId) {
        if self.node(id).mark() == self.mark {
            return;
        }
        writer.path.clear();
        self.write_path(id, &mut writer.path);
        let node = self.node(id);
        if !writer.abandoned {
            jute::append(&mut writer.out, writer.path.as_str());
            let acl = if node.acl.0 == 0 {
                -1
            } else {
                i64::from(node.acl.0)
            };
            let stat = node.stat(&self.rest(id));
            jute::append(
                &mut writer.out,
                &NodeRecord {
                    data: node.data(),
                    acl,
                    stat,
                },
            );
        }
        let mark = self.mark;
        self.node_mut(id).set_mark(mark);
    }

    /// Must be called before a znode changes: see the module's first words.
    pub(super) fn preserve(&mut self, id: NodeId) {
        if self.snapshot.is_none() || self.node(id).mark() == self.mark {
            return;
        }
        let Some(mut writer) = self.snapshot.take() else {
            return;
        };
        let mut chain = alloc::vec![id];
        let mut at = id;
        while at != NodeId::ROOT {
            at = NodeId(self.node(at).parent);
            chain.push(at);
        }
        for &id in chain.iter().rev() {
            self.write_node(&mut writer, id);
        }
        self.snapshot = Some(writer);
    }

    /// Must be called before a znode goes: the walk does not stand on it afterwards.
    pub(super) fn step_over(&mut self, id: NodeId) {
        if self
            .snapshot
            .as_ref()
            .is_some_and(|writer| writer.next == Some(id))
        {
            let next = self.after_subtree(id, NodeId::ROOT);
            if let Some(writer) = &mut self.snapshot {
                writer.next = next;
            }
        }
    }
}

impl Writer {
    fn end(&mut self) {
        self.out.extend_from_slice(&END);
        let digest = match self.form {
            Form::File { digest } => digest,
            Form::Stream => {
                self.out.extend_from_slice(&STREAM_END);
                return;
            }
        };
        self.seal();
        if let Some(digest) = digest {
            let record = DigestRecord {
                zxid: self.zxid,
                version: DIGEST_VERSION,
                digest: digest.cast_signed(),
            };
            jute::append(&mut self.out, &record);
            self.seal();
        }
    }

    /// Appends the checksum of everything up to here.
    fn seal(&mut self) {
        let mut adler = self.adler.clone();
        adler.write(&self.out);
        jute::append(&mut self.out, &i64::from(adler.finish()));
        self.out.extend_from_slice(&END);
    }
}
