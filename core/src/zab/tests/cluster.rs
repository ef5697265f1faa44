//! Several servers, their disks, and bytes between them, in one thread and from one seed.
//!
//! The tree of each is the list of all that was delivered to it, so that any two can be compared.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may stop at what it did not expect"
)]

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};

use bytes::Bytes;

use crate::ids::{Epoch, Instant, LinkId, Seq, ServerId, SessionId, UnixMillis, Xid, Zxid};
use crate::jute;
use crate::lane::StoreOp;
use crate::link::{Endpoint, LinkInput, LinkOutput, Port};
use crate::wire::client::OpCode;
use crate::wire::quorum::{PacketType, Packets};
use crate::wire::txn::{TxnHeader, append_body};
use crate::zab::{Membership, MembershipOp, Options, Output, Recovered, Role, Zab};

pub(super) type Txn = (Zxid, Bytes);

/// Splitmix64.
#[derive(Debug)]
pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }

    pub(super) fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }
}

/// What survives a power cut.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    pub(super) log: Vec<Txn>,
    pub(super) snapshots: BTreeMap<Zxid, Vec<Txn>>,
    pub(super) accepted: Epoch,
    pub(super) current: Epoch,
    pub(super) members: Membership,
    pub(super) members_seen: Option<Membership>,
}

impl Disk {
    fn perform(&mut self, op: &StoreOp) {
        match op {
            StoreOp::Append { zxid, txn } => {
                assert!(
                    self.log.last().is_none_or(|last| last.0 < *zxid),
                    "appends ascend"
                );
                self.log.push((*zxid, txn.clone()));
            }
            StoreOp::Roll => {}
            StoreOp::Epochs { accepted, current } => {
                assert!(accepted.is_none_or(|epoch| epoch >= self.accepted));
                assert!(current.is_none_or(|epoch| epoch >= self.current));
                self.accepted = accepted.unwrap_or(self.accepted);
                self.current = current.unwrap_or(self.current);
                assert!(self.current <= self.accepted, "S8");
            }
            StoreOp::Truncate { to } => {
                self.log.retain(|entry| entry.0 <= *to);
                self.snapshots.retain(|name, _| name <= to);
            }
            StoreOp::Reset { to } => {
                assert!(self.snapshots.contains_key(to), "reset to a snapshot");
                self.log.clear();
                self.snapshots.retain(|name, _| name >= to);
            }
        }
    }

    /// What a server finds: its base, and everything.
    fn recover(&self) -> (Zxid, Vec<Txn>, Vec<Txn>) {
        let (base, mut tree) = match self.snapshots.last_key_value() {
            Some((name, state)) => (*name, state.clone()),
            None => (Zxid::ZERO, Vec::new()),
        };
        let after = self.log.iter().filter(|entry| entry.0 > base);
        let recent: Vec<Txn> = after.cloned().collect();
        tree.extend(recent.iter().cloned());
        (base, recent, tree)
    }

    pub(super) fn last(&self) -> Zxid {
        let (base, recent, _) = self.recover();
        recent.last().map_or(base, |entry| entry.0)
    }

    fn holds(&self, zxid: Zxid) -> bool {
        self.recover().2.iter().any(|entry| entry.0 == zxid)
    }
}

/// A state that is being sent to a learner.
#[derive(Debug)]
struct Sending {
    link: LinkId,
    bytes: Option<Bytes>,
}

pub(super) struct Server {
    pub(super) id: ServerId,
    pub(super) zab: Option<Zab>,
    pub(super) disk: Disk,
    pub(super) ops: VecDeque<(Seq, StoreOp)>,
    pub(super) tree: Vec<Txn>,
    pub(super) role: Role,
    pub(super) serving: bool,
    pub(super) restarts: Vec<String>,
    pub(super) events: Vec<String>,
    pub(super) stalled: bool,
    listening: BTreeMap<Port, bool>,
    next_link: u64,
    loading: Option<(Zxid, Vec<u8>)>,
    storing: Option<(Zxid, Vec<Txn>)>,
    sending: Vec<Sending>,
    /// Of each sync: what was delivered anywhere when it was asked for.
    syncs: VecDeque<usize>,
    pub(super) synced: usize,
}

