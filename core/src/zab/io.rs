//! What a [`Zab`](super::Zab) is told at its birth, and what it asks for.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::membership::Membership;
use crate::ids::{Epoch, LinkId, Seq, ServerId, Zxid};
use crate::lane::StoreOp;
use crate::link::{Endpoint, LinkOutput, Port};
use crate::secret::Secret;
use crate::wire::records::Id;

/// One server's place in its ensemble and the ensemble's times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Which server this is.
    pub me: ServerId,
    /// Whether it asks to be an observer (`peerType`, or its line in the membership).
    pub observer: bool,
    /// The last committed membership.
    pub committed: Membership,
    /// A membership that was proposed later and of which it is not known whether it was committed.
    pub last_seen: Option<Membership>,
    /// Where this server listens for peers' votes as long as no membership names it: where the last
    /// one that did said it is. It may be taken in again while it cannot hear of it.
    pub election: Vec<Endpoint>,
    /// `reconfigEnabled`: whether memberships change while the servers run.
    pub reconfig_enabled: bool,
    /// `tickTime` in milliseconds.
    pub tick_ms: u32,
    /// `initLimit`: ticks in which a learner must have taken the leader's history over.
    pub init_limit: u32,
    /// `syncLimit`: ticks without a sign after which a peer is given up.
    pub sync_limit: u32,
    /// `connectToLearnerMasterLimit`: ticks in which the leader must be reached; 0 is `initLimit`.
    pub connect_limit: u32,
    /// `quorumListenOnAllIPs`.
    pub listen_on_all_ips: bool,
    /// `multiAddress.enabled`: whether the first message to a peer names all addresses.
    pub multi_address: bool,
    /// The longest data of a packet in bytes; what is longer ends the connection.
    pub packet_bytes_max: usize,
    /// `zookeeper.fastleader.minNotificationInterval`.
    pub notification_ms_min: u32,
    /// `zookeeper.fastleader.maxNotificationInterval`.
    pub notification_ms_max: u32,
    /// `zookeeper.cnxTimeout`: milliseconds to connect to a peer's election port.
    pub connect_timeout_ms: u32,
    /// `quorumCnxnTimeoutMs`: for how long a connection of the election may be silent, in
    /// milliseconds; `None` is tickTime * syncLimit.
    pub election_silence_ms: Option<u32>,
    /// `zookeeper.commitLogCount`: transactions at least that are kept for learners.
    pub history_txns_min: usize,
    /// Bytes of transactions kept for learners beyond these.
    pub history_bytes_max: usize,
    /// How servers show each other that they belong to the ensemble.
    pub sasl: Sasl,
}

/// SASL between servers, on both of their ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sasl {
    /// `quorum.auth.enableSasl`: who may log in here, by which password; `None`: nobody is asked.
    pub users: Option<Vec<(String, Secret)>>,
    /// `quorum.auth.serverRequireSasl`: whether nobody else is let in.
    pub required: bool,
    /// `quorum.auth.learnerRequireSasl`: as whom this server logs in with others.
    pub login: Option<(String, Secret)>,
    /// What nonces begin with: of this process only, from the system's generator.
    pub seed: Secret,
}

/// What the store held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// What comes before `recent`: the snapshot's name, or the transaction before the first kept.
    pub base: Zxid,
    /// The last transactions of the log, in order, committed or not; the tree has them all.
    pub recent: Vec<(Zxid, Bytes)>,
    /// `acceptedEpoch`.
    pub accepted: Epoch,
    /// `currentEpoch`.
    pub current: Epoch,
    /// Whether the state that the store held is not what its transactions say it is: the leader's
    /// is to take its place.
    pub divergent: bool,
    /// Whether its history counts. A server that found nothing and was not told that nothing is
    /// right has perhaps lost its disk: it must not vote before a leader has given it the state.
    /// Source: spec 7.9, `initialize`, `zookeeper.db.autocreate`.
    pub trusted: bool,
}

/// What a server is in its ensemble at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It looks for a leader.
    Looking,
    /// It leads.
    Leading {
        /// Its epoch, once a quorum has agreed to it.
        epoch: Epoch,
    },
    /// It follows a leader and votes.
    Following {
        /// Its leader.
        leader: ServerId,
        /// The leader's epoch.
        epoch: Epoch,
    },
    /// It follows a leader without a vote, by INFORM.
    Observing {
        /// Its leader.
        leader: ServerId,
        /// The leader's epoch.
        epoch: Epoch,
    },
}

