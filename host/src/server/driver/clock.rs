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

/// What is nearer than this is not worth the runtime's timers.
const NEAR: Duration = Duration::from_millis(2);

/// Wakes at an instant or a little later, never before it and sometimes for nothing.
///
/// The runtime's timers know milliseconds. What is nearer is left to one of the system's, where
/// there is one: a state that leaves in slices would else leave in bursts of a millisecond.
pub(super) struct Timer {
    sleep: Pin<Box<Sleep>>,
    fine: Option<fine::Fine>,
    /// When `sleep` ends, if it has not yet.
    armed: Option<Instant>,
}

impl Timer {
    pub(super) fn new() -> Self {
        Self {
            sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
            fine: fine::Fine::new(),
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
        self.armed = Some(at);
        let wait = end.saturating_duration_since(std::time::Instant::now());
        if let Some(fine) = &mut self.fine
            && wait < NEAR
            && fine.arm(wait)
        {
            return;
        }
        self.sleep.as_mut().reset(end.into());
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.armed.is_none() {
            return Poll::Pending;
        }
        let fine = match &mut self.fine {
            Some(fine) if fine.is_armed() => fine.poll(cx),
            _ => self.sleep.as_mut().poll(cx),
        };
        if fine.is_ready() {
            self.armed = None;
        }
        fine
    }
}

/// What the system's timer says.
#[cfg(target_os = "linux")]
mod fine {
    use core::task::{Context, Poll, ready};
    use core::time::Duration;

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use tokio::net::unix::pipe::Receiver;

    pub(super) struct Fine {
        /// No pipe, but read like one: eight bytes, once it has run out.
        fd: Receiver,
        armed: bool,
    }

    impl Fine {
        /// `None` if the system gives none: then the runtime's must do.
        pub(super) fn new() -> Option<Self> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let fd = timerfd_create(TimerfdClockId::Monotonic, flags).ok()?;
            let fd = Receiver::from_owned_fd_unchecked(fd).ok()?;
            Some(Self { fd, armed: false })
        }

        pub(super) const fn is_armed(&self) -> bool {
            self.armed
        }

        /// Whether it could be set.
        pub(super) fn arm(&mut self, wait: Duration) -> bool {
            // Zero would take it back.
            let wait = Timespec::try_from(wait.max(Duration::from_nanos(1)));
            let set = wait.is_ok_and(|wait| {
                let spec = Itimerspec {
                    it_interval: Timespec {
                        tv_sec: 0,
                        tv_nsec: 0,
                    },
                    it_value: wait,
                };
                timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &spec).is_ok()
            });
            self.armed = set;
            set
        }

        pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
            let ready = ready!(self.fd.poll_read_ready(cx));
            if ready.is_ok() && self.fd.try_read(&mut [0; 8]).is_err() {
                // It was set anew since.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.armed = false;
            Poll::Ready(())
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod fine {
    use core::task::{Context, Poll};
    use core::time::Duration;

    pub(super) enum Fine {}

    impl Fine {
        pub(super) const fn new() -> Option<Self> {
            None
        }

        pub(super) const fn is_armed(&self) -> bool {
            match *self {}
        }

        pub(super) const fn arm(&mut self, _: Duration) -> bool {
            match *self {}
        }

        pub(super) const fn poll(&mut self, _: &mut Context<'_>) -> Poll<()> {
            match *self {}
        }
    }
}
