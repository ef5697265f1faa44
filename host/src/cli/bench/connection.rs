//! One connection with its session: buffers, and the requests that have no reply yet.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Instant;

use zabra_core::error::ErrorCode;

use super::error::Error;
use super::frame::{self, ReplyHeader, Request};
use super::mix::Operation;

/// What one read takes at most.
const READ_BYTES_MAX: usize = 256 * 1024;
/// A frame beyond this is no reply of ours. Source: the client's `jute.maxbuffer` and some room.
const REPLY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A request that has no reply yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    /// When it was queued.
    pub(super) at: Instant,
    /// `None` for closeSession.
    pub(super) operation: Option<Operation>,
    xid: i32,
}

/// How the server answered.
pub(super) type Answer = Result<(), ErrorCode>;

/// Whether the stream took, or gave, all it had to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// There may be more at once.
    More,
    /// The system must be waited for.
    Blocked,
}

/// A session on a stream: blocking (`TcpStream`) while it is set up, polled under load.
#[derive(Debug)]
pub(super) struct Connection<S> {
    stream: S,
    input: Vec<u8>,
    /// How much of `input` has been received.
    received: usize,
    output: Vec<u8>,
    /// How much of `output` has been sent.
    sent: usize,
    pending: VecDeque<Pending>,
    xid: i32,
}

impl Connection<TcpStream> {
    /// Connects and opens a session; every wait of this and later blocking calls ends at `timeout`.
    pub(super) fn open(
        address: SocketAddr,
        session_timeout_ms: i32,
        timeout: Duration,
    ) -> Result<Self, Error> {
        let stream = TcpStream::connect_timeout(&address, timeout)
            .map_err(|error| Error::Connect { address, error })?;
        let set_up = stream
            .set_nodelay(true)
            .and_then(|()| stream.set_read_timeout(Some(timeout)))
            .and_then(|()| stream.set_write_timeout(Some(timeout)));
        set_up.map_err(Error::io("setting up the socket"))?;
        let mut connection = Self {
            stream,
            input: vec![0; READ_BYTES_MAX],
            received: 0,
            output: Vec::new(),
            sent: 0,
            pending: VecDeque::new(),
            xid: 0,
        };
        frame::encode_connect(session_timeout_ms, &mut connection.output);
        connection.handshake()?;
        Ok(connection)
    }

    fn handshake(&mut self) -> Result<(), Error> {
        self.send_all()?;
        let mut granted = None;
        while granted.is_none() {
            self.await_more()?;
            self.take_frames(|body| {
                granted = Some(frame::connect_timeout_ms(body));
                Ok(())
            })?;
        }
        match granted.flatten() {
            Some(1..) => Ok(()),
            _ => Err(Error::NoSession),
        }
    }

    /// Sends what is queued and waits until no more than `window` requests are without a reply.
    pub(super) fn settle(
        &mut self,
        window: usize,
        mut answer: impl FnMut(Pending, Answer),
    ) -> Result<(), Error> {
        self.send_all()?;
        while self.in_flight() > window {
            self.await_more()?;
            self.take_replies(&mut answer)?;
        }
        Ok(())
    }

    fn send_all(&mut self) -> Result<(), Error> {
        match self.send()? {
            Progress::More => Ok(()),
            Progress::Blocked => Err(self.timed_out()),
        }
    }

    fn await_more(&mut self) -> Result<(), Error> {
        let before = self.received;
        self.receive()?;
        if self.received > before {
            Ok(())
        } else {
            Err(self.timed_out())
        }
    }

    fn timed_out(&self) -> Error {
        let limit = self
            .stream
            .read_timeout()
            .ok()
            .flatten()
            .unwrap_or_default();
        Error::TimedOut {
            doing: "waiting for the server",
            limit,
        }
    }

    /// Goes over to a stream for `mio::Poll`.
    pub(super) fn into_polled(self) -> Result<Connection<mio::net::TcpStream>, Error> {
        self.stream
            .set_nonblocking(true)
            .map_err(Error::io("setting up the socket"))?;
        Ok(Connection {
            stream: mio::net::TcpStream::from_std(self.stream),
            input: self.input,
            received: self.received,
            output: self.output,
            sent: self.sent,
            pending: self.pending,
            xid: self.xid,
        })
    }
}

