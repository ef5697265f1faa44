//! Whole ensembles find one leader, the best of a quorum, in bounded time.

use alloc::vec::Vec;

use super::network::Net;
use super::*;

/// Milliseconds in which servers that can talk must have a leader.
const SETTLE_MS_MAX: u64 = 8_000;

/// An ensemble of which every server has something of its own, none running.
fn ensemble(seed: u64, voters: i64, observers: i64, more: &str) -> Net {
    let mut net = Net::new(seed);
    let members = membership(voters, observers, more);
    for id in 1..=voters + observers {
        let mut options = options(id, members.clone());
        options.observer = id > voters;
        let standing = if options.observer {
            Standing::Observer
        } else {
            let epoch = i32::try_from(net.random(3)).unwrap();
            let zxid = i64::from(epoch) << 32 | i64::try_from(net.random(3)).unwrap();
            voter(zxid, epoch)
        };
        net.add(options, standing);
    }
    net
}

fn ids(range: core::ops::RangeInclusive<i64>) -> Vec<i64> {
    range.collect()
}

fn merit(net: &Net, id: i64) -> (i32, Zxid, i64) {
    match net.nodes[&id].standing {
        Standing::Voter { zxid, epoch } => (epoch.0, zxid, id),
        other => panic!("server {id} leads, and is {other:?}"),
    }
}

/// The leader is at least as good as a quorum of voters.
fn assert_best_of_quorum(before: &[(i64, (i32, Zxid, i64))], members: &Membership, leader: i64) {
    let of = |id: i64| before.iter().find(|(other, _)| *other == id).unwrap().1;
    let not_better = before.iter().filter(|(_, merit)| *merit <= of(leader));
    let not_better = not_better.map(|(id, _)| ServerId(*id)).collect();
    assert!(members.has_quorum(&not_better), "{leader} of {before:?}");
}

#[test]
fn ensembles_of_any_size_settle_on_the_best_of_a_quorum() {
    for (voters, observers) in [
        (1, 1),
        (2, 0),
        (3, 0),
        (3, 1),
        (4, 1),
        (5, 0),
        (5, 2),
        (7, 0),
    ] {
        for seed in 0..12 {
            let mut net = ensemble(seed, voters, observers, "");
            let merits: Vec<_> = (1..=voters).map(|id| (id, merit(&net, id))).collect();
            for id in ids(1..=voters + observers) {
                net.start(id);
                let pause = net.random(60);
                net.run(pause);
            }
            let leader = net.settle(&ids(1..=voters + observers), SETTLE_MS_MAX);
            assert_best_of_quorum(&merits, &membership(voters, observers, ""), leader);
            for node in net.nodes.values() {
                assert!(node.rounds <= 3, "{} rounds", node.rounds);
                assert_eq!(node.refused, Vec::<String>::new());
            }
        }
    }
}

#[test]
fn all_that_start_together_choose_the_best_of_all() {
    for seed in 0..20 {
        let mut net = ensemble(seed, 5, 0, "");
        let best = (1..=5).max_by_key(|id| merit(&net, *id)).unwrap();
        for id in 1..=5 {
            net.start(id);
        }
        assert_eq!(net.settle(&ids(1..=5), SETTLE_MS_MAX), best);
    }
}

#[test]
fn groups_and_weights_are_respected() {
    let groups = "group.1=1:2:3\ngroup.2=4:5\ngroup.3=6:7\nweight.7=0\nweight.2=3\n";
    for seed in 0..20 {
        let mut net = ensemble(seed, 7, 0, groups);
        // The one that cannot lead has the longest history.
        net.nodes.get_mut(&7).unwrap().standing = voter(9, 9);
        for id in 1..=7 {
            net.start(id);
        }
        let leader = net.settle(&ids(1..=7), SETTLE_MS_MAX);
        assert_ne!(leader, 7);
    }
}

#[test]
fn the_death_of_a_leader_costs_a_few_round_trips() {
    for (voters, seed) in [3, 5, 7]
        .into_iter()
        .flat_map(|voters| (0..12).map(move |seed| (voters, seed)))
    {
        let mut net = ensemble(seed, voters, 1, "");
        for id in 1..=voters + 1 {
            net.start(id);
        }
        let leader = net.settle(&ids(1..=voters + 1), SETTLE_MS_MAX);
        net.run(3_000);
        net.kill(leader);
        let killed = net.now;
        let rest: Vec<i64> = (1..=voters).filter(|id| *id != leader).collect();
        net.settle(&rest, SETTLE_MS_MAX);
        for id in &rest {
            // Far below the 200 ms for which ZooKeeper waits in any case. Messages take 3 ms.
            let took = net.nodes[id].elected_ms;
            assert!(
                took < 60,
                "server {id} of {voters} took {took} ms, seed {seed}"
            );
        }
        let took_ms = net.now.micros_since(killed) / 1000;
        assert!(
            took_ms < 100,
            "{took_ms} ms until the roles were established"
        );
    }
}

