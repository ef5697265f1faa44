//! A stopwatch for a server's start: until a new session is granted and answers an exists.

use core::net::SocketAddr;
use core::time::Duration;
use std::net::TcpStream;
use std::thread;
use std::time::{Instant, SystemTime};

use super::connection::{self, Connection};
use super::error::Error;
use super::frame::Request;
use super::mix::Operation;

/// Short against a start of a few milliseconds, long against what a refused connect costs.
const RETRY: Duration = Duration::from_micros(500);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(1);
const SESSION_TIMEOUT_MS: i32 = 10_000;

/// When a server answered first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ready {
    /// Since the stopwatch was started.
    after: Duration,
    /// For a caller that started the server before the stopwatch, and took the time then.
    at: SystemTime,
}

impl Ready {
    pub(super) fn json(self) -> String {
        let at = self
            .at
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        format!(
            "{{\"ready_ms\":{:.2},\"ready_at_unix_us\":{}}}",
            self.ms(),
            at.as_micros()
        )
    }

    pub(super) fn text(self) -> String {
        format!("ready after {:.2} ms", self.ms())
    }

    fn ms(self) -> f64 {
        self.after.as_secs_f64() * 1000.0
    }
}

/// Tries until `host` answers.
///
/// # Errors
///
/// When it does not within `limit`.
pub(super) fn run(host: &str, limit: Duration) -> Result<Ready, Error> {
    let start = Instant::now();
    let addresses = connection::resolve(&[host.to_owned()])?;
    while start.elapsed() < limit {
        for &address in &addresses {
            if let Ok(connection) = attempt(address) {
                let ready = Ready {
                    after: start.elapsed(),
                    at: SystemTime::now(),
                };
                close(connection);
                return Ok(ready);
            }
        }
        thread::sleep(RETRY);
    }
    Err(Error::TimedOut {
        doing: "waiting for the first reply",
        limit,
    })
}

fn attempt(address: SocketAddr) -> Result<Connection<TcpStream>, Error> {
    let mut connection = Connection::open(address, SESSION_TIMEOUT_MS, ATTEMPT_TIMEOUT)?;
    connection.queue(
        Operation::Exists,
        Request::Exists {
            path: format_args!("/"),
        },
    );
    let mut refused = None;
    connection.settle(0, |_, answer| refused = answer.err())?;
    match refused {
        None => Ok(connection),
        Some(last) => Err(Error::Refused { count: 1, last }),
    }
}

/// Ends the session, which would otherwise expire in the middle of a later measurement.
fn close(mut connection: Connection<TcpStream>) {
    connection.queue_close();
    // The stopwatch has stopped: whether the session is closed or expires is no result of it.
    let _ = connection.settle(0, |_, _| {});
}
