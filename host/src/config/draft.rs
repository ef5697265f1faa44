//! A configuration while it is being read: every setting on its own, before they are checked
//! together.

use core::{num::NonZeroU64, time::Duration};
use std::{
    collections::BTreeMap,
    path::{self, Path, PathBuf},
    sync::Arc,
};

use zabra_core::{
    ids::ServerId,
    server::{Config, config::FourLetterWords},
};

use super::{
    Compression, Purge, ServerConfig,
    admin::{AdminDraft, AuditDraft, MetricsDraft},
    auth::{AuthDraft, SecretFile},
    ensemble::{self, EnsembleDraft, MyIdFile},
    listen::{self, Unbound},
    members::{self, Members},
    problem::{Origin, Problem, Problems},
    sandbox::SandboxDraft,
    table::Setting,
    tls::TlsDraft,
};
use crate::host_facts;

/// Where ZooKeeper keeps the files of its second format, under each of the two directories.
const VERSION_DIR: &str = "version-2";

const SNAP_RETAIN_COUNT_MIN: u32 = 3;

pub(super) struct Draft {
    pub(super) core: Config,
    pub(super) data_dir: Option<PathBuf>,
    pub(super) data_log_dir: Option<PathBuf>,
    pub(super) dynamic_config: Option<PathBuf>,
    pub(super) my_id: Option<u8>,
    pub(super) client_port: Option<u16>,
    pub(super) client_address: Option<String>,
    pub(super) unbound: Unbound,
    pub(super) session_timeout_ms_min: Option<u32>,
    pub(super) session_timeout_ms_max: Option<u32>,
    pub(super) read_only_mode: bool,
    pub(super) standalone_enabled: bool,
    pub(super) purge_interval: Option<Duration>,
    pub(super) purge_retain: u32,
    pub(super) purge_bytes_max: u64,
    pub(super) disk_free_min: Option<u64>,
    pub(super) pre_alloc_bytes: u64,
    pub(super) log_file_bytes_max: Option<u64>,
    pub(super) compression: Compression,
    pub(super) tcp_keep_alive: bool,
    pub(super) fsync_warning_ms: u32,
    pub(super) create_directories: bool,
    pub(super) ensemble: EnsembleDraft,
    pub(super) sandbox: SandboxDraft,
    pub(super) auth: AuthDraft,
    pub(super) secret_file: Option<SecretFile>,
    pub(super) tls: TlsDraft,
    pub(super) admin: AdminDraft,
    pub(super) metrics: MetricsDraft,
    pub(super) audit: AuditDraft,
    pub(super) warnings: Vec<Problem>,
    pub(super) problems: Vec<Problem>,
    /// The file could not be read.
    pub(super) unreadable: bool,
}

pub(super) type Settings = BTreeMap<String, Setting>;

impl Draft {
    /// What holds when a file says nothing else: ZooKeeper's defaults, except that purging is on.
    pub(super) fn with_file() -> Self {
        let mut core = Config::default();
        core.host.listen_backlog = -1;
        Self {
            core,
            data_dir: None,
            data_log_dir: None,
            dynamic_config: None,
            my_id: None,
            client_port: None,
            client_address: None,
            unbound: Unbound::All,
            session_timeout_ms_min: None,
            session_timeout_ms_max: None,
            read_only_mode: false,
            standalone_enabled: true,
            purge_interval: Some(Duration::from_secs(3600)),
            purge_retain: SNAP_RETAIN_COUNT_MIN,
            purge_bytes_max: 0,
            disk_free_min: None,
            pre_alloc_bytes: 64 << 20,
            log_file_bytes_max: None,
            compression: Compression::None,
            tcp_keep_alive: false,
            fsync_warning_ms: 1000,
            create_directories: true,
            ensemble: EnsembleDraft::default(),
            sandbox: SandboxDraft::default(),
            auth: AuthDraft::default(),
            secret_file: None,
            tls: TlsDraft::default(),
            admin: AdminDraft::default(),
            metrics: MetricsDraft::default(),
            audit: AuditDraft::default(),
            warnings: Vec::new(),
            problems: Vec::new(),
            unreadable: false,
        }
    }

    /// What holds without a file: a server to try things with, that only this machine reaches.
    pub(super) fn without_file() -> Self {
        let mut draft = Self::with_file();
        draft.core.tick_ms = 2000;
        draft.core.extended_types = true;
        draft.core.four_letter_words = FourLetterWords::All;
        draft.data_dir = Some("zabra-data".into());
        draft.client_port = Some(2181);
        draft.unbound = Unbound::Loopback;
        // Those of the ZooKeeper image: with variables alone, an ensemble starts as it does there.
        draft.ensemble.init_limit = Some(5);
        draft.ensemble.sync_limit = Some(2);
        draft
    }

