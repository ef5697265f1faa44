//! What a server of an ensemble tells beyond one that stands alone: its role, its learners, its
//! membership.
//!
//! Source: `QuorumZooKeeperServer.dumpConf`, `ReadOnlyZooKeeperServer.dumpConf`,
//! `LeaderZooKeeperServer.registerMetrics`, `MonitorCommand`.

#[cfg(test)]
mod tests;

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::ids::Zxid;
use crate::server::{Core, Sizes};
use crate::zab::{Membership, Role};

/// `electionAlg`: there has been no other since 3.4.
const FAST_LEADER_ELECTION: u32 = 3;

impl Core {
    /// Whether there is something to tell of the tree: this server serves, if only readers.
    pub(super) fn has_part(&self) -> bool {
        self.serving || self.is_read_only()
    }

    /// As `srvr` and `mntr` name it.
    pub(super) fn mode(&self) -> &'static str {
        match self.role() {
            None => "standalone",
            Some(Role::Following { .. }) => "follower",
            Some(Role::Leading { .. }) => "leader",
            Some(Role::Looking) => "read-only",
            Some(Role::Observing { .. }) => "observer",
        }
    }

    /// Its role, unless it stands alone.
    fn role(&self) -> Option<Role> {
        self.ensemble.as_deref().map(|ensemble| ensemble.role)
    }

    /// The line of `srvr` that warns of a server that only reads.
    pub(super) fn read_only_line(&self) -> &'static str {
        if self.role() == Some(Role::Looking) {
            "READ-ONLY mode; serving only read-only clients\n"
        } else {
            ""
        }
    }

    /// The last line of a leader's `srvr`.
    pub(super) fn proposal_line(&self) -> String {
        if !matches!(self.role(), Some(Role::Leading { .. })) {
            return String::new();
        }
        let [last, min, max] = self.stats.proposal_bytes.signed();
        format!("Proposal sizes last/min/max: {last}/{min}/{max}\n")
    }

    /// The last transaction, or the beginning of the leader's own epoch, which its data names as
    /// soon as it leads.
    pub(super) fn last_processed(&self) -> Zxid {
        let last = self.tree.last_zxid();
        match self.role() {
            Some(Role::Leading { epoch }) => last.max(epoch.start()),
            Some(Role::Following { .. } | Role::Looking | Role::Observing { .. }) | None => last,
        }
    }

    /// Sessions that every server knows. Only who decides about them tracks them.
    pub(super) fn global_sessions(&self) -> usize {
        match self.role() {
            None | Some(Role::Leading { .. }) => self.tracker.len(),
            Some(Role::Following { .. } | Role::Looking | Role::Observing { .. }) => {
                self.tree.sessions().count()
            }
        }
    }

    pub(super) fn local_sessions(&self) -> usize {
        let ensemble = self.ensemble.as_deref();
        ensemble.map_or(0, |ensemble| ensemble.locals.len())
    }

    /// What `conf` tells of an ensemble. A server that only reads does not tell the membership.
    pub(super) fn quorum_conf(&self) -> String {
        let Some(ensemble) = self.ensemble.as_deref() else {
            return String::new();
        };
        let (membership, _) = ensemble.zab.membership();
        let me = membership.member(ensemble.me);
        let ports = |ports: BTreeSet<u16>| -> String {
            let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
            ports.join("|")
        };
        let of = |port: fn(&crate::zab::Member) -> &[crate::link::Endpoint]| {
            ports(me.map_or_else(BTreeSet::new, |me| {
                port(me).iter().map(|it| it.port).collect()
            }))
        };
        let (election, quorum) = (of(|me| &me.election), of(|me| &me.quorum));
        // Source: `LearnerType`, PARTICIPANT and OBSERVER.
        let peer_type = u8::from(!membership.is_voter(ensemble.me));
        let text = format!(
            "initLimit={}\n\
             syncLimit={}\n\
             electionAlg={FAST_LEADER_ELECTION}\n\
             electionPort={election}\n\
             quorumPort={quorum}\n\
             peerType={peer_type}\n",
            ensemble.init_limit, ensemble.sync_limit,
        );
        text + &membership_lines(ensemble.role, membership)
    }

    /// The lines of `mntr` between the state and the metrics.
    pub(super) fn peer_state(&self) -> String {
        let state = match self.role() {
            None | Some(Role::Looking) => return String::new(),
            Some(Role::Following { .. }) => "following",
            Some(Role::Leading { .. }) => "leading",
            Some(Role::Observing { .. }) => "observing",
        };
        // A role is told once it is established: discovery and synchronization are over.
        let mut text = format!("zk_peer_state\t{state} - broadcast\n");
        if let Some(Role::Observing { leader, .. }) = self.role() {
            text += &format!("zk_observer_master_id\t{leader}\n");
        }
        text
    }

    /// The metrics that only a server of an ensemble has.
    pub(super) fn quorum_gauges(&self) -> String {
        let Some(ensemble) = self.ensemble.as_deref() else {
            return String::new();
        };
        if ensemble.role == Role::Looking {
            return String::new();
        }
        let status = ensemble.zab.status();
        let mut text = format!("zk_quorum_size\t{}\n", status.voters);
        if !ensemble.leads() {
            return text;
        }
        let synced = || status.learners.iter().filter(|learner| learner.synced);
        let followers = || synced().filter(|learner| !learner.observer);
        let [last, min, max] = self.stats.proposal_bytes.signed();
        let uptime_ms = self.now.instant.micros_since(ensemble.role_since) / 1000;
        text += &format!(
            "zk_learners\t{}\n\
             zk_synced_followers\t{}\n\
             zk_synced_non_voting_followers\t{}\n\
             zk_synced_observers\t{}\n\
             zk_pending_syncs\t{}\n\
             zk_leader_uptime\t{uptime_ms}\n\
             zk_last_proposal_size\t{last}\n\
             zk_max_proposal_size\t{max}\n\
             zk_min_proposal_size\t{min}\n",
            status.learners.len(),
            followers().count(),
            followers().filter(|learner| !learner.voter).count(),
            synced().filter(|learner| learner.observer).count(),
            status.pending_syncs,
        );
        text
    }
}

fn membership_lines(role: Role, membership: &Membership) -> String {
    if role == Role::Looking {
        return String::new();
    }
    // No end of line: the version ends the text, and the answer.
    format!("membership: \n{}", membership.to_text())
}

impl Sizes {
    /// The last, the least and the greatest; -1 until there was one. Source: `BufferStats`.
    fn signed(self) -> [i64; 3] {
        match self.last {
            Some(last) => {
                [last, self.min, self.max].map(|it| i64::try_from(it).unwrap_or(i64::MAX))
            }
            None => [-1; 3],
        }
    }
}
