//! One ensemble under load, with one fault after the other, or two at once, and changes of the
//! membership meanwhile; and then the check.

use core::time::Duration;
use std::collections::BTreeMap;
use std::thread;
use std::time::Instant;

use super::change::{self, Change, Counts};
use super::check::{self, Found};
use super::client::{Client, Entry, Request};
use super::cluster::Cluster;
use super::fault::{self, Fault};
use super::forgery;
use super::history;
use super::load::{self, Load};
use super::membership::{Members, Role};
use super::options::Options;
use super::random::Random;

/// Of a long run, so that its history can be held and checked.
const EPISODE_MAX: Duration = Duration::from_secs(150);
const CLIENTS: usize = 6;
const WHOLE_TIME_MAX: Duration = Duration::from_secs(60);
const HEALED_TIME_MAX: Duration = Duration::from_secs(90);
/// For a majority to notice, to elect, and to be found by a client.
const PROGRESS_TIME_MAX: Duration = Duration::from_secs(30);
/// Writes after which clients are taken to be served again.
const PROGRESS_WRITES: u64 = 20;
/// Of so many rounds one has two faults, and one a change of the membership.
const TWO_FAULTS_OF: usize = 2;
const CHANGE_OF: usize = 3;
const POLL: Duration = Duration::from_millis(100);
const SESSION_TIMEOUT_MS: i32 = 20_000;

/// Snapshots and new log files all the time, and all logs kept: they are the history.
const SERVER_OPTIONS: &str = "snapCount=700\nautopurge.purgeInterval=0\nmaxSessionTimeout=20000\n\
                              reconfigEnabled=true\nskipACL=yes";

/// What there was.
#[derive(Default)]
struct Tally {
    /// How often, how often of that with another one, and the longest that an ensemble took to be
    /// whole after it.
    faults: BTreeMap<Fault, (u32, u32, Duration)>,
    changes: BTreeMap<&'static str, Counts>,
    written: u64,
}

/// Episodes until the time is over.
pub(crate) fn run_all(options: &Options, namespaces: bool) {
    let begun = Instant::now();
    let mut random = Random::new(options.seed);
    let mut deck = Vec::new();
    let mut tally = Tally::default();
    let mut number = 0;
    while number == 0 || begun.elapsed() + Duration::from_secs(20) < options.time {
        number += 1;
        let left = options.time.saturating_sub(begun.elapsed());
        let time = left.min(EPISODE_MAX);
        eprintln!(
            "episode {number}: {} servers and {} observers, {CLIENTS} clients, {} s, --seed {}",
            options.servers,
            options.observers,
            time.as_secs(),
            options.seed
        );
        let episode = Episode {
            options,
            namespaces,
            random: random.fork(),
            deck: &mut deck,
            tally: &mut tally,
        };
        episode.run(time);
    }
    tally.report();
}

struct Episode<'a> {
    options: &'a Options,
    namespaces: bool,
    random: Random,
    /// The kinds of faults that are still to come before any comes again.
    deck: &'a mut Vec<Fault>,
    tally: &'a mut Tally,
}

