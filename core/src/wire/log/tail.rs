//! What follows the last whole record of a file: nothing, a write cut short, or damage.
//!
//! A write that was never confirmed may be thrown away; one that was confirmed must not. The disk
//! leaves of an interrupted write a prefix (a killed process, most power cuts), or any of its
//! sectors (a power cut while the disk reorders); what is missing reads as zeros or lies after the
//! end of the file. So the first record that is not whole was **torn** if
//!
//! * nothing but zeros follows the part that is there, that part is not a whole record with a wrong
//!   length, and no whole record follows inside what its length claims, or
//! * the end of the data is near, and a whole sector of the record is zeros while data goes on
//!   after it.
//!
//! Everything else is **damage**: a flipped bit anywhere in a record whose last byte was written.
//! One thing is given up: a bit that flips in the last few megabytes of the log within a record
//! which also holds 512 aligned zero bytes looks like a torn write.

use alloc::vec::Vec;

use super::{
    Damage, DamageKind, End, PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MIN, RECORD_FRAME_BYTES,
    RECORD_HEAD_BYTES, TRAILER, UNSYNCED_BYTES_MAX, checksum, head, valid_length,
};

/// The smallest part of a file that a disk writes wholly or not at all.
const SECTOR_BYTES: u64 = 512;

/// How much is kept to judge by: the longest record torn, and a batch after it.
const KEPT_BYTES_MAX: usize = PAYLOAD_BYTES_MAX as usize + UNSYNCED_BYTES_MAX;

/// How many bytes are checksummed in search of a record behind a wrong length.
///
/// A client's data could hold so many beginnings of records that the search never ended.
const SEARCH_BYTES_MAX: usize = 1 << 30;

/// The bytes after the last whole record.
#[derive(Debug)]
pub(super) struct Tail {
    offset: u64,
    /// What there is from `offset` to the last byte that is not zero.
    data: Vec<u8>,
    /// Zeros after `data`.
    zeros: u64,
    /// There was more data than is kept.
    overflow: bool,
}

impl Tail {
    pub(super) const fn new(offset: u64) -> Self {
        Self {
            offset,
            data: Vec::new(),
            zeros: 0,
            overflow: false,
        }
    }

    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// The data from the start, empty if all is zero.
    pub(super) fn first_bytes(&self) -> &[u8] {
        &self.data
    }

