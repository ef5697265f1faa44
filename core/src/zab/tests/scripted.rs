//! ZooKeeper's faults of synchronisation, each in its smallest form. Source: reliability B.1.

#![expect(
    clippy::indexing_slicing,
    reason = "a test may stop at what it did not expect"
)]

use alloc::vec;

use bytes::Bytes;

use super::lone::{Lone, zxid};
use crate::ids::{Epoch, Zxid};
use crate::lane::StoreOp;
use crate::link::LinkInput;
use crate::wire::quorum::{Packet, PacketType as P};
use crate::zab::Role;

const NONE: [&str; 0] = [];

#[test]
fn follower_promises_only_when_the_promise_is_durable() {
    let mut lone = Lone::new(1, 3, &[zxid(1, 1)]);
    let leader = lone.leader();
    assert_eq!(lone.sent_on(leader), ["FOLLOWERINFO 0x100000000"]);
    lone.hear(P::LEADER_INFO, zxid(2, 0));
    assert_eq!(lone.sent_on(leader), NONE);
    lone.stored_all();
    assert_eq!(lone.sent_on(leader), ["ACKEPOCH 0x100000001"]);
}

/// ZOOKEEPER-3911, 4643, 4646, 4785: the log, then the epoch, then the ACK.
#[test]
fn newleader_is_acked_when_log_and_epoch_are_durable_in_this_order() {
    let mut lone = Lone::new(1, 3, &[zxid(1, 1)]);
    let leader = lone.leader();
    lone.discover(2);
    lone.sent_on(leader);
    lone.hear(P::DIFF, zxid(1, 3));
    for counter in 2..=3 {
        lone.hear(P::PROPOSAL, zxid(1, counter));
        lone.hear(P::COMMIT, zxid(1, counter));
    }
    assert!(lone.ops.is_empty(), "nothing is written before NEWLEADER");
    lone.hear(P::NEW_LEADER, zxid(2, 0));
    let kinds: vec::Vec<_> = lone.ops.iter().map(|(_, op)| op.clone()).collect();
    assert!(matches!(kinds[0], StoreOp::Append { zxid: z, .. } if z == zxid(1, 2)));
    assert!(matches!(kinds[1], StoreOp::Append { zxid: z, .. } if z == zxid(1, 3)));
    let epoch = StoreOp::Epochs {
        accepted: None,
        current: Some(Epoch(2)),
    };
    assert_eq!(kinds[2..], [epoch]);
    lone.stored(2);
    assert_eq!(lone.sent_on(leader), NONE);
    lone.stored(1);
    assert_eq!(lone.sent_on(leader), ["ACK 0x200000000"]);
    assert_eq!(lone.heard_above(), NONE, "nobody is served before UPTODATE");
    lone.hear(P::UP_TO_DATE, Zxid(-1));
    assert_eq!(
        lone.heard_above(),
        [
            "deliver 0x100000002",
            "deliver 0x100000003",
            "Following",
            "Serve"
        ]
    );
    // What was committed is not acknowledged one by one.
    assert_eq!(lone.sent_on(leader), ["ACK 0x200000000"]);
}

/// ZOOKEEPER-4394, with 4685: proposals astride NEWLEADER, the first with its COMMIT after it.
#[test]
fn proposals_astride_newleader_are_committed_and_acked_after_it() {
    let mut lone = Lone::new(1, 3, &[zxid(1, 1)]);
    let leader = lone.leader();
    lone.discover(2);
    lone.sent_on(leader);
    lone.hear(P::DIFF, zxid(2, 1));
    lone.hear(P::PROPOSAL, zxid(2, 1));
    lone.hear(P::COMMIT, zxid(2, 1));
    lone.hear(P::PROPOSAL, zxid(2, 2));
    lone.hear(P::NEW_LEADER, zxid(2, 0));
    lone.hear(P::COMMIT, zxid(2, 2));
    lone.hear(P::PROPOSAL, zxid(2, 3));
    lone.hear(P::PING, zxid(2, 3));
    lone.stored_all();
    assert_eq!(lone.sent_on(leader), ["ACK 0x200000000"]);
    lone.hear(P::UP_TO_DATE, Zxid(-1));
    assert_eq!(
        lone.heard_above(),
        [
            "deliver 0x200000001",
            "deliver 0x200000002",
            "Following",
            "Serve"
        ]
    );
    assert_eq!(lone.sent_on(leader), ["ACK 0x200000000", "ACK 0x200000003"]);
    lone.hear(P::COMMIT, zxid(2, 3));
    assert_eq!(lone.heard_above(), ["deliver 0x200000003"]);
}

