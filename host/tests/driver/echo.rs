//! A machine that makes a driver do everything it can be asked to do.
//!
//! A frame is a length (`u32`, big-endian) and that many bytes, of which the first says what to do.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Condvar, Mutex};

use bytes::{Buf, Bytes, BytesMut};
use zabra_core::Machine;
use zabra_core::ids::{Instant, LinkId, Seq, Zxid};
use zabra_core::link::{Endpoint, LinkInput, LinkOutput, Port};
use zabra_core::machine::Now;
use zabra_core::server::{Event, Input, Output, StoreOp};
use zabra_core::zab::MembershipOp;
use zabra_core::zab::membership::Membership;

/// Answers with the frame itself.
pub(crate) const ECHO: u8 = b'e';
/// Answers with as many zero bytes as the next `u32` says, unframed, at once.
pub(crate) const FLOOD: u8 = b'f';
/// As `FLOOD`, but never with more than [`UNSENT_MAX`] not flushed.
pub(crate) const STREAM: u8 = b's';
/// As `FLOOD`, then closes.
pub(crate) const CLOSE: u8 = b'c';
/// Answers with the frame once it is durable.
pub(crate) const STORE: u8 = b'w';
/// Answers with the frame after as many milliseconds as the next `u32` says.
pub(crate) const TIMER: u8 = b't';
/// Reads no more for as many milliseconds as the next `u32` says, for ever if 0.
pub(crate) const PAUSE: u8 = b'p';
/// Answers with the host's number of open files, a `u64`.
pub(crate) const FACTS: u8 = b'a';
/// Makes an event.
pub(crate) const EVENT: u8 = b'v';
/// Holds the step up until the test says so.
pub(crate) const BLOCK: u8 = b'b';
/// Connects: the port (`e` or `q`), milliseconds (`u32`) and `host:port|host:port…`; sends an
/// [`ECHO`] frame of `early` at once.
pub(crate) const DIAL: u8 = b'd';
/// As `DIAL`, and closes in the same step.
pub(crate) const DIAL_AND_CLOSE: u8 = b'D';
/// Sends what follows on the last link dialled.
pub(crate) const TELL: u8 = b'>';
/// Listens: the port (`e` or `q`) and `host:port|host:port…`.
pub(crate) const LISTEN: u8 = b'l';
/// Has a membership written whose version is the next `u32`, and sends the frame back after that.
pub(crate) const MEMBERS: u8 = b'm';
/// Wants a restart, for the reason that follows.
pub(crate) const RESTART: u8 = b'r';
/// Panics.
pub(crate) const PANIC: u8 = b'!';

pub(crate) const UNSENT_MAX: usize = 1024 * 1024;
pub(crate) const PIECE: usize = 64 * 1024;

#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) opened: usize,
    pub(crate) closed: usize,
    pub(crate) received: usize,
    pub(crate) sent: usize,
    pub(crate) flushed: usize,
    pub(crate) unsent_max: usize,
    /// Steps that did nothing but take reports of flushed bytes.
    pub(crate) flush_steps: usize,
    /// Inputs of links that were closed, or never opened.
    pub(crate) stray: usize,
    /// CPU time of the driver's thread, and bytes received, at each pause and each resume.
    pub(crate) pauses: Vec<(Duration, usize)>,
    /// Links of peers that were accepted, by their ports.
    pub(crate) accepted: Vec<Port>,
    /// Links that were asked for, in this order.
    pub(crate) dialled: Vec<Dialled>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Dialled {
    pub(crate) opened: Option<(Port, SocketAddr)>,
    pub(crate) received: Vec<u8>,
    pub(crate) closed: bool,
}

/// What the machine has seen, for the test to wait on.
#[derive(Default)]
pub(crate) struct Watch {
    seen: Mutex<Seen>,
    changed: Condvar,
}

impl Watch {
    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }

    fn pause(&self) {
        let mut seen = self.seen.lock().unwrap();
        let received = seen.received;
        seen.pauses.push((thread_cpu(), received));
    }

    /// Waits until `done`, and fails after 20 s.
    pub(crate) fn until(&self, what: &str, done: impl Fn(&Seen) -> bool) -> Seen {
        let seen = self.seen.lock().unwrap();
        let timeout = Duration::from_secs(20);
        let (seen, late) = self
            .changed
            .wait_timeout_while(seen, timeout, |s| !done(s))
            .unwrap();
        assert!(!late.timed_out(), "waited in vain until {what}: {seen:?}");
        seen.clone()
    }
}

#[derive(Default)]
struct Link {
    unread: BytesMut,
    unsent: usize,
    to_stream: usize,
}

pub(crate) struct Echo {
    watch: Arc<Watch>,
    unblock: Receiver<()>,
    links: BTreeMap<LinkId, Link>,
    timers: Vec<(Instant, LinkId, Bytes)>,
    stores: Vec<(Seq, LinkId, Bytes)>,
    last: Seq,
}

impl Echo {
    pub(crate) fn new(watch: Arc<Watch>, unblock: Receiver<()>) -> Self {
        Self {
            watch,
            unblock,
            links: BTreeMap::new(),
            timers: Vec::new(),
            stores: Vec::new(),
            last: Seq(0),
        }
    }

