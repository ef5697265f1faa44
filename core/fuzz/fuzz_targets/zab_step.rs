//! A whole server of an ensemble, all of whose peers, and clients, say anything.
//!
//! The input is a script: what peers say on the election and quorum ports, well formed or not, in the right
//! order or not, as learners or as the leader; a store that is late; time. [`Action::Proceed`] is a peer that
//! does what is right, so that every role and every state of it is reached. Beyond "no panic":
//!
//! * nothing is acknowledged, and no epoch promised, that the store has not confirmed;
//! * what it gives the store is numbered without gaps, zxids rise, and epochs never go back;
//! * nothing is said on a connection that is closed, or that there never was;
//! * a step ends, time need not be given it again and again, and what it holds in hand for a peer is bounded.
#![no_main]

#[path = "zab_step/driver.rs"]
mod driver;
#[path = "frames/request.rs"]
#[expect(dead_code, reason = "the target `frames` uses all of it, this one only what clients send")]
mod request;
#[path = "zab_step/words.rs"]
mod words;

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;

use driver::Driver;
use request::{Frame, Handshake};
use words::{Said, Vote};

/// What happens, one after the other.
#[derive(Arbitrary, Debug)]
enum Action {
    /// The store confirms so many operations.
    Store(u8),
    /// A client connects, or sends a frame.
    Client(Handshake),
    Frame(Frame),
    /// A connection is lost; which of those there are.
    Close(u8),
    /// A connection that the server asked for is there, or cannot be had.
    Dialled(bool),
    /// Somebody connects to the election port and says who it is.
    Greet { id: i8, far: i64, addresses: u8 },
    /// A peer votes, as the server does but for what is given.
    Vote { link: u8, vote: Vote },
    /// Somebody connects to the quorum port.
    Learner,
    /// Something is said on a quorum connection.
    Say { link: u8, said: Said },
    /// Bytes on any connection but clients'.
    Raw { link: u8, bytes: Vec<u8> },
    /// So many rounds in which every peer does what is right.
    Proceed { rounds: u8, elect: bool },
    /// One peer does what is right.
    ProceedOne { link: u8 },
    /// What the driver was to send on a connection is gone.
    Flush { link: u8 },
    /// The snapshot's writer reports.
    Snapshot(bool),
    /// Time passes.
    Wait { ms: u16 },
}

/// The server, and its place.
#[derive(Arbitrary, Debug)]
pub struct Settings {
    me: u8,
    observer: bool,
    reconfig: bool,
    switches: u8,
    /// Transactions in its log, in how many epochs.
    txns: u8,
    epochs: u8,
    trusted: bool,
    /// Who is elected at first, and how far the peers then go with it.
    leader: u8,
    rounds: u8,
    /// The store confirms at once; dialled connections are there at once.
    stores: bool,
    dials: bool,
    /// Every action is a step of its own.
    steps: bool,
    /// Few bytes of history are kept.
    short: bool,
    client: bool,
}

fuzz_target!(|data: &[u8]| {
    let mut u = Unstructured::new(data);
    let Ok(settings) = Settings::arbitrary(&mut u) else {
        return;
    };
    let mut driver = Driver::new(&settings);
    driver.step(0);
    for _ in 0..settings.rounds % 24 {
        driver.round(true);
    }
    if settings.client {
        driver.client(&Handshake::new());
        driver.round(false);
        driver.round(false);
    }
    for _ in 0..150 {
        if u.is_empty() || driver.over() {
            break;
        }
        let Ok(action) = Action::arbitrary(&mut u) else {
            break;
        };
        act(&mut driver, action);
        if settings.steps {
            driver.step(0);
        }
    }
    driver.step(0);
    driver.step(60_000);
});

fn act(driver: &mut Driver, action: Action) {
    match action {
        Action::Store(count) => driver.confirm(usize::from(count)),
        Action::Client(handshake) => driver.client(&handshake),
        Action::Frame(frame) => driver.frame(&frame),
        Action::Close(which) => driver.close(which),
        Action::Dialled(there) => driver.dialled(there),
        Action::Greet { id, far, addresses } => driver.greet(
            if id == i8::MIN { far } else { i64::from(id % 8) },
            addresses,
        ),
        Action::Vote { link, vote } => driver.vote(link, &vote),
        Action::Learner => driver.learner(),
        Action::Say { link, said } => driver.say(link, said),
        Action::Raw { link, bytes } => driver.raw(link, &bytes),
        Action::Proceed { rounds, elect } => {
            for _ in 0..rounds % 8 {
                driver.round(elect);
            }
        }
        Action::ProceedOne { link } => driver.proceed_one(link),
        Action::Flush { link } => driver.flush(link),
        Action::Snapshot(stored) => driver.snapshot(stored),
        Action::Wait { ms } => {
            driver.step(0);
            driver.step(u64::from(ms));
        }
    }
}
