//! What a seed means: the shape of a run, decided before it begins.

use zabra_core::server::Config;

use crate::model::Settings;
use crate::model::acl::SUPER_DIGEST;
use crate::oracle::Rules;
use crate::rng::{Rng, Stream};

/// How many kinds of operations clients choose from.
pub const OP_KINDS: usize = 22;

/// A run, as it will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What everything else follows from.
    pub seed: u64,
    /// The number of clients.
    pub clients: usize,
    /// How often each client acts at most.
    pub acts: u64,
    /// How long clients act, in microseconds.
    pub duration_us: u64,
    /// Faults, by time in microseconds.
    pub faults: Vec<(u64, Fault)>,
    /// How often each kind of operation is chosen.
    pub weights: [u64; OP_KINDS],
    /// The mean time between two acts of a client, in microseconds.
    pub pace_us: u64,
    /// The longest delay of a link, in microseconds.
    pub latency_us: u64,
    /// The longest time that a sync takes, in microseconds.
    pub sync_us: u64,
    /// How many requests a client sends at once, at most.
    pub burst: u64,
    /// Out of a thousand acts of a client, how many are a disruption.
    pub disruptions: u64,
    /// The server's tick.
    pub tick_ms: u32,
    /// How often the server looks for containers and TTL znodes.
    pub reap_ms: u32,
    /// Transactions between two snapshots.
    pub snapshot_txns: u32,
    /// Bytes of a snapshot, or of the state for a learner, that one step makes; 0 is as many as by
    /// default, more than the whole state of a run.
    pub slice_bytes: u32,
    /// Requests in flight above which connections wait.
    pub outstanding_max: u32,
    /// Whether quotas are enforced.
    pub enforce_quota: bool,
    /// What znodes and sessions may take; 0 is unlimited.
    pub tree_bytes_max: u64,
    /// Whether TTL znodes may be created.
    pub extended_types: bool,
    /// Whether transactions and snapshots carry the digest of the tree.
    pub tree_digest: bool,
    /// Bytes of log that are preallocated.
    pub preallocate_bytes: u64,
    /// The size above which a log file ends; 0 is never.
    pub log_file_bytes: u64,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process dies now.
    Kill,
    /// The process dies after this many operations of the disk.
    KillInStore(u64),
    /// The power goes now.
    PowerCut,
    /// The power goes after this many operations of the disk.
    PowerCutInStore(u64),
    /// The server is not given its turn for this many milliseconds.
    Pause(u64),
    /// The wall clock jumps by this many milliseconds.
    ClockJump(i64),
    /// A peer that does not speak the protocol connects.
    Hostile,
    /// The snapshot that is being written fails.
    SnapshotFails,
}

