//! What a run of an ensemble will be: its shape and what goes wrong, decided before it begins.

use core::fmt;

use crate::ensemble::members::Change;
use crate::ensemble::trials::Trial;
use crate::plan::Plan;
use crate::rng::{Rng, Stream};

/// Most servers, observers included: they are named by letters.
pub const SERVERS_MAX: usize = 9;

/// In a fault: the server that did what the fault has waited for. `@` in a text.
pub const ACTOR: usize = usize::MAX;
/// In a fault: the server that has last begun an epoch. `^` in a text.
pub const LEADER: usize = usize::MAX - 1;

/// A run of an ensemble, as it will be. Its text form is in [`text`](super::text).
#[derive(Clone, Debug, PartialEq)]
pub struct Script {
    /// What clients do, and how a server is configured, as for one server alone.
    pub base: Plan,
    /// What the servers are.
    pub cast: Cast,
    /// Servers with a vote: `A`, `B`, …
    pub voters: usize,
    /// Servers without, named on from there.
    pub observers: usize,
    /// Servers outside of the first membership, named on from there: they may join.
    pub spares: usize,
    /// `initLimit` in ticks.
    pub init_limit: u32,
    /// `syncLimit` in ticks.
    pub sync_limit: u32,
    /// Transactions that a server keeps for others.
    pub history_txns: usize,
    /// The fastest and slowest clock differ from true by this many parts in a million.
    pub drift_ppm: u64,
    /// What goes wrong.
    pub faults: Vec<Planned>,
    /// What is tried once all is well again.
    pub trial: Trial,
}

/// What the servers of a run are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cast {
    /// Whole servers, with clients.
    Service,
    /// Servers that agree and do nothing else: [`drill`](crate::drill).
    Drill,
}

/// A fault and when it happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// When.
    pub when: When,
    /// What.
    pub fault: Fault,
    /// For how long, in microseconds; 0 is until the end.
    pub for_us: u64,
}

/// When a fault happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// This many microseconds after the start.
    At(u64),
    /// When a server does something for the `count`-th time, from 1, before anything comes of it.
    On {
        /// Which server; `None` is any.
        server: Option<usize>,
        /// What it does.
        effect: Effect,
        /// Which time.
        count: u64,
    },
}

/// What a server does that a fault may wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// It asks its store for an operation.
    Asks(Durable),
    /// Its store has made an operation durable, and it is not told yet.
    Stores(Durable),
    /// It sends a packet of this type to another server.
    Sends(i32),
    /// It is given a packet of this type.
    Receives(i32),
    /// It begins to listen as a leader.
    Leads,
    /// It gives leading up.
    Resigns,
    /// It starts.
    Starts,
}

/// What a store makes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durable {
    /// `acceptedEpoch`.
    Accepted,
    /// A transaction.
    Append,
    /// `currentEpoch`.
    Current,
    /// The log begun anew after a snapshot.
    Reset,
    /// A snapshot.
    Snapshot,
    /// The log cut short.
    Truncate,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Processes die; what was written stays.
    Kill(Vec<usize>),
    /// The power goes.
    Power(Vec<usize>),
    /// The power goes after this many operations of the disk.
    PowerInStore(usize, u64),
    /// The process dies after this many operations of the disk.
    KillInStore(usize, u64),
    /// The power goes, and the disk is empty afterwards.
    Amnesia(usize),
    /// A server is not given its turn.
    Pause(usize),
    /// Its disk is a hundred times slower.
    SlowDisk(usize),
    /// The wall clock of a server jumps by this many milliseconds.
    ClockJump(usize, i64),
    /// The snapshot that is being written fails.
    SnapshotFails(usize),
    /// Nothing passes between a server and any other.
    Isolate(usize),
    /// Nothing passes from the first to the second; nobody is told.
    Block(usize, usize),
    /// Nothing passes between servers of different groups; who is in none sees everyone.
    Partition(Vec<Vec<usize>>),
    /// Every connection between two servers is reset.
    Reset(usize, usize),
    /// A server's connections to servers are as slow as this many microseconds.
    SlowLinks(usize, u64),
    /// A server's clients lose their connections.
    DropClients(usize),
    /// An operator asks for another membership; of this version, if he says it.
    Reconfig(Vec<Change>, Option<i64>),
    /// The first of two servers loses all connections to the other. That one hears of it only when
    /// the fault ends: until then it is given what was under way, and talks to nobody.
    HalfClose(usize, usize),
    /// ENOSPC, after this many operations of the disk.
    DiskFull(usize, u64),
    /// EIO of whatever is written or synced, after this many operations of the disk.
    DiskFails(usize, u64),
    /// Its host says that the disk is nearly full.
    DiskLow(usize),
    /// Its disk finishes nothing of the log.
    StallDisk(usize),
    /// The process dies, and a bit of what its disk holds is flipped: which one follows from this
    /// number.
    Rot(usize, u64),
}

