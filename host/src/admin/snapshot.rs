//! The commands `snapshot` and `last_snapshot`: the files are those that the server writes anyway.

use core::time::Duration;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, UNIX_EPOCH};

use bytes::Bytes;
use hyper::StatusCode;
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use zabra_core::ids::Zxid;
use zabra_core::store::names;

use super::ask::{Asker, NOT_SERVING};
use super::http::{Asked, Content, Reply};
use super::texts::{self, Object};
use crate::config::AdminConfig;

/// How long a snapshot may take to be written.
const WRITING_TIME_MAX: Duration = Duration::from_secs(600);
/// How much of a file is read at once, and how many such pieces wait for a slow reader.
const PIECE_BYTES: usize = 64 * 1024;
const PIECES_MAX: usize = 4;

/// The snapshots of one server.
pub(super) struct Snapshots {
    directory: PathBuf,
    enabled: bool,
    interval: Duration,
    last_asked: Mutex<Option<Instant>>,
}

impl Snapshots {
    /// Those in `directory`, a `version-2`.
    pub(super) fn new(config: &AdminConfig, directory: PathBuf) -> Self {
        Self {
            directory,
            enabled: config.snapshots,
            interval: config.rate_interval,
            last_asked: Mutex::default(),
        }
    }

    /// Which snapshot is the newest, and since when. Source: `LastSnapshotCommand`.
    pub(super) fn last(&self) -> Object {
        let newest = newest(&self.directory);
        let zxid = newest.as_ref().map_or(-1, |(zxid, _)| zxid.0);
        let written = newest.and_then(|(_, path)| path.metadata().ok()?.modified().ok());
        let since = written.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let ms = since.map_or(-1, |since| i64::try_from(since.as_millis()).unwrap_or(-1));
        [
            ("zxid", format!("{zxid:x}").into()),
            ("timestamp", ms.into()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into_iter()
        .collect()
    }

    /// Has a snapshot made of the state as it is, or becomes meanwhile, and streams its file.
    ///
    /// Source: `SnapshotCommand`.
    pub(super) async fn take(
        &self,
        asker: &Asker,
        asked: &Asked,
    ) -> Result<Reply, (StatusCode, String)> {
        if !self.enabled {
            let text = "Snapshot command is disabled (admin.snapshot.enabled)";
            return Err((StatusCode::SERVICE_UNAVAILABLE, text.to_owned()));
        }
        if !self.admits() {
            let text = format!(
                "Rate limit exceeded: one snapshot in {} ms (admin.rateLimiterIntervalInMS)",
                self.interval.as_millis()
            );
            return Err((StatusCode::TOO_MANY_REQUESTS, text));
        }
        let done = asker.snapshots();
        let told = asker.ask("snap").await;
        let told = told.map_err(|why| (StatusCode::SERVICE_UNAVAILABLE, why.to_string()))?;
        let Some(least) = texts::zxid(&told) else {
            return Err((StatusCode::SERVICE_UNAVAILABLE, NOT_SERVING.to_owned()));
        };
        let failed = |text: String| (StatusCode::INTERNAL_SERVER_ERROR, text);
        let zxid = written(done, Zxid(least)).await.map_err(failed)?;
        let (zxid, file, bytes) = open(&self.directory, zxid)
            .map_err(|error| failed(format!("the snapshot {zxid} was written, but: {error}")))?;
        let wanted = asked.parameter("streaming");
        let streams = wanted.is_none_or(|wanted| wanted.eq_ignore_ascii_case("true"));
        let mut reply = if streams {
            Reply {
                status: StatusCode::OK,
                content_type: "application/octet-stream",
                headers: Vec::new(),
                content: Content::File(pieces(file), bytes),
            }
        } else {
            let text = "{\n  \"command\": \"snapshot\",\n  \"error\": null\n}\n";
            Reply::new(StatusCode::OK, "application/json", text)
        };
        reply.headers.push(("last_zxid", format!("0x{:x}", zxid.0)));
        reply.headers.push(("snapshot_size", bytes.to_string()));
        Ok(reply)
    }

    /// Whether enough time has passed since the last.
    fn admits(&self) -> bool {
        let mut last = self
            .last_asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let admitted = last.is_none_or(|last| last.elapsed() >= self.interval);
        if admitted {
            *last = Some(Instant::now());
        }
        admitted
    }
}

/// Waits for a snapshot that is not older than `least`.
async fn written(mut done: watch::Receiver<Option<Zxid>>, least: Zxid) -> Result<Zxid, String> {
    let written = done.wait_for(|zxid| zxid.is_some_and(|zxid| zxid >= least));
    match timeout(WRITING_TIME_MAX, written).await {
        Ok(Ok(zxid)) => Ok(zxid.unwrap_or(least)),
        Ok(Err(_)) => Err("the server is stopping".to_owned()),
        Err(_) => Err(format!(
            "no snapshot was written in {} seconds; the log says why",
            WRITING_TIME_MAX.as_secs()
        )),
    }
}

/// The newest snapshot of a directory.
fn newest(directory: &Path) -> Option<(Zxid, PathBuf)> {
    let entries = directory.read_dir().ok()?.flatten();
    let snapshots = entries.filter_map(|entry| {
        let name = entry.file_name();
        let (zxid, _) = names::parse_snapshot(name.to_str()?)?;
        Some((zxid, entry.path()))
    });
    snapshots.max()
}

/// The file of a snapshot, or of a newer one: the machine may have made several.
fn open(directory: &Path, least: Zxid) -> io::Result<(Zxid, File, u64)> {
    let (zxid, path) = newest(directory)
        .filter(|(zxid, _)| *zxid >= least)
        .ok_or(io::ErrorKind::NotFound)?;
    let file = File::open(path)?;
    let bytes = file.metadata()?.len();
    Ok((zxid, file, bytes))
}

/// Reads a file on a thread that may wait for the disk.
fn pieces(mut file: File) -> mpsc::Receiver<io::Result<Bytes>> {
    let (sender, pieces) = mpsc::channel(PIECES_MAX);
    spawn_blocking(move || {
        loop {
            let mut piece = vec![0; PIECE_BYTES];
            let read = match file.read(&mut piece) {
                Ok(0) => return,
                Ok(read) => read,
                Err(error) => {
                    let _ = sender.blocking_send(Err(error));
                    return;
                }
            };
            piece.truncate(read);
            if sender.blocking_send(Ok(piece.into())).is_err() {
                // Nobody reads any more.
                return;
            }
        }
    });
    pieces
}
