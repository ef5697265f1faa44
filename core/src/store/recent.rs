//! The last transactions of the log, kept while it is replayed, for learners that missed them.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::ids::Zxid;
use crate::store::Restore;
use crate::wire::log::payload_zxid;

/// Takes what recovery reads on its way to `inner`, and keeps the last transactions.
///
/// At least `txns_min`, if there were so many, and before these as many as fit `bytes_max`.
#[derive(Debug)]
pub struct Recent<R> {
    inner: R,
    txns_min: usize,
    bytes_max: usize,
    base: Zxid,
    txns: VecDeque<(Zxid, Bytes)>,
    /// Bytes of those that are kept beyond `txns_min`.
    bytes: usize,
}

impl<R> Recent<R> {
    /// Nothing kept yet, of a history that begins with nothing.
    pub const fn new(inner: R, txns_min: usize, bytes_max: usize) -> Self {
        Self {
            inner,
            txns_min,
            bytes_max,
            base: Zxid::ZERO,
            txns: VecDeque::new(),
            bytes: 0,
        }
    }

    /// What was wrapped, what came before the first transaction kept (the snapshot's name if that
    /// is what came before, zero if nothing did), and these transactions.
    #[must_use]
    pub fn finish(self) -> (R, Zxid, Vec<(Zxid, Bytes)>) {
        (self.inner, self.base, self.txns.into())
    }

    fn keep(&mut self, zxid: Zxid, payload: &[u8]) {
        self.txns.push_back((zxid, Bytes::copy_from_slice(payload)));
        // The one that is not among the last `txns_min` any more.
        let beyond = self.txns.len().checked_sub(self.txns_min + 1);
        let beyond = beyond.and_then(|index| self.txns.get(index));
        self.bytes += beyond.map_or(0, |(_, txn)| txn.len());
        while self.bytes > self.bytes_max
            && let Some((zxid, txn)) = self.txns.pop_front()
        {
            self.bytes -= txn.len();
            self.base = zxid;
        }
    }
}

impl<R: Restore> Restore for Recent<R> {
    type Error = R::Error;

    fn snapshot_begin(&mut self, zxid: Zxid) {
        self.base = zxid;
        self.txns.clear();
        self.bytes = 0;
        self.inner.snapshot_begin(zxid);
    }

    fn snapshot_chunk(&mut self, bytes: &[u8]) -> Result<(), R::Error> {
        self.inner.snapshot_chunk(bytes)
    }

    fn snapshot_end(&mut self) -> Result<(), R::Error> {
        self.inner.snapshot_end()
    }

    fn txn(&mut self, payload: &[u8]) -> Result<(), R::Error> {
        self.inner.txn(payload)?;
        if let Some(zxid) = payload_zxid(payload) {
            self.keep(zxid, payload);
        }
        Ok(())
    }
}
