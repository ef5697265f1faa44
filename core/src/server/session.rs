//! Who is alive: sessions, their passwords, and when they expire.
//!
//! Source: `SessionTrackerImpl`, `ExpiryQueue`, `ZooKeeperServer.generatePasswd`.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::Core;
use super::auth::is_proven;
use super::config::SessionPasswords;
use super::conn::Conn;
use crate::ids::{Instant, SessionId};
use crate::secret::{Secret, hmac_sha1, same};
use crate::wire::records::Id;

/// A session's password.
pub(super) type Password = [u8; 16];

/// The sessions' timers. Which sessions there are is the tree's to say.
#[derive(Debug)]
pub(super) struct Tracker {
    tick_us: u64,
    sessions: BTreeMap<SessionId, Timer>,
    buckets: BTreeMap<Instant, BTreeSet<SessionId>>,
}

#[derive(Clone, Copy, Debug)]
struct Timer {
    timeout_ms: u32,
    bucket: Instant,
    closing: bool,
}

impl Tracker {
    pub(super) fn new(tick_ms: u32) -> Self {
        let tick_us = u64::from(tick_ms.max(1)) * 1000;
        Self {
            tick_us,
            sessions: BTreeMap::new(),
            buckets: BTreeMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Begins to watch a session, from `now`.
    pub(super) fn add(&mut self, session: SessionId, timeout_ms: u32, now: Instant) {
        let bucket = self.bucket(timeout_ms, now);
        self.sessions.insert(
            session,
            Timer {
                timeout_ms,
                bucket,
                closing: false,
            },
        );
        self.buckets.entry(bucket).or_default().insert(session);
    }

    pub(super) fn contains(&self, session: SessionId) -> bool {
        self.sessions.contains_key(&session)
    }

    /// The session's client gave a sign. `None`: there is no such session, or it is being closed.
    ///
    /// Returns the time before which another sign changes nothing.
    pub(super) fn touch(&mut self, session: SessionId, now: Instant) -> Option<Instant> {
        let tick_us = self.tick_us;
        let timer = self
            .sessions
            .get_mut(&session)
            .filter(|timer| !timer.closing)?;
        let bucket = bucket(tick_us, timer.timeout_ms, now);
        if bucket > timer.bucket {
            Self::leave(&mut self.buckets, timer.bucket, session);
            timer.bucket = bucket;
            self.buckets.entry(bucket).or_default().insert(session);
        }
        // The bucket changes when now + timeout passes a multiple of the tick.
        let timeout_us = u64::from(timer.timeout_ms) * 1000;
        Some(Instant(timer.bucket.0.saturating_sub(timeout_us)))
    }

    /// Gives a session whose time had come another full timeout.
    pub(super) fn renew(&mut self, session: SessionId, now: Instant) {
        if let Some(timer) = self.sessions.get(&session) {
            self.add(session, timer.timeout_ms, now);
        }
    }

    /// Gives a session another timeout, as when its client reconnects and asks for it.
    pub(super) fn set_timeout(&mut self, session: SessionId, timeout_ms: u32, now: Instant) {
        if let Some(timer) = self.sessions.get(&session).copied() {
            Self::leave(&mut self.buckets, timer.bucket, session);
            self.add(session, timeout_ms, now);
        }
    }

    /// The session's end was proposed: from here on it is deaf.
    pub(super) fn close(&mut self, session: SessionId) {
        if let Some(timer) = self.sessions.get_mut(&session) {
            timer.closing = true;
            Self::leave(&mut self.buckets, timer.bucket, session);
        }
    }

    /// The session's end was committed.
    pub(super) fn remove(&mut self, session: SessionId) {
        if let Some(timer) = self.sessions.remove(&session) {
            Self::leave(&mut self.buckets, timer.bucket, session);
        }
    }

    pub(super) fn is_alive(&self, session: SessionId) -> bool {
        self.sessions
            .get(&session)
            .is_some_and(|timer| !timer.closing)
    }

    /// The sessions whose time has come.
    pub(super) fn expired(&mut self, now: Instant) -> Vec<SessionId> {
        let mut sessions = Vec::new();
        while let Some(bucket) = self.buckets.first_entry()
            && *bucket.key() <= now
        {
            sessions.extend(bucket.remove());
        }
        sessions
    }

    /// When the next session's time comes, if no client gives a sign.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.buckets.first_key_value().map(|(&bucket, _)| bucket)
    }

    /// When a session expires, if its client gives no sign.
    pub(super) fn expiry(&self, session: SessionId) -> Option<Instant> {
        self.sessions.get(&session).map(|timer| timer.bucket)
    }

    /// The buckets with their sessions, the next to expire first.
    pub(super) fn buckets(&self) -> impl ExactSizeIterator<Item = (Instant, &BTreeSet<SessionId>)> {
        self.buckets
            .iter()
            .map(|(&bucket, sessions)| (bucket, sessions))
    }

    fn bucket(&self, timeout_ms: u32, now: Instant) -> Instant {
        bucket(self.tick_us, timeout_ms, now)
    }

    fn leave(
        buckets: &mut BTreeMap<Instant, BTreeSet<SessionId>>,
        bucket: Instant,
        session: SessionId,
    ) {
        if let Some(sessions) = buckets.get_mut(&bucket) {
            sessions.remove(&session);
            if sessions.is_empty() {
                buckets.remove(&bucket);
            }
        }
    }
}

/// The next multiple of a tick after the timeout: a session lives for its timeout and up to a tick
/// more.
const fn bucket(tick_us: u64, timeout_ms: u32, now: Instant) -> Instant {
    let at = now.0 + timeout_ms as u64 * 1000;
    Instant((at / tick_us + 1) * tick_us)
}

/// The first session id of a server's life: the server in the top byte, then 40 bits of `entropy`,
/// then 16 bits that count.
///
/// ZooKeeper takes the 40 bits from a clock. After a clock was set back that gives ids a second
/// time, and a client of an older session could resume, and close, somebody else's.
pub(super) const fn first_id(server: u8, entropy: u64) -> SessionId {
    let clock = (entropy >> 24) << 16;
    let id = (clock | ((server as u64) << 56)).cast_signed();
    // The container marker is nobody's.
    SessionId(if id == i64::MIN { id + 1 } else { id })
}

/// What a session's password is in ZooKeeper: 16 bytes of `java.util.Random`. Whoever knows the id
/// can compute it.
pub(super) fn password_of_id(session: SessionId) -> Password {
    const MASK: u64 = (1 << 48) - 1;
    const MULTIPLIER: u64 = 0x0005_deec_e66d;
    let mut state = (session.0.cast_unsigned() ^ 0xb341_5c00 ^ MULTIPLIER) & MASK;
    let mut password = [0; 16];
    for chunk in password.chunks_exact_mut(4) {
        state = state.wrapping_mul(MULTIPLIER).wrapping_add(0xb) & MASK;
        for (shift, byte) in [16, 24, 32, 40].into_iter().zip(chunk) {
            *byte = (state >> shift).to_le_bytes()[0];
        }
    }
    password
}

/// A password that only who has the secret can compute, for a session whose client has this
/// certificate, or none.
///
/// Every server of an ensemble computes it, also one that has just started: nothing of it is kept.
fn password_of_secret(secret: &Secret, session: SessionId, certificate: &str) -> Password {
    let id = session.0.to_le_bytes();
    let hash = hmac_sha1(secret, &[b"session", &id, certificate.as_bytes()]);
    hash.first_chunk().copied().unwrap_or_default()
}

/// Of a client's identities the one that it has from before it asks for a session to its end.
fn certificate(ids: &[Id]) -> &str {
    let of_certificate = ids.iter().find(|id| id.scheme == "x509");
    of_certificate.map_or("", |id| &id.id)
}

/// What is set in the number that is remembered of a certificate's identity.
const OF_CERTIFICATE: u32 = 1;

impl Core {
    /// The password of a session of a client with these identities.
    pub(super) fn password(&self, session: SessionId, ids: &[Id]) -> Password {
        let auth = &self.config.auth;
        match auth.session_passwords {
            SessionPasswords::OfId | SessionPasswords::OfIdForNow => password_of_id(session),
            SessionPasswords::OfBoth
            | SessionPasswords::OfSecretFromNow
            | SessionPasswords::OfSecret => {
                password_of_secret(&auth.session_secret, session, certificate(ids))
            }
        }
    }

