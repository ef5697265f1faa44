//! The client's side of the wire, written anew: it must not agree with the core by sharing its
//! code.

use std::rc::Rc;

/// An entry of an access control list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Acl {
    /// The permission bits.
    pub perms: i32,
    /// `world`, `auth`, `digest`, `ip`, …
    pub scheme: Option<String>,
    /// Who, in the words of the scheme.
    pub id: Option<String>,
}

impl Acl {
    /// An entry whose scheme and id are there.
    #[must_use]
    pub fn new(perms: i32, scheme: &str, id: &str) -> Self {
        Self {
            perms,
            scheme: Some(scheme.to_owned()),
            id: Some(id.to_owned()),
        }
    }
}

/// A znode's `Stat` as clients see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// The txn that created it.
    pub czxid: i64,
    /// The txn that last changed its data.
    pub mzxid: i64,
    /// When it was created.
    pub ctime: i64,
    /// When its data last changed.
    pub mtime: i64,
    /// Changes of its data.
    pub version: i32,
    /// Changes of its children.
    pub cversion: i32,
    /// Changes of its ACL.
    pub aversion: i32,
    /// The session of an ephemeral znode.
    pub ephemeral_owner: i64,
    /// Bytes of data.
    pub data_length: i32,
    /// Number of children.
    pub num_children: i32,
    /// The txn that last changed its children.
    pub pzxid: i64,
}

/// Which of the create operations, by its number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum CreateKind {
    /// Answers with the path.
    Create = 1,
    /// Answers with path and `Stat`.
    Create2 = 15,
    /// A container.
    Container = 19,
    /// With a time to live.
    Ttl = 21,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// `addWatch`.
    AddWatch {
        /// Where.
        path: String,
        /// 0 persistent, 1 recursive.
        mode: i32,
    },
    /// An auth packet.
    Auth {
        /// The scheme.
        scheme: String,
        /// The secret.
        auth: Vec<u8>,
    },
    /// `check`, only in a multi.
    Check {
        /// Where.
        path: String,
        /// The version it must have.
        version: i32,
    },
    /// `checkWatches`.
    CheckWatches {
        /// Where.
        path: String,
        /// Which kind.
        kind: i32,
    },
    /// `closeSession`.
    CloseSession,
    /// Any of the create operations.
    Create {
        /// Which.
        kind: CreateKind,
        /// Where.
        path: String,
        /// The data.
        data: Option<Rc<[u8]>>,
        /// The access control list.
        acl: Option<Vec<Acl>>,
        /// The mode.
        flags: i32,
        /// The time to live, sent only by [`CreateKind::Ttl`].
        ttl: i64,
    },
    /// `delete`.
    Delete {
        /// Where.
        path: String,
        /// The version it must have.
        version: i32,
    },
    /// `exists`.
    Exists {
        /// Where.
        path: String,
        /// Whether to set a watch.
        watch: bool,
    },
    /// `getACL`.
    GetAcl {
        /// Where.
        path: String,
    },
    /// `getAllChildrenNumber`.
    GetAllChildrenNumber {
        /// Where.
        path: String,
    },
    /// `getChildren`.
    GetChildren {
        /// Where.
        path: String,
        /// Whether to set a watch.
        watch: bool,
        /// Whether as `getChildren2`.
        stat: bool,
    },
    /// `getData`.
    GetData {
        /// Where.
        path: String,
        /// Whether to set a watch.
        watch: bool,
    },
    /// `getEphemerals`.
    GetEphemerals {
        /// What their paths begin with.
        prefix: String,
    },
    /// `multi`.
    Multi(Vec<Self>),
    /// `multiRead`.
    MultiRead(Vec<Self>),
    /// A ping.
    Ping,
    /// Any bytes under any number.
    Raw {
        /// The number.
        code: i32,
        /// The body.
        body: Vec<u8>,
        /// What must come of it.
        expect: RawExpect,
    },
    /// `removeWatches`.
    RemoveWatches {
        /// Where.
        path: String,
        /// Which kind.
        kind: i32,
    },
    /// `setACL`.
    SetAcl {
        /// Where.
        path: String,
        /// The access control list.
        acl: Option<Vec<Acl>>,
        /// The ACL version it must have.
        version: i32,
    },
    /// `setData`.
    SetData {
        /// Where.
        path: String,
        /// The data.
        data: Option<Rc<[u8]>>,
        /// The version it must have.
        version: i32,
    },
    /// `setWatches` or, with `persistent`, `setWatches2`.
    SetWatches(Box<Rearm>),
    /// `reconfig`, server by server.
    Reconfig {
        /// Who joins or changes.
        joining: String,
        /// Who leaves.
        leaving: String,
        /// The version that the membership must have, -1 for any.
        version: i64,
    },
    /// `sync`.
    Sync {
        /// Echoed.
        path: String,
    },
    /// `whoAmI`.
    WhoAmI,
}

