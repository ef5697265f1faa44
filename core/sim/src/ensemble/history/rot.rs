//! What may be demanded of a server whose disk has rotten.

use zabra_core::ids::Zxid;

use super::History;

impl History {
    /// Whether the ensemble can live with what a server has found on a rotten disk.
    ///
    /// A last record that has rotten looks like one that was torn as it was written, so it is cut
    /// off: recovery cannot know better. That costs nothing as long as a quorum of others has what
    /// is lost and would not elect this server.
    pub fn survives_rot(&mut self, server: usize, last: i64) -> bool {
        let standing = self.server(server).clone();
        let durable = standing.durable;
        let tip = self.locate(last, standing.tip.max(durable));
        if self.contains(tip, durable) || !self.contains(durable, tip) {
            // Nothing is lost; or it is what never was there, which is judged as always.
            return true;
        }
        let first = self.first.clone();
        let is_spread = first.has_quorum(|other| {
            let it = self.server(other);
            other != server
                && it.is_trusted
                && it.current >= standing.current
                && self.contains(it.durable, durable)
        });
        if is_spread {
            self.seen.push("rot_took_the_end");
            let standing = self.server_mut(server);
            standing.durable = tip;
            standing.tip = tip;
            standing.last = last.max(Zxid(tip).0);
            standing.pending.clear();
        }
        is_spread
    }
}