    /// Takes the next bytes of the file.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        let Some(last) = last_nonzero(bytes) else {
            self.zeros += bytes.len() as u64;
            return;
        };
        let (data, zeros) = bytes.split_at_checked(last + 1).unwrap_or((bytes, &[]));
        let gap = usize::try_from(self.zeros).unwrap_or(usize::MAX);
        let length = self.data.len().saturating_add(gap);
        self.overflow |= length.saturating_add(data.len()) > KEPT_BYTES_MAX;
        if !self.overflow {
            self.data.resize(length, 0);
            self.data.extend_from_slice(data);
        }
        self.zeros = zeros.len() as u64;
    }

    /// Says what the bytes are, once the file has no more.
    pub(super) fn classify(&self) -> End {
        if self.data.is_empty() && !self.overflow {
            return End::Clean { at: self.offset };
        }
        match self.damage() {
            None => End::Torn { at: self.offset },
            Some(kind) => End::Damaged(Damage {
                offset: self.offset,
                kind,
            }),
        }
    }

    /// The damage, or `None` if a torn write explains what there is.
    fn damage(&self) -> Option<DamageKind> {
        let (stored, length) = head(&self.data);
        let after_end = DamageKind::DataAfterEnd {
            until: self.offset + self.data.len() as u64,
        };
        if self.overflow {
            return Some(after_end);
        }
        if length == 0 {
            let torn = self.data.len() <= RECORD_HEAD_BYTES - 4 && stored <= u64::from(u32::MAX);
            return (!torn && !self.has_hole(RECORD_HEAD_BYTES)).then_some(after_end);
        }
        let Some(length) = valid_length(length) else {
            return Some(DamageKind::Length(length));
        };
        if stored > u64::from(u32::MAX) {
            let payload = self.data.get(RECORD_HEAD_BYTES..).unwrap_or_default();
            let computed = checksum(payload.get(..length as usize).unwrap_or(payload));
            return Some(DamageKind::Checksum { stored, computed });
        }
        let whole = length as usize + RECORD_FRAME_BYTES;
        let Some((trailer, framed)) = self.data.get(..whole).and_then(<[u8]>::split_last) else {
            return self
                .damage_of_length(stored, length)
                .or_else(|| self.holds_record().then_some(after_end));
        };
        if self.has_hole(whole) {
            return None;
        }
        Some(if *trailer == TRAILER {
            let computed = checksum(framed.get(RECORD_HEAD_BYTES..).unwrap_or_default());
            DamageKind::Checksum { stored, computed }
        } else {
            DamageKind::Trailer(*trailer)
        })
    }

    /// The record ends before its length says, but it is whole: the length is what is damaged.
    fn damage_of_length(&self, stored: u64, length: u32) -> Option<DamageKind> {
        let (&TRAILER, framed) = self.data.split_last()? else {
            return None;
        };
        let payload = framed.get(RECORD_HEAD_BYTES..)?;
        let whole =
            payload.len() >= PAYLOAD_BYTES_MIN as usize && u64::from(checksum(payload)) == stored;
        whole.then_some(DamageKind::LengthDiffers {
            stored: length,
            actual: payload.len() as u64,
        })
    }

    /// Whether a whole record stands inside what the length claims: then the length is damaged, for
    /// what follows a torn record was never written whole.
    fn holds_record(&self) -> bool {
        let mut budget = SEARCH_BYTES_MAX;
        let ends = self.data.iter().enumerate().skip(RECORD_HEAD_BYTES);
        ends.filter(|(_, byte)| **byte == TRAILER)
            .filter_map(|(at, _)| self.data.get(at + 1..))
            .any(|rest| {
                let (stored, length) = head(rest);
                let Some(length) = valid_length(length) else {
                    return false;
                };
                let whole = length as usize + RECORD_FRAME_BYTES;
                let Some((&TRAILER, framed)) = rest.get(..whole).and_then(<[u8]>::split_last)
                else {
                    return false;
                };
                let payload = framed.get(RECORD_HEAD_BYTES..).unwrap_or_default();
                let affordable = budget.checked_sub(payload.len());
                budget = affordable.unwrap_or(0);
                affordable.is_some() && u64::from(checksum(payload)) == stored
            })
    }

    /// Whether a sector of the record's `whole` bytes was never written, though bytes after it
    /// were.
    fn has_hole(&self, whole: usize) -> bool {
        if self.data.len() > UNSYNCED_BYTES_MAX {
            return false;
        }
        let record_end = self.offset + whole as u64;
        let mut start = self.offset;
        while start < record_end {
            let end = (start / SECTOR_BYTES + 1) * SECTOR_BYTES;
            if self.sector_is_missing(start, end) {
                return true;
            }
            start = end;
        }
        false
    }

    /// Whether the file's bytes from `start` to `end` are zeros in a way no whole record has them.
    fn sector_is_missing(&self, start: u64, end: u64) -> bool {
        let at = |offset: u64| usize::try_from(offset - self.offset).unwrap_or(usize::MAX);
        let Some(sector) = self.data.get(at(start)..at(end)) else {
            return false;
        };
        // A record's first four bytes are always zero, the four of its checksum hardly ever: of the
        // sector in which it begins it may own so few that some of them are all that tells.
        let telling = start > self.offset || sector.len() > 4;
        telling && last_nonzero(sector).is_none()
    }
}

/// The index of the last byte that is not zero.
fn last_nonzero(bytes: &[u8]) -> Option<usize> {
    // Whole words first: padding is tens of megabytes of zeros, this makes them cheap.
    let (words, rest) = bytes.as_chunks::<64>();
    if let Some(at) = rest.iter().rposition(|byte| *byte != 0) {
        return Some(words.len() * 64 + at);
    }
    let word = words.iter().rposition(|word| *word != [0; 64])?;
    let at = words.get(word)?.iter().rposition(|byte| *byte != 0)?;
    Some(word * 64 + at)
}