/// What must come of raw bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawExpect {
    /// Error -5 and the connection stays.
    Marshalling,
    /// Error -6 and the connection closes.
    Unimplemented,
}

/// The body of `setWatches`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rearm {
    /// What the client has seen.
    pub relative_zxid: i64,
    /// Watches by `getData`, and by `exists` of a znode that was there.
    pub data: Vec<String>,
    /// Watches by `exists` of a znode that was not there.
    pub exist: Vec<String>,
    /// Watches by `getChildren`.
    pub child: Vec<String>,
    /// Persistent and recursive watches.
    pub persistent: Option<(Vec<String>, Vec<String>)>,
}

impl Op {
    /// The number on the wire.
    #[must_use]
    pub const fn code(&self) -> i32 {
        match self {
            Self::AddWatch { .. } => 106,
            Self::Auth { .. } => 100,
            Self::Check { .. } => 13,
            Self::CheckWatches { .. } => 17,
            Self::CloseSession => -11,
            Self::Create { kind, .. } => *kind as i32,
            Self::Delete { .. } => 2,
            Self::Exists { .. } => 3,
            Self::GetAcl { .. } => 6,
            Self::GetAllChildrenNumber { .. } => 104,
            Self::GetChildren { stat: false, .. } => 8,
            Self::GetChildren { stat: true, .. } => 12,
            Self::GetData { .. } => 4,
            Self::GetEphemerals { .. } => 103,
            Self::Multi(_) => 14,
            Self::MultiRead(_) => 22,
            Self::Ping => 11,
            Self::Raw { code, .. } => *code,
            Self::RemoveWatches { .. } => 18,
            Self::SetAcl { .. } => 7,
            Self::SetData { .. } => 5,
            Self::SetWatches(rearm) => {
                if rearm.persistent.is_some() {
                    105
                } else {
                    101
                }
            }
            Self::Reconfig { .. } => 16,
            Self::Sync { .. } => 9,
            Self::WhoAmI => 107,
        }
    }

    /// Whether it becomes a transaction.
    #[must_use]
    pub const fn is_write(&self) -> bool {
        matches!(
            self,
            Self::CloseSession
                | Self::Create { .. }
                | Self::Delete { .. }
                | Self::Multi(_)
                | Self::Reconfig { .. }
                | Self::SetAcl { .. }
                | Self::SetData { .. }
        )
    }

    /// The frame, with its length.
    #[must_use]
    pub fn frame(&self, xid: i32) -> Vec<u8> {
        let mut out = Writer::framed();
        out.int(xid);
        out.int(self.code());
        self.body(&mut out);
        out.finish()
    }

    fn body(&self, out: &mut Writer) {
        match self {
            Self::AddWatch { path, mode: number }
            | Self::Check {
                path,
                version: number,
            }
            | Self::CheckWatches { path, kind: number }
            | Self::Delete {
                path,
                version: number,
            }
            | Self::RemoveWatches { path, kind: number } => {
                out.string(path);
                out.int(*number);
            }
            Self::Auth { scheme, auth } => {
                out.int(0);
                out.string(scheme);
                out.buffer(Some(auth));
            }
            Self::CloseSession | Self::Ping | Self::WhoAmI => {}
            Self::Create {
                kind,
                path,
                data,
                acl,
                flags,
                ttl,
            } => {
                out.string(path);
                out.buffer(data.as_deref());
                out.acl(acl.as_deref());
                out.int(*flags);
                if *kind == CreateKind::Ttl {
                    out.long(*ttl);
                }
            }
            Self::Exists { path, watch }
            | Self::GetChildren { path, watch, .. }
            | Self::GetData { path, watch } => {
                out.string(path);
                out.bool(*watch);
            }
            Self::Reconfig {
                joining,
                leaving,
                version,
            } => {
                out.string(joining);
                out.string(leaving);
                // Not all members at once.
                out.int(-1);
                out.long(*version);
            }
            Self::GetAcl { path } | Self::GetAllChildrenNumber { path } | Self::Sync { path } => {
                out.string(path);
            }
            Self::GetEphemerals { prefix } => out.string(prefix),
            Self::Multi(ops) | Self::MultiRead(ops) => {
                for op in ops {
                    out.int(op.code());
                    out.bool(false);
                    out.int(-1);
                    op.body(out);
                }
                out.int(-1);
                out.bool(true);
                out.int(-1);
            }
            Self::Raw { body, .. } => out.bytes.extend_from_slice(body),
            Self::SetAcl { path, acl, version } => {
                out.string(path);
                out.acl(acl.as_deref());
                out.int(*version);
            }
            Self::SetData {
                path,
                data,
                version,
            } => {
                out.string(path);
                out.buffer(data.as_deref());
                out.int(*version);
            }
            Self::SetWatches(rearm) => {
                out.long(rearm.relative_zxid);
                out.strings(&rearm.data);
                out.strings(&rearm.exist);
                out.strings(&rearm.child);
                if let Some((persistent, recursive)) = &rearm.persistent {
                    out.strings(persistent);
                    out.strings(recursive);
                }
            }
        }
    }
}

