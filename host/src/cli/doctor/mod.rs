//! `zabra doctor`: what is wrong with a configuration, a data directory or a live ensemble, in
//! sentences, and what to do.
//!
//! It looks and asks; it changes nothing but that it writes, and removes, a small file to see how
//! long the disk takes, and opens a session with a live server. Start reading at [`finding::Finding`].

mod client;
mod config;
mod data;
mod disk;
mod finding;
mod live;
mod metrics;

use core::time::Duration;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use super::USAGE;
use super::ensemble::address;
use finding::Weight;

/// Longer than that is no timeout.
const SECONDS_MAX: u64 = 3600;

const AFTER_HELP: &str = "\
WHAT is a zoo.cfg, a data directory (dataDir or dataLogDir), or a connect string as clients have it:

    zabra doctor /etc/zabra/zoo.cfg
    zabra doctor /var/lib/zabra
    zabra doctor zoo1,zoo2,zoo3:2181

Servers may be Apache ZooKeeper's. More is seen of a server that answers the four-letter words cons,
conf and mntr. A data directory may belong to a running server; a small file is written into it and
removed, to see how long the disk takes to make something durable (not with --no-fsync).

Exit codes: 0 nothing wrong, 1 something is wrong or a risk, 2 wrong command line";

/// `zabra doctor`.
#[derive(clap::Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct Args {
    /// What to look at: a zoo.cfg, a data directory, or servers
    #[arg(value_name = "CONFIG | DATADIR | HOST[:PORT],…")]
    what: String,
    /// Does not measure how long the disk takes
    #[arg(long)]
    no_fsync: bool,
    /// How long a server may take to answer
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 3,
        value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX)
    )]
    timeout: u64,
    /// Prints JSON, one object
    #[arg(long)]
    json: bool,
}

/// Looks, and tells.
pub(super) fn main(args: &Args) -> ExitCode {
    let path = Path::new(&args.what);
    let disk = if args.no_fsync {
        disk::Measure::Nothing
    } else {
        disk::Measure::Fsync
    };
    let mut findings = if path.is_dir() {
        data::look(path, disk)
    } else if path.is_file() {
        config::look(path, disk)
    } else {
        match address::parse(&args.what) {
            // A path that is not there is more likely than a host with such a name.
            Ok(_) if looks_like_path(&args.what) => return usage(&args.what),
            Ok(servers) => live::look(&servers, Duration::from_secs(args.timeout)),
            Err(_) => return usage(&args.what),
        }
    };
    findings.sort_by_key(|finding| finding.weight);
    let text = if args.json {
        finding::json(&findings)
    } else {
        finding::text(&findings)
    };
    let mut out = io::stdout();
    // Unlike `print`, this does not panic when nobody listens.
    let _closed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    if findings
        .iter()
        .all(|finding| finding.weight == Weight::Note)
    {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn looks_like_path(what: &str) -> bool {
    what.starts_with(['/', '.']) || what.contains(".cfg")
}

fn usage(what: &str) -> ExitCode {
    let _closed = writeln!(
        io::stderr(),
        "error: expected a file, a directory or HOST[:PORT],HOST[:PORT],…, found {what:?}, which is \
         none of these"
    );
    ExitCode::from(USAGE)
}