/// ZOOKEEPER-4712: what is on its way to the disk when a role ends is of no use to the next.
#[test]
fn confirmation_of_a_lost_role_acknowledges_nothing() {
    let mut lone = Lone::following();
    lone.hear(P::PROPOSAL, zxid(2, 1));
    let old = lone.leader();
    lone.step(|zab| zab.link(old, LinkInput::Closed));
    assert_eq!(lone.heard_above(), ["Looking"]);
    lone.vote(2);
    let leader = lone.leader();
    lone.stored_all();
    assert_eq!(lone.sent_on(leader), ["FOLLOWERINFO 0x200000000"]);
    // ZOOKEEPER-2845: but it is in the log, and the next leader must know.
    lone.discover(3);
    assert_eq!(lone.sent_on(leader), ["ACKEPOCH 0x200000001"]);
}

/// ZOOKEEPER-3642: a state that was loaded and not stored is not this server's.
#[test]
fn server_begins_anew_if_the_leader_is_lost_within_a_snap() {
    for stored in [false, true] {
        let mut lone = Lone::new(1, 3, &[zxid(1, 1)]);
        lone.discover(2);
        lone.hear(P::SNAP, zxid(1, 9));
        let leader = lone.leader();
        let bytes = Bytes::from_static(b"state");
        lone.step(|zab| zab.link(leader, LinkInput::Received(bytes)));
        assert_eq!(lone.heard_above(), ["SnapshotBegin", "SnapshotBytes"]);
        lone.step(|zab| zab.snapshot_loaded(Bytes::new()));
        if stored {
            lone.step(|zab| zab.snapshot_stored(zxid(1, 9)));
            assert_eq!(lone.ops[0].1, StoreOp::Reset { to: zxid(1, 9) });
        } else {
            assert!(lone.ops.is_empty(), "what was on disk stays");
        }
        lone.step(|zab| zab.link(leader, LinkInput::Closed));
        let expected: &[&str] = if stored { &[] } else { &["restart"] };
        assert_eq!(lone.heard_above(), expected);
    }
}

#[test]
fn newleader_after_a_snap_is_acked_when_state_log_and_epoch_are_durable() {
    let mut lone = Lone::new(1, 3, &[zxid(1, 1)]);
    let leader = lone.leader();
    lone.discover(2);
    lone.sent_on(leader);
    lone.hear(P::SNAP, zxid(1, 9));
    // What follows the state arrives with its end; the first is in it already.
    let mut rest = vec![];
    for (kind, of) in [
        (P::PROPOSAL, zxid(1, 9)),
        (P::COMMIT, zxid(1, 9)),
        (P::PROPOSAL, zxid(2, 1)),
        (P::COMMIT, zxid(2, 1)),
        (P::NEW_LEADER, zxid(2, 0)),
    ] {
        rest.extend_from_slice(&Packet::with_data(kind, of, Bytes::new()).to_bytes());
    }
    lone.step(|zab| zab.snapshot_loaded(rest.into()));
    assert!(lone.ops.is_empty());
    lone.step(|zab| zab.snapshot_stored(zxid(1, 9)));
    let ops: vec::Vec<_> = lone.ops.iter().map(|(_, op)| op.clone()).collect();
    assert_eq!(ops[0], StoreOp::Reset { to: zxid(1, 9) });
    assert!(matches!(ops[1], StoreOp::Append { zxid: z, .. } if z == zxid(2, 1)));
    assert!(matches!(ops[2], StoreOp::Epochs { .. }));
    lone.stored(2);
    assert_eq!(lone.sent_on(leader), NONE);
    lone.stored(1);
    assert_eq!(lone.sent_on(leader), ["ACK 0x200000000"]);
    lone.hear(P::UP_TO_DATE, Zxid(-1));
    assert_eq!(
        lone.heard_above(),
        ["SnapshotBegin", "deliver 0x200000001", "Following", "Serve"]
    );
}

