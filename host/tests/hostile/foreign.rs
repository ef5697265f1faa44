//! Servers of another ensemble: a machine with a member's id and ports whose disk has another
//! history, and one that this ensemble knows nothing of.

use core::time::Duration;
use std::fs;
use std::thread;
use std::time::Instant;

use crate::peers::{Ensemble, IN_STEP};
use crate::support::process::{Server, copy_directory};
use crate::support::tree::{Tree, dump};
use crate::support::wire::{Acl, Client, flags};
use crate::support::witness::Witness;

const SESSION_MS: i32 = 20_000;
const OTHERS_TIME: Duration = Duration::from_millis(1500);
const TIME_MAX: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

/// Writes as many znodes as this, after which the ensemble is as it says.
fn write(ensemble: &Ensemble, whose: &str, count: u32) -> Client {
    let mut client = Client::open(ensemble.members[0].address, SESSION_MS).unwrap();
    for number in 0..count {
        let path = format!("/{whose}-{number}");
        let data = Some(whose.as_bytes());
        client
            .create(&path, data, &Acl::open(), flags::PERSISTENT)
            .unwrap();
    }
    client
}

fn conclude(ensemble: &mut Ensemble) {
    for witness in ensemble.witnesses.drain(..) {
        eprintln!("{:?}", witness.conclude());
    }
}

/// Ends its third server and gives its place the disk of another ensemble's third, which has made
/// so many znodes, in so many epochs.
fn foreign_disk(ensemble: &mut Ensemble, name: &str, znodes: u32, epochs: u32) {
    let mut other = Ensemble::start(name);
    conclude(&mut other);
    write(&other, "theirs", znodes).close().unwrap();
    let servers = other.servers(&[1, 2, 3]);
    for _ in 1..epochs {
        for member in other.members.drain(..) {
            member.stop();
        }
        for id in 1..=3 {
            let member = other.member(id, id, &servers);
            other.members.push(member);
        }
        for member in &other.members {
            member.wait_for_log(IN_STEP);
        }
    }
    for member in other.members.drain(..) {
        member.stop();
    }
    ensemble.members.remove(2).stop();
    let (from, to) = (other.home.path(), ensemble.home.path());
    let part = "3/data/version-2";
    fs::remove_dir_all(to.join(part)).unwrap();
    copy_directory(&from.join(part), &to.join(part));
}

/// The tree as one member has it, without the znode that each server writes by itself.
fn tree(member: &Server) -> Tree {
    let end = Instant::now() + TIME_MAX;
    loop {
        let found = Client::open(member.address, SESSION_MS).and_then(|mut client| {
            client.sync("/")?;
            let tree = dump(&mut client)?;
            client.close()?;
            Ok(tree)
        });
        match found {
            Ok(mut tree) => {
                tree.remove("/zookeeper/config");
                return tree;
            }
            Err(error) => assert!(Instant::now() < end, "{error:?}"),
        }
        thread::sleep(POLL);
    }
}

/// Well-behaved sessions at the members that are left.
fn witness(ensemble: &mut Ensemble) {
    let addresses = ensemble.members.iter().map(|member| member.address);
    ensemble.witnesses = addresses.map(Witness::start).collect();
}

#[test]
fn foreign_disk_of_later_epochs_does_not_get_in_and_disturbs_nobody() {
    let mut ensemble = Ensemble::start("hostile-foreign-later");
    conclude(&mut ensemble);
    write(&ensemble, "ours", 20).close().unwrap();
    foreign_disk(&mut ensemble, "hostile-foreign-later-other", 50, 4);
    let before = tree(&ensemble.members[0]);
    let lost = ensemble.lost_roles();
    witness(&mut ensemble);
    let leader = ensemble.leader();
    let third = ensemble.member(3, 3, &ensemble.servers(&[1, 2, 3]));

    let refused = "and a quorum that has it: is it of another ensemble?";
    ensemble.members[leader - 1].wait_for_log(refused);
    third.wait_for_log("if it refused this server, its log says why");
    thread::sleep(OTHERS_TIME);

    assert!(!third.log().contains(IN_STEP), "{}", third.log());
    conclude(&mut ensemble);
    assert_eq!(ensemble.lost_roles(), lost, "nobody's part has ended");
    for member in &ensemble.members {
        assert_eq!(ours(tree(member)), ours(before.clone()));
    }
}

/// All but the root, of which the witnesses' znodes leave a trace.
fn ours(mut tree: Tree) -> Tree {
    tree.remove("/");
    tree
}

#[test]
fn foreign_disk_of_the_same_epoch_is_given_this_ensemble_s_state() {
    // Fewer transactions than this ensemble's, and more.
    for znodes in [5, 50] {
        let mut ensemble = Ensemble::start("hostile-foreign-same");
        conclude(&mut ensemble);
        write(&ensemble, "ours", 20).close().unwrap();
        foreign_disk(&mut ensemble, "hostile-foreign-same-other", znodes, 1);
        let lost = ensemble.lost_roles();
        witness(&mut ensemble);
        let third = ensemble.member(3, 3, &ensemble.servers(&[1, 2, 3]));
        third.wait_for_log(IN_STEP);
        third.wait_for_log("the tree's digest is ");
        third.wait_for_log("in step with the ensemble how=\"SNAP of ");
        conclude(&mut ensemble);
        assert_eq!(ensemble.lost_roles(), lost, "nobody's part has ended");
        let expected = tree(&ensemble.members[0]);
        assert!(expected.contains_key("/ours-19") && !expected.contains_key("/theirs-0"));
        assert_eq!(tree(&third), expected);
    }
}

#[test]
fn server_that_nobody_knows_does_not_get_in_and_disturbs_nobody() {
    let mut ensemble = Ensemble::start("hostile-unknown");
    let leader = ensemble.leader();
    let lost = ensemble.lost_roles();
    let fourth = ensemble.member(4, 4, &ensemble.servers(&[1, 2, 3, 4]));
    let refused = "it says that it is server 4, which is none of this leader's server.N";
    ensemble.members[leader - 1].wait_for_log(refused);
    fourth.wait_for_log("if it refused this server, its log says why");
    assert!(!fourth.log().contains(IN_STEP), "{}", fourth.log());
    assert_eq!(fourth.signal("TERM").0, Some(0));
    assert_eq!(ensemble.lost_roles(), lost, "nobody's part has ended");
    conclude(&mut ensemble);
}
