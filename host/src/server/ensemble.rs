//! A server as a member of an ensemble: what it knows of itself and of the others from one life to
//! the next.

use core::cell::RefCell;
use std::fs;
use std::io;
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use zabra_core::ids::Zxid;
use zabra_core::link::Endpoint;
use zabra_core::machine::Now;
use zabra_core::server::ensemble::EnsembleConfig as CoreConfig;
use zabra_core::server::{Config, Recovered, Server};
use zabra_core::store::epochs::Epochs;
use zabra_core::tree::Loader;
use zabra_core::zab::{self, Membership, MembershipOp, Options};

use super::driver::MembersHook;
use crate::config::ConfigFiles;
use crate::config::EnsembleConfig;
use crate::config::dynamic::apply;
use crate::error::Error;
use crate::tls::Names;

/// The file by which an operator says that nothing is what should be there
/// (`zkServer-initialize.sh`).
const INITIALIZE: &str = "initialize";

/// A server's place in its ensemble, for as long as the process lives.
pub(super) struct Place {
    config: CoreConfig,
    files: Option<ConfigFiles>,
    autocreate: bool,
    /// With the memberships as they were last written.
    options: Rc<RefCell<Options>>,
    /// The hosts of all of them.
    names: Names,
}

/// What the store held beside the tree.
pub(super) struct History {
    /// The snapshot or the transaction before the first of `recent`.
    pub(super) base: Zxid,
    /// The last transactions of the log.
    pub(super) recent: Vec<(Zxid, Bytes)>,
    pub(super) epochs: Epochs,
    /// See [`trusts`].
    pub(super) trusted: bool,
}

impl Place {
    pub(super) fn new(config: &EnsembleConfig) -> Self {
        Self {
            config: CoreConfig {
                read_only_mode: config.read_only_mode,
                local_sessions: config.local_sessions,
                local_sessions_upgrading: config.local_sessions_upgrading,
                leader_serves: config.leader_serves,
                reconfig: config.zab.reconfig_enabled,
                standalone_enabled: config.standalone_enabled,
            },
            files: config.files.clone(),
            autocreate: config.db_autocreate,
            options: Rc::new(RefCell::new(config.zab.clone())),
            names: {
                let names = Names::default();
                names.set(hosts(&config.zab));
                names
            },
        }
    }

    /// The hosts of all servers, as they are at the moment, for whoever checks certificates.
    pub(super) fn names(&self) -> Names {
        self.names.clone()
    }

    /// How many of the last transactions are kept for learners, and how many bytes beyond.
    pub(super) fn history_max(&self) -> (usize, usize) {
        let options = self.options.borrow();
        (options.history_txns_min, options.history_bytes_max)
    }

    /// Whether a server that found nothing where `found_nothing` says so may vote.
    ///
    /// See [`trusts`].
    pub(super) fn trusts(&self, data_log_dir: &Path, found_nothing: bool) -> bool {
        trusts(data_log_dir, found_nothing, self.autocreate)
    }

    /// See [`introduction`].
    pub(super) fn introduction(&self) -> String {
        introduction(&self.options.borrow())
    }

    /// What a module is told of it.
    #[cfg(feature = "wasm-runtime")]
    pub(super) fn told(&self) -> zabra_sandbox::abi::Place {
        zabra_sandbox::abi::Place {
            config: self.config.clone(),
            options: self.options.borrow().clone(),
        }
    }

    /// The server of one life.
    pub(super) fn machine(
        &self,
        config: Config,
        loader: Loader,
        recovered: Recovered,
        history: History,
        entropy: u64,
        now: Now,
    ) -> Server {
        let history = zab::Recovered {
            base: history.base,
            recent: history.recent,
            accepted: history.epochs.accepted,
            current: history.epochs.current,
            divergent: false,
            trusted: history.trusted,
        };
        let options = self.options.borrow().clone();
        let place = self.config.clone();
        Server::in_ensemble(
            config, place, options, loader, recovered, history, entropy, now,
        )
    }

