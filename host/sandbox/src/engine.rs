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

use crate::{Instance, Trap, precompiled};

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
    origin: Origin,
}

/// What a module was had from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The file, or what else to call it.
    pub name: String,
    /// Bytes of it.
    pub bytes: usize,
    /// Whether it was machine code already.
    pub compiled: bool,
    /// SHA-256 of the WebAssembly module, in hexadecimal.
    pub digest: String,
}

impl Module {
    /// Reads a module from a file: WebAssembly, if this build has a compiler, or what
    /// [`Module::compile`] made of it.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load(engine: &Engine, file: &Path) -> Result<Self, LoadError> {
        let bytes = fs::read(file).map_err(|source| LoadError::Read {
            file: file.into(),
            source,
        })?;
        Self::from_bytes(engine, &file.display().to_string(), &bytes)
    }

    /// Takes a module that is in memory, by the name that errors call it.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn from_bytes(engine: &Engine, name: &str, bytes: &[u8]) -> Result<Self, LoadError> {
        let compiled = precompiled::is_compiled(bytes);
        let refused = |found| LoadError::NoModule {
            name: name.into(),
            found,
        };
        let (digest, module) = if compiled {
            let (digest, code) = precompiled::unwrap(bytes).map_err(refused)?;
            (digest, deserialize(&engine.engine, code).map_err(refused)?)
        } else {
            let digest = precompiled::digest(bytes);
            (digest, compile(&engine.engine, bytes).map_err(refused)?)
        };
        let module = Self {
            module,
            origin: Origin {
                name: name.into(),
                bytes: bytes.len(),
                compiled,
                digest: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            },
        };
        let abi = Instance::new(engine, &module, Limits::default())
            .and_then(|mut instance| instance.abi());
        match abi.map_err(|trap| refused(trap.to_string()))? {
            ABI => Ok(module),
            found => Err(LoadError::Abi {
                name: name.into(),
                found,
            }),
        }
    }

    /// What it was had from.
    #[must_use]
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Compiles a module for any processor of this machine's kind, so that starting with the result
    /// costs no compilation. It runs only with the version of wasmtime that made it.
    ///
    /// # Errors
    /// See [`LoadError`].
    #[cfg(feature = "compile")]
    pub fn compile(name: &str, wasm: &[u8]) -> Result<Vec<u8>, LoadError> {
        // What is refused as a module is not worth a file.
        Self::from_bytes(&Engine::new()?, name, wasm)?;
        let mut config = config();
        // Without a target, the features of this very processor would go in.
        config
            .target(TARGET)
            .map_err(|error| LoadError::Engine(error.to_string()))?;
        let engine =
            wasmtime::Engine::new(&config).map_err(|error| LoadError::Engine(error.to_string()))?;
        let code = engine.precompile_module(wasm);
        let code = code.map_err(|error| LoadError::NoModule {
            name: name.into(),
            found: format!("{error:#}"),
        })?;
        Ok(precompiled::wrap(wasm, &code))
    }
}

/// The kind of machine that this is built for, without anything of its processor.
#[cfg(feature = "compile")]
const TARGET: &str = env!("ZABRA_TARGET");

#[cfg(feature = "compile")]
fn compile(engine: &wasmtime::Engine, bytes: &[u8]) -> Result<wasmtime::Module, String> {
    if !bytes.starts_with(b"\0asm") {
        let start = bytes.get(..8).unwrap_or(bytes);
        let bytes = bytes.len();
        return Err(format!("{bytes} bytes that begin with {start:02x?}"));
    }
    wasmtime::Module::new(engine, bytes)
        .map_err(|error| format!("one that cannot be compiled: {error:#}"))
}

#[cfg(not(feature = "compile"))]
fn compile(_: &wasmtime::Engine, bytes: &[u8]) -> Result<wasmtime::Module, String> {
    let bytes = bytes.len();
    Err(format!(
        "{bytes} bytes that are not a compiled core, and this build has no compiler; make one with \
         `zabra wasm compile` of a build that has"
    ))
}

#[expect(unsafe_code, reason = "wasmtime cannot check machine code")]
fn deserialize(engine: &wasmtime::Engine, code: &[u8]) -> Result<wasmtime::Module, String> {
    // SAFETY: the digest in the head was right, so this is, whole, what `Module::compile` wrote;
    // that nobody forged the file is the operator's word, as it is for the binary.
    let module = unsafe { wasmtime::Module::deserialize(engine, code) };
    module.map_err(|error| format!("a compiled core that does not run here: {error:#}"))
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
        /// The file.
        name: String,
        /// What it holds instead.
        found: String,
    },
    /// The module speaks another version of the ABI.
    Abi {
        /// The file.
        name: String,
        /// Its version.
        found: u32,
    },
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine(error) => write!(f, "WebAssembly cannot be run here: {error}"),
            Self::Read { file, source } => write!(f, "{}: {source}", file.display()),
            Self::NoModule { name, found } => write!(
                f,
                "{name}: expected a core of Zabra as a WebAssembly module, found {found}"
            ),
            Self::Abi { name, found } => write!(
                f,
                "{name}: expected a core of ABI version {ABI}, found version {found}; take the \
                 core that was built with this server"
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
