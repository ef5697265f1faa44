//! The core of a server: the native one, or a module in a sandbox. Whatever drives it does not know
//! which.

use zabra_core::Machine;
use zabra_core::ids::Instant;
use zabra_core::machine::Now;
use zabra_core::server::{Input, Output, Server};
#[cfg(feature = "wasm-runtime")]
use zabra_sandbox::{Instance, quarantine::Guarded};

/// One life of a server's core.
pub(super) enum Running {
    Native(Box<Server>),
    #[cfg(feature = "wasm-runtime")]
    Sandboxed {
        module: Box<Guarded<Instance>>,
        /// Tells of what the quarantine refused.
        refusals: Box<dyn FnMut()>,
    },
}

impl Machine for Running {
    type Input = Input;
    type Output = Output;

    fn step(
        &mut self,
        now: Now,
        inputs: &mut Vec<Input>,
        outputs: &mut Vec<Output>,
    ) -> Option<Instant> {
        match self {
            Self::Native(server) => server.step(now, inputs, outputs),
            #[cfg(feature = "wasm-runtime")]
            Self::Sandboxed { module, refusals } => {
                let next = module.step(now, inputs, outputs);
                refusals();
                next
            }
        }
    }
}
