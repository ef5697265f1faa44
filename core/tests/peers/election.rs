//! Initial messages and notifications.

use std::collections::BTreeMap;

use bytes::Bytes;
use zabra_core::ids::{ServerId, Zxid};
use zabra_core::wire::election::{
    ADDRESSES_BYTES_MAX, Error, FRAME_BYTES_MAX, Frames, Initial, InitialVersion, Notification,
    State, VERSION,
};

use super::captured::{CAPTURES, captured, counts, messages};
use super::hex;

#[test]
fn captured_elections_are_read_and_written_again() {
    let expected = [
        "INIT 18 NOTIF 44 LOOKING 28",
        "INIT 4 NOTIF 9 LOOKING 9",
        "INIT 10 NOTIF 25 LOOKING 14",
        "INIT 13 NOTIF 48 LOOKING 33",
        "INIT 8 NOTIF 26 LOOKING 17",
    ];
    for (name, expected) in CAPTURES.iter().zip(expected) {
        let mut found = BTreeMap::<String, usize>::new();
        for stream in captured(name).iter().filter(|stream| stream.port == 'E') {
            let (initial, notifications) = messages(stream, usize::MAX);
            let mut written = Vec::new();
            if let Some(initial) = &initial {
                written.extend_from_slice(&initial.to_bytes());
                *found.entry("INIT".into()).or_default() += 1;
            }
            for notification in &notifications {
                written.extend_from_slice(&notification.to_frame());
                *found.entry("NOTIF".into()).or_default() += 1;
                if notification.state == State::LOOKING {
                    *found.entry("LOOKING".into()).or_default() += 1;
                }
            }
            assert_eq!(written, stream.bytes, "{name}");
            for chunk in [1, 2, 3, 5, 7, 11, 16, 17, 100, 1000] {
                let cut = messages(stream, chunk);
                assert_eq!(cut, (initial.clone(), notifications.clone()), "by {chunk}");
            }
        }
        assert_eq!(found, counts(expected), "{name}");
    }
}

fn initial(version: InitialVersion, server: i64, addresses: &[(&str, u16)]) -> Initial {
    Initial {
        version,
        server: ServerId(server),
        addresses: addresses
            .iter()
            .map(|(host, port)| ((*host).into(), *port))
            .collect(),
    }
}

#[test]
fn initial_messages_are_as_in_the_transcript() {
    for (bytes, message) in [
        (
            "ffffffffffff0000 0000000000000003 0000000f 3132372e302e302e313a3233383833",
            initial(InitialVersion::V1, 3, &[("127.0.0.1", 23883)]),
        ),
        (
            "ffffffffffff0001 0000000000000002 0000001f
             3132372e302e302e313a32333839327c3132372e302e302e323a3233383932",
            initial(
                InitialVersion::V2,
                2,
                &[("127.0.0.1", 23892), ("127.0.0.2", 23892)],
            ),
        ),
        ("0000000000000003", initial(InitialVersion::Bare, 3, &[])),
    ] {
        let mut bytes = hex(bytes);
        assert_eq!(message.to_bytes(), bytes);
        for length in 0..bytes.len() {
            assert_eq!(Initial::cut(&bytes[..length]), Ok(None));
        }
        let length = bytes.len();
        bytes.extend_from_slice(b"a frame");
        assert_eq!(Initial::cut(&bytes), Ok(Some((message, length))));
    }
}

#[test]
fn only_the_newer_form_has_many_addresses() {
    let addresses = [("one", 1), ("two", 2)];
    for (version, count) in [
        (InitialVersion::Bare, 0),
        (InitialVersion::V1, 1),
        (InitialVersion::V2, 2),
    ] {
        let bytes = initial(version, 3, &addresses).to_bytes();
        let expected = initial(version, 3, &addresses[..count]);
        assert_eq!(Initial::cut(&bytes), Ok(Some((expected, bytes.len()))));
    }
}

#[test]
fn colons_of_a_host_are_in_brackets() {
    let message = initial(InitialVersion::V1, 3, &[("2001:db8::1", 3888)]);
    let bytes = message.to_bytes();
    assert_eq!(&bytes[20..], b"[2001:db8::1]:3888");
    assert_eq!(Initial::cut(&bytes), Ok(Some((message, bytes.len()))));
}

fn with_addresses(length: i32, text: &[u8]) -> Vec<u8> {
    let head = hex("ffffffffffff0001 0000000000000002");
    [&head[..], &length.to_be_bytes(), text].concat()
}

#[test]
fn addresses_of_another_form_are_refused() {
    for text in [
        "a", "a:", ":1", "a:b", "a:65536", "a:-1", "::1:2", "[::1]", "[::1]2", "[]:1", "[::1:2",
        "[[a]:1", "a]:1", "a:1|", "|a:1", "a:1||b:2",
    ] {
        let bytes = with_addresses(text.len() as i32, text.as_bytes());
        let Err(Error::Address(found)) = Initial::cut(&bytes) else {
            panic!("{text:?} was read");
        };
        assert!(text.contains(&found), "{found:?} is a part of {text:?}");
    }
    let bytes = with_addresses(4, b"\xff\xff:1");
    assert_eq!(Initial::cut(&bytes), Err(Error::Utf8));
}

