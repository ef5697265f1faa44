//! Frames and records that are not what they should be.

use core::time::Duration;

use crate::support::process::Server;
use crate::support::raw::{Raw, handshake};
use crate::support::wire::{Acl, Reader, Writer, flags, op};
use crate::{LITTLE, beside_a_witness};

const CLOSE_TIME_MAX: Duration = Duration::from_secs(10);

const MARSHALLING_ERROR: i32 = -5;
const UNIMPLEMENTED: i32 = -6;
const BAD_ARGUMENTS: i32 = -8;
const NO_NODE: i32 = -101;
const NODE_EXISTS: i32 = -110;
const INVALID_ACL: i32 = -114;
const AUTH_FAILED: i32 = -115;

/// The longest frame that a server takes by default.
const FRAME_BYTES_MAX: i32 = 0xf_ffff;

/// The connection is closed, and the log says why.
fn is_refused(server: &Server, connection: &mut Raw, reason: &str) {
    assert!(
        connection.is_closed_within(CLOSE_TIME_MAX),
        "not closed, expected {reason:?}:\n{}",
        server.log_end()
    );
    server.wait_for_log(reason);
}

/// The request is answered with this code, and the connection goes on.
fn is_answered(connection: &mut Raw, op: i32, body: &Writer, code: i32) {
    connection.request(7, op, body).unwrap();
    let reply = connection.reply().unwrap().expect("an answer");
    assert_eq!((reply.xid, reply.code), (7, code), "{:?}", body.bytes());
    connection.request(8, op::PING, &Writer::default()).unwrap();
    let reply = connection.reply().unwrap().expect("an answer to a ping");
    assert_eq!(reply.code, 0);
}

fn create(path: impl FnOnce(&mut Writer), flags: i32) -> Writer {
    let mut body = Writer::default();
    path(&mut body);
    body.buffer(Some(b"x")).acl(&Acl::open()).int(flags);
    body
}

#[test]
fn first_frames_that_ask_for_no_session_are_refused() {
    beside_a_witness("first-frames", &[], &LITTLE, |server| {
        let first = |bytes: &[u8], reason: &str| {
            let mut connection = Raw::connect(server.address).unwrap();
            connection.send(bytes).unwrap();
            is_refused(server, &mut connection, reason);
        };
        first(&(-1_i32).to_be_bytes(), "first frame has a length of -1");
        first(&i32::MIN.to_be_bytes(), "a length of -2147483648");
        first(&i32::MAX.to_be_bytes(), "a length of 2147483647");
        first(b"GET / HTTP/1.1\r\n\r\n", "a length of 1195725856");
        first(&[0; 4], "its request for a session is cut short");
        first(b"\0\0\0\x02\0\0", "its request for a session is cut short");
        let mut connection = Raw::connect(server.address).unwrap();
        let mut request = Writer::default();
        request.int(0).long(i64::MAX).int(10_000).long(0).int(-1);
        connection.frame(request.bytes()).unwrap();
        is_refused(server, &mut connection, "its client has seen");
    });
}

#[test]
fn odd_passwords_and_timeouts_are_no_harm() {
    beside_a_witness("odd-handshakes", &[], &LITTLE, |server| {
        for length in [-2, 17, i32::MIN, i32::MAX] {
            let mut connection = Raw::connect(server.address).unwrap();
            let mut request = Writer::default();
            request.int(0).long(0).int(10_000).long(0).int(length);
            request.long(0).long(0);
            connection.frame(request.bytes()).unwrap();
            is_refused(server, &mut connection, "cut short");
        }
        for (timeout_ms, password) in [
            (-1, Some(&[][..])),
            (i32::MIN, None),
            (0, Some(&[0; 3])),
            (i32::MAX, Some(&[0xff; 1000])),
        ] {
            let mut connection = Raw::connect(server.address).unwrap();
            let request = handshake(timeout_ms, 0, password);
            connection.frame(request.bytes()).unwrap();
            let answer = connection.frame_back().unwrap().expect("an answer");
            let granted = answer.get(4..8).unwrap().try_into().unwrap();
            let granted = i32::from_be_bytes(granted);
            assert!((4_000..=40_000).contains(&granted), "{granted} ms");
        }
    });
}

