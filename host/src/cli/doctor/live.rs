//! What is wrong with servers that run: ours, or Apache ZooKeeper.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use zabra_core::wire::records::Perms;
use zabra_core::zab::Membership;

use super::client::{Client, Refused};
use super::data::{ANSWER_BYTES_RISKY, too_large};
use super::finding::{Finding, Weight};
use super::metrics::{self, Metrics};
use crate::cli::ensemble::address::Address;
use crate::cli::ensemble::condition::{self, Answer, Role};
use crate::cli::ensemble::{verdict, word};
use crate::cli::failure::count;

/// Clocks that differ by more give logs that nobody can compare, and TTLs that end at odd times.
const CLOCKS_APART_MS: i64 = 1000;

/// How much of the tree is looked through for long lists of children.
const ZNODES_LOOKED_AT_MAX: usize = 3000;
const LOOK_TIME_MAX: Duration = Duration::from_secs(5);
const NAMED_MAX: usize = 5;

/// What was learned of one server.
struct Seen {
    address: Address,
    serves: bool,
    version: Option<String>,
    metrics: Option<Metrics>,
    settings: Option<BTreeMap<String, String>>,
    /// Whether words are answered that no monitoring needs.
    answers_all_words: bool,
    session: Result<Session, String>,
}

/// What was learned in a session.
struct Session {
    /// How far its clock is before this machine's, if it tells.
    clock_ms: Option<i64>,
    membership: Option<Membership>,
    /// Whether everybody may do everything at the root.
    is_root_open: bool,
    large: Vec<String>,
}

/// Looks at them all at once.
pub(super) fn look(servers: &[Address], time_max: Duration) -> Vec<Finding> {
    let looking: Vec<_> = servers
        .iter()
        .enumerate()
        .map(|(index, address)| {
            let address = address.clone();
            // One walk through the tree is enough.
            thread::spawn(move || see(address, time_max, index == 0))
        })
        .collect();
    let (answers, seen): (Vec<(Address, Answer)>, Vec<Seen>) = looking
        .into_iter()
        .filter_map(|thread| thread.join().ok())
        .map(|(answer, seen)| ((seen.address.clone(), answer), seen))
        .unzip();
    let mut findings = Vec::new();
    ensemble(&answers, &seen, &mut findings);
    clocks(&seen, &mut findings);
    versions(&seen, &mut findings);
    settings(&seen, &mut findings);
    for seen in &seen {
        one(seen, &mut findings);
    }
    together(findings)
}

/// What is so of several servers is said once.
fn together(findings: Vec<Finding>) -> Vec<Finding> {
    let mut said: Vec<Finding> = Vec::new();
    for finding in findings {
        let same = said.iter_mut().find(|other| {
            (other.weight, &other.text, &other.advice)
                == (finding.weight, &finding.text, &finding.advice)
        });
        match same {
            Some(same) => same.about += &format!(", {}", finding.about),
            None => said.push(finding),
        }
    }
    said
}

fn see(address: Address, time_max: Duration, walks: bool) -> (Answer, Seen) {
    let ask = |word| word::ask(&address, word, time_max).ok();
    let answer = condition::ask(&address, time_max);
    let condition = match &answer {
        Answer::Condition(condition) => Some(condition),
        Answer::Silence(_) | Answer::Strange(_) => None,
    };
    let serves = condition.is_some_and(|it| it.role != Role::NotServing);
    let session = if serves {
        session(&address, time_max, walks)
    } else {
        Err("it does not serve".to_owned())
    };
    let seen = Seen {
        serves,
        version: condition.and_then(|condition| condition.version.clone()),
        metrics: ask("mntr").and_then(|text| metrics::read(&text)),
        settings: ask("conf").and_then(|text| metrics::settings(&text)),
        // It tells a number, and nobody allows it but by `*`.
        answers_all_words: ask("gtmk").is_some_and(|it| it.trim().parse::<i64>().is_ok()),
        session,
        address,
    };
    (answer, seen)
}

fn session(address: &Address, time_max: Duration, walks: bool) -> Result<Session, String> {
    let before = now_ms();
    let mut client = Client::open(address, time_max).map_err(|error| error.to_string())?;
    let after = now_ms();
    let cons = word::ask(address, "cons", time_max).unwrap_or_default();
    let established = established(&cons, &client.session.to_string());
    let membership = client
        .data("/zookeeper/config")
        .ok()
        .and_then(|data| Membership::parse(str::from_utf8(&data).ok()?).ok());
    let session = Session {
        // Whatever the network took is no difference.
        clock_ms: established.map(|at| at - at.clamp(before, after)),
        membership,
        is_root_open: client.lets_everybody("/", Perms::ALL).unwrap_or(false),
        large: if walks {
            large(&mut client)
        } else {
            Vec::new()
        },
    };
    client.close();
    Ok(session)
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}