impl Plan {
    /// The run of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::keyed(seed, Stream::Plan, 0, 0);
        let mut weights = [0; OP_KINDS];
        for weight in &mut weights {
            // Swarm: some kinds are missing, some dominate.
            *weight = match rng.below(6) {
                0 => 0,
                1 => 12,
                _ => rng.between(2, 5),
            };
        }
        // Without znodes nothing else means much.
        let [create, ..] = &mut weights;
        *create += 8;
        let duration_us = rng.between(2, 8) * 1_000_000;
        Self {
            seed,
            clients: usize::try_from(rng.between(1, 6)).unwrap_or(1),
            acts: rng.between(20, 150),
            duration_us,
            faults: faults(&mut rng, duration_us),
            weights,
            pace_us: rng.between(2, 40) * 1000,
            latency_us: *rng.pick(&[0, 200, 3000, 20_000]).unwrap_or(&0),
            sync_us: *rng.pick(&[0, 500, 5000, 60_000]).unwrap_or(&0),
            burst: *rng.pick(&[1, 3, 12]).unwrap_or(&1),
            disruptions: *rng.pick(&[0, 10, 50]).unwrap_or(&0),
            tick_ms: *rng.pick(&[50, 200, 500]).unwrap_or(&50),
            reap_ms: *rng.pick(&[100, 400, 1000]).unwrap_or(&100),
            snapshot_txns: *rng.pick(&[3, 20, 100, 1000]).unwrap_or(&100),
            outstanding_max: *rng.pick(&[2, 20, 1000]).unwrap_or(&1000),
            enforce_quota: rng.one_in(2),
            tree_bytes_max: tree_bytes_max(seed),
            extended_types: !rng.one_in(4),
            tree_digest: !rng.one_in(4),
            slice_bytes: *Rng::keyed(seed, Stream::Plan, 5, 0)
                .pick(&[0, 0, 1, 200, 1500])
                .unwrap_or(&0),
            preallocate_bytes: *rng.pick(&[0, 4096]).unwrap_or(&0),
            log_file_bytes: *rng.pick(&[0, 0, 3000]).unwrap_or(&0),
        }
    }

    /// The configuration of the server.
    #[must_use]
    pub fn config(&self) -> Config {
        let default = Config::default();
        let slice_bytes = |default| match self.slice_bytes {
            0 => default,
            bytes => bytes,
        };
        Config {
            snapshot_slice_bytes: slice_bytes(default.snapshot_slice_bytes),
            state_slice_bytes: slice_bytes(default.state_slice_bytes),
            tick_ms: self.tick_ms,
            session_timeout_ms_min: 2 * self.tick_ms,
            session_timeout_ms_max: 20 * self.tick_ms,
            outstanding_max: self.outstanding_max,
            connections_per_address_max: 0,
            handshake_timeout_ms: HANDSHAKE_TIMEOUT_MS,
            enforce_quota: self.enforce_quota,
            tree_bytes_max: self.tree_bytes_max,
            extended_types: self.extended_types,
            tree_digest: self.tree_digest,
            super_digest: Some(SUPER_DIGEST.to_owned().into()),
            four_letter_words: zabra_core::server::config::FourLetterWords::All,
            snapshot_txns: self.snapshot_txns,
            container_check_ms: self.reap_ms,
            ..default
        }
    }

    /// What the oracle must know of it.
    #[must_use]
    pub fn rules(&self) -> Rules {
        let ticks = |count: u32| i32::try_from(count * self.tick_ms).unwrap_or(i32::MAX);
        Rules {
            settings: Settings {
                extended_types: self.extended_types,
                enforce_quota: self.enforce_quota,
                tree_bytes_max: self.tree_bytes_max,
                full_at: None,
            },
            tick_ms: self.tick_ms,
            timeout_ms: (ticks(2), ticks(20)),
            handshake_timeout_ms: HANDSHAKE_TIMEOUT_MS,
        }
    }
}

/// A fifth of the runs fill what there is.
fn tree_bytes_max(seed: u64) -> u64 {
    let mut rng = Rng::keyed(seed, Stream::Plan, 12, 0);
    if rng.one_in(5) {
        rng.between(4_000, 20_000)
    } else {
        0
    }
}

const HANDSHAKE_TIMEOUT_MS: u32 = 2000;

fn faults(rng: &mut Rng, duration_us: u64) -> Vec<(u64, Fault)> {
    let count = match rng.below(4) {
        0 => 0,
        1 => 2,
        2 => 6,
        _ => 15,
    };
    let mut faults: Vec<_> = (0..count)
        .map(|_| {
            let at = rng.below(duration_us);
            let fault = match rng.below(12) {
                0 => Fault::Kill,
                1 => Fault::KillInStore(rng.below(12)),
                2 => Fault::PowerCut,
                3 | 4 => Fault::PowerCutInStore(rng.below(12)),
                5 => Fault::Pause(rng.between(10, 3000)),
                6 | 7 => Fault::ClockJump(clock_jump(rng)),
                8..=10 => Fault::Hostile,
                _ => Fault::SnapshotFails,
            };
            (at, fault)
        })
        .collect();
    faults.sort_by_key(|(at, _)| *at);
    faults
}

fn clock_jump(rng: &mut Rng) -> i64 {
    let size = 10_i64.pow(u32::try_from(rng.between(1, 8)).unwrap_or(1));
    if rng.one_in(2) { -size } else { size }
}
