//! Bytes that arrived cut anywhere, and are wanted in pieces of a known length.

use core::mem;

use bytes::{Buf, Bytes, BytesMut};

/// What arrived and was not taken yet.
///
/// A piece that arrived whole is a slice of what arrived. Every byte is copied a fixed number of
/// times at most, however it was cut: a rest is only copied when it is too short for what is
/// wanted, and then it goes with that.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// What comes first.
    whole: Bytes,
    /// What arrived while that was too short.
    growing: BytesMut,
    /// How many bytes were asked for in vain.
    wanted: usize,
}

impl Stream {
    pub(super) fn len(&self) -> usize {
        self.whole.len() + self.growing.len()
    }

    pub(super) fn receive(&mut self, bytes: Bytes) {
        if self.len() == 0 {
            self.whole = bytes;
            return;
        }
        if self.growing.is_empty() && self.whole.len() < self.wanted {
            self.growing.extend_from_slice(&mem::take(&mut self.whole));
        }
        self.growing.extend_from_slice(&bytes);
    }

    /// The next `length` bytes, or `None` until they are there.
    pub(super) fn take(&mut self, length: usize) -> Option<Bytes> {
        if self.len() < length {
            self.wanted = length;
            return None;
        }
        self.wanted = 0;
        if self.whole.len() < length {
            self.join();
        }
        Some(self.whole.split_to(length))
    }

    /// The next bytes as an array, or `None` until they are there.
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        if let Some(array) = self.whole.first_chunk().copied() {
            // A slice would be counted, and then no longer: two writes to what threads share.
            self.wanted = 0;
            self.whole.advance(N);
            return Some(array);
        }
        let bytes = self.take(N)?;
        bytes.first_chunk().copied()
    }

    /// All of it, in one piece, left where it is.
    pub(super) fn peek(&mut self) -> &[u8] {
        self.join();
        &self.whole
    }

    /// All of it.
    pub(super) fn take_rest(&mut self) -> Bytes {
        self.join();
        self.wanted = 0;
        mem::take(&mut self.whole)
    }

    fn join(&mut self) {
        if self.growing.is_empty() {
            return;
        }
        let mut growing = mem::take(&mut self.growing);
        if !self.whole.is_empty() {
            let mut joined = BytesMut::with_capacity(self.len() + growing.len());
            joined.extend_from_slice(&self.whole);
            joined.extend_from_slice(&growing);
            growing = joined;
        }
        self.whole = growing.freeze();
    }
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::unwrap_used,
        reason = "a test stops where its expectation fails"
    )]

    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn what_arrived_whole_is_not_copied() {
        let mut stream = Stream::default();
        let arrived = Bytes::from(b"abcdef".to_vec());
        stream.receive(arrived.clone());
        assert_eq!(stream.take(2).unwrap().as_ptr(), arrived.as_ptr());
        assert_eq!(
            stream.take(4).unwrap().as_ptr(),
            arrived.slice(2..).as_ptr()
        );
        assert_eq!(stream.take(1), None);
    }

    #[test]
    fn pieces_are_the_same_whatever_was_taken_meanwhile() {
        let bytes: Vec<u8> = (0..200).collect();
        for chunk in 1..40 {
            for piece in 1..40 {
                // Asked for after every chunk, after every third, and only at the end.
                for patience in [1, 3, usize::MAX] {
                    let (mut stream, mut taken) = (Stream::default(), Vec::new());
                    for (index, part) in bytes.chunks(chunk).enumerate() {
                        stream.receive(Bytes::copy_from_slice(part));
                        if index % patience == 0 {
                            while let Some(got) = stream.take(piece) {
                                assert_eq!(got.len(), piece);
                                taken.extend_from_slice(&got);
                            }
                        }
                    }
                    let peeked = stream.peek().to_vec();
                    let rest = stream.take_rest();
                    assert_eq!(peeked, rest);
                    assert_eq!(stream.len(), 0);
                    taken.extend_from_slice(&rest);
                    assert_eq!(taken, bytes);
                }
            }
        }
    }
}
