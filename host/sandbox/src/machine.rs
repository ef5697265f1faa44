//! The sandboxed core in the native one's place.

use zabra_core::Machine;
use zabra_core::ids::Instant;
use zabra_core::machine::Now;
use zabra_core::server::{Input, Output};

use crate::{Instance, Trap};

/// A server behind the border. A trap is [`Output::Restart`], and nothing else of that step.
pub struct Sandboxed {
    instance: Instance,
    /// What ended it; it is not called any more.
    trap: Option<Trap>,
}

impl Sandboxed {
    /// An instance that was opened.
    #[must_use]
    pub const fn new(instance: Instance) -> Self {
        Self {
            instance,
            trap: None,
        }
    }
}

impl Machine for Sandboxed {
    type Input = Input;
    type Output = Output;

    fn step(
        &mut self,
        now: Now,
        inputs: &mut Vec<Input>,
        outputs: &mut Vec<Output>,
    ) -> Option<Instant> {
        if self.trap.is_none() {
            match self.instance.step(now, inputs, outputs) {
                Ok(next) => return next,
                Err(trap) => {
                    outputs.push(Output::Restart(trap.to_string()));
                    self.trap = Some(trap);
                }
            }
        }
        inputs.clear();
        None
    }
}
