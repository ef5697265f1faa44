//! A disk on which data is, or shall be.

use core::time::Duration;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::finding::{Finding, Weight};
use crate::host_facts;
use crate::store::{free_min, space};

/// Whether something is written to see how long that takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    Fsync,
    Nothing,
}

/// Every write waits for one fsync at least.
const FSYNC_SLOW: Duration = Duration::from_millis(20);
const FSYNC_BAD: Duration = Duration::from_millis(200);
const FSYNCS: usize = 30;
const FSYNCS_TIME_MAX: Duration = Duration::from_secs(3);
const BLOCK: [u8; 4096] = [0; 4096];

/// Fewer descriptors than this are soon gone: a connection takes one.
const OPEN_FILES_MIN: u64 = 4096;

/// Looks at the disk under a directory, or what of its path there is.
pub(super) fn look(
    directory: &Path,
    wish: Option<u64>,
    measure: Measure,
    findings: &mut Vec<Finding>,
) {
    let about = directory.display().to_string();
    let Some(there) = existing(directory) else {
        return;
    };
    room(&about, &there, wish, findings);
    if let Some(kind) = fleeting(&there) {
        findings.push(Finding::new(
            Weight::Wrong,
            &about,
            format!("is on {kind}: what is acknowledged there does not survive"),
            "keep data on a disk of its own",
        ));
    }
    if measure == Measure::Fsync && there == directory {
        fsyncs(&about, directory, findings);
    }
}

/// The directory, or the nearest above it that there is.
fn existing(directory: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(directory).ok()?;
    let there = absolute.ancestors().find(|path| path.is_dir())?;
    Some(if there == absolute {
        directory.to_owned()
    } else {
        there.to_owned()
    })
}

fn room(about: &str, directory: &Path, wish: Option<u64>, findings: &mut Vec<Finding>) {
    let Some(space) = space(directory) else {
        return;
    };
    let least = free_min(wish, space);
    let mib = |bytes: u64| bytes >> 20;
    let found = format!(
        "the disk has {} MiB free of {}",
        mib(space.free),
        mib(space.total)
    );
    if space.free < least {
        findings.push(Finding::new(
            Weight::Wrong,
            about,
            format!(
                "{found}, less than the {} MiB of zabra.diskFreeMin: writes are refused",
                mib(least)
            ),
            "remove what is not needed, or give it more",
        ));
    } else if space.free / 4 < least {
        findings.push(Finding::new(
            Weight::Risk,
            about,
            format!("{found}: it will be full soon"),
            "give it more, or set zabra.purge.bytesMax",
        ));
    }
}

/// What kind of file system this is, if nothing on it lasts.
#[cfg(target_os = "linux")]
fn fleeting(directory: &Path) -> Option<&'static str> {
    // Source: statfs(2), `linux/magic.h`.
    const TMPFS: i128 = 0x0102_1994;
    const RAMFS: i128 = 0x8584_58f6;
    const OVERLAY: i128 = 0x794c_7630;
    let found = rustix::fs::statfs(directory).ok()?;
    match i128::from(found.f_type) & 0xffff_ffff {
        TMPFS => Some("tmpfs, which is memory"),
        RAMFS => Some("ramfs, which is memory"),
        OVERLAY => Some("the layer of a container, which goes with it"),
        _ => None,
    }
}

#[cfg(not(target_os = "linux"))]
fn fleeting(_: &Path) -> Option<&'static str> {
    None
}

fn fsyncs(about: &str, directory: &Path, findings: &mut Vec<Finding>) {
    let path = directory.join(format!("zabra-doctor-{}.tmp", std::process::id()));
    let measured = measure(&path);
    // If it stays, its name says whose it is, and no server takes it for its own.
    let _gone = fs::remove_file(&path);
    let mut times = match measured {
        Ok(times) => times,
        Err(error) => {
            findings.push(Finding::new(
                Weight::Note,
                about,
                format!("how long an fsync takes was not measured: {error}"),
                "run this as the user that runs the server",
            ));
            return;
        }
    };
    times.sort_unstable();
    let ms = |time: Duration| time.as_micros() / 100;
    let tenths = |time: Duration| format!("{}.{} ms", ms(time) / 10, ms(time) % 10);
    let (median, most) = (
        times.get(times.len() / 2).copied().unwrap_or_default(),
        times.last().copied().unwrap_or_default(),
    );
    let text = format!(
        "an fsync takes {} (median of {}, the longest {})",
        tenths(median),
        times.len(),
        tenths(most)
    );
    let (weight, advice) = if median >= FSYNC_BAD {
        (Weight::Wrong, "no write is faster: use another disk")
    } else if median >= FSYNC_SLOW || most >= FSYNC_BAD * 5 {
        (
            Weight::Risk,
            "every write waits for one: give dataLogDir a disk that nobody else uses",
        )
    } else {
        (Weight::Note, "")
    };
    findings.push(Finding::new(weight, about, text, advice));
}

fn measure(path: &Path) -> std::io::Result<Vec<Duration>> {
    let mut file = File::options().write(true).create_new(true).open(path)?;
    let begun = Instant::now();
    let mut times = Vec::new();
    while times.len() < FSYNCS && begun.elapsed() < FSYNCS_TIME_MAX {
        file.write_all(&BLOCK)?;
        let begun = Instant::now();
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    Ok(times)
}

/// Whether two directories are on one disk, if that is known.
#[cfg(unix)]
pub(super) fn share_a_disk(one: &Path, other: &Path) -> Option<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let device = |path: &Path| Some(fs::metadata(existing(path)?).ok()?.dev());
    Some(device(one)? == device(other)?)
}

#[cfg(not(unix))]
pub(super) fn share_a_disk(_: &Path, _: &Path) -> Option<bool> {
    None
}

/// How many files a process of this shell may open.
pub(super) fn open_files(findings: &mut Vec<Finding>) {
    let most = host_facts::open_files_max();
    if most > 0 && most < OPEN_FILES_MIN {
        findings.push(Finding::new(
            Weight::Risk,
            "this machine",
            format!(
                "a process that is started here may open {most} files, and every connection is one"
            ),
            format!("set `ulimit -n`, or LimitNOFILE of the service, to {OPEN_FILES_MIN} or more"),
        ));
    }
}