    /// What writes memberships, and remembers them for the next life.
    pub(super) fn members(&self) -> MembersHook {
        let (files, options) = (self.files.clone(), Rc::clone(&self.options));
        let names = self.names.clone();
        Box::new(move |op| {
            if let Some(files) = &files {
                apply(files, &op)?;
            }
            remember(&mut options.borrow_mut(), op);
            names.set(hosts(&options.borrow()));
            Ok(())
        })
    }
}

/// Where servers are found, by the membership in force and by one that is under way.
fn hosts(options: &Options) -> Vec<String> {
    let memberships = [Some(&options.committed), options.last_seen.as_ref()];
    let members = memberships
        .into_iter()
        .flatten()
        .flat_map(|membership| membership.servers.values());
    let endpoints = members.flat_map(|member| member.quorum.iter().chain(&member.election));
    endpoints.map(|endpoint| endpoint.host.clone()).collect()
}

/// What the next life must know, as if it had read the files.
fn remember(options: &mut Options, op: MembershipOp) {
    match op {
        MembershipOp::Seen(membership) => options.last_seen = Some(membership),
        MembershipOp::Active(membership) => {
            // A reconfiguration makes voters of observers, and the reverse. Whom it removes goes on
            // without a vote, where it was.
            let member = membership.servers.get(&options.me);
            options.observer = member.is_some_and(|member| !member.voter);
            if let Some(member) = member {
                options.election.clone_from(&member.election);
            }
            options.committed = membership;
        }
    }
    let version = options.committed.version;
    options
        .last_seen
        .take_if(|seen: &mut Membership| seen.version <= version);
}

/// Whether a history that begins with nothing counts: a server that lost its disk has forgotten
/// what it acknowledged, and a quorum of such would elect one of them and lose what was committed.
fn trusts(data_log_dir: &Path, found_nothing: bool, autocreate: bool) -> bool {
    !found_nothing || autocreate || data_log_dir.join(INITIALIZE).exists()
}

/// Removes the marker, which was for this start only, now that there is a server that trusts it.
/// Source: `FileTxnSnapLog.restore`.
///
/// # Errors
/// The marker is there and cannot be removed.
pub(super) fn remove_marker(data_log_dir: &Path) -> Result<(), Error> {
    let marker = data_log_dir.join(INITIALIZE);
    match fs::remove_file(&marker) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::Store {
            path: marker,
            source: source.into(),
        }),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Who this server is, who the others are, and where they find it, as one line.
fn introduction(options: &Options) -> String {
    let me = options.me;
    let membership = &options.committed;
    let role = if options.observer {
        "observer"
    } else {
        "voter"
    };
    let others: Vec<String> = membership
        .servers
        .iter()
        .filter(|(id, _)| **id != me)
        .map(|(id, member)| {
            let kind = if member.voter { "" } else { " (observer)" };
            format!("{id}{kind}")
        })
        .collect();
    let others = if others.is_empty() {
        "nobody else".to_owned()
    } else {
        others.join(", ")
    };
    let place = match membership.servers.get(&me) {
        Some(member) => {
            let (election, quorum) = (list(&member.election), list(&member.quorum));
            format!("elections on {election}, learners on {quorum}")
        }
        None => "which do not know it yet".to_owned(),
    };
    let version = membership.version;
    format!("server {me}, {role}, with {others}; {place}; membership of version {version:x}")
}

