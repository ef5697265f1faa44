//! From a configuration to a server that serves, and back to nothing.

use core::cell::Cell;
use core::fmt::Display;
use core::future::{pending, poll_fn};
use core::hash::BuildHasher;
use core::net::SocketAddr;
use core::num::NonZeroU32;
use core::pin::{Pin, pin};
use core::task::Poll;
use core::time::Duration;
use std::hash::RandomState;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio::time::timeout;
use tracing::{info, warn};
use zabra_core::ids::{Seq, UnixMillis, Zxid};
use zabra_core::machine::Now;
use zabra_core::server::config::SessionPasswords;
use zabra_core::server::{
    Config as CoreConfig, Event, HostFacts, Input, Recovered, Server, SnapshotOp, StoreOp,
};
use zabra_core::store::Restore;
use zabra_core::store::epochs::Epochs;
use zabra_core::store::log::LogOptions;
use zabra_core::store::names::Compression as FileCompression;
use zabra_core::store::recent::Recent;
use zabra_core::store::recovery::{self, recover};
use zabra_core::tree::Loader;
#[cfg(feature = "wasm-runtime")]
use zabra_sandbox::{RestoringError, abi};

use super::driver::{Driver, DriverError, Ended, Inbox, Lanes as LanesOf, runtime};
use super::ensemble::{History, Place, remove_marker};
use super::full::{Full, RESIGNED, tell_room};
use super::lives::{Life, live_on};
use super::machine::Running;
#[cfg(feature = "wasm-runtime")]
use super::sandbox::Sandbox;
use super::secrets;
use crate::admin::{self, Asker, Extras};
use crate::audit::Audit;
use crate::config::dynamic::WriteError;
use crate::config::{Compression, ServerConfig};
use crate::error::Error;
use crate::host_facts;
use crate::logging::EventLog;
use crate::net::{Accept, BindError, Gauges, ListenOptions, Listeners, PeerOptions, PeerTls};
use crate::store::{Autocreate, Directories, LaneOptions, Lanes, Report, space};
use crate::tls::{Context, Expiry, Watch};

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
    config: ServerConfig,
    started: impl FnOnce(&ServerConfig, &[SocketAddr]),
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    run_renewed(config, started, stop, async || pending().await)
}

/// As [`run`]; whenever `renew` is ready, a core that is a module in a file is read again, and if
/// it is good, takes the place of the old one: on the same ports, from what is on disk.
///
/// `renew` is asked only if there is such a file.
///
/// # Errors
/// As [`run`].
pub fn run_renewed(
    mut config: ServerConfig,
    started: impl FnOnce(&ServerConfig, &[SocketAddr]),
    stop: impl Future<Output = ()>,
    mut renew: impl AsyncFnMut(),
) -> Result<(), Error> {
    let core = Core::load(&config)?;
    let autocreate = if config.create_directories {
        Autocreate::Yes
    } else {
        Autocreate::No
    };
    let directories = Directories::open(&config.data_dir, &config.data_log_dir, autocreate)?;
    secrets::complete(&mut config)?;
    let sockets = SocketsMax::new(host_facts::open_files_max(), config.ensemble.is_none());
    let place = config.ensemble.as_ref().map(Place::new);
    let contexts = Contexts::load(&config)?;
    let mut listeners = listen(&config, &sockets, &contexts)?;
    let bound = listeners.local_addrs();
    if let Some(first) = bound.first() {
        config.core.host.client_port = first.port();
    }
    listen_secure(&mut config, &mut listeners, &contexts)?;
    let watch = Watch::start(contexts.all()).map_err(Error::Runtime)?;
    let host = Host {
        directories,
        listeners,
        peers: PeerOptions {
            keep_alive: config.ensemble.as_ref().is_some_and(|it| it.tcp_keep_alive),
            sockets_max: sockets.peers,
            bind_attempts: bind_attempts(&config),
            tls: contexts.of_peers(&config, place.as_ref()),
            ..PeerOptions::default()
        },
        place,
        gauges: Arc::default(),
        begun: Cell::new(false),
        full: Arc::default(),
        asker: Asker::default(),
        audit: config
            .audit
            .as_ref()
            .map(Audit::start)
            .transpose()?
            .map(Rc::new),
        config,
        core,
    };
    host.administer(watch.expiry());
    let runtime = runtime().map_err(|error| host.error(error))?;
    let mut started = Some(started);
    let live = async |stop: Pin<&mut _>| {
        let begin = || {
            if let Some(started) = started.take() {
                started(&host.config, &bound);
            }
        };
        host.live(begin, stop, &mut renew).await
    };
    let ended = runtime.block_on(live_on(live, pin!(stop)));
    runtime.shutdown_background();
    ended
}

