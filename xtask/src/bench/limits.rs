//! What the machine allows at best, and what machine it is.

use core::time::Duration;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Instant;

use super::table::{median, number};

const WINDOW: Duration = Duration::from_secs(1);
/// About what one setData of 100 B puts into the log.
const APPEND: [u8; 256] = [b'x'; 256];
const ROUND_TRIPS: u32 = 10_000;

/// No server that keeps its promises can do better, measured once in every round.
#[derive(Debug, Default)]
pub(super) struct Limits {
    syncs_per_s: Vec<f64>,
    round_trip_us: Vec<f64>,
}

impl Limits {
    pub(super) fn measure(&mut self, dir: &Path) -> Result<(), String> {
        let path = dir.join("fdatasync");
        let syncs = syncs_per_s(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        self.syncs_per_s.push(syncs);
        let trip =
            round_trip_us().map_err(|error| format!("a round trip on 127.0.0.1: {error}"))?;
        self.round_trip_us.push(trip);
        Ok(())
    }

    pub(super) fn markdown(&self) -> String {
        let text = |figures: &[f64]| median(figures).map_or_else(|| "?".to_owned(), number);
        format!(
            "Limits of the machine: {} `fdatasync` of 256 B appends per second, one after the \
             other;\n{} µs (median) for a round trip of one byte on 127.0.0.1.\n",
            text(&self.syncs_per_s),
            text(&self.round_trip_us),
        )
    }
}

fn syncs_per_s(path: &Path) -> std::io::Result<f64> {
    let mut file = File::create(path)?;
    let start = Instant::now();
    let mut syncs = 0_u32;
    while start.elapsed() < WINDOW {
        file.write_all(&APPEND)?;
        file.sync_data()?;
        syncs += 1;
    }
    let syncs_per_s = f64::from(syncs) / start.elapsed().as_secs_f64();
    fs::remove_file(path)?;
    Ok(syncs_per_s)
}

fn round_trip_us() -> std::io::Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut near = TcpStream::connect(listener.local_addr()?)?;
    let (mut far, _) = listener.accept()?;
    for stream in [&near, &far] {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    }
    let echo = thread::spawn(move || -> std::io::Result<()> {
        let mut byte = [0];
        for _ in 0..ROUND_TRIPS {
            far.read_exact(&mut byte)?;
            far.write_all(&byte)?;
        }
        Ok(())
    });
    let mut trips = Vec::new();
    let mut byte = [1];
    for _ in 0..ROUND_TRIPS {
        let start = Instant::now();
        near.write_all(&byte)?;
        near.read_exact(&mut byte)?;
        trips.push(start.elapsed().as_secs_f64() * 1e6);
    }
    echo.join()
        .map_err(|_| std::io::Error::other("the echoing thread panicked"))??;
    Ok(median(&trips).unwrap_or_default())
}

/// Processor, cores, memory and kernel.
pub(super) fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let after = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key))?;
        line.split_once(':')
            .map(|(_, value)| value.trim().to_owned())
    };
    let processor = after(&read("/proc/cpuinfo"), "model name");
    let processor = processor.unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let memory = after(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
    let kib: f64 = memory
        .trim_end_matches("kB")
        .trim()
        .parse()
        .unwrap_or_default();
    let gib = kib / 1024.0 / 1024.0;
    let kernel = read("/proc/sys/kernel/osrelease");
    format!(
        "{processor}, {cores} cores, {gib:.0} GiB, Linux {}",
        kernel.trim()
    )
}

/// The machine's load average over the last minute.
pub(super) fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

pub(super) fn date() -> String {
    first_line(Command::new("date").args(["-u", "+%Y-%m-%d"]))
}

/// The commit that was built, with a mark when it was changed since.
pub(super) fn commit(root: &Path) -> String {
    let mut git = Command::new("git");
    first_line(
        git.args(["describe", "--always", "--dirty"])
            .current_dir(root),
    )
}

pub(super) fn java() -> String {
    first_line(Command::new("java").arg("--version"))
}

fn first_line(command: &mut Command) -> String {
    let output = command
        .output()
        .map(|output| output.stdout)
        .unwrap_or_default();
    let text = String::from_utf8_lossy(&output);
    text.lines().next().unwrap_or("?").to_owned()
}
