//! Reads along on connections between servers: what is in a stream cut anywhere.
//!
//! Written from the protocol, not from the core: jute, packets without frames, and a snapshot whose
//! end only its signature tells.

/// A packet of the quorum protocol, as far as anybody here wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    /// Its type.
    pub kind: i32,
    /// The zxid in it.
    pub zxid: i64,
    /// Its data.
    pub data: Option<Vec<u8>>,
}

/// One direction of a connection to a leader.
#[derive(Clone, Debug, Default)]
pub(super) struct Peeker {
    bytes: Vec<u8>,
    at: usize,
    is_in_snapshot: bool,
}

/// How a snapshot in the stream ends: the length of the signature, and the signature.
const SNAPSHOT_END: &[u8] = b"\0\0\0\x0aBenWasHere";
const SNAP: i32 = 15;
/// Longer data is none of ours: the stream has been misread.
const LENGTH_MAX: usize = 64 << 20;

impl Peeker {
    /// Takes more bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.at > 0 && self.at == self.bytes.len() {
            self.bytes.clear();
            self.at = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether what comes next belongs to a state that was not sent in one piece.
    pub(super) const fn is_in_snapshot(&self) -> bool {
        self.is_in_snapshot
    }

    /// The next whole packet.
    ///
    /// # Errors
    /// The bytes are no packets.
    pub(super) fn next(&mut self) -> Result<Option<Packet>, String> {
        if self.is_in_snapshot && !self.skip_snapshot() {
            return Ok(None);
        }
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let mut reader = Cursor(rest);
        let Some(packet) = reader.packet()? else {
            return Ok(None);
        };
        self.at += rest.len() - reader.0.len();
        self.is_in_snapshot = packet.kind == SNAP;
        Ok(Some(packet))
    }

    fn skip_snapshot(&mut self) -> bool {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let found = rest
            .windows(SNAPSHOT_END.len())
            .position(|window| window == SNAPSHOT_END);
        if let Some(position) = found {
            self.at += position + SNAPSHOT_END.len();
            self.is_in_snapshot = false;
            return true;
        }
        // The signature may be cut: its beginning stays.
        let keep = rest.len().min(SNAPSHOT_END.len() - 1);
        self.bytes.drain(..self.bytes.len() - keep);
        self.at = 0;
        false
    }
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }

    fn int(&mut self) -> Option<i32> {
        let bytes = self.take(4)?;
        bytes.try_into().ok().map(i32::from_be_bytes)
    }

    fn long(&mut self) -> Option<i64> {
        let bytes = self.take(8)?;
        bytes.try_into().ok().map(i64::from_be_bytes)
    }

    fn buffer(&mut self) -> Result<Option<Option<&'a [u8]>>, String> {
        let Some(length) = self.int() else {
            return Ok(None);
        };
        if length == -1 {
            return Ok(Some(None));
        }
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length <= LENGTH_MAX)
            .ok_or_else(|| format!("length {length} in a packet"))?;
        Ok(self.take(length).map(Some))
    }

    fn packet(&mut self) -> Result<Option<Packet>, String> {
        let Some(kind) = self.int() else {
            return Ok(None);
        };
        if !(1..=19).contains(&kind) {
            return Err(format!("packet of type {kind}"));
        }
        let Some(zxid) = self.long() else {
            return Ok(None);
        };
        let Some(data) = self.buffer()? else {
            return Ok(None);
        };
        let Some(ids) = self.int() else {
            return Ok(None);
        };
        for _ in 0..ids.max(0) * 2 {
            if self.buffer()?.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(Packet {
            kind,
            zxid,
            data: data.map(<[u8]>::to_vec),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::{Packet, Peeker};

    fn bytes(kind: i32, zxid: i64, data: Option<&[u8]>) -> Vec<u8> {
        let mut bytes = kind.to_be_bytes().to_vec();
        bytes.extend(zxid.to_be_bytes());
        match data {
            None => bytes.extend((-1_i32).to_be_bytes()),
            Some(data) => {
                bytes.extend(u32::try_from(data.len()).unwrap_or(0).to_be_bytes());
                bytes.extend(data);
            }
        }
        bytes.extend((-1_i32).to_be_bytes());
        bytes
    }

    #[test]
    fn packets_are_found_in_a_stream_cut_anywhere() {
        let mut stream = bytes(17, 5 << 32, Some(&[0, 1, 0, 0]));
        stream.extend(bytes(15, 7, None));
        stream.extend(b"anything\0\0\0\x0aBenWasHere");
        stream.extend(bytes(10, 6 << 32, Some(b"")));
        for size in 1..stream.len() {
            let mut peeker = Peeker::default();
            let mut found = Vec::new();
            for piece in stream.chunks(size) {
                peeker.push(piece);
                while let Ok(Some(Packet { kind, zxid, .. })) = peeker.next() {
                    found.push((kind, zxid));
                }
            }
            assert_eq!(found, [(17, 5 << 32), (15, 7), (10, 6 << 32)], "{size}");
        }
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        let mut peeker = Peeker::default();
        peeker.push(&bytes(77, 0, None));
        assert!(peeker.next().is_err());
    }
}