/// A `ConnectRequest`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectRequest {
    /// The highest zxid that the client has seen.
    pub last_zxid_seen: i64,
    /// The session timeout it asks for.
    pub timeout_ms: i32,
    /// Its session, or 0.
    pub session: i64,
    /// The session's password.
    pub password: Vec<u8>,
    /// Whether the byte that old clients do not know is sent, and its value.
    pub read_only: Option<bool>,
}

impl ConnectRequest {
    /// The frame, with its length.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        let mut out = Writer::framed();
        out.int(0);
        out.long(self.last_zxid_seen);
        out.int(self.timeout_ms);
        out.long(self.session);
        out.buffer(Some(&self.password));
        if let Some(read_only) = self.read_only {
            out.bool(read_only);
        }
        out.finish()
    }
}

/// A `ConnectResponse`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectResponse {
    /// The negotiated timeout, 0 if the session is not there.
    pub timeout_ms: i32,
    /// The session.
    pub session: i64,
    /// Its password.
    pub password: Vec<u8>,
    /// Whether the trailing byte was sent.
    pub read_only: Option<bool>,
}

impl ConnectResponse {
    /// Decodes a whole frame without its length.
    ///
    /// # Errors
    /// It is not one.
    pub fn decode(frame: &[u8]) -> Result<Self, String> {
        let mut input = Reader(frame);
        if input.int()? != 0 {
            return Err("protocol version is not 0".to_owned());
        }
        let response = Self {
            timeout_ms: input.int()?,
            session: input.long()?,
            password: input.buffer()?.ok_or("null password")?,
            read_only: if input.0.is_empty() {
                None
            } else {
                Some(input.bool()?)
            },
        };
        input.end()?;
        Ok(response)
    }
}

/// The header of a reply or event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyHeader {
    /// The request's, or -1 for an event.
    pub xid: i32,
    /// What it shows the state of.
    pub zxid: i64,
    /// The error code, or 0.
    pub err: i32,
}

/// A watch event.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WatchEvent {
    /// 1 created, 2 deleted, 3 data changed, 4 children changed.
    pub kind: i32,
    /// The znode.
    pub path: String,
}

/// The body of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// `getACL`.
    Acl(Vec<Acl>, Stat),
    /// `getChildren`, sorted: their order means nothing.
    Children(Vec<String>, Option<Stat>),
    /// `getData`.
    Data(Option<Rc<[u8]>>, Stat),
    /// Nothing.
    Empty,
    /// `multi` and `multiRead`: type, error code and body of each.
    Multi(Vec<(i32, i32, Self)>),
    /// A number.
    Number(i32),
    /// A path, of create and sync; create2 adds a `Stat`.
    Path(String, Option<Stat>),
    /// A `Stat`.
    Stat(Stat),
    /// `whoAmI`: scheme and user, sorted.
    Users(Vec<(String, String)>),
}

