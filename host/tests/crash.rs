//! Whatever was acknowledged is there after the server was killed, and a server that is asked to
//! stop loses nothing and is quick.
#![expect(
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is what is wanted"
)]

#[path = "support"]
#[expect(dead_code, reason = "other tests use other parts of it")]
mod support {
    pub(crate) mod process;
    pub(crate) mod raw;
    pub(crate) mod wire;
}

use core::hash::BuildHasher as _;
use core::net::SocketAddr;
use core::time::Duration;
use std::collections::HashMap;
use std::hash::RandomState;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use support::process::{Directory, Kind, Server};
use support::raw::{Raw, request};
use support::wire::{Acl, Client, Reader, Writer, flags, op};

const ROUNDS: u64 = 10;
const WRITERS: usize = 4;
/// Requests that a writer has in flight.
const IN_FLIGHT_MAX: i32 = 200;
const LOAD_MS_MIN: u64 = 30;
const LOAD_MS_MAX: u64 = 400;
const STOP_TIME_MAX: Duration = Duration::from_secs(2);
const SESSION_TIMEOUT_MS: i32 = 20_000;

/// Snapshots, new log files and purges all the time.
const OPTIONS: [&str; 5] = [
    "snapCount=300",
    "autopurge.snapRetainCount=3",
    "autopurge.purgeInterval=1",
    "preAllocSize=64",
    "maxClientCnxns=0",
];

/// What a writer knows to be done, by znode: data, version and the zxid of the latest change.
type Done = HashMap<String, (Vec<u8>, i32, i64)>;

/// Pipelines creates and sets of values that nobody else writes, until the connection ends.
fn write_until_the_end(address: SocketAddr, base: &str) -> Done {
    let mut done = Done::new();
    let Ok(mut connection) = Raw::open(address) else {
        return done;
    };
    let mut sent: i32 = 0;
    let mut answered: i32 = 0;
    let mut last = 0;
    loop {
        let mut requests = Vec::new();
        while sent - answered < IN_FLIGHT_MAX {
            requests.extend(nth_request(base, sent));
            sent += 1;
        }
        if connection.send(&requests).is_err() {
            // What was answered before that can still be read.
            sent = answered + IN_FLIGHT_MAX;
        }
        let half = answered + IN_FLIGHT_MAX / 2;
        while answered < half {
            let Ok(Some(reply)) = connection.reply() else {
                return done;
            };
            assert_eq!((reply.xid, reply.code), (answered, 0), "in order");
            let (path, data, version) = nth_write(base, answered);
            assert!(reply.zxid > last, "{} comes after {last}", reply.zxid);
            last = reply.zxid;
            if version > 0 {
                let stat = Reader(&reply.body).stat().unwrap();
                assert_eq!((stat.version, stat.mzxid), (version, last));
            }
            done.insert(path, (data, version, last));
            answered += 1;
        }
    }
}

/// Every znode is created, set twice, and left alone.
fn nth_write(base: &str, number: i32) -> (String, Vec<u8>, i32) {
    let path = format!("{base}-{:06}", number / 3);
    let data = format!("{base} {number}").into_bytes();
    (path, data, number % 3)
}

fn nth_request(base: &str, number: i32) -> Vec<u8> {
    let (path, data, version) = nth_write(base, number);
    let mut body = Writer::default();
    body.text(&path).buffer(Some(&data));
    if version == 0 {
        body.acl(&Acl::open()).int(flags::PERSISTENT);
        request(number, op::CREATE, &body)
    } else {
        body.int(version - 1);
        request(number, op::SET_DATA, &body)
    }
}

fn start_writers(address: SocketAddr, round: u64) -> Vec<JoinHandle<Done>> {
    (0..WRITERS)
        .map(|writer| {
            let base = format!("/r{round}-w{writer}");
            thread::spawn(move || write_until_the_end(address, &base))
        })
        .collect()
}

