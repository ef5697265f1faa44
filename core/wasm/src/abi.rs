//! What crosses the border between a host and the module: five kinds of batches, in postcard.
//!
//! ABI.md has them byte by byte, for hosts that do not use this crate. Whoever changes a type that
//! crosses, here or in `zabra-core`, raises [`ABI`].

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use postcard::ser_flavors::Flavor;
use serde::{Deserialize, Serialize};
use zabra_core::ids::{Epoch, Instant, Zxid};
use zabra_core::link::LinkInput;
use zabra_core::machine::Now;
use zabra_core::server::{Config, EnsembleConfig, Event, Input, Output};
use zabra_core::zab::Options;

/// The version of everything in this module. A host refuses a module that says another.
pub const ABI: u32 = 3;

/// A piece of what a server is made of, in this order: [`Open::Begin`]; the newest snapshot that is
/// accepted; every transaction after it; [`Open::Done`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Open {
    /// What the operator decides. Whatever was begun before is dropped.
    Begin(Box<Begin>),
    /// A snapshot follows, of this name. Whatever was read before is dropped.
    SnapshotBegin {
        /// Its name.
        zxid: Zxid,
    },
    /// The next bytes of it, cut anywhere; not compressed.
    SnapshotChunk(Bytes),
    /// That was all of it.
    SnapshotEnd,
    /// The next transaction after the snapshot, as
    /// [`StoreOp::Append`](zabra_core::server::StoreOp::Append) gave it.
    Txn(Bytes),
    /// That is all: the server begins.
    Done(Found),
}

/// What an operator decides, and chance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// Different in every life of a server: session ids and elections begin with it.
    pub entropy: u64,
    /// The server's settings.
    pub config: Config,
    /// Its place in an ensemble; `None` if it stands alone.
    pub place: Option<Place>,
}

/// A server's place in an ensemble.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// What the service needs to know of it.
    pub config: EnsembleConfig,
    /// What the protocol needs to know.
    pub options: Options,
}

/// What the store held beside snapshot and transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The time at which the server begins.
    pub now: Now,
    /// Whether a snapshot was given.
    pub snapshot: bool,
    /// How many transactions were.
    pub txns: u64,
    /// How many bytes of log hold them.
    pub log_bytes: u64,
    /// The epochs, zero for a server that stands alone.
    pub accepted: Epoch,
    /// See `accepted`.
    pub current: Epoch,
    /// Whether the history counts: false only for a server of an ensemble that found nothing and
    /// was not told that nothing is right.
    pub trusted: bool,
}

/// The answer to an [`Open`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Opened {
    /// The next one, please; after [`Open::Done`]: the server is there, step it.
    Ok,
    /// What was given is refused, for this reason. A snapshot that is refused may be followed by an
    /// older one; a transaction that is refused ends the attempt.
    Refused(String),
}

/// A step, as [`Machine::step`](zabra_core::Machine::step) takes it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepIn {
    /// The time of the step.
    pub now: Now,
    /// What happened, in order.
    pub inputs: Vec<Input>,
}

/// A step's result.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepOut {
    /// When to step again if nothing happens first.
    pub next: Option<Instant>,
    /// What must be done, in order; no [`Output::Event`] among it.
    pub outputs: Vec<Output>,
    /// The events, a batch of their own: [`decode_events`] reads it. A host may pass it over.
    #[serde(with = "serde_bytes")]
    pub events: Vec<u8>,
}

/// The borrowed form of [`StepIn`], which is only written.
#[derive(Serialize)]
struct StepInRef<'a> {
    now: Now,
    inputs: &'a [Input],
}

/// A batch that is not what it should be.
pub type Error = postcard::Error;

/// Writes a batch into `room`, and returns how many bytes it has.
///
/// # Errors
/// `room` is too small.
pub fn encode_step_into(now: Now, inputs: &[Input], room: &mut [u8]) -> Result<usize, Error> {
    postcard::to_slice(&StepInRef { now, inputs }, room).map(|written| written.len())
}

/// More bytes than [`encode_step_into`] needs for these inputs.
#[must_use]
pub fn step_bytes_max(inputs: &[Input]) -> usize {
    /// The longest input without its bytes is [`Input::Ask`], a dozen numbers of at most ten
    /// bytes.
    const INPUT_BYTES_MAX: usize = 160;
    let bytes = inputs.iter().map(|input| {
        if let Input::Link(_, LinkInput::Received(bytes)) | Input::Ask(_, bytes, _) = input {
            bytes.len()
        } else {
            0
        }
    });
    inputs.len() * INPUT_BYTES_MAX + bytes.sum::<usize>() + 64
}

/// Reads a step.
///
/// # Errors
/// The batch is none, or longer than what it says.
pub fn decode_step(batch: &[u8]) -> Result<StepIn, Error> {
    whole(batch)
}

/// Writes a step's result after what is in `room`, taking `outputs`.
///
/// # Errors
/// Never: there is always room.
pub fn encode_result(
    next: Option<Instant>,
    outputs: &mut Vec<Output>,
    room: Vec<u8>,
) -> Result<Vec<u8>, Error> {
    let mut events = Vec::new();
    outputs.retain(|output| {
        if let Output::Event(event) = output {
            events.push(event.clone());
            false
        } else {
            true
        }
    });
    let events = if events.is_empty() {
        Vec::new()
    } else {
        postcard::to_allocvec(&events)?
    };
    let result = StepOutRef {
        next,
        outputs,
        events: &events,
    };
    let room = postcard::serialize_with_flavor(&result, Room(room));
    outputs.clear();
    room
}

/// Writes after what is in a vector, slice by slice: postcard's own flavour for that goes byte by
/// byte, which made a kilobyte that goes out cost 450 ns instead of 70 (`cargo xtask bench --wasm`).
struct Room(Vec<u8>);

impl Flavor for Room {
    type Output = Vec<u8>;

    fn try_extend(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn try_push(&mut self, byte: u8) -> Result<(), Error> {
        self.0.push(byte);
        Ok(())
    }

    fn finalize(self) -> Result<Vec<u8>, Error> {
        Ok(self.0)
    }
}

#[derive(Serialize)]
struct StepOutRef<'a> {
    next: Option<Instant>,
    outputs: &'a [Output],
    #[serde(with = "serde_bytes")]
    events: &'a [u8],
}

/// Reads a step's result.
///
/// # Errors
/// The batch is none, or longer than what it says.
pub fn decode_result(batch: &[u8]) -> Result<StepOut, Error> {
    whole(batch)
}

/// Reads the events of a [`StepOut`].
///
/// # Errors
/// The batch is none, or longer than what it says.
pub fn decode_events(batch: &[u8]) -> Result<Vec<Event>, Error> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    whole(batch)
}

/// Writes an [`Open`] or its answer.
///
/// # Errors
/// Never: there is always room.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Error> {
    postcard::to_allocvec(value)
}

/// Reads an [`Open`] or its answer.
///
/// # Errors
/// The batch is none, or longer than what it says.
pub fn decode<'a, T: Deserialize<'a>>(batch: &'a [u8]) -> Result<T, Error> {
    whole(batch)
}

fn whole<'a, T: Deserialize<'a>>(batch: &'a [u8]) -> Result<T, Error> {
    match postcard::take_from_bytes(batch)? {
        (value, []) => Ok(value),
        // What follows was written by somebody who knows of more fields.
        (_, _) => Err(Error::DeserializeBadEncoding),
    }
}
