//! Random faults, then none, and everyone must agree and go on.

#![expect(
    clippy::indexing_slicing,
    reason = "a test may stop at what it did not expect"
)]

use alloc::vec;
use alloc::vec::Vec;

use super::cluster::{Cluster, Server};
use crate::zab::Options;

fn plain(_: &mut Options) {}

fn reconfigurable(options: &mut Options) {
    options.reconfig_enabled = true;
    options.history_txns_min = 20;
    options.history_bytes_max = 0;
}

/// Three voters of any, and perhaps an observer.
fn reconfigure(cluster: &mut Cluster) {
    let count = cluster.servers.len();
    let mut ids: Vec<usize> = (1..=count).collect();
    while ids.len() > 3 {
        ids.swap_remove(cluster.rng.below(ids.len()));
    }
    let observer = 1 + cluster.rng.below(count);
    let observers = if ids.contains(&observer) {
        vec![]
    } else {
        vec![observer]
    };
    if let Some(leader) = cluster.leader() {
        cluster.reconfigure(leader, &ids, &observers);
    }
}

/// So few are kept that most who were away need the state.
fn short(options: &mut Options) {
    options.history_txns_min = 3;
    options.history_bytes_max = 0;
}

fn quiet(cluster: &mut Cluster) {
    let count = cluster.servers.len();
    cluster.cut.clear();
    for at in 0..count {
        cluster.servers[at].stalled = false;
        if cluster.servers[at].zab.is_none() {
            cluster.start(at);
        }
    }
    cluster.until("everyone serves", Cluster::settled);
    let before = cluster.canon.len();
    for at in 0..count {
        cluster.client(at);
    }
    cluster.until("new transactions", |cluster| {
        cluster.canon.len() > before && cluster.settled()
    });
}

#[test]
fn servers_elect_a_leader_and_agree() {
    for seed in 0..10 {
        let mut cluster = Cluster::new(seed, 3, 0, plain);
        for at in 0..3 {
            cluster.start(at);
        }
        cluster.until("a leader", |cluster| cluster.leader().is_some());
        for turn in 0..50 {
            cluster.client(turn % 3);
            for _ in 0..10 {
                cluster.happen();
            }
        }
        quiet(&mut cluster);
        assert!(cluster.canon.len() >= 10);
    }
}

/// What may go wrong in a run.
struct Faults {
    /// One step in so many has a fault.
    one_in: usize,
    steps: usize,
    /// Whether memberships change as well.
    reconfigure: bool,
}

/// How often learners were brought in line in a way, or began anew.
fn count(cluster: &Cluster, words: &str) -> usize {
    let servers = cluster.servers.iter();
    let events = servers.flat_map(|server| server.events.iter().chain(&server.restarts));
    events.filter(|event| event.contains(words)).count()
}

fn run(
    seed: u64,
    voters: usize,
    observers: usize,
    tune: fn(&mut Options),
    faults: &Faults,
) -> Cluster {
    let mut cluster = Cluster::new(seed, voters, observers, tune);
    let count = voters + observers;
    for at in 0..count {
        cluster.start(at);
    }
    for _ in 0..faults.steps {
        cluster.happen();
        let at = cluster.rng.below(count);
        match cluster.rng.below(40) {
            0 | 1 => cluster.client(at),
            2 => cluster.sync(at),
            3 => cluster.snapshot(at),
            4 if faults.reconfigure && cluster.rng.chance(10) => reconfigure(&mut cluster),
            _ => {}
        }
        if cluster.rng.chance(faults.one_in) {
            fault(&mut cluster, at);
        }
        if cluster.rng.chance(faults.one_in) && cluster.servers[at].zab.is_none() {
            cluster.start(at);
        }
    }
    quiet(&mut cluster);
    cluster
}

