//! Backups between Apache ZooKeeper and us: taken from either while clients write, restored into
//! both.

use crate::support::backups::{
    backs_up_while_clients_write, follows_while_clients_write, restores_a_subtree,
};
use crate::support::process::Kind::{Apache, Release, Zabra};

#[test]
fn apache_zookeeper_is_backed_up_and_restored_into_both() {
    backs_up_while_clients_write("backup-apache", Apache, &[Zabra, Apache, Zabra, Apache]);
}

#[test]
fn our_backups_are_restored_into_apache_zookeeper() {
    backs_up_while_clients_write("backup-to-apache", Zabra, &[Apache, Apache]);
}

#[test]
fn apache_zookeeper_is_followed_and_restored_to_any_point() {
    follows_while_clients_write(
        "backup-follow-apache",
        Apache,
        &[Zabra, Apache, Zabra, Apache],
    );
}

#[test]
fn a_subtree_comes_back_into_apache_zookeeper() {
    restores_a_subtree("backup-subtree-apache", Apache);
}

/// Its snapshots have no digest before 3.6, its logs none either.
#[test]
fn every_release_is_backed_up_and_restored_into_both() {
    for release in ["3.4.14", "3.5.10", "3.6.4", "3.7.2", "3.8.6", "3.9.5"] {
        let theirs = Release(release);
        let test = format!("backup-{release}");
        backs_up_while_clients_write(&test, theirs, &[Zabra, theirs]);
    }
}
