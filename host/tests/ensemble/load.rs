//! Sessions that write, move between servers, and remember what they were told.

use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::history::{History, verify_zxids};
use crate::session::Session;
use crate::support::tree::Tree;
use crate::support::wire::{Acl, Op, flags};
use crate::watcher::Watchers;

const SESSIONS: usize = 4;
const PAUSE: Duration = Duration::from_millis(4);
/// Writes between two moves to another server.
const STAY: u64 = 45;
const PROGRESS_TIME_MAX: Duration = Duration::from_secs(40);
/// Nothing is to grow without bound should a test hang.
const WRITES_MAX: u64 = 200_000;
const NO_NODE: i32 = -101;

/// Writers and watchers.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    writers: Vec<Writer>,
    watchers: Watchers,
}

struct Writer {
    acknowledged: Arc<AtomicU64>,
    thread: JoinHandle<(History, Session)>,
}

/// The load's end: its sessions are still open.
pub(crate) struct Account {
    histories: Vec<History>,
    sessions: Vec<Session>,
}

impl Load {
    /// Starts the sessions, each of which uses all of these servers.
    pub(crate) fn start(servers: &[SocketAddr]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let watchers = Watchers::start(servers);
        let writers = (0..SESSIONS).map(|number| {
            let acknowledged = Arc::new(AtomicU64::new(0));
            let mut run = Run::new(Session::open(servers, number), number);
            let (stop, count) = (Arc::clone(&stop), Arc::clone(&acknowledged));
            let thread = thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) && run.number < WRITES_MAX {
                    run.step();
                    let done = u64::try_from(run.history.acknowledged()).unwrap();
                    count.store(done, Ordering::Relaxed);
                    thread::sleep(PAUSE);
                }
                (run.history, run.session)
            });
            Writer {
                acknowledged,
                thread,
            }
        });
        let writers = writers.collect();
        Self {
            stop,
            writers,
            watchers,
        }
    }

    /// Waits until each session has had so many more writes acknowledged.
    pub(crate) fn go_on_for(&self, writes: u64) {
        let count = |writer: &Writer| writer.acknowledged.load(Ordering::Relaxed);
        let wanted: Vec<_> = self.writers.iter().map(|w| count(w) + writes).collect();
        let end = Instant::now() + PROGRESS_TIME_MAX;
        for (writer, wanted) in self.writers.iter().zip(wanted) {
            while count(writer) < wanted {
                assert!(!writer.thread.is_finished(), "a writer has given up");
                assert!(
                    Instant::now() < end,
                    "{} writes are acknowledged, not {wanted}",
                    count(writer)
                );
                thread::sleep(PAUSE);
            }
        }
    }

    pub(crate) fn conclude(self) -> Account {
        self.stop.store(true, Ordering::Relaxed);
        let ends = self.writers.into_iter().map(|writer| writer.thread.join());
        let ends: Vec<_> = ends.map(|end| end.expect("a writer fares well")).collect();
        self.watchers.conclude();
        let (histories, sessions) = ends.into_iter().unzip();
        Account {
            histories,
            sessions,
        }
    }
}

impl Account {
    /// Fails unless this tree has all that was acknowledged, and every session.
    pub(crate) fn verify(&self, tree: &Tree) {
        let mut counts = Vec::new();
        for (number, (history, session)) in self.histories.iter().zip(&self.sessions).enumerate() {
            history.verify(tree);
            let path = format!("{}/ephemeral", root(number));
            let znode = tree.get(&path).unwrap_or_else(|| panic!("{path} is gone"));
            assert_eq!(znode.stat.ephemeral_owner, session.id(), "{path}");
            counts.push((history.acknowledged(), history.unknown()));
        }
        verify_zxids(&self.histories);
        eprintln!("writes of each session, acknowledged and unknown: {counts:?}");
    }

    /// Ends the sessions: what they own is to vanish, everywhere.
    pub(crate) fn close(self) -> Vec<String> {
        let paths = (0..self.sessions.len()).map(|number| format!("{}/ephemeral", root(number)));
        let paths = paths.collect();
        for mut session in self.sessions {
            // The last server may be gone by now.
            session.move_on();
            session.client.close().unwrap();
        }
        paths
    }
}

fn root(number: usize) -> String {
    format!("/writer-{number}")
}

/// One session at work.
struct Run {
    session: Session,
    history: History,
    root: String,
    number: u64,
}

