//! What servers say to each other on the election port.
//!
//! ```text
//! initial       V1, V2  version 8 (-65536, -65535) | server 8 | addresses: length 4, text
//!               bare    server 8                                         before ZooKeeper 3.5
//! frame         length 4 | notification
//! notification  state 4 | leader 8 | zxid 8 | round 8                    28 bytes, the oldest
//!               | peer epoch 8 | version 4                               40 bytes
//!               | config: length 4, text                                 version 2
//! ```
//!
//! Whoever connects says the initial message, the other side nothing of the kind.
//! Source: `QuorumCnxManager`, `FastLeaderElection`.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::stream::Stream;
use crate::ids::{ServerId, Zxid};
use crate::jute;

/// Bytes of a frame at most. Source: `QuorumCnxManager.PACKETMAXSIZE`.
pub const FRAME_BYTES_MAX: usize = 524_288;
/// Bytes of an initial message's addresses at most. Source: `QuorumCnxManager.maxBuffer`.
pub const ADDRESSES_BYTES_MAX: usize = 2048;
/// The version of notifications with a config. Source: `Notification.CURRENTVERSION`.
pub const VERSION: i32 = 2;

const PROTOCOL_V1: i64 = -65536;
const PROTOCOL_V2: i64 = -65535;
/// Notifications before ZooKeeper 3.4.
const OLDEST_BYTES: usize = 28;
/// Notifications of which the last four bytes are not read.
const UNVERSIONED_BYTES: usize = 40;

/// Why bytes are not what is said on the election port.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// Among an initial message's addresses there is one without the form `host:port`.
    Address(String),
    /// The addresses of an initial message have no length from 1 to 2048.
    Addresses(i32),
    /// A notification's config does not end within it.
    Config(i32),
    /// A frame's length is not from 1 to 524288.
    Frame(i32),
    /// A notification is cut short.
    Notification(usize),
    /// An initial message has an unknown version.
    Protocol(i64),
    /// A notification's sender is in an unknown state.
    State(State),
    /// The addresses of an initial message are not UTF-8.
    Utf8,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(text) => write!(f, "expected host:port, found {text:?}"),
            Self::Addresses(length) => write!(
                f,
                "expected addresses of 1 to {ADDRESSES_BYTES_MAX} bytes, found a length of {length}"
            ),
            Self::Config(length) => write!(
                f,
                "expected a config within its notification, found a length of {length}"
            ),
            Self::Frame(length) => write!(
                f,
                "expected a frame of 1 to {FRAME_BYTES_MAX} bytes, found a length of {length}"
            ),
            Self::Notification(length) => write!(
                f,
                "expected a notification of 28, 40 or from 44 bytes, found {length} bytes"
            ),
            Self::Protocol(version) => write!(
                f,
                "expected a server's id or the version -65536 or -65535, found {version}"
            ),
            Self::State(State(state)) => write!(f, "expected a state from 0 to 3, found {state}"),
            Self::Utf8 => f.write_str("expected addresses as UTF-8, found other bytes"),
        }
    }
}

impl core::error::Error for Error {}

/// The form of an initial message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InitialVersion {
    /// Before ZooKeeper 3.5: no address.
    Bare,
    /// One address.
    V1,
    /// Any number of addresses, since 3.6 with `multiAddress.enabled`.
    V2,
}

/// The first message of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Initial {
    /// Its form.
    pub version: InitialVersion,
    /// Who connects.
    pub server: ServerId,
    /// Where its election port is: a name or an address, of IPv6 without brackets.
    pub addresses: Vec<(String, u16)>,
}