impl<S: Read + Write> Connection<S> {
    /// Appends a request to the output; `send` sends it.
    pub(super) fn queue(&mut self, operation: Operation, request: Request<'_>) {
        self.push(Some(operation), request);
    }

    /// Appends the end of the session to the output.
    pub(super) fn queue_close(&mut self) {
        self.push(None, Request::CloseSession);
    }

    fn push(&mut self, operation: Option<Operation>, request: Request<'_>) {
        self.xid = self.xid.checked_add(1).unwrap_or(1);
        self.pending.push_back(Pending {
            at: Instant::now(),
            operation,
            xid: self.xid,
        });
        request.encode(self.xid, &mut self.output);
    }

    /// How many requests have no reply yet.
    pub(super) fn in_flight(&self) -> usize {
        self.pending.len()
    }

    /// The request that waits longest.
    pub(super) fn oldest(&self) -> Option<&Pending> {
        self.pending.front()
    }

    /// Expects no reply any more.
    pub(super) fn abandon(&mut self) {
        self.pending.clear();
    }

    pub(super) fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Sends the output as far as the system takes it.
    pub(super) fn send(&mut self) -> Result<Progress, Error> {
        while let Some(rest) = self.output.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(0) => return Err(Error::Closed),
                Ok(n) => self.sent += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Ok(Progress::Blocked);
                }
                Err(error) => return Err(broken(error, "sending")),
            }
        }
        self.output.clear();
        self.sent = 0;
        Ok(Progress::More)
    }

    /// Receives once. A blocking stream that gives nothing in time is an error.
    pub(super) fn receive(&mut self) -> Result<Progress, Error> {
        let room = self.input.get_mut(self.received..).unwrap_or_default();
        let wanted = room.len();
        match self.stream.read(room) {
            Ok(0) => Err(Error::Closed),
            Ok(n) => {
                self.received += n;
                // An epoll edge is used up by a short read: see epoll(7), question 9.
                Ok(if n == wanted {
                    Progress::More
                } else {
                    Progress::Blocked
                })
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(Progress::More),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Progress::Blocked),
            Err(error) => Err(broken(error, "receiving")),
        }
    }

    /// Hands every whole reply to `answer`, in the order of the requests; returns how many.
    pub(super) fn take_replies(
        &mut self,
        mut answer: impl FnMut(Pending, Answer),
    ) -> Result<u32, Error> {
        let mut pending = core::mem::take(&mut self.pending);
        let mut count = 0;
        let result = self.take_frames(|body| {
            let found = i64::try_from(body.len()).unwrap_or(i64::MAX);
            let header = ReplyHeader::decode(body).ok_or(Error::Protocol {
                expected: "a reply of 16 bytes or more",
                found,
            })?;
            let next = pending
                .pop_front()
                .filter(|next| next.xid == header.xid)
                .ok_or_else(|| Error::Protocol {
                    expected: "the xid of the oldest request without a reply",
                    found: header.xid.into(),
                })?;
            count += 1;
            answer(
                next,
                if header.error == 0 {
                    Ok(())
                } else {
                    Err(ErrorCode(header.error))
                },
            );
            Ok(())
        });
        self.pending = pending;
        result.map(|()| count)
    }

    /// Hands every whole frame to `take` and keeps the rest of the input.
    fn take_frames(
        &mut self,
        mut take: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut rest = self.input.get(..self.received).unwrap_or_default();
        let mut used = 0;
        let mut wanted = 0;
        while let Some(length) = frame::length(rest) {
            wanted = usize::try_from(length)
                .ok()
                .filter(|&n| n <= REPLY_BYTES_MAX)
                .ok_or_else(|| Error::Protocol {
                    expected: "the length of a reply",
                    found: length.into(),
                })?
                + 4;
            let Some((frame, after)) = rest.split_at_checked(wanted) else {
                break;
            };
            take(frame.get(4..).unwrap_or_default())?;
            rest = after;
            used += wanted;
            wanted = 0;
        }
        self.input.copy_within(used..self.received, 0);
        self.received -= used;
        if wanted > self.input.len() {
            self.input.resize(wanted, 0);
        }
        Ok(())
    }
}