#[test]
fn addresses_of_no_possible_length_are_refused_before_they_come() {
    for length in [0, -1, i32::MIN, ADDRESSES_BYTES_MAX as i32 + 1, i32::MAX] {
        let refused = Initial::cut(&with_addresses(length, b""));
        assert_eq!(refused, Err(Error::Addresses(length)));
    }
    let longest = with_addresses(ADDRESSES_BYTES_MAX as i32, b"");
    assert_eq!(Initial::cut(&longest), Ok(None));
}

#[test]
fn an_initial_message_of_an_unknown_version_is_refused() {
    for version in [-1, -65534, -65537, i64::MIN] {
        let refused = Initial::cut(&version.to_be_bytes());
        assert_eq!(refused, Err(Error::Protocol(version)));
    }
}

#[test]
fn wildcards_lead_nowhere() {
    let addresses = [("0.0.0.0", 1), ("::", 2), ("0:0::0", 3), ("a", 4)];
    let message = initial(InitialVersion::V2, 3, &addresses);
    let reachable: Vec<_> = message.reachable().collect();
    assert_eq!(reachable, [&(String::from("a"), 4)]);
}

fn notification() -> Notification {
    Notification {
        state: State::LEADING,
        leader: ServerId(3),
        zxid: Zxid(0x2_0000_0005),
        round: 7,
        peer_epoch: 9,
        version: VERSION,
        config: Some("server.1=é:1:2:participant\nversion=0".into()),
    }
}

#[test]
fn a_notification_is_as_in_the_transcript() {
    let config = "version=0";
    let notification = Notification {
        state: State::LOOKING,
        zxid: Zxid(0),
        round: 1,
        peer_epoch: 0,
        config: Some(config.into()),
        ..notification()
    };
    let mut frame = hex(
        "00000035 00000000 0000000000000003 0000000000000000 0000000000000001 \
         0000000000000000 00000002 00000009",
    );
    frame.extend_from_slice(config.as_bytes());
    assert_eq!(notification.to_frame(), frame);
    assert_eq!(Notification::decode(&frame[4..]), Ok(notification));
}

#[test]
fn older_notifications_say_less() {
    let payload = notification().to_frame().slice(4..);
    let without_config = Notification {
        version: 0,
        config: None,
        ..notification()
    };
    let oldest = Notification {
        peer_epoch: 2,
        ..without_config.clone()
    };
    assert_eq!(Notification::decode(&payload[..28]), Ok(oldest));
    // The last four bytes are not read.
    assert_eq!(
        Notification::decode(&payload[..40]),
        Ok(without_config.clone())
    );
    assert_eq!(without_config.to_frame().len(), 4 + 40);
}

#[test]
fn a_notification_cut_short_is_refused() {
    let payload = notification().to_frame().slice(4..);
    for length in (0..payload.len()).filter(|length| ![28, 40].contains(length)) {
        let error = match length {
            44.. => Error::Config(payload.len() as i32 - 44),
            _ => Error::Notification(length),
        };
        assert_eq!(Notification::decode(&payload[..length]), Err(error));
    }
    let longer = [&payload[..], b"more"].concat();
    assert_eq!(Notification::decode(&longer), Ok(notification()));
}

#[test]
fn a_notification_with_an_impossible_config_is_refused() {
    for length in [-1, i32::MIN, i32::MAX] {
        let mut payload = notification().to_frame()[4..].to_vec();
        payload[40..44].copy_from_slice(&length.to_be_bytes());
        let refused = Notification::decode(&payload);
        assert_eq!(refused, Err(Error::Config(length)));
    }
}

#[test]
fn a_notification_of_an_unknown_state_is_refused() {
    for state in [-1, 4, i32::MAX].map(State) {
        let frame = Notification {
            state,
            ..notification()
        };
        let refused = Notification::decode(&frame.to_frame()[4..]);
        assert_eq!(refused, Err(Error::State(state)));
    }
}

#[test]
fn a_frame_of_no_possible_length_is_refused_before_it_comes() {
    for length in [0, -1, i32::MIN, FRAME_BYTES_MAX as i32 + 1, i32::MAX] {
        let mut frames = Frames::new();
        frames.receive(Bytes::copy_from_slice(&length.to_be_bytes()));
        assert_eq!(frames.next(), Err(Error::Frame(length)));
        // Nothing after it is taken for a frame.
        frames.receive(notification().to_frame());
        assert_eq!(frames.next(), Err(Error::Frame(length)));
    }
    let mut frames = Frames::new();
    let longest = [&(FRAME_BYTES_MAX as i32).to_be_bytes()[..], &[0; 524_288]].concat();
    frames.receive(longest.into());
    assert_eq!(frames.next().unwrap().unwrap().len(), FRAME_BYTES_MAX);
}

#[test]
fn an_error_says_what_was_expected_and_what_was_found() {
    for (error, text) in [
        (
            Error::Frame(0),
            "expected a frame of 1 to 524288 bytes, found a length of 0",
        ),
        (
            Error::Address("a".into()),
            "expected host:port, found \"a\"",
        ),
        (
            Error::Protocol(-1),
            "expected a server's id or the version -65536 or -65535, found -1",
        ),
    ] {
        assert_eq!(error.to_string(), text);
    }
}
