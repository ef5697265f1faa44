//! Whom servers elect, judged by the votes that they were given.
//!
//! Agreement on an epoch keeps histories safe whoever is elected; what a wrong election costs is
//! time, which few other invariants see.

use std::collections::BTreeMap;

use crate::ensemble::members::View;
use crate::ensemble::plan::letter;
use crate::violation::{Violation, ensure};

/// The protocol's version in the first message of a connection, cut after four bytes.
const INITIAL: &[u8] = &[0xff; 4];
/// Version, server's id, length of the addresses.
const INITIAL_BYTES: usize = 20;
/// State, leader, zxid, round, epoch.
const VOTE_BYTES: usize = 36;

/// A vote as it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Vote {
    round: i64,
    leader: i64,
    epoch: i64,
    zxid: i64,
}

/// What one process of a server was told on its election port.
#[derive(Debug, Default)]
pub(super) struct Votes {
    life: u64,
    /// What has come of a message, by connection.
    partial: BTreeMap<u64, Vec<u8>>,
    /// By whom, and as the how-manieth that was heard, first and last.
    heard: BTreeMap<(usize, Vote), (u64, u64)>,
    count: u64,
}

impl Votes {
    /// Takes what a process is given by another server.
    pub(super) fn hear(&mut self, life: u64, from: usize, link: u64, bytes: &[u8]) {
        if self.life != life {
            *self = Self {
                life,
                ..Self::default()
            };
        }
        let partial = self.partial.entry(link).or_default();
        partial.extend_from_slice(bytes);
        while let Some(vote) = next(partial) {
            self.count += 1;
            let Some(vote) = vote else { continue };
            let heard = self.heard.entry((from, vote));
            heard.or_insert((self.count, 0)).1 = self.count;
        }
    }

    /// A server knows that it is elected, in this round: a quorum of each of these memberships had
    /// voted for it, and nobody of the first, which is in force, for itself with more than it has.
    pub(super) fn judge(
        &self,
        server: usize,
        round: i64,
        views: &[impl AsRef<View>],
    ) -> Result<(), Violation> {
        let own = id(server);
        let mine = self.heard.iter();
        let mine = mine.filter(|((_, vote), _)| (vote.round, vote.leader) == (round, own));
        let mine = mine.map(|((from, vote), (_, last))| (*from, (*vote, *last)));
        let electors: BTreeMap<usize, (Vote, u64)> = mine.collect();
        let votes = |voter: usize| voter == server || electors.contains_key(&voter);
        for view in views.iter().map(AsRef::as_ref) {
            ensure(view.has_quorum(votes), "S19 a quorum elects", || {
                let name = letter(server);
                format!("{name} leads in round {round} by votes of {electors:x?} in {view}")
            })?;
        }
        let in_force = views.first().map(AsRef::as_ref);
        let is_known = |elector: usize| in_force.is_some_and(|view| view.is_voter(elector));
        for (elector, (vote, last)) in electors.iter().filter(|(it, _)| is_known(**it)) {
            // What comes after its vote may be of another process, in a round of the same number.
            let better = self.heard.iter().find(|((from, other), (first, _))| {
                let is_own = (other.round, other.leader) == (round, id(*elector));
                let is_better = (other.epoch, other.zxid) > (vote.epoch, vote.zxid);
                from == elector && is_own && is_better && first < last
            });
            ensure(better.is_none(), "S19 the best is elected", || {
                let name = letter(server);
                format!("{name} leads with {vote:x?}, and one who voted for it had {better:x?}")
            })?;
        }
        Ok(())
    }
}

fn id(server: usize) -> i64 {
    i64::try_from(server + 1).unwrap_or(i64::MAX)
}

/// The next message, if it is whole; `Some(None)` is one that is no vote.
fn next(bytes: &mut Vec<u8>) -> Option<Option<Vote>> {
    let is_initial = bytes.starts_with(INITIAL);
    let (head, at) = if is_initial {
        (INITIAL_BYTES, INITIAL_BYTES - 4)
    } else {
        (4, 0)
    };
    let length: [u8; 4] = bytes.get(at..head)?.try_into().ok()?;
    let end = head + usize::try_from(u32::from_be_bytes(length)).ok()?;
    let body = bytes.get(head..end)?;
    let long = |at: usize| {
        let long = body.get(at..at + 8)?.try_into().ok()?;
        Some(i64::from_be_bytes(long))
    };
    let vote = if is_initial || body.len() < VOTE_BYTES {
        None
    } else {
        (|| {
            Some(Vote {
                leader: long(4)?,
                zxid: long(12)?,
                round: long(20)?,
                epoch: long(28)?,
            })
        })()
    };
    bytes.drain(..end);
    Some(vote)
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::Votes;
    use crate::ensemble::members::View;

    fn message(leader: i64, zxid: i64, round: i64, epoch: i64) -> Vec<u8> {
        let mut message = 36_i32.to_be_bytes().to_vec();
        message.extend([0; 4]);
        for long in [leader, zxid, round, epoch] {
            message.extend(long.to_be_bytes());
        }
        message
    }

    fn initial() -> Vec<u8> {
        let mut initial = (-65536_i64).to_be_bytes().to_vec();
        initial.extend(2_i64.to_be_bytes());
        initial.extend(4_i32.to_be_bytes());
        initial.extend(b"b:38");
        initial
    }

    #[test]
    fn a_quorum_must_have_voted_in_the_round() {
        let view = [Rc::new(View::first(3, 1))];
        let mut votes = Votes::default();
        votes.hear(1, 3, 7, &message(1, 5, 4, 1));
        votes.hear(1, 2, 8, &message(1, 5, 3, 1));
        assert!(
            votes.judge(0, 4, &view).is_err(),
            "an observer's, and an old one"
        );
        let mut stream = initial();
        stream.extend(message(1, 5, 4, 1));
        for piece in stream.chunks(7) {
            assert!(votes.judge(0, 4, &view).is_err());
            votes.hear(1, 1, 9, piece);
        }
        assert_eq!(votes.judge(0, 4, &view), Ok(()));
        votes.hear(2, 3, 10, &[]);
        assert!(votes.judge(0, 4, &view).is_err(), "another process");
    }

    #[test]
    fn nobody_elects_who_has_less() {
        let view = [Rc::new(View::first(3, 0))];
        let mut votes = Votes::default();
        votes.hear(1, 1, 7, &message(1, 6, 4, 1));
        votes.hear(1, 1, 8, &message(2, 5, 4, 2));
        assert_eq!(votes.judge(0, 4, &view), Ok(()), "it voted before that");
        votes.hear(1, 1, 8, &message(1, 6, 4, 1));
        assert!(votes.judge(0, 4, &view).is_err());
    }
}
