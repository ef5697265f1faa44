//! ZAB's invariants, judged by what servers make durable and what they tell each other.
//!
//! A zxid is proposed once and with one predecessor, so all logs form a tree of transactions, and
//! the zxid at the end of a log names the whole of it (S17 and S15 are checked where the tree
//! grows). What is committed is one path in it. Names of invariants are those of the catalogue in
//! `scenarios/README.md`.

pub mod packets;
mod quorums;
pub mod store;

mod abandoned;
mod rot;

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use zabra_core::ids::{Seq, Zxid};
use zabra_core::lane::StoreOp;

use crate::drill::next_digest;
use crate::ensemble::members::View;
use crate::ensemble::plan::letter;
use crate::violation::{Violation, ensure};

/// A proposed transaction.
#[derive(Clone, Debug)]
pub struct Txn {
    /// What was proposed.
    pub payload: Rc<[u8]>,
    /// Who proposed it.
    pub proposer: usize,
    /// When, in microseconds.
    pub proposed_at: u64,
    hash: u64,
    parent: i64,
    /// How many come before it.
    depth: usize,
    /// The membership that it makes.
    view: Option<Rc<View>>,
    /// The last transaction up to this one that makes a membership; 0 is the first of all.
    reconfig: i64,
    /// Whose quorums are surely needed: those of changes that no quorum had when it was proposed.
    rules: Vec<Rc<View>>,
}

/// What one server has.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// The end of its log once all that it has asked of its store is done.
    pub tip: i64,
    /// The end of what its store has confirmed.
    pub durable: i64,
    /// The same as the server would name it in an election: perhaps the beginning of an epoch.
    pub last: i64,
    /// `acceptedEpoch`, confirmed.
    pub accepted: i32,
    /// `currentEpoch`, confirmed.
    pub current: i32,
    /// Whether it may vote: not, once it has lost its disk, until a leader gave it the state.
    pub is_trusted: bool,
    /// What was durable before the disk was lost: its confirmations may still be under way.
    lost: Option<(i32, i64)>,
    /// The name of a leader's state that it writes down.
    foreign: Option<i64>,
    /// The memberships in its files: in force, and proposed.
    pub views: Vec<Rc<View>>,
    pending: VecDeque<(Seq, StoreOp)>,
}

/// The beginning of an epoch.
#[derive(Clone, Copy, Debug)]
struct Start {
    leader: usize,
    /// The end of the leader's history before it proposed anything.
    tip: i64,
    is_established: bool,
}

/// Judges all servers.
#[derive(Clone, Debug)]
pub struct History {
    /// Whether there is one server and no ensemble.
    is_alone: bool,
    first: Rc<View>,
    txns: BTreeMap<i64, Txn>,
    /// The committed path, from the first transaction on; its first element is 0.
    canon: Vec<i64>,
    /// What each server has.
    pub servers: Vec<Standing>,
    starts: BTreeMap<i32, Start>,
    /// Things that happened, for the marks of the run.
    pub seen: Vec<&'static str>,
    /// How many epochs have been established.
    pub established: u64,
}

impl History {
    /// Of servers that have nothing.
    #[must_use]
    pub fn new(voters: usize, observers: usize, servers: usize) -> Self {
        let first = Rc::new(View::first(voters, observers));
        let spare = |server: usize| {
            let mut view = View::clone(&first);
            view.servers.entry(server).or_insert(true);
            Rc::new(view)
        };
        let standing = |server: usize| Standing {
            is_trusted: true,
            views: vec![spare(server)],
            ..Standing::default()
        };
        Self {
            is_alone: servers == 1,
            txns: BTreeMap::new(),
            canon: vec![0],
            servers: (0..servers).map(standing).collect(),
            first,
            starts: BTreeMap::new(),
            seen: Vec::new(),
            established: 0,
        }
    }

    /// Who has last begun an epoch.
    #[must_use]
    pub fn leader(&self) -> usize {
        let starts = self.starts.values().rev();
        let mut established = starts.filter(|start| start.is_established);
        established.next().map_or(0, |start| start.leader)
    }

    /// The last transaction that is committed.
    #[must_use]
    pub fn committed(&self) -> i64 {
        self.canon.last().copied().unwrap_or(0)
    }