#[test]
fn frames_of_a_wrong_length_end_their_connection() {
    beside_a_witness("lengths", &[], &LITTLE, |server| {
        for (length, reason) in [
            (-1, "a frame has a length of -1"),
            (i32::MIN, "a frame has a length of -2147483648"),
            (i32::MAX, "a frame has a length of 2147483647"),
            (FRAME_BYTES_MAX + 1, "a frame has a length of 1048576"),
        ] {
            let mut connection = Raw::open(server.address).unwrap();
            connection.send(&length.to_be_bytes()).unwrap();
            is_refused(server, &mut connection, reason);
        }
        for length in [0, 1, 7] {
            let mut connection = Raw::open(server.address).unwrap();
            connection.frame(&vec![0; length]).unwrap();
            let reason = "a frame is shorter than a request's header";
            is_refused(server, &mut connection, reason);
        }
        // The longest there may be.
        let mut connection = Raw::open(server.address).unwrap();
        let most = usize::try_from(FRAME_BYTES_MAX).unwrap();
        let head = {
            let mut head = Writer::default();
            head.int(7).int(op::CREATE).text("/longest");
            head.bytes().len()
        };
        let mut tail = Writer::default();
        tail.acl(&Acl::open()).int(flags::PERSISTENT);
        let data = vec![1; most - head - 4 - tail.bytes().len()];
        let mut body = Writer::default();
        body.text("/longest").buffer(Some(&data));
        body.acl(&Acl::open()).int(flags::PERSISTENT);
        is_answered(&mut connection, op::CREATE, &body, 0);
        let mut read = Writer::default();
        read.text("/longest").byte(0);
        is_answered(&mut connection, op::GET_DATA, &read, 0);
    });
}

#[test]
fn records_that_are_cut_short_or_of_another_type_are_answered_with_an_error() {
    beside_a_witness("records", &[], &LITTLE, |server| {
        let mut connection = Raw::open(server.address).unwrap();
        let whole = create(|body| _ = body.text("/cut"), flags::PERSISTENT);
        for length in 0..whole.bytes().len() {
            let mut part = Writer::default();
            for &byte in whole.bytes().iter().take(length) {
                part.byte(byte);
            }
            is_answered(&mut connection, op::CREATE, &part, MARSHALLING_ERROR);
        }
        let reads = [
            op::EXISTS,
            op::GET_DATA,
            op::GET_ACL,
            op::GET_CHILDREN2,
            op::SET_WATCHES,
            op::ADD_WATCH,
            op::MULTI_READ,
        ];
        for kind in reads
            .into_iter()
            .chain([op::DELETE, op::SET_DATA, op::SET_ACL])
        {
            for body in [
                &[][..],
                &[0],
                &[0x7f, 0xff, 0xff, 0xff],
                &[0x80, 0, 0, 0],
                &[0, 0, 0, 9, 1],
            ] {
                let mut part = Writer::default();
                body.iter().for_each(|&byte| _ = part.byte(byte));
                is_answered(&mut connection, kind, &part, MARSHALLING_ERROR);
            }
        }
        // Counts that no frame has room for.
        for count in [i32::MAX, 1 << 20] {
            let mut watches = Writer::default();
            watches.long(0).int(count).text("/a");
            is_answered(
                &mut connection,
                op::SET_WATCHES,
                &watches,
                MARSHALLING_ERROR,
            );
            let mut acl = Writer::default();
            acl.text("/a").buffer(None).int(count).int(31);
            is_answered(&mut connection, op::CREATE, &acl, MARSHALLING_ERROR);
        }
        let null = create(|body| _ = body.buffer(None), flags::PERSISTENT);
        is_answered(&mut connection, op::CREATE, &null, MARSHALLING_ERROR);
        for flags in [-1, 7, i32::MAX, i32::MIN] {
            let body = create(|body| _ = body.text("/flags"), flags);
            is_answered(&mut connection, op::CREATE, &body, BAD_ARGUMENTS);
        }
        for acl in [
            &[][..],
            &[Acl::new(31, "", "")],
            &[Acl::new(31, "auth", "")],
        ] {
            let mut body = Writer::default();
            body.text("/acl").buffer(None).acl(acl).int(0);
            is_answered(&mut connection, op::CREATE, &body, INVALID_ACL);
        }
    });
}