#[test]
fn later_joiners_join_without_disturbing() {
    for seed in 0..20 {
        let mut net = ensemble(seed, 5, 1, "");
        for id in 1..=3 {
            net.start(id);
        }
        let leader = net.settle(&[1, 2, 3], SETTLE_MS_MAX);
        let before: Vec<u32> = (1..=3).map(|id| net.nodes[&id].rounds).collect();
        // They have more than anybody, and stand back nevertheless.
        net.nodes.get_mut(&5).unwrap().standing = voter(0x9_0000_0000, 1);
        for id in [5, 6, 4] {
            net.start(id);
            net.run(2_000);
        }
        assert_eq!(net.settle(&ids(1..=6), SETTLE_MS_MAX), leader);
        let after: Vec<u32> = (1..=3).map(|id| net.nodes[&id].rounds).collect();
        assert_eq!(before, after);
    }
}

#[test]
fn a_server_outside_the_membership_and_one_without_history_find_the_leader() {
    for seed in 0..12 {
        let mut net = ensemble(seed, 3, 0, "");
        // It knows the members, and they do not know it; its own line says where it is.
        let mut own = membership(3, 0, "server.9=10.0.0.9:2888:3888:observer\n");
        own.version = 0;
        let options = options(9, own);
        net.add(
            options,
            Standing::NonVoter {
                zxid: Zxid(0),
                epoch: Epoch(0),
            },
        );
        net.nodes.get_mut(&2).unwrap().standing = Standing::Untrusted { epoch: Epoch(0) };
        for id in [1, 2, 3, 9] {
            net.start(id);
        }
        let leader = net.settle(&[1, 2, 3, 9], SETTLE_MS_MAX);
        assert!(leader == 1 || leader == 3);
    }
}

#[test]
fn broken_connections_and_restarts_end_in_one_leader() {
    for seed in 0..40 {
        let voters = [3, 4, 5, 7][usize::try_from(seed % 4).unwrap()];
        let all = ids(1..=voters + 1);
        let mut net = ensemble(seed, voters, 1, "");
        for id in &all {
            net.start(*id);
        }
        for _ in 0..40 {
            let id = i64::try_from(net.random(all.len() as u64)).unwrap() + 1;
            match net.random(4) {
                0 if net.nodes[&id].election.is_some() => net.kill(id),
                0 => net.start(id),
                _ => net.break_one(),
            }
            let pause = net.random(120);
            net.run(pause);
        }
        for id in &all {
            if net.nodes[id].election.is_none() {
                net.start(*id);
            }
        }
        let before: Vec<u32> = all.iter().map(|id| net.nodes[id].rounds).collect();
        net.settle(&all, SETTLE_MS_MAX);
        for (id, before) in all.iter().zip(before) {
            let rounds = net.nodes[id].rounds - before;
            assert!(
                rounds <= 3,
                "server {id} of seed {seed}: {rounds} further rounds"
            );
        }
    }
}

#[test]
fn a_healed_network_finds_its_leader_over_dead_connections() {
    for seed in 0..12 {
        let mut net = ensemble(seed, 5, 0, "");
        for id in 1..=5 {
            net.start(id);
        }
        let leader = net.settle(&ids(1..=5), SETTLE_MS_MAX);
        // The leader alone with one follower: three others go on.
        let with = leader % 5 + 1;
        let others: Vec<i64> = (1..=5).filter(|id| *id != leader && *id != with).collect();
        for other in &others {
            net.part(leader, *other);
            net.part(with, *other);
        }
        net.settle(&others, SETTLE_MS_MAX);
        net.run(20_000);
        net.heal();
        let now = net.settle(&ids(1..=5), 20_000);
        assert!(others.contains(&now));
    }
}

#[test]
fn an_ensemble_at_rest_says_nothing() {
    let mut net = ensemble(1, 3, 2, "");
    for id in 1..=5 {
        net.start(id);
    }
    net.settle(&ids(1..=5), SETTLE_MS_MAX);
    net.run(1_000);
    let sent = |net: &Net| net.nodes.values().map(|node| node.sent).sum::<u64>();
    let before = sent(&net);
    net.run(600_000);
    assert_eq!(sent(&net), before);
    for node in net.nodes.values() {
        assert_eq!(node.election.as_ref().unwrap().next_wake(), None);
    }
}

#[test]
fn a_lonely_server_asks_ever_more_rarely() {
    let mut net = ensemble(1, 3, 0, "");
    net.start(2);
    net.run(600_000);
    assert_eq!(net.nodes[&2].leader, None);
    let mut net = ensemble(1, 3, 0, "");
    net.start(1);
    net.start(2);
    net.part(1, 2);
    net.run(600_000);
    assert_eq!(net.nodes[&2].leader, None);
    assert!(net.nodes[&2].sent < 50, "{}", net.nodes[&2].sent);
}
