//! What every part of [`Zab`](super) writes to: the outputs of a step in their order, and the
//! numbers of links and store operations.

use alloc::vec::Vec;

use bytes::Bytes;

use super::io::{Event, Output};
use crate::ids::{Instant, LinkId, Seq};
use crate::lane::StoreOp;
use crate::link::{Endpoint, LinkOutput, Port};

/// The outputs of a step, and the time of it.
#[derive(Debug)]
pub struct Outbox {
    /// The time of the step.
    pub now: Instant,
    /// What must be done, in this order.
    pub outputs: Vec<Output>,
    next_link: LinkId,
    seq: Seq,
    /// Since when the store has finished nothing of what it was given.
    storing_since: Option<Instant>,
}

impl Outbox {
    /// Empty.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self {
            now,
            outputs: Vec::new(),
            next_link: LinkId::DIALLED,
            seq: Seq(0),
            storing_since: None,
        }
    }

    /// Connects to one of the addresses of a peer.
    pub fn dial(&mut self, port: Port, to: Vec<Endpoint>, timeout_ms: u32) -> LinkId {
        let link = self.next_link;
        self.next_link = LinkId(link.0 + 1);
        let dial = LinkOutput::Dial {
            port,
            to,
            timeout_ms,
        };
        self.outputs.push(Output::Link(link, dial));
        link
    }

    /// Sends on a link, after all sent before.
    pub fn send(&mut self, link: LinkId, bytes: Bytes) {
        self.outputs
            .push(Output::Link(link, LinkOutput::Send(bytes)));
    }

    /// Closes a link once what was sent is gone. Nothing of it is reported any more.
    pub fn close(&mut self, link: LinkId) {
        self.outputs.push(Output::Link(link, LinkOutput::Close));
    }

    /// Gives the log's lane its next operation. It is durable when `Stored` says so of its number.
    pub fn store(&mut self, op: StoreOp) -> Seq {
        self.seq = Seq(self.seq.0 + 1);
        self.storing_since.get_or_insert(self.now);
        self.outputs.push(Output::Store(self.seq, op));
        self.seq
    }

    /// The store has finished everything up to this operation.
    pub fn stored(&mut self, upto: Seq) {
        self.storing_since = (upto < self.seq).then_some(self.now);
    }

    /// Since when the store has finished nothing, if it has something to do.
    #[must_use]
    pub const fn storing_since(&self) -> Option<Instant> {
        self.storing_since
    }

    /// The last operation given.
    #[must_use]
    pub const fn last_seq(&self) -> Seq {
        self.seq
    }

    /// Tells an operator.
    pub fn event(&mut self, event: Event) {
        self.outputs.push(Output::Event(event));
    }
}
