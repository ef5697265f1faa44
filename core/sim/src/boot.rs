//! How the core's server is brought to life: the one place that knows its constructor.

use core::fmt;

use zabra_core::Machine;
use zabra_core::machine::Now;
use zabra_core::server::{Config, Input, Output, Recovered, Server};
use zabra_core::store::log::LogOptions;
use zabra_core::store::recovery;
use zabra_core::tree::Loader;

use crate::disk::SimDisk;
use crate::ensemble::plan::Script;
use crate::node::Node;

/// A server as the simulator drives it.
pub type Core = Box<dyn Machine<Input = Input, Output = Output>>;

/// What recovery restores into.
#[must_use]
pub fn restore(config: &Config, seed: u64) -> Loader {
    Loader::new(seed, config.tree_digest)
}

/// The server over what was restored.
#[must_use]
pub fn start(
    config: Config,
    loader: Loader,
    recovered: &recovery::Recovered,
    entropy: u64,
    now: Now,
) -> Core {
    let recovered = Recovered {
        snapshot: recovered.snapshot.is_some(),
        txns: recovered.txns,
        log_bytes: recovered.log_bytes,
    };
    Box::new(Server::new(config, loader, recovered, entropy, now))
}

/// What a server of an ensemble is born from.
#[derive(Clone, Copy, Debug)]
pub struct Birth<'a> {
    /// The run.
    pub script: &'a Script,
    /// Which server.
    pub server: usize,
    /// Its disk.
    pub disk: &'a SimDisk,
    /// Whether the disk was lost.
    pub is_wiped: bool,
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
    let Birth { script, disk, .. } = birth;
    let config = script.base.config();
    let mut loader = restore(&config, birth.entropy);
    let (mut logs, mut snapshots) = (disk.clone(), disk.clone());
    let recovered = recovery::recover(&mut logs, &mut snapshots, &mut loader).map_err(shown)?;
    let core = start(config, loader, &recovered, birth.entropy, birth.now);
    let options = LogOptions {
        preallocate_bytes: script.base.preallocate_bytes,
        file_bytes_max: script.base.log_file_bytes,
    };
    let mut node = Node::new(core, disk, options, recovered.last);
    node.snapshots.remove_unfinished().map_err(shown)?;
    Ok(Born {
        node,
        last: recovered.last.0,
        accepted: 0,
        current: 0,
        is_trusted: true,
    })
}

fn shown(error: impl fmt::Debug) -> String {
    format!("{error:?}")
}
