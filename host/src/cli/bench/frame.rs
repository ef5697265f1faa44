//! The few frames of the client protocol that the generator sends, written straight into a buffer.
//!
//! ```text
//! request: length i32 | xid i32 | opcode i32 | body
//! reply:   length i32 | xid i32 | zxid i64 | error i32 | body
//! ```

use core::fmt;
use std::io::Write;

const CLOSE_SESSION: i32 = -11;
const PERMISSIONS_ALL: i32 = 31;

/// A request with its arguments; paths are formatted straight into the buffer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Request<'a> {
    CloseSession,
    Create {
        path: fmt::Arguments<'a>,
        data: &'a [u8],
    },
    Exists {
        path: fmt::Arguments<'a>,
    },
    Get {
        path: fmt::Arguments<'a>,
    },
    Ls {
        path: fmt::Arguments<'a>,
    },
    Set {
        path: fmt::Arguments<'a>,
        data: &'a [u8],
    },
}

impl Request<'_> {
    /// Appends the frame to `out`.
    pub(super) fn encode(self, xid: i32, out: &mut Vec<u8>) {
        framed(out, |out| {
            int(out, xid);
            int(out, self.opcode());
            match self {
                Self::CloseSession => {}
                Self::Create { path, data } => {
                    text(out, path);
                    bytes(out, data);
                    int(out, 1);
                    int(out, PERMISSIONS_ALL);
                    bytes(out, b"world");
                    bytes(out, b"anyone");
                    int(out, 0);
                }
                Self::Exists { path } | Self::Get { path } | Self::Ls { path } => {
                    text(out, path);
                    out.push(0);
                }
                Self::Set { path, data } => {
                    text(out, path);
                    bytes(out, data);
                    int(out, -1);
                }
            }
        });
    }

    /// Source: `org.apache.zookeeper.ZooDefs.OpCode`.
    const fn opcode(self) -> i32 {
        match self {
            Self::CloseSession => CLOSE_SESSION,
            Self::Create { .. } => 1,
            Self::Exists { .. } => 3,
            Self::Get { .. } => 4,
            Self::Ls { .. } => 12,
            Self::Set { .. } => 5,
        }
    }
}

/// Appends the frame that asks for a new session.
pub(super) fn encode_connect(timeout_ms: i32, out: &mut Vec<u8>) {
    framed(out, |out| {
        int(out, 0);
        long(out, 0);
        int(out, timeout_ms);
        long(out, 0);
        bytes(out, &[0; 16]);
        out.push(0);
    });
}

/// The session timeout in the reply to `encode_connect`: 0 or less when no session was granted.
pub(super) fn connect_timeout_ms(body: &[u8]) -> Option<i32> {
    body.get(4..)?
        .first_chunk()
        .copied()
        .map(i32::from_be_bytes)
}

/// The length of the frame that `input` starts with, once its four bytes are there.
pub(super) fn length(input: &[u8]) -> Option<i32> {
    input.first_chunk().copied().map(i32::from_be_bytes)
}

/// The start of every reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReplyHeader {
    pub(super) xid: i32,
    /// 0 when the request was carried out.
    pub(super) error: i32,
}

impl ReplyHeader {
    pub(super) fn decode(body: &[u8]) -> Option<Self> {
        let xid = i32::from_be_bytes(*body.first_chunk()?);
        let error = i32::from_be_bytes(*body.get(12..)?.first_chunk()?);
        Some(Self { xid, error })
    }
}

/// Lets `write` append something and puts its length in front.
fn framed(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    int(out, 0);
    write(out);
    let written = out.len() - start - 4;
    let length = i32::try_from(written).expect("a request is below a few megabytes");
    if let Some(place) = out.get_mut(start..).and_then(<[u8]>::first_chunk_mut) {
        *place = length.to_be_bytes();
    }
}

fn text(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    framed(out, |out| {
        out.write_fmt(text).expect("a vector takes any write")
    });
}

fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    int(
        out,
        i32::try_from(bytes.len()).expect("--size is at most 1,000,000"),
    );
    out.extend_from_slice(bytes);
}

fn int(out: &mut Vec<u8>, value: i32) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn long(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_is_encoded_as_zookeeper_reads_it() {
        let mut out = b"before".to_vec();
        Request::Set {
            path: format_args!("/a/{}", 7),
            data: b"xy",
        }
        .encode(258, &mut out);
        let mut expected = b"before".to_vec();
        expected.extend([0, 0, 0, 26, 0, 0, 1, 2, 0, 0, 0, 5]);
        expected.extend(b"\0\0\0\x04/a/7\0\0\0\x02xy\xff\xff\xff\xff");
        assert_eq!(out, expected);
    }

    #[test]
    fn connect_request_has_the_length_every_server_expects() {
        let mut out = Vec::new();
        encode_connect(30_000, &mut out);
        assert_eq!((length(&out), out.len()), (Some(45), 49));
    }

    #[test]
    fn reply_header_needs_all_its_sixteen_bytes() {
        let body = [0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0x9b];
        assert_eq!(
            ReplyHeader::decode(&body),
            Some(ReplyHeader {
                xid: 9,
                error: -101
            })
        );
        assert_eq!(
            body.split_last()
                .and_then(|(_, short)| ReplyHeader::decode(short)),
            None
        );
    }
}
