//! S11: what an established leader did not take over is gone for good.

use zabra_core::ids::{Epoch, Zxid};

use super::History;
use crate::ensemble::plan::letter;
use crate::violation::{Violation, ensure};

impl History {
    /// Whether a leader of a later epoch has begun without this transaction.
    fn is_abandoned(&self, zxid: i64) -> bool {
        let epoch = Zxid(zxid).epoch().0;
        let later = self.starts.range(epoch.saturating_add(1)..);
        let mut established = later.filter(|(_, start)| start.is_established);
        self.txns.contains_key(&zxid)
            && established.any(|(_, start)| !self.contains(start.tip, zxid))
    }

    /// Nothing that was abandoned is delivered, or shown.
    ///
    /// # Errors
    /// This is.
    pub(super) fn ensure_not_abandoned(&self, server: usize, zxid: i64) -> Result<(), Violation> {
        ensure(
            !self.is_abandoned(zxid),
            "S11 what was abandoned stays so",
            || format!("{} shows or keeps {zxid:#x}", letter(server)),
        )
    }

    /// Who acknowledges that an epoch has begun has nothing of earlier epochs but what it began
    /// with.
    ///
    /// # Errors
    /// It has more.
    pub(super) fn ensure_begins_with(
        &self,
        server: usize,
        end: i64,
        epoch: i32,
    ) -> Result<(), Violation> {
        let Some(start) = self.starts.get(&epoch) else {
            return Ok(());
        };
        let first = Epoch(epoch).start().0;
        let kept = self.last_upto(end, first);
        ensure(
            self.contains(start.tip, kept),
            "S11 what was abandoned stays so",
            || {
                let name = letter(server);
                format!("{name} begins {epoch} with {kept:#x}, not {:#x}", start.tip)
            },
        )
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failure is the test's")]

    use bytes::Bytes;
    use zabra_core::ids::{Epoch, Seq, Zxid};
    use zabra_core::lane::StoreOp;

    use crate::ensemble::history::History;
    use crate::ensemble::history::packets::Bond;

    const NEWLEADER: i32 = 10;
    const UPTODATE: i32 = 12;

    struct Told {
        history: History,
        seq: u64,
    }

    impl Told {
        fn does(&mut self, server: usize, op: &StoreOp) {
            self.seq += 1;
            self.history.asks(server, Seq(self.seq), op, 0).unwrap();
            self.history.stored(server, Seq(self.seq)).unwrap();
        }

        fn logs(&mut self, server: usize, zxid: i64) {
            let txn = Bytes::from(zxid.to_be_bytes().to_vec());
            let zxid = Zxid(zxid);
            self.does(server, &StoreOp::Append { zxid, txn });
        }

        fn enters(&mut self, server: usize, epoch: i32) {
            let epoch = Some(Epoch(epoch));
            let (accepted, current) = (epoch, epoch);
            self.does(server, &StoreOp::Epochs { accepted, current });
        }

        fn begins(&mut self, leader: usize, learner: usize, epoch: i32) {
            let zxid = Epoch(epoch).start().0;
            let mut bond = Bond::default();
            (bond.learner, bond.leader) = (learner, leader);
            self.enters(leader, epoch);
            for kind in [17, NEWLEADER] {
                self.history.sends(&mut bond, leader, kind, zxid).unwrap();
            }
            self.enters(learner, epoch);
            self.history
                .sends(&mut bond, leader, UPTODATE, zxid)
                .unwrap();
        }
    }

    /// A has logged what nobody else has; then B has led C without it.
    fn abandoned() -> Told {
        let mut told = Told {
            history: History::new(3, 0, 3),
            seq: 0,
        };
        told.begins(0, 1, 1);
        told.logs(0, 0x1_0000_0001);
        told.begins(1, 2, 2);
        told
    }

    #[test]
    fn what_was_abandoned_is_not_delivered() {
        let mut told = abandoned();
        // A quorum gets hold of it all the same.
        told.history.server_mut(1).durable = 0x1_0000_0001;
        let shown = told.history.shows(0, 0x1_0000_0001);
        assert_eq!(
            shown.unwrap_err().invariant,
            "S11 what was abandoned stays so"
        );
    }

    #[test]
    fn who_begins_an_epoch_has_cut_off_what_was_abandoned() {
        let told = abandoned();
        let begins = |end| told.history.ensure_begins_with(0, end, 2);
        assert!(begins(0x1_0000_0001).is_err());
        assert!(begins(0).is_ok());
    }

    #[test]
    fn what_was_abandoned_is_in_no_snapshot() {
        let told = abandoned();
        let found = told.history.ensure_snapshot(0, 0x1_0000_0001);
        assert_eq!(
            found.unwrap_err().invariant,
            "S11 what was abandoned stays so"
        );
    }
}
