//! What a driver does, what peers do that are right, and what is checked of what the server says.

use core::net::SocketAddr;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use zabra_core::Machine as _;
use zabra_core::ids::{Epoch, Instant, LinkId, Seq, ServerId, UnixMillis, Xid, Zxid};
use zabra_core::link::{LinkInput, LinkOutput, Port};
use zabra_core::machine::Now;
use zabra_core::server::{
    Config, EnsembleConfig, Input, Output, Recovered, Server, SnapshotOp, StoreOp,
};
use zabra_core::store::Restore as _;
use zabra_core::tree::Loader;
use zabra_core::wire::election::{Frames, Initial, InitialVersion, Notification, State, VERSION};
use zabra_core::wire::quorum::{
    AckEpoch, LeaderInfo, LearnerInfo, PROTOCOL, Packet, PacketType, Packets,
};
use zabra_core::zab::{self, Membership, Options};
use zabra_fuzz::SEED;

use super::Settings;
use super::request::{Frame, Handshake};
use super::words::{Here, Said, Vote, next, state};

/// Steps in which time does not pass, but is asked for.
const STEPS_MAX: usize = 2000;
/// Bytes that one step may send, beyond a multiple of what came in.
const SENT_BYTES_MAX: usize = 8 << 20;

pub struct Driver {
    server: Server,
    me: i64,
    leader: i64,
    now: Now,
    inputs: Vec<Input>,
    links: BTreeMap<LinkId, Link>,
    /// Those that the server has closed, and those that were lost.
    gone: BTreeSet<LinkId>,
    lost: BTreeSet<LinkId>,
    dials: Vec<(LinkId, Port, String)>,
    client: Option<(LinkId, i32)>,
    next_link: u64,
    seq: Seq,
    confirmed: Seq,
    ops: Vec<(Seq, StoreOp)>,
    /// What is durable.
    last_durable: Zxid,
    accepted: Epoch,
    current: Epoch,
    /// What was given.
    here: Here,
    given: (Epoch, Epoch),
    snapshots: VecDeque<(Zxid, bool)>,
    vote: Option<Notification>,
    stores: bool,
    dials_at_once: bool,
    over: bool,
}

/// One connection to a peer, as that sees it.
struct Link {
    port: Port,
    /// The server asked for it.
    dialled: bool,
    /// Having asked for it, it has said who it is.
    greeted: bool,
    /// Who is there.
    id: i64,
    frames: Frames,
    packets: Packets,
    said: Vec<Packet>,
    unflushed: usize,
    /// The highest transaction that was acknowledged on it.
    acked: Zxid,
}

fn membership() -> Membership {
    let text = "server.1=s1:1:2;9\nserver.2=s2:1:2;9\nserver.3=s3:1:2;9\nserver.4=s4:1:2:observer;9";
    Membership::parse(text).expect("it is one")
}

