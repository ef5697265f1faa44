//! Fast leader election: which server a quorum wants to lead.
//!
//! A server that looks for a leader tells every voter whom it proposes, and proposes whoever is
//! better as soon as it hears of one; a quorum that proposes the same has decided. One that joins
//! later hears from the others whom they follow.
//!
//! This is no part of what makes ZAB safe: a leader that the fewest want, or two leaders, get
//! no quorum to promise them an epoch. It only has to end, soon, with the server that has the
//! longest history.
//!
//! Start reading at [`Election`]; [`round`] is the rule, [`mesh`] the connections.
//!
//! Source: spec 1, `FastLeaderElection`, `QuorumCnxManager`.

mod mesh;
mod peer;
mod round;
#[cfg(test)]
mod tests;
mod vote;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;

use self::mesh::{Happening, Mesh};
use self::round::{Outcome, Round, Tell, Word};
use self::vote::{Ballot, Voters};
pub use self::vote::{Standing, Vote};
use super::io::{Event, Options};
use super::membership::Membership;
use super::outbox::Outbox;
use crate::ids::{Epoch, Instant, LinkId, ServerId, Zxid};
use crate::link::{Endpoint, LinkInput};
use crate::wire::election::{Notification, State, VERSION};

/// Milliseconds that an observer waits at most before it looks again, so that all of a lost leader
/// do not come at once. Source: `zookeeper.observer.election.DelayMs`.
const OBSERVER_DELAY_MS_MAX: u64 = 200;
/// Shortest pauses between two words after which a round has come to nothing, where another may do
/// better.
const TURN_PAUSE: u64 = 8;
/// Milliseconds in which the same is not answered with the same: two servers that each answer the
/// other's answer at once would never stop.
const SAME_ANSWER_MS: u64 = 100;
/// Milliseconds after the beginning of a connection in which the first word on it is doubted.
const DOUBT_MS: u64 = 1_000;

/// What this server is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing: it was not told to look yet.
    Idle,
    /// It will look.
    Pausing { since: Instant, until: Instant },
    /// It looks.
    Looking {
        since: Instant,
        /// When everyone is told the proposal again, and the pause after that.
        resend_at: Instant,
        resend_ms: u64,
    },
    /// It knows its leader.
    Settled(State),
}

/// What a server was answered last, and to what.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    at: Instant,
    to: Ballot,
    frame: Bytes,
}

/// One server's part in elections.
#[derive(Debug)]
pub struct Election {
    me: ServerId,
    reconfig_enabled: bool,
    resend_ms_min: u64,
    resend_ms_max: u64,
    /// The pause from which on another round is tried: see [`Voters::takes_turns`].
    turn_ms: u64,
    /// The state of the generator of an observer's delays.
    entropy: u64,
    voters: Voters,
    /// The committed membership as a notification carries it.
    text: String,
    mesh: Mesh,
    round: Round,
    phase: Phase,
    standing: Standing,
    /// What was decided last.
    vote: Option<Vote>,
    decided: Option<Vote>,
    gossip: Option<Membership>,
    /// Whose votes made this server the leader, and which of these look again.
    electors: BTreeSet<ServerId>,
    returned: BTreeSet<ServerId>,
    /// Those of which the last that was heard is that they look.
    looking: BTreeSet<ServerId>,
    answers: BTreeMap<ServerId, Answer>,
    /// The epoch and the last transaction of each voter that has voted for itself.
    histories: BTreeMap<ServerId, (i64, Zxid)>,
    /// Since when those are connected that have said nothing since.
    unheard: BTreeMap<ServerId, Instant>,
    /// Whether those that look are still to be told the vote of the established role.
    announce: bool,
}

impl Election {
    /// Before the first round. Asks to listen on the election port.
    ///
    /// `entropy` seeds an observer's delays.
    pub fn new(options: &Options, entropy: u64, out: &mut Outbox) -> Self {
        let voters = Voters::new(options.committed.clone(), options.last_seen.clone());
        let mut mesh = Mesh::new(options, entropy);
        mesh.begin(addresses(&voters), out);
        let resend_ms_min = u64::from(options.notification_ms_min).max(1);
        let resend_ms_max = u64::from(options.notification_ms_max).max(resend_ms_min);
        Self {
            me: options.me,
            reconfig_enabled: options.reconfig_enabled,
            resend_ms_min,
            resend_ms_max,
            turn_ms: (resend_ms_min * TURN_PAUSE).min(resend_ms_max),
            entropy,
            text: voters.committed.to_text(),
            voters,
            mesh,
            round: Round::new(options.me),
            phase: Phase::Idle,
            standing: Standing::Observer,
            vote: None,
            decided: None,
            gossip: None,
            electors: BTreeSet::new(),
            returned: BTreeSet::new(),
            histories: BTreeMap::new(),
            looking: BTreeSet::new(),
            answers: BTreeMap::new(),
            unheard: BTreeMap::new(),
            announce: false,
        }
    }

