//! Listening sockets, and those of clients.

use core::cell::RefCell;
use core::error::Error;
use core::fmt;
use core::future::poll_fn;
use core::net::SocketAddr;
use core::task::{Poll, ready};
use core::time::Duration;
use std::io;
use std::rc::Rc;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, spawn_local};
use zabra_core::link::Port;

use super::links::Links;
use super::securing::Accept;
use crate::tls::HANDSHAKES_MAX;

/// A burst of clients reconnecting to a restarted server should not be turned away by the kernel.
const BACKLOG_DEFAULT: u32 = 1024;

const BACK_OFF_MIN: Duration = Duration::from_millis(10);
const BACK_OFF_MAX: Duration = Duration::from_secs(1);

/// How to listen, and what accepted sockets get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenOptions {
    /// Connections that may wait to be accepted (`clientPortListenBacklog`); 1024 if `None`.
    pub backlog: Option<u32>,
    /// Whether the kernel probes idle connections (`zookeeper.clientTcpKeepAlive`).
    pub keep_alive: bool,
    /// Connections that may be open at once, all listeners together; more are closed at once.
    /// `None` is no limit but the system's, by which the files of the store may then fail to
    /// open.
    pub sockets_max: Option<usize>,
    /// TLS handshakes that may be under way at once before the oldest is given up
    /// (`zookeeper.netty.server.outstandingHandshake.limit`); `None` is as many as are safe.
    pub handshakes_max: Option<usize>,
}

impl ListenOptions {
    /// Half of the sockets at most: those who go no further than a handshake must not keep out
    /// those who do.
    fn handshakes_max(&self) -> usize {
        let most = self.handshakes_max.unwrap_or(HANDSHAKES_MAX);
        let sockets = self.sockets_max.unwrap_or(usize::MAX);
        most.min((sockets / 2).max(1))
    }
}

/// Sockets that listen already, though nobody accepts on them yet.
#[derive(Debug)]
pub struct Listeners {
    sockets: Vec<(SocketAddr, std::net::TcpListener, Accept)>,
    options: ListenOptions,
}

impl Listeners {
    /// Listens on every one of `addrs`; a port of 0 becomes a free one.
    ///
    /// # Errors
    ///
    /// When one address cannot be listened on; the others are given back.
    pub fn bind(addrs: &[SocketAddr], options: ListenOptions) -> Result<Self, BindError> {
        let mut listeners = Self {
            sockets: Vec::with_capacity(addrs.len()),
            options,
        };
        listeners.add(addrs, &Accept::Plain)?;
        Ok(listeners)
    }

    /// Listens on these as well, for connections of this kind; returns where.
    ///
    /// # Errors
    ///
    /// As [`Listeners::bind`].
    pub fn add(
        &mut self,
        addrs: &[SocketAddr],
        accept: &Accept,
    ) -> Result<Vec<SocketAddr>, BindError> {
        let mut bound = Vec::with_capacity(addrs.len());
        for &addr in addrs {
            let listening = listen(addr, self.options);
            let (addr, socket) = listening.map_err(|source| BindError { addr, source })?;
            bound.push(addr);
            self.sockets.push((addr, socket, accept.clone()));
        }
        Ok(bound)
    }

    /// Where they listen, in the order of binding.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.sockets.iter().map(|(addr, ..)| *addr).collect()
    }

    /// The same sockets once more: they listen until both are dropped.
    ///
    /// # Errors
    ///
    /// When the system has no more descriptors.
    pub fn try_clone(&self) -> io::Result<Self> {
        let sockets = self.sockets.iter();
        let sockets =
            sockets.map(|(addr, socket, accept)| Ok((*addr, socket.try_clone()?, accept.clone())));
        Ok(Self {
            sockets: sockets.collect::<io::Result<_>>()?,
            options: self.options,
        })
    }

    /// Accepts clients, until the values returned are dropped. Inside a `LocalRuntime` only.
    pub(crate) fn accept(self, links: &Links) -> io::Result<Vec<Accepting>> {
        let options = self.options;
        let sockets = self.sockets.into_iter();
        sockets
            .map(|(_, socket, accept)| {
                Accepting::start(socket, Port::Client, accept, options, links)
            })
            .collect()
    }
}

