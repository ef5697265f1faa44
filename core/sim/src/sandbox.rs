//! Servers behind the border of the WebAssembly module, beside the native ones or instead of them.

use std::path::Path;

use zabra_core::Machine;
use zabra_core::ids::{Instant, Zxid};
use zabra_core::machine::Now;
use zabra_core::server::{Input, Output};
use zabra_core::store::Restore;
use zabra_core_wasm::Node;
use zabra_core_wasm::abi::{self, Begin, Found, Open, Opened};
use zabra_sandbox::faults::Faults;
use zabra_sandbox::{Engine, Instance, Limits, LoadError, Module, Sandboxed};

use crate::boot::Core;
use crate::border::{Birth, Cores};

/// How the module is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Every call is made natively too, and must give the same bytes.
    Beside,
    /// The module alone.
    Alone,
    /// The module alone, and instances of an ensemble trap, lack memory or return what cannot be.
    Trapping,
}

/// The module, ready to make servers of.
pub struct Modules {
    engine: Engine,
    module: Module,
    look: Look,
}

impl Modules {
    /// Reads the module.
    ///
    /// # Errors
    /// See [`Module::load`].
    pub fn load(file: &Path, look: Look) -> Result<Self, LoadError> {
        let engine = Engine::new()?;
        let module = Module::load(&engine, file)?;
        Ok(Self {
            engine,
            module,
            look,
        })
    }
}

impl Cores for Modules {
    fn begin(&self, begin: Begin, may_fail: bool) -> Result<Box<dyn Birth>, String> {
        let limits = Limits::default();
        let instance = Instance::new(&self.engine, &self.module, limits);
        let faults = if self.look == Look::Trapping && may_fail {
            faults(begin.entropy)
        } else {
            Faults::default()
        };
        let mut pieces = Pieces {
            instance: instance.map_err(|trap| trap.to_string())?,
            native: (self.look == Look::Beside).then(Node::default),
            failed: None,
            faults,
        };
        pieces.give(&Open::Begin(begin.into()))?;
        Ok(Box::new(pieces))
    }

    fn may_trap(&self) -> bool {
        self.look == Look::Trapping
    }
}

/// What goes wrong in a life: nothing in most of them, and soon in the others.
fn faults(entropy: u64) -> Faults {
    let soon = Some((entropy >> 8) % 400 + 1);
    match entropy % 8 {
        0 => Faults {
            trap_at_call: soon,
            ..Faults::default()
        },
        1 => Faults {
            corrupt_at_call: soon,
            ..Faults::default()
        },
        2 => Faults {
            refuse_growth_every: Some((entropy >> 8) % 3 + 1),
            ..Faults::default()
        },
        _ => Faults::default(),
    }
}

/// A server that is being opened.
struct Pieces {
    instance: Instance,
    native: Option<Node>,
    /// What a snapshot's beginning could not report.
    failed: Option<String>,
    faults: Faults,
}

impl Pieces {
    fn give(&mut self, piece: &Open) -> Result<(), String> {
        if let Some(failed) = self.failed.clone() {
            return Err(failed);
        }
        let batch = abi::encode(piece).map_err(|error| error.to_string())?;
        let answer = self.instance.open_encoded(&batch);
        let answer = answer.map_err(|trap| trap.to_string())?;
        if let Some(native) = &mut self.native {
            assert!(
                native.open(&batch) == answer,
                "the module answers otherwise than the native core to {piece:?}"
            );
        }
        match abi::decode(answer).map_err(|error| error.to_string())? {
            Opened::Ok => Ok(()),
            Opened::Refused(reason) => Err(reason),
        }
    }
}

impl Restore for Pieces {
    type Error = String;

    fn snapshot_begin(&mut self, zxid: Zxid) {
        if let Err(error) = self.give(&Open::SnapshotBegin { zxid }) {
            self.failed = Some(error);
        }
    }

    fn snapshot_chunk(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.give(&Open::SnapshotChunk(bytes.to_vec().into()))
    }

    fn snapshot_end(&mut self) -> Result<(), String> {
        self.give(&Open::SnapshotEnd)
    }

    fn txn(&mut self, payload: &[u8]) -> Result<(), String> {
        self.give(&Open::Txn(payload.to_vec().into()))
    }
}

impl Birth for Pieces {
    fn finish(mut self: Box<Self>, found: Found) -> Result<Core, String> {
        self.give(&Open::Done(found))?;
        let Self {
            mut instance,
            native,
            faults,
            ..
        } = *self;
        instance.set_faults(faults);
        Ok(match native {
            Some(native) => Box::new(Beside {
                instance,
                native,
                batch: Vec::new(),
                result: Vec::new(),
            }),
            None => Box::new(Sandboxed::new(instance)),
        })
    }
}

/// The same server twice.
struct Beside {
    instance: Instance,
    native: Node,
    batch: Vec<u8>,
    result: Vec<u8>,
}

impl Machine for Beside {
    type Input = Input;
    type Output = Output;

    fn step(
        &mut self,
        now: Now,
        inputs: &mut Vec<Input>,
        outputs: &mut Vec<Output>,
    ) -> Option<Instant> {
        self.batch.resize(abi::step_bytes_max(inputs), 0);
        let bytes = abi::encode_step_into(now, inputs, &mut self.batch).expect("there is room");
        let batch = self.batch.get(..bytes).expect("it was written there");
        self.result = self.native.step(batch, core::mem::take(&mut self.result));
        match self.instance.step_encoded(batch) {
            Ok(result) if result == self.result => {}
            Ok(result) => panic!(
                "the module gives {:?} where the native core gives {:?} for {inputs:?}",
                abi::decode_result(result),
                abi::decode_result(&self.result)
            ),
            Err(trap) => panic!("{trap}, and the native core does not, for {inputs:?}"),
        }
        inputs.clear();
        let result = abi::decode_result(&self.result).expect("the native core wrote it");
        let events = abi::decode_events(&result.events).expect("the native core wrote them");
        outputs.extend(result.outputs);
        outputs.extend(events.into_iter().map(Output::Event));
        result.next
    }
}
