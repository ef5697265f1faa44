//! Leading: an epoch is agreed on, learners are brought in line, transactions are broadcast.
//!
//! ```text
//! Discovering  a quorum's promises            -> epoch, acceptedEpoch written
//! Promising    acceptedEpoch durable          -> LEADERINFO
//! Agreeing     a quorum's ACKEPOCH            -> currentEpoch written; DIFF, TRUNC or SNAP, NEWLEADER
//! Adopting     a quorum's ACK of NEWLEADER    -> the whole history is committed
//! Established  UPTODATE, PROPOSAL, COMMIT     -> until a quorum is lost
//! ```
//!
//! This server counts in each quorum only by its own store's confirmation. `door` says who is let
//! in, `discovery` is the way to a learner's NEWLEADER, `broadcast` what comes after, `beat` what time brings.
//! Source: spec 2, 3; `Leader`, `LearnerHandler`.

mod beat;
mod broadcast;
mod choice;
mod discovery;
mod door;
mod handler;
mod reads;
mod state;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;

use handler::{Handler, Stage};
use reads::Reads;

use super::io::{Event, Output};
use super::lasting::{Lasting, Left};
use super::membership::Membership;
use crate::ids::{Epoch, Instant, LinkId, Seq, ServerId, Zxid};
use crate::link::{Endpoint, LinkInput, Port};
use crate::wire::quorum::Packet;

/// This server's leadership, from the vote on.
#[derive(Debug)]
pub(super) struct Leader {
    phase: Phase,
    /// When the phase must be over.
    deadline: Instant,
    next_beat: Instant,
    beats: u64,
    learners: BTreeMap<LinkId, Handler>,
    ids: BTreeMap<ServerId, LinkId>,
    proposals: VecDeque<Proposal>,
    /// Own appends that are not durable.
    appends: VecDeque<(Seq, Zxid, Instant)>,
    /// Up to here this server has everything durably.
    own: Zxid,
    /// Who must agree to what is proposed.
    rules: Arc<Vec<Membership>>,
    reads: Reads,
    /// A learner has promised itself to this later epoch.
    outbid: Option<(LinkId, Epoch)>,
    /// Voters that look for a leader again.
    returned: BTreeSet<ServerId>,
}

/// How far the leadership is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Discovering,
    Promising { epoch: Epoch, seq: Seq },
    Agreeing { epoch: Epoch },
    Adopting { epoch: Epoch, seq: Seq },
    Established { epoch: Epoch },
}

/// What is proposed and not committed.
#[derive(Debug)]
struct Proposal {
    zxid: Zxid,
    rules: Arc<Vec<Membership>>,
    membership: Option<Membership>,
}

impl Leader {
    /// Begins to lead: learners are let in at once. Source: spec 2.2.
    pub(super) fn begin(lasting: &mut Lasting) -> Result<Self, Left> {
        if !lasting.trusted {
            // Nobody who knows of it votes for it. Source: spec 1.7.
            return Err(Left::Look("elected without a history that counts".into()));
        }
        let listen = Output::Listen(Port::Quorum, listen_endpoints(lasting));
        lasting.out.outputs.push(listen);
        Ok(Self {
            phase: Phase::Discovering,
            deadline: lasting.ticks(lasting.options.init_limit),
            next_beat: lasting.out.now,
            beats: 0,
            learners: BTreeMap::new(),
            ids: BTreeMap::new(),
            proposals: VecDeque::new(),
            appends: VecDeque::new(),
            own: Zxid::ZERO,
            rules: Arc::new(Vec::new()),
            reads: Reads::default(),
            outbid: None,
            returned: BTreeSet::new(),
        })
    }

    /// Gives up everything that the leadership held.
    pub(super) fn end(&mut self, lasting: &mut Lasting) {
        for handler in self.learners.values_mut() {
            handler.pipe.close(&mut lasting.out);
        }
        self.learners.clear();
        let silence = Output::Listen(Port::Quorum, Vec::new());
        lasting.out.outputs.push(silence);
    }

