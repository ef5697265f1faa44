//! What feeds a server's machine: sockets, the clock, and the lanes of the store.
//!
//! One thread does everything but the disk. Tasks of connections collect what arrived; the driver
//! runs after all that were ready, so that one step serves them all; what the step sends goes out
//! at once, by one call per connection. It is *not* where durability is decided: that is the
//! store's, behind [`Lanes`]. Start reading at [`Driver`].

mod clock;
mod facts;
mod inbox;

use core::error::Error;
use core::fmt;
use core::future::poll_fn;
use core::pin::{Pin, pin};
use core::task::Poll;
use core::time::Duration;
use std::io;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::sync::Arc;

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::task::{spawn_local, yield_now};
use zabra_core::Machine;
use zabra_core::ids::{Instant, LinkId, Seq};
use zabra_core::server::{Event, HostFacts, Input, Output, SnapshotOp, StoreOp};
use zabra_core::zab::MembershipOp;

use crate::net::{Accepting, Gauges, Links, Listeners, PeerBindError, PeerOptions, PeerPorts};

use clock::{Clock, Timer};
use facts::Facts;
pub use inbox::Inbox;
use inbox::Request;

/// How long a stop waits for the store to finish what it was handed.
const STORE_MAX: Duration = Duration::from_secs(5);

/// How long a stop then waits for the connections to take their last bytes.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// Names that are looked up at the same time; others wait for these.
const LOOKUP_THREADS_MAX: usize = 32;

/// The store's side of a driver: hands operations to the threads that perform them, and returns at
/// once.
///
/// Those threads report through an [`Inbox`].
pub trait Lanes {
    /// Hands over all that one step wants of the log, in order, draining `ops`.
    fn store(&mut self, ops: &mut Vec<(Seq, StoreOp)>);

    /// Hands over all that one step wants of the snapshot, in order, draining `ops`.
    fn snapshot(&mut self, ops: &mut Vec<SnapshotOp>);
}

/// What [`Driver::members`] is.
pub type MembersHook = Box<dyn FnMut(MembershipOp) -> Result<(), Box<dyn Error + Send + Sync>>>;

/// A server's machine with all that it needs.
pub struct Driver<M, L, F, E> {
    /// The server.
    pub machine: M,
    /// Where its store is.
    pub lanes: L,
    /// Where its clients connect.
    pub listeners: Listeners,
    /// How connections between servers are had.
    pub peers: PeerOptions,
    /// Where other threads leave inputs; clones of it.
    pub inbox: Inbox,
    /// Makes a membership durable; what follows from it is sent after that. If it fails, the
    /// server cannot go on: at the next start it would count votes as they once were.
    pub members: MembersHook,
    /// Tells what only the host knows; called on a thread of its own.
    pub facts: F,
    /// Hears the machine's events, after the outputs of the same step.
    pub events: E,
    /// Hears, as a line for a log, what is wrong with the host; at most a line a minute for each
    /// address.
    pub warnings: Box<dyn Fn(String)>,
    /// What is counted.
    pub gauges: Arc<Gauges>,
}

/// How a driver ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The machine asked to be dropped and made anew from what is on disk, for this reason. Every
    /// connection is closed.
    Restart(String),
    /// It was told to stop.
    Stopped,
}

/// What a driver runs in. It must be given up by
/// [`shutdown_background`](LocalRuntime::shutdown_background): a lookup of a name cannot be
/// cancelled, and must not be waited for.
///
/// # Errors
///
/// When the system refuses what it needs.
pub fn runtime() -> Result<LocalRuntime, DriverError> {
    Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(LOOKUP_THREADS_MAX)
        .build_local(LocalOptions::default())
        .map_err(DriverError::Io)
}

