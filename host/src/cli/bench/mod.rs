//! `zabra bench`: a load generator and a stopwatch that speak the client protocol themselves.
//!
//! Not a client: one thread, bare sockets and no allocation per request, so that on a small machine
//! the server and not the generator is what is measured. For the same reason, and so that it can
//! judge the server with bytes that the server's own code did not make, it encodes its six requests
//! itself (`frame`). Start reading at [`run`], then `load`.

mod connection;
mod error;
mod frame;
mod histogram;
mod load;
mod mix;
mod outage;
mod process;
mod ready;
mod report;

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::io::{self, Write};
use std::sync::Arc;
use std::thread;

use clap::{Args, Subcommand};

pub use self::error::Error;
use self::load::{Plan, Workload};
pub use self::mix::{Mix, Operation, UnreadableMix};

/// Measures a ZooKeeper-compatible server: throughput, latency, CPU per operation, start.
#[derive(Args, Debug)]
pub struct BenchArgs {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    Fill(FillArgs),
    Load(LoadArgs),
    Outage(OutageArgs),
    Ready(ReadyArgs),
}

/// Fills a server with znodes, 1,000 to a directory, and times it.
#[derive(Args, Debug)]
struct FillArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Creates kept in flight on the one connection.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    outstanding: u32,
    /// Znodes to create, directories included.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    znodes: u64,
    /// Gives up after so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    limit: u32,
}

/// Keeps a fixed number of requests in flight for some seconds (a closed loop).
#[derive(Args, Debug)]
struct LoadArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Connections, each with a session, dealt out over the hosts in turn.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// Requests kept in flight on each connection; 1 is a synchronous client.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    outstanding: u32,
    /// Operations and their shares, out of get, set, exists, create and ls; no share means 100.
    #[arg(long, default_value = "get=100")]
    mix: Mix,
    /// Znodes that get, set and exists choose from.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    znodes: u64,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// Seconds under the same load before them.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=86_400))]
    warmup: u32,
    /// Ends when standard input does, and after --seconds at the latest.
    #[arg(long)]
    until_eof: bool,
}

/// Writes one after the other and tells the longest time in which no write was acknowledged.
#[derive(Args, Debug)]
struct OutageArgs {
    /// Servers' client addresses; the next has its turn when one fails.
    #[arg(
        long,
        value_name = "HOST:PORT,…",
        value_delimiter = ',',
        default_value = "127.0.0.1:2181"
    )]
    hosts: Vec<String>,
    /// Writes for so many seconds, and on until a write is acknowledged.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// Prints one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Waits until a new session is granted and answers an exists; the clock starts with the command.
#[derive(Args, Debug)]
struct ReadyArgs {
    /// The server's client address.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:2181")]
    host: String,
    /// Gives up after so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    limit: u32,
    /// Prints one line of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct CommonArgs {
    /// Servers' client addresses.
    #[arg(
        long,
        value_name = "HOST:PORT,…",
        value_delimiter = ',',
        default_value = "127.0.0.1:2181"
    )]
    hosts: Vec<String>,
    /// Bytes of data in a znode.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    size: u32,
    /// The servers' processes on this machine, for their CPU and memory.
    #[arg(long, value_name = "PID,…", value_delimiter = ',')]
    server_pid: Vec<u32>,
    /// Prints one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command and prints its report on standard output.
///
/// # Errors
///
/// When a server cannot be reached, breaks the protocol, closes a connection, refuses requests or
/// is not done in time. Refused requests are reported first.
pub fn run(args: BenchArgs) -> Result<(), Error> {
    match args.command {
        BenchCommand::Fill(args) => fill(args),
        BenchCommand::Load(args) => load(args),
        BenchCommand::Outage(args) => outage(&args),
        BenchCommand::Ready(args) => ready(&args),
    }
}

fn fill(args: FillArgs) -> Result<(), Error> {
    let plan = Plan {
        hosts: args.common.hosts,
        // A directory must exist before its children, and only one connection keeps that order.
        connections: 1,
        outstanding: args.outstanding,
        size: args.common.size,
        servers: args.common.server_pid,
        workload: Workload::Fill {
            znodes: args.znodes,
            limit: seconds(args.limit),
        },
        stop: Arc::default(),
    };
    measure(&plan, args.common.json)
}

fn load(args: LoadArgs) -> Result<(), Error> {
    let plan = Plan {
        hosts: args.common.hosts,
        connections: args.connections,
        outstanding: args.outstanding,
        size: args.common.size,
        servers: args.common.server_pid,
        workload: Workload::Load {
            mix: args.mix,
            znodes: args.znodes,
            warmup: seconds(args.warmup),
            window: seconds(args.seconds),
        },
        stop: Arc::default(),
    };
    if args.until_eof {
        stop_at_eof(Arc::clone(&plan.stop));
    }
    measure(&plan, args.common.json)
}

/// Sets `stop` when whoever started this process closes its standard input, or ends.
fn stop_at_eof(stop: Arc<AtomicBool>) {
    thread::spawn(move || {
        // An input that cannot be read has ended too.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        stop.store(true, Ordering::Relaxed);
    });
}

fn measure(plan: &Plan, json: bool) -> Result<(), Error> {
    let report = load::run(plan)?;
    print(if json { report.json() } else { report.table() })?;
    report.verdict()
}

fn outage(args: &OutageArgs) -> Result<(), Error> {
    let outage = outage::run(&args.hosts, seconds(args.seconds))?;
    print(if args.json {
        outage.json()
    } else {
        outage.text()
    })
}

fn ready(args: &ReadyArgs) -> Result<(), Error> {
    let ready = ready::run(&args.host, seconds(args.limit))?;
    print(if args.json {
        ready.json()
    } else {
        ready.text()
    })
}

fn print(text: String) -> Result<(), Error> {
    writeln!(io::stdout().lock(), "{text}").map_err(Error::io("writing the report"))
}

fn seconds(n: u32) -> Duration {
    Duration::from_secs(n.into())
}
