//! As many elections as there are servers, on a network that delays and breaks, in virtual time.
//! What comes after an election is reduced to what matters here: a leader needs a quorum of
//! followers to begin its epoch, or it is given up.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::*;
use crate::link::{LinkOutput, Port};
use crate::zab::io::Output;

/// Microseconds of a message on its way, at most.
const DELAY_MAX: u64 = 3_000;
/// Milliseconds after which a leader without followers, or a follower without leader, looks again.
const INIT_MS: u64 = 2_000;
/// Milliseconds in which a follower finds that its leader does not listen: five attempts.
const CONNECT_MS: u64 = 500;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct End {
    server: i64,
    link: LinkId,
}

#[derive(Debug)]
enum Happens {
    Step(i64),
    /// A dial reaches its goal, or ends.
    Dialled {
        from: End,
        to: Option<i64>,
    },
    Arrives {
        at: End,
        input: LinkInput,
    },
    /// A role is looked after, in this life and round of it.
    Role {
        server: i64,
        life: u64,
    },
}

/// One server.
pub(super) struct Node {
    pub(super) election: Option<Election>,
    pub(super) standing: Standing,
    out: Outbox,
    accepted: u64,
    /// Counts its lives and roles, so that what was planned for an earlier one is void.
    life: u64,
    /// Until when the kernel takes connections for a process that is gone.
    lingers: Instant,
    decided_at: Instant,
    /// What it decided for, and the epoch of an established role.
    pub(super) leader: Option<i64>,
    pub(super) epoch: Option<i32>,
    pub(super) rounds: u32,
    pub(super) elected_ms: u64,
    pub(super) sent: u64,
    pub(super) refused: Vec<String>,
    options: Options,
}

/// The network.
pub(super) struct Net {
    pub(super) now: Instant,
    rng: u64,
    plans: BTreeMap<(Instant, u64), Happens>,
    plan: u64,
    pub(super) nodes: BTreeMap<i64, Node>,
    /// Both ends of every connection.
    ends: BTreeMap<End, End>,
    /// When the last of what was sent to an end arrives.
    busy: BTreeMap<End, Instant>,
    /// Pairs between which nothing gets through, without anybody being told.
    pub(super) cut: BTreeSet<(i64, i64)>,
}

