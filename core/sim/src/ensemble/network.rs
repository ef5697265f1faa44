//! Connections: two byte streams, each in order, delayed, cut anywhere, blocked or ended.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use zabra_core::ids::LinkId;
use zabra_core::link::{Endpoint, LinkInput, LinkOutput, Port};
use zabra_core::server::Input;

use crate::ensemble::history::packets::Bond;
use crate::ensemble::peek::Peeker;
use crate::ensemble::plan::{Effect, letter};
use crate::ensemble::trials::ELECTION;
use crate::ensemble::{Event, World};
use crate::rng::Stream;
use crate::violation::{Violation, ensure};

/// Who is at an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// A client.
    Caller(usize),
    /// A server, which knows the connection by this number.
    Server(usize, LinkId),
}

/// A connection. Side 0 has opened it.
#[derive(Debug)]
pub(super) struct Link {
    port: Port,
    pub(super) ends: [End; 2],
    /// What passes between a learner and its leader.
    bond: Bond,
}

/// One end: what is on its way to it.
#[derive(Debug)]
pub(super) struct End {
    pub(super) who: Who,
    inbound: VecDeque<(u64, Bytes)>,
    /// When it hears that the other end has closed.
    ended_at: Option<u64>,
    is_scheduled: bool,
    is_paused: bool,
    pub(super) is_open: bool,
    /// Whether it knows of the connection.
    is_established: bool,
    /// What it has sent, and what it was given, read along.
    sent: Peeker,
    given: Peeker,
}

impl End {
    fn new(who: Who) -> Self {
        Self {
            who,
            inbound: VecDeque::new(),
            ended_at: None,
            is_scheduled: false,
            is_paused: false,
            is_open: true,
            is_established: true,
            sent: Peeker::default(),
            given: Peeker::default(),
        }
    }
}

/// A connection that a server has asked for.
#[derive(Clone, Debug)]
pub(super) struct Dial {
    port: Port,
    to: Option<usize>,
    fails_at: u64,
}

/// The port of each kind, as every membership of a run says.
#[must_use]
pub(crate) const fn port_number(port: Port) -> u16 {
    match port {
        Port::Client => 2181,
        Port::Election => 3888,
        Port::Quorum => 2888,
    }
}

/// What the server is called in endpoints.
#[must_use]
pub(crate) fn host_name(server: usize) -> String {
    format!("server-{}", server + 1)
}

fn resolve(endpoint: &Endpoint) -> Option<usize> {
    let number: usize = endpoint.host.strip_prefix("server-")?.parse().ok()?;
    number.checked_sub(1)
}

fn address(who: Who, link: u64) -> SocketAddr {
    let byte = |number: usize| u8::try_from(number % 250).unwrap_or(0) + 1;
    let ip = match who {
        Who::Caller(id) => Ipv4Addr::new(10, 0, 0, byte(id)),
        Who::Server(id, _) => Ipv4Addr::new(10, 1, 0, byte(id)),
    };
    let port = u16::try_from(10_000 + link % 50_000).unwrap_or(1);
    SocketAddr::new(IpAddr::V4(ip), port)
}

impl World {
    fn latency(&mut self, from: Who, to: Who) -> u64 {
        let base_us = self.script.base.latency_us;
        let mut rng = self.rng(Stream::Link);
        let mut delay_us = 30 + rng.below(base_us + 1);
        if rng.one_in(300) {
            delay_us += base_us * 20;
        }
        for who in [from, to] {
            if let Who::Server(server, _) = who
                && let Some(host) = self.servers.get(server)
            {
                delay_us += host.link_delay_us;
            }
        }
        delay_us
    }

    fn is_blocked(&self, from: Who, to: Who) -> bool {
        let (Who::Server(from, _), Who::Server(to, _)) = (from, to) else {
            return false;
        };
        let row = self.blocked.get(from);
        row.and_then(|row| row.get(to))
            .is_some_and(|count| *count > 0)
    }

    /// Keeps bytes from passing from one server to another, once more.
    pub(super) fn block(&mut self, from: usize, to: usize) {
        let row = self.blocked.get_mut(from);
        if let Some(count) = row.and_then(|row| row.get_mut(to)) {
            *count += 1;
        }
    }

    /// Takes one such obstacle away.
    pub(super) fn unblock(&mut self, from: usize, to: usize) {
        let row = self.blocked.get_mut(from);
        if let Some(count) = row.and_then(|row| row.get_mut(to)) {
            *count = count.saturating_sub(1);
        }
        let links: Vec<u64> = self.links.keys().copied().collect();
        for link in links {
            self.schedule_arrival(link, 0);
            self.schedule_arrival(link, 1);
        }
    }

