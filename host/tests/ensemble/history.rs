//! What one session wrote and what it was told of it, to be compared with the tree in the end.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::tree::Tree;

/// The writes of one session, in its order. No other session writes to these paths.
pub(crate) struct History {
    session: i64,
    /// Everything is below it.
    root: String,
    writes: Vec<Write>,
    /// The indexes of the writes to each path.
    paths: BTreeMap<String, Vec<usize>>,
    sequential: Vec<Sequential>,
    zxid_last: i64,
    sequence_last: String,
}

/// One transaction: each path with what it then is; none if it is deleted.
struct Write {
    changes: Vec<(String, Option<Vec<u8>>)>,
    /// None if the reply never came.
    zxid: Option<i64>,
}

/// A create whose path is the server's choice. No two have the same data.
struct Sequential {
    data: Vec<u8>,
    acknowledged: Option<(String, i64)>,
}

impl History {
    pub(crate) fn new(session: i64, root: &str) -> Self {
        Self {
            session,
            root: root.to_owned(),
            writes: Vec::new(),
            paths: BTreeMap::new(),
            sequential: Vec::new(),
            zxid_last: 0,
            sequence_last: String::new(),
        }
    }

    /// Notes a write, with its zxid if it was acknowledged. No two write the same data to one path.
    pub(crate) fn write(&mut self, changes: &[(&str, Option<&[u8]>)], zxid: Option<i64>) {
        self.see_zxid(zxid);
        for (path, _) in changes {
            let of_path = self.paths.entry((*path).to_owned()).or_default();
            of_path.push(self.writes.len());
        }
        let changes = changes
            .iter()
            .map(|(path, data)| ((*path).to_owned(), data.map(<[u8]>::to_vec)))
            .collect();
        self.writes.push(Write { changes, zxid });
    }

    pub(crate) fn create_sequential(&mut self, data: &[u8], acknowledged: Option<(String, i64)>) {
        self.see_zxid(acknowledged.as_ref().map(|(_, zxid)| *zxid));
        if let Some((path, _)) = &acknowledged {
            assert!(
                *path > self.sequence_last,
                "{path} after {}",
                self.sequence_last
            );
            self.sequence_last.clone_from(path);
        }
        let data = data.to_vec();
        self.sequential.push(Sequential { data, acknowledged });
    }

    /// The values that a path may have.
    pub(crate) fn possible(&self, path: &str) -> Vec<Option<Vec<u8>>> {
        let of_path = self.of_path(path);
        let last = of_path
            .iter()
            .rposition(|(index, _)| self.writes.get(*index).is_some_and(|w| w.zxid.is_some()));
        let mut values: Vec<_> = of_path
            .iter()
            .skip(last.unwrap_or(0))
            .map(|(_, data)| data.clone())
            .collect();
        if last.is_none() {
            values.push(None);
        }
        values
    }

    pub(crate) fn acknowledged(&self) -> usize {
        let writes = self.writes.iter().filter(|w| w.zxid.is_some()).count();
        let sequential = self.sequential.iter();
        writes + sequential.filter(|s| s.acknowledged.is_some()).count()
    }

    pub(crate) fn unknown(&self) -> usize {
        self.writes.len() + self.sequential.len() - self.acknowledged()
    }

    /// Fails unless the tree is what this history can have led to: nothing acknowledged is lost,
    /// nothing was done twice or in part, and nothing is there that nobody wrote.
    pub(crate) fn verify(&self, tree: &Tree) {
        let states: BTreeMap<&str, _> = self
            .paths
            .keys()
            .map(|path| (path.as_str(), self.verify_path(path, tree)))
            .collect();
        self.verify_whole(&states);
        let items = self.items();
        self.verify_sequential(tree, &items);
        let below = format!("{}/", self.root);
        let extra: Vec<_> = tree
            .keys()
            .filter(|path| path.starts_with(&below) && !path.starts_with(&items))
            .filter(|path| !self.paths.contains_key(*path))
            .collect();
        assert!(extra.is_empty(), "nobody wrote {extra:?}");
    }

    /// The index of the write after which the path is as it is, if any.
    fn verify_path(&self, path: &str, tree: &Tree) -> Option<usize> {
        let found = tree.get(path);
        let data = found.map(|znode| znode.data.clone().unwrap_or_default());
        let possible = self.possible(path);
        assert!(
            possible.contains(&data),
            "session 0x{:x}: {path} is {}, not one of {:?}",
            self.session,
            text(&data),
            possible.iter().map(text).collect::<Vec<_>>()
        );
        let of_path = self.of_path(path);
        let (index, _) = of_path.into_iter().rev().find(|(_, d)| *d == data)?;
        let zxid = self.writes.get(index).and_then(|write| write.zxid);
        if let (Some(znode), Some(zxid)) = (found, zxid) {
            assert_eq!(
                znode.stat.mzxid, zxid,
                "session 0x{:x}: {path} was acknowledged with another zxid",
                self.session
            );
        }
        Some(index)
    }

    /// A transaction is done or not, everywhere.
    fn verify_whole(&self, states: &BTreeMap<&str, Option<usize>>) {
        for (index, write) in self.writes.iter().enumerate() {
            let done = write.changes.iter().filter_map(|(path, _)| {
                let state = states.get(path.as_str()).copied().flatten();
                match state.cmp(&Some(index)) {
                    core::cmp::Ordering::Less => Some(false),
                    core::cmp::Ordering::Equal => Some(true),
                    // What a later write has hidden tells nothing.
                    core::cmp::Ordering::Greater => None,
                }
            });
            let done: BTreeSet<_> = done.collect();
            assert!(
                done.len() < 2,
                "session 0x{:x}: half of {:?} was done",
                self.session,
                write.changes
            );
        }
    }

