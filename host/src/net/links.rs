//! All connections of one driver.

use core::cell::{Cell, RefCell};
use core::hash::{BuildHasherDefault, Hasher};
use core::net::SocketAddr;
use core::task::{Context, Waker};
use core::time::Duration;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, spawn_local};
use zabra_core::ids::LinkId;
use zabra_core::link::{Endpoint, LinkInput, LinkOutput, Port};

use super::complaints::Complaints;
use super::dial::connect;
use super::gauges::Gauges;
use super::link::{Link, Phase, SocketCount, serve};
use super::listen::prepare;
use super::peers::PeerOptions;
use super::resolve::Resolver;
use super::securing::{Accept, Handshakes, begin, dialled};
use super::session::Session;

/// The most that one connection brings in between two steps.
const READ_BYTES_MAX: usize = 64 * 1024;

/// So much sent on one link is reported at once, else with the next step: half of what the core
/// lets a link have unsent, so that a reader that keeps up never finds it paused.
const FLUSHED_REPORT_BYTES: usize = 512 * 1024;

/// The same for a peer, which may be sent a whole state: whoever keeps more than this under way
/// goes on without waiting for another reason to step. A step for so much costs nothing beside it.
const FLUSHED_REPORT_BYTES_PEER: usize = 16 * 1024;

/// All connections of one driver: collects what they bring, performs what the machine wants of
/// them.
///
/// Belongs to the thread of a `LocalRuntime`; a clone is the same set.
#[derive(Clone)]
pub struct Links {
    shared: Rc<Shared>,
}

/// What the tasks of the connections and the driver share.
pub(super) struct Shared {
    pub(super) read_buffer: RefCell<Box<[u8]>>,
    pub(super) wake: Wake,
    inputs: RefCell<Vec<(LinkId, LinkInput)>>,
    /// Links with something sent and not yet reported.
    flushed: RefCell<Vec<LinkId>>,
    /// Links whose peer sends no more, not yet reported.
    ended: RefCell<Vec<LinkId>>,
    /// Links with something new to send.
    dirty: RefCell<Vec<Rc<Link>>>,
    table: RefCell<HashMap<LinkId, Rc<Link>, BuildHasherDefault<LinkIdHasher>>>,
    /// Links that the machine asked for and that are not there yet.
    dialling: RefCell<HashMap<LinkId, Dialling, BuildHasherDefault<LinkIdHasher>>>,
    /// The tasks that hold a socket, also of links that the machine has closed.
    tasks: RefCell<HashMap<LinkId, AbortHandle, BuildHasherDefault<LinkIdHasher>>>,
    last_id: Cell<u64>,
    client_sockets: Cell<usize>,
    peer_sockets: Cell<usize>,
    quiesced: Cell<bool>,
    gauges: Arc<Gauges>,
    resolver: Resolver,
    pub(super) complaints: Complaints,
    pub(super) peers: PeerOptions,
    pub(super) handshakes: Handshakes,
}

/// What a link has that is encrypted.
pub(super) struct Secured {
    pub(super) session: Box<Session>,
    /// Whom the client's certificate names.
    pub(super) principal: Option<String>,
}

/// A connection that is wanted, and what is wanted of it already.
struct Dialling {
    task: AbortHandle,
    to_send: Vec<Bytes>,
    paused: bool,
}

impl Links {
    /// No connections yet; they will be counted in `gauges`. `warn` hears why peers cannot be
    /// reached.
    pub fn new(gauges: Arc<Gauges>, warn: Rc<dyn Fn(String)>, peers: PeerOptions) -> Self {
        let shared = Shared {
            read_buffer: RefCell::new(vec![0; READ_BYTES_MAX].into_boxed_slice()),
            wake: Wake::default(),
            inputs: RefCell::default(),
            flushed: RefCell::default(),
            ended: RefCell::default(),
            dirty: RefCell::default(),
            table: RefCell::default(),
            dialling: RefCell::default(),
            tasks: RefCell::default(),
            last_id: Cell::new(0),
            client_sockets: Cell::new(0),
            peer_sockets: Cell::new(0),
            quiesced: Cell::new(false),
            gauges,
            resolver: Resolver::default(),
            complaints: Complaints::new(warn),
            handshakes: Handshakes::default(),
            peers,
        };
        Self {
            shared: Rc::new(shared),
        }
    }