/// What a server's machine is made by.
enum Core {
    Native,
    #[cfg(feature = "wasm-runtime")]
    Sandboxed(Box<Sandbox>),
}

impl Core {
    fn load(config: &ServerConfig) -> Result<Self, Error> {
        #[cfg(feature = "wasm-runtime")]
        if let Some(sandbox) = &config.sandbox {
            return Ok(Self::Sandboxed(Sandbox::load(sandbox)?.into()));
        }
        // A build without the feature has refused the configuration.
        debug_assert!(config.sandbox.is_none(), "this build runs no module");
        info!("core: native");
        Ok(Self::Native)
    }

    /// What is to be said and kept of a life's end.
    fn life_ended(&self, data_log_dir: &Path) {
        match self {
            Self::Native => {
                let _ = data_log_dir;
            }
            #[cfg(feature = "wasm-runtime")]
            Self::Sandboxed(sandbox) => sandbox.keep_caught(data_log_dir),
        }
    }

    /// Ready once there is another core, which is never for the native one.
    async fn renewed(&self, requested: &mut impl AsyncFnMut()) {
        match self {
            Self::Native => {
                let _ = requested;
                pending().await
            }
            #[cfg(feature = "wasm-runtime")]
            Self::Sandboxed(sandbox) => sandbox.renewed(requested).await,
        }
    }
}

/// What outlives a restart of the server.
struct Host {
    core: Core,
    config: ServerConfig,
    directories: Directories,
    listeners: Listeners,
    peers: PeerOptions,
    /// `None`: it stands alone.
    place: Option<Place>,
    gauges: Arc<Gauges>,
    /// Whether there was a life already.
    begun: Cell<bool>,
    full: Arc<Full>,
    asker: Asker,
    /// `None`: nobody wants to know.
    audit: Option<Rc<Audit>>,
}

impl Host {
    /// Lets operators and their tools ask, from before there is a machine that answers.
    fn administer(&self, certificates: Expiry) {
        let extras = Extras::default();
        extras.add(
            "certificate_expires_in_seconds",
            "Until the first of this server's certificates ends; negative if it has.",
            move || certificates.seconds().map(|seconds| seconds as f64),
        );
        let sources = admin::Sources {
            asker: self.asker.clone(),
            gauges: Arc::clone(&self.gauges),
            extras,
            snapshots: self.directories.snapshots().path().to_owned(),
        };
        admin::start(&self.config, sources);
    }

