//! Following or observing: the leader's epoch is promised, its history taken over, its broadcast
//! followed.
//!
//! ```text
//! Connecting   FOLLOWERINFO sent               Discovering  LEADERINFO
//! Promising    acceptedEpoch durable, ACKEPOCH Choosing     DIFF, TRUNC or SNAP
//! Cutting      TRUNC of what the tree has      Loading      the state of a SNAP
//! Collecting   transactions, until NEWLEADER   Adopting     log, then currentEpoch durable
//! Adopted      NEWLEADER acknowledged          Live         after UPTODATE
//! ```
//!
//! Nothing of the leader's history is written before NEWLEADER, and all of it, then the epoch, in
//! one order on one lane. `sync` is the way from Choosing to Live, `live` what comes after.
//! Source: spec 2.8, 3.1; `Learner`, `Follower`, `Observer`.

mod live;
mod sync;

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};

use bytes::Bytes;

use super::durable::Durable;
use super::election::Vote;
use super::gate::{Gate, Then};
use super::io::{Output, Role};
use super::lasting::{Lasting, Left};
use super::membership::Membership;
use super::pipe::Pipe;
use crate::ids::{Epoch, Instant, LinkId, Seq, ServerId, Zxid};
use crate::link::{LinkInput, Port};
use crate::wire::quorum::{AckEpoch, LearnerInfo, PROTOCOL, Packet, PacketType, Packets};

/// Attempts to reach the leader, and the pauses between them, which double. ZooKeeper makes five,
/// 100 ms apart; but one that decides at once finds a leader that does not listen for another
/// moment, or, if that one is ZooKeeper, for the 200 ms and more until it decides.
///
/// Source: `Learner.connectToLeader`, `zookeeper.leaderConnectDelayDuringRetryMs`.
const ATTEMPTS_MAX: u32 = 12;
/// See [`ATTEMPTS_MAX`].
const RETRY_MS_MIN: u64 = 5;
/// See [`ATTEMPTS_MAX`].
const RETRY_MS_MAX: u64 = 100;

/// As the last transaction of a server that needs a whole state: no transaction has this id, as
/// the first epoch is 1, so that no leader can begin a DIFF or a TRUNC there, and other than -1,
/// with which a leader would not count this server (spec 2.3, 2.4).
const NEEDS_SNAPSHOT: Zxid = Zxid(1);
/// As the last transaction of a server whose history does not count.
const UNTRUSTED: Zxid = Zxid(-1);

/// This server's part as a learner, from the vote on.
#[derive(Debug)]
pub(super) struct Learner {
    vote: Vote,
    observer: bool,
    stage: Stage,
    pipe: Option<Pipe>,
    /// Until the leader has let this server in.
    gate: Option<Gate>,
    packets: Packets,
    attempts: u32,
    retry_at: Option<Instant>,
    connect_deadline: Instant,
    heard: Instant,
    /// The leader's, from LEADERINFO on.
    epoch: Epoch,
    /// What ACKEPOCH said.
    told: Zxid,
    /// Of the sync: what both had, and a state that is not durable yet.
    point: Zxid,
    snapshot: Snapshot,
    pending: VecDeque<(Zxid, Bytes)>,
    /// The last proposal that came, and the last of which it is known that it is committed.
    last: Zxid,
    noted: Zxid,
    /// NEWLEADER came before the state was durable.
    adopt_later: bool,
    offered: Option<Membership>,
    /// A change of this server's part that came with the sync.
    designated: Option<ServerId>,
    /// What is being written and to be acknowledged.
    acks: VecDeque<(Seq, Zxid)>,
    /// PINGs to be answered.
    pings: VecDeque<Zxid>,
    /// Syncs of own clients.
    syncs: usize,
    how: String,
}

/// How far a learner is.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Connecting,
    Discovering,
    Promising { seq: Seq, counts: bool },
    Choosing,
    Cutting { seq: Seq },
    Loading,
    Collecting,
    Adopting { seq: Seq },
    Adopted { proof: Durable },
    Live,
}

/// The state that a SNAP brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Snapshot {
    /// None was sent.
    None,
    /// The tree holds it, or a part; on disk is another.
    Loaded(Zxid),
    /// It is durable.
    Stored,
}