/// When the server's clock says that this session's connection came.
fn established(cons: &str, session: &str) -> Option<i64> {
    let line = cons
        .lines()
        .find(|line| line.contains(&format!("sid={session},")))?;
    let (_, rest) = line.split_once(",est=")?;
    rest.split(',').next()?.parse().ok()
}

/// Znodes with lists of children that hardly fit an answer, from the root down as far as time and
/// permissions allow.
fn large(client: &mut Client) -> Vec<String> {
    let end = Instant::now() + LOOK_TIME_MAX;
    let mut waiting = VecDeque::from(["/".to_owned()]);
    let mut large = Vec::new();
    for _ in 0..ZNODES_LOOKED_AT_MAX {
        let Some(path) = waiting.pop_front().filter(|_| Instant::now() < end) else {
            break;
        };
        let children = match client.children(&path) {
            Ok(children) => children,
            Err(Refused::ByServer) => continue,
            Err(Refused::Disconnected) => break,
        };
        let bytes: usize = children.iter().map(|name| name.len() + 4).sum();
        if bytes > ANSWER_BYTES_RISKY {
            large.push(format!("{path} has {} children", children.len()));
        }
        // Of thousands alike, a few tell enough.
        for name in children.iter().take(ZNODES_LOOKED_AT_MAX / 10) {
            let parent = path.trim_end_matches('/');
            waiting.push_back(format!("{parent}/{name}"));
        }
    }
    large.truncate(NAMED_MAX);
    large
}

/// What is so of all together.
fn ensemble(answers: &[(Address, Answer)], seen: &[Seen], findings: &mut Vec<Finding>) {
    let verdict = verdict::judge(answers);
    let about = "the ensemble";
    for problem in &verdict.problems {
        findings.push(Finding::new(Weight::Wrong, about, problem, ""));
    }
    for remark in &verdict.remarks {
        let text = format!("{remark}: a server less that may fail");
        findings.push(Finding::new(
            Weight::Wrong,
            about,
            text,
            "start it, or see its log",
        ));
    }
    if verdict.is_well() {
        findings.push(Finding::new(Weight::Note, about, &verdict.summary, ""));
    }
    let memberships = || {
        let sessions = seen.iter().filter_map(|seen| seen.session.as_ref().ok());
        sessions.filter_map(|session| session.membership.as_ref())
    };
    let voters = memberships()
        .filter(|it| it.groups.is_empty())
        .map(|it| it.voters().count())
        .max()
        .or_else(|| {
            let told = seen
                .iter()
                .filter_map(|seen| seen.metrics.as_ref()?.get("quorum_size"));
            told.copied().reduce(f64::max).and_then(whole)
        });
    if let Some(voters) = voters.filter(|voters| *voters > 0 && voters % 2 == 0) {
        findings.push(Finding::new(
            Weight::Risk,
            about,
            format!(
                "{} vote, an even number: that survives no more failures than {} would",
                count(voters, "server"),
                voters - 1
            ),
            "add a voter, or make one an observer",
        ));
    }
    let unnamed = memberships()
        .map(|it| it.servers.len())
        .max()
        .filter(|servers| *servers > seen.len());
    if let Some(servers) = unnamed {
        findings.push(Finding::new(
            Weight::Note,
            about,
            format!(
                "it has {}, and {} were looked at",
                count(servers, "server"),
                seen.len()
            ),
            "name them all",
        ));
    }
}

/// A number of servers, as `mntr` may print it.
fn whole(number: f64) -> Option<usize> {
    format!("{number:.0}").parse().ok()
}

fn clocks(seen: &[Seen], findings: &mut Vec<Finding>) {
    let told: Vec<(&Address, i64)> = seen
        .iter()
        .filter_map(|seen| Some((&seen.address, seen.session.as_ref().ok()?.clock_ms?)))
        .collect();
    let (least, most) = (
        told.iter().min_by_key(|(_, ms)| *ms),
        told.iter().max_by_key(|(_, ms)| *ms),
    );
    if let (Some((behind, least)), Some((ahead, most))) = (least, most) {
        let apart = most - least;
        if apart > CLOCKS_APART_MS {
            findings.push(Finding::new(
                Weight::Risk,
                "the ensemble",
                format!("clocks are apart: {ahead} is {apart} ms before {behind}"),
                "run chrony or another NTP client on every server",
            ));
        } else if *most > CLOCKS_APART_MS || *least < -CLOCKS_APART_MS {
            let ms = if *most > CLOCKS_APART_MS { most } else { least };
            findings.push(Finding::new(
                Weight::Risk,
                "the ensemble",
                format!("its clocks are {ms} ms before this machine's"),
                "see which is wrong, and run an NTP client there",
            ));
        }
    }
    let silent: Vec<String> = seen
        .iter()
        .filter(|seen| seen.session.as_ref().is_ok_and(|it| it.clock_ms.is_none()))
        .map(|seen| seen.address.to_string())
        .collect();
    if !silent.is_empty() {
        findings.push(Finding::new(
            Weight::Note,
            silent.join(", "),
            "clocks were not compared: the word cons is not answered",
            "put cons into 4lw.commands.whitelist",
        ));
    }
}

