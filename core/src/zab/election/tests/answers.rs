//! What is said on connections, and what a decided server says.

use alloc::vec::Vec;

use super::bench::{Bench, frame_with, initial, is_close};
use super::*;
use crate::link::{LinkOutput, Port};
use crate::zab::io::Output;

#[test]
fn a_peer_that_does_not_read_gets_the_newest_only() {
    let mut bench = Bench::looking(1);
    let link = bench.accept(3);
    let mut unread: usize = 0;
    // Every vote is better than the one before, and told to everyone.
    for zxid in 6..2_000 {
        bench.hear(link, State::LOOKING, vote(3, zxid, 1, 1));
        for output in bench.outputs() {
            if let Output::Link(_, LinkOutput::Send(bytes)) = output {
                unread += bytes.len();
            }
        }
    }
    assert!(unread <= 64 * 1024, "{unread} bytes");
    bench.link(link, LinkInput::Flushed(unread));
    assert_eq!(bench.said(), [(link, State::LOOKING, vote(3, 1_999, 1, 1))]);
    bench.link(link, LinkInput::Flushed(1_000));
    assert_eq!(bench.said(), []);
}

#[test]
fn the_vote_is_told_again_at_growing_pauses() {
    let mut bench = Bench::looking(1);
    let link = bench.accept(3);
    // So that the connection is not taken for dead: something comes from it.
    bench.outputs();
    let mut told_ms = Vec::new();
    for ms in 1..=7_000 {
        bench.wait(1);
        if bench.said().iter().any(|(to, ..)| *to == link) {
            told_ms.push(ms);
        }
    }
    assert_eq!(told_ms, [200, 600, 1_400, 3_000, 6_200]);
}

#[test]
fn both_servers_that_wait_for_nobody_decide_at_once() {
    let mut bench = Bench::new(2);
    bench.meet(3);
    bench.look(voter(5, 1));
    let dials = bench.dials();
    bench.open(dials[0].0, 1);
    bench.hear(dials[0].0, State::LOOKING, vote(1, 5, 1, 1));
    bench.hear(dials[0].0, State::LOOKING, vote(2, 5, 1, 1));
    // Server 3 may yet be better.
    assert_eq!(bench.election.decision(), None);
    // It refuses.
    bench.link(dials[1].0, LinkInput::Closed);
    assert_eq!(bench.election.decision(), Some(vote(2, 5, 1, 1)));
    assert_eq!(bench.election.decision(), None);
    assert_eq!(bench.election.next_wake(), None);
}

#[test]
fn a_server_that_was_never_met_is_waited_for() {
    let mut bench = Bench::new(2);
    bench.look(voter(5, 1));
    let dials = bench.dials();
    bench.open(dials[0].0, 1);
    bench.hear(dials[0].0, State::LOOKING, vote(2, 5, 1, 1));
    // It refuses: perhaps it starts a moment after this one.
    bench.link(dials[1].0, LinkInput::Closed);
    assert_eq!(bench.election.decision(), None);
    let three = bench.accept(3);
    bench.hear(three, State::LOOKING, vote(3, 5, 1, 1));
    assert_eq!(bench.election.decision(), None);
    bench.hear(dials[0].0, State::LOOKING, vote(3, 5, 1, 1));
    bench.wait(200);
    assert_eq!(bench.election.decision(), Some(vote(3, 5, 1, 1)));
}

#[test]
fn a_decided_server_answers_those_who_look_with_what_was_decided() {
    let mut bench = Bench::new(2);
    bench.meet(3);
    bench.look(voter(5, 1));
    let dials = bench.dials();
    bench.open(dials[0].0, 1);
    bench.hear(dials[0].0, State::LOOKING, vote(1, 5, 1, 1));
    bench.hear(dials[0].0, State::LOOKING, vote(2, 5, 1, 1));
    bench.link(dials[1].0, LinkInput::Closed);
    assert_eq!(bench.election.decision(), Some(vote(2, 5, 1, 1)));
    bench.outputs();
    // Server 3 comes, with more.
    let three = bench.accept(3);
    bench.said();
    bench.hear(three, State::LOOKING, vote(3, 9, 1, 1));
    assert_eq!(bench.said(), [(three, State::LEADING, vote(2, 5, 1, 1))]);
    // Its connection stays, and it is told when the epoch is another.
    bench.election.established(Epoch(2));
    assert!(bench.election.next_wake().is_some());
    bench.wait(0);
    let said = bench.said();
    assert!(
        said.contains(&(three, State::LEADING, vote(2, 5, 1, 2))),
        "{said:?}"
    );
    assert_eq!(bench.election.next_wake(), None);
    // Those that follow are not answered.
    bench.hear(three, State::FOLLOWING, vote(2, 5, 1, 2));
    assert_eq!(bench.said(), []);
    // An observer is told the round of this server.
    let observer = bench.accept(4);
    bench.outputs();
    bench.hear(
        observer,
        State::LOOKING,
        Standing::Observer.first_vote(ServerId(4), 9),
    );
    assert_eq!(bench.said(), [(observer, State::LEADING, vote(2, 5, 1, 2))]);
}