    /// Takes over a socket that was accepted.
    ///
    /// # Panics
    ///
    /// Outside a `LocalRuntime`.
    pub fn open(&self, stream: TcpStream, port: Port, peer: SocketAddr) {
        self.accepted(stream, port, peer, Accept::Plain, 0);
    }

    /// The same for a connection that may have to be, or may be, encrypted.
    pub(super) fn accepted(
        &self,
        stream: TcpStream,
        port: Port,
        peer: SocketAddr,
        accept: Accept,
        handshakes_max: usize,
    ) {
        let shared = &self.shared;
        let id = LinkId(shared.last_id.get() + 1);
        shared.last_id.set(id.0);
        if let Accept::Plain = accept {
            let socket = SocketCount::new(Rc::clone(shared), port, id);
            drop(shared.open(id, stream, port, peer, None, socket));
        } else {
            begin(shared, id, stream, port, peer, accept, handshakes_max);
        }
    }

    /// Begins to connect; the outcome is an input of `id`.
    fn dial(&self, id: LinkId, port: Port, to: Vec<Endpoint>, limit: Duration) {
        let shared = &self.shared;
        assert!(
            id >= LinkId::DIALLED,
            "links that are dialled have numbers of their own"
        );
        // A server that stops needs no more connections, and hears of none.
        if shared.quiesced.get() {
            return;
        }
        let task = spawn_local(dial(Rc::clone(shared), id, port, to, limit));
        let dialling = Dialling {
            task: task.abort_handle(),
            to_send: Vec::new(),
            paused: false,
        };
        let before = shared.dialling.borrow_mut().insert(id, dialling);
        assert!(before.is_none(), "no number is used twice");
    }

    /// Whether the machine may still hear of `id`.
    pub fn is_open(&self, id: LinkId) -> bool {
        self.shared.table.borrow().contains_key(&id)
    }

    /// Connections whose sockets are not given back yet, also those that the machine has closed.
    pub fn sockets(&self) -> usize {
        self.shared.client_sockets.get() + self.shared.peer_sockets.get()
    }

    /// [`Links::sockets`] of clients, or of peers on either port.
    pub(super) fn sockets_of(&self, port: Port) -> usize {
        self.shared.sockets_of(port).get()
    }

    pub(super) fn peers(&self) -> &PeerOptions {
        &self.shared.peers
    }

    pub(super) fn resolver(&self) -> &Resolver {
        &self.shared.resolver
    }

    pub(super) fn complaints(&self) -> &Complaints {
        &self.shared.complaints
    }

    /// Moves what has happened to `inputs`.
    pub fn take_inputs<I>(&self, inputs: &mut Vec<I>, wrap: impl Fn(LinkId, LinkInput) -> I) {
        let table = self.shared.table.borrow();
        for id in self.shared.flushed.borrow_mut().drain(..) {
            if let Some(link) = table.get(&id) {
                inputs.push(wrap(id, LinkInput::Flushed(link.flushed.take())));
            }
        }
        inputs.extend(
            self.shared
                .inputs
                .borrow_mut()
                .drain(..)
                .map(|(id, input)| wrap(id, input)),
        );
    }

