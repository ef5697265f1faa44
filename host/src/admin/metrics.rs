//! `GET /metrics` for Prometheus: ZooKeeper's metrics under the names of its own Prometheus
//! provider, and what only this server has, as `zabra_…`.
//!
//! ZooKeeper's come from the answer to `mntr`, once for each scrape, on the scraper's account.
//!
//! Source: ZooKeeper 3.9's `PrometheusMetricsProvider`: gauges and counters by their names,
//! summaries with quantiles, `_count` and `_sum`.

use core::fmt::{Display, Write as _};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use hyper::StatusCode;
use zabra_core::server::HostFacts;

use super::ask::{Asker, NOT_SERVING};
use super::http::{Asked, Reply, Site};
use crate::histogram::Histogram;
use crate::host_facts;
use crate::net::Gauges;

/// Source: the exposition format's version 0.0.4.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What `mntr` tells that may go down again; all else that is no summary only grows.
///
/// Source: `ZooKeeperServer.registerMetrics` and those of its subclasses.
const GAUGES: [&str; 35] = [
    "approximate_data_size",
    "auth_failed_count",
    "avg_latency",
    "connection_drop_probability",
    "ephemerals_count",
    "global_sessions",
    "last_client_response_size",
    "last_proposal_size",
    "leader_uptime",
    "learners",
    "local_sessions",
    "max_client_response_size",
    "max_file_descriptor_count",
    "max_latency",
    "max_proposal_size",
    "min_client_response_size",
    "min_latency",
    "min_proposal_size",
    "non_mtls_local_conn_count",
    "non_mtls_remote_conn_count",
    "num_alive_connections",
    "observer_master_id",
    "open_file_descriptor_count",
    "outstanding_requests",
    "outstanding_tls_handshake",
    "packets_received",
    "packets_sent",
    "pending_syncs",
    "quorum_size",
    "synced_followers",
    "synced_non_voting_followers",
    "synced_observers",
    "uptime",
    "watch_count",
    "znode_count",
];

/// How `mntr` names a percentile, and Prometheus.
const QUANTILES: [(&str, &str); 3] = [("p50_", "0.5"), ("p95_", "0.95"), ("p99_", "0.99")];

/// Metrics that other parts of the process add: a name without `zabra_`, what it is, and its value.
///
/// A clone is the same collection.
#[derive(Clone, Default)]
pub struct Extras {
    gauges: Arc<Mutex<Vec<Extra>>>,
}

type Extra = (
    &'static str,
    &'static str,
    Box<dyn Fn() -> Option<f64> + Send>,
);

impl Extras {
    /// Adds `zabra_<name>`, a gauge that is left out whenever it has no value.
    pub fn add(
        &self,
        name: &'static str,
        help: &'static str,
        value: impl Fn() -> Option<f64> + Send + 'static,
    ) {
        let mut gauges = self.gauges.lock().unwrap_or_else(PoisonError::into_inner);
        gauges.push((name, help, Box::new(value)));
    }
}

/// The page of metrics.
pub(super) struct Metrics {
    pub(super) asker: Asker,
    pub(super) gauges: Arc<Gauges>,
    pub(super) extras: Extras,
    /// `metricsProvider.exportJvmInfo`: what the process takes of its machine.
    pub(super) process: bool,
    pub(super) started: SystemTime,
}

impl Site for Metrics {
    async fn answer(&self, asked: Asked) -> Reply {
        if asked.path != "/metrics" {
            return Reply::text(StatusCode::NOT_FOUND, "see /metrics\n");
        }
        if !asked.is_get() {
            return Reply::text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        }
        Reply::new(StatusCode::OK, CONTENT_TYPE, self.page().await)
    }
}

impl Metrics {
    async fn page(&self) -> String {
        let mntr = self.asker.ask("mntr").await;
        let mntr = mntr.ok().filter(|text| text.trim_end() != NOT_SERVING);
        let mut page = Page::default();
        page.gauge(
            "zabra_serving",
            "Whether this server serves clients.",
            u8::from(mntr.is_some()),
        );
        if let Some(mntr) = &mntr {
            page.zookeepers(mntr);
        }
        self.ours(&mut page);
        if self.process
            && let Ok(facts) = self.asker.facts().await
        {
            self.process(&mut page, &facts);
        }
        page.text
    }

