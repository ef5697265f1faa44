//! Links and the clients at their ends.

use std::collections::VecDeque;

use bytes::Bytes;
use zabra_core::ids::LinkId;
use zabra_core::link::{LinkInput, Port};
use zabra_core::server::Input;

use super::{Event, LINK, World};
use crate::oracle::next_frame;
use crate::rng::{Rng, Stream};
use crate::violation::Violation;
use crate::wire::{ConnectResponse, Op, Reader};

/// A connection, as a pair of byte streams.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// Whose it is.
    pub(super) client: Option<usize>,
    /// On its way to the server.
    pub(super) to_server: VecDeque<u8>,
    /// On its way to the client.
    pub(super) to_client: VecDeque<u8>,
    /// Whether the server does not want to read.
    pub(super) is_paused: bool,
    /// Whether the client does not read for now.
    pub(super) is_slow: bool,
    /// Whether nothing passes any more, and nobody is told.
    pub(super) is_dead: bool,
    /// Whether the server has closed it.
    pub(super) is_closed: bool,
}

impl World {
    /// Lets a client do the next thing.
    pub(super) fn act(&mut self, id: usize) -> Result<(), Violation> {
        let Some(client) = self.clients.get_mut(id) else {
            return Ok(());
        };
        client.acts += 1;
        let mut rng = Rng::keyed(self.plan.seed, Stream::Client, client.id, client.acts);
        let is_spent = client.acts > self.plan.acts || !self.is_active;
        let is_silent = self.now < client.silent_until;
        let (link, is_open) = (client.link, client.is_open);
        // A client that is done still pings, as any client library does.
        if !is_silent && self.is_active {
            match link {
                None if self.node.is_some() => self.reconnect(id),
                None => {}
                Some(_) if is_open && is_spent => self.request(id, Op::Ping),
                Some(link) if is_open => self.act_open(id, link, &mut rng),
                Some(_) => {}
            }
        }
        let pace_us = rng.between(self.plan.pace_us / 4, self.plan.pace_us * 2);
        if self.is_active {
            self.after(pace_us, Event::Act(id));
        }
        Ok(())
    }

    fn reconnect(&mut self, id: usize) {
        let Some(client) = self.clients.get(id) else {
            return;
        };
        let mut rng = Rng::keyed(self.plan.seed, Stream::Connect, client.id, client.connects);
        self.open_link(id, &mut rng);
        let greeting = self.clients.get(id).map(|client| client.greeting(&mut rng));
        for op in greeting.unwrap_or_default() {
            self.request(id, op);
        }
    }

    fn act_open(&mut self, id: usize, link: u64, rng: &mut Rng) {
        if rng.below(1000) < self.plan.disruptions {
            self.disrupt(id, link, rng);
            return;
        }
        let burst = rng.between(1, self.plan.burst);
        for _ in 0..burst {
            let Some(client) = self.clients.get(id) else {
                return;
            };
            let op = client.next_op(rng, &self.plan);
            let is_last = op == Op::CloseSession;
            self.request(id, op);
            if is_last {
                break;
            }
        }
    }

    fn disrupt(&mut self, id: usize, link: u64, rng: &mut Rng) {
        let silent_us = rng.between(1, 3000) * 1000;
        let Some(client) = self.clients.get_mut(id) else {
            return;
        };
        match rng.below(8) {
            0 | 1 => {
                client.silent_until = self.now + silent_us;
                self.oracle.marks.hit("client_vanished");
            }
            2 => {
                // The old link stays, half open, while the client comes back on a new one.
                client.link = None;
                if let Some(link) = self.links.get_mut(&link) {
                    link.is_dead = rng.one_in(2);
                    link.client = None;
                }
            }
            3 => {
                if let Some(link) = self.links.get_mut(&link) {
                    link.is_slow = true;
                }
                client.silent_until = self.now + silent_us;
                self.oracle.marks.hit("slow_reader");
            }
            4 => {
                self.cut_link(link);
                self.forget(id);
            }
            _ => self.cut_link(link),
        }
    }