    /// Checks the settings against each other.
    pub(super) fn finish(
        mut self,
        settings: &Settings,
        file: Option<&Arc<Path>>,
    ) -> Result<ServerConfig, Problems> {
        let whole = file.map(|file| Origin::File(Arc::clone(file)));
        let members = Members::read(settings, &mut self.problems);
        let data_dir = self.data_dir.take().unwrap_or_default();
        let my_id_file = if data_dir.as_os_str().is_empty() {
            MyIdFile::Missing
        } else {
            MyIdFile::read(&data_dir, &mut self.problems)
        };
        let mut ensemble = match members {
            Some(members)
                if ensemble::is_ensemble(&members.membership, self.standalone_enabled) =>
            {
                self.ensemble(members, settings, file, &data_dir, &my_id_file)
            }
            Some(members) => {
                self.stand_alone(&members, settings);
                None
            }
            None => {
                self.check_alone(settings);
                None
            }
        };
        self.authentication(settings, file, ensemble.as_mut());
        self.check_session_timeouts(settings);
        self.check_purge(settings);
        self.allow_isro();
        let sandbox = self.sandboxed(settings, ensemble.is_some());
        let client_tls = self.client_tls(settings);
        let quorum_tls = self.quorum_tls(settings, ensemble.is_none());
        let admin = self.administered(settings);
        let metrics = self.measured(settings);
        let audit = self.audited();
        let listen = self.listen(settings, whole.as_ref());
        if data_dir.as_os_str().is_empty() && !settings.contains_key("dataDir") {
            let text = "is missing: expected dataDir=DIRECTORY, where snapshots are kept";
            self.problems
                .push(Problem::new(whole.as_ref(), "dataDir", text));
        }
        let data_log_dir = self.data_log_dir.take().unwrap_or_else(|| data_dir.clone());
        Problems::check(self.problems)?;

        let mut core = self.core;
        core.audit = audit.is_some();
        core.host.client_port = listen.first().map_or(0, |address| address.port());
        core.host.data_dir = version_dir(&data_dir);
        core.host.data_log_dir = version_dir(&data_log_dir);
        core.host.environment = host_facts::environment();
        let secret_file = self.secret_file.map(|file| SecretFile {
            path: data_dir.join(file.path),
            ..file
        });
        let retain = self.purge_retain;
        let bytes_max = NonZeroU64::new(self.purge_bytes_max);
        Ok(ServerConfig {
            core,
            file: file.map(|file| file.to_path_buf()),
            listen,
            data_dir,
            data_log_dir,
            create_directories: self.create_directories,
            purge: self.purge_interval.map(|interval| Purge {
                interval,
                retain,
                bytes_max,
            }),
            disk_free_min: self.disk_free_min,
            pre_alloc_bytes: self.pre_alloc_bytes,
            log_file_bytes_max: self.log_file_bytes_max,
            compression: self.compression,
            tcp_keep_alive: self.tcp_keep_alive,
            fsync_warning_ms: self.fsync_warning_ms,
            client_tls,
            quorum_tls,
            ensemble,
            sandbox,
            secret_file,
            admin,
            metrics,
            audit,
            warnings: self.warnings,
        })
    }

    /// One server that is the whole ensemble.
    fn stand_alone(&mut self, members: &Members, settings: &Settings) {
        let membership = &members.membership;
        let Some((id, _)) = membership.voters().next() else {
            return;
        };
        // Source: QuorumPeerConfig.parseDynamicConfig. A server that stands alone has no learners.
        if let Some((observer, _)) = membership.observers().next() {
            let text = format!(
                "observes, but {} would stand alone, as the only one that votes; add servers that \
                 vote, or set standaloneEnabled=false",
                members::key(id)
            );
            let problem = Problem::new(members.origin(observer), &members::key(observer), text);
            self.problems.push(problem);
            return;
        }
        self.use_client_part(id, members, settings);
        self.warn_of_ensemble_keys(settings);
        if let Some(my_id) = self.my_id
            && id != ServerId(my_id.into())
        {
            let text = format!("is the only server, but myid is {my_id}: this server stands alone");
            let problem = Problem::new(members.origin(id), &members::key(id), text);
            self.warnings.push(problem);
        }
    }

    /// A server without any `server.N` line.
    fn check_alone(&mut self, settings: &Settings) {
        let named = settings.keys().any(|name| members::is_of_members(name));
        if !self.standalone_enabled && !named {
            let origin = settings.get("standaloneEnabled").map(|s| &s.origin);
            let text = "is false, but there is no server.N line: expected the servers of the \
                        ensemble, this one at least; add them, or set it to true";
            self.problems
                .push(Problem::new(origin, "standaloneEnabled", text));
        }
        self.warn_of_ensemble_keys(settings);
    }

    /// What a server that stands alone cannot be or do.
    fn warn_of_ensemble_keys(&mut self, settings: &Settings) {
        let keys = &self.ensemble;
        let reconfig = keys.reconfig_enabled.then_some((
            "reconfigEnabled",
            "has no effect: there is nothing to reconfigure in a server that stands alone",
        ));
        let observer = (keys.observer == Some(true)).then_some((
            "peerType",
            "has no effect: a server that stands alone does not observe",
        ));
        for (key, text) in reconfig.into_iter().chain(observer) {
            let origin = settings.get(key).map(|s| &s.origin);
            self.warnings.push(Problem::new(origin, key, text));
        }
    }