    /// Looks for a leader. A round begins; one that has begun begins again.
    pub fn look(&mut self, standing: Standing, out: &mut Outbox) {
        let again = matches!(self.phase, Phase::Settled(State::OBSERVING));
        self.standing = standing;
        self.decided = None;
        self.announce = false;
        self.electors.clear();
        self.returned.clear();
        if standing == Standing::Observer && again {
            self.mesh.rest();
            self.phase = Phase::Pausing {
                since: out.now,
                until: out.now.plus_ms(self.delay_ms()),
            };
            return;
        }
        self.begin(out.now, out);
    }

    /// The role is established: whoever asks is told the epoch in which the leader leads. Round and
    /// zxid stay those of the election. Without this a server that comes later does not find a
    /// quorum of equal votes (ZOOKEEPER-1732).
    pub fn established(&mut self, epoch: Epoch) {
        let Some(vote) = &mut self.vote else {
            return;
        };
        vote.epoch = i64::from(epoch.0);
        self.electors.clear();
        self.returned.clear();
        self.announce = true;
    }

    /// A reconfiguration names the leader: there is no election.
    pub fn designate(&mut self, vote: Vote, state: State) {
        self.mesh.rest();
        self.vote = Some(vote);
        self.decided = None;
        self.phase = Phase::Settled(state);
        self.electors.clear();
        self.returned.clear();
    }

    /// Whether this connection is one of the election's.
    #[must_use]
    pub fn owns(&self, link: LinkId) -> bool {
        self.mesh.owns(link)
    }

    /// Something happened on a connection of the election port.
    pub fn link(&mut self, link: LinkId, input: LinkInput, out: &mut Outbox) {
        let happenings = self.mesh.link(link, input, out);
        self.happened(happenings, out);
    }

    /// Time has passed.
    pub fn tick(&mut self, out: &mut Outbox) {
        if core::mem::take(&mut self.announce) {
            for server in self.looking.clone() {
                self.send_vote(server, out);
            }
        }
        if let Phase::Pausing { since, until } = self.phase
            && until <= out.now
        {
            self.begin(since, out);
        }
        let happenings = self.mesh.tick(out);
        if let Phase::Looking {
            resend_at,
            resend_ms,
            ..
        } = &mut self.phase
            && *resend_at <= out.now
        {
            *resend_ms = (*resend_ms * 2).min(self.resend_ms_max);
            *resend_at = out.now.plus_ms(*resend_ms);
            if *resend_ms >= self.turn_ms && self.voters.takes_turns() {
                self.round.begin(self.standing);
            }
            self.tell_everyone(out);
        }
        self.happened(happenings, out);
    }

    /// When time matters next.
    #[must_use]
    pub fn next_wake(&self) -> Option<Instant> {
        let own = match self.phase {
            _ if self.announce => Some(Instant::default()),
            Phase::Idle | Phase::Settled(_) => None,
            Phase::Pausing { until, .. } => Some(until),
            Phase::Looking { resend_at, .. } => self
                .round
                .next_wake()
                .map_or(Some(resend_at), |wake| Some(wake.min(resend_at))),
        };
        own.into_iter().chain(self.mesh.next_wake()).min()
    }

    /// What the round decided, once. This server leads if it is the vote's leader; else it follows
    /// or observes.
    pub fn decision(&mut self) -> Option<Vote> {
        self.decided.take()
    }

    /// The memberships are others. If the servers are, everything about connections begins anew,
    /// and a round that has begun begins again; with another standing if [`look`](Self::look) is
    /// called then.
    pub fn memberships(
        &mut self,
        committed: Membership,
        last_seen: Option<Membership>,
        out: &mut Outbox,
    ) {
        let same = self.voters.committed.same_members(&committed);
        self.voters = Voters::new(committed, last_seen);
        self.text = self.voters.committed.to_text();
        let committed = self.voters.committed.version;
        self.gossip.take_if(|gossip| gossip.version <= committed);
        if same {
            self.mesh.update(addresses(&self.voters));
            return;
        }
        self.mesh.begin(addresses(&self.voters), out);
        self.looking.clear();
        self.answers.clear();
        self.unheard.clear();
        let voters = &self.voters;
        self.histories.retain(|server, _| voters.contains(*server));
        if let Phase::Looking { since, .. } = self.phase {
            self.begin(since, out);
        }
    }

