//! ZAB's invariants, judged by what servers make durable and what they tell each other.
//!
//! A zxid is proposed once and with one predecessor, so all logs form a tree of transactions, and
//! the zxid at the end of a log names the whole of it (S17 and S15 are checked where the tree
//! grows). What is committed is one path in it. Names of invariants are those of the catalogue in
//! `scenarios/README.md`.

mod abandoned;
mod rot;

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use zabra_core::ids::{Seq, Zxid};
use zabra_core::lane::StoreOp;

use crate::drill::next_digest;
use crate::ensemble::members::View;
use crate::ensemble::plan::{Durable, letter};
use crate::node::hash;
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
    /// The memberships in its files: in force, and proposed later.
    views: Vec<Rc<View>>,
    pending: VecDeque<(Seq, StoreOp)>,
}

/// A connection of a learner to its leader.
#[derive(Clone, Debug, Default)]
pub struct Bond {
    /// The learner.
    pub learner: usize,
    /// Its leader.
    pub leader: usize,
    /// The epoch of the leader's LEADERINFO.
    epoch: i32,
    /// Whether the learner asked to follow, and not to observe.
    is_follower: bool,
    has_acked: bool,
    has_proposals_before_newleader: bool,
    is_newleader_sent: bool,
    is_uptodate_sent: bool,
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

const COMMIT: i32 = 4;

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

    /// Takes what a server asks of its store.
    ///
    /// # Errors
    /// S1, S4, S5, S6, S15 or S17 is broken.
    pub fn asks(
        &mut self,
        server: usize,
        seq: Seq,
        op: &StoreOp,
        now: u64,
    ) -> Result<(), Violation> {
        match op {
            StoreOp::Append { zxid, txn } => self.appends(server, zxid.0, txn, now)?,
            StoreOp::Truncate { to } => {
                self.seen.push("log_truncated");
                let tip = self.server(server).tip;
                let located = self.locate(to.0, tip);
                ensure(
                    self.contains(tip, located),
                    "S14 a log is cut at what it holds",
                    || format!("{} cuts to {to}, its log ends at {tip:#x}", letter(server)),
                )?;
                self.server_mut(server).tip = located;
            }
            StoreOp::Reset { to } => {
                self.seen.push("log_reset");
                let located = self.locate(to.0, self.server(server).tip);
                self.server_mut(server).tip = located;
            }
            StoreOp::Epochs { .. } | StoreOp::Roll => {}
        }
        let op = match op {
            StoreOp::Append { zxid, .. } => StoreOp::Append {
                zxid: *zxid,
                txn: bytes::Bytes::new(),
            },
            other => other.clone(),
        };
        self.server_mut(server).pending.push_back((seq, op));
        Ok(())
    }

    fn appends(
        &mut self,
        server: usize,
        zxid: i64,
        payload: &[u8],
        now: u64,
    ) -> Result<(), Violation> {
        let parent = self.server(server).tip;
        let hash = hash(payload, 0);
        if let Some(known) = self.txns.get(&zxid) {
            ensure(
                known.hash == hash,
                "S17 a zxid names one transaction",
                || {
                    format!(
                        "{} logs {zxid:#x} with other bytes than {}",
                        letter(server),
                        letter(known.proposer)
                    )
                },
            )?;
            ensure(known.parent == parent, "S15 a log has no hole", || {
                format!(
                    "{} logs {zxid:#x} after {parent:#x}, it was proposed after {:#x}",
                    letter(server),
                    known.parent
                )
            })?;
        } else {
            self.proposes(server, zxid, payload, parent, now)?;
        }
        self.server_mut(server).tip = zxid;
        Ok(())
    }

