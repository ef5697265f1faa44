//! One server whose peers are written by hand.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test may stop at what it did not expect"
)]

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};

use bytes::Bytes;

use crate::ids::{Epoch, Instant, LinkId, Seq, ServerId, Zxid};
use crate::lane::StoreOp;
use crate::link::{LinkInput, LinkOutput, Port};
use crate::wire::election::{Notification, State, VERSION};
use crate::wire::quorum::{AckEpoch, LearnerInfo, PROTOCOL, Packet, PacketType, Packets};
use crate::zab::election::Vote;
use crate::zab::{Membership, Options, Output, Recovered, Zab};

pub(super) fn zxid(epoch: i64, counter: i64) -> Zxid {
    Zxid(epoch << 32 | counter)
}

/// A server of three, all of whose operations wait until they are [`stored`](Self::stored).
pub(super) struct Lone {
    pub(super) zab: Zab,
    pub(super) now: Instant,
    /// What its store was told and has not confirmed.
    pub(super) ops: Vec<(Seq, StoreOp)>,
    /// What else it asked for, connections left out.
    pub(super) said: Vec<Output>,
    /// What it sent, by link.
    sent: BTreeMap<LinkId, Packets>,
    pub(super) closed: Vec<LinkId>,
    dialled: Option<LinkId>,
    /// To the election ports of these hosts.
    peers: BTreeMap<String, LinkId>,
    next_link: u64,
}

impl Lone {
    /// Server `me`, with these transactions, epoch 1 behind it, and a vote for `leader`.
    pub(super) fn new(me: i64, leader: i64, recent: &[Zxid]) -> Self {
        let text = "server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2\nserver.4=d:1:2:observer";
        let options = Options {
            me: ServerId(me),
            observer: false,
            committed: Membership::parse(text).unwrap(),
            last_seen: None,
            election: Vec::new(),
            reconfig_enabled: false,
            tick_ms: 1000,
            init_limit: 10,
            sync_limit: 5,
            connect_limit: 0,
            listen_on_all_ips: false,
            multi_address: false,
            packet_bytes_max: 1 << 20,
            notification_ms_min: 200,
            notification_ms_max: 60_000,
            connect_timeout_ms: 5000,
            election_silence_ms: None,
            history_txns_min: 500,
            history_bytes_max: 1 << 20,
            sasl: crate::zab::Sasl::default(),
        };
        let recovered = Recovered {
            base: Zxid::ZERO,
            recent: recent.iter().map(|&zxid| (zxid, txn(zxid))).collect(),
            accepted: Epoch(1),
            current: Epoch(1),
            trusted: true,
            divergent: false,
        };
        let now = Instant(1_000_000);
        let mut lone = Self {
            zab: Zab::new(options, recovered, 1, now),
            now,
            ops: Vec::new(),
            said: Vec::new(),
            sent: BTreeMap::new(),
            closed: Vec::new(),
            dialled: None,
            peers: BTreeMap::new(),
            next_link: 1,
        };
        lone.vote(leader);
        lone
    }

    /// Server 3 leads epoch 2 with server 1 in the broadcast.
    pub(super) fn leading() -> (Self, LinkId) {
        let mut lone = Self::new(3, 3, &[zxid(1, 1)]);
        let follower = lone.lead(zxid(1, 1));
        lone.said.clear();
        (lone, follower)
    }

    /// Server 1 follows server 3 in the broadcast of epoch 2.
    pub(super) fn following() -> Self {
        let mut lone = Self::new(1, 3, &[zxid(1, 1)]);
        lone.follow();
        lone
    }

    /// An election has decided.
    pub(super) fn vote(&mut self, leader: i64) {
        self.vote_for(leader, 9, zxid(9, 9));
    }

    /// The leader had this epoch and this last transaction when it was elected.
    pub(super) fn vote_for(&mut self, leader: i64, epoch: i64, zxid: Zxid) {
        let vote = Vote {
            leader: ServerId(leader),
            zxid,
            round: 1,
            epoch,
        };
        self.step(|zab| {
            let outcome = zab.follow(vote);
            zab.settle(outcome);
        });
        if let Some(link) = self.dialled {
            self.opened(link);
        }
    }

    pub(super) fn opened(&mut self, link: LinkId) {
        let opened = LinkInput::Opened {
            port: Port::Quorum,
            peer: ([10, 0, 0, 9], 9).into(),
        };
        self.step(|zab| zab.link(link, opened));
    }

    pub(super) fn step(&mut self, call: impl FnOnce(&mut Zab)) {
        self.zab.begin(self.now);
        call(&mut self.zab);
        for output in self.zab.take_outputs() {
            match output {
                Output::Link(
                    link,
                    LinkOutput::Dial {
                        port: Port::Quorum, ..
                    },
                ) => {
                    self.dialled = Some(link);
                }
                Output::Link(link, LinkOutput::Dial { to, .. }) => {
                    let hosts = to.into_iter().map(|to| (to.host, link));
                    self.peers.extend(hosts);
                }
                Output::Link(link, LinkOutput::Send(bytes)) => {
                    self.sent.entry(link).or_default().receive(bytes);
                }
                Output::Link(link, LinkOutput::Close) => self.closed.push(link),
                Output::Link(..) | Output::Listen(..) => {}
                Output::Store(seq, op) => self.ops.push((seq, op)),
                other => self.said.push(other),
            }
        }
    }

    /// The first `count` of what waits is durable.
    pub(super) fn stored(&mut self, count: usize) {
        let last = self.ops.drain(..count).next_back();
        if let Some((upto, _)) = last {
            self.step(|zab| zab.stored(upto));
        }
    }

    pub(super) fn stored_all(&mut self) {
        self.stored(self.ops.len());
    }

