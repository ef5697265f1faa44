//! ACL lists, each kept once however many znodes have it.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use hashbrown::HashMap;

use super::footprint;
use super::node::AclId;
use crate::wire::records::{Acl, Perms};

type Hasher = foldhash::fast::FixedState;

/// The lists in use, numbered from 1 in the order of first use. Numbers are never used again.
#[derive(Debug)]
pub(super) struct AclTable {
    open: Arc<[Acl]>,
    lists: BTreeMap<AclId, Entry>,
    ids: HashMap<Arc<[Acl]>, AclId, Hasher>,
    last: AclId,
    /// What the lists take by [`footprint::acl`].
    memory: u64,
}

#[derive(Debug)]
struct Entry {
    list: Arc<[Acl]>,
    users: usize,
}

impl AclTable {
    pub(super) fn new() -> Self {
        Self {
            open: Arc::new([Acl::anyone(Perms::ALL)]),
            lists: BTreeMap::new(),
            ids: HashMap::with_hasher(Hasher::default()),
            last: AclId(0),
            memory: 0,
        }
    }

    /// The number of a list, for one more user of it.
    pub(super) fn acquire(&mut self, list: Vec<Acl>) -> AclId {
        let known = self.ids.get(list.as_slice()).copied();
        let id = known.unwrap_or_else(|| self.number(list.into()));
        self.retain(id);
        id
    }

    /// The number of a list that may be without users; one that was never used if the list is new.
    pub(super) fn number(&mut self, list: Arc<[Acl]>) -> AclId {
        if let Some(&id) = self.ids.get(&list) {
            return id;
        }
        let next = self.last.0.checked_add(1);
        let id = AclId(next.expect("2^32 different ACLs were never in use"));
        self.last = id;
        self.memory += footprint::acl(&list);
        self.ids.insert(list.clone(), id);
        self.lists.insert(id, Entry { list, users: 0 });
        id
    }

    /// Whether a list is there.
    pub(super) fn has(&self, list: &[Acl]) -> bool {
        self.ids.contains_key(list)
    }

    /// See [`Tree::memory`](super::Tree::memory).
    pub(super) const fn memory(&self) -> u64 {
        self.memory
    }

    pub(super) fn retain(&mut self, id: AclId) {
        if let Some(entry) = self.lists.get_mut(&id) {
            entry.users += 1;
        }
    }

    /// One user less.
    pub(super) fn release(&mut self, id: AclId) {
        let Some(entry) = self.lists.get_mut(&id) else {
            return;
        };
        assert!(
            entry.users > 0,
            "an ACL is released as often as it was acquired"
        );
        entry.users -= 1;
        if entry.users == 0 {
            self.remove(id);
        }
    }

    fn remove(&mut self, id: AclId) {
        if let Some(entry) = self.lists.remove(&id) {
            self.memory -= footprint::acl(&entry.list);
            self.ids.remove(&entry.list);
        }
    }

    /// Forgets lists that a snapshot named but no znode has.
    pub(super) fn drop_unused(&mut self) {
        let unused = self.lists.iter().filter(|(_, entry)| entry.users == 0);
        for id in unused.map(|(&id, _)| id).collect::<Vec<_>>() {
            self.remove(id);
        }
    }

    #[cfg(test)]
    fn contains(&self, id: AclId) -> bool {
        id == AclId(0) || self.lists.contains_key(&id)
    }

    pub(super) fn list(&self, id: AclId) -> &Arc<[Acl]> {
        if id == AclId(0) {
            return &self.open;
        }
        &self
            .lists
            .get(&id)
            .expect("a list stays while a znode has its number")
            .list
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (AclId, &Arc<[Acl]>)> {
        self.lists.iter().map(|(&id, entry)| (id, &entry.list))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_lists_share_a_number_until_the_last_user_goes() {
        let mut table = AclTable::new();
        let a = table.acquire(alloc::vec![Acl::anyone(Perms::READ)]);
        let b = table.acquire(alloc::vec![Acl::anyone(Perms::READ)]);
        let c = table.acquire(alloc::vec![Acl::anyone(Perms::ALL)]);
        assert_eq!((a, b, c), (AclId(1), AclId(1), AclId(2)));
        table.release(a);
        assert!(table.contains(a));
        table.release(b);
        assert!(!table.contains(a));
        assert_eq!(
            table.acquire(alloc::vec![Acl::anyone(Perms::READ)]),
            AclId(3)
        );
    }
}
