//! Any bytes as what servers say that look for a leader: nothing panics, however they are cut the same
//! comes out, and what was read is written so that it reads the same.
//!
//! The first byte says how long the pieces are, and whether an initial message comes first.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use zabra_core::wire::election::{Error, Frames, Initial, InitialVersion, Notification};

fuzz_target!(|data: &[u8]| {
    let Some((how, bytes)) = data.split_first() else {
        return;
    };
    let accepted = how & 0x80 != 0;
    let whole = cut(bytes, usize::MAX, accepted);
    let pieces = cut(bytes, usize::from(how & 0x7f) + 1, accepted);
    assert_eq!(pieces, whole);
    for payload in &whole.payloads {
        notification(payload);
    }
    notification(bytes);
    initial(bytes);
});

#[derive(Debug, Default, PartialEq)]
struct Found {
    initial: Option<Initial>,
    payloads: Vec<Bytes>,
    error: Option<Error>,
}

fn cut(bytes: &[u8], piece: usize, accepted: bool) -> Found {
    let (mut frames, mut found) = (Frames::new(), Found::default());
    for part in bytes.chunks(piece) {
        frames.receive(Bytes::copy_from_slice(part));
        if let Err(error) = take(&mut frames, &mut found, accepted) {
            found.error = Some(error);
            break;
        }
    }
    found
}

fn take(frames: &mut Frames, found: &mut Found, accepted: bool) -> Result<(), Error> {
    if accepted && found.initial.is_none() {
        found.initial = frames.next_initial()?;
        if found.initial.is_none() {
            return Ok(());
        }
    }
    while let Some(payload) = frames.next()? {
        found.payloads.push(payload);
    }
    Ok(())
}

fn notification(payload: &[u8]) {
    let Ok(mut notification) = Notification::decode(payload) else {
        return;
    };
    let frame = notification.to_frame();
    let (length, again) = frame.split_at(4);
    assert_eq!(length, u32::try_from(again.len()).unwrap().to_be_bytes());
    // The form without a config has no version either.
    if notification.version <= 1 {
        notification.version = 0;
    }
    assert_eq!(Notification::decode(again), Ok(notification));
}

fn initial(bytes: &[u8]) {
    let Ok(Some((mut initial, length))) = Initial::cut(bytes) else {
        return;
    };
    assert_eq!(
        Initial::cut(&bytes[..length - 1]),
        Ok(None),
        "not before its end"
    );
    assert_eq!(
        Initial::cut(&bytes[..length]),
        Ok(Some((initial.clone(), length)))
    );
    assert!(initial.reachable().count() <= initial.addresses.len());
    let again = initial.to_bytes();
    // The form for one address is read with several, but not written.
    if initial.version == InitialVersion::V1 {
        initial.addresses.truncate(1);
    }
    // Brackets that a host does not need are not written, so it never becomes longer.
    assert!(again.len() <= length);
    assert_eq!(Initial::cut(&again), Ok(Some((initial, again.len()))));
}