    /// Performs one output. What is to be sent waits for [`Links::flush`].
    pub fn perform(&self, id: LinkId, output: LinkOutput) {
        let shared = &self.shared;
        match output {
            LinkOutput::Close => return shared.close(id),
            LinkOutput::Dial {
                port,
                to,
                timeout_ms,
            } => {
                let limit = Duration::from_millis(u64::from(timeout_ms));
                return self.dial(id, port, to, limit);
            }
            LinkOutput::Send(_) | LinkOutput::Pause | LinkOutput::Resume => {}
        }
        let table = shared.table.borrow();
        let Some(link) = table.get(&id) else {
            // If it is not there yet. Else the machine may not have heard that it is gone.
            if let Some(dialling) = shared.dialling.borrow_mut().get_mut(&id) {
                dialling.perform(output);
            }
            return;
        };
        match (output, link.phase.get()) {
            (LinkOutput::Send(bytes), _) => {
                link.push(bytes);
                shared.mark_dirty(link);
            }
            (LinkOutput::Pause, Phase::Reading) => link.enter(Phase::Paused),
            (LinkOutput::Resume, Phase::Paused) if !shared.quiesced.get() => {
                link.enter(Phase::Reading);
            }
            (
                LinkOutput::Pause
                | LinkOutput::Resume
                | LinkOutput::Close
                | LinkOutput::Dial { .. },
                _,
            ) => {}
        }
    }

    /// Sends what was collected since the last call, as far as the sockets take it at once.
    pub fn flush(&self) {
        let mut dirty = self.shared.dirty.take();
        for link in dirty.drain(..) {
            link.dirty.set(false);
            link.write_now(&self.shared);
        }
        // Gives back the room; nothing above adds to it.
        self.shared.dirty.replace(dirty);
    }

    /// Reports the ends of peers that send no more. To be called after a step: until then the
    /// machine could not answer what came before the end, as `echo ruok | nc` expects.
    pub fn report_ends(&self) {
        let shared = &self.shared;
        let ended = shared.ended.take();
        let mut held = Vec::new();
        for id in ended {
            let Some(link) = shared.link(id) else {
                continue;
            };
            if link.holds.get() > 0 {
                held.push(id);
            } else {
                shared.input(id, LinkInput::Closed);
                shared.close(id);
            }
        }
        shared.ended.replace(held);
    }

    /// Keeps the end of `id` from being reported until [`Links::release`]: an answer is under way.
    pub fn hold(&self, id: LinkId) {
        if let Some(link) = self.shared.link(id) {
            link.holds.set(link.holds.get() + 1);
        }
    }

    /// Takes one [`Links::hold`] back.
    pub fn release(&self, id: LinkId) {
        if let Some(link) = self.shared.link(id) {
            link.holds.set(link.holds.get().saturating_sub(1));
        }
    }

    /// Reads no more on any link and gives up those being dialled, for good.
    pub fn quiesce(&self) {
        self.shared.quiesced.set(true);
        self.shared.handshakes.abandon();
        for (_, dialling) in self.shared.dialling.borrow_mut().drain() {
            dialling.task.abort();
        }
        for link in self.shared.table.borrow().values() {
            if link.phase.get() == Phase::Reading {
                link.enter(Phase::Paused);
            }
        }
    }

    /// Closes every link, as [`LinkOutput::Close`] does.
    pub fn close_all(&self) {
        let ids: Vec<LinkId> = self.shared.table.borrow().keys().copied().collect();
        for id in ids {
            self.shared.close(id);
        }
    }

    /// Gives every socket back at once, whatever is still to be sent: when [`Links::sockets`] is 0.
    /// Nothing more is reported.
    pub fn abandon(&self) {
        self.quiesce();
        self.shared.table.borrow_mut().clear();
        self.shared.count_links();
        for task in self.shared.tasks.borrow().values() {
            task.abort();
        }
    }

    /// Whether there may be something for the driver since the last call; if not, `cx` is woken
    /// once there is.
    pub fn poll_woken(&self, cx: &Context<'_>) -> bool {
        self.shared.wake.poll(cx)
    }
}

impl Dialling {
    fn perform(&mut self, output: LinkOutput) {
        match output {
            LinkOutput::Send(bytes) => self.to_send.push(bytes),
            LinkOutput::Pause => self.paused = true,
            LinkOutput::Resume => self.paused = false,
            LinkOutput::Close | LinkOutput::Dial { .. } => {}
        }
    }
}

