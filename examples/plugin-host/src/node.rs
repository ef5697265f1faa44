//! A plugin that is a server, and what it is owed (core/wasm/ABI.md).

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::mem::take;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use mio::{Events, Interest, Poll, Token, net::TcpListener};
use postcard::to_stdvec as encode;
use wasmtime::{Result, bail, ensure};

use crate::link::Link;
use crate::memory::Memory;
use crate::sandbox::{Plugin, Running};
use crate::wire::{Input, LinkInput, LinkOutput, Now, Output, Stepped};

const ABI: u32 = 3;
const EVENTS_MAX: usize = 256;
const WAIT_MAX: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(200);

pub struct Node {
    begun: Instant,
    poll: Poll,
    listener: TcpListener,
    traps: Receiver<()>,
    memory: Memory,
    links: BTreeMap<u64, Link>,
    closing: Vec<Link>,
    last_link: u64,
}

impl Node {
    /// `traps` is heard between two steps.
    pub fn bind(port: u16, traps: Receiver<()>) -> Result<Self> {
        let mut listener = TcpListener::bind(([127, 0, 0, 1], port).into())?;
        let (poll, begun) = (Poll::new()?, Instant::now());
        poll.registry().register(&mut listener, Token(0), Interest::READABLE)?;
        let (memory, links, closing) = (Memory::default(), BTreeMap::new(), Vec::new());
        Ok(Self { begun, poll, listener, traps, memory, links, closing, last_link: 0 })
    }

    /// Serves for ever: one life of the server after the other, each from what is stored.
    pub fn serve(mut self, plugin: &Plugin) -> Result<Infallible> {
        loop {
            let mut core = plugin.instantiate()?;
            self.open(&mut core)?;
            println!("{} serves on {}", plugin.name, self.listener.local_addr()?);
            let Err(reason) = self.live(&mut core);
            eprintln!("{}: {reason:#}; beginning anew", plugin.name);
            self.links.clear();
            thread::sleep(PAUSE);
        }
    }

    fn open(&self, core: &mut Running) -> Result<()> {
        let abi: u32 = core.call("abi", ())?;
        ensure!(abi == ABI, "expected a module of ABI {ABI}, found {abi}");
        let port = self.listener.local_addr()?.port();
        let config = (
            // tick_ms, session_timeout_ms_min and _max, frame_bytes_max,
            // connections_per_address_max, connections_max, outstanding_max, handshake_timeout_ms
            [2000_u32, 4000, 40_000, 0xf_ffff, 60, 0, 1000, 10_000],
            // server_id, skip_acl, enforce_quota, tree_bytes_max, extended_types, tree_digest,
            // digest_auth, super_digest (none), four_letter_words (all)
            [1_u8, 0, 0, 0, 1, 1, 1, 0, 0],
            // snapshot_txns, snapshot_log_bytes, snapshot_slice_bytes, state_slice_bytes,
            // container_check_ms, container_deletes_per_minute_max, container_never_used_ms_max
            [100_000_u64, 4 << 30, 32 << 10, 16 << 10, 60_000, 10_000, 0],
            // client_port, data_dir, data_log_dir, listen_backlog, environment
            (port, "", "", -1, [1_u8], "zookeeper.version", "3.9.5-plugin-host, built on a day"),
            // sasl_users to nonce_seed: nobody logs in, passwords of sessions are of ids
            [0_u8; 9],
        );
        // The standard library has its keys from the system. The last is its place: it has none.
        let begin = (0_u8, RandomState::new().hash_one(0), config, 0_u8);
        let (pieces, found) = self.memory.recover()?;
        let done = encode(&(5_u8, self.now(), found))?;
        for piece in [encode(&begin)?].into_iter().chain(pieces).chain([done]) {
            let answer = core.exchange("open", &piece)?;
            // Refused, and why.
            if let Ok((1_u8, reason)) = postcard::from_bytes::<(_, String)>(&answer) {
                bail!(reason);
            }
        }
        Ok(())
    }

    fn live(&mut self, core: &mut Running) -> Result<Infallible> {
        let mut inputs = Vec::new();
        loop {
            let answer = core.exchange("step", &encode(&(self.now(), take(&mut inputs)))?)?;
            let ((next, outputs), _): (Stepped, _) = postcard::take_from_bytes(&answer)?;
            for output in outputs {
                self.perform(output, &mut inputs)?;
            }
            self.report_ends(&mut inputs);
            self.exchange(&mut inputs)?;
            if inputs.is_empty() && !self.links.values().any(|link| link.silent) {
                let next = Duration::from_micros(next.unwrap_or(u64::MAX));
                let wait = next.saturating_sub(self.begun.elapsed()).min(WAIT_MAX);
                self.poll.poll(&mut Events::with_capacity(EVENTS_MAX), Some(wait))?;
                self.exchange(&mut inputs)?;
            }
            if self.traps.try_recv().is_ok() {
                core.exchange("step", &[])?;
            }
        }
    }

    /// Tells a link's end after a step with all that came before, so that this is answered.
    fn report_ends(&mut self, inputs: &mut Vec<Input>) {
        let asked = |id| inputs.iter().any(|it| matches!(it, Input::Facts(of, ..) if *of == id));
        let silent = self.links.extract_if(.., |id, link| link.silent && !asked(*id));
        for (id, link) in silent.collect::<Vec<_>>() {
            inputs.push(Input::Link(id, LinkInput::Closed));
            self.closing.push(link);
        }
    }

    fn exchange(&mut self, inputs: &mut Vec<Input>) -> Result<()> {
        self.links.retain(|id, link| {
            let happened = link.exchange();
            let alive = happened.is_ok();
            let happened = happened.unwrap_or_else(|_| vec![LinkInput::Closed]);
            inputs.extend(happened.into_iter().map(|input| Input::Link(*id, input)));
            alive
        });
        self.closing.retain_mut(|link| !link.is_closed());
        while let Ok((mut stream, peer)) = self.listener.accept() {
            let both = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, Token(1), both)?;
            self.last_link += 1;
            self.links.insert(self.last_link, Link::new(stream)?);
            inputs.push(Input::Link(self.last_link, LinkInput::Opened(0, peer)));
        }
        Ok(())
    }

    fn perform(&mut self, output: Output, inputs: &mut Vec<Input>) -> Result<()> {
        match output {
            Output::Link(id, LinkOutput::Close) => self.closing.extend(self.links.remove(&id)),
            Output::Link(id, output) => match (self.links.get_mut(&id), output) {
                (Some(link), LinkOutput::Send(bytes)) => link.to_send.extend(bytes),
                (Some(link), LinkOutput::Pause) => link.paused = true,
                (Some(link), LinkOutput::Resume) => link.paused = false,
                // The server has not heard yet that it is gone. (Alone, it does not dial.)
                _ => {}
            },
            Output::Listen => bail!("it wants to be in an ensemble"),
            Output::Restart(reason) => bail!(reason),
            Output::Store(seq, op) => inputs.push(self.memory.log(seq, op)),
            Output::Snapshot(op) => inputs.extend(self.memory.snapshot(op)),
            Output::AskFacts(id) => inputs.push(Input::Facts(id, [0; 9], 0)),
        }
        Ok(())
    }

    fn now(&self) -> Now {
        let wall = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        (self.begun.elapsed().as_micros() as u64, wall.as_millis() as i64)
    }
}