    /// A server asks for a connection.
    pub(super) fn asks_to_dial(
        &mut self,
        server: usize,
        link: LinkId,
        port: Port,
        to: &[Endpoint],
        timeout_ms: u32,
    ) {
        let dial = Dial {
            port,
            to: to.iter().find_map(resolve),
            fails_at: self.now + u64::from(timeout_ms) * 1000,
        };
        let who = Who::Server(server, link);
        let life = self.life(server);
        if let Some(host) = self.servers.get_mut(server) {
            host.dials.insert(link, dial);
        }
        let delay_us = self.latency(who, who);
        self.after(delay_us, Event::Dials(server, life, link));
    }

    /// A connection that was asked for is made, refused, or heard of no more.
    pub(super) fn dials(&mut self, server: usize, life: u64, link: LinkId) {
        if self.life(server) != life {
            return;
        }
        let host = self.servers.get(server);
        let Some(dial) = host.and_then(|host| host.dials.get(&link)).cloned() else {
            return;
        };
        let who = Who::Server(server, link);
        let target = dial
            .to
            .and_then(|to| self.servers.get(to).map(|it| (to, it)));
        let Some((to, host)) = target else {
            self.after(0, Event::DialFails(server, life, link));
            return;
        };
        let other = Who::Server(to, LinkId(0));
        let is_lost = self.is_blocked(who, other) || self.is_blocked(other, who);
        if is_lost || !host.has_power {
            let wait_us = dial.fails_at.saturating_sub(self.now);
            self.after(wait_us, Event::DialFails(server, life, link));
            return;
        }
        let delay_us = self.latency(who, other);
        let is_listening = self
            .servers
            .get(to)
            .is_some_and(|host| host.node.is_some() && host.listening.contains(&dial.port));
        if !is_listening {
            self.after(delay_us, Event::DialFails(server, life, link));
            return;
        }
        let accepted = self.accept(to);
        let number = self.open(dial.port, who, Who::Server(to, accepted));
        if let Some(host) = self.servers.get_mut(server) {
            host.dials.remove(&link);
            host.links.insert(link, number);
        }
        if let Some(opened) = self.links.get_mut(&number) {
            opened.bond.learner = server;
            opened.bond.leader = to;
            let [end, _] = &mut opened.ends;
            end.is_established = false;
        }
        self.after(delay_us, Event::Established(number));
    }

    fn accept(&mut self, server: usize) -> LinkId {
        let Some(host) = self.servers.get_mut(server) else {
            return LinkId(0);
        };
        host.accepted += 1;
        LinkId(host.accepted)
    }

    /// Makes a connection; its far end, a server, hears of it.
    fn open(&mut self, port: Port, from: Who, to: Who) -> u64 {
        self.next_link += 1;
        let number = self.next_link;
        let link = Link {
            port,
            ends: [End::new(from), End::new(to)],
            bond: Bond::default(),
        };
        self.links.insert(number, link);
        if let Who::Server(server, id) = to {
            if let Some(host) = self.servers.get_mut(server) {
                host.links.insert(id, number);
            }
            let peer = address(from, number);
            self.give(server, Input::Link(id, LinkInput::Opened { port, peer }));
        }
        number
    }

    /// Opens a client's connection to a server, if that listens.
    pub(super) fn open_for_caller(&mut self, caller: usize, server: usize) -> Option<u64> {
        let host = self.servers.get(server)?;
        if host.node.is_none() || !host.has_power {
            return None;
        }
        let id = self.accept(server);
        Some(self.open(Port::Client, Who::Caller(caller), Who::Server(server, id)))
    }

    /// A server hears that a connection it asked for is there.
    pub(super) fn established(&mut self, link: u64) {
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        let port = state.port;
        let [end, other] = &mut state.ends;
        end.is_established = true;
        let (who, far, is_open) = (end.who, other.who, end.is_open);
        if let Who::Server(server, id) = who
            && is_open
        {
            let peer = address(far, link);
            self.give(server, Input::Link(id, LinkInput::Opened { port, peer }));
        }
        self.schedule_arrival(link, 0);
    }

    /// A connection that was asked for cannot be had.
    pub(super) fn dial_fails(&mut self, server: usize, life: u64, link: LinkId) {
        if self.life(server) != life {
            return;
        }
        let Some(host) = self.servers.get_mut(server) else {
            return;
        };
        if host.dials.remove(&link).is_some() {
            self.give(server, Input::Link(link, LinkInput::Closed));
        }
    }

