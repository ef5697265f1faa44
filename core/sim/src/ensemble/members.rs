//! Who has a vote: memberships as transactions make them, and what an operator wants changed.
//!
//! Read from the text in a transaction, not with the core's own parser.

use core::fmt;
use std::collections::BTreeMap;

use crate::ensemble::network::host_name;
use crate::ensemble::plan::letter;
use crate::wire::Reader;

/// The type of the txn that makes a membership.
pub(crate) const RECONFIG: i32 = 16;
/// Session, number of the request, zxid, time.
const HEADER_BYTES: usize = 28;

/// Who is in the ensemble, and who of them has a vote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The transaction that made it.
    pub version: i64,
    /// Each server, and whether it has a vote.
    pub servers: BTreeMap<usize, bool>,
}

/// What an operator asks for, of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is to have a vote.
    Vote(usize),
    /// It is to observe.
    Observe(usize),
    /// It is to leave.
    Remove(usize),
}

impl View {
    /// The first of all.
    #[must_use]
    pub fn first(voters: usize, observers: usize) -> Self {
        Self {
            version: 0,
            servers: (0..voters + observers)
                .map(|server| (server, server < voters))
                .collect(),
        }
    }

    /// What a text says: `server.N=…:participant` or `…:observer`, and the version.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut view = Self::default();
        for line in text.lines() {
            if let Some(version) = line.strip_prefix("version=") {
                view.version = i64::from_str_radix(version, 16).ok()?;
                continue;
            }
            let (id, rest) = line.strip_prefix("server.")?.split_once('=')?;
            let id: usize = id.parse().ok()?;
            let rest = rest.split(';').next()?;
            view.servers
                .insert(id.checked_sub(1)?, rest.ends_with(":participant"));
        }
        Some(view)
    }

    /// The one that a transaction makes, if it makes one.
    #[must_use]
    pub fn of(payload: &[u8]) -> Option<Self> {
        Self::parse(&text_of(payload)?)
    }

    /// Whether a server has a vote.
    #[must_use]
    pub fn is_voter(&self, server: usize) -> bool {
        self.servers.get(&server).is_some_and(|votes| *votes)
    }

    /// Whether more than half of those with a vote are such.
    #[must_use]
    pub fn has_quorum(&self, is_such: impl Fn(usize) -> bool) -> bool {
        let voters = || self.servers.iter().filter(|(_, votes)| **votes);
        2 * voters().filter(|(server, _)| is_such(**server)).count() > voters().count()
    }
}

/// The membership's text in a transaction.
#[must_use]
pub(crate) fn text_of(payload: &[u8]) -> Option<String> {
    let mut input = Reader(payload.get(HEADER_BYTES - 4..)?);
    // The time's lower half is in between.
    input.int().ok()?;
    if input.int().ok()? != RECONFIG {
        return None;
    }
    input.path().ok()?;
    String::from_utf8(input.buffer().ok()??).ok()
}

/// What joins in the words of the request, and what leaves.
#[must_use]
pub(crate) fn request_of(changes: &[Change]) -> (String, String) {
    let (mut joining, mut leaving) = (Vec::new(), Vec::new());
    for change in changes {
        let line = |server: usize, role: &str| {
            let (id, host) = (server + 1, host_name(server));
            format!("server.{id}={host}:2888:3888:{role};2181")
        };
        match change {
            Change::Vote(server) => joining.push(line(*server, "participant")),
            Change::Observe(server) => joining.push(line(*server, "observer")),
            Change::Remove(server) => leaving.push((server + 1).to_string()),
        }
    }
    (joining.join(","), leaving.join(","))
}

impl Change {
    /// Of which server.
    #[must_use]
    pub const fn server(self) -> usize {
        match self {
            Self::Vote(server) | Self::Observe(server) | Self::Remove(server) => server,
        }
    }

    /// The same of the server that `resolve` makes of it.
    #[must_use]
    pub fn map(self, resolve: impl Fn(&usize) -> usize) -> Self {
        match self {
            Self::Vote(server) => Self::Vote(resolve(&server)),
            Self::Observe(server) => Self::Observe(resolve(&server)),
            Self::Remove(server) => Self::Remove(resolve(&server)),
        }
    }
}

impl fmt::Display for View {
    /// As changes are written: `+A ~D`, and the version.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (server, votes) in &self.servers {
            let sign = if *votes { '+' } else { '~' };
            write!(f, "{sign}{} ", letter(*server))?;
        }
        write!(f, "of {:#x}", self.version)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self {
            Self::Vote(_) => '+',
            Self::Observe(_) => '~',
            Self::Remove(_) => '-',
        };
        write!(f, "{sign}{}", letter(self.server()))
    }
}

#[cfg(test)]
mod tests {
    use super::View;

    #[test]
    fn a_membership_is_read_from_its_text() {
        let text = "server.1=server-1:2888:3888:participant\n\
                    server.3=server-3:2888:3888:observer\nversion=100000002";
        let view = View::parse(text).unwrap_or_default();
        assert_eq!(view.version, 0x1_0000_0002);
        assert!(view.is_voter(0) && !view.is_voter(1) && !view.is_voter(2));
        assert!(view.has_quorum(|server| server == 0));
    }
}
