//! The rules of spec 1.6 to 1.9, one vote at a time.

use alloc::vec;
use alloc::vec::Vec;

use super::super::round::{Round, Tell, Word};
use super::super::vote::{Ballot, NOBODY, Voters};
use super::*;

const NOW: Instant = Instant(1_000_000);

fn nobody_absent(_: ServerId) -> bool {
    false
}

fn ballot(state: State, vote: Vote) -> Ballot {
    Ballot {
        state,
        vote,
        format: 2,
    }
}

/// A round of server `me` among `voters`, and what happened in it.
struct Bench {
    round: Round,
    voters: Voters,
    now: Instant,
}

impl Bench {
    fn new(me: i64, voters: Membership, standing: Standing) -> Self {
        let mut round = Round::new(ServerId(me));
        round.begin(standing);
        Self {
            round,
            voters: Voters::new(voters, None),
            now: NOW,
        }
    }

    fn hear(&mut self, from: i64, state: State, vote: Vote) -> Tell {
        self.round.hear(
            ServerId(from),
            ballot(state, vote),
            Word::Current,
            &self.voters,
        )
    }

    fn verdict(&mut self) -> Option<Vote> {
        let verdict = self.round.verdict(self.now, &self.voters, nobody_absent);
        verdict.map(|outcome| outcome.vote)
    }

    fn verdict_without(&mut self, absent: i64) -> Option<Vote> {
        let absent = |id| id == ServerId(absent);
        let verdict = self.round.verdict(self.now, &self.voters, absent);
        verdict.map(|outcome| outcome.vote)
    }

    fn wait(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
    }
}

#[test]
fn first_votes_are_those_of_the_table() {
    let (zxid, epoch) = (Zxid(0x1_0000_0007), Epoch(1));
    for (standing, expected) in [
        (
            Standing::Voter { zxid, epoch },
            vote(7, 0x1_0000_0007, 3, 1),
        ),
        (
            Standing::NonVoter { zxid, epoch },
            vote(NOBODY, 0x1_0000_0007, 3, 1),
        ),
        (Standing::Observer, vote(NOBODY, NOBODY, 3, NOBODY)),
        (Standing::Untrusted { epoch }, vote(7, -1, 3, 1)),
    ] {
        assert_eq!(standing.first_vote(ServerId(7), 3), expected);
    }
}

#[test]
fn epoch_beats_zxid_beats_id_and_the_round_is_not_asked() {
    let voters = Voters::new(membership(3, 0, ""), None);
    for (better, worse) in [
        (vote(1, 0x1_0000_0001, 1, 2), vote(3, 0x1_0000_0009, 1, 1)),
        (vote(1, 0x1_0000_0002, 1, 1), vote(3, 0x1_0000_0001, 1, 1)),
        (vote(3, 5, 1, 1), vote(2, 5, 9, 1)),
        (vote(3, 0, 1, 0), vote(2, -1, 1, 0)),
    ] {
        assert!(voters.beats(&better, &worse), "{better:?} {worse:?}");
        assert!(!voters.beats(&worse, &better), "{worse:?} {better:?}");
        assert!(!voters.beats(&better, &better));
    }
}

#[test]
fn a_server_without_weight_never_wins_and_never_stays() {
    let groups = "group.1=1:2:3\nweight.1=1\nweight.2=1\nweight.3=0\n";
    let voters = Voters::new(membership(3, 0, groups), None);
    assert!(!voters.beats(&vote(3, 9, 1, 9), &vote(1, 0, 1, 0)));
    assert!(voters.beats(&vote(1, 0, 1, 0), &vote(3, 9, 1, 9)));
    assert!(!voters.beats(&vote(3, 9, 1, 9), &vote(3, 1, 1, 1)));
}

#[test]
fn agreement_asks_all_of_those_who_look_and_leader_and_epoch_of_the_others() {
    let one = ballot(State::FOLLOWING, vote(3, 5, 1, 2));
    let old = Ballot { format: 0, ..one };
    for (other, agrees) in [
        (ballot(State::LEADING, vote(3, 9, 8, 2)), true),
        (ballot(State::FOLLOWING, vote(3, 5, 1, 3)), false),
        (ballot(State::FOLLOWING, vote(2, 5, 1, 2)), false),
        (ballot(State::LOOKING, vote(3, 5, 1, 2)), true),
        (ballot(State::LOOKING, vote(3, 5, 2, 2)), false),
        (ballot(State::LOOKING, vote(3, 6, 1, 2)), false),
    ] {
        assert_eq!(one.agrees(&other), agrees, "{other:?}");
        assert_eq!(other.agrees(&one), agrees, "{other:?}");
    }
    assert!(old.agrees(&ballot(State::LEADING, vote(3, 5, 1, 7))));
    assert!(!old.agrees(&ballot(State::LEADING, vote(2, 5, 1, 2))));
    let older = Ballot {
        vote: vote(3, 5, 1, 3),
        ..old
    };
    assert!(!old.agrees(&older));
}