impl Net {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            now: Instant(1_000_000),
            rng: seed,
            plans: BTreeMap::new(),
            plan: 0,
            nodes: BTreeMap::new(),
            ends: BTreeMap::new(),
            busy: BTreeMap::new(),
            cut: BTreeSet::new(),
        }
    }

    pub(super) fn random(&mut self, below: u64) -> u64 {
        self.rng = self.rng.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.rng ^ (self.rng >> 31)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        (mixed ^ (mixed >> 32)) % below
    }

    fn plan(&mut self, at: Instant, happens: Happens) {
        self.plan += 1;
        self.plans.insert((at, self.plan), happens);
    }

    fn soon(&mut self) -> Instant {
        Instant(self.now.0 + 1 + self.random(DELAY_MAX))
    }

    /// Adds a server that is not running.
    pub(super) fn add(&mut self, options: Options, standing: Standing) {
        let node = Node {
            election: None,
            standing,
            out: Outbox::new(self.now),
            accepted: 0,
            life: 0,
            lingers: self.now,
            decided_at: self.now,
            leader: None,
            epoch: None,
            rounds: 0,
            elected_ms: 0,
            sent: 0,
            refused: Vec::new(),
            options,
        };
        self.nodes.insert(node.options.me.0, node);
    }

    pub(super) fn start(&mut self, id: i64) {
        let (entropy, now) = (self.random(u64::MAX), self.now);
        let node = self.nodes.get_mut(&id).unwrap();
        node.out = Outbox::new(now);
        node.accepted = 0;
        let election = Election::new(&node.options, entropy, &mut node.out);
        node.election = Some(election);
        self.look(id);
    }

    /// The role is given up, or there was none.
    pub(super) fn look(&mut self, id: i64) {
        let now = self.now;
        let node = self.nodes.get_mut(&id).unwrap();
        node.life += 1;
        node.leader = None;
        node.epoch = None;
        node.rounds += 1;
        node.out.now = now;
        let standing = node.standing;
        if let Some(election) = &mut node.election {
            election.look(standing, &mut node.out);
        }
        self.perform(id);
    }

    /// Kills a server: the others are told at once, as by their own machine's kernel.
    pub(super) fn kill(&mut self, id: i64) {
        let lingers = Instant(self.now.0 + self.random(2 * DELAY_MAX));
        let node = self.nodes.get_mut(&id).unwrap();
        node.lingers = lingers;
        node.election = None;
        node.life += 1;
        node.leader = None;
        node.epoch = None;
        let ends: Vec<End> = self
            .ends
            .keys()
            .filter(|end| end.server == id)
            .copied()
            .collect();
        for end in ends {
            self.close(end);
        }
        let orphans: Vec<i64> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.leader == Some(id))
            .map(|(id, _)| *id)
            .collect();
        for orphan in orphans {
            let life = self.nodes[&orphan].life;
            let at = self.soon();
            self.plan(
                at,
                Happens::Role {
                    server: orphan,
                    life,
                },
            );
        }
    }

    /// Breaks one connection, both sides are told.
    pub(super) fn break_one(&mut self) {
        let count = self.ends.len() as u64;
        if count == 0 {
            return;
        }
        let nth = self.random(count) as usize;
        let end = *self.ends.keys().nth(nth).unwrap();
        let at = self.soon();
        self.plan(
            at,
            Happens::Arrives {
                at: end,
                input: LinkInput::Closed,
            },
        );
        self.close(end);
    }

    /// Between these nothing gets through from now on; connections stay open, and dead.
    pub(super) fn part(&mut self, one: i64, other: i64) {
        self.cut.insert((one, other));
        self.cut.insert((other, one));
        let dead = |end: &End, far: &End| {
            (end.server, far.server) == (one, other) || (end.server, far.server) == (other, one)
        };
        self.ends.retain(|end, far| !dead(end, far));
    }

    pub(super) fn heal(&mut self) {
        self.cut.clear();
    }

    fn close(&mut self, end: End) {
        let Some(far) = self.ends.remove(&end) else {
            return;
        };
        self.deliver(far, LinkInput::Closed);
    }

    fn deliver(&mut self, at: End, input: LinkInput) {
        let arrival = self
            .soon()
            .max(self.busy.get(&at).copied().unwrap_or_default());
        self.busy.insert(at, arrival);
        self.plan(arrival, Happens::Arrives { at, input });
    }

    /// Lets `ms` milliseconds pass.
    pub(super) fn run(&mut self, ms: u64) {
        let end = self.now.plus_ms(ms);
        let mut steps = 0_u64;
        while let Some(entry) = self.plans.first_entry() {
            if entry.key().0 > end {
                break;
            }
            steps += 1;
            assert!(steps < 400_000, "servers do not come to rest");
            let ((at, _), happens) = entry.remove_entry();
            self.now = self.now.max(at);
            self.happens(happens);
        }
        self.now = end;
    }

    /// Lets time pass until all of these have an established role under one leader.
    pub(super) fn settle(&mut self, servers: &[i64], ms_max: u64) -> i64 {
        let until = self.now.plus_ms(ms_max);
        loop {
            if let Some(leader) = self.settled(servers) {
                return leader;
            }
            assert!(
                self.now < until,
                "not settled: {:?}",
                self.nodes
                    .iter()
                    .map(|(id, node)| (
                        id,
                        node.leader,
                        node.epoch,
                        node.election.as_ref().and_then(Election::vote)
                    ))
                    .collect::<Vec<_>>()
            );
            self.run(5);
        }
    }

    fn settled(&self, servers: &[i64]) -> Option<i64> {
        let first = &self.nodes[&servers[0]];
        let leader = first.leader?;
        let epoch = first.epoch?;
        let same = |id: &i64| {
            let node = &self.nodes[id];
            node.leader == Some(leader) && node.epoch == Some(epoch)
        };
        let lives = self.nodes[&leader].leader == Some(leader);
        (lives && servers.iter().all(same)).then_some(leader)
    }

    fn happens(&mut self, happens: Happens) {
        match happens {
            Happens::Step(id) => {
                let now = self.now;
                let node = self.nodes.get_mut(&id).unwrap();
                node.out.now = now;
                let Some(election) = &mut node.election else {
                    return;
                };
                if election.next_wake().is_some_and(|wake| wake <= now) {
                    election.tick(&mut node.out);
                    self.perform(id);
                }
            }
            Happens::Dialled { from, to } => self.dialled(from, to),
            Happens::Arrives { at, input } => {
                // Nothing is reported of a link that this side closed, or of another life's.
                if input == LinkInput::Closed {
                    self.ends.remove(&at);
                } else if !self.ends.contains_key(&at) {
                    return;
                }
                self.input(at, input);
            }
            Happens::Role { server, life } => self.look_after(server, life),
        }
    }

    fn input(&mut self, at: End, input: LinkInput) {
        let now = self.now;
        let node = self.nodes.get_mut(&at.server).unwrap();
        node.out.now = now;
        let Some(election) = &mut node.election else {
            return;
        };
        let is_opened = matches!(input, LinkInput::Opened { .. });
        if is_opened || election.owns(at.link) {
            election.link(at.link, input, &mut node.out);
        }
        self.perform(at.server);
    }

    fn dialled(&mut self, from: End, to: Option<i64>) {
        let Some(election) = &self.nodes[&from.server].election else {
            return;
        };
        if !election.owns(from.link) {
            return;
        }
        let reachable = to.filter(|to| !self.cut.contains(&(from.server, *to)));
        if let Some(gone) = reachable.and_then(|to| self.nodes.get(&to))
            && gone.election.is_none()
            && self.now < gone.lingers
        {
            let peer = gone.options.me.0;
            self.input(from, opened(peer));
            self.deliver(from, LinkInput::Closed);
            return;
        }
        let up = to.filter(|to| {
            self.nodes
                .get(to)
                .is_some_and(|node| node.election.is_some())
        });
        let up = up.filter(|to| !self.cut.contains(&(from.server, *to)));
        let Some(to) = up else {
            return self.input(from, LinkInput::Closed);
        };
        let node = self.nodes.get_mut(&to).unwrap();
        node.accepted += 1;
        // Links of another life of the same server are other links.
        let link = LinkId(node.accepted + (node.life << 20));
        let far = End { server: to, link };
        self.ends.insert(from, far);
        self.ends.insert(far, from);
        self.input(far, opened(from.server));
        self.input(from, opened(to));
    }

    /// Does what a server asks for.
    fn perform(&mut self, id: i64) {
        let node = self.nodes.get_mut(&id).unwrap();
        let outputs = core::mem::take(&mut node.out.outputs);
        for output in outputs {
            match output {
                Output::Link(link, output) => self.link_output(End { server: id, link }, output),
                Output::Event(Event::Elected { took_ms, .. }) => {
                    self.nodes.get_mut(&id).unwrap().elected_ms = took_ms;
                }
                Output::Event(Event::PeerRefused { reason, .. }) => {
                    self.nodes.get_mut(&id).unwrap().refused.push(reason);
                }
                _ => {}
            }
        }
        let now = self.now;
        let node = self.nodes.get_mut(&id).unwrap();
        let Some(election) = &mut node.election else {
            return;
        };
        if let Some(vote) = election.decision() {
            node.leader = Some(vote.leader.0);
            node.decided_at = now;
            let life = node.life;
            self.plan(now.plus_ms(5), Happens::Role { server: id, life });
        }
        let wake = self.nodes[&id]
            .election
            .as_ref()
            .and_then(Election::next_wake);
        if let Some(wake) = wake {
            self.plan(wake.max(Instant(now.0 + 1)), Happens::Step(id));
        }
    }

    fn link_output(&mut self, end: End, output: LinkOutput) {
        match output {
            LinkOutput::Dial {
                port,
                to,
                timeout_ms,
            } => {
                assert_eq!(port, Port::Election);
                let host = &to[0].host;
                let server: i64 = host.rsplit('.').next().unwrap().parse().unwrap();
                let cut = self.cut.contains(&(end.server, server));
                let at = if cut {
                    self.now.plus_ms(u64::from(timeout_ms))
                } else {
                    self.soon()
                };
                let to = (!cut).then_some(server);
                self.plan(at, Happens::Dialled { from: end, to });
            }
            LinkOutput::Send(bytes) => {
                self.nodes.get_mut(&end.server).unwrap().sent += 1;
                let flushed = LinkInput::Flushed(bytes.len());
                let Some(far) = self.ends.get(&end).copied() else {
                    return;
                };
                // Cut anywhere.
                let at = self.random(bytes.len() as u64) as usize;
                for piece in [bytes.slice(..at), bytes.slice(at..)] {
                    if !piece.is_empty() {
                        self.deliver(far, LinkInput::Received(piece));
                    }
                }
                self.deliver(end, flushed);
            }
            LinkOutput::Close => self.close(end),
            LinkOutput::Pause | LinkOutput::Resume => {}
        }
    }

    /// What a role does in a few milliseconds: a leader begins its epoch when a quorum follows it,
    /// a follower is established when its leader is.
    fn look_after(&mut self, id: i64, life: u64) {
        let node = &self.nodes[&id];
        let Some(leader) = node
            .leader
            .filter(|_| node.life == life && node.election.is_some())
        else {
            return;
        };
        let waited = self.now.micros_since(node.decided_at) / 1000;
        let reaches = |id: i64| id == leader || !self.cut.contains(&(id, leader));
        let leads = self
            .nodes
            .get(&leader)
            .is_some_and(|node| node.leader == Some(leader));
        let mut establish = None;
        let give_up;
        if node.epoch.is_some() {
            let deserted = id == leader && !self.has_followers(id);
            give_up = deserted || !leads || self.nodes[&leader].epoch != node.epoch || !reaches(id);
        } else if id == leader {
            if self.has_followers(id) {
                let epochs = self.nodes.values().filter_map(|node| match node.standing {
                    Standing::Voter { epoch, .. } => Some(epoch.0),
                    _ => None,
                });
                establish = epochs.max().map(|epoch| epoch + 1);
            }
            give_up = establish.is_none() && waited >= INIT_MS;
        } else {
            establish = self
                .nodes
                .get(&leader)
                .filter(|_| leads && reaches(id))
                .and_then(|node| node.epoch);
            give_up = establish.is_none() && waited >= if leads { INIT_MS } else { CONNECT_MS };
        }
        if give_up {
            return self.look(id);
        }
        if let Some(epoch) = establish {
            let node = self.nodes.get_mut(&id).unwrap();
            node.epoch = Some(epoch);
            if let Standing::Voter { zxid, .. } = node.standing {
                let epoch = Epoch(epoch);
                node.standing = Standing::Voter { zxid, epoch };
            }
            node.election.as_mut().unwrap().established(Epoch(epoch));
            self.perform(id);
        }
        self.plan(self.now.plus_ms(10), Happens::Role { server: id, life });
    }

    fn has_followers(&self, leader: i64) -> bool {
        let follow = self.nodes.iter().filter(|(id, node)| {
            node.leader == Some(leader) && !self.cut.contains(&(**id, leader))
        });
        let follow: BTreeSet<_> = follow.map(|(id, _)| ServerId(*id)).collect();
        self.nodes[&leader].options.committed.has_quorum(&follow)
    }
}

fn opened(server: i64) -> LinkInput {
    let [.., host] = server.to_be_bytes();
    LinkInput::Opened {
        port: Port::Election,
        peer: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, host)), 40_000),
    }
}