    fn link(&mut self, id: LinkId, input: LinkInput, now: Now, out: &mut Vec<Output>) {
        if id >= LinkId::DIALLED {
            return self.dialled(id, input);
        }
        if let LinkInput::Opened { port, .. } = input {
            let mut seen = self.watch.seen.lock().unwrap();
            seen.opened += 1;
            if port != Port::Client {
                seen.accepted.push(port);
            }
            self.links.insert(id, Link::default());
            return;
        }
        let Some(link) = self.links.get_mut(&id) else {
            self.watch.seen.lock().unwrap().stray += 1;
            return;
        };
        match input {
            LinkInput::Opened { .. } | LinkInput::Secured { .. } => {}
            LinkInput::Received(bytes) => {
                self.watch.seen.lock().unwrap().received += bytes.len();
                link.unread.extend_from_slice(&bytes);
                while let Some(frame) = self.frame(id) {
                    self.act(id, frame, now, out);
                }
            }
            LinkInput::Flushed(count) => {
                self.watch.seen.lock().unwrap().flushed += count;
                link.unsent = link
                    .unsent
                    .checked_sub(count)
                    .expect("flushed what was sent");
                self.stream(id, out);
            }
            LinkInput::Closed => {
                self.watch.seen.lock().unwrap().closed += 1;
                self.links.remove(&id);
            }
        }
    }

    fn dialled(&self, id: LinkId, input: LinkInput) {
        let mut seen = self.watch.seen.lock().unwrap();
        let index = usize::try_from(id.0 - LinkId::DIALLED.0).unwrap();
        let Some(dialled) = seen.dialled.get_mut(index) else {
            panic!("{id:?} was never asked for: {input:?}");
        };
        assert!(!dialled.closed, "after the end of {id:?}: {input:?}");
        match input {
            LinkInput::Opened { port, peer } => {
                assert_eq!(dialled.opened, None);
                dialled.opened = Some((port, peer));
            }
            LinkInput::Received(bytes) => dialled.received.extend_from_slice(&bytes),
            LinkInput::Flushed(_) => assert!(dialled.opened.is_some()),
            LinkInput::Secured { .. } => {}
            LinkInput::Closed => dialled.closed = true,
        }
    }

    fn dial(&self, frame: &[u8], out: &mut Vec<Output>) -> LinkId {
        let mut seen = self.watch.seen.lock().unwrap();
        let id = LinkId(LinkId::DIALLED.0 + seen.dialled.len() as u64);
        seen.dialled.push(Dialled::default());
        let dial = LinkOutput::Dial {
            port: port(frame[1]),
            to: endpoints(&frame[6..]),
            timeout_ms: u32::from_be_bytes(frame[2..6].try_into().unwrap()),
        };
        out.push(Output::Link(id, dial));
        let early = Bytes::from_static(b"\0\0\0\x06eearly");
        out.push(Output::Link(id, LinkOutput::Send(early)));
        id
    }

    fn frame(&mut self, id: LinkId) -> Option<Bytes> {
        let unread = &mut self.links.get_mut(&id)?.unread;
        let len = u32::from_be_bytes(unread.get(..4)?.try_into().unwrap()) as usize;
        if unread.len() < 4 + len {
            return None;
        }
        unread.advance(4);
        Some(unread.split_to(len).freeze())
    }

    fn act(&mut self, id: LinkId, frame: Bytes, now: Now, out: &mut Vec<Output>) {
        let number = frame
            .get(1..5)
            .map_or(0, |n| u32::from_be_bytes(n.try_into().unwrap()));
        let number = number as usize;
        let after = now.instant.plus_ms(number as u64);
        match frame[0] {
            ECHO => self.reply(id, &frame, out),
            FLOOD => self.flood(id, number, out),
            STREAM => {
                self.links.get_mut(&id).unwrap().to_stream += number;
                self.stream(id, out);
            }
            CLOSE => {
                self.flood(id, number, out);
                out.push(Output::Link(id, LinkOutput::Close));
                self.links.remove(&id);
            }
            STORE => {
                self.last.0 += 1;
                let op = StoreOp::Append {
                    zxid: Zxid(1),
                    txn: frame.clone(),
                };
                out.push(Output::Store(self.last, op));
                self.stores.push((self.last, id, frame));
            }
            TIMER => self.timers.push((after, id, frame)),
            PAUSE => {
                self.watch.pause();
                out.push(Output::Link(id, LinkOutput::Pause));
                if number > 0 {
                    self.timers.push((after, id, frame));
                }
            }
            FACTS => out.push(Output::AskFacts(id)),
            EVENT => out.push(Output::Event(Event::DigestMismatch { zxid: Zxid(7) })),
            BLOCK => {
                self.watch.changed.notify_all();
                self.unblock.recv_timeout(Duration::from_secs(20)).unwrap();
            }
            DIAL => {
                self.dial(&frame, out);
            }
            DIAL_AND_CLOSE => {
                let id = self.dial(&frame, out);
                out.push(Output::Link(id, LinkOutput::Close));
            }
            TELL => {
                let last = self.watch.seen.lock().unwrap().dialled.len() as u64 - 1;
                let id = LinkId(LinkId::DIALLED.0 + last);
                out.push(Output::Link(id, LinkOutput::Send(frame.slice(1..))));
            }
            LISTEN => out.push(Output::Listen(port(frame[1]), endpoints(&frame[2..]))),
            MEMBERS => {
                self.reply(id, &frame, out);
                let membership = Membership {
                    version: number as i64,
                    ..Membership::default()
                };
                out.push(Output::Membership(MembershipOp::Active(membership)));
            }
            RESTART => {
                let reason = String::from_utf8(frame[1..].to_vec()).unwrap();
                out.push(Output::Restart(reason));
            }
            PANIC => panic!("as the frame wants"),
            other => panic!("no such frame: {other}"),
        }
    }

