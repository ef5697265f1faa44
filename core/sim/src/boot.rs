//! How the core's server is brought to life: the one place that knows its constructor.

use zabra_core::Machine;
use zabra_core::machine::Now;
use zabra_core::server::{Config, Input, Output, Recovered, Server};
use zabra_core::store::recovery;
use zabra_core::tree::Loader;

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
