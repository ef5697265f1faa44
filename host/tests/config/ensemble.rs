//! Configurations of servers that are one of several.

use zabra::config::EnsembleConfig;
use zabra_core::{ids::ServerId, link::Endpoint};

use super::*;

const KEYS: &str = "tickTime=2000\ninitLimit=10\nsyncLimit=5\n";
const SERVERS: &str = "\
server.1=127.0.0.1:2881:3881
server.2=127.0.0.1:2882:3882
server.3=127.0.0.1:2883:3883
";

/// A directory with a data directory, and what was loaded from it.
struct Place {
    dir: Dir,
    environment: Vec<(&'static str, &'static str)>,
}

impl Place {
    /// With this in `data/myid`.
    fn new(my_id: &str) -> Self {
        let dir = Dir::new();
        fs::create_dir(dir.0.join("data")).unwrap();
        if !my_id.is_empty() {
            dir.file("data/myid", my_id);
        }
        let environment = Vec::new();
        Self { dir, environment }
    }

    /// Loads a file of these lines and `dataDir`; the directory's name is cut out of problems.
    fn load(&self, lines: &str) -> Result<ServerConfig, Vec<String>> {
        let data = self.dir.0.join("data");
        let text = format!("{lines}dataDir={}\n", data.display());
        let file = self.dir.file("zoo.cfg", text);
        ServerConfig::load(&sources(Some(&file), &self.environment))
            .map_err(|problems| self.texts(problems.iter()))
    }

    fn texts<'a>(&self, problems: impl Iterator<Item = &'a zabra::config::Problem>) -> Vec<String> {
        let prefix = format!("{}/", self.dir.0.display());
        problems
            .map(|problem| problem.to_string().replace(&prefix, ""))
            .collect()
    }
}

/// Loads a server 2 of three with this on the lines after theirs, of which the first is line 8.
fn load(lines: &str) -> Result<ServerConfig, Vec<String>> {
    Place::new("2").load(&format!("{KEYS}clientPort=2181\n{SERVERS}{lines}"))
}

fn ensemble(lines: &str) -> EnsembleConfig {
    let config = load(lines).unwrap_or_else(|problems| panic!("{lines}: {problems:?}"));
    assert_eq!(warnings(&config), [""; 0], "{lines}");
    config.ensemble.unwrap()
}

#[test]
fn several_servers_are_an_ensemble() {
    let place = Place::new("2\n");
    let config = place
        .load(&format!("{KEYS}clientPort=2181\n{SERVERS}"))
        .unwrap();
    assert_eq!(warnings(&config), [""; 0]);
    assert_eq!(config.core.server_id, 2);
    assert_eq!(listen(&config), "0.0.0.0:2181");
    let ensemble = config.ensemble.unwrap();
    let files = ensemble.files.unwrap();
    assert_eq!(files.file, place.dir.0.join("zoo.cfg"));
    assert_eq!(files.me, ServerId(2));
    assert_eq!(ensemble.dynamic_file, None);
    assert!(ensemble.leader_serves && ensemble.standalone_enabled && ensemble.db_autocreate);
    assert!(!ensemble.read_only_mode && !ensemble.local_sessions);
    assert_eq!(ensemble.bind_attempts_max, 3);
    let zab = ensemble.zab;
    assert_eq!(zab.me, ServerId(2));
    assert_eq!(zab.committed.voters().count(), 3);
    assert_eq!((zab.committed.version, &zab.last_seen), (0, &None));
    assert_eq!((zab.tick_ms, zab.init_limit, zab.sync_limit), (2000, 10, 5));
    assert_eq!((zab.connect_limit, zab.connect_timeout_ms), (0, 5000));
    assert_eq!(
        (zab.notification_ms_min, zab.notification_ms_max),
        (200, 60_000)
    );
    assert_eq!(
        (zab.history_txns_min, zab.packet_bytes_max),
        (500, 2 * 1_048_575)
    );
    assert!(!zab.observer && !zab.reconfig_enabled && !zab.listen_on_all_ips);
    assert!(!zab.multi_address);
}

