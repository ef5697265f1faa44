//! From text to a [`Membership`].
//!
//! Source: spec 4.1, `QuorumPeerConfig.parseDynamicConfig`, `QuorumPeer.QuorumServer`,
//! `QuorumHierarchical.parse`.

use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::{Member, Membership, canonical_host, is_wildcard, sort_by_host};
use crate::ids::ServerId;
use crate::link::Endpoint;
use crate::sorted;
use crate::wire::properties::{self, Property};

/// What is wrong with the text of a membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembershipError {
    /// The line of the text, from 1; 0 when it is about no line.
    pub line: u32,
    /// The key: `server.1`; empty when it is about none.
    pub key: String,
    /// What was expected, what was found, and what to do.
    pub text: String,
}

impl fmt::Display for MembershipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.text)
    }
}

impl core::error::Error for MembershipError {}

/// The form of the value of `server.N`.
const EXPECTED: &str = "host:quorumPort:electionPort[|host:quorumPort:electionPort…]\
    [:participant|:observer][;[clientAddress:]clientPort]";

impl Membership {
    /// Reads the text of a membership; one without a version has version 0.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, MembershipError> {
        let properties = properties::parse(text).map_err(|bad| {
            let bad = bad.into_iter().next();
            let (line, text) = bad.map(|bad| (bad.line, bad.text)).unwrap_or_default();
            MembershipError {
                line,
                key: String::new(),
                text,
            }
        })?;
        Self::from_properties(&properties).map_err(|errors| {
            let first = errors.into_iter().next();
            first.unwrap_or_else(|| whole("is not a membership"))
        })
    }

    /// Reads a membership from the properties of a text.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, in the order of the lines as far as it is about one.
    pub fn from_properties(properties: &[Property]) -> Result<Self, Vec<MembershipError>> {
        let mut draft = Draft::default();
        for property in properties {
            draft.read(property);
        }
        // What is behind a wrong line is not known, and not worth a guess.
        if draft.errors.is_empty() {
            draft.check_groups();
        }
        if draft.errors.is_empty() {
            draft.check_quorum();
        }
        if draft.errors.is_empty() {
            Ok(draft.membership)
        } else {
            Err(draft.errors)
        }
    }

    /// The servers that cannot work together as the membership stands, for whoever writes one by
    /// hand: Java takes such a text, so one that is in force somewhere is not refused. Each is a
    /// server and what is wrong with its addresses.
    #[must_use]
    pub fn conflicts(&self) -> Vec<(ServerId, String)> {
        let mut conflicts = Vec::new();
        let mut taken: Vec<(&Endpoint, ServerId)> = Vec::new();
        for (&id, member) in &self.servers {
            let peers = member.quorum.iter().chain(&member.election);
            // Each server may serve the clients of its own machine only.
            let client = member.client.iter().filter(|to| !is_loopback(&to.host));
            let own: Vec<&Endpoint> = peers.chain(client).collect();
            for (index, address) in own.iter().enumerate() {
                if is_wildcard(&address.host) {
                    continue;
                }
                let within = own.iter().take(index).map(|&other| (other, id));
                let clash = taken.iter().copied().chain(within);
                let mut clash = clash.filter(|(other, _)| same_address(address, other));
                if let Some((_, other)) = clash.next() {
                    let text = format!(
                        "expected an address of its own for every port, found {address} here and \
                         in server.{other}; change one of them"
                    );
                    conflicts.push((id, text));
                }
            }
            taken.extend(own.into_iter().map(|address| (address, id)));
        }
        conflicts
    }
}

