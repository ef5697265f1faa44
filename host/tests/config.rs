//! What a configuration turns into, and what is said about a bad one.
#![expect(
    clippy::unwrap_used,
    reason = "a test may stop at what it did not expect"
)]

use core::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process,
};

use zabra::config::{Compression, Flag, Purge, ServerConfig, Sources};
use zabra_core::server::{Config, config::FourLetterWords};

#[path = "config/auth.rs"]
mod auth;
#[path = "config/dynamic.rs"]
mod dynamic;
#[path = "config/ensemble.rs"]
mod ensemble;
#[path = "config/sandbox.rs"]
mod sandbox;

/// ZooKeeper's `conf/zoo_sample.cfg`, its comments shortened.
const SAMPLE: &str = "\
# The number of milliseconds of each tick
tickTime=2000
# The number of ticks that the initial
# synchronization phase can take
initLimit=10
syncLimit=5
# do not use /tmp for storage, /tmp here is just
# example sakes.
dataDir=/tmp/zookeeper
# the port at which the clients will connect
clientPort=2181
#maxClientCnxns=60
#autopurge.snapRetainCount=3
#autopurge.purgeInterval=1

## Metrics Providers
#metricsProvider.className=org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider
";

/// The two keys without which a file is not enough.
const NEEDED: &str = "dataDir=/nonexistent/zabra\nclientPort=2181\n";

/// A directory that goes with its test.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = env::temp_dir().join(format!("zabra-config-{}-{number}", process::id()));
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let file = self.0.join(name);
        fs::write(&file, text).unwrap();
        file
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _left_over = fs::remove_dir_all(&self.0);
    }
}

fn sources(file: Option<&Path>, environment: &[(&str, &str)]) -> Sources {
    Sources {
        file: file.map(Path::to_path_buf),
        environment: environment
            .iter()
            .map(|&(name, value)| (name.into(), value.into()))
            .collect(),
        flags: Vec::new(),
    }
}

/// Loads a file of this text; problems come back as lines in which the file is called `zoo.cfg`.
fn load_with(text: &str, environment: &[(&str, &str)]) -> Result<ServerConfig, Vec<String>> {
    let dir = Dir::new();
    let file = dir.file("zoo.cfg", text);
    let prefix = format!("{}/", dir.0.display());
    ServerConfig::load(&sources(Some(&file), environment)).map_err(|problems| {
        problems
            .iter()
            .map(|p| p.to_string().replace(&prefix, ""))
            .collect()
    })
}

fn load(text: &str) -> Result<ServerConfig, Vec<String>> {
    load_with(text, &[])
}

/// A file with what is needed on lines 1 and 2, and this on line 3.
fn load_line(line: &str) -> Result<ServerConfig, Vec<String>> {
    load(&format!("{NEEDED}{line}\n"))
}