#[test]
fn keys_of_an_ensemble_take_effect() {
    macro_rules! takes_effect {
        ($($line:literal => |$config:ident| $found:expr, $expected:expr;)*) => {
            $(
                let $config = ensemble(concat!($line, "\n"));
                assert_eq!($found, $expected, "{}", $line);
            )*
        };
    }
    takes_effect! {
        "connectToLearnerMasterLimit=7" => |c| c.zab.connect_limit, 7;
        "electionAlg=3" => |c| c.zab.observer, false;
        "reconfigEnabled=true" => |c| c.zab.reconfig_enabled, true;
        "zookeeper.reconfigEnabled=true" => |c| c.zab.reconfig_enabled, true;
        "standaloneEnabled=false" => |c| c.standalone_enabled, false;
        "quorumCnxnTimeoutMs=9" => |c| c.zab.election_silence_ms, Some(9);
        "zookeeper.quorumCnxnTimeoutMs=-1" => |c| c.zab.election_silence_ms, None;
        "tcpKeepAlive=true" => |c| c.tcp_keep_alive, true;
        "clientTcpKeepAlive=true" => |c| c.tcp_keep_alive, false;
        "quorumListenOnAllIPs=true" => |c| c.zab.listen_on_all_ips, true;
        "localSessionsEnabled=true" => |c| c.local_sessions, true;
        "localSessionsUpgradingEnabled=true" => |c| c.local_sessions_upgrading, true;
        "readonlymode.enabled=true" => |c| c.read_only_mode, true;
        "zookeeper.leaderServes=no" => |c| c.leader_serves, false;
        "cnxTimeout=9" => |c| c.zab.connect_timeout_ms, 9;
        "electionPortBindRetry=0" => |c| c.bind_attempts_max, 0;
        "fastleader.minNotificationInterval=9" => |c| c.zab.notification_ms_min, 9;
        "zookeeper.fastleader.maxNotificationInterval=900" => |c| c.zab.notification_ms_max, 900;
        "multiAddress.enabled=true" => |c| c.zab.multi_address, true;
        "zookeeper.commitLogCount=3" => |c| c.zab.history_txns_min, 3;
        "jute.maxbuffer.extrasize=1" => |c| c.zab.packet_bytes_max, 1_048_576;
        "zookeeper.db.autocreate=false" => |c| c.db_autocreate, false;
        "server.4=127.0.0.1:9:10:observer" => |c| c.zab.committed.observers().count(), 1;
        "peerType=participant" => |c| c.zab.observer, false;
        "group.1=1:2:3\nweight.1=3\nweight.2=0" => |c| c.zab.committed.weight(ServerId(1)), 3;
    }
}

#[test]
fn observer_is_who_its_line_says() {
    let text = format!("{KEYS}clientPort=2181\n{SERVERS}server.4=127.0.0.1:2884:3884:observer\n");
    for (my_id, peer_type, observer, warned) in [
        ("4", "", true, ""),
        ("4", "peerType=observer\n", true, ""),
        (
            "4",
            "peerType=participant\n",
            true,
            "peerType: says a participant, but server.4 is an observer, which counts; correct one \
             of them",
        ),
        (
            "1",
            "peerType=observer\n",
            false,
            "peerType: says an observer, but server.1 is a participant, which counts; correct one \
             of them",
        ),
    ] {
        let config = Place::new(my_id)
            .load(&format!("{text}{peer_type}"))
            .unwrap();
        let warned: Vec<&str> = Some(warned).into_iter().filter(|w| !w.is_empty()).collect();
        assert_eq!(warnings(&config), warned);
        assert_eq!(config.ensemble.unwrap().zab.observer, observer);
    }
}

#[test]
fn one_server_is_an_ensemble_only_if_it_may_not_stand_alone() {
    let one = format!("{KEYS}clientPort=2181\nserver.2=127.0.0.1:2881:3881\n");
    let place = Place::new("2");
    let alone = place.load(&one).unwrap();
    assert_eq!((alone.ensemble, alone.core.server_id), (None, 1));
    let config = place
        .load(&format!("{one}standaloneEnabled=false\n"))
        .unwrap();
    assert_eq!(config.ensemble.unwrap().zab.committed.voters().count(), 1);
    assert_eq!(
        place
            .load(&format!("{one}server.3=127.0.0.1:2:3:observer\n"))
            .unwrap_err(),
        [
            "zoo.cfg:6: server.3: observes, but server.2 would stand alone, as the only one that \
             votes; add servers that vote, or set standaloneEnabled=false"
        ]
    );
}