#[test]
fn cut_of_what_the_tree_has_begins_anew_and_acknowledges_nothing() {
    let mut lone = Lone::new(1, 3, &[zxid(1, 1), zxid(1, 2)]);
    let leader = lone.leader();
    lone.discover(2);
    lone.sent_on(leader);
    lone.hear(P::TRUNC, zxid(1, 1));
    assert_eq!(lone.ops[0].1, StoreOp::Truncate { to: zxid(1, 1) });
    // Apache ZooKeeper sends it right behind the TRUNC.
    lone.hear(P::NEW_LEADER, zxid(2, 0));
    assert_eq!(lone.heard_above(), NONE);
    lone.stored_all();
    assert_eq!(lone.heard_above(), ["restart"]);
    assert_eq!(lone.sent_on(leader), NONE);
}

#[test]
fn cut_of_what_nobody_was_given_is_made_in_place() {
    let mut lone = Lone::following();
    lone.hear(P::PROPOSAL, zxid(2, 1));
    lone.stored_all();
    let old = lone.leader();
    lone.step(|zab| zab.link(old, LinkInput::Closed));
    lone.vote(2);
    lone.discover(3);
    lone.hear(P::TRUNC, zxid(1, 1));
    assert_eq!(lone.ops[0].1, StoreOp::Truncate { to: zxid(1, 1) });
    lone.hear(P::NEW_LEADER, zxid(3, 0));
    lone.stored_all();
    lone.hear(P::UP_TO_DATE, Zxid(-1));
    assert_eq!(lone.heard_above(), ["Looking", "Following", "Serve"]);
    lone.hear(P::PROPOSAL, zxid(3, 1));
    assert_eq!(lone.zab.role(), {
        let (leader, epoch) = (crate::ids::ServerId(2), Epoch(3));
        Role::Following { leader, epoch }
    });
}

/// ZOOKEEPER-4837: a cut that is not to be found is not made.
#[test]
fn cut_that_is_not_in_the_history_leads_to_the_whole_state() {
    let mut lone = Lone::new(1, 3, &[zxid(1, 1), zxid(1, 2)]);
    lone.discover(2);
    lone.hear(P::TRUNC, zxid(0, 7));
    assert!(lone.ops.is_empty());
    lone.vote(2);
    let leader = lone.leader();
    lone.discover(3);
    assert_eq!(
        lone.sent_on(leader),
        ["FOLLOWERINFO 0x200000000", "ACKEPOCH 0x1"]
    );
    // Nothing else than SNAP is taken then.
    lone.hear(P::DIFF, zxid(1, 2));
    assert!(lone.closed.contains(&leader));
}

#[test]
fn state_is_demanded_of_a_leader_of_long_standing_too() {
    let mut lone = Lone::following();
    lone.hear(P::PROPOSAL, zxid(2, 1));
    lone.stored_all();
    let old = lone.leader();
    lone.step(|zab| zab.link(old, LinkInput::Closed));
    lone.vote(2);
    lone.discover(2);
    lone.hear(P::TRUNC, zxid(0, 7));
    // The vote is still of the time before (2, 1).
    lone.vote_for(2, 2, zxid(1, 1));
    let leader = lone.leader();
    lone.discover(2);
    assert_eq!(
        lone.sent_on(leader),
        ["FOLLOWERINFO 0x200000000", "ACKEPOCH 0x1"]
    );
}

#[test]
fn commit_of_what_is_not_next_is_never_passed_over() {
    let mut lone = Lone::following();
    lone.hear(P::PROPOSAL, zxid(2, 1));
    lone.hear(P::PROPOSAL, zxid(2, 2));
    lone.hear(P::COMMIT, zxid(2, 2));
    assert_eq!(lone.heard_above(), ["restart"]);
}