impl Initial {
    /// Its bytes. They must be sent in one piece: a Java server reads the addresses with a single
    /// read, and takes less for an error.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let (version, count) = match self.version {
            InitialVersion::Bare => return jute::to_vec(&self.server).into(),
            InitialVersion::V1 => (PROTOCOL_V1, 1),
            InitialVersion::V2 => (PROTOCOL_V2, usize::MAX),
        };
        let mut text = String::new();
        for (host, port) in self.addresses.iter().take(count) {
            if !text.is_empty() {
                text.push('|');
            }
            text.push_str(&if host.contains(':') {
                alloc::format!("[{host}]:{port}")
            } else {
                alloc::format!("{host}:{port}")
            });
        }
        jute::to_vec(&(version, self.server, text)).into()
    }

    /// Reads it from the beginning of a connection's bytes, and tells how many it has; `None` as
    /// long as some are missing.
    ///
    /// # Errors
    /// The bytes are no initial message.
    pub fn cut(buffer: &[u8]) -> Result<Option<(Self, usize)>, Error> {
        let mut input = buffer;
        let Ok(version) = jute::take::<i64>(&mut input) else {
            return Ok(None);
        };
        let version = match version {
            PROTOCOL_V1 => InitialVersion::V1,
            PROTOCOL_V2 => InitialVersion::V2,
            0.. => {
                let bare = Self {
                    version: InitialVersion::Bare,
                    server: ServerId(version),
                    addresses: Vec::new(),
                };
                return Ok(Some((bare, buffer.len() - input.len())));
            }
            _ => return Err(Error::Protocol(version)),
        };
        let Ok((server, length)) = jute::take::<(ServerId, i32)>(&mut input) else {
            return Ok(None);
        };
        let Some(length_bytes) = within(length, ADDRESSES_BYTES_MAX) else {
            return Err(Error::Addresses(length));
        };
        let Some((text, rest)) = input.split_at_checked(length_bytes) else {
            return Ok(None);
        };
        let text = core::str::from_utf8(text).map_err(|_| Error::Utf8)?;
        let addresses = text.split('|').map(address).collect::<Result<_, _>>()?;
        let initial = Self {
            version,
            server,
            addresses,
        };
        Ok(Some((initial, buffer.len() - rest.len())))
    }

    /// Those of its addresses that lead anywhere: a server that listens on all of its host's names
    /// a wildcard. If there are none, it is where the membership says.
    ///
    /// Source: `InitialMessage.parse`.
    pub fn reachable(&self) -> impl Iterator<Item = &(String, u16)> {
        self.addresses.iter().filter(|(host, _)| {
            host.parse()
                .map_or(true, |ip: core::net::IpAddr| !ip.is_unspecified())
        })
    }
}

fn within(length: i32, max: usize) -> Option<usize> {
    let length = usize::try_from(length).ok()?;
    (1..=max).contains(&length).then_some(length)
}

/// `host:port`, with brackets around a host that has colons.
fn address(text: &str) -> Result<(String, u16), Error> {
    let parts = match text.strip_prefix('[') {
        Some(rest) => rest.split_once("]:"),
        None => text.split_once(':'),
    };
    let parsed = parts.and_then(|(host, port)| Some((host, port.parse().ok()?)));
    match parsed {
        Some((host, port)) if !host.is_empty() && !host.contains(['[', ']']) => {
            Ok((host.into(), port))
        }
        _ => Err(Error::Address(text.into())),
    }
}

/// What a server is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct State(pub i32);

impl State {
    /// It looks for a leader.
    pub const LOOKING: Self = Self(0);
    /// It follows one.
    pub const FOLLOWING: Self = Self(1);
    /// It leads.
    pub const LEADING: Self = Self(2);
    /// It follows one without a vote.
    pub const OBSERVING: Self = Self(3);
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::LOOKING => f.write_str("LOOKING"),
            Self::FOLLOWING => f.write_str("FOLLOWING"),
            Self::LEADING => f.write_str("LEADING"),
            Self::OBSERVING => f.write_str("OBSERVING"),
            Self(state) => write!(f, "state {state}"),
        }
    }
}

/// A vote, and the state of the server that tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Its sender's.
    pub state: State,
    /// Who should lead, or leads.
    pub leader: ServerId,
    /// The last transaction of that server.
    pub zxid: Zxid,
    /// The round of elections, the sender's logical clock.
    pub round: i64,
    /// The current epoch of that server: 64 bits here, and `i64::MIN` from an observer.
    pub peer_epoch: i64,
    /// [`VERSION`], or 0 from a server that knows no versions.
    pub version: i32,
    /// The sender's committed membership; it comes with a version above 1, and only then.
    pub config: Option<String>,
}