impl Body {
    /// Decodes what follows the header of a reply without error to `op`.
    ///
    /// # Errors
    /// The bytes are not what this operation is answered with.
    pub fn decode(op: &Op, bytes: &[u8]) -> Result<Self, String> {
        let mut input = Reader(bytes);
        let body = match op {
            Op::Multi(_) | Op::MultiRead(_) => input.multi()?,
            Op::AddWatch { .. } | Op::GetAllChildrenNumber { .. } => Self::Number(input.int()?),
            Op::Auth { .. }
            | Op::Check { .. }
            | Op::CheckWatches { .. }
            | Op::CloseSession
            | Op::Delete { .. }
            | Op::Ping
            | Op::Raw { .. }
            | Op::RemoveWatches { .. }
            | Op::SetWatches(_) => Self::Empty,
            Op::Create { kind, .. } => {
                let path = input.path()?;
                let stat = match kind {
                    CreateKind::Create => None,
                    CreateKind::Create2 | CreateKind::Container | CreateKind::Ttl => {
                        Some(input.stat()?)
                    }
                };
                Self::Path(path, stat)
            }
            Op::Reconfig { .. } => {
                let text = input.path()?;
                input.stat()?;
                Self::Path(text, None)
            }
            Op::Sync { .. } => Self::Path(input.path()?, None),
            Op::Exists { .. } | Op::SetAcl { .. } | Op::SetData { .. } => Self::Stat(input.stat()?),
            Op::GetAcl { .. } => Self::Acl(input.acl()?, input.stat()?),
            Op::GetChildren { stat, .. } => {
                let names = input.names()?;
                Self::Children(names, if *stat { Some(input.stat()?) } else { None })
            }
            Op::GetData { .. } => Self::Data(input.buffer()?.map(Into::into), input.stat()?),
            Op::GetEphemerals { .. } => Self::Children(input.names()?, None),
            Op::WhoAmI => input.users()?,
        };
        input.end()?;
        Ok(body)
    }
}

/// Writes what a client sends.
#[derive(Debug, Default)]
pub struct Writer {
    /// What was written.
    pub bytes: Vec<u8>,
}

impl Writer {
    /// Begins with room for a length.
    #[must_use]
    pub fn framed() -> Self {
        Self { bytes: vec![0; 4] }
    }