#[test]
fn paths_with_what_no_path_has_are_refused() {
    beside_a_witness("paths", &[], &LITTLE, |server| {
        let mut connection = Raw::open(server.address).unwrap();
        for path in [
            &b""[..],
            b"/",
            b"a",
            b"//",
            b"/a/",
            b"//a",
            b"/./a",
            b"/..",
            b"/\xff",
            b"/\xc3\x28",
            b"/\xed\xa0\x80",
            b"/nul\0",
            b"/\x01",
            b"/\x1f",
            b"/\x7f",
            b"/\xf0\x9f\x98\x80",
        ] {
            let body = create(|body| _ = body.buffer(Some(path)), flags::PERSISTENT);
            is_refused_somehow(&mut connection, &body);
        }
        let names = children(&mut connection);
        assert!(
            names
                .iter()
                .all(|name| name == "zookeeper" || name.starts_with("witness")),
            "{names:?}"
        );
        // As long as a frame allows, below a parent that is not there.
        let long = format!("/none/{}", "x".repeat(1_000_000));
        let body = create(|body| _ = body.text(&long), flags::PERSISTENT);
        is_answered(&mut connection, op::CREATE, &body, NO_NODE);
        let many = "/x".repeat(500_000);
        let body = create(|body| _ = body.text(&many), flags::PERSISTENT);
        is_answered(&mut connection, op::CREATE, &body, NO_NODE);
    });
}

/// ZooKeeper looks at some faults of a path before its parent, at others after.
fn is_refused_somehow(connection: &mut Raw, body: &Writer) {
    connection.request(7, op::CREATE, body).unwrap();
    let reply = connection.reply().unwrap().expect("an answer");
    let codes = [BAD_ARGUMENTS, NO_NODE, NODE_EXISTS];
    assert!(
        codes.contains(&reply.code),
        "{}: {:?}",
        reply.code,
        body.bytes()
    );
}

fn children(connection: &mut Raw) -> Vec<String> {
    let mut body = Writer::default();
    body.text("/").byte(0);
    connection.request(9, op::GET_CHILDREN2, &body).unwrap();
    let reply = connection.reply().unwrap().expect("an answer");
    let mut reader = Reader(&reply.body);
    let count = reader.int().unwrap();
    (0..count).map(|_| reader.text().unwrap()).collect()
}

#[test]
fn operations_that_do_not_exist_end_their_connection() {
    beside_a_witness("unknown-operations", &[], &LITTLE, |server| {
        for kind in [-2, 10, 9999, i32::MAX, i32::MIN] {
            let mut connection = Raw::open(server.address).unwrap();
            connection.request(5, kind, &Writer::default()).unwrap();
            let reply = connection.reply().unwrap().expect("an answer");
            assert_eq!((reply.xid, reply.code), (5, UNIMPLEMENTED), "{kind}");
            let reason = "it asked for an operation that does not exist";
            is_refused(server, &mut connection, reason);
        }
    });
}

#[test]
fn garbage_for_auth_ends_its_connection_or_gives_nothing() {
    beside_a_witness("auth", &[], &LITTLE, |server| {
        for (scheme, secret) in [("", &b""[..]), ("kerberos", b"\xff\0"), ("super", b"x:y")] {
            let mut connection = Raw::open(server.address).unwrap();
            let mut body = Writer::default();
            body.int(0).text(scheme).buffer(Some(secret));
            connection.request(-4, op::AUTH, &body).unwrap();
            let reply = connection.reply().unwrap().expect("an answer");
            assert_eq!((reply.xid, reply.code), (-4, AUTH_FAILED), "{scheme}");
            is_refused(server, &mut connection, "a scheme that is not known");
        }
        let mut connection = Raw::open(server.address).unwrap();
        let mut cut = Writer::default();
        cut.int(0).int(100);
        connection.request(-4, op::AUTH, &cut).unwrap();
        is_refused(server, &mut connection, "an auth packet is cut short");
        let mut connection = Raw::open(server.address).unwrap();
        for secret in [
            None,
            Some(&b""[..]),
            Some(b"\xff\xfe:\0"),
            Some(&[b':'; 10_000]),
        ] {
            let mut body = Writer::default();
            body.int(0).text("digest").buffer(secret);
            is_answered(&mut connection, op::AUTH, &body, 0);
        }
    });
}