/// A notification up to its version.
#[derive(Serialize, Deserialize)]
struct Head {
    state: State,
    leader: ServerId,
    zxid: Zxid,
    round: i64,
}

impl Notification {
    /// Its bytes, with the length before them.
    #[must_use]
    pub fn to_frame(&self) -> Bytes {
        let mut payload = jute::to_vec(&Head {
            state: self.state,
            leader: self.leader,
            zxid: self.zxid,
            round: self.round,
        });
        jute::append(&mut payload, &(self.peer_epoch, self.version));
        if self.version > 1 {
            jute::append(&mut payload, self.config.as_deref().unwrap_or_default());
        }
        jute::to_vec(serde_bytes::Bytes::new(&payload)).into()
    }

    /// Reads it, without the length before it. Bytes after it are ignored.
    ///
    /// # Errors
    /// The payload is no notification. Such a one is skipped in ZooKeeper; its connection stays.
    pub fn decode(payload: &[u8]) -> Result<Self, Error> {
        let length = payload.len();
        let short = |_| Error::Notification(length);
        let mut input = payload;
        let head: Head = jute::take(&mut input).map_err(short)?;
        let (peer_epoch, version) = match length {
            OLDEST_BYTES => (i64::from(head.zxid.epoch().0), 0),
            UNVERSIONED_BYTES => (jute::take(&mut input).map_err(short)?, 0),
            _ => jute::take(&mut input).map_err(short)?,
        };
        let config = if version > 1 {
            let length: i32 = jute::take(&mut input).map_err(short)?;
            let text = usize::try_from(length)
                .ok()
                .and_then(|end| input.get(..end));
            let text = text.ok_or(Error::Config(length))?;
            Some(String::from_utf8_lossy(text).into_owned())
        } else {
            None
        };
        match head.state {
            State(0..=3) => Ok(Self {
                state: head.state,
                leader: head.leader,
                zxid: head.zxid,
                round: head.round,
                peer_epoch,
                version,
                config,
            }),
            state => Err(Error::State(state)),
        }
    }
}

/// Cuts a connection's bytes, which arrive cut anywhere: first [`next_initial`](Self::next_initial)
/// on the side that accepted it, then frames.
///
/// Work is proportional to the bytes received.
#[derive(Debug, Default)]
pub struct Frames {
    stream: Stream,
    /// The length of the frame that comes next, as it came.
    length: Option<i32>,
}

impl Frames {
    /// Before anything arrived.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what arrived. All frames in it should be taken before more is received: what waits is
    /// not bounded here.
    pub fn receive(&mut self, bytes: Bytes) {
        self.stream.receive(bytes);
    }

    /// The initial message, or `None` until more arrives. Not for what comes after a frame.
    ///
    /// # Errors
    /// As [`Initial::cut`].
    pub fn next_initial(&mut self) -> Result<Option<Initial>, Error> {
        let cut = Initial::cut(self.stream.peek())?;
        Ok(cut.map(|(initial, length)| {
            self.stream.take(length);
            initial
        }))
    }

    /// What arrived and was not taken, before any frame was.
    pub(crate) fn take_rest(&mut self) -> Bytes {
        self.stream.take_rest()
    }

    /// The payload of the next frame, or `None` until more arrives.
    ///
    /// # Errors
    /// A frame has an impossible length. No frame can be found after it: every call afterwards fails.
    #[expect(
        clippy::should_implement_trait,
        reason = "it has an end only until more arrives"
    )]
    pub fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if self.length.is_none() {
            self.length = self.stream.array().map(i32::from_be_bytes);
        }
        let Some(length) = self.length else {
            return Ok(None);
        };
        let bytes = within(length, FRAME_BYTES_MAX).ok_or(Error::Frame(length))?;
        let frame = self.stream.take(bytes);
        if frame.is_some() {
            self.length = None;
        }
        Ok(frame)
    }
}
