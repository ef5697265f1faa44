//! A server as one of an ensemble: what [`Zab`] has ordered is applied, and clients' requests go to
//! the leader.
//!
//! Source: `LeaderZooKeeperServer`, `FollowerZooKeeperServer`, `LearnerZooKeeperServer`.

mod leading;
mod learning;
mod local;
mod reconfig;
mod state;
#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::conn::Stage;
use super::overlay::Overlay;
use super::session::Tracker;
use super::{Core, Event, Output, Reaper, Server, Sizes};
use crate::ids::{Instant, LinkId, ServerId, SessionId, Zxid};
use crate::lane::{SnapshotOp, StoreOp};
use crate::zab::{self, Role, Zab};

use leading::Leading;
pub(super) use leading::Owner;
use learning::Learning;
pub(super) use local::Passage;
use state::State;

/// What an operator decides about a server of an ensemble, beside what [`zab::Options`] holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnsembleConfig {
    /// `readonlymode.enabled`: without a leader, clients that ask for it may read.
    pub read_only_mode: bool,
    /// `localSessionsEnabled`.
    pub local_sessions: bool,
    /// `localSessionsUpgradingEnabled`.
    pub local_sessions_upgrading: bool,
    /// `leaderServes`: whether clients are served while this server leads.
    pub leader_serves: bool,
    /// `reconfigEnabled`.
    pub reconfig: bool,
    /// `standaloneEnabled`: whether an ensemble may not shrink to one voter.
    pub standalone_enabled: bool,
}

/// One server's part in an ensemble.
pub(super) struct Ensemble {
    pub(super) config: EnsembleConfig,
    /// Which server this is.
    pub(super) me: ServerId,
    /// `initLimit` and `syncLimit`, for who asks.
    pub(super) init_limit: u32,
    pub(super) sync_limit: u32,
    pub(super) zab: Zab,
    /// Whether `zab` is heard: not before the first snapshot is durable.
    begun: bool,
    pub(super) role: Role,
    /// Since when it has this role.
    pub(super) role_since: Instant,
    pub(super) leading: Leading,
    pub(super) learning: Learning,
    /// Sessions that only this server knows.
    pub(super) locals: Tracker,
    state: State,
    /// Whether the tree came from the leader that is followed now.
    pub(super) tree_is_leaders: bool,
    /// Since when there is no leader.
    pub(super) looking_since: Instant,
    /// Session ids begin with it.
    entropy: u64,
}

impl Ensemble {
    /// Whether this server leads, and its reign is established.
    pub(super) const fn leads(&self) -> bool {
        matches!(self.role, Role::Leading { .. })
    }

    /// When it has something to do though nothing arrives.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        let zab = self.begun.then(|| self.zab.next_wake()).flatten();
        [zab, self.locals.next_expiry()].into_iter().flatten().min()
    }

    /// Whether it follows or observes.
    pub(super) const fn learns(&self) -> bool {
        matches!(self.role, Role::Following { .. } | Role::Observing { .. })
    }
}

