//! The bytes of everything that crosses the border, as hosts in other languages write and read
//! them.
//!
//! `golden/abi.txt` has a line for each value: its name, a colon, its bytes. Whoever changes a byte
//! there, or takes a line away, raises `ABI`.
#![expect(
    clippy::unwrap_used,
    reason = "a test stops where its expectation fails"
)]

use core::fmt::Debug;
use core::net::SocketAddr;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zabra_core::ids::{Epoch, Instant, LinkId, Seq, ServerId, SessionId, UnixMillis, Zxid};
use zabra_core::link::{Endpoint, LinkInput, LinkOutput, Port};
use zabra_core::machine::Now;
use zabra_core::secret::Secret;
use zabra_core::server::config::{
    AuthConfig, FourLetterWords, HostConfig, Secure, SessionPasswords,
};
use zabra_core::server::{
    Config, DiskRoom, EnsembleConfig, Event, HostFacts, Input, Output, Question, SnapshotOp,
    StoreOp, Summary,
};
use zabra_core::zab::{self, Member, Membership, MembershipOp, Options, Sasl};
use zabra_core_wasm::abi::{self, ABI, Begin, Found, Open, Opened, Place, StepOut};

const GOLDEN: &str = include_str!("golden/abi.txt");

/// The lines of the file as they should be.
#[derive(Default)]
struct Lines {
    text: String,
    /// The names of the variants that were written.
    variants: BTreeSet<&'static str>,
}

impl Lines {
    fn new() -> Self {
        Self {
            text: format!("abi: {ABI}\n"),
            ..Self::default()
        }
    }

    /// A value, which must be the same when it is read again.
    fn value<T>(&mut self, name: &str, value: &T)
    where
        T: Serialize + DeserializeOwned + PartialEq + Debug,
    {
        let bytes = abi::encode(value).unwrap();
        assert_eq!(&abi::decode::<T>(&bytes).unwrap(), value);
        let long = [&*bytes, &[0]].concat();
        assert!(
            abi::decode::<T>(&long).is_err(),
            "{name} with a byte after it"
        );
        for cut in 0..bytes.len() {
            let (short, _) = bytes.split_at(cut);
            assert!(abi::decode::<T>(short).is_err(), "{name} cut at {cut}");
        }
        self.bytes(name, &bytes);
    }

    fn variant<T>(&mut self, name: &'static str, value: &T)
    where
        T: Serialize + DeserializeOwned + PartialEq + Debug,
    {
        let mut full = name.to_owned();
        while self.text.contains(&format!("\n{full}: ")) {
            full.push('\'');
        }
        self.value(&full, value);
        self.variants.insert(name);
    }

    fn bytes(&mut self, name: &str, bytes: &[u8]) {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.text += &format!("{name}: {hex}\n");
    }
}

fn peer() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 2181))
}

fn peer6() -> SocketAddr {
    SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 2181))
}

fn endpoint(port: u16) -> Endpoint {
    let host = "zoo1".into();
    Endpoint { host, port }
}

fn data() -> Bytes {
    Bytes::from_static(b"data")
}

fn membership() -> Membership {
    let member = Member {
        quorum: vec![endpoint(2888)],
        election: vec![endpoint(3888)],
        client: Some(endpoint(2181)),
        voter: true,
    };
    Membership {
        version: 0x1_0000_0001,
        servers: BTreeMap::from([(ServerId(1), member)]),
        groups: BTreeMap::from([(7, vec![ServerId(1)])]),
        weights: BTreeMap::from([(ServerId(1), 2)]),
    }
}

fn secret(text: &str) -> Secret {
    Secret::from(String::from(text))
}

