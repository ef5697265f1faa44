//! What a learner and its leader tell each other.

use zabra_core::ids::Zxid;

use crate::ensemble::history::{History, Start};
use crate::ensemble::plan::letter;
use crate::violation::{Violation, ensure};

/// A connection of a learner to its leader.
#[derive(Clone, Debug, Default)]
pub struct Bond {
    /// The learner.
    pub learner: usize,
    /// Its leader.
    pub leader: usize,
    /// The epoch of the leader's LEADERINFO.
    epoch: i32,
    /// Whether the learner asked to follow, and not to observe.
    is_follower: bool,
    has_acked: bool,
    has_proposals_before_newleader: bool,
    is_newleader_sent: bool,
    is_uptodate_sent: bool,
}

const COMMIT: i32 = 4;

impl History {
    /// Notes a packet that a learner's or a leader's server sends.
    ///
    /// # Errors
    /// S2, S7, S9, S14 or S16 is broken.
    pub fn sends(
        &mut self,
        bond: &mut Bond,
        from: usize,
        kind: i32,
        zxid: i64,
    ) -> Result<(), Violation> {
        if from == bond.learner {
            self.learner_sends(bond, kind, zxid)
        } else {
            self.leader_sends(bond, kind, zxid)
        }
    }

    fn leader_sends(&mut self, bond: &mut Bond, kind: i32, zxid: i64) -> Result<(), Violation> {
        let epoch = Zxid(zxid).epoch().0;
        let leader = bond.leader;
        match kind {
            17 => {
                bond.epoch = epoch;
                let accepted = self.server(leader).accepted;
                ensure(
                    accepted == epoch,
                    "S16 a leader has accepted the epoch it proposes",
                    || format!("{} proposes {epoch}, accepted {accepted}", letter(leader)),
                )
            }
            10 => {
                let tip = self.server(leader).tip;
                bond.is_newleader_sent = true;
                if bond.has_proposals_before_newleader {
                    self.seen.push("diff_with_proposals_before_newleader");
                }
                let start = *self.starts.entry(epoch).or_insert(Start {
                    leader,
                    tip,
                    is_established: false,
                });
                ensure(start.leader == leader, "S7 one leader per epoch", || {
                    let other = letter(start.leader);
                    format!("{} and {other} lead epoch {epoch}", letter(leader))
                })
            }
            12 => {
                bond.is_uptodate_sent = true;
                self.establish(bond.epoch, leader)
            }
            13 => {
                self.seen.push("sync_by_diff");
                Ok(())
            }
            14 => {
                self.seen.push("sync_by_trunc");
                Ok(())
            }
            15 => {
                self.seen.push("sync_by_snap");
                Ok(())
            }
            2 => {
                if !bond.is_newleader_sent {
                    bond.has_proposals_before_newleader = true;
                }
                ensure(
                    self.txns.contains_key(&zxid),
                    "S1 what is sent was proposed",
                    || format!("{} sends PROPOSAL of {zxid:#x}", letter(leader)),
                )
            }
            COMMIT | 8 | 9 | 19 => {
                if kind == COMMIT && bond.is_newleader_sent && !bond.is_uptodate_sent {
                    self.seen.push("commit_between_newleader_and_uptodate");
                }
                let start = self.starts.get(&bond.epoch);
                if start.is_some_and(|start| start.is_established && start.leader == leader) {
                    self.commit(zxid, leader)
                } else {
                    Ok(())
                }
            }
            _ => Ok(()),
        }
    }

    fn learner_sends(&self, bond: &mut Bond, kind: i32, zxid: i64) -> Result<(), Violation> {
        let learner = bond.learner;
        let standing = self.server(learner);
        let is_voter = bond.is_follower;
        let name = letter(learner);
        match kind {
            11 => {
                bond.is_follower = true;
                Ok(())
            }
            18 => ensure(
                standing.accepted >= bond.epoch,
                "S16 ACKEPOCH only after acceptedEpoch is durable",
                || format!("{name} accepts {}, has {}", bond.epoch, standing.accepted),
            ),
            3 if Zxid(zxid).counter() == 0 => {
                bond.has_acked = true;
                let epoch = Zxid(zxid).epoch().0;
                ensure(
                    standing.current == epoch,
                    "S16 ACK of NEWLEADER only after currentEpoch is durable",
                    || format!("{name} acks epoch {epoch}, has {}", standing.current),
                )?;
                let Some(start) = self.starts.get(&epoch) else {
                    return Err(Violation::new(
                        "S16 ACK of NEWLEADER",
                        format!("{name} acks epoch {epoch}, which nobody began"),
                    ));
                };
                ensure(
                    !is_voter || self.contains(standing.durable, start.tip),
                    "S16 ACK of NEWLEADER only after the history is durable",
                    || {
                        format!(
                            "{name} acks epoch {epoch} of {:#x}, {:#x} is durable",
                            start.tip, standing.durable
                        )
                    },
                )?;
                // An observer's log counts for nothing, and need not be durable.
                let end = if is_voter {
                    standing.durable
                } else {
                    standing.tip
                };
                self.ensure_begins_with(learner, end, epoch)
            }
            3 => {
                ensure(
                    bond.has_acked,
                    "S16 ACK of NEWLEADER before any other",
                    || format!("{name} acks {zxid:#x}"),
                )?;
                let is_durable =
                    self.txns.contains_key(&zxid) && self.contains(standing.durable, zxid);
                ensure(
                    !is_voter || is_durable,
                    "S16 ACK only of what is durable",
                    || format!("{name} acks {zxid:#x}, {:#x} is durable", standing.durable),
                )
            }
            _ => Ok(()),
        }
    }
}
