//! Whether an ensemble is well, from what its servers say.

use super::address::Address;
use super::condition::{Answer, Condition, Role};
use super::count;

/// What was found about an ensemble.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Verdict {
    /// Why it is not well: nothing if it is.
    pub(in crate::cli) problems: Vec<String>,
    /// What is wrong with single servers, though the ensemble may do without them.
    pub(in crate::cli) remarks: Vec<String>,
    /// How well it is, in a clause, if it is.
    pub(in crate::cli) summary: String,
}

impl Verdict {
    pub(in crate::cli) const fn is_well(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Judges the answers of servers that are taken to be one ensemble.
pub(in crate::cli) fn judge(servers: &[(Address, Answer)]) -> Verdict {
    let mut verdict = Verdict {
        remarks: servers.iter().filter_map(remark).collect(),
        ..Verdict::default()
    };
    let conditions: Vec<(&Address, &Condition)> = servers.iter().filter_map(condition).collect();
    let of = |role: Role| conditions.iter().filter(move |(_, it)| it.role == role);
    if let ([_], Some(_)) = (servers, of(Role::Standalone).next()) {
        verdict.summary = "a standalone server, which serves".to_owned();
        return verdict;
    }
    for (address, _) in of(Role::Standalone) {
        verdict.problems.push(format!(
            "{address} is a standalone server, not one of an ensemble"
        ));
    }
    let leaders: Vec<&(&Address, &Condition)> = of(Role::Leader).collect();
    match leaders.as_slice() {
        [] => verdict.problems.push(no_leader(servers, &conditions)),
        [(address, leader)] => quorum(&mut verdict, servers, &conditions, address, leader),
        many => verdict.problems.push(two_leaders(many)),
    }
    verdict
}

fn condition((address, answer): &(Address, Answer)) -> Option<(&Address, &Condition)> {
    match answer {
        Answer::Condition(condition) => Some((address, condition)),
        Answer::Silence(_) | Answer::Strange(_) => None,
    }
}

fn remark((address, answer): &(Address, Answer)) -> Option<String> {
    match answer {
        Answer::Condition(condition) => match condition.role {
            Role::NotServing => Some(format!(
                "{address} does not serve: it looks for a leader, or is starting"
            )),
            Role::ReadOnly => Some(format!(
                "{address} has no leader and serves only clients that ask for read-only"
            )),
            Role::Follower | Role::Leader | Role::Observer | Role::Standalone => None,
        },
        Answer::Silence(silence) => Some(format!("{address} {silence}")),
        Answer::Strange(line) => Some(format!(
            "{address} is no ZooKeeper server: expected the answer to srvr, found {line:?}"
        )),
    }
}

fn no_leader(servers: &[(Address, Answer)], conditions: &[(&Address, &Condition)]) -> String {
    let voters = conditions.iter().filter(|(_, it)| it.role.votes()).count();
    if conditions.is_empty() {
        "no leader: no server answers".to_owned()
    } else if voters > 0 {
        // A follower has a leader, or it would not serve.
        format!(
            "no leader among these: {} and so must have one elsewhere; name every server, or look \
             again if the leader has just changed",
            match voters {
                1 => "1 server follows".to_owned(),
                more => format!("{more} servers follow"),
            }
        )
    } else {
        let (asked, answered) = (servers.len(), conditions.len());
        format!(
            "no leader: of {} {answered} answered, and none of them leads or follows",
            count(asked, "server")
        )
    }
}

fn two_leaders(leaders: &[&(&Address, &Condition)]) -> String {
    let each: Vec<String> = leaders
        .iter()
        .map(|(address, leader)| match leader.zxid {
            Some(zxid) => format!("{address} at zxid 0x{zxid:x}"),
            None => address.to_string(),
        })
        .collect();
    let number = match each.len() {
        2 => "two".to_owned(),
        more => more.to_string(),
    };
    format!(
        "{number} leaders: {}; an old one gives up within syncLimit ticks: look again, and if it \
         stays, these are servers of different ensembles",
        each.join(", ")
    )
}

/// A leader without a quorum gives up after a while; until then it must not look well.
fn quorum(
    verdict: &mut Verdict,
    servers: &[(Address, Answer)],
    conditions: &[(&Address, &Condition)],
    address: &Address,
    leader: &Condition,
) {
    let observers = conditions
        .iter()
        .filter(|(_, it)| it.role == Role::Observer)
        .count();
    let seen = conditions.iter().filter(|(_, it)| it.role.votes()).count();
    let monitored = leader.monitored.as_ref();
    let followers = monitored.and_then(|it| usize::try_from(it.followers?).ok());
    let voters = monitored.and_then(|it| usize::try_from(it.voters?).ok());
    let named = servers.len().saturating_sub(observers);
    let voters = voters.unwrap_or(named);
    // Who has been asked is known better than the leader knows, which notices a dead follower only
    // after syncLimit ticks; of the others there is its word.
    let told = followers.map_or(0, |followers| followers.saturating_add(1));
    let serving = if named < voters { seen.max(told) } else { seen };
    if serving.saturating_mul(2) <= voters {
        verdict.problems.push(format!(
            "no quorum: {address} leads, but only {serving} of {} serve",
            count(voters, "voter")
        ));
        return;
    }
    verdict.summary = format!(
        "{address} leads, {serving} of {} serve",
        count(voters, "voter")
    );
    if observers > 0 {
        verdict.summary += &format!(", {}", count(observers, "observer"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::condition::Monitored;
    use super::super::word::Silence;
    use super::*;

    fn server(role: Role, monitored: Option<(u64, u64)>) -> Answer {
        Answer::Condition(Condition {
            role,
            version: None,
            zxid: Some(0x1_0000_0000),
            connections: None,
            latency_ms: None,
            nodes: None,
            monitored: monitored.map(|(voters, followers)| Monitored {
                sessions: None,
                voters: Some(voters),
                followers: Some(followers),
            }),
        })
    }

    fn down() -> Answer {
        Answer::Silence(Silence::Closed)
    }

    fn verdict(answers: Vec<Answer>) -> Verdict {
        let address = |port| Address {
            host: "z".to_owned(),
            port,
        };
        let servers: Vec<(Address, Answer)> = (1..).map(address).zip(answers).collect();
        judge(&servers)
    }

    #[test]
    fn one_leader_and_a_quorum_are_well_though_a_server_is_down() {
        let found = verdict(vec![
            server(Role::Follower, None),
            server(Role::Leader, Some((3, 1))),
            down(),
            server(Role::Observer, None),
        ]);
        assert!(found.is_well(), "{found:?}");
        assert_eq!(found.summary, "z:2 leads, 2 of 3 voters serve, 1 observer");
        assert_eq!(found.remarks.len(), 1);
    }

    #[test]
    fn follower_that_does_not_answer_does_not_count_though_its_leader_thinks_so() {
        let found = verdict(vec![
            server(Role::Leader, Some((3, 2))),
            server(Role::Follower, None),
            down(),
        ]);
        assert_eq!(found.summary, "z:1 leads, 2 of 3 voters serve");
    }

    #[test]
    fn leader_alone_is_believed_by_what_it_says_of_the_others() {
        assert!(verdict(vec![server(Role::Leader, Some((3, 2)))]).is_well());
        let found = verdict(vec![server(Role::Leader, Some((3, 0)))]);
        assert_eq!(
            found.problems,
            ["no quorum: z:1 leads, but only 1 of 3 voters serve"]
        );
        // Without mntr, who was named is who there is.
        let found = verdict(vec![server(Role::Leader, None), down(), down()]);
        assert_eq!(
            found.problems,
            ["no quorum: z:1 leads, but only 1 of 3 voters serve"]
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (answers, expected) in [
            (vec![down(), down()], "no leader: no server answers"),
            (
                vec![
                    server(Role::NotServing, None),
                    server(Role::ReadOnly, None),
                    down(),
                ],
                "no leader: of 3 servers 2 answered, and none of them leads or follows",
            ),
            (
                vec![server(Role::Follower, None)],
                "no leader among these: 1 server follows",
            ),
            (
                vec![server(Role::Leader, None), server(Role::Leader, None)],
                "two leaders: z:1 at zxid 0x100000000, z:2 at zxid 0x100000000;",
            ),
            (
                vec![
                    server(Role::Leader, Some((1, 0))),
                    server(Role::Standalone, None),
                ],
                "z:2 is a standalone server, not one of an ensemble",
            ),
        ] {
            let found = verdict(answers);
            let first = found.problems.first().expect(expected);
            assert!(first.starts_with(expected), "{first}");
        }
    }

    #[test]
    fn standalone_server_is_well_by_itself() {
        assert!(verdict(vec![server(Role::Standalone, None)]).is_well());
    }
}
