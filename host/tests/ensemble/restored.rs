//! An ensemble that is lost comes back from a backup of any of its members.

use core::time::Duration;

use crate::members::{End, Ensemble, Id, Reconfig, Role};
use crate::support::backups::{text, wait_for_changes, zxid_in};
use crate::support::cli::zabra_must;
use crate::support::process::{Directory, Kind};
use crate::support::wire::{Acl, Client, flags};
use crate::support::writers::{Writers, state_at, state_of};

const APACHE: Kind = Kind::Release("3.9.5");
const KINDS: [(Id, Kind); 3] = [(3, Kind::Zabra), (2, APACHE), (1, Kind::Zabra)];
const WRITERS: usize = 3;
const CHANGES: usize = 60;
const SESSION_MS: i32 = 20_000;
/// Longer than a write takes, shorter than a leader lives without a quorum.
const UNANSWERED_TIME: Duration = Duration::from_millis(250);

#[test]
fn an_ensemble_comes_back_from_a_backup_of_its_leader() {
    comes_back("restored-leader", 3);
}

#[test]
fn an_ensemble_comes_back_from_a_backup_of_a_follower() {
    comes_back("restored-follower", 1);
}

#[test]
fn an_ensemble_comes_back_from_a_backup_of_an_apache_follower() {
    comes_back("restored-apache", 2);
}

fn comes_back(test: &str, backed_up: Id) {
    let home = Directory::new(test);
    let roles = KINDS.map(|(id, _)| (id, Role::Participant));
    let mut ensemble = Ensemble::new(test, Reconfig::Off, &roles);
    ensemble.start_all(&KINDS);
    let writers = Writers::start(ensemble.address(3), WRITERS);
    wait_for_changes(&writers, CHANGES);
    let backup = home.path().join("backup.tar");
    let data = ensemble.data(backed_up);
    let run = zabra_must(&["backup", "--json", text(&data), text(&backup)]);
    let zxid = zxid_in(&run.out, "last_zxid");
    wait_for_changes(&writers, CHANGES);
    let changes = writers.stop();
    let last = changes.last().unwrap().zxid;
    assert!(zxid < last, "there is something to lose");

    for (id, _) in KINDS {
        ensemble.end(id, End::Kill);
        ensemble.wipe(id);
        zabra_must(&["restore", text(&backup), text(&ensemble.data(id))]);
    }
    for (id, kind) in KINDS {
        ensemble.start(id, kind);
    }
    ensemble.settle();
    let expected = state_at(&changes, zxid);
    for (id, _) in KINDS {
        assert_eq!(state_of(ensemble.address(id)), expected, "member {id}");
    }
    // No zxid is one of what was lost.
    let mut client = Client::open(ensemble.address(1), SESSION_MS).unwrap();
    client
        .create("/new", None, &Acl::open(), flags::PERSISTENT)
        .unwrap();
    assert!(client.zxid > last, "{:x} after {last:x}", client.zxid);
    ensemble.tree();
}

#[test]
fn a_backup_of_zabra_takes_back_what_was_never_committed() {
    takes_back("taken-back-zabra", Kind::Zabra);
}

#[test]
fn a_backup_of_apache_takes_back_what_was_never_committed() {
    takes_back("taken-back-apache", APACHE);
}

/// A leader that is left alone writes what it can tell nobody; its backup has it, until the leader
/// is brought in line.
fn takes_back(test: &str, kind: Kind) {
    let home = Directory::new(test);
    let roles = KINDS.map(|(id, _)| (id, Role::Participant));
    let mut ensemble = Ensemble::new(test, Reconfig::Off, &roles);
    ensemble.start_all(&[(3, kind), (2, Kind::Zabra), (1, APACHE)]);
    let copy = home.path().join("copy");
    let data = ensemble.data(3);
    let follow = ["backup", "--follow", "--once", text(&data), text(&copy)];
    let has = |path: &str| {
        let znodes = zabra_must(&["snapshot", text(&copy)]).out;
        znodes.contains(&format!("{{\"path\":\"{path}\","))
    };
    let (open, plain) = (Acl::open(), flags::PERSISTENT);
    let address = ensemble.address(3);
    let mut client = Client::open_within(address, SESSION_MS, UNANSWERED_TIME).unwrap();
    client.create("/kept", None, &open, plain).unwrap();
    zabra_must(&follow);
    for id in [1, 2] {
        ensemble.end(id, End::Kill);
    }
    assert!(client.create("/stale", None, &open, plain).is_err());
    ensemble.end(3, End::Kill);
    zabra_must(&follow);
    assert!(
        has("/kept") && has("/stale"),
        "what is on the disk was shipped"
    );

    for (id, kind) in [(1, APACHE), (2, Kind::Zabra)] {
        ensemble.start(id, kind);
    }
    ensemble.settle();
    ensemble.start(3, kind);
    ensemble.settle();
    let mut client = Client::open(ensemble.address(3), SESSION_MS).unwrap();
    client.create("/after", None, &open, plain).unwrap();
    let run = zabra_must(&follow);
    assert!(
        run.err.contains("took back transactions of log."),
        "{}",
        run.err
    );
    assert!(has("/kept") && has("/after") && !has("/stale"));
}
