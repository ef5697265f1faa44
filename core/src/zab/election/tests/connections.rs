//! Who keeps which connection, and what is done about those that are no peers.

use alloc::vec;
use alloc::vec::Vec;

use super::bench::{Bench, frame, initial, is_close};
use super::*;
use crate::link::{LinkOutput, Port};
use crate::zab::io::Output;

#[test]
fn a_server_listens_where_its_membership_says() {
    let mut options = options(2, membership(3, 0, ""));
    let endpoint = |host: &str| Endpoint {
        host: host.into(),
        port: 3888,
    };
    let expected = Output::Listen(Port::Election, vec![endpoint("10.0.0.2")]);
    assert_eq!(Bench::of(&options).outputs(), [expected]);
    options.listen_on_all_ips = true;
    let expected = Output::Listen(Port::Election, vec![endpoint("0.0.0.0")]);
    assert_eq!(Bench::of(&options).outputs(), [expected]);
}

#[test]
fn a_server_that_no_membership_names_listens_where_the_last_one_said() {
    let own = Endpoint {
        host: "10.0.0.9".into(),
        port: 3888,
    };
    let mut options = options(9, membership(3, 0, ""));
    options.election = vec![own.clone()];
    let mut bench = Bench::of(&options);
    let expected = Output::Listen(Port::Election, vec![own]);
    assert_eq!(bench.outputs(), [expected]);
    bench.look(Standing::NonVoter {
        zxid: Zxid(5),
        epoch: Epoch(1),
    });
    let link = bench.dials()[0].0;
    bench.open(link, 1);
    let first = bench.outputs().swap_remove(0);
    let initial = initial(9, "10.0.0.9");
    assert_eq!(first, Output::Link(link, LinkOutput::Send(initial)));
}

#[test]
fn who_looks_connects_to_every_other_voter_once() {
    let mut bench = Bench::new(2);
    bench.look(voter(5, 1));
    let dials = bench.dials();
    let to: Vec<&str> = dials.iter().map(|(_, to)| to.as_str()).collect();
    assert_eq!(to, ["10.0.0.1:3888", "10.0.0.3:3888"]);
    bench.look(voter(5, 1));
    bench.wait(4_000);
    assert_eq!(bench.dials(), []);
    assert!(dials.iter().all(|(link, _)| bench.election.owns(*link)));
    assert!(!bench.election.owns(LinkId(1)));
}

#[test]
fn the_higher_id_keeps_the_connection_that_it_made() {
    let mut bench = Bench::new(2);
    bench.look(voter(5, 1));
    let link = bench.dials()[0].0;
    bench.open(link, 1);
    let outputs = bench.outputs();
    let own = Output::Link(link, LinkOutput::Send(initial(2, "10.0.0.2")));
    let first = frame(State::LOOKING, vote(2, 5, 1, 1));
    let first = Output::Link(link, LinkOutput::Send(first));
    assert_eq!(outputs, [own, first]);
}

#[test]
fn a_server_without_an_address_says_its_id_only() {
    for (me, multi_address, expected) in [
        (9, false, 9_i64.to_be_bytes().to_vec()),
        (2, true, {
            let mut initial = initial(2, "10.0.0.2").to_vec();
            initial[7] = 1;
            initial
        }),
    ] {
        let mut options = options(me, membership(3, 0, ""));
        options.multi_address = multi_address;
        let mut bench = Bench::of(&options);
        bench.look(voter(5, 1));
        let link = bench.dials()[0].0;
        bench.open(link, 1);
        let first = bench.outputs().swap_remove(0);
        assert_eq!(first, Output::Link(link, LinkOutput::Send(expected.into())));
    }
}

#[test]
fn a_connection_that_is_closed_at_once_is_not_made_ever_more_often() {
    let mut bench = Bench::new(2);
    bench.look(voter(5, 1));
    let mut calls = 0;
    for _ in 0..20_000 {
        for (link, to) in bench.dials() {
            if to == "10.0.0.1:3888" {
                calls += 1;
                bench.open(link, 1);
                bench.link(link, LinkInput::Closed);
            }
        }
        bench.wait(1);
    }
    assert_eq!(calls, 12);
}

