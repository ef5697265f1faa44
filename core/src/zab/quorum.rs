//! When enough servers have agreed.
//!
//! Source: spec 1.10, `QuorumMaj`, `QuorumHierarchical`, `SyncedLearnerTracker`.

use alloc::collections::BTreeSet;

use super::membership::Membership;
use crate::ids::ServerId;

impl Membership {
    /// Whether these servers are a quorum: more than half of the voters, or, with groups, in more
    /// than half of the groups that have a weight, more than half of the group's weight. Servers
    /// without a vote do not count.
    #[must_use]
    pub fn has_quorum(&self, acked: &BTreeSet<ServerId>) -> bool {
        self.has_quorum_of(|id| acked.contains(&id))
    }

    /// Whether the servers for which `acked` is true are a quorum. Asks only about voters.
    pub fn has_quorum_of(&self, acked: impl Fn(ServerId) -> bool) -> bool {
        if self.groups.is_empty() {
            let voters = self.voters().count();
            let agreed = self.voters().filter(|&(id, _)| acked(id)).count();
            return agreed > voters / 2;
        }
        let mut counted = 0;
        let mut won = 0;
        for members in self.groups.values() {
            // In 128 bits, no number of weights of 64 bits that fits into memory overflows.
            let weight_of = |id: &ServerId| u128::from(self.weight(*id));
            let total: u128 = members.iter().map(weight_of).sum();
            let agreeing = members.iter().filter(|&&id| self.is_voter(id) && acked(id));
            let agreed: u128 = agreeing.map(weight_of).sum();
            counted += usize::from(total > 0);
            won += usize::from(agreed > total / 2);
        }
        won > counted / 2
    }
}

/// The memberships that must agree at a time: the committed one, and the last seen one while it is
/// pending. A quorum is one in each. Source: spec 1.10, "all quorums".
#[derive(Clone, Copy, Debug)]
pub struct Views<'a> {
    committed: &'a Membership,
    pending: Option<&'a Membership>,
}

impl<'a> Views<'a> {
    /// Of these two; `last_seen` counts only if its version is higher.
    #[must_use]
    pub fn new(committed: &'a Membership, last_seen: Option<&'a Membership>) -> Self {
        Self {
            committed,
            pending: last_seen.filter(|seen| seen.version > committed.version),
        }
    }

