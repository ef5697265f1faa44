//! The core as a WebAssembly module: where it comes from, and how one is taken for another while
//! the process goes on.

use core::cell::RefCell;
use core::net::SocketAddr;
use core::time::Duration;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio::task::spawn_blocking;
use tracing::{error, info, warn};
use zabra_sandbox::abi::{ABI, Begin, Found};
use zabra_sandbox::journal::Journal;
use zabra_sandbox::quarantine::{Guarded, Quarantine};
use zabra_sandbox::{Engine, Instance, Limits, LoadError, Module, Restoring, RestoringError};

use crate::config::SandboxConfig;
use crate::error::Error;

/// The core that this binary was built with.
#[cfg(feature = "wasm")]
const EMBEDDED: Option<&[u8]> = Some(include_bytes!(concat!(env!("OUT_DIR"), "/core.wasm")));
#[cfg(not(feature = "wasm"))]
const EMBEDDED: Option<&[u8]> = None;

/// Lines about refused connections come no oftener.
const REFUSAL_PAUSE: Duration = Duration::from_secs(60);

/// Journals that are kept in a directory; somebody should look at them.
const JOURNALS_MAX: usize = 8;
const JOURNAL_PREFIX: &str = "zabra-trap-";

/// What messages call it.
const EMBEDDED_NAME: &str = "the core in this binary";

/// What messages call the core that this binary was built with, and its bytes, if it has one.
pub(crate) const fn embedded_core() -> (&'static str, Option<&'static [u8]>) {
    (EMBEDDED_NAME, EMBEDDED)
}

/// A module with what it runs in, for as long as the process lives.
pub(super) struct Sandbox {
    engine: Arc<Engine>,
    limits: Limits,
    file: Option<PathBuf>,
    module: RefCell<Module>,
    quarantine: Quarantine,
    /// The one before, until the new one has opened what is on disk.
    proven: RefCell<Option<Module>>,
}

impl Sandbox {
    /// Loads the module, and says so as the first line of the log.
    ///
    /// # Errors
    /// There is none, or it is not one of this ABI.
    pub(super) fn load(config: &SandboxConfig) -> Result<Self, Error> {
        let begun = Instant::now();
        let file = config.module.clone();
        let limits = Limits {
            memory_bytes_max: config.memory_bytes_max,
            step_ms_max: config.step_ms_max,
        };
        let engine = Engine::new().map_err(refused)?;
        let module = read(&engine, file.as_ref()).map_err(refused)?;
        introduce(&module, begun);
        Ok(Self {
            engine: Arc::new(engine),
            limits,
            file,
            module: RefCell::new(module),
            quarantine: Quarantine::default(),
            proven: RefCell::new(None),
        })
    }

    /// A fresh instance that is to become a server.
    ///
    /// # Errors
    /// See [`Restoring::begin`].
    pub(super) fn begin(&self, begin: Begin) -> Result<Restoring, RestoringError> {
        let instance = Instance::new(&self.engine, &self.module.borrow(), self.limits)
            .map_err(RestoringError::Trap)?;
        let journal = self.quarantine.suspects();
        let journal = journal.then(|| Journal::new(self.limits));
        Restoring::begin_noted(instance, begin, journal)
    }

    /// The server, once everything was read. There is no way back to the module before.
    ///
    /// # Errors
    /// See [`Restoring::finish`].
    pub(super) fn finish(
        &self,
        restoring: Restoring,
        found: Found,
    ) -> Result<Guarded<Instance>, RestoringError> {
        let (instance, journal) = restoring.finish_noted(found)?;
        self.proven.take();
        let quarantine = self.quarantine.clone();
        Ok(Guarded::new(instance, self.name(), quarantine, journal))
    }

    /// Tells of bytes that trapped the module twice in the life that has ended, and keeps the
    /// journals of that in `directory`.
    pub(super) fn keep_caught(&self, directory: &Path) {
        for caught in self.quarantine.take_caught() {
            let peer = shown(caught.peer);
            let kept = match keep(directory, &caught.journal) {
                Ok(file) => format!("everything this life was given is in {}", file.display()),
                Err(error) => format!("no journal of it was kept: {error}"),
            };
            error!(
                "{} bytes of a connection from {peer} trapped the core twice ({}); who sends them \
                 again is disconnected; {kept}; see `zabra wasm replay`",
                caught.bytes, caught.trap
            );
        }
    }

