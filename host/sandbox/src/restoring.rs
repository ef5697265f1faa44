//! What recovery reads, on its way into the module.

use core::fmt;

use zabra_core::ids::Zxid;
use zabra_core::store::Restore;
use zabra_core_wasm::abi::{Begin, Found, Open, Opened};

use crate::{Instance, Trap};

/// An instance that is being opened.
pub struct Restoring {
    instance: Instance,
    /// [`Restore::snapshot_begin`] reports nothing itself.
    failed: Option<Trap>,
}

/// Why a piece was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestoringError {
    /// The core does not take it.
    Refused(String),
    /// The core trapped.
    Trap(Trap),
}

impl Restoring {
    /// Begins a server.
    ///
    /// # Errors
    /// The core traps, or does not take its settings.
    pub fn begin(instance: Instance, begin: Begin) -> Result<Self, RestoringError> {
        let mut restoring = Self {
            instance,
            failed: None,
        };
        restoring.give(Open::Begin(begin.into()))?;
        Ok(restoring)
    }

    /// Everything was read.
    ///
    /// # Errors
    /// The core traps.
    pub fn finish(mut self, found: Found) -> Result<Instance, RestoringError> {
        self.give(Open::Done(found))?;
        Ok(self.instance)
    }

    fn give(&mut self, piece: Open) -> Result<(), RestoringError> {
        if let Some(trap) = &self.failed {
            return Err(RestoringError::Trap(trap.clone()));
        }
        match self.instance.open(&piece) {
            Ok(Opened::Ok) => Ok(()),
            Ok(Opened::Refused(reason)) => Err(RestoringError::Refused(reason)),
            Err(trap) => {
                self.failed = Some(trap.clone());
                Err(RestoringError::Trap(trap))
            }
        }
    }
}

impl Restore for Restoring {
    type Error = RestoringError;

    fn snapshot_begin(&mut self, zxid: Zxid) {
        // What it says is said again by the next piece.
        let _ = self.give(Open::SnapshotBegin { zxid });
    }

    fn snapshot_chunk(&mut self, bytes: &[u8]) -> Result<(), RestoringError> {
        self.give(Open::SnapshotChunk(bytes.to_vec().into()))
    }

    fn snapshot_end(&mut self) -> Result<(), RestoringError> {
        self.give(Open::SnapshotEnd)
    }

    fn txn(&mut self, payload: &[u8]) -> Result<(), RestoringError> {
        self.give(Open::Txn(payload.to_vec().into()))
    }
}

impl fmt::Display for RestoringError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reason) => f.write_str(reason),
            Self::Trap(trap) => trap.fmt(f),
        }
    }
}

impl core::error::Error for RestoringError {}