    /// A server does something on a connection. Returns whether the server lives on.
    pub(super) fn server_links(
        &mut self,
        server: usize,
        id: LinkId,
        output: LinkOutput,
    ) -> Result<bool, Violation> {
        if let LinkOutput::Dial {
            port,
            to,
            timeout_ms,
        } = &output
        {
            self.asks_to_dial(server, id, *port, to, *timeout_ms);
            return Ok(true);
        }
        let Some(host) = self.servers.get_mut(server) else {
            return Ok(true);
        };
        let Some(link) = host.links.get(&id).copied() else {
            let was_dialled = host.dials.remove(&id).is_some();
            let is_ended = matches!(output, LinkOutput::Close) || host.ended.contains(&id);
            ensure(was_dialled || is_ended, "only open links are used", || {
                format!("{} on {id:?}: {output:?}", letter(server))
            })?;
            return Ok(true);
        };
        let side = self.side(link, server, id);
        match output {
            LinkOutput::Close => self.close(link, side),
            LinkOutput::Dial { .. } => {}
            LinkOutput::Pause => self.end(link, side, |end| end.is_paused = true),
            LinkOutput::Resume => {
                self.end(link, side, |end| end.is_paused = false);
                self.schedule_arrival(link, side);
            }
            LinkOutput::Send(bytes) => return self.server_sends(server, link, side, bytes),
        }
        Ok(true)
    }

    fn server_sends(
        &mut self,
        server: usize,
        link: u64,
        side: usize,
        bytes: Bytes,
    ) -> Result<bool, Violation> {
        self.mix(bytes.len() as u64);
        let Some(state) = self.links.get(&link) else {
            return Ok(true);
        };
        match state.port {
            Port::Client => {
                self.service.sends(&mut self.history, link, &bytes)?;
            }
            Port::Quorum => {
                if !self.peek(server, link, side, &bytes)? {
                    return Ok(false);
                }
            }
            Port::Election => self.traffic_of(server, ELECTION),
        }
        self.send(link, side, bytes);
        Ok(true)
    }

    /// Reads along what a server sends to another. Returns whether it lives to send it.
    fn peek(
        &mut self,
        server: usize,
        link: u64,
        side: usize,
        bytes: &[u8],
    ) -> Result<bool, Violation> {
        let mut is_slice = false;
        self.end(link, side, |end| {
            is_slice = end.sent.is_in_snapshot();
            end.sent.push(bytes);
        });
        if is_slice {
            self.service.marks.hit("state_of_many_slices");
        }
        loop {
            let Some(state) = self.links.get_mut(&link) else {
                return Ok(true);
            };
            let Some(end) = state.ends.get_mut(side) else {
                return Ok(true);
            };
            let packet = end.sent.next().map_err(|error| {
                Violation::new("wire", format!("{} to a peer: {error}", letter(server)))
            })?;
            let Some(packet) = packet else {
                return Ok(true);
            };
            let mut bond = state.bond.clone();
            self.note(|| format!("{} sends {packet:x?}", letter(server)));
            self.traffic_of(server, packet.kind);
            if packet.kind == 3 {
                self.ensure_snapshots(server)?;
            }
            self.history
                .sends(&mut bond, server, packet.kind, packet.zxid)?;
            self.service.peer_sends(&bond, server, &packet, self.now)?;
            if let Some(state) = self.links.get_mut(&link) {
                state.bond = bond;
            }
            if !self.occurs(server, Effect::Sends(packet.kind))? {
                return Ok(false);
            }
        }
    }

    /// Which side of a connection a server is.
    fn side(&self, link: u64, server: usize, id: LinkId) -> usize {
        let state = self.links.get(&link);
        let is_far = state.is_some_and(|state| {
            let [_, far] = &state.ends;
            far.who == Who::Server(server, id)
        });
        usize::from(is_far)
    }

    fn end(&mut self, link: u64, side: usize, change: impl FnOnce(&mut End)) {
        let state = self.links.get_mut(&link);
        if let Some(end) = state.and_then(|state| state.ends.get_mut(side)) {
            change(end);
        }
    }

    fn whos(&self, link: u64) -> Option<[Who; 2]> {
        let state = self.links.get(&link)?;
        Some(state.ends.each_ref().map(|end| end.who))
    }

