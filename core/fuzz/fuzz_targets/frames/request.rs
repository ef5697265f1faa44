//! Requests as a fuzzer makes them: of every kind, mostly well formed, over few paths so that they meet.

use arbitrary::{Arbitrary, Result, Unstructured};
use zabra_core::ids::{SessionId, Xid, Zxid};
use zabra_core::jute::{Text, append, to_vec};
use zabra_core::wire::client::{
    AuthPacket, CreateRequest, CreateTtlRequest, MultiHeader, OpCode, PathVersion,
    PersistentWatches, ReadRequest, RequestHeader, SetAclRequest, SetDataRequest, SetWatches,
    WatchRequest,
};
use zabra_core::wire::records::{AclText, Perms};

/// How a client asks for a session.
#[derive(Arbitrary, Debug)]
pub struct Handshake {
    pub timeout_ms: i32,
    pub seen: Option<i64>,
    pub session: Session,
    pub read_only: bool,
}

#[derive(Arbitrary, Debug)]
pub enum Session {
    Any(i64, Vec<u8>),
    New,
    /// That of some client, with the right password.
    Of(u8),
}

/// One frame after the handshake.
#[derive(Arbitrary, Debug)]
pub struct Frame {
    pub request: Request,
    damage: Option<Damage>,
}

#[derive(Arbitrary, Debug)]
enum Damage {
    Cut(u8),
    Extend(Vec<u8>),
    Flip(u8, u8),
    Op(i32),
}

#[derive(Arbitrary, Debug)]
pub enum Request {
    AddWatch(Path, Small),
    Any(i32, Vec<u8>),
    Auth(Auth),
    CheckWatches(Path, Small),
    CloseSession,
    Create(Create),
    Delete(Path, Version),
    Exists(Path, bool),
    GetAcl(Path),
    GetAllChildrenNumber(Path),
    GetChildren(Path, bool),
    GetChildren2(Path, bool),
    GetData(Path, bool),
    GetEphemerals(Path),
    Multi(Vec<Sub>),
    MultiRead(Vec<(bool, Path)>),
    Ping,
    RemoveWatches(Path, Small),
    Sasl,
    SetAcl(Path, Vec<Entry>, Version),
    SetData(Path, Data, Version),
    SetWatches(i64, Vec<Path>, Vec<Path>, Vec<Path>),
    SetWatches2(i64, Vec<Path>, Vec<Path>),
    Sync(Path),
    WhoAmI,
}

#[derive(Arbitrary, Debug)]
pub enum Sub {
    Check(Path, Version),
    Create(Create),
    Delete(Path, Version),
    SetData(Path, Data, Version),
}

#[derive(Arbitrary, Debug)]
pub struct Create {
    kind: CreateOp,
    path: Path,
    data: Data,
    acl: Vec<Entry>,
    flags: Small,
    ttl: u16,
}

#[derive(Arbitrary, Debug)]
enum CreateOp {
    Any(Small),
    Container,
    Create2,
    Ephemeral,
    Plain,
    Sequential,
    Ttl,
}

/// Small numbers, for flags, modes and kinds.
#[derive(Debug)]
pub struct Small(i32);

/// Mostly any version.
#[derive(Debug)]
pub struct Version(i32);

/// A path, mostly one of few.
#[derive(Clone, Debug)]
pub struct Path(Option<String>);

/// A znode's data.
#[derive(Debug)]
pub struct Data(Option<Vec<u8>>);

/// An ACL entry.
#[derive(Debug)]
pub struct Entry(AclText<'static>);

/// What a client proves.
#[derive(Debug)]
pub struct Auth(&'static str, Vec<u8>);

impl<'a> Arbitrary<'a> for Small {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let byte: i8 = u.arbitrary()?;
        Ok(Self(if byte < 0 {
            byte.into()
        } else {
            i32::from(byte % 8)
        }))
    }
}

impl<'a> Arbitrary<'a> for Version {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let byte: u8 = u.arbitrary()?;
        Ok(Self(match byte {
            0..200 => -1,
            200..250 => i32::from(byte - 200),
            _ => u.arbitrary()?,
        }))
    }
}

