//! What peers say, near what would be right: zxids and epochs are given relative to the server's own.

use arbitrary::Arbitrary;
use bytes::Bytes;
use zabra_core::ids::{Epoch, ServerId, SessionId, UnixMillis, Xid, Zxid};
use zabra_core::jute;
use zabra_core::tree::{Loader, Piece};
use zabra_core::wire::client::OpCode;
use zabra_core::wire::quorum::{
    AckEpoch, Activation, Forwarded, LeaderInfo, LearnerInfo, PROTOCOL, Packet, PacketType,
    Revalidated, Revalidation, Touch,
};
use zabra_core::wire::records::Id;
use zabra_core::wire::txn::{CreateKind, Txn, TxnHeader, append_body};
use zabra_fuzz::SEED;

/// What the words are relative to.
#[derive(Clone, Copy, Debug)]
pub struct Here {
    pub last: Zxid,
    pub epoch: Epoch,
    pub version: i64,
}

/// A transaction's id.
#[derive(Arbitrary, Debug)]
pub enum Place {
    Last(i8),
    Epoch(i8, u8),
    Any(i64),
    Next,
}

impl Place {
    pub fn at(&self, here: Here) -> Zxid {
        match *self {
            Self::Last(delta) => Zxid(here.last.0.wrapping_add(i64::from(delta))),
            Self::Epoch(delta, counter) => {
                let epoch = Epoch(here.epoch.0.wrapping_add(i32::from(delta)));
                Zxid(epoch.start().0 | i64::from(counter))
            }
            Self::Any(zxid) => Zxid(zxid),
            Self::Next => next(here),
        }
    }
}

/// The next transaction of the epoch.
pub fn next(here: Here) -> Zxid {
    Zxid(here.last.max(here.epoch.start()).0.wrapping_add(1))
}

/// What differs from the server's own vote.
#[derive(Arbitrary, Debug)]
pub struct Vote {
    pub state: u8,
    pub leader: i8,
    pub zxid: Option<Place>,
    pub round: Option<Far>,
    pub epoch: Option<Far>,
    pub config: Option<Members>,
    pub old: bool,
}

/// A number near, or any.
#[derive(Arbitrary, Debug)]
pub enum Far {
    By(i8),
    To(i64),
}

impl Far {
    pub fn from(&self, base: i64) -> i64 {
        match *self {
            Self::By(delta) => base.wrapping_add(i64::from(delta)),
            Self::To(any) => any,
        }
    }
}

/// A membership: which of servers 1 to 5 have a vote, and which observe.
#[derive(Arbitrary, Debug)]
pub struct Members {
    voters: u8,
    observers: u8,
    version: Far,
    groups: bool,
    moved: bool,
    garbage: Option<Vec<u8>>,
}

impl Members {
    pub fn text(&self, here: Here) -> String {
        if let Some(garbage) = &self.garbage {
            return String::from_utf8_lossy(garbage).into_owned();
        }
        let mut text = String::new();
        let mut group = Vec::new();
        for id in 1..=5 {
            let role = match (self.voters >> id & 1, self.observers >> id & 1) {
                (1, _) => "participant",
                (0, 1) => "observer",
                _ => continue,
            };
            let port = if self.moved { 7 } else { 1 };
            text += &format!("server.{id}=s{id}:{port}:2:{role};9\n");
            group.push(id.to_string());
        }
        if self.groups {
            text += &format!("group.1={}\n", group.join(":"));
        }
        text + &format!("version={:x}", self.version.from(here.version))
    }
}

/// A transaction's payload.
#[derive(Arbitrary, Debug)]
pub enum Payload {
    Bytes(Vec<u8>),
    CloseSession(i8),
    Create(u8, u8),
    CreateSession(i8, i32),
    Delete(u8),
    Error(i32),
    Reconfig(Members),
    Set(u8),
}

fn path(which: u8) -> String {
    match which % 5 {
        0 => "/a".into(),
        1 => "/a/b".into(),
        2 => "/zookeeper/config".into(),
        3 => String::new(),
        _ => format!("/{which}"),
    }
}