impl Server {
    /// Whether its tree is a leader's, or a part of it, and its disk does not know.
    pub(super) const fn takes_a_state(&self) -> bool {
        self.loading.is_some() || self.storing.is_some()
    }
}

#[derive(Debug)]
struct End {
    server: usize,
    link: LinkId,
    /// Whether it is told anything.
    alive: bool,
    /// What is to arrive here.
    queue: VecDeque<Bytes>,
    /// Whether the other end is gone.
    closing: bool,
}

#[derive(Debug)]
struct Conn {
    port: Port,
    ends: [End; 2],
    /// What the dialler has sent: a learner, on the quorum port.
    said: Option<Packets>,
}

pub(super) struct Cluster {
    pub(super) rng: Rng,
    pub(super) now: Instant,
    pub(super) servers: Vec<Server>,
    pub(super) membership: Membership,
    tune: fn(&mut Options),
    conns: Vec<Conn>,
    dials: Vec<(usize, LinkId, Port, usize)>,
    pub(super) cut: BTreeSet<(usize, usize)>,
    /// Everything that was delivered anywhere, in its order.
    pub(super) canon: Vec<Txn>,
    pub(super) proposed: u64,
}

impl Cluster {
    pub(super) fn new(seed: u64, voters: usize, observers: usize, tune: fn(&mut Options)) -> Self {
        let lines = (1..=voters + observers).map(|id| {
            let role = if id > voters {
                "observer"
            } else {
                "participant"
            };
            format!("server.{id}=s{id}:1:2:{role}\n")
        });
        let text: String = lines.collect();
        let membership = Membership::parse(&text).unwrap();
        let server = |id: usize| Server {
            id: ServerId(i64::try_from(id).unwrap()),
            zab: None,
            disk: Disk {
                members: membership.clone(),
                ..Disk::default()
            },
            ops: VecDeque::new(),
            tree: Vec::new(),
            role: Role::Looking,
            serving: false,
            restarts: Vec::new(),
            events: Vec::new(),
            stalled: false,
            listening: BTreeMap::new(),
            next_link: 1,
            loading: None,
            storing: None,
            sending: Vec::new(),
            syncs: VecDeque::new(),
            synced: 0,
        };
        Self {
            rng: Rng(seed),
            now: Instant(1_000_000),
            servers: (1..=voters + observers).map(server).collect(),
            membership: membership.clone(),
            tune,
            conns: Vec::new(),
            dials: Vec::new(),
            cut: BTreeSet::new(),
            canon: Vec::new(),
            proposed: 0,
        }
    }

    pub(super) fn start(&mut self, at: usize) {
        let (base, recent, tree) = self.servers[at].disk.recover();
        let id = self.servers[at].id;
        let mut options = Options {
            me: id,
            observer: false,
            committed: self.servers[at].disk.members.clone(),
            last_seen: self.servers[at].disk.members_seen.clone(),
            election: vec![Endpoint {
                host: format!("s{id}"),
                port: 2,
            }],
            reconfig_enabled: false,
            tick_ms: 200,
            init_limit: 10,
            sync_limit: 5,
            connect_limit: 0,
            listen_on_all_ips: false,
            multi_address: false,
            packet_bytes_max: 1 << 20,
            notification_ms_min: 100,
            notification_ms_max: 1000,
            connect_timeout_ms: 500,
            election_silence_ms: None,
            history_txns_min: 500,
            history_bytes_max: 1 << 20,
            sasl: crate::zab::Sasl::default(),
        };
        (self.tune)(&mut options);
        let server = &mut self.servers[at];
        let recovered = Recovered {
            base,
            recent,
            accepted: server.disk.accepted,
            current: server.disk.current,
            divergent: false,
            trusted: true,
        };
        server.tree = tree;
        server.zab = Some(Zab::new(options, recovered, self.rng.next(), self.now));
        self.step(at, |_| {});
    }

