//! A stopwatch for an outage: the longest time in which no write was acknowledged.
//!
//! One writer writes one after the other and, when its server fails it, goes on with the next at
//! once. Whoever runs it ends a server meanwhile.

use core::net::SocketAddr;
use core::time::Duration;
use std::net::TcpStream;
use std::thread;
use std::time::Instant;

use zabra_core::error::ErrorCode;

use super::connection::{self, Connection};
use super::error::Error;
use super::frame::Request;
use super::mix::Operation;

/// Short against any election, long against what a refused connect costs.
const RETRY: Duration = Duration::from_millis(1);
/// A server that takes longer is tried again later, after the others.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(500);
/// After so long without a write there is nothing to measure.
const OUTAGE_MAX: Duration = Duration::from_secs(60);
const SESSION_TIMEOUT_MS: i32 = 10_000;

/// What the writer saw.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outage {
    /// The longest time between two acknowledgements.
    longest: Duration,
    /// Acknowledged writes.
    writes: u64,
}

impl Outage {
    pub(super) fn json(self) -> String {
        let Self { writes, .. } = self;
        format!("{{\"outage_ms\":{:.2},\"writes\":{writes}}}", self.ms())
    }

    pub(super) fn text(self) -> String {
        let Self { writes, .. } = self;
        format!(
            "{:.2} ms at most between two of {writes} acknowledged writes",
            self.ms()
        )
    }

    fn ms(self) -> f64 {
        self.longest.as_secs_f64() * 1000.0
    }
}

/// Writes for `window`, and on until a write is acknowledged.
///
/// # Errors
///
/// When no server acknowledges a write for a minute.
pub(super) fn run(hosts: &[String], window: Duration) -> Result<Outage, Error> {
    let addresses = connection::resolve(hosts)?;
    let mut servers = addresses.iter().cycle();
    let mut connection = None;
    let mut outage = Outage {
        longest: Duration::ZERO,
        writes: 0,
    };
    let mut begin = None;
    let mut last = Instant::now();
    while last.elapsed() < OUTAGE_MAX {
        let served = match connection.take() {
            Some(connection) => Ok(connection),
            None => servers
                .next()
                .ok_or(Error::NoSession)
                .and_then(|&address| open(address)),
        };
        let Ok(written) = served.and_then(write) else {
            thread::sleep(RETRY);
            continue;
        };
        connection = Some(written);
        let now = Instant::now();
        outage.writes += 1;
        let begin = *begin.get_or_insert(now);
        if outage.writes > 1 {
            outage.longest = outage.longest.max(now - last);
        }
        last = now;
        if now - begin >= window {
            return Ok(outage);
        }
    }
    Err(Error::TimedOut {
        doing: "waiting for an acknowledged write",
        limit: OUTAGE_MAX,
    })
}

fn open(address: SocketAddr) -> Result<Connection<TcpStream>, Error> {
    Connection::open(address, SESSION_TIMEOUT_MS, ATTEMPT_TIMEOUT)
}

/// Gives the connection back if its server has acknowledged a write on it.
fn write(mut connection: Connection<TcpStream>) -> Result<Connection<TcpStream>, Error> {
    let path = format_args!("/zbench-outage");
    connection.queue(Operation::Set, Request::Set { path, data: b"x" });
    let mut answers = Vec::new();
    connection.settle(0, |_, answer| answers.push(answer))?;
    if answers == [Err(ErrorCode::NO_NODE)] {
        answers.clear();
        connection.queue(Operation::Create, Request::Create { path, data: b"x" });
        connection.settle(0, |_, answer| answers.push(answer))?;
    }
    match answers.as_slice() {
        [Err(last)] => Err(Error::Refused {
            count: 1,
            last: *last,
        }),
        _ => Ok(connection),
    }
}
