//! Quotas: limits that an administrator wrote below `/zookeeper/quota`, and usage that the server
//! keeps beside them, in place: no version, no transaction, no watch.
//!
//! Source: `Quotas`, `StatsTrack`, `DataTree.updateQuotaStat`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{QUOTA, Tree};

const LIMITS: &str = "zookeeper_limits";
const STATS: &str = "zookeeper_stats";

/// What a path may use; `None` is unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Znodes, with a warning only.
    pub count: Option<i64>,
    /// Bytes of data, with a warning only.
    pub bytes: Option<i64>,
    /// Znodes, refused.
    pub count_hard: Option<i64>,
    /// Bytes of data, refused.
    pub bytes_hard: Option<i64>,
}

impl Limits {
    /// Reads ZooKeeper's text. What cannot be read limits nothing.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let mut limits = Self::default();
        let text = core::str::from_utf8(text).unwrap_or_default();
        for part in text.split([',', ';']) {
            let mut halves = part.split('=');
            let key = halves.next().unwrap_or_default().trim();
            let value = halves.next().and_then(|value| value.trim().parse().ok());
            let value = value.filter(|&limit: &i64| limit > -1);
            match key {
                "count" => limits.count = value,
                "bytes" => limits.bytes = value,
                "countHardLimit" => limits.count_hard = value,
                "byteHardLimit" => limits.bytes_hard = value,
                _ => {}
            }
        }
        limits
    }
}

/// What a path uses, itself and all below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Znodes.
    pub count: i64,
    /// Bytes of data.
    pub bytes: i64,
}

impl Usage {
    fn parse(text: &[u8]) -> Self {
        let Limits { count, bytes, .. } = Limits::parse(text);
        Self {
            count: count.unwrap_or(0),
            bytes: bytes.unwrap_or(0),
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            count: self.count.saturating_add(other.count),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

impl Tree {
    /// The quota that applies to a path: that of its deepest ancestor, or its own.
    ///
    /// The root has none: ZooKeeper does not support it.
    #[must_use]
    pub fn quota_of<'p>(&self, path: &'p str) -> Option<&'p str> {
        if self.quotas.is_empty() {
            return None;
        }
        let mut at = path;
        while !at.is_empty() {
            if self.quotas.contains_key(at) {
                return Some(at);
            }
            at = crate::path::split(at)?.0;
        }
        None
    }

    /// The paths that have a quota.
    pub fn quota_paths(&self) -> impl Iterator<Item = &str> {
        self.quotas.keys().map(String::as_str)
    }

    /// The limits of a path that has a quota.
    #[must_use]
    pub fn quota_limits(&self, path: &str) -> Limits {
        let found = self.find(&format!("{QUOTA}{path}/{LIMITS}"));
        found
            .and_then(|id| self.data(id))
            .map(Limits::parse)
            .unwrap_or_default()
    }

    /// The usage of a path that has a quota.
    #[must_use]
    pub fn quota_usage(&self, path: &str) -> Usage {
        let found = self.find(&format!("{QUOTA}{path}/{STATS}"));
        found
            .and_then(|id| self.data(id))
            .map(Usage::parse)
            .unwrap_or_default()
    }

    pub(super) fn quota_created(&mut self, path: &str, bytes: usize) {
        if let Some((limited, name)) = quota_node(path) {
            match name {
                LIMITS => {
                    self.quotas.insert(limited.into(), ());
                }
                STATS => self.recount(limited),
                _ => {}
            }
        }
        self.quota_use(path, 1, difference(0, bytes));
    }

    pub(super) fn quota_deleted(&mut self, path: &str, bytes: usize) {
        if let Some((limited, LIMITS)) = quota_node(path) {
            self.quotas.remove(limited);
        }
        self.quota_use(path, -1, difference(bytes, 0));
    }

    pub(super) fn quota_set(&mut self, path: &str, before: usize, after: usize) {
        self.quota_use(path, 0, difference(before, after));
    }

    fn quota_use(&mut self, path: &str, count: i64, bytes: i64) {
        if let Some(limited) = self.quota_of(path) {
            let usage = self.quota_usage(limited).plus(Usage { count, bytes });
            self.write_usage(limited, usage);
        }
    }

    fn recount(&mut self, limited: &str) {
        let mut usage = Usage::default();
        if let Some(top) = self.find(limited) {
            for id in self.walk(top) {
                let bytes = difference(0, self.node(id).data_length());
                usage = usage.plus(Usage { count: 1, bytes });
            }
        }
        self.write_usage(limited, usage);
    }

    fn write_usage(&mut self, limited: &str, usage: Usage) {
        let path = format!("{QUOTA}{limited}/{STATS}");
        if let Some(id) = self.find(&path) {
            self.preserve(id);
            let text = format!("count={},bytes={}", usage.count, usage.bytes);
            self.replace_data(id, &path, Some(text.as_bytes()));
        }
    }

    /// Finds the quotas of a tree that was just read, and what they are used.
    pub(super) fn recount_quotas(&mut self) {
        let Some(top) = self.find(QUOTA) else { return };
        let limits = self
            .walk(top)
            .filter(|&id| self.name(id) == LIMITS.as_bytes());
        let paths: Vec<String> = limits.map(|id| self.path(id)).collect();
        for path in paths {
            if let Some((limited, _)) = quota_node(&path) {
                self.quotas.insert(limited.into(), ());
                self.recount(limited);
            }
        }
    }
}

/// Whether the znode at this path gives another a quota.
pub(super) fn is_limit(path: &str) -> bool {
    quota_node(path).is_some_and(|(_, name)| name == LIMITS)
}

/// Whether the znode at this path has the usage of a quota, which each server keeps for itself.
pub(super) fn is_usage(path: &str) -> bool {
    quota_node(path).is_some_and(|(_, name)| name == STATS)
}

/// The path whose quota a znode is about, and the znode's own name.
fn quota_node(path: &str) -> Option<(&str, &str)> {
    // Of most paths the beginning already tells that they are none.
    let below = path.strip_prefix(QUOTA)?;
    let (limited, name) = crate::path::split(below)?;
    (!limited.is_empty()).then_some((limited, name))
}

fn difference(before: usize, after: usize) -> i64 {
    let signed = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX);
    signed(after) - signed(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_from_the_texts_of_all_versions() {
        let old = Limits::parse(b"count=10,bytes=-1");
        assert_eq!(
            old,
            Limits {
                count: Some(10),
                ..Limits::default()
            }
        );
        let new = Limits::parse(b"count=-1,bytes=-1=;byteHardLimit=7;countHardLimit=2");
        let hard = Limits {
            count_hard: Some(2),
            bytes_hard: Some(7),
            ..Limits::default()
        };
        assert_eq!(new, hard);
        assert_eq!(Limits::parse(b"\xff"), Limits::default());
        assert_eq!(Limits::parse(b"count=x"), Limits::default());
    }
}