    /// The server is gone. Of what its disk was to write, some is written.
    pub(super) fn crash(&mut self, at: usize) {
        let server = &mut self.servers[at];
        server.zab = None;
        let written = self.rng.below(server.ops.len() + 1);
        for (_, op) in server.ops.drain(..).take(written) {
            server.disk.perform(&op);
        }
        server.ops.clear();
        self.gone(at);
    }

    /// The server wants to be dropped: its disk ends what it was told.
    fn restart(&mut self, at: usize) {
        let server = &mut self.servers[at];
        server.zab = None;
        while let Some((_, op)) = server.ops.pop_front() {
            server.disk.perform(&op);
        }
        self.gone(at);
        self.start(at);
    }

    fn gone(&mut self, at: usize) {
        let server = &mut self.servers[at];
        server.role = Role::Looking;
        server.serving = false;
        server.listening.clear();
        server.loading = None;
        server.storing = None;
        server.sending.clear();
        server.syncs.clear();
        server.stalled = false;
        self.dials.retain(|dial| dial.0 != at);
        for conn in &mut self.conns {
            for side in 0..2 {
                if conn.ends[side].server == at {
                    conn.ends[side].alive = false;
                    conn.ends[side].queue.clear();
                    conn.ends[1 - side].closing = true;
                    if self.rng.chance(2) {
                        conn.ends[1 - side].queue.clear();
                    }
                }
            }
        }
    }

    /// Cuts the connections of two servers, and lets them make none.
    pub(super) fn part(&mut self, a: usize, b: usize) {
        self.cut.insert((a.min(b), a.max(b)));
        self.drop_links(a, b);
    }

    /// Breaks the connections of two servers.
    pub(super) fn drop_links(&mut self, a: usize, b: usize) {
        for conn in &mut self.conns {
            let between = (conn.ends[0].server, conn.ends[1].server);
            if between == (a, b) || between == (b, a) {
                for end in &mut conn.ends {
                    end.closing = true;
                    end.queue.clear();
                }
            }
        }
    }

    fn apart(&self, a: usize, b: usize) -> bool {
        self.cut.contains(&(a.min(b), a.max(b)))
    }

    /// One step of a server, and what it asks for.
    pub(super) fn step(&mut self, at: usize, call: impl FnOnce(&mut Zab)) {
        let Some(zab) = self.servers[at].zab.as_mut() else {
            return;
        };
        zab.begin(self.now);
        call(zab);
        let outputs = zab.take_outputs();
        for output in outputs {
            if self.servers[at].zab.is_none() {
                return;
            }
            self.perform(at, output);
        }
    }

    fn perform(&mut self, at: usize, output: Output) {
        let server = &mut self.servers[at];
        match output {
            Output::Link(link, output) => self.link_output(at, link, output),
            Output::Listen(port, to) => {
                server.listening.insert(port, !to.is_empty());
            }
            Output::Store(seq, op) => server.ops.push_back((seq, op)),
            Output::Membership(MembershipOp::Seen(seen)) => server.disk.members_seen = Some(seen),
            Output::Membership(MembershipOp::Active(active)) => {
                assert!(active.version > server.disk.members.version);
                server.disk.members = active;
            }
            Output::Activated(_) => {}
            Output::Restart(reason) => {
                server.restarts.push(reason);
                self.restart(at);
            }
            Output::Event(event) => server.events.push(format!("{event:?}")),
            Output::Role(role) => {
                server.role = role;
                server.serving = false;
                server.syncs.clear();
                server.sending.clear();
            }
            Output::Deliver { zxid, txn } => {
                server.tree.push((zxid, txn));
                // At a process's start the tree has what nobody knew to be committed.
                let index = server.tree.len() - 1;
                for index in self.canon.len().min(index)..=index {
                    self.agree(at, index);
                }
            }
            Output::Serve => {
                server.serving = true;
                for index in 0..server.tree.len() {
                    self.agree(at, index);
                }
            }
            Output::SnapshotBegin { zxid } => {
                server.tree.clear();
                server.loading = Some((zxid, Vec::new()));
            }
            Output::SnapshotBytes(bytes) => self.load(at, &bytes),
            Output::SnapshotWanted(link) => server.sending.push(Sending { link, bytes: None }),
            Output::Request { data, .. } => self.propose(at, data),
            Output::Synced => {
                let before = server.syncs.pop_front().unwrap();
                assert!(
                    server.tree.len() >= before,
                    "C7: a sync shows what was there before"
                );
                server.synced += 1;
            }
            Output::PingDue => self.step(at, |zab| zab.pong(Bytes::new())),
            Output::Touches(_) | Output::Revalidated(_) | Output::SyncAnswered(_) => {}
            Output::Revalidate { from, data } => {
                self.step(at, |zab| zab.revalidated(from, data));
            }
            Output::LearnerGone(link) => server.sending.retain(|sending| sending.link != link),
        }
    }

