#![expect(
    clippy::unwrap_used,
    reason = "a test may stop at what it did not expect"
)]

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::ids::{Epoch, Instant, LinkId, ServerId, UnixMillis, Zxid};
use crate::link::{Endpoint, LinkInput, LinkOutput, Port};
use crate::machine::{Machine as _, Now};
use crate::server::config::{Config, FourLetterWords};
use crate::server::{EnsembleConfig, HostFacts, Input, Output, Recovered, Server, SnapshotOp};
use crate::tree::Loader;
use crate::zab::{self, Member, Membership};

const TOOL: LinkId = LinkId(1000);
const STEP_MS: u64 = 50;

/// Server 1 of an ensemble whose others are all down, with a store that is done at once.
struct Alone {
    server: Server,
    now: Now,
    said: Vec<u8>,
}

/// `voters` with a vote, and one without.
fn membership(voters: i64) -> Membership {
    let endpoint = |port| Endpoint {
        host: "127.0.0.1".into(),
        port,
    };
    let member = |id: i64| {
        let id = u16::try_from(id).unwrap();
        Member {
            quorum: alloc::vec![endpoint(2880 + id)],
            election: alloc::vec![endpoint(3880 + id)],
            client: None,
            voter: i64::from(id) <= voters,
        }
    };
    Membership {
        version: 0,
        servers: (1..=voters + 1)
            .map(|id| (ServerId(id), member(id)))
            .collect(),
        groups: BTreeMap::new(),
        weights: BTreeMap::new(),
    }
}

impl Alone {
    fn new(voters: i64, ensemble: EnsembleConfig, words: FourLetterWords) -> Self {
        let options = zab::Options {
            me: ServerId(1),
            observer: false,
            committed: membership(voters),
            last_seen: None,
            election: Vec::new(),
            reconfig_enabled: false,
            tick_ms: 1000,
            init_limit: 10,
            sync_limit: 5,
            connect_limit: 0,
            listen_on_all_ips: false,
            multi_address: false,
            packet_bytes_max: 1 << 20,
            notification_ms_min: 200,
            notification_ms_max: 60_000,
            connect_timeout_ms: 5000,
            history_txns_min: 500,
            history_bytes_max: 1 << 20,
        };
        let history = zab::Recovered {
            base: Zxid::ZERO,
            recent: Vec::new(),
            accepted: Epoch(0),
            current: Epoch(0),
            trusted: true,
            divergent: false,
        };
        let config = Config {
            tick_ms: 1000,
            four_letter_words: words,
            ..Config::default()
        };
        let now = Now {
            instant: Instant(0),
            wall: UnixMillis(1_784_196_672_000),
        };
        let recovered = Recovered::default();
        let loader = Loader::new(1, true);
        let server = Server::in_ensemble(
            config, ensemble, options, loader, recovered, history, 7, now,
        );
        Self {
            server,
            now,
            said: Vec::new(),
        }
    }

    fn step(&mut self, inputs: impl IntoIterator<Item = Input>) {
        let mut inputs: Vec<Input> = inputs.into_iter().collect();
        loop {
            let mut outputs = Vec::new();
            self.server.step(self.now, &mut inputs, &mut outputs);
            if outputs.is_empty() {
                return;
            }
            for output in outputs {
                inputs.extend(self.perform(output));
            }
        }
    }

    fn perform(&mut self, output: Output) -> Option<Input> {
        match output {
            Output::Store(upto, _) => Some(Input::Stored { upto }),
            Output::Snapshot(SnapshotOp::Chunk(bytes)) => Some(Input::SnapshotWritten(bytes.len())),
            Output::Snapshot(SnapshotOp::End) => {
                let zxid = self.server.tree().last_zxid();
                Some(Input::SnapshotStored { zxid })
            }
            Output::AskFacts(link) => Some(Input::Facts(link, HostFacts::default())),
            // Nobody is there.
            Output::Link(link, LinkOutput::Dial { .. }) => {
                Some(Input::Link(link, LinkInput::Closed))
            }
            Output::Link(TOOL, LinkOutput::Send(bytes)) => {
                self.said.extend_from_slice(&bytes);
                None
            }
            Output::Restart(reason) => panic!("{reason}"),
            Output::Event(_)
            | Output::Link(..)
            | Output::Listen(..)
            | Output::Membership(_)
            | Output::Snapshot(_) => None,
        }
    }

    /// Time passes.
    fn pass(&mut self, ms: u64) {
        for _ in 0..ms / STEP_MS {
            self.now.instant = self.now.instant.plus_ms(STEP_MS);
            self.now.wall.0 += STEP_MS.cast_signed();
            self.step([]);
        }
    }

    fn receive(&mut self, link: LinkId, bytes: &[u8]) {
        let peer = ([127, 0, 0, 1], 30_000).into();
        let port = Port::Client;
        let bytes = Bytes::copy_from_slice(bytes);
        self.step([
            Input::Link(link, LinkInput::Opened { port, peer }),
            Input::Link(link, LinkInput::Received(bytes)),
        ]);
    }

    fn ask(&mut self, word: &str) -> String {
        self.said.clear();
        self.receive(TOOL, word.as_bytes());
        String::from_utf8(core::mem::take(&mut self.said)).unwrap()
    }
}

/// A client asks for a session, which is a transaction.
fn open_session() -> Vec<u8> {
    let mut frame = [0, 0, 0, 44].to_vec();
    frame.extend_from_slice(&[0; 12]);
    frame.extend_from_slice(&10_000_i32.to_be_bytes());
    frame.extend_from_slice(&[0; 8]);
    frame.extend_from_slice(&16_i32.to_be_bytes());
    frame.extend_from_slice(&[0; 16]);
    frame
}

