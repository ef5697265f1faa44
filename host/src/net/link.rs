//! One connection: its socket, what is still to be sent on it, and the one task that waits for it.

use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::pin::{Pin, pin};
use core::task::{Context, Poll, Waker, ready};
use core::time::Duration;
use std::net::Shutdown;
use std::rc::Rc;

use bytes::Bytes;
use socket2::SockRef;
use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;
use zabra_core::ids::LinkId;
use zabra_core::link::Port;

use super::links::Shared;
use super::queue::{Progress, Queue};
use super::session::Session;

/// How long a closed connection may take to accept what is still to be sent.
const FLUSH_MAX: Duration = Duration::from_secs(5);

/// How long, and for how many bytes, a closed connection waits for its peer to close too. Closing a
/// socket that holds unread bytes makes the kernel reset the connection, and a reset may overtake
/// and destroy our last reply in the peer's own buffer.
const LINGER_MAX: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 1024 * 1024;

/// Where a connection stands. Only moves downwards, but for `Reading` and `Paused`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Bytes are read as they come.
    Reading,
    /// The machine wants no more for now.
    Paused,
    /// The peer sends no more; the machine is told as soon as it had a chance to answer.
    Ended,
    /// The machine is done with it: send what is queued, then close.
    Closing,
    /// Lost, nothing can be sent any more.
    Gone,
}