    /// What one server has been given all have been given, or will be: S2, S4, S5, S11.
    fn agree(&mut self, at: usize, index: usize) {
        let server = &self.servers[at];
        let entry = &server.tree[index];
        match self.canon.get(index) {
            Some(known) => assert_eq!(
                known, entry,
                "server {} disagrees at {index}: {:?}",
                server.id, server.events
            ),
            None => {
                assert_eq!(index, self.canon.len(), "nothing is left out");
                self.canon.push(entry.clone());
            }
        }
    }

    fn load(&mut self, at: usize, bytes: &Bytes) {
        let server = &mut self.servers[at];
        let Some((zxid, buffer)) = &mut server.loading else {
            panic!("bytes of a state that was not begun");
        };
        buffer.extend_from_slice(bytes);
        let Some((state, rest)) = decode(buffer) else {
            return;
        };
        let rest = Bytes::copy_from_slice(rest);
        assert_eq!(state.last().map_or(Zxid::ZERO, |last| last.0), *zxid);
        server.tree = state.clone();
        server.storing = Some((*zxid, state));
        server.loading = None;
        self.step(at, |zab| zab.snapshot_loaded(rest));
    }

    fn link_output(&mut self, at: usize, link: LinkId, output: LinkOutput) {
        if let LinkOutput::Dial { port, to, .. } = output {
            let host = &to[0].host;
            let target = self
                .servers
                .iter()
                .position(|server| format!("s{}", server.id) == *host);
            self.dials.push((at, link, port, target.unwrap()));
            return;
        }
        let Some((index, side)) = self.find(at, link) else {
            self.dials.retain(|dial| (dial.0, dial.1) != (at, link));
            return;
        };
        match output {
            LinkOutput::Send(bytes) => {
                if self.conns[index].port == Port::Quorum && side == 0 {
                    self.check_said(at, index, &bytes);
                }
                let to = &mut self.conns[index].ends[1 - side];
                if !to.closing {
                    to.queue.push_back(bytes);
                }
            }
            LinkOutput::Close => {
                self.conns[index].ends[side].alive = false;
                self.conns[index].ends[1 - side].closing = true;
            }
            LinkOutput::Dial { .. } | LinkOutput::Pause | LinkOutput::Resume => {}
        }
    }

    /// S16: what a learner acknowledges is on its disk.
    fn check_said(&mut self, at: usize, index: usize, bytes: &Bytes) {
        let said = self.conns[index].said.as_mut().unwrap();
        said.receive(bytes.clone());
        let mut acks = Vec::new();
        while let Some(packet) = said.next().unwrap() {
            if packet.kind == PacketType::ACK {
                acks.push(packet.zxid);
            }
            if packet.kind == PacketType::ACK_EPOCH {
                assert!(
                    self.servers[at].ops.iter().all(|(_, op)| !matches!(
                        op,
                        StoreOp::Epochs {
                            accepted: Some(_),
                            ..
                        }
                    )),
                    "a promise is durable before it is given"
                );
            }
        }
        let disk = &self.servers[at].disk;
        for zxid in acks {
            if zxid.counter() == 0 {
                assert!(disk.current >= zxid.epoch(), "ACK of NEWLEADER {zxid}");
            } else {
                assert!(disk.holds(zxid), "ACK of {zxid}");
                assert!(disk.current == zxid.epoch(), "ACK of {zxid} in its epoch");
            }
        }
    }