#[test]
fn the_same_is_not_answered_with_the_same_at_once() {
    let mut bench = Bench::looking(1);
    let observer = bench.accept(4);
    let asks = Standing::Observer.first_vote(ServerId(4), 3);
    bench.outputs();
    for _ in 0..100 {
        bench.hear(observer, State::LOOKING, asks);
    }
    assert_eq!(bench.said().len(), 1);
    bench.wait(100);
    bench.outputs();
    bench.hear(observer, State::LOOKING, asks);
    assert_eq!(bench.said().len(), 1);
    // Who has a leader needs no answer.
    bench.hear(observer, State::OBSERVING, vote(3, 7, 1, 1));
    assert_eq!(bench.said(), []);
    // Something else is answered.
    bench.hear(observer, State::LOOKING, Vote { round: 4, ..asks });
    assert_eq!(bench.said().len(), 1);
}

#[test]
fn a_leader_hears_of_electors_that_look_again() {
    let mut bench = Bench::new(2);
    bench.meet(3);
    bench.look(voter(5, 1));
    let dials = bench.dials();
    let one = dials[0].0;
    bench.open(one, 1);
    bench.link(dials[1].0, LinkInput::Closed);
    bench.hear(one, State::LOOKING, vote(1, 5, 1, 1));
    bench.hear(one, State::LOOKING, vote(2, 5, 1, 1));
    assert!(bench.election.decision().is_some());
    // The same again says nothing, nor does somebody who did not vote and may yet come.
    bench.hear(one, State::LOOKING, vote(2, 5, 1, 1));
    let three = bench.accept(3);
    bench.hear(three, State::LOOKING, vote(3, 4, 2, 1));
    assert_eq!(bench.election.voter_returned(), None);
    bench.hear(one, State::LOOKING, vote(3, 5, 1, 1));
    assert_eq!(bench.election.voter_returned(), Some(ServerId(1)));
    bench.hear(one, State::LOOKING, vote(1, 5, 2, 1));
    assert_eq!(bench.election.voter_returned(), None);
}

/// Three servers start at once; the second finds the third not listening yet and decides without
/// it, the first has not decided and goes over to the third when it comes.
#[test]
fn a_leader_hears_of_one_that_came_late_with_a_better_vote() {
    let mut bench = Bench::new(2);
    bench.look(voter(5, 1));
    let dials = bench.dials();
    let one = dials[0].0;
    bench.open(one, 1);
    bench.link(dials[1].0, LinkInput::Closed);
    bench.hear(one, State::LOOKING, vote(1, 5, 1, 1));
    bench.hear(one, State::LOOKING, vote(2, 5, 1, 1));
    assert!(bench.election.decision().is_some());
    let three = bench.accept(3);
    bench.hear(three, State::LOOKING, vote(3, 5, 1, 1));
    bench.hear(one, State::LOOKING, vote(3, 5, 1, 1));
    let returned = core::iter::from_fn(|| bench.election.voter_returned());
    assert_eq!(returned.collect::<Vec<_>>(), [ServerId(1), ServerId(3)]);
}

#[test]
fn a_designated_leader_needs_no_election() {
    let mut bench = Bench::looking(1);
    let link = bench.accept(3);
    bench.outputs();
    bench
        .election
        .designate(vote(3, 7, -1, -1), State::FOLLOWING);
    assert_eq!(bench.election.decision(), None);
    bench.wait(60_000);
    assert_eq!(bench.said(), []);
    bench.hear(link, State::LOOKING, vote(3, 9, 4, 1));
    assert_eq!(bench.said(), [(link, State::FOLLOWING, vote(3, 7, -1, -1))]);
    // One without a vote compares what several say: it is told this server's round.
    let observer = bench.accept(4);
    bench.outputs();
    let asks = Standing::Observer.first_vote(ServerId(4), 9);
    bench.hear(observer, State::LOOKING, asks);
    assert_eq!(
        bench.said(),
        [(observer, State::FOLLOWING, vote(3, 7, 1, -1))]
    );
    bench.election.established(Epoch(3));
    assert_eq!(bench.election.vote(), Some(&vote(3, 7, -1, 3)));
}