const PATHS: [&str; 22] = [
    "/a",
    "/a",
    "/a/b",
    "/a/b/c",
    "/a/c",
    "/b",
    "/b/a",
    "/e",
    "/c",
    "/c/a",
    "/t",
    "/",
    "/a/",
    "/zookeeper",
    "/zookeeper/config",
    "/zookeeper/quota",
    "/zookeeper/quota/a",
    "/zookeeper/quota/a/zookeeper_limits",
    "/zookeeper/quota/a/zookeeper_stats",
    "/a/0000000000",
    "/a/b0000000001",
    "//a",
];

impl<'a> Arbitrary<'a> for Path {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let byte: u8 = u.arbitrary()?;
        Ok(Self(match byte {
            0..240 => Some(PATHS[usize::from(byte) % PATHS.len()].into()),
            240..254 => Some(u.arbitrary()?),
            _ => None,
        }))
    }
}

impl<'a> Arbitrary<'a> for Data {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        const QUOTAS: [&str; 4] = [
            "count=2,bytes=8",
            "count=-1,bytes=-1;countHardLimit=3;byteHardLimit=30",
            "count=9223372036854775807,bytes=9223372036854775807",
            "count=0,bytes=0",
        ];
        let byte: u8 = u.arbitrary()?;
        Ok(Self(match byte {
            0..20 => None,
            20..120 => Some(vec![byte; usize::from(byte) - 20]),
            120..160 => Some(QUOTAS[usize::from(byte) % QUOTAS.len()].into()),
            // Few of these fill what a connection may have waiting.
            160..180 => Some(vec![byte; 400_000]),
            180..200 => Some(vec![byte; 2000]),
            _ => Some(u.arbitrary()?),
        }))
    }
}

impl<'a> Arbitrary<'a> for Entry {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        const IDS: [(&str, &str); 8] = [
            ("world", "anyone"),
            ("auth", ""),
            ("ip", "127.0.0.1"),
            ("ip", "127.0.0.0/8"),
            ("ip", "::/0"),
            ("digest", "bob:fyVmFCwVbTJYrznoSu1koqYEYF0="),
            ("digest", "bob:"),
            ("super", ""),
        ];
        let byte: u8 = u.arbitrary()?;
        let perms = match byte {
            0..200 => Perms::ALL,
            200..250 => Perms(i32::from(byte - 200)),
            _ => Perms(u.arbitrary()?),
        };
        let (scheme, id) = match byte % 16 {
            0..7 => IDS[0],
            which @ 7..15 => IDS[usize::from(which) - 7],
            _ => {
                let text = |text: Option<String>| Text(text.map(Into::into));
                return Ok(Self(AclText {
                    perms,
                    scheme: text(u.arbitrary()?),
                    id: text(u.arbitrary()?),
                }));
            }
        };
        Ok(Self(AclText {
            perms,
            scheme: scheme.into(),
            id: id.into(),
        }))
    }
}

impl<'a> Arbitrary<'a> for Auth {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        const SECRETS: [&str; 5] = ["super:admin", "bob:bob", "ann:ann", "nocolon", ""];
        let byte: u8 = u.arbitrary()?;
        Ok(match byte {
            0..200 => Self("digest", SECRETS[usize::from(byte) % SECRETS.len()].into()),
            200..240 => Self("ip", Vec::new()),
            240..250 => Self("digest", u.arbitrary()?),
            _ => Self("sasl", u.arbitrary()?),
        })
    }
}

impl Handshake {
    /// That of a client that wants nothing special.
    pub const fn new() -> Self {
        Self {
            timeout_ms: 10_000,
            seen: None,
            session: Session::New,
            read_only: false,
        }
    }

    /// The frame's content. `known` are sessions with their passwords.
    pub fn bytes(&self, known: &[(SessionId, Vec<u8>)]) -> Vec<u8> {
        let (session, password) = match &self.session {
            Session::Any(id, password) => (SessionId(*id), password.clone()),
            Session::New => (SessionId::NONE, vec![0; 16]),
            Session::Of(which) => {
                let which = usize::from(*which) % known.len().max(1);
                let none = (SessionId::NONE, vec![0; 16]);
                known.get(which).cloned().unwrap_or(none)
            }
        };
        let request = zabra_core::wire::client::ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: Zxid(self.seen.unwrap_or(0)),
            timeout_ms: self.timeout_ms,
            session,
            password: Some(&password),
        };
        let mut bytes = to_vec(&request);
        if self.read_only {
            bytes.push(0);
        }
        bytes
    }
}

