//! Ensembles in which some servers are ours and some Apache ZooKeeper's, in every role.

use crate::load::Load;
use crate::members::{End, Ensemble, Id, Reconfig, Role};
use crate::support::process::{Kind, is_baseline};
use crate::support::wire::{Acl, Client, Op, flags};

use Role::{Observer, Participant};

const SESSION_MS: i32 = 20_000;
const TTL_MS: i64 = 3_600_000;
/// The longest data that `jute.maxbuffer` lets a client send, almost.
const LARGE_BYTES: usize = 1_000_000;
const WRITES: u64 = 25;

#[test]
fn apache_3_8_0_leads_a_follower_and_an_observer_of_ours() {
    apache_leads("apache-leads-3.8.0", Kind::Apache, Reconfig::Off);
}

#[test]
fn apache_3_9_leads_a_follower_and_an_observer_of_ours() {
    apache_leads("apache-leads-3.9", Kind::Release("3.9.5"), Reconfig::On);
}

#[test]
fn apache_3_6_leads_a_follower_and_an_observer_of_ours() {
    apache_leads("apache-leads-3.6", Kind::Release("3.6.4"), Reconfig::On);
}

#[test]
fn zabra_leads_followers_and_an_observer_of_apache_3_5() {
    zabra_leads("zabra-leads-3.5", Kind::Release("3.5.10"), Reconfig::Off);
}

#[test]
fn zabra_leads_followers_and_an_observer_of_apache_3_7() {
    zabra_leads("zabra-leads-3.7", Kind::Release("3.7.2"), Reconfig::Off);
}

#[test]
fn zabra_leads_followers_and_an_observer_of_apache_3_8_0() {
    zabra_leads("zabra-leads-3.8.0", Kind::Apache, Reconfig::Off);
}

#[test]
fn zabra_leads_followers_and_an_observer_of_apache_3_9() {
    zabra_leads("zabra-leads-3.9", Kind::Release("3.9.5"), Reconfig::On);
}

/// The quorum always needs a native server of ours and one that is a WebAssembly module, and each
/// leads once.
#[test]
fn one_ensemble_of_apache_native_and_wasm() {
    let apache = Kind::Release("3.9.5");
    let roles = [(1, Participant), (2, Participant), (3, Participant)];
    let mut ensemble = Ensemble::new("mixed-wasm", Reconfig::On, &roles);
    ensemble.start_all(&[(3, Kind::Sandboxed), (2, Kind::Zabra), (1, apache)]);
    write_every_kind(&ensemble, 1, "/through-apache");
    write_every_kind(&ensemble, 2, "/through-native");
    write_every_kind(&ensemble, 3, "/through-wasm");
    let load = Load::start(&ensemble.addresses());
    load.go_on_for(WRITES);
    assert_eq!(ensemble.leader(), 3, "who leads");
    assert!(is_baseline() || ensemble.log(3).contains("core: wasm"));
    ensemble.end(1, End::Kill);
    load.go_on_for(WRITES);
    ensemble.start(1, apache);
    ensemble.settle();
    for (leader, kind) in [(3, Kind::Sandboxed), (2, Kind::Zabra)] {
        ensemble.end(leader, End::Kill);
        ensemble.settle();
        load.go_on_for(WRITES);
        ensemble.start(leader, kind);
        ensemble.settle();
        load.go_on_for(WRITES);
    }
    finish(&ensemble, load);
}

/// The quorum needs our follower, then our follower comes back to what it has missed.
fn apache_leads(test: &str, apache: Kind, reconfig: Reconfig) {
    let roles = [
        (1, Participant),
        (2, Participant),
        (3, Participant),
        (4, Observer),
    ];
    let mut ensemble = Ensemble::new(test, reconfig, &roles);
    ensemble.start_all(&[(3, apache), (2, apache), (1, Kind::Zabra), (4, Kind::Zabra)]);
    write_every_kind(&ensemble, 1, "/through-follower");
    write_every_kind(&ensemble, 4, "/through-observer");
    let load = Load::start(&ensemble.addresses());
    load.go_on_for(WRITES);
    ensemble.wait_for_mode(1, "follower");
    ensemble.wait_for_mode(4, "observer");
    ensemble.end(2, End::Kill);
    load.go_on_for(WRITES);
    ensemble.start(2, apache);
    ensemble.settle();
    for (id, end) in [(1, End::Kill), (4, End::Stop)] {
        ensemble.end(id, end);
        load.go_on_for(WRITES);
        ensemble.start(id, Kind::Zabra);
        ensemble.settle();
    }
    load.go_on_for(WRITES);
    assert_eq!(ensemble.leader(), 3, "who leads");
    finish(&ensemble, load);
}

