//! How other threads reach the driver.

use core::error::Error;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Waker};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zabra_core::server::Input;

/// Where lanes of the store, and whoever else runs beside the driver, leave what the machine must
/// hear.
///
/// A clone is the same inbox. The driver is woken once for however much is left before it looks.
#[derive(Clone, Default)]
pub struct Inbox {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Spares the driver the lock when there is nothing.
    filled: AtomicBool,
    content: Mutex<Content>,
}

#[derive(Default)]
struct Content {
    inputs: Vec<Input>,
    failure: Option<Box<dyn Error + Send + Sync>>,
    stop: bool,
    waker: Option<Waker>,
}

/// What [`Inbox::take`] found beside inputs.
#[derive(Debug)]
pub(super) enum Request {
    Nothing,
    Stop,
    Fail(Box<dyn Error + Send + Sync>),
}

impl Inbox {
    /// An empty inbox.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Leaves one input for the next step.
    pub fn push(&self, input: Input) {
        self.fill(|content| content.inputs.push(input));
    }

    /// Ends [`Driver::run`](super::Driver::run) with an error: without this lane the server cannot
    /// go on. Nothing is sent any more. Of several failures the first is reported.
    pub fn fail(&self, failure: impl Into<Box<dyn Error + Send + Sync>>) {
        let failure = failure.into();
        self.fill(|content| {
            content.failure.get_or_insert(failure);
        });
    }

    pub(super) fn stop(&self) {
        self.fill(|content| content.stop = true);
    }

    /// Whether something waits; if not, `cx` is woken once there is.
    pub(super) fn poll_filled(&self, cx: &Context<'_>) -> bool {
        if self.shared.filled.load(Ordering::Acquire) {
            return true;
        }
        let mut content = self.lock();
        if !content
            .waker
            .as_ref()
            .is_some_and(|known| known.will_wake(cx.waker()))
        {
            content.waker = Some(cx.waker().clone());
        }
        // Filled between the look and the lock: nobody had a waker to wake then.
        self.shared.filled.load(Ordering::Acquire)
    }

    /// Moves what waits to the end of `inputs`.
    pub(super) fn take(&self, inputs: &mut Vec<Input>) -> Request {
        if !self.shared.filled.load(Ordering::Acquire) {
            return Request::Nothing;
        }
        let mut content = self.lock();
        self.shared.filled.store(false, Ordering::Release);
        inputs.append(&mut content.inputs);
        match content.failure.take() {
            Some(failure) => Request::Fail(failure),
            None if core::mem::take(&mut content.stop) => Request::Stop,
            None => Request::Nothing,
        }
    }

    fn fill(&self, change: impl FnOnce(&mut Content)) {
        let mut content = self.lock();
        change(&mut content);
        let first = !self.shared.filled.swap(true, Ordering::AcqRel);
        let waker = if first { content.waker.clone() } else { None };
        drop(content);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        // A panic elsewhere leaves whole values behind: every change is one assignment or one push.
        self.shared
            .content
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
