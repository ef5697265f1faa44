//! What can go wrong, and how it is made to.

use core::time::Duration;
use std::collections::BTreeSet;
use std::process::Child;
use std::thread;

use super::cluster::{Cluster, Mode};
use super::network::{CLIENTS, Host, run};
use super::random::Random;

/// Longer than a leader or a learner waits for a word of the other.
const HOLD_MS: (u64, u64) = (2_800, 5_500);
/// Of every `fdatasync`.
const DISK_DELAY: Duration = Duration::from_millis(250);
const WHOLE_TIME_MAX: Duration = Duration::from_secs(90);

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    KillLeader,
    KillFollower,
    /// `kill -9` of all at once.
    KillAll,
    /// `kill -9` of the leader, and of its successor soon after.
    KillTwice,
    PauseLeader,
    PauseFollower,
    /// Neither side hears the other.
    IsolateLeader,
    IsolateFollower,
    /// A minority with the leader in it, and the others.
    Halves,
    /// Only the connection of two followers, or of the leader and one of them.
    CutOne,
    /// Two sides that do not hear each other, and one that hears both.
    Bridge,
    /// The leader hears nobody, but is heard.
    DeafLeader,
    /// The leader is not heard, but hears.
    MuteLeader,
    DeafFollower,
    MuteFollower,
    /// No client reaches the leader.
    NoClients,
    DiskFullLeader,
    DiskFullFollower,
    SlowDiskLeader,
    SlowDiskFollower,
    /// A follower comes back with an empty disk.
    WipeFollower,
}

/// Those that need nothing of the network or the disk.
const ANYWHERE: [Fault; 7] = [
    Fault::KillLeader,
    Fault::KillFollower,
    Fault::KillAll,
    Fault::KillTwice,
    Fault::PauseLeader,
    Fault::PauseFollower,
    Fault::WipeFollower,
];

const IN_NAMESPACES: [Fault; 14] = [
    Fault::IsolateLeader,
    Fault::IsolateFollower,
    Fault::Halves,
    Fault::CutOne,
    Fault::Bridge,
    Fault::DeafLeader,
    Fault::MuteLeader,
    Fault::DeafFollower,
    Fault::MuteFollower,
    Fault::NoClients,
    Fault::DiskFullLeader,
    Fault::DiskFullFollower,
    Fault::SlowDiskLeader,
    Fault::SlowDiskFollower,
];

impl Fault {
    /// All that can be had here.
    pub(crate) fn all(namespaces: bool) -> Vec<Self> {
        let more: &[Self] = if namespaces { &IN_NAMESPACES } else { &[] };
        ANYWHERE.iter().chain(more).copied().collect()
    }

    /// Whether writes must go on meanwhile: a majority is well, and hears itself.
    pub(crate) const fn leaves_a_majority(self) -> bool {
        !matches!(self, Self::KillAll | Self::KillTwice | Self::Bridge)
    }
}

/// A fault in force.
pub(crate) struct Ongoing {
    fault: Fault,
    victim: Host,
    tracer: Option<Child>,
    pub(crate) text: String,
}

/// For how long a fault stays.
pub(crate) fn hold(random: &mut Random) -> Duration {
    random.duration_ms(HOLD_MS.0, HOLD_MS.1)
}

