//! A leader's state, as it follows a SNAP packet.

use bytes::Bytes;

use super::items::{Items, Part};
use super::{LoadError, Tree};
use crate::ids::Zxid;
use crate::wire::snapshot::STREAM_END;

/// Builds a tree from the bytes that follow SNAP, and finds where they end.
///
/// The tree is the leader's in everything: its `/zookeeper/config`, and ephemeral znodes without a
/// session, too. A Java leader writes the sessions first and goes on applying, so the transactions
/// that follow may well create the session; and what is an orphan there must not vanish here alone.
/// For the same reason the state may be newer than its zxid, and the transactions after that are
/// applied all the same.
///
/// Source: spec 2.7, `ZKDatabase.serializeSnapshot`, `Learner.syncWithLeader`.
pub struct StreamLoader {
    tree: Tree,
    items: Items,
    is_complete: bool,
}

impl StreamLoader {
    /// A loader of the state as of `zxid`, the zxid of the SNAP packet. Strings, data and ACLs
    /// longer than `bytes_max` are refused before they are taken (`jute.maxbuffer`, with what Java
    /// adds to it); more than one of these is never held back.
    #[must_use]
    pub fn new(seed: u64, zxid: Zxid, bytes_max: usize) -> Self {
        let mut tree = Tree::bare(seed);
        tree.last = zxid;
        Self {
            tree,
            items: Items::new(Part::SessionCount, bytes_max),
            is_complete: false,
        }
    }

    /// Takes the next bytes, cut anywhere. `None` asks for more; else the state is complete, and
    /// these are the bytes after it, perhaps none.
    ///
    /// # Errors
    /// They are no state of a tree. The loader is of no use then.
    pub fn feed(&mut self, bytes: Bytes) -> Result<Option<Bytes>, LoadError> {
        if self.is_complete {
            return Ok(Some(bytes));
        }
        self.items.feed(&bytes, &mut self.tree, &mut |_| {})?;
        if !self.items.are_complete() {
            return Ok(None);
        }
        let rest = self.items.rest();
        let (signature, after) = rest
            .split_at_checked(STREAM_END.len())
            .unwrap_or((rest, &[]));
        if !STREAM_END.starts_with(signature) {
            return Err(LoadError::Signature);
        }
        if signature.len() < STREAM_END.len() {
            return Ok(None);
        }
        let end = bytes
            .len()
            .checked_sub(after.len())
            .expect("without its last piece the state was not complete");
        drop(self.items.take_rest());
        self.tree.recount_quotas();
        self.is_complete = true;
        Ok(Some(bytes.slice(end..)))
    }

    /// The tree.
    ///
    /// # Errors
    /// The state is not complete.
    pub fn finish(self) -> Result<Tree, LoadError> {
        if self.is_complete {
            Ok(self.tree)
        } else {
            Err(LoadError::Short)
        }
    }
}
