//! Watches: which connection wants to know what about which path.
//!
//! They belong to connections, not to sessions, and so are no part of the replicated state.
//! Source: `WatchManager`, `WatcherMode`.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use hashbrown::HashMap;

use crate::ids::LinkId;
use crate::sorted;
use crate::wire::client::EventType;

/// How a watch behaves; several modes of one connection on one path stand beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It stays when it fired.
    Persistent,
    /// It stays, and is on everything below its path too.
    Recursive,
    /// It fires once.
    Standard,
}

/// A set of modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modes(u8);

impl Modes {
    /// Any mode.
    pub const ALL: Self = Self(7);

    /// Just this one.
    #[must_use]
    pub const fn only(mode: Mode) -> Self {
        Self(match mode {
            Mode::Persistent => 1,
            Mode::Recursive => 2,
            Mode::Standard => 4,
        })
    }

    const fn has(self, mode: Mode) -> bool {
        self.0 & Self::only(mode).0 != 0
    }
}

/// What a watch is set on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Creations and deletions of children.
    Child,
    /// The znode itself.
    Data,
}

/// All watches of a server.
#[derive(Debug, Default)]
pub struct Watches {
    data: OneTable,
    child: OneTable,
}

type Hasher = foldhash::fast::FixedState;

#[derive(Debug, Default)]
struct OneTable {
    /// Watchers in the order of their connections' numbers.
    by_path: HashMap<String, Vec<(LinkId, Modes)>, Hasher>,
    by_link: BTreeMap<LinkId, BTreeSet<String>>,
    count: usize,
    recursive: usize,
}

impl Watches {
    /// No watches. `seed` keeps others from guessing which paths collide; it never shows.
    #[must_use]
    pub fn with_seed(seed: u64) -> Self {
        let table = || OneTable {
            by_path: HashMap::with_hasher(Hasher::with_seed(seed)),
            ..OneTable::default()
        };
        Self {
            data: table(),
            child: table(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.data.count == 0 && self.child.count == 0
    }

    /// How many there are, counting those of each mode.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.data.count + self.child.count
    }

    /// Sets a watch; setting it twice is setting it once.
    pub fn add(&mut self, table: Table, path: &str, link: LinkId, mode: Mode) {
        self.table(table).add(path, link, mode);
    }

    /// Takes watches away, and says whether there was one.
    pub fn remove(&mut self, table: Table, path: &str, link: LinkId, modes: Modes) -> bool {
        self.table(table).remove(path, link, modes)
    }

    /// Whether there is such a watch.
    #[must_use]
    pub fn has(&self, table: Table, path: &str, link: LinkId, modes: Modes) -> bool {
        let table = match table {
            Table::Child => &self.child,
            Table::Data => &self.data,
        };
        let found = table.by_path.get(path).and_then(|watchers| {
            let at = watchers
                .binary_search_by_key(&link, |&(link, _)| link)
                .ok()?;
            watchers.get(at)
        });
        found.is_some_and(|(_, have)| have.0 & modes.0 != 0)
    }

    /// Forgets a connection that is gone.
    pub fn drop_link(&mut self, link: LinkId) {
        self.data.drop_link(link);
        self.child.drop_link(link);
    }

    /// The connections to tell about a change, in an order that is the same everywhere; standard
    /// watches that fire are gone afterwards.
    pub fn fire(&mut self, table: Table, path: &str, event: EventType) -> Vec<LinkId> {
        self.table(table).fire(path, event)
    }

    /// The paths of the data table with their watchers, sorted: what `wchp` shows.
    #[must_use]
    pub fn data_by_path(&self) -> BTreeMap<&str, Vec<LinkId>> {
        let paths = self.data.by_path.iter();
        sorted::map(paths.map(|(path, watchers)| (&**path, watchers.iter().map(|w| w.0).collect())))
    }

    /// The watchers of the data table with their paths: what `wchc` shows.
    pub fn data_by_link(&self) -> impl ExactSizeIterator<Item = (LinkId, &BTreeSet<String>)> {
        self.data.by_link.iter().map(|(&link, paths)| (link, paths))
    }

    /// Entries of the data table: what `wchs` counts.
    #[must_use]
    pub fn data_entries(&self) -> usize {
        self.data.by_link.values().map(BTreeSet::len).sum()
    }

    const fn table(&mut self, table: Table) -> &mut OneTable {
        match table {
            Table::Child => &mut self.child,
            Table::Data => &mut self.data,
        }
    }
}

impl OneTable {
    fn add(&mut self, path: &str, link: LinkId, mode: Mode) {
        if !self.by_path.contains_key(path) {
            self.by_path.insert(path.into(), Vec::new());
        }
        let watchers = self
            .by_path
            .get_mut(path)
            .expect("it was just made sure of");
        let at = match watchers.binary_search_by_key(&link, |&(link, _)| link) {
            Ok(at) => at,
            Err(at) => {
                watchers.insert(at, (link, Modes(0)));
                self.by_link.entry(link).or_default().insert(path.into());
                at
            }
        };
        if let Some((_, modes)) = watchers.get_mut(at)
            && !modes.has(mode)
        {
            modes.0 |= Modes::only(mode).0;
            self.count += 1;
            self.recursive += usize::from(mode == Mode::Recursive);
        }
    }

