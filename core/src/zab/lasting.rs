//! What outlasts a role.

use alloc::string::String;

use super::durable::Confirmed;
use super::epochs::Epochs;
use super::history::History;
use super::io::{Event, MembershipOp, Options, Output};
use super::membership::Membership;
use super::outbox::Outbox;
use super::quorum::Views;
use crate::ids::{Instant, Zxid};

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
}

/// Why a role ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// It is over; who leads is to be found out.
    Look(String),
    /// What this server holds cannot be mended.
    Restart(String),
    /// The membership names another leader or gives this server another part: go there without an
    /// election.
    Move(super::Destination),
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
        }
    }

    /// Tells an operator something.
    pub(super) fn notice(&mut self, text: String) {
        self.out.event(Event::Notice(text));
    }
}
