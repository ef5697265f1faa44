//! One life of a sandboxed server: the module with a memory of its own.

use wasmtime::{Global, Memory, Store, TypedFunc};
use zabra_core::ids::Instant;
use zabra_core::machine::Now;
use zabra_core::server::{Input, Output};
use zabra_core_wasm::abi::{self, Open, Opened};

use crate::engine::TICK;
use crate::faults::{Bounds, Faults};
use crate::{Engine, Limits, Module, Trap};

/// A module that runs.
pub struct Instance {
    store: Store<Bounds>,
    memory: Memory,
    panicked: Global,
    abi: TypedFunc<(), u32>,
    alloc: TypedFunc<u32, u32>,
    open: TypedFunc<u32, u64>,
    step: TypedFunc<u32, u64>,
    limits: Limits,
    faults: Faults,
    calls: u64,
}

impl Instance {
    /// A fresh instance.
    ///
    /// # Errors
    /// The module lacks an export, or has an import.
    pub fn new(engine: &Engine, module: &Module, limits: Limits) -> Result<Self, Trap> {
        Self::with_faults(engine, module, limits, Faults::default())
    }

    /// An instance in which something goes wrong.
    ///
    /// # Errors
    /// As for [`Instance::new`].
    pub fn with_faults(
        engine: &Engine,
        module: &Module,
        limits: Limits,
        faults: Faults,
    ) -> Result<Self, Trap> {
        let mut store = Store::new(&engine.engine, Bounds::new(limits, faults));
        store.limiter(|bounds| bounds);
        store.set_epoch_deadline(ticks(limits));
        let instance = wasmtime::Instance::new(&mut store, &module.module, &[]).map_err(other)?;
        let lacks = |name: &str| Trap::Corrupt(format!("it has no export {name}"));
        let memory = instance
            .get_memory(&mut store, "memory")
            .ok_or_else(|| lacks("memory"))?;
        let panicked = instance
            .get_global(&mut store, "panicked")
            .ok_or_else(|| lacks("panicked"))?;
        Ok(Self {
            abi: instance.get_typed_func(&mut store, "abi").map_err(other)?,
            alloc: instance
                .get_typed_func(&mut store, "alloc")
                .map_err(other)?,
            open: instance.get_typed_func(&mut store, "open").map_err(other)?,
            step: instance.get_typed_func(&mut store, "step").map_err(other)?,
            store,
            memory,
            panicked,
            limits,
            faults,
            calls: 0,
        })
    }

