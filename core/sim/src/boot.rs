//! How the core's server is brought to life: the one place that knows its constructor.

use core::cell::RefCell;
use core::fmt;
use std::rc::Rc;

use zabra_core::Machine;
use zabra_core::ids::{Epoch, ServerId, Zxid};
use zabra_core::link::{Endpoint, Port};
use zabra_core::machine::Now;
use zabra_core::server::{Config, EnsembleConfig, Input, Output};
use zabra_core::store::log::LogOptions;
use zabra_core::store::names::Compression;
use zabra_core::store::recent::Recent;
use zabra_core::store::snapshot::SnapshotStore;
use zabra_core::store::{epochs, recovery};
use zabra_core::zab::{self, Member, Membership};
use zabra_core_wasm::abi::{Begin, Found, Place};

use crate::border::{self, Beginning};
use crate::disk::SimDisk;
use crate::drill::{self, Drill, DrillLoader, Spy};
use crate::ensemble::network::{host_name, port_number};
use crate::ensemble::plan::{Cast, Script};
use crate::node::Node;

/// A server as the simulator drives it.
pub type Core = Box<dyn Machine<Input = Input, Output = Output>>;

/// What recovery restores a server that stands alone into.
///
/// # Errors
/// There is no server to be had.
pub fn restore(config: Config, entropy: u64) -> Result<Beginning, String> {
    let begin = Begin {
        entropy,
        config,
        place: None,
    };
    border::begin(begin, false)
}

/// What recovery found beside the tree.
#[must_use]
pub fn found(recovered: &recovery::Recovered, now: Now) -> Found {
    Found {
        now,
        snapshot: recovered.snapshot.is_some(),
        txns: recovered.txns,
        log_bytes: recovered.log_bytes,
        accepted: Epoch::default(),
        current: Epoch::default(),
        trusted: true,
    }
}

/// What a server of an ensemble is born from.
#[derive(Clone, Copy, Debug)]
pub struct Birth<'a> {
    /// The run.
    pub script: &'a Script,
    /// Whether drilled servers shall propose nothing.
    pub is_quiet: &'a Rc<RefCell<bool>>,
    /// Where a drilled server tells what it does.
    pub spy: &'a Rc<RefCell<Spy>>,
    /// Which server.
    pub server: usize,
    /// Its disk.
    pub disk: &'a SimDisk,
    /// The membership in force, as its files say.
    pub membership: &'a Membership,
    /// The one that was proposed later.
    pub membership_seen: Option<&'a Membership>,
    /// Whether the disk was lost.
    pub is_wiped: bool,
    /// Whether it is at a time of faults.
    pub may_fail: bool,
    /// Random bits.
    pub entropy: u64,
    /// The time.
    pub now: Now,
}

/// A server of an ensemble, and what it found on its disk.
#[derive(Debug)]
pub struct Born {
    /// The server.
    pub node: Node,
    /// The last transaction.
    pub last: i64,
    /// `acceptedEpoch`.
    pub accepted: i32,
    /// `currentEpoch`.
    pub current: i32,
    /// Whether it may vote.
    pub is_trusted: bool,
}

/// Starts a server of an ensemble.
///
/// # Errors
/// What is on the disk cannot be read.
pub fn ensemble(birth: Birth<'_>) -> Result<Born, String> {
    match birth.script.cast {
        Cast::Drill => drill(birth),
        Cast::Service => service(birth),
    }
}

fn log_options(script: &Script) -> LogOptions {
    LogOptions {
        preallocate_bytes: script.base.preallocate_bytes,
        file_bytes_max: script.base.log_file_bytes,
    }
}

fn service(birth: Birth<'_>) -> Result<Born, String> {
    let Birth { script, disk, .. } = birth;
    let (mut logs, mut snapshots) = (disk.clone(), disk.clone());
    let config = script.base.config();
    let config = Config {
        server_id: u8::try_from(birth.server + 1).unwrap_or(u8::MAX),
        ..config
    };
    let place = Place {
        config: EnsembleConfig {
            leader_serves: true,
            reconfig: script.reconfigures(),
            ..EnsembleConfig::default()
        },
        options: options(&birth),
    };
    let stands_alone = script.servers() == 1;
    let begin = Begin {
        entropy: birth.entropy,
        config,
        place: (!stands_alone).then_some(place),
    };
    let mut beginning = border::begin(begin, birth.may_fail)?;
    let recovered = recovery::recover(&mut logs, &mut snapshots, &mut beginning).map_err(shown)?;
    let mut found = found(&recovered, birth.now);
    if stands_alone {
        let core = beginning.finish(found)?;
        return born(birth, core, recovered.last, epochs::Epochs::default(), true);
    }
    let epochs = epochs::open(&mut snapshots, recovered.last).map_err(shown)?;
    let is_trusted = recovered.last > Zxid::ZERO || found.snapshot || !birth.is_wiped;
    found.accepted = epochs.accepted;
    found.current = epochs.current;
    found.trusted = is_trusted;
    let core = beginning.finish(found)?;
    born(birth, core, recovered.last, epochs, is_trusted)
}