    /// The epoch, once a quorum follows.
    pub(super) const fn established(&self) -> Option<Epoch> {
        match self.phase {
            Phase::Established { epoch } => Some(epoch),
            Phase::Discovering
            | Phase::Promising { .. }
            | Phase::Agreeing { .. }
            | Phase::Adopting { .. } => None,
        }
    }

    pub(super) fn owns(&self, link: LinkId) -> bool {
        self.learners.contains_key(&link)
    }

    /// Something happened on a learner's connection.
    pub(super) fn link(
        &mut self,
        link: LinkId,
        input: LinkInput,
        lasting: &mut Lasting,
    ) -> Result<(), Left> {
        match input {
            LinkInput::Opened { peer, .. } => {
                self.make_room(lasting);
                let handler = Handler::new(link, peer, lasting);
                self.learners.insert(link, handler);
            }
            LinkInput::Received(bytes) => {
                if let Some(handler) = self.learners.get_mut(&link) {
                    handler.heard = lasting.out.now;
                    match handler.through(bytes, lasting) {
                        Ok(bytes) => handler.packets.receive(bytes),
                        Err(reason) => self.lose(link, &reason, Close::Refused, lasting),
                    }
                }
                self.packets(link, lasting)?;
            }
            LinkInput::Flushed(bytes) => {
                if let Some(handler) = self.learners.get_mut(&link) {
                    handler.pipe.flushed(bytes);
                    if handler.stage < Stage::Synced {
                        handler.heard = lasting.out.now;
                    }
                }
            }
            LinkInput::Secured { .. } => {}
            LinkInput::Closed => {
                self.lose(link, "the connection is gone", Close::Gone, lasting);
            }
        }
        self.advance(lasting)
    }

    /// The store has confirmed something.
    pub(super) fn stored(&mut self, lasting: &mut Lasting) -> Result<(), Left> {
        while let Some(&(seq, zxid, _)) = self.appends.front() {
            if lasting.confirmed.of(seq).is_none() {
                break;
            }
            self.own = zxid;
            self.appends.pop_front();
        }
        self.advance(lasting)
    }

    /// Hands over what was collected to be sent; the step ends.
    pub(super) fn flush(&mut self, lasting: &mut Lasting) {
        for handler in self.learners.values_mut() {
            handler.pipe.flush(&mut lasting.out);
        }
        self.reads.close();
    }

    /// Takes the packets that have arrived on a link.
    fn packets(&mut self, link: LinkId, lasting: &mut Lasting) -> Result<(), Left> {
        while let Some(handler) = self.learners.get_mut(&link) {
            let outcome = match handler.packets.next() {
                Ok(Some(packet)) => self.packet(link, packet, lasting),
                Ok(None) => return Ok(()),
                Err(error) => Err(error.to_string()),
            };
            if let Err(reason) = outcome {
                self.lose(link, &reason, Close::Refused, lasting);
            }
        }
        Ok(())
    }

    /// Takes one packet; an error is the peer's fault.
    fn packet(
        &mut self,
        link: LinkId,
        packet: Packet,
        lasting: &mut Lasting,
    ) -> Result<(), String> {
        let stage = self.learners.get(&link).map(|handler| handler.stage);
        match stage {
            None => Ok(()),
            Some(Stage::Connected) => self.introduced(link, packet, lasting),
            Some(Stage::Promising) => self.promised(link, &packet, lasting),
            Some(Stage::Claimed | Stage::Known | Stage::Promised | Stage::Snapshot) => {
                Err(format!(
                    "expected nothing before more was sent, found {}",
                    packet.kind
                ))
            }
            Some(Stage::Following | Stage::Synced | Stage::Live) => {
                self.heard(link, packet, lasting)
            }
        }
    }

