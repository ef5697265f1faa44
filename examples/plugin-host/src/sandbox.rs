//! Plugins: modules without imports, bounded in memory and in time.

use std::path::Path;

use wasmtime::{
    Engine, Error, Instance, Memory, Module, Result, Store, StoreLimits, StoreLimitsBuilder,
    WasmParams, WasmResults,
};

const MEMORY_BYTES_MAX: usize = 256 << 20;
/// Ticks of the engine's clock that a call may take.
const TICKS_MAX: u64 = 10;

pub struct Plugin {
    pub name: String,
    module: Module,
}

impl Plugin {
    pub fn load(engine: &Engine, path: &Path) -> Result<Self> {
        let name = path.file_stem().unwrap_or_default().display().to_string();
        Ok(Self { name, module: Module::from_file(engine, path)? })
    }

    pub fn exports(&self, name: &str) -> bool {
        self.module.get_export(name).is_some()
    }

    pub fn instantiate(&self) -> Result<Running> {
        let limits = StoreLimitsBuilder::new().memory_size(MEMORY_BYTES_MAX);
        let mut store = Store::new(self.module.engine(), limits.build());
        store.limiter(|limits| limits);
        store.set_epoch_deadline(TICKS_MAX);
        let instance = Instance::new(&mut store, &self.module, &[])?;
        Ok(Running { store, instance })
    }
}

pub struct Running {
    store: Store<StoreLimits>,
    instance: Instance,
}

impl Running {
    pub fn call<P: WasmParams, R: WasmResults>(&mut self, name: &str, given: P) -> Result<R> {
        self.store.set_epoch_deadline(TICKS_MAX);
        self.instance.get_typed_func(&mut self.store, name)?.call(&mut self.store, given)
    }

    /// A batch in, a batch out; or why this instance must not be called again.
    pub fn exchange(&mut self, name: &str, batch: &[u8]) -> Result<Vec<u8>> {
        let memory = self.instance.get_memory(&mut self.store, "memory");
        let memory = memory.ok_or_else(|| Error::msg("expected a memory"))?;
        let at: u32 = self.call("alloc", batch.len() as u32)?;
        memory.write(&mut self.store, at as usize, batch)?;
        let place: Result<u64> = self.call(name, batch.len() as u32);
        let place = place.map_err(|trap| self.panicked(memory).map_or(trap, Error::msg))?;
        let mut answer = vec![0; place as u32 as usize];
        memory.read(&self.store, (place >> 32) as usize, &mut answer)?;
        Ok(answer)
    }

    fn panicked(&mut self, memory: Memory) -> Option<String> {
        let place = self.instance.get_global(&mut self.store, "panicked")?;
        let at = place.get(&mut self.store).i32()? as u32 as usize;
        let (length, text) = memory.data(&self.store).get(at..)?.split_first_chunk()?;
        let text = text.get(..u32::from_le_bytes(*length) as usize)?;
        (!text.is_empty()).then(|| String::from_utf8_lossy(text).into_owned())
    }
}
