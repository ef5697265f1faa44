//! What server processes use, seen from outside.

use core::time::Duration;
use std::fs;

use super::error::Error;

/// CPU time and memory of one or more processes together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    /// User and system time since they started, to 10 ms.
    pub(super) cpu: Duration,
    pub(super) resident_bytes: u64,
}

/// What `pids` use together.
pub(super) fn usage(pids: &[u32]) -> Result<Usage, Error> {
    let mut sum = Usage::default();
    for &pid in pids {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
        let cpu = read("stat").and_then(|stat| cpu(&stat));
        let resident = read("status").and_then(|status| resident_bytes(&status));
        let (Some(cpu), Some(resident)) = (cpu, resident) else {
            return Err(Error::NoProcess(pid));
        };
        sum.cpu += cpu;
        sum.resident_bytes += resident;
    }
    Ok(sum)
}

/// CPU time of the generator itself; zero where there is no /proc.
pub(super) fn own_cpu() -> Duration {
    fs::read_to_string("/proc/self/stat")
        .ok()
        .and_then(|stat| cpu(&stat))
        .unwrap_or_default()
}

/// utime and stime out of `/proc/PID/stat`. Source: proc_pid_stat(5), fields 14 and 15.
fn cpu(stat: &str) -> Option<Duration> {
    /// USER_HZ is 100 on every architecture that this builds for.
    const TICK: Duration = Duration::from_millis(10);
    // The name before the last ')' may hold anything, blanks and brackets included.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_ascii_whitespace().skip(11);
    let user: u32 = times.next()?.parse().ok()?;
    let system: u32 = times.next()?.parse().ok()?;
    Some(TICK * user.checked_add(system)?)
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_read_behind_a_name_with_brackets() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 123 45 6 7 20 0 9 0 55 1 2";
        assert_eq!(cpu(stat), Some(Duration::from_millis(1680)));
        assert_eq!(cpu("7 (java) S 1 7"), None);
    }

    #[test]
    fn memory_is_the_resident_set() {
        let status = "Name:\tjava\nVmHWM:\t  900 kB\nVmRSS:\t     512 kB\nThreads:\t3\n";
        assert_eq!(resident_bytes(status), Some(512 * 1024));
        assert_eq!(resident_bytes("Name:\tkthreadd\n"), None);
    }

    #[test]
    fn process_that_is_not_there_is_named() {
        assert!(matches!(usage(&[0]), Err(Error::NoProcess(0))));
    }
}