/// The task of a connection that is wanted, until it is there or cannot be had.
async fn dial(shared: Rc<Shared>, id: LinkId, port: Port, to: Vec<Endpoint>, limit: Duration) {
    let connected = reach(&shared, &to, limit).await;
    let dialling = shared.dialling.borrow_mut().remove(&id);
    let Some(mut dialling) = dialling else { return };
    match connected {
        Ok((stream, peer, secured)) => {
            let socket = SocketCount::new(Rc::clone(&shared), port, id);
            let link = shared.open(id, stream, port, peer, secured, socket);
            if dialling.paused {
                link.phase.set(Phase::Paused);
            }
            // Sent after the next step: what became of it may only be reported after `Opened`.
            for bytes in dialling.to_send.drain(..) {
                link.push(bytes);
                shared.mark_dirty(&link);
            }
        }
        Err(reasons) => {
            let what = match port {
                Port::Client => "a server",
                Port::Election => "a peer's election port",
                Port::Quorum => "the leader's quorum port",
            };
            let reasons = if reasons.is_empty() {
                "it has no address".to_owned()
            } else {
                reasons.join("; ")
            };
            shared
                .complaints
                .say(format!("cannot connect to {what}: {reasons}"));
            shared.input(id, LinkInput::Closed);
        }
    }
}

/// A connection to another server, ready for what is to be said.
async fn reach(
    shared: &Shared,
    to: &[Endpoint],
    limit: Duration,
) -> Result<(TcpStream, SocketAddr, Option<Secured>), Vec<String>> {
    let begun = Instant::now();
    let (stream, peer, host) = connect(&shared.resolver, to, limit).await?;
    // These fail only on a connection that is gone already; its task will notice.
    let _ = prepare(&stream, shared.peers.keep_alive);
    let tls = shared.peers.tls.as_ref().filter(|tls| tls.dial);
    let secured = match tls {
        None => None,
        Some(tls) => {
            let left = limit.saturating_sub(begun.elapsed());
            let secured = dialled(&shared.handshakes, tls, &stream, &host, left).await;
            Some(secured.map_err(|reason| vec![format!("{host} ({peer}): {reason}")])?)
        }
    };
    Ok((stream, peer, secured))
}

impl Shared {
    /// Lets a task serve a socket, and reports it.
    pub(super) fn open(
        self: &Rc<Self>,
        id: LinkId,
        stream: TcpStream,
        port: Port,
        peer: SocketAddr,
        secured: Option<Secured>,
        socket: SocketCount,
    ) -> Rc<Link> {
        let (read, write) = stream.into_split();
        let (session, principal) = match secured {
            Some(secured) => (Some(secured.session), secured.principal),
            None => (None, None),
        };
        let link = Rc::new(Link::new(id, port, write, session));
        if self.quiesced.get() {
            link.phase.set(Phase::Paused);
        }
        let before = self.table.borrow_mut().insert(id, Rc::clone(&link));
        assert!(before.is_none(), "no number is used twice");
        self.count_links();
        self.input(id, LinkInput::Opened { port, peer });
        if let Some(tls) = link.tls() {
            if port == Port::Client {
                self.input(id, LinkInput::Secured { principal });
            }
            // What came together with the end of the handshake.
            link.decrypt(tls, &[], self);
        }
        let task = spawn_local(serve(Rc::clone(self), Rc::clone(&link), read, socket));
        self.keep_task(id, task.abort_handle());
        link
    }

    /// Remembers the task that holds a link's socket.
    pub(super) fn keep_task(&self, id: LinkId, task: AbortHandle) {
        self.tasks.borrow_mut().insert(id, task);
    }

    /// Says why an encrypted connection cannot go on.
    pub(super) fn broken(&self, link: &Link, reason: &str) {
        let of = match link.port {
            Port::Client => "a client",
            Port::Election | Port::Quorum => "a peer",
        };
        self.complaints
            .say(format!("TLS connection of {of} closed: {reason}"));
    }

