//! One ensemble under load, with one fault after the other, and then the check.

use core::time::Duration;
use std::collections::BTreeMap;
use std::thread;
use std::time::Instant;

use super::check;
use super::client::{Client, Request};
use super::cluster::Cluster;
use super::fault::{self, Fault};
use super::forgery;
use super::history;
use super::load::{self, Load};
use super::options::Options;
use super::random::Random;

/// Of a long run, so that its history can be held and checked.
const EPISODE_MAX: Duration = Duration::from_secs(150);
const CLIENTS: usize = 6;
const WHOLE_TIME_MAX: Duration = Duration::from_secs(60);
/// For a majority to notice, to elect, and to be found by a client.
const PROGRESS_TIME_MAX: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);
const SESSION_TIMEOUT_MS: i32 = 20_000;

/// Snapshots and new log files all the time, and all logs kept: they are the history.
const SERVER_OPTIONS: &str = "snapCount=700\nautopurge.purgeInterval=0\nmaxSessionTimeout=20000";

/// Faults that were there, and the longest that an ensemble took to be whole after one.
#[derive(Default)]
struct Tally(BTreeMap<Fault, (u32, Duration)>);

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
            "episode {number}: {} servers, {CLIENTS} clients, {} s, --seed {}",
            options.servers,
            time.as_secs(),
            options.seed
        );
        let mut random = random.fork();
        run(
            options,
            namespaces,
            time,
            &mut random,
            &mut deck,
            &mut tally,
        );
    }
    for (fault, (count, longest)) in &tally.0 {
        eprintln!("{fault:?} x{count}: whole again after {longest:.1?} at most");
    }
}

fn run(
    options: &Options,
    namespaces: bool,
    time: Duration,
    random: &mut Random,
    deck: &mut Vec<Fault>,
    tally: &mut Tally,
) {
    let mut cluster = Cluster::start("episode", options.servers, namespaces, |_| {
        SERVER_OPTIONS.to_owned()
    });
    cluster.wait_until_whole(WHOLE_TIME_MAX);
    let mut entries = vec![prepare(&cluster)];
    let load = Load::start(CLIENTS, &cluster.client_addresses(), random);
    let end = Instant::now() + time;
    while Instant::now() < end {
        thread::sleep(random.duration_ms(300, 1500));
        if deck.is_empty() {
            deck.extend(Fault::all(namespaces));
            if let Some(name) = &options.fault {
                deck.retain(|fault| format!("{fault:?}") == *name);
            }
            random.shuffle(deck);
        }
        let Some(fault) = deck.pop() else {
            break;
        };
        one_fault(fault, &mut cluster, &load, random, tally);
    }
    let written = load.written();
    entries.extend(load.finish());
    cluster.wait_until_whole(WHOLE_TIME_MAX);
    let last = cluster.wait_until_equal(WHOLE_TIME_MAX);
    cluster.stop();
    let history = history::read(cluster.data());
    let trees = history::load_trees(cluster.data());
    let summary = check::all(&entries, &history, &trees, last);
    let noticed = forgery::none_passes(&entries, &history, &trees, last);
    eprintln!("episode: {written} writes acknowledged; {summary}; {noticed} forgeries noticed");
}

/// Makes what the clients work with.
fn prepare(cluster: &Cluster) -> Vec<super::client::Entry> {
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

fn one_fault(
    fault: Fault,
    cluster: &mut Cluster,
    load: &Load,
    random: &mut Random,
    tally: &mut Tally,
) {
    let hold = fault::hold(random);
    let before = load.written();
    let begun = Instant::now();
    let ongoing = fault::begin(fault, cluster, random);
    let text = ongoing.text.clone();
    thread::sleep(hold);
    if fault.leaves_a_majority() {
        // Those that were under way when it began do not count.
        let after_hold = load.written();
        while load.written() < after_hold + 20 {
            assert!(
                begun.elapsed() < hold + PROGRESS_TIME_MAX,
                "{fault:?} ({text}): a majority is well and nothing is written for {:?}",
                begun.elapsed()
            );
            thread::sleep(POLL);
        }
    }
    let (held, during) = (begun.elapsed(), load.written() - before);
    let whole = fault::end(ongoing, cluster);
    eprintln!("  {fault:?} ({text}): {held:.1?}, {during} writes; whole after {whole:.1?}");
    let entry = tally.0.entry(fault).or_default();
    entry.0 += 1;
    entry.1 = entry.1.max(whole);
}
