//! Everything that one life of a module was given, to be given again.
//!
//! A file: [`MAGIC`], the ABI's version, the limits, then entries until the end: a byte that says
//! what it is, four bytes of length, the content. Numbers are little-endian.

use core::error::Error;
use core::fmt;

use zabra_core_wasm::abi::{self, ABI, Open, Opened};

use crate::{Engine, Instance, Limits, Module, Trap};

/// What a journal begins with; the last byte is the version of its form.
pub const MAGIC: &[u8; 14] = b"ZABRA-JOURNAL\x01";

/// The most that a journal holds.
pub const JOURNAL_BYTES_MAX: usize = 64 << 20;

const OPEN: u8 = 1;
const STEP: u8 = 2;
const TRAP: u8 = 3;
const CUT: u8 = 4;

/// A journal that is being written, in memory.
#[derive(Clone, Debug)]
pub struct Journal {
    limits: Limits,
    bytes_max: usize,
    entries: Vec<u8>,
    /// It became too long: what was given before the last step is forgotten.
    cut: bool,
}

/// A journal that was kept.
#[derive(Debug)]
pub struct Kept<'a> {
    /// What the module was allowed.
    pub limits: Limits,
    /// How the life ended.
    pub trap: String,
    entries: Vec<Entry<'a>>,
}

#[derive(Debug)]
enum Entry<'a> {
    Open(&'a [u8]),
    Step(&'a [u8]),
}

/// What became of a journal that was given again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// How many pieces and steps the module took.
    pub calls: usize,
    /// What ended it, if anything did.
    pub trap: Option<Trap>,
}

/// Why a journal cannot be given again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JournalError {
    /// It is none, or damaged, at this byte.
    Unreadable {
        /// Where.
        at: usize,
        /// What was expected there.
        expected: &'static str,
    },
    /// It is of another version of the ABI.
    Abi(u32),
    /// The life was longer than a journal holds.
    Cut,
    /// The module does not take a piece that it was opened with.
    Refused(String),
}

impl Journal {
    /// An empty one, of a module with these limits.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self::bounded(limits, JOURNAL_BYTES_MAX)
    }

    const fn bounded(limits: Limits, bytes_max: usize) -> Self {
        Self {
            limits,
            bytes_max,
            entries: Vec::new(),
            cut: false,
        }
    }

    /// Notes a piece of what a server is opened with.
    pub fn open(&mut self, piece: &Open) {
        // Writing into memory does not fail.
        if let Ok(batch) = abi::encode(piece) {
            self.note(OPEN, &batch);
        }
    }

    /// Notes the batch of a step.
    pub fn step(&mut self, batch: &[u8]) {
        self.note(STEP, batch);
    }

    fn note(&mut self, kind: u8, content: &[u8]) {
        let fits = self.entries.len() + content.len() <= self.bytes_max;
        if self.cut || !fits {
            // The last step alone shows what it was, though not that it traps.
            self.cut = true;
            self.entries.clear();
            if content.len() > self.bytes_max {
                return;
            }
        }
        push(&mut self.entries, kind, content);
    }

    /// The journal as a file's content, with how it ended.
    #[must_use]
    pub fn finish(&self, trap: &Trap) -> Vec<u8> {
        let mut file = MAGIC.to_vec();
        file.extend_from_slice(&ABI.to_le_bytes());
        file.extend_from_slice(&(self.limits.memory_bytes_max as u64).to_le_bytes());
        file.extend_from_slice(&self.limits.step_ms_max.to_le_bytes());
        if self.cut {
            push(&mut file, CUT, &[]);
        }
        file.extend_from_slice(&self.entries);
        push(&mut file, TRAP, trap.to_string().as_bytes());
        file
    }
}

fn push(entries: &mut Vec<u8>, kind: u8, content: &[u8]) {
    // Bounded far below by the bytes of a journal.
    let bytes = u32::try_from(content.len()).unwrap_or(u32::MAX);
    entries.push(kind);
    entries.extend_from_slice(&bytes.to_le_bytes());
    entries.extend_from_slice(content);
}

