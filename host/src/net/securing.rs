//! Connections before they are links: whether they speak TLS, and their handshakes.
//!
//! The machine hears of a connection once its handshake is done. Until then it costs a socket and
//! a bounded place here: when all places are taken, the oldest handshake gives way, as whoever
//! means it is done in milliseconds.

use core::cell::RefCell;
use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeMap;
use std::net::Shutdown;
use std::rc::Rc;
use std::sync::Arc;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::timeout;
use zabra_core::ids::LinkId;
use zabra_core::link::Port;

use super::link::SocketCount;
use super::links::{Secured, Shared};
use super::session::{self, Session, certificate, handshake};
use crate::tls::{Context, Names, subject};

/// How long a handshake may take. Source: Netty's `SslHandler`.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// Steps of handshakes that are computed before everybody else has a turn: some milliseconds.
const TURNS: usize = 4;

/// How long, and for how many bytes, a refused connection waits for its peer to hear why: closing
/// a socket that holds unread bytes may destroy the alert.
const LINGER_MAX: Duration = Duration::from_millis(500);
const LINGER_BYTES_MAX: usize = 64 * 1024;

/// The first byte of every record by which a client begins TLS. No plain protocol begins so: it
/// would be a frame of 352 MiB or more, or a word of control characters.
const HANDSHAKE_RECORD: u8 = 0x16;

/// What connections to a port must speak.
#[derive(Clone, Debug, Default)]
pub enum Accept {
    /// TLS, or not: the first byte shows it.
    Either(Arc<Context>),
    /// No TLS.
    #[default]
    Plain,
    /// TLS.
    Tls(Arc<Context>),
}

/// TLS between servers.
#[derive(Clone, Debug)]
pub struct PeerTls {
    /// Keys and trust.
    pub context: Arc<Context>,
    /// Whether connections to other servers speak it.
    pub dial: bool,
    /// Whether those that connect may go without.
    pub plain_too: bool,
    /// Whose certificates are accepted.
    pub names: Names,
}

impl PeerTls {
    /// What those must speak that connect.
    pub(super) fn accept(&self) -> Accept {
        let context = Arc::clone(&self.context);
        if self.plain_too {
            Accept::Either(context)
        } else {
            Accept::Tls(context)
        }
    }
}

/// Handshakes under way, of those who connected.
pub(super) struct Handshakes {
    clients: RefCell<BTreeMap<LinkId, AbortHandle>>,
    peers: RefCell<BTreeMap<LinkId, AbortHandle>>,
    /// Also of those that this server began.
    turns: Semaphore,
}

impl Default for Handshakes {
    fn default() -> Self {
        Self {
            clients: RefCell::default(),
            peers: RefCell::default(),
            turns: Semaphore::new(TURNS),
        }
    }
}

impl Handshakes {
    const fn of(&self, port: Port) -> &RefCell<BTreeMap<LinkId, AbortHandle>> {
        match port {
            Port::Client => &self.clients,
            Port::Election | Port::Quorum => &self.peers,
        }
    }

    /// Gives up all of them.
    pub(super) fn abandon(&self) {
        for all in [&self.clients, &self.peers] {
            for task in all.take().values() {
                task.abort();
            }
        }
    }
}

/// Finds out what a connection speaks, and makes a link of it. At most `most` of its kind are at
/// that.
pub(super) fn begin(
    shared: &Rc<Shared>,
    id: LinkId,
    stream: TcpStream,
    port: Port,
    peer: SocketAddr,
    accept: Accept,
    most: usize,
) {
    let under_way = shared.handshakes.of(port);
    if under_way.borrow().len() >= most {
        let oldest = under_way.borrow_mut().pop_first();
        if let Some((_, task)) = oldest {
            task.abort();
            shared.complaints.say(format!(
                "{most} TLS handshakes are under way, and the oldest is given up for each that \
                 begins: somebody connects and does not go on"
            ));
        }
    }
    let socket = SocketCount::new(Rc::clone(shared), port, id);
    let securing = Securing {
        shared: Rc::clone(shared),
        id,
        port,
        peer,
    };
    let task = spawn_local(securing.run(stream, accept, socket));
    let task = task.abort_handle();
    shared.keep_task(id, task.clone());
    under_way.borrow_mut().insert(id, task);
}