    /// How many transactions were ever proposed.
    #[must_use]
    pub fn proposed(&self) -> u64 {
        self.txns.len() as u64
    }

    /// The highest zxid that a server may show: the last committed, or the beginning of an epoch.
    #[must_use]
    pub fn visible(&self) -> i64 {
        let starts = self.starts.iter().rev();
        let established = starts.filter(|(_, start)| start.is_established);
        let latest = established.map(|(epoch, _)| i64::from(*epoch) << 32).next();
        self.committed().max(latest.unwrap_or(0))
    }

    /// A proposed transaction.
    #[must_use]
    pub fn txn(&self, zxid: i64) -> Option<&Txn> {
        self.txns.get(&zxid)
    }

    /// Whether a transaction was proposed by this server at this time.
    #[must_use]
    pub fn is_proposed(&self, zxid: i64, by: usize, at: u64) -> bool {
        let txn = self.txns.get(&zxid);
        txn.is_some_and(|txn| (txn.proposer, txn.proposed_at) == (by, at))
    }

    /// What a server has.
    #[must_use]
    pub fn server(&self, server: usize) -> &Standing {
        self.servers.get(server).expect("servers are numbered")
    }

    fn server_mut(&mut self, server: usize) -> &mut Standing {
        self.servers.get_mut(server).expect("servers are numbered")
    }

    fn depth(&self, zxid: i64) -> usize {
        self.txns.get(&zxid).map_or(0, |txn| txn.depth)
    }

    fn parent(&self, zxid: i64) -> i64 {
        self.txns.get(&zxid).map_or(0, |txn| txn.parent)
    }

    /// Whether a history that ends with `tip` contains `zxid`.
    #[must_use]
    pub fn contains(&self, mut tip: i64, zxid: i64) -> bool {
        let depth = self.depth(zxid);
        while self.depth(tip) > depth {
            tip = self.parent(tip);
        }
        tip == zxid
    }

    /// The last transaction up to this zxid of a history.
    fn last_upto(&self, mut tip: i64, zxid: i64) -> i64 {
        while tip > zxid {
            tip = self.parent(tip);
        }
        tip
    }

    /// Which transaction a name of a state means, in the eyes of one who has, or is to have, the
    /// history of `tip`.
    fn locate(&self, zxid: i64, tip: i64) -> i64 {
        if self.txns.contains_key(&zxid) {
            return zxid;
        }
        let start = self.starts.get(&Zxid(zxid).epoch().0);
        match start.filter(|_| Zxid(zxid).counter() == 0) {
            Some(start) => start.tip,
            None => self.last_upto(tip, zxid),
        }
    }

    /// Transactions of a server that are not committed, the last first.
    pub fn uncommitted(&self, server: usize) -> impl Iterator<Item = (i64, &Txn)> {
        let committed = self.committed();
        let mut at = self.server(server).tip;
        core::iter::from_fn(move || {
            if at <= committed {
                return None;
            }
            let zxid = at;
            let txn = self.txns.get(&zxid)?;
            at = txn.parent;
            Some((zxid, txn))
        })
    }

    /// A leader that is a quorum by itself need tell nobody that it begins.
    fn begin_alone(&mut self, leader: usize, epoch: i32) {
        let standing = self.server(leader);
        let views = self.views_of(standing.tip);
        let mut is_alone = views.iter().map(|view| view.has_quorum(|it| it == leader));
        if standing.current == epoch && is_alone.all(|alone| alone) {
            let start = Start {
                leader,
                tip: standing.tip,
                is_established: false,
            };
            self.starts.entry(epoch).or_insert(start);
        }
    }

    /// Notes that a leader holds its epoch for begun.
    fn establish(&mut self, epoch: i32, leader: usize) -> Result<(), Violation> {
        self.begin_alone(leader, epoch);
        let Some(start) = self.starts.get(&epoch).copied() else {
            return Err(Violation::new(
                "S7 an epoch begins with NEWLEADER",
                format!("{} begins epoch {epoch}", letter(leader)),
            ));
        };
        if start.is_established {
            return Ok(());
        }
        ensure(
            self.has_quorum(start.tip, Some(epoch)),
            "S9 a quorum has a new leader's history",
            || {
                let standings: Vec<_> = self.servers.iter().map(Standing::shown).collect();
                format!(
                    "{} begins epoch {epoch} with {:#x}: {}",
                    letter(leader),
                    start.tip,
                    standings.join(", ")
                )
            },
        )?;
        self.commit(start.tip, leader)?;
        if let Some(start) = self.starts.get_mut(&epoch) {
            start.is_established = true;
        }
        self.established += 1;
        Ok(())
    }

