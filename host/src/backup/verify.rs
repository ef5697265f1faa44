//! Whether logs are whole.

use zabra_core::ids::Zxid;
use zabra_core::jute;
use zabra_core::store::Restore;
use zabra_core::store::names::{self, Compression};
use zabra_core::store::recovery::{Note, recover};
use zabra_core::wire::log::End;
use zabra_core::wire::txn;

use super::state::logs;
use super::{Error, read_log};
use crate::store::{Frozen, Part};

/// What one log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// How many transactions.
    pub txns: u64,
    /// The first and the last of them.
    pub range: Option<(Zxid, Zxid)>,
    /// How it ends.
    pub end: End,
}

/// Checks every checksum of a log, and how it ends.
///
/// # Errors
/// It cannot be read.
pub fn check_log(part: &Part) -> Result<Content, Error> {
    let mut txns = 0;
    let mut range = None;
    let end = read_log(part, &mut |record| {
        txns += 1;
        let (first, _) = range.unwrap_or((record.zxid, record.zxid));
        range = Some((first, record.zxid));
        Some(())
    })?;
    let end = end.unwrap_or(End::NoHeader);
    Ok(Content { txns, range, end })
}

/// Checks the logs together: their order, that none is missing in between, their names, and that
/// every record is a transaction. Says what a server would log about them.
///
/// # Errors
/// The first thing for which a server would not start, as it would say it.
pub fn check_order(files: &Frozen) -> Result<Vec<Note>, Error> {
    let mut files = files.clone();
    files.retain(|name| names::parse_log(name).is_some());
    let Some((first, name)) = logs(&files).next() else {
        return Ok(Vec::new());
    };
    // Recovery reads what follows a snapshot; one that is right before the first log has it read
    // all.
    let before = names::snapshot(Zxid((first.0 - 1).max(0)), Compression::None);
    let mut snapshots = Frozen::default();
    if let Some(part) = files.part(&name) {
        snapshots.insert(before.clone(), part.clone());
        snapshots.shorten(&before, 0);
    }
    let recovered = recover(&mut files, &mut snapshots, &mut Decoding);
    let recovered = recovered.map_err(|error| Error::new(error.to_string()))?;
    Ok(recovered.notes)
}

/// Takes whatever is a transaction.
struct Decoding;

impl Restore for Decoding {
    type Error = jute::Error;

    fn snapshot_begin(&mut self, _: Zxid) {}

    fn snapshot_chunk(&mut self, _: &[u8]) -> Result<(), jute::Error> {
        Ok(())
    }

    fn snapshot_end(&mut self) -> Result<(), jute::Error> {
        Ok(())
    }

    fn txn(&mut self, payload: &[u8]) -> Result<(), jute::Error> {
        txn::decode(payload).map(drop)
    }
}