    /// Sends bytes from one side to the other.
    pub(super) fn send(&mut self, link: u64, side: usize, bytes: Bytes) {
        let Some([near, far]) = self.whos(link) else {
            return;
        };
        let (from, to) = if side == 0 { (near, far) } else { (far, near) };
        let at = self.now + self.latency(from, to);
        self.end(link, 1 - side, |end| {
            if end.is_open {
                let at = end.inbound.back().map_or(at, |(last, _)| at.max(*last));
                end.inbound.push_back((at, bytes));
            }
        });
        self.schedule_arrival(link, 1 - side);
    }

    /// Lets what is on its way to this side arrive when it is time.
    fn schedule_arrival(&mut self, link: u64, side: usize) {
        let now = self.now;
        let mut due = None;
        self.end(link, side, |end| {
            let next = end.inbound.front().map(|(at, _)| *at).or(end.ended_at);
            if let Some(at) = next.filter(|_| !end.is_scheduled && !end.is_paused) {
                end.is_scheduled = true;
                due = Some(at.saturating_sub(now));
            }
        });
        if let Some(delay_us) = due {
            self.after(delay_us, Event::Arrives(link, side));
        }
    }

    /// Bytes arrive, or the news that there will be no more.
    pub(super) fn arrives(&mut self, link: u64, side: usize) -> Result<(), Violation> {
        self.end(link, side, |end| end.is_scheduled = false);
        let Some([near, far]) = self.whos(link) else {
            return Ok(());
        };
        let (from, to) = if side == 0 { (far, near) } else { (near, far) };
        if self.is_blocked(from, to) {
            return Ok(());
        }
        let mut rng = self.rng(Stream::Link);
        let now = self.now;
        let mut bytes = BytesMut::new();
        let mut is_over = false;
        self.end(link, side, |end| {
            if !end.is_open || end.is_paused || !end.is_established {
                return;
            }
            let mut limit = match rng.below(12) {
                0 => 1 + rng.index(12),
                1 => 1 + rng.index(400),
                _ => usize::MAX,
            };
            while let Some((_, chunk)) = end.inbound.front_mut().filter(|(at, _)| *at <= now) {
                let count = chunk.len().min(limit);
                bytes.extend_from_slice(&chunk.split_to(count));
                limit -= count;
                if chunk.is_empty() {
                    end.inbound.pop_front();
                }
                if limit == 0 {
                    break;
                }
            }
            is_over = end.inbound.is_empty() && end.ended_at.is_some_and(|at| at <= now);
        });
        if !bytes.is_empty() {
            self.delivers(link, side, from, to, bytes.freeze())?;
        }
        if is_over {
            self.hears_of_end(link, side);
        } else {
            let is_able = self
                .links
                .get(&link)
                .and_then(|state| state.ends.get(side))
                .is_some_and(|end| end.is_open && end.is_established);
            if is_able {
                self.schedule_arrival(link, side);
            }
        }
        Ok(())
    }

    fn delivers(
        &mut self,
        link: u64,
        side: usize,
        from: Who,
        to: Who,
        bytes: Bytes,
    ) -> Result<(), Violation> {
        let count = bytes.len();
        let is_told = self
            .links
            .get(&link)
            .and_then(|state| state.ends.get(1 - side))
            .is_some_and(|end| end.is_open);
        if let Who::Server(server, id) = from
            && is_told
        {
            self.give(server, Input::Link(id, LinkInput::Flushed(count)));
        }
        match to {
            Who::Caller(caller) => self.caller_receives(caller, link, &bytes),
            Who::Server(server, id) => {
                let port = self.links.get(&link).map(|state| state.port);
                match port {
                    Some(Port::Client) => self.service.received(link, count, self.now),
                    Some(Port::Quorum) if !self.peek_given(server, link, side, &bytes)? => {
                        return Ok(());
                    }
                    Some(Port::Election) => self.hears_votes(server, link, from, &bytes),
                    _ => {}
                }
                self.give(server, Input::Link(id, LinkInput::Received(bytes)));
            }
        }
        Ok(())
    }

    fn hears_votes(&mut self, server: usize, link: u64, from: Who, bytes: &[u8]) {
        let life = self.life(server);
        if let Who::Server(from, _) = from
            && let Some(votes) = self.votes.get_mut(server)
        {
            votes.hear(life, from, link, bytes);
        }
    }

