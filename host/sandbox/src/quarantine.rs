//! Bytes that trap a module twice do not get a third try.
//!
//! What a link had received in a step that trapped is suspect, from one life to the next. In the
//! next life suspect bytes are stepped alone, after a step of nothing: if that traps, it is these
//! bytes, and a link that brings them again is closed instead. If it does not, they are no longer
//! suspect. Memory that runs out is laid to them only if there was plenty before.

use core::cell::RefCell;
use core::hash::BuildHasher;
use core::net::SocketAddr;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::RandomState;
use std::rc::Rc;

use zabra_core::Machine;
use zabra_core::ids::{Instant, LinkId};
use zabra_core::link::{LinkInput, LinkOutput};
use zabra_core::machine::Now;
use zabra_core::server::{Input, Output};
use zabra_core_wasm::abi;

use crate::journal::Journal;
use crate::{Instance, Trap};

/// Suspects that are remembered; the oldest are forgotten.
const SUSPECTS_MAX: usize = 4096;
/// Bytes that are never delivered again; the oldest are given another chance.
const CONDEMNED_MAX: usize = 1024;

/// What a server is stepped by: an [`Instance`], or what a test puts in its place.
pub trait Steps {
    /// See [`Instance::step`].
    ///
    /// # Errors
    /// It traps; `inputs` are as they were then, and `outputs` too.
    fn step(
        &mut self,
        now: Now,
        inputs: &mut Vec<Input>,
        outputs: &mut Vec<Output>,
    ) -> Result<Option<Instant>, Trap>;

    /// Whether a step that needs more memory than there is needs very much of it.
    fn has_room(&self) -> bool;
}

impl Steps for Instance {
    fn step(
        &mut self,
        now: Now,
        inputs: &mut Vec<Input>,
        outputs: &mut Vec<Output>,
    ) -> Result<Option<Instant>, Trap> {
        Self::step(self, now, inputs, outputs)
    }

    fn has_room(&self) -> bool {
        self.memory_bytes() <= self.limits().memory_bytes_max / 2
    }
}

/// What lives leave each other. A clone is the same quarantine.
#[derive(Clone, Default)]
pub struct Quarantine {
    shared: Rc<RefCell<Shared>>,
}

#[derive(Default)]
struct Shared {
    /// Its key is of this process: nobody can make bytes that collide with others'.
    marks: RandomState,
    suspects: Marks,
    condemned: Marks,
    caught: Vec<Caught>,
    refused: Vec<Refused>,
}

/// Bytes that trapped twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caught {
    /// How.
    pub trap: Trap,
    /// Whose they were, if the link was opened in that life.
    pub peer: Option<SocketAddr>,
    /// How many.
    pub bytes: usize,
    /// A journal of that life, as a file's content.
    pub journal: Vec<u8>,
}

/// A link that brought such bytes again, and was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its other end.
    pub peer: Option<SocketAddr>,
    /// How many bytes.
    pub bytes: usize,
}

impl Quarantine {
    /// Whether a life that begins now must be watched, so that there is a [`Journal`] of it.
    #[must_use]
    pub fn suspects(&self) -> bool {
        !self.shared.borrow().suspects.is_empty()
    }

    /// Those that were caught since the last call.
    #[must_use]
    pub fn take_caught(&self) -> Vec<Caught> {
        core::mem::take(&mut self.shared.borrow_mut().caught)
    }

    /// Those that were refused since the last call.
    #[must_use]
    pub fn take_refused(&self) -> Vec<Refused> {
        core::mem::take(&mut self.shared.borrow_mut().refused)
    }
}

/// Hashes, the oldest first.
#[derive(Default)]
struct Marks {
    known: BTreeSet<u64>,
    order: VecDeque<u64>,
}

impl Marks {
    fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    fn contains(&self, mark: u64) -> bool {
        self.known.contains(&mark)
    }

