//! Backups between Apache ZooKeeper and us: taken from either while clients write, restored into
//! both.

use crate::support::backups::{
    backs_up_while_clients_write, follows_while_clients_write, restores_a_subtree,
};
use crate::support::process::Kind::{Apache, Zabra};

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
