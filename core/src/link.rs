//! Bytes on connections, as a machine sees them.

use core::net::SocketAddr;

use bytes::Bytes;

/// What happened on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkInput {
    /// A client's connection was accepted; the first input of its link.
    Opened {
        /// Where it comes from.
        peer: SocketAddr,
    },
    /// Bytes arrived, cut anywhere.
    Received(Bytes),
    /// This many bytes of what was to be sent have left the driver's own buffers.
    ///
    /// Until then they count against what one connection can make the server hold.
    Flushed(usize),
    /// The connection is gone, by the peer or by an error; the last input of its link.
    ///
    /// Not reported after [`LinkOutput::Close`].
    Closed,
}

/// What to do on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkOutput {
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
