//! TLS inside one connection: plaintext on the machine's side, records on the socket's.

use core::cell::RefCell;
use core::net::IpAddr;
use std::io::{self, IoSlice, Read as _, Write};

use rustls::{CertificateError, InvalidMessage, PeerIncompatible};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::yield_now;

use super::queue::{Progress, Queue};

/// An encrypted connection whose handshake is done.
pub(super) struct Session {
    inner: RefCell<Inner>,
}

struct Inner {
    tls: rustls::Connection,
    /// Plaintext whose records are not all with the socket.
    in_flight: usize,
}

/// What bytes from the socket came to.
pub(super) struct Decrypted {
    pub(super) plain: Vec<u8>,
    /// The peer sends no more.
    pub(super) ended: bool,
    /// TLS has something to say by itself.
    pub(super) answers: bool,
}

impl Session {
    pub(super) const fn new(tls: rustls::Connection) -> Self {
        let inner = Inner { tls, in_flight: 0 };
        Self {
            inner: RefCell::new(inner),
        }
    }

    /// Takes in what the socket had.
    ///
    /// # Errors
    ///
    /// Why the connection cannot go on, as a clause.
    pub(super) fn decrypt(&self, mut records: &[u8]) -> Result<Decrypted, String> {
        let mut inner = self.inner.borrow_mut();
        let mut plain = Vec::with_capacity(records.len());
        loop {
            let state = inner.tls.process_new_packets();
            let state = state.map_err(|error| explained(&error))?;
            let count = state.plaintext_bytes_to_read();
            if count > 0 {
                let before = plain.len();
                plain.resize(before + count, 0);
                let room = plain.get_mut(before..).unwrap_or_default();
                let taken = inner.tls.reader().read_exact(room);
                taken.map_err(|error| error.to_string())?;
            }
            let ended = state.peer_has_closed();
            if records.is_empty() || ended {
                return Ok(Decrypted {
                    plain,
                    ended,
                    answers: inner.tls.wants_write(),
                });
            }
            let taken = inner.tls.read_tls(&mut records);
            // A record that is too long to be one leaves no room for more.
            if taken.map_err(|error| error.to_string())? == 0 {
                return Err("a TLS record is too long".into());
            }
        }
    }

    /// Writes until nothing is left or the socket takes no more; adds to `written` the plaintext
    /// whose records it took.
    pub(super) fn write(
        &self,
        queue: &mut Queue,
        stream: &TcpStream,
        written: &mut usize,
    ) -> io::Result<Progress> {
        let mut inner = self.inner.borrow_mut();
        loop {
            if write_records(&mut inner.tls, stream)? == Progress::Blocked {
                return Ok(Progress::Blocked);
            }
            *written += core::mem::take(&mut inner.in_flight);
            if queue.is_empty() {
                queue.rest();
                return Ok(Progress::Drained);
            }
            let taken = queue.give_to(&mut inner.tls.writer())?;
            if taken == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            inner.in_flight += taken;
        }
    }

    /// Says that nothing more will be sent, once what was is written.
    pub(super) fn say_end(&self) {
        self.inner.borrow_mut().tls.send_close_notify();
    }
}

/// Writes what TLS has to say.
fn write_records(tls: &mut rustls::Connection, stream: &TcpStream) -> io::Result<Progress> {
    while tls.wants_write() {
        match tls.write_tls(&mut Socket(stream)) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Ok(Progress::Blocked);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Progress::Drained)
}

/// Comes to an agreement with the peer, or to a reason why not. `turns` are those in which to compute:
/// a signature takes up to a millisecond of the one thread, so that few are made before others,
/// who are served already, have their turn.
///
/// # Errors
///
/// The reason, as a clause.
pub(super) async fn handshake(
    tls: &mut rustls::Connection,
    stream: &TcpStream,
    turns: &Semaphore,
) -> Result<(), String> {
    let text = |error: io::Error| error.to_string();
    loop {
        while write_records(tls, stream).map_err(text)? == Progress::Blocked {
            stream.writable().await.map_err(text)?;
        }
        if !tls.is_handshaking() {
            return Ok(());
        }
        stream.readable().await.map_err(text)?;
        match tls.read_tls(&mut Socket(stream)) {
            Ok(0) => return Err("the peer closed the connection within the handshake".into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(text(error)),
        }
        let turn = turns.acquire().await.map_err(|error| error.to_string())?;
        let computed = tls.process_new_packets();
        // Held over everybody else's turn.
        yield_now().await;
        drop(turn);
        if let Err(error) = computed {
            // So that the peer can say why as well; if it does not take it, we still do.
            let _ = write_records(tls, stream);
            return Err(explained(&error));
        }
    }
}

/// The certificate that the peer has shown.
pub(super) fn certificate(
    tls: &rustls::Connection,
) -> Option<&rustls::pki_types::CertificateDer<'static>> {
    tls.peer_certificates()?.first()
}

/// An error of rustls, for an operator.
fn explained(error: &rustls::Error) -> String {
    if let rustls::Error::AlertReceived(_) = error {
        return format!("it does not go on with us: {error}");
    }
    // The rest say by themselves what is wrong, though not what to do.
    let remedies = [
        (
            matches!(
                error,
                rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)
            ),
            "what it sends is not TLS; does it take the port for a plain one?",
        ),
        (
            matches!(error, rustls::Error::NoCertificatesPresented),
            "it shows no certificate, which ssl.clientAuth=need asks for",
        ),
        (
            matches!(
                error,
                rustls::Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon)
            ),
            "there is no cipher suite that both have; see ssl.ciphersuites",
        ),
        (
            matches!(
                error,
                rustls::Error::PeerIncompatible(
                    PeerIncompatible::ServerDoesNotSupportTls12Or13
                        | PeerIncompatible::SupportedVersionsExtensionRequired
                        | PeerIncompatible::Tls12NotOffered
                        | PeerIncompatible::Tls12NotOfferedOrEnabled
                )
            ),
            "there is no version of TLS that both speak; see ssl.enabledProtocols",
        ),
        (
            matches!(
                error,
                rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)
            ),
            "nobody in the trust store has signed its certificate",
        ),
        (
            matches!(
                error,
                rustls::Error::InvalidCertificate(
                    CertificateError::Expired | CertificateError::ExpiredContext { .. }
                )
            ),
            "its certificate has expired",
        ),
        (
            matches!(
                error,
                rustls::Error::InvalidCertificate(
                    CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }
                )
            ),
            "its certificate is not valid yet",
        ),
    ];
    let known = remedies.iter().find(|(is_it, _)| *is_it);
    known.map_or_else(|| error.to_string(), |(_, text)| (*text).to_owned())
}

/// Whom a message is about, when there is only an address.
pub(super) fn refused(peer: IpAddr, port: &str, reason: &str) -> String {
    format!("TLS connection {port} {peer} refused: {reason}")
}

/// A socket that never blocks, as rustls reads and writes it.
struct Socket<'a>(&'a TcpStream);

impl io::Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
