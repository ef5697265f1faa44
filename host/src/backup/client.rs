//! A session with a server, as far as bringing back a subtree needs one.

use core::time::Duration;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};

use serde::Serialize;
use zabra_core::error::ErrorCode;
use zabra_core::ids::{SessionId, Xid, Zxid};
use zabra_core::jute::{self, take};
use zabra_core::wire::client::{
    AuthPacket, ConnectRequest, ConnectResponse, OpCode, ReadRequest, ReplyHeader, RequestHeader,
    XID_NOTIFICATION, XID_PING,
};

use super::Error;

/// How long a server may take for anything.
const TIME_MAX: Duration = Duration::from_secs(30);
/// The session that is asked for: nothing waits as long between two requests.
const SESSION_MS: i32 = 60_000;
/// A longer reply is none to what is asked here.
const REPLY_BYTES_MAX: usize = 16 << 20;
/// The xid of authentication. Source: ZooKeeper `ClientCnxn.AUTHPACKET_XID`.
const XID_AUTH: Xid = Xid(-4);

/// A session with a server.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    server: String,
    xid: i32,
}

/// By what a client is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// `digest`, …
    pub scheme: String,
    /// What the scheme wants: for `digest`, `user:password`.
    pub credentials: String,
}

/// How the server answered a request.
pub(super) type Answer = Result<(), ErrorCode>;

impl Client {
    /// Opens a session at `HOST:PORT`.
    ///
    /// # Errors
    /// Nobody is there who speaks ZooKeeper's protocol in plain text, or an identity is refused.
    pub fn open(server: &str, identities: &[Auth]) -> Result<Self, Error> {
        let stream = connect(server).map_err(|error| {
            Error::new(format!(
                "{server}: cannot connect: {error}; is it the client port of a server that runs?"
            ))
        })?;
        let mut client = Self {
            stream,
            server: server.to_owned(),
            xid: 0,
        };
        client.handshake()?;
        for identity in identities {
            client.authenticate(identity)?;
        }
        Ok(client)
    }

    fn handshake(&mut self) -> Result<(), Error> {
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: Zxid::ZERO,
            timeout_ms: SESSION_MS,
            session: SessionId::NONE,
            password: Some(&[0; 16]),
        };
        let mut body = jute::to_vec(&request);
        // Not read-only: it would refuse what we are here for.
        jute::append(&mut body, &false);
        self.send_frame(&body)?;
        let frame = self.receive_frame().map_err(|error| {
            Error::new(format!(
                "{error}; is it a ZooKeeper server that serves clients, and the port without TLS?"
            ))
        })?;
        let mut input = frame.as_slice();
        let response: ConnectResponse<'_> =
            take(&mut input).map_err(|error| self.strange(&error.to_string()))?;
        if response.timeout_ms <= 0 {
            return Err(self.strange("a session that is over"));
        }
        Ok(())
    }

    fn authenticate(&mut self, identity: &Auth) -> Result<(), Error> {
        let packet = AuthPacket {
            kind: 0,
            scheme: identity.scheme.as_str().into(),
            auth: Some(identity.credentials.as_bytes()),
        };
        self.send(XID_AUTH, OpCode::AUTH, &packet)?;
        let refused = |error: &dyn core::fmt::Display| {
            Error::new(format!(
                "the identity of scheme {} was refused: {error}; correct --auth-file",
                identity.scheme
            ))
        };
        let (xid, answer) = self.receive().map_err(|error| refused(&error))?;
        if xid != XID_AUTH {
            return Err(self.strange("the answer to another request"));
        }
        answer.map_err(|code| refused(&code))
    }

    /// Whether a znode is there.
    pub(super) fn exists(&mut self, path: &str) -> Result<bool, Error> {
        let request = ReadRequest {
            path: path.into(),
            watch: false,
        };
        self.request(OpCode::EXISTS, &request)?;
        match self.answer()? {
            Ok(()) => Ok(true),
            Err(ErrorCode::NO_NODE) => Ok(false),
            Err(code) => Err(Error::new(format!(
                "{}: {path}: the server refused to say whether it is there: {code}",
                self.server
            ))),
        }
    }

    /// Sends a request. [`Client::answer`] must be called as often, in the same order.
    pub(super) fn request(&mut self, op: OpCode, body: &impl Serialize) -> Result<(), Error> {
        self.xid += 1;
        self.send(Xid(self.xid), op, body)
    }

    /// The answer to the next request.
    pub(super) fn answer(&mut self) -> Result<Answer, Error> {
        Ok(self.receive()?.1)
    }

    /// Ends the session.
    ///
    /// # Errors
    /// The connection broke.
    pub fn close(mut self) -> Result<(), Error> {
        self.request(OpCode::CLOSE_SESSION, &())?;
        self.answer().map(drop)
    }

    fn send(&mut self, xid: Xid, op: OpCode, body: &impl Serialize) -> Result<(), Error> {
        let mut frame = jute::to_vec(&RequestHeader { xid, op });
        jute::append(&mut frame, body);
        self.send_frame(&frame)
    }

    fn send_frame(&mut self, body: &[u8]) -> Result<(), Error> {
        let length = i32::try_from(body.len()).unwrap_or(i32::MAX);
        let mut frame = jute::to_vec(&length);
        frame.extend_from_slice(body);
        self.stream
            .write_all(&frame)
            .map_err(|error| self.lost(&error))
    }

    fn receive(&mut self) -> Result<(Xid, Answer), Error> {
        loop {
            let frame = self.receive_frame()?;
            let mut input = frame.as_slice();
            let header: ReplyHeader =
                take(&mut input).map_err(|error| self.strange(&error.to_string()))?;
            if header.xid != XID_NOTIFICATION && header.xid != XID_PING {
                let answer = match header.error {
                    0 => Ok(()),
                    code => Err(ErrorCode(code)),
                };
                return Ok((header.xid, answer));
            }
        }
    }

    fn receive_frame(&mut self) -> Result<Vec<u8>, Error> {
        let mut length = [0; 4];
        self.stream
            .read_exact(&mut length)
            .map_err(|error| self.lost(&error))?;
        let length: i32 =
            take(&mut length.as_slice()).map_err(|error| self.strange(&error.to_string()))?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > REPLY_BYTES_MAX {
            return Err(self.strange(&format!("a length of {length}")));
        }
        let mut frame = vec![0; length];
        self.stream
            .read_exact(&mut frame)
            .map_err(|error| self.lost(&error))?;
        Ok(frame)
    }

    fn lost(&self, error: &io::Error) -> Error {
        Error::new(format!("{}: the connection broke: {error}", self.server))
    }

    fn strange(&self, found: &str) -> Error {
        Error::new(format!(
            "{}: expected a reply of a ZooKeeper server, found {found}",
            self.server
        ))
    }

    /// Where the session is.
    pub(super) fn server(&self) -> &str {
        &self.server
    }
}

/// The first of the server's addresses that takes a connection.
fn connect(server: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in server.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, TIME_MAX) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(TIME_MAX))?;
                stream.set_write_timeout(Some(TIME_MAX))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}