    /// One life of the server, from what is on disk to its end. Nothing of it is left then but the
    /// files.
    async fn live(
        &self,
        started: impl FnOnce(),
        mut stop: Pin<&mut impl Future<Output = ()>>,
        renew: &mut impl AsyncFnMut(),
    ) -> Result<Life<Error>, Error> {
        let Self {
            config,
            directories,
            ..
        } = self;
        let begun = Instant::now();
        let (machine, found) = match self.open(entropy()) {
            Ok(opened) => opened,
            Err(NotOpened::Trapped(error)) => return Ok(Life::NotOpened(error)),
            Err(NotOpened::Failed(error)) => return Err(error),
        };
        // Of this life only: what the lanes of the last one still say is not for this machine.
        let inbox = Inbox::new();
        let lanes = Lanes::start(
            directories,
            found.last,
            lane_options(config),
            self.reporter(&inbox),
        )?;
        let lanes = Rc::new(lanes);
        info!(
            zxid = %found.last,
            transactions_replayed = found.txns,
            milliseconds = begun.elapsed().as_millis(),
            "data read"
        );

        let members = match &self.place {
            Some(place) => place.members(),
            None => Box::new(|_| Ok(())),
        };
        let asked = inbox.clone();
        self.asker.begin(
            move |input| asked.push(input),
            facts(directories, &lanes),
            lanes.fsyncs(),
        );
        let facts = facts(directories, &lanes);
        let mut renewed = pin!(self.core.renewed(renew));
        let mut renewing = false;
        // Whoever is told that the server is there may ask for another core.
        poll_fn(|cx| {
            renewing = renewed.as_mut().poll(cx).is_ready();
            Poll::Ready(())
        })
        .await;
        started();
        self.begun.set(true);
        if let Some(place) = &self.place {
            info!("{}", place.introduction());
            if config.core.auth.session_passwords == SessionPasswords::OfId {
                warn!(
                    "passwords of sessions are those of ZooKeeper, whose servers may take part: \
                     whoever sees a session's id can compute its password; when all servers are \
                     Zabra's, give them one secret (zabra.sessionSecretFile)"
                );
            }
        }
        let driver = Driver {
            machine,
            lanes: Handed(Rc::clone(&lanes)),
            listeners: self.listeners.try_clone().map_err(Error::Runtime)?,
            peers: self.peers.clone(),
            inbox,
            members,
            facts,
            events: events(self.asker.clone(), self.audit.clone()),
            warnings: Box::new(|line| warn!("{line}")),
            gauges: Arc::clone(&self.gauges),
        };
        let until = poll_fn(|cx| {
            if stop.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            renewing = renewing || renewed.as_mut().poll(cx).is_ready();
            if renewing {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        });
        let ended = driver.serve(pin!(until)).await;
        self.asker.end();
        // The driver is gone and with it the other owner: what was handed over is finished before
        // the files are read again, or the lock on the directories goes.
        if let Ok(lanes) = Rc::try_unwrap(lanes) {
            lanes.close();
        }
        self.core.life_ended(&config.data_log_dir);
        if matches!(ended, Ok(Ended::Restart(_))) && self.full.let_others_lead() {
            // Long enough for an election among those who have room.
            let _stopped = timeout(RESIGNED, stop.as_mut()).await;
        }
        match ended.map_err(|error| self.error(error))? {
            Ended::Stopped if renewing => Ok(Life::Renewed),
            ended @ (Ended::Stopped | Ended::Restart(_)) => Ok(Life::Ended(ended)),
        }
    }

    /// What the machine of the next life decides by.
    fn core_config(&self) -> CoreConfig {
        let mut config = self.config.core.clone();
        let passwords = &mut config.auth.session_passwords;
        // Which sessions were there before is known in the first life; in that their clients have
        // heard of their new passwords.
        if self.begun.get() && *passwords == SessionPasswords::OfSecretFromNow {
            *passwords = SessionPasswords::OfSecret;
        }
        config
    }

    /// Makes a machine of what is there.
    fn open(&self, entropy: u64) -> Result<(Running, recovery::Recovered), NotOpened> {
        let (machine, found) = match &self.core {
            Core::Native => self.open_native(entropy)?,
            #[cfg(feature = "wasm-runtime")]
            Core::Sandboxed(sandbox) => self.open_sandboxed(sandbox, entropy)?,
        };
        if self.place.is_some() {
            remove_marker(&self.config.data_log_dir)?;
        }
        Ok((machine, found))
    }

    fn open_native(&self, entropy: u64) -> Result<(Running, recovery::Recovered), Error> {
        let core = self.core_config();
        let loader = Loader::new(entropy, core.tree_digest);
        let (txns_min, bytes_max) = self.place.as_ref().map_or((0, 0), Place::history_max);
        let mut recent = Recent::new(loader, txns_min, bytes_max);
        let found = self.recover(&mut recent)?;
        let (loader, base, recent) = recent.finish();
        let recovered = Recovered {
            snapshot: found.snapshot.is_some(),
            txns: found.txns,
            log_bytes: found.log_bytes,
        };
        let server = match &self.place {
            Some(place) => {
                let (epochs, trusted) = self.promises(place, &found)?;
                let history = History {
                    base,
                    recent,
                    epochs,
                    trusted,
                };
                place.machine(core, loader, recovered, history, entropy, now())
            }
            None => Server::new(core, loader, recovered, entropy, now()),
        };
        Ok((Running::Native(server.into()), found))
    }

    /// The same, behind the border: what is read goes in piece by piece.
    #[cfg(feature = "wasm-runtime")]
    fn open_sandboxed(
        &self,
        sandbox: &Sandbox,
        entropy: u64,
    ) -> Result<(Running, recovery::Recovered), NotOpened> {
        let name = sandbox.name();
        let not_opened = |error: RestoringError| {
            let reverted = sandbox.revert();
            match error {
                RestoringError::Trap(trap) => NotOpened::Trapped(Error::CoreTrapped {
                    module: name.clone(),
                    source: trap.into(),
                }),
                RestoringError::Refused(reason) => {
                    let error = Error::CoreModule(format!("{name}: {reason}").into());
                    if reverted {
                        NotOpened::Trapped(error)
                    } else {
                        NotOpened::Failed(error)
                    }
                }
            }
        };
        let begin = abi::Begin {
            entropy,
            config: self.core_config(),
            place: self.place.as_ref().map(Place::told),
        };
        let mut restoring = sandbox.begin(begin).map_err(not_opened)?;
        let found = match self.recover(&mut restoring) {
            Ok(found) => found,
            // What recovery says of it is that a file was refused, which it was not.
            Err(error) => {
                return Err(match restoring.trap() {
                    Some(trap) => not_opened(RestoringError::Trap(trap.clone())),
                    None if sandbox.revert() => NotOpened::Trapped(error),
                    None => NotOpened::Failed(error),
                });
            }
        };
        let (epochs, trusted) = match &self.place {
            Some(place) => self.promises(place, &found)?,
            None => (Epochs::default(), false),
        };
        let all = abi::Found {
            now: now(),
            snapshot: found.snapshot.is_some(),
            txns: found.txns,
            log_bytes: found.log_bytes,
            accepted: epochs.accepted,
            current: epochs.current,
            trusted,
        };
        let machine = sandbox.finish(restoring, all);
        let module = machine.map_err(not_opened)?;
        let running = Running::Sandboxed {
            module: module.into(),
            refusals: Box::new(sandbox.refusals()),
        };
        Ok((running, found))
    }

    /// Reads snapshot and log.
    fn recover<R: Restore>(&self, restore: &mut R) -> Result<recovery::Recovered, Error>
    where
        R::Error: Display,
    {
        let (mut logs, mut snapshots) = (self.directories.logs(), self.directories.snapshots());
        let found = recover(&mut logs, &mut snapshots, restore)?;
        for note in &found.notes {
            warn!("{note}");
        }
        Ok(found)
    }

    /// The epochs, and whether what was found counts.
    fn promises(
        &self,
        place: &Place,
        found: &recovery::Recovered,
    ) -> Result<(Epochs, bool), Error> {
        let nothing = found.snapshot.is_none() && found.last == Zxid::ZERO;
        let trusted = place.trusts(&self.config.data_log_dir, nothing);
        if !trusted {
            warn!(
                "there is no data, and nobody said that there should be none: this server has no \
                 vote before a leader has given it the state; if all are new, create the file \
                 `initialize` in dataLogDir, or set db.autocreate"
            );
        }
        Ok((self.directories.epochs(found.last)?, trusted))
    }

    /// What the store's threads say, into the driver's inbox or the log.
    fn reporter(&self, inbox: &Inbox) -> impl FnMut(Report) + Clone + Send + 'static {
        let (inbox, full) = (inbox.clone(), Arc::clone(&self.full));
        move |report| match report {
            Report::Input(input) => inbox.push(input),
            Report::LogFailed(error) => inbox.fail(error),
            Report::SnapshotTrouble(error) => warn!("{error}"),
            Report::Purged(plan) => info!(
                files = plan.snapshots.len() + plan.logs.len(),
                "old snapshots and logs removed"
            ),
            Report::Room(room) => {
                tell_room(&room);
                inbox.push(Input::Disk(full.room(room.is_low)));
            }
        }
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

/// Why a life did not begin.
enum NotOpened {
    /// The core trapped, or another is to try: another attempt may go better.
    #[cfg_attr(
        not(feature = "wasm-runtime"),
        expect(dead_code, reason = "a native core panics")
    )]
    Trapped(Error),
    Failed(Error),
}

