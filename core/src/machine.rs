//! The contract between a machine and whatever drives it.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::ids::{Instant, UnixMillis};

/// The time of a step, read once by the driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Now {
    /// For measuring and for timers.
    pub instant: Instant,
    /// For `Stat` fields and for TTL.
    pub wall: UnixMillis,
}

/// A sans-IO state machine.
///
/// A driver collects inputs, calls [`Machine::step`], and only then performs the outputs: a panic
/// inside a step has no effect outside it. Outputs may be performed in any order, as long as those
/// of one link, and those of one lane of the store, keep theirs.
pub trait Machine {
    /// What a driver reports.
    type Input;
    /// What a driver must do.
    type Output;

    /// Applies `inputs` in order at `now` (draining them), appends to `outputs` all that the driver
    /// must do, and returns when to step again if nothing arrives first. No inputs means that
    /// time has passed.
    fn step(
        &mut self,
        now: Now,
        inputs: &mut Vec<Self::Input>,
        outputs: &mut Vec<Self::Output>,
    ) -> Option<Instant>;
}
