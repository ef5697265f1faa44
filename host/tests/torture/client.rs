//! A client that writes down what it asked, when, and what it was answered.
//!
//! It keeps its session over connections to any server, and numbers its requests through the whole
//! session: session and number are in the header of every transaction, so what became of a request
//! whose answer was lost can be looked up.

use core::net::SocketAddr;
use core::time::Duration;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::Instant;

use super::network::Host;
use super::random::Random;
use super::support::wire::{Acl, Op, Reader, Stat, Writer, flags, op};

const CONNECT_TIME_MAX: Duration = Duration::from_secs(1);
const ANSWER_TIME_MAX: Duration = Duration::from_secs(4);
const FINISH_TIME_MAX: Duration = Duration::from_secs(60);
const FINISH_PAUSE: Duration = Duration::from_millis(100);
const PASSWORD_BYTES: usize = 16;
const XID_EVENT: i32 = -1;
const OP_SYNC: i32 = 9;

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Create {
        path: String,
        data: Vec<u8>,
        ephemeral: bool,
    },
    Set {
        path: String,
        data: Vec<u8>,
        version: i32,
    },
    Delete {
        path: String,
    },
    /// The same data in two znodes, at once.
    SetBoth {
        paths: [String; 2],
        data: Vec<u8>,
    },
    Get {
        path: String,
        watch: bool,
    },
    /// A change of the membership, server by server.
    Reconfig {
        joining: Option<String>,
        leaving: Option<Host>,
    },
    Sync,
    Close,
}

impl Request {
    pub(crate) const fn is_write(&self) -> bool {
        !matches!(self, Self::Get { .. } | Self::Sync)
    }
}

/// A request and what became of it.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) session: i64,
    pub(crate) xid: i32,
    pub(crate) request: Request,
    pub(crate) invoked: Instant,
    /// `None`: the connection was lost before.
    pub(crate) answer: Option<Answer>,
}

/// A reply.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) at: Instant,
    pub(crate) zxid: i64,
    /// 0, or the error.
    pub(crate) code: i32,
    /// What a `Get` got, or a `Reconfig` made.
    pub(crate) data: Option<Vec<u8>>,
    /// What a `Get` or `Set` got.
    pub(crate) stat: Option<Stat>,
}

/// A line of what a client writes down, in the order in which it happened to it.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are calls")]
pub(crate) enum Entry {
    /// A connection with this session, to this server.
    Connected(SocketAddr),
    /// A watch fired.
    Event { zxid: i64, kind: i32, path: String },
    /// A request.
    Call(Call),
}

/// Why there is no connection.
#[derive(Debug)]
#[expect(dead_code, reason = "the reason is read when it is printed")]
pub(crate) enum Refusal {
    /// The session is over.
    Expired,
    /// The server is not there, does not serve, or knows less than the client has seen.
    NotNow(String),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::NotNow(error.to_string())
    }
}

#[derive(Clone, Debug)]
struct Session {
    id: i64,
    password: Vec<u8>,
    /// Of its last request.
    xid: i32,
}

/// A client.
pub(crate) struct Client {
    timeout_ms: i32,
    asks_read_only: bool,
    stream: Option<TcpStream>,
    session: Option<Session>,
    /// The greatest zxid in a reply: a server that has not come so far is not connected to.
    seen: i64,
    /// Whether the connection is to a server without a leader.
    pub(crate) read_only: bool,
    pub(crate) entries: Vec<Entry>,
}

impl Client {
    pub(crate) const fn new(timeout_ms: i32, asks_read_only: bool) -> Self {
        Self {
            timeout_ms,
            asks_read_only,
            stream: None,
            session: None,
            seen: 0,
            read_only: false,
            entries: Vec::new(),
        }
    }

    pub(crate) const fn is_connected(&self) -> bool {
        self.stream.is_some()
    }

    pub(crate) fn disconnect(&mut self) {
        self.stream = None;
    }

    /// Connects with the session there is, or a new one.
    pub(crate) fn connect(&mut self, server: SocketAddr) -> Result<(), Refusal> {
        self.stream = None;
        let stream = TcpStream::connect_timeout(&server, CONNECT_TIME_MAX)?;
        stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
        stream.set_write_timeout(Some(ANSWER_TIME_MAX))?;
        stream.set_nodelay(true)?;
        let old = self.session.as_ref();
        let none = [0; PASSWORD_BYTES];
        let (id, password) = old.map_or((0, &none[..]), |old| (old.id, &old.password));
        let mut request = Writer::default();
        request
            .int(0)
            .long(self.seen)
            .int(self.timeout_ms)
            .long(id)
            .buffer(Some(password))
            .byte(self.asks_read_only.into());
        let mut connection = stream;
        let mut frame = Vec::new();
        append_frame(&mut frame, request.bytes());
        connection.write_all(&frame)?;
        let response = receive(&mut connection)?;
        let mut reader = Reader(&response);
        let fields: super::support::wire::Result<_> = (|| {
            let (_version, timeout) = (reader.int()?, reader.int()?);
            Ok((timeout, reader.long()?, reader.buffer()?))
        })();
        let (timeout, id, password) =
            fields.map_err(|error| Refusal::NotNow(format!("{error:?}")))?;
        if timeout <= 0 {
            self.session = None;
            return Err(Refusal::Expired);
        }
        self.read_only = reader.0.first().is_some_and(|&byte| byte != 0);
        let xid = self.session.as_ref().map_or(0, |old| old.xid);
        self.session = Some(Session {
            id,
            password: password.unwrap_or_default(),
            xid,
        });
        self.stream = Some(connection);
        self.entries.push(Entry::Connected(server));
        Ok(())
    }

