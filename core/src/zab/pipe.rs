//! What is sent on one connection between servers.

use alloc::vec::Vec;
use core::mem;

use bytes::Bytes;

use super::outbox::Outbox;
use crate::ids::LinkId;

/// Packets up to this long are copied together into one send.
const BYTES_COPIED_MAX: usize = 4 << 10;
/// So much is copied together at most.
const BYTES_TOGETHER_MAX: usize = 64 << 10;
/// What may wait for a peer that does not read.
pub(super) const BYTES_WAITING_MAX: usize = 256 << 20;

/// Collects the packets of a step for one link.
#[derive(Debug)]
pub(super) struct Pipe {
    link: LinkId,
    buffer: Vec<u8>,
    waiting: usize,
}

impl Pipe {
    pub(super) const fn new(link: LinkId) -> Self {
        Self {
            link,
            buffer: Vec::new(),
            waiting: 0,
        }
    }

    pub(super) const fn link(&self) -> LinkId {
        self.link
    }

    /// Bytes that have not left this process.
    pub(super) const fn waiting(&self) -> usize {
        self.waiting
    }

    /// Sends after all sent before; small ones leave at the end of the step.
    pub(super) fn send(&mut self, bytes: &Bytes, out: &mut Outbox) {
        self.waiting += bytes.len();
        if bytes.len() > BYTES_COPIED_MAX {
            self.flush(out);
            out.send(self.link, bytes.clone());
        } else {
            self.buffer.extend_from_slice(bytes);
            if self.buffer.len() > BYTES_TOGETHER_MAX {
                self.flush(out);
            }
        }
    }

    /// Hands over what was collected.
    pub(super) fn flush(&mut self, out: &mut Outbox) {
        if !self.buffer.is_empty() {
            out.send(self.link, mem::take(&mut self.buffer).into());
        }
    }

    /// Closes the link once all is sent.
    pub(super) fn close(&mut self, out: &mut Outbox) {
        self.flush(out);
        out.close(self.link);
    }

    /// So many bytes have left.
    pub(super) fn flushed(&mut self, bytes: usize) {
        self.waiting = self.waiting.saturating_sub(bytes);
    }
}
