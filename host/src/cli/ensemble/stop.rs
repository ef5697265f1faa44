//! Whether the command has been told to stop.

use core::time::Duration;
use std::io;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;

/// Hears Ctrl-C, SIGTERM and SIGHUP from its creation on.
pub(super) struct Stop {
    runtime: Runtime,
    signals: [Signal; 3],
}

impl Stop {
    pub(super) fn new() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let signals = [
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            // The terminal is closed.
            signal(SignalKind::hangup())?,
        ];
        drop(entered);
        Ok(Self { runtime, signals })
    }

    /// Sleeps, and returns whether it was told to stop meanwhile.
    pub(super) fn within(&mut self, pause: Duration) -> bool {
        let [interrupt, terminate, hangup] = &mut self.signals;
        let told = core::future::poll_fn(|cx| {
            let told = interrupt.poll_recv(cx).is_ready()
                || terminate.poll_recv(cx).is_ready()
                || hangup.poll_recv(cx).is_ready();
            if told {
                core::task::Poll::Ready(())
            } else {
                core::task::Poll::Pending
            }
        });
        let told = async { timeout(pause, told).await.is_ok() };
        self.runtime.block_on(told)
    }
}