#[test]
fn votes_of_this_round_are_adopted_answered_or_stored() {
    for (heard, tell, proposal) in [
        (vote(3, 5, 1, 1), Tell::Everyone, vote(3, 5, 1, 1)),
        (vote(1, 6, 1, 1), Tell::Everyone, vote(1, 6, 1, 1)),
        (vote(1, 5, 1, 1), Tell::Sender, vote(2, 5, 1, 1)),
        (vote(3, 9, 1, 0), Tell::Sender, vote(2, 5, 1, 1)),
        (vote(2, 5, 1, 1), Tell::Nobody, vote(2, 5, 1, 1)),
        // Nobody that can be elected, and one without a history.
        (vote(9, 9, 1, 9), Tell::Nobody, vote(2, 5, 1, 1)),
        (vote(3, -1, 1, 9), Tell::Nobody, vote(2, 5, 1, 1)),
    ] {
        let mut bench = Bench::new(2, membership(5, 1, ""), voter(5, 1));
        assert_eq!(bench.hear(4, State::LOOKING, heard), tell, "{heard:?}");
        assert_eq!(*bench.round.proposal(), proposal, "{heard:?}");
    }
}

#[test]
fn a_worse_vote_is_answered_once_for_each_proposal() {
    let mut bench = Bench::new(2, membership(5, 0, ""), voter(5, 1));
    assert_eq!(
        bench.hear(1, State::LOOKING, vote(1, 5, 1, 1)),
        Tell::Sender
    );
    assert_eq!(
        bench.hear(1, State::LOOKING, vote(1, 5, 1, 1)),
        Tell::Nobody
    );
    assert_eq!(
        bench.hear(3, State::LOOKING, vote(3, 5, 1, 1)),
        Tell::Everyone
    );
    assert_eq!(
        bench.hear(1, State::LOOKING, vote(1, 5, 1, 1)),
        Tell::Sender
    );
}

#[test]
fn a_later_round_is_joined_with_the_better_of_both_first_votes() {
    let mut bench = Bench::new(2, membership(5, 0, ""), voter(5, 1));
    bench.hear(5, State::LOOKING, vote(5, 9, 1, 1));
    bench.hear(4, State::LOOKING, vote(5, 9, 1, 1));
    // What round 1 proposed is forgotten: server 5 may be gone.
    let tell = bench.hear(1, State::LOOKING, vote(1, 4, 7, 1));
    assert_eq!(tell, Tell::Everyone);
    assert_eq!(bench.round.number(), 7);
    assert_eq!(*bench.round.proposal(), vote(2, 5, 7, 1));
    // So are its votes.
    bench.hear(3, State::LOOKING, vote(2, 5, 7, 1));
    assert_eq!(bench.verdict(), None);
    bench.wait(1000);
    assert_eq!(bench.verdict(), None);
    // And a better one of a later round still is adopted.
    bench.hear(1, State::LOOKING, vote(1, 6, 8, 1));
    assert_eq!(*bench.round.proposal(), vote(1, 6, 8, 1));
}

#[test]
fn a_later_round_of_one_that_does_not_know_of_its_vote_is_joined() {
    // Server 2 alone has a vote, and a change that gives server 1 one is pending.
    let nobody = vote(NOBODY, 4, 7, 1);
    let pending = membership(2, 0, "version=5");
    let committed = Membership::parse("server.2=b:1:2\nversion=4").unwrap();
    let mut bench = Bench::new(2, committed, voter(5, 1));
    bench.voters.last_seen = Some(pending);
    assert_eq!(bench.verdict(), None);
    let tell = bench.hear(1, State::LOOKING, nobody);
    assert_eq!(tell, Tell::Everyone);
    assert_eq!(*bench.round.proposal(), vote(2, 5, 7, 1));
    assert_eq!(bench.hear(1, State::LOOKING, nobody), Tell::Nobody);
    assert_eq!(bench.verdict(), None);
    bench.hear(1, State::LOOKING, vote(2, 5, 7, 1));
    assert_eq!(bench.verdict(), Some(vote(2, 5, 7, 1)));
}