#[test]
fn an_observer_waits_before_it_looks_again() {
    let mut options = options(4, membership(3, 2, ""));
    options.observer = true;
    let mut delays = Vec::new();
    for entropy in 0..20 {
        let mut out = Outbox::new(Instant(1_000_000));
        let election = Election::new(&options, entropy, &mut out);
        let mut bench = Bench {
            election,
            out,
            accepted: 0,
        };
        bench.look(Standing::Observer);
        // Not the first time.
        assert_eq!(bench.dials().len(), 3);
        bench.election.designate(vote(3, 7, 1, 1), State::OBSERVING);
        bench.look(Standing::Observer);
        assert_eq!(bench.election.decision(), None);
        let wake = bench.election.next_wake().unwrap();
        delays.push(wake.micros_since(bench.out.now) / 1000);
        bench.wait(200);
        assert!(bench.election.vote().is_some_and(|vote| vote.round == 2));
    }
    assert!(delays.iter().all(|ms| *ms <= 200), "{delays:?}");
    // One that was given a vote does not wait.
    let mut bench = Bench::of(&options);
    bench.election.designate(vote(3, 7, 1, 1), State::OBSERVING);
    bench.look(voter(5, 1));
    assert_eq!(bench.election.vote(), Some(&vote(4, 5, 1, 1)));
    delays.sort_unstable();
    delays.dedup();
    assert!(delays.len() > 10, "{delays:?}");
}

#[test]
fn a_newer_membership_is_taken_from_a_notification_while_looking() {
    let newer = membership(3, 1, "version=100000002\n");
    let newer_frame = frame_with(State::LOOKING, vote(3, 9, 1, 1), &newer);
    let mut options = options(1, membership(3, 2, ""));
    for (enabled, looks, taken) in [
        (true, true, true),
        (false, true, false),
        (true, false, false),
    ] {
        options.reconfig_enabled = enabled;
        let mut bench = Bench::of(&options);
        bench.look(voter(5, 1));
        let link = bench.accept(3);
        if !looks {
            bench.election.designate(vote(3, 7, 1, 1), State::FOLLOWING);
        }
        bench.receive(link, &newer_frame);
        assert_eq!(bench.election.gossiped(), taken.then(|| newer.clone()));
        assert_eq!(bench.election.gossiped(), None);
    }
    // An older one, or no membership at all, is a vote like any other.
    options.reconfig_enabled = true;
    for version in [0x1_0000_0002, 0x1_0000_0003] {
        options.committed.version = version;
        let mut bench = Bench::of(&options);
        bench.look(voter(5, 1));
        let link = bench.accept(3);
        bench.receive(link, &newer_frame);
        assert_eq!(bench.election.gossiped(), None);
        assert_eq!(bench.election.vote(), Some(&vote(3, 9, 1, 1)));
    }
}

#[test]
fn another_membership_begins_everything_anew() {
    let mut bench = Bench::looking(1);
    let link = bench.accept(3);
    bench.hear(link, State::LOOKING, vote(3, 9, 1, 1));
    bench.outputs();
    // Only the version is another: nothing happens.
    let same = membership(3, 2, "version=100000001\n");
    bench.election.memberships(same, None, &mut bench.out);
    assert_eq!(bench.outputs(), []);
    assert!(bench.election.owns(link));

    let other = membership(4, 0, "version=100000002\n");
    bench.election.memberships(other, None, &mut bench.out);
    assert!(!bench.election.owns(link));
    let outputs = bench.outputs();
    assert!(outputs.iter().any(|output| is_close(output, link)));
    let listens = |output: &Output| matches!(output, Output::Listen(Port::Election, _));
    assert!(outputs.iter().any(listens));
    bench.out.outputs = outputs;
    assert_eq!(bench.dials().len(), 3);
    assert_eq!(bench.election.vote(), Some(&vote(1, 5, 2, 1)));
}

#[test]
fn a_pending_membership_is_known_without_dropping_connections() {
    let mut bench = Bench::looking(1);
    let link = bench.accept(3);
    bench.outputs();
    let committed = membership(3, 2, "");
    let pending = membership(3, 3, "version=100000002\n");
    bench
        .election
        .memberships(committed, Some(pending), &mut bench.out);
    assert!(bench.election.owns(link));
    assert_eq!(bench.outputs(), []);
}

