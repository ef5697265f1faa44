//! A running ensemble becomes ours, server by server, and goes back, under load: the same ports, the
//! same directories, the same ids.

use crate::load::Load;
use crate::members::{End, Ensemble, Id, Reconfig, Role};
use crate::mixed::finish;
use crate::support::process::Kind;

const IDS: [Id; 3] = [1, 2, 3];
const WRITES: u64 = 25;

#[test]
fn from_apache_3_8_0_and_back() {
    there_and_on("rolling-3.8.0", Kind::Apache, Kind::Apache, Reconfig::Off);
}

#[test]
fn from_apache_3_9_and_back() {
    let apache = Kind::Release("3.9.5");
    there_and_on("rolling-3.9", apache, apache, Reconfig::On);
}

#[test]
fn from_apache_3_5_and_back() {
    let apache = Kind::Release("3.5.10");
    there_and_on("rolling-3.5-back", apache, apache, Reconfig::Off);
}

#[test]
fn from_apache_3_5_to_3_8_6() {
    let (old, new) = (Kind::Release("3.5.10"), Kind::Release("3.8.6"));
    there_and_on("rolling-3.5", old, new, Reconfig::Off);
}

#[test]
fn from_apache_3_6_to_3_7() {
    let (old, new) = (Kind::Release("3.6.4"), Kind::Release("3.7.2"));
    there_and_on("rolling-3.6", old, new, Reconfig::On);
}

fn there_and_on(test: &str, from: Kind, to: Kind, reconfig: Reconfig) {
    let roles = IDS.map(|id| (id, Role::Participant));
    let mut ensemble = Ensemble::new(test, reconfig, &roles);
    ensemble.start_all(&[(3, from), (2, from), (1, from)]);
    let load = Load::start(&ensemble.addresses());
    load.go_on_for(WRITES);
    for kind in [Kind::Zabra, to] {
        replace_all(&mut ensemble, &load, kind);
        load.go_on_for(WRITES);
    }
    finish(&ensemble, load);
}

/// The leader last, as operators do, and without a word.
fn replace_all(ensemble: &mut Ensemble, load: &Load, kind: Kind) {
    let leader = ensemble.leader();
    for id in IDS.into_iter().filter(|id| *id != leader) {
        replace(ensemble, load, id, End::Stop, kind);
    }
    replace(ensemble, load, leader, End::Kill, kind);
}

fn replace(ensemble: &mut Ensemble, load: &Load, id: Id, end: End, kind: Kind) {
    ensemble.end(id, end);
    load.go_on_for(WRITES);
    ensemble.start(id, kind);
    ensemble.settle();
    load.go_on_for(WRITES);
}
