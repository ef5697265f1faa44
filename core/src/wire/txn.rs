//! Transactions: what a leader proposes, and the same bytes in the log.
//!
//! ```text
//! TxnHeader  client 8 | cxid 4 | zxid 8 | time 8 | type 4
//! body       by type
//! TxnDigest  version 4 (2) | digest of the tree after it 8       optional
//! ```
//!
//! Nothing marks the boundaries; the end of the buffer ends the transaction.
//! Source: `org.apache.zookeeper.txn`, `SerializeUtils.deserializeTxn`.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::error::ErrorCode;
use crate::ids::{SessionId, UnixMillis, Xid, Zxid};
use crate::jute::{self, Error, Text, take};
use crate::wire::client::OpCode;
use crate::wire::records::AclText;

/// The version of the tree digest's algorithm.
pub const DIGEST_VERSION: i32 = 2;

/// Who asked for a transaction, when, and its place in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxnHeader {
    /// The session that asked for it; none for the leader's own.
    pub client: SessionId,
    /// The client's number for its request.
    pub cxid: Xid,
    /// Its place.
    pub zxid: Zxid,
    /// The leader's wall clock.
    pub time: UnixMillis,
    /// Which kind of body follows.
    pub op: OpCode,
}

/// The digest of the tree after a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxnDigest {
    /// [`DIGEST_VERSION`].
    pub version: i32,
    /// The digest, an unsigned number in a signed field.
    pub digest: i64,
}

/// What a created znode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateKind {
    /// It goes when its last child goes.
    Container,
    /// It belongs to the session that created it.
    Ephemeral,
    /// It stays.
    Persistent,
    /// It goes when it had no children and no change for so many milliseconds.
    Ttl(i64),
}

/// A transaction's body, borrowed from its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Txn<'a> {
    /// A check within a multi: made when the transaction was prepared, nothing to apply.
    Check {
        /// Which znode.
        path: Cow<'a, str>,
        /// The version it had to have, plus one.
        version: i32,
    },
    /// The session ends.
    CloseSession {
        /// Its ephemeral znodes; `None` in logs before ZooKeeper 3.6.
        paths: Option<Vec<Text<'a>>>,
    },
    /// A znode is created.
    Create {
        /// Where.
        path: Cow<'a, str>,
        /// Its data.
        data: Option<&'a [u8]>,
        /// Its ACL.
        acl: Vec<AclText<'a>>,
        /// What it is.
        kind: CreateKind,
        /// The parent's count of created children afterwards, or -1: one more than before.
        parent_cversion: i32,
    },
    /// A session begins.
    CreateSession {
        /// Its timeout in milliseconds.
        timeout_ms: i32,
    },
    /// A znode is deleted.
    Delete {
        /// Which.
        path: Cow<'a, str>,
    },
    /// A request was refused: it changes nothing but has its place in the order.
    Error(ErrorCode),
    /// All of these, or none if one of them is an error.
    Multi(Vec<(OpCode, Self)>),
    /// Data is set.
    SetData {
        /// Which znode's.
        path: Cow<'a, str>,
        /// The data.
        data: Option<&'a [u8]>,
        /// The version it then has.
        version: i32,
    },
    /// An ACL is set.
    SetAcl {
        /// Which znode's.
        path: Cow<'a, str>,
        /// The ACL.
        acl: Vec<AclText<'a>>,
        /// The ACL version it then has.
        version: i32,
    },
}

/// Decodes a transaction.
///
/// # Errors
/// The bytes are no transaction.
pub fn decode(bytes: &[u8]) -> Result<(TxnHeader, Txn<'_>, Option<TxnDigest>), Error> {
    let mut input = bytes;
    let header: TxnHeader = take(&mut input)?;
    if header.op == OpCode::CLOSE_SESSION {
        let (txn, digest) = close_session(input)?;
        return Ok((header, txn, digest));
    }
    let txn = body(header.op, &mut input, true)?;
    Ok((header, txn, digest(input)?))
}

/// The membership's text, if the payload is that of a reconfiguration: in the log, a PROPOSAL or an
/// INFORM.
///
/// Source: `Leader.propose`, `Learner`: a `SetDataTxn` of `/zookeeper/config` under the type `reconfig`.
#[must_use]
pub fn membership_text(payload: &[u8]) -> Option<&str> {
    let mut input = payload;
    let header: TxnHeader = take(&mut input).ok()?;
    if header.op != OpCode::RECONFIG {
        return None;
    }
    let body: SetDataBody<'_> = take(&mut input).ok()?;
    core::str::from_utf8(body.data?).ok()
}

fn digest(mut input: &[u8]) -> Result<Option<TxnDigest>, Error> {
    if input.is_empty() {
        Ok(None)
    } else {
        take(&mut input).map(Some)
    }
}

/// A list of paths, or none at all before 3.6: told apart by whether a digest or nothing is left.
fn close_session(input: &[u8]) -> Result<(Txn<'_>, Option<TxnDigest>), Error> {
    let mut rest = input;
    match take::<Vec<Text<'_>>>(&mut rest) {
        Ok(paths) if rest.is_empty() || rest.len() == 12 => {
            Ok((Txn::CloseSession { paths: Some(paths) }, digest(rest)?))
        }
        _ if input.is_empty() || input.len() == 12 => {
            Ok((Txn::CloseSession { paths: None }, digest(input)?))
        }
        Ok(_) => Err(Error::Value),
        Err(error) => Err(error),
    }
}