    /// What is to be called after every step: tells of connections that were closed for what they
    /// brought.
    pub(super) fn refusals(&self) -> impl FnMut() + 'static {
        let quarantine = self.quarantine.clone();
        let mut told: Option<Instant> = None;
        let mut untold = 0_u64;
        move || {
            for refused in quarantine.take_refused() {
                untold += 1;
                if told.is_some_and(|told| told.elapsed() < REFUSAL_PAUSE) {
                    continue;
                }
                warn!(
                    "a connection from {} was closed: it brought {} bytes that trapped the core \
                     twice ({untold} since the last such line)",
                    shown(refused.peer),
                    refused.bytes
                );
                told = Some(Instant::now());
                untold = 0;
            }
        }
    }

    /// Takes a module that was just put in the place of another, and cannot open what is on disk,
    /// out again. False if there is no other.
    pub(super) fn revert(&self) -> bool {
        let Some(proven) = self.proven.take() else {
            return false;
        };
        warn!(
            "{} cannot open what is on disk; the core before it goes on",
            self.name()
        );
        *self.module.borrow_mut() = proven;
        true
    }

    /// What to call the module.
    pub(super) fn name(&self) -> String {
        self.module.borrow().origin().name.clone()
    }

    /// Ready once another module is there to go on with. A file that is none is refused, and
    /// another request waited for.
    pub(super) async fn renewed(&self, requested: &mut impl AsyncFnMut()) {
        loop {
            requested().await;
            let Some(file) = self.file.clone() else {
                warn!("there is nothing to reload: the core is in this binary; see --core-module");
                continue;
            };
            let begun = Instant::now();
            let engine = Arc::clone(&self.engine);
            // Compiling takes a second or more, in which the server goes on.
            let read = spawn_blocking(move || read(&engine, Some(&file)));
            match read.await {
                Ok(Ok(module)) => {
                    introduce(&module, begun);
                    let old = self.module.replace(module);
                    self.proven.replace(Some(old));
                    return;
                }
                Ok(Err(error)) => error!("the core is not replaced: {error}"),
                Err(error) => error!("the core is not replaced: {error}"),
            }
        }
    }
}

fn read(engine: &Engine, file: Option<&PathBuf>) -> Result<Module, LoadError> {
    match (file, EMBEDDED) {
        (Some(file), _) => Module::load(engine, file),
        (None, Some(bytes)) => Module::from_bytes(engine, EMBEDDED_NAME, bytes),
        // A configuration without a file is refused by such a build.
        (None, None) => Module::from_bytes(engine, EMBEDDED_NAME, &[]),
    }
}

fn introduce(module: &Module, begun: Instant) {
    let origin = module.origin();
    let how = if origin.compiled {
        "precompiled, loaded"
    } else {
        "compiled"
    };
    info!(
        "core: wasm, ABI {ABI}, {}, {} bytes, SHA-256 {:.16}…, {how} in {} ms",
        origin.name,
        origin.bytes,
        origin.digest,
        begun.elapsed().as_millis()
    );
}

fn refused(error: LoadError) -> Error {
    Error::CoreModule(error.into())
}

fn shown(peer: Option<SocketAddr>) -> String {
    peer.map_or_else(|| "an unknown address".to_owned(), |peer| peer.to_string())
}

/// Writes a journal, and returns where it is.
fn keep(directory: &Path, journal: &[u8]) -> io::Result<PathBuf> {
    let mut kept = 0;
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        kept += usize::from(name.to_string_lossy().starts_with(JOURNAL_PREFIX));
    }
    if kept >= JOURNALS_MAX {
        let text = format!("{} has {kept} of them already", directory.display());
        return Err(io::Error::other(text));
    }
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let name = format!("{JOURNAL_PREFIX}{}.journal", since.as_millis());
    let path = directory.join(name);
    let mut file = File::create_new(&path)?;
    file.write_all(journal)?;
    Ok(path)
}
