//! Which quorums a transaction needs, and whom they would elect.

use std::rc::Rc;

use zabra_core::ids::Zxid;

use crate::ensemble::history::{History, Standing};
use crate::ensemble::members::View;
use crate::ensemble::plan::letter;
use crate::violation::{Violation, ensure};

impl History {
    /// Whether the quorums that this transaction needs have it, durably: that of the membership in
    /// force, and those of every change up to it that is not committed.
    pub(super) fn has_quorum(&self, zxid: i64, epoch: Option<i32>) -> bool {
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
    pub(super) fn views_of(&self, tip: i64) -> Vec<Rc<View>> {
        let committed = self.committed();
        let mut views = vec![self.view(self.last_reconfig(committed))];
        let mut at = self.last_reconfig(tip);
        while at > committed {
            views.push(self.view(at));
            at = self.last_reconfig(self.parent(at));
        }
        views
    }

    pub(super) fn last_reconfig(&self, zxid: i64) -> i64 {
        self.txns.get(&zxid).map_or(0, |txn| txn.reconfig)
    }

    fn view(&self, reconfig: i64) -> Rc<View> {
        let txn = self.txns.get(&reconfig);
        let view = txn.and_then(|txn| txn.view.as_ref());
        Rc::clone(view.unwrap_or(&self.first))
    }

    /// Whose quorums a transaction after `parent` needs for certain (S18): what its leader may have
    /// committed meanwhile, and told nobody, is not pending.
    pub(super) fn rules(&self, parent: i64, view: Option<&Rc<View>>, zxid: i64) -> Vec<Rc<View>> {
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

    /// S10: whichever quorum is left, whom it would elect has all that is committed.
    pub(super) fn ensure_electable(&self) -> Result<(), Violation> {
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
}
