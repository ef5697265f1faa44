//! From a configuration to a server that serves, and back to nothing.

use core::cell::RefCell;
use core::hash::BuildHasher;
use core::net::SocketAddr;
use core::num::NonZeroU32;
use core::pin::{Pin, pin};
use core::time::Duration;
use std::hash::RandomState;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tracing::{info, warn};
use zabra_core::ids::{Seq, UnixMillis, Zxid};
use zabra_core::machine::Now;
use zabra_core::server::{
    EnsembleConfig, Event, HostFacts, Recovered, Server, SnapshotOp, StoreOp,
};
use zabra_core::store::epochs;
use zabra_core::store::log::LogOptions;
use zabra_core::store::names::Compression as FileCompression;
use zabra_core::store::recent::Recent;
use zabra_core::store::recovery::{self, recover};
use zabra_core::tree::Loader;
use zabra_core::zab::{self, Membership, MembershipOp};

use super::driver::{Driver, DriverError, Ended, Inbox, Lanes as LanesOf, MembersHook, runtime};
use super::lives::live_on;
use crate::config::{self, Compression, ServerConfig, dynamic};
use crate::error::Error;
use crate::host_facts;
use crate::logging::EventLog;
use crate::net::{Gauges, ListenOptions, Listeners, PeerOptions};
use crate::store::{Autocreate, Directories, LaneOptions, Lanes, Report};

/// File descriptors kept from clients: directories and their locks, two logs, a snapshot, the
/// runtime's own, the listeners, the measuring of directories; and as many again.
const DESCRIPTORS_RESERVED: usize = 48;

/// Sockets kept for other servers: two or three for each, and as many again while connections are
/// replaced. Nobody has hundreds of voters; observers are what may come in numbers.
const PEER_SOCKETS_MAX: usize = 512;

/// Runs a server until `stop` is ready.
///
/// `started` hears where it listens once it does; clients are answered from then on.
///
/// A server that cannot go on with the state it holds is dropped and begins anew from what is on
/// disk, as after a crash, in this process and on the same ports.
///
/// # Errors
/// An address cannot be listened on, the data cannot be used, or the log can no longer be written.
pub fn run(
    mut config: ServerConfig,
    started: impl FnOnce(&ServerConfig, &[SocketAddr]),
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    let autocreate = if config.create_directories {
        Autocreate::Yes
    } else {
        Autocreate::No
    };
    let directories = Directories::open(&config.data_dir, &config.data_log_dir, autocreate)?;
    let alone = config.ensemble.is_none();
    let sockets = SocketsMax::new(host_facts::open_files_max(), alone);
    let listeners = listen(&config, &sockets)?;
    let bound = listeners.local_addrs();
    if let Some(first) = bound.first() {
        config.core.host.client_port = first.port();
    }
    let ensemble = config.ensemble.as_ref();
    let peers = PeerOptions {
        sockets_max: sockets.peers,
        keep_alive: config.tcp_keep_alive,
        bind_attempts: ensemble.map_or(0, |ensemble| ensemble.bind_attempts_max),
        ..PeerOptions::default()
    };
    let members = Rc::new(RefCell::new(ensemble.map(members_of)));
    let host = Host {
        config,
        directories,
        listeners,
        peers,
        members,
        gauges: Arc::default(),
    };
    let runtime = runtime().map_err(|error| host.error(error))?;
    let mut started = Some(started);
    let live = async |stop: Pin<&mut _>| {
        let begin = || {
            if let Some(started) = started.take() {
                started(&host.config, &bound);
            }
        };
        host.live(begin, stop).await
    };
    let ended = runtime.block_on(live_on(live, pin!(stop)));
    runtime.shutdown_background();
    ended
}

/// What outlives a restart of the server.
struct Host {
    config: ServerConfig,
    directories: Directories,
    listeners: Listeners,
    peers: PeerOptions,
    /// The membership in force, and the one that was proposed after it, of an ensemble.
    members: Rc<RefCell<Option<Members>>>,
    gauges: Arc<Gauges>,
}

