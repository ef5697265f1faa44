//! How fast what is long may leave: a snapshot, or the state for a learner.
//!
//! As fast as it can, it would take a core of this machine and one of the receiver's for as long as
//! it lasts, and whoever asks meanwhile would wait.

use crate::ids::Instant;

/// Time that may be made up for at once: timers of drivers are as coarse as this.
const BURST_US: u64 = 1000;

/// Slices of one step: more would make whoever asks wait for it.
pub(super) const SLICES_MAX: usize = 8;

/// When the next slice is due.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    due: Instant,
}

impl Pace {
    pub(super) const fn due(&self) -> Instant {
        self.due
    }

    /// A slice has left at `now`, at so many bytes in a microsecond.
    pub(super) fn left(&mut self, now: Instant, bytes: usize, bytes_per_us: u64) {
        let from = self.due.max(Instant(now.0.saturating_sub(BURST_US)));
        self.due = Instant(from.0.saturating_add(bytes as u64 / bytes_per_us + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_leave_at_their_pace_and_little_is_made_up_for() {
        let mut pace = Pace::default();
        let mut left = |now| {
            pace.left(Instant(now), 10_000, 100);
            pace.due().0
        };
        assert_eq!(left(5000), 4101, "what was before is past");
        assert_eq!(left(5000), 4202);
        assert_eq!(left(4202), 4303);
        assert_eq!(left(9000), 8101, "after a pause only its last millisecond");
    }
}
