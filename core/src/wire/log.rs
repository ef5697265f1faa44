//! The transaction log's file format: header, framed records, and how a file may end.
//!
//! ```text
//! file    4 "ZKLG" | 4 version 2 | 8 dbid 0 | records | zero padding
//! record  8 Adler-32 of the payload, not negative | 4 length n | n payload | 1 0x42 'B'
//! payload 8 client id | 4 cxid | 8 zxid | 8 time | 4 type | body | digest
//! ```
//!
//! [`Scanner`] reads it; how it tells a write cut short from damage is told in [`tail`].
//! Source: ZooKeeper `FileTxnLog`.

mod scan;
mod tail;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;
use core::fmt;

use crate::ids::Zxid;

pub use scan::{Record, Scanner};

/// What a log file begins with: magic, version 2, database id 0.
pub const HEADER: [u8; 16] = *b"ZKLG\0\0\0\x02\0\0\0\0\0\0\0\0";

/// Bytes of a record's checksum and length, before the payload.
pub const RECORD_HEAD_BYTES: usize = 12;

/// Bytes that a record adds to its payload: checksum, length and the final `B`.
pub const RECORD_FRAME_BYTES: usize = RECORD_HEAD_BYTES + 1;

/// The shortest payload: a transaction's header alone.
pub const PAYLOAD_BYTES_MIN: u32 = 32;

/// The longest payload that is read. Independent of `jute.maxbuffer`, so that lowering that setting
/// never makes a log unreadable.
pub const PAYLOAD_BYTES_MAX: u32 = 256 << 20;

/// How many bytes one write to the log may leave half done when the power fails.
///
/// Beyond this distance from the end of the file everything had been synced. [`crate::store::log`]
/// writes less than this at once.
pub const UNSYNCED_BYTES_MAX: usize = 8 << 20;

/// The byte after each payload.
const TRAILER: u8 = 0x42;

/// Appends the record of `payload` to `out`.
///
/// # Panics
/// The payload is not a transaction's: its length is outside [`PAYLOAD_BYTES_MIN`] and
/// [`PAYLOAD_BYTES_MAX`]. Written, it could not be read back.
pub fn frame(payload: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    assert!(
        (PAYLOAD_BYTES_MIN..=PAYLOAD_BYTES_MAX).contains(&length),
        "a transaction of {length} bytes does not fit a log record"
    );
    out.reserve(payload.len() + RECORD_FRAME_BYTES);
    out.extend_from_slice(&u64::from(checksum(payload)).to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(payload);
    out.push(TRAILER);
}

/// How a log file ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// After a whole record (or the header) at `at`, by end of file or with nothing but zeros.
    Clean {
        /// The offset after the last record.
        at: u64,
    },
    /// A write at `at` was cut short and so was never confirmed; everything before is whole.
    Torn {
        /// The offset after the last whole record.
        at: u64,
    },
    /// The file was created, but not even its header was written: it is empty, short, or all zeros.
    NoHeader,
    /// Something that was once written whole is not there any more.
    Damaged(Damage),
}

/// Damage to a log file: where, what was expected and what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The offset of the record (0: the file's header).
    pub offset: u64,
    /// What is wrong with it.
    pub kind: DamageKind,
}

/// What is wrong with a log file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DamageKind {
    /// The payload is not the one the checksum was made of, or the checksum itself is damaged.
    Checksum {
        /// The stored checksum.
        stored: u64,
        /// That of the payload as it is.
        computed: u32,
    },
    /// After zeros, or after a write cut short, more data follows.
    DataAfterEnd {
        /// The offset after the last byte that is not zero, or a bound below it.
        until: u64,
    },
    /// The length cannot be that of a transaction.
    Length(i32),
    /// The record is whole, but with another length than it says.
    LengthDiffers {
        /// The length it says.
        stored: u32,
        /// The length with which its checksum is right.
        actual: u64,
    },
    /// The file does not begin with `ZKLG`.
    Magic([u8; 4]),
    /// The byte after the payload is not `B`.
    Trailer(u8),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at offset {}: ", self.offset)?;
        match &self.kind {
            DamageKind::Checksum { stored, computed } => write!(
                f,
                "expected a record with checksum 0x{stored:x}, found one with 0x{computed:x}"
            ),
            DamageKind::DataAfterEnd { until } => write!(
                f,
                "expected a record or only zeros, found neither; data goes on until offset {until}"
            ),
            DamageKind::Length(found) => write!(
                f,
                "expected a record length from {PAYLOAD_BYTES_MIN} to {PAYLOAD_BYTES_MAX}, \
                 found {found}"
            ),
            DamageKind::LengthDiffers { stored, actual } => write!(
                f,
                "expected a record of length {stored}, found one whose checksum is right with \
                 length {actual}"
            ),
            DamageKind::Magic(found) => write!(
                f,
                "expected a log file, which begins with 5a4b4c47, found {:08x}",
                u32::from_be_bytes(*found)
            ),
            DamageKind::Trailer(found) => {
                write!(f, "expected 0x42 after the record, found 0x{found:02x}")
            }
        }
    }
}

/// The checksum of a payload.
fn checksum(payload: &[u8]) -> u32 {
    simd_adler32::adler32(&payload)
}

/// The checksum and length at the start of `bytes`, zeros standing for what is missing.
fn head(bytes: &[u8]) -> (u64, i32) {
    let mut head = [0; RECORD_HEAD_BYTES];
    for (to, from) in head.iter_mut().zip(bytes) {
        *to = *from;
    }
    let [a, b, c, d, e, f, g, h, i, j, k, l] = head;
    (
        u64::from_be_bytes([a, b, c, d, e, f, g, h]),
        i32::from_be_bytes([i, j, k, l]),
    )
}

/// The zxid in a payload's header; `None` if the payload is too short to have one.
pub(crate) fn payload_zxid(payload: &[u8]) -> Option<Zxid> {
    let bytes = payload.get(12..20)?;
    Some(Zxid(i64::from_be_bytes(bytes.try_into().ok()?)))
}

/// The payload length, if a record may have it.
fn valid_length(length: i32) -> Option<u32> {
    let length = u32::try_from(length).ok()?;
    (PAYLOAD_BYTES_MIN..=PAYLOAD_BYTES_MAX)
        .contains(&length)
        .then_some(length)
}