impl Payload {
    pub fn bytes(&self, zxid: Zxid, here: Here) -> Bytes {
        let text;
        let (client, op, txn) = match self {
            Self::Bytes(bytes) => return bytes.clone().into(),
            Self::CloseSession(client) => {
                let txn = Txn::CloseSession { paths: Some(Vec::new()) };
                (*client, OpCode::CLOSE_SESSION, txn)
            }
            Self::Create(which, kind) => {
                let kind = match kind % 3 {
                    0 => CreateKind::Ephemeral,
                    1 => CreateKind::Container,
                    _ => CreateKind::Persistent,
                };
                let txn = Txn::Create {
                    path: path(*which).into(),
                    data: Some(b"x"),
                    acl: Vec::new(),
                    kind,
                    parent_cversion: 1,
                };
                let op = if kind == CreateKind::Container {
                    OpCode::CREATE_CONTAINER
                } else {
                    OpCode::CREATE
                };
                (1, op, txn)
            }
            Self::CreateSession(client, timeout_ms) => {
                let timeout_ms = *timeout_ms;
                (*client, OpCode::CREATE_SESSION, Txn::CreateSession { timeout_ms })
            }
            Self::Delete(which) => {
                (1, OpCode::DELETE, Txn::Delete { path: path(*which).into() })
            }
            Self::Error(code) => {
                (1, OpCode::ERROR, Txn::Error(zabra_core::error::ErrorCode(*code)))
            }
            Self::Reconfig(members) => {
                text = members.text(here);
                let txn = Txn::SetData {
                    path: "/zookeeper/config".into(),
                    data: Some(text.as_bytes()),
                    version: -1,
                };
                (1, OpCode::RECONFIG, txn)
            }
            Self::Set(which) => {
                let txn = Txn::SetData {
                    path: path(*which).into(),
                    data: Some(b"y"),
                    version: 1,
                };
                (1, OpCode::SET_DATA, txn)
            }
        };
        let header = TxnHeader {
            client: SessionId(i64::from(client)),
            cxid: Xid(1),
            zxid,
            time: UnixMillis(1_700_000_000_000),
            op,
        };
        let mut out = jute::to_vec(&header);
        append_body(&mut out, &txn);
        out.into()
    }
}

/// A packet, or what follows one.
#[derive(Arbitrary, Debug)]
pub enum Said {
    // A learner's.
    Info { observer: bool, id: i8, epoch: Place, version: Far, protocol: Option<i32> },
    AckEpoch { epoch: Option<i32>, last: Place },
    Ack(Place),
    Ping(Vec<(i8, i32)>),
    Request(Request),
    Revalidate(i8, i32),
    // A leader's.
    LeaderInfo { epoch: Place, protocol: Option<i32> },
    Diff(Place),
    Trunc(Place),
    Snap { zxid: Place, damage: Option<(u16, u8)>, cut: Option<u8> },
    Proposal(Place, Payload),
    Commit(Place),
    Inform(Place, Payload),
    Activate { zxid: Place, designated: i8, inform: Option<Payload> },
    NewLeader { zxid: Place, members: Option<Members> },
    UpToDate,
    Sync,
    Revalidated(i8, bool),
    // Anybody's.
    Any { kind: i32, zxid: i64, data: Option<Vec<u8>> },
}

/// What a learner forwards.
#[derive(Arbitrary, Debug)]
pub struct Request {
    session: i8,
    cxid: u8,
    /// As a client would send it, or anything.
    what: Result<crate::request::Frame, (i32, Vec<u8>)>,
    create_session: Option<i32>,
    close_session: bool,
    sync: bool,
    reconfig: Option<Members>,
    root: bool,
}

impl Request {
    fn packet(&self, here: Here) -> Packet {
        let text;
        let mut bytes = Vec::new();
        let op = if let Some(timeout_ms) = self.create_session {
            bytes = jute::to_vec(&timeout_ms);
            OpCode::CREATE_SESSION
        } else if self.close_session {
            OpCode::CLOSE_SESSION
        } else if self.sync {
            bytes = jute::to_vec("/");
            OpCode::SYNC
        } else if let Some(members) = &self.reconfig {
            text = members.text(here);
            let none = jute::Text(None);
            bytes = jute::to_vec(&(&none, &none, &*text, -1_i64));
            OpCode::RECONFIG
        } else {
            match &self.what {
                Ok(frame) => {
                    let (whole, _) = frame.bytes(Xid(0));
                    let op = whole.get(4..8).and_then(|op| <[u8; 4]>::try_from(op).ok());
                    bytes.extend(whole.get(8..).unwrap_or_default());
                    OpCode(op.map_or(0, i32::from_be_bytes))
                }
                Err((op, body)) => {
                    bytes.clone_from(body);
                    OpCode(*op)
                }
            }
        };
        let forwarded = Forwarded {
            session: SessionId(i64::from(self.session % 4)),
            cxid: Xid(i32::from(self.cxid)),
            op,
            body: &bytes,
        };
        let id = |scheme: &str, id: &str| Id {
            scheme: scheme.into(),
            id: id.into(),
        };
        let ids = if self.root { id("super", "") } else { id("ip", "127.0.0.1") };
        Packet {
            ids: Some(vec![ids]),
            ..Packet::with_data(PacketType::REQUEST, Zxid(-1), forwarded.to_bytes())
        }
    }
}

