//! What can go wrong, and how it is made to.

use core::fmt;
use core::time::Duration;
use std::collections::BTreeSet;
use std::process::Child;
use std::thread;

use super::cluster::{Cluster, Mode};
use super::membership::Role;
use super::network::{CLIENTS, Host, run};
use super::random::Random;

/// Longer than a leader or a learner waits for a word of the other.
const HOLD_MS: (u64, u64) = (2_800, 5_500);
/// Of every `fdatasync`.
const DISK_DELAY: Duration = Duration::from_millis(250);

/// Whom a fault is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    Leader,
    Follower,
    Observer,
}

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    Kill(Who),
    /// `kill -9` of all at once.
    KillAll,
    /// `kill -9` of the leader, and of its successor soon after.
    KillTwice,
    /// It is stopped, and goes on when all take it for dead.
    Pause(Who),
    /// It comes back with an empty disk.
    Wipe(Who),
    /// It and all other servers do not hear each other.
    Isolate(Who),
    /// A minority with the leader in it, and the others.
    Halves,
    /// Only the connection of a follower and another server.
    CutOne,
    /// Two sides that do not hear each other, and one that hears both.
    Bridge,
    /// It hears no other server, but is heard.
    Deaf(Who),
    /// It is not heard by any other server, but hears.
    Mute(Who),
    /// No client reaches it.
    NoClients(Who),
    DiskFull(Who),
    SlowDisk(Who),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, who) = match *self {
            Self::Kill(who) => ("Kill", who),
            Self::Pause(who) => ("Pause", who),
            Self::Wipe(who) => ("Wipe", who),
            Self::Isolate(who) => ("Isolate", who),
            Self::Deaf(who) => ("Deaf", who),
            Self::Mute(who) => ("Mute", who),
            Self::NoClients(who) => ("NoClients", who),
            Self::DiskFull(who) => ("DiskFull", who),
            Self::SlowDisk(who) => ("SlowDisk", who),
            Self::KillAll | Self::KillTwice | Self::Halves | Self::CutOne | Self::Bridge => {
                return write!(f, "{self:?}");
            }
        };
        write!(f, "{what}{who:?}")
    }
}

impl Fault {
    /// All that can be had here.
    pub(crate) fn all(namespaces: bool) -> Vec<Self> {
        let mut all = vec![Self::KillAll, Self::KillTwice];
        if namespaces {
            all.extend([Self::Halves, Self::CutOne, Self::Bridge]);
        }
        for who in [Who::Leader, Who::Follower, Who::Observer] {
            all.extend([Self::Kill(who), Self::Pause(who), Self::Wipe(who)]);
            if namespaces {
                all.extend([Self::Isolate(who), Self::Deaf(who), Self::Mute(who)]);
                all.extend([Self::NoClients(who), Self::DiskFull(who)]);
                all.push(Self::SlowDisk(who));
            }
        }
        all
    }

    /// Whether there is somebody for it.
    pub(crate) fn applies(self, cluster: &Cluster) -> bool {
        let of_observer = self.to_string().ends_with("Observer");
        !of_observer || !cluster.with_role(Role::Observer).is_empty()
    }

    /// Whether, if nothing else is wrong, a majority is well and hears itself.
    const fn leaves_a_majority(self) -> bool {
        !matches!(self, Self::KillAll | Self::KillTwice | Self::Bridge)
    }
}

/// Faults in force.
pub(crate) struct Ongoing {
    pub(crate) text: String,
    /// Servers that are not what they should be.
    hit: BTreeSet<Host>,
    wiped: BTreeSet<Host>,
    drops: BTreeSet<(Host, Host)>,
    tracers: Vec<Child>,
    /// Whether a majority is well and hears itself, by the kinds of the faults.
    majority: bool,
    count: usize,
}

/// For how long a fault stays.
pub(crate) fn hold(random: &mut Random) -> Duration {
    random.duration_ms(HOLD_MS.0, HOLD_MS.1)
}

/// Begins faults, one after the other at once, of an ensemble that is whole. A majority of the
/// voters keeps its disks.
pub(crate) fn begin(faults: &[Fault], cluster: &mut Cluster, random: &mut Random) -> Ongoing {
    let ids = cluster.with_role(Role::Participant);
    let leader = cluster.leader().unwrap_or_else(|| random.pick(&ids));
    let mut ongoing = Ongoing {
        text: String::new(),
        hit: BTreeSet::new(),
        wiped: BTreeSet::new(),
        drops: BTreeSet::new(),
        tracers: Vec::new(),
        majority: true,
        count: 0,
    };
    for fault in faults {
        ongoing.add(*fault, leader, cluster, random);
        cluster.network.cut(&ongoing.drops);
    }
    ongoing
}

impl Ongoing {
    /// Whether writes must go on, given who votes.
    pub(crate) fn leaves_a_majority(&self, voters: &[Host]) -> bool {
        self.majority && (self.count == 1 || self.leaves_a_majority_of(voters))
    }

    /// Whether more than half of these are not hit at all.
    pub(crate) fn leaves_a_majority_of(&self, voters: &[Host]) -> bool {
        let hit = voters.iter().filter(|id| self.hit.contains(id)).count();
        2 * hit < voters.len()
    }

    fn victim(
        &self,
        who: Who,
        leader: Host,
        cluster: &Cluster,
        random: &mut Random,
    ) -> Option<Host> {
        let mut all = match who {
            Who::Leader => vec![leader],
            Who::Follower => cluster.with_role(Role::Participant),
            Who::Observer => cluster.with_role(Role::Observer),
        };
        all.retain(|&id| who == Who::Leader || id != leader);
        // Two faults are of two servers, if there are two.
        let fresh: Vec<Host> = all
            .iter()
            .copied()
            .filter(|id| !self.hit.contains(id))
            .collect();
        let of = if fresh.is_empty() { all } else { fresh };
        (!of.is_empty()).then(|| random.pick(&of))
    }

