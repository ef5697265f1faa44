//! Four-letter words: what operators and their tools ask a server on the port for its clients.
//!
//! A word is the first four bytes of a connection; it is answered with text, and the connection
//! closes. Nothing here changes the replicated state. Start reading at [`Word`].
//!
//! Source: `FourLetterCommands`, `CommandExecutor` and the classes of `server.command`.

mod conf;
mod date;
mod dump;
mod latency;
mod mntr;
mod quorum;
mod status;
#[cfg(test)]
mod tests;

use alloc::format;
use alloc::string::String;

use bytes::Bytes;

use super::config::FourLetterWords;
use super::conn::Stage;
use super::{Core, Event, HostFacts, Output, Question, Server};
use crate::ids::LinkId;

pub use date::{civil_date, days_since_1970};

pub(super) use latency::Latencies;

/// What is traced unless `stmk` says otherwise: requests, packets, sessions, warnings.
///
/// Source: `ZooTrace.traceMask`. No trace depends on it here; it is kept for who asks.
const TRACE_MASK: i64 = 306;

/// What every word that needs a tree gets from a server that has no leader, or is still loading.
const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests\n";

/// The word that only whoever administers this process may ask.
const SNAPSHOT: &[u8] = b"snap";

/// The word `stmk` with its mask.
#[must_use]
pub fn set_trace_mask(mask: i64) -> Bytes {
    let mut word = b"stmk".to_vec();
    word.extend_from_slice(&mask.to_be_bytes());
    word.into()
}

/// A word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Conf,
    Cons,
    Crst,
    Dirs,
    Dump,
    Envi,
    Gtmk,
    Hash,
    Isro,
    Mntr,
    Ruok,
    Srst,
    Srvr,
    Stat,
    Stmk,
    /// No word, but what telnet sends when its user interrupts it: closes without a complaint.
    TelnetInterrupt,
    Wchc,
    Wchp,
    Wchs,
}

const WORDS: [([u8; 4], Word); 19] = [
    (*b"conf", Word::Conf),
    (*b"cons", Word::Cons),
    (*b"crst", Word::Crst),
    (*b"dirs", Word::Dirs),
    (*b"dump", Word::Dump),
    (*b"envi", Word::Envi),
    (*b"gtmk", Word::Gtmk),
    (*b"hash", Word::Hash),
    (*b"isro", Word::Isro),
    (*b"mntr", Word::Mntr),
    (*b"ruok", Word::Ruok),
    (*b"srst", Word::Srst),
    (*b"srvr", Word::Srvr),
    (*b"stat", Word::Stat),
    (*b"stmk", Word::Stmk),
    (*b"\xff\xf4\xff\xfd", Word::TelnetInterrupt),
    (*b"wchc", Word::Wchc),
    (*b"wchp", Word::Wchp),
    (*b"wchs", Word::Wchs),
];

impl Word {
    /// The word that a connection begins with, if it is one.
    pub(super) fn recognise(bytes: [u8; 4]) -> Option<Self> {
        let found = WORDS.iter().find(|(known, _)| *known == bytes);
        found.map(|&(_, word)| word)
    }

    fn name(self) -> &'static str {
        let found = WORDS.iter().find(|(_, word)| *word == self);
        found.map_or("", |(name, _)| str::from_utf8(name).unwrap_or_default())
    }

    /// Whether a server answers that has nothing to serve.
    const fn needs_no_tree(self) -> bool {
        matches!(self, Self::Envi | Self::Gtmk | Self::Ruok | Self::Stmk)
    }

    /// Whether the answer has something in it that only the host knows.
    const fn needs_facts(self) -> bool {
        matches!(
            self,
            Self::Conf | Self::Dirs | Self::Dump | Self::Envi | Self::Mntr
        )
    }
}

impl FourLetterWords {
    fn permits(&self, word: Word, read_only_mode: bool) -> bool {
        match self {
            Self::All => true,
            Self::Only(words) => {
                // Source: `zkServer.sh status` lives on the one; by the other, clients find a
                // server that does not only read.
                let always = word == Word::Srvr || (word == Word::Isro && read_only_mode);
                always || words.iter().any(|w| w == word.name())
            }
        }
    }
}