#[test]
fn a_peer_that_takes_a_call_and_dies_is_soon_known_to_be_absent() {
    for (peer, connecting_ms, again_ms) in [(1, 0, 10), (3, 0, 10), (3, 50, 210)] {
        let mut bench = Bench::new(2);
        bench.look(voter(5, 1));
        let to = format!("10.0.0.{peer}:3888");
        let dials = bench.dials();
        let call = dials.iter().find(|(_, called)| *called == to).unwrap().0;
        bench.wait(connecting_ms);
        bench.open(call, peer);
        if peer == 1 {
            bench.link(call, LinkInput::Closed);
        }
        bench.outputs();
        bench.wait(again_ms - 1);
        assert_eq!(bench.dials(), []);
        bench.wait(1);
        assert_eq!(bench.dials()[0].1, to);
    }
}

#[test]
fn the_lower_id_says_who_it_is_and_is_called_back() {
    let mut bench = Bench::new(2);
    bench.look(voter(5, 1));
    let link = bench.dials()[1].0;
    bench.open(link, 3);
    let own = Output::Link(link, LinkOutput::Send(initial(2, "10.0.0.2")));
    let close = Output::Link(link, LinkOutput::Close);
    assert_eq!(bench.outputs(), [own, close]);
    assert!(!bench.election.owns(link));

    let link = bench.accept(3);
    assert_eq!(bench.said(), [(link, State::LOOKING, vote(2, 5, 1, 1))]);
}

#[test]
fn a_lower_id_that_connects_is_called_back_where_it_says_it_is() {
    for (host, expected) in [("10.7.7.7", "10.7.7.7:3888"), ("0.0.0.0", "10.0.0.1:3888")] {
        let mut bench = Bench::new(2);
        bench.outputs();
        let link = bench.stranger(1);
        bench.receive(link, &initial(1, host));
        let outputs = bench.outputs();
        assert!(is_close(&outputs[0], link));
        bench.out.outputs = outputs;
        let dials = bench.dials();
        assert_eq!(dials.len(), 1);
        assert_eq!(dials[0].1, expected);
        // What cannot be had is not tried again by one that wants nothing.
        bench.link(dials[0].0, LinkInput::Closed);
        bench.wait(60_000);
        assert_eq!(bench.dials(), []);
    }
}

#[test]
fn a_server_that_is_not_where_it_said_is_called_where_the_membership_says() {
    let mut bench = Bench::new(2);
    let link = bench.stranger(1);
    bench.receive(link, &initial(1, "10.7.7.7"));
    let call = bench.dials()[0].clone();
    assert_eq!(call.1, "10.7.7.7:3888");
    bench.link(call.0, LinkInput::Closed);
    bench.look(voter(5, 1));
    assert_eq!(bench.dials()[0].1, "10.0.0.1:3888");
}

#[test]
fn nobody_is_called_twice_at_once() {
    let mut bench = Bench::new(3);
    bench.look(voter(5, 1));
    let dials = bench.dials();
    assert_eq!(dials.len(), 2);
    bench.accept(1);
    bench.accept(1);
    assert_eq!(bench.dials(), []);
    // The call in hand may go to where the server no longer is.
    bench.link(dials[0].0, LinkInput::Closed);
    assert_eq!(bench.dials().len(), 1);
}

#[test]
fn a_call_in_hand_ends_when_the_peer_was_faster() {
    let mut bench = Bench::new(2);
    bench.look(voter(5, 1));
    let call = bench.dials()[1].0;
    bench.accept(3);
    assert!(bench.outputs().iter().any(|output| is_close(output, call)));
    assert!(!bench.election.owns(call));
}

#[test]
fn a_newer_connection_replaces_the_older() {
    let mut bench = Bench::looking(1);
    let older = bench.accept(3);
    bench.outputs();
    let newer = bench.accept(3);
    let outputs = bench.outputs();
    assert!(is_close(&outputs[0], older));
    assert!(!bench.election.owns(older));
    bench.out.outputs = outputs;
    assert_eq!(bench.said()[0].0, newer);
    // What still comes from the older one is nothing.
    bench.receive(older, &[0xff; 64]);
    bench.link(older, LinkInput::Closed);
    bench.hear(newer, State::LOOKING, vote(3, 5, 1, 1));
    assert_eq!(bench.election.vote(), Some(&vote(3, 5, 1, 1)));
}