impl Driver {
    pub fn new(settings: &Settings) -> Self {
        let now = Now {
            instant: Instant(1_000_000),
            wall: UnixMillis(1_700_000_000_000),
        };
        let me = if settings.observer { 4 } else { i64::from(settings.me % 3) + 1 };
        let switch = |bit: u8| settings.switches & (1 << bit) != 0;
        let mut loader = Loader::new(SEED, true);
        let epochs = settings.epochs % 4 + 1;
        let mut recent = Vec::new();
        for epoch in 1..=epochs {
            for counter in 1..=settings.txns % 8 {
                let zxid = Zxid(Epoch(epoch.into()).start().0 | i64::from(counter));
                let here = Here { last: zxid, epoch: Epoch(0), version: 0 };
                let payload = super::words::Payload::Error(-1).bytes(zxid, here);
                loader.txn(&payload).expect("a transaction is");
                recent.push((zxid, payload));
            }
        }
        let epoch = if recent.is_empty() { Epoch(0) } else { Epoch(epochs.into()) };
        let last = recent.last().map_or(Zxid::ZERO, |txn| txn.0);
        let config = Config {
            tick_ms: 1000,
            session_timeout_ms_min: 2000,
            session_timeout_ms_max: 20_000,
            frame_bytes_max: 0xf_ffff,
            server_id: u8::try_from(me).unwrap_or(1),
            extended_types: true,
            tree_digest: switch(0),
            digest_auth: true,
            snapshot_txns: 10,
            snapshot_log_bytes: 0,
            container_check_ms: 5000,
            ..Config::default()
        };
        let place = EnsembleConfig {
            read_only_mode: switch(1),
            local_sessions: switch(2),
            local_sessions_upgrading: switch(3),
            leader_serves: !switch(4),
            reconfig: settings.reconfig,
            standalone_enabled: switch(5),
        };
        let options = Options {
            me: ServerId(me),
            observer: settings.observer,
            committed: membership(),
            last_seen: None,
            election: Vec::new(),
            reconfig_enabled: settings.reconfig,
            tick_ms: 1000,
            init_limit: 10,
            sync_limit: 5,
            connect_limit: 0,
            listen_on_all_ips: switch(6),
            multi_address: switch(7),
            packet_bytes_max: 1 << 20,
            notification_ms_min: 200,
            notification_ms_max: 60_000,
            connect_timeout_ms: 5000,
            election_silence_ms: None,
            history_txns_min: if settings.short { 2 } else { 500 },
            history_bytes_max: if settings.short { 0 } else { 1 << 20 },
            sasl: zab::Sasl::default(),
        };
        let trusted = settings.trusted || !recent.is_empty();
        let history = zab::Recovered {
            base: Zxid::ZERO,
            recent,
            accepted: epoch,
            current: epoch,
            divergent: false,
            trusted,
        };
        let recovered = Recovered {
            snapshot: trusted,
            ..Recovered::default()
        };
        let server =
            Server::in_ensemble(config, place, options, loader, recovered, history, SEED, now);
        Self {
            server,
            me,
            leader: match i64::from(settings.leader % 4) {
                0 => me,
                other => other,
            },
            now,
            inputs: Vec::new(),
            links: BTreeMap::new(),
            gone: BTreeSet::new(),
            lost: BTreeSet::new(),
            dials: Vec::new(),
            client: None,
            next_link: 1,
            seq: Seq(0),
            confirmed: Seq(0),
            ops: Vec::new(),
            last_durable: last,
            accepted: epoch,
            current: epoch,
            here: Here { last, epoch, version: 0 },
            given: (epoch, epoch),
            snapshots: VecDeque::new(),
            vote: None,
            stores: settings.stores,
            dials_at_once: settings.dials,
            over: false,
        }
    }

    /// Whether the server wants to be dropped.
    pub const fn over(&self) -> bool {
        self.over
    }

    pub fn step(&mut self, ms: u64) {
        self.now.instant = self.now.instant.plus_ms(ms);
        self.now.wall = UnixMillis(self.now.wall.0 + ms as i64);
        for count in 0.. {
            assert!(count < STEPS_MAX, "time is asked for again and again");
            let received: usize = self.inputs.iter().map(length).sum();
            let mut outputs = Vec::new();
            let wake = self.server.step(self.now, &mut self.inputs, &mut outputs);
            let sent: usize = outputs.iter().map(sent_length).sum();
            assert!(
                sent <= SENT_BYTES_MAX + 64 * received,
                "{sent} bytes sent for {received} received"
            );
            for output in outputs {
                self.perform(output);
            }
            if self.over {
                return;
            }
            if self.stores {
                self.confirm(usize::MAX);
                self.snapshot(true);
            }
            if self.dials_at_once {
                while !self.dials.is_empty() {
                    self.dialled(true);
                }
            }
            if self.inputs.is_empty() && wake.is_none_or(|wake| wake > self.now.instant) {
                return;
            }
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Link(link, output) => self.perform_on(link, output),
            Output::Store(seq, op) => self.store(seq, op),
            Output::Snapshot(op) => self.write(op),
            Output::Restart(reason) => {
                assert!(!reason.is_empty());
                self.over = true;
            }
            Output::Membership(_) | Output::Listen(..) | Output::Event(_) => {}
            Output::AskFacts(link) => self
                .inputs
                .push(Input::Facts(link, zabra_core::server::HostFacts::default())),
        }
    }

