//! Who is in the ensemble, as its configuration says it, and what a `reconfig` makes of that: by
//! the rules of the request, not by the server's code.

use std::collections::BTreeMap;

use super::network::Host;

/// The znode that tells it.
pub(crate) const CONFIG: &str = "/zookeeper/config";

/// What a server does for the ensemble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Observer,
    Participant,
}

/// What stands behind `server.N=` of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Members(pub(crate) BTreeMap<Host, String>);

impl Members {
    /// The membership and its version.
    ///
    /// # Panics
    /// If a line is not one of a membership.
    pub(crate) fn parse(text: &str) -> (Self, i64) {
        let (mut members, mut version) = (Self::default(), 0);
        for line in text.lines() {
            if let Some(hex) = line.strip_prefix("version=") {
                version = i64::from_str_radix(hex, 16).expect("a version is hexadecimal");
            } else {
                members.join(line);
            }
        }
        (members, version)
    }

    /// Adds a server, or changes it.
    fn join(&mut self, line: &str) {
        let found = line.strip_prefix("server.");
        let found = found.and_then(|rest| rest.split_once('='));
        let (id, value) = found.unwrap_or_else(|| panic!("expected server.N=…, found {line:?}"));
        let id = id.parse().expect("a server's number");
        self.0.insert(id, value.to_owned());
    }

    /// Those without who leaves, and with who joins.
    pub(crate) fn changed(&self, joining: Option<&str>, leaving: Option<Host>) -> Self {
        let mut changed = self.clone();
        if let Some(id) = leaving {
            changed.0.remove(&id);
        }
        if let Some(line) = joining {
            changed.join(line);
        }
        changed
    }

    pub(crate) fn roles(&self) -> BTreeMap<Host, Role> {
        let members = self.0.iter();
        members
            .map(|(&id, value)| {
                if value.contains(":observer") {
                    (id, Role::Observer)
                } else {
                    (id, Role::Participant)
                }
            })
            .collect()
    }

    /// The lines of a configuration.
    pub(crate) fn to_lines(&self) -> String {
        let lines = self.0.iter();
        lines
            .map(|(id, value)| format!("server.{id}={value}\n"))
            .collect()
    }
}
