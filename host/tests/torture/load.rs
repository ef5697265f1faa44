//! What clients do all the time.

use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use super::client::{Client, Entry, Request};
use super::membership::CONFIG;
use super::random::Random;

/// Some sessions survive most faults, others expire.
const TIMEOUTS_MS: [i32; 3] = [3_000, 6_000, 20_000];
const PAUSE_MS: (u64, u64) = (1, 25);
const RETRY_PAUSE: Duration = Duration::from_millis(100);
const REGISTERS: usize = 4;
/// Znodes that a client keeps before it deletes the oldest.
const KEPT_MAX: usize = 40;
/// Requests of one client in flight.
const BURST_MAX: usize = 60;
const LONG_DATA_BYTES: usize = 6_000;

/// The two that always have the same data.
const TWINS: [&str; 2] = ["/m/a", "/m/b"];

/// What is there before the clients come.
pub(crate) fn first_paths() -> Vec<String> {
    let fixed = ["/r", "/c", "/e", "/m", "/m/a", "/m/b"];
    let fixed = fixed.into_iter().map(str::to_owned);
    fixed.chain((0..REGISTERS).map(register)).collect()
}

fn register(number: usize) -> String {
    format!("/r/{number}")
}

/// Clients at work.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Vec<Entry>>>,
}

impl Load {
    pub(crate) fn start(clients: usize, servers: &[SocketAddr], random: &mut Random) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let written = Arc::new(AtomicU64::new(0));
        let threads = (0..clients).map(|number| {
            let timeout_ms = random.pick(&TIMEOUTS_MS);
            let mut worker = Worker {
                name: format!("w{number}"),
                client: Client::new(timeout_ms, false),
                random: random.fork(),
                servers: servers.to_vec(),
                count: 0,
                kept: Vec::new(),
                stop: Arc::clone(&stop),
                written: Arc::clone(&written),
            };
            thread::spawn(move || {
                worker.work();
                worker.client.finish(&worker.servers, &mut worker.random);
                worker.client.entries
            })
        });
        let threads = threads.collect();
        Self {
            stop,
            written,
            threads,
        }
    }

    /// Writes that were acknowledged so far.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Has the clients close their sessions, and returns what each wrote down.
    pub(crate) fn finish(self) -> Vec<Vec<Entry>> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.threads.into_iter().map(JoinHandle::join);
        ended
            .map(|entries| entries.expect("a client fares well"))
            .collect()
    }
}

struct Worker {
    name: String,
    client: Client,
    random: Random,
    servers: Vec<SocketAddr>,
    /// Of names and values that it made up.
    count: u64,
    /// Znodes that it created, or tried to.
    kept: Vec<String>,
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
}

impl Worker {
    fn work(&mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            if self.connect() {
                self.act();
                thread::sleep(self.random.duration_ms(PAUSE_MS.0, PAUSE_MS.1));
            } else {
                thread::sleep(RETRY_PAUSE);
            }
        }
    }

    fn connect(&mut self) -> bool {
        if self.client.is_connected() {
            return true;
        }
        let server = self.random.pick(&self.servers);
        self.client.connect(server).is_ok()
    }

    fn unique(&mut self) -> Vec<u8> {
        self.count += 1;
        let mut data = format!("{}:{}", self.name, self.count).into_bytes();
        if self.random.below(50) == 0 {
            data.resize(LONG_DATA_BYTES, b'.');
        }
        data
    }

    fn call(&mut self, request: Request) -> Option<super::client::Answer> {
        let write = request.is_write();
        let answer = self.client.call(request)?;
        if write && answer.code == 0 {
            self.written.fetch_add(1, Ordering::Relaxed);
        }
        Some(answer)
    }

    fn act(&mut self) {
        let register = register(self.random.below(REGISTERS));
        let kept = self.kept.len();
        match self.random.below(100) {
            0..12 => {
                let data = self.unique();
                self.call(Request::Set {
                    path: register,
                    data,
                    version: -1,
                });
            }
            12..27 => self.compare_and_set(register),
            27..48 => self.get(register, false),
            48..50 => self.get(CONFIG.to_owned(), false),
            50..53 => self.burst(),
            53..62 => {
                if self.call(Request::Sync).is_some() {
                    self.get(register, false);
                }
            }
            62..70 => self.get(register, true),
            70..82 => self.create(false),
            82..87 => self.create(true),
            87..91 if kept > 0 => {
                let path = self.kept.swap_remove(self.random.below(kept));
                self.call(Request::Delete { path });
            }
            87..93 if kept > 0 => {
                let path = self.kept.get(self.random.below(kept)).cloned();
                self.get(path.unwrap_or_default(), true);
            }
            93..98 => {
                let data = self.unique();
                let paths = TWINS.map(str::to_owned);
                self.call(Request::SetBoth { paths, data });
            }
            98 => self.client.disconnect(),
            _ => _ = self.call(Request::Close),
        }
    }

    /// Many requests before the first answer.
    fn burst(&mut self) {
        let requests = (0..self.random.below(BURST_MAX)).map(|_| {
            let path = register(self.random.below(REGISTERS));
            if self.random.below(4) == 0 {
                return Request::Get { path, watch: false };
            }
            let data = self.unique();
            Request::Set {
                path,
                data,
                version: -1,
            }
        });
        let requests = requests.collect();
        let answers = self.client.call_all(requests);
        let done = |answer: &&super::client::Answer| answer.code == 0 && answer.data.is_none();
        let written = answers.iter().filter(done).count();
        let written = u64::try_from(written).unwrap_or(0);
        self.written.fetch_add(written, Ordering::Relaxed);
    }

    fn get(&mut self, path: String, watch: bool) {
        self.call(Request::Get { path, watch });
    }

    fn compare_and_set(&mut self, path: String) {
        let read = self.call(Request::Get {
            path: path.clone(),
            watch: false,
        });
        let Some(stat) = read.and_then(|answer| answer.stat) else {
            return;
        };
        let data = self.unique();
        self.call(Request::Set {
            path,
            data,
            version: stat.version,
        });
    }

    fn create(&mut self, ephemeral: bool) {
        let data = self.unique();
        let below = if ephemeral { "/e" } else { "/c" };
        let path = format!("{below}/{}-{}", self.name, self.count);
        self.kept.push(path.clone());
        self.call(Request::Create {
            path,
            data,
            ephemeral,
        });
        if self.kept.len() > KEPT_MAX && self.client.is_connected() {
            let path = self.kept.remove(0);
            self.call(Request::Delete { path });
        }
    }
}
