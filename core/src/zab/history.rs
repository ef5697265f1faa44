//! The transactions a server has, as far as it keeps them in memory, and how many of them are
//! known to be committed.
//!
//! ```text
//!    base | entry entry entry | entry entry | entry        zxids ascend without gaps
//!         |        delivered^ |   committed^        last^
//! ```
//!
//! What follows `committed` is logged, or about to be, and may yet be cut off by a leader. The
//! tree is only ever given what is committed; only at a process's start it has the whole log, so
//! that `delivered` can be ahead of `committed`.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::ids::Zxid;

/// The last transactions of a server's log, without gaps.
#[derive(Debug)]
pub(super) struct History {
    base: Zxid,
    entries: VecDeque<(Zxid, Bytes)>,
    bytes: usize,
    committed: Zxid,
    delivered: Zxid,
}

/// Whether `next` can come right after `prev`: the next of its epoch, or the first of a later one.
///
/// A leader numbers without gaps, refused requests included; its first is 1. Source: spec 0.2,
/// ZOOKEEPER-4925.
pub(super) const fn follows(prev: Zxid, next: Zxid) -> bool {
    if next.epoch().0 == prev.epoch().0 {
        next.0 == prev.0 + 1
    } else {
        next.0 > prev.0 && next.counter() == 1
    }
}

impl History {
    /// What a store held. What comes before a gap is not kept: no learner is told of it.
    pub(super) fn recovered(base: Zxid, recent: Vec<(Zxid, Bytes)>) -> Self {
        let mut history = Self {
            base,
            entries: VecDeque::with_capacity(recent.len()),
            bytes: 0,
            committed: base,
            delivered: base,
        };
        for (zxid, txn) in recent {
            if follows(history.last(), zxid) {
                history.push(zxid, txn);
            } else {
                history.reset(zxid);
            }
        }
        history.committed = history.base;
        history.delivered = history.last();
        history
    }

    /// What comes before the first that is kept; 0 is before all.
    pub(super) const fn base(&self) -> Zxid {
        self.base
    }

    /// The last transaction, committed or not.
    pub(super) fn last(&self) -> Zxid {
        self.entries.back().map_or(self.base, |entry| entry.0)
    }

    /// Up to here all is known to be committed.
    pub(super) const fn committed(&self) -> Zxid {
        self.committed
    }

    /// Up to here the tree has everything.
    pub(super) const fn delivered(&self) -> Zxid {
        self.delivered
    }

    /// The first that is kept.
    pub(super) fn first(&self) -> Option<Zxid> {
        self.entries.front().map(|entry| entry.0)
    }