#[derive(Serialize, Deserialize)]
struct CreateHead<'a> {
    #[serde(borrow)]
    path: Text<'a>,
    #[serde(with = "serde_bytes", borrow)]
    data: Option<&'a [u8]>,
    #[serde(borrow)]
    acl: Vec<AclText<'a>>,
}

#[derive(Serialize, Deserialize)]
struct SetDataBody<'a> {
    #[serde(borrow)]
    path: Text<'a>,
    #[serde(with = "serde_bytes", borrow)]
    data: Option<&'a [u8]>,
    version: i32,
}

#[derive(Serialize, Deserialize)]
struct SetAclBody<'a> {
    #[serde(borrow)]
    path: Text<'a>,
    #[serde(borrow)]
    acl: Vec<AclText<'a>>,
    version: i32,
}

#[derive(Serialize, Deserialize)]
struct SubTxn<'a> {
    op: OpCode,
    #[serde(with = "serde_bytes", borrow)]
    body: Option<&'a [u8]>,
}

fn path<'a>(text: Text<'a>) -> Result<Cow<'a, str>, Error> {
    text.0.ok_or(Error::Value)
}

fn body<'a>(op: OpCode, input: &mut &'a [u8], top: bool) -> Result<Txn<'a>, Error> {
    Ok(match op {
        OpCode::CREATE | OpCode::CREATE2 | OpCode::CREATE_CONTAINER | OpCode::CREATE_TTL => {
            create(op, input)?
        }
        OpCode::DELETE | OpCode::DELETE_CONTAINER => Txn::Delete {
            path: path(take(input)?)?,
        },
        OpCode::SET_DATA | OpCode::RECONFIG => {
            let body: SetDataBody<'_> = take(input)?;
            Txn::SetData {
                path: path(body.path)?,
                data: body.data,
                version: body.version,
            }
        }
        OpCode::SET_ACL => {
            let body: SetAclBody<'_> = take(input)?;
            Txn::SetAcl {
                path: path(body.path)?,
                acl: body.acl,
                version: body.version,
            }
        }
        OpCode::CREATE_SESSION if top => Txn::CreateSession {
            timeout_ms: take(input)?,
        },
        OpCode::ERROR => Txn::Error(take(input)?),
        OpCode::CHECK if !top => {
            let (name, version) = take(input)?;
            Txn::Check {
                path: path(name)?,
                version,
            }
        }
        OpCode::MULTI if top => {
            let subs: Vec<SubTxn<'_>> = take(input)?;
            let subs = subs.into_iter().map(|sub| {
                let mut input = sub.body.ok_or(Error::Value)?;
                Ok((sub.op, body(sub.op, &mut input, false)?))
            });
            Txn::Multi(subs.collect::<Result<_, Error>>()?)
        }
        _ => return Err(Error::Value),
    })
}

fn create<'a>(op: OpCode, input: &mut &'a [u8]) -> Result<Txn<'a>, Error> {
    let head: CreateHead<'_> = take(input)?;
    let (kind, parent_cversion) = match op {
        OpCode::CREATE_CONTAINER => (CreateKind::Container, take(input)?),
        OpCode::CREATE_TTL => {
            let (parent_cversion, ttl) = take(input)?;
            (CreateKind::Ttl(ttl), parent_cversion)
        }
        _ => {
            let kind = if take(input)? {
                CreateKind::Ephemeral
            } else {
                CreateKind::Persistent
            };
            // The oldest form, CreateTxnV0, ends here.
            (kind, if input.is_empty() { -1 } else { take(input)? })
        }
    };
    let CreateHead {
        path: name,
        data,
        acl,
    } = head;
    Ok(Txn::Create {
        path: path(name)?,
        data,
        acl,
        kind,
        parent_cversion,
    })
}

/// Appends a transaction's body.
pub fn append_body(out: &mut Vec<u8>, txn: &Txn<'_>) {
    match txn {
        Txn::Check { path, version } => jute::append(out, &(&**path, version)),
        Txn::CloseSession { paths } => {
            if let Some(paths) = paths {
                jute::append(out, paths);
            }
        }
        Txn::Create {
            path,
            data,
            acl,
            kind,
            parent_cversion,
        } => {
            jute::append(out, &**path);
            match data {
                Some(data) => jute::append(out, serde_bytes::Bytes::new(data)),
                None => jute::append(out, &-1),
            }
            jute::append(out, acl);
            match kind {
                CreateKind::Container => jute::append(out, parent_cversion),
                CreateKind::Ephemeral => jute::append(out, &(true, parent_cversion)),
                CreateKind::Persistent => jute::append(out, &(false, parent_cversion)),
                CreateKind::Ttl(ttl) => jute::append(out, &(parent_cversion, ttl)),
            }
        }
        Txn::CreateSession { timeout_ms } => jute::append(out, timeout_ms),
        Txn::Delete { path } => jute::append(out, &**path),
        Txn::Error(code) => jute::append(out, code),
        Txn::Multi(subs) => {
            jute::append(out, &i32::try_from(subs.len()).unwrap_or(i32::MAX));
            for (op, sub) in subs {
                let mut body = Vec::new();
                append_body(&mut body, sub);
                jute::append(
                    out,
                    &SubTxn {
                        op: *op,
                        body: Some(&body),
                    },
                );
            }
        }
        Txn::SetData {
            path,
            data,
            version,
        } => {
            let path = Text::from(&**path);
            jute::append(
                out,
                &SetDataBody {
                    path,
                    data: *data,
                    version: *version,
                },
            );
        }
        Txn::SetAcl { path, acl, version } => {
            jute::append(out, &(&**path, acl, version));
        }
    }
}
