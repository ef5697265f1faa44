//! What a server says of itself by `srvr` and `mntr`: ours, or Apache ZooKeeper of any version.

use core::time::Duration;
use std::time::Instant;

use super::address::Address;
use super::word::{self, Silence};

/// A server's part in its ensemble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Role {
    Follower,
    Leader,
    /// It answers, but has no leader and serves nobody.
    NotServing,
    Observer,
    /// It has no leader and serves clients that may only read.
    ReadOnly,
    Standalone,
}

impl Role {
    pub(in crate::cli) const fn name(self) -> &'static str {
        match self {
            Self::Follower => "follower",
            Self::Leader => "leader",
            Self::NotServing => "not serving",
            Self::Observer => "observer",
            Self::ReadOnly => "read-only",
            Self::Standalone => "standalone",
        }
    }

    /// Whether it counts for a quorum that serves.
    pub(super) const fn votes(self) -> bool {
        matches!(self, Self::Follower | Self::Leader)
    }
}

/// A server's condition. What it does not say is `None`.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cli) struct Condition {
    pub(in crate::cli) role: Role,
    pub(in crate::cli) version: Option<String>,
    pub(in crate::cli) zxid: Option<u64>,
    pub(in crate::cli) connections: Option<u64>,
    /// Minimum, average and maximum in milliseconds.
    pub(in crate::cli) latency_ms: Option<(u64, f64, u64)>,
    pub(in crate::cli) nodes: Option<u64>,
    pub(in crate::cli) monitored: Option<Monitored>,
}

/// What only `mntr` tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Monitored {
    pub(in crate::cli) sessions: Option<u64>,
    /// How many voters the ensemble has.
    pub(in crate::cli) voters: Option<u64>,
    /// Voters that follow this leader and are in step.
    pub(in crate::cli) followers: Option<u64>,
}

/// What came of asking a server.
#[derive(Debug)]
pub(in crate::cli) enum Answer {
    Condition(Condition),
    /// It answered, but not as a ZooKeeper server does. Its first line.
    Strange(String),
    Silence(Silence),
}

/// Asks a server how it is.
pub(in crate::cli) fn ask(address: &Address, time_max: Duration) -> Answer {
    let begun = Instant::now();
    let mut answer = ask_role(address, time_max);
    if let Answer::Condition(condition) = &mut answer {
        let left = time_max.saturating_sub(begun.elapsed());
        // Without it, less is shown; the server is no worse for it.
        condition.monitored = word::ask(address, "mntr", left)
            .ok()
            .and_then(|text| monitored(&text));
    }
    answer
}

/// Asks a server only what every server answers.
pub(in crate::cli) fn ask_role(address: &Address, time_max: Duration) -> Answer {
    let text = match word::ask(address, "srvr", time_max) {
        Ok(text) => text,
        Err(silence) => return Answer::Silence(silence),
    };
    match read(&text) {
        Some(condition) => Answer::Condition(condition),
        None => {
            let line = text.lines().next().unwrap_or_default();
            Answer::Strange(line.chars().take(80).collect())
        }
    }
}

/// Reads the answer to `srvr`.
fn read(text: &str) -> Option<Condition> {
    if text.starts_with("This ZooKeeper instance is not currently serving requests") {
        return Some(Condition {
            role: Role::NotServing,
            version: None,
            zxid: None,
            connections: None,
            latency_ms: None,
            nodes: None,
            monitored: None,
        });
    }
    let value = |key: &str| {
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
    };
    let number = |key: &str| value(key)?.trim().parse().ok();
    Some(Condition {
        role: match value("Mode")?.trim() {
            "follower" => Role::Follower,
            "leader" => Role::Leader,
            "observer" => Role::Observer,
            "read-only" => Role::ReadOnly,
            "standalone" => Role::Standalone,
            _ => return None,
        },
        version: value("Zookeeper version").map(version),
        zxid: value("Zxid").and_then(|zxid| hexadecimal(zxid.trim())),
        connections: number("Connections"),
        latency_ms: value("Latency min/avg/max").and_then(latency),
        nodes: number("Node count"),
        monitored: None,
    })
}