#[test]
fn those_that_only_a_pending_change_lets_lead_are_elected_in_every_other_round() {
    // Server 1 may not have heard that server 3 is to have a vote.
    for (round, wins) in [(1, true), (2, false), (3, true)] {
        let mut bench = Bench::new(2, membership(2, 0, "version=4"), voter(5, 1));
        bench.voters.last_seen = Some(membership(3, 0, "version=5"));
        assert!(bench.voters.takes_turns());
        for _ in 1..round {
            bench.round.begin(voter(5, 1));
        }
        bench.hear(3, State::LOOKING, vote(3, 6, round, 1));
        let expected = if wins {
            vote(3, 6, round, 1)
        } else {
            vote(2, 5, round, 1)
        };
        assert_eq!(*bench.round.proposal(), expected);
        // One that it knows is elected by what it has.
        bench.hear(1, State::LOOKING, vote(1, 7, round, 1));
        assert_eq!(*bench.round.proposal(), vote(1, 7, round, 1));
    }
    let mut voters = Voters::new(membership(3, 0, "version=4"), None);
    assert!(!voters.takes_turns());
    voters.last_seen = Some(membership(2, 1, "version=5"));
    assert!(!voters.takes_turns(), "who leaves may lead");
}

#[test]
fn who_was_heard_in_an_earlier_round_is_waited_for_in_a_later_one() {
    let mut bench = Bench::new(2, membership(5, 0, ""), voter(5, 1));
    for from in [3, 4, 5] {
        bench.hear(from, State::LOOKING, vote(1, 4, 1, 1));
    }
    for from in [1, 3] {
        bench.hear(from, State::LOOKING, vote(2, 5, 7, 1));
    }
    assert_eq!(bench.verdict(), None);
    bench.wait(200);
    assert_eq!(bench.verdict(), Some(vote(2, 5, 7, 1)));
}

#[test]
fn a_round_begins_without_what_was_heard_before() {
    let mut bench = Bench::new(1, membership(3, 0, ""), voter(5, 1));
    bench.hear(3, State::LEADING, vote(3, 5, 4, 2));
    bench.round.begin(voter(5, 1));
    bench.hear(2, State::FOLLOWING, vote(3, 5, 4, 2));
    assert_eq!(bench.verdict(), None);
}

#[test]
fn another_proposal_is_waited_for_as_long_as_the_first() {
    let mut bench = Bench::new(1, membership(3, 0, ""), voter(5, 1));
    bench.hear(2, State::LOOKING, vote(2, 5, 1, 1));
    assert_eq!(bench.verdict(), None);
    bench.wait(150);
    // The same two agree on another.
    bench.hear(2, State::LOOKING, vote(3, 5, 1, 1));
    assert_eq!(bench.verdict(), None);
    bench.wait(199);
    assert_eq!(bench.verdict(), None);
    bench.wait(1);
    assert_eq!(bench.verdict(), Some(vote(3, 5, 1, 1)));
}

#[test]
fn an_earlier_round_is_answered_by_voters_only() {
    let mut bench = Bench::new(2, membership(3, 1, ""), voter(5, 1));
    bench.round.begin(voter(5, 1));
    assert_eq!(
        bench.hear(3, State::LOOKING, vote(3, 9, 1, 9)),
        Tell::Sender
    );
    assert_eq!(*bench.round.proposal(), vote(2, 5, 2, 1));

    let mut bench = Bench::new(4, membership(3, 1, ""), Standing::Observer);
    bench.round.begin(Standing::Observer);
    assert_eq!(
        bench.hear(3, State::LOOKING, vote(3, 9, 1, 9)),
        Tell::Nobody
    );
}

#[test]
fn a_quorum_waits_for_those_that_were_not_heard() {
    let mut bench = Bench::new(2, membership(5, 0, ""), voter(5, 1));
    bench.hear(1, State::LOOKING, vote(2, 5, 1, 1));
    assert_eq!(bench.verdict(), None);
    assert_eq!(bench.round.next_wake(), None);
    bench.hear(3, State::LOOKING, vote(2, 5, 1, 1));
    assert_eq!(bench.verdict(), None);
    assert_eq!(bench.round.next_wake(), Some(NOW.plus_ms(200)));
    bench.wait(199);
    assert_eq!(bench.verdict(), None);
    bench.wait(1);
    assert_eq!(bench.verdict(), Some(vote(2, 5, 1, 1)));
}