    fn forget(&mut self, id: usize) {
        if let Some(client) = self.clients.get_mut(id) {
            client.forget_session();
        }
    }

    /// Cuts a link under way; the server hears of it.
    fn cut_link(&mut self, link: u64) {
        self.note(|| format!("cut link {link}"));
        self.oracle.marks.hit("link_cut");
        if let Some(gone) = self.links.remove(&link) {
            if let Some(client) = gone.client.and_then(|id| self.clients.get_mut(id)) {
                client.link = None;
            }
            if !gone.is_closed {
                self.inbox
                    .push(Input::Link(LinkId(link), LinkInput::Closed));
                self.schedule_step();
            }
        }
    }

    /// Opens a link for a client and sends its request to connect.
    pub(super) fn open_link(&mut self, id: usize, rng: &mut Rng) {
        let Some(client) = self.clients.get_mut(id) else {
            return;
        };
        let request = client.connect(rng);
        self.next_link += 1;
        let link = self.next_link;
        client.link = Some(link);
        let address = client.address.clone();
        let frame = request.frame();
        self.note(|| format!("client {id} opens link {link}: {request:x?}"));
        self.oracle.opened(link, Some(request), self.now, &address);
        self.link_opens(link, Some(id), &address, &frame);
    }

    /// Opens a link on which anything may come.
    pub(super) fn open_hostile_link(&mut self) {
        if self.node.is_none() {
            return;
        }
        let mut rng = self.rng(Stream::Link, LINK);
        self.next_link += 1;
        let link = self.next_link;
        let bytes = hostile_bytes(&mut rng);
        let address = "10.9.9.9";
        self.oracle.opened(link, None, self.now, address);
        self.link_opens(link, None, address, &bytes);
    }

    fn link_opens(&mut self, link: u64, client: Option<usize>, address: &str, bytes: &[u8]) {
        let state = Link {
            client,
            to_server: bytes.iter().copied().collect(),
            ..Link::default()
        };
        self.links.insert(link, state);
        if let Ok(peer) = format!("{address}:{}", 10_000 + link % 50_000).parse() {
            self.inbox.push(Input::Link(
                LinkId(link),
                LinkInput::Opened {
                    port: Port::Client,
                    peer,
                },
            ));
        }
        self.schedule_step();
        self.travel(Event::ServerSees(link));
    }

    fn travel(&mut self, event: Event) {
        let latency_us = self.plan.latency_us;
        let delay_us = self.rng(Stream::Link, LINK).below(latency_us + 1);
        self.after(delay_us, event);
    }

    /// Lets a client send a request.
    pub(super) fn request(&mut self, id: usize, op: Op) {
        let Some(client) = self.clients.get_mut(id) else {
            return;
        };
        let Some(link) = client.link else { return };
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        let xid = client.next_xid(&op);
        let frame = op.frame(xid);
        if op == Op::CloseSession {
            client.forget_session();
            client.link = None;
        }
        state.to_server.extend(&frame);
        if let Some(connection) = self.oracle.connections.get_mut(&link) {
            connection.send(xid, op.clone(), frame.len());
        }
        self.note(|| format!("client {id} on link {link} sends {xid} {op:?}"));
        self.travel(Event::ServerSees(link));
    }

    /// Some bytes arrive at the server.
    pub(super) fn server_sees(&mut self, link: u64) {
        let mut rng = self.rng(Stream::Link, LINK);
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        if state.is_paused || state.is_dead || state.is_closed || self.node.is_none() {
            return;
        }
        let bytes = some(&mut state.to_server, &mut rng);
        let is_more = !state.to_server.is_empty();
        if !bytes.is_empty() {
            let received = LinkInput::Received(Bytes::from(bytes));
            self.inbox.push(Input::Link(LinkId(link), received));
            self.schedule_step();
        }
        if is_more {
            self.travel(Event::ServerSees(link));
        }
    }

