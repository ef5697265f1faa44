//! The log: lines on standard error for people, or JSON objects for programs.
//!
//! A peer must not be able to fill the disk, so what strangers can cause at will is limited, and
//! must not be able to forge lines, so what strangers wrote is quoted.

use core::time::Duration;
use std::{io, time::Instant};

use tracing::{Level, Subscriber, debug, error, info, level_filters::LevelFilter, warn};
use tracing_subscriber::fmt::MakeWriter;
use zabra_core::{ids::SessionId, server::Event};

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// Time (UTC), level, message, `key=value` fields.
    #[default]
    Text,
}

/// Lines of one kind that strangers can cause, per [`WINDOW`]. The first of each window say what it
/// is about; more of the same say nothing new.
const LINES_PER_WINDOW_MAX: u32 = 10;

const WINDOW: Duration = Duration::from_secs(1);

/// Makes standard error the log of this process. Does nothing if there is a log already.
pub fn init(format: Format, level: Level) {
    let subscriber = subscriber(format, level, io::stderr);
    // An embedding program that set up its own log keeps it.
    let _already_set = tracing::subscriber::set_global_default(subscriber);
}

/// What writes lines of at least this level to `writer`.
pub fn subscriber<W>(format: Format, level: Level, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::from_level(level))
        .with_target(false)
        .with_ansi(false)
        // It would complain about a closed standard error on standard error, and panic.
        .log_internal_errors(false)
        .with_writer(writer);
    match format {
        Format::Json => Box::new(
            builder
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false)
                .finish(),
        ),
        Format::Text => Box::new(builder.finish()),
    }
}

/// Turns a server's events into lines.
#[derive(Debug, Default)]
pub struct EventLog {
    links_refused: Limit,
    quotas_exceeded: Limit,
    sessions_expired: Limit,
    sessions_refused: Limit,
}

impl EventLog {
    /// Logs one event that happened at `now`.
    pub fn log(&mut self, event: &Event, now: Instant) {
        match event {
            Event::LinkRefused { peer, reason } => {
                if self.links_refused.admits(now, "connection refused") {
                    warn!(%peer, reason = reason.as_str(), "connection refused");
                }
            }
            Event::SessionRefused { session, peer } => {
                if self.sessions_refused.admits(now, "session refused") {
                    let reason = "it is not there, or the password is wrong";
                    info!(%session, %peer, reason, "session refused");
                }
            }
            Event::SessionExpired { session } => {
                if self.sessions_expired.admits(now, "session expired") {
                    info!(%session, "session expired");
                }
            }
            Event::SnapshotFailed { zxid } => warn!(%zxid, "snapshot failed"),
            Event::OrphanDeleted { path } => {
                warn!(
                    path = path.as_str(),
                    "an ephemeral znode without session was deleted"
                );
            }
            Event::QuotaExceeded { path } => {
                if self.quotas_exceeded.admits(now, "quota exceeded") {
                    warn!(path = path.as_str(), "quota exceeded");
                }
            }
            Event::SessionOpened {
                session,
                timeout_ms,
                peer,
            } => debug!(%session, timeout_ms, %peer, "session opened"),
            Event::SessionResumed { session, peer } => {
                debug!(%session, %peer, "session resumed");
            }
            Event::SessionClosed { session } => closed(*session),
            Event::SnapshotBegun { zxid } => info!(%zxid, "snapshot begun"),
            Event::SnapshotDone { zxid } => info!(%zxid, "snapshot done"),
            Event::DigestMismatch { zxid } => {
                error!(%zxid, "after this transaction the state differs from the log's digest");
            }
            // The enum may grow: a kind without words of its own is still worth a line for those
            // who look.
            other => debug!(event = ?other, "event"),
        }
    }
}

fn closed(session: SessionId) {
    debug!(%session, "session closed");
}

/// Lets so many lines of one kind through per window, and counts the others.
#[derive(Debug, Default)]
struct Limit {
    window_began: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl Limit {
    /// Whether a line may be written; says how many were left out once a new window begins.
    fn admits(&mut self, now: Instant, kind: &'static str) -> bool {
        let goes_on = self
            .window_began
            .is_some_and(|began| now.saturating_duration_since(began) < WINDOW);
        if !goes_on {
            if self.left_out > 0 {
                warn!(
                    kind,
                    left_out = self.left_out,
                    "too many lines of this kind"
                );
            }
            *self = Self {
                window_began: Some(now),
                ..Self::default()
            };
        }
        if self.lines == LINES_PER_WINDOW_MAX {
            self.left_out += 1;
            return false;
        }
        self.lines += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::unwrap_used,
        reason = "a test may stop at what it did not expect"
    )]