fn list(endpoints: &[Endpoint]) -> String {
    let endpoints: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
    endpoints.join(" and ")
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::unwrap_used,
        reason = "a test may stop at what it did not expect"
    )]

    use std::{env, process};

    use zabra_core::ids::ServerId;
    use zabra_core::zab::membership::Member;

    use super::*;

    fn endpoint(host: &str, port: u16) -> Endpoint {
        let host = host.to_owned();
        Endpoint { host, port }
    }

    fn member(host: &str, voter: bool) -> Member {
        Member {
            quorum: vec![endpoint(host, 2888)],
            election: vec![endpoint(host, 3888), endpoint("::1", 3888)],
            client: None,
            voter,
        }
    }

    fn options(me: i64, observer: bool) -> Options {
        let servers = [
            (ServerId(1), member("zk1", true)),
            (ServerId(2), member("zk2", true)),
            (ServerId(3), member("zk3", false)),
        ];
        Options {
            me: ServerId(me),
            observer,
            committed: Membership {
                version: 0x10_0000_0002,
                servers: servers.into(),
                ..Membership::default()
            },
            last_seen: None,
            election: Vec::new(),
            reconfig_enabled: false,
            tick_ms: 2000,
            init_limit: 10,
            sync_limit: 5,
            connect_limit: 0,
            listen_on_all_ips: false,
            multi_address: false,
            packet_bytes_max: 0,
            notification_ms_min: 200,
            notification_ms_max: 60_000,
            connect_timeout_ms: 5000,
            election_silence_ms: None,
            history_txns_min: 500,
            history_bytes_max: 0,
            sasl: zab::Sasl::default(),
        }
    }

    #[test]
    fn server_says_who_it_is_and_where() {
        assert_eq!(
            introduction(&options(1, false)),
            "server 1, voter, with 2, 3 (observer); elections on zk1:3888 and [::1]:3888, learners \
             on zk1:2888; membership of version 1000000002"
        );
        assert_eq!(
            introduction(&options(4, true)),
            "server 4, observer, with 1, 2, 3 (observer); which do not know it yet; membership of \
             version 1000000002"
        );
    }

    #[test]
    fn next_life_knows_the_last_memberships() {
        let mut options = options(3, true);
        let promoted = |version| {
            let mut membership = options_of(version);
            membership.servers.insert(ServerId(3), member("zk3", true));
            membership
        };

        remember(&mut options, MembershipOp::Seen(promoted(7)));
        assert_eq!(options.last_seen, None, "older than the one in force");
        let newer = options.committed.version + 1;
        remember(&mut options, MembershipOp::Seen(promoted(newer)));
        assert_eq!(options.last_seen, Some(promoted(newer)));
        assert!(options.observer);

        remember(&mut options, MembershipOp::Active(promoted(newer)));

        assert_eq!(options.committed, promoted(newer));
        assert_eq!(options.last_seen, None);
        assert!(!options.observer);
    }

    #[test]
    fn next_life_of_one_that_is_removed_listens_where_it_was() {
        let mut options = options(3, true);
        let version = options.committed.version;

        remember(&mut options, MembershipOp::Active(options_of(version + 1)));
        let mut without = options_of(version + 2);
        without.servers.remove(&ServerId(3));
        remember(&mut options, MembershipOp::Active(without));

        assert_eq!(options.election, member("zk3", false).election);
        assert!(!options.observer, "it follows without a vote");
    }

    fn options_of(version: i64) -> Membership {
        Membership {
            version,
            ..options(3, true).committed
        }
    }

    #[test]
    fn empty_server_is_trusted_once_if_told_so() {
        let directory = env::temp_dir().join(format!("zabra-trust-{}", process::id()));
        fs::create_dir_all(&directory).unwrap();
        let trusted = |found_nothing, autocreate| trusts(&directory, found_nothing, autocreate);

        assert!(trusted(false, false), "it has a history");
        assert!(trusted(true, true), "whoever is empty may vote here");
        assert!(!trusted(true, false));
        fs::write(directory.join(INITIALIZE), "").unwrap();
        assert!(trusted(true, false), "it was said that nothing is right");
        assert!(trusted(true, false), "and the server is yet to be made");
        remove_marker(&directory).unwrap();
        assert!(!trusted(true, false), "said for one start");
        remove_marker(&directory).unwrap();

        fs::remove_dir_all(&directory).unwrap();
    }
}