/// `3.9.3-c26634f34490bb0ea7a09cc51e05ede3b4e320ee, built on …` without what only its builder
/// wants to know.
fn version(text: &str) -> String {
    let text = text.split(',').next().unwrap_or(text).trim();
    let short = text.rsplit_once('-').filter(|(_, hash)| {
        // ZooKeeper's own builds have the commit there, Debian's a variable that nothing has set.
        let commit = hash.len() == 40 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        commit || hash.starts_with("${")
    });
    short.map_or(text, |(version, _)| version).to_owned()
}

fn hexadecimal(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

fn latency(text: &str) -> Option<(u64, f64, u64)> {
    let mut parts = text.trim().split('/');
    let (min, average, max) = (parts.next()?, parts.next()?, parts.next()?);
    let average: f64 = average.parse().ok()?;
    let values = (min.parse().ok()?, average, max.parse().ok()?);
    average.is_finite().then_some(values)
}

/// Reads the answer to `mntr`, unless it is a refusal.
fn monitored(text: &str) -> Option<Monitored> {
    if !text.starts_with("zk_") {
        return None;
    }
    // A Prometheus provider prints every value as a double.
    let value = |key: &str| {
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix('\t'))?;
        let value = value.trim();
        value.strip_suffix(".0").unwrap_or(value).parse().ok()
    };
    let global: Option<u64> = value("zk_global_sessions");
    let local: Option<u64> = value("zk_local_sessions");
    Some(Monitored {
        sessions: global.map(|global| global.saturating_add(local.unwrap_or(0))),
        voters: value("zk_quorum_size"),
        followers: value("zk_synced_followers"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leader_of_apache_zookeeper_is_read() {
        let text = "Zookeeper version: 3.9.3-c26634f34490bb0ea7a09cc51e05ede3b4e320ee, built on \
                    2024-10-17 23:21 UTC\nLatency min/avg/max: 0/0.1429/3\nReceived: 8\nSent: 7\n\
                    Connections: 2\nOutstanding: 0\nZxid: 0x100000004\nMode: leader\n\
                    Node count: 5\nProposal sizes last/min/max: 36/36/36\n";
        let expected = Condition {
            role: Role::Leader,
            version: Some("3.9.3".to_owned()),
            zxid: Some(0x1_0000_0004),
            connections: Some(2),
            latency_ms: Some((0, 0.1429, 3)),
            nodes: Some(5),
            monitored: None,
        };
        assert_eq!(read(text), Some(expected));
    }

    #[test]
    fn server_without_a_leader_is_not_serving_or_read_only() {
        let role = |text| read(text).map(|condition| condition.role);
        let refusal = "This ZooKeeper instance is not currently serving requests\n";
        assert_eq!(role(refusal), Some(Role::NotServing));
        let text = "Zookeeper version: 3.4.13-2d71af4dbe, built on 06/29/2018 04:05 GMT\n\
                    READ-ONLY mode; serving only read-only clients\nLatency min/avg/max: 0/0/0\n\
                    Zxid: 0x0\nMode: read-only\nNode count: 4\n";
        assert_eq!(role(text), Some(Role::ReadOnly));
        assert_eq!(role("HTTP/1.1 400 Bad Request\r\n"), None);
    }

    #[test]
    fn sessions_and_voters_are_read_from_mntr_however_it_prints_numbers() {
        let text = "zk_version\t3.9.3\nzk_server_state\tleader\nzk_global_sessions\t3\n\
                    zk_local_sessions\t2\nzk_quorum_size\t5.0\nzk_synced_followers\t4\n";
        let expected = Monitored {
            sessions: Some(5),
            voters: Some(5),
            followers: Some(4),
        };
        assert_eq!(monitored(text), Some(expected));
        let refusal = "mntr is not executed because it is not in the whitelist.\n";
        assert_eq!(monitored(refusal), None);
    }

    #[test]
    fn version_loses_the_commit_and_nothing_else() {
        assert_eq!(
            version("3.8.0--1, built on 2022-02-25 08:49 UTC"),
            "3.8.0--1"
        );
        assert_eq!(
            version("3.9.5-zabra-0.1.0, built on x"),
            "3.9.5-zabra-0.1.0"
        );
    }
}
