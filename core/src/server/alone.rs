//! A server of an ensemble whose other voters are all down.

#![expect(
    clippy::unwrap_used,
    reason = "a test may stop at what it did not expect"
)]

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::ids::{Epoch, Instant, LinkId, ServerId, UnixMillis, Zxid};
use crate::jute;
use crate::link::{Endpoint, LinkInput, LinkOutput, Port};
use crate::machine::{Machine as _, Now};
use crate::server::config::{Config, FourLetterWords};
use crate::server::{EnsembleConfig, HostFacts, Input, Output, Recovered, Server, SnapshotOp};
use crate::tree::Loader;
use crate::zab::{self, Member, Membership};

const TOOL: LinkId = LinkId(1000);
const STEP_MS: u64 = 50;

/// Server 1 of an ensemble whose others are all down, with a store that is done at once.
pub(in crate::server) struct Alone {
    pub(in crate::server) server: Server,
    now: Now,
    said: Vec<u8>,
    /// Whether the store is slow without end.
    pub(in crate::server) stalled: bool,
    pub(in crate::server) closed: Vec<LinkId>,
    /// What it has logged.
    pub(in crate::server) events: Vec<String>,
}

/// `voters` with a vote, and one without.
fn membership(voters: i64) -> Membership {
    let endpoint = |port| Endpoint {
        host: "127.0.0.1".into(),
        port,
    };
    let member = |id: i64| {
        let id = u16::try_from(id).unwrap();
        Member {
            quorum: alloc::vec![endpoint(2880 + id)],
            election: alloc::vec![endpoint(3880 + id)],
            client: None,
            voter: i64::from(id) <= voters,
        }
    };
    Membership {
        version: 0,
        servers: (1..=voters + 1)
            .map(|id| (ServerId(id), member(id)))
            .collect(),
        groups: BTreeMap::new(),
        weights: BTreeMap::new(),
    }
}

impl Alone {
    pub(in crate::server) fn new(
        voters: i64,
        ensemble: EnsembleConfig,
        words: FourLetterWords,
    ) -> Self {
        let options = zab::Options {
            me: ServerId(1),
            observer: false,
            committed: membership(voters),
            last_seen: None,
            election: Vec::new(),
            reconfig_enabled: false,
            tick_ms: 1000,
            init_limit: 10,
            sync_limit: 5,
            connect_limit: 0,
            listen_on_all_ips: false,
            multi_address: false,
            packet_bytes_max: 1 << 20,
            notification_ms_min: 200,
            notification_ms_max: 60_000,
            connect_timeout_ms: 5000,
            election_silence_ms: None,
            history_txns_min: 500,
            history_bytes_max: 1 << 20,
            sasl: zab::Sasl::default(),
        };
        let history = zab::Recovered {
            base: Zxid::ZERO,
            recent: Vec::new(),
            accepted: Epoch(0),
            current: Epoch(0),
            trusted: true,
            divergent: false,
        };
        let config = Config {
            tick_ms: 1000,
            four_letter_words: words,
            ..Config::default()
        };
        let now = Now {
            instant: Instant(0),
            wall: UnixMillis(1_784_196_672_000),
        };
        let recovered = Recovered::default();
        let loader = Loader::new(1, true);
        let server = Server::in_ensemble(
            config, ensemble, options, loader, recovered, history, 7, now,
        );
        Self {
            server,
            now,
            said: Vec::new(),
            stalled: false,
            closed: Vec::new(),
            events: Vec::new(),
        }
    }

    pub(in crate::server) fn step(&mut self, inputs: impl IntoIterator<Item = Input>) {
        let mut inputs: Vec<Input> = inputs.into_iter().collect();
        loop {
            let mut outputs = Vec::new();
            self.server.step(self.now, &mut inputs, &mut outputs);
            if outputs.is_empty() {
                return;
            }
            for output in outputs {
                inputs.extend(self.perform(output));
            }
        }
    }

    fn perform(&mut self, output: Output) -> Option<Input> {
        match output {
            Output::Store(..) if self.stalled => None,
            Output::Store(upto, _) => Some(Input::Stored { upto }),
            Output::Snapshot(SnapshotOp::Chunk(bytes)) => Some(Input::SnapshotWritten(bytes.len())),
            Output::Snapshot(SnapshotOp::End) => {
                let zxid = self.server.tree().last_zxid();
                Some(Input::SnapshotStored { zxid })
            }
            Output::AskFacts(link) => Some(Input::Facts(link, HostFacts::default())),
            // Nobody is there.
            Output::Link(link, LinkOutput::Dial { .. }) => {
                Some(Input::Link(link, LinkInput::Closed))
            }
            Output::Link(TOOL, LinkOutput::Send(bytes)) => {
                self.said.extend_from_slice(&bytes);
                None
            }
            Output::Restart(reason) => panic!("{reason}"),
            Output::Event(event) => {
                self.events.push(format!("{event:?}"));
                None
            }
            Output::Link(link, LinkOutput::Close) => {
                self.closed.push(link);
                None
            }
            Output::Link(..) | Output::Listen(..) | Output::Membership(_) | Output::Snapshot(_) => {
                None
            }
        }
    }

    /// Time passes.
    pub(in crate::server) fn pass(&mut self, ms: u64) {
        for _ in 0..ms / STEP_MS {
            self.now.instant = self.now.instant.plus_ms(STEP_MS);
            self.now.wall.0 += STEP_MS.cast_signed();
            self.step([]);
        }
    }

    pub(in crate::server) fn receive(&mut self, link: LinkId, bytes: &[u8]) {
        let peer = ([127, 0, 0, 1], 30_000).into();
        let port = Port::Client;
        let bytes = Bytes::copy_from_slice(bytes);
        self.step([
            Input::Link(link, LinkInput::Opened { port, peer }),
            Input::Link(link, LinkInput::Received(bytes)),
        ]);
    }

    pub(in crate::server) fn ask(&mut self, word: &str) -> String {
        self.said.clear();
        self.receive(TOOL, word.as_bytes());
        String::from_utf8(core::mem::take(&mut self.said)).unwrap()
    }
}

/// A client asks for a session, which is a transaction.
pub(in crate::server) fn open_session() -> Vec<u8> {
    let password = serde_bytes::Bytes::new(&[0; 16]);
    let request = jute::to_vec(&(0_i32, 0_i64, 10_000_i32, 0_i64, password));
    jute::to_vec(serde_bytes::Bytes::new(&request))
}
