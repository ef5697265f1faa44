//! Who is in the ensemble, from the lines that `conf` ends with: `server.N=…`.

use core::net::{IpAddr, SocketAddr};
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::texts::{self, Object};

/// The servers of an ensemble, as one of them tells of them.
#[derive(Default)]
pub(super) struct Members {
    /// This server; `None` if it stands alone.
    pub(super) me: Option<i64>,
    servers: BTreeMap<i64, Member>,
}

/// One of them.
pub(super) struct Member {
    /// `host:quorumPort:electionPort`, several of them with `|` between.
    addresses: String,
    /// `participant` or `observer`.
    role: String,
    /// `host:port`.
    pub(super) client: String,
}

impl Members {
    /// Reads the answer to `conf`. Of `clients`, where this server listens for them, the membership
    /// need not know.
    pub(super) fn of(conf: &str, clients: Option<IpAddr>) -> Self {
        let Some(lines) = texts::membership(conf) else {
            return Self::default();
        };
        let me = texts::line(conf, "serverId=").and_then(|id| id.parse().ok());
        let servers = lines.lines().filter_map(|line| {
            let (id, spec) = line.strip_prefix("server.")?.split_once('=')?;
            Some((id.parse().ok()?, Member::of(spec)))
        });
        let mut servers: BTreeMap<i64, Member> = servers.collect();
        let port = texts::line(conf, "clientPort=").and_then(|port| port.parse().ok());
        let own = me.and_then(|me| servers.get_mut(&me));
        if let (Some(own), Some(ip), Some(port)) = (own, clients, port)
            && own.client.is_empty()
        {
            own.client = SocketAddr::new(ip, port).to_string();
        }
        Self { me, servers }
    }

    pub(super) fn get(&self, id: i64) -> Option<&Member> {
        self.servers.get(&id)
    }

    /// A server's name or address.
    pub(super) fn host(&self, id: i64) -> Option<String> {
        let (host, _) = self.get(id)?.ports().next()?;
        Some(host.to_owned())
    }

    /// Source: `VotingViewCommand`, `QuorumServerView`.
    pub(super) fn voting_view(&self) -> Value {
        let voters = self.servers.iter().filter(|(_, member)| member.votes());
        let voters = voters.map(|(id, member)| {
            let spread = |port: fn((&str, (&str, &str))) -> String| -> Vec<String> {
                member.ports().map(port).collect()
            };
            let view = json!({
                "server_addresses": spread(|(host, (quorum, _))| format!("{host}:{quorum}")),
                "election_addresses": spread(|(host, (_, election))| format!("{host}:{election}")),
                "client_address": member.client,
                "learner_type": member.role,
            });
            (id.to_string(), view)
        });
        voters.collect::<Object>().into()
    }
}

impl Member {
    /// `host:2888:3888|host2:2888:3888:participant;0.0.0.0:2181`.
    fn of(spec: &str) -> Self {
        let (servers, client) = spec.split_once(';').unwrap_or((spec, ""));
        let role = match servers.rsplit_once(':') {
            Some((_, role @ ("participant" | "observer"))) => role,
            _ => "participant",
        };
        let addresses = servers.trim_end_matches(role).trim_end_matches(':');
        let client = client.split(';').next().unwrap_or_default();
        Self {
            addresses: addresses.to_owned(),
            role: role.to_owned(),
            client: client.to_owned(),
        }
    }

    pub(super) fn votes(&self) -> bool {
        self.role == "participant"
    }

    /// Each host with its two ports.
    fn ports(&self) -> impl Iterator<Item = (&str, (&str, &str))> + Clone {
        self.addresses.split('|').filter_map(|address| {
            let (rest, election) = address.rsplit_once(':')?;
            let (host, quorum) = rest.rsplit_once(':')?;
            Some((host, (quorum, election)))
        })
    }

    /// Source: `ZabStateCommand`.
    pub(super) fn quorum(&self) -> Value {
        addresses(self.ports().map(|(host, (quorum, _))| (host, quorum)))
    }

    /// Likewise.
    pub(super) fn election(&self) -> Value {
        addresses(self.ports().map(|(host, (_, election))| (host, election)))
    }
}

/// One server's addresses as Jackson shows ZooKeeper's `MultipleAddresses`. Which of them can be
/// reached is not tried: all are taken for it.
fn addresses<'a>(all: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Value {
    let texts: Vec<String> = all
        .clone()
        .map(|(host, port)| format!("{host}:{port}"))
        .collect();
    let wildcards = all.clone().map(|(_, port)| format!("0.0.0.0:{port}"));
    let ports: BTreeSet<u16> = all
        .clone()
        .filter_map(|(_, port)| port.parse().ok())
        .collect();
    let hosts: BTreeSet<&str> = all.map(|(host, _)| host).collect();
    let one = texts.first();
    json!({
        "empty": texts.is_empty(),
        "all_addresses": texts,
        "wildcard_addresses": wildcards.collect::<BTreeSet<_>>(),
        "all_ports": ports,
        "all_host_strings": hosts,
        "reachable_address": one,
        "all_reachable_addresses": texts,
        "all_reachable_addresses_or_all": texts,
        "reachable_or_one": one,
        "one": one,
    })
}