    fn find(&self, at: usize, link: LinkId) -> Option<(usize, usize)> {
        self.conns.iter().enumerate().find_map(|(index, conn)| {
            let side = conn
                .ends
                .iter()
                .position(|end| (end.server, end.link) == (at, link) && end.alive)?;
            Some((index, side))
        })
    }

    /// Answers one that connects.
    pub(super) fn connect(&mut self, which: usize) {
        let (from, link, port, to) = self.dials.swap_remove(which);
        let listens = self.servers[to].listening.get(&port) == Some(&true);
        if self.apart(from, to) || !listens || self.servers[to].zab.is_none() {
            self.step(from, |zab| zab.link(link, LinkInput::Closed));
            return;
        }
        let accepted = LinkId(self.servers[to].next_link);
        self.servers[to].next_link += 1;
        let end = |server, link| End {
            server,
            link,
            alive: true,
            queue: VecDeque::new(),
            closing: false,
        };
        self.conns.push(Conn {
            port,
            ends: [end(from, link), end(to, accepted)],
            said: Some(Packets::default()),
        });
        let peer = |server: usize| {
            let octet = u8::try_from(server).unwrap();
            ([10, 0, 0, octet], 1).into()
        };
        let opened = |server| LinkInput::Opened {
            port,
            peer: peer(server),
        };
        self.step(to, |zab| zab.link(accepted, opened(from)));
        self.step(from, |zab| zab.link(link, opened(to)));
    }

    /// Brings some of what is under way on a connection.
    fn carry(&mut self, index: usize, side: usize) {
        let end = &mut self.conns[index].ends[side];
        let (server, link) = (end.server, end.link);
        let Some(bytes) = end.queue.front_mut() else {
            if end.closing && end.alive {
                end.alive = false;
                self.step(server, |zab| zab.link(link, LinkInput::Closed));
            }
            return;
        };
        let length = if self.rng.chance(4) {
            1 + self.rng.below(bytes.len())
        } else {
            bytes.len()
        };
        let bytes = bytes.split_to(length.min(bytes.len()));
        end.queue.pop_front_if(|rest| rest.is_empty());
        let alive = end.alive;
        let other = &self.conns[index].ends[1 - side];
        let (peer, peer_link, peer_alive) = (other.server, other.link, other.alive);
        if peer_alive {
            self.step(peer, |zab| zab.link(peer_link, LinkInput::Flushed(length)));
        }
        if alive {
            self.step(server, |zab| zab.link(link, LinkInput::Received(bytes)));
        }
    }

    /// Performs some of what a disk was told.
    pub(super) fn write(&mut self, at: usize, count: usize) {
        let server = &mut self.servers[at];
        let mut upto = None;
        for _ in 0..count {
            if let Some((seq, op)) = server.ops.pop_front() {
                server.disk.perform(&op);
                upto = Some(seq);
            }
        }
        if let Some(upto) = upto {
            self.step(at, |zab| zab.stored(upto));
        }
    }

    /// The lane of snapshots goes on.
    fn store_snapshot(&mut self, at: usize) {
        let server = &mut self.servers[at];
        if let Some((zxid, state)) = server.storing.take() {
            server.disk.snapshots.insert(zxid, state);
            self.step(at, |zab| zab.snapshot_stored(zxid));
        }
    }

    /// A server writes a snapshot of its own: at once, of what it has logged.
    pub(super) fn snapshot(&mut self, at: usize) {
        let server = &mut self.servers[at];
        let Some(last) = server.tree.last().map(|last| last.0) else {
            return;
        };
        let quiet = server.serving && server.ops.is_empty();
        if quiet && server.disk.last() >= last {
            server.disk.snapshots.insert(last, server.tree.clone());
        }
    }

