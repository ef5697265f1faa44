//! Sessions that only their server knows, until they need more.

use core::time::Duration;
use std::thread;
use std::time::Instant;

use crate::members::{Ensemble, Id, Reconfig, Role};
use crate::support::process::Kind;
use crate::support::wire::{Acl, Client, Error, flags};

const LOCAL: &str = "localSessionsEnabled=true\nlocalSessionsUpgradingEnabled=true\n";
const IDS: [Id; 4] = [1, 2, 3, 4];
const SESSION_MS: i32 = 20_000;
const SHORT_MS: i32 = 2_000;
const TIME_MAX: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(50);

#[test]
fn local_sessions_of_ours_are_upgraded_by_an_apache_leader() {
    let apache = Kind::Release("3.9.5");
    let kinds = [(3, apache), (2, Kind::Zabra), (1, apache), (4, Kind::Zabra)];
    locals("locals-apache-leads", &kinds);
}

#[test]
fn local_sessions_of_apache_are_upgraded_by_our_leader() {
    let apache = Kind::Release("3.8.6");
    let kinds = [(3, Kind::Zabra), (2, apache), (1, Kind::Zabra), (4, apache)];
    locals("locals-zabra-leads", &kinds);
}

fn locals(test: &str, kinds: &[(Id, Kind); 4]) {
    let role = |id| {
        if id == 4 {
            Role::Observer
        } else {
            Role::Participant
        }
    };
    let roles = IDS.map(|id| (id, role(id)));
    let mut ensemble = Ensemble::with(test, Reconfig::Off, &roles, LOCAL);
    ensemble.start_all(kinds);
    for id in IDS {
        stays_local(&ensemble, id);
        is_upgraded(&ensemble, id);
        ends_with_its_znodes(&ensemble, id);
    }
    let tree = ensemble.tree();
    assert!(!tree.keys().any(|path| path.contains("ephemeral")));
}

fn next(id: Id) -> Id {
    id % 4 + 1
}

/// It reads and writes, and nobody else knows it.
fn stays_local(ensemble: &Ensemble, id: Id) {
    let leader = ensemble.leader();
    let before = ensemble.metric(leader, "zk_global_sessions");
    let mut client = Client::open(ensemble.address(id), SESSION_MS).unwrap();
    assert_eq!(ensemble.metric(id, "zk_local_sessions"), 1, "member {id}");
    assert_eq!(ensemble.metric(leader, "zk_global_sessions"), before);
    let path = format!("/written-{id}");
    let open = Acl::open();
    client
        .create(&path, Some(b"l"), &open, flags::PERSISTENT)
        .unwrap();
    client.set_data(&path, Some(b"local"), 0).unwrap();
    assert_eq!(client.data(&path, false).unwrap().0.unwrap(), b"local");
    client.sync("/").unwrap();
    let known = try_reattach(ensemble, next(id), &client).is_some();
    assert!(!known, "member {} knows a session of {id}", next(id));
    client.ping().unwrap();
    client.close().unwrap();
    assert_eq!(ensemble.metric(id, "zk_local_sessions"), 0, "member {id}");
}

/// Its first ephemeral makes it everybody's: it goes on elsewhere, with the znode.
fn is_upgraded(ensemble: &Ensemble, id: Id) {
    let leader = ensemble.leader();
    let before = ensemble.metric(leader, "zk_global_sessions");
    let mut client = Client::open(ensemble.address(id), SESSION_MS).unwrap();
    let path = format!("/ephemeral-{id}");
    client
        .create(&path, None, &Acl::open(), flags::EPHEMERAL)
        .unwrap();
    assert_eq!(ensemble.metric(id, "zk_local_sessions"), 0, "member {id}");
    assert_eq!(ensemble.metric(leader, "zk_global_sessions"), before + 1);
    let owner = client.data(&path, false).unwrap().1.ephemeral_owner;
    assert_eq!(owner, client.session_id);

    let mut moved = reattach(ensemble, next(id), &client);
    assert_eq!(moved.session_id, client.session_id);
    moved.set_data(&path, Some(b"moved"), 0).unwrap();
    let sequential = flags::EPHEMERAL_SEQUENTIAL;
    moved.create(&path, None, &Acl::open(), sequential).unwrap();
    moved.close().unwrap();
    let mut other = Client::open(ensemble.address(id), SESSION_MS).unwrap();
    other.sync("/").unwrap();
    let (names, _) = other.children("/").unwrap();
    assert!(
        !names.iter().any(|name| name.starts_with("ephemeral")),
        "{names:?}"
    );
    other.close().unwrap();
}

/// One that nobody closes ends in its time, upgraded or not.
fn ends_with_its_znodes(ensemble: &Ensemble, id: Id) {
    let local = Client::open(ensemble.address(id), SHORT_MS).unwrap();
    let mut upgraded = Client::open(ensemble.address(id), SHORT_MS).unwrap();
    let path = format!("/ephemeral-short-{id}");
    let ephemeral = flags::EPHEMERAL;
    upgraded
        .create(&path, None, &Acl::open(), ephemeral)
        .unwrap();
    drop((local, upgraded));
    let mut client = Client::open(ensemble.address(next(id)), SESSION_MS).unwrap();
    let end = Instant::now() + TIME_MAX;
    loop {
        client.sync("/").unwrap();
        let gone = client.data(&path, false).is_err();
        if gone && ensemble.metric(id, "zk_local_sessions") == 0 {
            break;
        }
        assert!(Instant::now() < end, "member {id}: a session has not ended");
        thread::sleep(POLL);
    }
    client.close().unwrap();
}

fn reattach(ensemble: &Ensemble, id: Id, old: &Client) -> Client {
    let moved = try_reattach(ensemble, id, old);
    moved.unwrap_or_else(|| panic!("member {id} does not know the session"))
}

/// As soon as that server has seen what the client has; none if it does not know the session.
fn try_reattach(ensemble: &Ensemble, id: Id, old: &Client) -> Option<Client> {
    let end = Instant::now() + TIME_MAX;
    loop {
        match Client::reattach(ensemble.address(id), old) {
            Ok(client) => return Some(client),
            Err(Error::Expired) => return None,
            Err(error) => assert!(Instant::now() < end, "member {id}: {error:?}"),
        }
        thread::sleep(POLL);
    }
}