    /// Milliseconds pass.
    pub(super) fn pass(&mut self, ms: u64) {
        let end = self.now.plus_ms(ms);
        while self.now < end {
            self.now = self.now.plus_ms(100);
            self.step(Zab::tick);
        }
    }

    /// What was sent since the last call, PINGs left out: `PROPOSAL 0x100000001`.
    pub(super) fn sent_on(&mut self, link: LinkId) -> Vec<String> {
        let Some(packets) = self.sent.get_mut(&link) else {
            return vec![];
        };
        let mut all = Vec::new();
        while let Some(packet) = packets.next().unwrap() {
            if packet.kind != PacketType::PING {
                all.push(format!("{} {}", packet.kind, packet.zxid));
            }
        }
        all
    }

    /// The payload-free outputs since the last call, as words.
    pub(super) fn heard_above(&mut self) -> Vec<String> {
        let word = |output: Output| match output {
            Output::Deliver { zxid, .. } => Some(format!("deliver {zxid}")),
            Output::Event(_) => None,
            Output::Restart(_) => Some("restart".into()),
            Output::Role(role) => {
                let role = format!("{role:?}");
                Some(role.split(' ').next().unwrap().into())
            }
            other => {
                let other = format!("{other:?}");
                Some(other.split(['(', ' ']).next().unwrap().into())
            }
        };
        self.said.drain(..).filter_map(word).collect()
    }

    /// A voter looks, and votes for itself with this history.
    pub(super) fn looks(&mut self, (id, host): (i64, &str), epoch: i64, zxid: Zxid) {
        let link = *self.peers.get(host).unwrap();
        let opened = LinkInput::Opened {
            port: Port::Election,
            peer: ([10, 0, 0, 9], 9).into(),
        };
        self.step(|zab| zab.link(link, opened));
        let vote = Notification {
            state: State::LOOKING,
            leader: ServerId(id),
            zxid,
            round: 1,
            peer_epoch: epoch,
            version: VERSION,
            config: None,
        };
        self.step(|zab| zab.link(link, LinkInput::Received(vote.to_frame())));
    }

    // As a learner.

    /// The link to the leader.
    pub(super) fn leader(&self) -> LinkId {
        self.dialled.unwrap()
    }

    pub(super) fn hear(&mut self, kind: PacketType, zxid: Zxid) {
        let data = match kind {
            PacketType::PROPOSAL | PacketType::INFORM => Some(txn(zxid)),
            PacketType::LEADER_INFO => Some(Bytes::from_static(&[0, 1, 0, 0])),
            _ => None,
        };
        let packet = Packet {
            data,
            ..Packet::new(kind, zxid)
        };
        let link = self.leader();
        self.receive(link, &packet);
    }

    pub(super) fn receive(&mut self, link: LinkId, packet: &Packet) {
        let bytes = packet.to_bytes();
        self.step(|zab| zab.link(link, LinkInput::Received(bytes)));
    }

    /// A leader of `epoch` is found, and the promise to it durable.
    pub(super) fn discover(&mut self, epoch: i64) {
        self.hear(PacketType::LEADER_INFO, zxid(epoch, 0));
        self.stored_all();
    }

    /// In the broadcast of epoch 2, after what it had.
    pub(super) fn follow(&mut self) {
        self.discover(2);
        self.hear(PacketType::DIFF, Zxid::ZERO);
        self.hear(PacketType::NEW_LEADER, zxid(2, 0));
        self.stored_all();
        self.hear(PacketType::UP_TO_DATE, Zxid(-1));
        let link = self.leader();
        self.sent_on(link);
        self.heard_above();
    }

    // As a leader.

    /// A learner connects, whose promise is to epoch 1.
    pub(super) fn learner(&mut self, id: i64) -> LinkId {
        self.learner_of(PacketType::FOLLOWER_INFO, id, 1)
    }

    pub(super) fn learner_of(&mut self, kind: PacketType, id: i64, accepted: i64) -> LinkId {
        let link = LinkId(self.next_link);
        self.next_link += 1;
        self.opened(link);
        let info = LearnerInfo {
            server: ServerId(id),
            protocol: PROTOCOL,
            config_version: 0,
        };
        let packet = Packet::with_data(kind, zxid(accepted, 0), info.to_bytes());
        self.receive(link, &packet);
        link
    }

    /// It promises itself, and its last transaction is this.
    pub(super) fn promises(&mut self, link: LinkId, current: i32, last: Zxid) {
        let answer = AckEpoch {
            current: Some(Epoch(current)),
        };
        let packet = Packet::with_data(PacketType::ACK_EPOCH, last, answer.to_bytes());
        self.receive(link, &packet);
    }

    /// It answers a PING.
    pub(super) fn hear_ping(&mut self, link: LinkId) {
        self.receive(link, &Packet::new(PacketType::PING, Zxid::ZERO));
    }

    pub(super) fn acks(&mut self, link: LinkId, zxid: Zxid) {
        self.receive(link, &Packet::new(PacketType::ACK, zxid));
    }

    /// Leads epoch 2 with a follower, server 1, that has the same history.
    pub(super) fn lead(&mut self, last: Zxid) -> LinkId {
        let follower = self.learner(1);
        self.stored_all();
        self.promises(follower, 1, last);
        self.stored_all();
        self.acks(follower, zxid(2, 0));
        self.sent_on(follower);
        self.heard_above();
        follower
    }

    pub(super) fn propose(&mut self) -> Zxid {
        let zxid = self.zab.next_zxid().unwrap();
        self.step(|zab| zab.propose(zxid, txn(zxid), None));
        zxid
    }
}

fn txn(zxid: Zxid) -> Bytes {
    Bytes::from(format!("payload of {zxid}"))
}
