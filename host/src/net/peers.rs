//! Where peers connect: ports that are opened and closed while the server runs.

use core::cell::RefCell;
use core::error::Error;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use tokio::task::{AbortHandle, spawn_local};
use tokio::time::sleep;
use zabra_core::link::{Endpoint, Port};

use super::links::Links;
use super::listen::{Accepting, ListenOptions, listen};
use super::resolve::Resolver;
use super::securing::{Accept, PeerTls};

/// How connections between servers are had.
#[derive(Clone, Debug)]
pub struct PeerOptions {
    /// Whether the kernel probes idle connections (`zookeeper.tcpKeepAlive`).
    pub keep_alive: bool,
    /// Connections that may be open at once on both ports before more are closed as they come.
    /// `None` is no limit but the system's.
    pub sockets_max: Option<usize>,
    /// How often to try to listen for elections before the server ends
    /// (`zookeeper.electionPortBindRetry`); 0 is for ever.
    pub bind_attempts: u32,
    /// How long to wait in between.
    pub bind_pause: Duration,
    /// TLS between servers; `None`: it is plain.
    pub tls: Option<PeerTls>,
}

impl Default for PeerOptions {
    /// Source: ZooKeeper `QuorumCnxManager.Listener`.
    fn default() -> Self {
        Self {
            keep_alive: false,
            sockets_max: None,
            bind_attempts: 3,
            bind_pause: Duration::from_secs(1),
            tls: None,
        }
    }
}

/// An address for peers cannot be listened on.
#[derive(Debug)]
pub struct PeerBindError {
    /// For what.
    pub port: Port,
    /// As the configuration says it.
    pub endpoint: Endpoint,
    /// What the system says.
    pub source: io::Error,
}

impl fmt::Display for PeerBindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            port,
            endpoint,
            source,
        } = self;
        let what = match port {
            Port::Client => "clients",
            Port::Election => "elections",
            Port::Quorum => "learners",
        };
        write!(f, "cannot listen for {what} on {endpoint}: {source}")
    }
}

impl Error for PeerBindError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

/// The ports on which peers are accepted at the moment.
pub(crate) struct PeerPorts {
    links: Links,
    fail: Rc<dyn Fn(PeerBindError)>,
    open: BTreeMap<(Port, Endpoint), Opening>,
}

/// A port that is open, or will be. Dropped, it is not, at once.
struct Opening {
    accepting: Rc<RefCell<Vec<Accepting>>>,
    task: AbortHandle,
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.task.abort();
        self.accepting.take();
    }
}

impl PeerPorts {
    /// None yet. `fail` hears that the server cannot go on because it cannot listen.
    pub(crate) fn new(links: &Links, fail: Rc<dyn Fn(PeerBindError)>) -> Self {
        Self {
            links: links.clone(),
            fail,
            open: BTreeMap::new(),
        }
    }

    /// Accepts at `endpoints` for `port` and nowhere else, soon. What stays is not touched.
    pub(crate) fn listen(&mut self, port: Port, endpoints: Vec<Endpoint>) {
        // First, so that an address that is now in another way in the list is free.
        self.open
            .retain(|(open, endpoint), _| *open != port || endpoints.contains(endpoint));
        for endpoint in endpoints {
            let (links, fail) = (&self.links, &self.fail);
            self.open
                .entry((port, endpoint))
                .or_insert_with_key(|(port, endpoint)| {
                    Opening::start(links.clone(), *port, endpoint.clone(), Rc::clone(fail))
                });
        }
    }

    /// Accepts nowhere.
    pub(crate) fn close(&mut self) {
        self.open.clear();
    }
}

impl Opening {
    fn start(
        links: Links,
        port: Port,
        endpoint: Endpoint,
        fail: Rc<dyn Fn(PeerBindError)>,
    ) -> Self {
        let accepting = Rc::new(RefCell::new(Vec::new()));
        let opened = Rc::clone(&accepting);
        let task = spawn_local(async move {
            match open(&links, port, &endpoint).await {
                Ok(sockets) => *opened.borrow_mut() = sockets,
                Err(source) => fail(PeerBindError {
                    port,
                    endpoint,
                    source,
                }),
            }
        });
        Self {
            accepting,
            task: task.abort_handle(),
        }
    }
}

/// Tries until it listens, or until it has tried often enough.
///
/// A leader that cannot listen for learners tries on: it gives up by itself when nobody comes, and
/// another one may be elected.
async fn open(links: &Links, port: Port, endpoint: &Endpoint) -> io::Result<Vec<Accepting>> {
    let peers = links.peers();
    let options = ListenOptions {
        backlog: None,
        keep_alive: peers.keep_alive,
        sockets_max: peers.sockets_max,
        handshakes_max: None,
    };
    let accept = peers
        .tls
        .as_ref()
        .map_or_else(Accept::default, PeerTls::accept);
    let mut attempts = 0_u32;
    loop {
        attempts = attempts.saturating_add(1);
        let sockets = bind(links.resolver(), endpoint, options).await;
        let accepting = sockets.and_then(|sockets| {
            let sockets = sockets.into_iter();
            sockets
                .map(|socket| Accepting::start(socket, port, accept.clone(), options, links))
                .collect()
        });
        let source = match accepting {
            Ok(accepting) => return Ok(accepting),
            Err(source) => source,
        };
        if port == Port::Election && attempts == peers.bind_attempts {
            return Err(source);
        }
        let endpoint = endpoint.clone();
        let error = PeerBindError {
            port,
            endpoint,
            source,
        };
        links.complaints().say(format!("{error}; trying again"));
        sleep(peers.bind_pause).await;
    }
}

/// Listens on every address of an endpoint that this machine has.
async fn bind(
    resolver: &Resolver,
    endpoint: &Endpoint,
    options: ListenOptions,
) -> io::Result<Vec<std::net::TcpListener>> {
    let mut sockets = Vec::new();
    let mut not_here = None;
    for addr in addresses(resolver, endpoint).await? {
        match listen(addr, options) {
            Ok((_, socket)) => sockets.push(socket),
            // A name may have addresses outside, and a machine may have but one of the two
            // families.
            Err(error) if is_not_here(&error) => not_here = not_here.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    match not_here {
        Some(error) if sockets.is_empty() => Err(error),
        _ => Ok(sockets),
    }
}

/// The addresses of an endpoint. Java listens with both families on either "any" address.
async fn addresses(resolver: &Resolver, endpoint: &Endpoint) -> io::Result<Vec<SocketAddr>> {
    let found = resolver.resolve(&endpoint.host, endpoint.port).await?;
    if found.iter().any(|addr| addr.ip().is_unspecified()) {
        let both: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        return Ok(both.map(|ip| SocketAddr::new(ip, endpoint.port)).into());
    }
    Ok(found)
}

fn is_not_here(error: &io::Error) -> bool {
    // Without IPv6 in the kernel there is not even a socket: EAFNOSUPPORT.
    matches!(
        error.kind(),
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported
    ) || error.raw_os_error() == Some(AF_NOT_SUPPORTED)
}

/// `EAFNOSUPPORT` of Linux, for which there is no `ErrorKind`.
const AF_NOT_SUPPORTED: i32 = 97;
