//! A server's part in an ensemble, as its configuration has it.

use std::{
    fs, io,
    path::{self, Path, PathBuf},
    sync::Arc,
};

use zabra_core::{
    ids::ServerId,
    zab::{Membership, Options, Sasl},
};

use super::{
    draft::{Draft, Settings},
    dynamic::{self, ConfigFiles},
    members::{self, Members},
    problem::{Origin, Problem, shown},
};

/// Bytes of transactions that are kept for learners beside `commitLogCount` of them. A learner
/// that missed more is sent the whole state.
const HISTORY_BYTES_MAX: usize = 32 << 20;

/// What a server of an ensemble needs to know beyond what every server does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnsembleConfig {
    /// What ZAB decides by.
    pub zab: Options,
    /// The file that a change of the membership is written into; `None` if the configuration came
    /// without one, and then `reconfigEnabled` is off.
    pub files: Option<ConfigFiles>,
    /// The file from which the membership was read, if it is a file of its own.
    pub dynamic_file: Option<PathBuf>,
    /// `readonlymode.enabled`: whether clients may read while there is no quorum.
    pub read_only_mode: bool,
    /// `localSessionsEnabled`: whether sessions begin as this server's own business.
    pub local_sessions: bool,
    /// `localSessionsUpgradingEnabled`: whether such a session becomes everybody's when it needs
    /// to.
    pub local_sessions_upgrading: bool,
    /// `leaderServes`: whether a leader serves clients.
    pub leader_serves: bool,
    /// `standaloneEnabled`: whether the ensemble must not shrink to one server.
    pub standalone_enabled: bool,
    /// `db.autocreate`: whether a server without data and without the file `initialize` may vote.
    pub db_autocreate: bool,
    /// `electionPortBindRetry`: attempts to listen for peers, a second apart; 0 is without end.
    pub bind_attempts_max: u32,
    /// `tcpKeepAlive`: whether the kernel probes idle connections between servers.
    pub tcp_keep_alive: bool,
}

/// The keys of an ensemble while they are read.
pub(super) struct EnsembleDraft {
    pub(super) init_limit: Option<u32>,
    pub(super) sync_limit: Option<u32>,
    pub(super) connect_limit: u32,
    /// `peerType`, if it says observer.
    pub(super) observer: Option<bool>,
    pub(super) reconfig_enabled: bool,
    pub(super) listen_on_all_ips: bool,
    pub(super) multi_address: bool,
    pub(super) notification_ms_min: u32,
    pub(super) notification_ms_max: u32,
    pub(super) connect_timeout_ms: u32,
    /// Without it, tickTime * syncLimit.
    pub(super) election_silence_ms: Option<u32>,
    pub(super) history_txns_min: u32,
    pub(super) packet_extra_bytes: Option<u32>,
    pub(super) local_sessions: bool,
    pub(super) local_sessions_upgrading: bool,
    pub(super) leader_serves: bool,
    pub(super) db_autocreate: bool,
    pub(super) bind_attempts_max: u32,
    pub(super) tcp_keep_alive: bool,
}

impl Default for EnsembleDraft {
    /// ZooKeeper's defaults.
    fn default() -> Self {
        Self {
            init_limit: None,
            sync_limit: None,
            connect_limit: 0,
            observer: None,
            reconfig_enabled: false,
            listen_on_all_ips: false,
            multi_address: false,
            notification_ms_min: 200,
            notification_ms_max: 60_000,
            connect_timeout_ms: 5000,
            election_silence_ms: None,
            history_txns_min: 500,
            packet_extra_bytes: None,
            local_sessions: false,
            local_sessions_upgrading: false,
            leader_serves: true,
            db_autocreate: true,
            bind_attempts_max: 3,
            tcp_keep_alive: false,
        }
    }
}

/// The file that says which server this is.
pub(super) enum MyIdFile {
    Missing,
    Is(u8),
    /// What is wrong with it has been said.
    Bad,
}

impl MyIdFile {
    /// Reads it; what is wrong with it goes to `problems`.
    pub(super) fn read(data_dir: &Path, problems: &mut Vec<Problem>) -> Self {
        let file = data_dir.join("myid");
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            // That dataDir is a file is for whoever opens it to say.
            Err(error)
                if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory]
                    .contains(&error.kind()) =>
            {
                return Self::Missing;
            }
            Err(error) => {
                let origin = Origin::File(file.into());
                let text = format!("cannot be read: {error}");
                problems.push(Problem::new(Some(&origin), "", text));
                return Self::Bad;
            }
        };
        let line = text.lines().next().unwrap_or("").trim();
        if let Ok(id) = line.parse::<u8>()
            && id > 0
        {
            return Self::Is(id);
        }
        let origin = Origin::File(file.into());
        let text = format!(
            "expected the server's number, from 1 to 255, on the first line, found {}",
            shown(line)
        );
        problems.push(Problem::new(Some(&origin), "", text));
        Self::Bad
    }
}

