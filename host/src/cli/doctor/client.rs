//! A session with a live server, for a few questions.

use core::net::SocketAddr;
use core::time::Duration;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};

use zabra_core::ids::{SessionId, Xid, Zxid};
use zabra_core::jute::{Text, append, take, to_vec};
use zabra_core::wire::client::{
    ConnectRequest, ConnectResponse, OpCode, ReadRequest, ReplyHeader, RequestHeader,
    XID_NOTIFICATION,
};
use zabra_core::wire::records::{AclText, Perms};

use crate::cli::ensemble::address::Address;

const SESSION_TIMEOUT_MS: i32 = 10_000;
/// Whoever sends more than this does not answer what is asked here.
const FRAME_BYTES_MAX: usize = 64 << 20;

/// An open session.
pub(super) struct Client {
    stream: TcpStream,
    xid: i32,
    pub(super) session: SessionId,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Refused {
    /// The server's word.
    ByServer,
    /// The connection is of no use any more.
    Disconnected,
}

impl From<io::Error> for Refused {
    fn from(_: io::Error) -> Self {
        Self::Disconnected
    }
}

impl Client {
    /// Opens a session.
    pub(super) fn open(address: &Address, time_max: Duration) -> io::Result<Self> {
        let mut last = io::Error::other("its name has no address");
        for address in (address.host.as_str(), address.port).to_socket_addrs()? {
            match Self::open_at(address, time_max) {
                Ok(client) => return Ok(client),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn open_at(address: SocketAddr, time_max: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, time_max)?;
        stream.set_read_timeout(Some(time_max))?;
        stream.set_write_timeout(Some(time_max))?;
        stream.set_nodelay(true)?;
        let mut client = Self {
            stream,
            xid: 0,
            session: SessionId::NONE,
        };
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: Zxid::ZERO,
            timeout_ms: SESSION_TIMEOUT_MS,
            session: SessionId::NONE,
            password: Some(&[0; 16]),
        };
        let mut frame = to_vec(&request);
        // Whoever does not understand `readOnly` leaves it.
        append(&mut frame, &false);
        client.send(&frame)?;
        let answer = client.frame()?;
        let mut input: &[u8] = &answer;
        let response: ConnectResponse<'_> = take(&mut input).map_err(io::Error::other)?;
        client.session = response.session;
        Ok(client)
    }

    /// The data of a znode.
    pub(super) fn data(&mut self, path: &str) -> Result<Vec<u8>, Refused> {
        let body = self.call(OpCode::GET_DATA, &read(path))?;
        // A buffer, then the Stat.
        let mut input: &[u8] = &body;
        let length: i32 = take(&mut input).map_err(io::Error::other)?;
        let data = usize::try_from(length).ok().and_then(|it| input.get(..it));
        Ok(data.unwrap_or_default().to_vec())
    }

    /// The names of a znode's children.
    pub(super) fn children(&mut self, path: &str) -> Result<Vec<String>, Refused> {
        let body = self.call(OpCode::GET_CHILDREN, &read(path))?;
        let mut input: &[u8] = &body;
        let names: Vec<Text<'_>> = take(&mut input).map_err(io::Error::other)?;
        Ok(names.into_iter().map(Text::into_string).collect())
    }

    /// Whether a znode's ACL lets everybody do this.
    pub(super) fn lets_everybody(&mut self, path: &str, wanted: Perms) -> Result<bool, Refused> {
        let body = self.call(OpCode::GET_ACL, &to_vec(&Text::from(path)))?;
        let mut input: &[u8] = &body;
        let acl: Vec<AclText<'_>> = take(&mut input).map_err(io::Error::other)?;
        Ok(acl.iter().any(|entry| {
            let is_everybody = entry.scheme.or_empty() == "world";
            is_everybody && entry.perms == wanted
        }))
    }

    /// Ends the session.
    pub(super) fn close(mut self) {
        // It would end by itself, later.
        let _late = self.call(OpCode::CLOSE_SESSION, &[]);
    }

    fn call(&mut self, op: OpCode, body: &[u8]) -> Result<Vec<u8>, Refused> {
        self.xid += 1;
        let xid = Xid(self.xid);
        let mut frame = to_vec(&RequestHeader { xid, op });
        frame.extend_from_slice(body);
        self.send(&frame)?;
        loop {
            let answer = self.frame()?;
            let mut input: &[u8] = &answer;
            let header: ReplyHeader = take(&mut input).map_err(io::Error::other)?;
            match header {
                ReplyHeader { xid, .. } if xid == XID_NOTIFICATION => {}
                ReplyHeader { error: 0, .. } => return Ok(input.to_vec()),
                ReplyHeader { .. } => return Err(Refused::ByServer),
            }
        }
    }

    fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        let length = i32::try_from(frame.len()).map_err(io::Error::other)?;
        let mut bytes = to_vec(&length);
        bytes.extend_from_slice(frame);
        self.stream.write_all(&bytes)
    }

    fn frame(&mut self) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length: i32 = take(&mut &length[..]).map_err(io::Error::other)?;
        let length = usize::try_from(length)
            .ok()
            .filter(|it| *it <= FRAME_BYTES_MAX);
        let length = length.ok_or_else(|| io::Error::other("its answer is none"))?;
        let mut frame = vec![0; length];
        self.stream.read_exact(&mut frame)?;
        Ok(frame)
    }
}

fn read(path: &str) -> Vec<u8> {
    to_vec(&ReadRequest {
        path: path.into(),
        watch: false,
    })
}
