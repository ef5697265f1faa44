//! `zabra snapshot`: what a state holds, whether it is whole, and how two differ.

use core::cmp::Ordering;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use zabra_core::store::names;
use zabra_core::tree::Tree;

use super::failure::{Failure, count, tell};
use super::show::{Lines, SessionLine, ZnodeLine, parse_path, parse_point, preorder};
use crate::backup::{Point, Source, State};
use crate::store::{Frozen, Part};

/// What `--help` says at its end.
pub(super) const AFTER_HELP: &str = "\
A source is a snapshot (also .gz and .snappy), of which what is in it is read; or a server's
dataDir, or a backup, of which the newest snapshot and the log after it are read. Those may be
followed by @ and a zxid or a time in UTC, for the state at that point. Files of Apache ZooKeeper
3.4 to 3.9 are read like ours, also while their server runs; nothing is ever written. The whole
state is held in memory.

    zabra snapshot --path /app /var/lib/zookeeper
    zabra snapshot --verify /var/lib/zookeeper
    zabra snapshot diff --path /app data@2026-11-23T10:00:00Z data@2026-11-23T10:05:00Z

A snapshot that Apache ZooKeeper wrote while clients wrote has some of the changes after the zxid
in its name; with the log it is exact.

Exit codes: 0 all that was asked for was read, and diff found nothing; 1 something is damaged or
cannot be read (standard error says what), or diff found something; 2 wrong command line";

/// `zabra snapshot`.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    show: Show,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Prints how two states differ, one JSON object for each znode that is not alike
    Diff(Diff),
}

#[derive(clap::Args)]
struct Show {
    /// Snapshots, data directories or backups
    #[arg(value_name = "SOURCE[@POINT]", required = true)]
    sources: Vec<String>,
    /// Only this znode and those below it
    #[arg(long, value_name = "PATH", value_parser = parse_path)]
    path: Option<String>,
    /// Prints no znodes, but reads every snapshot in the sources, and the log after the newest,
    /// and compares checksums and digests
    #[arg(long, conflicts_with = "path")]
    verify: bool,
}

#[derive(clap::Args)]
struct Diff {
    /// The one
    #[arg(value_name = "A[@POINT]")]
    a: String,
    /// The other
    #[arg(value_name = "B[@POINT]")]
    b: String,
    /// Only this znode and those below it
    #[arg(long, value_name = "PATH", default_value = "/", value_parser = parse_path)]
    path: String,
    /// Compares what clients wrote, data, ACL and kind, and not zxids, times and versions
    #[arg(long)]
    content: bool,
}

/// Runs the command.
pub(super) fn main(args: &Args) -> ExitCode {
    Failure::code(match &args.command {
        Some(Command::Diff(args)) => diff(args),
        None if args.show.verify => verify(&args.show),
        None => print(&args.show),
    })
}

fn print(args: &Show) -> Result<(), Failure> {
    let mut lines = Lines::new();
    for source in &args.sources {
        let state = open(source)?;
        remarks(source, &state);
        let path = args.path.as_deref().unwrap_or("/");
        let Some(top) = state.tree.find(path) else {
            return Err(Failure::Failed(format!(
                "{source}: expected a znode {path} in the state at {}, found none",
                state.zxid
            )));
        };
        for id in preorder(&state.tree, top) {
            lines.json(&ZnodeLine::new(&state.tree, id, true))?;
        }
        if args.path.is_none() {
            for session in state.tree.sessions() {
                lines.json(&SessionLine::new(session))?;
            }
        }
    }
    lines.flush()?;
    Ok(())
}

fn verify(args: &Show) -> Result<(), Failure> {
    let mut lines = Lines::new();
    let mut all_well = true;
    for source in &args.sources {
        let (path, point) = split(source)?;
        let files = files(&path)?;
        let snapshots: Vec<_> = files
            .parts()
            .filter(|(name, _)| names::parse_snapshot(name).is_some())
            .collect();
        let alone = snapshots.len() == 1 && files.parts().count() == 1;
        let mut checks = Vec::new();
        for (name, part) in snapshots {
            let mut one = Frozen::default();
            one.insert(name.to_owned(), part.clone());
            checks.push((part.location().to_owned(), State::read(&one, Point::Newest)));
        }
        if !alone {
            checks.push((source.clone(), State::read(&files, point)));
        }
        for (place, state) in checks {
            match state {
                Ok(state) => {
                    lines.text(&format!("{place}: {}", summary(&state)))?;
                    lines.flush()?;
                    all_well &= state.mismatch.is_none();
                    remarks(&place, &state);
                }
                Err(error) => {
                    lines.flush()?;
                    all_well = false;
                    tell(&format!("error: {place}: {error}"));
                }
            }
        }
    }
    if all_well { Ok(()) } else { Err(Failure::Said) }
}

