//! Who is let in: a learner's first packet.
//!
//! Whoever reaches the quorum port can say that it is any server. What can be noticed is: a server
//! that is not in the membership, one that is connected already and answers, and a promise to an
//! epoch that no election of this ensemble was ever near.

use alloc::format;
use alloc::string::{String, ToString};

use super::handler::Stage;
use super::{Close, Leader, Phase};
use crate::ids::{Epoch, LinkId};
use crate::wire::quorum::{LearnerInfo, PROTOCOL, Packet, PacketType};
use crate::zab::election::Election;
use crate::zab::lasting::{Lasting, Left};

/// Connections that have not said yet whose they are; the oldest goes when there is another.
const STRANGERS_MAX: usize = 64;
/// By how much a server may have promised itself to a later epoch than this leader. The leader's
/// next epoch is after all its members', and there are 2^31 of them: a single wrong promise could
/// use them up. So many elections without this server take days, one after the other.
///
/// ZooKeeper's leader takes any.
const EPOCHS_AHEAD_MAX: i32 = 1 << 20;

/// What is in doubt about a learner that has said who it is.
#[derive(Debug)]
pub(super) enum Claim {
    /// It is refused, but not at once: it would come again at once.
    Refused(String),
    /// The same server is connected already, and was sent a PING.
    Rival {
        /// What the newer one said.
        packet: Packet,
        /// The older connection.
        link: LinkId,
        /// How many PINGs it will then have answered.
        pongs: u64,
    },
}

impl Leader {
    /// FOLLOWERINFO or OBSERVERINFO. Source: spec 2.3, steps 1 and 2.
    pub(super) fn introduced(
        &mut self,
        link: LinkId,
        packet: Packet,
        lasting: &mut Lasting,
    ) -> Result<(), String> {
        let observer = packet.kind == PacketType::OBSERVER_INFO;
        if !observer && packet.kind != PacketType::FOLLOWER_INFO {
            return Err(format!(
                "expected FOLLOWERINFO or OBSERVERINFO, found {}",
                packet.kind
            ));
        }
        let data = packet.data.as_deref().unwrap_or_default();
        let info = LearnerInfo::decode(data).map_err(|error| error.to_string())?;
        let accepted = packet.zxid.epoch();
        if let Err(reason) = may_enter(&info, accepted, lasting) {
            self.doubt(link, Claim::Refused(reason));
            return Ok(());
        }
        if let Some(&old) = self.ids.get(&info.server) {
            if let Some(rival) = self.learners.get_mut(&old)
                && rival.stage == Stage::Live
            {
                rival.ping(lasting.history.last(), lasting);
                let pongs = rival.pings;
                let link_of_rival = old;
                self.doubt(
                    link,
                    Claim::Rival {
                        packet,
                        link: link_of_rival,
                        pongs,
                    },
                );
                return Ok(());
            }
            let reason = "the same server has connected again";
            self.lose(old, reason, Close::Dropped, lasting);
        }
        self.ids.insert(info.server, link);
        if let Some(handler) = self.learners.get_mut(&link) {
            handler.id = info.server;
            handler.observer = observer;
            handler.accepted = accepted;
            handler.stage = Stage::Known;
        }
        self.entered(link, is_member(&info, lasting), accepted, lasting);
        Ok(())
    }

    /// Tells it the epoch if that is known; one that can never follow in it is noted.
    fn entered(&mut self, link: LinkId, member: bool, accepted: Epoch, lasting: &mut Lasting) {
        match self.phase {
            Phase::Discovering => {}
            Phase::Promising { epoch, .. }
            | Phase::Agreeing { epoch }
            | Phase::Adopting { epoch, .. }
            | Phase::Established { epoch }
                if member && accepted > epoch =>
            {
                self.outbid = Some((link, accepted));
            }
            Phase::Promising { .. } => {}
            Phase::Agreeing { epoch }
            | Phase::Adopting { epoch, .. }
            | Phase::Established { epoch } => self.inform(link, epoch, lasting),
        }
    }

    fn doubt(&mut self, link: LinkId, claim: Claim) {
        if let Some(handler) = self.learners.get_mut(&link) {
            handler.stage = Stage::Claimed;
            handler.claim = Some(claim);
        }
    }

    /// Decides about those that are in doubt.
    ///
    /// A server that lost its connection connects again at once, perhaps before the end of the old
    /// one is seen here; then that one is silent. If it is not, there are two with this id, and the
    /// one that takes part goes on undisturbed. ZooKeeper's leader lets both take part.
    pub(super) fn judge(&mut self, lasting: &mut Lasting) {
        for link in self.at(Stage::Claimed) {
            let handler = self.learners.get_mut(&link);
            let claim = handler.and_then(|handler| handler.claim.take());
            match claim {
                None => {}
                Some(Claim::Refused(reason)) => self.lose(link, &reason, Close::Refused, lasting),
                Some(Claim::Rival {
                    packet,
                    link: rival,
                    pongs,
                }) => self.judge_rival(link, packet, rival, pongs, lasting),
            }
        }
    }