    /// How many are kept, and their bytes.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.entries.len(), self.bytes)
    }

    /// Whether `zxid` is one of the kept, or what comes before them.
    pub(super) fn contains(&self, zxid: Zxid) -> bool {
        zxid == self.base || self.floor(zxid) == Some(zxid)
    }

    /// The last that is not after `zxid`, `base` included.
    pub(super) fn floor(&self, zxid: Zxid) -> Option<Zxid> {
        match self.index_after(zxid).checked_sub(1) {
            Some(index) => self.entries.get(index).map(|entry| entry.0),
            None => (self.base <= zxid).then_some(self.base),
        }
    }

    /// All kept after `zxid`, in order.
    pub(super) fn after(&self, zxid: Zxid) -> impl Iterator<Item = &(Zxid, Bytes)> {
        self.entries.range(self.index_after(zxid)..)
    }

    /// The payload of a transaction that is kept; empty if it is not.
    pub(super) fn get(&self, zxid: Zxid) -> Bytes {
        let index = self.index_after(zxid).checked_sub(1);
        let entry = index.and_then(|index| self.entries.get(index));
        let found = entry.filter(|entry| entry.0 == zxid);
        found.map_or_else(Bytes::new, |entry| entry.1.clone())
    }

    /// Takes the next transaction.
    ///
    /// # Panics
    /// If it does not follow the last: whoever reads from a peer checks that before.
    pub(super) fn append(&mut self, zxid: Zxid, txn: Bytes) {
        assert!(
            follows(self.last(), zxid),
            "transactions are numbered without gaps"
        );
        self.push(zxid, txn);
    }

    /// Knows that all up to `upto` is committed.
    ///
    /// # Panics
    /// If `upto` is later than the last.
    pub(super) fn commit(&mut self, upto: Zxid) {
        assert!(upto <= self.last(), "only what there is can be committed");
        self.committed = self.committed.max(upto);
    }

    /// The next that is committed and that the tree does not have, which it is then taken to have.
    pub(super) fn deliver(&mut self) -> Option<(Zxid, Bytes)> {
        let entry = self.entries.get(self.index_after(self.delivered))?;
        if entry.0 > self.committed {
            return None;
        }
        self.delivered = entry.0;
        Some(entry.clone())
    }

    /// Drops what is after `to`.
    ///
    /// # Panics
    /// If the tree has some of it, or `to` is not in the history.
    pub(super) fn truncate(&mut self, to: Zxid) {
        assert!(
            to >= self.delivered,
            "what is delivered cannot be truncated"
        );
        assert!(
            self.contains(to),
            "only to a transaction that is kept can be truncated"
        );
        while self.last() > to {
            if let Some((_, txn)) = self.entries.pop_back() {
                self.bytes -= txn.len();
            }
        }
        self.committed = self.committed.min(to);
    }

    /// Forgets everything: the tree is a leader's, as of `to`.
    pub(super) fn reset(&mut self, to: Zxid) {
        self.entries.clear();
        self.bytes = 0;
        self.base = to;
        self.committed = to;
        self.delivered = to;
    }

    /// Drops the oldest beyond `txns_min` transactions and `bytes_max` bytes, but none after `pin`
    /// and none that is not committed and delivered.
    pub(super) fn trim(&mut self, txns_min: usize, bytes_max: usize, pin: Zxid) {
        let limit = pin.min(self.delivered).min(self.committed);
        while self.entries.len() > txns_min && self.bytes > bytes_max {
            if self.first().is_none_or(|first| first > limit) {
                return;
            }
            if let Some((zxid, txn)) = self.entries.pop_front() {
                self.bytes -= txn.len();
                self.base = zxid;
            }
        }
    }

    fn push(&mut self, zxid: Zxid, txn: Bytes) {
        self.bytes += txn.len();
        self.entries.push_back((zxid, txn));
    }

    fn index_after(&self, zxid: Zxid) -> usize {
        // Nearly all who ask want something close to the end, where no epoch begins.
        let close = self
            .entries
            .back()
            .and_then(|last| usize::try_from(last.0.0.checked_sub(zxid.0)?).ok())
            .and_then(|behind| self.entries.len().checked_sub(behind));
        if let Some(index) = close
            && let Some(before) = index.checked_sub(1)
            && self.entries.get(before).is_some_and(|it| it.0 == zxid)
        {
            return index;
        }
        self.entries.partition_point(|entry| entry.0 <= zxid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zxid(epoch: i64, counter: i64) -> Zxid {
        Zxid(epoch << 32 | counter)
    }

    fn history(zxids: &[(i64, i64)]) -> History {
        let recent = zxids
            .iter()
            .map(|&(e, c)| (zxid(e, c), Bytes::from_static(b"txn")));
        History::recovered(Zxid::ZERO, recent.collect())
    }

    #[test]
    fn next_of_the_epoch_or_first_of_a_later_one_follows() {
        for (prev, next, expected) in [
            ((0, 0), (1, 1), true),
            ((1, 1), (1, 2), true),
            ((1, 7), (2, 1), true),
            ((1, 7), (5, 1), true),
            ((2, 0), (2, 1), true),
            ((1, 1), (1, 3), false),
            ((1, 1), (2, 2), false),
            ((1, 1), (1, 1), false),
            ((2, 1), (1, 2), false),
            ((1, 7), (2, 0), false),
        ] {
            let (p, n) = (zxid(prev.0, prev.1), zxid(next.0, next.1));
            assert_eq!(follows(p, n), expected, "{prev:?} {next:?}");
        }
    }

    #[test]
    fn what_comes_before_a_gap_is_not_kept() {
        let history = history(&[(1, 1), (1, 2), (1, 4), (1, 5)]);
        assert_eq!(history.base(), zxid(1, 4));
        assert_eq!(history.first(), Some(zxid(1, 5)));
        assert_eq!(history.delivered(), zxid(1, 5));
        assert_eq!(history.committed(), zxid(1, 4));
    }

    #[test]
    fn floor_is_the_last_not_after() {
        let history = history(&[(1, 1), (1, 2), (3, 1)]);
        assert_eq!(history.floor(zxid(1, 2)), Some(zxid(1, 2)));
        assert_eq!(history.floor(zxid(2, 9)), Some(zxid(1, 2)));
        assert_eq!(history.floor(zxid(9, 9)), Some(zxid(3, 1)));
        assert_eq!(history.floor(zxid(0, 5)), Some(Zxid::ZERO));
        assert_eq!(history.floor(Zxid(-1)), None);
        assert!(history.contains(Zxid::ZERO) && !history.contains(zxid(2, 1)));
    }

    #[test]
    fn what_comes_after_is_found_in_every_epoch() {
        let kept = [(1, 3), (1, 4), (2, 1), (2, 2), (2, 3), (5, 1)];
        let history = history(&[&[(1, 2)], &kept[..]].concat());
        for (from, count) in [
            ((1, 1), 7),
            ((1, 2), 6),
            ((1, 4), 4),
            ((2, 0), 4),
            ((2, 1), 3),
            ((2, 3), 1),
            ((2, 9), 1),
            ((5, 0), 1),
            ((5, 1), 0),
            ((9, 1), 0),
        ] {
            assert_eq!(
                history.after(zxid(from.0, from.1)).count(),
                count,
                "{from:?}"
            );
        }
    }

    #[test]
    fn only_what_is_committed_is_delivered_and_once() {
        let mut history = history(&[]);
        for counter in 1..=3 {
            history.append(zxid(1, counter), Bytes::from_static(b"txn"));
        }
        assert_eq!(history.deliver(), None);
        history.commit(zxid(1, 2));
        assert_eq!(history.deliver().map(|entry| entry.0), Some(zxid(1, 1)));
        assert_eq!(history.deliver().map(|entry| entry.0), Some(zxid(1, 2)));
        assert_eq!(history.deliver(), None);
    }

    #[test]
    fn trimming_keeps_the_least_count_the_pinned_and_the_undelivered() {
        let mut history = history(&[]);
        for counter in 1..=9 {
            history.append(zxid(1, counter), Bytes::from_static(b"txn"));
        }
        history.trim(2, 0, zxid(1, 9));
        assert_eq!(history.base(), Zxid::ZERO);
        history.commit(zxid(1, 6));
        while history.deliver().is_some() {}
        history.trim(2, 0, zxid(1, 3));
        assert_eq!(history.base(), zxid(1, 3));
        history.trim(2, 0, zxid(1, 9));
        assert_eq!(history.base(), zxid(1, 6));
        history.commit(zxid(1, 9));
        while history.deliver().is_some() {}
        history.trim(2, 0, zxid(1, 9));
        assert_eq!(history.size(), (2, 6));
    }

    #[test]
    fn truncation_cuts_what_nobody_was_given() {
        let mut history = history(&[(1, 1)]);
        for counter in 2..=4 {
            history.append(zxid(1, counter), Bytes::from_static(b"txn"));
        }
        history.truncate(zxid(1, 2));
        assert_eq!(history.last(), zxid(1, 2));
        history.append(zxid(2, 1), Bytes::new());
        assert_eq!(history.size(), (3, 6));
    }
}