    fn reply(&mut self, id: LinkId, frame: &[u8], out: &mut Vec<Output>) {
        let mut bytes = BytesMut::with_capacity(4 + frame.len());
        bytes.extend_from_slice(&u32::try_from(frame.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(frame);
        self.send(id, bytes.freeze(), out);
    }

    fn flood(&mut self, id: LinkId, mut left: usize, out: &mut Vec<Output>) {
        while left > 0 {
            let piece = Bytes::from_static(&[0; PIECE]).slice(..left.min(PIECE));
            left -= piece.len();
            self.send(id, piece, out);
        }
    }

    fn stream(&mut self, id: LinkId, out: &mut Vec<Output>) {
        while let Some(link) = self.links.get_mut(&id) {
            let count = link.to_stream.min(PIECE);
            if count == 0 || link.unsent + count > UNSENT_MAX {
                return;
            }
            link.to_stream -= count;
            self.send(id, Bytes::from_static(&[0; PIECE]).slice(..count), out);
        }
    }

    fn send(&mut self, id: LinkId, bytes: Bytes, out: &mut Vec<Output>) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        link.unsent += bytes.len();
        let mut seen = self.watch.seen.lock().unwrap();
        seen.sent += bytes.len();
        seen.unsent_max = seen.unsent_max.max(link.unsent);
        out.push(Output::Link(id, LinkOutput::Send(bytes)));
    }
}

impl Machine for Echo {
    type Input = Input;
    type Output = Output;

    fn step(
        &mut self,
        now: Now,
        inputs: &mut Vec<Input>,
        outputs: &mut Vec<Output>,
    ) -> Option<Instant> {
        let flush_only = !inputs.is_empty()
            && inputs
                .iter()
                .all(|i| matches!(i, Input::Link(_, LinkInput::Flushed(_))));
        self.watch.seen.lock().unwrap().flush_steps += usize::from(flush_only);
        for input in inputs.drain(..) {
            match input {
                Input::Link(id, input) => self.link(id, input, now, outputs),
                Input::Stored { upto } => {
                    let stores = core::mem::take(&mut self.stores);
                    let (done, left) = stores.into_iter().partition(|(seq, ..)| *seq <= upto);
                    self.stores = left;
                    let done: Vec<_> = done;
                    done.iter()
                        .for_each(|(_, id, frame)| self.reply(*id, frame, outputs));
                }
                Input::Facts(id, facts) if self.links.contains_key(&id) => {
                    self.send(id, facts.open_files.to_be_bytes().to_vec().into(), outputs);
                }
                Input::Facts(..) => self.watch.seen.lock().unwrap().stray += 1,
                other => panic!("unexpected {other:?}"),
            }
        }
        let timers = core::mem::take(&mut self.timers);
        let (due, left) = timers.into_iter().partition(|(at, ..)| *at <= now.instant);
        self.timers = left;
        let due: Vec<_> = due;
        for (_, id, frame) in due {
            if frame[0] == PAUSE {
                self.watch.pause();
                outputs.push(Output::Link(id, LinkOutput::Resume));
            } else {
                self.reply(id, &frame, outputs);
            }
        }
        self.watch.changed.notify_all();
        self.timers.iter().map(|(at, ..)| *at).min()
    }
}

fn port(byte: u8) -> Port {
    match byte {
        b'e' => Port::Election,
        b'q' => Port::Quorum,
        other => panic!("no such port: {other}"),
    }
}

fn endpoints(text: &[u8]) -> Vec<Endpoint> {
    let text = core::str::from_utf8(text).unwrap();
    let parts = text.split('|').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (host, port) = part.rsplit_once(':').unwrap();
            Endpoint {
                host: host.trim_matches(['[', ']']).to_owned(),
                port: port.parse().unwrap(),
            }
        })
        .collect()
}

/// CPU time of the thread that calls, zero where the system does not say.
fn thread_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = |field| {
        after_name
            .split_whitespace()
            .nth(field)
            .and_then(|t| t.parse().ok())
    };
    let ticks: u64 = ticks(11).unwrap_or(0) + ticks(12).unwrap_or(0);
    Duration::from_millis(ticks * 10)
}