fn summary(state: &State) -> String {
    format!(
        "sound, the state at {}: {}, {}, digest {:x}",
        state.zxid,
        count(state.tree.node_count(), "znode"),
        count(state.tree.sessions().len(), "session"),
        state.tree.digest()
    )
}

/// What is to be known about a state, told beside it.
fn remarks(place: &str, state: &State) {
    if let Some(until) = state.fuzzy_until {
        tell(&format!(
            "note: {place}: written while the tree changed, it has some of what happened until \
             {until}; with the log after it, it is exact"
        ));
    }
    if let Some(zxid) = state.mismatch {
        tell(&format!(
            "error: {place}: from {zxid} on the znodes are not what the log's digests say; compare \
             this server with the others (zabra snapshot diff), and have it sent its state anew"
        ));
    }
    for note in &state.notes {
        tell(&format!("note: a server that starts would say: {note}"));
    }
}

/// A znode that is not alike on both sides.
#[derive(Serialize)]
struct Difference {
    path: String,
    change: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<ZnodeLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<ZnodeLine>,
}

fn diff(args: &Diff) -> Result<(), Failure> {
    let (a, b) = (open(&args.a)?, open(&args.b)?);
    remarks(&args.a, &a);
    remarks(&args.b, &b);
    if a.tree.find(&args.path).is_none() && b.tree.find(&args.path).is_none() {
        return Err(Failure::Failed(format!(
            "expected a znode {} in one of the two, found none",
            args.path
        )));
    }
    let mut lines = Lines::new();
    let mut alike = true;
    let mut before = znodes(&a.tree, args).peekable();
    let mut after = znodes(&b.tree, args).peekable();
    loop {
        let order = match (before.peek(), after.peek()) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(before), Some(after)) => by_names(&before.path, &after.path),
        };
        let before = if order.is_le() { before.next() } else { None };
        let after = if order.is_ge() { after.next() } else { None };
        if before == after {
            continue;
        }
        alike = false;
        let path = before
            .as_ref()
            .or(after.as_ref())
            .map(|znode| znode.path.clone());
        lines.json(&Difference {
            path: path.unwrap_or_default(),
            change: match order {
                Ordering::Less => "removed",
                Ordering::Equal => "changed",
                Ordering::Greater => "added",
            },
            before,
            after,
        })?;
    }
    lines.flush()?;
    if alike { Ok(()) } else { Err(Failure::Said) }
}

fn znodes<'a>(tree: &'a Tree, args: &'a Diff) -> impl Iterator<Item = ZnodeLine> + 'a {
    let top = tree.find(&args.path);
    let ids = top.into_iter().flat_map(|top| preorder(tree, top));
    ids.map(|id| ZnodeLine::new(tree, id, !args.content))
}

/// The order of [`preorder`].
fn by_names(a: &str, b: &str) -> Ordering {
    a.trim_end_matches('/')
        .split('/')
        .cmp(b.trim_end_matches('/').split('/'))
}

/// Reads what a person calls `SOURCE[@POINT]`.
fn open(source: &str) -> Result<State, Failure> {
    let (path, point) = split(source)?;
    let files = files(&path)?;
    let state = State::read(&files, point);
    state.map_err(|error| Failure::Failed(format!("{source}: {error}")))
}

fn split(source: &str) -> Result<(PathBuf, Point), Failure> {
    let whole = Path::new(source);
    match source.rsplit_once('@') {
        Some((path, point)) if !whole.exists() => {
            let point = parse_point(point).map_err(Failure::Usage)?;
            Ok((path.into(), point))
        }
        _ => Ok((whole.to_owned(), Point::Newest)),
    }
}

/// The files of a source: a snapshot alone, or all.
fn files(path: &Path) -> Result<Frozen, Failure> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if path.is_file() && names::parse_snapshot(&name).is_some() {
        let mut files = Frozen::default();
        files.insert(name.into_owned(), Part::open(path)?);
        return Ok(files);
    }
    if path.is_file() && name.starts_with("snapshot.") {
        return Err(Failure::Failed(format!(
            "{}: expected a name such as snapshot.10000002d, snapshot.10000002d.gz or \
             snapshot.10000002d.snappy, which says the zxid and the compression; give a copy such a \
             name",
            path.display()
        )));
    }
    Ok(Source::open(path)?.files)
}