impl Said {
    /// Its bytes.
    pub fn bytes(self, here: Here) -> Bytes {
        let with = |kind, zxid: Zxid, data: Bytes| Packet::with_data(kind, zxid, data).to_bytes();
        let session = |id: i8| SessionId(i64::from(id % 4));
        match self {
            Self::Info { observer, id, epoch, version, protocol } => {
                let info = LearnerInfo {
                    server: ServerId(i64::from(id % 8)),
                    protocol: protocol.unwrap_or(PROTOCOL),
                    config_version: version.from(0),
                };
                let kind = if observer {
                    PacketType::OBSERVER_INFO
                } else {
                    PacketType::FOLLOWER_INFO
                };
                with(kind, epoch.at(here), info.to_bytes())
            }
            Self::AckEpoch { epoch, last } => {
                let current = epoch.map(Epoch);
                let data = AckEpoch { current }.to_bytes();
                with(PacketType::ACK_EPOCH, last.at(here), data)
            }
            Self::Ack(zxid) => Packet::new(PacketType::ACK, zxid.at(here)).to_bytes(),
            Self::Ping(touches) => {
                let touches: Vec<Touch> = touches
                    .into_iter()
                    .map(|(id, timeout_ms)| Touch { session: session(id), timeout_ms })
                    .collect();
                with(PacketType::PING, Zxid(0), Touch::to_bytes(&touches))
            }
            Self::Request(request) => request.packet(here).to_bytes(),
            Self::Revalidate(id, timeout_ms) => {
                let data = Revalidation { session: session(id), timeout_ms };
                with(PacketType::REVALIDATE, Zxid(-1), data.to_bytes())
            }
            Self::LeaderInfo { epoch, protocol } => {
                let protocol = protocol.unwrap_or(PROTOCOL);
                let data = LeaderInfo { protocol }.to_bytes();
                with(PacketType::LEADER_INFO, epoch.at(here), data)
            }
            Self::Diff(zxid) => Packet::new(PacketType::DIFF, zxid.at(here)).to_bytes(),
            Self::Trunc(zxid) => Packet::new(PacketType::TRUNC, zxid.at(here)).to_bytes(),
            Self::Snap { zxid, damage, cut } => {
                let mut bytes = state();
                if let Some((at, mask)) = damage {
                    let at = usize::from(at) % bytes.len();
                    bytes[at] ^= mask;
                }
                if let Some(cut) = cut {
                    bytes.truncate(bytes.len().saturating_sub(usize::from(cut)));
                }
                let snap = Packet::new(PacketType::SNAP, zxid.at(here)).to_bytes();
                [&*snap, &bytes].concat().into()
            }
            Self::Proposal(zxid, payload) => {
                let zxid = zxid.at(here);
                with(PacketType::PROPOSAL, zxid, payload.bytes(zxid, here))
            }
            Self::Commit(zxid) => Packet::new(PacketType::COMMIT, zxid.at(here)).to_bytes(),
            Self::Inform(zxid, payload) => {
                let zxid = zxid.at(here);
                with(PacketType::INFORM, zxid, payload.bytes(zxid, here))
            }
            Self::Activate { zxid, designated, inform } => {
                let zxid = zxid.at(here);
                let designated = ServerId(i64::from(designated % 8));
                let (kind, txn) = match inform {
                    None => (PacketType::COMMIT_AND_ACTIVATE, Bytes::new()),
                    Some(txn) => (PacketType::INFORM_AND_ACTIVATE, txn.bytes(zxid, here)),
                };
                with(kind, zxid, Activation { designated, txn }.to_bytes())
            }
            Self::NewLeader { zxid, members } => {
                let text = members.map_or(String::new(), |members| members.text(here));
                with(PacketType::NEW_LEADER, zxid.at(here), text.into())
            }
            Self::UpToDate => Packet::new(PacketType::UP_TO_DATE, Zxid(-1)).to_bytes(),
            Self::Sync => Packet::new(PacketType::SYNC, Zxid(0)).to_bytes(),
            Self::Revalidated(id, valid) => {
                let data = Revalidated { session: session(id), valid };
                with(PacketType::REVALIDATE, Zxid(-1), data.to_bytes())
            }
            Self::Any { kind, zxid, data } => Packet {
                kind: PacketType(kind),
                zxid: Zxid(zxid),
                data: data.map(Into::into),
                ids: None,
            }
            .to_bytes(),
        }
    }
}

/// The state of a new server as a leader sends it.
pub fn state() -> Vec<u8> {
    let (mut tree, ..) = Loader::new(SEED, true).finish();
    tree.begin_snapshot_stream();
    let mut bytes = Vec::new();
    loop {
        match tree.snapshot_piece(1 << 16) {
            Some(Piece::Part(part)) => bytes.extend(part),
            Some(Piece::Last(part)) => {
                bytes.extend(part);
                return bytes;
            }
            None => panic!("a state that nobody gave up has an end"),
        }
    }
}
