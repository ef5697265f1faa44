//! How other threads of this process ask the machine, and hear what it says.

use core::fmt;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use zabra_core::ids::{ServerId, Zxid};
use zabra_core::server::{Event, HostFacts, Input, Question};
use zabra_core::zab;

use crate::store::Fsyncs;

/// How long an answer may take: a step is a few milliseconds, and a core that stands still must not
/// collect questions.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// Questions that may be open; whoever asks more is told that it is too much.
const QUESTIONS_MAX: usize = 64;

/// Words whose answers have something in them that only the host knows.
const NEEDS_FACTS: [&[u8]; 5] = [b"conf", b"dirs", b"dump", b"envi", b"mntr"];

/// Asks the machine of whichever life the server is in. A clone asks the same.
#[derive(Clone, Default)]
pub struct Asker {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// The newest snapshot that was made durable in this process.
    snapshot: watch::Sender<Option<Zxid>>,
}

#[derive(Default)]
struct State {
    life: Option<Life>,
    asked: u64,
    waiting: BTreeMap<Question, oneshot::Sender<String>>,
    leader: Option<ServerId>,
}

type Facts = Arc<Mutex<dyn FnMut() -> HostFacts + Send>>;

/// The machine that can be asked at the moment.
struct Life {
    push: Box<dyn Fn(Input) + Send>,
    facts: Facts,
    fsyncs: Arc<Fsyncs>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTold {
    /// There are as many questions as there may be.
    Busy,
    /// The server is between two lives, or is stopping.
    NotServing,
    /// The core did not answer in time.
    Late,
}

impl fmt::Display for NotTold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Busy => "too many commands are being answered, try again",
            Self::NotServing => NOT_SERVING,
            Self::Late => "the server did not answer in 5 seconds",
        })
    }
}

/// What ZooKeeper says when a command needs a server that serves.
pub(super) const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests";

impl Asker {
    /// A life begins: `push` gives its machine an input, `facts` says what only the host knows, and
    /// `fsyncs` counts those of its log.
    pub fn begin(
        &self,
        push: impl Fn(Input) + Send + 'static,
        facts: impl FnMut() -> HostFacts + Send + 'static,
        fsyncs: Arc<Fsyncs>,
    ) {
        self.lock().life = Some(Life {
            push: Box::new(push),
            facts: Arc::new(Mutex::new(facts)),
            fsyncs,
        });
    }

    /// The life is over: what was asked will not be answered.
    pub fn end(&self) {
        let mut state = self.lock();
        state.life = None;
        state.waiting.clear();
        state.leader = None;
    }

    /// Hears an event of the machine. Returns whether it was for nobody else.
    pub fn hear(&self, event: &mut Event) -> bool {
        if let Event::Told { question, text } = event {
            let asker = self.lock().waiting.remove(question);
            if let Some(asker) = asker {
                // Whoever asked may not have waited.
                let _ = asker.send(core::mem::take(text));
            }
            return true;
        }
        if let Event::SnapshotDone { zxid } = event {
            self.shared.snapshot.send_replace(Some(*zxid));
        }
        if let Event::Zab(zab::Event::Elected { leader, .. }) = event {
            self.lock().leader = Some(*leader);
        }
        false
    }

    /// The fsyncs of this life.
    pub(super) fn fsyncs(&self) -> Option<Arc<Fsyncs>> {
        let state = self.lock();
        state.life.as_ref().map(|life| Arc::clone(&life.fsyncs))
    }

    /// The winner of the last election, if there was one in this life.
    pub(super) fn leader(&self) -> Option<ServerId> {
        self.lock().leader
    }

