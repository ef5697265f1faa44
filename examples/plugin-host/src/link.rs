//! A connection: what is still to be sent on it, and whether it is read.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Result, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use crate::wire::LinkInput;

const READ_BYTES: usize = 64 << 10;
const CLOSE_MAX: Duration = Duration::from_secs(5);

pub struct Link {
    stream: TcpStream,
    pub to_send: VecDeque<u8>,
    pub paused: bool,
    /// The peer sends no more.
    pub silent: bool,
    close_by: Option<Instant>,
}

impl Link {
    pub fn new(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, to_send: VecDeque::new(), paused: false, silent: false, close_by: None })
    }

    /// Sends what the socket takes, and reads what it has.
    pub fn exchange(&mut self) -> Result<Vec<LinkInput>> {
        let (mut inputs, before) = (Vec::new(), self.to_send.len());
        while !self.to_send.is_empty()
            && let Some(count) = unless_blocked(self.stream.write(self.to_send.as_slices().0))?
        {
            self.to_send.drain(..count);
        }
        if self.to_send.len() < before {
            inputs.push(LinkInput::Flushed(before - self.to_send.len()));
        }
        let mut bytes = vec![0; READ_BYTES];
        if !(self.paused || self.silent)
            && let Some(count) = unless_blocked(self.stream.read(&mut bytes))?
        {
            bytes.truncate(count);
            self.silent = count == 0;
            inputs.extend((count > 0).then_some(LinkInput::Received(bytes)));
        }
        Ok(inputs)
    }

    /// Sends what is left and waits for the peer to close as well, for a while: whether it did.
    pub fn is_closed(&mut self) -> bool {
        let close_by = *self.close_by.get_or_insert_with(|| Instant::now() + CLOSE_MAX);
        self.paused = false;
        let lost = self.exchange().is_err();
        if self.to_send.is_empty() {
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        lost || self.silent && self.to_send.is_empty() || Instant::now() >= close_by
    }
}

fn unless_blocked(result: Result<usize>) -> Result<Option<usize>> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        result => result.map(Some),
    }
}