impl Frame {
    /// A znode made large, a write, and reads of it behind that, more than an unread connection may hold.
    pub fn flood(path: &Path, reads: u8) -> Vec<Self> {
        let large = Data(Some(vec![b'x'; 900_000]));
        let create = Create {
            kind: CreateOp::Plain,
            path: path.clone(),
            data: Data(None),
            acl: Vec::new(),
            flags: Small(0),
            ttl: 0,
        };
        let writes = [
            Request::Create(create),
            Request::SetData(path.clone(), large, Version(-1)),
        ];
        let reads = (0..reads % 8).map(|_| Request::GetData(path.clone(), false));
        let frame = |request| Self {
            request,
            damage: None,
        };
        writes.into_iter().chain(reads).map(frame).collect()
    }

    /// The frame's content, and whether it is as a client would send it.
    pub fn bytes(&self, xid: Xid) -> (Vec<u8>, bool) {
        let (op, body) = self.request.body();
        let mut bytes = to_vec(&RequestHeader { xid, op });
        bytes.extend(body);
        match &self.damage {
            None => {}
            Some(Damage::Cut(count)) => {
                bytes.truncate(bytes.len().saturating_sub(usize::from(*count)))
            }
            Some(Damage::Extend(more)) => bytes.extend_from_slice(more),
            Some(Damage::Flip(at, mask)) => {
                // Not in the xid: it tells which request is answered.
                if let Some(byte) = bytes.get_mut(4 + usize::from(*at)) {
                    *byte ^= mask;
                }
            }
            Some(Damage::Op(op)) => bytes.splice(4..8, op.to_be_bytes()).for_each(drop),
        }
        (bytes, self.damage.is_none())
    }
}

impl Request {
    fn body(&self) -> (OpCode, Vec<u8>) {
        match self {
            Self::AddWatch(path, kind) => (OpCode::ADD_WATCH, watch(path, kind)),
            Self::Any(op, body) => (OpCode(*op), body.clone()),
            Self::Auth(Auth(scheme, secret)) => {
                let packet = AuthPacket {
                    kind: 0,
                    scheme: (*scheme).into(),
                    auth: Some(secret),
                };
                (OpCode::AUTH, to_vec(&packet))
            }
            Self::CheckWatches(path, kind) => (OpCode::CHECK_WATCHES, watch(path, kind)),
            Self::CloseSession => (OpCode::CLOSE_SESSION, Vec::new()),
            Self::Create(create) => create.op_and_body(),
            Self::Delete(path, version) => (OpCode::DELETE, path_version(path, version)),
            Self::Exists(path, watch) => (OpCode::EXISTS, read(path, *watch)),
            Self::GetAcl(path) => (OpCode::GET_ACL, to_vec(&path.text())),
            Self::GetAllChildrenNumber(path) => {
                (OpCode::GET_ALL_CHILDREN_NUMBER, to_vec(&path.text()))
            }
            Self::GetChildren(path, watch) => (OpCode::GET_CHILDREN, read(path, *watch)),
            Self::GetChildren2(path, watch) => (OpCode::GET_CHILDREN2, read(path, *watch)),
            Self::GetData(path, watch) => (OpCode::GET_DATA, read(path, *watch)),
            Self::GetEphemerals(path) => (OpCode::GET_EPHEMERALS, to_vec(&path.text())),
            Self::Multi(subs) => (OpCode::MULTI, multi(subs.iter().map(Sub::op_and_body))),
            Self::MultiRead(reads) => {
                let reads = reads.iter().map(|(data, path)| {
                    let op = if *data {
                        OpCode::GET_DATA
                    } else {
                        OpCode::GET_CHILDREN
                    };
                    (op, read(path, false))
                });
                (OpCode::MULTI_READ, multi(reads))
            }
            Self::Ping => (OpCode::PING, Vec::new()),
            Self::RemoveWatches(path, kind) => (OpCode::REMOVE_WATCHES, watch(path, kind)),
            Self::Sasl => (OpCode::SASL, to_vec(&Text(None))),
            Self::SetAcl(path, acl, version) => {
                let request = SetAclRequest {
                    path: path.text(),
                    acl: list(acl),
                    version: version.0,
                };
                (OpCode::SET_ACL, to_vec(&request))
            }
            Self::SetData(path, data, version) => (OpCode::SET_DATA, set_data(path, data, version)),
            Self::SetWatches(zxid, data, exist, child) => {
                let request = SetWatches {
                    relative_zxid: Zxid(*zxid),
                    data: texts(data),
                    exist: texts(exist),
                    child: texts(child),
                };
                (OpCode::SET_WATCHES, to_vec(&request))
            }
            Self::SetWatches2(zxid, persistent, recursive) => {
                let request = SetWatches {
                    relative_zxid: Zxid(*zxid),
                    data: texts(persistent),
                    exist: texts(recursive),
                    child: Vec::new(),
                };
                let mut body = to_vec(&request);
                let rest = PersistentWatches {
                    persistent: texts(persistent),
                    recursive: texts(recursive),
                };
                append(&mut body, &rest);
                (OpCode::SET_WATCHES2, body)
            }
            Self::Sync(path) => (OpCode::SYNC, to_vec(&path.text())),
            Self::WhoAmI => (OpCode::WHO_AM_I, Vec::new()),
        }
    }
}