impl<'a> Kept<'a> {
    /// Reads a file's content.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn read(file: &'a [u8]) -> Result<Self, JournalError> {
        let mut rest = Rest { file, at: 0 };
        if rest.take(MAGIC.len(), "a journal's head")? != MAGIC {
            return Err(JournalError::Unreadable {
                at: 0,
                expected: "a journal's head",
            });
        }
        let abi = u32::from_le_bytes(rest.array("the version of the ABI")?);
        if abi != ABI {
            return Err(JournalError::Abi(abi));
        }
        let memory = u64::from_le_bytes(rest.array("a limit of memory")?);
        let step_ms_max = u64::from_le_bytes(rest.array("a limit of time")?);
        let mut kept = Self {
            limits: Limits {
                memory_bytes_max: usize::try_from(memory).unwrap_or(usize::MAX),
                step_ms_max,
            },
            trap: String::new(),
            entries: Vec::new(),
        };
        while rest.at < file.len() {
            let at = rest.at;
            let [kind] = rest.array("an entry")?;
            let bytes = u32::from_le_bytes(rest.array("an entry's length")?);
            let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            let content = rest.take(bytes, "an entry's content")?;
            match kind {
                OPEN => kept.entries.push(Entry::Open(content)),
                STEP => kept.entries.push(Entry::Step(content)),
                TRAP => kept.trap = String::from_utf8_lossy(content).into_owned(),
                CUT => return Err(JournalError::Cut),
                _ => {
                    return Err(JournalError::Unreadable {
                        at,
                        expected: "an entry of kind 1 to 4",
                    });
                }
            }
        }
        Ok(kept)
    }

    /// Gives everything to a fresh instance.
    ///
    /// # Errors
    /// A piece or a batch is none. A trap is no error: it is what is looked for.
    pub fn replay(&self, engine: &Engine, module: &Module) -> Result<Replayed, JournalError> {
        let mut calls = 0;
        match self.give(engine, module, &mut calls) {
            Ok(()) => Ok(Replayed { calls, trap: None }),
            Err(Ended::Trap(trap)) => Ok(Replayed {
                calls,
                trap: Some(trap),
            }),
            Err(Ended::Refused(reason)) => Err(JournalError::Refused(reason)),
        }
    }

    fn give(&self, engine: &Engine, module: &Module, calls: &mut usize) -> Result<(), Ended> {
        let mut instance = Instance::new(engine, module, self.limits).map_err(Ended::Trap)?;
        for entry in &self.entries {
            *calls += 1;
            match entry {
                Entry::Open(batch) => {
                    let piece: Open =
                        abi::decode(batch).map_err(|error| Ended::Refused(error.to_string()))?;
                    match instance.open(&piece).map_err(Ended::Trap)? {
                        Opened::Ok => {}
                        // As it was then: recovery went on with an older snapshot.
                        Opened::Refused(_) if is_of_snapshot(&piece) => {}
                        Opened::Refused(reason) => return Err(Ended::Refused(reason)),
                    }
                }
                Entry::Step(batch) => {
                    instance.step_encoded(batch).map_err(Ended::Trap)?;
                }
            }
        }
        Ok(())
    }
}

enum Ended {
    Trap(Trap),
    Refused(String),
}

const fn is_of_snapshot(piece: &Open) -> bool {
    matches!(
        piece,
        Open::SnapshotBegin { .. } | Open::SnapshotChunk(_) | Open::SnapshotEnd
    )
}

struct Rest<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Rest<'a> {
    fn take(&mut self, bytes: usize, expected: &'static str) -> Result<&'a [u8], JournalError> {
        let at = self.at;
        let taken = self.file.get(at..).and_then(|rest| rest.get(..bytes));
        self.at = at.saturating_add(bytes);
        taken.ok_or(JournalError::Unreadable { at, expected })
    }

    fn array<const N: usize>(&mut self, expected: &'static str) -> Result<[u8; N], JournalError> {
        let at = self.at;
        let taken = self.take(N, expected)?;
        taken
            .try_into()
            .map_err(|_| JournalError::Unreadable { at, expected })
    }
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { at, expected } => {
                write!(f, "expected {expected} at byte {at}, found something else")
            }
            Self::Abi(found) => write!(
                f,
                "expected a journal of ABI version {ABI}, found version {found}; take the zabra \
                 that wrote it"
            ),
            Self::Cut => write!(
                f,
                "the life was longer than the {JOURNAL_BYTES_MAX} bytes that a journal holds: only \
                 its last step was kept, which cannot be given to a module alone"
            ),
            Self::Refused(reason) => write!(f, "the module does not take it: {reason}"),
        }
    }
}

impl Error for JournalError {}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::unwrap_used,
        reason = "a test may stop at what it did not expect"
    )]

    use zabra_core::ids::Zxid;

    use super::*;

    fn trap() -> Trap {
        Trap::Panicked("panicked at a.rs:1: no".into())
    }

    #[test]
    fn journal_is_read_as_it_was_written() {
        let limits = Limits {
            memory_bytes_max: 1 << 20,
            step_ms_max: 7,
        };
        let mut journal = Journal::new(limits);
        journal.open(&Open::SnapshotBegin { zxid: Zxid(3) });
        journal.step(b"step");
        let file = journal.finish(&trap());
        let kept = Kept::read(&file).unwrap();
        assert_eq!(kept.limits, limits);
        assert_eq!(kept.trap, trap().to_string());
        let [Entry::Open(piece), Entry::Step(b"step")] = kept.entries.as_slice() else {
            panic!("{kept:?}")
        };
        let piece: Open = abi::decode(piece).unwrap();
        assert_eq!(piece, Open::SnapshotBegin { zxid: Zxid(3) });
    }

    #[test]
    fn what_is_cut_short_is_said_with_its_place() {
        let mut journal = Journal::new(Limits::default());
        journal.step(b"step");
        let file = journal.finish(&trap());
        let whole = [14, 18, 26, 34, 43, file.len()];
        for end in 0..=file.len() {
            let read = Kept::read(file.get(..end).unwrap());
            assert_eq!(read.is_ok(), end >= 34 && whole.contains(&end), "{end}");
        }
        let error = Kept::read(b"ZABRA-JOURNAL\x02").unwrap_err();
        assert_eq!(
            error.to_string(),
            "expected a journal's head at byte 0, found something else"
        );
    }

    #[test]
    fn life_that_is_too_long_leaves_its_last_step() {
        let mut journal = Journal::bounded(Limits::default(), 100);
        for _ in 0..1000 {
            journal.step(&[0; 40]);
            assert!(journal.entries.len() <= 110);
        }
        let file = journal.finish(&trap());
        assert_eq!(Kept::read(&file).unwrap_err(), JournalError::Cut);
        assert_eq!(journal.entries.len(), 45);
        journal.step(&[0; 101]);
        assert_eq!(journal.entries.len(), 0);
    }
}
