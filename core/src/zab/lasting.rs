//! What outlasts a role.

use alloc::format;
use alloc::string::String;
use core::mem;

use super::durable::Confirmed;
use super::election::Standing;
use super::epochs::Epochs;
use super::history::History;
use super::io::{MembershipOp, Options, Output};
use super::membership::Membership;
use super::outbox::Outbox;
use super::quorum::Views;
use crate::ids::{Instant, ServerId, Zxid};
use crate::secret::Nonces;

/// What a server has whatever its role is.
#[derive(Debug)]
pub(super) struct Lasting {
    pub(super) options: Options,
    pub(super) out: Outbox,
    pub(super) history: History,
    pub(super) epochs: Epochs,
    pub(super) confirmed: Confirmed,
    /// The membership in force.
    pub(super) committed: Membership,
    /// The last that was proposed.
    pub(super) last_seen: Option<Membership>,
    /// Whether its own history counts.
    pub(super) trusted: bool,
    /// A leader wanted to cut this history where it has no cut: only a whole state helps.
    pub(super) snapshot_demanded: bool,
    /// Whether this server observes.
    pub(super) observer: bool,
    /// Whom it follows, itself if it leads.
    pub(super) leader: Option<ServerId>,
    /// The election has not heard of a membership yet.
    pub(super) memberships_changed: bool,
    /// Of logins on the quorum port.
    pub(super) nonces: Nonces,
}

/// Why a role ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// It is over; who leads is to be found out.
    Look(String),
    /// What this server holds cannot be mended.
    Restart(String),
    /// A membership in force names the leader, or gives this server another part: without an
    /// election.
    Move {
        /// Whom to follow, or this server itself.
        leader: ServerId,
    },
}

impl Lasting {
    /// Who must agree.
    pub(super) fn views(&self) -> Views<'_> {
        Views::new(&self.committed, self.last_seen.as_ref())
    }

    /// The last proposed membership, or the one in force.
    pub(super) fn newest(&self) -> &Membership {
        self.views().pending().unwrap_or(&self.committed)
    }

    /// This many ticks from now.
    pub(super) fn ticks(&self, count: u32) -> Instant {
        self.out.now.plus_ms(self.ticks_ms(count))
    }

    /// This many ticks in milliseconds.
    pub(super) fn ticks_ms(&self, count: u32) -> u64 {
        u64::from(self.options.tick_ms) * u64::from(count)
    }

    /// Gives the tree all that is committed, and forgets what is kept for nobody after `pin`.
    pub(super) fn deliver(&mut self, pin: Zxid) {
        while let Some((zxid, txn)) = self.history.deliver() {
            self.out.outputs.push(Output::Deliver { zxid, txn });
        }
        let options = &self.options;
        let (txns, bytes) = (options.history_txns_min, options.history_bytes_max);
        self.history.trim(txns, bytes, pin);
    }

    /// Remembers a membership that was proposed. Source: spec 4.2, only versions that are higher.
    pub(super) fn see(&mut self, membership: Membership) {
        if self.options.reconfig_enabled && membership.version > self.newest().version {
            let op = MembershipOp::Seen(membership.clone());
            self.out.outputs.push(Output::Membership(op));
            self.last_seen = Some(membership);
            self.memberships_changed = true;
        }
    }

    /// Forgets a pending membership that is later than `last`: the transaction that would have made
    /// it is not in the history, and never will be. ZooKeeper goes on asking for its quorum, and
    /// has it in force when this server comes to lead.
    pub(super) fn forget_pending(&mut self, last: i64) {
        if self.last_seen.take_if(|seen| seen.version > last).is_some() {
            // What a host has on disk is replaced by what is not newer than the committed one.
            let op = MembershipOp::Seen(self.committed.clone());
            self.out.outputs.push(Output::Membership(op));
            self.memberships_changed = true;
        }
    }

    /// A membership comes into force; with it perhaps another leader, or another part for this
    /// server. Source: spec 4.5.
    pub(super) fn activate(
        &mut self,
        membership: Membership,
        designated: Option<ServerId>,
    ) -> Result<(), Left> {
        if !self.options.reconfig_enabled || membership.version <= self.committed.version {
            return Ok(());
        }
        let op = MembershipOp::Active(membership.clone());
        self.out.outputs.push(Output::Membership(op));
        self.out.outputs.push(Output::Activated(membership.clone()));
        let old = mem::replace(&mut self.committed, membership);
        let version = self.committed.version;
        self.last_seen.take_if(|seen| seen.version <= version);
        self.memberships_changed = true;
        let me = self.committed.member(self.options.me);
        // Who is not named takes part without a vote.
        let observer = me.is_some_and(|me| !me.voter);
        let changed = mem::replace(&mut self.observer, observer) != observer;
        let Some(leader) = self.leader else {
            return Ok(());
        };
        if let Some(designated) = designated {
            if designated == leader && (!changed || leader == self.options.me) {
                return Ok(());
            }
            return Err(Left::Move { leader: designated });
        }
        let before = old.member(leader).filter(|member| member.voter);
        let after = self.committed.member(leader).filter(|member| member.voter);
        if before.is_none() || before.map(|m| &m.quorum) != after.map(|m| &m.quorum) {
            return Err(Left::Look(format!(
                "server {leader} does not lead in the membership of version {version:x}"
            )));
        }
        if changed {
            return Err(Left::Move { leader });
        }
        Ok(())
    }

    /// Whether the store has finished nothing for so long that a leader would give up.
    ///
    /// Such a server has no vote: it may well have the best history, so that it would be elected,
    /// fail to make its epoch durable, and be elected again, for as long as its disk stalls.
    /// ZOOKEEPER-2247.
    pub(super) fn store_stalls(&self) -> bool {
        let limit_ms = self.ticks_ms(self.options.sync_limit);
        let since = self.out.storing_since();
        since.is_some_and(|since| since.plus_ms(limit_ms) <= self.out.now)
    }

    /// What this server is when a round of election begins. Source: spec 1.7.
    pub(super) fn standing(&self) -> Standing {
        let epoch = self.epochs.current();
        let zxid = self.history.last();
        if self.observer {
            Standing::Observer
        } else if !self.views().is_voter(self.options.me) {
            Standing::NonVoter { zxid, epoch }
        } else if !self.trusted || self.store_stalls() {
            Standing::Untrusted { epoch }
        } else {
            Standing::Voter { zxid, epoch }
        }
    }
}
