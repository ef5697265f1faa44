//! The connections over which votes travel: one between any two servers, kept by the one with the
//! higher id. What is said on them is not judged here.
//!
//! ```text
//! me < peer   connect, say who I am, close; the peer connects back
//! me > peer   connect, say who I am, keep it
//! ```

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::SocketAddr;

use bytes::Bytes;

use super::peer::{Link, Login, Peer, Purpose, Reach};
use crate::ids::{Instant, LinkId, ServerId};
use crate::link::{Endpoint, LinkInput, Port};
use crate::secret::Nonces;
use crate::sorted;
use crate::wire::election::{Initial, InitialVersion, Notification};
use crate::zab::gate::{Gate, NOT_LOGGED_IN, Then};
use crate::zab::io::{Event, Options, Output, Sasl};
use crate::zab::outbox::Outbox;

/// Connections that have not said yet whose they are; the oldest goes when there is another.
const STRANGERS_MAX: usize = 64;
/// Servers outside the membership that are remembered at once: joiners, and those removed.
const OUTSIDERS_MAX: usize = 64;
/// Addresses of a server that are remembered of what it says itself.
const ADDRESSES_MAX: usize = 8;
/// Milliseconds, beside the time that connecting took, in which a peer that took a connection must
/// show that it lives, at first. A process that dies closes its sockets one by one: where it
/// listens may be open when its connections are not.
const HOPE_MS_MIN: u64 = 10;
/// Milliseconds at most for which a peer that should speak and does not is left alone.
const PATIENCE_MS_MAX: u64 = 120_000;
/// What an observer without an id of its own says. Source: `QuorumPeer.OBSERVER_ID`.
const ANONYMOUS: ServerId = ServerId(i64::MAX);

/// What happened that matters to the election.
#[derive(Debug)]
pub(super) enum Happening {
    /// There is a connection.
    Connected(ServerId),
    /// A server said something.
    Heard(ServerId, Notification),
    /// There is none any more.
    Lost(ServerId),
}

/// The connections.
#[derive(Debug)]
pub(super) struct Mesh {
    me: ServerId,
    /// This server's own addresses.
    own: Vec<Endpoint>,
    sasl: Sasl,
    nonces: Nonces,
    multi_address: bool,
    listen_on_all_ips: bool,
    connect_timeout_ms: u32,
    /// For how long a connection may be silent.
    silence_ms: u64,
    retry_ms_min: u64,
    retry_ms_max: u64,
    links: BTreeMap<LinkId, Link>,
    peers: BTreeMap<ServerId, Peer>,
    /// Those that must be reached: the voters, while this server looks.
    wanted: BTreeSet<ServerId>,
    /// The last local id of an observer without one. Source: spec 1.2.
    last_anonymous: i64,
}

impl Mesh {
    pub(super) fn new(options: &Options, entropy: u64) -> Self {
        let retry_ms_min = u64::from(options.notification_ms_min).max(1);
        // A dead peer costs one attempt in this time. ZooKeeper's pauses grow to a minute, in which
        // servers that could talk again do not.
        let connect_ms = u64::from(options.connect_timeout_ms);
        let retry_ms_max = connect_ms.min(u64::from(options.notification_ms_max));
        // Source: QuorumPeer.createCnxnManager.
        let silence_ms = match options.election_silence_ms {
            Some(ms) => u64::from(ms),
            None => u64::from(options.tick_ms) * u64::from(options.sync_limit),
        };
        Self {
            me: options.me,
            own: options.election.clone(),
            sasl: options.sasl.clone(),
            // Others than those of the quorum port.
            nonces: Nonces::new(options.sasl.seed.clone(), !entropy),
            multi_address: options.multi_address,
            listen_on_all_ips: options.listen_on_all_ips,
            connect_timeout_ms: options.connect_timeout_ms,
            silence_ms: silence_ms.max(1),
            retry_ms_min,
            retry_ms_max: retry_ms_max.max(retry_ms_min),
            links: BTreeMap::new(),
            peers: BTreeMap::new(),
            wanted: BTreeSet::new(),
            last_anonymous: 0,
        }
    }

