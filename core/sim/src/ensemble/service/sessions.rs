//! When leaders hear of sessions' clients, and through which server: C14 and C15.
//!
//! A client's sign of life reaches its leader at once if it is connected there, else with its
//! server's next answer to a PING, or with a REVALIDATE. Each way is judged where it begins, and
//! the leader by what has reached it: so no allowance is made for partitions.

use std::collections::{BTreeMap, BTreeSet};

use crate::ensemble::plan::letter;
use crate::violation::{Violation, ensure};
use crate::wire::Reader;

/// Through which server a session's requests are done; nobody: who asks first.
type Owner = Option<usize>;

/// What one server should know, leading or learning.
#[derive(Clone, Debug, Default)]
struct Party {
    /// When it heard of each session's client, itself or by what it was told.
    heard: BTreeMap<i64, u64>,
    /// The owners that a session had in this turn; the last is what it has from here on.
    owners: BTreeMap<i64, Vec<Owner>>,
    /// What it has proposed in this turn, with the session.
    proposed: Vec<(i64, i64)>,
    /// Whose clients it has heard of and not told its leader.
    untold: BTreeSet<i64>,
    /// Of whom it hears in this turn, and whom it tells of.
    hears: BTreeSet<i64>,
    tells: BTreeSet<i64>,
}

impl Party {
    fn owned_by(&mut self, session: i64, owner: Owner) {
        self.owners
            .entry(session)
            .or_insert_with(|| vec![None])
            .push(owner);
    }

    fn owner(&self, session: i64) -> Owner {
        let owners = self.owners.get(&session);
        owners.and_then(|owners| owners.last().copied().flatten())
    }
}

/// Where sessions' clients are.
#[derive(Clone, Debug, Default)]
pub(super) struct Sessions {
    parties: BTreeMap<usize, Party>,
    /// The owners that a transaction's session had in the turn that proposed it.
    owners: BTreeMap<i64, Vec<Owner>>,
}

impl Sessions {
    fn party(&mut self, server: usize) -> &mut Party {
        self.parties.entry(server).or_default()
    }

    /// A server is another than it was: what it knew is gone.
    pub(super) fn begins_anew(&mut self, server: usize) {
        self.parties.remove(&server);
    }

    /// A server has its turn, and something of a session's client in it.
    pub(super) fn hears(&mut self, server: usize, session: i64, now: u64) {
        let party = self.party(server);
        party.heard.insert(session, now);
        party.hears.insert(session);
    }

    /// A leader is told of sessions' clients.
    ///
    /// # Errors
    /// The bytes are no touches.
    pub(super) fn is_told(
        &mut self,
        leader: usize,
        touches: &[u8],
        now: u64,
    ) -> Result<(), Violation> {
        for session in sessions_of(touches)? {
            self.party(leader).heard.insert(session, now);
        }
        Ok(())
    }

    /// A learner tells its leader of those whose clients it has heard of.
    ///
    /// # Errors
    /// Somebody's is missing whose session is not over.
    pub(super) fn tells(
        &mut self,
        learner: usize,
        touches: &[u8],
        is_over: impl Fn(i64) -> bool,
    ) -> Result<(), Violation> {
        let told = sessions_of(touches)?;
        let party = self.party(learner);
        let untold = core::mem::take(&mut party.untold);
        let missing = untold.difference(&told).find(|session| !is_over(**session));
        ensure(
            missing.is_none(),
            "C14 a learner tells of every client it has heard of",
            || {
                let (name, missing) = (letter(learner), missing.copied().unwrap_or(0));
                format!("{name} tells of {told:x?}, {missing:#x} is missing")
            },
        )?;
        party.tells.extend(told);
        Ok(())
    }

    /// A leader gives a session to a server, its own or a learner.
    pub(super) fn moves(&mut self, leader: usize, session: i64, to: usize, now: u64) {
        let party = self.party(leader);
        party.owned_by(session, Some(to));
        party.heard.insert(session, now);
    }

    /// A leader has lost a learner: the learner's sessions are whose comes first.
    pub(super) fn loses(&mut self, leader: usize, learner: usize) {
        let party = self.party(leader);
        for owners in party.owners.values_mut() {
            if owners.last() == Some(&Some(learner)) {
                owners.push(None);
            }
        }
    }