#[test]
fn client_port_may_be_in_the_own_line() {
    let servers = SERVERS.replace("3882", "3882:participant;127.0.0.1:2190");
    let place = Place::new("2");
    let config = place.load(&format!("{KEYS}{servers}")).unwrap();
    assert_eq!(listen(&config), "127.0.0.1:2190");
    let client = config.ensemble.unwrap().zab.committed;
    let client = client.member(ServerId(2)).unwrap().client.clone();
    let expected = Endpoint {
        host: "127.0.0.1".into(),
        port: 2190,
    };
    assert_eq!(client, Some(expected));
    assert_eq!(
        place
            .load(&format!("{KEYS}{servers}clientPort=2181\n"))
            .unwrap_err(),
        [
            "zoo.cfg:5: server.2: its client port 2190 is not that of clientPort, 2181; give one \
             of them"
        ]
    );
    // Another server's is not this one's.
    let other = SERVERS
        .replace("3881", "3881;2190")
        .replace("3883", "3883;2190;2290");
    let config = place
        .load(&format!("{KEYS}{other}clientPort=2181\n"))
        .unwrap();
    assert_eq!(listen(&config), "0.0.0.0:2181");
}

#[test]
fn limits_have_no_defaults() {
    let place = Place::new("1");
    assert_eq!(
        place
            .load(&format!("tickTime=100\nclientPort=2181\n{SERVERS}"))
            .unwrap_err(),
        [
            "zoo.cfg: initLimit: is missing: expected initLimit=TICKS, usually 10: how many ticks \
             (tickTime, 100 ms) a server may take to catch up with its leader",
            "zoo.cfg: syncLimit: is missing: expected syncLimit=TICKS, usually 5: how many ticks \
             (tickTime, 100 ms) may pass without a sign of a peer",
        ]
    );
    // One that is wrong is not also missing.
    assert_eq!(load("initLimit=0\n").unwrap_err().len(), 1);
}

#[test]
fn server_must_know_which_it_is() {
    let text = format!("{KEYS}clientPort=2181\n{SERVERS}");
    assert_eq!(
        Place::new("").load(&text).unwrap_err(),
        [
            "data/myid: there is no such file, and this server must know which it is of server.1 \
             (zoo.cfg:5), server.2 (zoo.cfg:6), server.3 (zoo.cfg:7); write its number into it"
        ]
    );
    assert_eq!(
        Place::new("7").load(&text).unwrap_err(),
        [
            "data/myid: this server is 7, but there is no server.7; there are server.1 \
             (zoo.cfg:5), server.2 (zoo.cfg:6), server.3 (zoo.cfg:7); correct the number or add \
             the line"
        ]
    );
    assert_eq!(
        Place::new("two").load(&text).unwrap_err(),
        [
            "data/myid: expected the server's number, from 1 to 255, on the first line, found \
             \"two\""
        ]
    );
    let mut place = Place::new("2");
    place.environment.push(("ZOO_MY_ID", "3"));
    assert_eq!(
        place.load(&text).unwrap_err(),
        [
            "environment variable ZOO_MY_ID: myid: is 3, but data/myid says 2; one of them \
             belongs to another server"
        ]
    );
    let text = text.replace("server.3", "server.255");
    assert_eq!(
        Place::new("255")
            .load(&format!("extendedTypesEnabled=true\n{text}"))
            .unwrap_err(),
        [
            "data/myid: expected a number from 1 to 254, as extendedTypesEnabled is true, found \
             255; sessions of a server 255 look like TTL znodes"
        ]
    );
    assert!(Place::new("255").load(&text).is_ok());
}