/// Every setting another number, so that two that change places are seen.
fn config() -> Config {
    Config {
        tick_ms: 2000,
        session_timeout_ms_min: 4000,
        session_timeout_ms_max: 40_000,
        frame_bytes_max: 0xf_ffff,
        connections_per_address_max: 61,
        connections_max: 62,
        outstanding_max: 1001,
        handshake_timeout_ms: 10_001,
        server_id: 3,
        skip_acl: true,
        enforce_quota: false,
        tree_bytes_max: 1 << 30,
        extended_types: true,
        tree_digest: false,
        digest_auth: true,
        super_digest: Some(Secret::from(String::from("super:x"))),
        four_letter_words: FourLetterWords::Only(vec!["ruok".into()]),
        snapshot_txns: 100_001,
        snapshot_log_bytes: 4 << 30,
        snapshot_slice_bytes: 131_073,
        state_slice_bytes: 32_769,
        container_check_ms: 60_001,
        container_deletes_per_minute_max: 10_002,
        container_never_used_ms_max: 5,
        host: HostConfig {
            client_port: 2181,
            data_dir: "/data".into(),
            data_log_dir: "/log".into(),
            listen_backlog: -1,
            environment: vec![("os.name".into(), "Linux".into())],
        },
        auth: AuthConfig {
            sasl_users: Some(vec![("bob".into(), secret("b"))]),
            sasl_acls: true,
            super_users: vec!["root".into()],
            any_sasl_user: Some("x".into()),
            allow_failed: false,
            schemes_required: vec!["sasl".into()],
            session_passwords: SessionPasswords::OfSecret,
            session_secret: secret("s"),
            nonce_seed: secret("n"),
        },
        secure: Some(Secure {
            port: 2281,
            super_user: Some("CN=root".into()),
        }),
        audit: true,
    }
}

fn options() -> Options {
    Options {
        me: ServerId(1),
        observer: false,
        committed: membership(),
        last_seen: None,
        election: vec![endpoint(3889)],
        reconfig_enabled: true,
        tick_ms: 2000,
        init_limit: 10,
        sync_limit: 5,
        connect_limit: 6,
        listen_on_all_ips: false,
        multi_address: true,
        packet_bytes_max: 0x20_0000,
        notification_ms_min: 200,
        notification_ms_max: 60_000,
        connect_timeout_ms: 5000,
        election_silence_ms: Some(10_000),
        history_txns_min: 500,
        history_bytes_max: 32 << 20,
        sasl: Sasl {
            users: Some(vec![("server".into(), secret("p"))]),
            required: true,
            login: Some(("server".into(), secret("p"))),
            seed: secret("q"),
        },
    }
}

fn inputs() -> Vec<Input> {
    let link = |input| Input::Link(LinkId(5), input);
    let facts = HostFacts {
        data_dir_bytes: 1,
        log_dir_bytes: 2,
        open_files: 3,
        open_files_max: 4,
        memory_bytes: 5,
        fsync_ms: Summary {
            count: 6,
            sum: 7,
            min: 8,
            max: 9,
        },
        utc_offset_s: -3600,
        disk_free_bytes: 10,
    };
    vec![
        link(LinkInput::Opened {
            port: Port::Client,
            peer: peer(),
        }),
        link(LinkInput::Opened {
            port: Port::Quorum,
            peer: peer6(),
        }),
        link(LinkInput::Received(data())),
        link(LinkInput::Flushed(300)),
        link(LinkInput::Closed),
        link(LinkInput::Secured { principal: None }),
        link(LinkInput::Secured {
            principal: Some("CN=a,O=b".into()),
        }),
        Input::Stored { upto: Seq(128) },
        Input::SnapshotWritten(65_536),
        Input::SnapshotStored { zxid: Zxid(16) },
        Input::SnapshotFailed { zxid: Zxid(17) },
        Input::Facts(LinkId(6), facts.clone()),
        Input::Disk(DiskRoom {
            low: true,
            resign: false,
        }),
        Input::Ask(Question(7), data(), facts),
    ]
}

fn outputs() -> Vec<Output> {
    let link = |output| Output::Link(LinkId(5), output);
    let store = |op| Output::Store(Seq(9), op);
    vec![
        link(LinkOutput::Dial {
            port: Port::Election,
            to: vec![endpoint(3888)],
            timeout_ms: 5000,
        }),
        link(LinkOutput::Send(data())),
        link(LinkOutput::Pause),
        link(LinkOutput::Resume),
        link(LinkOutput::Close),
        Output::Listen(Port::Quorum, vec![endpoint(2888)]),
        Output::Restart("reason".into()),
        store(StoreOp::Append {
            zxid: Zxid(0x1_0000_0001),
            txn: data(),
        }),
        store(StoreOp::Roll),
        store(StoreOp::Epochs {
            accepted: Some(Epoch(2)),
            current: None,
        }),
        store(StoreOp::Truncate { to: Zxid(3) }),
        store(StoreOp::Reset { to: Zxid(-1) }),
        Output::Snapshot(SnapshotOp::Begin { zxid: Zxid(4) }),
        Output::Snapshot(SnapshotOp::Chunk(data())),
        Output::Snapshot(SnapshotOp::End),
        Output::Snapshot(SnapshotOp::Abandon),
        Output::AskFacts(LinkId(6)),
        Output::Membership(MembershipOp::Seen(membership())),
        Output::Membership(MembershipOp::Active(Membership::default())),
    ]
}

