//! The engine, and modules that are checked before they run.

use core::error::Error;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::{fs, io};

use zabra_core_wasm::abi::ABI;

use crate::{Instance, Trap};

/// How finely the time of a step is measured.
pub(crate) const TICK: Duration = Duration::from_millis(20);

/// What a sandboxed core may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory; at most 4 GiB.
    pub memory_bytes_max: usize,
    /// Milliseconds of one call, a step or a piece of what is opened.
    pub step_ms_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes_max: 2 << 30,
            step_ms_max: 10_000,
        }
    }
}

/// wasmtime as every module of ours is compiled for, with the clock of the watchdog.
pub struct Engine {
    pub(crate) engine: wasmtime::Engine,
    stop: Arc<AtomicBool>,
}

impl Engine {
    /// An engine, with a thread that counts time until it is dropped.
    ///
    /// # Errors
    /// This machine cannot run it.
    pub fn new() -> Result<Self, LoadError> {
        let engine = wasmtime::Engine::new(&config())
            .map_err(|error| LoadError::Engine(error.to_string()))?;
        let stop = Arc::new(AtomicBool::new(false));
        let ticker = (engine.weak(), Arc::clone(&stop));
        thread::Builder::new()
            .name("zabra-watchdog".into())
            .spawn(move || {
                let (engine, stop) = ticker;
                while !stop.load(Ordering::Relaxed) {
                    thread::sleep(TICK);
                    let Some(engine) = engine.upgrade() else {
                        return;
                    };
                    engine.increment_epoch();
                }
            })
            .map_err(|error| LoadError::Engine(error.to_string()))?;
        Ok(Self { engine, stop })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The one configuration: a module compiled with another is refused by wasmtime.
fn config() -> wasmtime::Config {
    let mut config = wasmtime::Config::new();
    config.epoch_interruption(true);
    config
}

/// A module of this ABI.
#[derive(Clone)]
pub struct Module {
    pub(crate) module: wasmtime::Module,
    /// Where it came from.
    pub file: PathBuf,
}

impl Module {
    /// Reads a module from a file.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load(engine: &Engine, file: &Path) -> Result<Self, LoadError> {
        let bytes = fs::read(file).map_err(|source| LoadError::Read {
            file: file.into(),
            source,
        })?;
        let module = Self {
            module: compile(&engine.engine, &bytes).map_err(|found| LoadError::NoModule {
                file: file.into(),
                found,
            })?,
            file: file.into(),
        };
        let found = Instance::new(engine, &module, Limits::default())
            .and_then(|mut instance| instance.abi())
            .map_err(|trap| LoadError::NoModule {
                file: file.into(),
                found: trap.to_string(),
            })?;
        if found != ABI {
            return Err(LoadError::Abi {
                file: file.into(),
                found,
            });
        }
        Ok(module)
    }
}

#[cfg(feature = "compile")]
fn compile(engine: &wasmtime::Engine, bytes: &[u8]) -> Result<wasmtime::Module, String> {
    wasmtime::Module::new(engine, bytes).map_err(|error| format!("{error:#}"))
}

#[cfg(not(feature = "compile"))]
fn compile(_: &wasmtime::Engine, _: &[u8]) -> Result<wasmtime::Module, String> {
    Err("a module that is not compiled, and this build has no compiler".into())
}

/// Why a module cannot be had.
#[derive(Debug)]
pub enum LoadError {
    /// wasmtime does not run here.
    Engine(String),
    /// The file cannot be read.
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file holds no module of Zabra's.
    NoModule {
        /// Which.
        file: PathBuf,
        /// What it holds instead.
        found: String,
    },
    /// The module speaks another version of the ABI.
    Abi {
        /// The file.
        file: PathBuf,
        /// Its version.
        found: u32,
    },
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine(error) => write!(f, "WebAssembly cannot be run here: {error}"),
            Self::Read { file, source } => write!(f, "{}: {source}", file.display()),
            Self::NoModule { file, found } => write!(
                f,
                "{}: expected a core of Zabra as a WebAssembly module, found {found}",
                file.display()
            ),
            Self::Abi { file, found } => write!(
                f,
                "{}: expected a core of ABI version {ABI}, found version {found}; take the core \
                 that was built with this server",
                file.display()
            ),
        }
    }
}

impl Error for LoadError {}

impl From<Trap> for LoadError {
    fn from(trap: Trap) -> Self {
        Self::Engine(trap.to_string())
    }
}