    fn ours(&self, page: &mut Page) {
        page.labelled(
            "zabra_info",
            "The version, as the word srvr prints it.",
            ("version", &host_facts::version()),
        );
        let gauges = &self.gauges;
        page.gauge(
            "zabra_links",
            "Connections that the core knows, clients' and servers'.",
            gauges.links(),
        );
        page.gauge(
            "zabra_sockets",
            "Sockets of connections, also of those that are being closed.",
            gauges.sockets(),
        );
        page.histogram(
            "zabra_step_seconds",
            "How long the core took for a step.",
            gauges.step_us(),
            Unit::Microseconds,
        );
        page.histogram(
            "zabra_step_inputs",
            "How much had happened since the step before.",
            gauges.step_inputs(),
            Unit::One,
        );
        if let Some(fsyncs) = self.asker.fsyncs() {
            page.histogram(
                "zabra_fsync_seconds",
                "How long the log's fsyncs took.",
                fsyncs.times(),
                Unit::Microseconds,
            );
            page.counter(
                "zabra_slow_fsyncs_total",
                "Those that took longer than fsync.warningthresholdms.",
                fsyncs.slow(),
            );
        }
        let extras = &self.extras.gauges;
        for (name, help, value) in &*extras.lock().unwrap_or_else(PoisonError::into_inner) {
            if let Some(value) = value() {
                page.gauge(&format!("zabra_{name}"), help, value);
            }
        }
    }

    /// By the names that Prometheus's own clients use.
    fn process(&self, page: &mut Page, facts: &HostFacts) {
        if let Some(time) = host_facts::processor_time() {
            page.counter(
                "process_cpu_seconds_total",
                "Processor time, user and system.",
                time.as_secs_f64(),
            );
        }
        page.gauge(
            "process_resident_memory_bytes",
            "Resident memory.",
            facts.memory_bytes,
        );
        page.gauge(
            "process_open_fds",
            "Open file descriptors.",
            facts.open_files,
        );
        page.gauge(
            "process_max_fds",
            "How many there may be.",
            facts.open_files_max,
        );
        let since = self.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        page.gauge(
            "process_start_time_seconds",
            "When the process started, since 1970.",
            since.as_secs_f64(),
        );
    }
}

/// What a histogram's whole numbers are.
#[derive(Clone, Copy)]
enum Unit {
    Microseconds,
    One,
}

impl Unit {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a metric of more than 2^53 microseconds may be rounded"
    )]
    fn of(self, value: u64) -> f64 {
        match self {
            Self::Microseconds => value as f64 / 1e6,
            Self::One => value as f64,
        }
    }
}