    fn judge_rival(
        &mut self,
        link: LinkId,
        packet: Packet,
        rival: LinkId,
        pongs: u64,
        lasting: &mut Lasting,
    ) {
        if let Some(there) = self.learners.get(&rival) {
            if there.pongs >= pongs {
                let reason = format!(
                    "it says that it is server {}, which is connected from {} and answers: do two \
                     have this myid?",
                    there.id, there.peer
                );
                self.lose(link, &reason, Close::Refused, lasting);
                return;
            }
            if there.heard.plus_ms(lasting.ticks_ms(1)) > lasting.out.now {
                let link_of_rival = rival;
                self.doubt(
                    link,
                    Claim::Rival {
                        packet,
                        link: link_of_rival,
                        pongs,
                    },
                );
                return;
            }
            let reason = "the same server has connected again";
            self.lose(rival, reason, Close::Dropped, lasting);
        }
        if let Some(handler) = self.learners.get_mut(&link) {
            handler.stage = Stage::Connected;
        }
        if let Err(reason) = self.introduced(link, packet, lasting) {
            self.lose(link, &reason, Close::Refused, lasting);
        }
    }

    /// Makes room for another connection.
    pub(super) fn make_room(&mut self, lasting: &mut Lasting) {
        let strangers = self
            .learners
            .iter()
            .filter(|(_, handler)| handler.stage < Stage::Known);
        let (mut count, mut oldest) = (0, None);
        for (&link, _) in strangers {
            count += 1;
            // A driver counts links as they come.
            oldest = oldest.or(Some(link));
        }
        if let (STRANGERS_MAX.., Some(oldest)) = (count, oldest) {
            let reason = format!("it is the oldest of {count} that have not said whose they are");
            self.lose(oldest, &reason, Close::Refused, lasting);
        }
    }

    /// A server that has promised itself to a later epoch, of somebody who did not come to lead,
    /// can never follow in this one. With ZooKeeper's leader it stays outside until the leader
    /// changes for another reason; here the next epoch is begun for it, once.
    ///
    /// Not for one that has also followed in a later epoch, or has more of this one: had a quorum of
    /// this ensemble led it there, this leader would not have one. It would win the election, and
    /// what it has would take the place of what was acknowledged here.
    pub(crate) fn check_outbid(
        &mut self,
        election: &Election,
        lasting: &Lasting,
    ) -> Result<(), Left> {
        let Some((link, epoch)) = self.outbid.take() else {
            return Ok(());
        };
        let own = (
            i64::from(lasting.epochs.current().0),
            lasting.history.last(),
        );
        let server = self.learners.get(&link).map(|handler| handler.id);
        let theirs = server.and_then(|server| election.history_of(server));
        let (Some(server), Some(theirs)) = (server, theirs.filter(|theirs| *theirs > own)) else {
            return Err(Left::Look(format!(
                "a server has promised itself to epoch {epoch}, after this leader's"
            )));
        };
        if self.established().is_none() {
            return Err(Left::Look(format!(
                "server {server} has more than this leader: epoch {} and {}",
                theirs.0, theirs.1
            )));
        }
        let reason = format!(
            "server {server} has a history up to epoch {} and {}, this leader one up to epoch {} \
             and {}, and a quorum that has it: is it of another ensemble?",
            theirs.0, theirs.1, own.0, own.1
        );
        self.doubt(link, Claim::Refused(reason));
        Ok(())
    }
}

/// Whether this may be one of this leader's learners.
fn may_enter(info: &LearnerInfo, accepted: Epoch, lasting: &Lasting) -> Result<(), String> {
    let server = info.server;
    if info.protocol < PROTOCOL {
        return Err(format!(
            "expected a protocol of {PROTOCOL:#x} or later, found {:#x}",
            info.protocol
        ));
    }
    if server == lasting.options.me {
        return Err(format!(
            "it says that it is server {server}, which is this one: do two have this myid?"
        ));
    }
    let version = lasting.committed.version;
    if info.config_version > version {
        return Err(format!(
            "server {server} has a membership of version {:x}, the leader's is {version:x}",
            info.config_version
        ));
    }
    // One that is to join by a reconfiguration has to be in step before.
    if !lasting.options.reconfig_enabled && !is_member(info, lasting) {
        return Err(format!(
            "it says that it is server {server}, which is none of this leader's server.N"
        ));
    }
    let own = lasting
        .epochs
        .accepted()
        .max(lasting.history.last().epoch());
    if accepted.0 < 0 || accepted.0.saturating_sub(own.0) > EPOCHS_AHEAD_MAX {
        return Err(format!(
            "server {server} has promised itself to epoch {accepted}, this leader to {own}: is it \
             of another ensemble?"
        ));
    }
    Ok(())
}

fn is_member(info: &LearnerInfo, lasting: &Lasting) -> bool {
    let views = lasting.views();
    views.iter().any(|view| view.member(info.server).is_some())
}
