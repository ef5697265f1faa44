//! `GET /metrics`, as Prometheus reads it.

use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, Ordering};
use std::collections::BTreeMap;
use std::thread;

use super::SESSION_MS;
use super::support::http::{ask, get};
use super::support::process::{Directory, Kind, Server, free_address};
use super::support::wire::{Acl, Client, flags};

const PROVIDER: &str = "metricsProvider.className=org.apache.zookeeper.metrics.prometheus.\
                        PrometheusMetricsProvider";
const SCRAPES: usize = 30;

struct Measured {
    server: Server,
    metrics: SocketAddr,
    _directory: Directory,
}

fn start(test: &str) -> Measured {
    let directory = Directory::new(test);
    let metrics = free_address();
    let port = format!("metricsProvider.httpPort={}", metrics.port());
    let options = [PROVIDER, &port, "metricsProvider.httpHost=127.0.0.1"];
    let server = Server::start(Kind::Zabra, directory.path(), &options);
    Measured {
        server,
        metrics,
        _directory: directory,
    }
}

/// Every sample by its name with labels.
fn scrape(address: SocketAddr) -> BTreeMap<String, f64> {
    let answer = get(address, "/metrics").unwrap();
    assert_eq!(answer.status, 200);
    let kind = answer.header("content-type").unwrap();
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    let text = answer.text();
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

#[test]
fn names_of_published_dashboards_and_alerts_are_there() {
    let it = start("metrics-names");
    let found = scrape(it.metrics);
    // Those of ZooKeeper's own alert rules and dashboard (docs: zookeeperMonitor).
    for name in [
        "znode_count",
        "num_alive_connections",
        "approximate_data_size",
        "watch_count",
        "election_time_count",
        "open_file_descriptor_count",
        "fsynctime_sum",
        "fsynctime_count",
        "snapshottime_sum",
        "avg_latency",
        "max_latency",
        "min_latency",
        "outstanding_requests",
        "packets_received",
        "packets_sent",
        "ephemerals_count",
        "global_sessions",
        "uptime",
        "connection_request_count",
        "commit_count",
        "proposal_count",
        "readlatency_count",
        "readlatency{quantile=\"0.99\"}",
        "updatelatency_sum",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "zabra_fsync_seconds_count",
        "zabra_step_seconds_sum",
        "zabra_server_state{state=\"standalone\"}",
    ] {
        assert!(found.contains_key(name), "{name}");
    }
    assert_eq!(found["znode_count"], 5.0);
    assert_eq!(found["zabra_serving"], 1.0);
    assert_eq!(get(it.metrics, "/").unwrap().status, 404);
    assert_eq!(
        ask(it.metrics, "POST", "/metrics", &[]).unwrap().status,
        405
    );
    drop(it.server);
}

/// Ends who writes, however the test ends.
struct Stopped<'a>(&'a AtomicBool);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn scrapes_under_load_count_upwards() {
    let it = start("metrics-load");
    let stop = AtomicBool::new(false);
    let address = it.server.address;
    thread::scope(|scope| {
        // Else a check that fails would wait for the writer for ever.
        let stopped = Stopped(&stop);
        let writer = scope.spawn(|| {
            let mut client = Client::open(address, SESSION_MS).unwrap();
            let mut written = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                let path = format!("/n{written}");
                client
                    .create(&path, Some(b"data"), &Acl::open(), flags::PERSISTENT)
                    .unwrap();
                client.data(&path, false).unwrap();
                written += 1;
            }
            written
        });
        let mut before = scrape(it.metrics);
        for _ in 0..SCRAPES {
            let after = scrape(it.metrics);
            for (name, value) in &after {
                let counts = name.ends_with("_count") || name.contains("_bucket{");
                // A gauge by another name.
                let grows = counts && name != "open_file_descriptor_count";
                let old = before.get(name).copied().unwrap_or_default();
                assert!(!grows || *value >= old, "{name}: {old}, then {value}");
            }
            before = after;
        }
        drop(stopped);
        let written = f64::from(writer.join().unwrap());
        let last = scrape(it.metrics);
        assert_eq!(last["znode_count"], 5.0 + written);
        // Sessions are transactions too.
        assert!(last["commit_count"] > written);
        assert!(last["updatelatency_count"] >= written);
        assert!(last["readlatency_count"] >= written);
        assert!(last["zabra_fsync_seconds_count"] > 0.0);
        let infinite = last["zabra_fsync_seconds_bucket{le=\"+Inf\"}"];
        assert_eq!(infinite, last["zabra_fsync_seconds_count"]);
    });
}