#[test]
fn leader_tells_of_its_proposals_and_learners() {
    let config = EnsembleConfig {
        leader_serves: true,
        ..EnsembleConfig::default()
    };
    let mut alone = Alone::new(1, config, FourLetterWords::All);
    alone.pass(1000);
    let answer = alone.ask("srvr");
    let end = "Zxid: 0x100000000\nMode: leader\nNode count: 5\n\
               Proposal sizes last/min/max: -1/-1/-1\n";
    assert!(answer.ends_with(end), "{answer}");
    assert_eq!(alone.ask("isro"), "rw");
    alone.receive(LinkId(1), &open_session());
    let answer = alone.ask("stat");
    // A header of 32 bytes, a timeout of 4, a digest of 12.
    let end = "Zxid: 0x100000001\nMode: leader\nNode count: 5\n\
               Proposal sizes last/min/max: 48/48/48\n";
    assert!(answer.ends_with(end), "{answer}");
    let answer = alone.ask("mntr");
    let begin = "zk_version\t\nzk_server_state\tleader\nzk_peer_state\tleading - broadcast\n";
    assert!(answer.starts_with(begin), "{answer}");
    for line in [
        "quorum_size\t1",
        "learners\t0",
        "synced_followers\t0",
        "synced_non_voting_followers\t0",
        "synced_observers\t0",
        "pending_syncs\t0",
        "last_proposal_size\t48",
        "max_proposal_size\t48",
        "min_proposal_size\t48",
        "global_sessions\t1",
        "local_sessions\t0",
        "looking_count\t1",
        "cnt_election_time\t1",
    ] {
        let line = alloc::format!("zk_{line}");
        assert!(answer.lines().any(|l| l == line), "{line} in {answer}");
    }
    let uptime = answer
        .lines()
        .find_map(|l| l.strip_prefix("zk_leader_uptime\t"));
    let uptime: u64 = uptime.unwrap().parse().unwrap();
    assert!((1..1000).contains(&uptime), "{uptime}");
    assert!(
        alone
            .ask("dump")
            .starts_with("SessionTracker dump:\nSession Sets (1)/(1):\n")
    );
    assert_eq!(alone.ask("srst"), "Server stats reset.\n");
    assert!(alone.ask("srvr").ends_with("last/min/max: -1/-1/-1\n"));
}

#[test]
fn configuration_of_an_ensemble_ends_with_its_membership() {
    let mut alone = Alone::new(1, EnsembleConfig::default(), FourLetterWords::All);
    alone.pass(1000);
    let answer = alone.ask("conf");
    let end = "serverId=1\ninitLimit=10\nsyncLimit=5\nelectionAlg=3\nelectionPort=3881\n\
               quorumPort=2881\npeerType=0\nmembership: \n\
               server.1=127.0.0.1:2881:3881:participant\n\
               server.2=127.0.0.1:2882:3882:observer\nversion=0";
    assert!(answer.ends_with(end), "{answer}");
}

#[test]
fn local_sessions_are_told_apart() {
    let config = EnsembleConfig {
        local_sessions: true,
        leader_serves: true,
        ..EnsembleConfig::default()
    };
    let mut alone = Alone::new(1, config, FourLetterWords::All);
    alone.pass(1000);
    alone.receive(LinkId(1), &open_session());
    let answer = alone.ask("mntr");
    assert!(answer.contains("zk_global_sessions\t0\n"), "{answer}");
    assert!(answer.contains("zk_local_sessions\t1\n"), "{answer}");
    let answer = alone.ask("dump");
    let begin = "SessionTracker dump:\nLocal Session Sets (1)/(1):\n1 expire at ";
    assert!(answer.starts_with(begin), "{answer}");
    assert!(
        answer.contains("\nGlobal Session Sets (0)/(0):\n"),
        "{answer}"
    );
}

#[test]
fn server_without_a_leader_serves_nobody() {
    let mut alone = Alone::new(2, EnsembleConfig::default(), FourLetterWords::All);
    alone.pass(5000);
    let refusal = "This ZooKeeper instance is not currently serving requests\n";
    for word in ["srvr", "stat", "mntr", "conf", "dump", "cons", "dirs"] {
        assert_eq!(alone.ask(word), refusal, "{word}");
    }
    assert_eq!(
        (alone.ask("isro"), alone.ask("ruok")),
        ("null".into(), "imok".into())
    );
}

#[test]
fn server_without_a_leader_may_be_read_only() {
    let config = EnsembleConfig {
        read_only_mode: true,
        ..EnsembleConfig::default()
    };
    let mut alone = Alone::new(2, config, FourLetterWords::Only(Vec::new()));
    // Clients look for a server that is not read-only by this word, listed or not.
    assert_eq!(alone.ask("isro"), "null");
    alone.pass(5000);
    assert_eq!(alone.ask("isro"), "ro");
    let answer = alone.ask("srvr");
    let begin = "Zookeeper version: \nREAD-ONLY mode; serving only read-only clients\nLatency";
    assert!(answer.starts_with(begin), "{answer}");
    assert!(
        answer.ends_with("Mode: read-only\nNode count: 5\n"),
        "{answer}"
    );
    alone.server.core.config.four_letter_words = FourLetterWords::All;
    let answer = alone.ask("stat");
    assert!(answer.contains("read-only clients\nClients:\n"), "{answer}");
    let answer = alone.ask("mntr");
    assert!(
        answer.contains("zk_server_state\tread-only\nzk_avg_latency"),
        "{answer}"
    );
    assert!(!answer.contains("quorum_size"), "{answer}");
    assert!(alone.ask("conf").ends_with("quorumPort=2881\npeerType=0\n"));
    assert!(alone.ask("dump").contains("dump:\nGlobal Sessions(0):\n"));
}
