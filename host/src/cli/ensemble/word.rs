//! Four-letter words, asked.

use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Instant;

use super::address::Address;

/// `mntr` has some 20 KB; whoever sends more than this does not answer a word.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Why there is no answer.
#[derive(Debug)]
pub(in crate::cli) enum Silence {
    /// The connection ended without a word: nobody who knows them is there.
    Closed,
    /// The network's trouble.
    Io(io::Error),
    /// The name has no address.
    NoAddress(String),
    /// Nothing was heard in time.
    TimedOut(Duration),
}

/// Asks a server a word and returns what it answers.
pub(in crate::cli) fn ask(
    address: &Address,
    word: &str,
    time_max: Duration,
) -> Result<String, Silence> {
    let end = Instant::now() + time_max;
    let mut last = Silence::NoAddress("it has none".to_owned());
    let addresses = (address.host.as_str(), address.port).to_socket_addrs();
    for address in addresses.map_err(|error| Silence::NoAddress(error.to_string()))? {
        match ask_at(address, word, end) {
            Ok(answer) if answer.is_empty() => last = Silence::Closed,
            Ok(answer) => return Ok(answer),
            Err(error) if is_timeout(&error) => last = Silence::TimedOut(time_max),
            Err(error) => last = Silence::Io(error),
        }
    }
    Err(last)
}

fn ask_at(address: SocketAddr, word: &str, end: Instant) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, left(end)?)?;
    stream.set_write_timeout(Some(left(end)?))?;
    stream.write_all(word.as_bytes())?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        stream.set_read_timeout(Some(left(end)?))?;
        let length = match stream.read(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // Apache ZooKeeper may reset a connection that it has answered.
            Err(_) if !answer.is_empty() => break,
            Err(error) => return Err(error),
        };
        let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else {
            break;
        };
        answer.extend_from_slice(bytes);
        if answer.len() as u64 > ANSWER_BYTES_MAX {
            return Err(io::Error::other(format!(
                "expected the answer to {word}, found more than {ANSWER_BYTES_MAX} bytes"
            )));
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn left(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(left)
}

fn is_timeout(error: &io::Error) -> bool {
    // A socket's own timeout is `WouldBlock` on Unix.
    matches!(
        error.kind(),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock
    )
}

impl fmt::Display for Silence {
    /// A clause that follows the server's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str(
                "closed the connection without an answer: is it a ZooKeeper server, and the port \
                 one without TLS?",
            ),
            Self::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                f.write_str("refused the connection: no server listens there")
            }
            Self::Io(error) => write!(f, "cannot be asked: {error}"),
            Self::NoAddress(error) => write!(f, "has a name without an address: {error}"),
            Self::TimedOut(limit) => write!(f, "gave no answer within {} s", limit.as_secs_f64()),
        }
    }
}
