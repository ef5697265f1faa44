//! Random faults, then none, and everyone must agree and go on.

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