    fn proposes(
        &mut self,
        server: usize,
        zxid: i64,
        payload: &[u8],
        parent: i64,
        now: u64,
    ) -> Result<(), Violation> {
        let (id, before) = (Zxid(zxid), Zxid(parent));
        ensure(zxid > parent, "S5 zxids grow", || {
            format!("{} logs {id} after {before}", letter(server))
        })?;
        let expected = if id.epoch() == before.epoch() {
            before.counter().wrapping_add(1)
        } else {
            1
        };
        ensure(
            id.counter() == expected,
            "S4 zxids of an epoch have no gap",
            || format!("{} proposes {id} after {before}", letter(server)),
        )?;
        self.begin_alone(server, id.epoch().0);
        if let Some(start) = self.starts.get(&id.epoch().0) {
            ensure(
                start.leader == server,
                "S1 only the leader proposes",
                || {
                    format!(
                        "{} logs {id}, which {} never proposed",
                        letter(server),
                        letter(start.leader)
                    )
                },
            )?;
        } else if !self.is_alone {
            return Err(Violation::new(
                "S1 only the leader proposes",
                format!("{} logs {id}, and nobody leads that epoch", letter(server)),
            ));
        }
        // What is committed of later epochs a leader that was deposed does not know.
        let before_epoch = self
            .canon
            .partition_point(|it| *it < id.epoch().start().0.max(1));
        let committed = before_epoch
            .checked_sub(1)
            .and_then(|at| self.canon.get(at));
        let committed = committed.copied().unwrap_or(0);
        ensure(
            self.contains(parent, committed),
            "S6 a leader has all that is committed",
            || {
                format!(
                    "{} proposes {id} after {before}; {committed:#x} is committed",
                    letter(server)
                )
            },
        )?;
        let view = View::of(payload).map(Rc::new);
        let before = self.txns.get(&parent).map_or(0, |txn| txn.reconfig);
        let rules = self.rules(parent, view.as_ref(), zxid);
        if view.is_some() {
            self.seen.push("reconfig_proposed");
        }
        let txn = Txn {
            reconfig: if view.is_some() { zxid } else { before },
            view,
            rules,
            payload: payload.into(),
            proposer: server,
            proposed_at: now,
            hash: hash(payload, 0),
            parent,
            depth: self.depth(parent) + 1,
        };
        self.txns.insert(zxid, txn);
        Ok(())
    }

    /// What of the kinds that faults wait for is durable when operations up to this one are.
    #[must_use]
    pub fn kinds_upto(&self, server: usize, upto: Seq) -> Vec<Durable> {
        let pending = self.server(server).pending.iter();
        pending
            .take_while(|(seq, _)| *seq <= upto)
            .flat_map(|(_, op)| kinds(op))
            .flatten()
            .collect()
    }

    /// Notes that a server is told that its store is done with everything up to this operation.
    ///
    /// # Errors
    /// S8 or S10 is broken.
    pub fn stored(&mut self, server: usize, upto: Seq) -> Result<(), Violation> {
        while let Some((seq, op)) = self.server(server).pending.front().cloned() {
            if seq > upto {
                break;
            }
            let standing = self.server_mut(server);
            standing.pending.pop_front();
            match op {
                StoreOp::Append { zxid, .. } => {
                    standing.durable = zxid.0;
                    standing.last = zxid.0;
                }
                StoreOp::Truncate { to } | StoreOp::Reset { to } => {
                    let located = self.locate(to.0, self.server(server).durable);
                    let standing = self.server_mut(server);
                    standing.durable = located;
                    standing.last = to.0;
                }
                StoreOp::Epochs { accepted, current } => {
                    let accepted = accepted.map(|epoch| epoch.0);
                    let current = current.map(|epoch| epoch.0);
                    self.epochs(server, accepted, current)?;
                }
                StoreOp::Roll => {}
            }
        }
        if self.is_alone {
            self.commit(self.server(0).durable, server)?;
        }
        self.ensure_electable()
    }

