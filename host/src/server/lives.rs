//! One server after another on the same data.

use core::pin::Pin;
use core::time::Duration;
use std::time::Instant;

use tokio::time::timeout;
use tracing::error;

use super::driver::Ended;

/// Lives until `stop` is ready: whenever a life ends in a restart, another begins after a pause.
///
/// # Errors
/// What a life ends with.
pub(super) async fn live_on<S: Future<Output = ()>, E>(
    mut live: impl AsyncFnMut(Pin<&mut S>) -> Result<Ended, E>,
    mut stop: Pin<&mut S>,
) -> Result<(), E> {
    let mut back_off = BackOff::default();
    loop {
        let begun = Instant::now();
        let reason = match live(stop.as_mut()).await? {
            Ended::Stopped => return Ok(()),
            Ended::Restart(reason) => reason,
        };
        let pause = back_off.after(begun.elapsed());
        error!(
            reason = reason.as_str(),
            pause_ms = pause.as_millis(),
            "the server cannot go on with its state and begins anew with what is on disk"
        );
        if timeout(pause, stop.as_mut()).await.is_ok() {
            return Ok(());
        }
    }
}

/// How long to wait before a server begins anew: whatever made it give up may be there again.
#[derive(Debug, Default)]
struct BackOff {
    /// The last pause, zero after a life that was long.
    pause: Duration,
}

impl BackOff {
    const PAUSE_MIN: Duration = Duration::from_millis(100);
    const PAUSE_MAX: Duration = Duration::from_secs(10);
    /// A life that is longer has nothing to do with the one before.
    const LIFE: Duration = Duration::from_secs(60);

    /// The pause after a life of this length.
    fn after(&mut self, life: Duration) -> Duration {
        self.pause = if life >= Self::LIFE {
            Self::PAUSE_MIN
        } else {
            (self.pause * 2).clamp(Self::PAUSE_MIN, Self::PAUSE_MAX)
        };
        self.pause
    }
}

#[cfg(test)]
mod tests {
    use core::future::{pending, ready};
    use core::pin::pin;

    use super::*;
    use crate::server::driver::runtime;

    /// What becomes of these lives, and how many there were.
    fn live(
        ends: Vec<Result<Ended, &'static str>>,
        stop: impl Future<Output = ()>,
    ) -> (Result<(), &'static str>, usize) {
        let mut count = 0;
        let mut ends = ends.into_iter();
        let next = async |_: Pin<&mut _>| {
            count += 1;
            ends.next().unwrap_or(Err("one life too many"))
        };
        let ended = runtime()
            .expect("the system has what it needs")
            .block_on(live_on(next, pin!(stop)));
        (ended, count)
    }

    fn restart() -> Result<Ended, &'static str> {
        Ok(Ended::Restart("its history is another".to_owned()))
    }

    #[test]
    fn lives_follow_each_other_until_one_stops_or_fails() {
        let stopped = vec![restart(), restart(), Ok(Ended::Stopped)];
        assert_eq!(live(stopped, pending()), (Ok(()), 3));
        let failed = vec![restart(), Err("disk full")];
        assert_eq!(live(failed, pending()), (Err("disk full"), 2));
    }

    #[test]
    fn stop_between_two_lives_is_heard() {
        assert_eq!(live(vec![restart()], ready(())), (Ok(()), 1));
    }

    #[test]
    fn pauses_double_while_lives_are_short() {
        let mut back_off = BackOff::default();
        let mut after = |seconds| back_off.after(Duration::from_secs(seconds)).as_millis();
        let short: Vec<u128> = (0..9).map(|_| after(1)).collect();
        assert_eq!(
            short,
            [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]
        );
        assert_eq!(after(60), 100);
        assert_eq!(after(59), 200);
    }
}
