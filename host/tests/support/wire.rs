//! A blocking ZooKeeper client for tests: sends one request, waits for its reply, keeps the events
//! it meets.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;

const REPLY_TIME_MAX: Duration = Duration::from_secs(20);
const PASSWORD_BYTES: usize = 16;
const XID_EVENT: i32 = -1;
const XID_PING: i32 = -2;
const XID_AUTH: i32 = -4;
const XID_SET_WATCHES: i32 = -8;

/// Operation codes of requests.
pub(crate) mod op {
    pub(crate) const CREATE: i32 = 1;
    pub(crate) const DELETE: i32 = 2;
    pub(crate) const EXISTS: i32 = 3;
    pub(crate) const GET_DATA: i32 = 4;
    pub(crate) const SET_DATA: i32 = 5;
    pub(crate) const GET_ACL: i32 = 6;
    pub(crate) const SET_ACL: i32 = 7;
    pub(crate) const SYNC: i32 = 9;
    pub(crate) const PING: i32 = 11;
    pub(crate) const GET_CHILDREN2: i32 = 12;
    pub(crate) const CHECK: i32 = 13;
    pub(crate) const MULTI: i32 = 14;
    pub(crate) const CREATE2: i32 = 15;
    pub(crate) const RECONFIG: i32 = 16;
    pub(crate) const CREATE_CONTAINER: i32 = 19;
    pub(crate) const CREATE_TTL: i32 = 21;
    pub(crate) const MULTI_READ: i32 = 22;
    pub(crate) const AUTH: i32 = 100;
    pub(crate) const SET_WATCHES: i32 = 101;
    pub(crate) const GET_ALL_CHILDREN_NUMBER: i32 = 104;
    pub(crate) const ADD_WATCH: i32 = 106;
    pub(crate) const ERROR: i32 = -1;
    pub(crate) const CLOSE: i32 = -11;
}

/// Create flags, as in the request.
pub(crate) mod flags {
    pub(crate) const PERSISTENT: i32 = 0;
    pub(crate) const EPHEMERAL: i32 = 1;
    pub(crate) const SEQUENTIAL: i32 = 2;
    pub(crate) const EPHEMERAL_SEQUENTIAL: i32 = 3;
    pub(crate) const CONTAINER: i32 = 4;
    pub(crate) const TTL: i32 = 5;
}

/// Why there is no result: the server's error code, or the connection.
#[derive(Debug)]
pub(crate) enum Error {
    /// A reply with this error code.
    Code(i32),
    /// Nothing usable came back.
    Io(io::Error),
    /// The session is over, and says so when it is re-attached.
    Expired,
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What a request gives.
pub(crate) type Result<T> = core::result::Result<T, Error>;

/// A znode's Stat, every field of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) czxid: i64,
    pub(crate) mzxid: i64,
    pub(crate) ctime: i64,
    pub(crate) mtime: i64,
    pub(crate) version: i32,
    pub(crate) cversion: i32,
    pub(crate) aversion: i32,
    pub(crate) ephemeral_owner: i64,
    pub(crate) data_length: i32,
    pub(crate) num_children: i32,
    pub(crate) pzxid: i64,
}

/// One entry of an access control list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Acl {
    pub(crate) perms: i32,
    pub(crate) scheme: String,
    pub(crate) id: String,
}

impl Acl {
    pub(crate) fn new(perms: i32, scheme: &str, id: &str) -> Self {
        Self {
            perms,
            scheme: scheme.into(),
            id: id.into(),
        }
    }

    /// Everything, for everybody.
    pub(crate) fn open() -> Vec<Self> {
        vec![Self::new(31, "world", "anyone")]
    }
}

/// A part of a multi.
pub(crate) enum Op<'a> {
    Check {
        path: &'a str,
        version: i32,
    },
    Create {
        path: &'a str,
        data: Option<&'a [u8]>,
        flags: i32,
    },
    /// A create whose result has the Stat too.
    Create2 {
        path: &'a str,
        data: Option<&'a [u8]>,
        flags: i32,
    },
    Delete {
        path: &'a str,
        version: i32,
    },
    SetData {
        path: &'a str,
        data: Option<&'a [u8]>,
        version: i32,
    },
}

/// What a connection begins with.
struct Session {
    id: i64,
    password: Vec<u8>,
    timeout_ms: i32,
    /// The last that its client has seen.
    zxid: i64,
    /// The number of its client's last request.
    xid: i32,
}

/// A session over one connection.
pub(crate) struct Client {
    stream: TcpStream,
    /// As the server gave it.
    pub(crate) session_id: i64,
    pub(crate) password: Vec<u8>,
    /// As the server granted it.
    pub(crate) timeout_ms: i32,
    xid: i32,
    /// The zxid in the latest reply's header.
    pub(crate) zxid: i64,
    /// Type and path of watch events, in the order they came.
    pub(crate) events: VecDeque<(i32, String)>,
}

