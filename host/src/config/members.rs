//! The servers that a configuration names, wherever it names them.

use core::{net::IpAddr, time::Duration};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::ToSocketAddrs,
    path::Path,
    sync::mpsc,
    thread,
    time::Instant,
};

use zabra_core::{ids::ServerId, wire::properties::Property, zab::Membership};

use super::{
    draft::Settings,
    problem::{Origin, Problem},
    properties::decode,
};

/// How long a start waits for the name service. Whoever is not known by then is warned about.
const RESOLVE: Duration = Duration::from_secs(3);

/// A membership, and where its lines stand.
pub(super) struct Members {
    pub(super) membership: Membership,
    origins: BTreeMap<String, Origin>,
}

/// Whether this key is about who is in the ensemble.
pub(super) fn is_of_members(name: &str) -> bool {
    /// Settings of clients that begin alike.
    const OTHERS: [&str; 2] = ["server.principal", "server.realm"];
    let mut prefixes = ["server.", "group.", "weight."].iter();
    prefixes.any(|prefix| name.starts_with(prefix)) && !OTHERS.contains(&name)
}

impl Members {
    /// Reads the servers among the settings; `None` if there are none, or if they are wrong, which
    /// goes to `problems`.
    pub(super) fn read(settings: &Settings, problems: &mut Vec<Problem>) -> Option<Self> {
        let found: Vec<_> = settings
            .values()
            .filter(|setting| is_of_members(&setting.name))
            .collect();
        if found.is_empty() {
            return None;
        }
        let properties: Vec<Property> = (1..)
            .zip(&found)
            .map(|(line, setting)| Property {
                line,
                key: setting.name.clone(),
                value: setting.value.clone(),
            })
            .collect();
        let origins: BTreeMap<String, Origin> = found
            .iter()
            .map(|setting| (setting.name.clone(), setting.origin.clone()))
            .collect();
        match Membership::from_properties(&properties) {
            Ok(membership) => Some(Self {
                membership,
                origins,
            }),
            Err(errors) => {
                let first = found.first().map(|setting| &setting.origin);
                problems.extend(errors.into_iter().map(|error| {
                    let origin = origins.get(&error.key).or(first);
                    Problem::new(origin, &error.key, error.text)
                }));
                None
            }
        }
    }

    /// Where a server's line stands.
    pub(super) fn origin(&self, id: ServerId) -> Option<&Origin> {
        self.origins
            .get(&key(id))
            .or_else(|| self.origins.values().next())
    }

    /// Each server with its place, for a message: "server.1 (zoo.cfg:3), server.2 (zoo.cfg:4)".
    pub(super) fn places(&self) -> String {
        let places: Vec<String> = self
            .membership
            .servers
            .keys()
            .map(|&id| match self.origins.get(&key(id)) {
                Some(origin) => format!("{} ({origin})", key(id)),
                None => key(id),
            })
            .collect();
        places.join(", ")
    }

    /// What cannot work: two ports at one address, several addresses where that is switched off.
    pub(super) fn check(&self, multi_address: bool, problems: &mut Vec<Problem>) {
        for (id, text) in self.membership.conflicts() {
            problems.push(Problem::new(self.origin(id), &key(id), text));
        }
        if multi_address {
            return;
        }
        for (&id, member) in &self.membership.servers {
            if member.quorum.len() > 1 {
                let text = format!(
                    "expected one address, as multiAddress.enabled is false, found {}; leave one, \
                     or set multiAddress.enabled=true on all servers",
                    member.quorum.len()
                );
                problems.push(Problem::new(self.origin(id), &key(id), text));
            }
        }
    }

    /// What works, but not as well as it could.
    pub(super) fn advise(&self, warnings: &mut Vec<Problem>) {
        let membership = &self.membership;
        let voters = membership.voters().count();
        let first = self.origins.values().next();
        if membership.groups.is_empty() {
            let text = match voters {
                2 => "with two servers that vote, the failure of either stops both; three survive \
                      the failure of one"
                    .to_owned(),
                more if more % 2 == 0 => format!(
                    "{more} servers that vote survive no more failures than {} do",
                    more - 1
                ),
                _ => return,
            };
            warnings.push(Problem::new(first, "server.N", text));
            return;
        }
        let counted = membership
            .groups
            .values()
            .filter(|group| group.iter().any(|&id| membership.weight(id) > 0))
            .count();
        if counted % 2 == 0 {
            let text = format!(
                "{counted} groups that have a weight survive no more failures than {} do",
                counted - 1
            );
            warnings.push(Problem::new(first, "group.N", text));
        }
        for (group, members) in &membership.groups {
            let weights: Vec<u64> = members.iter().map(|&id| membership.weight(id)).collect();
            if let Some(half) = even_split(&weights) {
                let key = format!("group.{group}");
                let text = format!(
                    "its weight can split into two halves of {half}, of which neither is more than \
                     half; give one of its servers another weight"
                );
                let problem = Problem::new(self.origins.get(&key).or(first), &key, text);
                warnings.push(problem);
            }
        }
    }