    /// Asks a four-letter word, with what follows it.
    ///
    /// # Errors
    /// There is nobody to answer, or not in time.
    pub(super) async fn ask(&self, word: impl Into<Bytes>) -> Result<String, NotTold> {
        let word = word.into();
        let known = if NEEDS_FACTS.contains(&&*word) {
            self.facts().await?
        } else {
            HostFacts::default()
        };
        let (question, answer) = self.put(word, known)?;
        match timeout(ANSWER_TIME_MAX, answer).await {
            Ok(Ok(text)) => Ok(text),
            Ok(Err(_)) => Err(NotTold::NotServing),
            Err(_) => {
                self.lock().waiting.remove(&question);
                Err(NotTold::Late)
            }
        }
    }

    /// Hears of every snapshot that is made durable.
    pub(super) fn snapshots(&self) -> watch::Receiver<Option<Zxid>> {
        self.shared.snapshot.subscribe()
    }

    /// What only the host knows, from a thread that may wait for the disk.
    pub(super) async fn facts(&self) -> Result<HostFacts, NotTold> {
        let facts = match &self.lock().life {
            Some(life) => Arc::clone(&life.facts),
            None => return Err(NotTold::NotServing),
        };
        let gathered = spawn_blocking(move || {
            let mut facts = facts.lock().unwrap_or_else(PoisonError::into_inner);
            facts()
        });
        gathered.await.map_err(|_| NotTold::NotServing)
    }

    fn put(
        &self,
        word: Bytes,
        facts: HostFacts,
    ) -> Result<(Question, oneshot::Receiver<String>), NotTold> {
        let (sender, answer) = oneshot::channel();
        let mut state = self.lock();
        if state.waiting.len() >= QUESTIONS_MAX {
            return Err(NotTold::Busy);
        }
        state.asked += 1;
        let question = Question(state.asked);
        let Some(life) = &state.life else {
            return Err(NotTold::NotServing);
        };
        (life.push)(Input::Ask(question, word, facts));
        state.waiting.insert(question, sender);
        Ok((question, answer))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is one assignment or one insertion: a panic leaves whole values behind.
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::unwrap_used,
        reason = "a test may stop at what it did not expect"
    )]

    use tokio::runtime::Builder;

    use super::*;

    fn run(test: impl Future<Output = ()>) {
        let runtime = Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(test);
    }

    /// A machine that answers every word with itself.
    fn echoing(asker: &Asker) {
        let told = asker.clone();
        asker.begin(
            move |input| {
                let Input::Ask(question, word, _) = input else {
                    return;
                };
                let text = String::from_utf8(word.to_vec()).unwrap();
                let told = told.clone();
                tokio::spawn(async move {
                    assert!(told.hear(&mut Event::Told { question, text }));
                });
            },
            HostFacts::default,
            Arc::default(),
        );
    }

    #[test]
    fn words_are_answered_by_the_life_that_is() {
        run(async {
            let asker = Asker::default();
            assert_eq!(asker.ask("ruok").await, Err(NotTold::NotServing));
            echoing(&asker);
            assert_eq!(asker.ask("ruok").await, Ok("ruok".to_owned()));
            assert_eq!(asker.ask("mntr").await, Ok("mntr".to_owned()));
            asker.end();
            assert_eq!(asker.ask("ruok").await, Err(NotTold::NotServing));
        });
    }

    #[test]
    fn end_of_a_life_answers_whoever_waits() {
        run(async {
            let asker = Asker::default();
            asker.begin(|_| {}, HostFacts::default, Arc::default());
            let waiting = asker.clone();
            let waiting = tokio::spawn(async move { waiting.ask("srvr").await });
            tokio::task::yield_now().await;
            asker.end();
            assert_eq!(waiting.await.unwrap(), Err(NotTold::NotServing));
        });
    }

    #[test]
    fn questions_are_bounded() {
        run(async {
            let asker = Asker::default();
            asker.begin(|_| {}, HostFacts::default, Arc::default());
            let asked: Vec<_> = (0..QUESTIONS_MAX)
                .map(|_| asker.put("srvr".into(), HostFacts::default()))
                .collect();
            assert!(asked.iter().all(Result::is_ok));
            assert_eq!(asker.ask("srvr").await, Err(NotTold::Busy));
        });
    }
}
