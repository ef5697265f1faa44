//! A server of a local ensemble as a process of its own.

use core::time::Duration;
use std::env;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Instant;

/// How long a server may take to end: it finishes what it has been handed.
const STOP_TIME_MAX: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);
const LOG_LINES_SHOWN: usize = 10;

/// A process that ends with its owner, however the owner ends.
///
/// The process holds one end of a pipe and stops in good order when the other is closed, which the
/// system does even if the owner is killed: see `zabra server --exit-with-stdin`. It is in a
/// process group of its own, because a Ctrl-C is for its owner.
pub(super) struct Process {
    child: Child,
    log: PathBuf,
    /// How much was in the log before.
    log_begin: u64,
}

impl Process {
    /// Starts a server of this configuration; its output is appended to `log`.
    pub(super) fn start(config: &Path, log: &Path) -> io::Result<Self> {
        let output = File::options().create(true).append(true).open(log)?;
        let log_begin = output.metadata()?.len();
        let mut command = Command::new(env::current_exe()?);
        // They are settings, and would be the same for every server.
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            let setting = text.starts_with("ZABRA_") || text.starts_with("ZOO_");
            if setting && !text.starts_with("ZABRA_LOG_") {
                command.env_remove(&name);
            }
        }
        let child = command
            .args(["server", "--exit-with-stdin", "--config"])
            .arg(config)
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()?;
        Ok(Self {
            child,
            log: log.to_owned(),
            log_begin,
        })
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// The last lines of what it has logged since it was started, and where they are.
    pub(super) fn last_words(&self) -> String {
        let place = self.log.display();
        let text = match fs::read(&self.log) {
            Ok(bytes) => bytes,
            Err(error) => return format!("its log {place} cannot be read: {error}"),
        };
        let begin = usize::try_from(self.log_begin).unwrap_or(0);
        let text = String::from_utf8_lossy(text.get(begin..).unwrap_or_default()).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        if lines.is_empty() {
            return format!("it has logged nothing to {place}");
        }
        let skip = lines.len().saturating_sub(LOG_LINES_SHOWN);
        let mut words = format!("the end of its log {place}:");
        for line in lines.iter().skip(skip) {
            words += &format!("\n    {line}");
        }
        words
    }

    /// Tells it to stop.
    pub(super) fn stop(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Waits until it has stopped; kills it if that takes too long, and says so.
    pub(super) fn wait(mut self) -> Result<(), String> {
        let end = Instant::now() + STOP_TIME_MAX;
        loop {
            match self.child.try_wait() {
                Ok(Some(_)) => return Ok(()),
                Ok(None) if Instant::now() < end => thread::sleep(POLL),
                // Dropping it kills it.
                Ok(None) => {
                    let seconds = STOP_TIME_MAX.as_secs();
                    return Err(format!(
                        "had not stopped within {seconds} s and was killed; {}",
                        self.last_words()
                    ));
                }
                Err(error) => return Err(format!("cannot be waited for: {error}")),
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It fails if the process has ended, which is what is wanted.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// How a process ended, as a clause.
pub(super) fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(9)) => "was killed (signal 9)".to_owned(),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => format!("ended: {status}"),
    }
}