impl Draft {
    /// This server's part in the ensemble of these members, or `None` with a problem.
    pub(super) fn ensemble(
        &mut self,
        mut members: Members,
        settings: &Settings,
        file: Option<&Arc<Path>>,
        data_dir: &Path,
        my_id_file: &MyIdFile,
    ) -> Option<EnsembleConfig> {
        let problems_before = self.problems.len();
        let whole = file.map(|file| Origin::File(Arc::clone(file)));
        members.check(self.ensemble.multi_address, &mut self.problems);
        members.advise(&mut self.warnings);
        if let Some(dynamic) = &self.dynamic_config {
            members.membership.version = dynamic::version_of(dynamic);
        }
        let me = self.my_id(&members, settings, data_dir, my_id_file);
        let limits = self.limits(settings, whole.as_ref());
        self.check_notifications(settings);
        self.check_reconfig(settings, file);
        let next = file.and_then(|file| {
            let next = dynamic::next_file(file);
            members::read_next(&next, &mut self.problems)
        });
        let (me, (init_limit, sync_limit)) = (me?, limits?);
        let observer = self.role(me, &members, settings)?;
        self.use_client_part(me, &members, settings);
        if self.problems.len() > problems_before {
            return None;
        }
        members.resolve(&mut self.warnings);
        self.core.server_id = u8::try_from(me.0).unwrap_or(0);
        let keys = &self.ensemble;
        let frame_bytes_max = usize::try_from(self.core.frame_bytes_max).unwrap_or(usize::MAX);
        // Source: BinaryInputArchive.extraMaxBuffer: as much again, if it is not said.
        let extra_bytes = keys.packet_extra_bytes.map_or(frame_bytes_max, |extra| {
            usize::try_from(extra).unwrap_or(usize::MAX)
        });
        let own = members.membership.member(me);
        let election = own.map_or_else(Vec::new, |own| own.election.clone());
        let last_seen = next.filter(|next| next.version > members.membership.version);
        Some(EnsembleConfig {
            files: file.map(|file| ConfigFiles {
                file: path::absolute(file).unwrap_or_else(|_| file.to_path_buf()),
                me,
            }),
            dynamic_file: self.dynamic_config.clone(),
            read_only_mode: self.read_only_mode,
            local_sessions: keys.local_sessions,
            local_sessions_upgrading: keys.local_sessions_upgrading,
            leader_serves: keys.leader_serves,
            standalone_enabled: self.standalone_enabled,
            db_autocreate: keys.db_autocreate,
            bind_attempts_max: keys.bind_attempts_max,
            tcp_keep_alive: keys.tcp_keep_alive,
            zab: Options {
                me,
                observer,
                committed: members.membership,
                last_seen,
                election,
                reconfig_enabled: keys.reconfig_enabled,
                tick_ms: self.core.tick_ms,
                init_limit,
                sync_limit,
                connect_limit: keys.connect_limit,
                listen_on_all_ips: keys.listen_on_all_ips,
                multi_address: keys.multi_address,
                packet_bytes_max: frame_bytes_max.saturating_add(extra_bytes),
                notification_ms_min: keys.notification_ms_min,
                notification_ms_max: keys.notification_ms_max,
                connect_timeout_ms: keys.connect_timeout_ms,
                election_silence_ms: keys.election_silence_ms,
                history_txns_min: usize::try_from(keys.history_txns_min).unwrap_or(usize::MAX),
                history_bytes_max: HISTORY_BYTES_MAX,
                sasl: Sasl::default(),
            },
        })
    }

