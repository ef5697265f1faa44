//! For those who look after a server: ZooKeeper's AdminServer, health, metrics for Prometheus.
//!
//! All of it is on a thread of its own with a runtime of its own. It asks the machine as anybody
//! asks it ([`Asker`]), by four-letter words, and makes JSON or metrics of the texts. It is *not*
//! where anything is measured, and nothing of the server depends on it: what cannot be listened on
//! is a warning. Start reading at [`start`].

mod ask;
mod commands;
mod facts;
mod health;
mod http;
mod idle;
mod members;
mod metrics;
mod snapshot;
mod texts;

use core::net::SocketAddr;
use core::time::Duration;
use std::io;
use std::net::{TcpListener as StdListener, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::SystemTime;

use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tracing::{info, warn};

use crate::config::ServerConfig;
use crate::net::Gauges;

pub use ask::{Asker, NotTold};
pub use metrics::Extras;

use commands::Commands;
use facts::Known;
use metrics::Metrics;
use snapshot::Snapshots;

/// Threads that wait for the disk on behalf of whoever asks.
const BLOCKING_THREADS_MAX: usize = 8;

/// How long a connection of a scraper may be idle.
const METRICS_IDLE: Duration = Duration::from_secs(120);

/// What is asked and shown.
pub struct Sources {
    /// Asks the machine.
    pub asker: Asker,
    /// What the driver counts.
    pub gauges: Arc<Gauges>,
    /// What others measure.
    pub extras: Extras,
    /// Where snapshots are.
    pub snapshots: PathBuf,
}

/// Listens as the configuration says, on a thread that ends with the process.
pub fn start(config: &ServerConfig, sources: Sources) {
    let Sources {
        asker,
        gauges,
        extras,
        snapshots,
    } = sources;
    let commands = config.admin.as_ref().and_then(|admin| {
        let listener = match bind(&admin.host, admin.port) {
            Ok(listener) => listener,
            Err(error) => {
                let address = format!("{}:{}", admin.host, admin.port);
                if admin.wished {
                    warn!(
                        "no AdminServer: cannot listen on {address}: {error}; set \
                         admin.serverPort, or admin.enableServer=false"
                    );
                } else {
                    info!("no AdminServer: {address}: {error}; admin.serverPort sets another port");
                }
                return None;
            }
        };
        let site = Commands {
            known: Known::new(config, asker.clone()),
            asker: asker.clone(),
            url: admin.url.clone(),
            snapshots: Snapshots::new(admin, snapshots),
        };
        said("AdminServer", &listener, &admin.url);
        Some((listener, admin.idle, site))
    });
    let metrics = config.metrics.as_ref().and_then(|metrics| {
        let listener = match bind(&metrics.host, metrics.port) {
            Ok(listener) => listener,
            Err(error) => {
                warn!(
                    "no metrics: cannot listen on {}:{}: {error}; set metricsProvider.httpPort",
                    metrics.host, metrics.port
                );
                return None;
            }
        };
        said("metrics", &listener, "/metrics");
        let site = Metrics {
            asker,
            gauges,
            extras,
            process: metrics.process,
            started: SystemTime::now(),
        };
        Some((listener, site))
    });
    if commands.is_none() && metrics.is_none() {
        return;
    }
    let serve = async move {
        // In the runtime: they register with it.
        let commands = commands.and_then(|(listener, idle, site)| {
            let listener = TcpListener::from_std(listener).ok()?;
            Some(tokio::spawn(http::serve(listener, idle, site)))
        });
        let metrics = metrics.and_then(|(listener, site)| {
            let listener = TcpListener::from_std(listener).ok()?;
            Some(tokio::spawn(http::serve(listener, METRICS_IDLE, site)))
        });
        for served in [commands, metrics].into_iter().flatten() {
            // Neither ends.
            let _ = served.await;
        }
    };
    let started = thread::Builder::new()
        .name("zabra-admin".to_owned())
        .spawn(move || {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .max_blocking_threads(BLOCKING_THREADS_MAX)
                .build();
            match runtime {
                Ok(runtime) => runtime.block_on(serve),
                Err(error) => warn!("no AdminServer and no metrics: {error}"),
            }
        });
    if let Err(error) = started {
        warn!("no AdminServer and no metrics: cannot start their thread: {error}");
    }
}

/// Listens on the first address of a name.
fn bind(host: &str, port: u16) -> io::Result<StdListener> {
    let addresses: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    let listener = StdListener::bind(addresses.as_slice())?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn said(what: &str, listener: &StdListener, path: &str) {
    if let Ok(address) = listener.local_addr() {
        info!("{what} on http://{address}{path}");
    }
}