    fn epochs(
        &mut self,
        server: usize,
        accepted: Option<i32>,
        current: Option<i32>,
    ) -> Result<(), Violation> {
        let standing = self.server_mut(server);
        let before = (standing.accepted, standing.current);
        standing.accepted = accepted.unwrap_or(standing.accepted);
        standing.current = current.unwrap_or(standing.current);
        let after = (standing.accepted, standing.current);
        if current.is_some() {
            standing.is_trusted = true;
        }
        ensure(
            after.0 >= before.0 && after.1 >= before.1 && after.1 <= after.0,
            "S8 epochs only grow",
            || format!("{} goes from {before:?} to {after:?}", letter(server)),
        )
    }

    /// Notes what a server found on its disk.
    ///
    /// # Errors
    /// S8, S10 or durability is broken.
    pub fn recovered(
        &mut self,
        server: usize,
        last: i64,
        epochs: (i32, i32),
    ) -> Result<(), Violation> {
        let standing = self.server(server).clone();
        let tip = self.locate(last, standing.tip.max(standing.durable));
        // What was asked and not confirmed may have been done or not.
        let floor = standing.pending.iter().fold(standing.durable, |floor, op| {
            let (StoreOp::Truncate { to } | StoreOp::Reset { to }) = &op.1 else {
                return floor;
            };
            let located = self.locate(to.0, floor);
            if self.contains(floor, located) {
                located
            } else {
                // Another history: what both have in common.
                let mut common = floor;
                while !self.contains(located, common) {
                    common = self.parent(common);
                }
                common
            }
        });
        // A leader's state may be durable, and what was before not yet removed: then only what is
        // committed must be there.
        let foreign = standing.foreign.map(|name| self.locate(name, tip));
        let floor = match foreign {
            Some(foreign) if self.contains(tip, foreign) => {
                let committed = self.committed();
                let mut known = floor;
                while !self.contains(committed, known) {
                    known = self.parent(known);
                }
                known
            }
            _ => floor,
        };
        ensure(
            self.contains(tip, floor),
            "S12 what was durable is recovered",
            || {
                format!(
                    "{} recovers {last:#x}, {floor:#x} was durable",
                    letter(server)
                )
            },
        )?;
        let (accepted, current) = epochs;
        ensure(
            accepted >= standing.accepted && current >= standing.current,
            "S8 epochs survive",
            || {
                format!(
                    "{} recovers epochs {accepted} and {current}, had {} and {}",
                    letter(server),
                    standing.accepted,
                    standing.current
                )
            },
        )?;
        if self.is_alone {
            // A server alone has no epochs: what it lost it may number anew.
            self.txns.retain(|zxid, _| *zxid <= tip);
        }
        let is_trusted = standing.is_trusted;
        *self.server_mut(server) = Standing {
            tip,
            durable: tip,
            last,
            accepted,
            current,
            is_trusted,
            lost: standing.lost,
            foreign: None,
            views: standing.views,
            pending: VecDeque::new(),
        };
        self.ensure_electable()
    }

    /// Whether no quorum is in danger if this server forgets everything.
    #[must_use]
    pub fn may_forget(&self, server: usize) -> bool {
        let committed = self.committed();
        let others = self.servers.iter().enumerate();
        let others = others.filter(|(other, _)| self.first.is_voter(*other));
        let trusted = others.filter(|(other, it)| *other != server && it.is_trusted);
        let has = |it: &Standing| self.contains(it.durable, committed);
        let (having, lacking): (Vec<_>, Vec<_>) = trusted.partition(|(_, it)| has(it));
        let quorum = self.first.servers.values().filter(|votes| **votes).count() / 2 + 1;
        having.len() + lacking.len() >= quorum && lacking.len() < quorum
    }

    /// Notes that a server's disk is empty.
    pub fn forgets(&mut self, server: usize) {
        let standing = self.server_mut(server);
        let lost = Some((standing.current, standing.durable));
        *standing = Standing {
            lost,
            views: standing.views.clone(),
            ..Standing::default()
        };
    }

