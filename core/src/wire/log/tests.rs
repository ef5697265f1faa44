//! Every way in which a log file can end.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops where its expectation fails"
)]

use alloc::vec;
use alloc::vec::Vec;

use super::*;

/// The zxids of the records in a file, and its end.
fn scan(file: &[u8], piece: usize) -> (Vec<i64>, End) {
    let mut scanner = Scanner::new();
    let mut zxids = Vec::new();
    for piece in file.chunks(piece) {
        let mut take = |record: Record<'_>| {
            zxids.push(record.zxid.0);
            Ok::<(), ()>(())
        };
        scanner.feed(piece, &mut take).unwrap();
    }
    (zxids, scanner.finish())
}

/// A file of records with payloads of these lengths, and the offset after each.
fn file_of(lengths: &[usize]) -> (Vec<u8>, Vec<usize>) {
    let mut file = HEADER.to_vec();
    let mut ends = vec![file.len()];
    for (zxid, length) in (1_i64..).zip(lengths) {
        let mut payload: Vec<u8> = (0..*length)
            .map(|at| (at * 7 + *length).to_le_bytes()[0] | 1)
            .collect();
        payload[12..20].copy_from_slice(&zxid.to_be_bytes());
        frame(&payload, &mut file);
        ends.push(file.len());
    }
    (file, ends)
}

#[test]
fn every_prefix_has_exactly_its_whole_records() {
    let (file, ends) = file_of(&[32, 100, 33, 700, 50]);
    for length in 16..=file.len() {
        let whole = ends.iter().filter(|end| **end <= length).count() - 1;
        let at = ends[whole] as u64;
        for padding in [0, 1, 600] {
            let mut prefix = file[..length].to_vec();
            prefix.resize(length + padding, 0);
            let (zxids, end) = scan(&prefix, 64);
            assert_eq!(zxids.len(), whole, "prefix {length}");
            let rest = &prefix[ends[whole]..];
            match rest.iter().all(|byte| *byte == 0) {
                true => assert_eq!(end, End::Clean { at }, "prefix {length}"),
                false => assert_eq!(end, End::Torn { at }, "prefix {length}"),
            }
        }
    }
}

#[test]
fn a_file_shorter_than_its_header_has_none() {
    for length in 0..16 {
        assert_eq!(scan(&HEADER[..length], 3), (vec![], End::NoHeader));
    }
    assert_eq!(scan(&[0; 5000], 100), (vec![], End::NoHeader));
    for file in [
        &b"ZKSN"[..],
        b"ZKSN\0\0\0\x02\0\0\0\0\0\0\0\0more",
        &[0, 0, 0, 1],
    ] {
        let (_, end) = scan(file, 100);
        assert!(
            matches!(&end, End::Damaged(damage) if damage.offset == 0),
            "{end:?}"
        );
    }
}

#[test]
fn every_flipped_bit_is_damage() {
    let (file, ends) = file_of(&[32, 100, 33, 700, 50]);
    for padding in [0, 3000] {
        for bit in 16 * 8..file.len() * 8 {
            let mut flipped = file.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            flipped.resize(file.len() + padding, 0);
            let whole = ends.iter().filter(|end| **end <= bit / 8).count() - 1;
            let (zxids, end) = scan(&flipped, 500);
            assert_eq!(zxids.len(), whole, "bit {bit}");
            let offset = ends[whole] as u64;
            assert!(
                matches!(&end, End::Damaged(damage) if damage.offset == offset),
                "bit {bit} with {padding} zeros: {end:?}"
            );
        }
    }
}

#[test]
fn a_sector_that_was_not_written_is_a_torn_write() {
    let (file, ends) = file_of(&[32, 2000, 33, 40]);
    for sector in file.len().div_ceil(512) - 5..file.len() / 512 {
        let mut torn = file.clone();
        let start = sector * 512;
        torn[start.max(ends[1])..start + 512].fill(0);
        let (zxids, end) = scan(&torn, 512);
        let at = ends[zxids.len()] as u64;
        assert_eq!(end, End::Torn { at }, "sector {sector}");
        assert!(at < start as u64 + 512, "sector {sector}");
    }
}

#[test]
fn the_few_bytes_of_a_record_in_a_sector_of_older_ones_may_be_what_is_torn() {
    for owned in 1..=12 {
        // 16 bytes of header, 13 of frame: the second record begins `owned` bytes before a sector's
        // end.
        let (file, ends) = file_of(&[512 - 29 - owned, 700]);
        assert_eq!(ends[1] + owned, 512);
        let mut torn = file.clone();
        torn[ends[1]..512].fill(0);
        let (zxids, end) = scan(&torn, 512);
        if torn == file {
            // Nothing but zeros is lost.
            assert_eq!(zxids, [1, 2], "{owned} bytes");
        } else {
            assert_eq!(zxids, [1], "{owned} bytes");
            let at = ends[1] as u64;
            assert_eq!(end, End::Torn { at }, "{owned} bytes");
        }
    }
}

#[test]
fn zeros_that_are_no_sector_are_damage() {
    let (mut file, ends) = file_of(&[32, 2000, 33, 40]);
    file[600..1000].fill(0);
    let (zxids, end) = scan(&file, 512);
    assert_eq!(zxids, [1]);
    assert!(matches!(end, End::Damaged(Damage { offset, .. }) if offset == ends[1] as u64));
}

#[test]
fn a_hole_far_from_the_end_is_damage() {
    let (mut file, ends) = file_of(&[32, 2000, 33, 9 << 20]);
    file[512..1024].fill(0);
    let (zxids, end) = scan(&file, 1 << 20);
    assert_eq!(zxids, [1]);
    assert!(matches!(end, End::Damaged(Damage { offset, .. }) if offset == ends[1] as u64));
}

#[test]
fn data_after_zeros_is_damage() {
    let (mut file, ends) = file_of(&[32, 60]);
    file.resize(file.len() + 200, 0);
    file.push(7);
    let (zxids, end) = scan(&file, 100);
    assert_eq!(zxids, [1, 2]);
    let until = file.len() as u64;
    let kind = DamageKind::DataAfterEnd { until };
    let offset = ends[2] as u64;
    assert_eq!(end, End::Damaged(Damage { offset, kind }));
}

#[test]
#[should_panic(expected = "a transaction of 31 bytes does not fit a log record")]
fn what_could_not_be_read_back_is_not_framed() {
    frame(&[0; 31], &mut Vec::new());
}