    /// Sends on what states are wanted.
    fn send_state(&mut self, at: usize) {
        let server = &mut self.servers[at];
        if server.sending.is_empty() {
            return;
        }
        let which = self.rng.below(server.sending.len());
        let sending = &mut server.sending[which];
        let link = sending.link;
        match sending.bytes.take() {
            None => {
                let zxid = server.tree.last().map_or(Zxid::ZERO, |last| last.0);
                sending.bytes = Some(encode(&server.tree));
                self.step(at, |zab| zab.snapshot_begin(link, zxid));
            }
            Some(bytes) if bytes.is_empty() => {
                server.sending.remove(which);
                self.step(at, |zab| zab.snapshot_end(link));
            }
            Some(mut bytes) => {
                let room = server.zab.as_ref().unwrap().snapshot_room(link);
                let Some(room) = room else {
                    server.sending.remove(which);
                    return;
                };
                let length = bytes.len().min(room).min(1 + self.rng.below(200));
                let chunk = bytes.split_to(length);
                sending.bytes = Some(bytes);
                self.step(at, |zab| zab.snapshot_chunk(link, &chunk));
            }
        }
    }

    pub(super) fn propose(&mut self, at: usize, data: Bytes) {
        self.step(at, |zab| {
            if let Some(zxid) = zab.next_zxid() {
                zab.propose(zxid, data, None);
            }
        });
    }

    /// A client asks a server that serves for a write.
    pub(super) fn client(&mut self, at: usize) {
        if !self.servers[at].serving {
            return;
        }
        self.proposed += 1;
        let data = Bytes::from(format!("txn {}", self.proposed));
        match self.servers[at].role {
            Role::Leading { .. } => self.propose(at, data),
            Role::Following { .. } | Role::Observing { .. } => {
                self.step(at, |zab| zab.request(data, Some(vec![])));
            }
            Role::Looking => {}
        }
    }

    /// A client asks for a sync.
    pub(super) fn sync(&mut self, at: usize) {
        if self.servers[at].serving {
            let before = self.canon.len();
            self.servers[at].syncs.push_back(before);
            self.step(at, Zab::sync);
        }
    }

    /// Something random happens that is no fault.
    pub(super) fn happen(&mut self) {
        self.conns
            .retain(|conn| conn.ends.iter().any(|end| end.alive));
        let at = self.rng.below(self.servers.len());
        match self.rng.below(20) {
            0..12 if !self.conns.is_empty() => {
                let index = self.rng.below(self.conns.len());
                let side = self.rng.below(2);
                self.carry(index, side);
            }
            0..15 if !self.servers[at].stalled => {
                let count = 1 + self.rng.below(4);
                self.write(at, count);
            }
            15 => self.store_snapshot(at),
            16 => self.send_state(at),
            17 if !self.dials.is_empty() => {
                let which = self.rng.below(self.dials.len());
                self.connect(which);
            }
            _ => {
                let micros = u64::try_from(self.rng.below(8000)).unwrap();
                self.pass(micros);
            }
        }
        self.check_electable();
    }

    /// Time passes.
    pub(super) fn pass(&mut self, micros: u64) {
        self.now = Instant(self.now.0 + micros);
        for at in 0..self.servers.len() {
            let zab = self.servers[at].zab.as_ref();
            let wake = zab.and_then(Zab::next_wake);
            if wake.is_some_and(|wake| wake <= self.now) {
                self.step(at, Zab::tick);
            }
        }
    }

    /// S10: whichever quorum is left, whom it would elect has all that was delivered anywhere.
    pub(super) fn check_electable(&self) {
        let Some(last) = self.canon.last() else {
            return;
        };
        let members = self.servers.iter().map(|server| &server.disk.members);
        let newest = members.max_by_key(|members| members.version).unwrap();
        if newest.version != self.membership.version {
            // Quorums are of two memberships at times: not for this simple view.
            return;
        }
        let voters: Vec<&Server> = self
            .servers
            .iter()
            .filter(|server| self.membership.is_voter(server.id))
            .collect();
        for mask in 0..1_u32 << voters.len() {
            if 2 * usize::try_from(mask.count_ones()).unwrap() <= voters.len() {
                continue;
            }
            let quorum = (0..voters.len()).filter(|bit| mask >> bit & 1 == 1);
            let best = quorum
                .map(|bit| voters[bit])
                .max_by_key(|server| (server.disk.current, server.disk.last(), server.id))
                .unwrap();
            assert!(
                best.disk.holds(last.0),
                "S10: server {} would lead without {}",
                best.id,
                last.0
            );
        }
    }