    fn insert(&mut self, mark: u64, max: usize) {
        if self.known.insert(mark) {
            self.order.push_back(mark);
        }
        while self.order.len() > max {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }

    fn remove(&mut self, mark: u64) {
        if self.known.remove(&mark) {
            self.order.retain(|known| *known != mark);
        }
    }
}

/// A server behind the border, in one of its lives. A trap is [`Output::Restart`], and nothing else
/// of that step.
pub struct Guarded<S> {
    instance: S,
    /// What messages call the module.
    name: String,
    quarantine: Quarantine,
    /// Of a life in which there are suspects.
    journal: Option<Journal>,
    /// Whether anything is to be looked for in this life: what becomes suspect ends it.
    watched: bool,
    peers: BTreeMap<LinkId, SocketAddr>,
    /// Room for an input that is stepped alone.
    alone: Vec<Input>,
    ended: bool,
}

impl<S: Steps> Guarded<S> {
    /// An instance that was opened, with the journal of that.
    #[must_use]
    pub fn new(
        instance: S,
        name: String,
        quarantine: Quarantine,
        journal: Option<Journal>,
    ) -> Self {
        let watched = {
            let shared = quarantine.shared.borrow();
            !shared.suspects.is_empty() || !shared.condemned.is_empty()
        };
        Self {
            instance,
            name,
            quarantine,
            journal,
            watched,
            peers: BTreeMap::new(),
            alone: Vec::new(),
            ended: false,
        }
    }

    fn call(
        &mut self,
        now: Now,
        inputs: &mut Vec<Input>,
        outputs: &mut Vec<Output>,
    ) -> Result<Option<Instant>, Trap> {
        if let Some(journal) = &mut self.journal {
            let mut batch = vec![0; abi::step_bytes_max(inputs)];
            if let Ok(bytes) = abi::encode_step_into(now, inputs, &mut batch) {
                journal.step(batch.get(..bytes).unwrap_or_default());
            }
        }
        self.instance.step(now, inputs, outputs)
    }

    /// A step in a life after one that trapped.
    fn watchfully(
        &mut self,
        now: Now,
        inputs: &mut Vec<Input>,
        outputs: &mut Vec<Output>,
    ) -> Option<Instant> {
        self.remember_peers(inputs);
        let (suspect, refused) = self.refuse(inputs);
        let before = outputs.len();
        let next = if suspect {
            self.one_by_one(now, inputs, outputs)
        } else {
            self.together(now, inputs, outputs)
        };
        // The core has heard that they are gone.
        let close = |link| Output::Link(link, LinkOutput::Close);
        outputs.extend(refused.into_iter().map(close));
        for output in outputs.get(before..).unwrap_or_default() {
            if let Output::Link(link, LinkOutput::Close) = output {
                self.peers.remove(link);
            }
        }
        if !self.quarantine.suspects() {
            self.journal = None;
        }
        next
    }

    fn remember_peers(&mut self, inputs: &[Input]) {
        for input in inputs {
            if let Input::Link(link, LinkInput::Opened { peer, .. }) = input {
                self.peers.insert(*link, *peer);
            }
        }
    }

    /// Takes condemned bytes out, and says whether there are suspect ones, and of which links the
    /// core hears that they are gone.
    fn refuse(&mut self, inputs: &mut Vec<Input>) -> (bool, BTreeSet<LinkId>) {
        let Shared {
            marks,
            suspects,
            condemned,
            refused: told,
            ..
        } = &mut *self.quarantine.shared.borrow_mut();
        let mut refused = BTreeSet::new();
        let mut suspect = false;
        inputs.retain_mut(|input| {
            let Input::Link(link, what) = input else {
                return true;
            };
            if refused.contains(link) {
                return false;
            }
            match what {
                LinkInput::Received(bytes) => {
                    let mark = marks.hash_one(&**bytes);
                    if condemned.contains(mark) {
                        refused.insert(*link);
                        told.push(Refused {
                            peer: self.peers.get(link).copied(),
                            bytes: bytes.len(),
                        });
                        *what = LinkInput::Closed;
                    } else {
                        suspect |= suspects.contains(mark);
                    }
                }
                LinkInput::Closed => {
                    self.peers.remove(link);
                }
                LinkInput::Opened { .. } | LinkInput::Flushed(_) | LinkInput::Secured { .. } => {}
            }
            true
        });
        (suspect, refused)
    }

