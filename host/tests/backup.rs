//! Backups of a running server, and what comes back of them.
#![expect(
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is what is wanted"
)]

#[path = "support/mod.rs"]
#[expect(dead_code, reason = "other tests use other parts of it")]
mod support;

use support::backups::{
    backs_up_while_clients_write, follows_while_clients_write, restores_a_subtree,
};
use support::process::Kind;

#[test]
fn a_backup_is_the_state_at_its_zxid_while_clients_write() {
    backs_up_while_clients_write("backup-online", Kind::Zabra, &[Kind::Zabra; 6]);
}

#[test]
fn a_backup_that_goes_on_restores_every_point() {
    follows_while_clients_write("backup-follow", Kind::Zabra, &[Kind::Zabra; 6]);
}

#[test]
fn a_subtree_comes_back_into_a_server_that_runs() {
    restores_a_subtree("backup-subtree", Kind::Zabra);
}
