//! What is kept of a log that is replayed.

use super::*;
use bytes::Bytes;

use crate::store::recent::Recent;

fn recent_of(txns_min: usize, bytes_max: usize, first: i64) -> (Zxid, Vec<(Zxid, Bytes)>) {
    let mut recent = Recent::new(Recorder::default(), txns_min, bytes_max);
    recent.txn(&payload(1, 50, 0)).unwrap();
    if first > 1 {
        recent.snapshot_begin(Zxid(first - 1));
    }
    for zxid in first.max(2)..=10 {
        let _ = recent.txn(&payload(zxid, 100, 0));
    }
    assert!(
        recent
            .txn(b"123456789012345678901234567890 undecodable")
            .is_err()
    );
    let (inner, base, txns) = recent.finish();
    assert_eq!(inner.txns.last(), Some(&Zxid(10)));
    (base, txns)
}

#[test]
fn the_last_transactions_are_kept_and_more_as_long_as_they_are_small() {
    for (txns_min, bytes_max, first, base) in [
        (3, 0, 1, 7),
        (3, 99, 1, 7),
        (3, 100, 1, 6),
        (3, 250, 1, 5),
        (3, 649, 1, 1),
        (3, 650, 1, 0),
        (20, 0, 1, 0),
        (0, 200, 1, 8),
        (0, 0, 1, 10),
        (20, 0, 5, 4),
        (3, 1000, 5, 4),
        (3, 100, 5, 6),
    ] {
        let (found, txns) = recent_of(txns_min, bytes_max, first);
        assert_eq!(found, Zxid(base), "{txns_min} and {bytes_max} bytes");
        let zxids: Vec<i64> = txns.iter().map(|(zxid, _)| zxid.0).collect();
        assert!(zxids.iter().copied().eq(base + 1..=10), "{zxids:?}");
        for (zxid, txn) in txns {
            assert_eq!(zxid_of(&txn), zxid);
        }
    }
}