    /// What this server's own line says about clients.
    pub(super) fn use_client_part(&mut self, me: ServerId, members: &Members, settings: &Settings) {
        let name = members::key(me);
        let Some(origin) = members.origin(me) else {
            return;
        };
        let value = settings.get(&name).map_or("", |s| s.value.as_str());
        if value
            .split(';')
            .nth(2)
            .is_some_and(|part| !part.trim().is_empty())
        {
            let text = "a secure port in a server's line is not read; remove it, and set \
                        secureClientPort";
            self.problems.push(Problem::new(Some(origin), &name, text));
        }
        let member = members.membership.member(me);
        let Some(client) = member.and_then(|member| member.client.as_ref()) else {
            return;
        };
        let port = client.port;
        let rank = |key| settings.get(key).map_or(0, |s: &Setting| s.origin.rank());
        let port_rank = rank("clientPort");
        if port_rank == origin.rank() && self.client_port != Some(port) {
            let text = format!(
                "its client port {port} is not that of clientPort, {}; give one of them",
                self.client_port.unwrap_or_default()
            );
            self.problems.push(Problem::new(Some(origin), &name, text));
        }
        if port_rank < origin.rank() {
            self.client_port = Some(port);
        }
        if rank("clientPortAddress") < origin.rank() {
            // Source: QuorumServer: without a host, all addresses.
            self.client_address = Some(client.host.clone());
            self.unbound = Unbound::All;
        }
    }

    fn check_session_timeouts(&mut self, settings: &Settings) {
        let tick_ms = self.core.tick_ms;
        let min = self
            .session_timeout_ms_min
            .unwrap_or_else(|| tick_ms.saturating_mul(2));
        let max = self
            .session_timeout_ms_max
            .unwrap_or_else(|| tick_ms.saturating_mul(20));
        let keys = ["tickTime", "minSessionTimeout", "maxSessionTimeout"];
        let unknown = self.problems.iter().any(|p| keys.contains(&p.key.as_str()));
        if min > max && !unknown {
            let key = ["minSessionTimeout", "maxSessionTimeout"]
                .into_iter()
                .find_map(|key| settings.get(key));
            let text = format!(
                "expected minSessionTimeout to be at most maxSessionTimeout, found {min} ms and \
                 {max} ms (the defaults are 2 and 20 times tickTime, which is {tick_ms} ms)"
            );
            let origin = key.map(|s| &s.origin);
            let name = key.map_or("", |s| s.name.as_str());
            self.problems.push(Problem::new(origin, name, text));
        }
        self.core.session_timeout_ms_min = min;
        self.core.session_timeout_ms_max = max;
    }

    fn check_purge(&mut self, settings: &Settings) {
        if self.purge_retain < SNAP_RETAIN_COUNT_MIN {
            let text = format!(
                "{} snapshots are too few to be safe; {SNAP_RETAIN_COUNT_MIN} are kept",
                self.purge_retain
            );
            let key = "autopurge.snapRetainCount";
            let origin = settings.get(key).map(|s| &s.origin);
            self.warnings.push(Problem::new(origin, key, text));
            self.purge_retain = SNAP_RETAIN_COUNT_MIN;
        }
        let key = "zabra.purge.bytesMax";
        if self.purge_interval.is_none() && self.purge_bytes_max > 0 {
            let text = "has no effect: autopurge.purgeInterval is 0, and nothing is purged";
            let origin = settings.get(key).map(|s| &s.origin);
            self.warnings.push(Problem::new(origin, key, text));
        }
    }

    fn allow_isro(&mut self) {
        if let FourLetterWords::Only(words) = &mut self.core.four_letter_words
            && self.read_only_mode
            && !words.iter().any(|word| word == "isro")
        {
            words.push("isro".to_owned());
        }
    }

    fn listen(
        &mut self,
        settings: &Settings,
        whole: Option<&Origin>,
    ) -> Vec<core::net::SocketAddr> {
        let Some(port) = self.client_port else {
            if self.tls.secure_port.is_some() {
                return Vec::new();
            }
            if settings.contains_key("clientPort") {
                // It has been said already what is wrong with it.
                return Vec::new();
            }
            let text = "is missing: expected clientPort=PORT, usually 2181, as a server without it \
                        would serve nobody";
            self.problems.push(Problem::new(whole, "clientPort", text));
            return Vec::new();
        };
        match listen::addresses(self.client_address.as_deref(), self.unbound, port) {
            Ok(addresses) => addresses,
            Err(text) => {
                let key = "clientPortAddress";
                let origin = settings.get(key).map(|s| &s.origin).or(whole);
                self.problems.push(Problem::new(origin, key, text));
                Vec::new()
            }
        }
    }
}

/// As ZooKeeper's word `conf` shows a directory.
fn version_dir(directory: &Path) -> String {
    let absolute = path::absolute(directory).unwrap_or_else(|_| directory.to_path_buf());
    absolute.join(VERSION_DIR).display().to_string()
}
