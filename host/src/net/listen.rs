//! Listening sockets.

use core::error::Error;
use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;
use std::io;
use std::time::Instant;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use super::links::Links;

/// A burst of clients reconnecting to a restarted server should not be turned away by the kernel.
const BACKLOG_DEFAULT: u32 = 1024;

/// One line a minute says that accepting fails; a line per attempt would fill a disk.
const WARN_EVERY: Duration = Duration::from_secs(60);

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
}

/// Sockets that listen already, though nobody accepts on them yet.
#[derive(Debug)]
pub struct Listeners {
    sockets: Vec<(SocketAddr, std::net::TcpListener)>,
    options: ListenOptions,
}

impl Listeners {
    /// Listens on every one of `addrs`; a port of 0 becomes a free one.
    ///
    /// # Errors
    ///
    /// When one address cannot be listened on; the others are given back.
    pub fn bind(addrs: &[SocketAddr], options: ListenOptions) -> Result<Self, BindError> {
        let mut sockets = Vec::with_capacity(addrs.len());
        for &addr in addrs {
            sockets.push(listen(addr, options).map_err(|source| BindError { addr, source })?);
        }
        Ok(Self { sockets, options })
    }

    /// Where they listen, in the order of binding.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.sockets.iter().map(|(addr, _)| *addr).collect()
    }

    /// One [`accept`] to spawn for each socket. Inside a runtime only.
    pub(crate) fn into_tasks<W: Fn(String) + Clone>(
        self,
        links: &Links,
        warn: W,
    ) -> io::Result<Vec<impl Future<Output = ()> + use<W>>> {
        let mut tasks = Vec::with_capacity(self.sockets.len());
        for (addr, socket) in self.sockets {
            let listener = TcpListener::from_std(socket)?;
            tasks.push(accept(
                listener,
                addr,
                self.options,
                links.clone(),
                warn.clone(),
            ));
        }
        Ok(tasks)
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

fn listen(
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

/// Accepts for ever. Whatever fails concerns one connection, or passes once descriptors are free
/// again.
async fn accept(
    listener: TcpListener,
    addr: SocketAddr,
    options: ListenOptions,
    links: Links,
    warn: impl Fn(String),
) {
    let mut back_off = BACK_OFF_MIN;
    let mut warned: Option<Instant> = None;
    let mut failures = 0_u64;
    loop {
        match listener.accept().await {
            Ok((stream, peer))
                if options
                    .sockets_max
                    .is_some_and(|most| links.sockets() >= most) =>
            {
                drop(stream);
                failures += 1;
                if warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
                    warned = Some(Instant::now());
                    let open = links.sockets();
                    warn(format!(
                        "connection from {peer} closed: {open} are open, more would leave the data \
                         too few file descriptors; raise the limit (ulimit -n)"
                    ));
                }
            }
            Ok((stream, peer)) => {
                back_off = BACK_OFF_MIN;
                // These fail only on a connection that is gone already; its task will notice.
                let _ = prepare(&stream, options);
                links.open(stream, peer);
            }
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                failures += 1;
                if warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
                    warned = Some(Instant::now());
                    warn(format!(
                        "cannot accept on {addr}: {error} ({failures} failures so far)"
                    ));
                }
                tokio::time::sleep(back_off).await;
                back_off = (back_off * 2).min(BACK_OFF_MAX);
            }
        }
    }
}

fn prepare(stream: &TcpStream, options: ListenOptions) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if options.keep_alive {
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
