//! A driver on a thread of its own, and a client's socket.

use core::error::Error;
use core::future::pending;
use core::net::SocketAddr;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use tokio::sync::oneshot;
use zabra::net::{Gauges, ListenOptions, Listeners, PeerOptions};
use zabra::server::driver::{Driver, DriverError, Ended, Inbox, Lanes};
use zabra_core::ids::Seq;
use zabra_core::server::{Event, HostFacts, Input, SnapshotOp, StoreOp};
use zabra_core::zab::MembershipOp;

use super::echo::{Echo, Watch};

/// A lane whose disk is as slow as the test wants: one permit makes one handover durable.
struct Disk {
    handovers: Sender<Seq>,
    count: Arc<AtomicUsize>,
}

impl Lanes for Disk {
    fn store(&mut self, ops: &mut Vec<(Seq, StoreOp)>) {
        self.count.fetch_add(1, Ordering::SeqCst);
        let (last, _) = ops.drain(..).next_back().expect("handovers are not empty");
        self.handovers.send(last).unwrap();
    }

    fn snapshot(&mut self, _: &mut Vec<SnapshotOp>) {}
}

fn disk(handovers: &Receiver<Seq>, permits: &Receiver<()>, inbox: &Inbox) {
    while let Ok(upto) = handovers.recv() {
        if permits.recv().is_err() {
            return;
        }
        inbox.push(Input::Stored { upto });
    }
}

/// Where memberships are written, while there is room.
#[derive(Default)]
pub(crate) struct Members {
    pub(crate) written: Vec<MembershipOp>,
    pub(crate) full: bool,
}

impl Members {
    fn member(&mut self, op: MembershipOp) -> Result<(), Box<dyn Error + Send + Sync>> {
        if self.full {
            return Err("no room for zoo.cfg.dynamic".into());
        }
        self.written.push(op);
        Ok(())
    }
}

pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) watch: Arc<Watch>,
    pub(crate) gauges: Arc<Gauges>,
    pub(crate) inbox: Inbox,
    /// Lets a step go on that a `BLOCK` frame holds up.
    pub(crate) unblock: Sender<()>,
    /// Lets one handover become durable.
    pub(crate) permit: Sender<()>,
    pub(crate) handovers: Arc<AtomicUsize>,
    pub(crate) events: Receiver<Event>,
    pub(crate) warnings: Arc<Mutex<Vec<String>>>,
    pub(crate) members: Arc<Mutex<Members>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<Ended, DriverError>>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(|| HostFacts {
            open_files: 42,
            ..HostFacts::default()
        })
    }

    pub(crate) fn start_with(facts: impl FnMut() -> HostFacts + Send + 'static) -> Self {
        let listeners = bind(ListenOptions::default());
        Self::start_on(listeners, PeerOptions::default(), facts)
    }

    /// With clients' sockets that listen already.
    pub(crate) fn start_peer(listeners: Listeners, peers: PeerOptions) -> Self {
        Self::start_on(listeners, peers, HostFacts::default)
    }

    fn start_on(
        listeners: Listeners,
        peers: PeerOptions,
        facts: impl FnMut() -> HostFacts + Send + 'static,
    ) -> Self {
        let addr = listeners.local_addrs()[0];
        let (unblock, blocked) = channel();
        let (permit, permits) = channel();
        let (events, heard) = channel();
        let (handovers, handed) = channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let inbox = Inbox::new();
        let lane = inbox.clone();
        thread::spawn(move || disk(&handed, &permits, &lane));
        let mut server = Self {
            addr,
            watch: Arc::default(),
            gauges: Arc::default(),
            inbox: inbox.clone(),
            unblock,
            permit,
            handovers: Arc::default(),
            events: heard,
            warnings: Arc::default(),
            members: Arc::default(),
            stop: Some(stop),
            thread: None,
        };
        let warnings = Arc::clone(&server.warnings);
        let members = Arc::clone(&server.members);
        let (watch, gauges) = (Arc::clone(&server.watch), Arc::clone(&server.gauges));
        let lanes = Disk {
            handovers,
            count: Arc::clone(&server.handovers),
        };
        server.thread = Some(thread::spawn(move || {
            let driver = Driver {
                machine: Echo::new(watch, blocked),
                lanes,
                listeners,
                peers,
                inbox,
                members: Box::new(move |op| members.lock().unwrap().member(op)),
                facts,
                events: move |event| events.send(event).unwrap(),
                warnings: Box::new(move |line| warnings.lock().unwrap().push(line)),
                gauges,
            };
            driver.run(async {
                if stopped.await.is_err() {
                    pending::<()>().await;
                }
            })
        }));
        server
    }

    pub(crate) fn connect(&self) -> Client {
        let socket = TcpStream::connect(self.addr).unwrap();
        socket.set_nodelay(true).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Client { socket }
    }

    pub(crate) fn ask_to_stop(&mut self) {
        self.stop.take().expect("stopped once").send(()).unwrap();
    }

    /// What the driver's thread ended with; a panic if it panicked.
    pub(crate) fn end(&mut self) -> Result<Ended, DriverError> {
        let thread = self.thread.take().expect("ended once");
        thread.join().expect("the driver does not panic")
    }

    pub(crate) fn panicked(&mut self) -> bool {
        self.thread.take().expect("ended once").join().is_err()
    }

    pub(crate) fn until_no_sockets(&self) {
        let start = Instant::now();
        while self.gauges.sockets() > 0 {
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "{:?}",
                self.gauges
            );
            thread::park_timeout(Duration::from_millis(1));
        }
        assert_eq!(self.gauges.links(), 0);
    }
}

/// Listens on a free port.
pub(crate) fn bind(options: ListenOptions) -> Listeners {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    Listeners::bind(&[any], options).unwrap()
}

pub(crate) struct Client {
    pub(crate) socket: TcpStream,
}

impl Client {
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    /// Reads exactly `count` bytes.
    pub(crate) fn take(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.socket.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Reads to the end, which must not be a reset.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.socket.read_to_end(&mut bytes).unwrap();
        bytes
    }

    /// Waits until the server has done everything sent before.
    pub(crate) fn round_trip(&mut self) {
        let echo = frame(super::echo::ECHO, b"there?");
        self.send(&echo);
        assert_eq!(self.take(echo.len()), echo);
    }
}

pub(crate) fn frame(what: u8, rest: &[u8]) -> Vec<u8> {
    let len = u32::try_from(1 + rest.len()).unwrap();
    [&len.to_be_bytes(), [what].as_slice(), rest].concat()
}

pub(crate) fn number(what: u8, number: usize) -> Vec<u8> {
    frame(what, &u32::try_from(number).unwrap().to_be_bytes())
}