/// The text that is being written.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn head(&mut self, name: &str, help: &str, kind: &str) {
        // A string takes whatever is written.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = writeln!(self.text, "{name}{labels} {value}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, help, "gauge");
        self.sample(name, "", value);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, help, "counter");
        self.sample(name, "", value);
    }

    /// A gauge that is 1, and says something by a label.
    fn labelled(&mut self, name: &str, help: &str, (label, text): (&str, &str)) {
        self.head(name, help, "gauge");
        let text = text.replace('\\', "\\\\").replace('"', "\\\"");
        let text = text.replace('\n', "\\n");
        self.sample(name, &format!("{{{label}=\"{text}\"}}"), 1);
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram, unit: Unit) {
        self.head(name, help, "histogram");
        // Read once: the last bucket and the count must agree however much is counted meanwhile.
        let counts: Vec<_> = histogram.up_to().collect();
        let bucket = format!("{name}_bucket");
        let mut most = 0;
        for (bound, count) in counts {
            self.sample(&bucket, &format!("{{le=\"{}\"}}", unit.of(bound)), count);
            most = count;
        }
        let count = histogram.count().max(most);
        self.sample(&bucket, "{le=\"+Inf\"}", count);
        self.sample(&format!("{name}_sum"), "", unit.of(histogram.sum()));
        self.sample(&format!("{name}_count"), "", count);
    }

    /// The answer to `mntr`.
    fn zookeepers(&mut self, mntr: &str) {
        let metrics: Vec<(&str, &str)> = mntr
            .lines()
            .filter_map(|line| line.strip_prefix("zk_")?.split_once('\t'))
            .collect();
        let summaries: BTreeSet<&str> = metrics
            .iter()
            .filter_map(|(key, _)| key.strip_prefix("cnt_"))
            .collect();
        for (key, value) in &metrics {
            let of_summary = key.split_once('_').and_then(|(kind, name)| {
                let of = [
                    "avg", "cnt", "max", "min", "p50", "p95", "p99", "p999", "sum",
                ];
                (of.contains(&kind) && summaries.contains(name)).then_some((kind, name))
            });
            match (of_summary, *key) {
                // Told once, for all of its keys.
                (Some(("cnt", name)), _) => self.summary(name, &metrics),
                (Some(_), _) | (None, "version" | "peer_state") => {}
                (None, "server_state") => self.labelled(
                    "zabra_server_state",
                    "What this server is: standalone, leader, follower, observer, read-only.",
                    ("state", value),
                ),
                (None, name) if GAUGES.contains(&name) || name.starts_with("zabra_disk_") => {
                    self.gauge(name, name, value);
                }
                (None, name) => self.counter(name, name, value),
            }
        }
    }

    fn summary(&mut self, name: &str, metrics: &[(&str, &str)]) {
        let find = |prefix: &str| {
            let mut metrics = metrics.iter();
            let found = metrics.find(|(key, _)| key.strip_prefix(prefix) == Some(name));
            found.map(|&(_, value)| value)
        };
        let count = find("cnt_").unwrap_or("0");
        self.head(name, name, "summary");
        for (prefix, quantile) in QUANTILES {
            if let Some(value) = find(prefix) {
                // Of nothing there are none.
                let value = if count == "0" { "NaN" } else { value };
                self.sample(name, &format!("{{quantile=\"{quantile}\"}}"), value);
            }
        }
        self.sample(&format!("{name}_sum"), "", find("sum_").unwrap_or("0"));
        self.sample(&format!("{name}_count"), "", count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_to_mntr_becomes_metrics_by_zookeepers_names() {
        let mntr = "zk_version\t3.9.5\n\
                    zk_server_state\tstandalone\n\
                    zk_avg_latency\t0.25\n\
                    zk_znode_count\t5\n\
                    zk_commit_count\t7\n\
                    zk_avg_fsynctime\t1.5\nzk_min_fsynctime\t1\nzk_max_fsynctime\t2\n\
                    zk_cnt_fsynctime\t2\nzk_sum_fsynctime\t3\n\
                    zk_avg_readlatency\t0.0\nzk_min_readlatency\t0\nzk_max_readlatency\t0\n\
                    zk_cnt_readlatency\t0\nzk_sum_readlatency\t0\n\
                    zk_p50_readlatency\t0\nzk_p95_readlatency\t0\nzk_p99_readlatency\t0\n\
                    zk_p999_readlatency\t0\n";
        let mut page = Page::default();
        page.zookeepers(mntr);
        let lines: Vec<_> = page
            .text
            .lines()
            .filter(|line| !line.starts_with("# HELP"))
            .collect();
        assert_eq!(
            lines,
            [
                "# TYPE zabra_server_state gauge",
                "zabra_server_state{state=\"standalone\"} 1",
                "# TYPE avg_latency gauge",
                "avg_latency 0.25",
                "# TYPE znode_count gauge",
                "znode_count 5",
                "# TYPE commit_count counter",
                "commit_count 7",
                "# TYPE fsynctime summary",
                "fsynctime_sum 3",
                "fsynctime_count 2",
                "# TYPE readlatency summary",
                "readlatency{quantile=\"0.5\"} NaN",
                "readlatency{quantile=\"0.95\"} NaN",
                "readlatency{quantile=\"0.99\"} NaN",
                "readlatency_sum 0",
                "readlatency_count 0",
            ]
        );
    }

    #[test]
    fn labels_are_quoted() {
        let mut page = Page::default();
        page.labelled("x", "y", ("l", "a\"b\\c\nd"));
        assert!(page.text.ends_with("x{l=\"a\\\"b\\\\c\\nd\"} 1\n"));
    }

    #[test]
    fn gauges_are_named_in_order_and_once() {
        assert!(GAUGES.is_sorted());
    }
}
