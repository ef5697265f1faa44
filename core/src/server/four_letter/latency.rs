//! Durations that were measured, and how they are told.

use core::fmt;

use crate::server::Summary;

/// Durations in milliseconds, with how they are distributed.
#[derive(Clone, Debug)]
pub(in crate::server) struct Latencies {
    summary: Summary,
    buckets: [u64; BUCKETS],
}

/// Below this each duration has its own bucket; above, each power of two has four.
const EXACT_MS: u64 = 16;
/// The last bucket has whatever took longer than some seventeen minutes.
const BUCKETS: usize = 80;

impl Latencies {
    pub(in crate::server) fn record(&mut self, ms: u64) {
        self.summary.record(ms);
        if let Some(count) = self.buckets.get_mut(bucket(ms)) {
            *count += 1;
        }
    }

    pub(super) const fn summary(&self) -> Summary {
        self.summary
    }

    /// What this many thousandths of all did not exceed, to a quarter of a power of two.
    pub(super) fn percentile(&self, thousandths: u64) -> u64 {
        let rank = (self.summary.count * thousandths).div_ceil(1000);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            // The last bucket has no end.
            if seen >= rank && bucket + 1 < BUCKETS {
                return last_of(bucket).clamp(self.summary.min, self.summary.max);
            }
        }
        self.summary.max
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            summary: Summary::default(),
            buckets: [0; BUCKETS],
        }
    }
}

fn bucket(ms: u64) -> usize {
    let bucket = if ms < EXACT_MS {
        ms
    } else {
        let octave = u64::from(ms.ilog2());
        let quarter = (ms >> (octave - 2)) & 3;
        EXACT_MS + (octave - 4) * 4 + quarter
    };
    usize::try_from(bucket).map_or(BUCKETS - 1, |bucket| bucket.min(BUCKETS - 1))
}

/// The longest duration of a bucket.
const fn last_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < EXACT_MS {
        return bucket;
    }
    let (octave, quarter) = ((bucket - EXACT_MS) / 4 + 4, (bucket - EXACT_MS) % 4);
    ((5 + quarter) << (octave - 2)) - 1
}

/// A mean as ZooKeeper prints it: rounded to four places, then as Java prints a `double`.
///
/// Source: `AvgMinMaxCounter.getAvg`, `Double.toString`.
pub(super) struct Mean(pub(super) Summary);

impl fmt::Display for Mean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sum, count) = (u128::from(self.0.sum), u128::from(self.0.count));
        let rounded = (sum * 10_000 + count / 2).checked_div(count).unwrap_or(0);
        let (whole, places) = (rounded / 10_000, rounded % 10_000);
        match places {
            0 => write!(f, "{whole}.0"),
            // Java turns to exponents below a thousandth.
            1..10 if whole == 0 => write!(f, "{places}.0E-4"),
            _ if places % 1000 == 0 => write!(f, "{whole}.{}", places / 1000),
            _ if places % 100 == 0 => write!(f, "{whole}.{:02}", places / 100),
            _ if places % 10 == 0 => write!(f, "{whole}.{:03}", places / 10),
            _ => write!(f, "{whole}.{places:04}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    use super::*;

    #[test]
    fn means_are_printed_as_java_prints_doubles() {
        for (sum, count, expected) in [
            (0, 0, "0.0"),
            (0, 5, "0.0"),
            (1, 7, "0.1429"),
            (41, 14, "2.9286"),
            (13, 1, "13.0"),
            (1, 2, "0.5"),
            (1, 4, "0.25"),
            (1, 8, "0.125"),
            (1001, 1000, "1.001"),
            (1, 1000, "0.001"),
            (7, 10_000, "7.0E-4"),
            (1, 20_001, "0.0"),
            (1, 20_000, "1.0E-4"),
            (29_999, 10_000, "2.9999"),
            (299_999, 100_000, "3.0"),
        ] {
            let summary = Summary {
                count,
                sum,
                ..Summary::default()
            };
            assert_eq!(Mean(summary).to_string(), expected, "{sum} / {count}");
        }
    }

    #[test]
    fn every_duration_is_in_the_bucket_that_ends_at_or_after_it() {
        for ms in (0..5000).chain([1 << 19, (1 << 20) - 1]) {
            let bucket = bucket(ms);
            assert!(ms <= last_of(bucket), "{ms} in {bucket}");
            assert!(bucket == 0 || ms > last_of(bucket - 1), "{ms} in {bucket}");
        }
        assert_eq!(bucket((1 << 20) - 1), BUCKETS - 1);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_within_a_quarter_of_an_octave() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.percentile(999), 0);
        for ms in 1..=100 {
            latencies.record(ms);
        }
        assert_eq!(latencies.percentile(50), 5);
        assert_eq!(latencies.percentile(500), 55);
        assert_eq!(latencies.percentile(950), 95);
        assert_eq!(latencies.percentile(990), 100);
        latencies.record(u64::MAX);
        assert_eq!(latencies.percentile(1000), u64::MAX);
    }
}