    /// Warns of names that have no address. They may have one later: they are asked for anew at
    /// every attempt to connect.
    pub(super) fn resolve(&self, warnings: &mut Vec<Problem>) {
        let mut names: BTreeMap<&str, ServerId> = BTreeMap::new();
        for (&id, member) in &self.membership.servers {
            for address in member.quorum.iter().chain(&member.election) {
                if address.host.parse::<IpAddr>().is_err() {
                    names.entry(&address.host).or_insert(id);
                }
            }
        }
        let (report, reports) = mpsc::channel();
        for name in names.keys() {
            let (name, report) = ((*name).to_owned(), report.clone());
            // A thread each, as nothing but a process's end stops one that waits for an answer.
            thread::spawn(move || {
                let found = match (name.as_str(), 0).to_socket_addrs() {
                    Ok(found) if found.len() > 0 => Ok(()),
                    Ok(_) => Err("it has no address".to_owned()),
                    Err(error) => Err(error.to_string()),
                };
                let _nobody_waits = report.send((name, found));
            });
        }
        let deadline = Instant::now() + RESOLVE;
        let mut answers = BTreeMap::new();
        while answers.len() < names.len() {
            let left = deadline.saturating_duration_since(Instant::now());
            match reports.recv_timeout(left) {
                Ok((name, found)) => answers.insert(name, found),
                Err(_) => break,
            };
        }
        for (name, id) in names {
            let why = match answers.remove(name) {
                Some(Ok(())) => continue,
                Some(Err(why)) => why,
                None => format!("no answer in {} s", RESOLVE.as_secs()),
            };
            let text = format!(
                "the host name {name:?} cannot be resolved at the moment ({why}); this server \
                 starts and asks for it again whenever it connects"
            );
            warnings.push(Problem::new(self.origin(id), &key(id), text));
        }
    }
}

/// How a server's line is called.
pub(super) fn key(id: ServerId) -> String {
    format!("server.{id}")
}

/// Half of the sum, if some of the weights are that much together.
fn even_split(weights: &[u64]) -> Option<u128> {
    /// More sums than these are not looked through: a warning is not worth it.
    const SUMS_MAX: usize = 1 << 12;
    let total: u128 = weights.iter().copied().map(u128::from).sum();
    let half = total / 2;
    if total == 0 || total % 2 == 1 {
        return None;
    }
    let mut sums = BTreeSet::from([0_u128]);
    for &weight in weights {
        let more: Vec<u128> = sums.iter().map(|sum| sum + u128::from(weight)).collect();
        sums.extend(more);
        if sums.len() > SUMS_MAX {
            return None;
        }
    }
    sums.contains(&half).then_some(half)
}

/// Reads `<zoo.cfg>.dynamic.next`, if it is there: a membership that was proposed.
pub(super) fn read_next(file: &Path, problems: &mut Vec<Problem>) -> Option<Membership> {
    let origin = Origin::File(file.into());
    let bytes = match fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            let text = format!("cannot be read: {error}");
            problems.push(Problem::new(Some(&origin), "", text));
            return None;
        }
    };
    match Membership::parse(&decode(&bytes)) {
        Ok(membership) => Some(membership),
        Err(error) => {
            let origin = match error.line {
                0 => origin,
                line => Origin::Line(file.into(), line),
            };
            problems.push(Problem::new(Some(&origin), &error.key, error.text));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::even_split;

    #[test]
    fn split_is_even_if_some_weigh_half() {
        assert_eq!(even_split(&[1, 1]), Some(1));
        assert_eq!(even_split(&[3, 1, 2]), Some(3));
        assert_eq!(even_split(&[5, 1, 2]), None);
        assert_eq!(even_split(&[1, 1, 1]), None);
        assert_eq!(even_split(&[2]), None);
        assert_eq!(even_split(&[0, 0]), None);
        assert_eq!(even_split(&[u64::MAX, u64::MAX]), Some(u64::MAX.into()));
    }
}
