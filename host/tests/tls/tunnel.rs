//! A client's end of TLS, for clients that speak none: a plain port of its own, each connection to
//! which becomes one to the server.

use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};

use crate::support::certs::{Authority, Certified};

const PAUSE: Duration = Duration::from_micros(200);
const HANDSHAKE_MAX: Duration = Duration::from_secs(20);

/// How a client speaks TLS.
pub(crate) fn client(authority: &Authority, own: Option<&Certified>) -> Arc<ClientConfig> {
    client_of(authority, own, rustls::DEFAULT_VERSIONS)
}

/// The same, with these versions.
pub(crate) fn client_of(
    authority: &Authority,
    own: Option<&Certified>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap();
    roots.add(root).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let chain = CertificateDer::from_pem_slice(own.certificate.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(vec![chain], key).unwrap()
        }
    };
    config.into()
}

/// A connection whose handshake is done, as far as the client knows: with TLS 1.3 it hears only
/// later that its certificate was refused.
///
/// # Errors
///
/// Why there is none.
pub(crate) fn handshake(
    config: &Arc<ClientConfig>,
    server: SocketAddr,
) -> io::Result<(ClientConnection, TcpStream)> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(HANDSHAKE_MAX))?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from("localhost").unwrap();
    let mut tls = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
    while tls.is_handshaking() {
        tls.complete_io(&mut stream)?;
    }
    Ok((tls, stream))
}

/// What a server answers to a word over TLS.
pub(crate) fn word(
    config: &Arc<ClientConfig>,
    server: SocketAddr,
    word: &str,
) -> io::Result<String> {
    let (mut tls, mut stream) = handshake(config, server)?;
    let mut both = rustls::Stream::new(&mut tls, &mut stream);
    both.write_all(word.as_bytes())?;
    let mut answer = String::new();
    both.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Closes with all its connections when it is dropped.
pub(crate) struct Tunnel {
    pub(crate) address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Tunnel {
    pub(crate) fn new(config: Arc<ClientConfig>, server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            thread::scope(|scope| {
                while !stopped.load(Ordering::Relaxed) {
                    let Ok((plain, _)) = listener.accept() else {
                        thread::sleep(PAUSE);
                        continue;
                    };
                    let (config, stopped) = (&config, &stopped);
                    scope.spawn(move || carry(&plain, config, server, stopped));
                }
            });
        });
        Self {
            address,
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Until either end is done; whoever is still there sees a connection that closes.
fn carry(plain: &TcpStream, config: &Arc<ClientConfig>, server: SocketAddr, stop: &AtomicBool) {
    let Ok((mut tls, stream)) = handshake(config, server) else {
        return;
    };
    plain.set_nonblocking(true).unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut to_plain: Vec<u8> = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    while !stop.load(Ordering::Relaxed) {
        match turn(plain, &stream, &mut tls, &mut to_plain, &mut buffer) {
            Ok(true) => {}
            Ok(false) => thread::sleep(PAUSE),
            Err(_) => return,
        }
    }
}

/// Whether anything moved.
fn turn(
    mut plain: &TcpStream,
    mut stream: &TcpStream,
    tls: &mut ClientConnection,
    to_plain: &mut Vec<u8>,
    buffer: &mut [u8],
) -> io::Result<bool> {
    let mut moved = false;
    let would_block = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
    if !tls.wants_write() {
        match plain.read(buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                tls.writer().write_all(buffer.get(..count).unwrap())?;
                moved = true;
            }
            Err(error) if would_block(&error) => {}
            Err(error) => return Err(error),
        }
    }
    if tls.wants_write() {
        match tls.write_tls(&mut stream) {
            Ok(_) => moved = true,
            Err(error) if would_block(&error) => {}
            Err(error) => return Err(error),
        }
    }
    let mut ended = false;
    if to_plain.is_empty() {
        match tls.read_tls(&mut stream) {
            Ok(0) => ended = true,
            Ok(_) => moved = true,
            Err(error) if would_block(&error) => {}
            Err(error) => return Err(error),
        }
        let state = tls.process_new_packets().map_err(io::Error::other)?;
        to_plain.resize(state.plaintext_bytes_to_read(), 0);
        tls.reader().read_exact(to_plain)?;
        ended |= state.peer_has_closed();
    }
    while !to_plain.is_empty() {
        match plain.write(to_plain) {
            Ok(count) => {
                to_plain.drain(..count);
                moved = true;
            }
            Err(error) if would_block(&error) => break,
            Err(error) => return Err(error),
        }
    }
    if ended && to_plain.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(moved)
}
