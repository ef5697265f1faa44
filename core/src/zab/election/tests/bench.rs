//! One server, fed by hand.

use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use core::net::SocketAddr;

use super::*;
use crate::link::{LinkOutput, Port};
use crate::wire::election::{Initial, InitialVersion};
use crate::zab::io::Output;

/// One server, and everything that it asked for since this was last looked at.
pub(super) struct Bench {
    pub(super) election: Election,
    pub(super) out: Outbox,
    pub(super) accepted: u64,
}

impl Bench {
    /// Server `me` of three voters and two observers.
    pub(super) fn new(me: i64) -> Self {
        Self::of(&options(me, membership(3, 2, "")))
    }

    pub(super) fn of(options: &Options) -> Self {
        let mut out = Outbox::new(Instant(1_000_000));
        let election = Election::new(options, 7, &mut out);
        Self {
            election,
            out,
            accepted: 0,
        }
    }

    /// Such a server that looks, nothing left to look at.
    pub(super) fn looking(me: i64) -> Self {
        let mut bench = Self::new(me);
        bench.look(voter(5, 1));
        bench.outputs();
        bench
    }

    pub(super) fn look(&mut self, standing: Standing) {
        self.election.look(standing, &mut self.out);
    }

    pub(super) fn outputs(&mut self) -> Vec<Output> {
        core::mem::take(&mut self.out.outputs)
    }

    pub(super) fn link(&mut self, link: LinkId, input: LinkInput) {
        self.election.link(link, input, &mut self.out);
    }

    pub(super) fn open(&mut self, link: LinkId, from: i64) {
        let peer: SocketAddr = format!("10.0.0.{}:40000", from % 250).parse().unwrap();
        let port = Port::Election;
        self.link(link, LinkInput::Opened { port, peer });
    }

    /// A connection is accepted; nothing is said on it.
    pub(super) fn stranger(&mut self, from: i64) -> LinkId {
        self.accepted += 1;
        let link = LinkId(self.accepted);
        self.open(link, from);
        link
    }

    pub(super) fn receive(&mut self, link: LinkId, bytes: &[u8]) {
        self.link(link, LinkInput::Received(Bytes::copy_from_slice(bytes)));
    }

    /// A server connects and says who it is.
    pub(super) fn accept(&mut self, from: i64) -> LinkId {
        let link = self.stranger(from);
        self.receive(link, &initial(from, &format!("10.0.0.{from}")));
        link
    }

    /// A server was connected once.
    pub(super) fn meet(&mut self, server: i64) {
        let link = self.accept(server);
        self.link(link, LinkInput::Closed);
        self.outputs();
    }

    pub(super) fn hear(&mut self, link: LinkId, state: State, vote: Vote) {
        self.receive(link, &frame(state, vote));
    }

    pub(super) fn wait(&mut self, ms: u64) {
        self.out.now = self.out.now.plus_ms(ms);
        self.election.tick(&mut self.out);
    }

    /// What was dialled: the link, and the addresses.
    pub(super) fn dials(&mut self) -> Vec<(LinkId, String)> {
        let dials = self
            .outputs()
            .into_iter()
            .filter_map(|output| match output {
                Output::Link(link, LinkOutput::Dial { to, .. }) => {
                    let to: Vec<String> = to.iter().map(ToString::to_string).collect();
                    Some((link, to.join(" ")))
                }
                _ => None,
            });
        dials.collect()
    }

    /// The notifications that were sent.
    pub(super) fn said(&mut self) -> Vec<(LinkId, State, Vote)> {
        let said = self
            .outputs()
            .into_iter()
            .filter_map(|output| match output {
                Output::Link(link, LinkOutput::Send(bytes)) => {
                    let heard = Notification::decode(bytes.get(4..)?).ok()?;
                    let epoch = heard.peer_epoch;
                    let vote = vote(heard.leader.0, heard.zxid.0, heard.round, epoch);
                    Some((link, heard.state, vote))
                }
                _ => None,
            });
        said.collect()
    }

    pub(super) fn refused(&mut self) -> Vec<String> {
        let refused = self
            .outputs()
            .into_iter()
            .filter_map(|output| match output {
                Output::Event(Event::PeerRefused { reason, .. }) => Some(reason),
                _ => None,
            });
        refused.collect()
    }
}

pub(super) fn initial(from: i64, host: &str) -> Bytes {
    let initial = Initial {
        version: InitialVersion::V1,
        server: ServerId(from),
        addresses: vec![(host.into(), 3888)],
    };
    initial.to_bytes()
}

pub(super) fn frame_with(state: State, vote: Vote, members: &Membership) -> Bytes {
    let notification = Notification {
        state,
        leader: vote.leader,
        zxid: vote.zxid,
        round: vote.round,
        peer_epoch: vote.epoch,
        version: 2,
        config: Some(members.to_text()),
    };
    notification.to_frame()
}

pub(super) fn frame(state: State, vote: Vote) -> Bytes {
    frame_with(state, vote, &membership(3, 2, ""))
}

pub(super) fn is_close(output: &Output, link: LinkId) -> bool {
    *output == Output::Link(link, LinkOutput::Close)
}
