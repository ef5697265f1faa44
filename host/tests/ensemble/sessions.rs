//! Sessions live by their clients' signs, whatever server these come to, and end without them.

use core::net::SocketAddr;
use core::time::Duration;
use std::thread;
use std::time::Instant;

use crate::load::Load;
use crate::members::{End, Ensemble, Id, Reconfig, Role};
use crate::mixed::finish;
use crate::support::process::Kind;
use crate::support::wire::{Acl, Client, Error, Op, flags};

use Role::{Observer, Participant};

const APACHE: Kind = Kind::Release("3.9.5");
const TIMEOUT_MS: i32 = 2_000;
/// Several timeouts: without the signs being passed on, sessions would be over.
const IDLE_TIME: Duration = Duration::from_millis(6_500);
const PING_PAUSE: Duration = Duration::from_millis(400);
const PATIENT_MS: i32 = 20_000;
const VANISH_TIME_MAX: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(100);
const WRITES: u64 = 25;
const IDS: [Id; 4] = [1, 2, 3, 4];

#[test]
fn an_apache_leader_hears_of_our_clients() {
    let kinds = [(3, APACHE), (2, APACHE), (1, Kind::Zabra), (4, Kind::Zabra)];
    signs_of_life("sessions-apache", &kinds);
}

#[test]
fn our_leader_hears_of_apache_s_clients() {
    let kinds = [(3, Kind::Zabra), (2, Kind::Zabra), (1, APACHE), (4, APACHE)];
    signs_of_life("sessions-zabra", &kinds);
}

/// Clients that only ping keep their sessions; those that are gone lose them, with their znodes.
fn signs_of_life(test: &str, kinds: &[(Id, Kind)]) {
    let roles = IDS.map(|id| (id, if id == 4 { Observer } else { Participant }));
    let mut ensemble = Ensemble::new(test, Reconfig::Off, &roles);
    ensemble.start_all(kinds);
    let open = |name: &str, id: Id| {
        let mut client = Client::open(ensemble.address(id), TIMEOUT_MS).unwrap();
        assert_eq!(client.timeout_ms, TIMEOUT_MS);
        let path = format!("/{name}-{id}");
        let ephemeral = flags::EPHEMERAL;
        client.create(&path, None, &Acl::open(), ephemeral).unwrap();
        client
    };
    let mut alive = IDS.map(|id| open("alive", id));
    for id in IDS {
        drop(open("gone", id));
    }
    let end = Instant::now() + IDLE_TIME;
    while Instant::now() < end {
        for client in &mut alive {
            client.ping().unwrap();
        }
        thread::sleep(PING_PAUSE);
    }
    for (id, client) in IDS.iter().zip(&mut alive) {
        client.sync("/").unwrap();
        let (names, _) = client.children("/").unwrap();
        let gone: Vec<_> = names.iter().filter(|n| n.starts_with("gone-")).collect();
        assert!(
            gone.is_empty(),
            "member {id}: {gone:?} have outlived their sessions"
        );
        let alive = names
            .iter()
            .filter(|name| name.starts_with("alive-"))
            .count();
        assert_eq!(alive, IDS.len(), "member {id}: {names:?}");
    }
    for client in alive {
        client.close().unwrap();
    }
    left_connections_end(&ensemble);
    containers_and_ttl_znodes_end(&ensemble);
    everybody_is_killed(&mut ensemble, kinds);
}

/// The connection that a client has left is closed by its next write: no reply tells of it, or a
/// client that has moved would be told by a server that was slow (ZOOKEEPER-710).
fn left_connections_end(ensemble: &Ensemble) {
    for (from, to) in [(1, 2), (2, 4), (4, 3), (3, 1)] {
        let mut left = Client::open(ensemble.address(from), PATIENT_MS).unwrap();
        let mut moved = reattach(ensemble.address(to), &left);
        let path = format!("/moved-{from}");
        let create =
            |client: &mut Client| client.create(&path, None, &Acl::open(), flags::PERSISTENT);
        let refused = create(&mut left);
        assert!(matches!(refused, Err(Error::Io(_))), "{from}: {refused:?}");
        create(&mut moved).unwrap();
        let parts = [Op::SetData {
            path: &path,
            data: None,
            version: -1,
        }];
        let mut again = reattach(ensemble.address(from), &moved);
        let refused = moved.multi(&parts);
        assert!(matches!(refused, Err(Error::Io(_))), "{to}: {refused:?}");
        assert_eq!(again.multi(&parts).unwrap(), [0]);
        again.close().unwrap();
    }
}

/// As soon as that server has seen what the client has.
fn reattach(address: SocketAddr, old: &Client) -> Client {
    let end = Instant::now() + VANISH_TIME_MAX;
    loop {
        match Client::reattach(address, old) {
            Ok(client) => return client,
            Err(error) => assert!(Instant::now() < end, "{address}: {error:?}"),
        }
        thread::sleep(POLL);
    }
}

/// The leader deletes them, and everybody follows.
fn containers_and_ttl_znodes_end(ensemble: &Ensemble) {
    let mut client = Client::open(ensemble.address(1), PATIENT_MS).unwrap();
    let (open, container) = (Acl::open(), flags::CONTAINER);
    client.create("/container", None, &open, container).unwrap();
    let child = "/container/child";
    client
        .create(child, None, &open, flags::PERSISTENT)
        .unwrap();
    client.delete(child, -1).unwrap();
    client.create_ttl("/ttl", b"", 1).unwrap();
    let end = Instant::now() + VANISH_TIME_MAX;
    for path in ["/container", "/ttl"] {
        while client.data(path, false).is_ok() {
            assert!(Instant::now() < end, "{path} is still there");
            thread::sleep(POLL);
        }
    }
    client.close().unwrap();
}

/// All servers end at once, under load; what was acknowledged is there when they are back.
fn everybody_is_killed(ensemble: &mut Ensemble, kinds: &[(Id, Kind)]) {
    let load = Load::start(&ensemble.addresses());
    load.go_on_for(WRITES);
    for &(id, _) in kinds {
        ensemble.end(id, End::Kill);
    }
    for &(id, kind) in kinds {
        ensemble.start(id, kind);
    }
    ensemble.settle();
    load.go_on_for(WRITES);
    finish(ensemble, load);
}