impl Host {
    /// One life of the server, from what is on disk to its end. Nothing of it is left then but the
    /// files.
    async fn live(
        &self,
        started: impl FnOnce(),
        stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Ended, Error> {
        let Self {
            config,
            directories,
            ..
        } = self;
        let begun = Instant::now();
        let entropy = entropy();
        let loaded = load(config, directories, entropy)?;
        let found = &loaded.found;
        // Of this life only: what the lanes of the last one still say is not for this machine.
        let inbox = Inbox::new();
        let lanes = Lanes::start(
            directories,
            found.last,
            lane_options(config),
            reporter(&inbox),
        )?;
        let lanes = Rc::new(lanes);
        info!(
            zxid = %found.last,
            transactions_replayed = found.txns,
            milliseconds = begun.elapsed().as_millis(),
            "data read"
        );

        let recovered = Recovered {
            snapshot: found.snapshot.is_some(),
            txns: found.txns,
            log_bytes: found.log_bytes,
        };
        let now = Now {
            instant: zabra_core::ids::Instant(0),
            wall: wall(),
        };
        let machine = self.machine(loaded, recovered, entropy, now)?;
        let facts = facts(directories, &lanes);
        started();
        let driver = Driver {
            machine,
            lanes: Handed(Rc::clone(&lanes)),
            listeners: self.listeners.try_clone().map_err(Error::Runtime)?,
            peers: self.peers,
            inbox,
            members: self.members_hook(),
            facts,
            events: events(),
            warnings: Box::new(|line| warn!("{line}")),
            gauges: Arc::clone(&self.gauges),
        };
        let ended = driver.serve(stop).await;
        // The driver is gone and with it the other owner: what was handed over is finished before
        // the files are read again, or the lock on the directories goes.
        if let Ok(lanes) = Rc::try_unwrap(lanes) {
            lanes.close();
        }
        ended.map_err(|error| self.error(error))
    }

    /// The server over what was read.
    fn machine(
        &self,
        loaded: Loaded,
        recovered: Recovered,
        entropy: u64,
        now: Now,
    ) -> Result<Server, Error> {
        let Loaded {
            loader,
            base,
            recent,
            found,
        } = loaded;
        let core = self.config.core.clone();
        let Some(ensemble) = &self.config.ensemble else {
            return Ok(Server::new(core, loader, recovered, entropy, now));
        };
        let mut snapshots = self.directories.snapshots();
        let epochs = epochs::open(&mut snapshots, found.last).map_err(|source| Error::Store {
            path: self.config.data_dir.clone(),
            source: Box::new(source),
        })?;
        let history = zab::Recovered {
            base,
            recent,
            accepted: epochs.accepted,
            current: epochs.current,
            trusted: found.last > Zxid::ZERO || found.snapshot.is_some() || self.may_begin()?,
        };
        let mut options = ensemble.zab.clone();
        if let Some(members) = &*self.members.borrow() {
            options.committed = members.committed.clone();
            options.last_seen.clone_from(&members.last_seen);
        }
        let choices = EnsembleConfig {
            read_only_mode: ensemble.read_only_mode,
            local_sessions: ensemble.local_sessions,
            local_sessions_upgrading: ensemble.local_sessions_upgrading,
            leader_serves: ensemble.leader_serves,
            reconfig: options.reconfig_enabled,
            standalone_enabled: ensemble.standalone_enabled,
        };
        Ok(Server::in_ensemble(
            core, choices, options, loader, recovered, history, entropy, now,
        ))
    }

    /// Whether a server without data may vote, as one of a new ensemble, and is not one that lost
    /// its data.
    ///
    /// Source: spec 7.9, `FileTxnSnapLog.restore`.
    fn may_begin(&self) -> Result<bool, Error> {
        let marker = self.config.data_log_dir.join("initialize");
        match std::fs::remove_file(&marker) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let ensemble = self.config.ensemble.as_ref();
                Ok(ensemble.is_none_or(|ensemble| ensemble.db_autocreate))
            }
            Err(source) => Err(Error::Store {
                path: marker,
                source: Box::new(source),
            }),
        }
    }

    /// Writes memberships, and remembers them for the next life.
    fn members_hook(&self) -> MembersHook {
        let files = self.config.ensemble.as_ref();
        let files = files.and_then(|ensemble| ensemble.files.clone());
        let members = Rc::clone(&self.members);
        Box::new(move |op| {
            if let Some(files) = &files {
                dynamic::apply(files, &op)?;
            }
            if let Some(members) = &mut *members.borrow_mut() {
                match op {
                    MembershipOp::Seen(seen) => members.last_seen = Some(seen),
                    MembershipOp::Active(active) => {
                        members.committed = active;
                        members.last_seen = None;
                    }
                }
            }
            Ok(())
        })
    }

    fn error(&self, error: DriverError) -> Error {
        match error {
            DriverError::Io(source) => Error::Runtime(source),
            DriverError::Bind(error) => Error::BindPeer {
                port: error.port,
                endpoint: error.endpoint,
                source: error.source,
            },
            // A lane's error is the store's own, which names its file, or a panic's.
            DriverError::Lane(source) => match source.downcast::<crate::store::Error>() {
                Ok(error) => Error::from(*error),
                Err(source) => Error::Store {
                    path: self.config.data_log_dir.clone(),
                    source,
                },
            },
        }
    }
}

fn listen(config: &ServerConfig, sockets: &SocketsMax) -> Result<Listeners, Error> {
    let backlog = u32::try_from(config.core.host.listen_backlog).ok();
    let options = ListenOptions {
        backlog,
        keep_alive: config.tcp_keep_alive,
        sockets_max: sockets.clients,
    };
    Listeners::bind(&config.listen, options).map_err(|error| Error::Bind {
        address: error.addr,
        source: error.source,
    })
}

/// How many connections leave the store the descriptors that it needs: a log that cannot open its
/// next file ends the server. Clients and peers cannot take each other's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct SocketsMax {
    /// `None` is no limit but the system's.
    clients: Option<usize>,
    /// Of both ports for servers.
    peers: Option<usize>,
}

