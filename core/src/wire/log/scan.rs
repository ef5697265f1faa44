//! The incremental reader of a log file.

use alloc::vec::Vec;

use crate::ids::Zxid;

use super::tail::Tail;
use super::{
    Damage, DamageKind, End, HEADER, RECORD_FRAME_BYTES, RECORD_HEAD_BYTES, TRAILER, checksum,
    head, payload_zxid, valid_length,
};

/// A record whose checksum is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Where it begins in the file.
    pub offset: u64,
    /// The zxid in its header.
    pub zxid: Zxid,
    /// Its checksum.
    pub checksum: u32,
    /// Header, body and digest of the transaction.
    pub payload: &'a [u8],
}

impl Record<'_> {
    /// The offset after it.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.offset + self.payload.len() as u64 + RECORD_FRAME_BYTES as u64
    }
}

/// Reads one log file from its first byte, in pieces cut anywhere.
///
/// Copies only the records that span two pieces, and from the first one that is not whole on what
/// is not zero, at most a little more than the longest record.
#[derive(Debug)]
pub struct Scanner {
    /// The offset of the first byte of `pending`.
    offset: u64,
    /// The beginning of what could not be read yet.
    pending: Vec<u8>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Header,
    Records,
    Tail(Tail),
}

/// What stands at the start of some bytes.
enum Next<'a> {
    /// A whole record of this many bytes.
    Record(Record<'a>, usize),
    /// A record needs this many bytes.
    Short(usize),
    /// No record.
    End,
}

impl Scanner {
    /// A scanner at the beginning of a file.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            offset: 0,
            pending: Vec::new(),
            stage: Stage::Header,
        }
    }

    /// Takes the next bytes of the file and hands out every record that is whole with them, in
    /// order.
    ///
    /// # Errors
    /// What `sink` returned; the scanner is of no use then.
    pub fn feed<E>(
        &mut self,
        mut bytes: &[u8],
        sink: &mut impl FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if matches!(self.stage, Stage::Header) {
            bytes = self.feed_header(bytes);
        }
        if matches!(self.stage, Stage::Records) {
            bytes = self.feed_records(bytes, sink)?;
        }
        if let Stage::Tail(tail) = &mut self.stage {
            tail.feed(bytes);
        }
        Ok(())
    }

    /// Says that the file has no more bytes, and returns how it ends.
    #[must_use]
    pub fn finish(self) -> End {
        match self.stage {
            Stage::Header => {
                let started = HEADER.starts_with(&self.pending);
                if started || self.pending.iter().all(|byte| *byte == 0) {
                    End::NoHeader
                } else {
                    bad_magic(&self.pending)
                }
            }
            Stage::Records => {
                let mut tail = Tail::new(self.offset);
                tail.feed(&self.pending);
                tail.classify()
            }
            // A file whose header is missing never held a confirmed record: the header is durable
            // first.
            Stage::Tail(tail) if tail.offset() == 0 => match tail.first_bytes() {
                [] => End::NoHeader,
                found => bad_magic(found),
            },
            Stage::Tail(tail) => tail.classify(),
        }
    }

    /// Takes the file's header from `bytes` and returns the rest.
    fn feed_header<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let rest = self.fill(HEADER.len(), bytes);
        if self.pending.len() < HEADER.len() {
            return rest;
        }
        // Version and database id are not checked, as ZooKeeper does not.
        if self.pending.starts_with(b"ZKLG") {
            self.offset = HEADER.len() as u64;
            self.stage = Stage::Records;
        } else {
            let mut tail = Tail::new(0);
            tail.feed(&self.pending);
            self.stage = Stage::Tail(tail);
        }
        self.pending.clear();
        rest
    }

    /// Hands out the records in `bytes` and returns the rest, which is no record's.
    fn feed_records<'a, E>(
        &mut self,
        mut bytes: &'a [u8],
        sink: &mut impl FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<&'a [u8], E> {
        while !self.pending.is_empty() {
            match next(self.offset, &self.pending) {
                Next::Record(record, length) => {
                    sink(record)?;
                    self.offset += length as u64;
                    self.pending.clear();
                }
                Next::Short(_) if bytes.is_empty() => return Ok(bytes),
                Next::Short(length) => bytes = self.fill(length, bytes),
                Next::End => return Ok(self.begin_tail(bytes)),
            }
        }
        loop {
            match next(self.offset, bytes) {
                Next::Record(record, length) => {
                    sink(record)?;
                    self.offset += length as u64;
                    bytes = bytes.get(length..).unwrap_or_default();
                }
                Next::Short(_) => {
                    self.pending.extend_from_slice(bytes);
                    return Ok(&[]);
                }
                Next::End => return Ok(self.begin_tail(bytes)),
            }
        }
    }

    fn begin_tail<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let mut tail = Tail::new(self.offset);
        tail.feed(&self.pending);
        self.pending = Vec::new();
        self.stage = Stage::Tail(tail);
        bytes
    }

    /// Fills `pending` from `bytes` up to `length`, and returns the rest.
    fn fill<'a>(&mut self, length: usize, bytes: &'a [u8]) -> &'a [u8] {
        let missing = length.saturating_sub(self.pending.len()).min(bytes.len());
        let (taken, rest) = bytes.split_at_checked(missing).unwrap_or((bytes, &[]));
        self.pending.extend_from_slice(taken);
        rest
    }
}

impl Default for Scanner {
    fn default() -> Self {
        Self::new()
    }
}

fn next(offset: u64, bytes: &[u8]) -> Next<'_> {
    let Some((start, _)) = bytes.split_at_checked(RECORD_HEAD_BYTES) else {
        return Next::Short(RECORD_HEAD_BYTES);
    };
    let (stored, length) = head(start);
    let Some(length) = valid_length(length) else {
        return Next::End;
    };
    let whole = length as usize + RECORD_FRAME_BYTES;
    let Some(record) = bytes.get(..whole) else {
        return Next::Short(whole);
    };
    let Some((&TRAILER, framed)) = record.split_last() else {
        return Next::End;
    };
    let payload = framed.get(RECORD_HEAD_BYTES..).unwrap_or_default();
    let checksum = checksum(payload);
    let Some(zxid) = payload_zxid(payload).filter(|_| u64::from(checksum) == stored) else {
        return Next::End;
    };
    let record = Record {
        offset,
        zxid,
        checksum,
        payload,
    };
    Next::Record(record, whole)
}

fn bad_magic(found: &[u8]) -> End {
    let mut magic = [0; 4];
    for (to, from) in magic.iter_mut().zip(found) {
        *to = *from;
    }
    End::Damaged(Damage {
        offset: 0,
        kind: DamageKind::Magic(magic),
    })
}
