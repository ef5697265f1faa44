//! What snapshots consist of, read from bytes cut anywhere.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::LoadError;
use crate::jute::{self, take};
use crate::tree::Tree;
use crate::tree::node::AclId;
use crate::wire::records::{Acl, AclText, Perms};
use crate::wire::snapshot::{END, MAGIC, NodePath, NodeRecord, SessionRecord};

/// What a znode has after its data: the number of its ACL and its stat.
const NODE_TAIL_BYTES: usize = 68;

/// Sessions, ACLs and znodes, on their way into a tree.
pub(super) struct Items {
    buffer: Vec<u8>,
    /// With fewer bytes in `buffer` the item at its front cannot be whole: what comes in a thousand
    /// pieces is not looked at a thousand times.
    needed: usize,
    part: Part,
    /// The greatest length of a string, of data and of an ACL.
    bytes_max: usize,
    acls: BTreeMap<i64, AclId>,
    /// The beginning of the ACL that is being read, and how many bytes it had.
    list: Vec<Acl>,
    list_bytes: usize,
}

/// What comes next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    /// The header of a file.
    Header,
    SessionCount,
    /// So many sessions, at least one.
    Sessions(i32),
    AclCount,
    /// So many ACLs, at least one.
    Acls(i32),
    /// So many entries of an ACL, at least one; then so many ACLs.
    AclEntries {
        id: i64,
        left: i32,
        lists: i32,
    },
    Nodes,
    /// What follows the znodes.
    Tail,
}

impl Items {
    pub(super) const fn new(part: Part, bytes_max: usize) -> Self {
        Self {
            buffer: Vec::new(),
            needed: 0,
            part,
            bytes_max,
            acls: BTreeMap::new(),
            list: Vec::new(),
            list_bytes: 0,
        }
    }