    /// Reads along what a server is given by another. Returns whether it lives to see it.
    fn peek_given(
        &mut self,
        server: usize,
        link: u64,
        side: usize,
        bytes: &[u8],
    ) -> Result<bool, Violation> {
        self.end(link, side, |end| end.given.push(bytes));
        loop {
            let state = self.links.get_mut(&link);
            let Some(end) = state.and_then(|state| state.ends.get_mut(side)) else {
                return Ok(true);
            };
            let Ok(Some(packet)) = end.given.next() else {
                return Ok(true);
            };
            if let Some(state) = self.links.get(&link) {
                let bond = &state.bond;
                self.service.peer_hears(bond, server, &packet, self.now)?;
            }
            if !self.occurs(server, Effect::Receives(packet.kind))? {
                return Ok(false);
            }
        }
    }

    /// One side closes; the other hears of it after what was sent before.
    pub(super) fn close(&mut self, link: u64, side: usize) {
        let Some([near, far]) = self.whos(link) else {
            return;
        };
        let (from, to) = if side == 0 { (near, far) } else { (far, near) };
        let at = self.now + self.latency(from, to);
        self.leave(link, side);
        self.end(link, 1 - side, |end| {
            let at = end.inbound.back().map_or(at, |(last, _)| at.max(*last));
            end.ended_at = Some(at);
        });
        self.schedule_arrival(link, 1 - side);
    }

    /// One side is gone; nobody is told.
    pub(super) fn leave(&mut self, link: u64, side: usize) {
        let Some(whos) = self.whos(link) else { return };
        self.end(link, side, |end| {
            end.is_open = false;
            end.inbound.clear();
        });
        match whos.get(side) {
            Some(Who::Server(server, id)) => {
                if let Some(host) = self.servers.get_mut(*server) {
                    host.links.remove(id);
                }
                self.bond_ends(link, *server);
                self.service.closed(link);
            }
            Some(Who::Caller(caller)) => self.caller_loses(*caller, link),
            None => {}
        }
        let is_over = self
            .links
            .get(&link)
            .is_some_and(|state| state.ends.iter().all(|end| !end.is_open));
        if is_over {
            self.links.remove(&link);
        }
    }

    fn hears_of_end(&mut self, link: u64, side: usize) {
        let whos = self.whos(link);
        if let Some(Who::Server(server, id)) = whos.and_then(|whos| whos.get(side).copied()) {
            self.give(server, Input::Link(id, LinkInput::Closed));
            if let Some(host) = self.servers.get_mut(server) {
                host.ended.insert(id);
            }
        }
        self.leave(link, side);
    }

    /// One end of every connection between two servers is gone; the other hears of it only then.
    pub(super) fn half_close(&mut self, near: usize, far: usize, until: u64) {
        for (link, side) in self.links_of(near) {
            let who = self.far(link, side).map(|(_, who)| who);
            if !matches!(who, Some(Who::Server(server, _)) if server == far) {
                continue;
            }
            self.end(link, 1 - side, |end| {
                end.ended_at = Some(end.ended_at.map_or(until, |at| at.min(until)));
            });
            self.schedule_arrival(link, 1 - side);
            self.hears_of_end(link, side);
        }
    }

    /// Whoever has not heard yet of the end of a connection does now.
    pub(super) fn end_half_closed(&mut self) {
        let now = self.now;
        for end in self.links.values_mut().flat_map(|link| &mut link.ends) {
            end.ended_at = end.ended_at.map(|at| at.min(now));
        }
    }

    /// A connection is reset: both ends hear of it, and what was under way is lost.
    pub(super) fn reset(&mut self, link: u64) {
        for side in 0..2 {
            let now = self.now;
            self.end(link, side, |end| {
                end.inbound.clear();
                end.ended_at = Some(now);
            });
            self.schedule_arrival(link, side);
        }
    }

    /// The connections of a server.
    pub(super) fn links_of(&self, server: usize) -> Vec<(u64, usize)> {
        let host = self.servers.get(server);
        let links = host.map(|host| host.links.iter());
        links
            .into_iter()
            .flatten()
            .map(|(id, link)| (*link, self.side(*link, server, *id)))
            .collect()
    }

    /// Notes that a server hears no more of a connection.
    pub(super) fn bond_ends(&mut self, link: u64, server: usize) {
        let state = self.links.get(&link);
        let bond = state.filter(|state| state.port == Port::Quorum);
        if let Some(bond) = bond.map(|state| &state.bond)
            && bond.leader == server
        {
            self.service.parts(bond);
        }
    }

    /// The port and the far end of a connection, from one side.
    pub(super) fn far(&self, link: u64, side: usize) -> Option<(Port, Who)> {
        let state = self.links.get(&link)?;
        let end = state.ends.get(1 - side)?;
        Some((state.port, end.who))
    }
}