#[test]
fn memberships_that_cannot_work_are_refused_with_their_lines() {
    for (lines, message) in [
        (
            "server.2=127.0.0.1:2884:3884",
            // The earlier one is not counted at all.
            "zoo.cfg:6: server.2: line 8 is about it too; remove one",
        ),
        (
            "server.02=127.0.0.1:2884:3884",
            "zoo.cfg:6: server.2: there is a server 2 already; remove one of them",
        ),
        (
            "server.4=127.0.0.1:2884:2884",
            "zoo.cfg:8: server.4: expected two ports, one for the quorum and one for elections, \
             found 2884 twice; change one of them",
        ),
        (
            "server.4=127.0.0.1:2881:3884",
            "zoo.cfg:8: server.4: expected an address of its own for every port, found \
             127.0.0.1:2881 here and in server.1; change one of them",
        ),
        (
            "server.4=127.0.0.1:2884:3884|127.0.0.2:2884:3884",
            "zoo.cfg:8: server.4: expected one address, as multiAddress.enabled is false, found \
             2; leave one, or set multiAddress.enabled=true on all servers",
        ),
        (
            "group.1=1:2\ngroup.2=3:1",
            "zoo.cfg:9: group.2: expected every server in one group, found server 1 in group 1 \
             too; remove it from one of them",
        ),
        (
            "group.1=1:2",
            "zoo.cfg:7: server.3: has a vote but is in no group, and there are groups or weights; \
             name 3 in a group.N line, or make it an observer",
        ),
        (
            "group.1=1:2:3\nweight.1=0\nweight.2=0\nweight.3=0",
            "zoo.cfg:8: expected weights with which the voters can be a quorum, found that all of \
             them together are none: all weights are 0; change the weight.N lines",
        ),
        (
            "electionAlg=0",
            "zoo.cfg:8: electionAlg: ZooKeeper has only the election algorithm 3; remove it, or \
             set it to 3",
        ),
        (
            "leaderServes=true",
            "zoo.cfg:8: leaderServes: expected yes or no, found \"true\" (the default is yes)",
        ),
        (
            "peerType=follower",
            "zoo.cfg:8: peerType: expected observer or participant, found \"follower\"",
        ),
        (
            "fastleader.minNotificationInterval=70000",
            "zoo.cfg:8: fastleader.minNotificationInterval: expected \
             fastleader.minNotificationInterval to be at most \
             fastleader.maxNotificationInterval, found 70000 ms and 60000 ms",
        ),
    ] {
        assert_eq!(
            load(&format!("{lines}\n")).unwrap_err(),
            [message],
            "{lines}"
        );
    }
    let observers = SERVERS.replace('\n', ":observer\n");
    assert_eq!(
        Place::new("1")
            .load(&format!("{KEYS}clientPort=2181\n{observers}"))
            .unwrap_err(),
        [
            "zoo.cfg:5: expected at least one server with a vote, found none; without one no \
             leader can be elected"
        ]
    );
}

#[test]
fn memberships_that_work_badly_are_warned_of() {
    let fourth = "server.4=127.0.0.1:2884:3884\n";
    for (lines, warned) in [
        (
            fourth.to_owned(),
            "server.N: 4 servers that vote survive no more failures than 3 do",
        ),
        (
            format!("{fourth}group.1=1:2:3:4\n"),
            "group.1: its weight can split into two halves of 2, of which neither is more than \
             half; give one of its servers another weight",
        ),
        (
            "group.1=1\ngroup.2=2:3\nweight.3=2\n".to_owned(),
            "group.N: 2 groups that have a weight survive no more failures than 1 do",
        ),
        (
            "observerMasterPort=2191\n".to_owned(),
            "observerMasterPort: has no effect: followers do not serve observers yet in this \
             version; observers find the leader",
        ),
    ] {
        assert_eq!(warnings(&load(&lines).unwrap()), [warned], "{lines}");
    }
    let two = SERVERS.replace("server.3", "#server.3");
    let config = Place::new("1")
        .load(&format!("{KEYS}clientPort=2181\n{two}"))
        .unwrap();
    assert_eq!(
        warnings(&config),
        [
            "server.N: with two servers that vote, the failure of either stops both; three \
             survive the failure of one"
        ]
    );
}

#[test]
fn name_without_an_address_is_a_warning_as_it_may_have_one_later() {
    let servers = SERVERS.replace("server.3=127.0.0.1", "server.3=zoo3.invalid");
    let place = Place::new("2");
    let config = place
        .load(&format!("{KEYS}clientPort=2181\n{servers}"))
        .unwrap();
    let warned = place.texts(config.warnings.iter());
    let [warned] = warned.as_slice() else {
        panic!("{warned:?}");
    };
    let start = "zoo.cfg:7: server.3: the host name \"zoo3.invalid\" cannot be resolved at the \
                 moment (";
    let end = "); this server starts and asks for it again whenever it connects";
    assert!(
        warned.starts_with(start) && warned.ends_with(end),
        "{warned}"
    );
    assert!(config.ensemble.is_some());
}