impl Client {
    /// A new session.
    pub(crate) fn open(address: SocketAddr, timeout_ms: i32) -> Result<Self> {
        Self::open_within(address, timeout_ms, REPLY_TIME_MAX)
    }

    /// A new session with a server from which every answer comes so soon.
    pub(crate) fn open_within(
        address: SocketAddr,
        timeout_ms: i32,
        reply_time_max: Duration,
    ) -> Result<Self> {
        let new = Session {
            id: 0,
            password: vec![0; PASSWORD_BYTES],
            timeout_ms,
            zxid: 0,
            xid: 0,
        };
        Self::connect(address, new, reply_time_max)
    }

    /// The session that `old` had, over a new connection, perhaps to another server, which must
    /// have seen all that `old` has seen.
    pub(crate) fn reattach(address: SocketAddr, old: &Self) -> Result<Self> {
        Self::connect(address, old.session(), REPLY_TIME_MAX)
    }

    /// The same, with another bound for every answer.
    pub(crate) fn reattach_within(
        address: SocketAddr,
        old: &Self,
        reply_time_max: Duration,
    ) -> Result<Self> {
        Self::connect(address, old.session(), reply_time_max)
    }

    fn session(&self) -> Session {
        Session {
            id: self.session_id,
            password: self.password.clone(),
            timeout_ms: self.timeout_ms,
            zxid: self.zxid,
            // As clients do: servers know a request that was under way by its number.
            xid: self.xid + 1,
        }
    }

