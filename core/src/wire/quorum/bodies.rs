//! What packets carry as their data.

use alloc::vec::Vec;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Error;
use crate::ids::{Epoch, ServerId, SessionId, Xid};
use crate::jute;
use crate::wire::client::OpCode;

/// The data of FOLLOWERINFO and OBSERVERINFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LearnerInfo {
    /// Who connects.
    pub server: ServerId,
    /// [`PROTOCOL`].
    pub protocol: i32,
    /// The version of its committed membership.
    pub config_version: i64,
}

impl LearnerInfo {
    /// Its 20 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        jute::to_vec(self).into()
    }

    /// Reads it, also in the forms of old learners: without a version of the membership, which is
    /// then 0 and thus never newer than the leader's, or with the server alone, whose protocol is
    /// then 1.
    ///
    /// Source: `LearnerHandler.run`.
    ///
    /// # Errors
    /// There are fewer than 8 bytes.
    pub fn decode(data: &[u8]) -> Result<Self, Error> {
        let mut input = data;
        let mut info = Self {
            server: field(&mut input, "a learner's id of 8 bytes")?,
            protocol: 1,
            config_version: 0,
        };
        if let Ok(protocol) = jute::take(&mut input) {
            info.protocol = protocol;
            info.config_version = jute::take(&mut input).unwrap_or(0);
        }
        Ok(info)
    }
}

/// The data of LEADERINFO; the epoch is in its zxid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderInfo {
    /// [`PROTOCOL`].
    pub protocol: i32,
}

impl LeaderInfo {
    /// Its 4 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        jute::to_vec(self).into()
    }

    /// Reads it.
    ///
    /// # Errors
    /// There are fewer than 4 bytes.
    pub fn decode(data: &[u8]) -> Result<Self, Error> {
        field(&mut &*data, "a protocol version of 4 bytes")
    }
}

/// The data of ACKEPOCH; the learner's last transaction is in its zxid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckEpoch {
    /// The learner's current epoch, or `None` if it had promised itself to this epoch before: its
    /// answer then counts for nothing.
    pub current: Option<Epoch>,
}

impl AckEpoch {
    /// On the wire, instead of a current epoch.
    const NONE: Epoch = Epoch(-1);

    /// Its 4 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        jute::to_vec(&self.current.unwrap_or(Self::NONE)).into()
    }

    /// Reads it.
    ///
    /// # Errors
    /// There are fewer than 4 bytes.
    pub fn decode(data: &[u8]) -> Result<Self, Error> {
        let current: Epoch = field(&mut &*data, "a current epoch of 4 bytes")?;
        Ok(Self {
            current: (current != Self::NONE).then_some(current),
        })
    }
}

/// The data of a REQUEST: what a client of a learner asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forwarded<'a> {
    /// The client's session.
    pub session: SessionId,
    /// The client's number for it.
    pub cxid: Xid,
    /// What it asks for.
    pub op: OpCode,
    /// The client's record as the learner received it; the timeout for `createSession`, nothing
    /// for `closeSession`.
    pub body: &'a [u8],
}

impl<'a> Forwarded<'a> {
    /// Its bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = Vec::with_capacity(16 + self.body.len());
        jute::append(&mut out, &(self.session, self.cxid, self.op));
        out.extend_from_slice(self.body);
        out.into()
    }

    /// Reads it. The body may be had as `Bytes` with `data.slice_ref(forwarded.body)`.
    ///
    /// # Errors
    /// There are fewer than 16 bytes.
    pub fn take(data: &'a [u8]) -> Result<Self, Error> {
        let mut body = data;
        let (session, cxid, op) = field(&mut body, "session, xid and operation of 16 bytes")?;
        Ok(Self {
            session,
            cxid,
            op,
            body,
        })
    }
}

/// A session whose client gave a sign: many of them are the data of a learner's PING.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touch {
    /// Which.
    pub session: SessionId,
    /// Its timeout.
    pub timeout_ms: i32,
}

impl Touch {
    /// Bytes of one.
    const BYTES: usize = 12;

    /// Their bytes, one after the other. Without any these are none, but not null: a Java leader
    /// needs the difference.
    #[must_use]
    pub fn to_bytes(touches: &[Self]) -> Bytes {
        let mut out = Vec::with_capacity(touches.len() * Self::BYTES);
        for touch in touches {
            jute::append(&mut out, touch);
        }
        out.into()
    }

    /// Reads them.
    ///
    /// # Errors
    /// The last is cut short.
    pub fn decode(data: &[u8]) -> Result<Vec<Self>, Error> {
        let (touches, rest) = data.as_chunks::<{ Self::BYTES }>();
        if !rest.is_empty() {
            return Err(Error::Body {
                name: "sessions and timeouts of 12 bytes each",
                length: data.len(),
            });
        }
        let name = "a session and timeout of 12 bytes";
        let touches = touches.iter().map(|touch| field(&mut &touch[..], name));
        touches.collect()
    }
}

/// The data of a learner's REVALIDATE: a client of its wants to go on with this session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revalidation {
    /// Which.
    pub session: SessionId,
    /// Its timeout.
    pub timeout_ms: i32,
}

impl Revalidation {
    /// Its 12 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        jute::to_vec(self).into()
    }

    /// Reads it.
    ///
    /// # Errors
    /// There are fewer than 12 bytes.
    pub fn decode(data: &[u8]) -> Result<Self, Error> {
        field(&mut &*data, "a session and timeout of 12 bytes")
    }
}

/// The data of the leader's REVALIDATE, the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revalidated {
    /// Which session was asked for.
    pub session: SessionId,
    /// Whether it still is.
    pub valid: bool,
}

impl Revalidated {
    /// Its 9 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        jute::to_vec(self).into()
    }

    /// Reads it.
    ///
    /// # Errors
    /// There are fewer than 9 bytes.
    pub fn decode(data: &[u8]) -> Result<Self, Error> {
        field(&mut &*data, "a session and its validity of 9 bytes")
    }
}

/// The data of COMMITANDACTIVATE and INFORMANDACTIVATE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activation {
    /// Who leads from here on.
    pub designated: ServerId,
    /// The transaction, in an INFORMANDACTIVATE; nothing in a COMMITANDACTIVATE, as the follower
    /// has it.
    pub txn: Bytes,
}

impl Activation {
    /// Its bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = jute::to_vec(&self.designated);
        out.extend_from_slice(&self.txn);
        out.into()
    }

    /// Reads it.
    ///
    /// # Errors
    /// There are fewer than 8 bytes.
    pub fn decode(data: &Bytes) -> Result<Self, Error> {
        let mut txn = &**data;
        let designated = field(&mut txn, "a designated leader of 8 bytes")?;
        Ok(Self {
            designated,
            txn: data.slice_ref(txn),
        })
    }
}

fn field<T: DeserializeOwned>(input: &mut &[u8], name: &'static str) -> Result<T, Error> {
    let length = input.len();
    jute::take(input).map_err(|_| Error::Body { name, length })
}