fn events() -> Vec<Event> {
    let (session, zxid, peer) = (SessionId(0x0100_0000_0000_0001), Zxid(2), peer());
    let text = || String::from("text");
    let zab = Event::Zab;
    vec![
        Event::LinkRefused {
            peer,
            reason: text(),
        },
        Event::SessionOpened {
            session,
            timeout_ms: 4000,
            peer,
        },
        Event::SessionResumed { session, peer },
        Event::SessionRefused { session, peer },
        Event::SessionExpired { session },
        Event::SessionClosed { session },
        Event::SnapshotBegun { zxid },
        Event::SnapshotDone { zxid },
        Event::SnapshotFailed { zxid },
        Event::OrphanDeleted { path: text() },
        Event::DigestMismatch { zxid },
        zab(zab::Event::PeerRefused {
            peer,
            port: Port::Election,
            reason: text(),
        }),
        zab(zab::Event::Elected {
            leader: ServerId(1),
            zxid,
            round: 3,
            took_ms: 4,
        }),
        zab(zab::Event::RoleLost { reason: text() }),
        zab(zab::Event::Synced { how: text() }),
        zab(zab::Event::LearnerSynced {
            learner: ServerId(2),
            how: text(),
        }),
        zab(zab::Event::LearnerLost {
            learner: ServerId(2),
            reason: text(),
        }),
        zab(zab::Event::Notice(text())),
        Event::Membership { text: text() },
        Event::QuotaExceeded { path: text() },
        Event::TreeFull {
            used: 300,
            max: 301,
        },
        Event::SaslFailed {
            peer,
            reason: text(),
        },
        Event::Told {
            question: Question(7),
            text: text(),
        },
        Event::Audited(data()),
    ]
}

/// A variant that is added does not compile here until it has a name, and does not pass until it
/// has a line.
fn input_name(input: &Input) -> &'static str {
    match input {
        Input::Link(_, LinkInput::Opened { .. }) => "Input::Link Opened",
        Input::Link(_, LinkInput::Received(_)) => "Input::Link Received",
        Input::Link(_, LinkInput::Flushed(_)) => "Input::Link Flushed",
        Input::Link(_, LinkInput::Closed) => "Input::Link Closed",
        Input::Link(_, LinkInput::Secured { .. }) => "Input::Link Secured",
        Input::Stored { .. } => "Input::Stored",
        Input::SnapshotWritten(_) => "Input::SnapshotWritten",
        Input::SnapshotStored { .. } => "Input::SnapshotStored",
        Input::SnapshotFailed { .. } => "Input::SnapshotFailed",
        Input::Facts(..) => "Input::Facts",
        Input::Disk(_) => "Input::Disk",
        Input::Ask(..) => "Input::Ask",
    }
}

const INPUTS: usize = 12;

fn output_name(output: &Output) -> &'static str {
    match output {
        Output::Link(_, LinkOutput::Dial { .. }) => "Output::Link Dial",
        Output::Link(_, LinkOutput::Send(_)) => "Output::Link Send",
        Output::Link(_, LinkOutput::Pause) => "Output::Link Pause",
        Output::Link(_, LinkOutput::Resume) => "Output::Link Resume",
        Output::Link(_, LinkOutput::Close) => "Output::Link Close",
        Output::Listen(..) => "Output::Listen",
        Output::Restart(_) => "Output::Restart",
        Output::Store(_, StoreOp::Append { .. }) => "Output::Store Append",
        Output::Store(_, StoreOp::Roll) => "Output::Store Roll",
        Output::Store(_, StoreOp::Epochs { .. }) => "Output::Store Epochs",
        Output::Store(_, StoreOp::Truncate { .. }) => "Output::Store Truncate",
        Output::Store(_, StoreOp::Reset { .. }) => "Output::Store Reset",
        Output::Snapshot(SnapshotOp::Begin { .. }) => "Output::Snapshot Begin",
        Output::Snapshot(SnapshotOp::Chunk(_)) => "Output::Snapshot Chunk",
        Output::Snapshot(SnapshotOp::End) => "Output::Snapshot End",
        Output::Snapshot(SnapshotOp::Abandon) => "Output::Snapshot Abandon",
        Output::AskFacts(_) => "Output::AskFacts",
        Output::Membership(MembershipOp::Seen(_)) => "Output::Membership Seen",
        Output::Membership(MembershipOp::Active(_)) => "Output::Membership Active",
        Output::Event(_) => "Output::Event",
    }
}

