//! Changes of the membership, asked for while things go wrong.

use core::fmt;
use core::time::Duration;
use std::thread;
use std::time::Instant;

use super::client::{Client, Request};
use super::cluster::Cluster;
use super::membership::{CONFIG, Members, Role};
use super::network::Host;
use super::random::Random;

const PAUSE: Duration = Duration::from_millis(150);
const KNOWN_TIME_MAX: Duration = Duration::from_secs(90);

/// One server becomes something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Join(Host, Role),
    Leave(Host),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Join(id, Role::Observer) => write!(f, "{id} to observe"),
            Self::Join(id, Role::Participant) => write!(f, "{id} to vote"),
            Self::Leave(id) => write!(f, "{id} to leave"),
        }
    }
}

/// How often something was asked for, and what came of it.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) asked: u32,
    /// The request was acknowledged.
    pub(crate) acknowledged: u32,
    /// It was refused, every time.
    pub(crate) refused: u32,
    /// Nobody answered.
    pub(crate) unanswered: u32,
    /// Of these, how many are in force nevertheless.
    pub(crate) unanswered_done: u32,
}

impl Change {
    /// One that leaves as many voters as at the beginning, or one more, and at most one server
    /// outside: so that a majority outlives one of them.
    pub(crate) fn pick(cluster: &Cluster, voters_min: usize, random: &mut Random) -> Option<Self> {
        let voters = cluster.with_role(Role::Participant);
        let observers = cluster.with_role(Role::Observer);
        let outside = cluster.outside();
        let mut changes = Vec::new();
        for &id in outside.iter().chain(&observers) {
            if voters.len() <= voters_min {
                changes.push(Self::Join(id, Role::Participant));
            }
        }
        changes.extend(outside.iter().map(|&id| Self::Join(id, Role::Observer)));
        if voters.len() > voters_min {
            changes.extend(voters.iter().map(|&id| Self::Join(id, Role::Observer)));
        }
        if outside.is_empty() {
            if voters.len() > voters_min {
                changes.extend(voters.iter().copied().map(Self::Leave));
            }
            changes.extend(observers.into_iter().map(Self::Leave));
        }
        (!changes.is_empty()).then(|| random.pick(&changes))
    }

    /// What it makes of a membership.
    pub(crate) fn of(self, cluster: &Cluster) -> Members {
        let (joining, leaving) = self.request(cluster);
        cluster.members.changed(joining.as_deref(), leaving)
    }

    fn request(self, cluster: &Cluster) -> (Option<String>, Option<Host>) {
        match self {
            Self::Join(id, role) => {
                let member = cluster.network.member(id, role);
                (Some(format!("server.{id}={member}")), None)
            }
            Self::Leave(id) => (None, Some(id)),
        }
    }

    /// Asks whoever takes a client until it is acknowledged, or time is over.
    pub(crate) fn ask(
        self,
        cluster: &mut Cluster,
        admin: &mut Client,
        until: Instant,
        random: &mut Random,
    ) -> Option<i32> {
        if let Self::Join(id, _) = self
            && cluster.outside().contains(&id)
        {
            cluster.launch_outside(id);
        }
        let (joining, leaving) = self.request(cluster);
        let ids = cluster.ids();
        let mut code = None;
        while Instant::now() < until && code != Some(0) {
            let server = cluster.addresses(random.pick(&ids)).client;
            if !admin.is_connected() && admin.connect(server).is_err() {
                thread::sleep(PAUSE);
                continue;
            }
            let answer = admin.call(Request::Reconfig {
                joining: joining.clone(),
                leaving,
            });
            code = answer.map(|answer| answer.code);
            if code != Some(0) {
                thread::sleep(PAUSE);
            }
        }
        code
    }
}

/// Asks the ensemble, of which a majority is well again, who is in it.
///
/// The session has come to another connection: what was asked before on the old one is done before
/// this sync, or never.
pub(crate) fn find_out(cluster: &mut Cluster, admin: &mut Client, random: &mut Random) {
    let end = Instant::now() + KNOWN_TIME_MAX;
    let hosts = cluster.hosts();
    admin.disconnect();
    let text = loop {
        assert!(Instant::now() < end, "nobody says who is in the ensemble");
        let server = cluster.addresses(random.pick(&hosts)).client;
        if !admin.is_connected() && admin.connect(server).is_err() {
            thread::sleep(PAUSE);
            continue;
        }
        let synced = admin.call(Request::Sync).is_some_and(|it| it.code == 0);
        if !synced {
            admin.disconnect();
            continue;
        }
        let path = CONFIG.to_owned();
        let found = admin.call(Request::Get { path, watch: false });
        if let Some(text) = found.and_then(|answer| answer.data) {
            break text;
        }
    };
    let text = String::from_utf8(text).expect("a membership is text");
    cluster.members = Members::parse(&text).0;
}
