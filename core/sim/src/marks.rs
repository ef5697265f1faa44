//! What has happened in a campaign: a check that never met its case has proven nothing.

use std::collections::BTreeMap;

/// How often each thing has happened.
#[derive(Clone, Debug, Default)]
pub struct Marks(BTreeMap<&'static str, u64>);

impl Marks {
    /// Notes that something happened.
    pub fn hit(&mut self, name: &'static str) {
        *self.0.entry(name).or_default() += 1;
    }

    /// Takes in what happened in another run.
    pub fn merge(&mut self, other: &Self) {
        for (name, count) in &other.0 {
            *self.0.entry(name).or_default() += count;
        }
    }

    /// All marks with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(name, count)| (*name, *count))
    }

    /// Which of [`REQUIRED`] and [`REQUIRED_OF_ENSEMBLES`] never happened.
    #[must_use]
    pub fn missing(&self, alone: bool, ensemble: bool) -> Vec<&'static str> {
        let is_missing = |name: &&&str| !self.0.contains_key(**name);
        let alone = if alone { REQUIRED } else { &[] };
        let ensemble = if ensemble { REQUIRED_OF_ENSEMBLES } else { &[] };
        let required = alone.iter().chain(ensemble);
        required.filter(is_missing).copied().collect()
    }
}

/// What a campaign of ensembles must have met.
pub const REQUIRED_OF_ENSEMBLES: &[&str] = &[
    "converged",
    "diff_with_proposals_before_newleader",
    "disk_lost",
    "fault: block",
    "fault: clock",
    "fault: disk-fails",
    "fault: disk-full",
    "fault: disk-low",
    "fault: drop-clients",
    "fault: half-close",
    "fault: isolate",
    "fault: kill",
    "fault: kill-in-store",
    "fault: partition",
    "fault: pause",
    "fault: power",
    "fault: power-in-store",
    "fault: reconfig",
    "fault: reset",
    "fault: rot",
    "fault: slow-disk",
    "fault: slow-links",
    "fault: snapshot-fails",
    "fault: stall-disk",
    "log_failed",
    "log_reset",
    "log_truncated",
    "power_cut_torn",
    "reconfig_committed",
    "reconfig_refused",
    "reconfigured",
    "rot_refused",
    "session_moved",
    "snapshot_failed_on_disk",
    "snapshot_of_many_slices",
    "state_of_many_slices",
    "sync_by_diff",
    "sync_by_snap",
    "sync_by_trunc",
    "synced",
    "trial: idle",
    "trial: nuisance",
    "trial: one-way",
    "trial: stall",
];

/// What a campaign of servers alone must have met.
pub const REQUIRED: &[&str] = &[
    "acl_denied",
    "acl_masked",
    "auth_failed",
    "catch_up_changed",
    "catch_up_children",
    "catch_up_created",
    "catch_up_deleted",
    "check_watches_found",
    "check_watches_missing",
    "client_vanished",
    "container_reaped",
    "create_sequential",
    "ephemeral_child_refused",
    "ephemeral_deleted_by_expiry",
    "event_after_restart_rearmed",
    "event_changed",
    "event_children",
    "event_created",
    "event_deleted",
    "event_persistent",
    "event_withheld_by_acl",
    "group_commit",
    "handshake_from_the_future",
    "invalid_acl",
    "kill",
    "link_cut",
    "multi_applied",
    "multi_read",
    "multi_rollback",
    "null_data",
    "old_client",
    "pipelined",
    "power_cut",
    "power_cut_lost_a_txn",
    "power_cut_torn",
    "quota_counted",
    "quota_refused",
    "read_behind_a_write",
    "replayed_from_log",
    "session_closed",
    "session_expired",
    "session_moved",
    "session_refused",
    "session_resumed",
    "session_resumed_after_restart",
    "slow_reader",
    "snapshot_loaded",
    "snapshot_written",
    "tree_compared",
    "tree_full",
    "ttl_reaped",
    "undecodable_request",
    "unknown_operation",
    "wall_clock_jumped",
    "wrong_password",
];
