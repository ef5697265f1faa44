//! A whole server under clients that send anything, a store that is late, and a clock that jumps.
//!
//! The input is a script: connections, requests (well formed, damaged, or any bytes), acknowledgements of
//! the store that come late or not at all, crashes. Beyond "no panic" (the server asserts a lot itself):
//!
//! * what it sends are frames, and requests are answered in their order, each once;
//! * what it gives the store is numbered without gaps, and zxids rise;
//! * replaying the log gives its tree, in everything that lasts; so does each of its snapshots;
//! * once the store caught up and clients have read, nothing is left unanswered;
//! * once everybody is gone, so are the sessions and their ephemeral znodes.
#![no_main]

#[path = "frames/driver.rs"]
mod driver;
#[path = "frames/request.rs"]
mod request;

use arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use zabra_core::server::Config;

use driver::Driver;
use request::{Frame, Handshake, Path};

/// What happens, one after the other.
#[derive(Arbitrary, Debug)]
enum Action {
    /// The store confirms so many operations.
    Ack(u8),
    /// A connection is lost.
    Close(Slot),
    /// A client connects and asks for a session.
    Connect(Slot, Handshake),
    /// The power fails: what was not confirmed is gone.
    Crash,
    /// A client makes a znode large, then asks for it more often than it reads.
    Flood(Slot, Path, u8),
    /// The driver got rid of so much of what it was to send, in 256ths.
    Flush(Slot, u8),
    /// A client sends a frame.
    Frame(Slot, Frame),
    /// A client sends several at once.
    Frames(Slot, Vec<Frame>),
    /// A client sends bytes.
    Raw(Slot, Vec<u8>),
    /// The snapshot's writer reports.
    Snapshot(SnapshotReport),
    /// Inputs up to here make a step, so much later.
    Step { ms: u8 },
    /// Time passes.
    Wait { ms: u16 },
    /// The wall clock is set.
    Wall { ms: i64 },
}

#[derive(Arbitrary, Debug)]
enum SnapshotReport {
    Failed,
    Stored,
    Written(u16),
}

/// Which of the few clients.
#[derive(Clone, Copy, Debug)]
struct Slot(usize);

const SLOTS: usize = 4;

impl<'a> Arbitrary<'a> for Slot {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(Self(u.int_in_range(0..=SLOTS - 1)?))
    }
}

/// The settings that matter here, small so that limits are met.
#[derive(Arbitrary, Debug)]
struct Settings {
    tick: u8,
    timeout_min: u8,
    frame_bytes_max: u16,
    connections: u8,
    outstanding: u8,
    switches: u8,
    snapshot_txns: u8,
    container_check: u8,
    never_used: u8,
    snapshot_first: bool,
    /// How far a client that reads lets things pile up.
    reads: bool,
    stores: bool,
    /// Every action is a step of its own.
    steps: bool,
    /// So many clients have a session from the start.
    clients: u8,
    cut: u8,
}

impl Settings {
    fn config(&self) -> Config {
        let switch = |bit: u8| self.switches & (1 << bit) != 0;
        Config {
            tick_ms: u32::from(self.tick) * 4 + 1,
            session_timeout_ms_min: u32::from(self.timeout_min) * 20,
            session_timeout_ms_max: 20_000,
            // The larger ones let one connection's answers pile up to their limit.
            frame_bytes_max: match self.frame_bytes_max {
                small @ 0..0x2000 => 1024 + u32::from(small),
                _ => 0xf_ffff,
            },
            connections_per_address_max: u32::from(self.connections % 8),
            connections_max: u32::from(self.connections / 32),
            outstanding_max: u32::from(self.outstanding) + 1,
            handshake_timeout_ms: 5000,
            skip_acl: switch(0),
            enforce_quota: switch(1),
            extended_types: !switch(2),
            tree_digest: !switch(3),
            digest_auth: !switch(4),
            super_digest: Some(String::from("super:xQJmxLMiHGwaqBvst5y6rkB6HQs=").into()),
            snapshot_txns: u32::from(self.snapshot_txns) + 2,
            snapshot_log_bytes: if switch(5) { 2000 } else { 0 },
            container_check_ms: u32::from(self.container_check) * 10 + 1,
            container_never_used_ms_max: u64::from(self.never_used),
            ..Config::default()
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let mut u = Unstructured::new(data);
    let Ok(settings) = Settings::arbitrary(&mut u) else {
        return;
    };
    let mut driver = Driver::new(
        settings.config(),
        settings.snapshot_first,
        settings.reads,
        settings.stores,
        settings.cut,
    );
    for slot in 0..usize::from(settings.clients % 4) {
        driver.connect(slot, &Handshake::new());
        driver.step(0);
        driver.ack(1);
        driver.step(0);
    }
    for _ in 0..200 {
        if u.is_empty() {
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
    driver.settle();
    driver.check();
    driver.end();
});

fn act(driver: &mut Driver, action: Action) {
    match action {
        Action::Ack(count) => driver.ack(usize::from(count)),
        Action::Close(slot) => driver.close(slot.0),
        Action::Connect(slot, handshake) => driver.connect(slot.0, &handshake),
        Action::Crash => driver.crash(),
        Action::Flood(slot, path, reads) => driver.request(slot.0, &Frame::flood(&path, reads)),
        Action::Flush(slot, share) => driver.flush(slot.0, share),
        Action::Frame(slot, frame) => driver.request(slot.0, &[frame]),
        Action::Frames(slot, frames) => driver.request(slot.0, &frames),
        Action::Raw(slot, bytes) => driver.raw(slot.0, &bytes),
        Action::Snapshot(SnapshotReport::Failed) => driver.snapshot_failed(),
        Action::Snapshot(SnapshotReport::Stored) => driver.snapshot_stored(),
        Action::Snapshot(SnapshotReport::Written(bytes)) => {
            driver.snapshot_written(usize::from(bytes));
        }
        Action::Step { ms } => driver.step(u64::from(ms)),
        Action::Wait { ms } => {
            driver.step(0);
            driver.step(u64::from(ms));
        }
        Action::Wall { ms } => driver.set_wall(ms),
    }
}
