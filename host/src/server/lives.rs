//! One server after another on the same data.

use core::fmt::Display;
use core::pin::Pin;
use core::time::Duration;
use std::time::Instant;

use tokio::time::timeout;
use tracing::{error, info};

use super::driver::Ended;

/// How many lives in a row may not even begin.
const NOT_OPENED_MAX: usize = 5;

/// How one life went.
#[derive(Debug)]
pub(super) enum Life<E> {
    /// The driver ended.
    Ended(Ended),
    /// Another core is to go on.
    Renewed,
    /// The core gave up over what is on disk.
    NotOpened(E),
}

/// Lives until `stop` is ready: whenever a life ends in a restart, another begins after a pause.
///
/// # Errors
/// What a life ends with, or what keeps several in a row from beginning.
pub(super) async fn live_on<S: Future<Output = ()>, E: Display>(
    mut live: impl AsyncFnMut(Pin<&mut S>) -> Result<Life<E>, E>,
    mut stop: Pin<&mut S>,
) -> Result<(), E> {
    let mut back_off = BackOff::default();
    let mut not_opened = 0;
    loop {
        let begun = Instant::now();
        let life = live(stop.as_mut()).await?;
        not_opened = match life {
            Life::NotOpened(_) => not_opened + 1,
            Life::Ended(_) | Life::Renewed => 0,
        };
        let reason = match life {
            Life::Ended(Ended::Stopped) => return Ok(()),
            Life::Ended(Ended::Restart(reason)) => reason,
            Life::Renewed => {
                info!("another core goes on with what is on disk");
                continue;
            }
            Life::NotOpened(error) if not_opened >= NOT_OPENED_MAX => return Err(error),
            Life::NotOpened(error) => error.to_string(),
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
        ends: Vec<Result<Life<&'static str>, &'static str>>,
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

    fn restart() -> Result<Life<&'static str>, &'static str> {
        Ok(Life::Ended(Ended::Restart(
            "its history is another".to_owned(),
        )))
    }

    fn stopped() -> Result<Life<&'static str>, &'static str> {
        Ok(Life::Ended(Ended::Stopped))
    }

    #[test]
    fn lives_follow_each_other_until_one_stops_or_fails() {
        let stopped = vec![restart(), restart(), stopped()];
        assert_eq!(live(stopped, pending()), (Ok(()), 3));
        let failed = vec![restart(), Err("disk full")];
        assert_eq!(live(failed, pending()), (Err("disk full"), 2));
    }

    #[test]
    fn another_core_goes_on_at_once() {
        let begun = Instant::now();
        let renewed = vec![Ok(Life::Renewed), Ok(Life::Renewed), stopped()];
        assert_eq!(live(renewed, pending()), (Ok(()), 3));
        assert!(begun.elapsed() < BackOff::PAUSE_MIN);
    }

    #[test]
    fn core_that_never_opens_the_store_ends_the_process() {
        let trapped = || Ok(Life::NotOpened("it panicked"));
        let mut lives = vec![trapped(), trapped(), restart(), stopped()];
        assert_eq!(live(lives, pending()), (Ok(()), 4));
        lives = (0..6).map(|_| trapped()).collect();
        assert_eq!(live(lives, pending()), (Err("it panicked"), NOT_OPENED_MAX));
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