fn born(
    birth: Birth<'_>,
    core: Core,
    last: Zxid,
    epochs: epochs::Epochs,
    is_trusted: bool,
) -> Result<Born, String> {
    let mut node = Node::new(core, birth.disk, log_options(birth.script), last);
    node.snapshots.remove_unfinished().map_err(shown)?;
    Ok(Born {
        node,
        last: last.0,
        accepted: epochs.accepted.0,
        current: epochs.current.0,
        is_trusted,
    })
}

fn drill(birth: Birth<'_>) -> Result<Born, String> {
    let Birth { script, disk, .. } = birth;
    let (mut logs, mut snapshots) = (disk.clone(), disk.clone());
    let mut writer = SnapshotStore::new(disk.clone());
    writer.remove_unfinished().map_err(shown)?;
    let options = options(&birth);
    let loader = DrillLoader::default();
    let mut recent = Recent::new(loader, script.history_txns, options.history_bytes_max);
    let recovered = recovery::recover(&mut logs, &mut snapshots, &mut recent).map_err(shown)?;
    if recovered.snapshot.is_none() {
        // Nothing is logged before there is something that it follows.
        let name = Zxid::ZERO;
        writer.begin(name, Compression::None).map_err(shown)?;
        writer.chunk(&DrillLoader::birth()).map_err(shown)?;
        writer.end().map_err(shown)?;
    }
    let epochs = epochs::open(&mut snapshots, recovered.last).map_err(shown)?;
    let (loader, base, recent) = recent.finish();
    let is_trusted = !birth.is_wiped || recovered.last > Zxid::ZERO || epochs.current.0 > 0;
    let recovered_history = zab::Recovered {
        base,
        recent,
        accepted: epochs.accepted,
        current: epochs.current,
        divergent: false,
        trusted: is_trusted,
    };
    let core = Drill::new(
        drill::Birth {
            options,
            recovered: recovered_history,
            loader,
            snapshot_txns: script.base.snapshot_txns,
            pace_us: script.base.pace_us,
            entropy: birth.entropy,
            spy: Rc::clone(birth.spy),
            is_quiet: Rc::clone(birth.is_quiet),
        },
        birth.now,
    );
    born(birth, Box::new(core), recovered.last, epochs, is_trusted)
}

fn endpoints(server: usize, port: Port) -> Vec<Endpoint> {
    vec![Endpoint {
        host: host_name(server),
        port: port_number(port),
    }]
}

/// The membership that a server is given at first: a spare one knows the first membership, and
/// itself.
#[must_use]
pub fn membership(script: &Script, server: usize) -> Membership {
    let first = script.voters + script.observers;
    let member = |server: usize| Member {
        quorum: endpoints(server, Port::Quorum),
        election: endpoints(server, Port::Election),
        client: None,
        voter: server < script.voters || server >= first,
    };
    let own = (server >= first).then_some(server);
    let servers = (0..first).chain(own);
    Membership {
        servers: servers.map(|server| (id(server), member(server))).collect(),
        ..Membership::default()
    }
}

fn id(server: usize) -> ServerId {
    ServerId(i64::try_from(server + 1).unwrap_or(i64::MAX))
}

/// A server's place in the ensemble of a script.
fn options(birth: &Birth<'_>) -> zab::Options {
    let script = birth.script;
    let me = id(birth.server);
    let own = birth.membership.member(me);
    zab::Options {
        me,
        observer: own.is_some_and(|own| !own.voter),
        committed: birth.membership.clone(),
        last_seen: birth.membership_seen.cloned(),
        election: endpoints(birth.server, Port::Election),
        reconfig_enabled: script.reconfigures(),
        tick_ms: script.base.tick_ms,
        init_limit: script.init_limit,
        sync_limit: script.sync_limit,
        connect_limit: 0,
        listen_on_all_ips: false,
        multi_address: false,
        packet_bytes_max: 4 << 20,
        notification_ms_min: 200,
        notification_ms_max: 1600,
        connect_timeout_ms: 500,
        election_silence_ms: None,
        history_txns_min: script.history_txns,
        history_bytes_max: 0,
        sasl: zab::Sasl::default(),
    }
}

fn shown(error: impl fmt::Debug) -> String {
    format!("{error:?}")
}
