//! What servers say to each other before anything else when they authenticate by SASL.
//!
//! ```text
//! magic i64 | status i32 | token buffer
//! ```
//!
//! Source: spec 6.2, `QuorumAuthPacket`, `QuorumAuth`.

use bytes::Bytes;

use crate::jute;

const MAGIC: i64 = 0x5f24_3501_3501_edcc;
const HEAD_BYTES: usize = 16;

/// How far an exchange is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status(pub(crate) i32);

impl Status {
    /// Another packet is expected.
    pub(crate) const IN_PROGRESS: Self = Self(0);
    /// The one that asked is let in.
    pub(crate) const SUCCESS: Self = Self(1);
    /// It is not.
    pub(crate) const ERROR: Self = Self(-1);
}

/// One packet of the exchange.
pub(crate) fn to_bytes(status: Status, token: &[u8]) -> Bytes {
    let mut bytes = jute::to_vec(&(MAGIC, status.0));
    jute::append(&mut bytes, serde_bytes::Bytes::new(token));
    bytes.into()
}

/// What is at the front of what a peer has sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Front {
    /// More must come first.
    More,
    /// It is something else.
    Other,
    /// It is a packet with a token longer than may be.
    TooLong,
    /// A packet, and how many bytes it has; the token is the last so many of them.
    Packet(Status, usize, usize),
}

/// Looks for a packet with a token of at most so many bytes.
pub(crate) fn front(bytes: &[u8], token_bytes_max: usize) -> Front {
    let magic = jute::to_vec(&MAGIC);
    if magic.iter().zip(bytes).any(|(a, b)| a != b) {
        return Front::Other;
    }
    let mut head = bytes;
    let Ok((_, status, length)) = jute::take::<(i64, i32, i32)>(&mut head) else {
        return Front::More;
    };
    // No token is null, which has this length.
    let length = if length == -1 { 0 } else { length };
    match usize::try_from(length) {
        Ok(length) if length > token_bytes_max => Front::TooLong,
        Ok(length) if length > head.len() => Front::More,
        Ok(length) => Front::Packet(Status(status), HEAD_BYTES + length, length),
        Err(_) => Front::TooLong,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of Apache ZooKeeper 3.8.0.
    const FIRST: &[u8] = b"_$5\x015\x01\xed\xcc\0\0\0\0\0\0\0\0";

    #[test]
    fn packets_are_those_of_zookeeper() {
        assert_eq!(to_bytes(Status::IN_PROGRESS, b""), FIRST);
        let last = to_bytes(Status::SUCCESS, b"rspauth=1");
        assert_eq!(
            last,
            &b"_$5\x015\x01\xed\xcc\0\0\0\x01\0\0\0\x09rspauth=1"[..]
        );
        assert_eq!(front(&last, 9), Front::Packet(Status::SUCCESS, 25, 9));
        assert_eq!(front(&last, 8), Front::TooLong);
    }

    #[test]
    fn what_is_no_packet_is_seen_at_its_first_byte() {
        for end in 0..FIRST.len() {
            let part = FIRST.get(..end).unwrap_or_default();
            assert_eq!(front(part, 10), Front::More, "{end}");
        }
        assert_eq!(front(FIRST, 10), Front::Packet(Status(0), 16, 0));
        assert_eq!(front(b"\0\0\0\x0b", 10), Front::Other);
        assert_eq!(front(b"_$6", 10), Front::Other);
        let negative = b"_$5\x015\x01\xed\xcc\0\0\0\0\xff\xff\xff\xfe";
        assert_eq!(front(negative, 10), Front::TooLong);
    }
}