    /// Notes that a server shows, or says, that something is committed.
    ///
    /// # Errors
    /// S2, S9 or S10 is broken.
    pub fn commit(&mut self, zxid: i64, server: usize) -> Result<(), Violation> {
        let committed = self.committed();
        if zxid <= committed && self.contains(committed, zxid) {
            return Ok(());
        }
        let name = letter(server);
        self.begin_alone(server, self.server(server).current);
        ensure(
            self.txns.contains_key(&zxid) && self.contains(zxid, committed),
            "S2 all commit one sequence",
            || format!("{name} commits {zxid:#x} when {committed:#x} is committed"),
        )?;
        self.ensure_not_abandoned(server, zxid)?;
        ensure(
            self.has_quorum(zxid, None),
            "S9 a quorum has what is committed",
            || {
                let standings: Vec<_> = self.servers.iter().map(Standing::shown).collect();
                format!("{name} commits {zxid:#x}: {}", standings.join(", "))
            },
        )?;
        let first = self.canon.len();
        if self.last_reconfig(zxid) > committed {
            self.seen.push("reconfig_committed");
        }
        let mut at = zxid;
        while at != committed {
            self.canon.push(at);
            at = self.parent(at);
        }
        if let Some(new) = self.canon.get_mut(first..) {
            new.reverse();
        }
        self.ensure_electable()
    }

    /// Takes a zxid that a server shows to a client.
    ///
    /// # Errors
    /// It is of nothing that is committed, nor could be.
    pub fn shows(&mut self, server: usize, zxid: i64) -> Result<(), Violation> {
        if zxid <= self.visible() {
            return self.ensure_not_abandoned(server, zxid);
        }
        if Zxid(zxid).counter() == 0 && !self.is_alone {
            return self.establish(Zxid(zxid).epoch().0, server);
        }
        self.commit(zxid, server)
    }

    /// Takes what a server has delivered.
    ///
    /// # Errors
    /// S1, S2 or S9 is broken.
    pub fn delivers(&mut self, server: usize, zxid: i64, hash: u64) -> Result<(), Violation> {
        self.commit(zxid, server)?;
        let is_same = self.txns.get(&zxid).is_some_and(|txn| txn.hash == hash);
        ensure(is_same, "S1 what is delivered was proposed", || {
            format!("{} delivers {zxid:#x} with other bytes", letter(server))
        })
    }

    /// Takes the state that a server has loaded from a leader.
    ///
    /// # Errors
    /// It is not what the transactions up to its name make.
    pub fn loads(&self, server: usize, zxid: i64, digest: u64) -> Result<(), Violation> {
        let located = self.locate(zxid, self.committed());
        let expected = self.digest(located);
        ensure(
            expected == digest,
            "S12 a state is what its history makes",
            || format!("{} loads {zxid:#x}", letter(server)),
        )
    }

    /// The digest of a history, as [`drill`](crate::drill) computes it.
    #[must_use]
    pub fn digest(&self, tip: i64) -> u64 {
        let mut path = Vec::new();
        let mut at = tip;
        while let Some(txn) = self.txns.get(&at) {
            path.push(txn.hash);
            at = txn.parent;
        }
        path.iter()
            .rev()
            .fold(0, |digest, hash| next_digest(digest, *hash))
    }

    /// The committed transactions after the first `count`.
    #[must_use]
    pub fn committed_after(&self, count: usize) -> &[i64] {
        self.canon.get(count + 1..).unwrap_or_default()
    }
}

impl Standing {
    fn shown(&self) -> String {
        format!(
            "({}, {}, {:#x}{})",
            self.accepted,
            self.current,
            self.durable,
            if self.is_trusted { "" } else { ", untrusted" }
        )
    }
}