#[test]
fn gap_in_the_proposals_ends_the_role() {
    let mut lone = Lone::following();
    lone.hear(P::PROPOSAL, zxid(2, 2));
    assert_eq!(lone.heard_above(), ["Looking"]);
    assert!(lone.ops.is_empty());
}

#[test]
fn leader_of_an_earlier_epoch_is_left() {
    let mut lone = Lone::following();
    let old = lone.leader();
    lone.step(|zab| zab.link(old, LinkInput::Closed));
    lone.vote(2);
    lone.hear(P::LEADER_INFO, zxid(1, 0));
    let leader = lone.leader();
    assert!(lone.closed.contains(&leader));
}

#[test]
fn observer_logs_and_delivers_what_it_is_told_and_acks_only_newleader() {
    let mut lone = Lone::new(4, 3, &[zxid(1, 1)]);
    let leader = lone.leader();
    assert_eq!(lone.sent_on(leader), ["OBSERVERINFO 0x100000000"]);
    lone.discover(2);
    lone.hear(P::DIFF, zxid(1, 2));
    lone.hear(P::PROPOSAL, zxid(1, 2));
    lone.hear(P::COMMIT, zxid(1, 2));
    lone.hear(P::INFORM, zxid(2, 1));
    lone.hear(P::NEW_LEADER, zxid(2, 0));
    lone.stored_all();
    lone.hear(P::UP_TO_DATE, Zxid(-1));
    lone.hear(P::INFORM, zxid(2, 2));
    lone.stored_all();
    assert_eq!(
        lone.sent_on(leader),
        ["ACKEPOCH 0x100000001", "ACK 0x200000000", "ACK 0x200000000"]
    );
    assert_eq!(
        lone.heard_above(),
        [
            "deliver 0x100000002",
            "deliver 0x200000001",
            "Observing",
            "Serve",
            "deliver 0x200000002"
        ]
    );
}

#[test]
fn learner_gives_a_silent_leader_up() {
    let mut lone = Lone::following();
    lone.pass(4800);
    lone.hear(P::PING, zxid(1, 1));
    assert_eq!(lone.heard_above(), ["PingDue"]);
    lone.pass(4800);
    assert_eq!(lone.heard_above(), NONE);
    lone.pass(300);
    assert_eq!(lone.heard_above(), ["Looking"]);
}

#[test]
fn leader_counts_itself_only_when_its_store_has_confirmed() {
    let mut lone = Lone::new(3, 3, &[zxid(1, 1)]);
    let follower = lone.learner(1);
    assert_eq!(lone.sent_on(follower), NONE, "its promise is not durable");
    lone.stored_all();
    assert_eq!(lone.sent_on(follower), ["LEADERINFO 0x200000000"]);
    lone.promises(follower, 1, zxid(1, 1));
    assert_eq!(
        lone.sent_on(follower),
        ["DIFF 0x100000001", "NEWLEADER 0x200000000"]
    );
    lone.acks(follower, zxid(2, 0));
    assert_eq!(lone.heard_above(), NONE, "its epoch is not durable");
    lone.stored_all();
    assert_eq!(lone.heard_above(), ["Leading", "Serve"]);
    assert_eq!(lone.sent_on(follower), ["UPTODATE 0xffffffffffffffff"]);
    let first = lone.propose();
    assert_eq!(first, zxid(2, 1));
    lone.acks(follower, first);
    assert_eq!(lone.heard_above(), NONE, "its log is not durable");
    lone.stored_all();
    assert_eq!(lone.heard_above(), ["deliver 0x200000001"]);
    assert_eq!(
        lone.sent_on(follower),
        ["PROPOSAL 0x200000001", "COMMIT 0x200000001"]
    );
}

#[test]
fn uncommitted_end_of_the_leaders_log_is_committed_with_its_epoch() {
    let mut lone = Lone::new(3, 3, &[zxid(1, 1), zxid(1, 2)]);
    let follower = lone.learner(1);
    lone.stored_all();
    lone.promises(follower, 1, zxid(1, 1));
    lone.sent_on(follower);
    lone.stored_all();
    assert_eq!(lone.zab.status().committed, Zxid::ZERO);
    lone.acks(follower, zxid(2, 0));
    assert_eq!(lone.zab.status().committed, zxid(1, 2));
}

