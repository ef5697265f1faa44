//! Sending the whole state to a learner.

use alloc::format;

use bytes::Bytes;

use super::handler::Stage;
use super::{Close, Leader};
use crate::ids::{LinkId, Zxid};
use crate::wire::quorum::PacketType;
use crate::zab::lasting::{Lasting, Left};

/// Bytes of a state that may wait to be sent.
const BYTES_IN_HAND_MAX: usize = 4 << 20;

impl Leader {
    /// The server above has a state of `zxid` for a learner.
    pub(crate) fn snapshot_begin(&mut self, link: LinkId, zxid: Zxid, lasting: &mut Lasting) {
        let Some(handler) = self.learners.get_mut(&link) else {
            return;
        };
        assert!(
            handler.stage == Stage::Snapshot,
            "only a learner that needs the state is sent it"
        );
        assert!(
            zxid == lasting.history.delivered(),
            "a state is of what was delivered"
        );
        handler.heard = lasting.out.now;
        handler.proposed = zxid;
        handler.how = format!("SNAP of {zxid}");
        handler.say(PacketType::SNAP, zxid, lasting);
    }

    /// The next bytes of it.
    pub(crate) fn snapshot_chunk(&mut self, link: LinkId, bytes: &Bytes, lasting: &mut Lasting) {
        if let Some(handler) = self.learners.get_mut(&link) {
            handler.heard = lasting.out.now;
            handler.pipe.flush(&mut lasting.out);
            handler.send(bytes, lasting);
        }
    }

    /// How much may be handed over at the moment; `None` if the learner is gone.
    pub(crate) fn snapshot_room(&self, link: LinkId) -> Option<usize> {
        let handler = self.learners.get(&link)?;
        (handler.stage == Stage::Snapshot)
            .then(|| BYTES_IN_HAND_MAX.saturating_sub(handler.pipe.waiting()))
    }

    /// That was all of it: what was committed since follows.
    pub(crate) fn snapshot_end(&mut self, link: LinkId, lasting: &mut Lasting) -> Result<(), Left> {
        let Some(handler) = self.learners.get_mut(&link) else {
            return Ok(());
        };
        let zxid = handler.proposed;
        if zxid < lasting.history.base() {
            let reason = "so much was committed while the state was sent that it is not kept";
            self.lose(link, reason, Close::Dropped, lasting);
            return Ok(());
        }
        let count = self.history_after(link, zxid, lasting);
        if let Some(handler) = self.learners.get_mut(&link) {
            handler.how = format!("{} and {count} transactions", handler.how);
        }
        self.advance(lasting)
    }
}
