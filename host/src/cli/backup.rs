//! `zabra backup`.

use core::time::Duration;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use super::failure::{Failure, count, tell};
use super::show::Lines;
use crate::backup::{Follower, Format, Made, Manifest, Shipped, Take};

/// What `--help` says at its end.
pub(super) const AFTER_HELP: &str = "\
The server, ours or Apache ZooKeeper 3.4 to 3.9, may run: its files are read, nothing is written
there and nobody waits. What clients were told before the backup began is in it. It is read once,
as a server would, before it is called a backup; so the whole state must fit in memory.

    zabra backup /var/lib/zookeeper zoo.tar           the newest state
    zabra backup --all /var/lib/zookeeper zoo.tar     all states that are still there
    zabra backup /var/lib/zookeeper - | ssh host 'cat > zoo.tar'
    zabra backup --follow /var/lib/zookeeper copy     goes on until it is stopped; `zabra restore`
                                                      takes it at any moment, to any point
    zabra backup --follow --once /var/lib/zookeeper copy      what is new, from cron

A backup has every znode, whatever its ACL, and the digests of passwords in ACLs: let nobody read it
who may not read them. `zabra restore --help` says how to bring it back.

Exit codes: 0 the backup is whole and durable, 1 it could not be made (or, with --follow, not be
added to), 2 wrong command line";

/// `zabra backup`.
#[derive(clap::Args)]
pub struct Args {
    /// The server's dataDir
    #[arg(value_name = "DATA_DIR")]
    data_dir: PathBuf,
    /// The file or directory that is made, or - for standard output
    #[arg(value_name = "OUT")]
    out: PathBuf,
    /// The server's dataLogDir, if it has one
    #[arg(long, value_name = "DIR")]
    data_log_dir: Option<PathBuf>,
    /// What is made
    #[arg(long, value_enum, default_value_t = Kind::Tar, conflicts_with = "follow")]
    format: Kind,
    /// Takes every snapshot and log that is there, not just the newest: to go back further
    #[arg(long, conflicts_with = "follow")]
    all: bool,
    /// Goes on: ships what the server writes to the directory OUT, new or of an earlier run
    #[arg(long)]
    follow: bool,
    /// Ships what is new and ends
    #[arg(long, requires = "follow")]
    once: bool,
    /// How often it looks for something new
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 1,
        requires = "follow",
        value_parser = clap::value_parser!(u64).range(1..=86400)
    )]
    interval: u64,
    /// Prints the manifest of what was made
    #[arg(long, conflicts_with = "follow")]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// A directory
    Directory,
    /// One file
    Tar,
}

/// Runs the command.
pub(super) fn main(args: &Args) -> ExitCode {
    Failure::code(if args.follow {
        follow(args)
    } else {
        once(args)
    })
}

fn directories(args: &Args) -> Vec<PathBuf> {
    let data_dir = core::iter::once(args.data_dir.clone());
    data_dir.chain(args.data_log_dir.clone()).collect()
}

fn once(args: &Args) -> Result<(), Failure> {
    let take = if args.all {
        Take::Everything
    } else {
        Take::Newest
    };
    let to_output = args.out == Path::new("-");
    let made = if to_output {
        if args.format == Kind::Directory {
            return Err(Failure::Usage(
                "expected a directory's name, found -: only an archive can be piped".to_owned(),
            ));
        }
        Made::stream(&directories(args), take, &mut io::stdout().lock())?
    } else {
        let format = match args.format {
            Kind::Directory => Format::Directory,
            Kind::Tar => Format::Tar,
        };
        Made::write(&directories(args), take, format, &args.out)?
    };
    for note in &made.notes {
        tell(&format!("note: a server that starts would say: {note}"));
    }
    if let Some(zxid) = made.mismatch {
        tell(&format!(
            "warning: from {zxid} on the znodes are not what the log's digests say; the backup is \
             what this server has, compare it with the others (zabra snapshot diff)"
        ));
    }
    let text = if args.json {
        String::from_utf8_lossy(&made.manifest.to_text())
            .trim_end()
            .to_owned()
    } else {
        summary(&args.out, &made.manifest)
    };
    if to_output {
        tell(&text);
        return Ok(());
    }
    let mut lines = Lines::new();
    lines.text(&text)?;
    lines.flush()?;
    Ok(())
}

fn summary(out: &Path, manifest: &Manifest) -> String {
    let time = manifest.last_time.as_ref();
    let znodes = usize::try_from(manifest.znodes.unwrap_or(0)).unwrap_or(usize::MAX);
    format!(
        "{}: the state at {}{}, {}, {} bytes in {}",
        out.display(),
        manifest.last_zxid,
        time.map_or_else(String::new, |time| format!(" of {time}")),
        count(znodes, "znode"),
        manifest.bytes(),
        count(manifest.files.len(), "file")
    )
}

fn follow(args: &Args) -> Result<(), Failure> {
    let mut follower = Follower::open(&directories(args), &args.out)?;
    let mut lines = Lines::new();
    let mut failing = String::new();
    loop {
        match follower.round() {
            Ok(shipped) => {
                failing.clear();
                report(&shipped, &mut lines)?;
            }
            Err(error) if args.once => return Err(error.into()),
            // The server may be away for a while; what it says is said once.
            Err(error) if error.to_string() != failing => {
                failing = error.to_string();
                tell(&format!("error: {failing}; trying again"));
            }
            Err(_) => {}
        }
        if args.once {
            return Ok(());
        }
        thread::sleep(Duration::from_secs(args.interval));
    }
}

fn report(shipped: &Shipped, lines: &mut Lines) -> Result<(), Failure> {
    for warning in &shipped.warnings {
        tell(&format!("warning: {warning}"));
    }
    if shipped.bytes > 0 {
        let number = |number| usize::try_from(number).unwrap_or(usize::MAX);
        lines.text(&format!(
            "shipped {} and {}, {} bytes; the last is {}",
            count(number(shipped.txns), "transaction"),
            count(number(shipped.snapshots), "snapshot"),
            shipped.bytes,
            shipped.last.unwrap_or_default()
        ))?;
        lines.flush()?;
    }
    Ok(())
}
