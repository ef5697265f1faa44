//! One connection, and one server that is to be connected to.

use alloc::vec::Vec;
use core::net::SocketAddr;

use bytes::Bytes;

use crate::ids::{Instant, LinkId, ServerId};
use crate::link::Endpoint;
use crate::wire::election::{Frames, Initial};
use crate::zab::gate::Gate;
use crate::zab::outbox::Outbox;

/// Bytes given to the driver and not sent yet, beyond which only the newest message waits.
const UNSENT_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug)]
pub(super) enum Purpose {
    /// Accepted; whose it is has not been said.
    Stranger { since: Instant },
    /// Asked for, and not there yet.
    Dial(ServerId),
    /// The connection to this server.
    Peer(ServerId),
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) purpose: Purpose,
    /// Where its other end is; not known of one that is not there yet.
    pub(super) peer: Option<SocketAddr>,
    pub(super) frames: Frames,
    pub(super) unsent_bytes: usize,
    /// What could not be sent. A newer message replaces it: it says all that the older one did.
    pub(super) waiting: Option<Bytes>,
    /// Whether an unreadable message was reported: one per connection is enough.
    pub(super) reported: bool,
    /// While one of the two logs in, when that began, and what a stranger said of itself.
    pub(super) login: Option<Login>,
}

/// A login that is not over.
#[derive(Debug)]
pub(super) struct Login {
    pub(super) gate: Gate,
    pub(super) since: Instant,
    pub(super) initial: Option<Initial>,
}

impl Link {
    pub(super) fn new(purpose: Purpose, peer: Option<SocketAddr>) -> Self {
        Self {
            purpose,
            peer,
            frames: Frames::new(),
            unsent_bytes: 0,
            waiting: None,
            reported: false,
            login: None,
        }
    }

    /// When it must be known whose it is, if it is not.
    pub(super) fn deadline(&self, silence_ms: u64) -> Option<Instant> {
        let since = match self.purpose {
            Purpose::Stranger { since } => since,
            Purpose::Dial(_) => self.login.as_ref()?.since,
            Purpose::Peer(_) => return None,
        };
        Some(since.plus_ms(silence_ms))
    }

    pub(super) fn send(&mut self, link: LinkId, bytes: Bytes, out: &mut Outbox) {
        let unsent_bytes = self.unsent_bytes + bytes.len();
        if self.unsent_bytes > 0 && unsent_bytes > UNSENT_BYTES_MAX {
            self.waiting = Some(bytes);
            return;
        }
        self.waiting = None;
        self.unsent_bytes = unsent_bytes;
        out.send(link, bytes);
    }

    pub(super) fn flushed(&mut self, link: LinkId, bytes: usize, out: &mut Outbox) {
        self.unsent_bytes = self.unsent_bytes.saturating_sub(bytes);
        if let Some(waiting) = self.waiting.take() {
            self.send(link, waiting, out);
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Reach {
    #[default]
    None,
    Dialling(LinkId),
    Connected(LinkId),
}

#[derive(Debug, Default)]
pub(super) struct Peer {
    /// Where the membership says it is; nowhere for one outside of it.
    pub(super) configured: Vec<Endpoint>,
    /// Where it said itself that it is.
    pub(super) said: Vec<Endpoint>,
    pub(super) reach: Reach,
    /// Whether it asked to be connected to while it was being connected to at an older address.
    pub(super) again: bool,
    /// Whether it could not be connected to since it was last wanted, connected or heard of.
    pub(super) absent: bool,
    /// Whether it was connected once.
    pub(super) met: bool,
    /// When it may be connected to again, and the pause after that.
    pub(super) retry_at: Instant,
    pub(super) retry_ms: u64,
    /// When it was connected to last, and how long to hope after that for what must follow: that
    /// it connects back, or says something.
    pub(super) dialled_at: Instant,
    pub(super) hope_ms: u64,
    /// When it last gave a sign, and for how long it may give none.
    pub(super) heard_at: Instant,
    pub(super) patience_ms: u64,
}

impl Peer {
    pub(super) const fn link(&self) -> Option<LinkId> {
        match self.reach {
            Reach::Connected(link) => Some(link),
            Reach::None | Reach::Dialling(_) => None,
        }
    }
}