/// Begins a fault of an ensemble that is whole.
pub(crate) fn begin(fault: Fault, cluster: &mut Cluster, random: &mut Random) -> Ongoing {
    let ids = cluster.ids();
    let leader = cluster.leader().unwrap_or_else(|| random.pick(&ids));
    let followers: Vec<Host> = ids.iter().copied().filter(|&id| id != leader).collect();
    let follower = random.pick(&followers);
    let mut ongoing = Ongoing {
        fault,
        victim: follower,
        tracer: None,
        text: String::new(),
    };
    let mut drops = BTreeSet::new();
    let others = |victim: Host| ids.iter().copied().filter(move |&id| id != victim);
    match fault {
        Fault::KillLeader => kill(cluster, &mut ongoing, leader),
        Fault::KillFollower => kill(cluster, &mut ongoing, follower),
        Fault::KillAll => {
            for &id in &ids {
                cluster.kill(id);
            }
            for &id in &ids {
                cluster.launch(id);
            }
        }
        Fault::KillTwice => {
            kill(cluster, &mut ongoing, leader);
            thread::sleep(random.duration_ms(100, 1500));
            let modes = followers.iter().map(|&id| (cluster.status(id).mode, id));
            let mut leading = modes.filter(|it| it.0 == Mode::Leader).map(|it| it.1);
            let next = leading.next().unwrap_or(follower);
            cluster.launch(leader);
            cluster.kill(next);
            cluster.launch(next);
        }
        Fault::PauseLeader => pause(cluster, &mut ongoing, leader),
        Fault::PauseFollower => pause(cluster, &mut ongoing, follower),
        Fault::IsolateLeader => drops = both_ways(&[leader], &followers),
        Fault::IsolateFollower => {
            drops = both_ways(&[follower], &others(follower).collect::<Vec<_>>());
        }
        Fault::Halves => {
            let mut rest = followers.clone();
            random.shuffle(&mut rest);
            let with_it = rest.split_off(rest.len() - (ids.len() - 1) / 2 + 1);
            let minority: Vec<Host> = with_it.into_iter().chain([leader]).collect();
            drops = both_ways(&minority, &rest);
        }
        Fault::CutOne => {
            let other = random.pick(&others(follower).collect::<Vec<_>>());
            drops = both_ways(&[follower], &[other]);
            ongoing.text = format!("{follower} and {other}");
        }
        Fault::Bridge => {
            let mut sides = ids.clone();
            random.shuffle(&mut sides);
            let bridge = sides.pop();
            let other = sides.split_off(sides.len() / 2);
            drops = both_ways(&sides, &other);
            ongoing.text = format!("{sides:?} {other:?}, {bridge:?} between");
        }
        Fault::DeafLeader => drops = followers.iter().map(|&id| (id, leader)).collect(),
        Fault::MuteLeader => drops = followers.iter().map(|&id| (leader, id)).collect(),
        Fault::DeafFollower => drops = others(follower).map(|id| (id, follower)).collect(),
        Fault::MuteFollower => drops = others(follower).map(|id| (follower, id)).collect(),
        Fault::NoClients => drops = [(CLIENTS, leader)].into(),
        Fault::DiskFullLeader => fill(cluster, &mut ongoing, leader),
        Fault::DiskFullFollower => fill(cluster, &mut ongoing, follower),
        Fault::SlowDiskLeader => slow(cluster, &mut ongoing, leader),
        Fault::SlowDiskFollower => slow(cluster, &mut ongoing, follower),
        Fault::WipeFollower => {
            cluster.kill(follower);
            cluster.wipe(follower);
            cluster.launch(follower);
            ongoing.text = format!("{follower}");
        }
    }
    if !drops.is_empty() {
        cluster.network.cut(&drops);
        if ongoing.text.is_empty() {
            let pairs: Vec<String> = drops
                .iter()
                .map(|it| format!("{}>{}", it.0, it.1))
                .collect();
            ongoing.text = pairs.join(" ");
        }
    }
    if ongoing.text.is_empty() {
        ongoing.text = "all".to_owned();
    }
    ongoing
}

/// Ends it, and waits until the ensemble is whole. Returns how long that took.
pub(crate) fn end(mut ongoing: Ongoing, cluster: &mut Cluster) -> Duration {
    cluster.network.cut(&BTreeSet::new());
    cluster.resume_all();
    if let Some(mut tracer) = ongoing.tracer.take() {
        let early = tracer.try_wait().unwrap();
        assert_eq!(early, None, "strace has not slowed the disk down");
        // It lets go of the thread when it is asked to end.
        run(
            "sh",
            &["-c", &format!("kill -TERM {} || true", tracer.id())],
        );
        let _ = tracer.wait();
    }
    let full = matches!(
        ongoing.fault,
        Fault::DiskFullLeader | Fault::DiskFullFollower
    );
    for id in cluster.ids() {
        cluster.free_disk(id);
        // Out of room a server ends, rather than to say yes to what it cannot keep; it is begun
        // again as by any supervisor.
        if full
            && id == ongoing.victim
            && let Some(status) = cluster.ended(id)
        {
            eprintln!("  without room server {id} ended: {status}");
        }
        if ongoing.fault != Fault::WipeFollower {
            cluster.launch(id);
        }
    }
    cluster.wait_until_whole(WHOLE_TIME_MAX)
}

fn kill(cluster: &mut Cluster, ongoing: &mut Ongoing, victim: Host) {
    cluster.kill(victim);
    ongoing.text = format!("{victim}");
}

fn pause(cluster: &mut Cluster, ongoing: &mut Ongoing, victim: Host) {
    cluster.pause(victim);
    ongoing.text = format!("{victim}");
}

fn fill(cluster: &mut Cluster, ongoing: &mut Ongoing, victim: Host) {
    cluster.fill_disk(victim);
    ongoing.victim = victim;
    ongoing.text = format!("{victim}");
}

fn slow(cluster: &mut Cluster, ongoing: &mut Ongoing, victim: Host) {
    ongoing.tracer = cluster.slow_disk(victim, DISK_DELAY);
    let traced = ongoing.tracer.is_some();
    ongoing.text = if traced {
        format!("{victim}")
    } else {
        "left out, no strace".to_owned()
    };
}

fn both_ways(some: &[Host], others: &[Host]) -> BTreeSet<(Host, Host)> {
    let pairs = some
        .iter()
        .flat_map(|&a| others.iter().map(move |&b| (a, b)));
    pairs.flat_map(|(a, b)| [(a, b), (b, a)]).collect()
}
