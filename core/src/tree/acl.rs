//! ACL lists, each kept once however many znodes have it.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use hashbrown::HashMap;

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
        }
    }

    /// The number of a list, for one more user of it.
    pub(super) fn acquire(&mut self, list: Vec<Acl>) -> AclId {
        if let Some(&id) = self.ids.get(list.as_slice()) {
            self.retain(id);
            return id;
        }
        let id = self.next_id();
        self.restore(id, list.into());
        self.retain(id);
        id
    }

    /// A number that was never used.
    pub(super) fn next_id(&self) -> AclId {
        AclId(
            self.last
                .0
                .checked_add(1)
                .expect("2^32 different ACLs were never in use"),
        )
    }

    /// Puts a list under a number of its own, without users.
    pub(super) fn restore(&mut self, id: AclId, list: Arc<[Acl]>) {
        self.last = self.last.max(id);
        self.ids.insert(list.clone(), id);
        self.lists.insert(id, Entry { list, users: 0 });
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
        if let Some(entry) = self.lists.remove(&id)
            && self.ids.get(&entry.list) == Some(&id)
        {
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