#[test]
fn variables_of_the_zookeeper_image_make_an_ensemble() {
    let servers = "server.1=127.0.0.1:2881:3881;2181 server.2=127.0.0.2:2881:3881;2181 \
                   server.3=127.0.0.3:2881:3881;2181";
    let mut variables = vec![
        ("ZOO_SERVERS", servers),
        ("ZOO_MY_ID", "2"),
        ("ZOO_DATA_DIR", "/nonexistent"),
    ];
    let config = load_env(&variables).unwrap();
    let ensemble = config.ensemble.unwrap();
    assert_eq!((ensemble.zab.me, ensemble.files), (ServerId(2), None));
    // As the image sets them, if nobody else does.
    assert_eq!((ensemble.zab.init_limit, ensemble.zab.sync_limit), (5, 2));

    variables.push(("ZOO_CFG_EXTRA", "reconfigEnabled=true"));
    assert_eq!(
        load_env(&variables).unwrap_err(),
        [
            "environment variable ZOO_CFG_EXTRA: reconfigEnabled: expected a zoo.cfg (--config), \
             beside which the servers of the ensemble are written when they change, found none; \
             give one, or set it to false"
        ]
    );
    let twice = "server.1=127.0.0.1:1:2;3 server.1=127.0.0.1:4:5;6";
    assert_eq!(
        load_env(&[("ZOO_SERVERS", twice)]).unwrap_err(),
        ["environment variable ZOO_SERVERS: server.1: is there twice; remove one"]
    );
}

#[test]
fn version_of_a_dynamic_file_is_in_its_name() {
    let place = Place::new("2");
    for (name, version) in [
        ("zoo.cfg.dynamic", 0),
        ("zoo.cfg.dynamic.100000006", 0x1_0000_0006),
        ("servers", 0),
        ("servers.-1", 0),
    ] {
        let file = place.dir.file(name, SERVERS);
        let text = format!(
            "{KEYS}clientPort=2181\ndynamicConfigFile={}\n",
            file.display()
        );
        let ensemble = place.load(&text).unwrap().ensemble.unwrap();
        assert_eq!(ensemble.zab.committed.version, version, "{name}");
        assert_eq!(ensemble.dynamic_file, Some(file));
    }
}

#[test]
fn membership_that_was_proposed_is_the_last_seen_if_it_is_newer() {
    let place = Place::new("2");
    let file = place.dir.file("zoo.cfg.dynamic.100000006", SERVERS);
    let text = format!(
        "{KEYS}clientPort=2181\ndynamicConfigFile={}\n",
        file.display()
    );
    let last_seen = |next: String| {
        place.dir.file("zoo.cfg.dynamic.next", next);
        let ensemble = place.load(&text).map(|config| config.ensemble.unwrap());
        ensemble.map(|ensemble| ensemble.zab.last_seen.map(|seen| seen.version))
    };
    let found = last_seen(format!("{SERVERS}version=100000007"));
    assert_eq!(found, Ok(Some(0x1_0000_0007)));
    assert_eq!(last_seen(format!("{SERVERS}version=100000006")), Ok(None));
    assert_eq!(
        last_seen("server.1=x\n".to_owned()).unwrap_err(),
        [
            "zoo.cfg.dynamic.next:1: server.1: expected host:quorumPort:electionPort\
             [|host:quorumPort:electionPort…][:participant|:observer]\
             [;[clientAddress:]clientPort], found \"x\""
        ]
    );
}

#[test]
fn variables_do_not_take_back_what_the_servers_became() {
    let mut place = Place::new("2");
    let servers = "server.1=127.0.0.1:1:2 server.2=127.0.0.1:3:4";
    place.environment.push(("ZOO_SERVERS", servers));
    let file = place.dir.file("zoo.cfg.dynamic.6", SERVERS);
    let text = format!(
        "{KEYS}clientPort=2181\ndynamicConfigFile={}\n",
        file.display()
    );
    let config = place.load(&text).unwrap();
    assert_eq!(
        place.texts(config.warnings.iter()),
        [
            "environment variable ZOO_SERVERS: server.1: does not count: the servers of the \
             ensemble have changed since, to those of zoo.cfg.dynamic.6"
        ]
    );
    assert_eq!(config.ensemble.unwrap().zab.committed.voters().count(), 3);

    let first = place.dir.file("zoo.cfg.dynamic", SERVERS);
    let text = text.replace(&*file.to_string_lossy(), &first.to_string_lossy());
    assert_eq!(
        place.load(&text).unwrap_err(),
        [
            "environment variable ZOO_SERVERS: server.1: the servers are in the file that \
             dynamicConfigFile names; remove one of them"
        ]
    );
}