    /// Takes the next bytes, puts every item that is whole into the tree, and hands the bytes of
    /// these to `taken`. What follows the znodes stays.
    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        tree: &mut Tree,
        taken: &mut dyn FnMut(&[u8]),
    ) -> Result<(), LoadError> {
        // Most chunks begin inside an item: only that item is moved.
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() < self.needed {
            return Ok(());
        }
        let mut buffer = core::mem::take(&mut self.buffer);
        let mut input = buffer.as_slice();
        while !self.are_complete() {
            self.needed = self.bytes_needed(input)?;
            if input.len() < self.needed {
                break;
            }
            self.part = self.item(&mut input, tree)?;
        }
        let count = buffer.len() - input.len();
        taken(buffer.get(..count).unwrap_or_default());
        buffer.drain(..count);
        self.buffer = buffer;
        Ok(())
    }

    /// Whether the last znode was read.
    pub(super) const fn are_complete(&self) -> bool {
        matches!(self.part, Part::Tail)
    }

    /// What follows the last znode, as far as it is there.
    pub(super) fn rest(&self) -> &[u8] {
        &self.buffer
    }

    /// What follows the last znode, as far as it is there; then it is forgotten.
    pub(super) fn take_rest(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.buffer)
    }

    /// How many bytes the next item has; or, if that cannot be told from its beginning, at least
    /// has, more than are there.
    fn bytes_needed(&self, input: &[u8]) -> Result<usize, LoadError> {
        let texts = match self.part {
            Part::Header => return Ok(16),
            Part::SessionCount | Part::AclCount => return Ok(4),
            Part::Sessions(_) | Part::Acls(_) => return Ok(12),
            Part::Tail => return Ok(0),
            Part::AclEntries { .. } => {
                let scheme_end = self.text_end(input, 4)?;
                let bytes = if scheme_end > input.len() {
                    scheme_end
                } else {
                    self.text_end(input, scheme_end)?
                };
                self.bounded(self.list_bytes.saturating_add(bytes))?;
                return Ok(bytes);
            }
            Part::Nodes => self.text_end(input, 0)?,
        };
        if input.starts_with(&END) || texts > input.len() {
            return Ok(texts);
        }
        let data_end = self.text_end(input, texts)?;
        if input.len() < texts.saturating_add(4) {
            // Its length is looked at as soon as it is there.
            return Ok(data_end);
        }
        Ok(data_end.saturating_add(NODE_TAIL_BYTES))
    }

    /// Where the string or data at `at` ends, or something beyond the input if that is too short to
    /// tell.
    fn text_end(&self, input: &[u8], at: usize) -> Result<usize, LoadError> {
        let begin = at.saturating_add(4);
        let Some(mut length) = input.get(at..begin) else {
            return Ok(begin.max(input.len().saturating_add(1)));
        };
        let length: i32 = take(&mut length)?;
        if length == -1 {
            return Ok(begin);
        }
        let bytes = usize::try_from(length).map_err(|_| jute::Error::Length(length))?;
        Ok(begin.saturating_add(self.bounded(bytes)?))
    }

    const fn bounded(&self, bytes: usize) -> Result<usize, LoadError> {
        if bytes > self.bytes_max {
            return Err(LoadError::TooLong {
                found: bytes,
                max: self.bytes_max,
            });
        }
        Ok(bytes)
    }

    /// Reads an item that is whole, and says what comes after it.
    fn item(&mut self, input: &mut &[u8], tree: &mut Tree) -> Result<Part, LoadError> {
        Ok(match self.part {
            Part::Header => {
                let (head, rest) = input.split_at_checked(16).ok_or(LoadError::Short)?;
                if !head.starts_with(&MAGIC) {
                    return Err(LoadError::Magic);
                }
                *input = rest;
                Part::SessionCount
            }
            Part::SessionCount => Part::sessions(take(input)?),
            Part::Sessions(left) => {
                let session: SessionRecord = take(input)?;
                tree.sessions.insert(session.id, session.timeout_ms);
                Part::sessions(left - 1)
            }
            Part::AclCount => Part::acls(take(input)?),
            Part::Acls(left) => {
                let (id, entries): (i64, i32) = take(input)?;
                self.entries(id, entries, left - 1, tree)
            }
            Part::AclEntries { id, left, lists } => {
                let before = input.len();
                let entry: AclText<'_> = take(input)?;
                self.list.push(entry.to_acl());
                self.list_bytes += before - input.len();
                self.entries(id, left - 1, lists, tree)
            }
            Part::Nodes => {
                let path: NodePath<'_> = take(input)?;
                let path = path.or_empty();
                if path == "/" {
                    if tree.node_count() == 0 {
                        return Err(LoadError::NoRoot);
                    }
                    tree.acls.drop_unused();
                    return Ok(Part::Tail);
                }
                let record: NodeRecord<'_> = take(input)?;
                self.node(path, &record, tree)?;
                Part::Nodes
            }
            Part::Tail => Part::Tail,
        })
    }

    /// What comes when so many entries of an ACL are left, and so many ACLs after it.
    fn entries(&mut self, id: i64, left: i32, lists: i32, tree: &mut Tree) -> Part {
        if left > 0 {
            return Part::AclEntries { id, left, lists };
        }
        let list = core::mem::take(&mut self.list);
        self.list_bytes = 0;
        self.acl(tree, id, list.into());
        Part::acls(lists)
    }

    fn node(
        &mut self,
        path: &str,
        record: &NodeRecord<'_>,
        tree: &mut Tree,
    ) -> Result<(), LoadError> {
        let root = path.is_empty();
        let parent = crate::path::split(path).map(|(parent, _)| parent);
        let rooted = tree.node_count() > 0;
        if rooted && tree.find(path).is_some() {
            return Err(LoadError::Twice(path.into()));
        }
        let below = parent.is_some_and(|parent| tree.find_parent(parent).is_some());
        if !(root || rooted && below) {
            return Err(LoadError::Orphan(path.into()));
        }
        let acl = self.acl_of(tree, record.acl);
        tree.acls.retain(acl);
        tree.insert(path, record.data, acl, record.stat);
        Ok(())
    }

    fn acl(&mut self, tree: &mut Tree, id: i64, list: Arc<[Acl]>) -> AclId {
        let own = tree.acls.number(list);
        self.acls.insert(id, own);
        own
    }

    /// Our number for the snapshot's. A znode may name a list that a fuzzy snapshot does not have;
    /// the log will give it one, and until then nobody may do anything. Source: ZOOKEEPER-4689.
    fn acl_of(&mut self, tree: &mut Tree, id: i64) -> AclId {
        if id == -1 {
            return AclId(0);
        }
        match self.acls.get(&id) {
            Some(&own) => own,
            None => self.acl(tree, id, Arc::new([Acl::anyone(Perms(0))])),
        }
    }
}

impl Part {
    /// As in Java, a count below zero is none.
    const fn sessions(left: i32) -> Self {
        if left > 0 {
            Self::Sessions(left)
        } else {
            Self::AclCount
        }
    }

    const fn acls(left: i32) -> Self {
        if left > 0 {
            Self::Acls(left)
        } else {
            Self::Nodes
        }
    }
}
