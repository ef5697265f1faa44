//! A server behind the border: opened piece by piece, then stepped.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use zabra_core::Machine;
use zabra_core::ids::Zxid;
use zabra_core::server::{Config, Output, Recovered, Server};
use zabra_core::store::Restore;
use zabra_core::store::recent::Recent;
use zabra_core::tree::{LoadError, Loader};
use zabra_core::zab;

use crate::abi::{self, Begin, Found, Open, Opened, Place};

/// One server, or what there is of it.
#[derive(Default)]
pub struct Node {
    stage: Stage,
    outputs: Vec<Output>,
}

#[derive(Default)]
enum Stage {
    #[default]
    Nothing,
    Opening(Box<Opening>),
    Running(Box<Server>),
}

/// A server that is being made of what its store held.
pub struct Opening {
    entropy: u64,
    config: Config,
    place: Option<Place>,
    loader: Recent<Loader>,
}

impl Node {
    /// Takes one [`Open`], and returns the encoded [`Opened`].
    ///
    /// # Panics
    /// The batch is none: the host is of another version than it says.
    #[must_use]
    pub fn open(&mut self, batch: &[u8]) -> Vec<u8> {
        let answer = match abi::decode(batch) {
            Ok(open) => match self.take(open) {
                Ok(()) => Opened::Ok,
                Err(reason) => Opened::Refused(reason),
            },
            Err(error) => Opened::Refused(format!("the batch cannot be read: {error}")),
        };
        match abi::encode(&answer) {
            Ok(bytes) => bytes,
            Err(error) => panic!("an answer cannot be written: {error}"),
        }
    }

    fn take(&mut self, open: Open) -> Result<(), String> {
        if let Open::Begin(begin) = open {
            self.stage = Stage::Opening(Opening::new(*begin).into());
            return Ok(());
        }
        let Stage::Opening(opening) = &mut self.stage else {
            return Err("nothing was begun, or the server runs already".into());
        };
        match open {
            Open::Begin(_) => Ok(()),
            Open::SnapshotBegin { zxid } => {
                opening.snapshot_begin(zxid);
                Ok(())
            }
            Open::SnapshotChunk(bytes) => said(opening.snapshot_chunk(&bytes)),
            Open::SnapshotEnd => said(opening.snapshot_end()),
            Open::Txn(payload) => said(opening.txn(&payload)),
            Open::Done(found) => {
                if let Stage::Opening(opening) = core::mem::take(&mut self.stage) {
                    self.stage = Stage::Running(opening.server(found).into());
                }
                Ok(())
            }
        }
    }

    /// Takes a step, and writes its result over what is in `room`.
    ///
    /// # Panics
    /// No server runs, or the batch is none: the host does not keep to ABI.md.
    #[must_use]
    pub fn step(&mut self, batch: &[u8], mut room: Vec<u8>) -> Vec<u8> {
        let Stage::Running(server) = &mut self.stage else {
            panic!("a step before the server is open")
        };
        let mut step = match abi::decode_step(batch) {
            Ok(step) => step,
            Err(error) => panic!("the batch of a step cannot be read: {error}"),
        };
        let next = server.step(step.now, &mut step.inputs, &mut self.outputs);
        room.clear();
        match abi::encode_result(next, &mut self.outputs, room) {
            Ok(room) => room,
            Err(error) => panic!("the result of a step cannot be written: {error}"),
        }
    }
}

impl Opening {
    /// Begins one.
    #[must_use]
    pub fn new(begin: Begin) -> Self {
        let Begin {
            entropy,
            config,
            place,
        } = begin;
        let loader = Loader::new(entropy, config.tree_digest);
        let (txns_min, bytes_max) = place.as_ref().map_or((0, 0), |Place { options, .. }| {
            (options.history_txns_min, options.history_bytes_max)
        });
        Self {
            entropy,
            config,
            place,
            loader: Recent::new(loader, txns_min, bytes_max),
        }
    }

    /// Everything was read: the server.
    #[must_use]
    pub fn server(self, found: Found) -> Server {
        let (loader, base, recent) = self.loader.finish();
        let recovered = Recovered {
            snapshot: found.snapshot,
            txns: found.txns,
            log_bytes: found.log_bytes,
        };
        let Some(place) = self.place else {
            return Server::new(self.config, loader, recovered, self.entropy, found.now);
        };
        let history = zab::Recovered {
            base,
            recent,
            accepted: found.accepted,
            current: found.current,
            divergent: false,
            trusted: found.trusted,
        };
        Server::in_ensemble(
            self.config,
            place.config,
            place.options,
            loader,
            recovered,
            history,
            self.entropy,
            found.now,
        )
    }
}

impl Restore for Opening {
    type Error = LoadError;

    fn snapshot_begin(&mut self, zxid: Zxid) {
        self.loader.snapshot_begin(zxid);
    }

    fn snapshot_chunk(&mut self, bytes: &[u8]) -> Result<(), LoadError> {
        self.loader.snapshot_chunk(bytes)
    }

    fn snapshot_end(&mut self) -> Result<(), LoadError> {
        self.loader.snapshot_end()
    }

    fn txn(&mut self, payload: &[u8]) -> Result<(), LoadError> {
        self.loader.txn(payload)
    }
}

fn said<E: core::fmt::Display>(result: Result<(), E>) -> Result<(), String> {
    result.map_err(|error| format!("{error}"))
}