/// An address cannot be listened on.
#[derive(Debug)]
pub struct BindError {
    /// The address.
    pub addr: SocketAddr,
    /// What the system says.
    pub source: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { addr, source } = self;
        if source.kind() == io::ErrorKind::AddrInUse {
            let port = addr.port();
            write!(
                f,
                "cannot listen on {addr}: another process listens on port {port} already"
            )
        } else {
            write!(f, "cannot listen on {addr}: {source}")
        }
    }
}

impl Error for BindError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

pub(super) fn listen(
    addr: SocketAddr,
    options: ListenOptions,
) -> io::Result<(SocketAddr, std::net::TcpListener)> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        // Whatever the system's default is: 0.0.0.0 is an address of its own, on the same port.
        socket.set_only_v6(true)?;
    }
    // Else a restarted server would wait a minute for its own old connections. Windows means
    // something else by this name: there it would let two servers share the port.
    #[cfg(not(windows))]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    let backlog = options.backlog.unwrap_or(BACKLOG_DEFAULT);
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    let listener = std::net::TcpListener::from(socket);
    Ok((listener.local_addr()?, listener))
}

/// A socket on which connections are accepted. Dropped, it does not listen any more, at once.
#[derive(Debug)]
pub(crate) struct Accepting {
    socket: Rc<RefCell<Option<TcpListener>>>,
    task: AbortHandle,
}

impl Accepting {
    pub(super) fn start(
        socket: std::net::TcpListener,
        port: Port,
        accept: Accept,
        options: ListenOptions,
        links: &Links,
    ) -> io::Result<Self> {
        let addr = socket.local_addr()?;
        let socket = Rc::new(RefCell::new(Some(TcpListener::from_std(socket)?)));
        let acceptor = Acceptor {
            socket: Rc::clone(&socket),
            addr,
            port,
            accept,
            options,
            links: links.clone(),
        };
        let task = spawn_local(acceptor.run()).abort_handle();
        Ok(Self { socket, task })
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        // The task goes later. Until then nobody could listen here again.
        self.socket.take();
        self.task.abort();
    }
}

struct Acceptor {
    socket: Rc<RefCell<Option<TcpListener>>>,
    addr: SocketAddr,
    port: Port,
    accept: Accept,
    options: ListenOptions,
    links: Links,
}

impl Acceptor {
    /// Accepts for ever. Whatever fails concerns one connection, or passes once descriptors are
    /// free again (ZOOKEEPER-4203: a server whose acceptor ends is cut off unnoticed).
    async fn run(self) {
        let mut back_off = BACK_OFF_MIN;
        loop {
            match self.next().await {
                Ok((stream, peer)) if self.is_full() => {
                    drop(stream);
                    self.complain_of_full(peer);
                }
                Ok((stream, peer)) => {
                    back_off = BACK_OFF_MIN;
                    // These fail only on a connection that is gone already; its task will notice.
                    let _ = prepare(&stream, self.options.keep_alive);
                    let accept = self.accept.clone();
                    let most = self.options.handshakes_max();
                    self.links.accepted(stream, self.port, peer, accept, most);
                }
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    let addr = self.addr;
                    self.links
                        .complaints()
                        .say(format!("cannot accept on {addr}: {error}"));
                    tokio::time::sleep(back_off).await;
                    back_off = (back_off * 2).min(BACK_OFF_MAX);
                }
            }
        }
    }

    async fn next(&self) -> io::Result<(TcpStream, SocketAddr)> {
        poll_fn(|cx| match &*self.socket.borrow() {
            Some(socket) => Poll::Ready(ready!(socket.poll_accept(cx))),
            // Aborted already.
            None => Poll::Pending,
        })
        .await
    }

    fn is_full(&self) -> bool {
        let most = self.options.sockets_max;
        most.is_some_and(|most| self.links.sockets_of(self.port) >= most)
    }

    fn complain_of_full(&self, peer: SocketAddr) {
        let most = self.options.sockets_max.unwrap_or(usize::MAX);
        let of = match self.port {
            Port::Client => "clients",
            Port::Election | Port::Quorum => "peers",
        };
        let ip = peer.ip();
        self.links.complaints().say(format!(
            "connection from {ip} closed: {most} of {of} are open, more would leave the data too \
             few file descriptors; raise the limit (ulimit -n)"
        ));
    }
}

/// What every connection gets.
pub(super) fn prepare(stream: &TcpStream, keep_alive: bool) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if keep_alive {
        SockRef::from(stream).set_keepalive(true)?;
    }
    Ok(())
}

fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}