    fn together(
        &mut self,
        now: Now,
        inputs: &mut Vec<Input>,
        outputs: &mut Vec<Output>,
    ) -> Option<Instant> {
        match self.call(now, inputs, outputs) {
            Ok(next) => next,
            Err(trap) => {
                self.suspect(inputs);
                self.end(&trap, inputs, outputs)
            }
        }
    }

    /// Steps every input alone, so that it shows which of them traps.
    fn one_by_one(
        &mut self,
        now: Now,
        inputs: &mut Vec<Input>,
        outputs: &mut Vec<Output>,
    ) -> Option<Instant> {
        let mut next = None;
        let mut alone = core::mem::take(&mut self.alone);
        for input in core::mem::take(inputs) {
            alone.clear();
            let mark = {
                let shared = self.quarantine.shared.borrow();
                received(&shared.marks, core::slice::from_ref(&input))
                    .next()
                    .filter(|mark| shared.suspects.contains(*mark))
            };
            // What time alone brings about is not laid to them.
            let quiet = match mark {
                Some(_) => self.call(now, &mut alone, outputs),
                None => Ok(None),
            };
            if let Err(trap) = quiet {
                return self.end(&trap, inputs, outputs);
            }
            alone.push(input);
            let has_room = self.instance.has_room();
            match self.call(now, &mut alone, outputs) {
                Ok(then) => next = then,
                Err(trap) => {
                    let theirs = has_room || !matches!(trap, Trap::OutOfMemory { .. });
                    match mark.filter(|_| theirs) {
                        Some(mark) => self.condemn(mark, &alone, &trap),
                        None => self.suspect(&alone),
                    }
                    return self.end(&trap, inputs, outputs);
                }
            }
            if let Some(mark) = mark {
                self.quarantine.shared.borrow_mut().suspects.remove(mark);
            }
        }
        self.alone = alone;
        next
    }

    fn suspect(&self, inputs: &[Input]) {
        let Shared {
            marks, suspects, ..
        } = &mut *self.quarantine.shared.borrow_mut();
        for mark in received(marks, inputs) {
            suspects.insert(mark, SUSPECTS_MAX);
        }
    }

    fn condemn(&mut self, mark: u64, inputs: &[Input], trap: &Trap) {
        let (peer, bytes) = match inputs {
            [Input::Link(link, LinkInput::Received(bytes))] => {
                (self.peers.get(link).copied(), bytes.len())
            }
            _ => (None, 0),
        };
        let journal = self.journal.take();
        let journal = journal.map_or_else(Vec::new, |journal| journal.finish(trap));
        let shared = &mut *self.quarantine.shared.borrow_mut();
        shared.suspects.remove(mark);
        shared.condemned.insert(mark, CONDEMNED_MAX);
        shared.caught.push(Caught {
            trap: trap.clone(),
            peer,
            bytes,
            journal,
        });
    }

    fn end(
        &mut self,
        trap: &Trap,
        inputs: &mut Vec<Input>,
        outputs: &mut Vec<Output>,
    ) -> Option<Instant> {
        inputs.clear();
        outputs.push(Output::Restart(format!("{}: {trap}", self.name)));
        self.ended = true;
        None
    }
}

impl<S: Steps> Machine for Guarded<S> {
    type Input = Input;
    type Output = Output;