/// Every acknowledged write is there, or one that was sent after it.
fn check(client: &mut Client, done: &Done) {
    for (path, (data, version, zxid)) in done {
        let (found, stat) = client
            .data(path, false)
            .unwrap_or_else(|error| panic!("{path} is gone: {error:?}"));
        assert!(stat.version >= *version, "{path}: {stat:?}, {version}");
        assert!(stat.czxid <= stat.mzxid, "{path}: {stat:?}");
        if stat.version == *version {
            assert_eq!((found.as_ref(), stat.mzxid), (Some(data), *zxid), "{path}");
        } else {
            assert!(stat.mzxid > *zxid, "{path}: {stat:?}, {zxid}");
        }
    }
}

fn random_load_time() -> Duration {
    let random = RandomState::new().hash_one(0_u8);
    Duration::from_millis(LOAD_MS_MIN + random % (LOAD_MS_MAX - LOAD_MS_MIN))
}

#[test]
fn what_was_acknowledged_before_a_kill_is_there_after_it() {
    let home = Directory::new("kill");
    let mut server = Server::start(Kind::Zabra, home.path(), &OPTIONS);
    let mut keeper = Client::open(server.address, SESSION_TIMEOUT_MS).unwrap();
    keeper
        .create("/kept", Some(b"k"), &Acl::open(), flags::EPHEMERAL)
        .unwrap();
    let mut all = Done::new();
    for round in 0..ROUNDS {
        let writers = start_writers(server.address, round);
        let load = random_load_time();
        thread::sleep(load);
        server.kill();
        for writer in writers {
            all.extend(writer.join().expect("the writer saw nothing odd"));
        }
        server = Server::start(Kind::Zabra, home.path(), &OPTIONS);
        let log = server.log();
        assert!(!log.contains("ERROR"), "{log}");
        keeper = Client::reattach(server.address, &keeper)
            .unwrap_or_else(|error| panic!("the session is gone: {error:?}\n{log}"));
        let (_, stat) = keeper.data("/kept", false).unwrap();
        assert_eq!(stat.ephemeral_owner, keeper.session_id);
        eprintln!("round {round}: {load:?}, {} znodes in all", all.len());
        check(&mut keeper, &all);
    }
    assert!(!all.is_empty(), "something was acknowledged");
    keeper.close().unwrap();
    server.stop();
}

#[test]
fn a_session_that_nobody_comes_back_for_expires_after_a_restart() {
    let home = Directory::new("abandoned");
    let options = ["minSessionTimeout=500", "tickTime=500"];
    let server = Server::start(Kind::Zabra, home.path(), &options);
    let mut abandoned = Client::open(server.address, 1000).unwrap();
    abandoned
        .create("/left", None, &Acl::open(), flags::EPHEMERAL)
        .unwrap();
    server.kill();
    let server = Server::start(Kind::Zabra, home.path(), &options);
    let mut other = Client::open(server.address, SESSION_TIMEOUT_MS).unwrap();
    assert!(other.data("/left", false).is_ok(), "its time has not come");
    let end = Instant::now() + Duration::from_secs(10);
    while other.data("/left", false).is_ok() {
        assert!(Instant::now() < end, "{}", server.log_end());
        thread::sleep(Duration::from_millis(50));
    }
    assert!(Client::reattach(server.address, &abandoned).is_err());
    server.stop();
}

#[test]
fn a_stop_under_load_is_quick_and_loses_nothing() {
    let home = Directory::new("stop");
    let mut server = Server::start(Kind::Zabra, home.path(), &OPTIONS);
    let mut all = Done::new();
    for (round, signal) in ["TERM", "INT", "TERM"].into_iter().enumerate() {
        let round = round.try_into().unwrap();
        let writers = start_writers(server.address, round);
        thread::sleep(random_load_time());
        let (code, time) = server.signal(signal);
        assert_eq!(code, Some(0), "{signal}");
        assert!(time < STOP_TIME_MAX, "{signal}: {time:?}");
        for writer in writers {
            all.extend(writer.join().expect("the writer saw nothing odd"));
        }
        server = Server::start(Kind::Zabra, home.path(), &OPTIONS);
        let mut reader = Client::open(server.address, SESSION_TIMEOUT_MS).unwrap();
        check(&mut reader, &all);
    }
    server.stop();
}