/// All but [`Output::Event`], which leaves in a batch of its own.
const OUTPUTS: usize = 19;

fn opens() -> Vec<(&'static str, Open)> {
    let now = Now {
        instant: Instant(1000),
        wall: UnixMillis(1_700_000_000_000),
    };
    let found = Found {
        now,
        snapshot: true,
        txns: 2,
        log_bytes: 300,
        accepted: Epoch(4),
        current: Epoch(3),
        trusted: true,
    };
    let begin = |place| Begin {
        entropy: 0x0123_4567_89ab_cdef,
        config: config(),
        place,
    };
    let place = Place {
        config: EnsembleConfig {
            read_only_mode: true,
            local_sessions: false,
            local_sessions_upgrading: true,
            leader_serves: true,
            reconfig: false,
            standalone_enabled: true,
        },
        options: options(),
    };
    vec![
        ("Open::Begin alone", Open::Begin(Box::new(begin(None)))),
        ("Open::Begin", Open::Begin(Box::new(begin(Some(place))))),
        (
            "Open::SnapshotBegin",
            Open::SnapshotBegin { zxid: Zxid(16) },
        ),
        ("Open::SnapshotChunk", Open::SnapshotChunk(data())),
        ("Open::SnapshotEnd", Open::SnapshotEnd),
        ("Open::Txn", Open::Txn(data())),
        ("Open::Done", Open::Done(found)),
    ]
}

fn lines() -> Lines {
    let mut lines = Lines::new();
    for (name, open) in opens() {
        lines.value(name, &open);
    }
    lines.value("Opened::Ok", &Opened::Ok);
    lines.value("Opened::Refused", &Opened::Refused("reason".into()));
    let defaults = Config::default();
    lines.value("Config by default", &defaults);
    lines.value("FourLetterWords::All", &FourLetterWords::All);
    lines.value("Membership", &membership());
    for input in inputs() {
        lines.variant(input_name(&input), &input);
    }
    for output in outputs() {
        lines.variant(output_name(&output), &output);
    }
    for (number, event) in events().iter().enumerate() {
        lines.value(&format!("Event {number}"), event);
    }
    let now = Now {
        instant: Instant(1000),
        wall: UnixMillis(-1),
    };
    let mut room = vec![0; abi::step_bytes_max(&inputs())];
    let written = abi::encode_step_into(now, &inputs(), &mut room).unwrap();
    room.truncate(written);
    let step = abi::decode_step(&room).unwrap();
    assert_eq!((step.now, step.inputs), (now, inputs()));
    lines.bytes("a step", &room);
    let mut all = outputs();
    all.extend(events().into_iter().map(Output::Event));
    let result = abi::encode_result(Some(Instant(2000)), &mut all, Vec::new()).unwrap();
    let StepOut {
        next,
        outputs: out,
        events: told,
    } = abi::decode_result(&result).unwrap();
    assert_eq!((next, out), (Some(Instant(2000)), outputs()));
    assert_eq!(abi::decode_events(&told).unwrap(), events());
    lines.bytes("its result", &result);
    let nothing = abi::encode_result(None, &mut Vec::new(), Vec::new()).unwrap();
    lines.bytes("a result of nothing", &nothing);
    lines
}

#[test]
fn every_value_has_the_bytes_that_hosts_know() {
    let Lines { text, .. } = lines();
    let mut pairs = text.lines().zip(GOLDEN.lines());
    let differs = pairs.find(|(found, expected)| found != expected);
    assert!(
        text == GOLDEN,
        "raise ABI: found and expected differ first in {differs:?}; the file should be:\n{text}"
    );
}

#[test]
fn every_variant_has_a_line() {
    let variants = lines().variants;
    let inputs = variants.iter().filter(|name| name.starts_with("Input"));
    assert_eq!(inputs.count(), INPUTS);
    let outputs = variants.iter().filter(|name| name.starts_with("Output"));
    assert_eq!(outputs.count(), OUTPUTS);
}
