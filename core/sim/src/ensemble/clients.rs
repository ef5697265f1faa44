//! Clients of an ensemble: each is connected to any server, and goes to another when it loses it.

use bytes::Bytes;

use crate::client::Client;
use crate::ensemble::members::{Change, request_of};
use crate::ensemble::plan::Cast;
use crate::ensemble::{Event, World};
use crate::oracle::next_frame;
use crate::plan::Plan;
use crate::rng::{Rng, Stream};
use crate::wire::{Acl, ConnectResponse, CreateKind, Op, Reader};

/// A client with its connection.
#[derive(Debug)]
pub(super) struct Caller {
    client: Client,
    link: Option<u64>,
    /// When it last heard of its server, or connected.
    heard_at: u64,
    probe: Option<Probe>,
    order: Option<Order>,
}

/// A client that asks for one thing, once, and goes.
#[derive(Clone, Debug)]
struct Order {
    op: Op,
    is_sent: bool,
}

/// A client that sees whether one server serves.
#[derive(Clone, Copy, Debug)]
struct Probe {
    server: usize,
    stage: ProbeStage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProbeStage {
    /// It is not connected, or has asked for nothing yet.
    Connecting,
    /// It has written and synced, and waits for the answers.
    Writing,
    /// It reads every znode.
    Reading,
    /// Every answer is there, and they were what the model says.
    Done,
}

/// How long a probe waits for anything before it tries anew, in microseconds.
const PROBE_PATIENCE_US: u64 = 3_000_000;
const PROBE_TIMEOUT_MS: i32 = 1_000_000;

impl Caller {
    pub(super) fn new(id: u64, plan: &Plan, rng: &mut Rng) -> Self {
        Self {
            client: Client::new(id, plan, rng),
            link: None,
            heard_at: 0,
            probe: None,
            order: None,
        }
    }
}

impl World {
    /// Lets a client do the next thing.
    pub(super) fn act(&mut self, id: usize) {
        if !self.is_active {
            return;
        }
        let base = &self.script.base;
        let (seed, acts, pace_us) = (base.seed, base.acts, base.pace_us);
        let disruptions = base.disruptions;
        let tick_ms = i32::try_from(base.tick_ms).unwrap_or(0);
        let now = self.now;
        let Some(caller) = self.callers.get_mut(id) else {
            return;
        };
        if caller.order.is_some() {
            self.obey(id);
            return;
        }
        caller.client.acts += 1;
        let mut rng = Rng::keyed(seed, Stream::Client, caller.client.id, caller.client.acts);
        let is_spent = caller.client.acts > acts;
        let timeout_ms = caller.client.timeout_ms.clamp(2 * tick_ms, 20 * tick_ms);
        let patience_us = u64::try_from(timeout_ms).unwrap_or(0) * 667;
        let is_deaf = now > caller.heard_at + patience_us;
        if now >= caller.client.silent_until {
            match caller.link {
                None => self.connect(id),
                Some(link) if is_deaf => self.caller_closes(id, link),
                Some(_) if !caller.client.is_open => {}
                Some(_) if is_spent => self.request(id, Op::Ping),
                Some(link) if rng.below(1000) < disruptions => self.disrupt(id, link, &mut rng),
                Some(_) => self.ask(id, &mut rng),
            }
        }
        let pause_us = rng.between(pace_us / 4, pace_us * 2);
        self.after(pause_us, Event::Act(id));
    }

    /// An operator asks for another membership: a server of the ensemble, or in a drill its leader.
    pub(super) fn operate(&mut self, changes: &[Change], version: Option<i64>) {
        let (joining, leaving) = request_of(changes);
        let version = version.unwrap_or(-1);
        if self.script.cast == Cast::Drill {
            let leader = self.history.leader();
            if let Some(host) = self.servers.get(leader) {
                host.spy.borrow_mut().reconfig = Some((joining, leaving, version));
            }
            return;
        }
        let id = self.callers.len();
        let mut rng = Rng::keyed(self.script.base.seed, Stream::Plan, 4, id as u64);
        let mut caller = Caller::new(id as u64, &self.script.base, &mut rng);
        let op = Op::Reconfig {
            joining,
            leaving,
            version,
        };
        caller.order = Some(Order { op, is_sent: false });
        self.callers.push(caller);
        self.after(0, Event::Act(id));
    }

    /// Does what is next for a client with an order.
    fn obey(&mut self, id: usize) {
        let now = self.now;
        let Some(caller) = self.callers.get_mut(id) else {
            return;
        };
        let is_open = caller.client.is_open;
        let is_impatient = now > caller.heard_at + PROBE_PATIENCE_US;
        let Some(order) = &mut caller.order else {
            return;
        };
        match caller.link {
            None if order.is_sent => return,
            None => self.connect(id),
            Some(link) if is_impatient => self.caller_closes(id, link),
            Some(_) if is_open && !order.is_sent => {
                order.is_sent = true;
                let op = order.op.clone();
                self.request(id, admin());
                self.request(id, op);
            }
            Some(link) if order.is_sent && self.service.is_quiet(link) => {
                self.request(id, Op::CloseSession);
                return;
            }
            Some(_) => {}
        }
        self.after(20_000, Event::Act(id));
    }

