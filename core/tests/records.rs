//! Records whose form leaves room for doubt.
#![expect(
    clippy::unwrap_used,
    reason = "a test stops where its expectation fails"
)]

use zabra_core::ids::{SessionId, UnixMillis, Xid, Zxid};
use zabra_core::jute::{Error, Text, append, take, to_vec};
use zabra_core::wire::client::OpCode;
use zabra_core::wire::txn::{CreateKind, DIGEST_VERSION, Txn, TxnDigest, TxnHeader, decode};

#[test]
fn a_null_differs_from_nothing_and_from_what_has_no_length() {
    let text = |length: i32| {
        let bytes = to_vec(&length);
        take::<Text<'_>>(&mut &*bytes).map(|text| text.0.map(String::from))
    };
    assert_eq!(text(-1), Ok(None));
    assert_eq!(text(0), Ok(Some(String::new())));
    assert_eq!(text(-2), Err(Error::Length(-2)));
    assert_eq!(text(1), Err(Error::End));
}

#[test]
fn a_vector_of_fewer_than_none_is_empty() {
    for count in [-1, -2, 0, i32::MIN] {
        let bytes = to_vec(&count);
        assert_eq!(take::<Vec<i32>>(&mut &*bytes), Ok(Vec::new()));
    }
}

#[test]
fn any_byte_but_zero_is_true() {
    let mut bytes = &[0_u8, 1, 2, 255][..];
    let read = [(); 4].map(|()| take::<bool>(&mut bytes).unwrap());
    assert_eq!(read, [false, true, true, true]);
}

#[test]
fn the_oldest_creates_do_not_count_the_parents_children() {
    let header = TxnHeader {
        client: SessionId(1),
        cxid: Xid(2),
        zxid: Zxid(3),
        time: UnixMillis(4),
        op: OpCode::CREATE,
    };
    for parent_cversion in [None, Some(7)] {
        let mut bytes = to_vec(&header);
        append(&mut bytes, &("/a", -1, 0, true));
        if let Some(count) = parent_cversion {
            append(&mut bytes, &count);
        }
        let expected = Txn::Create {
            path: "/a".into(),
            data: None,
            acl: Vec::new(),
            kind: CreateKind::Ephemeral,
            parent_cversion: parent_cversion.unwrap_or(-1),
        };
        assert_eq!(decode(&bytes), Ok((header, expected, None)));
    }
}

#[test]
fn the_end_of_a_session_may_have_a_list_a_digest_both_or_neither() {
    let header = TxnHeader {
        client: SessionId(1),
        cxid: Xid(2),
        zxid: Zxid(3),
        time: UnixMillis(4),
        op: OpCode::CLOSE_SESSION,
    };
    let digest = TxnDigest {
        version: DIGEST_VERSION,
        digest: 0x0102_0304_0506,
    };
    let paths: Vec<Text<'_>> = vec!["/a".into(), "/b".into()];
    for (has_list, has_digest) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut bytes = to_vec(&header);
        if has_list {
            append(&mut bytes, &paths);
        }
        if has_digest {
            append(&mut bytes, &digest);
        }
        let expected = Txn::CloseSession {
            paths: has_list.then(|| paths.clone()),
        };
        assert_eq!(
            decode(&bytes),
            Ok((header, expected, has_digest.then_some(digest))),
            "list {has_list}, digest {has_digest}"
        );
    }
    let mut bytes = to_vec(&header);
    append(&mut bytes, &paths);
    bytes.extend_from_slice(&[0; 13]);
    assert!(decode(&bytes).is_err(), "13 bytes are no digest");
}
