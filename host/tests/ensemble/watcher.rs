//! One session changes a znode, others watch it: each change shows itself by an event first, and
//! nobody ever sees an older value after a newer one, whatever servers come and go.

use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::session::Session;
use crate::support::wire::{Acl, Client, flags};

const PATH: &str = "/ticks";
const DATA_CHANGED: i32 = 3;
const PAUSE: Duration = Duration::from_millis(15);
const DYING_TIME_MAX: Duration = Duration::from_secs(2);
/// Reads between two moves to another server.
const STAY: u32 = 60;

/// The threads of one writer and some watchers.
pub(crate) struct Watchers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<u64>>,
}

impl Watchers {
    /// Starts a writer and a watcher for each server.
    pub(crate) fn start(servers: &[SocketAddr]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut writer = Session::open(servers, 0);
        let created = writer
            .attempt(|client| client.create(PATH, Some(b"0"), &Acl::open(), flags::PERSISTENT));
        created.expect("all servers run").unwrap();
        let mut threads = Vec::new();
        let stopped = Arc::clone(&stop);
        threads.push(thread::spawn(move || write(&mut writer, &stopped)));
        for at in 0..servers.len() {
            let mut session = Session::open(servers, at);
            let stopped = Arc::clone(&stop);
            threads.push(thread::spawn(move || watch(&mut session, &stopped)));
        }
        Self { stop, threads }
    }

    pub(crate) fn conclude(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            let count = thread.join().expect("a watcher fares well");
            assert!(count > 0, "a watcher that has seen nothing proves nothing");
        }
    }
}

fn write(session: &mut Session, stop: &AtomicBool) -> u64 {
    let mut value = 0;
    while !stop.load(Ordering::Relaxed) {
        value += 1;
        let text = value.to_string();
        let result = session.attempt(|client| client.set_data(PATH, Some(text.as_bytes()), -1));
        if let Some(Err(code)) = result {
            panic!("setData {PATH}: {code}");
        }
        thread::sleep(PAUSE);
    }
    value
}

/// The number of events it got.
fn watch(session: &mut Session, stop: &AtomicBool) -> u64 {
    let mut events = 0;
    let mut seen = read(session, true);
    let mut reads = 0;
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(PAUSE);
        reads += 1;
        let server_left = session.client.zxid;
        let value = if reads % STAY == 0 {
            session.move_on();
            None
        } else {
            value(session, false)
        };
        let Some(value) = value else {
            // On a new connection watches are the client's to set again.
            rewatch(session, server_left);
            continue;
        };
        assert!(value >= seen, "{value} after {seen}");
        // One, or a second from the next server if the first came with the end of a connection.
        let fired: Vec<_> = session.client.events.drain(..).collect();
        for (kind, path) in &fired {
            assert_eq!((*kind, path.as_str()), (DATA_CHANGED, PATH));
        }
        if fired.is_empty() {
            if value != seen {
                assert!(dies(session), "{value} after {seen}, but no event");
                seen = value;
                rewatch(session, session.client.zxid);
            }
            continue;
        }
        events += 1;
        let place = session.place();
        let after = read(session, true);
        // An event has no zxid that the client could show the next server, which may not have come
        // that far.
        let moved = session.place() != place;
        assert!(
            after > seen || moved && after == seen,
            "an event, but {after} after {seen}"
        );
        assert!(after >= value, "{after} after {value}");
        seen = after;
    }
    events
}

/// Whether the server goes away by itself. An Apache ZooKeeper that gives up its role applies what
/// is in its log, and may show that to a connection which it closes next (seen with 3.9.5, when a
/// leader left).
fn dies(session: &mut Session) -> bool {
    let end = Instant::now() + DYING_TIME_MAX;
    while Instant::now() < end {
        if session.attempt(Client::ping).is_none() {
            return true;
        }
        thread::sleep(PAUSE);
    }
    false
}

fn rewatch(session: &mut Session, mut zxid: i64) {
    loop {
        let set = session.attempt(|client| client.set_data_watches(zxid, &[PATH]));
        match set {
            Some(Ok(())) => return,
            Some(Err(code)) => panic!("setWatches: {code}"),
            // Nothing was seen meanwhile, whatever that server said.
            None => zxid = zxid.min(session.client.zxid),
        }
    }
}

fn read(session: &mut Session, watched: bool) -> u64 {
    loop {
        if let Some(value) = value(session, watched) {
            return value;
        }
    }
}

fn value(session: &mut Session, watched: bool) -> Option<u64> {
    let result = session.attempt(|client| client.data(PATH, watched))?;
    let (data, _) = result.unwrap_or_else(|code| panic!("getData {PATH}: {code}"));
    let text = String::from_utf8(data.unwrap_or_default()).unwrap();
    Some(text.parse().unwrap())
}