impl Server {
    /// Answers a word, or asks for what its answer needs.
    pub(super) fn word(&mut self, link: LinkId, word: Word) {
        let Some(conn) = self.conns.get_mut(&link) else {
            return;
        };
        if word == Word::TelnetInterrupt {
            return self.close(link);
        }
        let ensemble = self.core.ensemble.as_deref();
        let read_only_mode = ensemble.is_some_and(|it| it.config.read_only_mode);
        let words = &self.core.config.four_letter_words;
        let permitted = words.permits(word, read_only_mode);
        if word == Word::Stmk && permitted {
            let mask = conn.input.get(4..).and_then(|rest| rest.first_chunk());
            let Some(&mask) = mask else {
                // The rest of it comes, or the time for a handshake runs out.
                return;
            };
            self.core.stats.trace_mask = Some(i64::from_be_bytes(mask));
        }
        // From here on nothing that it sends is looked at.
        conn.stage = Stage::Closing;
        conn.input = Bytes::new();
        conn.stats.received += 1;
        self.core.stats.received += 1;
        if !permitted {
            let name = word.name();
            let text = format!("{name} is not executed because it is not in the whitelist.\n");
            return self.tell(link, &text);
        }
        if let Some(text) = self.core.refusal(word) {
            return self.tell(link, text);
        }
        if word.needs_facts() {
            conn.asked = Some(word);
            self.core.outputs.push(Output::AskFacts(link));
            return;
        }
        let text = self.text(word, &HostFacts::default());
        self.tell(link, &text);
    }

    /// The host answered; whoever asked may be gone.
    pub(super) fn facts(&mut self, link: LinkId, facts: &HostFacts) {
        let conn = self.conns.get_mut(&link);
        let Some(word) = conn.and_then(|conn| conn.asked.take()) else {
            return;
        };
        if !self.core.has_part() && !word.needs_no_tree() {
            // The role was lost meanwhile.
            return self.tell(link, NOT_SERVING);
        }
        let text = self.text(word, facts);
        self.tell(link, &text);
    }

    /// Answers whoever administers this process: every word, whatever clients may ask. One more,
    /// `snap`, has a snapshot made of the state at the zxid that it answers, or a later one.
    pub(super) fn ask(&mut self, question: Question, bytes: &[u8], facts: &HostFacts) {
        let mut text = String::new();
        if bytes == SNAPSHOT && self.core.has_part() {
            self.core.snapshots.make_due();
            text = format!("{}", self.core.tree.last_zxid());
        } else if let Some((&word, rest)) = bytes.split_first_chunk()
            && let Some(word) = Word::recognise(word)
        {
            if word == Word::Stmk
                && let Some(&mask) = rest.first_chunk()
            {
                self.core.stats.trace_mask = Some(i64::from_be_bytes(mask));
            }
            text = match self.core.refusal(word) {
                Some(refusal) => refusal.into(),
                None => self.text(word, facts),
            };
        }
        self.core.events.push(Event::Told { question, text });
    }

    #[inline(never)]
    fn text(&mut self, word: Word, facts: &HostFacts) -> String {
        match word {
            Word::Conf => self.conf(facts),
            Word::Cons => self.cons(),
            Word::Crst => self.reset_connections(),
            Word::Dirs => conf::dirs(facts),
            Word::Dump => self.dump(facts),
            Word::Envi => self.envi(facts),
            Word::Gtmk | Word::Stmk => {
                format!("{}", self.core.stats.trace_mask.unwrap_or(TRACE_MASK))
            }
            Word::Hash => self.digests(),
            Word::Isro if self.core.serving => "rw".into(),
            Word::Isro => "ro".into(),
            Word::Mntr => self.mntr(facts),
            Word::Ruok => "imok".into(),
            Word::Srst => self.reset_server(),
            Word::Srvr => self.srvr(),
            Word::Stat => self.stat(),
            Word::TelnetInterrupt => String::new(),
            Word::Wchc => self.watches_by_connection(),
            Word::Wchp => self.watches_by_path(),
            Word::Wchs => self.watches_in_all(),
        }
    }

    fn tell(&mut self, link: LinkId, text: &str) {
        if let Some(conn) = self.conns.get_mut(&link) {
            conn.out.extend_from_slice(text.as_bytes());
            self.core.stats.sent += 1;
        }
        self.close(link);
    }

    /// The version as `srvr`, `stat` and `mntr` print it.
    fn version(&self) -> &str {
        let environment = &self.core.config.host.environment;
        let found = environment.iter().find(|(k, _)| k == "zookeeper.version");
        found.map_or("", |(_, version)| version)
    }
}

impl Core {
    /// What a word gets from a server that has nothing to tell.
    fn refusal(&self, word: Word) -> Option<&'static str> {
        if self.has_part() || word.needs_no_tree() {
            return None;
        }
        Some(if word == Word::Isro {
            "null"
        } else if word == Word::Hash {
            // This one has no end of line.
            NOT_SERVING.trim_end()
        } else {
            NOT_SERVING
        })
    }
}