    /// The one that is in force.
    #[must_use]
    pub const fn committed(&self) -> &'a Membership {
        self.committed
    }

    /// The one that is proposed and not known to be committed.
    #[must_use]
    pub const fn pending(&self) -> Option<&'a Membership> {
        self.pending
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &'a Membership> {
        core::iter::once(self.committed).chain(self.pending)
    }

    /// Whether these servers are a quorum in each.
    #[must_use]
    pub fn have_quorum(&self, acked: &BTreeSet<ServerId>) -> bool {
        self.iter().all(|view| view.has_quorum(acked))
    }

    /// Whether the servers for which `acked` is true are a quorum in each.
    pub fn have_quorum_of(&self, acked: impl Fn(ServerId) -> bool) -> bool {
        self.iter().all(|view| view.has_quorum_of(&acked))
    }

    /// Whether this server has a vote in any.
    #[must_use]
    pub fn is_voter(&self, id: ServerId) -> bool {
        self.iter().any(|view| view.is_voter(id))
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::String;
    use alloc::vec::Vec;

    use super::*;

    /// Servers 1 to `voters` with a vote, then `observers` without.
    fn majority(voters: i64, observers: i64) -> Membership {
        let mut text = String::new();
        for id in 1..=voters + observers {
            let role = if id <= voters {
                "participant"
            } else {
                "observer"
            };
            text.push_str(&format!("server.{id}=h{id}:1:2:{role}\n"));
        }
        parse(&text)
    }

    fn parse(text: &str) -> Membership {
        Membership::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// The set whose members are the bits of `mask`: bit 0 is server 1.
    fn set(mask: u32) -> BTreeSet<ServerId> {
        (0..32_u8)
            .filter(|bit| mask >> bit & 1 == 1)
            .map(|bit| ServerId(i64::from(bit) + 1))
            .collect()
    }

    #[test]
    fn majority_is_more_than_half_of_the_voters_whoever_else_agrees() {
        for (voters, observers) in [(1, 0), (2, 0), (3, 2), (4, 1), (5, 0), (6, 2), (7, 0)] {
            let membership = majority(voters, observers);
            for mask in 0..1_u32 << (voters + observers) {
                let agreeing = (mask & ((1 << voters) - 1)).count_ones();
                assert_eq!(
                    membership.has_quorum(&set(mask)),
                    2 * i64::from(agreeing) > voters,
                    "{voters} voters, {observers} observers, {mask:b}"
                );
            }
        }
    }

    #[test]
    fn stranger_does_not_count() {
        let membership = majority(3, 0);
        assert!(!membership.has_quorum(&[1, 9, 10].map(ServerId).into()));
        assert!(membership.has_quorum(&[1, 9, 2].map(ServerId).into()));
    }

    /// The definition over again, from plain numbers: for every server its group and weight.
    fn hierarchical(servers: &[(i64, u32)], mask: u32) -> bool {
        let mut groups: Vec<i64> = servers.iter().map(|&(group, _)| group).collect();
        groups.sort_unstable();
        groups.dedup();
        let (mut yes, mut no) = (0, 0);
        for group in groups {
            let mut balance = 0_i64;
            let mut heavy = false;
            for (bit, &(_, weight)) in (0..).zip(servers).filter(|(_, s)| s.0 == group) {
                heavy |= weight > 0;
                let agrees = mask & (1 << bit) != 0;
                balance += if agrees {
                    i64::from(weight)
                } else {
                    -i64::from(weight)
                };
            }
            if heavy && balance > 0 {
                yes += 1;
            } else if heavy {
                no += 1;
            }
        }
        yes > no
    }

    fn with_groups(servers: &[(i64, u32)]) -> Membership {
        let mut text = String::new();
        let mut groups: alloc::collections::BTreeMap<i64, Vec<String>> = Default::default();
        for (id, (group, weight)) in (1..).zip(servers) {
            text.push_str(&format!("server.{id}=h{id}:1:2\nweight.{id}={weight}\n"));
            groups.entry(*group).or_default().push(format!("{id}"));
        }
        for (group, ids) in groups {
            text.push_str(&format!("group.{group}={}\n", ids.join(":")));
        }
        parse(&text)
    }

    #[test]
    fn groups_and_weights_are_counted_as_defined() {
        let plain = [1, 1, 1, 2, 2, 2, 3, 3, 3].map(|group| (group, 1));
        let uneven = [(1, 3), (1, 1), (1, 2), (2, 1), (2, 1), (3, 5), (3, 0)];
        let with_empty_group = [(1, 1), (1, 1), (1, 1), (2, 0), (2, 0), (3, 7)];
        let two = [(1, 1), (1, 1), (2, 1), (2, 4)];
        for servers in [&plain[..], &uneven, &with_empty_group, &two, &[(5, 1)]] {
            let membership = with_groups(servers);
            for mask in 0..1_u32 << servers.len() {
                assert_eq!(
                    membership.has_quorum(&set(mask)),
                    hierarchical(servers, mask),
                    "{servers:?} {mask:b}"
                );
            }
        }
    }

    #[test]
    fn any_two_quorums_of_one_membership_share_a_server() {
        let memberships = [
            majority(1, 1),
            majority(4, 0),
            majority(5, 1),
            with_groups(&[(1, 1), (1, 2), (2, 1), (2, 1), (3, 1), (3, 3), (3, 2)]),
            with_groups(&[(1, 0), (1, 1), (2, 0), (2, 0), (3, 2), (3, 2)]),
            parse(
                "server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2\nserver.4=d:1:2:observer\n\
                 group.1=1:2:3:4\nweight.4=1",
            ),
        ];
        for membership in memberships {
            let quorums: Vec<u32> = (0..1 << membership.servers.len())
                .filter(|&mask| membership.has_quorum(&set(mask)))
                .collect();
            assert!(!quorums.is_empty(), "{membership:?}");
            for a in &quorums {
                for b in &quorums {
                    assert_ne!(a & b, 0, "{a:b} {b:b} {membership:?}");
                }
            }
        }
    }

    #[test]
    fn weight_of_an_observer_in_a_group_must_be_outweighed() {
        let membership = parse(
            "server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2\nserver.4=d:1:2:observer\n\
             group.1=1:2:3:4\nweight.4=1",
        );
        // Half of four is not enough, and the observer's agreement is none.
        assert!(!membership.has_quorum(&[1, 2, 4].map(ServerId).into()));
        assert!(membership.has_quorum(&[1, 2, 3].map(ServerId).into()));
    }

    #[test]
    fn pending_membership_must_agree_too() {
        let mut old = majority(3, 0);
        old.version = 5;
        let mut new = parse("server.3=c:1:2\nserver.4=d:1:2\nserver.5=e:1:2");
        new.version = 6;
        let views = Views::new(&old, Some(&new));
        for (acks, agreed) in [
            (&[1, 2][..], false),
            (&[4, 5], false),
            (&[1, 3], false),
            (&[1, 3, 4], true),
            (&[1, 2, 4, 5], true),
        ] {
            let acks: BTreeSet<_> = acks.iter().copied().map(ServerId).collect();
            assert_eq!(views.have_quorum(&acks), agreed, "{acks:?}");
        }
        assert!(views.is_voter(ServerId(1)) && views.is_voter(ServerId(5)));
        assert!(!views.is_voter(ServerId(6)));
    }

    #[test]
    fn last_seen_membership_that_is_not_newer_has_no_say() {
        let mut committed = majority(3, 0);
        committed.version = 6;
        let mut seen = majority(1, 0);
        for version in [0, 6] {
            seen.version = version;
            let views = Views::new(&committed, Some(&seen));
            assert_eq!(views.pending(), None);
            assert!(views.have_quorum(&[2, 3].map(ServerId).into()));
        }
        seen.version = 7;
        let views = Views::new(&committed, Some(&seen));
        assert!(!views.have_quorum(&[2, 3].map(ServerId).into()));
    }
}
