//! How much memory a state may be said to take (`zabra.treeBytesMax`): not the server's sum over
//! again, but what that sum cannot be below and above.

use crate::model::State;

/// A session.
const SESSION: u64 = 512;
/// A znode beside its name, data and ACL, at least.
const NODE_LEAST: u64 = 192;
/// The same at most, with a text of usage and the key of a quota.
const NODE_MOST: u64 = 512;

fn length(text: &Option<String>) -> u64 {
    text.as_ref().map_or(0, |text| text.len() as u64)
}

impl State {
    /// No less than what the server says.
    #[must_use]
    pub fn memory_most(&self) -> u64 {
        let nodes = self.nodes.iter().map(|(path, node)| {
            let data = node.data.as_deref().map_or(0, <[u8]>::len);
            // Lists are shared, which is not looked at here.
            let acl = node.acl.iter();
            let acl: u64 = acl
                .map(|entry| 200 + 2 * (length(&entry.scheme) + length(&entry.id)))
                .sum();
            NODE_MOST + 2 * (path.len() + data) as u64 + 200 + acl
        });
        nodes.sum::<u64>() + self.sessions.len() as u64 * SESSION
    }

    /// No more than that.
    #[must_use]
    pub fn memory_least(&self) -> u64 {
        let nodes = self.nodes.iter().map(|(path, node)| {
            let name = path.rsplit('/').next().unwrap_or_default();
            let data = node.data.as_deref().map_or(0, <[u8]>::len);
            NODE_LEAST + (name.len() + data) as u64
        });
        nodes.sum::<u64>() + self.sessions.len() as u64 * SESSION
    }
}