/// Why a driver ended by itself.
#[derive(Debug)]
#[non_exhaustive]
pub enum DriverError {
    /// The system refused what the driver's thread needs.
    Io(io::Error),
    /// Peers cannot reach this server.
    Bind(PeerBindError),
    /// Something without which the server cannot go on, as [`Inbox::fail`] reported it.
    Lane(Box<dyn Error + Send + Sync>),
}

impl<M, L, F, E> Driver<M, L, F, E>
where
    M: Machine<Input = Input, Output = Output> + 'static,
    L: Lanes + 'static,
    F: FnMut() -> HostFacts + Send + 'static,
    E: FnMut(Event) + 'static,
{
    /// Serves in a runtime of its own; see [`Driver::serve`].
    ///
    /// # Errors
    ///
    /// As [`Driver::serve`], or when the runtime cannot be had.
    ///
    /// # Panics
    ///
    /// As [`Driver::serve`].
    pub fn run(self, stop: impl Future<Output = ()>) -> Result<Ended, DriverError> {
        let runtime = runtime()?;
        let ended = runtime.block_on(self.serve(pin!(stop)));
        runtime.shutdown_background();
        ended
    }

    /// Serves until `stop` is ready or the machine wants a restart, on this thread and no other.
    ///
    /// To stop, it accepts and reads no more, waits for the store to finish what it was handed (at
    /// most 5 s), sends the replies that follow from that and closes every connection (at most
    /// another 5 s). A snapshot being written is not waited for.
    ///
    /// For a restart it hands to the store what the last step wanted, closes every connection at
    /// once and drops the machine. The store is not waited for, and `stop` may go on with the next
    /// driver in the same runtime.
    ///
    /// # Errors
    ///
    /// By [`Inbox::fail`], or when a port cannot be listened on.
    ///
    /// # Panics
    ///
    /// Outside a `LocalRuntime`, or when the machine panics. Nothing of that step has been
    /// performed.
    pub async fn serve(
        self,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Ended, DriverError> {
        let inbox = self.inbox.clone();
        let warnings: Rc<dyn Fn(String)> = Rc::from(self.warnings);
        let links = Links::new(Arc::clone(&self.gauges), Rc::clone(&warnings), self.peers);
        let accepting = self.listeners.accept(&links).map_err(DriverError::Io)?;
        let fail = inbox.clone();
        let peers = PeerPorts::new(&links, Rc::new(move |error| fail.fail(error)));
        let stepper = Stepper {
            accepting,
            peers,
            members: self.members,
            restart: None,
            failure: None,
            machine: self.machine,
            lanes: self.lanes,
            facts: Facts::new(self.facts, inbox.clone()),
            inbox: inbox.clone(),
            events: self.events,
            warnings,
            gauges: self.gauges,
            links,
            clock: Clock::start(),
            timer: Timer::new(),
            stage: Stage::Serving,
            next: None,
            handed: Seq(0),
            stored: Seq(0),
            inputs: Vec::new(),
            batch: Batch::default(),
        };
        // A task, and not this future: tasks run in the order of their wake-ups, so it comes after
        // all connections that were ready before it.
        let mut serving = spawn_local(stepper.run());
        let mut stopping = false;
        let ended = poll_fn(|cx| {
            if !stopping && stop.as_mut().poll(cx).is_ready() {
                stopping = true;
                inbox.stop();
            }
            Pin::new(&mut serving).poll(cx)
        });
        match ended.await {
            Ok(result) => result,
            Err(error) => resume_unwind(error.into_panic()),
        }
    }
}

impl fmt::Display for DriverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "cannot start the network's thread: {error}"),
            Self::Bind(error) => error.fmt(f),
            Self::Lane(failure) => write!(f, "the server cannot go on: {failure}"),
        }
    }
}

impl Error for DriverError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Bind(error) => Some(error),
            Self::Lane(failure) => Some(&**failure),
        }
    }
}

