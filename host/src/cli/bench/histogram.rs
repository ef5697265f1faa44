//! A log-linear histogram of latencies in fixed memory.

use core::time::Duration;

/// Buckets per octave; a quantile is then exact to under 1 %.
const STEPS: u64 = 64;
const STEPS_BITS: u32 = STEPS.trailing_zeros();
/// Latencies are counted in units of 2^4 ns, finer than any clock's noise.
const UNIT_BITS: u32 = 4;
/// Enough for nine hours; what takes longer counts into the last bucket.
const OCTAVES: usize = 36;
const BUCKETS: usize = OCTAVES * 64;

const _: () = assert!(STEPS == 64, "BUCKETS repeats it as a usize");

/// Counts of latencies: linear up to 64 units, then 64 steps to each octave.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    counts: Box<[u64; BUCKETS]>,
    total: u64,
    sum_ns: u128,
    max_ns: u64,
}

impl Histogram {
    pub(super) fn new() -> Self {
        Self {
            counts: Box::new([0; BUCKETS]),
            total: 0,
            sum_ns: 0,
            max_ns: 0,
        }
    }

    pub(super) fn record(&mut self, latency: Duration) {
        let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        if let Some(count) = self.counts.get_mut(bucket(ns)) {
            *count += 1;
        }
        self.total += 1;
        self.sum_ns += u128::from(ns);
        self.max_ns = self.max_ns.max(ns);
    }

    /// How many latencies were recorded.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Microseconds; 0 when nothing was recorded.
    pub(super) fn mean_us(&self) -> f64 {
        if self.total == 0 {
            0.0
        } else {
            self.sum_ns as f64 / self.total as f64 / 1000.0
        }
    }

    /// Microseconds, not rounded to a bucket.
    pub(super) fn max_us(&self) -> f64 {
        self.max_ns as f64 / 1000.0
    }

    /// The latency in microseconds that a share `q` (0 to 1) of all does not exceed: the middle of
    /// its bucket, 0 when nothing was recorded.
    pub(super) fn quantile_us(&self, q: f64) -> f64 {
        let want = q * self.total as f64;
        let mut seen = 0;
        for (bucket, &count) in self.counts.iter().enumerate() {
            seen += count;
            if count > 0 && seen as f64 >= want {
                return middle_us(bucket).min(self.max_us());
            }
        }
        0.0
    }
}

fn bucket(ns: u64) -> usize {
    let units = ns >> UNIT_BITS;
    let bucket = if units < STEPS {
        units
    } else {
        let shift = units.ilog2() - STEPS_BITS;
        u64::from(shift) * STEPS + (units >> shift)
    };
    usize::try_from(bucket).map_or(BUCKETS - 1, |bucket| bucket.min(BUCKETS - 1))
}

fn middle_us(bucket: usize) -> f64 {
    let bucket = bucket as u64;
    let shift = (bucket / STEPS).saturating_sub(1);
    let step = bucket - shift * STEPS;
    (step as f64 + 0.5) * (1_u64 << shift) as f64 * f64::from(1_u32 << UNIT_BITS) / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_and_its_middle_agree_within_one_percent() {
        let mut ns = 1000_u64;
        while ns < 18_000_000_000_000 {
            let middle = middle_us(bucket(ns));
            let off = (middle * 1000.0 / ns as f64 - 1.0).abs();
            assert!(off < 0.01, "{ns} ns counts as {middle} us");
            ns += ns / 97;
        }
    }

    #[test]
    fn buckets_grow_with_the_latency_and_without_a_gap() {
        let mut last = 0;
        for units in 0..200_000_u64 {
            let bucket = bucket(units << UNIT_BITS);
            assert!(
                bucket == last || bucket == last + 1,
                "{units} units jump to {bucket}"
            );
            last = bucket;
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_of_a_ramp_are_where_they_belong() {
        let mut histogram = Histogram::new();
        for us in 1..=1000 {
            histogram.record(Duration::from_micros(us));
        }
        for (q, us) in [(0.001, 1.0), (0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let found = histogram.quantile_us(q);
            assert!(
                (found / us - 1.0).abs() < 0.01,
                "quantile {q}: {found} us for {us} us"
            );
        }
        assert!((histogram.mean_us() - 500.5).abs() < 1e-9);
        assert!((histogram.max_us() - 1000.0).abs() < 1e-9);
    }

    #[test]
    fn one_outlier_in_a_hundred_is_seen_at_p999_and_not_at_p99() {
        let mut histogram = Histogram::new();
        for _ in 0..99 {
            histogram.record(Duration::from_micros(100));
        }
        histogram.record(Duration::from_millis(50));
        assert!(histogram.quantile_us(0.99) < 101.0);
        assert!(histogram.quantile_us(0.999) > 49_000.0);
    }

    #[test]
    fn empty_histogram_is_all_zero() {
        let histogram = Histogram::new();
        assert_eq!((histogram.total(), histogram.quantile_us(0.99)), (0, 0.0));
        assert_eq!((histogram.mean_us(), histogram.max_us()), (0.0, 0.0));
    }
}