    /// Notes a packet that a learner's or a leader's server sends.
    ///
    /// # Errors
    /// S2, S7, S9, S14 or S16 is broken.
    pub fn sends(
        &mut self,
        bond: &mut Bond,
        from: usize,
        kind: i32,
        zxid: i64,
    ) -> Result<(), Violation> {
        if from == bond.learner {
            self.learner_sends(bond, kind, zxid)
        } else {
            self.leader_sends(bond, kind, zxid)
        }
    }

    fn leader_sends(&mut self, bond: &mut Bond, kind: i32, zxid: i64) -> Result<(), Violation> {
        let epoch = Zxid(zxid).epoch().0;
        let leader = bond.leader;
        match kind {
            17 => {
                bond.epoch = epoch;
                let accepted = self.server(leader).accepted;
                ensure(
                    accepted == epoch,
                    "S16 a leader has accepted the epoch it proposes",
                    || format!("{} proposes {epoch}, accepted {accepted}", letter(leader)),
                )
            }
            10 => {
                let tip = self.server(leader).tip;
                bond.is_newleader_sent = true;
                if bond.has_proposals_before_newleader {
                    self.seen.push("diff_with_proposals_before_newleader");
                }
                let start = *self.starts.entry(epoch).or_insert(Start {
                    leader,
                    tip,
                    is_established: false,
                });
                ensure(start.leader == leader, "S7 one leader per epoch", || {
                    let other = letter(start.leader);
                    format!("{} and {other} lead epoch {epoch}", letter(leader))
                })
            }
            12 => {
                bond.is_uptodate_sent = true;
                self.establish(bond.epoch, leader)
            }
            13 => {
                self.seen.push("sync_by_diff");
                Ok(())
            }
            14 => {
                self.seen.push("sync_by_trunc");
                Ok(())
            }
            15 => {
                self.seen.push("sync_by_snap");
                Ok(())
            }
            2 => {
                if !bond.is_newleader_sent {
                    bond.has_proposals_before_newleader = true;
                }
                ensure(
                    self.txns.contains_key(&zxid),
                    "S1 what is sent was proposed",
                    || format!("{} sends PROPOSAL of {zxid:#x}", letter(leader)),
                )
            }
            COMMIT | 8 | 9 | 19 => {
                if kind == COMMIT && bond.is_newleader_sent && !bond.is_uptodate_sent {
                    self.seen.push("commit_between_newleader_and_uptodate");
                }
                let start = self.starts.get(&bond.epoch);
                if start.is_some_and(|start| start.is_established && start.leader == leader) {
                    self.commit(zxid, leader)
                } else {
                    Ok(())
                }
            }
            _ => Ok(()),
        }
    }

    fn learner_sends(&self, bond: &mut Bond, kind: i32, zxid: i64) -> Result<(), Violation> {
        let learner = bond.learner;
        let standing = self.server(learner);
        let is_voter = bond.is_follower;
        let name = letter(learner);
        match kind {
            11 => {
                bond.is_follower = true;
                Ok(())
            }
            18 => ensure(
                standing.accepted >= bond.epoch,
                "S16 ACKEPOCH only after acceptedEpoch is durable",
                || format!("{name} accepts {}, has {}", bond.epoch, standing.accepted),
            ),
            3 if Zxid(zxid).counter() == 0 => {
                bond.has_acked = true;
                let epoch = Zxid(zxid).epoch().0;
                ensure(
                    standing.current == epoch,
                    "S16 ACK of NEWLEADER only after currentEpoch is durable",
                    || format!("{name} acks epoch {epoch}, has {}", standing.current),
                )?;
                let Some(start) = self.starts.get(&epoch) else {
                    return Err(Violation::new(
                        "S16 ACK of NEWLEADER",
                        format!("{name} acks epoch {epoch}, which nobody began"),
                    ));
                };
                ensure(
                    !is_voter || self.contains(standing.durable, start.tip),
                    "S16 ACK of NEWLEADER only after the history is durable",
                    || {
                        format!(
                            "{name} acks epoch {epoch} of {:#x}, {:#x} is durable",
                            start.tip, standing.durable
                        )
                    },
                )?;
                // An observer's log counts for nothing, and need not be durable.
                let end = if is_voter {
                    standing.durable
                } else {
                    standing.tip
                };
                self.ensure_begins_with(learner, end, epoch)
            }
            3 => {
                ensure(
                    bond.has_acked,
                    "S16 ACK of NEWLEADER before any other",
                    || format!("{name} acks {zxid:#x}"),
                )?;
                let is_durable =
                    self.txns.contains_key(&zxid) && self.contains(standing.durable, zxid);
                ensure(
                    !is_voter || is_durable,
                    "S16 ACK only of what is durable",
                    || format!("{name} acks {zxid:#x}, {:#x} is durable", standing.durable),
                )
            }
            _ => Ok(()),
        }
    }

