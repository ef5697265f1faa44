//! What an operator decides: `zoo.cfg`, environment variables and options, read into a
//! [`ServerConfig`].
//!
//! Later sources win: defaults, file, environment, options. A wrong setting never reaches the
//! server: all that is wrong is reported at once, each with its place. What ZooKeeper would accept
//! and we cannot do is an error if leaving it out would cost safety or security, and a warning
//! otherwise. This module only reads; it creates no directory and opens no socket.

mod admin;
mod auth;
mod draft;
pub mod dynamic;
mod ensemble;
mod ensemble_keys;
mod env;
mod jaas;
mod keys;
mod listen;
mod members;
mod no_effect;
mod problem;
mod properties;
mod sandbox;
mod table;
pub mod tls;
mod zoo_cfg;

use core::{fmt, net::SocketAddr, num::NonZeroU64, time::Duration};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
};

use zabra_core::server::Config;

pub use self::{
    admin::{AdminConfig, AuditConfig, AuditFormat, MetricsConfig, without_secrets},
    auth::SecretFile,
    dynamic::ConfigFiles,
    ensemble::EnsembleConfig,
    problem::{Origin, Problem, Problems},
    sandbox::SandboxConfig,
    tls::{ClientTls, QuorumTls, TlsConfig},
};
use self::{
    draft::{Draft, Settings},
    table::Setting,
};

/// Everything a server needs to know before it starts.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// What the server machine decides by.
    pub core: Config,
    /// The `zoo.cfg` that was read, if any.
    pub file: Option<PathBuf>,
    /// Where to listen for clients. Empty only if there is a port for TLS. Each address is of one
    /// family only: a socket for `[::]` must be set to IPv6 only, or it would collide with
    /// `0.0.0.0`.
    pub listen: Vec<SocketAddr>,
    /// `dataDir`: under it, in `version-2`, are the snapshots.
    pub data_dir: PathBuf,
    /// `dataLogDir`: under it, in `version-2`, is the log. Often the same as `data_dir`.
    pub data_log_dir: PathBuf,
    /// `datadir.autocreate`: directories that are missing are created.
    pub create_directories: bool,
    /// What happens to old snapshots and logs; `None`: they stay.
    pub purge: Option<Purge>,
    /// `zabra.diskFreeMin`: with fewer bytes free on a disk, writes are refused; `None`: 256 MiB, or a
    /// tenth of a smaller file system.
    pub disk_free_min: Option<u64>,
    /// `preAllocSize`, in bytes: by how much a log file grows on disk at a time.
    pub pre_alloc_bytes: u64,
    /// `txnLogSizeLimitInKb`, in bytes: size at which a new log file is begun.
    pub log_file_bytes_max: Option<u64>,
    /// `snapshot.compression.method`.
    pub compression: Compression,
    /// `clientTcpKeepAlive`.
    pub tcp_keep_alive: bool,
    /// `fsync.warningthresholdms`: an fsync that takes longer is worth a warning.
    pub fsync_warning_ms: u32,
    /// This server's part in an ensemble; `None`: it stands alone.
    pub ensemble: Option<EnsembleConfig>,
    /// TLS on the ports for clients; `None`: they are plain.
    pub client_tls: Option<ClientTls>,
    /// TLS between servers; `None`: it is plain.
    pub quorum_tls: Option<QuorumTls>,
    /// The core as a WebAssembly module; `None`: the native one.
    pub sandbox: Option<SandboxConfig>,
    /// Where a server that stands alone keeps the secret by which it gives sessions their
    /// passwords; `None`: it is in `core` already, or there is none.
    pub secret_file: Option<SecretFile>,
    /// The AdminServer; `None`: there is none.
    pub admin: Option<AdminConfig>,
    /// Where Prometheus finds metrics; `None`: nowhere.
    pub metrics: Option<MetricsConfig>,
    /// The audit log; `None`: there is none.
    pub audit: Option<AuditConfig>,
    /// What the operator should know about the settings: log each at start.
    pub warnings: Vec<Problem>,
}

