//! From a configuration to a server that serves, and back to nothing.

use core::hash::BuildHasher;
use core::net::SocketAddr;
use core::num::NonZeroU32;
use core::pin::{Pin, pin};
use core::time::Duration;
use std::hash::RandomState;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tracing::{info, warn};
use zabra_core::ids::{Seq, UnixMillis, Zxid};
use zabra_core::machine::Now;
use zabra_core::server::{Event, HostFacts, Recovered, Server, SnapshotOp, StoreOp};
use zabra_core::store::log::LogOptions;
use zabra_core::store::names::Compression as FileCompression;
use zabra_core::store::recent::Recent;
use zabra_core::store::recovery::{self, recover};
use zabra_core::tree::Loader;

use super::driver::{Driver, DriverError, Ended, Inbox, Lanes as LanesOf, runtime};
use super::ensemble::{History, Place};
use super::lives::live_on;
use crate::config::dynamic::WriteError;
use crate::config::{Compression, ServerConfig};
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
    let sockets = SocketsMax::new(host_facts::open_files_max(), config.ensemble.is_none());
    let place = config.ensemble.as_ref().map(Place::new);
    let listeners = listen(&config, &sockets)?;
    let bound = listeners.local_addrs();
    if let Some(first) = bound.first() {
        config.core.host.client_port = first.port();
    }
    let host = Host {
        directories,
        listeners,
        peers: PeerOptions {
            keep_alive: config.ensemble.as_ref().is_some_and(|it| it.tcp_keep_alive),
            sockets_max: sockets.peers,
            bind_attempts: bind_attempts(&config),
            ..PeerOptions::default()
        },
        place,
        gauges: Arc::default(),
        config,
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
    /// `None`: it stands alone.
    place: Option<Place>,
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
        let (loader, history, found) = self.load(entropy)?;
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
        let core = config.core.clone();
        let machine = match (&self.place, history) {
            (Some(place), Some(history)) => {
                place.machine(core, loader, recovered, history, entropy, now)
            }
            _ => Server::new(core, loader, recovered, entropy, now),
        };
        let members = match &self.place {
            Some(place) => place.members(),
            None => Box::new(|_| Ok(())),
        };
        let facts = facts(directories, &lanes);
        started();
        if let Some(place) = &self.place {
            info!("{}", place.introduction());
        }
        let driver = Driver {
            machine,
            lanes: Handed(Rc::clone(&lanes)),
            listeners: self.listeners.try_clone().map_err(Error::Runtime)?,
            peers: self.peers,
            inbox,
            members,
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

    /// Reads what is there.
    fn load(&self, entropy: u64) -> Result<(Loader, Option<History>, recovery::Recovered), Error> {
        let (config, directories) = (&self.config, &self.directories);
        let loader = Loader::new(entropy, config.core.tree_digest);
        let (txns_min, bytes_max) = self.place.as_ref().map_or((0, 0), Place::history_max);
        let mut recent = Recent::new(loader, txns_min, bytes_max);
        let (mut logs, mut snapshots) = (directories.logs(), directories.snapshots());
        let found = recover(&mut logs, &mut snapshots, &mut recent)?;
        for note in &found.notes {
            warn!("{note}");
        }
        let (loader, base, recent) = recent.finish();
        let Some(place) = &self.place else {
            return Ok((loader, None, found));
        };
        let nothing = found.snapshot.is_none() && found.last == Zxid::ZERO;
        let trusted = place.trusts(&config.data_log_dir, nothing)?;
        if !trusted {
            warn!(
                "there is no data, and nobody said that there should be none: this server has no \
                 vote before a leader has given it the state; if all are new, create the file \
                 `initialize` in dataLogDir, or set db.autocreate"
            );
        }
        let history = History {
            base,
            recent,
            epochs: directories.epochs(found.last)?,
            trusted,
        };
        Ok((loader, Some(history), found))
    }

    fn error(&self, error: DriverError) -> Error {
        match error {
            DriverError::Io(source) => Error::Runtime(source),
            DriverError::Bind(error) => Error::BindPeer {
                port: error.port,
                endpoint: error.endpoint,
                source: error.source,
            },
            DriverError::Lane(source) => self.lane_error(source),
        }
    }

    /// An error that names its file, if what failed has one.
    fn lane_error(&self, source: Box<dyn core::error::Error + Send + Sync>) -> Error {
        let source = match source.downcast::<crate::store::Error>() {
            Ok(error) => return Error::from(*error),
            Err(source) => source,
        };
        match source.downcast::<WriteError>() {
            Ok(error) => Error::Store {
                path: error.file,
                source: format!("cannot be {}: {}", error.what, error.source).into(),
            },
            // A panic's.
            Err(source) => Error::Store {
                path: self.config.data_log_dir.clone(),
                source,
            },
        }
    }
}

/// Attempts to listen for elections.
fn bind_attempts(config: &ServerConfig) -> u32 {
    let ensemble = config.ensemble.as_ref();
    ensemble.map_or(0, |ensemble| ensemble.bind_attempts_max)
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