    fn connect(address: SocketAddr, session: Session, reply_time_max: Duration) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, reply_time_max)?;
        stream.set_read_timeout(Some(reply_time_max))?;
        stream.set_nodelay(true)?;
        let mut request = Writer::default();
        request
            .int(0)
            .long(session.zxid)
            .int(session.timeout_ms)
            .long(session.id)
            .buffer(Some(&session.password))
            .byte(0);
        let mut client = Self {
            stream,
            session_id: session.id,
            password: session.password,
            timeout_ms: session.timeout_ms,
            xid: session.xid,
            zxid: session.zxid,
            events: VecDeque::new(),
        };
        client.send(&request)?;
        let response = client.receive()?;
        let mut response = Reader(&response);
        let _protocol_version = response.int()?;
        client.timeout_ms = response.int()?;
        client.session_id = response.long()?;
        client.password = response.buffer()?.unwrap_or_default();
        if client.timeout_ms <= 0 {
            return Err(Error::Expired);
        }
        Ok(client)
    }

    pub(crate) fn add_auth(&mut self, scheme: &str, auth: &[u8]) -> Result<()> {
        let mut request = Writer::default();
        request
            .int(XID_AUTH)
            .int(op::AUTH)
            .int(0)
            .text(scheme)
            .buffer(Some(auth));
        self.send(&request)?;
        self.reply(XID_AUTH).map(|_| ())
    }

    /// The path with its sequence number.
    pub(crate) fn create(
        &mut self,
        path: &str,
        data: Option<&[u8]>,
        acl: &[Acl],
        flags: i32,
    ) -> Result<String> {
        let mut body = Writer::default();
        body.text(path).buffer(data).acl(acl).int(flags);
        let op = if flags == flags::CONTAINER {
            op::CREATE_CONTAINER
        } else {
            op::CREATE
        };
        Reader(&self.call(op, &body)?).text()
    }

    pub(crate) fn create_ttl(&mut self, path: &str, data: &[u8], ttl_ms: i64) -> Result<String> {
        let mut body = Writer::default();
        body.text(path)
            .buffer(Some(data))
            .acl(&Acl::open())
            .int(flags::TTL)
            .long(ttl_ms);
        Reader(&self.call(op::CREATE_TTL, &body)?).text()
    }

    pub(crate) fn delete(&mut self, path: &str, version: i32) -> Result<()> {
        let mut body = Writer::default();
        body.text(path).int(version);
        self.call(op::DELETE, &body).map(|_| ())
    }

    pub(crate) fn data(&mut self, path: &str, watch: bool) -> Result<(Option<Vec<u8>>, Stat)> {
        let reply = self.call(
            op::GET_DATA,
            Writer::default().text(path).byte(watch.into()),
        )?;
        let mut reply = Reader(&reply);
        Ok((reply.buffer()?, reply.stat()?))
    }

    pub(crate) fn set_data(
        &mut self,
        path: &str,
        data: Option<&[u8]>,
        version: i32,
    ) -> Result<Stat> {
        let mut body = Writer::default();
        body.text(path).buffer(data).int(version);
        Reader(&self.call(op::SET_DATA, &body)?).stat()
    }

    pub(crate) fn acl(&mut self, path: &str) -> Result<(Vec<Acl>, Stat)> {
        let reply = self.call(op::GET_ACL, Writer::default().text(path))?;
        let mut reply = Reader(&reply);
        Ok((reply.acl()?, reply.stat()?))
    }

    pub(crate) fn set_acl(&mut self, path: &str, acl: &[Acl], version: i32) -> Result<Stat> {
        let mut body = Writer::default();
        body.text(path).acl(acl).int(version);
        Reader(&self.call(op::SET_ACL, &body)?).stat()
    }

    /// Sorted: servers keep them in hash order.
    pub(crate) fn children(&mut self, path: &str) -> Result<(Vec<String>, Stat)> {
        let reply = self.call(op::GET_CHILDREN2, Writer::default().text(path).byte(0))?;
        let mut reply = Reader(&reply);
        let mut names = Vec::new();
        for _ in 0..reply.int()? {
            names.push(reply.text()?);
        }
        names.sort_unstable();
        Ok((names, reply.stat()?))
    }

    /// The error code of each part, all zero if it was done.
    pub(crate) fn multi(&mut self, parts: &[Op<'_>]) -> Result<Vec<i32>> {
        let mut body = Writer::default();
        for part in parts {
            body.part(part);
        }
        body.int(op::ERROR).byte(1).int(-1);
        let reply = self.call(op::MULTI, &body)?;
        let mut reply = Reader(&reply);
        let mut codes = Vec::new();
        loop {
            let kind = reply.int()?;
            let done = reply.byte()? != 0;
            let _error = reply.int()?;
            if done {
                return Ok(codes);
            }
            match kind {
                op::CREATE => _ = reply.text()?,
                op::CREATE2 => _ = (reply.text()?, reply.stat()?),
                op::SET_DATA => _ = reply.stat()?,
                _ => {}
            }
            codes.push(if kind == op::ERROR { reply.int()? } else { 0 });
        }
    }

    /// Returns when the server has applied all that was committed when it was asked.
    pub(crate) fn sync(&mut self, path: &str) -> Result<()> {
        self.call(op::SYNC, Writer::default().text(path))
            .map(|_| ())
    }

    /// Registers data watches as of `zxid`: those that a change has overtaken fire at once.
    pub(crate) fn set_data_watches(&mut self, zxid: i64, paths: &[&str]) -> Result<()> {
        let mut request = Writer::default();
        request.int(XID_SET_WATCHES).int(op::SET_WATCHES).long(zxid);
        request.length(paths.len());
        for path in paths {
            request.text(path);
        }
        request.int(0).int(0);
        self.send(&request)?;
        self.reply(XID_SET_WATCHES).map(|_| ())
    }

    /// Changes the ensemble's membership; returns what it then is.
    pub(crate) fn reconfig(
        &mut self,
        joining: Option<&str>,
        leaving: Option<&str>,
    ) -> Result<String> {
        let mut body = Writer::default();
        body.buffer(joining.map(str::as_bytes));
        body.buffer(leaving.map(str::as_bytes));
        body.buffer(None).long(-1);
        let reply = self.call(op::RECONFIG, &body)?;
        Reader(&reply).text()
    }

    /// Asks for nothing but a sign of life.
    pub(crate) fn ping(&mut self) -> Result<()> {
        let mut request = Writer::default();
        request.int(XID_PING).int(op::PING);
        self.send(&request)?;
        self.reply(XID_PING).map(|_| ())
    }

    /// Ends the session.
    pub(crate) fn close(mut self) -> Result<()> {
        self.call(op::CLOSE, &Writer::default()).map(|_| ())
    }

    /// Sends any request and returns its reply's body.
    pub(crate) fn call(&mut self, op: i32, body: &Writer) -> Result<Vec<u8>> {
        self.xid += 1;
        let xid = self.xid;
        let mut request = Writer::default();
        request.int(xid).int(op).0.extend_from_slice(&body.0);
        self.send(&request)?;
        self.reply(xid)
    }

    fn reply(&mut self, wanted: i32) -> Result<Vec<u8>> {
        loop {
            let frame = self.receive()?;
            let mut frame = Reader(&frame);
            let (xid, zxid, code) = (frame.int()?, frame.long()?, frame.int()?);
            if xid == XID_EVENT {
                let (kind, _state, path) = (frame.int()?, frame.int()?, frame.text()?);
                self.events.push_back((kind, path));
                continue;
            }
            if xid != wanted {
                return Err(invalid(&format!(
                    "expected the reply to {wanted}, found {xid}"
                )));
            }
            // Apache ZooKeeper answers an auth with none.
            if zxid > 0 {
                self.zxid = zxid;
            }
            return if code == 0 {
                Ok(frame.0.to_vec())
            } else {
                Err(Error::Code(code))
            };
        }
    }

    fn send(&mut self, payload: &Writer) -> Result<()> {
        let length = i32::try_from(payload.0.len()).map_err(io::Error::other)?;
        let mut frame = length.to_be_bytes().to_vec();
        frame.extend_from_slice(&payload.0);
        Ok(self.stream.write_all(&frame)?)
    }

    fn receive(&mut self) -> Result<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = usize::try_from(i32::from_be_bytes(length)).map_err(io::Error::other)?;
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload)?;
        Ok(payload)
    }
}

