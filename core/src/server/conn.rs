//! One client's connection: its frames, who it is, and what it still has to be told.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::SocketAddr;

use bytes::Bytes;
use serde::Serialize;

use super::auth::address_id;
use super::four_letter::Word;
use super::io::Summary;
use crate::error::ErrorCode;
use crate::ids::{Instant, SessionId, UnixMillis, Xid, Zxid};
use crate::jute;
use crate::sasl;
use crate::wire::client::{OpCode, ReplyHeader, error_field};
use crate::wire::records::Id;

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its first bytes are awaited: a four-letter word, or the request for a session.
    Handshake,
    /// Its session is being created; what it sends meanwhile waits.
    Opening,
    /// It has a session.
    Open,
    /// It was told to close; what it still sends is thrown away.
    Closing,
}

/// What a connection waits for, in the order of its requests.
#[derive(Clone, Debug)]
pub(super) enum Pending {
    /// A request that is refused, but not before its turn.
    Refused { xid: Xid, error: ErrorCode },
    /// A request whose turn has not come: an earlier write of this session, or for a `sync`
    /// anybody's write up to `after`, is not applied.
    Waiting {
        frame: Bytes,
        after: Zxid,
        since: Instant,
        /// Whether its answer may be long: what came after it is not looked at, for what waits
        /// before a write of its own connection must be answered however slow the client
        /// is.
        long: bool,
    },
    /// A write that was proposed.
    Write {
        /// Unknown to a learner: its leader numbers it.
        zxid: Option<Zxid>,
        xid: Xid,
        op: OpCode,
        since: Instant,
        /// Of a multi in an ensemble that creates by `create2`: see `prep::portable`.
        asked: Option<Box<[OpCode]>>,
        /// The request's body, if it is to be audited.
        audited: Option<Bytes>,
    },
}

/// A connection.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) peer: SocketAddr,
    pub(super) stage: Stage,
    pub(super) opened: Instant,
    /// When it was opened by the wall clock, for `cons`.
    pub(super) established: UnixMillis,
    /// When it asked for its session.
    pub(super) asked_session: Instant,
    pub(super) session: SessionId,
    pub(super) timeout_ms: u32,
    /// Whether its session is only this server's.
    pub(super) local: bool,
    /// Whether it may only read: there is no leader.
    pub(super) read_only: bool,
    /// Whether its handshake had the byte that the answer then has too.
    pub(super) read_only_byte: bool,
    pub(super) ids: Vec<Id>,
    pub(super) sasl: sasl::Server,
    /// Whether it has shown all that it must before its requests are looked at.
    pub(super) admitted: bool,
    pub(super) pending: VecDeque<Pending>,
    /// How many of `pending` are waiting.
    pub(super) waiting: usize,
    /// How many of those may have long answers.
    pub(super) waiting_long: usize,
    /// How many of `pending` are writes.
    pub(super) writes: usize,
    /// Frames that came and were not looked at.
    pub(super) input: Bytes,
    /// The beginning of a frame whose end has not come.
    partial: Vec<u8>,
    /// What goes out at the end of this step.
    pub(super) out: Vec<u8>,
    /// What the driver was given and has not got rid of.
    pub(super) unflushed: usize,
    /// Whether the driver was told not to read.
    pub(super) paused: bool,
    /// Signs of life before this change nothing: see `Tracker::touch`.
    pub(super) quiet_until: Instant,
    /// The word whose answer waits for the host's facts.
    pub(super) asked: Option<Word>,
    pub(super) stats: ConnStats,
}

/// What `cons` tells about a connection.
#[derive(Clone, Debug)]
pub(super) struct ConnStats {
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) last_op: OpCode,
    /// Of the last request that had a number of its client's own: pings do not.
    pub(super) last_cxid: Option<i32>,
    pub(super) last_zxid: Zxid,
    pub(super) last_response: Instant,
    pub(super) last_latency_ms: u64,
    pub(super) latency_ms: Summary,
}

impl ConnStats {
    pub(super) fn new() -> Self {
        Self {
            received: 0,
            sent: 0,
            last_op: OpCode(0),
            last_cxid: None,
            last_zxid: Zxid::ZERO,
            last_response: Instant::default(),
            last_latency_ms: 0,
            latency_ms: Summary::default(),
        }
    }

    /// What the word `crst` leaves.
    pub(super) fn reset() -> Self {
        Self {
            last_zxid: Zxid(-1),
            ..Self::new()
        }
    }
}

/// What cutting the next frame came to.
#[derive(Debug)]
pub(super) enum Cut {
    /// A whole frame, without its length.
    Frame(Bytes),
    /// More bytes must come first.
    More,
    /// No frame has such a length.
    Bad(i32),
}

impl Conn {
    pub(super) fn new(peer: SocketAddr, opened: Instant, established: UnixMillis) -> Self {
        Self {
            peer,
            stage: Stage::Handshake,
            opened,
            established,
            asked_session: opened,
            session: SessionId::NONE,
            timeout_ms: 0,
            local: false,
            read_only: false,
            read_only_byte: false,
            ids: alloc::vec![address_id(peer.ip())],
            sasl: sasl::Server::default(),
            admitted: false,
            pending: VecDeque::new(),
            waiting: 0,
            waiting_long: 0,
            writes: 0,
            input: Bytes::new(),
            partial: Vec::new(),
            out: Vec::new(),
            unflushed: 0,
            paused: false,
            quiet_until: Instant::default(),
            asked: None,
            stats: ConnStats::new(),
        }
    }