    /// The one before may not be reported yet.
    fn write(&mut self, op: SnapshotOp) {
        let open = self.snapshots.back().is_some_and(|(_, ended)| !ended);
        match op {
            SnapshotOp::Begin { zxid } => {
                assert!(!open, "one snapshot at a time");
                self.snapshots.push_back((zxid, false));
            }
            SnapshotOp::Chunk(bytes) => {
                assert!(open, "a chunk is of a snapshot");
                self.inputs.push(Input::SnapshotWritten(bytes.len()));
            }
            SnapshotOp::End => {
                if let Some((_, ended)) = self.snapshots.back_mut() {
                    *ended = true;
                }
            }
            SnapshotOp::Abandon if open => {
                self.snapshots.pop_back();
            }
            SnapshotOp::Abandon => {}
        }
    }

    fn store(&mut self, seq: Seq, op: StoreOp) {
        assert_eq!(seq, Seq(self.seq.0 + 1), "operations are numbered without gaps");
        self.seq = seq;
        match &op {
            StoreOp::Append { zxid, .. } => {
                assert!(*zxid > self.here.last, "{zxid} after {}", self.here.last);
                self.here.last = *zxid;
            }
            StoreOp::Truncate { to } => {
                self.here.last = self.here.last.min(*to);
            }
            StoreOp::Reset { to } => self.here.last = *to,
            StoreOp::Epochs { accepted, current } => {
                let accepted = accepted.unwrap_or(self.given.0);
                let current = current.unwrap_or(self.given.1);
                assert!(accepted >= self.given.0 && current >= self.given.1, "epochs go back");
                assert!(current <= accepted, "an epoch is promised before it is current");
                self.given = (accepted, current);
                self.here.epoch = self.here.epoch.max(accepted);
            }
            StoreOp::Roll => {}
        }
        self.ops.push((seq, op));
    }

    /// The store confirms so many operations.
    pub fn confirm(&mut self, count: usize) {
        let count = count.min(self.ops.len());
        for (seq, op) in self.ops.drain(..count) {
            self.confirmed = seq;
            match op {
                StoreOp::Append { zxid, .. } => self.last_durable = zxid,
                StoreOp::Truncate { to } => self.last_durable = self.last_durable.min(to),
                StoreOp::Reset { to } => self.last_durable = to,
                StoreOp::Epochs { accepted, current } => {
                    self.accepted = accepted.unwrap_or(self.accepted);
                    self.current = current.unwrap_or(self.current);
                }
                StoreOp::Roll => {}
            }
        }
        if count > 0 {
            self.inputs.push(Input::Stored { upto: self.confirmed });
        }
    }

    fn perform_on(&mut self, id: LinkId, output: LinkOutput) {
        if self.client.is_some_and(|(link, _)| link == id) {
            match output {
                LinkOutput::Send(bytes) => self
                    .inputs
                    .push(Input::Link(id, LinkInput::Flushed(bytes.len()))),
                LinkOutput::Close => {
                    self.client = None;
                    self.gone.insert(id);
                }
                LinkOutput::Pause | LinkOutput::Resume => {}
                LinkOutput::Dial { .. } => panic!("a client is not dialled"),
            }
            return;
        }
        if let LinkOutput::Dial { port, to, .. } = output {
            assert!(!to.is_empty(), "to somewhere");
            let host = to.first().map(|to| to.host.clone()).unwrap_or_default();
            self.dials.push((id, port, host));
            return;
        }
        if let Some(at) = self.dials.iter().position(|dial| dial.0 == id) {
            assert_eq!(output, LinkOutput::Close, "nothing else before it is there");
            self.dials.remove(at);
            self.gone.insert(id);
            return;
        }
        assert!(!self.gone.contains(&id), "{output:?} on a link that it has closed");
        if self.lost.contains(&id) {
            // It has not heard of that yet.
            return;
        }
        let link = self.links.get_mut(&id).expect("a link that there is");
        match output {
            LinkOutput::Send(bytes) => {
                link.unflushed += bytes.len();
                self.heard(id, bytes);
            }
            LinkOutput::Close => {
                self.links.remove(&id);
                self.gone.insert(id);
            }
            LinkOutput::Pause | LinkOutput::Resume | LinkOutput::Dial { .. } => {}
        }
    }