#[test]
fn a_better_vote_ends_the_wait_without_decision() {
    let mut bench = Bench::new(2, membership(5, 0, ""), voter(5, 1));
    bench.hear(1, State::LOOKING, vote(2, 5, 1, 1));
    bench.hear(3, State::LOOKING, vote(2, 5, 1, 1));
    assert_eq!(bench.verdict(), None);
    bench.wait(100);
    assert_eq!(
        bench.hear(5, State::LOOKING, vote(5, 5, 1, 1)),
        Tell::Everyone
    );
    bench.wait(500);
    assert_eq!(bench.verdict(), None);
    bench.hear(1, State::LOOKING, vote(5, 5, 1, 1));
    // The wait begins anew.
    assert_eq!(bench.verdict(), None);
    bench.wait(200);
    assert_eq!(bench.verdict(), Some(vote(5, 5, 1, 1)));
}

#[test]
fn nothing_is_waited_for_when_every_voter_was_heard_or_is_absent() {
    let agreed = vote(3, 5, 1, 1);
    let mut bench = Bench::new(2, membership(3, 1, ""), voter(5, 1));
    bench.hear(3, State::LOOKING, agreed);
    assert_eq!(bench.verdict(), None);
    assert_eq!(bench.verdict_without(1), Some(agreed));

    let mut bench = Bench::new(2, membership(3, 1, ""), voter(5, 1));
    bench.hear(3, State::LOOKING, agreed);
    bench.hear(1, State::LOOKING, vote(1, 4, 1, 1));
    assert_eq!(bench.verdict(), Some(agreed));

    // One that looks, and has lost its history, has nothing better to say.
    let mut bench = Bench::new(2, membership(3, 1, ""), voter(5, 1));
    bench.hear(3, State::LOOKING, agreed);
    bench.hear(1, State::LOOKING, vote(1, -1, 0, 0));
    assert_eq!(bench.verdict(), Some(agreed));
}

#[test]
fn what_may_be_an_old_word_is_waited_for() {
    let agreed = vote(3, 5, 1, 1);
    for (word, at_once) in [(Word::Current, true), (Word::Perhaps, false)] {
        let mut bench = Bench::new(2, membership(3, 0, ""), voter(5, 1));
        bench.hear(1, State::LOOKING, agreed);
        let ballot = ballot(State::LOOKING, agreed);
        bench.round.hear(ServerId(3), ballot, word, &bench.voters);
        assert_eq!(bench.verdict().is_some(), at_once);
    }
    let mut bench = Bench::new(2, membership(3, 0, ""), voter(5, 1));
    bench.hear(1, State::LOOKING, agreed);
    let old = ballot(State::LOOKING, agreed);
    bench
        .round
        .hear(ServerId(3), old, Word::Perhaps, &bench.voters);
    assert_eq!(bench.verdict(), None);
    bench.hear(3, State::LOOKING, agreed);
    assert_eq!(bench.verdict(), Some(agreed));
}

#[test]
fn who_follows_no_longer_votes_as_it_did_while_it_looked() {
    let mut bench = Bench::new(2, membership(3, 0, ""), voter(5, 1));
    bench.hear(3, State::LOOKING, vote(3, 5, 1, 1));
    bench.hear(3, State::FOLLOWING, vote(1, 5, 7, 1));
    bench.wait(1000);
    assert_eq!(bench.verdict_without(1), None);
    bench.wait(1000);
    assert_eq!(bench.verdict(), None);
}

#[test]
fn absence_makes_no_quorum() {
    let mut bench = Bench::new(2, membership(3, 0, ""), voter(5, 1));
    bench.wait(10_000);
    let verdict = bench.round.verdict(bench.now, &bench.voters, |_| true);
    assert_eq!(verdict, None);
}

#[test]
fn a_single_voter_elects_itself_at_once() {
    let mut bench = Bench::new(1, membership(1, 2, ""), voter(5, 1));
    assert_eq!(bench.verdict(), Some(vote(1, 5, 1, 1)));
}

#[test]
fn a_vote_may_be_taken_back() {
    let mut bench = Bench::new(2, membership(5, 0, ""), voter(5, 1));
    bench.hear(1, State::LOOKING, vote(2, 5, 1, 1));
    bench.hear(3, State::LOOKING, vote(2, 5, 1, 1));
    assert_eq!(bench.verdict(), None);
    bench.hear(3, State::LOOKING, vote(3, 4, 1, 1));
    bench.wait(1000);
    assert_eq!(bench.verdict(), None);
}