fn load_env(environment: &[(&str, &str)]) -> Result<ServerConfig, Vec<String>> {
    ServerConfig::load(&sources(None, environment))
        .map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

/// The warnings, without the place.
fn warnings(config: &ServerConfig) -> Vec<String> {
    config
        .warnings
        .iter()
        .map(|w| match w.key.as_str() {
            "" => w.text.clone(),
            key => format!("{key}: {}", w.text),
        })
        .collect()
}

fn listen(config: &ServerConfig) -> String {
    config.listen.first().unwrap().to_string()
}

#[test]
fn sample_of_zookeeper_is_understood_without_a_warning() {
    let config = load(SAMPLE).unwrap();
    assert_eq!(config.warnings, []);
    assert_eq!(config.core.tick_ms, 2000);
    assert_eq!(config.core.session_timeout_ms_min, 4000);
    assert_eq!(config.core.session_timeout_ms_max, 40_000);
    assert_eq!(config.data_dir, Path::new("/tmp/zookeeper"));
    assert_eq!(config.data_log_dir, Path::new("/tmp/zookeeper"));
    assert_eq!(config.core.host.data_dir, "/tmp/zookeeper/version-2");
    assert_eq!(config.core.host.client_port, 2181);
    assert_eq!(listen(&config), "0.0.0.0:2181");
}

#[test]
fn defaults_of_a_file_are_zookeepers_except_that_purging_is_on() {
    let mut config = load(NEEDED).unwrap();
    assert_eq!(config.core.host.listen_backlog, -1);
    assert_eq!(config.core.host.environment.len(), 18);
    config.core.host = Config::default().host;
    assert_eq!(config.core, Config::default());
    let interval = Duration::from_secs(3600);
    assert_eq!(
        config.purge,
        Some(Purge {
            interval,
            retain: 3,
            bytes_max: None
        })
    );
    assert_eq!(config.pre_alloc_bytes, 64 << 20);
    assert_eq!(config.log_file_bytes_max, None);
    assert_eq!(config.compression, Compression::None);
    assert_eq!(config.fsync_warning_ms, 1000);
    assert!(!config.tcp_keep_alive && config.create_directories);
}

#[test]
fn without_a_file_only_this_machine_reaches_the_server() {
    let config = load_env(&[]).unwrap();
    assert_eq!(listen(&config), "127.0.0.1:2181");
    assert!(
        config
            .listen
            .iter()
            .all(|address| address.ip().is_loopback())
    );
    assert_eq!(config.data_dir, Path::new("zabra-data"));
    assert_eq!(config.core.tick_ms, 2000);
    assert_eq!(config.core.four_letter_words, FourLetterWords::All);
    assert!(config.core.extended_types);
    assert!(Path::new(&config.core.host.data_dir).is_absolute());
}

/// Asserts that a line takes effect, without any warning.
macro_rules! takes_effect {
    ($($line:literal => |$config:ident| $found:expr, $expected:expr;)*) => {
        $({
            let $config = load_line($line).unwrap_or_else(|e| panic!("{}: {e:?}", $line));
            assert_eq!($found, $expected, "{}", $line);
            assert_eq!(warnings(&$config), [""; 0], "{}", $line);
        })*
    };
}

#[test]
fn keys_take_effect() {
    takes_effect! {
        "tickTime=100" => |c| (c.core.tick_ms, c.core.session_timeout_ms_max), (100, 2000);
        "minSessionTimeout=7" => |c| c.core.session_timeout_ms_min, 7;
        "minSessionTimeout=-1" => |c| c.core.session_timeout_ms_min, 6000;
        "maxSessionTimeout=70000" => |c| c.core.session_timeout_ms_max, 70_000;
        "dataLogDir=/b" => |c| c.core.host.data_log_dir, "/b/version-2";
        "clientPortAddress=10.0.0.1" => |c| listen(&c), "10.0.0.1:2181";
        "clientPortAddress=[::1]" => |c| listen(&c), "[::1]:2181";
        "clientPortListenBacklog=5" => |c| c.core.host.listen_backlog, 5;
        "maxClientCnxns=0" => |c| c.core.connections_per_address_max, 0;
        "maxCnxns=9" => |c| c.core.connections_max, 9;
        "globalOutstandingLimit=9" => |c| c.core.outstanding_max, 9;
        "nio.sessionlessCnxnTimeout=9" => |c| c.core.handshake_timeout_ms, 9;
        "clientTcpKeepAlive=TRUE" => |c| c.tcp_keep_alive, true;
        "jute.maxbuffer=4194304" => |c| c.core.frame_bytes_max, 4_194_304;
        "zookeeper.jute.maxbuffer=0x1fffff" => |c| c.core.frame_bytes_max, 0x1f_ffff;
        "4lw.commands.whitelist=*" => |c| c.core.four_letter_words, FourLetterWords::All;
        "zookeeper.4lw.commands.whitelist= ruok, mntr ,hash" => |c| c.core.four_letter_words,
            FourLetterWords::Only(vec!["ruok".into(), "mntr".into(), "hash".into()]);
        "readonlymode.enabled=true" => |c| c.core.four_letter_words,
            FourLetterWords::Only(vec!["isro".into()]);
        "skipACL=yes" => |c| c.core.skip_acl, true;
        "skipACL=no" => |c| c.core.skip_acl, false;
        "enforceQuota=True" => |c| c.core.enforce_quota, true;
        "zabra.diskFreeMin=1000" => |c| c.disk_free_min, Some(1000);
        "zabra.diskFreeMin=0" => |c| c.disk_free_min, Some(0);
        "zabra.diskFreeMin=-1" => |c| c.disk_free_min, None;
        "zabra.purge.bytesMax=5" => |c| c.purge.unwrap().bytes_max.unwrap().get(), 5;
        "zabra.purge.bytesMax=0" => |c| c.purge.unwrap().bytes_max, None;
        "zabra.treeBytesMax=1073741824" => |c| c.core.tree_bytes_max, 1 << 30;
        "extendedTypesEnabled=true" => |c| c.core.extended_types, true;
        "digest.enabled=false" => |c| c.core.tree_digest, false;
        "DigestAuthenticationProvider.enabled=false" => |c| c.core.digest_auth, false;
        "DigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU=" =>
            |c| c.core.super_digest.as_ref().is_some_and(|s| s.is("super:D/InIHSb7yEEbrWz8b9l71RjZJU=")), true;
        "snapCount=1000" => |c| c.core.snapshot_txns, 1000;
        "snapSizeLimitInKb=2" => |c| c.core.snapshot_log_bytes, 2048;
        "snapSizeLimitInKb=-1" => |c| c.core.snapshot_log_bytes, 0;
        "txnLogSizeLimitInKb=3" => |c| c.log_file_bytes_max, Some(3072);
        "txnLogSizeLimitInKb=-1" => |c| c.log_file_bytes_max, None;
        "preAllocSize=1" => |c| c.pre_alloc_bytes, 1024;
        "fsync.warningthresholdms=20" => |c| c.fsync_warning_ms, 20;
        "snapshot.compression.method=gz" => |c| c.compression, Compression::Gzip;
        "snapshot.compression.method=snappy" => |c| c.compression, Compression::Snappy;
        "snapshot.compression.method=" => |c| c.compression, Compression::None;
        "datadir.autocreate=false" => |c| c.create_directories, false;
        "autopurge.purgeInterval=0" => |c| c.purge, None;
        "autopurge.purgeInterval=-1" => |c| c.purge, None;
        "autopurge.purgeInterval=24" => |c| c.purge.unwrap().interval.as_secs(), 86_400;
        "autopurge.purgeInterval=30m" => |c| c.purge.unwrap().interval.as_secs(), 1800;
        "autopurge.purgeInterval=90s" => |c| c.purge.unwrap().interval.as_secs(), 90;
        "autopurge.purgeInterval=5ms" => |c| c.purge.unwrap().interval.as_millis(), 5;
        "autopurge.purgeInterval=2d" => |c| c.purge.unwrap().interval.as_secs(), 172_800;
        "autopurge.snapRetainCount=7" => |c| c.purge.unwrap().retain, 7;
        "znode.container.checkIntervalMs=1" => |c| c.core.container_check_ms, 1;
        "znode.container.maxPerMinute=2" => |c| c.core.container_deletes_per_minute_max, 2;
        "znode.container.maxNeverUsedIntervalMs=3" => |c| c.core.container_never_used_ms_max, 3;
        "server.1=zoo1:2888:3888" => |c| c.core.server_id, 1;
        "server.1=zoo1:2888:3888;2181" => |c| listen(&c), "0.0.0.0:2181";
    }
}

#[test]
fn port_chosen_by_the_system_is_one_port() {
    let config = load("clientPort=0\ndataDir = /a b\n").unwrap();
    assert_eq!(config.listen.len(), 1);
    assert_eq!(config.data_dir, Path::new("/a b"));
}

#[test]
fn needed_key_that_is_wrong_is_not_also_missing() {
    assert_eq!(
        load("clientPort=x\ndataDir=\n").unwrap_err(),
        [
            "zoo.cfg:1: clientPort: expected a port from 0 to 65535 (0 lets the system \
             choose), found \
             \"x\"",
            "zoo.cfg:2: dataDir: expected a path, found nothing",
        ]
    );
    let timeouts = load_line("tickTime=x\nminSessionTimeout=70000\n").unwrap_err();
    assert_eq!(timeouts.len(), 1, "{timeouts:?}");
}

#[test]
fn what_changes_nothing_for_a_lone_server_is_accepted_in_silence() {
    for line in [
        "initLimit=10",
        "syncLimit=5",
        "sslQuorum=false",
        "quorum.auth.enableSasl=false",
        "sessionRequireClientSASLAuth=false",
        "audit.enable=true",
        "electionAlg=3",
        "peerType=participant",
        "reconfigEnabled=false",
        "admin.enableServer=false",
        "admin.serverPort=8081",
        "metricsProvider.className=org.apache.zookeeper.metrics.impl.DefaultMetricsProvider",
        "forceSync=yes",
        "localSessionsEnabled=true",
        "leaderServes=no",
        "DigestAuthenticationProvider.digestAlg=SHA1",
        "standaloneEnabled=true",
    ] {
        let config = load_line(line).unwrap_or_else(|e| panic!("{line}: {e:?}"));
        assert_eq!(warnings(&config), [""; 0], "{line}");
    }
}

#[test]
fn what_has_no_effect_is_said_with_its_reason() {
    for (line, key, reason) in [
        (
            "forceSync=no",
            "forceSync",
            "every transaction is on disk before it is acknowledged; that cannot be switched off",
        ),
        (
            "admin.portUnification=true",
            "admin.portUnification",
            "the AdminServer has no TLS in this version",
        ),
        (
            "metricsProvider.className=x",
            "metricsProvider.className",
            "expected org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider, found \"x\"",
        ),
        (
            "metricsProvider.numWorkerThreads=5",
            "metricsProvider.numWorkerThreads",
            "metrics are made when they are asked for, which needs no tuning",
        ),
        (
            "jvm.pause.monitor=true",
            "jvm.pause.monitor",
            "there is no JVM here",
        ),
        (
            "nio.numWorkerThreads=4",
            "nio.numWorkerThreads",
            "there is one network layer, which needs no tuning",
        ),
        (
            "serverCnxnFactory=x",
            "serverCnxnFactory",
            "there is one network layer, which needs no tuning",
        ),
        (
            "ssl.keyStore.location=/k",
            "ssl.keyStore.location",
            "there is neither secureClientPort nor client.portUnification, without which no \
             ssl.* counts",
        ),
        (
            "sslQuorum=true",
            "sslQuorum",
            "a server that stands alone has no peers",
        ),
        (
            "ssl.allowReverseDnsLookup=true",
            "ssl.allowReverseDnsLookup",
            "the name of an address is never asked for; certificates must have the names or \
             addresses that server.N has",
        ),
        (
            "reconfigEnabled=true",
            "reconfigEnabled",
            "there is nothing to reconfigure in a server that stands alone",
        ),
        (
            "peerType=observer",
            "peerType",
            "a server that stands alone does not observe",
        ),
    ] {
        let config = load_line(line).unwrap_or_else(|e| panic!("{line}: {e:?}"));
        assert_eq!(
            warnings(&config),
            [format!("{key}: has no effect: {reason}")]
        );
    }
}

#[test]
fn other_doubts_are_warnings_too() {
    for (line, warning) in [
        (
            "autopurge.snapRetainCount=1",
            "autopurge.snapRetainCount: 1 snapshots are too few to be safe; 3 are kept",
        ),
        (
            "4lw.commands.whitelist=ruok,rouk",
            "4lw.commands.whitelist: expected four-letter words with commas between them, \
             or *; there is \
          no word \"rouk\"",
        ),
        (
            "clientPort=2182",
            "clientPort: line 3 sets it again, and counts",
        ),
    ] {
        assert_eq!(warnings(&load_line(line).unwrap()), [warning]);
    }
    let config = load_line("autopurge.snapRetainCount=1").unwrap();
    assert_eq!(config.purge.unwrap().retain, 3);
    assert_eq!(
        listen(&load_line("clientPort=2182").unwrap()),
        "0.0.0.0:2182"
    );
    let place = load_line("clientPort=2182")
        .unwrap()
        .warnings
        .first()
        .unwrap()
        .to_string();
    assert!(place.contains("zoo.cfg:2: clientPort: "), "{place}");
}

#[test]
fn bad_lines_say_what_was_expected_and_found() {
    let number = |key: &str, unit: &str, bounds: &str, found: &str, default: &str| {
        format!(
            "{key}: expected a whole number of {unit} from {bounds}, found {found} (the default is \
             {default})"
        )
    };
    let purge = "autopurge.purgeInterval: expected a whole number of hours, or one with a \
                 unit: ms, s, \
                 m, h or d (0 is off), found";
    for (line, message) in [
        ("tickTime=0", number("tickTime", "milliseconds", "1 to 107374182", "\"0\"", "3000")),
        ("tickTime=2s", number("tickTime", "milliseconds", "1 to 107374182", "\"2s\"", "3000")),
        ("tickTime=", number("tickTime", "milliseconds", "1 to 107374182", "nothing", "3000")),
        ("maxClientCnxns=-1",
         number("maxClientCnxns", "connections", "0 to 2147483647", "\"-1\"", "60")),
        ("snapCount=99999999999",
         number("snapCount", "transactions", "2 to 2147483647", "\"99999999999\"", "100000")),
        ("initLimit=ten", "initLimit: expected a whole number of ticks from 1 to 2147483647, found \"ten\"".to_owned()),
        ("enforceQuota=yes",
         "enforceQuota: expected true or false, found \"yes\" (the default is false)".to_owned()),
        ("localSessionsEnabled=1",
         "localSessionsEnabled: expected true or false, found \"1\" (the default is false)".to_owned()),
        ("skipACL=true",
         "skipACL: expected yes or no, found \"true\" (the default is no)".to_owned()),
        ("clientPortAddress=1.2.3.4:2181",
         "clientPortAddress: the host name".to_owned()),
        ("clientPortAddress=a,b",
         "clientPortAddress: expected one IP address or host name, without a port, found \"a,b\""
             .to_owned()),
        ("jute.maxbuffer=1m",
         "jute.maxbuffer: expected a whole number of bytes from 1024 to 2147483647, found \
          \"1m\" (the \
          default is 1048575)".to_owned()),
        ("snapshot.compression.method=zip",
         "snapshot.compression.method: expected gz, snappy or nothing, found \"zip\"".to_owned()),
        ("autopurge.purgeInterval=1w", format!("{purge} \"1w\" (the default is 1)")),
        ("autopurge.purgeInterval=h", format!("{purge} \"h\" (the default is 1)")),
        ("dataLogDir=", "dataLogDir: expected a path, found nothing".to_owned()),
        ("minSessionTimeout=70000",
         "minSessionTimeout: expected minSessionTimeout to be at most maxSessionTimeout, \
          found 70000 \
          ms and 60000 ms (the defaults are 2 and 20 times tickTime, which is 3000 ms)".to_owned()),
        ("tickTimes=2000", "tickTimes: there is no such key; did you mean tickTime?".to_owned()),
        ("ticktime=2000", "ticktime: there is no such key; did you mean tickTime?".to_owned()),
        ("autopurge.purgeIntervall=1",
         "autopurge.purgeIntervall: there is no such key; did you mean autopurge.purgeInterval?"
             .to_owned()),
        ("zookeeper.skipAcl=yes",
         "zookeeper.skipAcl: there is no such key; did you mean skipACL?".to_owned()),
        ("colour=blue",
         "colour: there is no such key; remove it, or see the documentation for the \
          keys".to_owned()),
        ("server.1=zoo1",
         "server.1: expected host:quorumPort:electionPort[|host:quorumPort:electionPort…]\
          [:participant|:observer][;[clientAddress:]clientPort], found \"zoo1\"".to_owned()),
        ("server.1=zoo1:2888:3888;2182",
         "server.1: its client port 2182 is not that of clientPort, 2181; give one of \
          them".to_owned()),
    ] {
        if line == "clientPortAddress=1.2.3.4:2181" {
            // Looked up as a name; what the resolver answers is not ours.
            assert!(load_line(line).is_err());
            continue;
        }
        assert_eq!(load_line(line).unwrap_err(), [format!("zoo.cfg:3: {message}")], "{line}");
    }
}

#[test]
fn what_would_silently_lose_safety_is_refused() {
    let revoked = "revoked certificates are not looked up in this version: take them out of use by \
                   a new authority in the trust store";
    for (line, message) in [
        (
            "ssl.crl=true",
            format!("{revoked}; remove it, or set it to false"),
        ),
        (
            "ssl.context.supplier.class=a.B",
            "Java classes are not loaded; remove it".to_owned(),
        ),
        (
            "server.1=zoo1:2888:3888;2181;2281",
            "a secure port in a server's line is not read; remove it, and set \
          secureClientPort"
                .to_owned(),
        ),
        (
            "authProvider.1=org.example.Auth",
            "expected the class of a provider that is built in: SASLAuthenticationProvider, \
          X509AuthenticationProvider, DigestAuthenticationProvider or IPAuthenticationProvider of \
          org.apache.zookeeper.server.auth, found \"org.example.Auth\""
                .to_owned(),
        ),
        (
            "admin.forceHttps=true",
            "the AdminServer has no TLS in this version; remove it, or set it to false".to_owned(),
        ),
        (
            "metricsProvider.httpsPort=7001",
            "metrics have no TLS in this version; remove it, or set it to -1".to_owned(),
        ),
        (
            "emulate353TTLNodes=true",
            "the TTL znodes of ZooKeeper 3.5.3 are not understood, and would be taken for \
          ephemeral ones; \
          remove it, or set it to false"
                .to_owned(),
        ),
        (
            "oraclePath=/oracle",
            "oracles are not built yet in this version, and without one this server would go on \
          where its oracle stops it, or stop where it goes on; remove it"
                .to_owned(),
        ),
        (
            "electionAlg=1",
            "ZooKeeper has only the election algorithm 3; remove it, or set it to 3".to_owned(),
        ),
        (
            "standaloneEnabled=false",
            "is false, but there is no server.N line: expected the servers of the ensemble, this \
          one at least; add them, or set it to true"
                .to_owned(),
        ),
    ] {
        let key = line.split('=').next().unwrap();
        let expected = format!("zoo.cfg:3: {key}: {message}");
        assert_eq!(load_line(line).unwrap_err(), [expected], "{line}");
    }
}

#[test]
fn administration_is_on_loopback_unless_told_otherwise() {
    let config = load_line("").unwrap();
    let admin = config.admin.unwrap();
    assert_eq!((admin.host.as_str(), admin.port), ("127.0.0.1", 8080));
    assert!(config.metrics.is_none() && config.audit.is_none());
    assert!(
        load_line("admin.enableServer=false")
            .unwrap()
            .admin
            .is_none()
    );
    let everywhere = load_line("admin.serverAddress=0.0.0.0\nadmin.serverPort=8081\n").unwrap();
    let admin = everywhere.admin.unwrap();
    assert_eq!((admin.host.as_str(), admin.port), ("0.0.0.0", 8081));

    let class = "metricsProvider.className=org.apache.zookeeper.metrics.prometheus.\
                 PrometheusMetricsProvider";
    let text = "is missing: expected metricsProvider.httpPort=PORT, usually 7000, where \
                Prometheus comes to read";
    let found = load_line(class).unwrap_err();
    assert_eq!(
        found,
        [format!("zoo.cfg:3: metricsProvider.httpPort: {text}")]
    );
    let config = load_line(&format!("{class}\nmetricsProvider.httpPort=7000\n")).unwrap();
    assert_eq!(config.metrics.unwrap().port, 7000);

    let config = load_line("audit.enable=true\naudit.format=json\n").unwrap();
    assert!(config.core.audit && config.audit.unwrap().file.is_none());
    for (line, message) in [
        (
            "admin.commandURL=commands",
            "expected a path that begins with /",
        ),
        ("audit.format=xml", "expected text or json"),
        ("admin.serverPort=70000", "expected a whole number of ports"),
    ] {
        let found = load_line(line).unwrap_err();
        assert!(
            found.iter().any(|it| it.contains(message)),
            "{line}: {found:?}"
        );
    }
}

#[test]
fn all_that_is_wrong_is_reported_at_once_in_the_order_of_the_lines() {
    let text = "tickTime=x\nfoo=1\nskipACL=maybe\nminSessionTimeout=y\n";
    let keys: Vec<String> = load_with(text, &[("ZABRA_SNAPCOUNT", "z"), ("ZABRA_FOO", "1")])
        .unwrap_err()
        .iter()
        .map(|line| line.split(": ").take(2).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        keys,
        [
            "zoo.cfg clientPort",
            "zoo.cfg dataDir",
            "zoo.cfg:1 tickTime",
            "zoo.cfg:2 foo",
            "zoo.cfg:3 skipACL",
            "zoo.cfg:4 minSessionTimeout",
            "environment variable ZABRA_FOO there is no such setting; unset it",
            "environment variable ZABRA_SNAPCOUNT snapCount",
        ]
    );
}

#[test]
fn file_that_cannot_be_read_is_named() {
    let problems = ServerConfig::load(&sources(Some(Path::new("/nonexistent/zoo.cfg")), &[]));
    let text = problems.unwrap_err().to_string();
    let first = "/nonexistent/zoo.cfg: cannot be read: No such file or directory (os error 2)";
    assert!(text.starts_with(first), "{text}");
}

#[test]
fn my_id_is_checked_where_there_is_one() {
    let dir = Dir::new();
    let file = dir.file(
        "zoo.cfg",
        format!("dataDir={}\nclientPort=2181\n", dir.0.display()),
    );
    dir.file("myid", "7\n");
    assert!(ServerConfig::load(&sources(Some(&file), &[])).is_ok());
    dir.file("myid", "seven\n");
    let problems = ServerConfig::load(&sources(Some(&file), &[]))
        .unwrap_err()
        .to_string();
    let expected = "myid: expected the server's number, from 1 to 255, on the first line, found \
                    \"seven\"";
    assert!(problems.ends_with(expected), "{problems}");
}

#[test]
fn dynamic_file_gives_the_servers() {
    let dir = Dir::new();
    let load = |dynamic: &str, more: &str| {
        let dynamic = dir.file("zoo.cfg.dynamic", dynamic);
        let text = format!(
            "dataDir=/nonexistent\ndynamicConfigFile={}\n{more}",
            dynamic.display()
        );
        let file = dir.file("zoo.cfg", text);
        let prefix = format!("{}/", dir.0.display());
        ServerConfig::load(&sources(Some(&file), &[]))
            .map_err(|problems| problems.to_string().replace(&prefix, ""))
    };
    let one = "server.1=a:1:2;127.0.0.1:2190\n";
    assert_eq!(listen(&load(one, "").unwrap()), "127.0.0.1:2190");
    for (line, message) in [
        (
            "tickTime=9",
            "tickTime: expected only server.N, group.N and weight.N in a dynamic file",
        ),
        (
            "version=100",
            "version: the version of a dynamic file is in its name; remove the line",
        ),
    ] {
        assert_eq!(
            load(&format!("{one}{line}\n"), "").unwrap_err(),
            format!("zoo.cfg.dynamic:2: {message}")
        );
    }
    assert_eq!(
        load("server.1=a:1:2;2181\n", "server.1=a:1:2;2181").unwrap_err(),
        "zoo.cfg:3: server.1: the servers are in the file that dynamicConfigFile names; \
         remove one of \
         them"
    );
}

#[test]
fn later_sources_win() {
    let text = format!("{NEEDED}tickTime=1\nmaxCnxns=1\nsnapCount=11\n");
    let dir = Dir::new();
    let file = dir.file("zoo.cfg", text);
    let environment = [
        ("ZOO_TICK_TIME", "2"),
        ("ZABRA_TICKTIME", "3"),
        ("ZOO_CFG_EXTRA", "maxCnxns=4 zookeeper.skipACL=yes"),
        ("ZABRA_CLIENT_PORT", "5"),
        ("ZABRA_DATA_DIR", ""),
    ];
    let mut sources = sources(Some(&file), &environment);
    sources.flags.push(Flag {
        name: "--client-port",
        key: "clientPort",
        value: "6".to_owned(),
    });
    let config = ServerConfig::load(&sources).unwrap();
    assert_eq!(config.core.snapshot_txns, 11);
    assert_eq!(config.core.tick_ms, 3);
    assert_eq!(config.core.connections_max, 4);
    assert!(config.core.skip_acl);
    assert_eq!(listen(&config), "0.0.0.0:6");
    assert_eq!(config.data_dir, Path::new("/nonexistent/zabra"));
}

#[test]
fn variables_of_the_zookeeper_image_are_understood() {
    let config = load_env(&[
        ("ZOO_DATA_DIR", "/data"),
        ("ZOO_DATA_LOG_DIR", "/datalog"),
        ("ZOO_TICK_TIME", "2500"),
        ("ZOO_INIT_LIMIT", "5"),
        ("ZOO_SYNC_LIMIT", "2"),
        ("ZOO_AUTOPURGE_PURGEINTERVAL", "0"),
        ("ZOO_AUTOPURGE_SNAPRETAINCOUNT", "3"),
        ("ZOO_MAX_CLIENT_CNXNS", "61"),
        ("ZOO_STANDALONE_ENABLED", "true"),
        ("ZOO_ADMINSERVER_ENABLED", "false"),
        ("ZOO_4LW_COMMANDS_WHITELIST", "srvr, mntr"),
        ("ZOO_SERVERS", "server.1=localhost:2888:3888;2181"),
        ("ZOO_MY_ID", "1"),
        ("ZOO_LOG_DIR", "/logs"),
        ("ZOO_CONF_DIR", "/conf"),
    ])
    .unwrap();
    assert_eq!(warnings(&config), [""; 0]);
    assert_eq!(config.core.tick_ms, 2500);
    assert_eq!(config.core.connections_per_address_max, 61);
    assert_eq!(config.purge, None);
    assert_eq!(
        (config.data_dir, config.data_log_dir),
        ("/data".into(), "/datalog".into())
    );
    // The client part of a server's line is for all addresses, as in ZooKeeper.
    assert!(
        config
            .listen
            .iter()
            .any(|a| a.to_string() == "0.0.0.0:2181")
    );
    let words = vec!["srvr".to_owned(), "mntr".to_owned()];
    assert_eq!(config.core.four_letter_words, FourLetterWords::Only(words));

    let config = load_env(&[("ZOO_SERVERS", "server.2=a:1:2;2181"), ("ZOO_MY_ID", "1")]).unwrap();
    assert_eq!(
        warnings(&config),
        ["server.2: is the only server, but myid is 1: this server stands alone"]
    );
    let config = load_env(&[("ZOO_TICKTIME", "1")]).unwrap();
    assert_eq!(
        warnings(&config),
        ["has no effect; did you mean ZOO_TICK_TIME?"]
    );
}

#[test]
fn every_spelling_of_a_variable_is_the_same_key() {
    for (name, value) in [
        ("ZABRA_AUTOPURGE_PURGEINTERVAL", "2"),
        ("ZABRA_AUTOPURGE_PURGE_INTERVAL", "2h"),
        ("ZABRA_autopurge.purgeInterval", "120m"),
    ] {
        let purge = load_env(&[(name, value)]).unwrap().purge.unwrap();
        assert_eq!(purge.interval, Duration::from_secs(7200), "{name}");
    }
    let config = load_env(&[("ZABRA_4LW_COMMANDS_WHITELIST", "ruok")]).unwrap();
    let words = vec!["ruok".to_owned()];
    assert_eq!(config.core.four_letter_words, FourLetterWords::Only(words));
}

#[test]
fn pods_of_a_stateful_set_are_servers_by_their_names() {
    let servers = "server.1=a:1:2 server.2=b:1:2 server.3=c:1:2";
    for (name, id) in [("zabra-0", 1), ("my-zoo-2", 3)] {
        let variables = [("ZOO_SERVERS", servers), ("ZABRA_MYID_FROM_NAME", name)];
        let config = load_env(&variables).unwrap();
        assert_eq!(config.ensemble.unwrap().zab.me.0, id, "{name}");
    }
}

#[test]
fn bad_variables_are_named() {
    for (variables, message) in [
        (
            &[("ZABRA_MYID_FROM_NAME", "zabra")] as &[_],
            "environment variable ZABRA_MYID_FROM_NAME: expected the name of a StatefulSet's pod, \
             which ends in a dash and a number from 0 to 254, found \"zabra\"",
        ),
        (
            &[("ZABRA_TICKTIMES", "1")] as &[_],
            "environment variable ZABRA_TICKTIMES: there is no such setting; did you mean \
             ZABRA_TICKTIME?",
        ),
        (
            &[("ZABRA_TICKTIME", "x")],
            "environment variable ZABRA_TICKTIME: tickTime: expected a whole number of \
             milliseconds from 1 \
          to 107374182, found \"x\" (the default is 3000)",
        ),
        (
            &[("ZABRA_TICKTIME", "1"), ("ZABRA_TICK_TIME", "2")],
            "environment variable ZABRA_TICKTIME: tickTime: ZABRA_TICK_TIME sets it too; \
             unset one of them",
        ),
        (
            &[("ZOO_SYNC_LIMIT", "x")],
            "environment variable ZOO_SYNC_LIMIT: syncLimit: expected a whole number of \
             ticks from 1 to 2147483647, found \"x\"",
        ),
        (
            &[("ZOO_CFG_EXTRA", "tickTme=1")],
            "environment variable ZOO_CFG_EXTRA: tickTme: there is no such key; did you \
             mean tickTime?",
        ),
        (
            &[("ZABRA_SECURECLIENTPORT", "x")],
            "environment variable ZABRA_SECURECLIENTPORT: secureClientPort: expected a port from \
             0 to 65535 (0 lets the system choose), found \"x\"",
        ),
    ] {
        assert_eq!(load_env(variables).unwrap_err(), [message]);
    }
}

#[test]
fn what_kubernetes_and_docker_set_is_left_alone() {
    let config = load_env(&[
        ("ZABRA_SERVICE_HOST", "10.0.0.1"),
        ("ZABRA_SERVICE_PORT", "2181"),
        ("ZABRA_SERVICE_PORT_CLIENT", "2181"),
        ("ZABRA_PORT", "tcp://10.0.0.1:2181"),
        ("ZABRA_PORT_2181_TCP", "tcp://10.0.0.1:2181"),
        ("ZABRA_PORT_2181_TCP_ADDR", "10.0.0.1"),
        ("ZABRA_CLIENT_SERVICE_HOST", "10.0.0.1"),
        ("ZABRA_CLIENT_PORT", "tcp://10.0.0.1:2181"),
        ("ZABRA_CLIENT_PORT_2181_TCP_PROTO", "tcp"),
    ])
    .unwrap();
    assert_eq!(warnings(&config), [""; 0]);
    assert_eq!(listen(&config), "127.0.0.1:2181");
}

#[test]
fn secrets_are_shown_nowhere() {
    const SECRET: &str = "hunter2";
    const KEY: &str = "DigestAuthenticationProvider.superDigest";
    for text in [
        format!("{NEEDED}{KEY}=super:{SECRET}\n"),
        format!("{NEEDED}superDigest={SECRET}\n"),
        format!("{NEEDED}ssl.keyStore.password={SECRET}\nfoo={SECRET}\n"),
        format!("{NEEDED}SASLAuthenticationProvider.superPassword={SECRET}\ntickTime=x\n"),
    ] {
        let problems = load(&text).unwrap_err();
        assert!(
            !problems.is_empty() && !format!("{problems:?}").contains(SECRET),
            "{problems:?}"
        );
    }
    assert_eq!(
        load_line(&format!("{KEY}={SECRET}")).unwrap_err(),
        [format!(
            "zoo.cfg:3: {KEY}: expected user:base64(sha1(user:password)), found something \
             else (not \
             shown)"
        )]
    );
    let digest = "D/InIHSb7yEEbrWz8b9l71RjZJU=";
    let twice =
        format!("{KEY}=super:{digest}\n{KEY}=super:{digest}\nssl.trustStore.password={SECRET}");
    let config = load_line(&twice).unwrap();
    assert!(config.core.super_digest.is_some());
    let shown = format!("{config:?}");
    assert!(shown.contains("(not shown)"), "{shown}");
    assert!(
        !shown.contains(digest) && !shown.contains(SECRET),
        "{shown}"
    );
}
