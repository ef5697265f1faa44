//! What time brings to a leader: PINGs, and the end of those who give no sign.

use alloc::format;
use alloc::vec::Vec;

use super::handler::Stage;
use super::{Close, Leader, Phase};
use crate::ids::{Instant, LinkId, ServerId};
use crate::zab::lasting::{Lasting, Left};
use crate::zab::pipe::BYTES_WAITING_MAX;

impl Leader {
    /// When time matters next.
    pub(crate) const fn wake(&self) -> Instant {
        self.next_beat
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, lasting: &mut Lasting) -> Result<(), Left> {
        if self.next_beat > lasting.out.now {
            return Ok(());
        }
        // Twice per tick. Source: spec 3.5, 3.6.
        let half_ms = u64::from(lasting.options.tick_ms / 2).max(1);
        self.next_beat = lasting.out.now.plus_ms(half_ms);
        self.beats += 1;
        self.judge(lasting);
        self.drop_silent(lasting);
        self.check_own(lasting)?;
        let last = lasting.history.last();
        for handler in self.learners.values_mut() {
            // A PING within the state would be taken for a part of it.
            if handler.stage >= Stage::Following {
                handler.ping(last, lasting);
            }
        }
        self.advance(lasting)
    }

    /// Voters that had a part in the election look for a leader again. If there is no quorum
    /// without them there is none to wait for: they will not come unless they hear a quorum say
    /// that this server leads.
    ///
    /// Source: spec 2.9, ZOOKEEPER-3109, `zookeeper.leader.maxTimeToWaitForEpoch`.
    pub(crate) fn abandoned(
        &mut self,
        voters: impl Iterator<Item = ServerId>,
        lasting: &Lasting,
    ) -> Result<(), Left> {
        self.returned.extend(voters);
        let may_come = |id: ServerId| {
            let connected = self.ids.contains_key(&id);
            connected || !self.returned.contains(&id)
        };
        if self.established().is_some() || lasting.views().have_quorum_of(may_come) {
            return Ok(());
        }
        Err(Left::Look(
            "the voters of this leader look for another".into(),
        ))
    }

    fn drop_silent(&mut self, lasting: &mut Lasting) {
        let now = lasting.out.now;
        let late: Vec<(LinkId, alloc::string::String)> = self
            .learners
            .iter()
            .filter_map(|(&link, handler)| {
                // Who waits for this leader is not to blame for it.
                let waits = handler.stage == Stage::Known || handler.stage == Stage::Promised;
                let limit = lasting.ticks_ms(handler.limit_ticks(lasting));
                let sync = lasting.ticks_ms(lasting.options.sync_limit);
                if !waits && handler.heard.plus_ms(limit) <= now {
                    return Some((link, format!("no word from it for {limit} ms")));
                }
                if let Some((zxid, since)) = handler.watched
                    && since.plus_ms(sync) <= now
                {
                    return Some((link, format!("{zxid} not acknowledged for {sync} ms")));
                }
                let waiting = handler.pipe.waiting();
                let full = waiting > BYTES_WAITING_MAX && handler.stage != Stage::Snapshot;
                full.then(|| (link, format!("{waiting} bytes wait to be sent to it")))
            })
            .collect();
        for (link, reason) in late {
            self.lose(link, &reason, Close::Dropped, lasting);
        }
    }

    /// Whether this server can go on leading.
    fn check_own(&self, lasting: &Lasting) -> Result<(), Left> {
        let now = lasting.out.now;
        let Phase::Established { .. } = self.phase else {
            if self.deadline > now {
                return Ok(());
            }
            return Err(Left::Look(format!(
                "no quorum in {} ms, in {}",
                lasting.ticks_ms(lasting.options.init_limit),
                self.phase_name()
            )));
        };
        // Once per tick. Source: spec 3.6.
        if self.beats.is_multiple_of(2) && !self.have_quorum(lasting, true, |_| true) {
            return Err(Left::Look("the quorum of followers is lost".into()));
        }
        let sync = lasting.ticks_ms(lasting.options.sync_limit);
        if let Some(&(_, zxid, since)) = self.appends.front()
            && since.plus_ms(sync) <= now
        {
            // ZOOKEEPER-2247: a leader without a disk holds everyone up.
            return Err(Left::Look(format!(
                "the own log has not stored {zxid} for {sync} ms"
            )));
        }
        Ok(())
    }
}
