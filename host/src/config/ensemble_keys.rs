//! The keys of an ensemble. A server that stands alone checks them and goes on without them: the
//! same file can serve when the ensemble grows.
//!
//! Source: as in [`keys`](super::keys).

use super::{
    draft::Draft,
    keys::{I32_MAX, key, number, path, u32_of},
    table::{Effect, Key},
};

pub(super) static KEYS: &[Key] = &[
    key("server.*", "", Effect::Member),
    key("group.*", "", Effect::Member),
    key("weight.*", "", Effect::Member),
    // In ZooKeeper a file of its own; accepted here too, so that a variable can set it.
    key(
        "myid",
        "",
        number(1, 255, "servers", |d, n| d.my_id = u8::try_from(n).ok()),
    ),
    key("peerType", "", Effect::Text(peer_type)),
    key(
        "standaloneEnabled",
        "true",
        Effect::Switch(|d, on| d.standalone_enabled = on),
    ),
    key(
        "reconfigEnabled",
        "false",
        Effect::Switch(|d, on| d.ensemble.reconfig_enabled = on),
    ),
    key(
        "dynamicConfigFile",
        "",
        Effect::Text(|d, v| path(&mut d.dynamic_config, v)),
    ),
    key(
        "initLimit",
        "",
        number(1, I32_MAX, "ticks", |d, n| {
            d.ensemble.init_limit = Some(u32_of(n));
        }),
    ),
    key(
        "syncLimit",
        "",
        number(1, I32_MAX, "ticks", |d, n| {
            d.ensemble.sync_limit = Some(u32_of(n));
        }),
    ),
    // 0 is initLimit.
    key(
        "connectToLearnerMasterLimit",
        "0",
        number(0, I32_MAX, "ticks", |d, n| {
            d.ensemble.connect_limit = u32_of(n)
        }),
    ),
    key(
        "quorumListenOnAllIPs",
        "false",
        Effect::Switch(|d, on| d.ensemble.listen_on_all_ips = on),
    ),
    key(
        "multiAddress.enabled",
        "false",
        Effect::Switch(|d, on| d.ensemble.multi_address = on),
    ),
    key(
        "fastleader.minNotificationInterval",
        "200",
        number(1, I32_MAX, "milliseconds", |d, n| {
            d.ensemble.notification_ms_min = u32_of(n);
        }),
    ),
    key(
        "fastleader.maxNotificationInterval",
        "60000",
        number(1, I32_MAX, "milliseconds", |d, n| {
            d.ensemble.notification_ms_max = u32_of(n);
        }),
    ),
    key(
        "cnxTimeout",
        "5000",
        number(1, I32_MAX, "milliseconds", |d, n| {
            d.ensemble.connect_timeout_ms = u32_of(n);
        }),
    ),
    // Below 1 it is tickTime * syncLimit.
    key(
        "quorumCnxnTimeoutMs",
        "-1",
        number(-1, I32_MAX, "milliseconds", |d, n| {
            d.ensemble.election_silence_ms = Some(u32_of(n)).filter(|_| n > 0);
        }),
    ),
    key(
        "tcpKeepAlive",
        "false",
        Effect::Switch(|d, on| d.ensemble.tcp_keep_alive = on),
    ),
    key(
        "electionPortBindRetry",
        "3",
        number(0, I32_MAX, "attempts", |d, n| {
            d.ensemble.bind_attempts_max = u32_of(n);
        }),
    ),
    key(
        "commitLogCount",
        "500",
        number(0, I32_MAX, "transactions", |d, n| {
            d.ensemble.history_txns_min = u32_of(n);
        }),
    ),
    key(
        "jute.maxbuffer.extrasize",
        "",
        number(0, I32_MAX, "bytes", |d, n| {
            d.ensemble.packet_extra_bytes = Some(u32_of(n));
        }),
    ),
    key(
        "localSessionsEnabled",
        "false",
        Effect::Switch(|d, on| d.ensemble.local_sessions = on),
    ),
    key(
        "localSessionsUpgradingEnabled",
        "false",
        Effect::Switch(|d, on| d.ensemble.local_sessions_upgrading = on),
    ),
    key("leaderServes", "yes", Effect::Text(leader_serves)),
    key(
        "db.autocreate",
        "true",
        Effect::Switch(|d, on| d.ensemble.db_autocreate = on),
    ),
];

fn peer_type(draft: &mut Draft, value: &str) -> Result<(), &'static str> {
    draft.ensemble.observer = match value.to_ascii_lowercase().as_str() {
        "observer" => Some(true),
        "participant" => Some(false),
        _ => return Err("observer or participant"),
    };
    Ok(())
}

/// ZooKeeper takes everything but `no` as yes.
fn leader_serves(draft: &mut Draft, value: &str) -> Result<(), &'static str> {
    draft.ensemble.leader_serves = match value {
        "yes" => true,
        "no" => false,
        _ => return Err("yes or no"),
    };
    Ok(())
}