/// The packets of the quorum protocol by name, for texts.
pub const PACKETS: &[(&str, i32)] = &[
    ("REQUEST", 1),
    ("PROPOSAL", 2),
    ("ACK", 3),
    ("COMMIT", 4),
    ("PING", 5),
    ("REVALIDATE", 6),
    ("SYNC", 7),
    ("INFORM", 8),
    ("COMMITANDACTIVATE", 9),
    ("NEWLEADER", 10),
    ("FOLLOWERINFO", 11),
    ("UPTODATE", 12),
    ("DIFF", 13),
    ("TRUNC", 14),
    ("SNAP", 15),
    ("OBSERVERINFO", 16),
    ("LEADERINFO", 17),
    ("ACKEPOCH", 18),
    ("INFORMANDACTIVATE", 19),
];

/// What a store makes durable, by name.
pub const DURABLES: &[(&str, Durable)] = &[
    ("accepted", Durable::Accepted),
    ("append", Durable::Append),
    ("current", Durable::Current),
    ("reset", Durable::Reset),
    ("snapshot", Durable::Snapshot),
    ("truncate", Durable::Truncate),
];

impl Script {
    /// The run of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut script = Self::without_plot(seed);
        script.draw_plot(&mut Rng::keyed(seed, Stream::Plan, 12, 0));
        script
    }

    /// The same, but for what [`plots`](super::plots) changes.
    pub(super) fn without_plot(seed: u64) -> Self {
        let mut rng = Rng::keyed(seed, Stream::Plan, 10, 0);
        let mut base = Plan::new(seed);
        base.faults.clear();
        base.duration_us = rng.between(4, 12) * 1_000_000;
        base.tick_ms = *rng.pick(&[50, 100, 200]).unwrap_or(&100);
        base.latency_us = *rng.pick(&[100, 500, 500, 3000]).unwrap_or(&500);
        base.sync_us = *rng.pick(&[200, 1000, 5000]).unwrap_or(&1000);
        base.acts = rng.between(50, 400);
        base.snapshot_txns = *rng.pick(&[4, 20, 100, 1000]).unwrap_or(&100);
        // Followers judge by usages that the oracle cannot know.
        base.enforce_quota = false;
        base.tree_bytes_max = 0;
        let voters = *rng.pick(&[3, 3, 3, 3, 4, 5, 5, 7]).unwrap_or(&3);
        let observers = *rng.pick(&[0, 0, 0, 1, 2]).unwrap_or(&0);
        let cast = if rng.one_in(3) {
            Cast::Drill
        } else {
            Cast::Service
        };
        let mut script = Self {
            cast,
            voters,
            observers,
            spares: 0,
            init_limit: 10,
            sync_limit: 5,
            history_txns: *rng.pick(&[1, 30, 500, 500]).unwrap_or(&500),
            drift_ppm: *rng.pick(&[0, 0, 1000, 50_000]).unwrap_or(&0),
            faults: Vec::new(),
            trial: Trial::draw(&mut Rng::keyed(seed, Stream::Plan, 13, 0)),
            base,
        };
        script.faults = script.draw_faults(&mut rng);
        if rng.one_in(3) {
            script.faults.extend(script.draw_falling_behind(&mut rng));
        }
        script.draw_empty_epoch(&mut Rng::keyed(seed, Stream::Plan, 20, 0));
        script.draw_reconfigs(&mut Rng::keyed(seed, Stream::Plan, 11, 0));
        script.draw_mishaps(&mut Rng::keyed(seed, Stream::Plan, 12, 0));
        script
    }

    /// How many servers there are.
    #[must_use]
    pub const fn servers(&self) -> usize {
        self.voters + self.observers + self.spares
    }

    /// Whether the membership changes.
    #[must_use]
    pub fn reconfigures(&self) -> bool {
        let mut faults = self.faults.iter();
        self.spares > 0 || faults.any(|it| matches!(it.fault, Fault::Reconfig(..)))
    }

    /// A third of the runs change who is in the ensemble, and hurt where that hurts.
    fn draw_reconfigs(&mut self, rng: &mut Rng) {
        if !rng.one_in(3) {
            return;
        }
        self.spares = rng.index(3).min(SERVERS_MAX - self.servers());
        // A lost disk is safe only for a quorum that is known in advance.
        self.faults
            .retain(|planned| !matches!(planned.fault, Fault::Amnesia(_)));
        for _ in 0..rng.between(2, 12) {
            let when = if rng.one_in(5) {
                self.draw_condition(rng)
            } else {
                When::At(rng.between(500_000, self.base.duration_us))
            };
            let changes = (0..rng.between(1, 2)).map(|_| {
                let server = if rng.one_in(5) {
                    LEADER
                } else {
                    rng.index(self.servers())
                };
                match rng.below(5) {
                    0 | 1 => Change::Vote(server),
                    2 => Change::Observe(server),
                    _ => Change::Remove(server),
                }
            });
            let changes = changes.collect();
            let version = rng.one_in(8).then_some(7);
            self.faults.push(Planned {
                when,
                fault: Fault::Reconfig(changes, version),
                for_us: 0,
            });
        }
        for _ in 0..rng.below(4) {
            let effect = match rng.below(3) {
                0 => Effect::Receives(*rng.pick(&[9, 19]).unwrap_or(&9)),
                _ => Effect::Sends(*rng.pick(&[9, 9, 19]).unwrap_or(&9)),
            };
            let one = *rng.pick(&[ACTOR, LEADER]).unwrap_or(&ACTOR);
            let fault = match rng.below(6) {
                0 => Fault::Power(vec![one]),
                1 => Fault::Isolate(one),
                2 => Fault::Partition(self.draw_groups(rng)),
                _ => Fault::Kill(vec![one]),
            };
            self.faults.push(Planned {
                when: When::On {
                    server: None,
                    effect,
                    count: rng.between(1, 8),
                },
                fault,
                for_us: *rng.pick(&[100_000, 1_500_000]).unwrap_or(&100_000),
            });
        }
    }

    fn draw_faults(&self, rng: &mut Rng) -> Vec<Planned> {
        let count = match rng.below(6) {
            0 => 0,
            1 => 2,
            2 | 3 => 6,
            4 => 12,
            _ => 25,
        };
        // Swarm: a run favours a few kinds.
        let mut weights = [0; 15];
        for weight in &mut weights {
            *weight = *rng.pick(&[0, 1, 1, 4]).unwrap_or(&1);
        }
        if weights.iter().sum::<u64>() == 0 {
            weights = [1; 15];
        }
        let conditional = *rng.pick(&[0, 30, 70]).unwrap_or(&30);
        // More than one lost disk could lose what a quorum had.
        let mut has_amnesia = false;
        let mut faults = Vec::new();
        for _ in 0..count {
            let when = if rng.percent(conditional) {
                self.draw_condition(rng)
            } else {
                When::At(rng.below(self.base.duration_us))
            };
            let is_conditional = matches!(when, When::On { .. });
            let special = match rng.below(4) {
                0 => Some(LEADER),
                1 if is_conditional => Some(ACTOR),
                _ => None,
            };
            let fault = self.draw_fault(rng, &weights, special);
            if matches!(fault, Fault::Amnesia(_)) {
                if has_amnesia {
                    continue;
                }
                has_amnesia = true;
            }
            let for_us = *rng
                .pick(&[20_000, 100_000, 400_000, 1_500_000, 3_000_000])
                .unwrap_or(&100_000);
            faults.push(Planned {
                when,
                fault,
                for_us,
            });
        }
        faults
    }

    /// A server falls behind; then all stop, and those come back first that know less.
    ///
    /// What an election goes by matters only if the histories of those that vote differ, and
    /// faults that know nothing of each other seldom bring that about.
    fn draw_falling_behind(&self, rng: &mut Rng) -> Vec<Planned> {
        let behind = rng.index(self.voters);
        let ahead = (behind + 1 + rng.index(self.voters - 1)) % self.voters;
        let begin = rng.below(self.base.duration_us * 2 / 3);
        let lag_us = rng.between(50, 1500) * 1000;
        let stop = begin + lag_us;
        let everyone = (0..self.servers()).collect();
        let stopped = if rng.one_in(2) {
            Fault::Kill(everyone)
        } else {
            Fault::Power(everyone)
        };
        let planned = |at, fault, for_us| Planned {
            when: When::At(at),
            fault,
            for_us,
        };
        vec![
            planned(begin, Fault::Isolate(behind), lag_us),
            planned(
                stop,
                Fault::Kill(vec![ahead]),
                rng.between(300, 3000) * 1000,
            ),
            planned(stop, stopped, 20_000),
        ]
    }

    /// A leader is cut off with transactions of its own; the others begin an epoch, and all stop
    /// before anything is proposed in it: who has the later epoch has the lower zxid.
    fn draw_empty_epoch(&mut self, rng: &mut Rng) {
        if !rng.one_in(6) {
            return;
        }
        let begin = rng.between(self.base.duration_us / 4, self.base.duration_us * 2 / 3);
        self.faults.push(Planned {
            when: When::At(begin),
            fault: Fault::Isolate(LEADER),
            for_us: rng.between(500, 1500) * 1000,
        });
        // The first epoch is begun by all who can.
        let first = self.voters as u64;
        self.faults.push(Planned {
            when: When::On {
                server: None,
                effect: Effect::Stores(Durable::Current),
                count: rng.between(first + 1, first + self.servers() as u64),
            },
            fault: Fault::Kill((0..self.servers()).collect()),
            for_us: rng.between(20, 300) * 1000,
        });
    }

    pub(super) fn draw_condition(&self, rng: &mut Rng) -> When {
        let packets = [
            2, 2, 3, 3, 3, 4, 4, 8, 10, 10, 11, 12, 12, 13, 14, 15, 17, 18, 7,
        ];
        let durables = DURABLES.iter().map(|(_, durable)| *durable);
        let durables: Vec<_> = durables.collect();
        let durable = *rng.pick(&durables).unwrap_or(&Durable::Append);
        let packet = *rng.pick(&packets).unwrap_or(&3);
        let effect = match rng.below(10) {
            0 | 1 => Effect::Asks(durable),
            2 | 3 => Effect::Stores(durable),
            4..=6 => Effect::Sends(packet),
            7 => Effect::Receives(packet),
            8 => Effect::Leads,
            _ => Effect::Resigns,
        };
        let often = matches!(
            effect,
            Effect::Asks(Durable::Append)
                | Effect::Stores(Durable::Append)
                | Effect::Sends(2..=4 | 8)
                | Effect::Receives(2..=4 | 8)
        );
        When::On {
            server: rng.one_in(2).then(|| rng.index(self.servers())),
            effect,
            count: rng.between(1, if often { 60 } else { 4 }),
        }
    }

    fn draw_fault(&self, rng: &mut Rng, weights: &[u64], special: Option<usize>) -> Fault {
        let servers = self.servers();
        let drawn = rng.index(servers);
        let other = (drawn + 1 + rng.index(servers - 1)) % servers;
        let one = special.unwrap_or(drawn);
        let some = |rng: &mut Rng| -> Vec<usize> {
            match rng.below(6) {
                0 => (0..servers).collect(),
                1 => (0..servers).filter(|_| rng.one_in(2)).collect(),
                _ => vec![one],
            }
        };
        match rng.weighted(weights) {
            0 => Fault::Kill(some(rng)),
            1 => Fault::Power(some(rng)),
            2 => Fault::PowerInStore(one, rng.below(12)),
            3 => Fault::KillInStore(one, rng.below(12)),
            4 => Fault::Amnesia(one),
            5 => Fault::Pause(one),
            // Without a draw: the other faults of every seed are what they were before there was this.
            6 if self.base.seed % 4 == 1 => Fault::DiskLow(one),
            6 => Fault::SlowDisk(one),
            7 => Fault::ClockJump(one, if rng.one_in(2) { 7_200_000 } else { -7_200_000 }),
            8 => Fault::SnapshotFails(one),
            9 => Fault::Block(one, other),
            10 => Fault::Partition(self.draw_groups(rng)),
            11 => Fault::Reset(one, other),
            12 => Fault::SlowLinks(one, rng.between(1, 100) * 1000),
            13 => Fault::Isolate(one),
            _ => Fault::DropClients(one),
        }
    }

    fn draw_groups(&self, rng: &mut Rng) -> Vec<Vec<usize>> {
        let mut groups = vec![Vec::new(), Vec::new()];
        let lonely = rng.index(self.servers());
        let is_isolation = rng.one_in(2);
        // A bridge: one server that sees both sides.
        let bridge = rng.one_in(4).then(|| rng.index(self.servers()));
        for server in 0..self.servers() {
            if bridge == Some(server) {
                continue;
            }
            let side = if is_isolation {
                usize::from(server == lonely)
            } else {
                rng.index(2)
            };
            if let Some(group) = groups.get_mut(side) {
                group.push(server);
            }
        }
        groups
    }
}