/// The quorum needs Apache ZooKeeper's followers, which come back to what they have missed; then our
/// leader is gone, and comes back as a follower.
fn zabra_leads(test: &str, apache: Kind, reconfig: Reconfig) {
    let roles = [
        (1, Participant),
        (2, Participant),
        (3, Participant),
        (4, Observer),
    ];
    let mut ensemble = Ensemble::new(test, reconfig, &roles);
    ensemble.start_all(&[(3, Kind::Zabra), (2, apache), (1, apache), (4, apache)]);
    write_every_kind(&ensemble, 1, "/through-follower");
    write_every_kind(&ensemble, 4, "/through-observer");
    write_every_kind(&ensemble, 3, "/through-leader");
    create_in_ways_that_old_servers_do_not_know(&ensemble, 3);
    let load = Load::start(&ensemble.addresses());
    load.go_on_for(WRITES);
    for (id, end) in [(1, End::Kill), (4, End::Stop)] {
        ensemble.end(id, end);
        load.go_on_for(WRITES);
        ensemble.start(id, apache);
        ensemble.settle();
    }
    load.go_on_for(WRITES);
    assert_eq!(ensemble.leader(), 3, "who leads");
    ensemble.end(3, End::Kill);
    ensemble.settle();
    load.go_on_for(WRITES);
    ensemble.start(3, Kind::Zabra);
    ensemble.settle();
    ensemble.wait_for_mode(3, "follower");
    load.go_on_for(WRITES);
    finish(&ensemble, load);
}

/// Before 3.7.2 and 3.8.2 a server drops the rest of a multi behind a create2 (spec 11.3): whoever
/// leads them must not propose one.
fn create_in_ways_that_old_servers_do_not_know(ensemble: &Ensemble, leader: Id) {
    if is_baseline() {
        return;
    }
    let mut client = Client::open(ensemble.address(leader), SESSION_MS).unwrap();
    let create2 = |path| Op::Create2 {
        path,
        data: Some(b"2"),
        flags: flags::PERSISTENT,
    };
    let create = |path| Op::Create {
        path,
        data: Some(b"1"),
        flags: flags::PERSISTENT,
    };
    let parts = [
        create2("/create2"),
        create("/after-create2"),
        create2("/create2/child"),
    ];
    assert_eq!(client.multi(&parts).unwrap(), [0; 3]);
    client.close().unwrap();
}

/// Nothing acknowledged is lost, all trees are the same, and sessions end everywhere.
pub(crate) fn finish(ensemble: &Ensemble, load: Load) {
    load.go_on_for(WRITES);
    let mismatches = ensemble.digest_mismatches();
    load.go_on_for(WRITES);
    assert_eq!(ensemble.digest_mismatches(), mismatches);
    eprintln!("digest mismatches while joining: {mismatches:?}");
    let account = load.conclude();
    account.verify(&ensemble.tree());
    let ephemerals = account.close();
    let tree = ensemble.tree();
    for path in ephemerals {
        assert!(!tree.contains_key(&path), "{path} has outlived its session");
    }
}

/// Every kind of znode, change and refusal, through one member.
fn write_every_kind(ensemble: &Ensemble, id: Id, root: &str) {
    let mut client = Client::open(ensemble.address(id), SESSION_MS).unwrap();
    client.add_auth("digest", b"user:secret").unwrap();
    let (open, persistent) = (Acl::open(), flags::PERSISTENT);
    let at = |name: &str| format!("{root}/{name}");
    client.create(root, None, &open, persistent).unwrap();
    client
        .create(&at("empty"), Some(b""), &open, persistent)
        .unwrap();
    client
        .set_data(&at("empty"), Some("größe".as_bytes()), 0)
        .unwrap();
    let large = vec![b'l'; LARGE_BYTES];
    client
        .create(&at("large"), Some(&large), &open, persistent)
        .unwrap();
    client
        .create(&at("container"), Some(b"c"), &open, flags::CONTAINER)
        .unwrap();
    client
        .create(&at("container/child"), None, &open, persistent)
        .unwrap();
    client.create_ttl(&at("ttl"), b"t", TTL_MS).unwrap();
    client
        .create(&at("ephemeral-"), None, &open, flags::EPHEMERAL_SEQUENTIAL)
        .unwrap();
    client
        .create(&at("ephemeral"), None, &open, flags::EPHEMERAL)
        .unwrap();
    let mine = [Acl::new(31, "auth", ""), Acl::new(1, "world", "anyone")];
    client
        .create(&at("mine"), Some(b"m"), &mine, persistent)
        .unwrap();
    client.set_acl(&at("mine"), &mine, 0).unwrap();
    let path = at("multi");
    let parts = [
        Op::Create {
            path: &path,
            data: None,
            flags: persistent,
        },
        Op::Check {
            path: &path,
            version: 0,
        },
        Op::SetData {
            path: &path,
            data: Some(b"two"),
            version: 0,
        },
        Op::Delete {
            path: &path,
            version: 1,
        },
    ];
    assert_eq!(client.multi(&parts).unwrap(), [0; 4]);
    let refused = [
        Op::Create {
            path: &path,
            data: None,
            flags: persistent,
        },
        Op::Check {
            path: root,
            version: 7,
        },
    ];
    assert_eq!(client.multi(&refused).unwrap(), [0, -103]);
    client.set_data(root, None, 7).unwrap_err();
    client.delete(&at("missing"), -1).unwrap_err();
    client.close().unwrap();
}
