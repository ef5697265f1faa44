//! Clients that write while something else happens, and remember what was confirmed.

use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, Ordering};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use super::tree;
use super::wire::{Acl, Client, flags};

const SESSION_MS: i32 = 30_000;
/// Each writer goes round these znodes.
const ZNODES: u64 = 40;

/// A confirmed change: data of a znode, or its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) zxid: i64,
    pub(crate) path: String,
    pub(crate) data: Option<Vec<u8>>,
}

/// Writers that go on until they are stopped.
pub(crate) struct Writers {
    stop: Arc<AtomicBool>,
    confirmed: Arc<Mutex<Vec<Change>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    /// Begins to write below `/load`.
    pub(crate) fn start(address: SocketAddr, count: usize) -> Self {
        let mut client = Client::open(address, SESSION_MS).unwrap();
        let open = Acl::open();
        client
            .create("/load", None, &open, flags::PERSISTENT)
            .unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let confirmed = Arc::new(Mutex::new(Vec::new()));
        let writer = |number: usize| {
            let (stop, confirmed) = (Arc::clone(&stop), Arc::clone(&confirmed));
            thread::spawn(move || write(address, number, &stop, &confirmed))
        };
        let threads = (0..count).map(writer).collect();
        Self {
            stop,
            confirmed,
            threads,
        }
    }

    /// The zxid of the last change that was confirmed, and how many were.
    pub(crate) fn last(&self) -> (i64, usize) {
        let confirmed = self.confirmed.lock().unwrap();
        let last = confirmed.iter().map(|change| change.zxid).max();
        (last.unwrap_or(0), confirmed.len())
    }

    /// Stops, and returns all that was confirmed, in its order.
    pub(crate) fn stop(self) -> Vec<Change> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        let mut confirmed = self.confirmed.lock().unwrap().clone();
        confirmed.sort_by_key(|change| change.zxid);
        confirmed
    }
}

fn write(address: SocketAddr, number: usize, stop: &AtomicBool, confirmed: &Mutex<Vec<Change>>) {
    let mut client = Client::open(address, SESSION_MS).unwrap();
    let open = Acl::open();
    for round in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let path = format!("/load/{number}-{}", round % ZNODES);
        let data = format!("{round} ").repeat(20).into_bytes();
        // Created, set, set, deleted, and again.
        let data = match round / ZNODES % 4 {
            0 => {
                client
                    .create(&path, Some(&data), &open, flags::PERSISTENT)
                    .unwrap();
                Some(data)
            }
            3 => {
                client.delete(&path, 2).unwrap();
                None
            }
            _ => {
                client.set_data(&path, Some(&data), -1).unwrap();
                Some(data)
            }
        };
        let zxid = client.zxid;
        confirmed.lock().unwrap().push(Change { zxid, path, data });
    }
    client.close().unwrap();
}

/// What is below `/load` after all changes up to this zxid.
pub(crate) fn state_at(changes: &[Change], zxid: i64) -> BTreeMap<String, (Vec<u8>, i64)> {
    let mut state = BTreeMap::new();
    for change in changes.iter().filter(|change| change.zxid <= zxid) {
        match &change.data {
            Some(data) => state.insert(change.path.clone(), (data.clone(), change.zxid)),
            None => state.remove(&change.path),
        };
    }
    state
}

/// The same, as a server has it: data, and the zxid of the change.
pub(crate) fn state_of(address: SocketAddr) -> BTreeMap<String, (Vec<u8>, i64)> {
    let mut client = Client::open(address, SESSION_MS).unwrap();
    let tree = tree::dump(&mut client).unwrap();
    let below = tree
        .into_iter()
        .filter(|(path, _)| path.starts_with("/load/"));
    below
        .map(|(path, znode)| (path, (znode.data.unwrap_or_default(), znode.stat.mzxid)))
        .collect()
}
