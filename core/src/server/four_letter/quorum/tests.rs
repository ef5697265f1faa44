#![expect(
    clippy::unwrap_used,
    reason = "a test may stop at what it did not expect"
)]

use alloc::vec::Vec;

use crate::ids::LinkId;
use crate::server::EnsembleConfig;
use crate::server::alone::{Alone, open_session};
use crate::server::config::FourLetterWords;

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