    fn mark_dirty(&self, link: &Rc<Link>) {
        if !link.dirty.replace(true) {
            self.dirty.borrow_mut().push(Rc::clone(link));
        }
    }

    pub(super) fn received(&self, id: LinkId, bytes: Bytes) {
        self.input(id, LinkInput::Received(bytes));
    }

    pub(super) fn ended(&self, link: &Link) {
        link.enter(Phase::Ended);
        self.ended.borrow_mut().push(link.id);
        self.wake.wake();
    }

    pub(super) fn flushed(&self, link: &Link, count: usize) {
        let before = link.flushed.get();
        link.flushed.set(before + count);
        if before == 0 {
            self.flushed.borrow_mut().push(link.id);
        }
        let enough = match link.port {
            Port::Client => FLUSHED_REPORT_BYTES,
            Port::Election | Port::Quorum => FLUSHED_REPORT_BYTES_PEER,
        };
        // A paused link may wait for just this.
        if before + count >= enough || link.phase.get() == Phase::Paused {
            self.wake.wake();
        }
    }

    /// The connection failed: nothing can be sent or read any more.
    pub(super) fn lost(&self, link: &Link) {
        if link.is_reported() {
            self.input(link.id, LinkInput::Closed);
            self.table.borrow_mut().remove(&link.id);
            self.count_links();
        }
        link.enter(Phase::Gone);
    }

    pub(super) fn socket_opened(&self, port: Port) {
        let sockets = self.sockets_of(port);
        sockets.set(sockets.get() + 1);
        self.count_sockets();
    }

    pub(super) fn socket_closed(&self, port: Port, id: LinkId) {
        self.tasks.borrow_mut().remove(&id);
        let sockets = self.sockets_of(port);
        sockets.set(sockets.get().saturating_sub(1));
        if self.count_sockets() == 0 {
            self.wake.wake();
        }
    }

    fn count_sockets(&self) -> usize {
        let count = self.client_sockets.get() + self.peer_sockets.get();
        self.gauges.set_sockets(count);
        count
    }

    const fn sockets_of(&self, port: Port) -> &Cell<usize> {
        match port {
            Port::Client => &self.client_sockets,
            Port::Election | Port::Quorum => &self.peer_sockets,
        }
    }

    fn close(&self, id: LinkId) {
        if let Some(dialling) = self.dialling.borrow_mut().remove(&id) {
            return dialling.task.abort();
        }
        let link = self.table.borrow_mut().remove(&id);
        if let Some(link) = link {
            self.count_links();
            link.enter(Phase::Closing);
        }
    }

    fn link(&self, id: LinkId) -> Option<Rc<Link>> {
        self.table.borrow().get(&id).cloned()
    }

    fn input(&self, id: LinkId, input: LinkInput) {
        self.inputs.borrow_mut().push((id, input));
        self.wake.wake();
    }

    fn count_links(&self) {
        self.gauges.set_links(self.table.borrow().len());
    }
}

/// Wakes the driver, once for however many reasons there are.
#[derive(Default)]
pub(super) struct Wake {
    woken: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Wake {
    pub(super) fn wake(&self) {
        if !self.woken.replace(true)
            && let Some(waker) = &*self.waker.borrow()
        {
            waker.wake_by_ref();
        }
    }

    fn poll(&self, cx: &Context<'_>) -> bool {
        if self.woken.take() {
            return true;
        }
        let mut waker = self.waker.borrow_mut();
        if !waker
            .as_ref()
            .is_some_and(|known| known.will_wake(cx.waker()))
        {
            *waker = Some(cx.waker().clone());
        }
        false
    }
}

/// Link numbers are our own and count up: no attacker chooses them, one multiplication spreads
/// them.
#[derive(Default)]
struct LinkIdHasher(u64);

impl Hasher for LinkIdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(self.0 ^ u64::from(byte));
        }
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