    /// Fills in the length.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        let len = u32::try_from(self.bytes.len() - 4).unwrap_or(u32::MAX);
        if let Some(prefix) = self.bytes.first_chunk_mut::<4>() {
            *prefix = len.to_be_bytes();
        }
        self.bytes
    }

    /// Writes a boolean.
    pub fn bool(&mut self, value: bool) {
        self.bytes.push(u8::from(value));
    }

    /// Writes an int.
    pub fn int(&mut self, value: i32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// Writes a long.
    pub fn long(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// Writes a buffer.
    pub fn buffer(&mut self, value: Option<&[u8]>) {
        match value {
            None => self.int(-1),
            Some(bytes) => {
                self.int(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
                self.bytes.extend_from_slice(bytes);
            }
        }
    }

    /// Writes a string.
    pub fn string(&mut self, value: &str) {
        self.buffer(Some(value.as_bytes()));
    }

    fn strings(&mut self, values: &[String]) {
        self.int(i32::try_from(values.len()).unwrap_or(i32::MAX));
        for value in values {
            self.string(value);
        }
    }

    fn acl(&mut self, acl: Option<&[Acl]>) {
        let Some(acl) = acl else {
            self.int(-1);
            return;
        };
        self.int(i32::try_from(acl.len()).unwrap_or(i32::MAX));
        for entry in acl {
            self.int(entry.perms);
            self.buffer(entry.scheme.as_deref().map(str::as_bytes));
            self.buffer(entry.id.as_deref().map(str::as_bytes));
        }
    }
}

/// Reads what a server sends, and what it stores.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// Takes this many bytes.
    ///
    /// # Errors
    /// There are not that many.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], String> {
        let (head, tail) = self
            .0
            .split_at_checked(len)
            .ok_or_else(|| format!("expected {len} bytes, found {}", self.0.len()))?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| "length".to_owned())
    }

    /// Takes a boolean, which must be 0 or 1.
    ///
    /// # Errors
    /// It is neither.
    pub fn bool(&mut self) -> Result<bool, String> {
        match self.array::<1>()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(format!("expected a boolean, found {other}")),
        }
    }

    /// Takes an int.
    ///
    /// # Errors
    /// There is none.
    pub fn int(&mut self) -> Result<i32, String> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// Takes a long.
    ///
    /// # Errors
    /// There is none.
    pub fn long(&mut self) -> Result<i64, String> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// Takes a buffer.
    ///
    /// # Errors
    /// There is none.
    pub fn buffer(&mut self) -> Result<Option<Vec<u8>>, String> {
        match self.int()? {
            -1 => Ok(None),
            len => {
                let len = usize::try_from(len).map_err(|_| format!("negative length {len}"))?;
                Ok(Some(self.take(len)?.to_vec()))
            }
        }
    }

    /// Takes a string that may be null.
    ///
    /// # Errors
    /// There is none.
    pub fn string(&mut self) -> Result<Option<String>, String> {
        self.buffer()?
            .map(String::from_utf8)
            .transpose()
            .map_err(|error| format!("not UTF-8: {error}"))
    }

    /// Takes a string that clients do not accept as null.
    ///
    /// # Errors
    /// There is none.
    pub fn path(&mut self) -> Result<String, String> {
        self.string()?.ok_or_else(|| "null string".to_owned())
    }

    /// Takes a count, null being none.
    ///
    /// # Errors
    /// There is none, or it is impossible.
    pub fn count(&mut self) -> Result<usize, String> {
        let count = self.int()?;
        usize::try_from(count.max(0)).map_err(|_| format!("negative count {count}"))
    }

    fn names(&mut self) -> Result<Vec<String>, String> {
        let count = self.count()?;
        let mut names = (0..count)
            .map(|_| self.path())
            .collect::<Result<Vec<_>, _>>()?;
        names.sort();
        Ok(names)
    }

    fn users(&mut self) -> Result<Body, String> {
        let count = self.count()?;
        let mut users = (0..count)
            .map(|_| Ok((self.path()?, self.path()?)))
            .collect::<Result<Vec<_>, String>>()?;
        users.sort();
        Ok(Body::Users(users))
    }

    /// Takes an access control list.
    ///
    /// # Errors
    /// There is none.
    pub fn acl(&mut self) -> Result<Vec<Acl>, String> {
        let count = self.count()?;
        (0..count)
            .map(|_| {
                Ok(Acl {
                    perms: self.int()?,
                    scheme: self.string()?,
                    id: self.string()?,
                })
            })
            .collect()
    }

    fn stat(&mut self) -> Result<Stat, String> {
        Ok(Stat {
            czxid: self.long()?,
            mzxid: self.long()?,
            ctime: self.long()?,
            mtime: self.long()?,
            version: self.int()?,
            cversion: self.int()?,
            aversion: self.int()?,
            ephemeral_owner: self.long()?,
            data_length: self.int()?,
            num_children: self.int()?,
            pzxid: self.long()?,
        })
    }

    fn multi(&mut self) -> Result<Body, String> {
        let mut results = Vec::new();
        loop {
            let (kind, done, err) = (self.int()?, self.bool()?, self.int()?);
            if done {
                if (kind, err) != (-1, -1) {
                    return Err(format!("multi ends with type {kind}, error {err}"));
                }
                return Ok(Body::Multi(results));
            }
            let body = match kind {
                -1 => Body::Number(self.int()?),
                1 => Body::Path(self.path()?, None),
                15 => Body::Path(self.path()?, Some(self.stat()?)),
                2 | 13 => Body::Empty,
                5 => Body::Stat(self.stat()?),
                8 => Body::Children(self.names()?, None),
                4 => Body::Data(self.buffer()?.map(Into::into), self.stat()?),
                _ => return Err(format!("unknown type {kind} in a multi's results")),
            };
            results.push((kind, err, body));
        }
    }

    /// Takes the header of a reply.
    ///
    /// # Errors
    /// There is none.
    pub fn reply_header(&mut self) -> Result<ReplyHeader, String> {
        Ok(ReplyHeader {
            xid: self.int()?,
            zxid: self.long()?,
            err: self.int()?,
        })
    }

    /// Takes a watch event and nothing after it.
    ///
    /// # Errors
    /// There is none, or it is not in the state "connected".
    pub fn event(mut self) -> Result<WatchEvent, String> {
        let kind = self.int()?;
        let state = self.int()?;
        if state != 3 {
            return Err(format!("state of a watch event is {state}, expected 3"));
        }
        let path = self.path()?;
        self.end()?;
        Ok(WatchEvent { kind, path })
    }

    /// Says that nothing may be left.
    ///
    /// # Errors
    /// Something is left.
    pub fn end(&self) -> Result<(), String> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(format!("{} bytes too many", self.0.len()))
        }
    }
}
