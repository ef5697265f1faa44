//! What a driver counts for whoever watches it, from any thread.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use crate::histogram::Histogram;

/// Microseconds: a read takes a few, a long list or a slice of a snapshot some hundred.
const STEP_US: &[u64] = &[
    10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 50_000, 250_000, 1_000_000, 5_000_000,
];

const STEP_INPUTS: &[u64] = &[0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000];

/// Counters of one driver. They order nothing: each is read by itself.
#[derive(Debug)]
pub struct Gauges {
    links: AtomicU64,
    sockets: AtomicU64,
    step_us: Histogram,
    step_inputs: Histogram,
}

impl Default for Gauges {
    fn default() -> Self {
        Self {
            links: AtomicU64::new(0),
            sockets: AtomicU64::new(0),
            step_us: Histogram::new(STEP_US),
            step_inputs: Histogram::new(STEP_INPUTS),
        }
    }
}

impl Gauges {
    /// Connections that the machine knows of.
    pub fn links(&self) -> u64 {
        self.links.load(Ordering::Relaxed)
    }

    /// Sockets that are not yet given back: [`Gauges::links`] and those that are being closed.
    pub fn sockets(&self) -> u64 {
        self.sockets.load(Ordering::Relaxed)
    }

    /// Steps of the machine since the start.
    pub fn steps(&self) -> u64 {
        self.step_us.count()
    }

    /// How many microseconds each took.
    pub const fn step_us(&self) -> &Histogram {
        &self.step_us
    }

    /// How many inputs each had.
    pub const fn step_inputs(&self) -> &Histogram {
        &self.step_inputs
    }

    pub(crate) fn set_links(&self, count: usize) {
        self.links.store(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn set_sockets(&self, count: usize) {
        self.sockets.store(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn count_step(&self, inputs: usize, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.step_us.record(us);
        self.step_inputs.record(inputs as u64);
    }
}
