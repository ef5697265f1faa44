//! The whole state on its way: from this server to a learner that is too far behind, and from a
//! leader to this server.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;

use bytes::Bytes;

use super::{Core, Ensemble, Output, Server, SnapshotOp};
use crate::ids::{Instant, LinkId, Zxid};
use crate::server::pace::{Pace, SLICES_MAX};
use crate::tree::{LoadError, Piece, StreamLoader};

/// How much of the state leaves in a microsecond, at most.
const BYTES_PER_US: u64 = 200;

/// Snapshots of the state between servers.
#[derive(Default)]
pub(super) struct State {
    /// Learners that wait for the state, in the order they asked.
    wanted: VecDeque<LinkId>,
    /// The one that is being sent it.
    sending: Option<LinkId>,
    pace: Pace,
    /// What a leader sends.
    loading: Option<(Zxid, StreamLoader)>,
    /// The state that a leader has sent, on its way to this server's disk.
    installing: Option<Zxid>,
}

impl State {
    pub(super) fn want(&mut self, link: LinkId) {
        self.wanted.push_back(link);
    }
}

impl Server {
    /// A leader begins to send its state: what is here is worth nothing any more.
    pub(super) fn state_begins(&mut self, zxid: Zxid) {
        let core = &mut self.core;
        core.abandon_file();
        // As a packet's data: the longest string or data that a peer may send.
        let bytes_max = (core.config.frame_bytes_max as usize).saturating_mul(2);
        let Some(ensemble) = core.ensemble.as_deref_mut() else {
            return;
        };
        let loader = StreamLoader::new(ensemble.entropy, zxid, bytes_max);
        ensemble.state.loading = Some((zxid, loader));
    }

    pub(super) fn state_bytes(&mut self, bytes: Bytes) {
        let core = &mut self.core;
        let Some(ensemble) = core.ensemble.as_deref_mut() else {
            return;
        };
        let Some((zxid, mut loader)) = ensemble.state.loading.take() else {
            return core.restart("the state came without its beginning".into());
        };
        match loader.feed(bytes) {
            Ok(None) => ensemble.state.loading = Some((zxid, loader)),
            Ok(Some(rest)) => match loader.finish() {
                Ok(tree) => {
                    core.tree = tree;
                    core.digests_settled = false;
                    ensemble.tree_is_leaders = true;
                    ensemble.state.installing = Some(zxid);
                    ensemble.zab.snapshot_loaded(rest);
                    core.begin_install();
                }
                Err(error) => ensemble.zab.snapshot_failed(&unreadable(&error)),
            },
            Err(error) => ensemble.zab.snapshot_failed(&unreadable(&error)),
        }
    }
}

impl Core {
    /// A snapshot is durable. If it is the state that a leader sent, `zab` hears of it.
    pub(in crate::server) fn installed(&mut self, zxid: Zxid) {
        let Some(ensemble) = self.ensemble_mut() else {
            return;
        };
        if ensemble.state.installing == Some(zxid) {
            ensemble.state.installing = None;
            ensemble.zab.snapshot_stored(zxid);
        }
    }

    /// A snapshot could not be written. If it was the state that a leader sent, `zab` hears of it.
    pub(in crate::server) fn install_failed(&mut self, zxid: Zxid) {
        let Some(ensemble) = self.ensemble_mut() else {
            return;
        };
        if ensemble.state.installing == Some(zxid) {
            let reason = format!("the leader's state at {zxid} could not be stored");
            ensemble.zab.snapshot_failed(&reason);
        }
    }

    /// Gives up the snapshot that is being written to a file.
    fn abandon_file(&mut self) {
        let writing = self.tree.snapshot_in_progress();
        if writing && self.sending().is_none() {
            self.outputs.push(Output::Snapshot(SnapshotOp::Abandon));
        }
        self.tree.abandon_snapshot();
        self.snapshots.overtake(!writing);
    }

    pub(in crate::server) fn sending(&self) -> Option<LinkId> {
        self.ensemble.as_deref()?.state.sending
    }

    /// Whether a learner waits for the state and can be sent it now.
    pub(in crate::server) fn wants_state(&self) -> bool {
        let Some(ensemble) = self.ensemble.as_deref() else {
            return false;
        };
        match ensemble.state.sending {
            Some(link) => ensemble.zab.snapshot_room(link).is_none_or(|room| room > 0),
            None => !ensemble.state.wanted.is_empty() && !self.tree.snapshot_in_progress(),
        }
    }

    /// When the next slice is due, if one can be sent.
    pub(in crate::server) fn next_state_slice(&self) -> Option<Instant> {
        let ensemble = self.ensemble.as_deref()?;
        self.wants_state().then_some(ensemble.state.pace.due())
    }

    /// Sends the slices of the state that are due, to the learner whose turn it is.
    pub(in crate::server) fn state_slices(&mut self) {
        for _ in 0..SLICES_MAX {
            if self
                .next_state_slice()
                .is_none_or(|due| due > self.now.instant)
            {
                return;
            }
            self.state_slice();
        }
    }

    fn state_slice(&mut self) {
        let Self {
            ensemble,
            tree,
            config,
            now,
            ..
        } = self;
        let Some(ensemble) = ensemble.as_deref_mut() else {
            return;
        };
        let Ensemble { state, zab, .. } = ensemble;
        let link = match state.sending {
            Some(link) => link,
            None => {
                let Some(link) = state.wanted.pop_front() else {
                    return;
                };
                if zab.snapshot_room(link).is_none() {
                    return;
                }
                let zxid = tree.begin_snapshot_stream();
                zab.snapshot_begin(link, zxid);
                state.sending = Some(link);
                link
            }
        };
        if zab.snapshot_room(link).is_none() {
            tree.abandon_snapshot();
            state.sending = None;
            return;
        }
        let slice_bytes = config.state_slice_bytes as usize;
        let piece = tree.snapshot_piece(slice_bytes);
        let bytes = piece.as_ref().map_or(0, Piece::bytes).max(slice_bytes);
        state.pace.left(now.instant, bytes, BYTES_PER_US);
        match piece {
            Some(Piece::Part(bytes)) => zab.snapshot_chunk(link, &bytes.into()),
            Some(Piece::Last(bytes)) => {
                zab.snapshot_chunk(link, &bytes.into());
                zab.snapshot_end(link);
                state.sending = None;
            }
            None => state.sending = None,
        }
    }

    /// Nobody is led any more.
    pub(super) fn forget_learners(&mut self) {
        let Some(ensemble) = self.ensemble_mut() else {
            return;
        };
        ensemble.state.wanted.clear();
        if ensemble.state.sending.take().is_some() {
            self.tree.abandon_snapshot();
        }
    }
}

fn unreadable(error: &LoadError) -> String {
    format!("the leader's state cannot be read: {error}")
}
