//! What a `reconfig` request makes of a membership.
//!
//! Source: spec 4.4, `PrepRequestProcessor.pRequest2Txn`.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use core::fmt;

use super::parse::same_address;
use super::{Member, Membership, is_wildcard};
use crate::ids::ServerId;
use crate::link::Endpoint;

/// Why the members of an ensemble are not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReconfigError {
    /// `reconfigEnabled` is off.
    Disabled,
    /// Another change is not committed yet.
    InProgress,
    /// The request is about another version than the last seen one.
    BadVersion {
        /// The version that the request names.
        expected: i64,
        /// The last seen one.
        found: i64,
    },
    /// The change cannot be made: what was expected and found.
    BadArguments(String),
    /// Too few of the servers that would have a vote are connected and in step.
    NoQuorum,
}

impl ReconfigError {
    /// ZooKeeper's code for it. Source: `KeeperException.Code`.
    #[must_use]
    pub const fn code(&self) -> i32 {
        match self {
            Self::BadArguments(_) => -8,
            Self::NoQuorum => -13,
            Self::InProgress => -14,
            Self::BadVersion { .. } => -103,
            Self::Disabled => -123,
        }
    }
}

impl fmt::Display for ReconfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled => f.write_str("reconfiguration is switched off (reconfigEnabled)"),
            Self::InProgress => f.write_str("another reconfiguration is not committed yet"),
            Self::BadVersion { expected, found } => {
                write!(f, "expected the version {expected:x}, found {found:x}")
            }
            Self::BadArguments(why) => f.write_str(why),
            Self::NoQuorum => {
                f.write_str("expected a quorum of the new voters connected and in step")
            }
        }
    }
}

impl core::error::Error for ReconfigError {}

impl Membership {
    /// What this membership becomes: all `new_members`, or, without them, this one without those
    /// `leaving` and with those `joining`. Its version is that of this one: the leader gives it
    /// that of the transaction.
    ///
    /// # Errors
    ///
    /// [`ReconfigError::BadArguments`], with what is wrong. Java answers some of these with
    /// MarshallingError; there, they are exceptions that nobody expected.
    pub fn reconfigured(
        &self,
        joining: Option<&str>,
        leaving: Option<&str>,
        new_members: Option<&str>,
        standalone_enabled: bool,
    ) -> Result<Self, ReconfigError> {
        let mut changed = match new_members {
            Some(text) => Self::parse(&text.replace(',', "\n")).map_err(|e| refused(&e))?,
            None => self.incremented(joining, leaving)?,
        };
        changed.version = self.version;
        let voters_min = if standalone_enabled { 2 } else { 1 };
        let voters = changed.voters().count();
        if voters < voters_min {
            let because = if standalone_enabled {
                ", as standaloneEnabled is true"
            } else {
                ""
            };
            let why = format!(
                "expected at least {voters_min} servers with a vote{because}, would be {voters}"
            );
            return Err(ReconfigError::BadArguments(why));
        }
        Ok(changed)
    }

    fn incremented(
        &self,
        joining: Option<&str>,
        leaving: Option<&str>,
    ) -> Result<Self, ReconfigError> {
        if !self.groups.is_empty() {
            return Err(ReconfigError::BadArguments(
                "expected all new members: an ensemble with groups is not changed server by server"
                    .to_owned(),
            ));
        }
        let mut changed = self.clone();
        for id in items(leaving) {
            let id = id.parse::<i64>().map_err(|_| {
                refused(&format!(
                    "expected the numbers of those leaving, found {id:?}"
                ))
            })?;
            changed.servers.remove(&ServerId(id));
        }
        for joiner in items(joining) {
            let (id, member) = joiner_of(joiner)?;
            if let Some((address, other)) = changed.taken_by_others(id, &member) {
                return Err(refused(&format!(
                    "{address} of server.{id} is an address of server.{other} already"
                )));
            }
            changed.servers.insert(id, member);
        }
        Ok(changed)
    }

    /// An address of this server that another has. Those of all interfaces are nobody's.
    fn taken_by_others(&self, id: ServerId, member: &Member) -> Option<(Endpoint, ServerId)> {
        for own in addresses(member) {
            for (&other, theirs) in self.servers.iter().filter(|(other, _)| **other != id) {
                if addresses(theirs).any(|address| same_address(own, address)) {
                    return Some((own.clone(), other));
                }
            }
        }
        None
    }
}

fn addresses(member: &Member) -> impl Iterator<Item = &Endpoint> {
    let peers = member.quorum.iter().chain(&member.election);
    let all = peers.chain(&member.client);
    all.filter(|address| !is_wildcard(&address.host))
}

/// Parts between commas. Source: `common.StringUtils.split`, which leaves empty ones out.
fn items(list: Option<&str>) -> impl Iterator<Item = &str> {
    let items = list.unwrap_or_default().split(',');
    items.map(str::trim).filter(|item| !item.is_empty())
}

/// Reads `server.N=host:quorumPort:electionPort[:role];[clientAddress:]clientPort`.
fn joiner_of(text: &str) -> Result<(ServerId, Member), ReconfigError> {
    let wrong = || refused(&format!("expected server.N=ADDRESSES, found {text:?}"));
    let (key, value) = text.split_once('=').ok_or_else(wrong)?;
    // Java takes whatever stands behind the last dot.
    let id = key.rsplit('.').next().unwrap_or(key).trim();
    let id = id.parse::<i64>().ok().filter(|id| *id >= 0);
    let id = ServerId(id.ok_or_else(wrong)?);
    let member = Member::parse(value.trim()).map_err(|why| refused(&why))?;
    if member.client.is_none() {
        return Err(refused(&format!(
            "expected an address for clients (;PORT) of server.{id}, found {text:?}"
        )));
    }
    Ok((id, member))
}

fn refused(why: &impl fmt::Display) -> ReconfigError {
    ReconfigError::BadArguments(format!("{why}"))
}
