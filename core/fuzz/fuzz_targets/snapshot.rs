//! Any bytes as a snapshot, then as transactions: nothing panics, and a tree that came of it can be written
//! and read again.
//!
//! ```text
//! input   1 how | 1 chunk length | 2 length of txns | { 2 length | payload } * | snapshot
//! how     1: the snapshot has no end, the harness seals it | 2: with a digest | 4: with a last zxid
//!         8: the digests are compared
//! ```
#![no_main]

use libfuzzer_sys::fuzz_target;
use simd_adler32::Adler32;
use zabra_core::ids::Zxid;
use zabra_core::jute::append;
use zabra_core::store::Restore;
use zabra_core::tree::Loader;
use zabra_core::wire::snapshot::{DigestRecord, END};
use zabra_fuzz::{SEED, assert_sound, read_snapshot, write_snapshot};

const ZXID: Zxid = Zxid(5);

fuzz_target!(|data: &[u8]| {
    let Some((&[how, chunk, high, low], rest)) = data.split_first_chunk() else {
        return;
    };
    let length = usize::from(u16::from_be_bytes([high, low])).min(rest.len());
    let (mut txns, body) = rest.split_at(length);
    let file = if how & 1 == 0 {
        body.to_vec()
    } else {
        sealed(body, how & 2 != 0, how & 4 != 0)
    };
    let mut loader = Loader::new(SEED, how & 8 != 0);
    if read_snapshot(&mut loader, ZXID, &file, usize::from(chunk) + 1).is_err() {
        loader = Loader::new(SEED, how & 8 != 0);
    }
    while let Some((head, rest)) = txns.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*head)).min(rest.len());
        let (payload, rest) = rest.split_at(length);
        let _ = loader.txn(payload);
        txns = rest;
    }
    let (mut tree, _, _) = loader.finish();
    assert_sound(&tree);
    let (zxid, file) = write_snapshot(&mut tree, true, usize::from(chunk) * 8 + 16);
    let mut loader = Loader::new(SEED, true);
    let read = read_snapshot(&mut loader, zxid, &file, usize::from(chunk) * 64 + 1);
    assert_eq!(read, Ok(()), "what was written can be read");
    let (again, _, orphans) = loader.finish();
    assert!(orphans.is_empty(), "orphans were gone before");
    assert_sound(&again);
    assert_eq!(tree.digest(), again.digest());
    assert_eq!(tree.node_count(), again.node_count());
    assert!(tree.sessions().eq(again.sessions()));
});

/// A whole file of everything before the end of the znodes.
fn sealed(body: &[u8], digest: bool, last: bool) -> Vec<u8> {
    let mut file = body.to_vec();
    file.extend_from_slice(&END);
    seal(&mut file);
    if digest {
        // Of a later time, as in a fuzzy snapshot: that of this time is not known here.
        let record = DigestRecord {
            zxid: Zxid(ZXID.0 + 1),
            version: 2,
            digest: 0,
        };
        append(&mut file, &record);
        seal(&mut file);
    }
    if last {
        append(&mut file, &ZXID);
        seal(&mut file);
    }
    file
}

fn seal(file: &mut Vec<u8>) {
    let mut adler = Adler32::new();
    adler.write(file);
    file.extend_from_slice(&u64::from(adler.finish()).to_be_bytes());
    file.extend_from_slice(&END);
}