pub(super) struct Link {
    pub(super) id: LinkId,
    pub(super) port: Port,
    pub(super) phase: Cell<Phase>,
    /// In the list of links that have something new to send.
    pub(super) dirty: Cell<bool>,
    /// Sent and not yet reported.
    pub(super) flushed: Cell<usize>,
    /// Answers under way that the peer may wait for although it sends no more.
    pub(super) holds: Cell<u32>,
    write: OwnedWriteHalf,
    /// What encrypts and decrypts; `None`: nothing does.
    tls: Option<Box<Session>>,
    queue: RefCell<Queue>,
    /// The queue waits for the socket to become writable.
    backlogged: Cell<bool>,
    /// The peer's end was read: closing cannot destroy anything.
    ended: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Link {
    pub(super) fn new(
        id: LinkId,
        port: Port,
        write: OwnedWriteHalf,
        tls: Option<Box<Session>>,
    ) -> Self {
        Self {
            id,
            port,
            phase: Cell::new(Phase::Reading),
            dirty: Cell::new(false),
            flushed: Cell::new(0),
            holds: Cell::new(0),
            write,
            tls,
            queue: RefCell::default(),
            backlogged: Cell::new(false),
            ended: Cell::new(false),
            waker: RefCell::default(),
        }
    }

    /// Whether the machine may still hear of it.
    pub(super) fn is_reported(&self) -> bool {
        matches!(
            self.phase.get(),
            Phase::Reading | Phase::Paused | Phase::Ended
        )
    }

    pub(super) fn push(&self, bytes: Bytes) {
        self.queue.borrow_mut().push(bytes);
    }

    /// Moves on to `phase` and lets the task act on it.
    pub(super) fn enter(&self, phase: Phase) {
        if phase == Phase::Gone {
            self.queue.borrow_mut().clear();
        }
        self.phase.set(phase);
        self.wake();
    }

    /// Writes at once what the socket takes, and leaves the rest to the task.
    pub(super) fn write_now(&self, shared: &Shared) {
        if self.backlogged.get() || self.phase.get() == Phase::Gone {
            return;
        }
        if self.write_some(shared) == Poll::Pending {
            self.backlogged.set(true);
            self.wake();
        }
    }

    /// Writes until nothing is left (ready) or the socket takes no more.
    fn write_some(&self, shared: &Shared) -> Poll<()> {
        let mut written = 0;
        let mut queue = self.queue.borrow_mut();
        let result = match &self.tls {
            None => queue.write_to(self.stream(), &mut written),
            Some(tls) => tls.write(&mut queue, self.stream(), &mut written),
        };
        drop(queue);
        if written > 0 && self.is_reported() {
            shared.flushed(self, written);
        }
        match result {
            Ok(Progress::Drained) => Poll::Ready(()),
            Ok(Progress::Blocked) => Poll::Pending,
            Err(_) => {
                shared.lost(self);
                Poll::Ready(())
            }
        }
    }

    /// Ready once nothing waits to be sent.
    fn poll_backlog(&self, cx: &mut Context<'_>, shared: &Shared) -> Poll<()> {
        while self.backlogged.get() && self.phase.get() != Phase::Gone {
            if ready!(self.stream().poll_write_ready(cx)).is_err() {
                shared.lost(self);
            } else if self.write_some(shared).is_ready() {
                self.backlogged.set(false);
                shared.wake.wake();
            }
        }
        Poll::Ready(())
    }

    /// Takes in what the socket had.
    fn take_in(&self, bytes: &[u8], shared: &Shared) {
        match &self.tls {
            None => shared.received(self.id, Bytes::copy_from_slice(bytes)),
            Some(tls) => self.decrypt(tls, bytes, shared),
        }
    }

    /// Takes in records, or what is left of those that came with the handshake.
    pub(super) fn decrypt(&self, tls: &Session, records: &[u8], shared: &Shared) {
        match tls.decrypt(records) {
            Ok(found) => {
                if !found.plain.is_empty() {
                    shared.received(self.id, found.plain.into());
                }
                if found.answers {
                    self.write_now(shared);
                }
                if found.ended && self.phase.get() == Phase::Reading {
                    self.ended.set(true);
                    shared.ended(self);
                }
            }
            Err(reason) => {
                shared.broken(self, &reason);
                // The alert, so that the peer knows it too.
                self.write_now(shared);
                shared.lost(self);
            }
        }
    }

    pub(super) fn tls(&self) -> Option<&Session> {
        self.tls.as_deref()
    }

    fn stream(&self) -> &TcpStream {
        self.write.as_ref()
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    fn register(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker
            .as_ref()
            .is_some_and(|known| known.will_wake(cx.waker()))
        {
            *waker = Some(cx.waker().clone());
        }
    }
}

/// The task of one connection, from its opening until its socket is given back.
pub(super) async fn serve(
    shared: Rc<Shared>,
    link: Rc<Link>,
    mut read: OwnedReadHalf,
    _socket: SocketCount,
) {
    loop {
        match link.phase.get() {
            Phase::Reading => {
                poll_fn(|cx| poll_reading(cx, &shared, &link, &mut read)).await;
            }
            phase @ (Phase::Paused | Phase::Ended) => sit_out(phase, &shared, &link, &read).await,
            // Boxed, for its timers would be the largest part of an idle connection.
            Phase::Closing => return Box::pin(finish(&shared, &link, &mut read)).await,
            Phase::Gone => return,
        }
    }
}

/// Reads what there is; ready when the phase is another.
fn poll_reading(
    cx: &mut Context<'_>,
    shared: &Shared,
    link: &Link,
    read: &mut OwnedReadHalf,
) -> Poll<()> {
    link.register(cx);
    // Only its effects matter here: reading goes on beside it.
    let _ = link.poll_backlog(cx, shared);
    while link.phase.get() == Phase::Reading {
        let mut buffer = shared.read_buffer.borrow_mut();
        let mut buffer = ReadBuf::new(&mut buffer);
        match ready!(Pin::new(&mut *read).poll_read(cx, &mut buffer)) {
            Err(_) => shared.lost(link),
            Ok(()) if buffer.filled().is_empty() => {
                link.ended.set(true);
                shared.ended(link);
            }
            Ok(()) => {
                link.take_in(buffer.filled(), shared);
                if buffer.remaining() == 0 {
                    // There may be more: let the driver have a step first, which bounds both what
                    // waits for it and how far a link overshoots its pause.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
        }
    }
    Poll::Ready(())
}

/// Sends but does not read, until the phase is another. A peer that merely closed is noticed when
/// there is something to read or write again; one that reset the connection, at once.
async fn sit_out(phase: Phase, shared: &Shared, link: &Link, read: &OwnedReadHalf) {
    let mut reset = pin!(read.ready(Interest::ERROR));
    poll_fn(|cx| {
        link.register(cx);
        let _ = link.poll_backlog(cx, shared);
        if link.phase.get() != phase {
            return Poll::Ready(());
        }
        let _ = ready!(reset.as_mut().poll(cx));
        shared.lost(link);
        Poll::Ready(())
    })
    .await;
}

/// Sends what is left, says so to the peer, and waits a little for it to close as well.
async fn finish(shared: &Shared, link: &Link, read: &mut OwnedReadHalf) {
    let sent = timeout(FLUSH_MAX, async {
        poll_fn(|cx| link.poll_backlog(cx, shared)).await;
        if let Some(tls) = &link.tls {
            tls.say_end();
            link.write_now(shared);
            poll_fn(|cx| link.poll_backlog(cx, shared)).await;
        }
    })
    .await;
    if sent.is_err() || link.phase.get() == Phase::Gone {
        return;
    }
    let shut = SockRef::from(link.stream()).shutdown(Shutdown::Write);
    if shut.is_ok() && !link.ended.get() {
        let _ = timeout(LINGER_MAX, discard(shared, read)).await;
    }
}

async fn discard(shared: &Shared, read: &mut OwnedReadHalf) {
    let mut discarded = 0;
    while discarded < LINGER_BYTES_MAX {
        let count = poll_fn(|cx| {
            let mut buffer = shared.read_buffer.borrow_mut();
            let mut buffer = ReadBuf::new(&mut buffer);
            let result = ready!(Pin::new(&mut *read).poll_read(cx, &mut buffer));
            Poll::Ready(result.map_or(0, |()| buffer.filled().len()))
        })
        .await;
        if count == 0 {
            return;
        }
        discarded += count;
    }
}

/// Counts a socket from its opening for as long as its task lives.
pub(super) struct SocketCount {
    shared: Rc<Shared>,
    port: Port,
    id: LinkId,
}

impl SocketCount {
    pub(super) fn new(shared: Rc<Shared>, port: Port, id: LinkId) -> Self {
        shared.socket_opened(port);
        Self { shared, port, id }
    }
}

impl Drop for SocketCount {
    fn drop(&mut self) {
        self.shared.socket_closed(self.port, self.id);
    }
}
