//! Whether a server may say that there is no room for a write, or that there is
//! (`zabra.treeBytesMax`).

use crate::model::State;
use crate::model::write::{self, Applied};
use crate::violation::{Violation, ensure};

const QUOTA_EXCEEDED: i32 = -125;
/// What a transaction may add and take away again: the server counts the one when it is proposed,
/// and the other when it is applied.
const HIDDEN_BYTES: u64 = 4000;

/// A write and what it would make of the state if there were room.
pub(super) struct Full<'a> {
    pub(super) max: u64,
    pub(super) before: &'a State,
    pub(super) granted: &'a Applied,
}

impl Full<'_> {
    /// The operation that is refused for want of room, if one is and may be. `versions` are those
    /// from the applied one on.
    pub(super) fn judge<'a>(
        &self,
        found: Option<(usize, i32)>,
        versions: impl Iterator<Item = &'a State>,
    ) -> Result<Option<usize>, Violation> {
        if write::refusal(&self.granted.outcome).is_some() {
            return Ok(None);
        }
        let (before, after) = (self.before, &self.granted.state);
        let Some((at, QUOTA_EXCEEDED)) = found else {
            let least = after.memory_least();
            let fits = least <= self.max || least <= before.memory_least();
            ensure(fits, "a tree does not grow beyond what it may take", || {
                format!("it takes {least} at least, of {}", self.max)
            })?;
            return Ok(None);
        };
        let grows = after.nodes.iter().any(|(path, node)| {
            let old = before.nodes.get(path);
            let bytes = |data: &Option<_>| data.as_deref().map_or(0, <[u8]>::len);
            old.is_none_or(|old| bytes(&old.data) < bytes(&node.data) || old.acl != node.acl)
        });
        ensure(grows, "what makes room is never refused", || {
            format!("operation {at} is refused for want of room")
        })?;
        let mut most = 0;
        let mut last = 0;
        for state in versions {
            let memory = state.memory_most();
            most += memory.saturating_sub(last) + HIDDEN_BYTES;
            last = memory;
        }
        most += after.memory_most().saturating_sub(last);
        ensure(
            most > self.max,
            "a write is refused only for want of room",
            || format!("all takes {most} at most, of {}", self.max),
        )?;
        Ok(Some(at))
    }
}