    /// A newer committed membership that a notification carried while this server looked.
    pub fn gossiped(&mut self) -> Option<Membership> {
        self.gossip.take()
    }

    /// The proposal while this server looks, then what was decided.
    #[must_use]
    pub fn vote(&self) -> Option<&Vote> {
        match self.phase {
            Phase::Looking { .. } => Some(self.round.proposal()),
            Phase::Idle | Phase::Pausing { .. } | Phase::Settled(_) => self.vote.as_ref(),
        }
    }

    /// A voter that made this server the leader and looks again, or one that looks with a better
    /// vote: until the role is established it will not promise this server an epoch, and if there
    /// is no quorum without it, there is no point in waiting for one.
    ///
    /// Source: spec 2.9, ZOOKEEPER-3109.
    pub fn voter_returned(&mut self) -> Option<ServerId> {
        self.returned.pop_first()
    }

    /// The epoch and the last transaction of a voter, as it told them when it last voted for itself.
    pub(super) fn history_of(&self, server: ServerId) -> Option<(i64, Zxid)> {
        self.histories.get(&server).copied()
    }

    fn begin(&mut self, since: Instant, out: &mut Outbox) {
        self.round.begin(self.standing);
        self.phase = Phase::Looking {
            since,
            resend_at: out.now.plus_ms(self.resend_ms_min),
            resend_ms: self.resend_ms_min,
        };
        self.tell_everyone(out);
        self.mesh.want(self.voters.ids(), out);
        self.conclude(out);
    }

    fn happened(&mut self, happenings: Vec<Happening>, out: &mut Outbox) {
        for happening in happenings {
            match happening {
                Happening::Connected(server) => {
                    self.unheard.insert(server, out.now);
                    // ZooKeeper repeats what it said last; this is what it would say now.
                    if self.voters.contains(server) {
                        self.send_vote(server, out);
                    }
                }
                Happening::Heard(server, notification) => self.heard(server, notification, out),
                Happening::Lost(server) => {
                    self.round.forget(server);
                    self.looking.remove(&server);
                    self.answers.remove(&server);
                    self.unheard.remove(&server);
                }
            }
            self.conclude(out);
        }
        self.conclude(out);
    }

    fn heard(&mut self, from: ServerId, notification: Notification, out: &mut Outbox) {
        let ballot = Ballot {
            state: notification.state,
            vote: Vote {
                leader: notification.leader,
                zxid: notification.zxid,
                round: notification.round,
                epoch: notification.peer_epoch,
            },
            format: notification.version,
        };
        let connected = self.unheard.remove(&from);
        let word = match connected {
            Some(since) if out.now < since.plus_ms(DOUBT_MS) => Word::Perhaps,
            _ => Word::Current,
        };
        if let Some(text) = notification.config
            && self.hear_membership(&text)
        {
            return;
        }
        let asks = ballot.state == State::LOOKING;
        if asks {
            self.looking.insert(from);
        } else {
            self.looking.remove(&from);
        }
        if asks && ballot.vote.leader == from && self.voters.contains(from) {
            let history = (ballot.vote.epoch, ballot.vote.zxid);
            self.histories.insert(from, history);
        }
        if !self.voters.contains(from) {
            // ZooKeeper answers in any case; one that does not look has no use for it.
            if asks {
                self.answer(from, ballot, out);
            }
            return;
        }
        match self.phase {
            Phase::Looking { .. } => match self.round.hear(from, ballot, word, &self.voters) {
                Tell::Everyone => self.tell_everyone(out),
                Tell::Nobody => {}
                Tell::Sender => self.answer(from, ballot, out),
            },
            Phase::Settled(_) if asks => {
                self.note_returned(from, &ballot.vote);
                self.answer(from, ballot, out);
            }
            Phase::Idle | Phase::Pausing { .. } | Phase::Settled(_) => {}
        }
    }

    /// Takes a newer committed membership over, if this server may. What else the notification says
    /// is then of no use: its sender may be somebody else in that membership.
    fn hear_membership(&mut self, text: &str) -> bool {
        let looks = matches!(self.phase, Phase::Looking { .. });
        if !self.reconfig_enabled || !looks || text == self.text {
            return false;
        }
        let Ok(heard) = Membership::parse(text) else {
            return false;
        };
        let known = self.gossip.as_ref().unwrap_or(&self.voters.committed);
        if heard.version <= known.version {
            return false;
        }
        self.gossip = Some(heard);
        true
    }