    /// Whether the quorums that this transaction needs have it, durably: that of the membership in
    /// force, and those of every change up to it that is not committed.
    fn has_quorum(&self, zxid: i64, epoch: Option<i32>) -> bool {
        let pending = self.views_of(zxid);
        // A later leader commits by the quorums that take its history over.
        let latest = self.starts.keys().next_back();
        let is_of_latest = latest == Some(&Zxid(zxid).epoch().0);
        let txn = self.txns.get(&zxid).filter(|_| is_of_latest);
        let rules = txn.map(|txn| &txn.rules);
        let mut views = pending.iter().chain(rules.into_iter().flatten());
        views.all(|view| self.has_quorum_of(view, zxid, epoch))
    }

    fn has_quorum_of(&self, view: &View, zxid: i64, epoch: Option<i32>) -> bool {
        let has = |(current, durable): (i32, i64)| {
            epoch.is_none_or(|epoch| current >= epoch) && self.contains(durable, zxid)
        };
        view.has_quorum(|server| {
            let it = self.servers.get(server);
            it.is_some_and(|it| has((it.current, it.durable)) || it.lost.is_some_and(has))
        })
    }

    /// The membership in force, and the changes in a history that are not committed.
    fn views_of(&self, tip: i64) -> Vec<Rc<View>> {
        let committed = self.committed();
        let mut views = vec![self.view(self.last_reconfig(committed))];
        let mut at = self.last_reconfig(tip);
        while at > committed {
            views.push(self.view(at));
            at = self.last_reconfig(self.parent(at));
        }
        views
    }

    fn last_reconfig(&self, zxid: i64) -> i64 {
        self.txns.get(&zxid).map_or(0, |txn| txn.reconfig)
    }

    fn view(&self, reconfig: i64) -> Rc<View> {
        let txn = self.txns.get(&reconfig);
        let view = txn.and_then(|txn| txn.view.as_ref());
        Rc::clone(view.unwrap_or(&self.first))
    }

    /// Whose quorums a transaction after `parent` needs for certain (S18): what its leader may have
    /// committed meanwhile, and told nobody, is not pending.
    fn rules(&self, parent: i64, view: Option<&Rc<View>>, zxid: i64) -> Vec<Rc<View>> {
        let last = self.last_reconfig(parent);
        let mut rules = Vec::new();
        if last > self.committed() && !self.has_quorum(last, None) {
            rules = self.views_of(last);
        } else if let Some(view) = view {
            // Successive memberships: both must agree to the change.
            rules.push(self.view(last));
            rules.push(Rc::clone(view));
        }
        debug_assert!(zxid > last, "a history ascends");
        rules
    }

