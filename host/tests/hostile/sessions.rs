//! Connections and sessions: many, silent, stolen, guessed.

use core::net::SocketAddr;
use core::time::Duration;
use std::thread;
use std::time::Instant;

use crate::support::process::{Directory, Kind, Server};
use crate::support::raw::{Raw, handshake};
use crate::support::wire::{Acl, Client, Reader, flags, word};
use crate::support::witness::Witness;
use crate::{LITTLE, beside_a_witness};

const CLOSE_TIME_MAX: Duration = Duration::from_secs(10);
const SESSION_TIMEOUT_MS: i32 = 10_000;

/// Asks for a session by id and password; the granted timeout is 0 if it is refused.
fn ask(address: SocketAddr, session: i64, password: Option<&[u8]>) -> (Raw, i32) {
    let mut connection = Raw::connect(address).unwrap();
    let request = handshake(SESSION_TIMEOUT_MS, session, password);
    connection.frame(request.bytes()).unwrap();
    let answer = connection.frame_back().unwrap().expect("an answer");
    let mut reader = Reader(&answer);
    let _version = reader.int().unwrap();
    (connection, reader.int().unwrap())
}

#[test]
fn ten_thousand_connections_come_and_go() {
    let options = ["maxClientCnxns=0"];
    beside_a_witness("ten-thousand", &options, &LITTLE, |server| {
        let open_and_drop = |count: usize| {
            for number in 0..count {
                let Ok(mut connection) = Raw::connect(server.address) else {
                    continue;
                };
                // Some ask for nothing, some for a part of something.
                let hello = handshake(SESSION_TIMEOUT_MS, 0, None);
                match number % 4 {
                    0 => {}
                    1 => _ = connection.send(&[0, 0]),
                    2 => _ = connection.send(&[0, 0, 0, 44, 0, 0]),
                    _ => _ = connection.frame(hello.bytes()),
                }
            }
        };
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| open_and_drop(2500));
            }
        });
        // Nothing is left of them but sessions that will expire.
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let text = word(server.address, "cons", Duration::from_secs(5)).unwrap();
            if text.lines().filter(|line| !line.is_empty()).count() <= 2 {
                break;
            }
            assert!(Instant::now() < end, "{}", text.lines().count());
            thread::sleep(Duration::from_millis(50));
        }
    });
}

#[test]
fn one_address_has_only_so_many_connections() {
    beside_a_witness("max-connections", &[], &LITTLE, |server| {
        // The witness has one of the 60.
        let held: Vec<Raw> = (0..59)
            .map(|_| Raw::open(server.address).unwrap())
            .collect();
        for _ in 0..5 {
            let mut over = Raw::connect(server.address).unwrap();
            assert!(over.is_closed_within(CLOSE_TIME_MAX));
        }
        server.wait_for_log("127.0.0.1 has 60 connections (maxClientCnxns)");
        drop(held);
        let end = Instant::now() + CLOSE_TIME_MAX;
        while Raw::open(server.address).is_err() {
            assert!(Instant::now() < end, "room is made for others");
        }
    });
}

#[test]
fn silence_before_a_session_ends_the_connection() {
    let options = ["nio.sessionlessCnxnTimeout=500"];
    beside_a_witness("handshake-timeout", &options, &LITTLE, |server| {
        let begun = Instant::now();
        for bytes in [&[][..], &[0], &[0, 0, 0, 44, 1, 2, 3], b"stm"] {
            let mut connection = Raw::connect(server.address).unwrap();
            connection.send(bytes).unwrap();
            assert!(connection.is_closed_within(CLOSE_TIME_MAX));
        }
        assert!(
            begun.elapsed() > Duration::from_secs(2),
            "it waits for a while"
        );
        server.wait_for_log("no session was asked for in time");
    });
}

#[test]
fn a_session_cannot_be_guessed() {
    beside_a_witness("guess", &[], &LITTLE, |server| {
        let mut victim = Client::open(server.address, SESSION_TIMEOUT_MS).unwrap();
        let session = victim.session_id;
        let mut wrong = victim.password.clone();
        *wrong.last_mut().unwrap() ^= 1;
        let short = wrong.get(..15).unwrap();
        let long: Vec<u8> = victim.password.iter().copied().chain([0]).collect();
        for guess in [
            Some(&wrong[..]),
            Some(short),
            Some(&long),
            Some(&[]),
            None,
            Some(&[0; 16]),
        ] {
            let (mut connection, granted) = ask(server.address, session, guess);
            assert_eq!(granted, 0, "{guess:?}");
            assert!(connection.is_closed_within(CLOSE_TIME_MAX));
            // Not even the victim's connection is disturbed.
            victim.ping().unwrap();
        }
        for other in [session + 1, -1, i64::MIN, 1] {
            let (_, granted) = ask(server.address, other, Some(&victim.password));
            assert_eq!(granted, 0, "{other:x}");
        }
        server.wait_for_log("session refused");
        victim.close().unwrap();
    });
}

#[test]
fn a_session_moves_and_its_old_connection_ends() {
    beside_a_witness("moves", &[], &LITTLE, |server| {
        let mut first = Client::open(server.address, SESSION_TIMEOUT_MS).unwrap();
        let path = "/mine";
        first
            .create(path, None, &Acl::open(), flags::EPHEMERAL)
            .unwrap();
        let mut second = Client::reattach(server.address, &first).unwrap();
        assert_eq!(second.session_id, first.session_id);
        assert!(first.ping().is_err(), "two connections have one session");
        let (_, stat) = second.data(path, false).unwrap();
        assert_eq!(stat.ephemeral_owner, second.session_id);
        // Back and forth, as a client between two bad networks does.
        for _ in 0..50 {
            second = Client::reattach(server.address, &second).unwrap();
        }
        second.ping().unwrap();
        second.close().unwrap();
        let mut other = Client::open(server.address, SESSION_TIMEOUT_MS).unwrap();
        assert!(other.data(path, false).is_err(), "it went with its session");
    });
}

#[cfg(target_os = "linux")]
#[test]
fn connections_leave_the_store_its_file_descriptors() {
    let home = Directory::new("descriptors");
    let options = [
        "maxClientCnxns=0",
        "snapCount=100",
        "autopurge.snapRetainCount=3",
        "autopurge.purgeInterval=1",
    ];
    let server = Server::start_with_files(home.path(), &options, 128);
    let witness = Witness::start(server.address);
    let held: Vec<Raw> = (0..200)
        .filter_map(|_| Raw::connect(server.address).ok())
        .collect();
    server.wait_for_log("raise the limit (ulimit -n)");
    // Snapshots and new logs come meanwhile.
    thread::sleep(Duration::from_secs(2));
    witness.conclude();
    let log = server.log();
    assert!(!log.contains("Too many open files"), "{log}");
    assert!(!log.contains("snapshot failed"), "{log}");
    drop(held);
    server.stop();
}

#[test]
fn a_server_that_nobody_asks_anything_rests() {
    let home = Directory::new("rest");
    let server = Server::start(Kind::Zabra, home.path(), &[]);
    let connections: Vec<Raw> = (0..50)
        .map(|_| Raw::open(server.address).unwrap())
        .collect();
    for connection in connections.iter().take(25) {
        connection.finish_sending().unwrap();
    }
    thread::sleep(Duration::from_millis(500));
    let before = server.processor_ticks().unwrap_or(0);
    thread::sleep(Duration::from_secs(2));
    let used = server.processor_ticks().unwrap_or(0) - before;
    // A hundred ticks are a second on every Linux there is.
    assert!(used < 20, "{used} ticks in two seconds of nothing to do");
    drop(connections);
    server.stop();
}
