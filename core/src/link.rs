//! Bytes on connections, as a machine sees them.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::sorted;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Port {
    /// Clients, to any server.
    Client,
    /// Servers of an ensemble that look for a leader.
    Election,
    /// Learners, to their leader.
    Quorum,
}

/// Where a server listens, as its configuration says: a name is resolved by the driver, at every
/// attempt anew.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// A name or an address; of IPv6 without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl Endpoint {
    /// The ports of these, at every address of the machine.
    pub(crate) fn everywhere(these: &[Self]) -> Vec<Self> {
        let ports = sorted::set(these.iter().map(|endpoint| endpoint.port));
        let everywhere = ports.into_iter().map(|port| Self {
            host: "0.0.0.0".into(),
            port,
        });
        everywhere.collect()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// What happened on a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinkInput {
    /// A connection was accepted, or one that the machine asked for is there; the first input of
    /// its link.
    Opened {
        /// What it is for.
        port: Port,
        /// Where its other end is.
        peer: SocketAddr,
    },
    /// Bytes arrived, cut anywhere.
    Received(Bytes),
    /// This many bytes of what was to be sent have left the driver's own buffers.
    ///
    /// Until then they count against what one connection can make the server hold.
    Flushed(usize),
    /// The connection is gone, by the peer or by an error, or the one asked for could not be had;
    /// the last input of its link.
    ///
    /// Not reported after [`LinkOutput::Close`].
    Closed,
    /// The connection is encrypted; right after `Opened`, on links of clients only.
    Secured {
        /// Whom the client's certificate names, which was checked: its subject as RFC 2253 writes
        /// it. `None` if it showed none.
        principal: Option<String>,
    },
}

/// What to do on a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinkOutput {
    /// Connect to the first of these that answers, and report [`LinkInput::Opened`] or, if none
    /// does in time, [`LinkInput::Closed`]. The first output of its link.
    Dial {
        /// What for.
        port: Port,
        /// The addresses of one server, tried all at once.
        to: Vec<Endpoint>,
        /// Milliseconds until it is given up.
        timeout_ms: u32,
    },
    /// Send these bytes, after all sent before.
    Send(Bytes),
    /// Stop reading from this connection: its peer sends faster than it is served.
    Pause,
    /// Read from this connection again.
    Resume,
    /// Send what is still to be sent (bounded by the driver in time), then close. Nothing of this
    /// link is reported any more.
    Close,
}