/// Whether two endpoints are the same, as far as that shows without a name service.
pub(super) fn same_address(a: &Endpoint, b: &Endpoint) -> bool {
    a.port == b.port && a.host.eq_ignore_ascii_case(&b.host)
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<core::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

fn whole(text: &str) -> MembershipError {
    MembershipError {
        line: 0,
        key: String::new(),
        text: text.to_owned(),
    }
}

/// A membership while its lines are read.
#[derive(Default)]
struct Draft {
    membership: Membership,
    /// Where each key stands.
    lines: BTreeMap<String, u32>,
    /// By line.
    errors: Vec<MembershipError>,
}

impl Draft {
    fn read(&mut self, property: &Property) {
        let Property { line, key, value } = property;
        if let Some(first) = self.lines.get(key) {
            let text = format!("stands on line {first} too; remove one of them");
            self.refuse(key, *line, text);
            return;
        }
        self.lines.insert(key.clone(), *line);
        let read = if key == "version" {
            self.version(value)
        } else {
            match key.split_once('.') {
                Some(("server", id)) => self.server(id, value),
                Some(("group", id)) => self.group(id, value),
                Some(("weight", id)) => self.weight(id, value),
                _ => Err("expected only server.N, group.N, weight.N and version; remove it".into()),
            }
        };
        if let Err(text) = read {
            self.refuse(key, *line, text);
        }
    }

    fn refuse(&mut self, key: &str, line: u32, text: impl Into<String>) {
        let at = self.errors.partition_point(|error| error.line <= line);
        let error = MembershipError {
            line,
            key: key.to_owned(),
            text: text.into(),
        };
        self.errors.insert(at, error);
    }

    fn version(&mut self, value: &str) -> Result<(), String> {
        let version = i64::from_str_radix(value, 16).ok();
        self.membership.version = version
            .filter(|version| *version >= 0)
            .ok_or_else(|| format!("expected a hexadecimal number, found {value:?}"))?;
        Ok(())
    }

    fn server(&mut self, id: &str, value: &str) -> Result<(), String> {
        let id = number(id)?;
        let member = Member::parse(value)?;
        // "server.1" and "server.01" are the same server.
        match self.membership.servers.insert(ServerId(id), member) {
            Some(_) => Err(format!(
                "there is a server {id} already; remove one of them"
            )),
            None => Ok(()),
        }
    }

    fn group(&mut self, group: &str, value: &str) -> Result<(), String> {
        let group = number(group)?;
        let mut members: BTreeSet<ServerId> = BTreeSet::new();
        for id in value.split(':') {
            let id = ServerId(number(id)?);
            let elsewhere = self.membership.groups.iter();
            let other = elsewhere
                .filter(|(_, members)| members.contains(&id))
                .map(|(&group, _)| group)
                .next();
            if let Some(other) = other {
                return Err(format!(
                    "expected every server in one group, found server {id} in group {other} too; \
                     remove it from one of them"
                ));
            }
            if !members.insert(id) {
                return Err(format!("names server {id} twice; remove one of them"));
            }
        }
        let members = members.into_iter().collect();
        match self.membership.groups.insert(group, members) {
            Some(_) => Err(format!("there is a group {group} already; join the two")),
            None => Ok(()),
        }
    }

    fn weight(&mut self, id: &str, value: &str) -> Result<(), String> {
        let id = number(id)?;
        let weight = value.parse::<i64>().ok();
        let weight = weight
            .and_then(|weight| u64::try_from(weight).ok())
            .ok_or_else(|| format!("expected a whole number from 0, found {value:?}"))?;
        match self.membership.weights.insert(ServerId(id), weight) {
            Some(_) => Err(format!(
                "server {id} has a weight already; remove one of them"
            )),
            None => Ok(()),
        }
    }

    /// Every voter is in a group, and everyone in a group has a weight.
    fn check_groups(&mut self) {
        let groups = &self.membership.groups;
        let weights = &self.membership.weights;
        if groups.is_empty() && weights.is_empty() {
            return;
        }
        let grouped = sorted::set(groups.values().flatten().copied());
        let mut found = Vec::new();
        for (id, _) in self.membership.voters() {
            if !grouped.contains(&id) {
                let text = format!(
                    "has a vote but is in no group, and there are groups or weights; name {id} in \
                     a group.N line, or make it an observer"
                );
                found.push((format!("server.{id}"), text));
            }
        }
        for (group, members) in groups {
            for &id in members {
                if !self.membership.is_voter(id) && !weights.contains_key(&id) {
                    let text = format!(
                        "names server {id}, which has no vote and no weight; remove it from the \
                         group, or make it a participant"
                    );
                    found.push((format!("group.{group}"), text));
                }
            }
        }
        for (key, text) in found {
            let line = self.lines.get(&key).copied().unwrap_or(0);
            self.refuse(&key, line, text);
        }
        let voters = sorted::set(self.membership.voters().map(|(id, _)| id));
        let weights = &mut self.membership.weights;
        weights.retain(|id, weight| *weight != 1 || !voters.contains(id));
    }

    /// All voters together are a quorum.
    fn check_quorum(&mut self) {
        let membership = &self.membership;
        if membership.voters().next().is_none() {
            self.errors.push(whole(
                "expected at least one server with a vote, found none; without one no leader can \
                 be elected",
            ));
        } else if !membership.has_quorum_of(|_| true) {
            let why = if membership
                .groups
                .values()
                .flatten()
                .all(|&id| membership.weight(id) == 0)
            {
                "all weights are 0"
            } else {
                "those who have no vote hold half of a group's weight"
            };
            self.errors.push(whole(&format!(
                "expected weights with which the voters can be a quorum, found that all of them \
                 together are none: {why}; change the weight.N lines"
            )));
        }
    }
}

fn number(text: &str) -> Result<i64, String> {
    let number = text.parse::<i64>().ok().filter(|number| *number >= 0);
    number.ok_or_else(|| format!("expected a server's or group's number, found {text:?}"))
}

impl Member {
    /// Reads the value of a `server.N`.
    ///
    /// # Errors
    ///
    /// What was expected and found.
    pub fn parse(value: &str) -> Result<Self, String> {
        let wrong = || format!("expected {EXPECTED}, found {value:?}");
        let mut parts = value.split(';');
        let mut quorum = Vec::new();
        let mut election = Vec::new();
        let mut role = None;
        for address in parts.next().unwrap_or_default().split('|') {
            let (host, rest) = split_host(address.trim()).ok_or_else(wrong)?;
            let mut rest = rest.split(':');
            let mut port = || rest.next()?.trim().parse::<u16>().ok().filter(|&p| p != 0);
            let (Some(quorum_port), Some(election_port)) = (port(), port()) else {
                return Err(wrong());
            };
            if quorum_port == election_port {
                return Err(format!(
                    "expected two ports, one for the quorum and one for elections, found \
                     {quorum_port} twice; change one of them"
                ));
            }
            if let Some(name) = rest.next() {
                let voter = voter(name.trim()).ok_or_else(wrong)?;
                if role.is_some_and(|role| role != voter) {
                    return Err(format!("expected one role, found two in {value:?}"));
                }
                role = Some(voter);
            }
            if rest.next().is_some() {
                return Err(wrong());
            }
            quorum.push(endpoint(host, quorum_port));
            election.push(endpoint(host, election_port));
        }
        let client = match parts.next().map(str::trim) {
            None | Some("") => None,
            Some(client) => Some(client_endpoint(client).ok_or_else(wrong)?),
        };
        // Later Java servers name a port for TLS there. It is checked and left: earlier ones take
        // a text that names it for one without an address for clients. Source: spec 4.1.
        if let Some(secure) = parts.next() {
            client_endpoint(secure.trim()).ok_or_else(wrong)?;
        }
        if parts.next().is_some() {
            return Err(wrong());
        }
        sort_by_host(&mut quorum);
        sort_by_host(&mut election);
        Ok(Self {
            quorum,
            election,
            client,
            voter: role.unwrap_or(true),
        })
    }
}

fn voter(role: &str) -> Option<bool> {
    if role.eq_ignore_ascii_case("participant") {
        Some(true)
    } else if role.eq_ignore_ascii_case("observer") {
        Some(false)
    } else {
        None
    }
}

fn endpoint(host: &str, port: u16) -> Endpoint {
    Endpoint {
        host: canonical_host(host),
        port,
    }
}

/// `[host:]port`. Source: `QuorumServer`: a port alone is one on all addresses.
fn client_endpoint(text: &str) -> Option<Endpoint> {
    let (host, port) = if text.contains(':') {
        split_host(text)?
    } else {
        ("0.0.0.0", text)
    };
    Some(endpoint(host, port.parse().ok()?))
}

/// Splits after the host, of which an IPv6 address stands in brackets.
fn split_host(text: &str) -> Option<(&str, &str)> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once("]:")?,
        None => text.split_once(':')?,
    };
    let plausible = !host.is_empty()
        && !host.contains(|c: char| c.is_whitespace() || c.is_control() || "[],=".contains(c));
    plausible.then_some((host, rest))
}