/// Asks a four-letter word.
pub(crate) fn word(address: SocketAddr, word: &str, time_max: Duration) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, time_max)?;
    stream.set_read_timeout(Some(time_max))?;
    stream.write_all(word.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn invalid(message: &str) -> Error {
    Error::Io(io::Error::new(io::ErrorKind::InvalidData, message))
}

/// Jute, written.
#[derive(Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn byte(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    pub(crate) fn int(&mut self, value: i32) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(crate) fn long(&mut self, value: i64) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(crate) fn length(&mut self, value: usize) -> &mut Self {
        self.int(i32::try_from(value).expect("tests send nothing of 2 GiB"))
    }

    pub(crate) fn buffer(&mut self, value: Option<&[u8]>) -> &mut Self {
        let Some(bytes) = value else {
            return self.int(-1);
        };
        self.length(bytes.len()).0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn text(&mut self, value: &str) -> &mut Self {
        self.buffer(Some(value.as_bytes()))
    }

    pub(crate) fn acl(&mut self, list: &[Acl]) -> &mut Self {
        self.length(list.len());
        for entry in list {
            self.int(entry.perms).text(&entry.scheme).text(&entry.id);
        }
        self
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn part(&mut self, part: &Op<'_>) -> &mut Self {
        let header = |writer: &mut Self, op| {
            writer.int(op).byte(0).int(-1);
        };
        match *part {
            Op::Check { path, version } => {
                header(self, op::CHECK);
                self.text(path).int(version)
            }
            Op::Create { path, data, flags } => {
                header(self, op::CREATE);
                self.text(path).buffer(data).acl(&Acl::open()).int(flags)
            }
            Op::Create2 { path, data, flags } => {
                header(self, op::CREATE2);
                self.text(path).buffer(data).acl(&Acl::open()).int(flags)
            }
            Op::Delete { path, version } => {
                header(self, op::DELETE);
                self.text(path).int(version)
            }
            Op::SetData {
                path,
                data,
                version,
            } => {
                header(self, op::SET_DATA);
                self.text(path).buffer(data).int(version)
            }
        }
    }
}

/// Jute, read from the front of a slice.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let Some((head, rest)) = self.0.split_first_chunk() else {
            return Err(invalid("the reply ends early"));
        };
        self.0 = rest;
        Ok(*head)
    }

    fn byte(&mut self) -> Result<u8> {
        self.take().map(u8::from_be_bytes)
    }

    pub(crate) fn int(&mut self) -> Result<i32> {
        self.take().map(i32::from_be_bytes)
    }

    pub(crate) fn long(&mut self) -> Result<i64> {
        self.take().map(i64::from_be_bytes)
    }

    pub(crate) fn buffer(&mut self) -> Result<Option<Vec<u8>>> {
        let length = self.int()?;
        if length == -1 {
            return Ok(None);
        }
        let split = usize::try_from(length)
            .ok()
            .and_then(|length| self.0.split_at_checked(length));
        let (head, rest) = split.ok_or_else(|| invalid("the reply ends inside a buffer"))?;
        self.0 = rest;
        Ok(Some(head.to_vec()))
    }

    pub(crate) fn text(&mut self) -> Result<String> {
        String::from_utf8(self.buffer()?.unwrap_or_default()).map_err(|_| invalid("not UTF-8"))
    }

    fn acl(&mut self) -> Result<Vec<Acl>> {
        let mut list = Vec::new();
        for _ in 0..self.int()? {
            list.push(Acl {
                perms: self.int()?,
                scheme: self.text()?,
                id: self.text()?,
            });
        }
        Ok(list)
    }

    pub(crate) fn stat(&mut self) -> Result<Stat> {
        Ok(Stat {
            czxid: self.long()?,
            mzxid: self.long()?,
            ctime: self.long()?,
            mtime: self.long()?,
            version: self.int()?,
            cversion: self.int()?,
            aversion: self.int()?,
            ephemeral_owner: self.long()?,
            data_length: self.int()?,
            num_children: self.int()?,
            pzxid: self.long()?,
        })
    }
}
