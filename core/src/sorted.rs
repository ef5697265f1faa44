//! Sets and maps that are filled one by one.
//!
//! `collect` sorts first, and every type that is sorted costs a module some 6 kB.

use alloc::collections::{BTreeMap, BTreeSet};

/// A set of these.
pub(crate) fn set<T: Ord>(items: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    let mut set = BTreeSet::new();
    set.extend(items);
    set
}

/// A map of these; of equal keys the last counts.
pub(crate) fn map<K: Ord, V>(items: impl IntoIterator<Item = (K, V)>) -> BTreeMap<K, V> {
    let mut map = BTreeMap::new();
    map.extend(items);
    map
}
