//! The log's lane: what a machine asks for is done in order, and durable when it is said to be.

use core::fmt;

use crate::ids::{Epoch, Seq, Zxid};
use crate::lane::StoreOp;
use crate::store::disk::Disk;
use crate::store::epochs::{self, Epochs};
use crate::store::log::{LogOptions, LogStore};
use crate::store::names::{ACCEPTED_EPOCH, CURRENT_EPOCH};
use crate::store::truncate::{TruncateError, reset, truncate};

/// Performs the operations on the log, and on what must stay in order with it.
///
/// After an error it is of no use: what is on the disk is not what the machine believes, and the
/// server must stop, or recover and begin anew.
pub struct LogLane<D: Disk> {
    log: LogStore<D>,
    snapshots: D,
    /// What was written in this life.
    epochs: Epochs,
}

/// Why an operation could not be performed.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LaneError<E> {
    /// The disk failed.
    Disk(E),
    /// History could not be taken back.
    Truncate(TruncateError<E>),
}

impl<E: fmt::Display> fmt::Display for LaneError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(error) => error.fmt(f),
            Self::Truncate(error) => error.fmt(f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> core::error::Error for LaneError<E> {}

impl<D: Disk> LogLane<D> {
    /// A lane that goes on after `last`, the last transaction that recovery found. The two
    /// directories may be one.
    pub fn new(logs: D, snapshots: D, options: LogOptions, last: Zxid) -> Self {
        Self {
            log: LogStore::new(logs, options, last),
            snapshots,
            epochs: Epochs::default(),
        }
    }

    /// Performs operations in their order: the last of them, or `None` if there was none. All are
    /// durable then; appends in a row share one fsync.
    ///
    /// # Errors
    /// One could not be performed, and none after it was begun. None of these operations may be
    /// reported.
    ///
    /// # Panics
    /// A transaction is not later than the one before, or an epoch earlier.
    pub fn perform(
        &mut self,
        ops: impl IntoIterator<Item = (Seq, StoreOp)>,
    ) -> Result<Option<Seq>, LaneError<D::Error>> {
        let mut upto = None;
        for (seq, op) in ops {
            match op {
                StoreOp::Append { zxid, txn } => self.log.append(zxid, &txn)?,
                StoreOp::Roll => self.log.roll()?,
                StoreOp::Epochs { accepted, current } => self.write_epochs(accepted, current)?,
                StoreOp::Truncate { to } => self.take_back(to, truncate)?,
                StoreOp::Reset { to } => self.take_back(to, reset)?,
            }
            upto = Some(seq);
        }
        self.log.sync()?;
        Ok(upto)
    }

    /// Makes everything durable and finishes the log's file.
    ///
    /// # Errors
    /// It could not be done; the log is as after a crash.
    pub fn close(self) -> Result<(), D::Error> {
        self.log.close()
    }

    /// The last transaction of the log.
    pub const fn last(&self) -> Zxid {
        self.log.last()
    }

    fn write_epochs(
        &mut self,
        accepted: Option<Epoch>,
        current: Option<Epoch>,
    ) -> Result<(), D::Error> {
        // Who says that it is in an epoch says that it has its history: ZOOKEEPER-4643.
        self.log.sync()?;
        if let Some(accepted) = accepted {
            assert!(accepted >= self.epochs.accepted, "promises are kept");
            epochs::write(&mut self.snapshots, ACCEPTED_EPOCH, accepted)?;
            self.epochs.accepted = accepted;
        }
        if let Some(current) = current {
            assert!(current >= self.epochs.current, "epochs never go back");
            epochs::write(&mut self.snapshots, CURRENT_EPOCH, current)?;
            self.epochs.current = current;
        }
        Ok(())
    }

    fn take_back(
        &mut self,
        to: Zxid,
        how: impl FnOnce(&mut D, &mut D, Zxid) -> Result<(), TruncateError<D::Error>>,
    ) -> Result<(), LaneError<D::Error>> {
        self.log.roll()?;
        how(self.log.disk(), &mut self.snapshots, to).map_err(LaneError::Truncate)?;
        self.log.resume_after(to);
        Ok(())
    }
}

/// Errors of the disk, which `?` meets everywhere.
impl<E> From<E> for LaneError<E> {
    fn from(error: E) -> Self {
        Self::Disk(error)
    }
}
