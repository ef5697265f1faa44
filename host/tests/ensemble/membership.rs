//! The membership changes under load: an observer becomes a participant, another leaves, then the
//! leader.

use core::time::Duration;
use std::thread;
use std::time::Instant;

use crate::load::Load;
use crate::members::{End, Ensemble, Id, Reconfig, Role};
use crate::mixed::finish;
use crate::session::Session;
use crate::support::process::Kind;

use Role::{Observer, Participant};

const CONFIG: &str = "/zookeeper/config";
const KNOWN_TIME_MAX: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);
const WRITES: u64 = 25;
const APACHE: Kind = Kind::Release("3.9.5");

#[test]
fn an_observer_of_ours_takes_the_place_of_an_apache() {
    let kinds = [(3, APACHE), (2, APACHE), (1, APACHE), (4, Kind::Zabra)];
    replace_by_observer("reconfig-apache", kinds);
}

#[test]
fn an_observer_of_apache_takes_the_place_of_one_of_ours() {
    let kinds = [(3, Kind::Zabra), (2, APACHE), (1, Kind::Zabra), (4, APACHE)];
    replace_by_observer("reconfig-zabra", kinds);
}

/// 4 observes, then takes the place of 1; then 3, which leads, leaves.
fn replace_by_observer(test: &str, kinds: [(Id, Kind); 4]) {
    let roles = [
        (1, Participant),
        (2, Participant),
        (3, Participant),
        (4, Observer),
    ];
    let mut ensemble = Ensemble::new(test, Reconfig::On, &roles);
    ensemble.start_all(&kinds);
    let load = Load::start(&ensemble.addresses());
    load.go_on_for(WRITES);
    let line = ensemble.line(4, Participant);
    reconfig(&ensemble, Some(&line), None, &[1, 2, 3, 4]);
    load.go_on_for(WRITES);
    reconfig(&ensemble, None, Some("1"), &[2, 3, 4]);
    ensemble.end(1, End::Stop);
    load.go_on_for(WRITES);
    ensemble.wait_for_mode(4, "follower");
    // Two of three: now its word counts.
    ensemble.end(2, End::Kill);
    load.go_on_for(WRITES);
    let [_, (_, kind), ..] = kinds;
    ensemble.start(2, kind);
    ensemble.settle();
    reconfig(&ensemble, None, Some("3"), &[2, 4]);
    ensemble.end(3, End::Stop);
    ensemble.settle();
    load.go_on_for(WRITES);
    finish(&ensemble, load);
}

fn reconfig(ensemble: &Ensemble, joining: Option<&str>, leaving: Option<&str>, ids: &[Id]) {
    let mut session = Session::open(&[ensemble.address(2), ensemble.address(4)], 0);
    session.client.add_auth("digest", b"super:test").unwrap();
    let result = session.attempt(|client| client.reconfig(joining, leaving));
    if let Some(result) = result {
        let text = result.unwrap_or_else(|code| panic!("{joining:?} {leaving:?}: {code}"));
        assert_eq!(servers(&text), ids, "{text}");
    }
    // A leader that leaves may be gone before it has answered.
    let end = Instant::now() + KNOWN_TIME_MAX;
    loop {
        let found = session.attempt(|client| {
            client.sync("/")?;
            client.data(CONFIG, false)
        });
        let found = found.map(|found| found.unwrap().0.unwrap_or_default());
        let text = String::from_utf8(found.unwrap_or_default()).unwrap();
        if servers(&text) == ids {
            break;
        }
        assert!(Instant::now() < end, "not {ids:?}: {text}");
        thread::sleep(POLL);
    }
    let _ = session.client.close();
}

/// The ids in a configuration.
fn servers(text: &str) -> Vec<Id> {
    let lines = text.lines();
    lines
        .filter_map(|line| line.strip_prefix("server.")?.split_once('='))
        .map(|(id, _)| id.parse().unwrap())
        .collect()
}