/// ZOOKEEPER-4394 from the other side: followers before 3.9.3 crash on a COMMIT between NEWLEADER
/// and UPTODATE.
#[test]
fn what_is_not_committed_is_held_back_until_uptodate() {
    let (mut lone, follower) = Lone::leading();
    let first = lone.propose();
    lone.stored_all();
    let late = lone.learner(2);
    lone.promises(late, 1, zxid(1, 1));
    let second = lone.propose();
    lone.acks(follower, first);
    assert_eq!(
        lone.sent_on(late),
        [
            "LEADERINFO 0x200000000",
            "DIFF 0x100000001",
            "NEWLEADER 0x200000000"
        ]
    );
    // ZOOKEEPER-4685: a server before 3.8.5 may acknowledge something else first.
    lone.acks(late, zxid(1, 1));
    assert_eq!(lone.sent_on(late), NONE);
    lone.acks(late, zxid(2, 0));
    assert_eq!(
        lone.sent_on(late),
        [
            "UPTODATE 0xffffffffffffffff",
            "PROPOSAL 0x200000001",
            "COMMIT 0x200000001",
            "PROPOSAL 0x200000002"
        ]
    );
    lone.stored_all();
    lone.acks(late, second);
    assert_eq!(lone.sent_on(late), ["COMMIT 0x200000002"]);
}

/// A follower that comes back with a proposal that nobody knows to be committed: its ACK of
/// NEWLEADER is also that of the proposal, and UPTODATE waits until it is committed.
#[test]
fn returning_follower_acknowledges_what_it_has_with_newleader() {
    let (mut lone, follower) = Lone::leading();
    let first = lone.propose();
    lone.step(|zab| zab.link(follower, LinkInput::Closed));
    let again = lone.learner_of(P::FOLLOWER_INFO, 1, 2);
    lone.promises(again, 2, first);
    lone.acks(again, zxid(2, 0));
    lone.heard_above();
    assert_eq!(
        lone.sent_on(again),
        [
            "LEADERINFO 0x200000000",
            "DIFF 0x200000001",
            "NEWLEADER 0x200000000"
        ]
    );
    lone.stored_all();
    assert_eq!(lone.heard_above(), ["deliver 0x200000001"]);
    assert_eq!(lone.sent_on(again), ["UPTODATE 0xffffffffffffffff"]);
}

#[test]
fn observer_is_told_only_what_is_committed() {
    let (mut lone, follower) = Lone::leading();
    let observer = lone.learner_of(P::OBSERVER_INFO, 4, 1);
    lone.promises(observer, 1, zxid(1, 1));
    let first = lone.propose();
    lone.acks(observer, zxid(2, 0));
    lone.sent_on(observer);
    lone.stored_all();
    assert_eq!(lone.sent_on(observer), NONE);
    lone.acks(follower, first);
    assert_eq!(lone.sent_on(observer), ["INFORM 0x200000001"]);
}

#[test]
fn follower_that_is_ahead_is_refused_before_the_epoch_is_agreed() {
    let mut lone = Lone::new(3, 3, &[zxid(1, 1)]);
    let follower = lone.learner(1);
    lone.stored_all();
    lone.promises(follower, 1, zxid(1, 2));
    assert!(lone.closed.contains(&follower));
    assert_eq!(lone.zab.status().learners, []);
}

#[test]
fn same_server_takes_the_place_of_its_earlier_connection() {
    let (mut lone, follower) = Lone::leading();
    let again = lone.learner_of(P::FOLLOWER_INFO, 1, 2);
    // Only when that one is silent: see `hostile`.
    lone.pass(1600);
    assert!(lone.closed.contains(&follower) && !lone.closed.contains(&again));
    assert_eq!(lone.heard_above(), ["LearnerGone"]);
}