    fn ask(&mut self, id: usize, rng: &mut Rng) {
        let burst = rng.between(1, self.script.base.burst);
        for _ in 0..burst {
            let Some(caller) = self.callers.get(id) else {
                return;
            };
            let op = caller.client.next_op(rng, &self.script.base);
            let is_last = op == Op::CloseSession;
            self.request(id, op);
            if is_last {
                break;
            }
        }
    }

    fn disrupt(&mut self, id: usize, link: u64, rng: &mut Rng) {
        let silent_us = rng.between(1, 3000) * 1000;
        let now = self.now;
        let Some(caller) = self.callers.get_mut(id) else {
            return;
        };
        match rng.below(6) {
            0 | 1 => caller.client.silent_until = now + silent_us,
            // The old connection stays, half open, while the client comes back on a new one.
            2 => caller.link = None,
            3 => {
                caller.client.forget_session();
                self.caller_closes(id, link);
            }
            _ => self.caller_closes(id, link),
        }
    }

    fn caller_closes(&mut self, id: usize, link: u64) {
        self.note(|| format!("client {id} closes link {link}"));
        self.caller_loses(id, link);
        self.close(link, 0);
    }

    /// A client's connection is gone.
    pub(super) fn caller_loses(&mut self, id: usize, link: u64) {
        let caller = self.callers.get_mut(id);
        if let Some(caller) = caller.filter(|caller| caller.link == Some(link)) {
            caller.link = None;
            caller.client.is_open = false;
        }
    }

    /// A client is never heard of again.
    pub(super) fn vanish(&mut self, id: usize) {
        if let Some(caller) = self.callers.get_mut(id) {
            caller.probe = None;
            if let Some(link) = caller.link.take() {
                self.close(link, 0);
            }
        }
    }

    fn connect(&mut self, id: usize) {
        let count = self.servers.len();
        let seed = self.script.base.seed;
        let now = self.now;
        let Some(caller) = self.callers.get_mut(id) else {
            return;
        };
        let client = &mut caller.client;
        let mut rng = Rng::keyed(seed, Stream::Connect, client.id, client.connects);
        let is_probe = caller.probe.is_some() || caller.order.is_some();
        let server = caller
            .probe
            .map_or_else(|| rng.index(count), |it| it.server);
        let mut request = client.connect(&mut rng);
        if is_probe {
            request.last_zxid_seen = client.last_zxid;
            request.timeout_ms = client.timeout_ms;
            request.password.clone_from(&client.password);
        }
        let address = format!("10.0.0.{}", id % 250 + 1);
        let greeting = if is_probe {
            Vec::new()
        } else {
            client.greeting(&mut rng)
        };
        caller.heard_at = now;
        let Some(link) = self.open_for_caller(id, server) else {
            return;
        };
        self.note(|| format!("client {id} opens link {link} to {server}: {request:x?}"));
        if let Some(caller) = self.callers.get_mut(id) {
            caller.link = Some(link);
        }
        let frame = request.frame();
        self.service
            .opened(link, server, request, &address, self.now);
        self.send(link, 0, Bytes::from(frame));
        for op in greeting {
            self.request(id, op);
        }
    }

    fn request(&mut self, id: usize, op: Op) {
        if asks_for_membership(&op) {
            return;
        }
        let Some(caller) = self.callers.get_mut(id) else {
            return;
        };
        let Some(link) = caller.link else { return };
        let xid = caller.client.next_xid(&op);
        let frame = op.frame(xid);
        if op == Op::CloseSession {
            caller.client.forget_session();
        }
        self.note(|| format!("client {id} on link {link} sends {xid} {op:?}"));
        self.service.requests(link, xid, op, frame.len());
        self.send(link, 0, Bytes::from(frame));
    }

    /// Bytes arrive at a client.
    pub(super) fn caller_receives(&mut self, id: usize, link: u64, bytes: &[u8]) {
        let now = self.now;
        let Some(caller) = self.callers.get_mut(id) else {
            return;
        };
        if caller.link != Some(link) {
            return;
        }
        caller.heard_at = now;
        let client = &mut caller.client;
        client.partial.extend_from_slice(bytes);
        while let Some(frame) = next_frame(&mut client.partial) {
            if client.is_open {
                // Checked when it was sent.
                let header = Reader(&frame).reply_header();
                let zxid = header.map_or(0, |header| header.zxid);
                client.last_zxid = client.last_zxid.max(zxid);
                continue;
            }
            match ConnectResponse::decode(&frame) {
                Ok(response) if response.session != 0 => {
                    client.is_open = true;
                    client.session = response.session;
                    client.password = response.password;
                }
                _ => client.forget_session(),
            }
        }
    }

