//! `zabra server`: from options to a running server.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::{
    env,
    ffi::OsString,
    io::{self, Write},
    path::{self, PathBuf},
    process::{self, ExitCode},
    thread,
};

use core::future::{pending, poll_fn};
use core::pin::Pin;
use core::task::Poll;
use core::time::Duration;

use clap::ValueEnum;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tracing::{Level, error, info, warn};

use super::USAGE;
use crate::{
    config::{Flag, ServerConfig, Sources},
    logging, server,
};

/// How long a server without its starter may take to stop.
const STOP_TIME_MAX: Duration = Duration::from_secs(60);

/// `zabra server [OPTIONS] [FILE]`.
#[derive(clap::Args)]
pub struct Args {
    /// The zoo.cfg to read, as with --config
    #[arg(value_name = "FILE", conflicts_with = "config")]
    file: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

/// Options that also go without the word `server`.
#[derive(clap::Args)]
pub struct Options {
    /// The zoo.cfg to read [default: $ZABRA_CONFIG, $ZOO_CONF_DIR/zoo.cfg; without one, a server
    /// to try things with: loopback only, data in ./zabra-data]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where data is kept (dataDir)
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// The port for clients, 0 for any (clientPort) [default without a file: 2181]
    #[arg(long, value_name = "PORT")]
    client_port: Option<u16>,
    /// The address for clients, 0.0.0.0 for all (clientPortAddress) [default without a file:
    /// loopback]
    #[arg(long, value_name = "ADDR")]
    client_port_address: Option<String>,
    /// The core that runs, the same either way: native, or as a WebAssembly module (core)
    /// [default: native]
    #[arg(long, value_name = "CORE")]
    core: Option<String>,
    /// The module, .wasm or made by `zabra wasm compile` (core.module) [default: the one in
    /// this binary]; SIGHUP reads it again
    #[arg(long, value_name = "FILE")]
    core_module: Option<String>,
    /// How much memory the module may have, in MiB (core.memoryLimitInMb) [default: 2048]
    #[arg(long, value_name = "MIB")]
    core_memory_limit: Option<String>,
    /// How long one of its steps may take, in milliseconds (core.stepLimitMs) [default: 10000]
    #[arg(long, value_name = "MS")]
    core_step_limit: Option<String>,
    /// How log lines look [default: $ZABRA_LOG_FORMAT, text]
    #[arg(long, value_enum)]
    log_format: Option<LogFormat>,
    /// The least level that is logged [default: $ZABRA_LOG_LEVEL, info]
    #[arg(long, value_enum)]
    log_level: Option<LogLevel>,
    /// Stops when standard input ends: a server that a program starts does not outlive it
    #[arg(long)]
    exit_with_stdin: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Json,
    Text,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogLevel {
    Debug,
    Error,
    Info,
    Trace,
    Warn,
}

impl From<Options> for Args {
    fn from(options: Options) -> Self {
        Self {
            file: None,
            options,
        }
    }
}

/// Reads the configuration and runs a server until it stops.
pub(super) fn main(args: Args) -> ExitCode {
    let Args { file, options } = args;
    let watch_stdin = options.exit_with_stdin;
    if let Err(message) = start_log(&options) {
        // There is no log yet. Unlike `eprintln`, this does not panic when nobody listens.
        let _closed = writeln!(io::stderr(), "error: {message}");
        return ExitCode::from(USAGE);
    }
    let config = match ServerConfig::load(&sources(file, options)) {
        Ok(config) => config,
        Err(problems) => {
            for problem in problems.iter() {
                error!("{problem}");
            }
            error!(
                problems = problems.iter().count(),
                "the server did not start"
            );
            return ExitCode::from(USAGE);
        }
    };
    for warning in &config.warnings {
        warn!("{warning}");
    }
    match server::run_renewed(config, announce, stopped(watch_stdin), hung_up()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error}");
            if error.is_config() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// Tells the operator where the server listens, where its data is, and how to connect.
pub fn announce(config: &ServerConfig, bound: &[SocketAddr]) {
    let version = env!("CARGO_PKG_VERSION");
    match &config.file {
        Some(file) => info!("zabra {version}, configured by {}", file.display()),
        None => info!("zabra {version}, without a configuration file"),
    }
    let addresses: Vec<String> = bound.iter().map(ToString::to_string).collect();
    if !addresses.is_empty() {
        info!("listening for clients on {}", addresses.join(" and "));
    }
    // Absolute: "./zabra-data" does not say where it is.
    let data = path::absolute(&config.data_dir).unwrap_or_else(|_| config.data_dir.clone());
    if config.data_log_dir == config.data_dir {
        info!("data in {}", data.display());
    } else {
        let log = config.data_log_dir.display();
        info!("snapshots in {}, log in {log}", data.display());
    }
    if let Some(&first) = bound.first() {
        info!("connect with: zkCli.sh -server {}", reachable(first));
    }
}

/// Ready once the process is told to stop, by Ctrl-C, SIGTERM or the end of standard input.
async fn stopped(watch_stdin: bool) {
    let mut input = watch_stdin.then(input_end);
    let signals = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    );
    let (Ok(mut interrupt), Ok(mut terminate)) = signals else {
        warn!("signals cannot be heard: the server stops only when it is killed, which is safe");
        return pending().await;
    };
    poll_fn(|cx| {
        let interrupted = interrupt.poll_recv(cx).is_ready();
        let ended = input
            .as_mut()
            .is_some_and(|input| Pin::new(input).poll(cx).is_ready());
        if ended || interrupted || terminate.poll_recv(cx).is_ready() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    info!("stopping");
}

/// Ready at each SIGHUP. Before it is asked, the signal ends the process, as it does by default.
fn hung_up() -> impl AsyncFnMut() {
    let mut signals = None;
    async move || {
        if signals.is_none() {
            signals = signal(SignalKind::hangup()).ok();
        }
        match &mut signals {
            Some(signals) => signals.recv().await,
            None => pending().await,
        };
    }
}

/// Ready once standard input has ended.
///
/// A thread of its own reads it: it may be a file, of which the system does not tell when it ends.
/// If stopping in good order then hangs, the process ends all the same: whoever has started it is
/// gone, and nobody else would end it.
fn input_end() -> oneshot::Receiver<()> {
    let (sender, receiver) = oneshot::channel();
    thread::spawn(move || {
        let _ended_or_failed = io::copy(&mut io::stdin().lock(), &mut io::sink());
        // It is not heard if the server stops anyway.
        let _stopped = sender.send(());
        thread::sleep(STOP_TIME_MAX);
        error!("the server has not stopped in time");
        process::exit(1);
    });
    receiver
}

/// An address by which this machine reaches a listener.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

fn start_log(options: &Options) -> Result<(), String> {
    let format = match options.log_format {
        Some(format) => format,
        None => from_variable("ZABRA_LOG_FORMAT")?.unwrap_or(LogFormat::Text),
    };
    let level = match options.log_level {
        Some(level) => level,
        None => from_variable("ZABRA_LOG_LEVEL")?.unwrap_or(LogLevel::Info),
    };
    let format = match format {
        LogFormat::Json => logging::Format::Json,
        LogFormat::Text => logging::Format::Text,
    };
    let level = match level {
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Error => Level::ERROR,
        LogLevel::Info => Level::INFO,
        LogLevel::Trace => Level::TRACE,
        LogLevel::Warn => Level::WARN,
    };
    logging::init(format, level);
    Ok(())
}

fn from_variable<T: ValueEnum>(name: &str) -> Result<Option<T>, String> {
    let Some(value) = variable(name) else {
        return Ok(None);
    };
    let value = value.to_string_lossy();
    T::from_str(&value, true).map(Some).map_err(|_| {
        let values: Vec<String> = T::value_variants()
            .iter()
            .filter_map(T::to_possible_value)
            .map(|value| value.get_name().to_owned())
            .collect();
        let values = values.join(", ");
        format!("environment variable {name}: expected one of {values}, found {value:?}")
    })
}

/// A variable's value, unless it is empty.
fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

fn sources(file: Option<PathBuf>, options: Options) -> Sources {
    let flags = [
        ("--data-dir", "dataDir", options.data_dir),
        (
            "--client-port",
            "clientPort",
            options.client_port.map(|port| port.to_string()),
        ),
        (
            "--client-port-address",
            "clientPortAddress",
            options.client_port_address,
        ),
        ("--core", "core", options.core),
        ("--core-module", "core.module", options.core_module),
        (
            "--core-memory-limit",
            "core.memoryLimitInMb",
            options.core_memory_limit,
        ),
        (
            "--core-step-limit",
            "core.stepLimitMs",
            options.core_step_limit,
        ),
    ];
    Sources {
        file: file.or(options.config).or_else(default_file),
        environment: env::vars_os().collect(),
        flags: flags
            .into_iter()
            .filter_map(|(name, key, value)| {
                Some(Flag {
                    name,
                    key,
                    value: value?,
                })
            })
            .collect(),
    }
}

/// The file that the environment names. The ZooKeeper image's directory counts only if it has a
/// `zoo.cfg`: the image would otherwise write one from the variables that we read ourselves.
fn default_file() -> Option<PathBuf> {
    variable("ZABRA_CONFIG").map(PathBuf::from).or_else(|| {
        let file = PathBuf::from(variable("ZOO_CONF_DIR")?).join("zoo.cfg");
        file.exists().then_some(file)
    })
}