impl From<Error> for NotOpened {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Attempts to listen for elections.
fn bind_attempts(config: &ServerConfig) -> u32 {
    let ensemble = config.ensemble.as_ref();
    ensemble.map_or(0, |ensemble| ensemble.bind_attempts_max)
}

/// Keys and trust, as far as they are asked for.
#[derive(Default)]
struct Contexts {
    clients: Option<Arc<Context>>,
    peers: Option<Arc<Context>>,
}

impl Contexts {
    fn load(config: &ServerConfig) -> Result<Self, Error> {
        let mut contexts = Self::default();
        if let Some(clients) = &config.client_tls {
            contexts.clients = Some(Context::load(clients.tls.clone())?.into());
        }
        if let Some(peers) = &config.quorum_tls {
            contexts.peers = Some(Context::load(peers.tls.clone())?.into());
        }
        Ok(contexts)
    }

    fn all(&self) -> Vec<Arc<Context>> {
        let all = self.clients.iter().chain(&self.peers);
        all.cloned().collect()
    }

    fn of_peers(&self, config: &ServerConfig, place: Option<&Place>) -> Option<PeerTls> {
        let (context, tls) = (self.peers.as_ref()?, config.quorum_tls.as_ref()?);
        Some(PeerTls {
            context: Arc::clone(context),
            dial: tls.dial,
            plain_too: tls.plain_too,
            names: place?.names(),
        })
    }
}

fn listen(
    config: &ServerConfig,
    sockets: &SocketsMax,
    contexts: &Contexts,
) -> Result<Listeners, Error> {
    let backlog = u32::try_from(config.core.host.listen_backlog).ok();
    let tls = config.client_tls.as_ref();
    let options = ListenOptions {
        backlog,
        keep_alive: config.tcp_keep_alive,
        sockets_max: sockets.clients,
        handshakes_max: tls.and_then(|tls| tls.handshakes_max),
    };
    let accept = match &contexts.clients {
        Some(context) if tls.is_some_and(|tls| tls.unified) => Accept::Either(Arc::clone(context)),
        Some(_) | None => Accept::Plain,
    };
    let mut listeners = Listeners::bind(&[], options).map_err(not_bound)?;
    listeners.add(&config.listen, &accept).map_err(not_bound)?;
    Ok(listeners)
}

/// Listens where only TLS is spoken, and says so.
fn listen_secure(
    config: &mut ServerConfig,
    listeners: &mut Listeners,
    contexts: &Contexts,
) -> Result<(), Error> {
    let (Some(tls), Some(context)) = (&config.client_tls, &contexts.clients) else {
        return Ok(());
    };
    let accept = Accept::Tls(Arc::clone(context));
    let bound = listeners.add(&tls.listen, &accept).map_err(not_bound)?;
    if let (Some(first), Some(secure)) = (bound.first(), &mut config.core.secure) {
        secure.port = first.port();
    }
    let bound: Vec<String> = bound.iter().map(ToString::to_string).collect();
    match (bound.is_empty(), tls.unified) {
        (true, _) => info!("the port for clients takes TLS, too"),
        (false, false) => info!("listening for clients with TLS on {}", bound.join(" and ")),
        (false, true) => info!(
            "listening for clients with TLS on {}; the plain port takes it, too",
            bound.join(" and ")
        ),
    }
    Ok(())
}

fn not_bound(error: BindError) -> Error {
    Error::Bind {
        address: error.addr,
        source: error.source,
    }
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
        retain_bytes_max: config.purge.and_then(|purge| purge.bytes_max),
        disk_free_min: config.disk_free_min,
    }
}

/// What only the host knows when a four-letter word asks.
fn facts(directories: &Directories, lanes: &Lanes) -> impl FnMut() -> HostFacts + Send + 'static {
    let fsync_ms = lanes.fsync_ms();
    let (snapshots, logs) = (directories.snapshots(), directories.logs());
    move || HostFacts {
        fsync_ms: fsync_ms(),
        disk_free_bytes: [snapshots.path(), logs.path()]
            .into_iter()
            .filter_map(|directory| Some(space(directory)?.free))
            .min()
            .unwrap_or(0),
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

fn events(asker: Asker, audit: Option<Rc<Audit>>) -> impl FnMut(Event) {
    let mut log = EventLog::default();
    move |mut event| {
        let audited = audit.as_ref().is_some_and(|audit| audit.hear(&mut event));
        if !audited && !asker.hear(&mut event) {
            log.log(&event, Instant::now());
        }
    }
}

/// The time at which a server begins.
fn now() -> Now {
    Now {
        instant: zabra_core::ids::Instant(0),
        wall: wall(),
    }
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