    /// Takes in what arrived, after what is there.
    pub(super) fn receive(&mut self, bytes: Bytes) {
        if self.input.is_empty() && self.partial.is_empty() {
            self.input = bytes;
            return;
        }
        if self.partial.is_empty() {
            self.partial = core::mem::take(&mut self.input).to_vec();
        }
        self.partial.extend_from_slice(&bytes);
    }

    /// The first four bytes, if they came.
    pub(super) fn first_word(&mut self) -> Option<[u8; 4]> {
        self.gather();
        self.input.first_chunk().copied()
    }

    fn gather(&mut self) {
        if !self.partial.is_empty() {
            let mut all = core::mem::take(&mut self.input).to_vec();
            all.append(&mut self.partial);
            self.input = Bytes::from(all);
        }
    }

    /// Cuts the next frame.
    pub(super) fn cut(&mut self, bytes_max: u32) -> Cut {
        if !self.partial.is_empty() {
            // Only when a frame is whole are the pieces made one: a long frame that comes byte by
            // byte is not copied each time.
            match frame_length(&self.partial, bytes_max) {
                Ok(Some(length)) if self.partial.len() >= length => self.gather(),
                Ok(_) => return Cut::More,
                Err(length) => return Cut::Bad(length),
            }
        }
        match frame_length(&self.input, bytes_max) {
            Ok(Some(length)) if self.input.len() >= length => {
                let mut frame = self.input.split_to(length);
                Cut::Frame(frame.split_off(4))
            }
            Ok(_) => {
                self.partial = core::mem::take(&mut self.input).to_vec();
                Cut::More
            }
            Err(length) => Cut::Bad(length),
        }
    }

    /// Whether bytes came that were not looked at.
    pub(super) fn has_input(&self) -> bool {
        !self.input.is_empty() || !self.partial.is_empty()
    }

    /// Bytes held for this connection in all.
    pub(super) fn held_out(&self) -> usize {
        self.out.len() + self.unflushed
    }

    /// Appends one frame, whose content `write` appends.
    pub(super) fn frame(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.out.len();
        self.out.extend_from_slice(&[0; 4]);
        write(&mut self.out);
        let length = self.out.len() - start - 4;
        let length = u32::try_from(length).expect("a reply is shorter than 2^32 bytes");
        if let Some(place) = self.out.get_mut(start..start + 4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
        self.stats.sent += 1;
    }

    /// Appends a reply.
    pub(super) fn reply(
        &mut self,
        xid: Xid,
        zxid: Zxid,
        error: Option<ErrorCode>,
        body: impl FnOnce(&mut Vec<u8>),
    ) {
        self.frame(|out| {
            jute::append(
                out,
                &ReplyHeader {
                    xid,
                    zxid,
                    error: error_field(error),
                },
            );
            if error.is_none() {
                body(out);
            }
        });
    }

    /// Appends a reply whose body is one record.
    pub(super) fn answer<T: Serialize>(&mut self, xid: Xid, zxid: Zxid, record: &T) {
        self.reply(xid, zxid, None, |out| jute::append(out, record));
    }
}

/// The length of the frame at the front with its own length field, if that came.
fn frame_length(bytes: &[u8], bytes_max: u32) -> Result<Option<usize>, i32> {
    let Some(head) = bytes.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = i32::from_be_bytes(*head);
    match u32::try_from(length) {
        Ok(content) if content <= bytes_max => Ok(Some(content as usize + 4)),
        _ => Err(length),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn() -> Conn {
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        Conn::new(peer, Instant(0), UnixMillis(0))
    }

    fn frames(conn: &mut Conn) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        while let Cut::Frame(frame) = conn.cut(100) {
            frames.push(frame.to_vec());
        }
        frames
    }

    #[test]
    fn frames_are_cut_however_their_bytes_arrive() {
        let bytes = b"\0\0\0\x01a\0\0\0\0\0\0\0\x03bcd\0\0\0\x02e";
        for size in 1..=bytes.len() {
            let mut conn = conn();
            let mut all = Vec::new();
            for piece in bytes.chunks(size) {
                conn.receive(Bytes::copy_from_slice(piece));
                all.extend(frames(&mut conn));
            }
            assert_eq!(all, [&b"a"[..], b"", b"bcd"], "in pieces of {size}");
            conn.receive(Bytes::from_static(b"f"));
            assert_eq!(frames(&mut conn), [b"ef"]);
            assert!(!conn.has_input());
        }
    }

    #[test]
    fn a_bad_length_is_seen_before_its_frame_comes() {
        for (bytes, bad) in [(*b"\0\0\0\x65", 101), (*b"\xff\xff\xff\xff", -1)] {
            let mut conn = conn();
            conn.receive(Bytes::copy_from_slice(&bytes));
            assert!(matches!(conn.cut(100), Cut::Bad(length) if length == bad));
        }
        let mut conn = conn();
        conn.receive(Bytes::from_static(b"\0\0\0\x64"));
        assert!(matches!(conn.cut(100), Cut::More));
    }
}