#[test]
fn a_lower_id_that_connects_again_has_lost_its_connection() {
    let mut bench = Bench::new(2);
    bench.look(voter(5, 1));
    let first = bench.dials()[0].0;
    bench.open(first, 1);
    bench.outputs();
    bench.accept(1);
    let outputs = bench.outputs();
    assert!(outputs.iter().any(|output| is_close(output, first)));
    bench.out.outputs = outputs;
    assert_eq!(bench.dials().len(), 1);
}

#[test]
fn two_servers_with_one_id_are_reported() {
    let mut bench = Bench::looking(1);
    bench.accept(3);
    let other = bench.stranger(77);
    bench.outputs();
    bench.receive(other, &initial(3, "10.0.0.77"));
    let notices = bench
        .outputs()
        .into_iter()
        .filter_map(|output| match output {
            Output::Event(Event::Notice(text)) => Some(text),
            _ => None,
        });
    let expected = "server 3, connected from 10.0.0.3:40000, connects from 10.0.0.77:40000: \
                    do two have this id?";
    assert_eq!(notices.collect::<Vec<_>>(), [expected]);
}

#[test]
fn who_cannot_be_a_peer_is_refused_with_a_reason() {
    let mut long = initial(3, "10.0.0.3").to_vec();
    long[16..20].copy_from_slice(&4000_i32.to_be_bytes());
    for (bytes, reason) in [
        (
            initial(2, "h"),
            "it says that it is server 2, which is this one",
        ),
        (initial(-4, "h"), "expected a server's id from 0, found -4"),
        (Bytes::from(long), "found a length of 4000"),
        (
            Bytes::from_static(b"\xffET / HTTP/1.1\r\n\r\n"),
            "expected a server's id",
        ),
    ] {
        let mut bench = Bench::looking(2);
        let link = bench.stranger(9);
        bench.receive(link, &bytes);
        assert!(!bench.election.owns(link));
        let outputs = bench.outputs();
        assert!(is_close(outputs.last().unwrap(), link));
        bench.out.outputs = outputs;
        let refused = bench.refused();
        assert_eq!(refused.len(), 1);
        assert!(refused[0].contains(reason), "{refused:?}");
    }
}

#[test]
fn a_frame_of_impossible_length_ends_its_connection_only() {
    for length in [0, -1, 524_289, i32::MIN] {
        let mut bench = Bench::looking(1);
        let two = bench.accept(2);
        let three = bench.accept(3);
        bench.outputs();
        bench.receive(three, &length.to_be_bytes());
        assert!(!bench.election.owns(three));
        assert!(bench.election.owns(two));
        let refused = bench.refused();
        assert!(
            refused[0].starts_with("server 3: expected a frame"),
            "{refused:?}"
        );
        // It comes back, and is heard.
        let three = bench.accept(3);
        bench.hear(three, State::LOOKING, vote(3, 5, 1, 1));
        assert_eq!(bench.election.vote(), Some(&vote(3, 5, 1, 1)));
    }
}

#[test]
fn a_truncated_notification_makes_nobody_deaf() {
    let mut bench = Bench::looking(1);
    let link = bench.accept(3);
    bench.outputs();
    for length in 1_u8..48 {
        let mut cut = vec![0, 0, 0, length];
        cut.extend(core::iter::repeat_n(9, usize::from(length)));
        bench.receive(link, &cut);
    }
    // One report is enough.
    assert_eq!(bench.refused().len(), 1);
    bench.hear(link, State::LOOKING, vote(3, 5, 1, 1));
    assert_eq!(bench.election.vote(), Some(&vote(3, 5, 1, 1)));
}