impl Episode<'_> {
    fn run(mut self, time: Duration) {
        let servers = (self.options.servers, self.options.observers);
        let mut cluster = Cluster::start("episode", servers, self.namespaces, |_| {
            SERVER_OPTIONS.to_owned()
        });
        cluster.wait_until_whole(WHOLE_TIME_MAX);
        let first = cluster.members.clone();
        let mut entries = vec![prepare(&cluster)];
        let mut admin = Client::new(SESSION_TIMEOUT_MS, false);
        let load = Load::start(CLIENTS, &cluster.client_addresses(), &mut self.random);
        let end = Instant::now() + time;
        while Instant::now() < end {
            thread::sleep(self.random.duration_ms(300, 1500));
            let Some(faults) = self.draw(&cluster) else {
                break;
            };
            self.round(&faults, &mut cluster, &load, &mut admin);
        }
        let written = load.written();
        self.tally.written += written;
        entries.extend(load.finish());
        admin.finish(&cluster.client_addresses(), &mut self.random);
        entries.push(admin.entries);
        cluster.wait_until_whole(WHOLE_TIME_MAX);
        let last = cluster.wait_until_equal(WHOLE_TIME_MAX);
        cluster.stop();
        check_all(&cluster, &entries, &first, last, written);
    }

    /// One or two kinds of faults; `None` if there is none that was asked for.
    fn draw(&mut self, cluster: &Cluster) -> Option<Vec<Fault>> {
        let two = self.options.fault.is_none() && self.random.below(TWO_FAULTS_OF) == 0;
        let mut faults = Vec::new();
        for _ in 0..=usize::from(two) {
            if !self.deck.iter().any(|fault| fault.applies(cluster)) {
                let all = Fault::all(self.namespaces).into_iter();
                let wanted = self.options.fault.as_ref();
                let wanted = |it: &Fault| wanted.is_none_or(|name| it.to_string() == *name);
                *self.deck = all.filter(wanted).collect();
                self.random.shuffle(self.deck);
            }
            let next = self.deck.iter().rposition(|it| it.applies(cluster));
            faults.extend(next.map(|at| self.deck.remove(at)));
        }
        (!faults.is_empty()).then_some(faults)
    }

    fn round(&mut self, faults: &[Fault], cluster: &mut Cluster, load: &Load, admin: &mut Client) {
        let random = &mut self.random;
        let hold = fault::hold(random);
        let before = load.written();
        let voters_min = usize::try_from(self.options.servers).unwrap_or(0);
        let change = match random.below(CHANGE_OF) {
            0 => Change::pick(cluster, voters_min, random),
            _ => None,
        };
        let begun = Instant::now();
        let ongoing = fault::begin(faults, cluster, random);
        let mut text = ongoing.text.clone();
        let mut majority = ongoing.leaves_a_majority(&cluster.with_role(Role::Participant));
        let mut code = None;
        if let Some(change) = change {
            let voters = change.of(cluster).roles().into_iter();
            let voters = voters.filter(|it| it.1 == Role::Participant);
            let voters: Vec<_> = voters.map(|it| it.0).collect();
            // Until it is committed it needs a majority of these too.
            majority &= ongoing.leaves_a_majority_of(&voters);
            thread::sleep(random.duration_ms(0, 1000).min(hold));
            code = change.ask(cluster, admin, begun + hold, random);
            text += &format!(", {change}: {code:?}");
        }
        thread::sleep(hold.saturating_sub(begun.elapsed()));
        if majority {
            progress(load, &text);
        }
        let (held, during) = (begun.elapsed(), load.written() - before);
        ongoing.end(cluster);
        let ended = Instant::now();
        if let Some(change) = change {
            self.settle(change, code, cluster, admin);
        }
        cluster.wait_until_whole(HEALED_TIME_MAX);
        let whole = ended.elapsed();
        progress(load, &text);
        eprintln!("  {text}; {held:.1?}, {during} writes; whole after {whole:.1?}");
        for fault in faults {
            let entry = self.tally.faults.entry(*fault).or_default();
            entry.0 += 1;
            entry.1 += u32::from(faults.len() > 1);
            entry.2 = entry.2.max(whole);
        }
    }

    /// The membership is what it was, or what was asked for; whoever is not in it ends.
    fn settle(
        &mut self,
        change: Change,
        code: Option<i32>,
        cluster: &mut Cluster,
        admin: &mut Client,
    ) {
        let (before, asked) = (cluster.members.clone(), change.of(cluster));
        change::find_out(cluster, admin, &mut self.random);
        let now = &cluster.members;
        let done = *now == asked;
        assert!(
            done || (*now == before && code != Some(0)),
            "{change}: {code:?}, and of {before:?} became {now:?}"
        );
        for id in cluster.outside() {
            cluster.kill(id);
        }
        self.tally.count(change, code, done);
    }
}

impl Tally {
    fn count(&mut self, change: Change, code: Option<i32>, done: bool) {
        let kind = match change {
            Change::Join(_, Role::Participant) => "to vote",
            Change::Join(_, Role::Observer) => "to observe",
            Change::Leave(_) => "to leave",
        };
        let counts = self.changes.entry(kind).or_default();
        counts.asked += 1;
        match code {
            Some(0) => counts.acknowledged += 1,
            Some(_) => counts.refused += 1,
            None => counts.unanswered += 1,
        }
        counts.unanswered_done += u32::from(code.is_none() && done);
    }

    fn report(&self) {
        for (fault, (count, paired, longest)) in &self.faults {
            eprintln!(
                "{fault} x{count}, {paired} with another: whole again after {longest:.1?} at most"
            );
        }
        for (kind, counts) in &self.changes {
            eprintln!(
                "asked {kind} x{}: {} acknowledged, {} refused, {} not answered, of which {} done",
                counts.asked,
                counts.acknowledged,
                counts.refused,
                counts.unanswered,
                counts.unanswered_done
            );
        }
        eprintln!("{} writes acknowledged in all", self.written);
    }
}

/// Waits until clients are served.
///
/// # Panics
/// If they are not.
fn progress(load: &Load, text: &str) {
    let (begun, before) = (Instant::now(), load.written());
    while load.written() < before + PROGRESS_WRITES {
        assert!(
            begun.elapsed() < PROGRESS_TIME_MAX,
            "{text}: a majority is well and {} of {PROGRESS_WRITES} writes were acknowledged in \
             {PROGRESS_TIME_MAX:?}",
            load.written() - before
        );
        thread::sleep(POLL);
    }
}

fn check_all(cluster: &Cluster, entries: &[Vec<Entry>], first: &Members, last: i64, written: u64) {
    let outside = cluster.outside();
    let history = history::read(cluster.data(), &outside, cluster.wiped());
    let members = cluster.data().filter(|it| !outside.contains(&it.0));
    let trees = history::load_trees(members);
    let found = Found {
        history: &history,
        trees: &trees,
        last,
        first,
    };
    let summary = check::all(entries, &found);
    let noticed = forgery::none_passes(entries, &found);
    eprintln!("episode: {written} writes acknowledged; {summary}; {noticed} forgeries noticed");
}

/// Makes what the clients work with.
fn prepare(cluster: &Cluster) -> Vec<Entry> {
    let mut client = Client::new(SESSION_TIMEOUT_MS, false);
    let servers = cluster.client_addresses();
    let first = *servers.first().expect("an ensemble has servers");
    client.connect(first).expect("a whole ensemble serves");
    for path in load::first_paths() {
        let answer = client.call(Request::Create {
            path,
            data: b"first".to_vec(),
            ephemeral: false,
        });
        assert_eq!(answer.expect("nothing is wrong yet").code, 0);
    }
    client.call(Request::Close);
    client.entries
}
