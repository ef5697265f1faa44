//! What only the host knows: what the words `envi`, `dirs` and `mntr` print of it.
//!
//! Facts come from `/proc`; where there is none, they are zero or `<NA>`.

use core::time::Duration;
use std::{
    env, fs,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use zabra_core::server::{HostFacts, civil_date};

/// The release of ZooKeeper whose behaviour this server has. Clients parse it (kazoo, Curator).
pub const ZOOKEEPER_VERSION: &str = "3.9.5";

/// What ZooKeeper prints for a property that is not there.
const NOT_AVAILABLE: &str = "<NA>";

/// What `envi` prints, in ZooKeeper's order and with its keys. Memory is as of this call.
#[must_use]
pub fn environment() -> Vec<(String, String)> {
    let memory = memory();
    let mb = |bytes: u64| format!("{}MB", bytes >> 20);
    [
        ("zookeeper.version", version()),
        ("host.name", host_name()),
        ("java.version", "none (Rust)".to_owned()),
        ("java.vendor", "Zabra".to_owned()),
        ("java.home", NOT_AVAILABLE.to_owned()),
        ("java.class.path", executable()),
        ("java.library.path", NOT_AVAILABLE.to_owned()),
        ("java.io.tmpdir", env::temp_dir().display().to_string()),
        ("java.compiler", NOT_AVAILABLE.to_owned()),
        ("os.name", os_name().to_owned()),
        ("os.arch", os_arch().to_owned()),
        ("os.version", line_of("/proc/sys/kernel/osrelease")),
        ("user.name", user_name()),
        ("user.home", variable(&["HOME", "USERPROFILE"])),
        ("user.dir", working_directory()),
        ("os.memory.free", mb(memory.free_bytes)),
        ("os.memory.max", mb(memory.max_bytes)),
        ("os.memory.total", mb(memory.resident_bytes)),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// The version as the words `srvr`, `stat` and `envi` print it.
#[must_use]
pub fn version() -> String {
    let zabra = env!("CARGO_PKG_VERSION");
    format!("{ZOOKEEPER_VERSION}-zabra-{zabra}, built on {}", built_on())
}

/// Gathers what a four-letter word asks for. Walks the two directories' files, so its time grows
/// with them.
///
/// The directories are those that ZooKeeper measures, with `version-2`.
/// `fsync_ms` is the store's to fill in; times are printed in UTC.
#[must_use]
pub fn gather(data_dir: &Path, data_log_dir: &Path) -> HostFacts {
    HostFacts {
        data_dir_bytes: directory_bytes(data_dir),
        log_dir_bytes: directory_bytes(data_log_dir),
        open_files: open_files(),
        open_files_max: open_files_max(),
        memory_bytes: memory().resident_bytes,
        ..HostFacts::default()
    }
}

/// Bytes of the files in a directory and below, 0 if it cannot be read. Links are not followed.
fn directory_bytes(directory: &Path) -> u64 {
    // A deeper tree is not ours, and following it could take for ever.
    const DEPTH_MAX: u32 = 4;
    fn walk(directory: &Path, depth: u32) -> u64 {
        let Ok(entries) = fs::read_dir(directory) else {
            return 0;
        };
        entries
            .flatten()
            .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
            .map(|(path, metadata)| {
                if metadata.is_file() {
                    metadata.len()
                } else if metadata.is_dir() && depth < DEPTH_MAX {
                    walk(&path, depth + 1)
                } else {
                    0
                }
            })
            .sum()
    }
    walk(directory, 1)
}

fn open_files() -> u64 {
    let count = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    // One of them is the directory itself, open while it is read.
    u64::try_from(count.saturating_sub(1)).unwrap_or(0)
}

/// File descriptors that the process may have open, 0 if that is not known.
pub(crate) fn open_files_max() -> u64 {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    parse_open_files_max(&limits)
}

/// The soft limit in the text of `/proc/self/limits`.
fn parse_open_files_max(limits: &str) -> u64 {
    limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .and_then(|rest| rest.split_whitespace().next())
        .map_or(0, |soft| match soft {
            "unlimited" => u64::MAX,
            number => number.parse().unwrap_or(0),
        })
}

/// Processor time that this process has used, where the system tells.
#[must_use]
pub fn processor_time() -> Option<Duration> {
    #[cfg(target_os = "linux")]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Duration::try_from(time).ok()
    }
    #[cfg(not(target_os = "linux"))]
    None
}

struct Memory {
    resident_bytes: u64,
    free_bytes: u64,
    max_bytes: u64,
}

fn memory() -> Memory {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let machine = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    Memory {
        resident_bytes: kib_field(&status, "VmRSS:"),
        free_bytes: kib_field(&machine, "MemAvailable:"),
        max_bytes: kib_field(&machine, "MemTotal:"),
    }
}

/// The field `name      1234 kB` in bytes, 0 if there is none.
fn kib_field(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|kib| kib.parse::<u64>().ok())
        .map_or(0, |kib| kib.saturating_mul(1024))
}

fn host_name() -> String {
    match line_of("/proc/sys/kernel/hostname") {
        name if name == NOT_AVAILABLE => variable(&["HOSTNAME", "COMPUTERNAME"]),
        name => name,
    }
}

/// As Java names them.
fn os_name() -> &'static str {
    match env::consts::OS {
        "linux" => "Linux",
        "macos" => "Mac OS X",
        "windows" => "Windows",
        "freebsd" => "FreeBSD",
        other => other,
    }
}