impl Learner {
    /// Begins to follow whom a vote names.
    pub(super) fn begin(vote: Vote, observer: bool, lasting: &mut Lasting) -> Result<Self, Left> {
        let options = &lasting.options;
        let ticks = match options.connect_limit {
            0 => options.init_limit,
            ticks => ticks,
        };
        let mut learner = Self {
            vote,
            observer,
            stage: Stage::Connecting,
            pipe: None,
            gate: None,
            packets: Packets::new(options.packet_bytes_max),
            attempts: 0,
            retry_at: None,
            connect_deadline: lasting.ticks(ticks),
            heard: lasting.out.now,
            epoch: Epoch(0),
            told: Zxid::ZERO,
            point: Zxid::ZERO,
            snapshot: Snapshot::None,
            pending: VecDeque::new(),
            last: Zxid::ZERO,
            noted: Zxid::ZERO,
            adopt_later: false,
            offered: None,
            designated: None,
            acks: VecDeque::new(),
            pings: VecDeque::new(),
            syncs: 0,
            how: String::new(),
        };
        learner.dial(lasting)?;
        Ok(learner)
    }

    /// Gives up everything that the role held. An error if the tree is a stranger's: of a state
    /// that is not durable (ZOOKEEPER-3642).
    pub(super) fn end(&mut self, lasting: &mut Lasting) -> Result<(), String> {
        if let Some(mut pipe) = self.pipe.take() {
            pipe.close(&mut lasting.out);
        }
        match (self.stage, self.snapshot) {
            (Stage::Cutting { .. }, _) => Err("the log was cut below the state".into()),
            (_, Snapshot::Loaded(zxid)) => Err(format!(
                "the leader was lost before its state of {zxid} was stored"
            )),
            (_, Snapshot::None | Snapshot::Stored) => Ok(()),
        }
    }

    /// The leader's epoch, once its history is taken over and clients are served.
    pub(super) const fn established(&self) -> Option<Epoch> {
        match self.stage {
            Stage::Live => Some(self.epoch),
            Stage::Connecting
            | Stage::Discovering
            | Stage::Promising { .. }
            | Stage::Choosing
            | Stage::Cutting { .. }
            | Stage::Loading
            | Stage::Collecting
            | Stage::Adopting { .. }
            | Stage::Adopted { .. } => None,
        }
    }

    pub(super) fn role(&self) -> Role {
        let (leader, epoch) = (self.vote.leader, self.epoch);
        if self.observer {
            Role::Observing { leader, epoch }
        } else {
            Role::Following { leader, epoch }
        }
    }

    pub(super) fn owns(&self, link: LinkId) -> bool {
        self.pipe.as_ref().is_some_and(|pipe| pipe.link() == link)
    }

    /// Something happened on the connection to the leader.
    pub(super) fn link(&mut self, input: LinkInput, lasting: &mut Lasting) -> Result<(), Left> {
        match input {
            LinkInput::Opened { .. } => {
                self.heard = lasting.out.now;
                self.stage = Stage::Discovering;
                match Gate::client(&lasting.options.sasl) {
                    None => self.introduce(lasting),
                    Some((gate, hello)) => {
                        self.gate = Some(gate);
                        self.send(&hello, lasting);
                    }
                }
                Ok(())
            }
            LinkInput::Received(bytes) => {
                self.heard = lasting.out.now;
                let bytes = self.through(bytes, lasting)?;
                if matches!(self.stage, Stage::Loading) {
                    lasting.out.outputs.push(Output::SnapshotBytes(bytes));
                    return Ok(());
                }
                self.packets.receive(bytes);
                self.read(lasting)
            }
            LinkInput::Flushed(bytes) => {
                if let Some(pipe) = &mut self.pipe {
                    pipe.flushed(bytes);
                }
                Ok(())
            }
            LinkInput::Secured { .. } => Ok(()),
            LinkInput::Closed => {
                self.pipe = None;
                match self.stage {
                    Stage::Connecting => self.retry(lasting),
                    // Nobody says why, but a leader logs it.
                    Stage::Discovering => Err(Left::Look(format!(
                        "the leader, server {}, closed the connection before it told its epoch; \
                         if it refused this server, its log says why",
                        self.vote.leader
                    ))),
                    Stage::Adopted { .. }
                    | Stage::Adopting { .. }
                    | Stage::Choosing
                    | Stage::Collecting
                    | Stage::Cutting { .. }
                    | Stage::Live
                    | Stage::Loading
                    | Stage::Promising { .. } => {
                        Err(Left::Look("the connection to the leader is gone".into()))
                    }
                }
            }
        }
    }