    /// Takes bytes that the server sends.
    pub(super) fn link_sends(&mut self, link: u64, bytes: &Bytes) -> Result<(), Violation> {
        self.oracle.sent(link, bytes, self.now)?;
        if let Some(state) = self.links.get_mut(&link) {
            state.to_client.extend(bytes.iter());
        }
        self.travel(Event::ClientSees(link));
        Ok(())
    }

    /// The server closes a link: the client still receives what was sent before.
    pub(super) fn link_closes(&mut self, link: u64) -> Result<(), Violation> {
        self.oracle.closed_by_server(link, self.now)?;
        if let Some(state) = self.links.get_mut(&link) {
            state.is_closed = true;
        }
        self.travel(Event::ClientSees(link));
        Ok(())
    }

    /// Some bytes arrive at a client, or the end of its link.
    pub(super) fn client_sees(&mut self, link: u64) -> Result<(), Violation> {
        let mut rng = self.rng(Stream::Link, LINK);
        let Some(state) = self.links.get_mut(&link) else {
            return Ok(());
        };
        let client = state.client;
        let is_silent = client
            .and_then(|id| self.clients.get(id))
            .is_some_and(|client| self.now < client.silent_until);
        if state.is_slow && is_silent {
            self.after(50_000, Event::ClientSees(link));
            return Ok(());
        }
        state.is_slow = false;
        if state.is_dead && !state.is_closed {
            return Ok(());
        }
        let bytes = some(&mut state.to_client, &mut rng);
        let (is_more, is_closed) = (!state.to_client.is_empty(), state.is_closed);
        if !bytes.is_empty() && !is_closed {
            let flushed = LinkInput::Flushed(bytes.len());
            self.inbox.push(Input::Link(LinkId(link), flushed));
            self.schedule_step();
        }
        if let Some(id) = client {
            self.client_receives(id, link, &bytes);
        }
        if is_more {
            self.travel(Event::ClientSees(link));
        } else if is_closed {
            self.links.remove(&link);
            if let Some(client) = client.and_then(|id| self.clients.get_mut(id))
                && client.link == Some(link)
            {
                client.link = None;
            }
        }
        Ok(())
    }

    fn client_receives(&mut self, id: usize, link: u64, bytes: &[u8]) {
        let Some(client) = self.clients.get_mut(id) else {
            return;
        };
        if client.link != Some(link) {
            return;
        }
        client.partial.extend_from_slice(bytes);
        while let Some(frame) = next_frame(&mut client.partial) {
            if client.is_open {
                // Checked by the oracle when it was sent.
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
}

/// Takes some bytes from the front: often all, sometimes very few.
fn some(bytes: &mut VecDeque<u8>, rng: &mut Rng) -> Vec<u8> {
    let count = match rng.below(4) {
        0 => 1 + rng.index(bytes.len()),
        1 => 1 + rng.index(12),
        _ => bytes.len(),
    };
    let count = count.min(bytes.len());
    bytes.drain(..count).collect()
}

fn hostile_bytes(rng: &mut Rng) -> Vec<u8> {
    let words = [
        "ruok", "srvr", "stat", "mntr", "conf", "cons", "dump", "wchs", "wchc", "wchp", "envi",
        "dirs", "isro", "crst", "srst", "gtmk", "hash", "xxxx",
    ];
    let word = rng.pick(&words).copied().unwrap_or("ruok");
    match rng.below(6) {
        0 | 1 => word.as_bytes().to_vec(),
        2 => vec![0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0],
        3 => vec![0xff, 0xff, 0xff, 0xff],
        4 => (0..rng.below(80))
            .map(|_| rng.bits().to_le_bytes()[0])
            .collect(),
        _ => vec![0, 0, 0, 44, 0, 0, 0],
    }
}
