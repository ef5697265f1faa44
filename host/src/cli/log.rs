//! `zabra log`: what is in logs, and whether they are whole.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use zabra_core::ids::Zxid;
use zabra_core::store::names;
use zabra_core::wire::log::{End, Record};
use zabra_core::wire::txn;

use super::failure::{Failure, count, tell};
use super::show::{Lines, TxnLine, parse_path, parse_zxid, touches};
use crate::backup::{Content, Source, check_log, check_order, read_log};
use crate::store::{Frozen, Part};

/// What `--help` says at its end.
pub(super) const AFTER_HELP: &str = "\
Logs of Apache ZooKeeper 3.4 to 3.9 are read like ours, also while their server runs; nothing is
ever written. A directory is a server's dataDir or dataLogDir, or a backup.

    zabra log /var/lib/zookeeper                      every transaction, oldest first
    zabra log --path /app --from 0x10000002d log.*    some of those in these files
    zabra log --verify /var/lib/zookeeper             whether a server could start from it

Data that is not UTF-8 is printed as data_base64.

Exit codes: 0 all that was asked for was read, 1 a log is damaged or cannot be read (standard error
says where, and what to do), 2 wrong command line";

/// `zabra log`.
#[derive(clap::Args)]
pub struct Args {
    /// Logs, or directories with logs
    #[arg(value_name = "FILE|DIR", required = true)]
    sources: Vec<PathBuf>,
    /// Prints no transactions, but checks every checksum, the order, and that none is missing
    #[arg(long, conflicts_with_all = ["path", "from", "to"])]
    verify: bool,
    /// Only what is about this znode and those below it
    #[arg(long, value_name = "PATH", value_parser = parse_path)]
    path: Option<String>,
    /// Only this transaction and later ones
    #[arg(long, value_name = "ZXID", value_parser = parse_zxid)]
    from: Option<Zxid>,
    /// Only this transaction and earlier ones
    #[arg(long, value_name = "ZXID", value_parser = parse_zxid)]
    to: Option<Zxid>,
}

/// Runs the command.
pub(super) fn main(args: &Args) -> ExitCode {
    Failure::code(run(args))
}

fn run(args: &Args) -> Result<(), Failure> {
    let groups = groups(&args.sources)?;
    let mut lines = Lines::new();
    let mut all_well = true;
    for group in &groups {
        all_well &= if args.verify {
            verify(group, &mut lines)?
        } else {
            print(group, args, &mut lines)?
        };
    }
    lines.flush()?;
    if all_well { Ok(()) } else { Err(Failure::Said) }
}

/// Logs that belong together, in the order of their names.
fn groups(sources: &[PathBuf]) -> Result<Vec<Frozen>, Failure> {
    let mut groups = Vec::new();
    let mut files = Frozen::default();
    for source in sources {
        if source.is_dir() || !is_log(source)? {
            let mut files = Source::open(source)?.files;
            files.retain(|name| names::parse_log(name).is_some());
            groups.push(files);
            continue;
        }
        let name = source.file_name().unwrap_or_default().to_string_lossy();
        // One with a name of its own has the place of its first transaction.
        let mut place = name.into_owned();
        let part = Part::open(source)?;
        if names::parse_log(&place).is_none() {
            read_log(&part, &mut |record| {
                place = names::log(record.zxid);
                None
            })?;
        }
        if files.part(&place).is_some() {
            // The same log of another server.
            groups.push(core::mem::take(&mut files));
        }
        files.insert(place, part);
    }
    groups.push(files);
    groups.retain(|files| files.parts().next().is_some());
    Ok(groups)
}

/// Whether a file is to be read as a log: all but archives are, so that a log whose beginning is
/// damaged is called that.
fn is_log(path: &Path) -> Result<bool, Failure> {
    const TAR_MAGIC: &[u8] = b"ustar";
    const TAR_MAGIC_AT: u64 = 257;
    let part = Part::open(path)?;
    let mut magic = Vec::new();
    let mut content = io::Read::take(part.reader(TAR_MAGIC_AT), TAR_MAGIC.len() as u64);
    io::Read::read_to_end(&mut content, &mut magic)
        .map_err(|error| Failure::Failed(format!("{}: cannot read it: {error}", path.display())))?;
    Ok(magic != TAR_MAGIC)
}

fn sorted(files: &Frozen) -> Vec<(&str, &Part)> {
    let mut parts: Vec<_> = files.parts().collect();
    parts.sort_by_key(|(name, _)| (names::parse_log(name), *name));
    parts
}