    /// Whether a client with these identities shows the right password for a session. Takes as long
    /// for any.
    ///
    /// Who had no certificate when it was given its password may have one by now, and nobody another.
    pub(super) fn password_is_right(
        &mut self,
        session: SessionId,
        given: &[u8],
        ids: &[Id],
    ) -> bool {
        let auth = &self.config.auth;
        let of_id = same(&password_of_id(session), given);
        let of_secret = |certificate| {
            let right = password_of_secret(&auth.session_secret, session, certificate);
            same(&right, given)
        };
        let of_secret = of_secret("") | of_secret(certificate(ids));
        let right = match auth.session_passwords {
            SessionPasswords::OfId => of_id,
            SessionPasswords::OfIdForNow | SessionPasswords::OfBoth => of_id | of_secret,
            SessionPasswords::OfSecretFromNow => {
                if of_secret {
                    // Its client has heard of its new one.
                    self.old_passwords.remove(&session);
                }
                of_secret | (of_id & self.old_passwords.contains(&session))
            }
            SessionPasswords::OfSecret => of_secret,
        };
        right && session != SessionId::NONE
    }

    /// Whether somebody with these identities may act for a session: nobody but whoever was the
    /// first to show who it is.
    pub(super) fn may_act(&mut self, session: SessionId, ids: &[Id]) -> bool {
        let mut shown = ids.iter().filter(|id| is_proven(id));
        match self.pins.get(&session) {
            Some(&pin) => shown.any(|id| self.pin(id) == pin),
            None => {
                // A certificate comes first.
                if let Some(id) = shown.next()
                    && session != SessionId::NONE
                {
                    self.pins.insert(session, self.pin(id));
                }
                true
            }
        }
    }