/// The task of one connection until it is a link.
struct Securing {
    shared: Rc<Shared>,
    id: LinkId,
    port: Port,
    peer: SocketAddr,
}

impl Securing {
    async fn run(self, stream: TcpStream, accept: Accept, socket: SocketCount) {
        let secured = match accept {
            Accept::Plain => Ok(None),
            Accept::Tls(context) => self.secure(&stream, &context).await.map(Some),
            Accept::Either(context) if begins_with_tls(&stream, &context).await => {
                self.secure(&stream, &context).await.map(Some)
            }
            Accept::Either(_) => Ok(None),
        };
        let under_way = self.shared.handshakes.of(self.port);
        under_way.borrow_mut().remove(&self.id);
        match secured {
            Ok(secured) => {
                let (id, port, peer) = (self.id, self.port, self.peer);
                drop(self.shared.open(id, stream, port, peer, secured, socket));
            }
            Err(reason) => {
                let port = match self.port {
                    Port::Client => "of client",
                    Port::Election | Port::Quorum => "of peer",
                };
                let line = session::refused(self.peer.ip(), port, &reason);
                self.shared.complaints.say(line);
                // Boxed, for it is not what most of these tasks come to.
                let _ = timeout(LINGER_MAX, Box::pin(linger(&stream))).await;
            }
        }
    }

    async fn secure(&self, stream: &TcpStream, context: &Context) -> Result<Secured, String> {
        let mut tls = context.accept().map_err(|error| error.to_string())?;
        let turns = &self.shared.handshakes.turns;
        within(HANDSHAKE_MAX, handshake(&mut tls, stream, turns)).await?;
        let principal = match (self.port, certificate(&tls)) {
            (Port::Client, Some(shown)) => Some(subject(shown)?),
            (Port::Client, None) => None,
            (Port::Election | Port::Quorum, shown) => {
                self.check_peer(context, shown)?;
                None
            }
        };
        let session = Box::new(Session::new(tls));
        Ok(Secured { session, principal })
    }

    /// Whether whoever connected is one of the ensemble. Source: `ZKTrustManager`, but by the names
    /// of the configuration.
    fn check_peer(
        &self,
        context: &Context,
        shown: Option<&rustls::pki_types::CertificateDer<'_>>,
    ) -> Result<(), String> {
        let tls = self.shared.peers.tls.as_ref();
        match (tls, shown) {
            (Some(tls), Some(shown)) if context.config().hostname_verification => {
                tls.names.check(shown, self.peer.ip())
            }
            _ => Ok(()),
        }
    }
}

/// The server's name in a connection that this one began, and its handshake.
///
/// # Errors
///
/// Why there is none, as a clause.
pub(super) async fn dialled(
    handshakes: &Handshakes,
    tls: &PeerTls,
    stream: &TcpStream,
    host: &str,
    limit: Duration,
) -> Result<Secured, String> {
    let mut connection = tls.context.connect(host)?;
    let handshake = handshake(&mut connection, stream, &handshakes.turns);
    within(limit, handshake).await?;
    Ok(Secured {
        session: Session::new(connection).into(),
        principal: None,
    })
}

async fn within(
    limit: Duration,
    handshake: impl Future<Output = Result<(), String>>,
) -> Result<(), String> {
    match timeout(limit, handshake).await {
        Ok(done) => done,
        Err(_) => Err(format!(
            "the TLS handshake was not done within {} ms",
            limit.as_millis()
        )),
    }
}

/// Whoever says nothing for so long is taken for a plain one, which may have nothing to say.
/// Source: `UnifiedServerSocket`, and `DualModeSslHandler` for clients.
async fn begins_with_tls(stream: &TcpStream, context: &Context) -> bool {
    let mut first = [0];
    let peeked = timeout(context.config().detection, stream.peek(&mut first)).await;
    matches!(peeked, Ok(Ok(1))) && first == [HANDSHAKE_RECORD]
}

async fn linger(stream: &TcpStream) {
    if SockRef::from(stream).shutdown(Shutdown::Write).is_err() {
        return;
    }
    let mut buffer = [0; 1024];
    let mut discarded = 0;
    while discarded < LINGER_BYTES_MAX && stream.readable().await.is_ok() {
        match stream.try_read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => discarded += count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
