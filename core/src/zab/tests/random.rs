//! Random faults, then none, and everyone must agree and go on.

#![expect(
    clippy::indexing_slicing,
    reason = "a test may stop at what it did not expect"
)]

use super::cluster::Cluster;
use crate::zab::Options;

fn plain(_: &mut Options) {}

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
}

fn run(seed: u64, voters: usize, observers: usize, tune: fn(&mut Options), faults: &Faults) {
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
}

fn fault(cluster: &mut Cluster, at: usize) {
    let other = cluster.rng.below(cluster.servers.len());
    match cluster.rng.below(8) {
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
        }
        5 => cluster.servers[at].stalled = !cluster.servers[at].stalled,
        6 => {
            if let Some(leader) = cluster.leader() {
                cluster.crash(leader);
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

#[test]
fn nothing_is_lost_with_faults() {
    for seed in seeds(12) {
        let faults = Faults {
            one_in: 150,
            steps: 6000,
        };
        run(seed, 3, 1, plain, &faults);
    }
}

#[test]
fn nothing_is_lost_where_little_history_is_kept() {
    for seed in seeds(12) {
        let faults = Faults {
            one_in: 150,
            steps: 6000,
        };
        run(1000 + seed, 3, 1, short, &faults);
    }
}

#[test]
fn nothing_is_lost_among_five() {
    for seed in seeds(6) {
        let faults = Faults {
            one_in: 80,
            steps: 6000,
        };
        run(2000 + seed, 5, 0, short, &faults);
    }
}
