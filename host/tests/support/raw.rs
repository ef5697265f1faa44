//! A connection on which a test sends what it likes, also what no client would.

use core::net::SocketAddr;
use core::time::Duration;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Instant;

use super::wire::{Reader, Writer};

const REPLY_TIME_MAX: Duration = Duration::from_secs(30);
const SESSION_TIMEOUT_MS: i32 = 30_000;

/// A connection.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    pub(crate) session: i64,
    pub(crate) password: Vec<u8>,
}

/// The answer to a request, or an event.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) xid: i32,
    pub(crate) zxid: i64,
    pub(crate) code: i32,
    pub(crate) body: Vec<u8>,
}

impl Raw {
    /// A connection, and nothing sent on it.
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, REPLY_TIME_MAX)?;
        stream.set_read_timeout(Some(REPLY_TIME_MAX))?;
        stream.set_write_timeout(Some(REPLY_TIME_MAX))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            session: 0,
            password: Vec::new(),
        })
    }

    /// A connection with a session.
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        let mut raw = Self::connect(address)?;
        raw.frame(handshake(SESSION_TIMEOUT_MS, 0, Some(&[0; 16])).bytes())?;
        let greeting = raw.frame_back()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut greeting = Reader(&greeting);
        let fields = (|| {
            let (_version, _timeout) = (greeting.int()?, greeting.int()?);
            Ok((greeting.long()?, greeting.buffer()?.unwrap_or_default()))
        })();
        let fields: super::wire::Result<_> = fields;
        (raw.session, raw.password) =
            fields.map_err(|error| io::Error::other(format!("{error:?}")))?;
        Ok(raw)
    }

    /// Bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Bytes with their length before them.
    pub(crate) fn frame(&mut self, payload: &[u8]) -> io::Result<()> {
        self.send(&framed(payload))
    }

    pub(crate) fn request(&mut self, xid: i32, op: i32, body: &Writer) -> io::Result<()> {
        self.send(&request(xid, op, body))
    }

    /// The next reply or event; `None` if the server closed the connection.
    pub(crate) fn reply(&mut self) -> io::Result<Option<Reply>> {
        let Some(frame) = self.frame_back()? else {
            return Ok(None);
        };
        let mut reader = Reader(&frame);
        let header = (reader.int(), reader.long(), reader.int());
        let (Ok(xid), Ok(zxid), Ok(code)) = header else {
            return Err(io::Error::other("a reply without a header"));
        };
        let body = reader.0.to_vec();
        Ok(Some(Reply {
            xid,
            zxid,
            code,
            body,
        }))
    }

    /// The next frame; `None` if the server closed the connection.
    pub(crate) fn frame_back(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut length = [0; 4];
        if let Err(error) = self.stream.read_exact(&mut length) {
            let closed = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset];
            return if closed.contains(&error.kind()) {
                Ok(None)
            } else {
                Err(error)
            };
        }
        let length = usize::try_from(i32::from_be_bytes(length)).map_err(io::Error::other)?;
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload)?;
        Ok(Some(payload))
    }

    /// Whether the server ends the connection within this time, whatever it says before.
    pub(crate) fn is_closed_within(&mut self, time: Duration) -> bool {
        let end = Instant::now() + time;
        let mut buffer = [0; 4096];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || self.stream.set_read_timeout(Some(left)).is_err() {
                return false;
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return true,
                Err(_) => {}
            }
        }
    }

    /// Says that nothing more will be sent.
    pub(crate) fn finish_sending(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }
}

/// A request with its length before it.
pub(crate) fn request(xid: i32, op: i32, body: &Writer) -> Vec<u8> {
    let mut payload = Writer::default();
    payload.int(xid).int(op);
    let mut bytes = payload.bytes().to_vec();
    bytes.extend_from_slice(body.bytes());
    framed(&bytes)
}

/// The request for a session.
pub(crate) fn handshake(timeout_ms: i32, session: i64, password: Option<&[u8]>) -> Writer {
    let mut request = Writer::default();
    request
        .int(0)
        .long(0)
        .int(timeout_ms)
        .long(session)
        .buffer(password)
        .byte(0);
    request
}

fn framed(payload: &[u8]) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.buffer(Some(payload));
    writer.bytes().to_vec()
}