    /// Notes what a server has in its membership files.
    ///
    /// # Errors
    /// What it holds for in force is not committed.
    pub fn remembers(
        &mut self,
        server: usize,
        in_force: View,
        seen: Option<View>,
    ) -> Result<(), Violation> {
        let version = in_force.version;
        // The first is given the name of the first epoch.
        if version > self.committed() && Zxid(version).counter() != 0 {
            // A leader that leaves at once tells nobody that its epoch was established.
            let latest = self.starts.iter().next_back();
            let latest = latest.filter(|(_, start)| start.leader == server && start.tip >= version);
            match latest.map(|(epoch, _)| *epoch) {
                Some(epoch) => self.establish(epoch, server)?,
                None => self.commit(version, server)?,
            }
        }
        let views = core::iter::once(in_force).chain(seen).map(Rc::new);
        self.server_mut(server).views = views.collect();
        Ok(())
    }

    /// Whether a server is in the ensemble, as the last committed membership says.
    #[must_use]
    pub fn is_member(&self, server: usize) -> bool {
        let view = self.view(self.last_reconfig(self.committed()));
        view.servers.contains_key(&server)
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

    /// Notes that a server begins to write a snapshot.
    pub fn writes_snapshot(&mut self, server: usize, name: i64) {
        let tip = self.server(server).tip;
        let located = self.locate(name, tip);
        let is_own = self.contains(tip, located) && located >= self.server(server).durable;
        self.server_mut(server).foreign = (!is_own).then_some(name);
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

    /// S10: whichever quorum is left, whom it would elect has all that is committed.
    fn ensure_electable(&self) -> Result<(), Violation> {
        let committed = self.committed();
        let rank = |(sid, standing): &(usize, &Standing)| (standing.current, standing.last, *sid);
        // Who votes in its own eyes.
        let voters = || {
            let servers = self.servers.iter().enumerate();
            servers.filter(|(server, it)| {
                it.is_trusted && it.views.iter().any(|view| view.is_voter(*server))
            })
        };
        for voter in voters() {
            if self.contains(voter.1.durable, committed) {
                continue;
            }
            let may_follow = |other: usize| {
                let mut voters = voters();
                let other = voters.find(|(server, _)| *server == other);
                other.is_some_and(|other| {
                    let knows = other.1.views.iter().any(|view| view.is_voter(voter.0));
                    knows && rank(&other) <= rank(&voter)
                })
            };
            // It leads only with the quorums of every membership that it knows.
            let mut views = voter.1.views.iter();
            ensure(
                !views.all(|view| view.has_quorum(may_follow)),
                "S10 whom a quorum elects has all that is committed",
                || {
                    let standings: Vec<_> = self.servers.iter().map(Standing::shown).collect();
                    format!(
                        "{} could be elected without {committed:#x}: {}",
                        letter(voter.0),
                        standings.join(", ")
                    )
                },
            )?;
        }
        Ok(())
    }

    /// S14: a snapshot that a restart could load holds only what the log of its server holds, or
    /// what is committed.
    ///
    /// # Errors
    /// One holds more.
    pub fn ensure_snapshot(&self, server: usize, name: i64) -> Result<(), Violation> {
        let standing = self.server(server);
        let located = self.locate(name, standing.tip);
        self.ensure_not_abandoned(server, located)?;
        ensure(
            self.contains(standing.durable, located) || self.contains(self.committed(), located),
            "S14 no snapshot beyond what was cut",
            || {
                format!(
                    "{} has snapshot.{name:x}, and {:#x} is durable",
                    letter(server),
                    standing.durable
                )
            },
        )
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

/// What faults call an operation.
#[must_use]
pub fn kinds(op: &StoreOp) -> [Option<Durable>; 2] {
    match op {
        StoreOp::Append { .. } => [Some(Durable::Append), None],
        StoreOp::Epochs { accepted, current } => [
            accepted.map(|_| Durable::Accepted),
            current.map(|_| Durable::Current),
        ],
        StoreOp::Reset { .. } => [Some(Durable::Reset), None],
        StoreOp::Roll => [None, None],
        StoreOp::Truncate { .. } => [Some(Durable::Truncate), None],
    }
}