    /// Adds a client that sees whether a server serves.
    pub(super) fn add_probe(&mut self, server: usize) {
        let id = self.callers.len() as u64;
        let mut rng = Rng::keyed(0, Stream::Plan, 3, id);
        let mut caller = Caller::new(id, &self.script.base, &mut rng);
        caller.client.timeout_ms = PROBE_TIMEOUT_MS;
        caller.probe = Some(Probe {
            server,
            stage: ProbeStage::Connecting,
        });
        self.callers.push(caller);
    }

    /// Adds a probe of each server that must serve.
    pub(super) fn add_probes(&mut self) {
        for server in self.up() {
            self.add_probe(server);
        }
    }

    /// Lets every probe do what is next.
    pub(super) fn tend_probes(&mut self) {
        for id in 0..self.callers.len() {
            self.tend_probe(id);
        }
    }

    fn tend_probe(&mut self, id: usize) {
        let now = self.now;
        let Some(caller) = self.callers.get(id) else {
            return;
        };
        let Some(probe) = caller.probe else { return };
        let is_open = caller.client.is_open;
        let is_impatient = now > caller.heard_at + PROBE_PATIENCE_US;
        let Some(link) = caller.link else {
            if probe.stage != ProbeStage::Done {
                self.set_stage(id, ProbeStage::Connecting);
                self.connect(id);
            }
            return;
        };
        let is_quiet = self.service.is_quiet(link);
        match probe.stage {
            ProbeStage::Done => {}
            _ if is_impatient => self.caller_closes(id, link),
            ProbeStage::Connecting if is_open => {
                self.request(id, admin());
                self.request(id, note_of(id));
                self.request(id, Op::Sync { path: "/".into() });
                self.set_stage(id, ProbeStage::Writing);
            }
            ProbeStage::Writing if is_quiet => {
                self.read_everything(id);
                self.set_stage(id, ProbeStage::Reading);
            }
            ProbeStage::Reading if is_quiet => self.set_stage(id, ProbeStage::Done),
            _ => {}
        }
    }

    fn read_everything(&mut self, id: usize) {
        let nodes = self.service.state().nodes.keys();
        let paths: Vec<String> = nodes.map(ToString::to_string).collect();
        for path in paths {
            let (watch, stat) = (false, true);
            let data = path.clone();
            self.request(id, Op::GetData { path: data, watch });
            let children = path.clone();
            self.request(
                id,
                Op::GetChildren {
                    path: children,
                    watch,
                    stat,
                },
            );
            self.request(id, Op::GetAcl { path });
        }
    }

    fn set_stage(&mut self, id: usize, stage: ProbeStage) {
        let probe = self.callers.get_mut(id).and_then(|it| it.probe.as_mut());
        if let Some(probe) = probe {
            probe.stage = stage;
        }
    }

    /// What a probe that is not done waits for.
    pub(super) fn stuck_probe(&self) -> Option<String> {
        let probes = self.callers.iter().filter_map(|caller| {
            let probe = caller.probe?;
            // One that has left the ensemble need not serve.
            let must_serve = self.history.is_member(probe.server);
            (must_serve && probe.stage != ProbeStage::Done).then_some((caller, probe))
        });
        let stuck: Vec<String> = probes
            .map(|(caller, probe)| {
                let waiting = caller.link.and_then(|link| self.service.waiting(link));
                let server = Self::names(&[probe.server]);
                format!("{server} is at {:?}, waiting {waiting:?}", probe.stage)
            })
            .collect();
        (!stuck.is_empty()).then(|| stuck.join("; "))
    }

    /// Lets the probes go, and end their sessions.
    pub(super) fn drop_probes(&mut self) {
        for id in 0..self.callers.len() {
            let is_probe = self.callers.get(id).is_some_and(|it| it.probe.is_some());
            if is_probe {
                self.request(id, Op::CloseSession);
                if let Some(caller) = self.callers.get_mut(id) {
                    caller.probe = None;
                }
            }
        }
    }
}

/// Every server has its own znode for the membership, with its own times.
fn asks_for_membership(op: &Op) -> bool {
    match op {
        Op::Exists { path, .. }
        | Op::GetAcl { path }
        | Op::GetChildren { path, .. }
        | Op::GetData { path, .. }
        | Op::SetAcl { path, .. }
        | Op::SetData { path, .. } => path == MEMBERSHIP,
        Op::Multi(ops) | Op::MultiRead(ops) => ops.iter().any(asks_for_membership),
        _ => false,
    }
}

const MEMBERSHIP: &str = "/zookeeper/config";

fn admin() -> Op {
    Op::Auth {
        scheme: "digest".to_owned(),
        auth: b"super:admin".to_vec(),
    }
}

fn note_of(id: usize) -> Op {
    Op::Create {
        kind: CreateKind::Create,
        path: format!("/probe-{id}"),
        data: None,
        acl: Some(vec![Acl::new(31, "world", "anyone")]),
        flags: 0,
        ttl: -1,
    }
}
