//! The time, and waking at a time.

use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Sleep;
use zabra_core::ids::{Instant, UnixMillis};
use zabra_core::machine::Now;

/// The two clocks of a machine.
pub(super) struct Clock {
    start: std::time::Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self {
            start: std::time::Instant::now(),
        }
    }

    pub(super) fn now(&self) -> Now {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let wall = i64::try_from(wall.as_millis()).unwrap_or(i64::MAX);
        Now {
            instant: self.instant(),
            wall: UnixMillis(wall),
        }
    }

    pub(super) fn instant(&self) -> Instant {
        Instant(u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    pub(super) fn instant_in(&self, delay: Duration) -> Instant {
        self.instant()
            .plus_ms(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Wakes at an instant or a little later, never before it and sometimes for nothing.
pub(super) struct Timer {
    sleep: Pin<Box<Sleep>>,
    /// When `sleep` ends, if it has not yet.
    armed: Option<Instant>,
}

impl Timer {
    pub(super) fn new() -> Self {
        Self {
            sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
            armed: None,
        }
    }

    /// Sees to waking at `at`. Waking earlier is left as it is: deadlines that move back with every
    /// request would else cost a change of the runtime's timers per step.
    pub(super) fn arm(&mut self, clock: &Clock, at: Option<Instant>) {
        let Some(at) = at else { return };
        if self.armed.is_some_and(|armed| armed <= at) {
            return;
        }
        // A machine may say "never" by a far future that a clock cannot hold.
        let Some(end) = clock.start.checked_add(Duration::from_micros(at.0)) else {
            return;
        };
        self.sleep.as_mut().reset(end.into());
        self.armed = Some(at);
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.armed.is_none() || self.sleep.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.armed = None;
        Poll::Ready(())
    }
}
