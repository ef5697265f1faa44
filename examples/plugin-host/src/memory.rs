//! A store that outlives the server's crashes, but not the program's.

use postcard::to_stdvec as encode;

use crate::wire::{Found, Input, SnapshotOp, StoreOp};

#[derive(Default)]
pub struct Memory {
    snapshot: Option<(i64, Vec<u8>)>,
    begun: (i64, Vec<u8>),
    txns: Vec<(i64, Vec<u8>)>,
}

impl Memory {
    /// The snapshot and every transaction after it, each as it is to be opened; and how much it is.
    pub fn recover(&self) -> postcard::Result<(Vec<Vec<u8>>, Found)> {
        let mut pieces = Vec::new();
        if let Some((zxid, bytes)) = &self.snapshot {
            pieces = vec![encode(&(1_u8, zxid))?, encode(&(2_u8, bytes))?, encode(&3_u8)?];
        }
        for (_, txn) in &self.txns {
            pieces.push(encode(&(4_u8, txn))?);
        }
        let bytes = self.txns.iter().map(|(_, txn)| txn.len() as u64).sum();
        Ok((pieces, (self.snapshot.is_some(), self.txns.len() as u64, bytes, [0, 0], true)))
    }

    /// What is kept is as durable as it will ever be.
    pub fn log(&mut self, seq: u64, op: StoreOp) -> Input {
        if let StoreOp::Append(zxid, txn) = op {
            self.txns.push((zxid, txn));
        }
        Input::Stored(seq)
    }

    pub fn snapshot(&mut self, op: SnapshotOp) -> Option<Input> {
        match op {
            SnapshotOp::Begin(zxid) => self.begun = (zxid, Vec::new()),
            SnapshotOp::Abandon => self.begun = Default::default(),
            SnapshotOp::Chunk(bytes) => {
                self.begun.1.extend(&bytes);
                return Some(Input::SnapshotWritten(bytes.len()));
            }
            SnapshotOp::End => {
                let zxid = self.begun.0;
                self.snapshot = Some(std::mem::take(&mut self.begun));
                self.txns.retain(|(txn, _)| *txn > zxid);
                return Some(Input::SnapshotStored(zxid));
            }
        }
        None
    }
}
