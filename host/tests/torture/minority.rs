//! A minority refuses writes, reads only where it is allowed to, and comes back to what the
//! majority has.

use core::time::Duration;
use std::collections::BTreeSet;
use std::thread;
use std::time::Instant;

use super::client::{Client, Refusal, Request};
use super::cluster::{Cluster, Mode};
use super::network::Host;

const SERVERS: u32 = 3;
/// Has no `readonlymode.enabled`.
const STRICT: Host = 1;
const SESSION_TIMEOUT_MS: i32 = 15_000;
const WAIT_MAX: Duration = Duration::from_secs(60);
const SYNC_AHEAD: Duration = Duration::from_millis(300);
const POLL: Duration = Duration::from_millis(100);
/// Source: `KeeperException.Code.NOTREADONLY`.
const NOT_READ_ONLY: i32 = -119;
const KEY: &str = "/key";

/// Plays it.
pub(crate) fn run() {
    let mut cluster = Cluster::start("minority", (SERVERS, 0), true, |id| {
        let read_only = if id == STRICT {
            ""
        } else {
            "readonlymode.enabled=true\n"
        };
        format!("{read_only}autopurge.purgeInterval=0\nmaxSessionTimeout=20000")
    });
    cluster.wait_until_whole(WAIT_MAX);
    let leader = cluster.leader().expect("a whole ensemble has a leader");
    let mut client = connected(&cluster, leader, false);
    let created = client.call(Request::Create {
        path: KEY.to_owned(),
        data: b"before".to_vec(),
        ephemeral: false,
    });
    assert_eq!(created.map(|answer| answer.code), Some(0));
    a_follower_alone(&mut cluster);
    a_leader_alone(&mut cluster);
    everybody_alone(&mut cluster);
    assert_everywhere(&cluster, b"by the majority");
    cluster.wait_until_equal(WAIT_MAX);
    cluster.stop();
}

/// A follower is cut off: it gives up, refuses whoever wants to write, and reads for those who ask
/// for that.
fn a_follower_alone(cluster: &mut Cluster) {
    let leader = cluster.leader().expect("a leader");
    let lone = cluster
        .ids()
        .into_iter()
        .rfind(|&id| id != leader && id != STRICT);
    let lone = lone.expect("a follower that may read");
    eprintln!("minority: server {leader} leads, {lone} is cut off");
    let mut old = connected(cluster, lone, false);
    let began = Instant::now();
    isolate(cluster, &[lone]);
    // Up to the moment at which it gives up it serves reads, of what it has.
    assert_eq!(get(&mut old), Some(b"before".to_vec()));
    assert!(
        set(&mut old, b"lost").is_none(),
        "nobody can have agreed to it"
    );
    wait(cluster, lone, Mode::Without);
    eprintln!("  it gives up after {:.1?}", began.elapsed());
    let mut refused = Client::new(SESSION_TIMEOUT_MS, false);
    let answer = refused.connect(cluster.addresses(lone).client);
    assert!(matches!(answer, Err(Refusal::NotNow(_))), "{answer:?}");
    eprintln!("  a client that may write is refused: {answer:?}");
    let mut reader = connected(cluster, lone, true);
    assert!(reader.read_only);
    eprintln!(
        "  a client that asks for read-only is served after {:.1?}",
        began.elapsed()
    );
    assert_eq!(set(&mut reader, b"never"), Some(NOT_READ_ONLY));
    let created = reader.call(Request::Create {
        path: "/never".to_owned(),
        data: Vec::new(),
        ephemeral: true,
    });
    assert_eq!(created.map(|answer| answer.code), Some(NOT_READ_ONLY));
    let mut writer = connected(cluster, leader, false);
    assert_eq!(set(&mut writer, b"meanwhile"), Some(0));
    assert_eq!(get(&mut reader), Some(b"before".to_vec()), "it is cut off");
    eprintln!(
        "  the majority has written \"meanwhile\"; read-only reads \"before\", set: {NOT_READ_ONLY}"
    );
    heal(cluster);
    assert_everywhere(cluster, b"meanwhile");
}