    /// Which of the members this server is.
    fn my_id(
        &mut self,
        members: &Members,
        settings: &Settings,
        data_dir: &Path,
        my_id_file: &MyIdFile,
    ) -> Option<ServerId> {
        let file = Origin::File(data_dir.join("myid").into());
        let setting = settings.get("myid").map(|setting| &setting.origin);
        let (id, origin) = match (self.my_id, my_id_file) {
            (None, MyIdFile::Is(id)) => (*id, &file),
            (Some(id), MyIdFile::Is(other)) if id != *other => {
                let text = format!(
                    "is {id}, but {file} says {other}; one of them belongs to another server"
                );
                self.problems.push(Problem::new(setting, "myid", text));
                return None;
            }
            (Some(id), _) => (id, setting.unwrap_or(&file)),
            (None, MyIdFile::Missing) => {
                // A dataDir that is missing has been said.
                if !data_dir.as_os_str().is_empty() && !settings.contains_key("myid") {
                    let text = format!(
                        "there is no such file, and this server must know which it is of {}; \
                         write its number into it",
                        members.places()
                    );
                    self.problems.push(Problem::new(Some(&file), "", text));
                }
                return None;
            }
            (None, MyIdFile::Bad) => return None,
        };
        let me = ServerId(id.into());
        if members.membership.member(me).is_none() {
            let text = format!(
                "this server is {id}, but there is no {}; there are {}; correct the number or add \
                 the line",
                members::key(me),
                members.places()
            );
            self.problems.push(Problem::new(Some(origin), "", text));
            return None;
        }
        // Source: EphemeralType.validateServerId: the owner of a TTL znode has 255 in that place.
        if self.core.extended_types && id == u8::MAX {
            let text = "expected a number from 1 to 254, as extendedTypesEnabled is true, found \
                        255; sessions of a server 255 look like TTL znodes";
            self.problems.push(Problem::new(Some(origin), "", text));
            return None;
        }
        Some(me)
    }

    /// `initLimit` and `syncLimit`, which have no defaults.
    fn limits(&mut self, settings: &Settings, whole: Option<&Origin>) -> Option<(u32, u32)> {
        let init = self.ensemble.init_limit;
        let sync = self.ensemble.sync_limit;
        for (key, limit, usual, what) in [
            (
                "initLimit",
                init,
                10,
                "a server may take to catch up with its leader",
            ),
            ("syncLimit", sync, 5, "may pass without a sign of a peer"),
        ] {
            // One that is wrong has been said.
            if limit.is_none() && !settings.contains_key(key) {
                let text = format!(
                    "is missing: expected {key}=TICKS, usually {usual}: how many ticks (tickTime, \
                     {} ms) {what}",
                    self.core.tick_ms
                );
                self.problems.push(Problem::new(whole, key, text));
            }
        }
        Some((init?, sync?))
    }

    fn check_notifications(&mut self, settings: &Settings) {
        let (min, max) = (
            self.ensemble.notification_ms_min,
            self.ensemble.notification_ms_max,
        );
        if min > max {
            let keys = [
                "fastleader.minNotificationInterval",
                "fastleader.maxNotificationInterval",
            ];
            let setting = keys.into_iter().find_map(|key| settings.get(key));
            let text = format!(
                "expected fastleader.minNotificationInterval to be at most \
                 fastleader.maxNotificationInterval, found {min} ms and {max} ms"
            );
            let origin = setting.map(|setting| &setting.origin);
            let name = setting.map_or("", |setting| setting.name.as_str());
            self.problems.push(Problem::new(origin, name, text));
        }
    }

    /// A membership that changes must be somewhere after a restart.
    fn check_reconfig(&mut self, settings: &Settings, file: Option<&Arc<Path>>) {
        if self.ensemble.reconfig_enabled && file.is_none() {
            let key = "reconfigEnabled";
            let origin = settings.get(key).map(|setting| &setting.origin);
            let text = "expected a zoo.cfg (--config), beside which the servers of the ensemble \
                        are written when they change, found none; give one, or set it to false";
            self.problems.push(Problem::new(origin, key, text));
        }
    }

    /// Whether this server observes: its line says it, and `peerType` should say the same.
    fn role(&mut self, me: ServerId, members: &Members, settings: &Settings) -> Option<bool> {
        let observer = !members.membership.member(me)?.voter;
        // Source: QuorumPeerConfig.setupPeerType: the list of servers counts.
        if let Some(wished) = self.ensemble.observer
            && wished != observer
        {
            let role = |observer| {
                if observer {
                    "an observer"
                } else {
                    "a participant"
                }
            };
            let text = format!(
                "says {}, but {} is {}, which counts; correct one of them",
                role(wished),
                members::key(me),
                role(observer)
            );
            let origin = settings.get("peerType").map(|setting| &setting.origin);
            self.warnings.push(Problem::new(origin, "peerType", text));
        }
        Some(observer)
    }
}

/// Whether these servers are an ensemble, or one that stands alone.
///
/// Source: `QuorumPeerConfig.isDistributed`.
pub(super) fn is_ensemble(membership: &Membership, standalone_enabled: bool) -> bool {
    !standalone_enabled || membership.voters().count() > 1
}