    /// A vote of the round that was decided, as it was when it was decided, may come late, and says
    /// nothing. One that did not vote is no less lost than an elector if it looks with a better
    /// vote: it came when this server had decided without it, and the electors may go to it.
    fn note_returned(&mut self, from: ServerId, vote: &Vote) {
        let Some(decided) = &self.vote else {
            return;
        };
        let changed = vote.round > decided.round
            || (vote.round == decided.round && vote.leader != decided.leader);
        if !changed {
            return;
        }
        let better = self.voters.beats(vote, decided);
        if self.electors.remove(&from) || better {
            self.returned.insert(from);
        }
    }

    /// Looks whether the round is over.
    fn conclude(&mut self, out: &mut Outbox) {
        let Phase::Looking { since, .. } = self.phase else {
            return;
        };
        let mesh = &self.mesh;
        let verdict = self
            .round
            .verdict(out.now, &self.voters, |id| mesh.is_absent(id));
        let Some(Outcome { vote, electors }) = verdict else {
            return;
        };
        let state = if vote.leader == self.me {
            self.electors = electors;
            State::LEADING
        } else if self.standing == Standing::Observer {
            State::OBSERVING
        } else {
            State::FOLLOWING
        };
        self.mesh.rest();
        self.phase = Phase::Settled(state);
        self.vote = Some(vote);
        self.decided = Some(vote);
        out.event(Event::Elected {
            leader: vote.leader,
            zxid: vote.zxid,
            round: vote.round,
            took_ms: out.now.micros_since(since) / 1000,
        });
    }

    fn tell_everyone(&mut self, out: &mut Outbox) {
        let Some(frame) = self.frame_for_voters() else {
            return;
        };
        let voters = self.mesh.connected().filter(|id| self.voters.contains(*id));
        for server in voters.collect::<Vec<_>>() {
            self.mesh.send(server, &frame, out);
        }
    }

    fn send_vote(&mut self, server: ServerId, out: &mut Outbox) {
        if let Some(frame) = self.frame_for(server) {
            self.mesh.send(server, &frame, out);
        }
    }

    fn answer(&mut self, server: ServerId, to: Ballot, out: &mut Outbox) {
        let Some(frame) = self.frame_for(server) else {
            return;
        };
        let answer = Answer {
            at: out.now,
            to,
            frame,
        };
        if let Some(last) = self.answers.get(&server)
            && out.now < last.at.plus_ms(SAME_ANSWER_MS)
            && last.to == answer.to
            && last.frame == answer.frame
        {
            return;
        }
        self.mesh.send(server, &answer.frame, out);
        self.answers.insert(server, answer);
    }

    /// What a server is told. One without a vote is told this server's round instead of the
    /// decided one: it has to compare what it hears from several. Source: spec 1.6.
    fn frame_for(&self, server: ServerId) -> Option<Bytes> {
        if self.voters.contains(server) {
            return self.frame_for_voters();
        }
        let (state, vote) = self.current()?;
        let round = self.round.number();
        Some(self.frame(state, &Vote { round, ..vote }))
    }

    fn frame_for_voters(&self) -> Option<Bytes> {
        let (state, vote) = self.current()?;
        Some(self.frame(state, &vote))
    }

    fn current(&self) -> Option<(State, Vote)> {
        match self.phase {
            Phase::Idle | Phase::Pausing { .. } => None,
            Phase::Looking { .. } => Some((State::LOOKING, *self.round.proposal())),
            Phase::Settled(state) => self.vote.map(|vote| (state, vote)),
        }
    }

    fn frame(&self, state: State, vote: &Vote) -> Bytes {
        let notification = Notification {
            state,
            leader: vote.leader,
            zxid: vote.zxid,
            round: vote.round,
            peer_epoch: vote.epoch,
            version: VERSION,
            config: Some(self.text.clone()),
        };
        notification.to_frame()
    }

    /// Random, from 0. The generator is splitmix64.
    const fn delay_ms(&mut self) -> u64 {
        self.entropy = self.entropy.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.entropy ^ (self.entropy >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % (OBSERVER_DELAY_MS_MAX + 1)
    }
}

/// Where the election ports of the servers are, as either membership says.
fn addresses(voters: &Voters) -> BTreeMap<ServerId, Vec<Endpoint>> {
    let mut addresses: BTreeMap<ServerId, Vec<Endpoint>> = BTreeMap::new();
    for members in voters.views().iter() {
        for (id, member) in &members.servers {
            let known = addresses.entry(*id).or_default();
            for endpoint in &member.election {
                if !known.contains(endpoint) {
                    known.push(endpoint.clone());
                }
            }
        }
    }
    addresses
}
