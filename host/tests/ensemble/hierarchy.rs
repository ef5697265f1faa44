//! Quorums of groups and weights: who has a quorum is not who has the numbers.

use core::time::Duration;

use crate::load::Load;
use crate::members::{End, Ensemble, Id, Reconfig, Role};
use crate::mixed::finish;
use crate::support::process::Kind;

const WRITES: u64 = 25;
/// Several elections could be over.
const ALONE_TIME: Duration = Duration::from_secs(4);
/// A quorum is two groups, of each more than half the weight: 1 and 3 are one, without 2, 4 and 5,
/// and these three are none.
const GROUPS: &str = "group.1=1:2\ngroup.2=3:4\ngroup.3=5\n\
    weight.1=2\nweight.2=1\nweight.3=2\nweight.4=1\nweight.5=1\n";

#[test]
fn apache_leads_groups_with_weights() {
    let apache = Kind::Release("3.9.5");
    groups(
        "groups-apache",
        [Kind::Zabra, apache, apache, Kind::Zabra, Kind::Zabra],
    );
}

#[test]
fn zabra_leads_groups_with_weights() {
    let apache = Kind::Release("3.8.6");
    groups(
        "groups-zabra",
        [apache, Kind::Zabra, Kind::Zabra, apache, apache],
    );
}

fn groups(test: &str, kinds: [Kind; 5]) {
    let ids: [Id; 5] = [1, 2, 3, 4, 5];
    let kind = |id: Id| {
        kinds
            .iter()
            .zip(ids)
            .find(|(_, it)| *it == id)
            .map(|(kind, _)| *kind)
    };
    let started = |id: Id| (id, kind(id).unwrap());
    let roles = ids.map(|id| (id, Role::Participant));
    let mut ensemble = Ensemble::with(test, Reconfig::Off, &roles, GROUPS);
    ensemble.start_all(&[3, 1, 2, 4, 5].map(started));
    let load = Load::start(&ensemble.addresses());
    load.go_on_for(WRITES);

    for id in [2, 4, 5] {
        ensemble.end(id, End::Kill);
    }
    ensemble.settle();
    load.go_on_for(WRITES);
    assert_eq!(ensemble.leader(), 3, "two of five are a quorum");

    for (id, kind) in [2, 4, 5].map(started) {
        ensemble.start(id, kind);
    }
    ensemble.settle();
    for id in [1, 3] {
        ensemble.end(id, End::Kill);
    }
    ensemble.stay_without_a_leader(ALONE_TIME);

    let (id, kind) = started(1);
    ensemble.start(id, kind);
    ensemble.settle();
    load.go_on_for(WRITES);
    let (id, kind) = started(3);
    ensemble.start(id, kind);
    ensemble.settle();
    finish(&ensemble, load);
}