    use core::net::SocketAddr;
    use std::sync::{Arc, Mutex};

    use zabra_core::ids::Zxid;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines that come of it, each without its time.
    fn lines(format: Format, level: Level, log: impl FnOnce(&mut EventLog)) -> Vec<String> {
        let buffer = Lines::default();
        let writer = buffer.clone();
        let subscriber = subscriber(format, level, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || log(&mut EventLog::default()));
        let bytes = buffer.0.lock().unwrap().clone();
        String::from_utf8(bytes)
            .unwrap()
            .lines()
            .map(|line| match format {
                Format::Json => line.to_owned(),
                Format::Text => line.split_once("Z ").unwrap().1.trim().to_owned(),
            })
            .collect()
    }

    fn peer() -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], 4000))
    }

    fn refused(reason: &str) -> Event {
        Event::LinkRefused {
            peer: peer(),
            reason: reason.to_owned(),
        }
    }

    #[test]
    fn events_have_level_message_and_fields() {
        let now = Instant::now();
        let session = SessionId(0x1a);
        let log = |log: &mut EventLog| {
            for event in [
                refused("frame length 9 is over the limit of 8"),
                Event::SessionOpened {
                    session,
                    timeout_ms: 4000,
                    peer: peer(),
                },
                Event::SessionExpired { session },
                Event::SnapshotDone { zxid: Zxid(0x20) },
                Event::DigestMismatch { zxid: Zxid(0x21) },
            ] {
                log.log(&event, now);
            }
        };
        assert_eq!(
            lines(Format::Text, Level::DEBUG, log),
            [
                "WARN connection refused peer=10.0.0.1:4000 reason=\"frame length 9 is over \
                 the limit \
                 of 8\"",
                "DEBUG session opened session=0x1a timeout_ms=4000 peer=10.0.0.1:4000",
                "INFO session expired session=0x1a",
                "INFO snapshot done zxid=0x20",
                "ERROR after this transaction the state differs from the log's digest \
                 zxid=0x21",
            ]
        );
        assert_eq!(lines(Format::Text, Level::WARN, log).len(), 2);
    }

    #[test]
    fn json_is_one_object_a_line() {
        let lines = lines(Format::Json, Level::INFO, |log| {
            log.log(&refused("it said \"\n\""), Instant::now());
        });
        let [line] = lines.as_slice() else {
            panic!("expected one line, found {lines:?}");
        };
        assert!(line.starts_with("{\"timestamp\":\"20"), "{line}");
        let rest = "\"level\":\"WARN\",\"message\":\"connection refused\",\"peer\":\"10.0.0.1:4000\",\
                    \"reason\":\"it said \\\"\\n\\\"\"}";
        assert!(line.ends_with(rest), "{line}");
    }

    #[test]
    fn stranger_cannot_forge_a_line() {
        let lines = lines(Format::Text, Level::INFO, |log| {
            log.log(
                &refused("x\n2026-01-01T00:00:00Z ERROR forged \u{1b}[31m"),
                Instant::now(),
            );
        });
        assert_eq!(
            lines,
            [
                "WARN connection refused peer=10.0.0.1:4000 reason=\"x\\n2026-01-01T00:00:00Z \
                 ERROR forged \
              \\u{1b}[31m\""
            ]
        );
    }

    #[test]
    fn flood_of_refusals_is_ten_lines_a_second_and_a_count() {
        let start = Instant::now();
        let lines = lines(Format::Text, Level::INFO, |log| {
            for n in 0..1000 {
                log.log(&refused("bad"), start + Duration::from_micros(n));
            }
            // Another kind has a budget of its own.
            log.log(
                &Event::SessionExpired {
                    session: SessionId(1),
                },
                start,
            );
            log.log(&refused("later"), start + WINDOW);
        });
        assert_eq!(lines.len(), 13, "{lines:?}");
        assert_eq!(
            lines.get(10..),
            Some(
                [
                    "INFO session expired session=0x1".to_owned(),
                    "WARN too many lines of this kind kind=\"connection refused\" left_out=990"
                        .to_owned(),
                    "WARN connection refused peer=10.0.0.1:4000 reason=\"later\"".to_owned(),
                ]
                .as_slice()
            )
        );
    }
}
