//! A leader that hangs is given up, and when it goes on it finds that it leads nobody.

use crate::load::Load;
use crate::members::{Ensemble, Id, Reconfig, Role};
use crate::mixed::finish;
use crate::support::process::Kind;

const APACHE: Kind = Kind::Release("3.9.5");
const WRITES: u64 = 25;

#[test]
fn our_followers_give_up_a_hanging_apache_leader() {
    hang(
        "hanging-apache",
        &[(3, APACHE), (2, Kind::Zabra), (1, Kind::Zabra)],
    );
}

#[test]
fn our_hanging_leader_is_given_up_by_apache() {
    hang(
        "hanging-zabra",
        &[(3, Kind::Zabra), (2, APACHE), (1, APACHE)],
    );
}

/// The first leads and hangs; then a follower of its kind does.
fn hang(test: &str, kinds: &[(Id, Kind); 3]) {
    let roles = kinds.map(|(id, _)| (id, Role::Participant));
    let mut ensemble = Ensemble::new(test, Reconfig::Off, &roles);
    ensemble.start_all(kinds);
    let load = Load::start(&ensemble.addresses());
    load.go_on_for(WRITES);
    // Now as the leader, and then as a follower, after it has gone on.
    for _ in 0..2 {
        ensemble.pause(3);
        ensemble.settle();
        load.go_on_for(WRITES);
        ensemble.resume(3);
        ensemble.settle();
        ensemble.wait_for_mode(3, "follower");
        load.go_on_for(WRITES);
    }
    finish(&ensemble, load);
}
