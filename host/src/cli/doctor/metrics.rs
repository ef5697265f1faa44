//! What a server tells of itself by the words `mntr` and `conf`, and what of it hurts.

use std::collections::BTreeMap;

use super::finding::{Finding, Weight};

/// `mntr`, by name without `zk_`; what is no number is left out.
pub(super) type Metrics = BTreeMap<String, f64>;

/// Reads the answer to `mntr`; `None` if it is a refusal.
pub(super) fn read(text: &str) -> Option<Metrics> {
    let lines = text.lines().filter_map(|line| line.split_once('\t'));
    let numbers = lines.filter_map(|(name, value)| {
        let name = name.strip_prefix("zk_")?;
        let value: f64 = value.trim().parse().ok()?;
        Some((name.to_owned(), value))
    });
    let metrics: Metrics = numbers.collect();
    (!metrics.is_empty()).then_some(metrics)
}

/// Reads the answer to `conf`; `None` if it is a refusal.
pub(super) fn settings(text: &str) -> Option<BTreeMap<String, String>> {
    let lines = text.lines().filter_map(|line| line.split_once('='));
    let settings: BTreeMap<String, String> = lines
        .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        .collect();
    settings.contains_key("clientPort").then_some(settings)
}

/// A metric that is too much, from where on, and what to say of it.
struct Rule {
    name: &'static str,
    above: f64,
    weight: Weight,
    text: &'static str,
    advice: &'static str,
}

/// The sentence has `{}` for the value.
const RULES: &[Rule] = &[
    Rule {
        name: "zabra_disk_low",
        above: 0.0,
        weight: Weight::Wrong,
        text: "its disk is nearly full: while it leads, writes are refused",
        advice: "remove what is not needed, or give it more",
    },
    Rule {
        name: "digest_mismatches_count",
        above: 0.0,
        weight: Weight::Wrong,
        text: "its state was not what transactions said, {} times: servers differ",
        advice: "see its log; stop it, move its files away, and let the leader send the state",
    },
    Rule {
        name: "unrecoverable_error_count",
        above: 0.0,
        weight: Weight::Wrong,
        text: "one of its threads died, {} times",
        advice: "see its log, and restart it",
    },
    Rule {
        name: "snapshot_error_count",
        above: 0.0,
        weight: Weight::Risk,
        text: "snapshots failed {} times: its log grows, and a start takes longer",
        advice: "see its log for why",
    },
    Rule {
        name: "avg_fsynctime",
        above: 20.0,
        weight: Weight::Risk,
        text: "an fsync of its log takes {} ms on average, and every write waits for one",
        advice: "give dataLogDir a disk that nobody else uses",
    },
    Rule {
        name: "max_fsynctime",
        above: 1000.0,
        weight: Weight::Risk,
        text: "an fsync of its log took {} ms once",
        advice: "give dataLogDir a disk that nobody else uses",
    },
    Rule {
        name: "avg_latency",
        above: 100.0,
        weight: Weight::Risk,
        text: "requests take {} ms on average",
        advice: "see fsyncs, the processor, and how much is asked",
    },
    Rule {
        name: "outstanding_requests",
        above: 1000.0,
        weight: Weight::Risk,
        text: "{} requests wait: clients ask more than it can do",
        advice: "see fsyncs and who asks (the word cons)",
    },
    Rule {
        name: "max_jvm_pause_time_ms",
        above: 1000.0,
        weight: Weight::Risk,
        text: "its JVM stood still for {} ms once: sessions and leaders end by that",
        advice: "give the heap more room, or another collector",
    },
    Rule {
        name: "watch_count",
        above: 1_000_000.0,
        weight: Weight::Risk,
        text: "{} watches are set: they take memory, and a change that many watch stalls all",
        advice: "see who watches (the word wchs), and watch fewer znodes or use persistent watches",
    },
    Rule {
        name: "ephemerals_count",
        above: 200_000.0,
        weight: Weight::Risk,
        text: "{} ephemeral znodes: when their sessions end together, deleting them stalls all",
        advice: "use fewer, or longer session timeouts",
    },
    Rule {
        name: "znode_count",
        above: 5_000_000.0,
        weight: Weight::Risk,
        text: "{} znodes: starts, snapshots and new followers take long",
        advice: "delete what nobody needs; ZooKeeper is not for bulk data",
    },
    Rule {
        name: "approximate_data_size",
        above: 2_147_483_648.0,
        weight: Weight::Risk,
        text: "{} bytes of data: starts, snapshots and new followers take long",
        advice: "delete what nobody needs; ZooKeeper is not for bulk data",
    },
    Rule {
        name: "connection_rejected",
        above: 0.0,
        weight: Weight::Risk,
        text: "{} connections were refused, as there were too many",
        advice: "see maxClientCnxns and maxCnxns, and who leaks connections (the word cons)",
    },
];

/// What is wrong by these.
pub(super) fn judge(about: &str, metrics: &Metrics, findings: &mut Vec<Finding>) {
    for rule in RULES {
        if let Some(value) = metrics.get(rule.name).filter(|value| **value > rule.above) {
            let text = rule.text.replace("{}", &value.to_string());
            findings.push(Finding::new(rule.weight, about, text, rule.advice));
        }
    }
    let files = |name| metrics.get(name).copied();
    let (open, most) = (
        files("open_file_descriptor_count"),
        files("max_file_descriptor_count"),
    );
    if let (Some(open), Some(most)) = (open, most.filter(|most| *most > 0.0)) {
        if open > most * 0.8 {
            findings.push(Finding::new(
                Weight::Wrong,
                about,
                format!("{open} of {most} file descriptors are open: soon nobody can connect"),
                "see who leaks connections (the word cons), or raise LimitNOFILE",
            ));
        } else if most < 4096.0 {
            findings.push(Finding::new(
                Weight::Risk,
                about,
                format!("it may open {most} files, and every connection is one"),
                "set LimitNOFILE of its service to 65536",
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let mut findings = Vec::new();
        judge("z:1", &read(text).unwrap_or_default(), &mut findings);
        findings.into_iter().map(|finding| finding.text).collect()
    }

    #[test]
    fn what_hurts_is_said_with_its_number_whoever_prints_it() {
        let text = "zk_version\t3.9.3\nzk_server_state\tleader\nzk_watch_count\t2000000.0\n\
                    zk_avg_fsynctime\t35.5\nzk_open_file_descriptor_count\t900\n\
                    zk_max_file_descriptor_count\t1000\nzk_znode_count\t5\n";
        let found = found(text);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found.iter().any(|it| it.starts_with("2000000 watches")));
        assert!(
            found
                .iter()
                .any(|it| it.contains("takes 35.5 ms on average"))
        );
        assert!(found.iter().any(|it| it.starts_with("900 of 1000 file")));
    }

    #[test]
    fn refusals_are_neither_metrics_nor_settings() {
        let refusal = "mntr is not executed because it is not in the whitelist.\n";
        assert_eq!(read(refusal), None);
        assert_eq!(settings(refusal), None);
        assert!(settings("clientPort=2181\nmembership: \n").is_some());
    }
}