#[test]
fn who_does_not_say_who_it_is_is_closed_in_time() {
    let mut bench = Bench::new(1);
    bench.outputs();
    let link = bench.stranger(9);
    bench.receive(link, &initial(3, "10.0.0.3")[..19]);
    assert_eq!(
        bench.election.next_wake(),
        Some(bench.out.now.plus_ms(10_000))
    );
    bench.wait(9_999);
    assert!(bench.election.owns(link));
    bench.wait(1);
    assert!(!bench.election.owns(link));
    assert_eq!(bench.refused(), ["it has not said whose it is in 10000 ms"]);
    assert_eq!(bench.election.next_wake(), None);
}

#[test]
fn how_long_silence_may_last_can_be_said() {
    let mut options = options(1, membership(3, 0, ""));
    options.election_silence_ms = Some(700);
    let mut bench = Bench::of(&options);
    bench.outputs();
    bench.stranger(9);
    bench.wait(700);
    assert_eq!(bench.refused(), ["it has not said whose it is in 700 ms"]);
}

#[test]
fn strangers_and_outsiders_are_bounded_and_peers_still_get_in() {
    let mut bench = Bench::looking(1);
    let first = bench.stranger(9);
    for _ in 0..200 {
        bench.stranger(9);
    }
    assert!(!bench.election.owns(first));
    let held = (1..=bench.accepted).filter(|link| bench.election.owns(LinkId(*link)));
    assert_eq!(held.count(), 64);

    let mut bench = Bench::looking(1);
    let outsiders: Vec<LinkId> = (100..300).map(|id| bench.accept(id)).collect();
    let held = outsiders.iter().filter(|link| bench.election.owns(**link));
    assert_eq!(held.count(), 64);
    assert!(
        bench
            .refused()
            .iter()
            .any(|reason| reason.contains("outside the membership"))
    );
    let link = bench.accept(3);
    assert!(bench.election.owns(link));
    // Those that leave make room.
    bench.link(outsiders[0], LinkInput::Closed);
    let another = bench.accept(500);
    assert!(bench.election.owns(another));
}

#[test]
fn observers_without_an_id_are_told_apart() {
    let mut bench = Bench::looking(1);
    let one = bench.accept(i64::MAX);
    let two = bench.accept(i64::MAX);
    assert!(bench.election.owns(one));
    assert!(bench.election.owns(two));
    bench.outputs();
    bench.hear(
        two,
        State::LOOKING,
        Standing::Observer.first_vote(ServerId(0), 1),
    );
    assert_eq!(bench.said(), [(two, State::LOOKING, vote(1, 5, 1, 1))]);
}

#[test]
fn who_refuses_is_called_again_at_growing_pauses() {
    let mut bench = Bench::new(2);
    bench.look(voter(5, 1));
    let mut called_ms = Vec::new();
    for ms in 0..20_000 {
        for (link, to) in bench.dials() {
            if to == "10.0.0.1:3888" {
                called_ms.push(ms);
                bench.link(link, LinkInput::Closed);
            }
        }
        bench.wait(1);
    }
    assert_eq!(
        called_ms,
        [0, 200, 600, 1_400, 3_000, 6_200, 11_200, 16_200]
    );
}

#[test]
fn a_lost_connection_is_made_again_at_once() {
    let mut bench = Bench::new(2);
    bench.look(voter(5, 1));
    let link = bench.dials()[0].0;
    bench.open(link, 1);
    bench.wait(250);
    bench.outputs();
    bench.link(link, LinkInput::Closed);
    assert_eq!(bench.dials().len(), 1);
}

#[test]
fn a_silent_connection_is_tried_again() {
    let mut bench = Bench::looking(1);
    let link = bench.accept(3);
    bench.wait(9_999);
    assert!(bench.election.owns(link));
    bench.outputs();
    bench.wait(1);
    assert!(!bench.election.owns(link));
    let dials = bench.dials();
    assert!(
        dials.iter().any(|(_, to)| to == "10.0.0.3:3888"),
        "{dials:?}"
    );
    // The peer lives, and has nothing to say: the next time takes longer.
    let link = bench.accept(3);
    bench.wait(19_999);
    assert!(bench.election.owns(link));
    bench.wait(1);
    assert!(!bench.election.owns(link));
}
