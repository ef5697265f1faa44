//! All connections of one driver.

use core::cell::{Cell, RefCell};
use core::hash::{BuildHasherDefault, Hasher};
use core::net::SocketAddr;
use core::task::{Context, Waker};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use zabra_core::ids::LinkId;
use zabra_core::link::{LinkInput, LinkOutput, Port};

use super::gauges::Gauges;
use super::link::{Link, Phase, SocketCount, serve};

/// The most that one connection brings in between two steps.
const READ_BYTES_MAX: usize = 64 * 1024;

/// So much sent on one link is reported at once, else with the next step: half of what the core
/// lets a link have unsent, so that a reader that keeps up never finds it paused.
const FLUSHED_REPORT_BYTES: usize = 512 * 1024;

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
    last_id: Cell<u64>,
    sockets: Cell<usize>,
    quiesced: Cell<bool>,
    gauges: Arc<Gauges>,
}

impl Links {
    /// No connections yet; they will be counted in `gauges`.
    pub fn new(gauges: Arc<Gauges>) -> Self {
        let shared = Shared {
            read_buffer: RefCell::new(vec![0; READ_BYTES_MAX].into_boxed_slice()),
            wake: Wake::default(),
            inputs: RefCell::default(),
            flushed: RefCell::default(),
            ended: RefCell::default(),
            dirty: RefCell::default(),
            table: RefCell::default(),
            last_id: Cell::new(0),
            sockets: Cell::new(0),
            quiesced: Cell::new(false),
            gauges,
        };
        Self {
            shared: Rc::new(shared),
        }
    }

    /// Takes over a connected socket.
    ///
    /// # Panics
    ///
    /// Outside a `LocalRuntime`.
    pub fn open(&self, stream: TcpStream, peer: SocketAddr) {
        let shared = &self.shared;
        let id = LinkId(shared.last_id.get() + 1);
        shared.last_id.set(id.0);
        let (read, write) = stream.into_split();
        let link = Rc::new(Link::new(id, write));
        if shared.quiesced.get() {
            link.phase.set(Phase::Paused);
        }
        shared.table.borrow_mut().insert(id, Rc::clone(&link));
        shared.count_links();
        shared.input(
            id,
            LinkInput::Opened {
                port: Port::Client,
                peer,
            },
        );
        // Dropping the handle detaches the task.
        let socket = SocketCount::new(Rc::clone(shared));
        drop(spawn_local(serve(Rc::clone(shared), link, read, socket)));
    }

    /// Whether the machine may still hear of `id`.
    pub fn is_open(&self, id: LinkId) -> bool {
        self.shared.table.borrow().contains_key(&id)
    }

    /// Connections whose sockets are not given back yet, also those that the machine has closed.
    pub fn sockets(&self) -> usize {
        self.shared.sockets.get()
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
        if let LinkOutput::Close = output {
            return shared.close(id);
        }
        let table = shared.table.borrow();
        // The machine may not have heard yet that it is gone.
        let Some(link) = table.get(&id) else { return };
        match (output, link.phase.get()) {
            (LinkOutput::Dial { .. }, _) => {}
            (LinkOutput::Send(bytes), _) => {
                link.push(bytes);
                if !link.dirty.replace(true) {
                    shared.dirty.borrow_mut().push(Rc::clone(link));
                }
            }
            (LinkOutput::Pause, Phase::Reading) => link.enter(Phase::Paused),
            (LinkOutput::Resume, Phase::Paused) if !shared.quiesced.get() => {
                link.enter(Phase::Reading);
            }
            (LinkOutput::Pause | LinkOutput::Resume | LinkOutput::Close, _) => {}
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

    /// Reads no more on any link, for good.
    pub fn quiesce(&self) {
        self.shared.quiesced.set(true);
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

    /// Whether there may be something for the driver since the last call; if not, `cx` is woken
    /// once there is.
    pub fn poll_woken(&self, cx: &Context<'_>) -> bool {
        self.shared.wake.poll(cx)
    }
}

impl Shared {
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
        // A paused link may wait for just this.
        if before + count >= FLUSHED_REPORT_BYTES || link.phase.get() == Phase::Paused {
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

    pub(super) fn count_socket(&self, change: isize) {
        self.sockets
            .set(self.sockets.get().saturating_add_signed(change));
        self.gauges.set_sockets(self.sockets.get());
        if self.sockets.get() == 0 {
            self.wake.wake();
        }
    }

    fn close(&self, id: LinkId) {
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
