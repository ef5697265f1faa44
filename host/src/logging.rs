//! The log: lines on standard error for people, or JSON objects for programs.
//!
//! A peer must not be able to fill the disk, so what strangers can cause at will is limited, and
//! must not be able to forge lines, so what strangers wrote is quoted.

use core::time::Duration;
use std::{io, time::Instant};

use tracing::{Level, Subscriber, debug, error, info, level_filters::LevelFilter, warn};
use tracing_subscriber::fmt::MakeWriter;
use zabra_core::{ids::SessionId, link::Port, server::Event, zab};

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
    sasl_failed: Limit,
    sessions_expired: Limit,
    sessions_refused: Limit,
    trees_full: Limit,
    zab: ZabLog,
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
            Event::SaslFailed { peer, reason } => {
                if self.sasl_failed.admits(now, "SASL failed") {
                    let reason = reason.as_str();
                    warn!(%peer, reason, "SASL failed, and the client goes on as nobody");
                }
            }
            Event::TreeFull { used, max } => {
                if self.trees_full.admits(now, "tree full") {
                    let help = "delete znodes, or raise zabra.treeBytesMax on every server";
                    warn!(used, max, help, "writes that add to the tree are refused");
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
            Event::Zab(event) => self.zab.log(event, now),
            Event::Membership { text } => {
                info!(servers = text.as_str(), "a membership is in force");
            }
            // Nobody's business but that of who asked, and of the audit log.
            Event::Told { .. } | Event::Audited { .. } => {}
            // The enum may grow: a kind without words of its own is still worth a line for those
            // who look.
            other => debug!(event = ?other, "event"),
        }
    }
}

/// Turns what happens between the servers of an ensemble into lines. Even peers that are no
/// strangers come and go as often as the network lets them.
#[derive(Debug, Default)]
struct ZabLog {
    elected: Limit,
    learners_lost: Limit,
    learners_synced: Limit,
    notices: Limit,
    peers_refused: Limit,
    /// Why the last role was given up.
    reason: String,
    reasons: Limit,
    roles_lost: Limit,
    synced: Limit,
}

impl ZabLog {
    fn log(&mut self, event: &zab::Event, now: Instant) {
        match event {
            zab::Event::PeerRefused { peer, port, reason } => {
                if self.peers_refused.admits(now, "peer refused") {
                    let port = match port {
                        Port::Client => "client",
                        Port::Election => "election",
                        Port::Quorum => "quorum",
                    };
                    warn!(%peer, port, reason = reason.as_str(), "peer refused");
                }
            }
            zab::Event::Elected {
                leader,
                zxid,
                round,
                took_ms,
            } => {
                if self.elected.admits(now, "leader elected") {
                    info!(%leader, %zxid, round, milliseconds = took_ms, "leader elected");
                }
            }
            zab::Event::RoleLost { reason } => {
                // Some are said once and decide what follows (that a snapshot is asked for): a
                // storm of another one must not hide them.
                let limit = if *reason == self.reason {
                    &mut self.roles_lost
                } else {
                    self.reason.clone_from(reason);
                    &mut self.reasons
                };
                if limit.admits(now, "role given up") {
                    warn!(reason = reason.as_str(), "role given up");
                }
            }
            zab::Event::Synced { how } => {
                if self.synced.admits(now, "in step with the ensemble") {
                    info!(how = how.as_str(), "in step with the ensemble");
                }
            }
            zab::Event::LearnerSynced { learner, how } => {
                if self.learners_synced.admits(now, "learner in step") {
                    info!(%learner, how = how.as_str(), "learner in step");
                }
            }
            zab::Event::LearnerLost { learner, reason } => {
                if self.learners_lost.admits(now, "learner lost") {
                    warn!(%learner, reason = reason.as_str(), "learner lost");
                }
            }
            zab::Event::Notice(text) => {
                if self.notices.admits(now, "notice") {
                    info!(text = text.as_str(), "notice");
                }
            }
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

    use zabra_core::ids::{ServerId, Zxid};

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
    fn ensemble_has_lines_of_its_own() {
        let leader = ServerId(2);
        let events = [
            zab::Event::PeerRefused {
                peer: peer(),
                port: Port::Election,
                reason: "it says it is server 9".to_owned(),
            },
            zab::Event::Elected {
                leader,
                zxid: Zxid(0x10),
                round: 3,
                took_ms: 250,
            },
            zab::Event::RoleLost {
                reason: "no word from the leader for 10000 ms".to_owned(),
            },
            zab::Event::Synced {
                how: "DIFF of 4 transactions".to_owned(),
            },
            zab::Event::LearnerSynced {
                learner: leader,
                how: "SNAP of 120 MB".to_owned(),
            },
            zab::Event::LearnerLost {
                learner: leader,
                reason: "it closed the connection".to_owned(),
            },
            zab::Event::Notice("as it is".to_owned()),
        ];
        let log = |log: &mut EventLog| {
            for event in events.clone() {
                log.log(&Event::Zab(event), Instant::now());
            }
        };
        assert_eq!(
            lines(Format::Text, Level::INFO, log),
            [
                "WARN peer refused peer=10.0.0.1:4000 port=\"election\" reason=\"it says it is \
                 server 9\"",
                "INFO leader elected leader=2 zxid=0x10 round=3 milliseconds=250",
                "WARN role given up reason=\"no word from the leader for 10000 ms\"",
                "INFO in step with the ensemble how=\"DIFF of 4 transactions\"",
                "INFO learner in step learner=2 how=\"SNAP of 120 MB\"",
                "WARN learner lost learner=2 reason=\"it closed the connection\"",
                "INFO notice text=\"as it is\"",
            ]
        );
    }

    #[test]
    fn peer_that_comes_and_goes_cannot_fill_the_disk() {
        let start = Instant::now();
        let lines = lines(Format::Text, Level::INFO, |log| {
            for n in 0..1000 {
                let lost = zab::Event::LearnerLost {
                    learner: ServerId(3),
                    reason: "it closed the connection".to_owned(),
                };
                log.log(&Event::Zab(lost), start + Duration::from_micros(n));
            }
        });
        assert_eq!(lines.len(), 10, "{lines:?}");
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
    fn flood_of_one_reason_does_not_hide_another() {
        let start = Instant::now();
        let lost = |reason: &str| {
            Event::Zab(zab::Event::RoleLost {
                reason: reason.to_owned(),
            })
        };
        let lines = lines(Format::Text, Level::INFO, |log| {
            for n in 0..1000 {
                log.log(&lost("found TRUNC"), start + Duration::from_micros(n));
            }
            log.log(&lost("the leader cuts"), start + Duration::from_millis(2));
            for n in 0..1000 {
                log.log(&lost(&n.to_string()), start + Duration::from_millis(3));
            }
        });
        // One was the first of its kind, ten more the like of it; of those that differ, ten.
        assert_eq!(lines.len(), 20, "{lines:?}");
        assert_eq!(
            lines.get(11).map(String::as_str),
            Some("WARN role given up reason=\"the leader cuts\"")
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