fn fault(cluster: &mut Cluster, at: usize) {
    let other = cluster.rng.below(cluster.servers.len());
    match cluster.rng.below(10) {
        0 | 1 if cluster.servers[at].zab.is_some() => cluster.crash(at),
        2 if at != other => cluster.part(at, other),
        3 => cluster.cut.clear(),
        4 => {
            let leader = cluster.leader().unwrap_or(at);
            for other in 0..cluster.servers.len() {
                if other != leader {
                    cluster.part(leader, other);
                }
            }
            // It will not know for a while.
            cluster.client(leader);
            cluster.client(leader);
        }
        5 => cluster.servers[at].stalled = !cluster.servers[at].stalled,
        6 => {
            if let Some(leader) = cluster.leader() {
                cluster.crash(leader);
            }
        }
        7 => {
            let loads = |server: &Server| server.takes_a_state();
            if let Some(at) = cluster.servers.iter().position(loads) {
                for other in 0..cluster.servers.len() {
                    cluster.drop_links(at, other);
                }
            }
        }
        _ => cluster.drop_links(at, other),
    }
}

/// More with `ZABRA_SEEDS=1000`.
fn seeds(few: u64) -> core::ops::Range<u64> {
    let asked = option_env!("ZABRA_SEEDS").and_then(|count| count.parse().ok());
    0..asked.unwrap_or(few)
}

/// Runs, and has seen each way in which a learner can be brought in line.
fn all_ways(first: u64, tune: fn(&mut Options), ways: &[&str]) {
    let mut counts = vec![0; ways.len()];
    for seed in seeds(16) {
        let faults = Faults {
            one_in: 120,
            steps: 8000,
            reconfigure: false,
        };
        let cluster = run(first + seed, 3, 1, tune, &faults);
        for (sum, way) in counts.iter_mut().zip(ways) {
            *sum += count(&cluster, way);
        }
    }
    assert!(
        counts.iter().all(|&count| count > 0),
        "{ways:?}: {counts:?}"
    );
}

#[test]
fn nothing_is_lost_with_faults() {
    all_ways(0, plain, &["Synced { how: \"DIFF", "Synced { how: \"TRUNC"]);
}

#[test]
fn nothing_is_lost_where_little_history_is_kept() {
    all_ways(
        1000,
        short,
        &["Synced { how: \"DIFF", "Synced { how: \"SNAP", "was stored"],
    );
}

#[test]
fn nothing_is_lost_among_five() {
    for seed in seeds(6) {
        let faults = Faults {
            one_in: 80,
            steps: 8000,
            reconfigure: false,
        };
        run(2000 + seed, 5, 0, short, &faults);
    }
}

#[test]
fn nothing_is_lost_while_the_membership_changes() {
    let mut activated = 0;
    for seed in seeds(8) {
        let faults = Faults {
            one_in: 250,
            steps: 8000,
            reconfigure: true,
        };
        let cluster = run(3000 + seed, 5, 0, reconfigurable, &faults);
        let versions = cluster
            .servers
            .iter()
            .map(|server| server.disk.members.version);
        activated += usize::from(versions.max().is_some_and(|max| max & 0xffff_ffff != 0));
    }
    assert!(activated > 0);
}

/// ZOOKEEPER-1154, 2832: what a leader proposed alone is cut off when it comes back, whether the
/// next epoch has transactions or not.
#[test]
fn what_a_lonely_leader_proposed_is_cut_off() {
    for (seed, proposes) in [(1, true), (2, false), (3, true), (4, false)] {
        let mut cluster = Cluster::new(seed, 3, 0, plain);
        for at in 0..3 {
            cluster.start(at);
        }
        cluster.until("everyone serves", Cluster::settled);
        let old = cluster.leader().unwrap_or_default();
        cluster.client(old);
        cluster.until("a transaction", |cluster| {
            cluster.canon.len() == 1 && cluster.settled()
        });
        let others: Vec<usize> = (0..3).filter(|at| *at != old).collect();
        for other in &others {
            cluster.part(old, *other);
        }
        cluster.client(old);
        cluster.client(old);
        let next = |cluster: &Cluster| {
            let leader = cluster.leader();
            leader.filter(|leader| *leader != old).is_some()
        };
        cluster.until("another leader", next);
        if proposes {
            for other in others {
                cluster.client(other);
            }
            cluster.until("more", |cluster| cluster.canon.len() > 1);
        }
        quiet(&mut cluster);
        assert_eq!(count(&cluster, "Synced { how: \"TRUNC"), 1);
    }
}