    fn verify_sequential(&self, tree: &Tree, items: &str) {
        let mut found: BTreeMap<&[u8], Vec<&str>> = BTreeMap::new();
        for (path, znode) in tree.iter().filter(|(path, _)| path.starts_with(items)) {
            let data = znode.data.as_deref().unwrap_or_default();
            found.entry(data).or_default().push(path);
        }
        for item in &self.sequential {
            let paths = found.remove(item.data.as_slice()).unwrap_or_default();
            let data = String::from_utf8_lossy(&item.data);
            assert!(paths.len() < 2, "{data} was created twice: {paths:?}");
            let Some((path, zxid)) = &item.acknowledged else {
                continue;
            };
            assert_eq!(paths, [path.as_str()], "session 0x{:x}", self.session);
            let stat = &tree.get(path).expect("it was found there").stat;
            assert_eq!(stat.czxid, *zxid, "{path}");
        }
        assert!(found.is_empty(), "nobody wrote {found:?}");
    }

    /// What the paths of sequential znodes begin with.
    pub(crate) fn items(&self) -> String {
        format!("{}/queue/item-", self.root)
    }

    fn of_path(&self, path: &str) -> Vec<(usize, Option<Vec<u8>>)> {
        let indexes = self.paths.get(path).into_iter().flatten();
        let data = |index: &usize| {
            let mut changes = self.writes.get(*index)?.changes.iter();
            let (_, data) = changes.find(|(other, _)| other == path)?;
            Some((*index, data.clone()))
        };
        indexes.filter_map(data).collect()
    }

    fn see_zxid(&mut self, zxid: Option<i64>) {
        if let Some(zxid) = zxid {
            assert!(
                zxid > self.zxid_last,
                "session 0x{:x}: zxid 0x{zxid:x} after 0x{:x}",
                self.session,
                self.zxid_last
            );
            self.zxid_last = zxid;
        }
    }
}

/// Fails if two sessions were told the same zxid.
pub(crate) fn verify_zxids(histories: &[History]) {
    let mut seen = BTreeMap::new();
    for history in histories {
        let writes = history.writes.iter().filter_map(|write| write.zxid);
        let acknowledged = history.sequential.iter().flat_map(|s| &s.acknowledged);
        for zxid in writes.chain(acknowledged.map(|(_, zxid)| *zxid)) {
            let other = seen.insert(zxid, history.session);
            assert_eq!(other, None, "zxid 0x{zxid:x} of 0x{:x}", history.session);
        }
    }
}

#[expect(clippy::ref_option, reason = "it is mapped over a list of them")]
fn text(data: &Option<Vec<u8>>) -> String {
    data.as_ref().map_or_else(
        || "absent".to_owned(),
        |data| String::from_utf8_lossy(data).into_owned(),
    )
}

/// What the other tests rely on: each wrong tree is found to be wrong.
mod tests {
    use super::History;
    use crate::support::tree::{Tree, Znode};
    use crate::support::wire::{Acl, Stat};

    const ONE: Option<&[u8]> = Some(b"1");
    const TWO: Option<&[u8]> = Some(b"2");

    fn znode(data: &[u8], zxid: i64) -> Znode {
        Znode {
            data: Some(data.to_vec()),
            stat: Stat {
                czxid: zxid,
                mzxid: zxid,
                ctime: 0,
                mtime: 0,
                version: 0,
                cversion: 0,
                aversion: 0,
                ephemeral_owner: 0,
                data_length: 1,
                num_children: 0,
                pzxid: zxid,
            },
            acl: Acl::open(),
        }
    }

    fn tree(znodes: &[(&str, &[u8], i64)]) -> Tree {
        let znodes = znodes.iter();
        znodes
            .map(|(path, data, zxid)| ((*path).to_owned(), znode(data, *zxid)))
            .collect()
    }

    /// `/w/a` was set twice, and the second time nobody knows whether together with `/w/b`.
    fn history() -> History {
        let mut history = History::new(1, "/w");
        history.write(&[("/w/a", ONE)], Some(5));
        history.write(&[("/w/a", TWO), ("/w/b", TWO)], None);
        history
    }

    #[test]
    fn what_is_unknown_may_be_there_or_not() {
        history().verify(&tree(&[("/w/a", b"1", 5)]));
        history().verify(&tree(&[("/w/a", b"2", 6), ("/w/b", b"2", 6)]));
    }

    #[test]
    #[should_panic(expected = "/w/a is absent")]
    fn a_lost_write_is_found() {
        history().verify(&tree(&[]));
    }

    #[test]
    #[should_panic(expected = "another zxid")]
    fn another_zxid_is_found() {
        history().verify(&tree(&[("/w/a", b"1", 6)]));
    }

    #[test]
    #[should_panic(expected = "half of")]
    fn half_a_transaction_is_found() {
        history().verify(&tree(&[("/w/a", b"2", 6)]));
    }

    #[test]
    #[should_panic(expected = "nobody wrote")]
    fn a_znode_from_nowhere_is_found() {
        history().verify(&tree(&[("/w/a", b"1", 5), ("/w/x", b"1", 6)]));
    }

    #[test]
    #[should_panic(expected = "created twice")]
    fn a_create_that_was_done_twice_is_found() {
        let mut history = History::new(1, "/w");
        history.create_sequential(b"1", Some(("/w/queue/item-0000000000".into(), 7)));
        history.verify(&tree(&[
            ("/w/queue/item-0000000000", b"1", 7),
            ("/w/queue/item-0000000001", b"1", 8),
        ]));
    }

    #[test]
    #[should_panic(expected = "zxid 0x4 after 0x5")]
    fn a_zxid_that_goes_back_is_found() {
        history().write(&[("/w/a", TWO)], Some(4));
    }
}
