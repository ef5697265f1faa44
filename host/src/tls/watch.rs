//! What happens to certificates while a server runs: their files change, their time runs out.

use core::time::Duration;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tracing::{info, warn};

use super::context::Context;

/// How often files are looked at: two or three `stat`s.
const LOOK_EVERY: Duration = Duration::from_secs(1);

const WARN_EVERY: Duration = Duration::from_secs(24 * 3600);

/// Certificates that end within this time are worth a warning.
const WARN_DAYS: i64 = 30;

const DAY_SECONDS: i64 = 24 * 3600;

/// When certificates end, for whoever tells it on. A clone is the same.
#[derive(Clone, Debug, Default)]
pub struct Expiry(Arc<[Arc<Context>]>);

impl Expiry {
    /// Of all these.
    pub fn new(contexts: impl IntoIterator<Item = Arc<Context>>) -> Self {
        Self(contexts.into_iter().collect())
    }

    /// Seconds until the first of this server's own certificates ends, negative if it has; `None`
    /// without TLS.
    pub fn seconds(&self) -> Option<i64> {
        self.0.iter().map(|context| left(context.ends())).min()
    }

    /// The same of each kind of port, by what its settings begin with: `ssl.`, `ssl.quorum.`.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, i64)> {
        let each = self.0.iter();
        each.map(|context| (context.config().prefix, left(context.ends())))
    }
}

fn left(ends: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default().as_secs();
    ends.saturating_sub(i64::try_from(now).unwrap_or(i64::MAX))
}

/// A thread that reads files again when they change, where that is on, and warns of certificates
/// that end, until it is dropped.
#[derive(Debug)]
pub struct Watch {
    expiry: Expiry,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Over these; warns at once if there is reason.
    ///
    /// # Errors
    ///
    /// The system gives no thread.
    pub fn start(contexts: Vec<Arc<Context>>) -> std::io::Result<Self> {
        if contexts.is_empty() {
            return Ok(Self {
                expiry: Expiry::default(),
                stop: None,
                thread: None,
            });
        }
        let expiry = Expiry::new(contexts.clone());
        let (stop, stopped) = channel();
        let mut watched: Vec<Watched> = contexts.into_iter().map(Watched::new).collect();
        let reload = watched
            .iter()
            .any(|watched| watched.context.config().reload);
        let pause = if reload { LOOK_EVERY } else { WARN_EVERY };
        let thread = thread::Builder::new().name("certificates".into());
        let thread = thread.spawn(move || {
            loop {
                watched.iter_mut().for_each(Watched::look);
                if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        })?;
        Ok(Self {
            expiry,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// When the certificates that it watches end.
    pub fn expiry(&self) -> Expiry {
        self.expiry.clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // It says nothing by how it ends.
            let _ = thread.join();
        }
    }
}

struct Watched {
    context: Arc<Context>,
    stamps: super::context::Stamps,
    warned: Option<Instant>,
}

impl Watched {
    fn new(context: Arc<Context>) -> Self {
        Self {
            stamps: context.stamps().0,
            context,
            warned: None,
        }
    }

    fn look(&mut self) {
        if self.context.config().reload {
            self.reload();
        }
        let due = self
            .warned
            .is_none_or(|warned| warned.elapsed() >= WARN_EVERY);
        if due {
            self.warned = Some(Instant::now());
            self.warn_of_end();
        }
    }

    fn reload(&mut self) {
        // Taken before the files are read: what changes meanwhile is read again.
        let (_, stamps) = self.context.stamps();
        if stamps == self.stamps {
            return;
        }
        self.stamps = stamps;
        let prefix = self.context.config().prefix;
        match self.context.reload() {
            Ok(()) => {
                info!("certificates of {prefix}* read again; they count for new connections");
                self.warned = None;
            }
            Err(error) => warn!("{error}; the certificates that were read before stay in use"),
        }
    }

    fn warn_of_end(&self) {
        let left = left(self.context.ends());
        let path = self.context.config().key_store.path.display();
        if left < 0 {
            warn!("{path}: a certificate of this server has ended: nobody who checks it connects");
        } else if left < WARN_DAYS * DAY_SECONDS {
            let days = left / DAY_SECONDS;
            warn!("{path}: a certificate of this server ends in {days} days");
        }
    }
}