impl Sub {
    fn op_and_body(&self) -> (OpCode, Vec<u8>) {
        match self {
            Self::Check(path, version) => (OpCode::CHECK, path_version(path, version)),
            Self::Create(create) => create.op_and_body(),
            Self::Delete(path, version) => (OpCode::DELETE, path_version(path, version)),
            Self::SetData(path, data, version) => (OpCode::SET_DATA, set_data(path, data, version)),
        }
    }
}

impl Create {
    fn op_and_body(&self) -> (OpCode, Vec<u8>) {
        let (op, flags) = match self.kind {
            CreateOp::Any(Small(op)) => (OpCode(op), self.flags.0),
            CreateOp::Container => (OpCode::CREATE_CONTAINER, 4),
            CreateOp::Create2 => (OpCode::CREATE2, self.flags.0),
            CreateOp::Ephemeral => (OpCode::CREATE, 1),
            CreateOp::Plain => (OpCode::CREATE, 0),
            CreateOp::Sequential => (OpCode::CREATE, 2 | (self.flags.0 & 1)),
            CreateOp::Ttl => (OpCode::CREATE_TTL, 5 + (self.flags.0 & 1)),
        };
        let mut acl = list(&self.acl);
        if acl.is_empty() {
            acl.push(AclText {
                perms: Perms::ALL,
                scheme: "world".into(),
                id: "anyone".into(),
            });
        }
        let create = CreateRequest {
            path: self.path.text(),
            data: self.data.0.as_deref(),
            acl,
            flags,
        };
        if op == OpCode::CREATE_TTL {
            let ttl_ms = self.ttl.into();
            (op, to_vec(&CreateTtlRequest { create, ttl_ms }))
        } else {
            (op, to_vec(&create))
        }
    }
}

impl Path {
    fn text(&self) -> Text<'_> {
        Text(self.0.as_deref().map(Into::into))
    }
}

fn texts(paths: &[Path]) -> Vec<Text<'_>> {
    paths.iter().map(Path::text).collect()
}

fn list(acl: &[Entry]) -> Vec<AclText<'static>> {
    acl.iter().map(|Entry(entry)| entry.clone()).collect()
}

fn read(path: &Path, watch: bool) -> Vec<u8> {
    to_vec(&ReadRequest {
        path: path.text(),
        watch,
    })
}

fn watch(path: &Path, kind: &Small) -> Vec<u8> {
    to_vec(&WatchRequest {
        path: path.text(),
        kind: kind.0,
    })
}

fn path_version(path: &Path, version: &Version) -> Vec<u8> {
    to_vec(&PathVersion {
        path: path.text(),
        version: version.0,
    })
}

fn set_data(path: &Path, data: &Data, version: &Version) -> Vec<u8> {
    to_vec(&SetDataRequest {
        path: path.text(),
        data: data.0.as_deref(),
        version: version.0,
    })
}

fn multi(subs: impl Iterator<Item = (OpCode, Vec<u8>)>) -> Vec<u8> {
    let mut body = Vec::new();
    for (op, sub) in subs {
        let header = MultiHeader {
            op,
            done: false,
            error: -1,
        };
        append(&mut body, &header);
        body.extend(sub);
    }
    append(&mut body, &MultiHeader::END);
    body
}
