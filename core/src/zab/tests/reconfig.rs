//! Memberships change while the servers run.

#![expect(
    clippy::unwrap_used,
    reason = "a test may stop at what it did not expect"
)]

use alloc::vec::Vec;

use super::cluster::Cluster;
use crate::zab::{Options, Role};

fn enabled(options: &mut Options) {
    options.reconfig_enabled = true;
}

/// Three voters, and as many that only know of them.
fn ensemble(seed: u64, joiners: usize) -> Cluster {
    let mut cluster = Cluster::new(seed, 3 + joiners, 0, enabled);
    let members = cluster.membership.clone();
    let mut members = members;
    members.servers.retain(|id, _| id.0 <= 3);
    for server in &mut cluster.servers {
        server.disk.members = members.clone();
    }
    cluster.membership = members;
    for at in 0..3 + joiners {
        cluster.start(at);
    }
    cluster.until("everyone serves", Cluster::settled);
    cluster
}

fn in_force(cluster: &Cluster) -> Vec<i64> {
    let servers = cluster.servers.iter();
    servers.map(|server| server.disk.members.version).collect()
}

/// Changes the membership, and goes on with it.
fn change(cluster: &mut Cluster, voters: &[usize], observers: &[usize]) {
    let leader = cluster.leader().unwrap();
    // Who joins as an observer connects once more when it hears of the membership in force.
    let version = (0..100_000).find_map(|_| {
        cluster.happen();
        cluster.reconfigure(leader, voters, observers)
    });
    let version = version.unwrap().0;
    cluster.client(leader);
    cluster.until("the membership is in force", |cluster| {
        in_force(cluster).iter().all(|&known| known >= version) && cluster.settled()
    });
    let before = cluster.canon.len();
    for at in 0..cluster.servers.len() {
        cluster.client(at);
        cluster.sync(at);
    }
    cluster.until("new transactions", |cluster| {
        cluster.canon.len() > before && cluster.settled()
    });
    let leader = cluster.leader().unwrap();
    assert!(voters.contains(&(leader + 1)), "a voter leads");
    for (at, server) in cluster.servers.iter().enumerate() {
        let observes = matches!(server.role, Role::Observing { .. });
        assert_eq!(observes, observers.contains(&(at + 1)));
    }
}

#[test]
fn first_leader_gives_the_membership_a_version() {
    let cluster = ensemble(1, 0);
    assert_eq!(in_force(&cluster), [1 << 32; 3]);
}

#[test]
fn server_joins_and_votes() {
    for seed in 0..5 {
        let mut cluster = ensemble(seed, 1);
        change(&mut cluster, &[1, 2, 3, 4], &[]);
        // It counts: without two of the others nothing is committed but with it.
        let leader = cluster.leader().unwrap();
        let other = (0..3).find(|at| *at != leader).unwrap();
        cluster.crash(other);
        let before = cluster.canon.len();
        cluster.client(leader);
        cluster.until("a transaction", |cluster| cluster.canon.len() > before);
    }
}

#[test]
fn leader_that_is_removed_hands_over() {
    for seed in 0..5 {
        let mut cluster = ensemble(seed, 1);
        let leader = cluster.leader().unwrap() + 1;
        let voters: Vec<usize> = (1..=4).filter(|id| *id != leader).collect();
        change(&mut cluster, &voters, &[]);
    }
}

#[test]
fn voter_becomes_an_observer_and_back() {
    for seed in 0..5 {
        let mut cluster = ensemble(seed, 0);
        let leader = cluster.leader().unwrap() + 1;
        let other = (1..=3).find(|id| *id != leader).unwrap();
        let voters: Vec<usize> = (1..=3).filter(|id| *id != other).collect();
        change(&mut cluster, &voters, &[other]);
        change(&mut cluster, &[1, 2, 3], &[]);
    }
}

/// A leader that is cut off proposes a membership; what it proposed is cut from its log when it
/// comes back, and must not come into force when it leads again, or anybody waits for its quorum.
#[test]
fn membership_that_was_cut_from_the_history_is_forgotten() {
    for seed in 0..5 {
        let mut cluster = ensemble(seed, 0);
        let leader = cluster.leader().unwrap();
        let others = [(leader + 1) % 3, (leader + 2) % 3];
        for other in others {
            cluster.part(leader, other);
        }
        let left = others.map(|at| at + 1);
        let cut = cluster.reconfigure(leader, &left, &[]).unwrap();
        cluster.until("it is logged, and another leads", |cluster| {
            let leads = cluster.leader();
            cluster.servers[leader].disk.last() == cut && leads.is_some_and(|at| at != leader)
        });
        let next = cluster.leader().unwrap();
        cluster.client(next);
        cluster.cut.clear();
        cluster.until("all have what was written since", |cluster| {
            cluster.settled() && cluster.canon.last().is_some_and(|(last, _)| *last > cut)
        });
        for server in &cluster.servers {
            let (in_force, pending) = server.zab.as_ref().unwrap().membership();
            assert!(in_force.version < cut.0, "{in_force:?}");
            let pending = pending.filter(|pending| pending.version == cut.0);
            assert_eq!(pending, None, "server {:?}", server.id);
        }
    }
}

#[test]
fn whole_ensemble_is_replaced() {
    for seed in 0..5 {
        let mut cluster = ensemble(seed, 3);
        change(&mut cluster, &[4, 5, 6], &[]);
        for at in 0..3 {
            cluster.crash(at);
        }
        let before = cluster.canon.len();
        let leader = cluster.leader().unwrap();
        cluster.client(leader);
        cluster.until("a transaction", |cluster| cluster.canon.len() > before);
    }
}
