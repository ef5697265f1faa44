//! Who is in the ensemble, where, and with what weight.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::ids::ServerId;
use crate::link::Endpoint;

/// Who is in the ensemble: the servers, their weights and groups, and the version of it all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// The zxid of the transaction that made it; 0 is the first of all.
    pub version: i64,
    /// The servers.
    pub servers: BTreeMap<ServerId, Member>,
    /// Groups of a hierarchical quorum; none is a majority quorum.
    pub groups: BTreeMap<i64, Vec<ServerId>>,
    /// Weights that are not 1.
    pub weights: BTreeMap<ServerId, u64>,
}

/// One server of the ensemble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where learners connect to it when it leads.
    pub quorum: Vec<Endpoint>,
    /// Where peers connect to it to elect.
    pub election: Vec<Endpoint>,
    /// Where clients connect, if the membership says it.
    pub client: Option<Endpoint>,
    /// Whether it has a vote.
    pub voter: bool,
}