/// Which old snapshots and logs are deleted, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purge {
    /// `autopurge.purgeInterval`.
    pub interval: Duration,
    /// `autopurge.snapRetainCount`: that many snapshots stay, and the logs that they need. At
    /// least 3.
    pub retain: u32,
    /// `zabra.purge.bytesMax`: fewer stay, but two at least, if they take more bytes.
    pub bytes_max: Option<NonZeroU64>,
}

/// How snapshots are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// `gz`.
    Gzip,
    /// Not at all.
    #[default]
    None,
    /// `snappy`.
    Snappy,
}

/// Where settings come from.
#[derive(Clone, Default)]
pub struct Sources {
    /// The `zoo.cfg`. Without one, the defaults are for trying things out: loopback only, data in
    /// `./zabra-data`, all four-letter words, TTL znodes.
    pub file: Option<PathBuf>,
    /// Environment variables; those that are not about this server are skipped.
    pub environment: Vec<(OsString, OsString)>,
    /// Options of the command line.
    pub flags: Vec<Flag>,
}

/// An option of the command line that stands for a key.
#[derive(Clone)]
pub struct Flag {
    /// As it is typed: `--client-port`.
    pub name: &'static str,
    /// The key: `clientPort`.
    pub key: &'static str,
    /// Its value.
    pub value: String,
}

impl ServerConfig {
    /// Reads the sources. Waits for the disk, and for the name service if an address is a name.
    ///
    /// # Errors
    ///
    /// Everything that is wrong in them.
    ///
    /// # Panics
    ///
    /// If a flag stands for a key that does not exist.
    pub fn load(sources: &Sources) -> Result<Self, Problems> {
        let file: Option<Arc<Path>> = sources.file.as_deref().map(Arc::from);
        let mut settings = Settings::new();
        let mut draft = if file.is_some() {
            Draft::with_file()
        } else {
            Draft::without_file()
        };
        if let Some(file) = &file {
            zoo_cfg::read(file, &mut draft, &mut settings);
            if draft.unreadable {
                // Whatever else is missing would have been there.
                Problems::check(core::mem::take(&mut draft.problems))?;
            }
        }
        env::read(&sources.environment, &mut draft, &mut settings);
        for flag in &sources.flags {
            let (key, name) = table::find(flag.key).expect("a flag stands for a key of the table");
            let setting = Setting {
                key,
                name: name.clone(),
                value: flag.value.clone(),
                origin: Origin::Flag(flag.name),
            };
            settings.insert(name, setting);
        }
        zoo_cfg::read_dynamic(&mut draft, &mut settings);
        for setting in settings.values() {
            setting.apply(&mut draft);
        }
        draft.finish(&settings, file.as_ref())
    }
}

impl fmt::Debug for ServerConfig {
    /// Everything but secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerConfig")
            .field("core", &self.core)
            .field("file", &self.file)
            .field("listen", &self.listen)
            .field("data_dir", &self.data_dir)
            .field("data_log_dir", &self.data_log_dir)
            .field("create_directories", &self.create_directories)
            .field("purge", &self.purge)
            .field("disk_free_min", &self.disk_free_min)
            .field("pre_alloc_bytes", &self.pre_alloc_bytes)
            .field("log_file_bytes_max", &self.log_file_bytes_max)
            .field("compression", &self.compression)
            .field("tcp_keep_alive", &self.tcp_keep_alive)
            .field("fsync_warning_ms", &self.fsync_warning_ms)
            .field("ensemble", &self.ensemble)
            .field("client_tls", &self.client_tls)
            .field("quorum_tls", &self.quorum_tls)
            .field("sandbox", &self.sandbox)
            .field("secret_file", &self.secret_file)
            .field("admin", &self.admin)
            .field("metrics", &self.metrics)
            .field("audit", &self.audit)
            .field("warnings", &self.warnings)
            .finish()
    }
}
