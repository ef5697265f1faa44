//! Peers that are not who they say they are, or are somebody else's.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::lone::{Lone, zxid};
use crate::ids::{LinkId, Zxid};
use crate::wire::quorum::PacketType as P;
use crate::zab::{Event, Output};

const NONE: [&str; 0] = [];

/// What was refused since the last call, and why.
fn refusals(lone: &mut Lone) -> Vec<String> {
    let reason = |output: Output| {
        let Output::Event(Event::PeerRefused { reason, .. }) = output else {
            return None;
        };
        Some(reason)
    };
    lone.said.drain(..).filter_map(reason).collect()
}

#[test]
fn impostor_of_a_server_that_answers_is_refused_and_disturbs_nobody() {
    let (mut lone, follower) = Lone::leading();
    // Even with a promise that would end this epoch.
    for accepted in [1, 9] {
        let impostor = lone.learner_of(P::FOLLOWER_INFO, 1, accepted);
        assert_eq!(lone.sent_on(impostor), NONE);
        // All those since it takes part.
        (0..9).for_each(|_| lone.hear_ping(follower));
        lone.pass(600);
        assert_eq!(lone.closed, [impostor]);
        assert_eq!(
            refusals(&mut lone),
            [
                "it says that it is server 1, which is connected from 10.0.0.9:9 and answers: do two \
              have this myid?"
            ]
        );
        lone.closed.clear();
    }
    let proposed = lone.propose();
    assert_eq!(lone.sent_on(follower), [format!("PROPOSAL {proposed}")]);
}

#[test]
fn learner_that_comes_again_replaces_its_silent_connection() {
    let (mut lone, follower) = Lone::leading();
    let again = lone.learner(1);
    lone.pass(600);
    assert!(lone.closed.is_empty(), "{:?}", lone.closed);
    lone.pass(1000);
    assert_eq!(lone.closed, [follower]);
    assert_eq!(lone.sent_on(again), ["LEADERINFO 0x200000000"]);
}

#[test]
fn learner_that_comes_again_is_let_in_when_its_old_connection_ends() {
    let (mut lone, follower) = Lone::leading();
    let again = lone.learner(1);
    lone.step(|zab| zab.link(follower, crate::link::LinkInput::Closed));
    lone.pass(600);
    assert_eq!(lone.sent_on(again), ["LEADERINFO 0x200000000"]);
}

#[test]
fn stranger_is_refused_but_not_at_once() {
    let (mut lone, _) = Lone::leading();
    let stranger = lone.learner(7);
    assert!(lone.closed.is_empty(), "it would come again at once");
    lone.pass(600);
    assert_eq!(lone.closed, [stranger]);
    assert_eq!(
        refusals(&mut lone),
        ["it says that it is server 7, which is none of this leader's server.N"]
    );
}

#[test]
fn promise_that_no_election_made_does_not_use_up_the_epochs() {
    let mut lone = Lone::new(3, 3, &[zxid(1, 1)]);
    let foreign = lone.learner_of(P::FOLLOWER_INFO, 1, i64::from(i32::MAX));
    let negative = lone.learner_of(P::FOLLOWER_INFO, 2, -1);
    lone.pass(600);
    assert_eq!(lone.closed, [foreign, negative]);
    assert_eq!(
        refusals(&mut lone),
        [
            "server 1 has promised itself to epoch 2147483647, this leader to 1: is it of another \
             ensemble?",
            "server 2 has promised itself to epoch -1, this leader to 1: is it of another ensemble?"
        ]
    );
    let far = lone.learner_of(P::FOLLOWER_INFO, 1, 1 << 20);
    lone.stored_all();
    assert_eq!(lone.sent_on(far), ["LEADERINFO 0x10000100000000"]);
}

#[test]
fn who_does_not_say_who_it_is_makes_room_for_others() {
    let (mut lone, follower) = Lone::leading();
    for link in 1000..1100 {
        lone.opened(LinkId(link));
    }
    let expected: Vec<LinkId> = (1000..1036).map(LinkId).collect();
    assert_eq!(lone.closed, expected);
    let proposed = lone.propose();
    assert_eq!(lone.sent_on(follower), [format!("PROPOSAL {proposed}")]);
    assert!(proposed > Zxid::ZERO);
}

#[test]
fn server_of_a_longer_history_than_a_leader_with_a_quorum_does_not_end_its_epoch() {
    for (epoch, last) in [(3, zxid(1, 7)), (2, zxid(2, 9))] {
        let (mut lone, follower) = Lone::leading();
        lone.looks((2, "b"), epoch, last);
        let foreign = lone.learner_of(P::FOLLOWER_INFO, 2, 5);
        assert_eq!(lone.sent_on(foreign), NONE);
        (0..9).for_each(|_| lone.hear_ping(follower));
        lone.pass(600);
        assert_eq!(lone.closed, [foreign]);
        assert_eq!(
            refusals(&mut lone),
            [format!(
                "server 2 has a history up to epoch {epoch} and {last}, this leader one up to epoch \
                 2 and 0x100000001, and a quorum that has it: is it of another ensemble?"
            )]
        );
        let proposed = lone.propose();
        assert_eq!(lone.sent_on(follower), [format!("PROPOSAL {proposed}")]);
    }
}

#[test]
fn server_of_this_history_with_a_later_promise_begins_the_next_epoch() {
    let (mut lone, _) = Lone::leading();
    lone.looks((2, "b"), 1, zxid(1, 1));
    lone.learner_of(P::FOLLOWER_INFO, 2, 5);
    assert_eq!(lone.heard_above(), ["Looking"]);
}
