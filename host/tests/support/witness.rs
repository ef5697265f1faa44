//! A client that behaves, beside others that do not: it must not notice them.

use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::wire::{Acl, Client, flags};

const SESSION_TIMEOUT_MS: i32 = 10_000;
const PAUSE: Duration = Duration::from_millis(2);

/// Writes, reads what it wrote, and pings, until it is told to stop.
pub(crate) struct Witness {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Account>,
}

/// What a witness saw.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) rounds: i32,
    pub(crate) slowest: Duration,
}

impl Witness {
    pub(crate) fn start(address: SocketAddr) -> Self {
        let mut client = Client::open(address, SESSION_TIMEOUT_MS).unwrap();
        let path = format!("/witness-{:x}", client.session_id);
        let ephemeral = flags::EPHEMERAL;
        client
            .create(&path, Some(b"0"), &Acl::open(), ephemeral)
            .unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut account = Account::default();
            // Always one more round, after whatever there was to witness.
            while !stopped.load(Ordering::Relaxed) {
                round(&mut client, &path, &mut account);
                thread::sleep(PAUSE);
            }
            round(&mut client, &path, &mut account);
            client.close().unwrap();
            account
        });
        Self { stop, thread }
    }

    /// Has it stop, and fails if it was wronged.
    pub(crate) fn conclude(self) -> Account {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the witness fares well")
    }
}

fn round(client: &mut Client, path: &str, account: &mut Account) {
    let number = account.rounds + 1;
    let text = number.to_string();
    let begun = Instant::now();
    let stat = client.set_data(path, Some(text.as_bytes()), -1).unwrap();
    account.slowest = account.slowest.max(begun.elapsed());
    assert_eq!(stat.version, number, "every write of its own, and no other");
    let begun = Instant::now();
    let (data, read) = client.data(path, false).unwrap();
    account.slowest = account.slowest.max(begun.elapsed());
    assert_eq!((data, read), (Some(text.into_bytes()), stat));
    let begun = Instant::now();
    client.ping().unwrap();
    account.slowest = account.slowest.max(begun.elapsed());
    account.rounds = number;
}