#[test]
fn one_without_history_elects_nobody_and_not_itself() {
    let untrusted = Standing::Untrusted { epoch: Epoch(0) };
    let mut bench = Bench::new(1, membership(3, 0, ""), untrusted);
    bench.hear(2, State::LOOKING, vote(3, 5, 1, 1));
    bench.hear(3, State::LOOKING, vote(3, 5, 1, 1));
    bench.wait(1000);
    assert_eq!(bench.verdict(), None);
    // Others have not noticed yet that it lost what they elected it for.
    bench.hear(2, State::FOLLOWING, vote(1, 9, 1, 1));
    bench.hear(3, State::FOLLOWING, vote(1, 9, 1, 1));
    assert_eq!(bench.verdict(), None);
    // It follows whom they follow.
    bench.hear(3, State::LEADING, vote(3, 5, 4, 2));
    bench.hear(2, State::FOLLOWING, vote(3, 5, 4, 2));
    assert_eq!(bench.verdict(), Some(vote(3, 5, 4, 2)));
}

#[test]
fn a_leader_is_joined_when_a_quorum_and_itself_say_so() {
    // From, state, vote; and whether the last of them decides.
    let following = vote(3, 5, 4, 2);
    type Heard = Vec<(i64, State, Vote)>;
    let cases: Vec<(Heard, bool)> = vec![
        // The leader's own word is needed, and a quorum with it.
        (vec![(2, State::FOLLOWING, following)], false),
        (
            vec![
                (2, State::FOLLOWING, following),
                (4, State::FOLLOWING, following),
                (5, State::FOLLOWING, following),
            ],
            false,
        ),
        (
            vec![
                (3, State::LEADING, following),
                (2, State::FOLLOWING, following),
            ],
            false,
        ),
        (
            vec![
                (3, State::LEADING, following),
                (2, State::FOLLOWING, following),
                (4, State::FOLLOWING, following),
            ],
            true,
        ),
        // Rounds and zxids may differ, as after a later join; epochs may not.
        (
            vec![
                (2, State::FOLLOWING, vote(3, 1, 1, 2)),
                (4, State::FOLLOWING, vote(3, 2, 2, 2)),
                (3, State::LEADING, vote(3, 3, 3, 2)),
            ],
            true,
        ),
        (
            vec![
                (2, State::FOLLOWING, vote(3, 5, 4, 1)),
                (4, State::FOLLOWING, following),
                (3, State::LEADING, following),
            ],
            false,
        ),
        // Who looks no longer follows, and observers do not count.
        (
            vec![
                (3, State::LEADING, following),
                (4, State::FOLLOWING, following),
                (4, State::LOOKING, vote(4, 1, 1, 1)),
                (2, State::FOLLOWING, following),
            ],
            false,
        ),
        (
            vec![
                (3, State::LEADING, following),
                (4, State::FOLLOWING, following),
                (2, State::OBSERVING, following),
            ],
            false,
        ),
    ];
    for (heard, decides) in cases {
        let mut bench = Bench::new(1, membership(5, 0, ""), voter(5, 1));
        for &(from, state, vote) in &heard {
            bench.hear(from, state, vote);
        }
        bench.wait(1000);
        assert_eq!(bench.verdict().is_some(), decides, "{heard:?}");
    }
}

#[test]
fn the_round_of_a_joined_leader_is_taken_over() {
    let mut bench = Bench::new(1, membership(3, 0, ""), voter(5, 1));
    bench.hear(2, State::FOLLOWING, vote(3, 5, 9, 2));
    bench.hear(3, State::LEADING, vote(3, 5, 9, 2));
    assert_eq!(bench.verdict(), Some(vote(3, 5, 9, 2)));
    assert_eq!(bench.round.number(), 9);
}

#[test]
fn this_server_leads_by_votes_of_this_round_only() {
    for (round, leads) in [(1, true), (2, false), (0, false)] {
        let mut bench = Bench::new(3, membership(3, 0, ""), voter(5, 1));
        bench.hear(1, State::FOLLOWING, vote(3, 5, round, 1));
        bench.hear(2, State::FOLLOWING, vote(3, 5, round, 1));
        assert_eq!(bench.verdict().is_some(), leads, "round {round}");
    }
}