#[test]
fn what_java_servers_said_to_one_that_restarted_leads_it_back() {
    // A capture of three servers of ZooKeeper 3.8.0; the first words are of an earlier election.
    let mut bench = Bench::new(1);
    bench.look(voter(0, 0));
    let three = bench.accept(3);
    bench.hear(three, State::LOOKING, vote(3, 0, 1, 0));
    let two = bench.accept(2);
    bench.hear(two, State::LOOKING, vote(3, 0, 1, 0));
    assert_eq!(bench.election.decision(), None);
    bench.hear(three, State::LEADING, vote(3, 0, 1, 1));
    assert_eq!(bench.election.decision(), None);
    bench.hear(two, State::FOLLOWING, vote(3, 0, 1, 1));
    assert_eq!(bench.election.decision(), Some(vote(3, 0, 1, 1)));

    // The same server, with more than the others: they have a leader of another epoch.
    let mut bench = Bench::new(3);
    bench.look(voter(0x1_0000_0035, 1));
    let dials = bench.dials();
    let (one, two) = (dials[0].0, dials[1].0);
    bench.open(one, 1);
    bench.open(two, 2);
    bench.hear(one, State::LOOKING, vote(2, 0x1_0000_0033, 1, 1));
    bench.hear(two, State::LOOKING, vote(2, 0x1_0000_0033, 1, 1));
    assert_eq!(bench.election.decision(), None);
    bench.hear(one, State::FOLLOWING, vote(2, 0x1_0000_0033, 1, 2));
    assert_eq!(bench.election.decision(), None);
    bench.hear(two, State::LEADING, vote(2, 0x1_0000_0033, 1, 2));
    assert_eq!(
        bench.election.decision(),
        Some(vote(2, 0x1_0000_0033, 1, 2))
    );
}

#[test]
fn a_leader_whose_connection_is_gone_is_not_joined() {
    for gone in [false, true] {
        let mut bench = Bench::looking(1);
        let (two, three) = (bench.accept(2), bench.accept(3));
        bench.hear(three, State::LEADING, vote(3, 5, 4, 2));
        if gone {
            bench.link(three, LinkInput::Closed);
        }
        bench.hear(two, State::FOLLOWING, vote(3, 5, 4, 2));
        assert_eq!(bench.election.decision().is_none(), gone);
    }
}

#[test]
fn hostile_bytes_are_survived() {
    let mut state: u64 = 1;
    let mut random = move |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % below
    };
    let mut options = options(2, membership(3, 2, ""));
    options.reconfig_enabled = true;
    let mut bench = Bench::of(&options);
    for turn in 0..3_000_u64 {
        let from = i64::try_from(random(6)).unwrap();
        let link = bench.stranger(from);
        let mut bytes = initial(from, "10.0.0.9").to_vec();
        for _ in 0..random(4) {
            let number = |random: &mut dyn FnMut(u64) -> u64| match random(4) {
                0 => i64::MIN,
                1 => i64::MAX,
                2 => -1,
                _ => i64::try_from(random(4)).unwrap(),
            };
            let any = vote(
                number(&mut random),
                number(&mut random),
                number(&mut random),
                number(&mut random),
            );
            let state = State(i32::try_from(random(5)).unwrap());
            let more = format!("version={:x}\n", random(9));
            let members = membership(i64::try_from(random(4)).unwrap() + 1, 1, &more);
            bytes.extend(frame_with(state, any, &members));
        }
        match random(4) {
            0 => bytes.truncate(usize::try_from(random(bytes.len() as u64)).unwrap()),
            1 => {
                let at = usize::try_from(random(bytes.len() as u64)).unwrap();
                bytes[at] ^= 1 << random(8);
            }
            _ => {}
        }
        bench.receive(link, &bytes);
        match random(12) {
            0 => bench.look(voter(5, 1)),
            1 => bench.look(Standing::Observer),
            2 => bench.link(link, LinkInput::Closed),
            3 => bench.wait(random(20_000)),
            4 => bench.link(link, LinkInput::Flushed(usize::MAX)),
            5 => bench.look(Standing::Untrusted { epoch: Epoch(0) }),
            6 if turn % 9 == 0 => {
                if let Some(heard) = bench.election.gossiped() {
                    bench.election.memberships(heard, None, &mut bench.out);
                }
            }
            _ => {}
        }
        for (link, _) in bench.dials() {
            match random(3) {
                0 => bench.link(link, LinkInput::Closed),
                1 => bench.open(link, from),
                _ => {}
            }
        }
        bench.election.decision();
        bench.election.voter_returned();
    }
    // Whoever is left looks, and hears.
    bench
        .election
        .memberships(membership(3, 0, "version=ff\n"), None, &mut bench.out);
    bench.look(voter(5, 1));
    let link = bench.accept(3);
    bench.hear(link, State::LOOKING, vote(3, 7, i64::MAX, 7));
    assert_eq!(bench.election.vote(), Some(&vote(3, 7, i64::MAX, 7)));
}