impl Server {
    /// A server of an ensemble over what was recovered.
    ///
    /// `entropy` as in [`Server::new`].
    #[must_use]
    #[expect(
        clippy::too_many_arguments,
        reason = "what the operator decides, what the disk held, and the moment; each once"
    )]
    pub fn in_ensemble(
        config: super::Config,
        ensemble: EnsembleConfig,
        options: zab::Options,
        loader: crate::tree::Loader,
        recovered: super::Recovered,
        history: zab::Recovered,
        entropy: u64,
        now: crate::machine::Now,
    ) -> Self {
        let (tree, mismatches) = loader.finish_with_orphans();
        let history = zab::Recovered {
            divergent: history.divergent || !mismatches.is_empty(),
            ..history
        };
        let parts = (tree, mismatches, Vec::new());
        let mut server = Self::with_tree(config, parts, recovered, entropy, now);
        let trusted = history.trusted;
        if !trusted {
            server.core.snapshots.none_yet();
        }
        let text = options.committed.to_text();
        let version = Zxid(options.committed.version);
        server.core.tree.set_membership(&text, version, now.wall);
        let (me, init_limit, sync_limit) = (options.me, options.init_limit, options.sync_limit);
        let zab = Zab::new(options, history, entropy, now.instant);
        server.core.serving = false;
        server.core.stats.looking = 1;
        let locals = Tracker::new(server.core.config.tick_ms);
        server.core.ensemble = Some(alloc::boxed::Box::new(Ensemble {
            config: ensemble,
            me,
            init_limit,
            sync_limit,
            zab,
            // Who knows nothing and must be told has no snapshot to write: with one it would be
            // taken at the next start for a server that knows.
            begun: recovered.snapshot || !trusted,
            role: Role::Looking,
            role_since: now.instant,
            leading: Leading::default(),
            learning: Learning::default(),
            locals,
            state: State::default(),
            tree_is_leaders: false,
            looking_since: now.instant,
            entropy,
        }));
        server
    }

    /// Does what `zab` asks for, until it asks for no more.
    pub(super) fn perform(&mut self) {
        loop {
            let Some(ensemble) = self.core.ensemble.as_deref_mut() else {
                return;
            };
            if !ensemble.begun {
                return;
            }
            let outputs = ensemble.zab.take_outputs();
            if outputs.is_empty() {
                return;
            }
            for output in outputs {
                self.perform_one(output);
            }
        }
    }

    fn perform_one(&mut self, output: zab::Output) {
        let core = &mut self.core;
        match output {
            zab::Output::Link(link, output) => core.outputs.push(Output::Link(link, output)),
            zab::Output::Listen(port, on) => core.outputs.push(Output::Listen(port, on)),
            zab::Output::Store(seq, op) => {
                if let StoreOp::Append { txn, .. } = &op {
                    core.snapshots.logged(txn.len());
                }
                core.outputs.push(Output::Store(seq, op));
            }
            zab::Output::Membership(op) => core.outputs.push(Output::Membership(op)),
            zab::Output::Restart(reason) => core.restart(reason),
            zab::Output::Event(event) => core.events.push(Event::Zab(event)),
            zab::Output::Role(role) => self.role_changed(role),
            zab::Output::Deliver { zxid, txn } => self.deliver(zxid, txn),
            zab::Output::Serve => self.serve(),
            zab::Output::SnapshotBegin { zxid } => self.state_begins(zxid),
            zab::Output::SnapshotBytes(bytes) => self.state_bytes(bytes),
            zab::Output::SnapshotWanted(link) => {
                if let Some(ensemble) = core.ensemble.as_deref_mut() {
                    ensemble.state.want(link);
                }
            }
            zab::Output::Request { from, data, ids } => self.forwarded(from, data, ids),
            zab::Output::SyncAnswered(link) => self.release_learner(link),
            zab::Output::Synced => self.synced(),
            zab::Output::PingDue => self.answer_ping(),
            zab::Output::Touches(data) => core.touched(&data),
            zab::Output::Revalidate { from, data } => self.revalidate(from, &data),
            zab::Output::Revalidated(data) => self.revalidated(&data),
            zab::Output::LearnerGone(link) => core.learner_gone(link),
            zab::Output::Activated(membership) => core.activated(&membership),
        }
    }

    /// Whoever is connected was served by another role: its requests are nobody's any more. Clients
    /// come back and find their sessions. Source: `ZooKeeperServer.shutdown`.
    fn role_changed(&mut self, role: Role) {
        let links: Vec<LinkId> = self
            .conns
            .iter()
            .filter(|(_, conn)| conn.session != SessionId::NONE || conn.stage == Stage::Opening)
            .map(|(&link, _)| link)
            .collect();
        for link in links {
            self.close(link);
        }
        let core = &mut self.core;
        core.serving = false;
        core.proposals.clear();
        core.proposed_bytes = 0;
        core.syncs.clear();
        core.reaper = Reaper::default();
        // Of sessions that ended while this server did not hear of it.
        core.pins
            .retain(|&session, _| core.tree.has_session(session));
        core.tracker = Tracker::new(core.config.tick_ms);
        // What was proposed under another role is nothing to be judged by.
        core.clear_overlay();
        let (now, tick_ms) = (core.now.instant, core.config.tick_ms);
        if let Some(ensemble) = core.ensemble.as_deref_mut() {
            ensemble.locals = Tracker::new(tick_ms);
            ensemble.tree_is_leaders &= role != Role::Looking;
            if role == Role::Looking {
                ensemble.looking_since = now;
                core.stats.looking += 1;
            } else {
                let took_ms = ensemble.zab.status().election_ms;
                core.stats.election_ms.record(took_ms);
            }
            ensemble.role = role;
            ensemble.role_since = now;
            ensemble.leading = Leading::default();
            ensemble.learning = Learning::default();
        }
        // A leader is told its role when a quorum is in step; others may have asked for the state
        // before that.
        if !matches!(role, Role::Leading { .. }) {
            core.forget_learners();
        }
    }

    /// The role is established, and the tree holds all that was committed before.
    fn serve(&mut self) {
        let core = &mut self.core;
        let Some(ensemble) = core.ensemble.as_deref() else {
            return;
        };
        core.serving = true;
        core.digests_settled = true;
        if ensemble.leads() {
            core.stats.proposal_bytes = Sizes::default();
            core.clear_overlay();
            core.begin_reign();
        }
    }

    /// Stop 8: a transaction is committed.
    fn deliver(&mut self, zxid: Zxid, txn: Bytes) {
        let core = &mut self.core;
        let mut link = None;
        let mut mine = false;
        if core
            .proposals
            .front()
            .is_some_and(|front| front.zxid == zxid)
            && let Some(front) = core.proposals.pop_front()
        {
            core.proposed_bytes -= front.bytes;
            link = front.link;
            mine = true;
        }
        if let Err(reason) = self.commit_one(zxid, &txn, link, mine) {
            self.core.restart(reason);
        }
    }
}