impl Fault {
    /// The same with a server for each that stands for one.
    #[must_use]
    pub fn resolved(&self, actor: usize, leader: usize) -> Self {
        let one = |server: &usize| match *server {
            ACTOR => actor,
            LEADER => leader,
            server => server,
        };
        let all = |servers: &Vec<usize>| servers.iter().map(one).collect();
        match self {
            Self::Kill(servers) => Self::Kill(all(servers)),
            Self::Power(servers) => Self::Power(all(servers)),
            Self::PowerInStore(server, count) => Self::PowerInStore(one(server), *count),
            Self::KillInStore(server, count) => Self::KillInStore(one(server), *count),
            Self::Amnesia(server) => Self::Amnesia(one(server)),
            Self::Pause(server) => Self::Pause(one(server)),
            Self::SlowDisk(server) => Self::SlowDisk(one(server)),
            Self::ClockJump(server, ms) => Self::ClockJump(one(server), *ms),
            Self::SnapshotFails(server) => Self::SnapshotFails(one(server)),
            Self::Isolate(server) => Self::Isolate(one(server)),
            Self::Block(from, to) => Self::Block(one(from), one(to)),
            Self::Partition(groups) => Self::Partition(groups.iter().map(all).collect()),
            Self::Reset(from, to) => Self::Reset(one(from), one(to)),
            Self::SlowLinks(server, us) => Self::SlowLinks(one(server), *us),
            Self::DropClients(server) => Self::DropClients(one(server)),
            Self::Reconfig(changes, version) => {
                let changes = changes.iter().map(|change| change.map(one)).collect();
                Self::Reconfig(changes, *version)
            }
            Self::HalfClose(near, far) => Self::HalfClose(one(near), one(far)),
            Self::DiskFull(server, count) => Self::DiskFull(one(server), *count),
            Self::DiskFails(server, count) => Self::DiskFails(one(server), *count),
            Self::DiskLow(server) => Self::DiskLow(one(server)),
            Self::StallDisk(server) => Self::StallDisk(one(server)),
            Self::Rot(server, place) => Self::Rot(one(server), *place),
        }
    }
}

/// The letter of a server.
#[must_use]
pub fn letter(server: usize) -> char {
    match server {
        ACTOR => return '@',
        LEADER => return '^',
        _ => {}
    }
    u8::try_from(server).map_or('?', |server| char::from(b'A' + server % 26))
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let durable = |wanted: &Durable| {
            let named = DURABLES.iter().find(|(_, durable)| durable == wanted);
            named.map_or("?", |(name, _)| name)
        };
        let packet = |wanted: i32| {
            let named = PACKETS.iter().find(|(_, kind)| *kind == wanted);
            named.map_or("?", |(name, _)| name)
        };
        match self {
            Self::Asks(op) => write!(f, "asks:{}", durable(op)),
            Self::Stores(op) => write!(f, "stores:{}", durable(op)),
            Self::Sends(kind) => write!(f, "sends:{}", packet(*kind)),
            Self::Receives(kind) => write!(f, "receives:{}", packet(*kind)),
            Self::Leads => f.write_str("leads"),
            Self::Resigns => f.write_str("resigns"),
            Self::Starts => f.write_str("starts"),
        }
    }
}
