//! What an operator decides about a server, in ZooKeeper's terms. The host parses `zoo.cfg` into
//! this.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::secret::Secret;

/// The settings of one server. Times are milliseconds, sizes are bytes.
///
/// Source of every default: ZooKeeper 3.9's `zoo.cfg` keys and system properties of the same names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// `tickTime`: the length of a session expiry bucket.
    pub tick_ms: u32,
    /// `minSessionTimeout`: what a smaller request is raised to.
    pub session_timeout_ms_min: u32,
    /// `maxSessionTimeout`: what a larger request is lowered to.
    pub session_timeout_ms_max: u32,
    /// `jute.maxbuffer`: the longest frame a client may send, inclusive.
    pub frame_bytes_max: u32,
    /// `maxClientCnxns`: connections from one address; 0 is unlimited.
    pub connections_per_address_max: u32,
    /// `maxCnxns`: connections in all; 0 is unlimited.
    pub connections_max: u32,
    /// `globalOutstandingLimit`: requests in flight above which connections that have some wait.
    pub outstanding_max: u32,
    /// `zookeeper.nio.sessionlessCnxnTimeout`: how long a connection may take to finish its
    /// handshake.
    pub handshake_timeout_ms: u32,
    /// The server's number; the top byte of the ids of its sessions. 1 when standalone.
    pub server_id: u8,
    /// `skipACL`: no ACL is checked.
    pub skip_acl: bool,
    /// `enforceQuota`: a create or set that exceeds a quota is refused.
    pub enforce_quota: bool,
    /// `zabra.treeBytesMax`: the estimate of [`Tree::memory`](crate::tree::Tree::memory) above
    /// which a write that adds to it is refused; 0 is unlimited. The same on every server that may
    /// lead.
    pub tree_bytes_max: u64,
    /// `extendedTypesEnabled`: TTL znodes may be created.
    pub extended_types: bool,
    /// `digest.enabled`: txns and snapshots carry the digest of the tree.
    pub tree_digest: bool,
    /// `DigestAuthenticationProvider.enabled`.
    pub digest_auth: bool,
    /// `DigestAuthenticationProvider.superDigest`: `user:base64(sha1(user:password))`.
    pub super_digest: Option<Secret>,
    /// `4lw.commands.whitelist`.
    pub four_letter_words: FourLetterWords,
    /// `snapCount`: txns between two snapshots (each time at a random point of the upper half).
    pub snapshot_txns: u32,
    /// `snapSizeLimitInKb`, in bytes: log bytes between two snapshots, likewise; 0 is unlimited.
    pub snapshot_log_bytes: u64,
    /// Bytes of a snapshot's file that are written at once: the default takes about 25 µs of the
    /// server's time. Zabra's own setting.
    pub snapshot_slice_bytes: u32,
    /// Bytes of the state that are made at once for a learner that is sent it. Whoever asks meanwhile
    /// waits for them. Zabra's own setting.
    pub state_slice_bytes: u32,
    /// `znode.container.checkIntervalMs`: period of the search for containers and TTL znodes to
    /// delete.
    pub container_check_ms: u32,
    /// `znode.container.maxPerMinute`: how many of them are deleted in a minute, at most.
    pub container_deletes_per_minute_max: u32,
    /// `znode.container.maxNeverUsedIntervalMs`: age at which a container that never had a child
    /// is deleted; 0 is never.
    pub container_never_used_ms_max: u64,
    /// What the words `conf` and `envi` print and only the host knows.
    pub host: HostConfig,
    /// Who must show who it is, and how.
    pub auth: AuthConfig,
    /// What goes with a port for encrypted connections; `None`: there is none, and nobody can be
    /// known by a certificate.
    pub secure: Option<Secure>,
    /// `audit.enable`: every write that is judged is told by
    /// [`Event::Audited`](super::Event::Audited).
    pub audit: bool,
}

/// What goes with encrypted connections of clients: the scheme `x509`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secure {
    /// `secureClientPort`, as `conf` shows it; 0 if they come to the plain port.
    pub port: u16,
    /// `X509AuthenticationProvider.superUser`: whose certificate permits everything.
    pub super_user: Option<String>,
}

/// How clients show who they are, beyond addresses and digests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthConfig {
    /// The users of DIGEST-MD5 with their passwords; `None`: SASL is off.
    pub sasl_users: Option<Vec<(String, Secret)>>,
    /// Whether ACLs of the scheme `sasl` may be stored.
    pub sasl_acls: bool,
    /// `superUser`, `superUser.*`: SASL users who may do everything.
    pub super_users: Vec<String>,
    /// `letAnySaslUserDoX`: in an ACL this id stands for every SASL user.
    pub any_sasl_user: Option<String>,
    /// `allowSaslFailedClients`: who cannot authenticate goes on as nobody.
    pub allow_failed: bool,
    /// `enforce.auth.schemes`: without an identity of one of these nothing is answered. Empty:
    /// anything is.
    pub schemes_required: Vec<String>,
    /// Where passwords of sessions come from.
    pub session_passwords: SessionPasswords,
    /// What they are made from, the same on every server of an ensemble.
    pub session_secret: Secret,
    /// What nonces begin with: of this process only, from the system's generator.
    pub nonce_seed: Secret,
}

/// Where a session's password comes from, which its client shows to have it back.
///
/// ZooKeeper's follows from the session's id, and that stands in the Stat of each of its
/// ephemerals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionPasswords {
    /// As in ZooKeeper.
    #[default]
    OfId,
    /// Likewise, and those of the secret are accepted: before other servers give them.
    OfIdForNow,
    /// Of the secret; ZooKeeper's are accepted as well, as long as there may be such.
    OfBoth,
    /// Of the secret; ZooKeeper's are accepted for the sessions that were there at the start.
    OfSecretFromNow,
    /// Of the secret.
    OfSecret,
}

/// Which four-letter words are answered. `srvr` always is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FourLetterWords {
    /// `*`.
    All,
    /// These.
    Only(Vec<String>),
}

/// What a server prints about its host but does not use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostConfig {
    /// The port for clients.
    pub client_port: u16,
    /// Snapshots' directory, as `conf` shows it (with `version-2`).
    pub data_dir: String,
    /// Logs' directory, likewise.
    pub data_log_dir: String,
    /// `clientPortListenBacklog`, -1 when not set.
    pub listen_backlog: i32,
    /// What `envi` prints, in order: `zookeeper.version`, `host.name`, …
    pub environment: Vec<(String, String)>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            tick_ms: 3000,
            session_timeout_ms_min: 6000,
            session_timeout_ms_max: 60_000,
            frame_bytes_max: 0xf_ffff,
            connections_per_address_max: 60,
            connections_max: 0,
            outstanding_max: 1000,
            handshake_timeout_ms: 10_000,
            server_id: 1,
            skip_acl: false,
            enforce_quota: false,
            tree_bytes_max: 0,
            extended_types: false,
            tree_digest: true,
            digest_auth: true,
            super_digest: None,
            four_letter_words: FourLetterWords::Only(Vec::new()),
            snapshot_txns: 100_000,
            snapshot_log_bytes: 4 << 30,
            snapshot_slice_bytes: 32 * 1024,
            state_slice_bytes: 16 * 1024,
            container_check_ms: 60_000,
            container_deletes_per_minute_max: 10_000,
            container_never_used_ms_max: 0,
            host: HostConfig::default(),
            auth: AuthConfig::default(),
            secure: None,
            audit: false,
        }
    }
}