    /// A leader has proposed a transaction of a session, whose request came through a server that
    /// it lets in.
    pub(super) fn proposes(&mut self, leader: usize, zxid: i64, session: i64, through: Owner) {
        let party = self.party(leader);
        party.proposed.push((zxid, session));
        if party.owner(session).is_none() && through.is_some() {
            party.owned_by(session, through);
        }
    }

    /// Judges the end of a session that a leader proposes for its silence.
    ///
    /// # Errors
    /// It was heard of less than its timeout ago.
    pub(super) fn ensure_silent(
        &self,
        leader: usize,
        session: i64,
        timeout_ms: i32,
        now: u64,
    ) -> Result<(), Violation> {
        let party = self.parties.get(&leader);
        let Some(heard) = party.and_then(|party| party.heard.get(&session)) else {
            return Ok(());
        };
        let silent_us = now - heard;
        // Clocks run at most a twentieth too fast.
        let least_us = u64::try_from(timeout_ms).unwrap_or(0) * 930;
        ensure(
            silent_us >= least_us,
            "C14 no session expires early",
            || {
                let name = letter(leader);
                format!(
                    "{name} ends {session:#x} of {timeout_ms} ms, heard of {silent_us} us before"
                )
            },
        )
    }

    /// A server's turn is over.
    pub(super) fn turn_ended(&mut self, server: usize) {
        let party = self.parties.entry(server).or_default();
        for (zxid, session) in core::mem::take(&mut party.proposed) {
            let owners = party.owners.get(&session).cloned();
            self.owners
                .insert(zxid, owners.unwrap_or_else(|| vec![None]));
        }
        for owners in party.owners.values_mut() {
            owners.drain(..owners.len() - 1);
        }
        // A sign that came with the PING that was answered may be in the answer, or in the next.
        let (hears, tells) = (&mut party.hears, &mut party.tells);
        party.untold.extend(hears.difference(tells));
        hears.clear();
        tells.clear();
    }

    /// Judges a transaction by where its session was.
    ///
    /// # Errors
    /// Its session had moved and it was done, or had not and was refused for that.
    pub(super) fn ensure_owned(
        &self,
        zxid: i64,
        through: usize,
        refusal: Option<i32>,
    ) -> Result<(), Violation> {
        let Some(owners) = self.owners.get(&zxid) else {
            return Ok(());
        };
        let may_be_done = owners.contains(&None) || owners.contains(&Some(through));
        let may_be_moved = owners.iter().flatten().any(|owner| *owner != through);
        let names = || {
            owners
                .iter()
                .flatten()
                .map(|it| letter(*it))
                .collect::<String>()
        };
        match refusal {
            Some(SESSION_MOVED) => ensure(
                may_be_moved,
                "C15 only what a session has left behind is refused as moved",
                || format!("{zxid:#x} through {}, owner {}", letter(through), names()),
            ),
            Some(SESSION_EXPIRED) => Ok(()),
            _ => ensure(
                may_be_done,
                "C15 nothing is done of what a session has left behind",
                || format!("{zxid:#x} through {}, owner {}", letter(through), names()),
            ),
        }
    }
}

pub(super) const SESSION_EXPIRED: i32 = -112;
pub(super) const SESSION_MOVED: i32 = -118;

/// The sessions in a learner's answer to a PING, each with its timeout.
fn sessions_of(touches: &[u8]) -> Result<BTreeSet<i64>, Violation> {
    let mut input = Reader(touches);
    let mut sessions = BTreeSet::new();
    while !input.0.is_empty() {
        let touch = input.long().and_then(|session| Ok((session, input.int()?)));
        let (session, _) = touch.map_err(|error| Violation::new("wire", error))?;
        sessions.insert(session);
    }
    Ok(sessions)
}

/// The session that a leader's answer to a REVALIDATE declares alive.
pub(super) fn revalidated(data: &[u8]) -> Result<Option<i64>, Violation> {
    let mut input = Reader(data);
    let answer = input
        .long()
        .and_then(|session| Ok((session, input.bool()?)));
    let (session, is_valid) = answer.map_err(|error| Violation::new("wire", error))?;
    Ok(is_valid.then_some(session))
}