    /// What is remembered of an identity: a number of a key that nobody knows, so that nobody
    /// can look for an identity that has the same.
    fn pin(&self, id: &Id) -> u32 {
        let parts = [id.scheme.as_bytes(), b" ", id.id.as_bytes()];
        let hash = hmac_sha1(&self.config.auth.nonce_seed, &parts);
        let hash = hash.first_chunk().copied().unwrap_or_default();
        u32::from_le_bytes(hash) & !OF_CERTIFICATE | u32::from(id.scheme == "x509")
    }

    /// Whether a session is of a certificate that is none of these identities, nor will be.
    pub(super) fn is_anothers(&self, session: SessionId, ids: &[Id]) -> bool {
        let pin = self
            .pins
            .get(&session)
            .filter(|&pin| pin & OF_CERTIFICATE != 0);
        pin.is_some_and(|&pin| !ids.iter().any(|id| self.pin(id) == pin))
    }

    /// Whether a connection's requests may be looked at.
    pub(super) fn admits(&mut self, conn: &Conn) -> bool {
        let required = &self.config.auth.schemes_required;
        let shown = |id: &Id| required.contains(&id.scheme);
        (required.is_empty() || conn.ids.iter().any(shown)) && self.may_act(conn.session, &conn.ids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_those_of_zookeeper() {
        for (id, hex) in [
            (
                0x0100_0000_0000_0000,
                0xf22a_cd4a_97e6_9d6d_20a4_9bb6_38ea_db38_u128,
            ),
            (
                0x0100_04d5_a9bc_0000,
                0x86cb_2e61_9b3d_e40b_d448_6cfc_dcc2_9b54,
            ),
            (
                0x0000_0000_0000_0001,
                0x054c_c74a_3732_7db2_15e7_02e2_0c73_f005,
            ),
            (
                0x0100_001f_544a_0000,
                0xa43b_9c94_61ee_dfa3_2271_f07d_1200_ff01,
            ),
        ] {
            assert_eq!(password_of_id(SessionId(id)), hex.to_be_bytes());
        }
    }

    #[test]
    fn passwords_of_a_secret_differ_by_all_they_are_of() {
        let secret = |text: &str| Secret::from(alloc::string::String::from(text));
        let of = |text, id, dn| password_of_secret(&secret(text), SessionId(id), dn);
        let passwords = [
            of("secret", 1, ""),
            of("secret", 2, ""),
            of("other", 1, ""),
            of("secret", 1, "CN=bob"),
            of("secret", 1, "CN=eve"),
            password_of_id(SessionId(1)),
        ];
        assert_eq!(BTreeSet::from(passwords).len(), passwords.len());
        assert_eq!(of("secret", 1, "CN=bob"), of("secret", 1, "CN=bob"));
    }

    #[test]
    fn a_session_lives_for_its_timeout_and_at_most_a_tick_more() {
        let mut tracker = Tracker::new(1000);
        let session = SessionId(1);
        tracker.add(session, 4000, Instant(500_000));
        assert_eq!(tracker.next_expiry(), Some(Instant(5_000_000)));
        assert_eq!(tracker.expired(Instant(4_999_999)), []);
        let quiet_until = tracker.touch(session, Instant(1_200_000)).expect("alive");
        assert_eq!(tracker.next_expiry(), Some(Instant(6_000_000)));
        assert_eq!(quiet_until, Instant(2_000_000));
        assert_eq!(
            tracker.touch(session, Instant(1_999_999)),
            Some(quiet_until)
        );
        assert_eq!(tracker.next_expiry(), Some(Instant(6_000_000)));
        assert_eq!(tracker.expired(Instant(6_000_000)), [session]);
        tracker.close(session);
        assert_eq!(tracker.touch(session, Instant(6_000_000)), None);
        assert!(tracker.contains(session) && !tracker.is_alive(session));
        tracker.remove(session);
        assert!(!tracker.contains(session));
    }

    #[test]
    fn ids_carry_the_server_and_leave_room_to_count() {
        assert_eq!(first_id(1, 0x1234_5678_9abc_def0).0, 0x0112_3456_789a_0000);
        assert_eq!(first_id(0x80, 0).0, i64::MIN + 1);
    }
}