/// The leader is cut off with a client: neither a write nor a sync is answered there, and what it
/// proposed alone is gone when it comes back.
fn a_leader_alone(cluster: &mut Cluster) {
    let leader = cluster.leader().expect("a leader");
    let others: Vec<Host> = cluster
        .ids()
        .into_iter()
        .filter(|&id| id != leader)
        .collect();
    eprintln!("minority: server {leader} leads, and is cut off");
    let mut writer = connected(cluster, leader, false);
    let mut reader = connected(cluster, leader, false);
    let began = Instant::now();
    isolate(cluster, &[leader]);
    assert_eq!(get(&mut reader), Some(b"meanwhile".to_vec()));
    // Before anything is proposed that it would have to wait for.
    let syncing = thread::spawn(move || reader.call(Request::Sync));
    thread::sleep(SYNC_AHEAD);
    let answer = set(&mut writer, b"by one");
    assert_eq!(answer, None, "one of three has agreed to it");
    let synced = syncing.join().expect("the reader fares well");
    assert!(synced.is_none(), "a sync asks the majority: {synced:?}");
    eprintln!("  its clients' write and sync are not answered");
    let next = loop {
        let mut next = others
            .iter()
            .filter(|&&id| cluster.status(id).mode == Mode::Leader);
        if let Some(&next) = next.next() {
            break next;
        }
        assert!(began.elapsed() < WAIT_MAX, "the majority elects nobody");
        thread::sleep(POLL);
    };
    eprintln!(
        "  the majority has server {next} lead after {:.1?}",
        began.elapsed()
    );
    let mut client = connected(cluster, next, false);
    assert_eq!(get(&mut client), Some(b"meanwhile".to_vec()));
    assert_eq!(set(&mut client, b"by the majority"), Some(0));
    wait(cluster, leader, Mode::Without);
    heal(cluster);
    assert_everywhere(cluster, b"by the majority");
}

/// Nobody hears anybody: no server writes, and one that was not allowed to does not read.
fn everybody_alone(cluster: &mut Cluster) {
    eprintln!("minority: everybody is cut off");
    let ids = cluster.ids();
    isolate(cluster, &ids);
    for &id in &ids {
        wait(cluster, id, Mode::Without);
    }
    for &id in ids.iter().filter(|&&id| id != STRICT) {
        let mut reader = connected(cluster, id, true);
        assert!(reader.read_only);
        assert_eq!(get(&mut reader), Some(b"by the majority".to_vec()));
        assert_eq!(set(&mut reader, b"never"), Some(NOT_READ_ONLY));
    }
    let mut reader = Client::new(SESSION_TIMEOUT_MS, true);
    let answer = reader.connect(cluster.addresses(STRICT).client);
    assert!(matches!(answer, Err(Refusal::NotNow(_))), "{answer:?}");
    eprintln!("  two read for those who ask for it, server {STRICT} is not configured to");
    heal(cluster);
}

/// None of these hears any other server, nor is heard. Clients reach all.
fn isolate(cluster: &Cluster, some: &[Host]) {
    let ids = cluster.ids();
    let all = some.iter().flat_map(|&a| ids.iter().map(move |&b| (a, b)));
    let pairs = all.filter(|(a, b)| a != b);
    let pairs: BTreeSet<(Host, Host)> = pairs.flat_map(|(a, b)| [(a, b), (b, a)]).collect();
    cluster.network.cut(&pairs);
}

fn heal(cluster: &mut Cluster) {
    cluster.network.cut(&BTreeSet::new());
    let time = cluster.wait_until_whole(WAIT_MAX);
    eprintln!("  the cut is gone; whole after {time:.1?}");
}

/// A client of that server, as soon as it takes one.
fn connected(cluster: &Cluster, server: Host, read_only: bool) -> Client {
    let begun = Instant::now();
    let mut client = Client::new(SESSION_TIMEOUT_MS, read_only);
    loop {
        match client.connect(cluster.addresses(server).client) {
            Ok(()) => return client,
            Err(refusal) => {
                assert!(begun.elapsed() < WAIT_MAX, "server {server}: {refusal:?}");
                thread::sleep(POLL);
            }
        }
    }
}

fn wait(cluster: &Cluster, server: Host, mode: Mode) {
    let begun = Instant::now();
    while cluster.status(server).mode != mode {
        assert!(
            begun.elapsed() < WAIT_MAX,
            "server {server} is never {mode:?}"
        );
        thread::sleep(POLL);
    }
}

fn get(client: &mut Client) -> Option<Vec<u8>> {
    let path = KEY.to_owned();
    client.call(Request::Get { path, watch: false })?.data
}

/// The code of the answer.
fn set(client: &mut Client, data: &[u8]) -> Option<i32> {
    let request = Request::Set {
        path: KEY.to_owned(),
        data: data.to_vec(),
        version: -1,
    };
    client.call(request).map(|answer| answer.code)
}

/// Whoever syncs, wherever, reads this.
fn assert_everywhere(cluster: &Cluster, data: &[u8]) {
    for id in cluster.ids() {
        let mut client = connected(cluster, id, false);
        assert_eq!(
            client.call(Request::Sync).map(|answer| answer.code),
            Some(0)
        );
        assert_eq!(get(&mut client).as_deref(), Some(data), "server {id}");
        client.call(Request::Close);
    }
}