    /// The leader proposes a membership of these voters and observers.
    pub(super) fn reconfigure(
        &mut self,
        at: usize,
        voters: &[usize],
        observers: &[usize],
    ) -> Option<Zxid> {
        let line = |id: &usize, role| format!("server.{id}=s{id}:1:2:{role}\n");
        let voters = voters.iter().map(|id| line(id, "participant"));
        let observers = observers.iter().map(|id| line(id, "observer"));
        let text: String = voters.chain(observers).collect();
        let mut membership = Membership::parse(&text).unwrap();
        let zab = self.servers[at].zab.as_ref()?;
        let zxid = zab.next_zxid()?;
        let (committed, seen) = zab.membership();
        let pending = seen.is_some_and(|seen| seen.version > committed.version);
        if pending || !zab.can_reconfigure_to(&membership) {
            return None;
        }
        membership.version = zxid.0;
        let header = TxnHeader {
            client: SessionId::NONE,
            cxid: Xid(0),
            zxid,
            time: UnixMillis(0),
            op: OpCode::RECONFIG,
        };
        let mut txn = jute::to_vec(&header);
        let text = membership.to_text();
        let body = crate::wire::txn::Txn::SetData {
            path: "/zookeeper/config".into(),
            data: Some(text.as_bytes()),
            version: -1,
        };
        append_body(&mut txn, &body);
        self.step(at, |zab| zab.propose(zxid, txn.into(), Some(membership)));
        Some(zxid)
    }

    /// Goes on without faults until a condition holds.
    pub(super) fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        for _ in 0..200_000 {
            if condition(self) {
                return;
            }
            self.happen();
        }
        let events: Vec<_> = self
            .servers
            .iter()
            .map(|server| {
                let events = server.events.iter().rev().take(25).rev();
                let events: Vec<_> = events.collect();
                let zab = server.zab.as_ref();
                let members = zab.map(|zab| {
                    let voters = |m: &Membership| {
                        let ids: Vec<i64> = m.voters().map(|(id, _)| id.0).collect();
                        format!("{:x} {ids:?}", m.version)
                    };
                    let (committed, seen) = zab.membership();
                    (voters(committed), seen.map(voters))
                });
                let members = format!("{members:?}");
                (server.id, server.role, events, &server.restarts, members)
            })
            .collect();
        panic!("never came: {what}: {events:#?}");
    }

    /// Everyone that runs serves, and has everything.
    pub(super) fn settled(&self) -> bool {
        self.servers
            .iter()
            .filter(|s| s.zab.is_some())
            .all(|server| server.serving && server.tree.len() == self.canon.len())
    }

    pub(super) fn leader(&self) -> Option<usize> {
        self.servers
            .iter()
            .position(|server| server.serving && matches!(server.role, Role::Leading { .. }))
    }
}

/// A state in bytes that know their end.
fn encode(tree: &[Txn]) -> Bytes {
    let mut out = u32::try_from(tree.len()).unwrap().to_be_bytes().to_vec();
    for (zxid, txn) in tree {
        out.extend_from_slice(&zxid.0.to_be_bytes());
        out.extend_from_slice(&u32::try_from(txn.len()).unwrap().to_be_bytes());
        out.extend_from_slice(txn);
    }
    out.into()
}

fn decode(bytes: &[u8]) -> Option<(Vec<Txn>, &[u8])> {
    let (count, mut rest) = bytes.split_first_chunk::<4>()?;
    let mut tree = Vec::new();
    for _ in 0..u32::from_be_bytes(*count) {
        let (zxid, after) = rest.split_first_chunk::<8>()?;
        let (length, after) = after.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap();
        let txn = after.get(..length)?;
        rest = &after[length..];
        tree.push((Zxid(i64::from_be_bytes(*zxid)), Bytes::copy_from_slice(txn)));
    }
    Some((tree, rest))
}
