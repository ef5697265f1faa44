//! Four-letter words.

use super::{HostFacts, Server};
use crate::ids::LinkId;

/// A word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word;

impl Word {
    pub(super) fn recognise(_bytes: [u8; 4]) -> Option<Self> {
        None
    }
}

impl Server {
    pub(super) fn word(&mut self, link: LinkId, _word: Word) {
        self.close(link);
    }

    pub(super) fn facts(&mut self, _link: LinkId, _facts: &HostFacts) {}
}