    fn remove(&mut self, path: &str, link: LinkId, remove: Modes) -> bool {
        let Some(watchers) = self.by_path.get_mut(path) else {
            return false;
        };
        let Ok(at) = watchers.binary_search_by_key(&link, |&(link, _)| link) else {
            return false;
        };
        let Some((_, modes)) = watchers.get_mut(at) else {
            return false;
        };
        let gone = Modes(modes.0 & remove.0);
        modes.0 &= !remove.0;
        self.count -= gone.0.count_ones() as usize;
        self.recursive -= usize::from(gone.has(Mode::Recursive));
        if modes.0 == 0 {
            watchers.remove(at);
            if watchers.is_empty() {
                self.by_path.remove(path);
            }
            if let Some(paths) = self.by_link.get_mut(&link) {
                paths.remove(path);
                if paths.is_empty() {
                    self.by_link.remove(&link);
                }
            }
        }
        gone.0 != 0
    }

    fn drop_link(&mut self, link: LinkId) {
        for path in self.by_link.get(&link).cloned().unwrap_or_default() {
            self.remove(&path, link, Modes::ALL);
        }
    }

    fn fire(&mut self, path: &str, event: EventType) -> Vec<LinkId> {
        let mut told: BTreeSet<LinkId> = BTreeSet::new();
        for &(link, modes) in self.by_path.get(path).into_iter().flatten() {
            // A recursive watch never hears of children changing: each child tells for itself.
            let only_recursive = modes == Modes::only(Mode::Recursive);
            if !(only_recursive && event == EventType::CHILDREN_CHANGED) {
                told.insert(link);
            }
        }
        if self.recursive > 0 && event != EventType::CHILDREN_CHANGED {
            let mut at = path;
            while let Some((parent, _)) = crate::path::split(at)
                && at != "/"
            {
                at = parent;
                let key = if at.is_empty() { "/" } else { at };
                for &(link, modes) in self.by_path.get(key).into_iter().flatten() {
                    if modes.has(Mode::Recursive) {
                        told.insert(link);
                    }
                }
            }
        }
        self.spend(path);
        told.into_iter().collect()
    }

    /// Takes the standard watches of a path away, in one pass: there may be as many as clients.
    fn spend(&mut self, path: &str) {
        let Some(watchers) = self.by_path.get_mut(path) else {
            return;
        };
        watchers.retain_mut(|(link, modes)| {
            if modes.has(Mode::Standard) {
                modes.0 &= !Modes::only(Mode::Standard).0;
                self.count -= 1;
            }
            if modes.0 == 0
                && let Some(paths) = self.by_link.get_mut(link)
            {
                paths.remove(path);
                if paths.is_empty() {
                    self.by_link.remove(link);
                }
            }
            modes.0 != 0
        });
        if watchers.is_empty() {
            self.by_path.remove(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: LinkId = LinkId(1);
    const B: LinkId = LinkId(2);

    #[test]
    fn a_standard_watch_fires_once_and_a_persistent_one_stays() {
        let mut watches = Watches::default();
        watches.add(Table::Data, "/a", A, Mode::Standard);
        watches.add(Table::Data, "/a", B, Mode::Persistent);
        watches.add(Table::Data, "/a", B, Mode::Standard);
        assert_eq!(watches.count(), 3);
        assert_eq!(watches.fire(Table::Data, "/a", EventType::CREATED), [A, B]);
        assert_eq!(watches.fire(Table::Data, "/a", EventType::DELETED), [B]);
        assert_eq!(watches.count(), 1);
    }

    #[test]
    fn a_recursive_watch_hears_of_all_below_but_not_of_children_changing() {
        let mut watches = Watches::default();
        watches.add(Table::Data, "/a", A, Mode::Recursive);
        watches.add(Table::Data, "/", B, Mode::Recursive);
        assert_eq!(
            watches.fire(Table::Data, "/a/b/c", EventType::CREATED),
            [A, B]
        );
        assert_eq!(watches.fire(Table::Data, "/ab", EventType::CREATED), [B]);
        assert_eq!(watches.fire(Table::Data, "/", EventType::DATA_CHANGED), [B]);
        assert_eq!(
            watches.fire(Table::Child, "/a", EventType::CHILDREN_CHANGED),
            []
        );
        watches.drop_link(A);
        watches.drop_link(B);
        assert!(watches.is_empty());
        assert_eq!(watches.fire(Table::Data, "/a", EventType::DELETED), []);
    }

    #[test]
    fn removing_a_watch_says_whether_it_was_there() {
        let mut watches = Watches::default();
        watches.add(Table::Child, "/a", A, Mode::Standard);
        assert!(!watches.remove(Table::Data, "/a", A, Modes::ALL));
        assert!(!watches.remove(Table::Child, "/a", A, Modes::only(Mode::Persistent)));
        assert!(watches.has(Table::Child, "/a", A, Modes::ALL));
        assert!(watches.remove(Table::Child, "/a", A, Modes::only(Mode::Standard)));
        assert!(watches.is_empty());
    }
}
