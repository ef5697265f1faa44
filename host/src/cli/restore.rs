//! `zabra restore`.

use core::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use zabra_core::ids::{UnixMillis, Zxid};

use super::failure::{Failure, count, tell};
use super::show::{Lines, parse_path, parse_zxid};
use crate::backup::{
    Auth, Client, Existing, Occupied, Point, Restored, Source, State, Subtree, Written, parse_time,
    restore, restore_tree,
};

/// What `--help` says at its end.
pub(super) const AFTER_HELP: &str = "\
BACKUP is what `zabra backup` made, or a server's dataDir. Its checksums are compared before
anything is written; the state that was written is read back.

    zabra restore zoo.tar /var/lib/zookeeper                     the newest state
    zabra restore --time 2026-11-23T10:00:00Z zoo.tar data       the last state before that
    zabra restore --zxid 0x10000002d zoo.tar data                the state after that transaction
    zabra restore --path /app --to /old zoo.tar --server localhost:2181
                                                                 one subtree, into a server that runs

An ensemble: stop all servers, restore the same state into the data directory of every one, and
start them. A server that keeps what it had would win against the restored ones. Then start the
clients anew: one that has seen later transactions is not served by an ensemble that is back before
these. docs/backup.md has it step by step.

Exit codes: 0 restored, 1 not: nothing was changed, or what was is said, 2 wrong command line";

/// `zabra restore`.
#[derive(clap::Args)]
pub struct Args {
    /// What to restore from
    #[arg(value_name = "BACKUP")]
    backup: PathBuf,
    /// The dataDir to restore to; it must not hold a state
    #[arg(value_name = "DATA_DIR", required_unless_present = "server")]
    data_dir: Option<PathBuf>,
    /// The dataLogDir that the server will have, if it has one
    #[arg(long, value_name = "DIR", requires = "data_dir")]
    data_log_dir: Option<PathBuf>,
    /// Moves what is in the data directory aside first, to version-2.before-TIME
    #[arg(long, requires = "data_dir")]
    set_aside: bool,
    /// The state after this transaction [default: the newest]
    #[arg(long, value_name = "ZXID", value_parser = parse_zxid)]
    zxid: Option<Zxid>,
    /// The last state at this time, by the leader's clock, in UTC
    #[arg(long, value_name = "TIME", value_parser = parse_time, conflicts_with = "zxid")]
    time: Option<UnixMillis>,
    /// Only this znode and those below it; ephemeral ones are left out, their sessions are gone
    #[arg(long, value_name = "PATH", value_parser = parse_path)]
    path: Option<String>,
    /// Where that goes [default: where it was]
    #[arg(long, value_name = "PATH", requires = "path", value_parser = parse_path)]
    to: Option<String>,
    /// Restores the subtree into this server, which runs, without TLS
    #[arg(
        long,
        value_name = "HOST:PORT",
        requires = "path",
        conflicts_with = "data_dir"
    )]
    server: Option<String>,
    /// Identities for that, a line SCHEME:CREDENTIALS each (digest:super:password), in a file
    #[arg(long, value_name = "FILE", requires = "server")]
    auth_file: Option<PathBuf>,
    /// Sets znodes that are there to what the backup has; others stay
    #[arg(long, requires = "server")]
    merge: bool,
}

/// Runs the command.
pub(super) fn main(args: &Args) -> ExitCode {
    Failure::code(run(args))
}

fn run(args: &Args) -> Result<(), Failure> {
    let point = match (args.zxid, args.time) {
        (Some(zxid), _) => Point::Zxid(zxid),
        (None, Some(time)) => Point::Time(time),
        (None, None) => Point::Newest,
    };
    let source = Source::open(&args.backup)?;
    let message = match (&args.server, &args.data_dir, &args.path) {
        (Some(server), _, Some(path)) => {
            let subtree = subtree(&source, point, path, args)?;
            into_server(server, &subtree, args)?
        }
        (_, Some(data_dir), Some(path)) => {
            let (mut tree, written) = subtree(&source, point, path, args)?.into_tree()?;
            let directories = directories(data_dir, args);
            let restored = restore_tree(&mut tree, None, directories, occupied(args))?;
            format!(
                "{}; {}",
                of_directory(data_dir, &restored),
                of_subtree(written)
            )
        }
        (_, Some(data_dir), None) => {
            let restored = restore(&source, point, directories(data_dir, args), occupied(args))?;
            of_directory(data_dir, &restored)
        }
        // The parser demands one of them.
        (_, None, _) => return Err(Failure::Usage("expected DATA_DIR or --server".to_owned())),
    };
    let mut lines = Lines::new();
    lines.text(&message)?;
    lines.flush()?;
    Ok(())
}

fn directories<'a>(data_dir: &'a Path, args: &'a Args) -> (&'a Path, &'a Path) {
    (data_dir, args.data_log_dir.as_deref().unwrap_or(data_dir))
}

const fn occupied(args: &Args) -> Occupied {
    if args.set_aside {
        Occupied::SetAside
    } else {
        Occupied::Refuse
    }
}

fn subtree(source: &Source, point: Point, path: &str, args: &Args) -> Result<Subtree, Failure> {
    let state = State::read(&source.files, point)?;
    let to = args.to.as_deref().unwrap_or(path);
    Ok(Subtree::of(&state.tree, path, to)?)
}

fn into_server(server: &str, subtree: &Subtree, args: &Args) -> Result<String, Failure> {
    let identities = match &args.auth_file {
        Some(file) => identities(file)?,
        None => Vec::new(),
    };
    let existing = if args.merge {
        Existing::Merge
    } else {
        Existing::Refuse
    };
    let mut client = Client::open(server, &identities)?;
    let written = subtree.write_to(&mut client, existing)?;
    client.close()?;
    Ok(format!("{server}: {}", of_subtree(written)))
}

/// Reads a file of identities. It is a file because others see the command line.
fn identities(file: &Path) -> Result<Vec<Auth>, Failure> {
    let text = fs::read_to_string(file)
        .map_err(|error: io::Error| Failure::Failed(format!("{}: {error}", file.display())))?;
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    let identity = |(number, line): (usize, &str)| {
        // What was found is a secret.
        let (scheme, credentials) = line.trim().split_once(':').ok_or_else(|| {
            Failure::Usage(format!(
                "{}:{}: expected SCHEME:CREDENTIALS, found no colon",
                file.display(),
                number + 1
            ))
        })?;
        Ok(Auth {
            scheme: scheme.to_owned(),
            credentials: credentials.to_owned(),
        })
    };
    lines.map(identity).collect()
}

fn of_directory(data_dir: &Path, restored: &Restored) -> String {
    let mut message = format!(
        "{}: restored the state at {}, {}, digest {:x}",
        data_dir.display(),
        restored.zxid,
        count(restored.znodes, "znode"),
        restored.digest
    );
    for aside in &restored.set_aside {
        let _infallible = write!(message, "; what was there is in {}", aside.display());
    }
    message
}

fn of_subtree(written: Written) -> String {
    let mut message = format!("created {}", count(written.created, "znode"));
    if written.changed > 0 {
        let _infallible = write!(message, ", set {}", count(written.changed, "other"));
    }
    if written.ephemerals > 0 {
        tell(&format!(
            "note: left out {}: the sessions that owned them are gone",
            count(written.ephemerals, "ephemeral znode")
        ));
    }
    message
}
