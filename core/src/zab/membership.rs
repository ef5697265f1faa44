//! Who is in the ensemble, where, and with what weight.

mod parse;
mod reconfig;
#[cfg(test)]
mod tests;

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

pub use parse::MembershipError;
pub use reconfig::ReconfigError;

use crate::ids::ServerId;
use crate::link::Endpoint;
use crate::sorted;

/// Who is in the ensemble: the servers, their weights and groups, and the version of it all.
///
/// Two are equal when version, servers, weights and groups are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The zxid of the transaction that made it; 0 is the first of all.
    pub version: i64,
    /// The servers.
    pub servers: BTreeMap<ServerId, Member>,
    /// Groups of a hierarchical quorum; none is a majority quorum.
    pub groups: BTreeMap<i64, Vec<ServerId>>,
    /// Weights of voters that are not 1, and whatever weight others have: for the arithmetic of a
    /// group it counts who is named in it.
    pub weights: BTreeMap<ServerId, u64>,
}

/// One server of the ensemble.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Where learners connect to it when it leads.
    pub quorum: Vec<Endpoint>,
    /// Where peers connect to it to elect.
    pub election: Vec<Endpoint>,
    /// Where clients connect, if the membership says it.
    pub client: Option<Endpoint>,
    /// Whether it has a vote.
    pub voter: bool,
}

impl Membership {
    /// The server of this id.
    #[must_use]
    pub fn member(&self, id: ServerId) -> Option<&Member> {
        self.servers.get(&id)
    }

    /// Whether this server has a vote.
    #[must_use]
    pub fn is_voter(&self, id: ServerId) -> bool {
        self.member(id).is_some_and(|member| member.voter)
    }

    /// Those that have a vote, ascending.
    pub fn voters(&self) -> impl Iterator<Item = (ServerId, &Member)> {
        let servers = self.servers.iter().map(|(&id, member)| (id, member));
        servers.filter(|(_, member)| member.voter)
    }

    /// Those that have none, ascending.
    pub fn observers(&self) -> impl Iterator<Item = (ServerId, &Member)> {
        let servers = self.servers.iter().map(|(&id, member)| (id, member));
        servers.filter(|(_, member)| !member.voter)
    }

    /// The weight of a server. A server of weight 0 is not elected.
    ///
    /// Source: `QuorumMaj.getWeight` (1 for any id, known or not), `QuorumHierarchical.getWeight`.
    #[must_use]
    pub fn weight(&self, id: ServerId) -> u64 {
        if self.groups.is_empty() {
            return 1;
        }
        let default = u64::from(self.is_voter(id));
        self.weights.get(&id).copied().unwrap_or(default)
    }

    /// Whether both have the same servers, weights and groups, whatever their versions. If not, a
    /// change from one to the other restarts the election. Source: spec 4.5, step 5.
    #[must_use]
    pub fn same_members(&self, other: &Self) -> bool {
        self.servers == other.servers
            && self.groups == other.groups
            && self.weights == other.weights
    }

    /// The text as it stands in notifications, in NEWLEADER, in the transaction and in
    /// `/zookeeper/config`: `version=` comes last, without an end of line.
    ///
    /// Source: spec 4.1, `QuorumMaj.toString`, `QuorumHierarchical.toString`.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = self.lines().join("\n");
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&format!("version={:x}", self.version));
        text
    }

    /// The text of a file `zoo.cfg.dynamic.<version>`: lines in the order of their text, without
    /// the version, which is in the file's name, and without a last end of line.
    ///
    /// Source: spec 4.5, `QuorumPeerConfig.writeDynamicConfig`.
    #[must_use]
    pub fn to_file_text(&self) -> String {
        let mut lines = self.lines();
        lines.sort();
        lines.join("\n")
    }

    fn lines(&self) -> Vec<String> {
        let servers = self.servers.iter();
        let mut lines: Vec<String> = servers
            .map(|(id, member)| format!("server.{id}={member}"))
            .collect();
        if self.groups.is_empty() {
            return lines;
        }
        for (group, servers) in &self.groups {
            let ids = sorted::set(servers.iter().copied());
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            lines.push(format!("group.{group}={}", ids.join(":")));
        }
        // Every voter's, the 1 that goes without saying included.
        let voters = self.voters().map(|(id, _)| id);
        let weighed = sorted::set(voters.chain(self.weights.keys().copied()));
        for id in weighed {
            lines.push(format!("weight.{id}={}", self.weight(id)));
        }
        lines
    }
}

/// Puts a member's addresses in the order in which they stand in a text.
fn sort_by_host(endpoints: &mut [Endpoint]) {
    endpoints.sort_by(|a, b| a.host.cmp(&b.host));
}

impl fmt::Display for Member {
    /// The value of its `server.N`. Source: `QuorumPeer.QuorumServer.toString`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut quorum = self.quorum.clone();
        let mut election = self.election.clone();
        sort_by_host(&mut quorum);
        sort_by_host(&mut election);
        for (index, (quorum, election)) in quorum.iter().zip(&election).enumerate() {
            let before = if index == 0 { "" } else { "|" };
            write!(f, "{before}{quorum}:{}", election.port)?;
        }
        f.write_str(if self.voter {
            ":participant"
        } else {
            ":observer"
        })?;
        match &self.client {
            Some(client) => write!(f, ";{client}"),
            None => Ok(()),
        }
    }
}

/// Whether an address stands for every address of its machine.
fn is_wildcard(host: &str) -> bool {
    host.parse::<core::net::IpAddr>()
        .is_ok_and(|ip| ip.is_unspecified())
}

/// An address as Java writes it: literals of IPv6 in eight groups, names as they are.
///
/// Source: `InetSocketAddress.getHostString`, `Inet6Address.getHostAddress`.
fn canonical_host(host: &str) -> String {
    match host.parse::<core::net::Ipv6Addr>() {
        Ok(address) => match address.to_ipv4_mapped() {
            Some(v4) => v4.to_string(),
            None => {
                let groups = address.segments().map(|group| format!("{group:x}"));
                groups.join(":")
            }
        },
        Err(_) => host.to_owned(),
    }
}