fn versions(seen: &[Seen], findings: &mut Vec<Finding>) {
    let found: BTreeSet<&str> = seen
        .iter()
        .filter_map(|seen| seen.version.as_deref())
        .collect();
    if found.len() > 1 {
        let found: Vec<&str> = found.into_iter().collect();
        findings.push(Finding::new(
            Weight::Risk,
            "the ensemble",
            format!("servers are of different releases: {}", found.join(", ")),
            "finish the upgrade: an ensemble works mixed, but does not have to stay so",
        ));
    }
}

/// What must be the same everywhere.
fn settings(seen: &[Seen], findings: &mut Vec<Finding>) {
    for key in ["tickTime", "initLimit", "syncLimit"] {
        let mut values: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for seen in seen {
            let value = seen
                .settings
                .as_ref()
                .and_then(|settings| settings.get(key));
            if let Some(value) = value {
                values
                    .entry(value)
                    .or_default()
                    .push(seen.address.to_string());
            }
        }
        if values.len() > 1 {
            let each: Vec<String> = values
                .iter()
                .map(|(value, servers)| format!("{value} on {}", servers.join(" and ")))
                .collect();
            findings.push(Finding::new(
                Weight::Risk,
                "the ensemble",
                format!("{key} differs: {}", each.join(", ")),
                "use the same value on every server: they judge each other's silence by it",
            ));
        }
    }
}

/// What is so of one.
fn one(seen: &Seen, findings: &mut Vec<Finding>) {
    let about = seen.address.to_string();
    if !seen.serves {
        return;
    }
    match &seen.metrics {
        Some(metrics) => metrics::judge(&about, metrics, findings),
        None => findings.push(Finding::new(
            Weight::Note,
            &about,
            "fsyncs, watches, descriptors and disk were not looked at: the word mntr is not \
             answered",
            "put mntr into 4lw.commands.whitelist",
        )),
    }
    let exposed = !is_this_machine(&seen.address.host);
    if seen.answers_all_words && exposed {
        findings.push(Finding::new(
            Weight::Risk,
            &about,
            "every four-letter word is answered: everybody who reaches the port may ask for every \
             session, path and watch, as often as it costs most (CVE-2017-5637)",
            "set 4lw.commands.whitelist to what monitoring needs: srvr, ruok, mntr, isro",
        ));
    }
    if let Some(settings) = &seen.settings {
        let is = |key: &str, value: &str| settings.get(key).is_some_and(|it| it == value);
        if is("maxClientCnxns", "0") {
            findings.push(Finding::new(
                Weight::Risk,
                &about,
                "maxClientCnxns=0: one client that leaks connections takes them from all others",
                "set it to what one host needs",
            ));
        }
        if settings
            .get("dataDir")
            .is_some_and(|data| is("dataLogDir", data))
        {
            findings.push(Finding::new(
                Weight::Note,
                &about,
                "snapshots and log are in one directory: while a snapshot is written, transactions \
                 may wait",
                "give dataLogDir a disk of its own if latency matters",
            ));
        }
    }
    match &seen.session {
        Ok(session) => in_session(&about, session, exposed, findings),
        Err(error) => findings.push(Finding::new(
            Weight::Note,
            &about,
            format!("it opens no session without authentication, or none at all: {error}"),
            "",
        )),
    }
}

fn in_session(about: &str, session: &Session, exposed: bool, findings: &mut Vec<Finding>) {
    if exposed {
        findings.push(Finding::new(
            Weight::Risk,
            about,
            "it opened a session, without encryption, to somebody who did not say who he is",
            "let a firewall admit only clients, or enforce authentication and TLS",
        ));
    }
    if session.is_root_open {
        let weight = if exposed { Weight::Risk } else { Weight::Note };
        findings.push(Finding::new(
            weight,
            about,
            "everybody may create znodes under the root, and change its ACL",
            "setAcl / world:anyone:r, with an administrator's entry beside it",
        ));
    }
    for text in &session.large {
        findings.push(too_large(about, text.clone()));
    }
}

fn is_this_machine(host: &str) -> bool {
    let is_loopback = |ip: IpAddr| ip.to_canonical().is_loopback();
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_connection_is_found_by_its_session_in_either_servers_words() {
        let java = " /127.0.0.1:40100[1](queued=0,recved=1,sent=1,sid=0x100000a2b3c0001,lop=SESS,\
                    est=1784196672123,to=10000,lzxid=0xffffffffffffffff,lresp=5,llat=0,minlat=0)\n \
                    /127.0.0.1:40101[0](queued=0,recved=1,sent=0)\n";
        assert_eq!(
            established(java, "0x100000a2b3c0001"),
            Some(1_784_196_672_123)
        );
        assert_eq!(established(java, "0x1"), None);
        assert_eq!(established("", "0x1"), None);
    }
}