    /// The store has confirmed something.
    pub(super) fn stored(&mut self, lasting: &mut Lasting) -> Result<(), Left> {
        match self.stage {
            Stage::Promising { seq, counts } => {
                if lasting.confirmed.of(seq).is_some() {
                    self.promise(counts, lasting);
                }
                Ok(())
            }
            Stage::Cutting { seq } => match lasting.confirmed.of(seq) {
                None => Ok(()),
                Some(_) => Err(Left::Restart(
                    "the leader has cut what this server's state holds".into(),
                )),
            },
            Stage::Adopting { seq } => match lasting.confirmed.of(seq) {
                None => Ok(()),
                Some(proof) => self.adopted(proof, lasting),
            },
            Stage::Live => {
                self.acknowledge(lasting);
                Ok(())
            }
            Stage::Connecting
            | Stage::Discovering
            | Stage::Choosing
            | Stage::Loading
            | Stage::Collecting
            | Stage::Adopted { .. } => Ok(()),
        }
    }

    /// When time matters next.
    pub(super) fn wake(&self, lasting: &Lasting) -> Instant {
        if matches!(self.stage, Stage::Connecting) {
            return self.retry_at.unwrap_or(self.connect_deadline);
        }
        self.heard.plus_ms(self.limit_ms(lasting))
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, lasting: &mut Lasting) -> Result<(), Left> {
        let now = lasting.out.now;
        if matches!(self.stage, Stage::Connecting) {
            if self.connect_deadline <= now {
                return Err(Left::Look("the leader was not reached in time".into()));
            }
            if self.retry_at.is_some_and(|at| at <= now) {
                return self.dial(lasting);
            }
            return Ok(());
        }
        let limit = self.limit_ms(lasting);
        if self.heard.plus_ms(limit) <= now {
            return Err(Left::Look(format!(
                "no word from the leader for {limit} ms"
            )));
        }
        Ok(())
    }

    /// Hands over what was collected to be sent; the step ends.
    pub(super) fn flush(&mut self, lasting: &mut Lasting) {
        if let Some(pipe) = &mut self.pipe {
            pipe.flush(&mut lasting.out);
        }
    }

    /// Milliseconds without a word after which the leader is given up. Source: spec 2.2.
    fn limit_ms(&self, lasting: &Lasting) -> u64 {
        lasting.ticks_ms(match self.stage {
            Stage::Adopted { .. } | Stage::Live => lasting.options.sync_limit,
            Stage::Connecting
            | Stage::Discovering
            | Stage::Promising { .. }
            | Stage::Choosing
            | Stage::Cutting { .. }
            | Stage::Loading
            | Stage::Collecting
            | Stage::Adopting { .. } => lasting.options.init_limit,
        })
    }

    fn dial(&mut self, lasting: &mut Lasting) -> Result<(), Left> {
        let leader = self.vote.leader;
        let seen = lasting.last_seen.as_ref();
        let member = lasting
            .committed
            .member(leader)
            .or_else(|| seen.and_then(|seen| seen.member(leader)));
        let Some(to) = member.map(|member| member.quorum.clone()) else {
            return Err(Left::Look(format!(
                "the leader, server {leader}, is not in the membership"
            )));
        };
        let left_ms = self.connect_deadline.micros_since(lasting.out.now) / 1000;
        let sync_ms = lasting.ticks_ms(lasting.options.sync_limit);
        let timeout_ms = u32::try_from(left_ms.min(sync_ms).max(1)).unwrap_or(u32::MAX);
        self.attempts += 1;
        self.retry_at = None;
        let link = lasting.out.dial(Port::Quorum, to, timeout_ms);
        self.pipe = Some(Pipe::new(link));
        Ok(())
    }

    fn retry(&mut self, lasting: &Lasting) -> Result<(), Left> {
        if self.attempts >= ATTEMPTS_MAX {
            return Err(Left::Look(format!(
                "the leader was not reached in {ATTEMPTS_MAX} attempts"
            )));
        }
        let doublings = self.attempts.saturating_sub(1).min(8);
        let pause_ms = (RETRY_MS_MIN << doublings).min(RETRY_MS_MAX);
        self.retry_at = Some(lasting.out.now.plus_ms(pause_ms));
        Ok(())
    }

    /// What is not of this server's login, after which it introduces itself.
    fn through(&mut self, bytes: Bytes, lasting: &mut Lasting) -> Result<Bytes, Left> {
        let Some(gate) = &mut self.gate else {
            return Ok(bytes);
        };
        let turn = gate.receive(&bytes, &lasting.options.sasl, &mut lasting.nonces);
        if let Some(bytes) = turn.send {
            self.send(&bytes, lasting);
        }
        match turn.then {
            Then::Wait => Ok(Bytes::new()),
            Then::Through(bytes) => {
                self.gate = None;
                self.introduce(lasting);
                Ok(bytes)
            }
            Then::Refuse(reason) => {
                let leader = self.vote.leader;
                Err(Left::Look(format!("the leader, server {leader}: {reason}")))
            }
        }
    }

