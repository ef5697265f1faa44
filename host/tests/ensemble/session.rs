//! A session that goes on, from server to server, as long as the ensemble lives.

use core::mem;
use core::net::SocketAddr;
use core::time::Duration;
use std::io;
use std::thread;
use std::time::Instant;

use crate::support::wire::{Client, Error};

const TIMEOUT_MS: i32 = 30_000;
/// Shorter than the session's own time: an ensemble that takes longer has lost it.
const REATTACH_TIME_MAX: Duration = Duration::from_secs(25);
/// A server may have been killed, or wait for a leader: the next one may know more.
const REPLY_TIME_MAX: Duration = Duration::from_secs(4);
const POLL: Duration = Duration::from_millis(20);

/// One session and the servers where it may be.
pub(crate) struct Session {
    servers: Vec<SocketAddr>,
    at: usize,
    pub(crate) client: Client,
}

impl Session {
    /// A new session, first with the server at this place of the list.
    pub(crate) fn open(servers: &[SocketAddr], at: usize) -> Self {
        let end = Instant::now() + REATTACH_TIME_MAX;
        loop {
            let server = *servers.get(at % servers.len()).expect("a remainder");
            match Client::open_within(server, TIMEOUT_MS, REPLY_TIME_MAX) {
                Ok(client) => {
                    let servers = servers.to_vec();
                    return Self {
                        servers,
                        at,
                        client,
                    };
                }
                Err(error) => assert!(Instant::now() < end, "{server}: {error:?}"),
            }
            thread::sleep(POLL);
        }
    }

    pub(crate) fn id(&self) -> i64 {
        self.client.session_id
    }

    /// Does one operation: its result, or the server's error code. None if the connection was lost
    /// before the reply, so that nobody knows whether it was done; the session is re-attached then.
    pub(crate) fn attempt<T>(
        &mut self,
        operation: impl FnOnce(&mut Client) -> Result<T, Error>,
    ) -> Option<Result<T, i32>> {
        match operation(&mut self.client) {
            Ok(value) => Some(Ok(value)),
            Err(Error::Code(code)) => Some(Err(code)),
            Err(Error::Expired) => panic!("only a handshake says so"),
            Err(Error::Io(error)) => {
                assert_ne!(
                    error.kind(),
                    io::ErrorKind::InvalidData,
                    "session 0x{:x}: {error}",
                    self.id()
                );
                self.move_on();
                None
            }
        }
    }

    /// Different after every change of the server.
    pub(crate) const fn place(&self) -> usize {
        self.at
    }

    /// Goes to the next server that takes the session.
    pub(crate) fn move_on(&mut self) {
        let end = Instant::now() + REATTACH_TIME_MAX;
        loop {
            self.at = self.at.wrapping_add(1);
            let place = self.at % self.servers.len();
            let server = *self.servers.get(place).expect("a remainder");
            match Client::reattach_within(server, &self.client, REPLY_TIME_MAX) {
                Ok(mut client) => {
                    // Those that came before the connection was lost have come.
                    mem::swap(&mut client.events, &mut self.client.events);
                    self.client = client;
                    return;
                }
                Err(Error::Expired) => panic!("session 0x{:x} is lost: {server}", self.id()),
                Err(error) => assert!(
                    Instant::now() < end,
                    "session 0x{:x}: no server takes it, {server}: {error:?}",
                    self.id()
                ),
            }
            thread::sleep(POLL);
        }
    }
}