    fn step(
        &mut self,
        now: Now,
        inputs: &mut Vec<Input>,
        outputs: &mut Vec<Output>,
    ) -> Option<Instant> {
        if self.ended {
            inputs.clear();
            return None;
        }
        if self.watched {
            self.watchfully(now, inputs, outputs)
        } else {
            self.together(now, inputs, outputs)
        }
    }
}

/// The marks of what links received.
fn received<'a>(marks: &'a RandomState, inputs: &'a [Input]) -> impl Iterator<Item = u64> {
    inputs.iter().filter_map(|input| match input {
        Input::Link(_, LinkInput::Received(bytes)) => Some(marks.hash_one(&**bytes)),
        Input::Link(
            _,
            LinkInput::Opened { .. }
            | LinkInput::Flushed(_)
            | LinkInput::Closed
            | LinkInput::Secured { .. },
        )
        | Input::Stored { .. }
        | Input::SnapshotWritten(_)
        | Input::SnapshotStored { .. }
        | Input::SnapshotFailed { .. }
        | Input::Facts(..)
        | Input::Disk(_)
        | Input::Ask(..) => None,
    })
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        reason = "a test may stop at what it did not expect"
    )]

    use core::net::Ipv4Addr;

    use bytes::Bytes;
    use zabra_core::link::Port;

    use super::*;
    use crate::Limits;

    /// Traps on any batch with `bad` in it, or in every step; echoes what else it receives.
    #[derive(Default)]
    struct Fake {
        always: bool,
        memory: Option<Memory>,
        batches: Batches,
    }

    /// `bad` needs more than there is.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Memory {
        Free,
        Full,
    }

    impl Steps for Fake {
        fn step(
            &mut self,
            _now: Now,
            inputs: &mut Vec<Input>,
            outputs: &mut Vec<Output>,
        ) -> Result<Option<Instant>, Trap> {
            self.batches.borrow_mut().push(inputs.clone());
            if self.always || inputs.iter().any(|input| *input == bytes(1, "bad")) {
                return Err(match self.memory {
                    Some(_) => Trap::OutOfMemory {
                        memory_bytes_max: 1,
                    },
                    None => Trap::Panicked("panicked".into()),
                });
            }
            for input in inputs.drain(..) {
                if let Input::Link(link, LinkInput::Received(bytes)) = input {
                    outputs.push(Output::Link(link, LinkOutput::Send(bytes)));
                }
            }
            Ok(Some(Instant(5)))
        }

        fn has_room(&self) -> bool {
            self.memory != Some(Memory::Full)
        }
    }

    fn bytes(link: u64, text: &'static str) -> Input {
        let bytes = Bytes::from_static(text.as_bytes());
        Input::Link(LinkId(link), LinkInput::Received(bytes))
    }

    fn opened(link: u64) -> Input {
        let port = Port::Client;
        Input::Link(LinkId(link), LinkInput::Opened { port, peer: peer() })
    }

    fn peer() -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, 7))
    }

    fn sent(link: u64, text: &'static str) -> Output {
        let bytes = Bytes::from_static(text.as_bytes());
        Output::Link(LinkId(link), LinkOutput::Send(bytes))
    }

    type Batches = Rc<RefCell<Vec<Vec<Input>>>>;

    /// A life that traps as `fake` does, and what it was stepped with.
    fn life_of(quarantine: &Quarantine, fake: Fake) -> (Guarded<Fake>, Batches) {
        let batches = Rc::clone(&fake.batches);
        let journal = quarantine
            .suspects()
            .then(|| Journal::new(Limits::default()));
        let guarded = Guarded::new(fake, "core.wasm".into(), quarantine.clone(), journal);
        (guarded, batches)
    }

    fn life(quarantine: &Quarantine) -> (Guarded<Fake>, Batches) {
        life_of(quarantine, Fake::default())
    }

    fn step(guarded: &mut Guarded<Fake>, mut inputs: Vec<Input>) -> Vec<Output> {
        let mut outputs = Vec::new();
        guarded.step(Now::default(), &mut inputs, &mut outputs);
        assert!(inputs.is_empty(), "a step drains its inputs");
        outputs
    }

    fn restart() -> Output {
        Output::Restart("core.wasm: the sandboxed core panicked".into())
    }

    #[test]
    fn bytes_that_trap_twice_close_their_link_from_then_on() {
        let quarantine = Quarantine::default();
        let (mut first, _) = life(&quarantine);
        assert_eq!(
            step(&mut first, vec![bytes(1, "good"), bytes(1, "bad")]),
            [restart()]
        );
        assert_eq!(step(&mut first, vec![bytes(2, "late")]), [], "it is over");

        let (mut second, batches) = life(&quarantine);
        assert!(quarantine.suspects());
        let inputs = vec![
            opened(1),
            bytes(2, "good"),
            bytes(1, "bad"),
            bytes(2, "never"),
        ];
        // What came before was done, each for itself.
        assert_eq!(step(&mut second, inputs), [sent(2, "good"), restart()]);
        assert_eq!(
            *batches.borrow(),
            [
                vec![opened(1)],
                vec![],
                vec![bytes(2, "good")],
                vec![],
                vec![bytes(1, "bad")],
            ]
        );
        let [caught] = quarantine.take_caught().try_into().unwrap();
        assert_eq!((caught.peer, caught.bytes), (Some(peer()), 3));
        assert!(caught.journal.starts_with(crate::journal::MAGIC));

        let (mut third, batches) = life(&quarantine);
        assert_eq!(step(&mut third, vec![opened(1), opened(2)]), []);
        let inputs = vec![bytes(2, "on"), bytes(1, "bad"), bytes(1, "more")];
        assert_eq!(
            step(&mut third, inputs),
            [sent(2, "on"), Output::Link(LinkId(1), LinkOutput::Close)]
        );
        // The core has heard that the link is gone, and nothing after that.
        let gone = Input::Link(LinkId(1), LinkInput::Closed);
        assert_eq!(batches.borrow()[1], [bytes(2, "on"), gone]);
        let refused = Refused {
            peer: Some(peer()),
            bytes: 3,
        };
        assert_eq!(quarantine.take_refused(), [refused]);
        assert_eq!(quarantine.take_refused(), []);
        assert_eq!(quarantine.take_caught(), []);
    }

    #[test]
    fn bytes_that_do_not_trap_alone_are_no_longer_suspect() {
        let quarantine = Quarantine::default();
        let (mut first, _) = life(&quarantine);
        step(&mut first, vec![bytes(1, "good"), bytes(1, "bad")]);
        let (mut second, batches) = life(&quarantine);
        step(&mut second, vec![bytes(3, "good"), bytes(4, "else")]);
        step(&mut second, vec![bytes(3, "good"), bytes(4, "else")]);
        assert_eq!(
            *batches.borrow(),
            [
                vec![],
                vec![bytes(3, "good")],
                vec![bytes(4, "else")],
                vec![bytes(3, "good"), bytes(4, "else")],
            ]
        );
        assert!(quarantine.suspects(), "the others are");
    }

    #[test]
    fn server_that_traps_anyway_condemns_nobody() {
        let quarantine = Quarantine::default();
        let (mut first, _) = life(&quarantine);
        step(&mut first, vec![bytes(1, "bad")]);
        for _ in 0..3 {
            let broken = Fake {
                always: true,
                ..Fake::default()
            };
            let (mut next, _) = life_of(&quarantine, broken);
            assert_eq!(step(&mut next, vec![bytes(1, "bad")]), [restart()]);
        }
        assert_eq!(quarantine.take_caught(), []);
    }

    #[test]
    fn full_memory_is_laid_to_nobody() {
        for (memory, caught) in [(Memory::Full, 0), (Memory::Free, 1)] {
            let quarantine = Quarantine::default();
            for _ in 0..3 {
                let fake = Fake {
                    memory: Some(memory),
                    ..Fake::default()
                };
                let (mut next, _) = life_of(&quarantine, fake);
                step(&mut next, vec![bytes(1, "bad")]);
            }
            assert_eq!(quarantine.take_caught().len(), caught);
        }
    }

    #[test]
    fn memory_of_marks_is_bounded() {
        let mut marks = Marks::default();
        for mark in 0..100 {
            marks.insert(mark, 10);
        }
        assert_eq!(marks.order, (90..100).collect::<Vec<_>>());
        assert_eq!(marks.known.len(), 10);
        marks.remove(95);
        assert!(!marks.contains(95) && marks.contains(94) && !marks.is_empty());
    }
}