    /// What the server says is well formed, and what it acknowledges is durable.
    fn heard(&mut self, id: LinkId, bytes: Bytes) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        match link.port {
            Port::Client => {}
            Port::Election => {
                link.frames.receive(bytes);
                if link.dialled && !link.greeted {
                    match link.frames.next_initial() {
                        Ok(Some(_)) => link.greeted = true,
                        Ok(None) => return,
                        Err(error) => panic!("{error}"),
                    }
                }
                while let Some(frame) = link.frames.next().expect("frames") {
                    self.vote = Some(Notification::decode(&frame).expect("a notification"));
                }
            }
            Port::Quorum => {
                link.packets.receive(bytes);
                loop {
                    let packet = match link.packets.next() {
                        Ok(Some(packet)) => packet,
                        Ok(None) => return,
                        // In the middle of a state, which is not packets.
                        Err(_) => return,
                    };
                    if link.dialled && packet.kind == PacketType::ACK {
                        if packet.zxid.counter() == 0 {
                            let epoch = packet.zxid.epoch();
                            assert!(epoch <= self.current, "NEWLEADER acknowledged too early");
                        } else {
                            assert!(packet.zxid <= self.last_durable, "{packet:?} is not durable");
                            assert!(packet.zxid > link.acked, "{packet:?} acknowledged twice");
                            link.acked = packet.zxid;
                        }
                    }
                    if link.dialled && packet.kind == PacketType::ACK_EPOCH {
                        assert!(self.accepted == self.given.0, "a promise that is not durable");
                    }
                    if packet.kind == PacketType::LEADER_INFO {
                        assert!(packet.zxid.epoch() <= self.accepted, "epoch not durable");
                    }
                    if link.said.len() < 10_000 {
                        link.said.push(packet);
                    }
                }
            }
        }
    }

    fn open(&mut self, link: LinkId, port: Port, dialled: bool, id: i64) {
        let peer = SocketAddr::from(([10, 0, 0, (id & 7) as u8], 7));
        self.links.insert(
            link,
            Link {
                port,
                dialled,
                greeted: false,
                id,
                frames: Frames::new(),
                packets: Packets::new(usize::MAX >> 1),
                said: Vec::new(),
                unflushed: 0,
                acked: Zxid(i64::MIN),
            },
        );
        self.inputs.push(Input::Link(link, LinkInput::Opened { port, peer }));
    }

    fn accept(&mut self, port: Port, id: i64) -> LinkId {
        let link = LinkId(self.next_link);
        self.next_link += 1;
        if port != Port::Client {
            self.open(link, port, false, id);
        }
        link
    }

    pub fn dialled(&mut self, there: bool) {
        if self.dials.is_empty() {
            return;
        }
        let (link, port, host) = self.dials.remove(0);
        let id = host.get(1..2).and_then(|id| id.parse().ok()).unwrap_or(5);
        if there {
            self.open(link, port, true, id);
        } else {
            self.lost.insert(link);
            self.inputs.push(Input::Link(link, LinkInput::Closed));
        }
    }

    pub fn greet(&mut self, id: i64, addresses: u8) {
        let link = self.accept(Port::Election, id);
        let initial = Initial {
            version: match addresses % 3 {
                0 => InitialVersion::Bare,
                1 => InitialVersion::V1,
                _ => InitialVersion::V2,
            },
            server: ServerId(id),
            addresses: (0..addresses % 12).map(|n| (format!("s{id}"), u16::from(n))).collect(),
        };
        self.receive(link, initial.to_bytes());
    }

    fn receive(&mut self, link: LinkId, bytes: Bytes) {
        self.inputs.push(Input::Link(link, LinkInput::Received(bytes)));
    }

    fn which(&self, which: u8, port: Option<Port>) -> Option<LinkId> {
        let links = self.links.iter().filter(|(_, link)| port.is_none_or(|port| link.port == port));
        let links: Vec<LinkId> = links.map(|(id, _)| *id).collect();
        links.get(usize::from(which) % links.len().max(1)).copied()
    }

    pub fn vote(&mut self, which: u8, vote: &Vote) {
        let Some(link) = self.which(which, Some(Port::Election)) else {
            return;
        };
        let Some(own) = self.vote.clone() else {
            return;
        };
        let zxid = vote.zxid.as_ref().map_or(own.zxid, |zxid| zxid.at(self.here));
        let far = |far: &Option<super::words::Far>, base| far.as_ref().map_or(base, |far| far.from(base));
        let notification = Notification {
            state: State(i32::from(vote.state % 5)),
            leader: match vote.leader {
                0 => own.leader,
                id => ServerId(i64::from(id % 8)),
            },
            zxid,
            round: far(&vote.round, own.round),
            peer_epoch: far(&vote.epoch, own.peer_epoch),
            version: if vote.old { 1 } else { VERSION },
            config: match &vote.config {
                Some(members) => Some(members.text(self.here)),
                None => own.config,
            },
        };
        self.receive(link, notification.to_frame());
    }

    pub fn learner(&mut self) {
        self.accept(Port::Quorum, 0);
    }

    pub fn say(&mut self, which: u8, said: Said) {
        if let Some(link) = self.which(which, Some(Port::Quorum)) {
            self.receive(link, said.bytes(self.here));
        }
    }

    pub fn raw(&mut self, which: u8, bytes: &[u8]) {
        if let Some(link) = self.which(which, None) {
            self.receive(link, Bytes::copy_from_slice(bytes));
        }
    }

    pub fn close(&mut self, which: u8) {
        if let Some(link) = self.which(which, None) {
            self.links.remove(&link);
            self.lost.insert(link);
            self.inputs.push(Input::Link(link, LinkInput::Closed));
        }
    }

    pub fn flush(&mut self, which: u8) {
        if let Some(id) = self.which(which, None)
            && let Some(link) = self.links.get_mut(&id)
        {
            let bytes = core::mem::take(&mut link.unflushed);
            self.inputs.push(Input::Link(id, LinkInput::Flushed(bytes)));
        }
    }

    pub fn snapshot(&mut self, stored: bool) {
        let Some(&(zxid, true)) = self.snapshots.front() else {
            return;
        };
        self.snapshots.pop_front();
        self.inputs.push(if stored {
            Input::SnapshotStored { zxid }
        } else {
            Input::SnapshotFailed { zxid }
        });
    }

    pub fn client(&mut self, handshake: &Handshake) {
        if let Some((old, _)) = self.client.take() {
            self.lost.insert(old);
            self.inputs.push(Input::Link(old, LinkInput::Closed));
        }
        let link = self.accept(Port::Client, 0);
        self.client = Some((link, 1));
        let peer = SocketAddr::from(([127, 0, 0, 1], 9));
        self.inputs.push(Input::Link(link, LinkInput::Opened { port: Port::Client, peer }));
        self.receive(link, framed(&handshake.bytes(&[])));
    }

    pub fn frame(&mut self, frame: &Frame) {
        let Some((link, xid)) = &mut self.client else {
            return;
        };
        *xid += 1;
        let (link, xid) = (*link, Xid(*xid));
        self.receive(link, framed(&frame.bytes(xid).0));
    }

    /// Everybody does what is right, and the disk.
    pub fn round(&mut self, elect: bool) {
        if self.over {
            return;
        }
        while !self.dials.is_empty() {
            self.dialled(true);
        }
        if elect {
            self.elect();
        }
        self.step(0);
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        for link in links {
            self.proceed(link);
        }
        self.step(0);
        self.confirm(usize::MAX);
        self.snapshot(true);
        self.step(50);
        for which in 0..8 {
            self.flush(which);
        }
    }

    /// The peers want the leader that is to be.
    fn elect(&mut self) {
        let Some(own) = self.vote.clone() else {
            return;
        };
        let me = self.me;
        for peer in (1..=3).filter(|&peer| peer != me) {
            let there = |link: &Link| link.port == Port::Election && link.id == peer;
            if peer > self.me && !self.links.values().any(there) {
                self.greet(peer, 1);
            }
        }
        if own.state != State::LOOKING {
            if self.leader == self.me {
                let follow = |link: &&Link| link.port == Port::Quorum && !link.dialled;
                let count = self.links.values().filter(follow).count();
                if count < 2 {
                    self.learner();
                }
            }
            return;
        }
        let links = self.links.iter().filter(|(_, link)| link.port == Port::Election);
        for (link, peer) in links.map(|(id, link)| (*id, link.id)).collect::<Vec<_>>() {
            let mut vote = own.clone();
            if self.leader != self.me {
                vote.leader = ServerId(self.leader);
                vote.zxid = self.here.last;
                vote.peer_epoch = i64::from(self.here.epoch.0);
                vote.state = if peer == self.leader { State::LEADING } else { State::FOLLOWING };
            }
            self.receive(link, vote.to_frame());
        }
    }

    pub fn proceed_one(&mut self, which: u8) {
        if let Some(link) = self.which(which, Some(Port::Quorum)) {
            self.proceed(link);
        }
    }

    /// What is right to say next.
    fn proceed(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        if link.port != Port::Quorum {
            return;
        }
        let here = self.here;
        let start = here.epoch.start();
        let say = |kind, zxid| Packet::new(kind, zxid).to_bytes();
        let mut answers = Vec::new();
        let said = core::mem::take(&mut link.said);
        if !link.dialled && link.id == 0 {
            let server = if id.0 % 2 == 0 { 1 } else { 2 } + i64::from(self.me < 3);
            link.id = if server == self.me { 1 } else { server };
            let info = LearnerInfo {
                server: ServerId(link.id),
                protocol: PROTOCOL,
                config_version: 0,
            };
            let data = info.to_bytes();
            answers.push(Packet::with_data(PacketType::FOLLOWER_INFO, start, data).to_bytes());
        }
        if said.is_empty() && link.dialled && link.acked > Zxid(i64::MIN) {
            let zxid = next(here);
            let payload = super::words::Payload::CreateSession(1, 4000).bytes(zxid, here);
            answers.push(Packet::with_data(PacketType::PROPOSAL, zxid, payload).to_bytes());
            answers.push(say(PacketType::COMMIT, zxid));
        }
        for packet in said {
            match packet.kind {
                PacketType::LEADER_INFO => {
                    let data = AckEpoch { current: Some(Epoch(0)) }.to_bytes();
                    let last = here.last;
                    answers.push(Packet::with_data(PacketType::ACK_EPOCH, last, data).to_bytes());
                }
                PacketType::NEW_LEADER | PacketType::PROPOSAL => {
                    answers.push(say(PacketType::ACK, packet.zxid));
                }
                PacketType::PING => answers.push(say(PacketType::PING, packet.zxid)),
                PacketType::FOLLOWER_INFO | PacketType::OBSERVER_INFO => {
                    let data = LeaderInfo { protocol: PROTOCOL }.to_bytes();
                    let epoch = Epoch(packet.zxid.epoch().0.saturating_add(1));
                    let info = Packet::with_data(PacketType::LEADER_INFO, epoch.start(), data);
                    answers.push(info.to_bytes());
                }
                PacketType::ACK_EPOCH => {
                    if packet.zxid == here.last {
                        answers.push(say(PacketType::DIFF, here.last));
                    } else {
                        answers.push(say(PacketType::SNAP, here.last));
                        answers.push(state().into());
                    }
                    answers.push(say(PacketType::NEW_LEADER, start));
                }
                PacketType::ACK if link.dialled && packet.zxid == start => {
                    if link.acked == Zxid(i64::MIN) {
                        link.acked = start;
                        answers.push(say(PacketType::UP_TO_DATE, Zxid(-1)));
                    }
                }
                _ => {}
            }
        }
        for bytes in answers {
            self.receive(id, bytes);
        }
    }
}

fn framed(content: &[u8]) -> Bytes {
    let length = u32::try_from(content.len()).unwrap_or(0).to_be_bytes();
    [&length, content].concat().into()
}

fn length(input: &Input) -> usize {
    match input {
        Input::Link(_, LinkInput::Received(bytes)) => bytes.len() + 64,
        _ => 64,
    }
}

fn sent_length(output: &Output) -> usize {
    match output {
        Output::Link(_, LinkOutput::Send(bytes)) => bytes.len(),
        _ => 0,
    }
}
