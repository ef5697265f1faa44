//! Newtypes for every identifier, so that no function takes two bare integers.

use core::fmt;

use serde::{Deserialize, Serialize};

/// A transaction id: the epoch in the high 32 bits, a counter in the low 32.
///
/// Signed as on ZooKeeper's wire; ids handed out are never negative. Zero is "before any
/// transaction".
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Zxid(pub i64);

impl Zxid {
    /// Before any transaction.
    pub const ZERO: Self = Self(0);

    /// The id of the next transaction of the same epoch, or `None` when the counter is used up.
    ///
    /// Source: ZooKeeper's leader steps down when the counter reaches 0xffffffff.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        if self.0 & 0xffff_ffff >= 0xffff_fffe {
            None
        } else {
            Some(Self(self.0 + 1))
        }
    }

    /// The id of the first transaction of the next epoch.
    #[must_use]
    pub const fn first_of_next_epoch(self) -> Self {
        Self((((self.0 >> 32) + 1) << 32) | 1)
    }

    /// The epoch in which it was proposed.
    #[must_use]
    pub const fn epoch(self) -> Epoch {
        Epoch((self.0 >> 32) as i32)
    }

    /// Its place in the epoch, from 1. Zero names no transaction but the epoch's beginning.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the low half is what is asked for"
    )]
    pub const fn counter(self) -> u32 {
        self.0.cast_unsigned() as u32
    }
}

impl fmt::Display for Zxid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:x}", self.0)
    }
}

/// The reign of one leader. Signed as on ZooKeeper's wire; never negative where it is real.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Epoch(pub i32);

impl Epoch {
    /// What names the beginning of this epoch, before its first transaction.
    #[must_use]
    pub const fn start(self) -> Zxid {
        Zxid((self.0 as i64) << 32)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A server of an ensemble: the `N` of `server.N`, what `myid` holds.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct ServerId(pub i64);

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A session's id. Zero is "no session".
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct SessionId(pub i64);

impl SessionId {
    /// No session: what a client sends when it asks for a new one.
    pub const NONE: Self = Self(0);
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:x}", self.0)
    }
}

/// A client's number for one of its requests, echoed in the reply.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Xid(pub i32);

/// One connection, for as long as it lasts. No number is used twice in a machine's life: a driver
/// counts those it accepts from 1, a machine those it dials from [`LinkId::DIALLED`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LinkId(pub u64);

impl LinkId {
    /// The first of the connections that a machine asks for itself.
    pub const DIALLED: Self = Self(1 << 63);
}

/// The place of an operation in the order given to the store, from 1.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Seq(pub u64);

/// Microseconds on a clock that never goes back; its zero means nothing.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Instant(pub u64);

impl Instant {
    /// This instant and `ms` milliseconds more.
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms.saturating_mul(1000)))
    }

    /// Microseconds since `earlier`, zero if that is not earlier.
    #[must_use]
    pub const fn micros_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Milliseconds since 1970 by the wall clock: data for `Stat` fields, never used to measure.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct UnixMillis(pub i64);