    /// FOLLOWERINFO or OBSERVERINFO. Source: spec 2.3, step 1.
    fn introduce(&mut self, lasting: &mut Lasting) {
        let info = LearnerInfo {
            server: lasting.options.me,
            protocol: PROTOCOL,
            config_version: lasting.committed.version,
        };
        let kind = if self.observer {
            PacketType::OBSERVER_INFO
        } else {
            PacketType::FOLLOWER_INFO
        };
        let zxid = lasting.epochs.accepted().start();
        let packet = Packet::with_data(kind, zxid, info.to_bytes());
        self.send(&packet.to_bytes(), lasting);
    }

    fn send(&mut self, bytes: &Bytes, lasting: &mut Lasting) {
        if let Some(pipe) = &mut self.pipe {
            pipe.send(bytes, &mut lasting.out);
        }
    }

    /// Takes the packets that have arrived.
    fn read(&mut self, lasting: &mut Lasting) -> Result<(), Left> {
        // What a leader sends behind a TRUNC or a SNAP waits until that is done.
        while !matches!(self.stage, Stage::Cutting { .. } | Stage::Loading) {
            let packet = match self.packets.next() {
                Ok(Some(packet)) => packet,
                Ok(None) => return Ok(()),
                Err(error) => return Err(Left::Look(error.to_string())),
            };
            match self.stage {
                Stage::Discovering => self.led(&packet, lasting)?,
                Stage::Choosing => self.chosen(&packet, lasting)?,
                Stage::Collecting | Stage::Adopting { .. } | Stage::Adopted { .. } => {
                    self.synchronize(packet, lasting)?;
                }
                Stage::Live => self.live(packet, lasting)?,
                Stage::Connecting
                | Stage::Promising { .. }
                | Stage::Cutting { .. }
                | Stage::Loading => {
                    return Err(unexpected("nothing before this server answers", &packet));
                }
            }
        }
        Ok(())
    }

    /// LEADERINFO. Source: spec 2.3, step 5.
    fn led(&mut self, packet: &Packet, lasting: &mut Lasting) -> Result<(), Left> {
        if packet.kind != PacketType::LEADER_INFO {
            return Err(unexpected("LEADERINFO", packet));
        }
        let epoch = packet.zxid.epoch();
        let accepted = lasting.epochs.accepted();
        if epoch < accepted {
            return Err(Left::Look(format!(
                "the leader's epoch is {epoch}, promised was {accepted}"
            )));
        }
        self.epoch = epoch;
        let counts = epoch > accepted;
        // Of a promise that was made before, the write can still be on its way.
        let seq = lasting.epochs.accept(epoch, &mut lasting.out);
        self.stage = Stage::Promising { seq, counts };
        if lasting.confirmed.of(seq).is_some() {
            self.promise(counts, lasting);
        }
        Ok(())
    }

    /// ACKEPOCH: the promise is durable.
    fn promise(&mut self, counts: bool, lasting: &mut Lasting) {
        let own = (
            i64::from(lasting.epochs.current().0),
            lasting.history.last(),
        );
        // Whoever may be ahead must say so, lest the leader be one that misses something. The vote
        // tells how far the leader was when it was elected; of an epoch that this server has
        // followed already the leader has everything that this server has.
        let behind =
            own <= (self.vote.epoch, self.vote.zxid) || lasting.epochs.current() == self.epoch;
        self.told = if !lasting.trusted {
            UNTRUSTED
        } else if lasting.snapshot_demanded && behind {
            NEEDS_SNAPSHOT
        } else {
            lasting.history.last()
        };
        let current = counts.then(|| lasting.epochs.current());
        let answer = AckEpoch { current };
        let packet = Packet::with_data(PacketType::ACK_EPOCH, self.told, answer.to_bytes());
        self.send(&packet.to_bytes(), lasting);
        self.stage = Stage::Choosing;
        self.heard = lasting.out.now;
    }
}

fn unexpected(expected: &str, packet: &Packet) -> Left {
    Left::Look(format!(
        "expected {expected} from the leader, found {} of {}",
        packet.kind, packet.zxid
    ))
}