impl Core {
    /// The state cannot be gone on with.
    pub(super) fn restart(&mut self, reason: String) {
        self.serving = false;
        self.outputs.push(Output::Restart(reason));
    }

    pub(super) fn ensemble_mut(&mut self) -> Option<&mut Ensemble> {
        self.ensemble.as_deref_mut()
    }

    pub(super) fn leads(&self) -> bool {
        self.ensemble.as_deref().is_none_or(Ensemble::leads)
    }

    /// Whether this server leads and therefore serves no clients.
    pub(super) fn leads_only(&self) -> bool {
        let ensemble = self.ensemble.as_deref();
        ensemble.is_some_and(|it| it.leads() && !it.config.leader_serves)
    }

    pub(super) fn learns(&self) -> bool {
        self.ensemble.as_deref().is_some_and(Ensemble::learns)
    }

    /// Nothing is proposed that is not applied.
    fn clear_overlay(&mut self) {
        let seed = self.ensemble.as_deref().map_or(0, |it| it.entropy);
        self.overlay = Overlay::new(&self.tree, self.config.tree_digest, seed);
    }

    pub(super) fn ensemble_begun(&self) -> bool {
        self.ensemble.as_deref().is_some_and(|it| it.begun)
    }

    /// The first snapshot is durable: from here on others may hear of this server.
    pub(super) fn begin_ensemble(&mut self) {
        if let Some(ensemble) = self.ensemble_mut() {
            ensemble.begun = true;
        }
    }

    /// A membership is in force: its znode says so, on each server for itself.
    fn activated(&mut self, membership: &zab::membership::Membership) {
        let version = Zxid(membership.version);
        self.tree
            .set_membership(&membership.to_text(), version, self.now.wall);
        self.events.push(Event::Membership {
            text: membership.to_text(),
        });
    }
}