    /// Begins anew among these servers: listens, and drops every connection. A server that is no
    /// longer among them keeps its addresses: it may be asked to leave, or to come back.
    pub(super) fn begin(
        &mut self,
        mut servers: BTreeMap<ServerId, Vec<Endpoint>>,
        out: &mut Outbox,
    ) {
        for (link, _) in core::mem::take(&mut self.links) {
            out.close(link);
        }
        self.wanted.clear();
        if let Some(own) = servers.remove(&self.me) {
            self.own = own;
        }
        let peers = servers.into_iter().map(|(id, configured)| {
            let peer = Peer {
                configured,
                ..Peer::default()
            };
            (id, peer)
        });
        self.peers = sorted::map(peers);
        out.outputs
            .push(Output::Listen(Port::Election, self.listen_at()));
    }

    /// Takes over where servers are, without touching connections.
    pub(super) fn update(&mut self, mut servers: BTreeMap<ServerId, Vec<Endpoint>>) {
        servers.remove(&self.me);
        for (id, peer) in &mut self.peers {
            peer.configured = servers.remove(id).unwrap_or_default();
        }
        for (id, configured) in servers {
            let peer = Peer {
                configured,
                ..Peer::default()
            };
            self.peers.insert(id, peer);
        }
    }

    fn listen_at(&self) -> Vec<Endpoint> {
        if !self.listen_on_all_ips {
            return self.own.clone();
        }
        Endpoint::everywhere(&self.own)
    }

    pub(super) fn owns(&self, link: LinkId) -> bool {
        self.links.contains_key(&link)
    }

    /// Whether attempts to reach it failed since it was wanted, without a sign of it since, and it
    /// was there before.
    pub(super) fn is_absent(&self, server: ServerId) -> bool {
        self.peers.get(&server).is_none_or(|peer| peer.absent)
    }

    /// Connects to these, and again whenever a connection to one of them is lost.
    pub(super) fn want(&mut self, mut servers: BTreeSet<ServerId>, out: &mut Outbox) {
        servers.remove(&self.me);
        self.wanted = servers;
        for id in &self.wanted {
            if let Some(peer) = self.peers.get_mut(id) {
                peer.absent = false;
                peer.retry_at = out.now;
                peer.retry_ms = self.retry_ms_min;
                peer.hope_ms = HOPE_MS_MIN;
                peer.heard_at = out.now;
                peer.patience_ms = self.silence_ms;
            }
        }
        self.reach_wanted(out);
    }

    /// Wants nobody any more; connections stay.
    pub(super) fn rest(&mut self) {
        self.wanted.clear();
    }

    /// Sends to a server if there is a connection to it.
    pub(super) fn send(&mut self, server: ServerId, frame: &Bytes, out: &mut Outbox) {
        let Some(id) = self.peers.get(&server).and_then(Peer::link) else {
            return;
        };
        if let Some(link) = self.links.get_mut(&id) {
            link.send(id, frame.clone(), out);
        }
    }

    /// The servers to which there are connections.
    pub(super) fn connected(&self) -> impl Iterator<Item = ServerId> {
        let connected = self.peers.iter().filter(|(_, peer)| peer.link().is_some());
        connected.map(|(id, _)| *id)
    }

    pub(super) fn link(
        &mut self,
        id: LinkId,
        input: LinkInput,
        out: &mut Outbox,
    ) -> Vec<Happening> {
        let mut happenings = Vec::new();
        match input {
            LinkInput::Opened { peer, .. } => self.opened(id, peer, out, &mut happenings),
            LinkInput::Received(bytes) => self.received(id, bytes, out, &mut happenings),
            LinkInput::Flushed(bytes) => {
                if let Some(link) = self.links.get_mut(&id) {
                    link.flushed(id, bytes, out);
                }
            }
            LinkInput::Secured { .. } => {}
            LinkInput::Closed => self.closed(id, out, &mut happenings),
        }
        happenings
    }