/// Prints the transactions of some logs; says whether all could be read.
fn print(files: &Frozen, args: &Args, lines: &mut Lines) -> Result<bool, Failure> {
    let mut all_well = true;
    let mut problems = Vec::new();
    for (_, part) in sorted(files) {
        let mut failed = None;
        let mut print = |record: Record<'_>| {
            if args.to.is_some_and(|to| record.zxid > to) {
                return None;
            }
            let wanted = args.from.is_none_or(|from| record.zxid >= from);
            match wanted.then(|| print_record(part, &record, args, lines)) {
                None | Some(Ok(None)) => Some(()),
                Some(Ok(Some(problem))) => {
                    problems.push(problem);
                    Some(())
                }
                Some(Err(error)) => {
                    failed = Some(error);
                    None
                }
            }
        };
        let end = read_log(part, &mut print)?;
        if let Some(error) = failed {
            return Err(error.into());
        }
        if let Some(damage) = end.as_ref().and_then(|end| damage(part, end)) {
            problems.push(damage);
        } else if let Some(remark) = end.as_ref().and_then(|end| remark(part, end)) {
            tell(&format!("note: {remark}"));
        }
        if !problems.is_empty() {
            all_well = false;
            // In its place among the transactions, where both are seen together.
            lines.flush()?;
        }
        for problem in problems.drain(..) {
            tell(&format!("error: {problem}"));
        }
    }
    Ok(all_well)
}

/// Prints a record if it is wanted, or says why it is no transaction.
fn print_record(
    part: &Part,
    record: &Record<'_>,
    args: &Args,
    lines: &mut Lines,
) -> io::Result<Option<String>> {
    let (header, txn, digest) = match txn::decode(record.payload) {
        Ok(decoded) => decoded,
        Err(error) => {
            return Ok(Some(format!(
                "{}: at offset {}: expected a transaction in record {}, found: {error}; was it \
                 written by a newer version?",
                part.location(),
                record.offset,
                record.zxid
            )));
        }
    };
    if args.path.as_ref().is_none_or(|path| touches(&txn, path)) {
        lines.json(&TxnLine::new(
            part.location(),
            record,
            &header,
            &txn,
            digest,
        ))?;
    }
    Ok(None)
}

/// Checks some logs, one by one and together; says whether they are well.
fn verify(files: &Frozen, lines: &mut Lines) -> Result<bool, Failure> {
    let mut problems = Vec::new();
    let mut read = files.clone();
    for (name, part) in sorted(files) {
        let content = check_log(part)?;
        if let End::Clean { at } = content.end {
            // What a server writes meanwhile is not judged.
            read.shorten(name, at);
        }
        lines.text(&format!("{}: {}", part.location(), summary(&content)))?;
        problems.extend(damage(part, &content.end));
    }
    // What is damaged is in no order.
    if problems.is_empty() {
        match check_order(&read) {
            Ok(notes) => {
                lines.flush()?;
                for note in notes {
                    tell(&format!("note: a server that starts would say: {note}"));
                }
            }
            Err(error) => problems.push(error.to_string()),
        }
    }
    lines.flush()?;
    for problem in &problems {
        tell(&format!("error: {problem}"));
    }
    Ok(problems.is_empty())
}

fn summary(content: &Content) -> String {
    let range = content.range.map_or_else(String::new, |(first, last)| {
        format!(" from {first} to {last}")
    });
    let end = match &content.end {
        End::Clean { at } => format!("whole, ends at offset {at}"),
        End::Damaged(damage) => format!("damaged at offset {}", damage.offset),
        End::NoHeader => "not even a header was written".to_owned(),
        End::Torn { at } => format!("ends at offset {at} with a write cut short"),
    };
    let txns = usize::try_from(content.txns).unwrap_or(usize::MAX);
    format!("{}{range}, {end}", count(txns, "transaction"))
}

/// What is wrong with a log by itself, and what to do.
fn damage(part: &Part, end: &End) -> Option<String> {
    let End::Damaged(damage) = end else {
        return None;
    };
    if damage.offset == 0 {
        return Some(format!(
            "{}: {damage}; if it was one, its beginning is gone: take a copy of it, or the state \
             from the other servers of the ensemble or from a backup",
            part.location()
        ));
    }
    Some(format!(
        "{}: {damage}; what is before that is sound. No server can go on from this log: take the \
         state from the other servers of the ensemble (empty this one's data directory, it is sent \
         the state), or from a backup, or move this log and all later logs and snapshots away to go \
         back to the state before",
        part.location()
    ))
}

/// What is worth knowing about the end of a log that is not damaged.
fn remark(part: &Part, end: &End) -> Option<String> {
    let place = part.location();
    match end {
        End::Clean { .. } | End::Damaged(_) => None,
        End::NoHeader => Some(format!(
            "{place}: it is empty, the server stopped while creating it"
        )),
        End::Torn { at } => Some(format!(
            "{place}: at offset {at} a write was cut short, or is not done yet, so it was never \
             confirmed to a client; a server that starts cuts it off"
        )),
    }
}
