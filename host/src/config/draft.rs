//! A configuration while it is being read: every setting on its own, before they are checked
//! together.

use core::time::Duration;
use std::{
    collections::BTreeMap,
    fs, io,
    path::{self, Path, PathBuf},
    sync::Arc,
};

use zabra_core::server::{Config, config::FourLetterWords};

use super::{
    Compression, Purge, ServerConfig,
    listen::{self, Unbound},
    problem::{Origin, Problem, Problems, shown},
    servers::{self, ServerLine},
    table::Setting,
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
    pub(super) pre_alloc_bytes: u64,
    pub(super) log_file_bytes_max: Option<u64>,
    pub(super) compression: Compression,
    pub(super) tcp_keep_alive: bool,
    pub(super) fsync_warning_ms: u32,
    pub(super) create_directories: bool,
    pub(super) servers: Vec<(ServerLine, Origin)>,
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
            pre_alloc_bytes: 64 << 20,
            log_file_bytes_max: None,
            compression: Compression::None,
            tcp_keep_alive: false,
            fsync_warning_ms: 1000,
            create_directories: true,
            servers: Vec::new(),
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
        draft
    }

    pub(super) fn server_line(&mut self, name: &str, value: &str, origin: &Origin) {
        let id = name.strip_prefix("server.").unwrap_or(name);
        match servers::parse(id, value) {
            Some(line) => self.servers.push((line, origin.clone())),
            None => self.problems.push(Problem::new(
                Some(origin),
                name,
                format!(
                    "expected server.N={}, with N a number, found {}",
                    servers::EXPECTED,
                    shown(value)
                ),
            )),
        }
    }

    /// Checks the settings against each other.
    pub(super) fn finish(
        mut self,
        settings: &Settings,
        file: Option<&Arc<Path>>,
    ) -> Result<ServerConfig, Problems> {
        let whole = file.map(|file| Origin::File(Arc::clone(file)));
        self.check_servers(settings, whole.as_ref());
        self.check_session_timeouts(settings);
        self.check_purge(settings);
        self.allow_isro();
        let listen = self.listen(settings, whole.as_ref());
        let data_dir = self.data_dir.take().unwrap_or_default();
        if !data_dir.as_os_str().is_empty() {
            self.check_my_id(&data_dir);
        } else if !settings.contains_key("dataDir") {
            let text = "is missing: expected dataDir=DIRECTORY, where snapshots are kept";
            self.problems
                .push(Problem::new(whole.as_ref(), "dataDir", text));
        }
        let data_log_dir = self.data_log_dir.take().unwrap_or_else(|| data_dir.clone());
        Problems::check(self.problems)?;

        let mut core = self.core;
        core.host.client_port = listen.first().map_or(0, |address| address.port());
        core.host.data_dir = version_dir(&data_dir);
        core.host.data_log_dir = version_dir(&data_log_dir);
        core.host.environment = host_facts::environment();
        let retain = self.purge_retain;
        Ok(ServerConfig {
            core,
            file: file.map(|file| file.to_path_buf()),
            listen,
            data_dir,
            data_log_dir,
            create_directories: self.create_directories,
            purge: self
                .purge_interval
                .map(|interval| Purge { interval, retain }),
            pre_alloc_bytes: self.pre_alloc_bytes,
            log_file_bytes_max: self.log_file_bytes_max,
            compression: self.compression,
            tcp_keep_alive: self.tcp_keep_alive,
            fsync_warning_ms: self.fsync_warning_ms,
            warnings: self.warnings,
        })
    }

    /// At most one voter, and what its line says about clients.
    fn check_servers(&mut self, settings: &Settings, whole: Option<&Origin>) {
        let servers = core::mem::take(&mut self.servers);
        let voters: Vec<_> = servers.iter().filter(|(line, _)| !line.observer).collect();
        if !self.standalone_enabled {
            let origin = settings.get("standaloneEnabled").map(|s| &s.origin);
            let text = "a server that waits for others to join is not built yet in this version; \
                        remove it, or set it to true";
            self.problems
                .push(Problem::new(origin, "standaloneEnabled", text));
        }
        match voters.as_slice() {
            [] if servers.is_empty() => {}
            [(line, origin)] if servers.len() == 1 => {
                if line.secure {
                    let name = format!("server.{}", line.id);
                    let text = "TLS is not built yet in this version, and without it nothing would \
                                be encrypted; remove the secure port";
                    self.problems.push(Problem::new(Some(origin), &name, text));
                }
                self.use_client_part(line, origin, settings);
            }
            // A lone server that took itself for the ensemble would accept writes that no other
            // ever sees.
            _ => {
                let text = format!(
                    "expected at most one server.N line, found {}: ensembles are not built yet in \
                     this version, and this server would stand alone",
                    servers.len()
                );
                let origin = servers.first().map(|(_, origin)| origin).or(whole);
                self.problems.push(Problem::new(origin, "server.N", text));
            }
        }
        if let ([(line, origin)], Some(my_id)) = (voters.as_slice(), self.my_id)
            && line.id != u64::from(my_id)
        {
            let text = format!("is the only server, but myid is {my_id}: this server stands alone");
            let name = format!("server.{}", line.id);
            self.warnings.push(Problem::new(Some(origin), &name, text));
        }
    }

    fn use_client_part(&mut self, line: &ServerLine, origin: &Origin, settings: &Settings) {
        let Some((address, port)) = &line.client else {
            return;
        };
        let rank = |key| settings.get(key).map_or(0, |s: &Setting| s.origin.rank());
        let port_rank = rank("clientPort");
        if port_rank == origin.rank() && self.client_port != Some(*port) {
            let name = format!("server.{}", line.id);
            let text = format!(
                "its client port {port} is not that of clientPort, {}; give one of them",
                self.client_port.unwrap_or_default()
            );
            self.problems.push(Problem::new(Some(origin), &name, text));
        }
        if port_rank < origin.rank() {
            self.client_port = Some(*port);
        }
        if rank("clientPortAddress") < origin.rank() {
            // Source: QuorumServer: without a host, all addresses.
            self.client_address = None;
            self.unbound = Unbound::All;
            if !address.is_empty() {
                self.client_address = Some(address.clone());
            }
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

    /// ZooKeeper reads the file `myid` even where the number has no use, so a bad one is found
    /// early.
    fn check_my_id(&mut self, data_dir: &Path) {
        let file = data_dir.join("myid");
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            // That dataDir is a file is for whoever opens it to say.
            Err(error)
                if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory]
                    .contains(&error.kind()) =>
            {
                return;
            }
            Err(error) => {
                let origin = Origin::File(file.into());
                let text = format!("cannot be read: {error}");
                self.problems.push(Problem::new(Some(&origin), "", text));
                return;
            }
        };
        let line = text.lines().next().unwrap_or("").trim();
        if line.parse::<u8>().is_ok_and(|id| id > 0) {
            return;
        }
        let origin = Origin::File(file.into());
        let text = format!(
            "expected the server's number, from 1 to 255, on the first line, found {}",
            shown(line)
        );
        self.problems.push(Problem::new(Some(&origin), "", text));
    }
}

/// As ZooKeeper's word `conf` shows a directory.
fn version_dir(directory: &Path) -> String {
    let absolute = path::absolute(directory).unwrap_or_else(|_| directory.to_path_buf());
    absolute.join(VERSION_DIR).display().to_string()
}
