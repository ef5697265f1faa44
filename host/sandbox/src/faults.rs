//! Faults on purpose, for tests that want to see a server survive them.

use crate::Limits;

/// What goes wrong in an instance. Nothing by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// The call of this number is interrupted as soon as it runs, counted from 1 over the life of
    /// the instance; pieces that are opened count too.
    pub trap_at_call: Option<u64>,
    /// Every so many-th growth of memory is refused.
    pub refuse_growth_every: Option<u64>,
    /// What the call of this number returns is not where it says.
    pub corrupt_at_call: Option<u64>,
}

/// What decides whether an instance may grow, and remembers whether it was refused.
pub(crate) struct Bounds {
    limits: Limits,
    faults: Faults,
    growths: u64,
    refused: bool,
}

impl Bounds {
    pub(crate) const fn new(limits: Limits, faults: Faults) -> Self {
        Self {
            limits,
            faults,
            growths: 0,
            refused: false,
        }
    }

    /// Whether a growth was refused: what then traps lacked memory.
    pub(crate) const fn refused(&self) -> bool {
        self.refused
    }
}

impl wasmtime::ResourceLimiter for Bounds {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.growths += 1;
        let unlucky = self.faults.refuse_growth_every;
        let unlucky = unlucky.is_some_and(|every| every > 0 && self.growths.is_multiple_of(every));
        let allowed = desired <= self.limits.memory_bytes_max && !unlucky;
        self.refused |= !allowed;
        Ok(allowed)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // The table of a module that is instantiated; none of ours grows.
        Ok(current == 0 || desired <= current)
    }

    fn instances(&self) -> usize {
        1
    }

    fn tables(&self) -> usize {
        1
    }

    fn memories(&self) -> usize {
        1
    }
}