#[test]
fn a_follower_of_this_round_completes_a_quorum_of_those_who_look() {
    let mut bench = Bench::new(3, membership(5, 0, ""), voter(5, 1));
    bench.hear(1, State::LOOKING, vote(3, 5, 1, 1));
    bench.hear(2, State::FOLLOWING, vote(3, 5, 1, 1));
    assert_eq!(bench.verdict(), Some(vote(3, 5, 1, 1)));
}

#[test]
fn a_dead_leader_is_not_joined_for_its_last_word() {
    let mut bench = Bench::new(1, membership(3, 0, ""), voter(5, 1));
    bench.hear(3, State::LEADING, vote(3, 5, 4, 2));
    bench.round.forget(ServerId(3));
    bench.hear(2, State::FOLLOWING, vote(3, 5, 4, 2));
    assert_eq!(bench.verdict(), None);
}

#[test]
fn what_was_voted_while_looking_outlives_the_connection() {
    let mut bench = Bench::new(2, membership(3, 0, ""), voter(5, 1));
    bench.hear(1, State::LOOKING, vote(2, 5, 1, 1));
    bench.round.forget(ServerId(1));
    assert_eq!(bench.verdict_without(3), Some(vote(2, 5, 1, 1)));
}

#[test]
fn both_memberships_must_agree() {
    let committed = membership(3, 0, "");
    let pending = membership(5, 0, "version=100000002\n");
    let mut bench = Bench::new(3, committed.clone(), voter(5, 1));
    bench.voters = Voters::new(committed, Some(pending));
    let agreed = vote(5, 5, 1, 1);
    bench.hear(1, State::LOOKING, agreed);
    assert_eq!(bench.verdict(), None);
    bench.wait(1000);
    // Two of the three, and two of the five.
    assert_eq!(bench.verdict(), None);
    bench.hear(1, State::LOOKING, vote(1, 5, 1, 1));
    bench.hear(5, State::LOOKING, agreed);
    bench.hear(4, State::LOOKING, agreed);
    assert_eq!(bench.verdict(), None);
    bench.wait(1000);
    // Three of the five, and one of the three.
    assert_eq!(bench.verdict(), None);
    bench.hear(1, State::LOOKING, agreed);
    assert_eq!(bench.verdict(), None);
    bench.wait(200);
    assert_eq!(bench.verdict(), Some(agreed));
}

#[test]
fn groups_outvote_numbers() {
    // Two of three groups must agree; the third has no weight.
    let groups = "group.1=1:2\ngroup.2=3:4\ngroup.3=5\nweight.5=0\n";
    let mut bench = Bench::new(4, membership(5, 0, groups), voter(5, 1));
    let agreed = vote(4, 5, 1, 1);
    for from in [3, 5, 1] {
        bench.hear(from, State::LOOKING, agreed);
    }
    bench.wait(1000);
    assert_eq!(bench.verdict(), None);
    bench.hear(2, State::LOOKING, agreed);
    assert_eq!(bench.verdict(), Some(agreed));
}

#[test]
fn an_observer_follows_the_votes_of_voters() {
    let mut bench = Bench::new(4, membership(3, 1, ""), Standing::Observer);
    assert_eq!(
        bench.hear(1, State::LOOKING, vote(3, 5, 1, 1)),
        Tell::Everyone
    );
    bench.hear(2, State::LOOKING, vote(3, 5, 1, 1));
    // Its own vote is none.
    bench.wait(1000);
    assert_eq!(bench.verdict(), None);
    bench.wait(200);
    assert_eq!(bench.verdict(), Some(vote(3, 5, 1, 1)));

    let mut bench = Bench::new(4, membership(3, 1, ""), Standing::Observer);
    bench.hear(1, State::LOOKING, vote(3, 5, 1, 1));
    bench.wait(1000);
    assert_eq!(bench.verdict(), None);
}

#[test]
fn rounds_end_where_numbers_end() {
    let mut bench = Bench::new(1, membership(3, 0, ""), voter(5, 1));
    bench.hear(2, State::LOOKING, vote(2, 5, i64::MAX, 1));
    bench.round.begin(voter(5, 1));
    bench.hear(2, State::LOOKING, vote(2, 5, i64::MAX, 1));
    bench.hear(3, State::LOOKING, vote(2, 5, i64::MAX, 1));
    assert_eq!(bench.verdict(), Some(vote(2, 5, i64::MAX, 1)));
}