/// The addresses of `HOST:PORT`, the first of each.
pub(super) fn resolve(hosts: &[String]) -> Result<Vec<SocketAddr>, Error> {
    let first = |host: &String| host.to_socket_addrs().ok()?.next();
    hosts
        .iter()
        .map(|host| first(host).ok_or_else(|| Error::UnknownHost(host.clone())))
        .collect()
}

fn broken(error: std::io::Error, doing: &'static str) -> Error {
    if matches!(
        error.kind(),
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
    ) {
        Error::Closed
    } else {
        Error::Io { doing, error }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::io::Cursor;

    use super::*;

    /// A stream that gives `input` a few bytes at a time and takes everything.
    struct Trickle {
        input: Cursor<Vec<u8>>,
        step: usize,
    }

    impl Read for Trickle {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let n = buffer.len().min(self.step);
            self.input.read(buffer.get_mut(..n).unwrap())
        }
    }

    impl Write for Trickle {
        fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
            Ok(buffer.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn connection(input: Vec<u8>, step: usize) -> Connection<Trickle> {
        Connection {
            stream: Trickle {
                input: Cursor::new(input),
                step,
            },
            input: vec![0; 32],
            received: 0,
            output: Vec::new(),
            sent: 0,
            pending: VecDeque::new(),
            xid: 0,
        }
    }

    fn reply(xid: u8, error: u8, data: usize) -> Vec<u8> {
        let mut frame = vec![0, 0, 0, u8::try_from(16 + data).unwrap()];
        frame.extend([
            0, 0, 0, xid, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, error,
        ]);
        if error == 0 {
            frame.splice(16..19, [0, 0, 0]);
        }
        frame.extend(vec![b'x'; data]);
        frame
    }

    fn answers(connection: &mut Connection<Trickle>) -> Result<Vec<Answer>, Error> {
        let mut answers = Vec::new();
        while connection.in_flight() > 0 {
            connection.receive()?;
            connection.take_replies(|_, answer| answers.push(answer))?;
        }
        Ok(answers)
    }

    #[test]
    fn replies_are_cut_wherever_the_stream_breaks_them() {
        // The second is larger than the input buffer, which must then grow.
        let stream = [reply(1, 0, 3), reply(2, 0, 80), reply(3, 0x9b, 0)].concat();
        for step in 1..=stream.len() {
            let mut connection = connection(stream.clone(), step);
            for _ in 0..3 {
                connection.queue(
                    Operation::Get,
                    Request::Get {
                        path: format_args!("/"),
                    },
                );
            }
            let answers = answers(&mut connection).unwrap();
            assert_eq!(
                answers,
                [Ok(()), Ok(()), Err(ErrorCode::NO_NODE)],
                "{step} at a time"
            );
        }
    }

    #[test]
    fn reply_out_of_turn_is_an_error() {
        let mut connection = connection(reply(2, 0, 0), 100);
        connection.queue(
            Operation::Get,
            Request::Get {
                path: format_args!("/"),
            },
        );
        let found = answers(&mut connection);
        assert!(
            matches!(found, Err(Error::Protocol { found: 2, .. })),
            "{found:?}"
        );
    }

    #[test]
    fn length_that_no_reply_has_is_an_error() {
        let mut connection = connection(vec![0xff, 0xff, 0xff, 0xff], 100);
        connection.queue(
            Operation::Get,
            Request::Get {
                path: format_args!("/"),
            },
        );
        let found = answers(&mut connection);
        assert!(
            matches!(found, Err(Error::Protocol { found: -1, .. })),
            "{found:?}"
        );
    }

    #[test]
    fn end_of_stream_is_a_closed_connection() {
        let mut connection = connection(reply(1, 0, 0), 100);
        for _ in 0..2 {
            connection.queue(
                Operation::Get,
                Request::Get {
                    path: format_args!("/"),
                },
            );
        }
        assert!(matches!(answers(&mut connection), Err(Error::Closed)));
    }
}
