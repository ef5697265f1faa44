//! Captured streams, and their parts.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use zabra_core::wire::election::{Frames, Initial, Notification};
use zabra_core::wire::quorum::{Packet, PacketType, Packets, SNAPSHOT_END};

pub(crate) const CAPTURES: [&str; 5] = [
    "static-3-1",
    "multiaddr",
    "reconfig",
    "mixed-380-386-395",
    "observer-master",
];

/// One direction of a connection.
pub(crate) struct Captured {
    pub(crate) port: char,
    /// Whether it is what the side said that connected.
    pub(crate) dialled: bool,
    pub(crate) bytes: Bytes,
}

pub(crate) fn captured(name: &str) -> Vec<Captured> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/peers");
    let mut file = Bytes::from(fs::read(directory.join(format!("{name}.streams"))).unwrap());
    let mut streams = Vec::new();
    while !file.is_empty() {
        let head = file.split_to(6);
        let length = u32::from_be_bytes(head[2..].try_into().unwrap());
        streams.push(Captured {
            port: char::from(head[0]),
            dialled: head[1] == b'>',
            bytes: file.split_to(length as usize),
        });
    }
    streams
}

/// A part of what is said on the quorum port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Packet(Packet),
    /// The state after a SNAP, with its end.
    State(Vec<u8>),
}

/// Cuts a stream that arrives in chunks.
pub(crate) fn parts(bytes: &Bytes, chunk: usize) -> Vec<Part> {
    let mut end = vec![0, 0, 0, SNAPSHOT_END.len() as u8];
    end.extend_from_slice(SNAPSHOT_END.as_bytes());
    let (mut packets, mut parts) = (Packets::default(), Vec::new());
    let mut state: Option<Vec<u8>> = None;
    let mut start = 0;
    while start < bytes.len() {
        let stop = (start + chunk).min(bytes.len());
        packets.receive(bytes.slice(start..stop));
        start = stop;
        loop {
            if let Some(so_far) = &mut state {
                so_far.extend_from_slice(&packets.take_rest());
                let Some(at) = so_far.windows(end.len()).position(|part| part == end) else {
                    break;
                };
                let rest = so_far.split_off(at + end.len());
                parts.push(Part::State(state.take().unwrap()));
                packets.receive(rest.into());
            }
            let Some(packet) = packets.next().unwrap() else {
                break;
            };
            if packet.kind == PacketType::SNAP {
                state = Some(Vec::new());
            }
            parts.push(Part::Packet(packet));
        }
    }
    parts
}

/// The packets of a stream.
pub(crate) fn packets(bytes: &Bytes) -> impl Iterator<Item = Packet> + use<> {
    let parts = parts(bytes, usize::MAX / 2).into_iter();
    parts.filter_map(|part| match part {
        Part::Packet(packet) => Some(packet),
        Part::State(_) => None,
    })
}

/// A stream of the election port, in chunks.
pub(crate) fn messages(stream: &Captured, chunk: usize) -> (Option<Initial>, Vec<Notification>) {
    let (mut frames, mut initial, mut notifications) = (Frames::new(), None, Vec::new());
    for part in stream.bytes.chunks(chunk) {
        frames.receive(Bytes::copy_from_slice(part));
        if stream.dialled && initial.is_none() {
            initial = frames.next_initial().unwrap();
            if initial.is_none() {
                continue;
            }
        }
        while let Some(payload) = frames.next().unwrap() {
            notifications.push(Notification::decode(&payload).unwrap());
        }
    }
    (initial, notifications)
}

/// How many there are of each, as another decoder counted them.
pub(crate) fn counts(text: &str) -> BTreeMap<String, usize> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let pairs = words.chunks(2);
    pairs
        .map(|pair| (pair[0].to_string(), pair[1].parse().unwrap()))
        .collect()
}
