//! What monitoring reads: `mntr`, every metric of a ZooKeeper 3.9 by its name there, but those whose
//! names hold a learner's id (`N_learner_handler_qp_size` and `_time_ms`: packets wait in no queue
//! here) or a znode's name (`NAME_read_per_namespace`, `_write_`).
//!
//! Consumers look keys up, and some complain of one that is missing; so what has no counterpart
//! here (the queues between its threads, TLS) is told as ZooKeeper tells what is at
//! rest.
//!
//! Source: `MonitorCommand`, `ZooKeeperServer.registerMetrics`, `ServerMetrics`.

use alloc::format;
use alloc::string::String;

use super::latency::{Latencies, Mean};
use crate::server::{Core, HostFacts, Server, Stats, Summary};

/// Counters of what this server does not do or does not count.
const COUNTERS_AT_REST: &str = "add_dead_watcher_stall_time dead_watchers_cleared \
    dead_watchers_queued diff_count ensemble_auth_fail ensemble_auth_skip ensemble_auth_success \
    insecure_admin_count large_requests_rejected learner_commit_received_count \
    learner_proposal_received_count outstanding_changes_queued \
    outstanding_changes_removed prep_processor_request_queued quit_leading_due_to_disloyal_voter \
    request_commit_queued request_throttle_wait_count requests_not_forwarded_to_commit_processor \
    response_packet_cache_hits response_packet_cache_misses \
    response_packet_get_children_cache_hits response_packet_get_children_cache_misses \
    restore_error_count restore_rate_limited_count revalidate_count \
    skip_learner_request_to_next_processor_count snap_count snapshot_rate_limited_count \
    stale_replies stale_requests stale_requests_dropped sync_processor_request_queued \
    throttled_ops tls_handshake_exceeded unrecoverable_error_count unsuccessful_handshake";

/// Summaries likewise.
const SUMMARIES_AT_REST: &str = "commit_commit_proc_req_queued commit_process_time \
    concurrent_request_processing_in_commit_processor connection_token_deficit dbinittime \
    follower_sync_time inflight_diff_count inflight_snap_count \
    leader_unavailable_time learner_request_processor_queue_size netty_queued_buffer_capacity \
    observer_sync_time pending_session_queue_size prep_process_time prep_processor_queue_size \
    proposal_process_time read_commit_proc_issued read_commit_proc_req_queued \
    reads_after_write_in_session_queue reads_issued_from_session_queue \
    requests_in_session_queue restore_time session_queues_drained socket_closing_time \
    startup_snap_load_time startup_txns_load_time sync_process_time sync_processor_batch_size \
    sync_processor_queue_size time_waiting_empty_pool_in_commit_processor_read_ms \
    unavailable_time write_batch_time_in_commit_processor write_commit_proc_issued \
    write_commit_proc_req_queued";

/// Summaries with percentiles likewise.
const LATENCIES_AT_REST: &str = "close_session_prep_time commit_propagation_latency \
    dead_watchers_cleaner_latency jvm_pause_time_ms local_write_committed_time_ms \
    om_commit_process_time_ms om_proposal_process_time_ms prep_processor_queue_time_ms \
    propagation_latency proposal_ack_creation_latency proposal_latency quorum_ack_latency \
    read_commitproc_time_ms read_final_proc_time_ms request_throttle_queue_time_ms \
    server_write_committed_time_ms sync_processor_queue_and_flush_time_ms \
    sync_processor_queue_flush_time_ms sync_processor_queue_time_ms write_commitproc_time_ms \
    write_final_proc_time_ms";

const PERCENTILES: [(&str, u64); 4] = [("p50", 500), ("p95", 950), ("p99", 990), ("p999", 999)];

impl Server {
    pub(super) fn mntr(&self, facts: &HostFacts) -> String {
        let mut text = format!("zk_version\t{}\n", self.version());
        let core = &self.core;
        text += &format!("zk_server_state\t{}\n", core.mode());
        text += &core.peer_state();
        text += &core.quorum_gauges();
        gauges(&mut text, core, self.conns.len(), facts);
        counters(&mut text, &core.stats);
        summaries(&mut text, &core.stats, facts);
        let nothing = Latencies::default();
        for name in LATENCIES_AT_REST.split_whitespace() {
            latencies(&mut text, name, &nothing);
        }
        latencies(&mut text, "readlatency", &core.stats.read_ms);
        latencies(&mut text, "updatelatency", &core.stats.write_ms);
        text
    }
}

impl Core {
    /// The root has two names in ZooKeeper, and counts twice.
    pub(super) const fn node_count(&self) -> usize {
        self.tree.node_count() + 1
    }
}

