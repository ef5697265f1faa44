//! A server that has lost its disk joins again and gets everything.

use crate::load::Load;
use crate::members::{End, Ensemble, Reconfig, Role};
use crate::mixed::finish;
use crate::support::process::Kind;

const WRITES: u64 = 25;

#[test]
fn wiped_zabra_gets_a_snapshot_from_apache() {
    let apache = Kind::Release("3.9.5");
    let log = rejoin("wiped-zabra", &[(3, apache), (2, apache), (1, Kind::Zabra)]);
    assert!(log.leader.contains("Sending snapshot"), "it was no SNAP");
}

#[test]
fn wiped_apache_gets_a_snapshot_from_zabra() {
    let apache = Kind::Release("3.9.5");
    let log = rejoin(
        "wiped-apache",
        &[(3, Kind::Zabra), (2, apache), (1, apache)],
    );
    assert!(
        log.wiped.contains("Getting a snapshot from leader"),
        "it was no SNAP"
    );
}

struct Logs {
    leader: String,
    wiped: String,
}

/// Wipes the last; the first leads.
fn rejoin(test: &str, kinds: &[(u8, Kind); 3]) -> Logs {
    let roles = kinds.map(|(id, _)| (id, Role::Participant));
    let mut ensemble = Ensemble::new(test, Reconfig::Off, &roles);
    ensemble.start_all(kinds);
    let load = Load::start(&ensemble.addresses());
    load.go_on_for(WRITES);
    let &[(leader, _), _, (wiped, kind)] = kinds;
    let earlier = ensemble.log(leader).len();
    ensemble.end(wiped, End::Kill);
    ensemble.wipe(wiped);
    load.go_on_for(WRITES);
    ensemble.start(wiped, kind);
    ensemble.settle();
    load.go_on_for(WRITES);
    let logs = Logs {
        leader: ensemble.log(leader).split_off(earlier),
        wiped: ensemble.log(wiped),
    };
    // What it has got is good for another start.
    ensemble.end(wiped, End::Kill);
    load.go_on_for(WRITES);
    ensemble.start(wiped, kind);
    ensemble.settle();
    load.go_on_for(WRITES);
    finish(&ensemble, load);
    logs
}
