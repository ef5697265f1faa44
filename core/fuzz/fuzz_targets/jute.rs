//! Any bytes as any record: nothing panics, and what can be read is written so that it reads the same.
//!
//! The first byte chooses the record, the rest is its encoding.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zabra_core::jute::{Text, append, take, to_vec};
use zabra_core::wire::client::*;
use zabra_core::wire::records::*;
use zabra_core::wire::snapshot::*;
use zabra_core::wire::txn::{self, Txn, TxnDigest, TxnHeader};

/// Reads, writes and reads again. A macro, as a record of another lifetime is another type.
macro_rules! record {
    ($bytes:ident, $record:ty) => {{
        let mut rest = $bytes;
        if let Ok(value) = take::<$record>(&mut rest) {
            let again = to_vec(&value);
            let mut input = &*again;
            assert_eq!(take::<$record>(&mut input).as_ref(), Ok(&value));
            assert!(input.is_empty(), "what was written is read to its end");
        }
    }};
}
fuzz_target!(|data: &[u8]| {
    let Some((kind, bytes)) = data.split_first() else {
        return;
    };
    match kind {
        0 => record!(bytes, ConnectRequest<'_>),
        1 => record!(bytes, ConnectResponse<'_>),
        2 => record!(bytes, RequestHeader),
        3 => record!(bytes, ReplyHeader),
        4 => record!(bytes, CreateRequest<'_>),
        5 => record!(bytes, CreateTtlRequest<'_>),
        6 => record!(bytes, PathVersion<'_>),
        7 => record!(bytes, ReadRequest<'_>),
        8 => record!(bytes, SetDataRequest<'_>),
        9 => record!(bytes, SetAclRequest<'_>),
        10 => record!(bytes, WatchRequest<'_>),
        11 => record!(bytes, AuthPacket<'_>),
        12 => record!(bytes, SetWatches<'_>),
        13 => record!(bytes, PersistentWatches<'_>),
        14 => record!(bytes, MultiHeader),
        15 => record!(bytes, WatcherEvent<'_>),
        16 => record!(bytes, Create2Response<'_>),
        17 => record!(bytes, GetDataResponse<'_>),
        18 => record!(bytes, Vec<ClientInfo<'_>>),
        19 => record!(bytes, Vec<AclText<'_>>),
        20 => record!(bytes, (Vec<Acl>, Stat)),
        21 => record!(bytes, StatPersisted),
        22 => record!(bytes, Vec<SessionRecord>),
        23 => record!(bytes, Vec<AclRecord<'_>>),
        24 => record!(bytes, NodeRecord<'_>),
        25 => record!(bytes, DigestRecord),
        26 => record!(bytes, Vec<Text<'_>>),
        27 => record!(bytes, TxnHeader),
        28 => record!(bytes, TxnDigest),
        _ => transaction(bytes),
    }
});

fn transaction(bytes: &[u8]) {
    let Ok((header, txn, digest)) = txn::decode(bytes) else {
        return;
    };
    let mut again = to_vec(&header);
    txn::append_body(&mut again, &txn);
    if let Some(digest) = &digest {
        append(&mut again, digest);
    }
    // Without a list, what a digest looks like decides how it is read: ambiguous in ZooKeeper too.
    if matches!(txn, Txn::CloseSession { paths: None }) {
        return;
    }
    assert_eq!(txn::decode(&again), Ok((header, txn, digest)));
}