    fn opened(
        &mut self,
        id: LinkId,
        address: SocketAddr,
        out: &mut Outbox,
        happenings: &mut Vec<Happening>,
    ) {
        let Some(link) = self.links.get_mut(&id) else {
            if id >= LinkId::DIALLED {
                return;
            }
            self.make_room(out);
            let stranger = Purpose::Stranger { since: out.now };
            self.links.insert(id, Link::new(stranger, Some(address)));
            return;
        };
        let Purpose::Dial(server) = link.purpose else {
            return;
        };
        link.peer = Some(address);
        // One that never was in a membership of its own has no address to tell, and is taken for
        // one of those that never told any.
        let version = match self.own.as_slice() {
            [] => InitialVersion::Bare,
            _ if self.multi_address => InitialVersion::V2,
            _ => InitialVersion::V1,
        };
        let own = self.own.iter().map(|own| (own.host.clone(), own.port));
        let initial = Initial {
            version,
            server: self.me,
            addresses: own.collect(),
        };
        link.send(id, initial.to_bytes(), out);
        match Gate::client(&self.sasl) {
            Some((gate, hello)) => {
                link.send(id, hello, out);
                link.login = Some(Login {
                    gate,
                    since: out.now,
                    initial: None,
                });
            }
            None => self.reached(server, id, out, happenings),
        }
    }

    /// A server that was dialled knows who this one is.
    fn reached(
        &mut self,
        server: ServerId,
        id: LinkId,
        out: &mut Outbox,
        happenings: &mut Vec<Happening>,
    ) {
        if server > self.me {
            // Now it knows of this server, and connects to it.
            self.links.remove(&id);
            out.close(id);
            if let Some(peer) = self.peers.get_mut(&server) {
                peer.reach = Reach::None;
                peer.absent = false;
            }
            self.hope(server, out);
        } else {
            self.keep(server, id, out, happenings);
        }
    }

