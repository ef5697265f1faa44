//! On which side of a border the servers under test live: here, or behind the one of a WebAssembly
//! module.

use core::fmt;
use std::sync::OnceLock;

use zabra_core::ids::Zxid;
use zabra_core::store::Restore;
use zabra_core_wasm::Opening;
use zabra_core_wasm::abi::{Begin, Found};

use crate::boot::Core;

/// What makes servers otherwise than natively.
pub trait Cores: Send + Sync {
    /// Begins a server. `may_fail` says that it is at a time of faults.
    ///
    /// # Errors
    /// There is no server to be had.
    fn begin(&self, begin: Begin, may_fail: bool) -> Result<Box<dyn Birth>, String>;

    /// Whether servers that were begun at a time of faults may fail later.
    fn may_trap(&self) -> bool;
}

/// A server that is being made of what its disk held.
pub trait Birth: Restore<Error = String> {
    /// Everything was read: the server.
    ///
    /// # Errors
    /// There is no server to be had.
    fn finish(self: Box<Self>, found: Found) -> Result<Core, String>;
}

static CORES: OnceLock<Box<dyn Cores>> = OnceLock::new();

/// Makes every server of this process so, from now on. Once.
pub fn choose(cores: Box<dyn Cores>) {
    let is_first = CORES.set(cores).is_ok();
    assert!(is_first, "the cores of a process are chosen once");
}

/// Whether servers may fail by themselves.
#[must_use]
pub fn may_trap() -> bool {
    CORES.get().is_some_and(|cores| cores.may_trap())
}

/// Begins a server.
///
/// # Errors
/// There is no server to be had.
pub fn begin(begin: Begin, may_fail: bool) -> Result<Beginning, String> {
    let birth = match CORES.get() {
        Some(cores) => cores.begin(begin, may_fail)?,
        None => Box::new(Native(Opening::new(begin))),
    };
    Ok(Beginning(birth))
}

/// What recovery restores into.
pub struct Beginning(Box<dyn Birth>);

impl Beginning {
    /// Everything was read: the server.
    ///
    /// # Errors
    /// There is no server to be had.
    pub fn finish(self, found: Found) -> Result<Core, String> {
        self.0.finish(found)
    }
}

impl Restore for Beginning {
    type Error = String;

    fn snapshot_begin(&mut self, zxid: Zxid) {
        self.0.snapshot_begin(zxid);
    }

    fn snapshot_chunk(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.0.snapshot_chunk(bytes)
    }

    fn snapshot_end(&mut self) -> Result<(), String> {
        self.0.snapshot_end()
    }

    fn txn(&mut self, payload: &[u8]) -> Result<(), String> {
        self.0.txn(payload)
    }
}

impl fmt::Debug for Beginning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Beginning")
    }
}

struct Native(Opening);

impl Restore for Native {
    type Error = String;

    fn snapshot_begin(&mut self, zxid: Zxid) {
        self.0.snapshot_begin(zxid);
    }

    fn snapshot_chunk(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.0.snapshot_chunk(bytes).map_err(shown)
    }

    fn snapshot_end(&mut self) -> Result<(), String> {
        self.0.snapshot_end().map_err(shown)
    }

    fn txn(&mut self, payload: &[u8]) -> Result<(), String> {
        self.0.txn(payload).map_err(shown)
    }
}

impl Birth for Native {
    fn finish(self: Box<Self>, found: Found) -> Result<Core, String> {
        Ok(Box::new(self.0.server(found)))
    }
}

fn shown(error: impl fmt::Display) -> String {
    error.to_string()
}