    /// Ends the session, also one of which it does not know whether it still is.
    ///
    /// # Panics
    /// If no server takes it back for a minute.
    pub(crate) fn finish(&mut self, servers: &[SocketAddr], random: &mut Random) {
        let end = Instant::now() + FINISH_TIME_MAX;
        while self.session.is_some() {
            assert!(Instant::now() < end, "no server is found to end a session");
            match self.connect(random.pick(servers)) {
                Ok(()) => _ = self.call(Request::Close),
                Err(Refusal::Expired) => {}
                Err(Refusal::NotNow(_)) => thread::sleep(FINISH_PAUSE),
            }
        }
    }

    /// Asks, and waits for the answer; `None` if the connection is lost instead.
    ///
    /// # Panics
    /// If there is no connection.
    pub(crate) fn call(&mut self, request: Request) -> Option<Answer> {
        self.call_all(vec![request]).pop()
    }

    /// Asks all at once, and waits for the answers. There are fewer of them if the connection is
    /// lost.
    ///
    /// # Panics
    /// If there is no connection.
    pub(crate) fn call_all(&mut self, requests: Vec<Request>) -> Vec<Answer> {
        let session = self.session.as_mut().expect("connected");
        let (id, first) = (session.id, session.xid + 1);
        let mut frames = Vec::new();
        for request in &requests {
            session.xid += 1;
            let mut frame = Writer::default();
            encode(&mut frame, session.xid, request);
            append_frame(&mut frames, frame.bytes());
        }
        let invoked = Instant::now();
        let stream = self.stream.as_mut().expect("connected");
        let mut lost = stream.write_all(&frames).is_err();
        let mut answers = Vec::new();
        for (xid, request) in (first..).zip(requests) {
            let answer = if lost {
                None
            } else {
                self.reply(xid, &request).ok()
            };
            lost = answer.is_none();
            if request == Request::Close && !lost {
                self.session = None;
                self.stream = None;
            }
            answers.extend(answer.clone());
            self.entries.push(Entry::Call(Call {
                session: id,
                xid,
                request,
                invoked,
                answer,
            }));
        }
        if lost {
            self.stream = None;
        }
        answers
    }

    fn reply(&mut self, wanted: i32, request: &Request) -> io::Result<Answer> {
        let stream = self.stream.as_mut().expect("connected");
        loop {
            let frame = receive(stream)?;
            let at = Instant::now();
            let mut reader = Reader(&frame);
            let decoded = (|| {
                let (xid, zxid, code) = (reader.int()?, reader.long()?, reader.int()?);
                if xid == XID_EVENT {
                    let (kind, _state) = (reader.int()?, reader.int()?);
                    let path = reader.text()?;
                    self.entries.push(Entry::Event { zxid, kind, path });
                    return Ok(None);
                }
                assert_eq!(xid, wanted, "answers come in the order of requests");
                let (mut data, mut stat) = (None, None);
                if code == 0 {
                    match request {
                        Request::Get { .. } => {
                            data = reader.buffer()?;
                            stat = Some(reader.stat()?);
                        }
                        Request::Set { .. } => stat = Some(reader.stat()?),
                        Request::Reconfig { .. } => data = reader.buffer()?,
                        Request::Create { .. }
                        | Request::Delete { .. }
                        | Request::SetBoth { .. }
                        | Request::Sync
                        | Request::Close => {}
                    }
                }
                Ok(Some(Answer {
                    at,
                    zxid,
                    code,
                    data,
                    stat,
                }))
            })();
            let decoded: super::support::wire::Result<_> = decoded;
            let decoded = decoded.unwrap_or_else(|error| panic!("a reply: {error:?}"));
            if let Some(answer) = decoded {
                self.seen = self.seen.max(answer.zxid);
                return Ok(answer);
            }
        }
    }
}

fn encode(frame: &mut Writer, xid: i32, request: &Request) {
    frame.int(xid);
    match request {
        Request::Create {
            path,
            data,
            ephemeral,
        } => {
            frame.int(op::CREATE).text(path).buffer(Some(data));
            let kind = if *ephemeral {
                flags::EPHEMERAL
            } else {
                flags::PERSISTENT
            };
            frame.acl(&Acl::open()).int(kind);
        }
        Request::Set {
            path,
            data,
            version,
        } => {
            frame.int(op::SET_DATA).text(path).buffer(Some(data));
            frame.int(*version);
        }
        Request::Delete { path } => _ = frame.int(op::DELETE).text(path).int(-1),
        Request::SetBoth { paths, data } => {
            frame.int(op::MULTI);
            for path in paths {
                frame.part(&Op::SetData {
                    path,
                    data: Some(data),
                    version: -1,
                });
            }
            frame.int(op::ERROR).byte(1).int(-1);
        }
        Request::Get { path, watch } => {
            frame.int(op::GET_DATA).text(path).byte((*watch).into());
        }
        Request::Reconfig { joining, leaving } => {
            let leaving = leaving.map(|id| id.to_string());
            frame.int(op::RECONFIG);
            frame.buffer(joining.as_deref().map(str::as_bytes));
            frame.buffer(leaving.as_deref().map(str::as_bytes));
            frame.buffer(None).long(-1);
        }
        Request::Sync => _ = frame.int(OP_SYNC).text("/"),
        Request::Close => _ = frame.int(op::CLOSE),
    }
}

fn append_frame(frames: &mut Vec<u8>, payload: &[u8]) {
    let length = i32::try_from(payload.len()).expect("clients send nothing of 2 GiB");
    frames.extend_from_slice(&length.to_be_bytes());
    frames.extend_from_slice(payload);
}

fn receive(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(i32::from_be_bytes(length)).map_err(io::Error::other)?;
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload)?;
    Ok(payload)
}