/// As Java names them.
fn os_arch() -> &'static str {
    match env::consts::ARCH {
        "x86_64" => "amd64",
        other => other,
    }
}

fn executable() -> String {
    env::current_exe().map_or_else(
        |_| NOT_AVAILABLE.to_owned(),
        |path| path.display().to_string(),
    )
}

fn working_directory() -> String {
    env::current_dir().map_or_else(
        |_| NOT_AVAILABLE.to_owned(),
        |path| path.display().to_string(),
    )
}

fn line_of(file: &str) -> String {
    fs::read_to_string(file)
        .ok()
        .and_then(|text| text.lines().next().map(str::to_owned))
        .unwrap_or_else(|| NOT_AVAILABLE.to_owned())
}

/// Who runs this process: what its environment says, else whose number it has.
#[must_use]
pub fn user_name() -> String {
    let known = variable(&["USER", "LOGNAME", "USERNAME"]);
    if known != NOT_AVAILABLE {
        return known;
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    name_of_user(&status, &users).unwrap_or(known)
}

/// The name in the text of `/etc/passwd` of whose number is in that of `/proc/self/status`.
fn name_of_user(status: &str, users: &str) -> Option<String> {
    let numbers = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    let number = numbers.split_whitespace().next()?;
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, found) = (fields.next()?, fields.next()?, fields.next()?);
        (found == number).then(|| name.to_owned())
    })
}

/// The first of these variables that is set.
fn variable(names: &[&str]) -> String {
    names
        .iter()
        .find_map(|name| env::var(name).ok())
        .unwrap_or_else(|| NOT_AVAILABLE.to_owned())
}

/// When this program was built: what the build says (`SOURCE_DATE_EPOCH`), or the date of its file.
fn built_on() -> String {
    let said = option_env!("SOURCE_DATE_EPOCH")
        .and_then(|seconds| seconds.parse().ok())
        .map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
    let file = || {
        let path = env::current_exe().ok()?;
        fs::metadata(path).ok()?.modified().ok()
    };
    let time = said.or_else(file).unwrap_or(UNIX_EPOCH);
    date(time)
}

/// `YYYY-MM-DD HH:MM UTC`, as ZooKeeper's version line has it since 3.7.
fn date(time: SystemTime) -> String {
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let (days, in_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil_date(i64::try_from(days).unwrap_or(i64::MAX));
    let (hour, minute) = (in_day / 3600, in_day % 3600 / 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::unwrap_used,
        reason = "a test may stop at what it did not expect"
    )]

    use super::*;

    #[test]
    fn dates_are_civil() {
        for (seconds, expected) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_399, "2000-02-28 23:59 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (951_868_800, "2000-03-01 00:00 UTC"),
            (1_735_689_599, "2024-12-31 23:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00 UTC"),
        ] {
            assert_eq!(date(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn environment_has_zookeepers_keys_in_its_order() {
        let environment = environment();
        let keys: Vec<&str> = environment.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(
            keys.join(" "),
            "zookeeper.version host.name java.version java.vendor java.home java.class.path \
             java.library.path java.io.tmpdir java.compiler os.name os.arch os.version user.name \
             user.home user.dir os.memory.free os.memory.max os.memory.total"
        );
        let (_, version) = environment.first().unwrap();
        assert!(version.starts_with("3.9.5-zabra-"), "{version}");
        assert!(
            version.contains(", built on 20") && version.ends_with(" UTC"),
            "{version}"
        );
        assert!(environment.iter().all(|(_, value)| !value.is_empty()));
    }

    #[test]
    fn proc_texts_are_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max open files            1024                 524288               files\n";
        assert_eq!(parse_open_files_max(limits), 1024);
        assert_eq!(
            parse_open_files_max("Max open files   unlimited unlimited files"),
            u64::MAX
        );
        assert_eq!(parse_open_files_max(""), 0);
        assert_eq!(
            kib_field("VmPeak: 1 kB\nVmRSS:\t    20 kB\n", "VmRSS:"),
            20 * 1024
        );
        assert_eq!(kib_field("", "VmRSS:"), 0);
        let status = "Name:\tzabra\nUid:\t1000\t1000\t1000\t1000\n";
        let users = "root:x:0:0:root:/root:/bin/sh\nzoo:x:1000:1000::/:/bin/sh\n";
        assert_eq!(name_of_user(status, users).as_deref(), Some("zoo"));
        assert_eq!(name_of_user(status, "root:x:0:0::/:\n"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn facts_of_a_running_process_are_plausible() {
        let directory = env::temp_dir().join(format!("zabra-facts-{}", std::process::id()));
        fs::create_dir_all(directory.join("version-2")).unwrap();
        fs::write(directory.join("myid"), b"1\n").unwrap();
        fs::write(directory.join("version-2/log.1"), [0; 1000]).unwrap();
        let facts = gather(&directory, &directory.join("none"));
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(facts.data_dir_bytes, 1002);
        assert_eq!(facts.log_dir_bytes, 0);
        assert!(facts.open_files >= 3, "{facts:?}");
        assert!(facts.open_files_max >= facts.open_files, "{facts:?}");
        assert!(facts.memory_bytes > 100_000, "{facts:?}");
    }
}