    /// From now on, this goes wrong: calls and growths are counted anew.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
        self.calls = 0;
        *self.store.data_mut() = Bounds::new(self.limits, faults);
    }

    /// The version of the ABI that it speaks.
    ///
    /// # Errors
    /// It traps.
    pub fn abi(&mut self) -> Result<u32, Trap> {
        let call = self.abi.clone();
        self.watched(|store| call.call(store, ()))
    }

    /// Gives a piece of what the server is made of.
    ///
    /// # Errors
    /// It traps.
    pub fn open(&mut self, piece: &Open) -> Result<Opened, Trap> {
        let batch = abi::encode(piece).map_err(|error| Trap::Corrupt(error.to_string()))?;
        let answer = self.open_encoded(&batch)?;
        abi::decode(answer).map_err(|error| Trap::Corrupt(error.to_string()))
    }

    /// Gives a piece that is encoded, and returns the answer as it stands in the memory.
    ///
    /// # Errors
    /// It traps.
    pub fn open_encoded(&mut self, batch: &[u8]) -> Result<&[u8], Trap> {
        let call = self.open.clone();
        self.called_with(&call, batch)
    }

    /// Takes a step, draining `inputs` and appending to `outputs`.
    ///
    /// # Errors
    /// It traps; `inputs` are as they were then, and `outputs` too.
    pub fn step(
        &mut self,
        now: Now,
        inputs: &mut Vec<Input>,
        outputs: &mut Vec<Output>,
    ) -> Result<Option<Instant>, Trap> {
        let room = self.room(abi::step_bytes_max(inputs))?;
        let bytes = abi::encode_step_into(now, inputs, room)
            .map_err(|error| Trap::Corrupt(error.to_string()))?;
        let call = self.step.clone();
        let bytes = length(bytes)?;
        let result = self.counted(&call, bytes)?;
        let result = abi::decode_result(self.batch(result)?)
            .map_err(|error| Trap::Corrupt(error.to_string()))?;
        inputs.clear();
        outputs.extend(result.outputs);
        // Events of a module that knows more of them are passed over.
        let events = abi::decode_events(&result.events).unwrap_or_default();
        outputs.extend(events.into_iter().map(Output::Event));
        Ok(result.next)
    }

    /// Takes a step whose batch is encoded, and returns its result as it stands in the memory.
    ///
    /// # Errors
    /// It traps.
    pub fn step_encoded(&mut self, batch: &[u8]) -> Result<&[u8], Trap> {
        let call = self.step.clone();
        self.called_with(&call, batch)
    }

    /// What the module may use.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// Bytes of memory that the module has.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.memory.data_size(&self.store)
    }

    /// Where the module takes the next batch of so many bytes.
    fn room(&mut self, bytes: usize) -> Result<&mut [u8], Trap> {
        let call = self.alloc.clone();
        let asked = length(bytes)?;
        let at = self.watched(|store| call.call(store, asked))? as usize;
        let memory = self.memory.data_mut(&mut self.store);
        memory
            .get_mut(at..)
            .and_then(|memory| memory.get_mut(..bytes))
            .ok_or_else(|| Trap::Corrupt(format!("{bytes} bytes at {at} are not in its memory")))
    }

    /// The bytes that a call returned.
    fn batch(&self, returned: u64) -> Result<&[u8], Trap> {
        let (at, bytes) = ((returned >> 32) as usize, (returned & 0xffff_ffff) as usize);
        let memory = self.memory.data(&self.store);
        memory
            .get(at..)
            .and_then(|memory| memory.get(..bytes))
            .ok_or_else(|| {
                let size = memory.len();
                Trap::Corrupt(format!("{bytes} bytes at {at} of a memory of {size} bytes"))
            })
    }

    fn called_with(&mut self, call: &TypedFunc<u32, u64>, batch: &[u8]) -> Result<&[u8], Trap> {
        self.room(batch.len())?.copy_from_slice(batch);
        let bytes = length(batch.len())?;
        let returned = self.counted(call, bytes)?;
        self.batch(returned)
    }

    /// Calls, for as long as a call may take.
    fn watched<R>(
        &mut self,
        call: impl FnOnce(&mut Store<Bounds>) -> wasmtime::Result<R>,
    ) -> Result<R, Trap> {
        self.store.set_epoch_deadline(ticks(self.limits));
        call(&mut self.store).map_err(|error| self.trap(&error))
    }

    /// A call of which a [`Faults`] may speak: its result is what the module returned.
    fn counted(&mut self, call: &TypedFunc<u32, u64>, bytes: u32) -> Result<u64, Trap> {
        self.calls += 1;
        let nth = Some(self.calls);
        if nth == self.faults.trap_at_call {
            // It is interrupted where it would first look at the time.
            self.store.set_epoch_deadline(0);
            let called = call.call(&mut self.store, bytes);
            return called.map_err(|error| self.trap(&error));
        }
        let returned = self.watched(|store| call.call(store, bytes))?;
        Ok(if nth == self.faults.corrupt_at_call {
            !returned
        } else {
            returned
        })
    }

    fn trap(&mut self, error: &wasmtime::Error) -> Trap {
        if self.store.data().refused() {
            let memory_bytes_max = self.limits.memory_bytes_max;
            return Trap::OutOfMemory { memory_bytes_max };
        }
        if let Some(wasmtime::Trap::Interrupt) = error.downcast_ref() {
            let step_ms_max = self.limits.step_ms_max;
            return Trap::Endless { step_ms_max };
        }
        match self.message() {
            Some(message) => Trap::Panicked(message),
            None => other_trap(error),
        }
    }

    /// What a panic has left.
    fn message(&mut self) -> Option<String> {
        let at = self.panicked.get(&mut self.store).i32()?;
        let at = at.cast_unsigned() as usize;
        let (bytes, text) = self
            .memory
            .data(&self.store)
            .get(at..)?
            .split_first_chunk()?;
        let bytes = u32::from_le_bytes(*bytes) as usize;
        let text = text.get(..bytes).filter(|text| !text.is_empty())?;
        Some(String::from_utf8_lossy(text).into_owned())
    }
}

/// A trap in one line: the places in the machine code tell nobody anything.
fn other_trap(error: &wasmtime::Error) -> Trap {
    Trap::Other(match error.downcast_ref::<wasmtime::Trap>() {
        Some(trap) => trap.to_string(),
        None => format!("{error:#}"),
    })
}

fn ticks(limits: Limits) -> u64 {
    let tick_ms = u64::try_from(TICK.as_millis()).unwrap_or(1).max(1);
    limits.step_ms_max.div_ceil(tick_ms).saturating_add(1)
}

fn length(bytes: usize) -> Result<u32, Trap> {
    u32::try_from(bytes)
        .map_err(|_| Trap::Corrupt(format!("a batch of {bytes} bytes does not fit its memory")))
}

fn other(error: wasmtime::Error) -> Trap {
    Trap::Other(format!("{error:#}"))
}
