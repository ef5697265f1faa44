//! Answers to `AskFacts`, from a thread of their own.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::{io, thread};

use zabra_core::ids::LinkId;
use zabra_core::server::{HostFacts, Input};

use super::inbox::Inbox;

/// Asks the host for its facts away from the driver's thread: measuring directories may take long.
///
/// The thread starts with the first question, for most servers never are asked, and ends with this
/// value.
pub(super) struct Facts<F> {
    provider: Option<F>,
    questions: Option<Sender<LinkId>>,
    inbox: Inbox,
}

impl<F: FnMut() -> HostFacts + Send + 'static> Facts<F> {
    pub(super) fn new(provider: F, inbox: Inbox) -> Self {
        Self {
            provider: Some(provider),
            questions: None,
            inbox,
        }
    }

    /// Has `link` answered through the inbox, some time later.
    pub(super) fn ask(&mut self, link: LinkId) {
        if let Some(provider) = self.provider.take() {
            match start(provider, self.inbox.clone()) {
                Ok(questions) => self.questions = Some(questions),
                Err(error) => self
                    .inbox
                    .fail(format!("cannot start the thread of facts: {error}")),
            }
        }
        if let Some(questions) = &self.questions {
            // Its thread only ends before this value by a panic, which it reports itself.
            let _ = questions.send(link);
        }
    }
}

fn start<F: FnMut() -> HostFacts + Send + 'static>(
    provider: F,
    inbox: Inbox,
) -> io::Result<Sender<LinkId>> {
    let (questions, asked) = channel();
    thread::Builder::new()
        .name("zabra-facts".to_owned())
        .spawn(move || answer(provider, &asked, inbox))?;
    Ok(questions)
}

fn answer(mut provider: impl FnMut() -> HostFacts, asked: &Receiver<LinkId>, inbox: Inbox) {
    let on_panic = FailOnPanic(inbox);
    while let Ok(first) = asked.recv() {
        // Whoever asked before the measurement begins may share it.
        let links: Vec<LinkId> = core::iter::once(first).chain(asked.try_iter()).collect();
        let facts = provider();
        for link in links {
            on_panic.0.push(Input::Facts(link, facts.clone()));
        }
    }
}

/// A panic is ours to fix, and must not look like a question that is never answered.
struct FailOnPanic(Inbox);

impl Drop for FailOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.fail("the thread of facts panicked");
        }
    }
}