#[test]
fn sync_waits_for_a_quorum_that_still_follows() {
    let (mut lone, follower) = Lone::leading();
    lone.step(crate::zab::Zab::sync);
    assert_eq!(lone.heard_above(), NONE);
    let pong = Packet::with_data(P::PING, zxid(1, 1), Bytes::new());
    lone.receive(follower, &pong);
    assert_eq!(lone.heard_above(), ["Synced"]);
    // And for what was proposed before it.
    let first = lone.propose();
    lone.step(|zab| zab.sync_learner(follower));
    lone.sent_on(follower);
    lone.receive(follower, &pong);
    lone.stored_all();
    assert_eq!(lone.sent_on(follower), NONE);
    lone.acks(follower, first);
    assert_eq!(lone.sent_on(follower), ["COMMIT 0x200000001", "SYNC 0x0"]);
}

#[test]
fn leader_without_followers_gives_up() {
    let (mut lone, follower) = Lone::leading();
    lone.step(|zab| zab.link(follower, LinkInput::Closed));
    lone.heard_above();
    lone.pass(1100);
    assert_eq!(lone.heard_above(), ["Looking"]);
}

#[test]
fn silent_follower_is_given_up() {
    let (mut lone, follower) = Lone::leading();
    lone.pass(4400);
    assert_eq!(lone.heard_above(), NONE);
    lone.pass(2000);
    assert_eq!(lone.heard_above(), ["LearnerGone", "Looking"]);
    assert!(lone.closed.contains(&follower));
}

/// ZOOKEEPER-2247: a leader whose disk stands still holds everyone up.
#[test]
fn leader_whose_log_stands_still_gives_up() {
    let (mut lone, follower) = Lone::leading();
    let first = lone.propose();
    lone.acks(follower, first);
    for _ in 0..6 {
        lone.pass(1000);
        let pong = Packet::with_data(P::PING, first, Bytes::new());
        lone.receive(follower, &pong);
    }
    assert_eq!(lone.heard_above(), ["Looking"]);
}

#[test]
fn slow_acknowledgement_of_what_is_committed_counts_as_a_sign() {
    let mut lone = Lone::new(3, 3, &[zxid(1, 1)]);
    let one = lone.lead(zxid(1, 1));
    let two = lone.learner(2);
    lone.promises(two, 1, zxid(1, 1));
    lone.acks(two, zxid(2, 0));
    let first = lone.propose();
    lone.stored_all();
    lone.acks(one, first);
    lone.pass(3000);
    lone.acks(two, first);
    lone.acks(one, first);
    lone.pass(3000);
    assert!(!lone.closed.contains(&two));
}

#[test]
fn learner_promised_to_a_later_epoch_begins_a_new_one() {
    let mut lone = Lone::new(3, 3, &[zxid(1, 1)]);
    lone.lead(zxid(1, 1));
    lone.learner_of(P::FOLLOWER_INFO, 2, 3);
    assert_eq!(lone.heard_above(), ["Looking"]);
}

#[test]
fn state_is_sent_to_who_has_nothing_in_common_and_the_rest_after_it() {
    let (mut lone, follower) = Lone::leading();
    let late = lone.learner(2);
    lone.promises(late, 0, Zxid(-1));
    assert_eq!(lone.heard_above(), ["SnapshotWanted"]);
    lone.step(|zab| zab.snapshot_begin(late, zxid(1, 1)));
    let first = lone.propose();
    lone.acks(follower, first);
    lone.stored_all();
    let second = lone.propose();
    let room = lone.zab.snapshot_room(late);
    assert!(room.is_some_and(|room| room > 0));
    lone.step(|zab| zab.snapshot_end(late));
    assert_eq!(
        lone.sent_on(late),
        [
            "LEADERINFO 0x200000000",
            "SNAP 0x100000001",
            "PROPOSAL 0x200000001",
            "COMMIT 0x200000001",
            "NEWLEADER 0x200000000"
        ]
    );
    lone.acks(late, zxid(2, 0));
    assert_eq!(
        lone.sent_on(late),
        ["UPTODATE 0xffffffffffffffff", "PROPOSAL 0x200000002"]
    );
    assert_eq!(second, zxid(2, 2));
    assert_eq!(lone.zab.snapshot_room(late), None);
}