    /// Goes as far as what has happened allows.
    fn advance(&mut self, lasting: &mut Lasting) -> Result<(), Left> {
        loop {
            let before = self.phase;
            match self.phase {
                Phase::Discovering => self.count_promises(lasting)?,
                Phase::Promising { epoch, seq } => self.announce(epoch, seq, lasting),
                Phase::Agreeing { epoch } => self.count_answers(epoch, lasting),
                Phase::Adopting { epoch, seq } => self.count_followers(epoch, seq, lasting)?,
                Phase::Established { .. } => {
                    self.commit(lasting)?;
                    self.admit_synced(lasting);
                    self.answer_reads(lasting);
                }
            }
            if self.phase == before {
                return Ok(());
            }
        }
    }

    /// Whether voters for which `test` holds, with this server if `me`, are a quorum everywhere.
    fn have_quorum(&self, lasting: &Lasting, me: bool, test: impl Fn(&Handler) -> bool) -> bool {
        lasting.views().have_quorum_of(|id| {
            if id == lasting.options.me {
                return me;
            }
            let link = self.ids.get(&id);
            link.and_then(|link| self.learners.get(link))
                .is_some_and(&test)
        })
    }

    /// Whether others take part in the broadcast that are a quorum without this server.
    pub(super) fn is_dispensable(&self, lasting: &Lasting) -> bool {
        self.established().is_some()
            && self.have_quorum(lasting, false, |it| it.stage == Stage::Live)
    }

    /// Closes the connection of a learner for a fault that the service above has found.
    pub(super) fn drop_learner(&mut self, link: LinkId, reason: &str, lasting: &mut Lasting) {
        self.lose(link, reason, Close::Refused, lasting);
    }

    /// Closes a learner's connection, or knows that it is gone.
    fn lose(&mut self, link: LinkId, reason: &str, how: Close, lasting: &mut Lasting) {
        let Some(mut handler) = self.learners.remove(&link) else {
            return;
        };
        if how != Close::Gone {
            handler.pipe.close(&mut lasting.out);
        }
        if how == Close::Refused {
            lasting.out.event(refused(handler.peer, reason));
        }
        if handler.stage < Stage::Known {
            return;
        }
        if self.ids.get(&handler.id) == Some(&link) {
            self.ids.remove(&handler.id);
        }
        lasting.out.event(Event::LearnerLost {
            learner: handler.id,
            reason: reason.into(),
        });
        lasting.out.outputs.push(Output::LearnerGone(link));
    }

    /// What no learner that is being brought in line needs any more.
    fn pin(&self, lasting: &Lasting) -> Zxid {
        let (_, bytes) = lasting.history.size();
        let last = lasting.history.last();
        if bytes > HISTORY_PINNED_BYTES_MAX {
            return last;
        }
        let behind = self.learners.values().filter(|handler| {
            matches!(
                handler.stage,
                Stage::Snapshot | Stage::Following | Stage::Synced
            )
        });
        let first = behind.map(|handler| handler.proposed).min();
        first.unwrap_or(last)
    }
}

/// History that is kept for learners which are being brought in line; who needs more than that is
/// dropped, and begins again.
const HISTORY_PINNED_BYTES_MAX: usize = 256 << 20;

/// Who ended a connection, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Close {
    /// It is gone.
    Gone,
    /// For want of a sign, or because it is replaced.
    Dropped,
    /// For a fault of the peer.
    Refused,
}

fn refused(peer: SocketAddr, reason: &str) -> Event {
    Event::PeerRefused {
        peer,
        port: Port::Quorum,
        reason: reason.into(),
    }
}

/// Where learners are awaited. Source: spec 2.2, `quorumListenOnAllIPs`.
fn listen_endpoints(lasting: &Lasting) -> Vec<Endpoint> {
    let me = lasting.options.me;
    let member = |membership: &Membership| {
        let member = membership.servers.get(&me);
        member.map(|member| member.quorum.clone())
    };
    let own = member(&lasting.committed)
        .or_else(|| lasting.last_seen.as_ref().and_then(member))
        .unwrap_or_default();
    if !lasting.options.listen_on_all_ips {
        return own;
    }
    Endpoint::everywhere(&own)
}
