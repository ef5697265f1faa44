//! What a driver counts for whoever watches it, from any thread.

use core::sync::atomic::{AtomicU64, Ordering};

/// Counters of one driver. They order nothing: each is read by itself.
#[derive(Debug, Default)]
pub struct Gauges {
    links: AtomicU64,
    sockets: AtomicU64,
    steps: AtomicU64,
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
        self.steps.load(Ordering::Relaxed)
    }

    pub(crate) fn set_links(&self, count: usize) {
        self.links.store(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn set_sockets(&self, count: usize) {
        self.sockets.store(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn count_step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }
}