    /// Takes what arrived on a link while one of its ends logs in.
    fn log_in(
        &mut self,
        id: LinkId,
        bytes: &Bytes,
        out: &mut Outbox,
        happenings: &mut Vec<Happening>,
    ) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let Some(login) = &mut link.login else {
            return;
        };
        let turn = login.gate.receive(bytes, &self.sasl, &mut self.nonces);
        if let Some(bytes) = turn.send {
            link.send(id, bytes, out);
        }
        match turn.then {
            Then::Wait => {}
            Then::Through(rest) => {
                link.frames.receive(rest);
                let initial = link.login.take().and_then(|login| login.initial);
                match (&link.purpose, initial) {
                    (&Purpose::Dial(server), _) => self.reached(server, id, out, happenings),
                    (_, Some(initial)) => self.introduced(id, &initial, out, happenings),
                    (_, None) => {}
                }
            }
            Then::Refuse(reason) => self.refuse_login(id, reason, out),
        }
    }

    fn refuse_login(&mut self, id: LinkId, reason: String, out: &mut Outbox) {
        let purpose = self.links.get(&id).map(|link| &link.purpose);
        if let Some(&Purpose::Dial(server)) = purpose {
            self.refuse(id, format!("server {server}: {reason}"), out);
            self.not_there(server, out);
        } else {
            self.refuse(id, reason, out);
        }
    }

    fn make_room(&mut self, out: &mut Outbox) {
        let strangers = self
            .links
            .iter()
            .filter_map(|(id, link)| match link.purpose {
                Purpose::Stranger { since } => Some((since, *id)),
                Purpose::Dial(_) | Purpose::Peer(_) => None,
            });
        let (mut count, mut oldest) = (0, None);
        for stranger in strangers {
            count += 1;
            oldest = oldest.min(Some(stranger)).or(Some(stranger));
        }
        if let (STRANGERS_MAX.., Some((_, oldest))) = (count, oldest) {
            let reason = format!("it is the oldest of {count} that have not said whose they are");
            self.refuse(oldest, reason, out);
        }
    }

    /// Makes this the connection to that server.
    fn keep(
        &mut self,
        server: ServerId,
        id: LinkId,
        out: &mut Outbox,
        happenings: &mut Vec<Happening>,
    ) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        link.purpose = Purpose::Peer(server);
        let address = link.peer;
        let peer = self.peers.entry(server).or_default();
        let reach = core::mem::replace(&mut peer.reach, Reach::Connected(id));
        peer.absent = false;
        peer.met = true;
        peer.again = false;
        peer.heard_at = out.now;
        peer.patience_ms = peer.patience_ms.max(self.silence_ms);
        match reach {
            Reach::Dialling(older) | Reach::Connected(older) if older != id => {
                let replaced = self.links.remove(&older);
                out.close(older);
                if reach == Reach::Connected(older) {
                    let before = replaced.and_then(|link| link.peer);
                    report_moved(server, before, address, out);
                    happenings.push(Happening::Lost(server));
                }
            }
            Reach::None | Reach::Dialling(_) | Reach::Connected(_) => {}
        }
        happenings.push(Happening::Connected(server));
    }

    fn received(
        &mut self,
        id: LinkId,
        bytes: Bytes,
        out: &mut Outbox,
        happenings: &mut Vec<Happening>,
    ) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        if link.login.is_some() {
            self.log_in(id, &bytes, out, happenings);
        } else {
            link.frames.receive(bytes);
            if matches!(link.purpose, Purpose::Stranger { .. }) {
                match (link.frames.next_initial(), Gate::server(&self.sasl)) {
                    (Ok(Some(initial)), None) => self.introduced(id, &initial, out, happenings),
                    (Ok(Some(initial)), Some(gate)) => {
                        link.login = Some(Login {
                            gate,
                            since: out.now,
                            initial: Some(initial),
                        });
                        let rest = link.frames.take_rest();
                        self.log_in(id, &rest, out, happenings);
                    }
                    (Ok(None), _) => return,
                    (Err(error), _) => return self.refuse(id, error.to_string(), out),
                }
            }
        }
        loop {
            let Some(link) = self.links.get_mut(&id) else {
                return;
            };
            let Purpose::Peer(server) = link.purpose else {
                return;
            };
            match link.frames.next() {
                Ok(Some(payload)) => match Notification::decode(&payload) {
                    Ok(notification) => {
                        if let Some(peer) = self.peers.get_mut(&server) {
                            peer.retry_ms = self.retry_ms_min;
                            peer.heard_at = out.now;
                            peer.patience_ms = self.silence_ms;
                        }
                        happenings.push(Happening::Heard(server, notification));
                    }
                    // The frames behind it are still found: it is skipped, as in ZooKeeper since
                    // such a one made a server deaf (ZOOKEEPER-3769).
                    Err(error) if !link.reported => {
                        link.reported = true;
                        let reason = format!("server {server}: {error}; it is skipped");
                        report(link.peer, reason, out);
                    }
                    Err(_) => {}
                },
                Ok(None) => return,
                Err(error) => {
                    self.refuse(id, format!("server {server}: {error}"), out);
                    self.lost(server, out, happenings);
                    return;
                }
            }
        }
    }

    /// A stranger says who it is.
    fn introduced(
        &mut self,
        id: LinkId,
        initial: &Initial,
        out: &mut Outbox,
        happenings: &mut Vec<Happening>,
    ) {
        let server = match self.meet(initial) {
            Ok(server) => server,
            Err(reason) => return self.refuse(id, reason, out),
        };
        if initial.server > self.me {
            self.keep(server, id, out, happenings);
        } else {
            self.links.remove(&id);
            out.close(id);
            self.call_back(server, out, happenings);
        }
    }

    /// Remembers what a stranger says of itself. An error: it may not have a connection.
    fn meet(&mut self, initial: &Initial) -> Result<ServerId, String> {
        let server = match initial.server {
            ANONYMOUS => {
                self.last_anonymous = self.last_anonymous.saturating_sub(1);
                ServerId(self.last_anonymous)
            }
            server => server,
        };
        self.admit(initial.server, server)?;
        let said = initial.reachable().map(|(host, port)| Endpoint {
            host: host.clone(),
            port: *port,
        });
        let peer = self.peers.entry(server).or_default();
        peer.said = said.take(ADDRESSES_MAX).collect();
        peer.absent = false;
        Ok(server)
    }

    /// Whether a server with this id may have a connection.
    fn admit(&self, claimed: ServerId, server: ServerId) -> Result<(), String> {
        if claimed == self.me {
            return Err(format!(
                "it says that it is server {claimed}, which is this one: do two have this myid?"
            ));
        }
        if claimed.0 < 0 {
            return Err(format!("expected a server's id from 0, found {claimed}"));
        }
        let outsiders = self
            .peers
            .values()
            .filter(|peer| peer.configured.is_empty());
        if !self.peers.contains_key(&server) && outsiders.count() >= OUTSIDERS_MAX {
            return Err(format!(
                "it is server {claimed}, and there are {OUTSIDERS_MAX} outside the membership"
            ));
        }
        Ok(())
    }

    /// Connects to a server that asked for it. The connection that there was is of no use: the
    /// server would not have asked.
    fn call_back(&mut self, server: ServerId, out: &mut Outbox, happenings: &mut Vec<Happening>) {
        let Some(peer) = self.peers.get_mut(&server) else {
            return;
        };
        match peer.reach {
            Reach::Dialling(_) => peer.again = true,
            Reach::Connected(older) => {
                peer.reach = Reach::None;
                self.links.remove(&older);
                out.close(older);
                happenings.push(Happening::Lost(server));
                self.dial(server, out);
            }
            Reach::None => self.dial(server, out),
        }
    }

    fn dial(&mut self, server: ServerId, out: &mut Outbox) {
        let Some(peer) = self.peers.get_mut(&server) else {
            return;
        };
        assert_eq!(peer.reach, Reach::None, "a server is connected to once");
        // Where it says it is goes before what the membership says, which may be older.
        let to = if peer.said.is_empty() {
            peer.configured.clone()
        } else {
            peer.said.clone()
        };
        peer.again = false;
        peer.dialled_at = out.now;
        peer.retry_at = out.now.plus_ms(peer.retry_ms);
        peer.retry_ms = (peer.retry_ms.max(self.retry_ms_min) * 2).min(self.retry_ms_max);
        if to.is_empty() {
            return;
        }
        let link = out.dial(Port::Election, to, self.connect_timeout_ms);
        peer.reach = Reach::Dialling(link);
        self.links
            .insert(link, Link::new(Purpose::Dial(server), None));
    }

    fn closed(&mut self, id: LinkId, out: &mut Outbox, happenings: &mut Vec<Happening>) {
        let Some(link) = self.links.remove(&id) else {
            return;
        };
        match link.purpose {
            Purpose::Stranger { .. } => {
                let initial = link.login.and_then(|login| login.initial);
                self.left(link.peer, initial, out, happenings);
            }
            Purpose::Dial(server) => self.not_there(server, out),
            Purpose::Peer(server) => self.lost(server, out, happenings),
        }
    }

    /// A stranger that has said who it is, and did not log in, is gone. One with a lower id that
    /// does not need to has done all that it wanted.
    fn left(
        &mut self,
        from: Option<SocketAddr>,
        initial: Option<Initial>,
        out: &mut Outbox,
        happenings: &mut Vec<Happening>,
    ) {
        let Some(initial) = initial.filter(|initial| initial.server < self.me) else {
            return;
        };
        let met = if self.sasl.required {
            Err(NOT_LOGGED_IN.into())
        } else {
            self.meet(&initial)
        };
        match met {
            Ok(server) => self.call_back(server, out, happenings),
            Err(reason) => report(from, reason, out),
        }
    }

    /// A connection could not be had.
    fn not_there(&mut self, server: ServerId, out: &mut Outbox) {
        let Some(peer) = self.peers.get_mut(&server) else {
            return;
        };
        peer.reach = Reach::None;
        if peer.again {
            self.dial(server, out);
            return;
        }
        // Of servers that begin together, one that does not listen yet is not one that is gone.
        peer.absent = peer.met;
        // Next time where the membership says: what it said itself leads nowhere.
        peer.said.clear();
        self.drop_outsider(server);
    }

    /// The connection to a server is gone.
    fn lost(&mut self, server: ServerId, out: &mut Outbox, happenings: &mut Vec<Happening>) {
        if let Some(peer) = self.peers.get_mut(&server) {
            peer.reach = Reach::None;
            if peer.retry_at > out.now {
                self.hope(server, out);
            }
        }
        happenings.push(Happening::Lost(server));
        self.drop_outsider(server);
        self.reach_wanted(out);
    }

    /// A connection that a peer took may come to nothing: the next attempt is soon, and those after
    /// it are ever later. A round trip is waited for in any case.
    fn hope(&mut self, server: ServerId, out: &Outbox) {
        let Some(peer) = self.peers.get_mut(&server) else {
            return;
        };
        let connecting_ms = out.now.micros_since(peer.dialled_at) / 1000;
        let hope_ms = peer.hope_ms.max(HOPE_MS_MIN);
        peer.retry_at = out.now.plus_ms(hope_ms + 4 * connecting_ms);
        peer.hope_ms = (hope_ms * 2).min(self.retry_ms_max);
    }

    fn drop_outsider(&mut self, server: ServerId) {
        if self
            .peers
            .get(&server)
            .is_some_and(|peer| peer.configured.is_empty())
        {
            self.peers.remove(&server);
        }
    }

    fn reach_wanted(&mut self, out: &mut Outbox) {
        let due = self.wanted.iter().copied().filter(|id| {
            let peer = self.peers.get(id);
            peer.is_some_and(|peer| peer.reach == Reach::None && peer.retry_at <= out.now)
        });
        for server in due.collect::<Vec<_>>() {
            self.dial(server, out);
        }
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, out: &mut Outbox) -> Vec<Happening> {
        let mut happenings = Vec::new();
        let late = self.links.iter().filter(|(_, link)| {
            let deadline = link.deadline(self.silence_ms);
            deadline.is_some_and(|deadline| deadline <= out.now)
        });
        for id in late.map(|(id, _)| *id).collect::<Vec<_>>() {
            let reason = format!("it has not said whose it is in {} ms", self.silence_ms);
            self.refuse_login(id, reason, out);
        }
        self.probe_silent(out, &mut happenings);
        self.reach_wanted(out);
        happenings
    }

    /// A connection to a peer that should vote, and from which nothing comes, may be gone without a
    /// sign: another is tried, at growing pauses, for the peer may have nothing to say.
    fn probe_silent(&mut self, out: &mut Outbox, happenings: &mut Vec<Happening>) {
        for server in self.wanted.clone() {
            let Some(peer) = self.peers.get_mut(&server) else {
                continue;
            };
            let Some(link) = peer.link() else {
                continue;
            };
            if peer.heard_at.plus_ms(peer.patience_ms) <= out.now {
                peer.reach = Reach::None;
                peer.patience_ms = (peer.patience_ms * 2).min(PATIENCE_MS_MAX.max(self.silence_ms));
                self.links.remove(&link);
                out.close(link);
                happenings.push(Happening::Lost(server));
            }
        }
    }

    pub(super) fn next_wake(&self) -> Option<Instant> {
        let links = self.links.values();
        let strangers = links.filter_map(|link| link.deadline(self.silence_ms));
        let wanted = self.wanted.iter().filter_map(|id| self.peers.get(id));
        let wanted = wanted.filter_map(|peer| match peer.reach {
            Reach::None => Some(peer.retry_at),
            Reach::Dialling(_) => None,
            Reach::Connected(_) => Some(peer.heard_at.plus_ms(peer.patience_ms)),
        });
        strangers.chain(wanted).min()
    }

    fn refuse(&mut self, id: LinkId, reason: String, out: &mut Outbox) {
        if let Some(link) = self.links.remove(&id) {
            report(link.peer, reason, out);
            out.close(id);
        }
    }
}

fn report(peer: Option<SocketAddr>, reason: String, out: &mut Outbox) {
    let Some(peer) = peer else {
        return;
    };
    out.event(Event::PeerRefused {
        peer,
        port: Port::Election,
        reason,
    });
}

/// A server that comes from another address while it is still connected from the first has moved,
/// or is two.
fn report_moved(
    server: ServerId,
    before: Option<SocketAddr>,
    after: Option<SocketAddr>,
    out: &mut Outbox,
) {
    if let (Some(before), Some(after)) = (before, after)
        && before.ip() != after.ip()
    {
        out.event(Event::Notice(format!(
            "server {server}, connected from {before}, connects from {after}: do two have this id?"
        )));
    }
}
