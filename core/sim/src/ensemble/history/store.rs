//! What servers ask of their stores, what is confirmed, and what a restart finds.

use std::collections::VecDeque;
use std::rc::Rc;

use zabra_core::ids::{Seq, Zxid};
use zabra_core::lane::StoreOp;

use crate::ensemble::history::{History, Standing, Txn};
use crate::ensemble::members::View;
use crate::ensemble::plan::{Durable, letter};
use crate::node::hash;
use crate::violation::{Violation, ensure};

impl History {
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

    /// Notes that a server begins to write a snapshot.
    pub fn writes_snapshot(&mut self, server: usize, name: i64) {
        let tip = self.server(server).tip;
        let located = self.locate(name, tip);
        let is_own = self.contains(tip, located) && located >= self.server(server).durable;
        self.server_mut(server).foreign = (!is_own).then_some(name);
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

/// What faults call an operation.
#[must_use]
pub(crate) fn kinds(op: &StoreOp) -> [Option<Durable>; 2] {
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