/// The driver's task.
struct Stepper<M, L, F, E> {
    machine: M,
    lanes: L,
    facts: Facts<F>,
    inbox: Inbox,
    events: E,
    warnings: Rc<dyn Fn(String)>,
    gauges: Arc<Gauges>,
    links: Links,
    accepting: Vec<Accepting>,
    peers: PeerPorts,
    /// Why the machine wants to be made anew.
    restart: Option<String>,
    members: MembersHook,
    /// Why nothing more may be performed.
    failure: Option<Box<dyn Error + Send + Sync>>,
    clock: Clock,
    timer: Timer,
    stage: Stage,
    /// When the machine wants to be stepped.
    next: Option<Instant>,
    /// The last operation that the log's lane was handed, and the last it has finished.
    handed: Seq,
    stored: Seq,
    inputs: Vec<Input>,
    batch: Batch,
}

/// Room for what one step brings, kept from step to step.
#[derive(Default)]
struct Batch {
    outputs: Vec<Output>,
    store: Vec<(Seq, StoreOp)>,
    snapshot: Vec<SnapshotOp>,
    events: Vec<Event>,
    answered: Vec<LinkId>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Serving,
    /// Stopping, until the store is done.
    Storing {
        until: Instant,
    },
    /// Stopping, until the connections are.
    Closing {
        until: Instant,
    },
}

