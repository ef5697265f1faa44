//! What is still to be sent on one connection.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};

use bytes::{Buf, Bytes};
use tokio::net::TcpStream;

/// Pieces handed to the kernel by one call; a reply is a piece or a few.
const PIECES_PER_WRITE: usize = 64;

/// Bytes in order, as the pieces in which they were given.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pieces: VecDeque<Bytes>,
}

/// How far [`Queue::write_to`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing is left.
    Drained,
    /// The socket takes no more; tokio knows it.
    Blocked,
}

impl Queue {
    pub(super) fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.pieces.push_back(bytes);
        }
    }

    pub(super) fn clear(&mut self) {
        self.pieces = VecDeque::new();
    }

    /// Writes until nothing is left or the socket takes no more, adding to `written` what it took.
    pub(super) fn write_to(
        &mut self,
        stream: &TcpStream,
        written: &mut usize,
    ) -> io::Result<Progress> {
        while let Some(front) = self.pieces.front() {
            let result = match self.pieces.len() {
                1 => stream.try_write(front),
                _ => self.write_many(stream),
            };
            match result {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    *written += count;
                    self.advance(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Progress::Blocked);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.rest();
        Ok(Progress::Drained)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Gives `writer` the next pieces, as many as it takes at once; returns their bytes.
    pub(super) fn give_to(&mut self, writer: &mut impl Write) -> io::Result<usize> {
        let taken = self.with_slices(|slices| writer.write_vectored(slices))?;
        self.advance(taken);
        Ok(taken)
    }

    /// Nothing is left: an idle connection should not keep the room that its largest burst took.
    pub(super) fn rest(&mut self) {
        if self.pieces.capacity() > PIECES_PER_WRITE {
            self.clear();
        }
    }

    fn write_many(&self, stream: &TcpStream) -> io::Result<usize> {
        self.with_slices(|slices| stream.try_write_vectored(slices))
    }

    fn with_slices<T>(&self, write: impl FnOnce(&[IoSlice<'_>]) -> T) -> T {
        let mut slices = [IoSlice::new(&[]); PIECES_PER_WRITE];
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(piece);
            count += 1;
        }
        write(slices.get(..count).unwrap_or_default())
    }

    fn advance(&mut self, mut count: usize) {
        while count > 0 {
            let front = self
                .pieces
                .front_mut()
                .expect("no more is written than was queued");
            if front.len() > count {
                front.advance(count);
                return;
            }
            count -= front.len();
            drop(self.pieces.pop_front());
        }
    }
}
