//! Any bytes as a log file: nothing panics, however they are cut the same records come out, and framed
//! again these are the bytes that they were read from.
//!
//! The first byte says how long the pieces are, and whether checksums are put right first.
#![no_main]

use core::convert::Infallible;

use libfuzzer_sys::fuzz_target;
use simd_adler32::adler32;
use zabra_core::wire::log::{End, HEADER, RECORD_HEAD_BYTES, Record, Scanner, frame};

type Records = Vec<(u64, Vec<u8>)>;

fuzz_target!(|data: &[u8]| {
    let Some((how, bytes)) = data.split_first() else {
        return;
    };
    let mut file = bytes.to_vec();
    if how & 0x80 != 0 {
        put_checksums_right(&mut file);
    }
    let (records, end) = scan(&file, usize::from(how & 0x7f) + 1);
    assert_eq!(
        (&records, &end),
        (&scan(&file, usize::MAX).0, &scan(&file, usize::MAX).1)
    );
    let mut again = Vec::new();
    if let Some(header) = file.get(..HEADER.len()) {
        again.extend_from_slice(header);
    }
    for (offset, payload) in &records {
        assert_eq!(*offset, again.len() as u64, "records follow each other");
        frame(payload, &mut again);
    }
    if records.is_empty() {
        return;
    }
    assert_eq!(
        file.get(..again.len()),
        Some(&*again),
        "a prefix of the file"
    );
    let at = match end {
        End::Clean { at } | End::Torn { at } => at,
        End::Damaged(damage) => damage.offset,
        End::NoHeader => panic!("a file with records has a header"),
    };
    assert_eq!(
        at,
        again.len() as u64,
        "it ends after the last whole record"
    );
    // What recovery leaves of a torn file is a clean one with the same records.
    file.truncate(again.len());
    assert_eq!(scan(&file, 4096), (records, End::Clean { at }));
});

fn scan(file: &[u8], piece: usize) -> (Records, End) {
    let mut scanner = Scanner::new();
    let mut records = Vec::new();
    for bytes in file.chunks(piece) {
        let mut sink = |record: Record<'_>| {
            assert_eq!(
                record.end(),
                record.offset + record.payload.len() as u64 + 13
            );
            records.push((record.offset, record.payload.to_vec()));
            Ok::<(), Infallible>(())
        };
        let Ok(()) = scanner.feed(bytes, &mut sink);
    }
    (records, scanner.finish())
}

/// A fuzzer does not guess checksums: walks the records by their lengths.
fn put_checksums_right(file: &mut [u8]) {
    let mut at = HEADER.len();
    while let Some(head) = file.get(at..at + RECORD_HEAD_BYTES) {
        let length = u32::from_be_bytes([head[8], head[9], head[10], head[11]]) as usize;
        let start = at + RECORD_HEAD_BYTES;
        let Some(payload) = file.get(start..start.saturating_add(length)) else {
            return;
        };
        let sum = u64::from(adler32(&payload)).to_be_bytes();
        file[at..at + 8].copy_from_slice(&sum);
        at = start + length + 1;
    }
}