fn gauges(text: &mut String, core: &Core, connections: usize, facts: &HostFacts) {
    let (tree, stats) = (&core.tree, &core.stats);
    let latency = stats.latency_ms;
    *text += &format!("zk_avg_latency\t{}\n", Mean(latency));
    *text += "zk_connection_drop_probability\t0.0\n";
    // Until there was a response, its size is -1.
    let size = |bytes: usize| match stats.response_bytes_last {
        Some(_) => i64::try_from(bytes).unwrap_or(i64::MAX),
        None => -1,
    };
    let uptime_ms = core.now.instant.micros_since(core.started) / 1000;
    let gauges = [
        ("max_latency", signed(latency.max)),
        ("min_latency", signed(latency.min)),
        ("packets_received", signed(stats.received)),
        ("packets_sent", signed(stats.sent)),
        ("num_alive_connections", signed(connections as u64)),
        ("outstanding_requests", signed(core.outstanding as u64)),
        ("uptime", signed(uptime_ms)),
        ("znode_count", signed(core.node_count() as u64)),
        ("watch_count", signed(core.watches.count() as u64)),
        ("ephemerals_count", signed(tree.ephemeral_count() as u64)),
        // The root's other name is `/`, one byte.
        ("approximate_data_size", signed(tree.data_size() + 1)),
        ("global_sessions", signed(core.global_sessions() as u64)),
        ("local_sessions", signed(core.local_sessions() as u64)),
        ("open_file_descriptor_count", signed(facts.open_files)),
        ("max_file_descriptor_count", signed(facts.open_files_max)),
        (
            "last_client_response_size",
            size(stats.response_bytes_last.unwrap_or(0)),
        ),
        ("max_client_response_size", size(stats.response_bytes_max)),
        ("min_client_response_size", size(stats.response_bytes_min)),
        ("outstanding_tls_handshake", 0),
        ("auth_failed_count", signed(stats.auth_failed)),
        ("non_mtls_remote_conn_count", 0),
        ("non_mtls_local_conn_count", 0),
        ("zabra_disk_free_bytes", signed(facts.disk_free_bytes)),
        ("zabra_disk_low", i64::from(core.disk.low)),
    ];
    for (name, value) in gauges {
        *text += &format!("zk_{name}\t{value}\n");
    }
}

/// Java has no numbers without sign.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn counters(text: &mut String, stats: &Stats) {
    let counters = [
        ("bytes_received_count", stats.bytes_received),
        (
            "cnxn_closed_without_zk_server_running",
            stats.refused_not_serving,
        ),
        ("commit_count", stats.commits),
        ("connection_drop_count", stats.connections_dropped),
        ("connection_rejected", stats.connections_refused),
        ("connection_request_count", stats.sessions_asked),
        ("connection_revalidate_count", stats.revalidated),
        ("digest_mismatches_count", stats.digest_mismatches),
        ("looking_count", stats.looking),
        ("proposal_count", stats.proposals),
        ("response_bytes", stats.response_bytes),
        ("sessionless_connections_expired", stats.sessionless_expired),
        ("snapshot_error_count", stats.snapshots_failed),
        ("stale_sessions_expired", stats.sessions_expired),
        ("watch_bytes", stats.watch_bytes),
    ];
    let at_rest = COUNTERS_AT_REST.split_whitespace().map(|name| (name, 0));
    for (name, value) in counters.into_iter().chain(at_rest) {
        *text += &format!("zk_{name}\t{value}\n");
    }
}

fn summaries(text: &mut String, stats: &Stats, facts: &HostFacts) {
    let summaries = [
        ("election_time", stats.election_ms),
        ("fsynctime", facts.fsync_ms),
        ("node_changed_watch_count", stats.watchers_changed),
        ("node_children_watch_count", stats.watchers_children),
        ("node_created_watch_count", stats.watchers_created),
        ("node_deleted_watch_count", stats.watchers_deleted),
        ("snapshottime", stats.snapshot_ms),
        ("startup_txns_loaded", stats.startup_txns),
    ];
    let names = SUMMARIES_AT_REST.split_whitespace();
    let at_rest = names.map(|name| (name, Summary::default()));
    for (name, values) in summaries.into_iter().chain(at_rest) {
        summary(text, name, values);
    }
}

fn summary(text: &mut String, name: &str, values: Summary) {
    *text += &format!(
        "zk_avg_{name}\t{}\n\
         zk_min_{name}\t{}\n\
         zk_max_{name}\t{}\n\
         zk_cnt_{name}\t{}\n\
         zk_sum_{name}\t{}\n",
        Mean(values),
        values.min,
        values.max,
        values.count,
        values.sum,
    );
}

fn latencies(text: &mut String, name: &str, values: &Latencies) {
    summary(text, name, values.summary());
    for (prefix, thousandths) in PERCENTILES {
        let value = values.percentile(thousandths);
        *text += &format!("zk_{prefix}_{name}\t{value}\n");
    }
}