impl<M, L, F, E> Stepper<M, L, F, E>
where
    M: Machine<Input = Input, Output = Output>,
    L: Lanes,
    F: FnMut() -> HostFacts + Send + 'static,
    E: FnMut(Event),
{
    async fn run(mut self) -> Result<Ended, DriverError> {
        // The machine's first timers are known only after a first step.
        self.step();
        loop {
            if let Some(failure) = self.failure.take() {
                return Err(failed(failure));
            }
            if let Some(reason) = self.restart.take() {
                self.abandon().await;
                return Ok(match self.stage {
                    Stage::Serving => Ended::Restart(reason),
                    Stage::Storing { .. } | Stage::Closing { .. } => Ended::Stopped,
                });
            }
            self.links.report_ends();
            if self.advance_stop() {
                return Ok(Ended::Stopped);
            }
            self.wait().await;
            match self.take_inputs() {
                Request::Nothing => {}
                Request::Stop => self.begin_stop(),
                Request::Fail(failure) => return Err(failed(failure)),
            }
            if !self.inputs.is_empty() || self.next.is_some_and(|at| at <= self.clock.instant()) {
                self.step();
            }
        }
    }

    /// Gives every socket back, at once.
    async fn abandon(&mut self) {
        self.accepting.clear();
        self.peers.close();
        self.links.abandon();
        while self.links.sockets() > 0 {
            yield_now().await;
        }
    }

    /// Waits until there is a reason for a step, having let every other task run at least once.
    async fn wait(&mut self) {
        let deadline = match self.stage {
            Stage::Serving => None,
            Stage::Storing { until } | Stage::Closing { until } => Some(until),
        };
        let at = match (self.next, deadline) {
            (Some(next), Some(deadline)) => Some(next.min(deadline)),
            (next, deadline) => next.or(deadline),
        };
        self.timer.arm(&self.clock, at);
        let mut woken = false;
        let mut yielded = false;
        poll_fn(|cx| {
            woken |= self.links.poll_woken(cx);
            woken |= self.inbox.poll_filled(cx);
            woken |= self.timer.poll(cx).is_ready();
            if woken && yielded {
                return Poll::Ready(());
            }
            if woken {
                // By the last step itself. However often there is a reason to go on, the others are
                // next.
                cx.waker().wake_by_ref();
            }
            yielded = true;
            Poll::Pending
        })
        .await;
    }

    fn take_inputs(&mut self) -> Request {
        self.links.take_inputs(&mut self.inputs, Input::Link);
        let from_links = self.inputs.len();
        let request = self.inbox.take(&mut self.inputs);
        for input in self.inputs.get(from_links..).unwrap_or_default() {
            match input {
                Input::Stored { upto } => self.stored = self.stored.max(*upto),
                Input::Facts(link, _) => self.batch.answered.push(*link),
                Input::Ask(..)
                | Input::Link(..)
                | Input::SnapshotWritten(_)
                | Input::SnapshotStored { .. }
                | Input::SnapshotFailed { .. }
                | Input::Disk(_) => {}
            }
        }
        if !self.batch.answered.is_empty() {
            // Its link may have been closed since it was asked for.
            let links = &self.links;
            self.inputs
                .retain(|input| !matches!(input, Input::Facts(link, _) if !links.is_open(*link)));
        }
        request
    }

    fn step(&mut self) {
        let now = self.clock.now();
        let inputs = self.inputs.len();
        self.next = self
            .machine
            .step(now, &mut self.inputs, &mut self.batch.outputs);
        assert!(self.inputs.is_empty(), "a step drains its inputs");
        let took = self.clock.instant().micros_since(now.instant);
        self.gauges.count_step(inputs, Duration::from_micros(took));
        self.perform();
    }

    fn perform(&mut self) {
        let batch = &mut self.batch;
        for output in batch.outputs.drain(..) {
            match output {
                Output::Link(link, output) => self.links.perform(link, output),
                Output::Store(seq, op) => {
                    assert!(
                        seq > self.handed,
                        "operations of the store are numbered upwards"
                    );
                    self.handed = seq;
                    batch.store.push((seq, op));
                }
                Output::Snapshot(op) => batch.snapshot.push(op),
                Output::Membership(op) => {
                    if let Err(failure) = (self.members)(op) {
                        self.failure = Some(failure);
                        return;
                    }
                }
                // A server that stops wants nobody else.
                Output::Listen(port, endpoints) if self.stage == Stage::Serving => {
                    self.peers.listen(port, endpoints);
                }
                Output::Listen(..) => {}
                Output::Restart(reason) => {
                    self.restart.get_or_insert(reason);
                }
                Output::AskFacts(link) => {
                    self.links.hold(link);
                    self.facts.ask(link);
                }
                Output::Event(event) => batch.events.push(event),
            }
        }
        // The disk first: it takes longest, and works while the replies go out.
        if !batch.store.is_empty() {
            self.lanes.store(&mut batch.store);
            batch.store.clear();
        }
        if !batch.snapshot.is_empty() {
            self.lanes.snapshot(&mut batch.snapshot);
            batch.snapshot.clear();
        }
        self.links.flush();
        batch
            .answered
            .drain(..)
            .for_each(|link| self.links.release(link));
        batch.events.drain(..).for_each(&mut self.events);
    }

    fn begin_stop(&mut self) {
        self.accepting.clear();
        self.peers.close();
        self.links.quiesce();
        self.stage = Stage::Storing {
            until: self.clock.instant_in(STORE_MAX),
        };
    }

    /// Whether stopping is done.
    fn advance_stop(&mut self) -> bool {
        if let Stage::Storing { until } = self.stage {
            let late = self.clock.instant() >= until;
            if self.stored < self.handed && !late {
                return false;
            }
            if self.stored < self.handed {
                let Self { stored, handed, .. } = self;
                (self.warnings)(format!(
                    "stopped before the store was done: operation {} of {} is durable",
                    stored.0, handed.0
                ));
            }
            self.links.close_all();
            self.stage = Stage::Closing {
                until: self.clock.instant_in(CLOSE_MAX),
            };
        }
        match self.stage {
            Stage::Closing { until } => self.links.sockets() == 0 || self.clock.instant() >= until,
            Stage::Serving | Stage::Storing { .. } => false,
        }
    }
}

/// What [`Inbox::fail`] was told.
fn failed(failure: Box<dyn Error + Send + Sync>) -> DriverError {
    match failure.downcast() {
        Ok(error) => DriverError::Bind(*error),
        Err(failure) => DriverError::Lane(failure),
    }
}
