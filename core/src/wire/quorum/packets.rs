//! Packets out of a stream.

use alloc::string::String;
use alloc::vec::Vec;
use core::mem;

use bytes::Bytes;

use super::{DATA_BYTES_MAX, Error, HEAD_BYTES, IDS_BYTES_MAX, IDS_MAX, Packet, PacketType};
use crate::ids::Zxid;
use crate::jute;
use crate::wire::records::Id;
use crate::wire::stream::Stream;

/// Cuts packets out of bytes that arrive cut anywhere.
///
/// Work is proportional to the bytes received. A packet's data is a slice of what arrived if it
/// arrived in one piece, else it is collected once. Packets of unknown types are cut out as well.
#[derive(Debug)]
pub struct Packets {
    stream: Stream,
    data_bytes_max: usize,
    stage: Stage,
}

/// Which part of a packet comes next.
#[derive(Debug, Default)]
enum Stage {
    /// Type, zxid and the length of the data.
    #[default]
    Head,
    /// So many bytes of data.
    Data(Packet, usize),
    /// The number of ids.
    Count(Packet),
    /// Ids.
    Ids(Packet, Ids),
    /// Nothing: what is no packet has no known end.
    Failed(Error),
}

/// What is known of the ids of a packet.
#[derive(Debug)]
struct Ids {
    left: usize,
    list: Vec<Id>,
    scheme: Option<String>,
    /// The length of the string that comes next.
    length: Option<usize>,
    bytes_left: usize,
}

impl Ids {
    fn new(count: i32) -> Result<Self, Error> {
        match usize::try_from(count) {
            Ok(left) if left <= IDS_MAX => Ok(Self {
                left,
                list: Vec::new(),
                scheme: None,
                length: None,
                bytes_left: IDS_BYTES_MAX,
            }),
            _ => Err(Error::Ids {
                count,
                max: IDS_MAX,
            }),
        }
    }

    /// Takes what is there, and tells whether that was all.
    fn complete(&mut self, stream: &mut Stream) -> Result<bool, Error> {
        while self.left > 0 {
            let length = match self.length {
                Some(length) => length,
                None => match stream.array() {
                    Some(length) => self.name(i32::from_be_bytes(length))?,
                    None => return Ok(false),
                },
            };
            self.length = Some(length);
            let Some(name) = stream.take(length) else {
                return Ok(false);
            };
            self.length = None;
            let name = String::from_utf8_lossy(&name).into_owned();
            match self.scheme.take() {
                None => self.scheme = Some(name),
                Some(scheme) => {
                    self.list.push(Id { scheme, id: name });
                    self.left -= 1;
                }
            }
        }
        Ok(true)
    }

    /// Accounts for a name of this length. Null is read as empty: an [`Id`] knows no other.
    fn name(&mut self, length: i32) -> Result<usize, Error> {
        let error = Error::Name {
            length,
            max: self.bytes_left,
        };
        let bytes = match length {
            -1 => 0,
            length => usize::try_from(length).map_err(|_| error)?,
        };
        self.bytes_left = self.bytes_left.checked_sub(bytes).ok_or(error)?;
        Ok(bytes)
    }
}

impl Packets {
    /// Packets of at most so many bytes of data.
    #[must_use]
    pub fn new(data_bytes_max: usize) -> Self {
        Self {
            stream: Stream::default(),
            data_bytes_max,
            stage: Stage::Head,
        }
    }

    /// Takes what arrived. All packets in it should be taken before more is received: what waits
    /// is not bounded here.
    pub fn receive(&mut self, bytes: Bytes) {
        self.stream.receive(bytes);
    }

    /// The next packet, or `None` until more arrives.
    ///
    /// # Errors
    /// The bytes are no packet, or it passes a limit; so does every call afterwards.
    #[expect(
        clippy::should_implement_trait,
        reason = "it has an end only until more arrives"
    )]
    pub fn next(&mut self) -> Result<Option<Packet>, Error> {
        loop {
            match self.advance() {
                Ok(Step::Cut(packet)) => return Ok(Some(packet)),
                Ok(Step::Next(stage)) => self.stage = stage,
                Ok(Step::Wait(stage)) => {
                    self.stage = stage;
                    return Ok(None);
                }
                Err(error) => {
                    self.stage = Stage::Failed(error);
                    return Err(error);
                }
            }
        }
    }

    /// All bytes that were not cut yet: after SNAP, the beginning of the state.
    ///
    /// # Panics
    /// If [`next`](Self::next) was called since it gave the SNAP: some bytes of the state were then
    /// taken for a packet.
    #[must_use]
    pub fn take_rest(&mut self) -> Bytes {
        assert!(
            matches!(self.stage, Stage::Head),
            "between two packets, not inside one"
        );
        self.stream.take_rest()
    }

    /// Takes the next part of a packet. The stage is left at its default.
    fn advance(&mut self) -> Result<Step, Error> {
        Ok(match mem::take(&mut self.stage) {
            Stage::Head => match self.stream.array::<HEAD_BYTES>() {
                Some(head) => Step::Next(self.head(&head)?),
                None => Step::Wait(Stage::Head),
            },
            Stage::Data(mut packet, length) => match self.stream.take(length) {
                Some(data) => {
                    packet.data = Some(data);
                    Step::Next(Stage::Count(packet))
                }
                None => Step::Wait(Stage::Data(packet, length)),
            },
            Stage::Count(packet) => match self.stream.array() {
                Some(count) => match i32::from_be_bytes(count) {
                    -1 => Step::Cut(packet),
                    count => Step::Next(Stage::Ids(packet, Ids::new(count)?)),
                },
                None => Step::Wait(Stage::Count(packet)),
            },
            Stage::Ids(mut packet, mut ids) => {
                if ids.complete(&mut self.stream)? {
                    packet.ids = Some(ids.list);
                    Step::Cut(packet)
                } else {
                    Step::Wait(Stage::Ids(packet, ids))
                }
            }
            Stage::Failed(error) => return Err(error),
        })
    }

    fn head(&self, head: &[u8; HEAD_BYTES]) -> Result<Stage, Error> {
        let max = self.data_bytes_max;
        let (kind, zxid, length): (PacketType, Zxid, i32) =
            jute::take(&mut &head[..]).expect("these are as many bytes as the three have");
        let packet = Packet::new(kind, zxid);
        match usize::try_from(length) {
            Ok(bytes) if bytes <= max => Ok(Stage::Data(packet, bytes)),
            Err(_) if length == -1 => Ok(Stage::Count(packet)),
            _ => Err(Error::Data { length, max }),
        }
    }
}

/// What became of a part.
enum Step {
    /// It was the last.
    Cut(Packet),
    /// Another follows.
    Next(Stage),
    /// Its bytes are not there yet.
    Wait(Stage),
}

impl Default for Packets {
    /// With the limit of a Java server.
    fn default() -> Self {
        Self::new(DATA_BYTES_MAX)
    }
}