/// What must be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    // Down, to the driver.
    /// Do something on a peer's connection.
    Link(LinkId, LinkOutput),
    /// Listen there for peers, and nowhere else.
    Listen(Port, Vec<Endpoint>),
    /// Do something on the log's lane.
    Store(Seq, StoreOp),
    /// Remember a membership outside the log: `zoo.cfg.dynamic.*`.
    Membership(MembershipOp),
    /// What this server holds is not what its leader holds, and it cannot be mended in place.
    Restart(String),
    /// Tell whoever watches over this server.
    Event(Event),

    // Up, to the service.
    /// The role changes. Whatever was asked of the role before is void: connections of clients are
    /// closed on any change, and nobody is served before [`Output::Serve`].
    Role(Role),
    /// Apply this transaction: it is committed. In the order of zxids, without gaps.
    Deliver {
        /// Its id.
        zxid: Zxid,
        /// Its payload.
        txn: Bytes,
    },
    /// The role is established, and all that was committed before it is delivered: serve clients.
    Serve,
    /// The leader sends its state, as of `zxid`: drop what there is. The bytes follow.
    SnapshotBegin {
        /// The last transaction that the state holds.
        zxid: Zxid,
    },
    /// Bytes of the leader's state, cut anywhere. Whoever takes them knows where they end and then
    /// calls [`Zab::snapshot_loaded`](super::Zab::snapshot_loaded).
    SnapshotBytes(Bytes),
    /// A learner needs the state: call [`Zab::snapshot_begin`](super::Zab::snapshot_begin) for it
    /// as soon as one can be written, then hand over its bytes.
    SnapshotWanted(LinkId),
    /// A learner forwards a client's request. On the leader.
    Request {
        /// The learner.
        from: LinkId,
        /// Session, cxid, operation, body: see `wire::quorum`.
        data: Bytes,
        /// Who asks.
        ids: Vec<Id>,
    },
    /// The oldest local `sync` that was not answered is done.
    Synced,
    /// A learner's sync was answered. On the leader.
    SyncAnswered(LinkId),
    /// The leader wants to know whose clients gave a sign: call
    /// [`Zab::pong`](super::Zab::pong).
    PingDue,
    /// Sessions of a learner whose clients gave a sign. On the leader.
    Touches(Bytes),
    /// A learner asks whether a session still is. On the leader; answered by
    /// [`Zab::revalidated`](super::Zab::revalidated).
    Revalidate {
        /// The learner.
        from: LinkId,
        /// Session and timeout.
        data: Bytes,
    },
    /// The leader's answer. On a learner.
    Revalidated(Bytes),
    /// A learner is gone. On the leader.
    LearnerGone(LinkId),
    /// A membership is in force.
    Activated(Membership),
}

/// What a host writes about memberships.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MembershipOp {
    /// It was proposed: `zoo.cfg.dynamic.next`.
    Seen(Membership),
    /// It is in force: `zoo.cfg.dynamic.<version>`, and the static file names it.
    Active(Membership),
}

/// What is worth telling an operator. Events never influence the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Event {
    /// A peer's connection was closed for a fault of the peer.
    PeerRefused {
        /// Where it is.
        peer: SocketAddr,
        /// What for.
        port: Port,
        /// Why, as a clause for a log line.
        reason: String,
    },
    /// An election was decided.
    Elected {
        /// The winner.
        leader: ServerId,
        /// Its last transaction.
        zxid: Zxid,
        /// The round.
        round: i64,
        /// Milliseconds since this server began to look.
        took_ms: u64,
    },
    /// A role was given up.
    RoleLost {
        /// Why: "no word from the leader for 10000 ms".
        reason: String,
    },
    /// A leader has begun its epoch, or a learner has taken its leader's history over.
    Synced {
        /// How: "DIFF of 4 transactions", "SNAP of 120 MB".
        how: String,
    },
    /// A learner is in step with this leader.
    LearnerSynced {
        /// Which.
        learner: ServerId,
        /// How.
        how: String,
    },
    /// A learner's connection is gone.
    LearnerLost {
        /// Which.
        learner: ServerId,
        /// Why.
        reason: String,
    },
    /// Anything else.
    Notice(String),
}

/// What a server's four-letter words tell of its ensemble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its role.
    pub role: Role,
    /// Milliseconds that the last election took.
    pub election_ms: u64,
    /// `acceptedEpoch`.
    pub accepted: Epoch,
    /// `currentEpoch`.
    pub current: Epoch,
    /// The last transaction that it has.
    pub proposed: Zxid,
    /// Up to here all is known to be committed.
    pub committed: Zxid,
    /// Up to here the tree has everything.
    pub delivered: Zxid,
    /// The first transaction that is kept for learners.
    pub history_first: Zxid,
    /// The last.
    pub history_last: Zxid,
    /// Their number.
    pub history_txns: usize,
    /// Their bytes.
    pub history_bytes: usize,
    /// Servers with a vote.
    pub voters: usize,
    /// The learners that are connected to this leader.
    pub learners: Vec<LearnerStatus>,
    /// Syncs that wait.
    pub pending_syncs: usize,
}

/// A learner, as its leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LearnerStatus {
    /// Which.
    pub learner: ServerId,
    /// Its connection.
    pub link: LinkId,
    /// Where it is.
    pub peer: SocketAddr,
    /// Whether it observes.
    pub observer: bool,
    /// Whether it has a vote.
    pub voter: bool,
    /// Whether it takes part in the broadcast.
    pub synced: bool,
    /// Up to here it has acknowledged.
    pub acked: Zxid,
    /// Bytes that wait to be sent to it.
    pub waiting_bytes: usize,
}
