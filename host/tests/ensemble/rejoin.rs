//! A server that has lost its disk joins again and gets everything; one that has what nobody
//! acknowledged loses it.

use core::time::Duration;

use crate::load::Load;
use crate::members::{End, Ensemble, Id, Reconfig, Role};
use crate::mixed::finish;
use crate::session::Session;
use crate::support::process::Kind;
use crate::support::wire::{Acl, Client, flags};

const APACHE: Kind = Kind::Release("3.9.5");
const IDS: [Id; 3] = [1, 2, 3];
const WRITES: u64 = 25;
const SESSION_MS: i32 = 20_000;
/// Longer than a write takes, shorter than a leader lives without a quorum.
const UNANSWERED_TIME: Duration = Duration::from_millis(250);
const STALE: &str = "/stale";

#[test]
fn wiped_zabra_gets_a_snapshot_from_apache() {
    let mut ensemble = three("wiped-zabra");
    ensemble.start_all(&[(3, APACHE), (2, APACHE), (1, Kind::Zabra)]);
    wipe(&mut ensemble, 3, (1, Kind::Zabra));
}

#[test]
fn wiped_apache_gets_a_snapshot_from_zabra() {
    let mut ensemble = three("wiped-apache");
    // Ours comes to lead without a history that begins at zero, which would do without a snapshot.
    ensemble.start_all(&[(2, APACHE), (1, APACHE)]);
    let session = Session::open(&ensemble.addresses(), 0);
    ensemble.start(3, Kind::Zabra);
    ensemble.settle();
    session.client.close().unwrap();
    ensemble.end(2, End::Stop);
    ensemble.settle();
    ensemble.wait_for_mode(3, "leader");
    ensemble.start(2, APACHE);
    ensemble.settle();
    wipe(&mut ensemble, 3, (1, APACHE));
}

#[test]
fn what_only_a_dead_apache_leader_had_is_cut_off_by_zabra() {
    cut_off("cut-apache", &[(3, APACHE), (2, Kind::Zabra), (1, APACHE)]);
}

#[test]
fn what_only_our_dead_leader_had_is_cut_off_by_apache() {
    cut_off("cut-zabra", &[(3, Kind::Zabra), (2, APACHE), (1, APACHE)]);
}

fn three(test: &str) -> Ensemble {
    Ensemble::new(test, Reconfig::Off, &IDS.map(|id| (id, Role::Participant)))
}

/// Wipes a member under load.
fn wipe(ensemble: &mut Ensemble, leader: Id, (wiped, kind): (Id, Kind)) {
    let load = Load::start(&ensemble.addresses());
    load.go_on_for(WRITES);
    let earlier = ensemble.log(leader).len();
    ensemble.end(wiped, End::Kill);
    ensemble.wipe(wiped);
    load.go_on_for(WRITES);
    ensemble.start(wiped, kind);
    ensemble.settle();
    load.go_on_for(WRITES);
    // What an Apache ZooKeeper says as a leader, and as a learner.
    let log = ensemble.log(leader).split_off(earlier) + &ensemble.log(wiped);
    let said = ["Sending snapshot", "Getting a snapshot"];
    assert!(said.iter().any(|it| log.contains(it)), "it was no SNAP");
    // What it has got is good for another start.
    ensemble.end(wiped, End::Kill);
    load.go_on_for(WRITES);
    ensemble.start(wiped, kind);
    ensemble.settle();
    load.go_on_for(WRITES);
    finish(ensemble, load);
}

/// The first leads, writes what it can tell nobody, and dies; the others go on without it.
fn cut_off(test: &str, kinds: &[(Id, Kind); 3]) {
    let &[(stale, kind), others @ ..] = kinds;
    let mut ensemble = three(test);
    ensemble.start_all(kinds);
    let address = ensemble.address(stale);
    let mut client = Client::open_within(address, SESSION_MS, UNANSWERED_TIME).unwrap();
    let open = Acl::open();
    client
        .create("/kept", None, &open, flags::PERSISTENT)
        .unwrap();
    for (id, _) in others {
        ensemble.end(id, End::Kill);
    }
    let unanswered = client.create(STALE, None, &open, flags::PERSISTENT);
    assert!(
        unanswered.is_err(),
        "acknowledged by a leader without a quorum"
    );
    ensemble.end(stale, End::Kill);
    for (id, kind) in others {
        ensemble.start(id, kind);
    }
    ensemble.settle();
    // Before anything else is written: after that Apache ZooKeeper would send a snapshot.
    ensemble.start(stale, kind);
    ensemble.settle();
    let log = ensemble.log(stale);
    let load = Load::start(&ensemble.addresses());
    load.go_on_for(WRITES);
    finish(&ensemble, load);
    let tree = ensemble.tree();
    assert!(tree.contains_key("/kept") && !tree.contains_key(STALE));
    // Ours, if the state has it or only the log, and Apache ZooKeeper.
    let said = ["has cut", "TRUNC", "Truncating log"];
    assert!(said.iter().any(|it| log.contains(it)), "it was no TRUNC");
}