impl Run {
    /// Makes the session's own place, while all servers run.
    fn new(mut session: Session, number: usize) -> Self {
        let root = root(number);
        let mut history = History::new(session.id(), &root);
        let nodes = [
            (root.clone(), flags::PERSISTENT),
            (format!("{root}/ephemeral"), flags::EPHEMERAL),
            (format!("{root}/queue"), flags::PERSISTENT),
            (format!("{root}/counter"), flags::PERSISTENT),
        ];
        for (path, flags) in nodes {
            let created =
                session.attempt(|client| client.create(&path, Some(b"0"), &Acl::open(), flags));
            created.expect("all servers run").unwrap();
            let zxid = session.client.zxid;
            history.write(&[(&path, Some(b"0"))], Some(zxid));
        }
        Self {
            session,
            history,
            root,
            number: 0,
        }
    }

    fn step(&mut self) {
        self.number += 1;
        match self.number % 6 {
            0 => self.create_sequential(),
            1 => self.set(),
            2 => self.multi(),
            3 => self.create(),
            4 => self.delete(),
            _ => self.read(),
        }
        if self.number.is_multiple_of(STAY) {
            self.session.move_on();
            self.read();
        }
    }

    fn create_sequential(&mut self) {
        let path = self.history.items();
        let data = self.number.to_string();
        let sequential = flags::SEQUENTIAL;
        let result = self.session.attempt(|client| {
            client.create(&path, Some(data.as_bytes()), &Acl::open(), sequential)
        });
        let path = result.map(|result| expect(result, "create"));
        let acknowledged = path.map(|path| (path, self.session.client.zxid));
        self.history
            .create_sequential(data.as_bytes(), acknowledged);
    }

    fn set(&mut self) {
        let path = self.counter();
        let data = self.number.to_string();
        let result = self
            .session
            .attempt(|client| client.set_data(&path, Some(data.as_bytes()), -1));
        let zxid = self.zxid(result, "setData");
        self.history.write(&[(&path, Some(data.as_bytes()))], zxid);
    }

    /// Sets the counter and creates a znode, both or none.
    fn multi(&mut self) {
        let (counter, path) = (self.counter(), format!("{}/m{}", self.root, self.number));
        let data = self.number.to_string();
        let data = Some(data.as_bytes());
        let parts = [
            Op::SetData {
                path: &counter,
                data,
                version: -1,
            },
            Op::Create {
                path: &path,
                data,
                flags: flags::PERSISTENT,
            },
        ];
        let result = self.session.attempt(|client| client.multi(&parts));
        if let Some(Ok(codes)) = &result {
            assert_eq!(codes, &[0, 0], "multi");
        }
        let zxid = self.zxid(result, "multi");
        self.history.write(&[(&counter, data), (&path, data)], zxid);
    }

    fn create(&mut self) {
        let path = format!("{}/c{}", self.root, self.number);
        let data = self.number.to_string();
        let data = Some(data.as_bytes());
        let result = self
            .session
            .attempt(|client| client.create(&path, data, &Acl::open(), flags::PERSISTENT));
        let zxid = self.zxid(result, "create");
        self.history.write(&[(&path, data)], zxid);
    }

    /// Deletes every second of those that `create` has made.
    fn delete(&mut self) {
        if self.number % 12 < 6 {
            return;
        }
        let path = format!("{}/c{}", self.root, self.number - 1);
        let uncertain = self.history.possible(&path).contains(&None);
        let result = match self.session.attempt(|client| client.delete(&path, -1)) {
            // Nobody knew whether the create was done. It is not there, and cannot come later.
            Some(Err(NO_NODE)) if uncertain => Some(Ok(())),
            result => result,
        };
        let zxid = self.zxid(result, "delete");
        self.history.write(&[(&path, None)], zxid);
    }

    /// What was acknowledged is there, whatever server is asked.
    fn read(&mut self) {
        let path = self.counter();
        let Some(result) = self.session.attempt(|client| client.data(&path, false)) else {
            return;
        };
        let (data, _) = expect(result, "getData");
        let possible = self.history.possible(&path);
        assert!(
            possible.contains(&data),
            "{path}: {data:?} is not one of {possible:?}"
        );
    }

    fn counter(&self) -> String {
        format!("{}/counter", self.root)
    }

    /// The zxid of what was acknowledged.
    fn zxid<T>(&self, result: Option<Result<T, i32>>, what: &str) -> Option<i64> {
        expect(result?, what);
        Some(self.session.client.zxid)
    }
}

/// No write of a session's own can be refused.
fn expect<T>(result: Result<T, i32>, what: &str) -> T {
    result.unwrap_or_else(|code| panic!("{what}: {code}"))
}
