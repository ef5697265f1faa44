#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::wildcard_enum_match_arm,
    reason = "a test that meets what it did not expect has failed, and its numbers are small"
)]

mod answers;
mod bench;
mod connections;
mod ensembles;
mod network;
mod rules;

use alloc::format;
use alloc::string::String;

use super::*;
use crate::ids::Zxid;

/// Servers 1 to `voters` with a vote, then `observers` without; then whatever lines follow.
fn membership(voters: i64, observers: i64, more: &str) -> Membership {
    let mut text = String::new();
    for id in 1..=voters + observers {
        let role = if id <= voters {
            "participant"
        } else {
            "observer"
        };
        text += &format!("server.{id}=10.0.0.{id}:2888:3888:{role}\n");
    }
    Membership::parse(&(text + more)).unwrap()
}

fn options(me: i64, committed: Membership) -> Options {
    Options {
        me: ServerId(me),
        observer: false,
        committed,
        last_seen: None,
        election: Vec::new(),
        reconfig_enabled: false,
        tick_ms: 2000,
        init_limit: 10,
        sync_limit: 5,
        connect_limit: 0,
        listen_on_all_ips: false,
        multi_address: false,
        packet_bytes_max: 1 << 20,
        notification_ms_min: 200,
        notification_ms_max: 60_000,
        connect_timeout_ms: 5000,
        election_silence_ms: None,
        history_txns_min: 500,
        history_bytes_max: 1 << 20,
        sasl: crate::zab::Sasl::default(),
    }
}

fn voter(zxid: i64, epoch: i32) -> Standing {
    Standing::Voter {
        zxid: Zxid(zxid),
        epoch: Epoch(epoch),
    }
}

fn vote(leader: i64, zxid: i64, round: i64, epoch: i64) -> Vote {
    Vote {
        leader: ServerId(leader),
        zxid: Zxid(zxid),
        round,
        epoch,
    }
}