impl SocketsMax {
    /// `open_files_max` is 0 if the system does not say.
    fn new(open_files_max: u64, alone: bool) -> Self {
        let Ok(all) = usize::try_from(open_files_max) else {
            return Self::default();
        };
        if all == 0 {
            return Self::default();
        }
        let all = all.saturating_sub(DESCRIPTORS_RESERVED);
        let peers = if alone {
            0
        } else {
            (all / 4).clamp(1, PEER_SOCKETS_MAX)
        };
        Self {
            clients: Some(all.saturating_sub(peers).max(1)),
            peers: Some(peers),
        }
    }
}

/// Who is in the ensemble, as far as this process knows.
struct Members {
    committed: Membership,
    last_seen: Option<Membership>,
}

fn members_of(ensemble: &config::EnsembleConfig) -> Members {
    Members {
        committed: ensemble.zab.committed.clone(),
        last_seen: ensemble.zab.last_seen.clone(),
    }
}

/// What was on disk.
struct Loaded {
    loader: Loader,
    /// What comes before `recent`.
    base: Zxid,
    recent: Vec<(Zxid, Bytes)>,
    found: recovery::Recovered,
}

/// Reads what is there.
fn load(config: &ServerConfig, directories: &Directories, entropy: u64) -> Result<Loaded, Error> {
    let loader = Loader::new(entropy, config.core.tree_digest);
    // Standing alone, nobody asks what was.
    let kept = config.ensemble.as_ref().map(|ensemble| &ensemble.zab);
    let (txns_min, bytes_max) =
        kept.map_or((0, 0), |zab| (zab.history_txns_min, zab.history_bytes_max));
    let mut loader = Recent::new(loader, txns_min, bytes_max);
    let (mut logs, mut snapshots) = (directories.logs(), directories.snapshots());
    let found = recover(&mut logs, &mut snapshots, &mut loader)?;
    for note in &found.notes {
        warn!("{note}");
    }
    let (loader, base, recent) = loader.finish();
    Ok(Loaded {
        loader,
        base,
        recent,
        found,
    })
}

fn lane_options(config: &ServerConfig) -> LaneOptions {
    LaneOptions {
        log: LogOptions {
            preallocate_bytes: config.pre_alloc_bytes,
            file_bytes_max: config.log_file_bytes_max.unwrap_or(0),
        },
        compression: match config.compression {
            Compression::Gzip => FileCompression::Gzip,
            Compression::None => FileCompression::None,
            Compression::Snappy => FileCompression::Snappy,
        },
        fsync_warning: Some(Duration::from_millis(u64::from(config.fsync_warning_ms))),
        retain: config.purge.and_then(|purge| NonZeroU32::new(purge.retain)),
    }
}

/// What the store's threads say, into the driver's inbox or the log.
fn reporter(inbox: &Inbox) -> impl FnMut(Report) + Clone + Send + 'static {
    let inbox = inbox.clone();
    move |report| match report {
        Report::Input(input) => inbox.push(input),
        Report::LogFailed(error) => inbox.fail(error),
        Report::SnapshotTrouble(error) => warn!("{error}"),
        Report::Purged(plan) => info!(
            files = plan.snapshots.len() + plan.logs.len(),
            "old snapshots and logs removed"
        ),
    }
}

/// What only the host knows when a four-letter word asks.
fn facts(directories: &Directories, lanes: &Lanes) -> impl FnMut() -> HostFacts + Send + 'static {
    let fsync_ms = lanes.fsync_ms();
    let (snapshots, logs) = (directories.snapshots(), directories.logs());
    move || HostFacts {
        fsync_ms: fsync_ms(),
        ..host_facts::gather(snapshots.path(), logs.path())
    }
}

/// The driver's hold on the lanes.
struct Handed(Rc<Lanes>);

impl LanesOf for Handed {
    fn store(&mut self, ops: &mut Vec<(Seq, StoreOp)>) {
        self.0.store(ops);
    }

    fn snapshot(&mut self, ops: &mut Vec<SnapshotOp>) {
        self.0.snapshot(ops);
    }
}

fn events() -> impl FnMut(Event) {
    let mut log = EventLog::default();
    move |event| log.log(&event, Instant::now())
}

fn wall() -> UnixMillis {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Different in every process; the standard library asks the system for it.
fn entropy() -> u64 {
    RandomState::new().hash_one(0_u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_shared_out() {
        let of = |open_files_max, alone| {
            let sockets = SocketsMax::new(open_files_max, alone);
            (sockets.clients, sockets.peers)
        };
        assert_eq!(of(0, true), (None, None));
        assert_eq!(of(1024, true), (Some(976), Some(0)));
        assert_eq!(of(1024, false), (Some(732), Some(244)));
        assert_eq!(of(1 << 20, false), (Some((1 << 20) - 48 - 512), Some(512)));
        // Too few for anything, and still somebody can ask why.
        assert_eq!(of(10, false), (Some(1), Some(1)));
    }
}