    fn add(&mut self, fault: Fault, leader: Host, cluster: &mut Cluster, random: &mut Random) {
        let voters = cluster.with_role(Role::Participant);
        let ids = cluster.ids();
        let who = match fault {
            Fault::Kill(who)
            | Fault::Pause(who)
            | Fault::Wipe(who)
            | Fault::Isolate(who)
            | Fault::Deaf(who)
            | Fault::Mute(who)
            | Fault::NoClients(who)
            | Fault::DiskFull(who)
            | Fault::SlowDisk(who) => who,
            Fault::KillAll | Fault::KillTwice | Fault::Halves | Fault::Bridge => Who::Leader,
            Fault::CutOne => Who::Follower,
        };
        let Some(victim) = self.victim(who, leader, cluster, random) else {
            return;
        };
        let others: Vec<Host> = ids.iter().copied().filter(|&id| id != victim).collect();
        let mut text = format!("{victim}");
        let mut hit = vec![victim];
        match fault {
            Fault::Kill(_) => cluster.kill(victim),
            Fault::KillAll => {
                for &id in &ids {
                    cluster.kill(id);
                }
                for &id in &ids {
                    cluster.launch(id);
                }
                "all".clone_into(&mut text);
            }
            Fault::KillTwice => {
                cluster.kill(leader);
                thread::sleep(random.duration_ms(100, 1500));
                let leads = |id: &Host| cluster.status(*id).mode == Mode::Leader;
                let next = voters.iter().copied().find(|id| *id != leader && leads(id));
                let next = next.or_else(|| self.victim(Who::Follower, leader, cluster, random));
                let next = next.expect("an ensemble has followers");
                cluster.launch(leader);
                cluster.kill(next);
                cluster.launch(next);
                text = format!("{leader}, {next}");
                hit.push(next);
            }
            Fault::Pause(_) => cluster.pause(victim),
            Fault::Wipe(_) => {
                cluster.kill(victim);
                let voter = voters.contains(&victim);
                let more = self
                    .wiped
                    .iter()
                    .any(|&id| id != victim && voters.contains(&id));
                if voter && more {
                    "killed only".clone_into(&mut text);
                } else {
                    cluster.wipe(victim);
                    self.wiped.insert(victim);
                }
                cluster.launch(victim);
            }
            Fault::Isolate(_) => self.drops.extend(both_ways(&[victim], &others)),
            Fault::Halves => {
                let mut rest: Vec<Host> =
                    voters.iter().copied().filter(|&id| id != leader).collect();
                random.shuffle(&mut rest);
                hit.extend(rest.split_off(rest.len() + 1 - (voters.len() - 1) / 2));
                let (mut minority, mut majority) = (hit.clone(), rest);
                for id in cluster.with_role(Role::Observer) {
                    let side = random.pick(&[true, false]);
                    if side { &mut minority } else { &mut majority }.push(id);
                }
                self.drops.extend(both_ways(&minority, &majority));
                text = format!("{minority:?} {majority:?}");
            }
            Fault::CutOne => {
                let other = random.pick(&others);
                self.drops.extend(both_ways(&[victim], &[other]));
                text = format!("{victim} and {other}");
                hit.push(other);
            }
            Fault::Bridge => {
                let mut sides = ids;
                random.shuffle(&mut sides);
                let bridge = sides.pop();
                let other = sides.split_off(sides.len() / 2);
                self.drops.extend(both_ways(&sides, &other));
                text = format!("{sides:?} {other:?}, {bridge:?} between");
            }
            Fault::Deaf(_) => self.drops.extend(others.iter().map(|&id| (id, victim))),
            Fault::Mute(_) => self.drops.extend(others.iter().map(|&id| (victim, id))),
            Fault::NoClients(_) => {
                self.drops.insert((CLIENTS, victim));
            }
            Fault::DiskFull(_) => cluster.fill_disk(victim),
            Fault::SlowDisk(_) => match cluster.slow_disk(victim, DISK_DELAY) {
                Some(tracer) => self.tracers.push(tracer),
                None => text.push_str(" left out"),
            },
        }
        self.hit.extend(hit);
        self.majority &= fault.leaves_a_majority();
        self.count += 1;
        let space = if self.text.is_empty() { "" } else { "; " };
        self.text += &format!("{space}{fault}: {text}");
    }

    /// Ends the faults: what is cut off hears again, what was killed begins again.
    pub(crate) fn end(mut self, cluster: &mut Cluster) {
        cluster.network.cut(&BTreeSet::new());
        cluster.resume_all();
        for mut tracer in self.tracers.drain(..) {
            // Of a process that was killed meanwhile there is nothing to slow down.
            let early = tracer.try_wait().unwrap();
            assert!(
                early.is_none() || self.count > 1,
                "strace has not slowed the disk down: {early:?}"
            );
            // It lets go of the thread when it is asked to end.
            run(
                "sh",
                &["-c", &format!("kill -TERM {} || true", tracer.id())],
            );
            let _ = tracer.wait();
        }
        for id in cluster.hosts() {
            cluster.free_disk(id);
        }
        for id in cluster.ids() {
            cluster.launch(id);
        }
    }
}

fn both_ways(some: &[Host], others: &[Host]) -> BTreeSet<(Host, Host)> {
    let pairs = some
        .iter()
        .flat_map(|&a| others.iter().map(move |&b| (a, b)));
    pairs.flat_map(|(a, b)| [(a, b), (b, a)]).collect()
}
