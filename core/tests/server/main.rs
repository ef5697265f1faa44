//! What clients meet: whole servers, whose store and clients do only what a test says.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops where its expectation fails"
)]

mod acl;
mod auth;
mod bench;
mod disk;
mod full;
mod limits;
mod reaping;
mod sessions;
mod slow;
mod snapshots;
mod writes;
