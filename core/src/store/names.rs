//! The names of log and snapshot files.
//!
//! Source: ZooKeeper `Util.getZxidFromName`, `SnapStream`. A name that does not parse here is no
//! file of ours, and stays untouched.

use alloc::format;
use alloc::string::String;

use crate::ids::Zxid;

/// What the name of a snapshot begins with while it is being written. ZooKeeper ignores such files.
pub const UNFINISHED_SNAPSHOT_PREFIX: &str = "tmp-snapshot.";

/// The greatest epoch whose leader this server has promised to follow, as decimal text.
pub const ACCEPTED_EPOCH: &str = "acceptedEpoch";

/// The epoch of the last leader whose history this server has taken over, as decimal text.
pub const CURRENT_EPOCH: &str = "currentEpoch";

/// How a snapshot file is compressed; its suffix says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// `.gz`: gzip.
    Gzip,
    /// `.snappy`: blocks of raw Snappy in xerial's framing.
    Snappy,
}

impl Compression {
    /// What the name of such a snapshot ends with.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Snappy => ".snappy",
        }
    }
}

/// The name of the log file whose first record is `zxid`.
#[must_use]
pub fn log(zxid: Zxid) -> String {
    format!("log.{:x}", zxid.0)
}

/// The zxid in a log file's name, if it is one.
#[must_use]
pub fn parse_log(name: &str) -> Option<Zxid> {
    parse_hex(name.strip_prefix("log.")?)
}

/// The name of the snapshot of the state at `zxid`.
#[must_use]
pub fn snapshot(zxid: Zxid, compression: Compression) -> String {
    format!("snapshot.{:x}{}", zxid.0, compression.suffix())
}

/// The name of the same snapshot while it is being written.
#[must_use]
pub fn unfinished_snapshot(zxid: Zxid, compression: Compression) -> String {
    format!(
        "{UNFINISHED_SNAPSHOT_PREFIX}{:x}{}",
        zxid.0,
        compression.suffix()
    )
}

/// The zxid and the compression in a snapshot's name, if it is one.
#[must_use]
pub fn parse_snapshot(name: &str) -> Option<(Zxid, Compression)> {
    let rest = name.strip_prefix("snapshot.")?;
    let (hex, compression) = match rest.split_once('.') {
        None => (rest, Compression::None),
        Some((hex, "gz")) => (hex, Compression::Gzip),
        Some((hex, "snappy")) => (hex, Compression::Snappy),
        Some(_) => return None,
    };
    Some((parse_hex(hex)?, compression))
}

/// The number, read as Java's `Long.parseLong(…, 16)` does; negative ones are nobody's zxid.
fn parse_hex(hex: &str) -> Option<Zxid> {
    i64::from_str_radix(hex, 16)
        .ok()
        .filter(|zxid| *zxid >= 0)
        .map(Zxid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_zookeepers() {
        let zxid = Zxid(0x1_0000_002d);
        assert_eq!(log(zxid), "log.10000002d");
        assert_eq!(parse_log("log.10000002d"), Some(zxid));
        assert_eq!(snapshot(Zxid::ZERO, Compression::None), "snapshot.0");
        for compression in [Compression::None, Compression::Gzip, Compression::Snappy] {
            let name = snapshot(zxid, compression);
            assert_eq!(parse_snapshot(&name), Some((zxid, compression)));
        }
    }

    #[test]
    fn other_names_are_not_ours() {
        for name in [
            "log",
            "log.",
            "log.x",
            "log.-1",
            "log.1.bak",
            "logs.1",
            "log.1ffffffffffffffff",
        ] {
            assert_eq!(parse_log(name), None, "{name}");
        }
        let unfinished = unfinished_snapshot(Zxid(5), Compression::Gzip);
        for name in [
            "snapshot.1.tmp",
            "snapshot..gz",
            "snapshot.1.gz.gz",
            "snapshot.g",
            &unfinished,
        ] {
            assert_eq!(parse_snapshot(name), None, "{name}");
        }
    }
}
