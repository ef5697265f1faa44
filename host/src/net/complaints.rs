//! What is wrong with the network, told without filling a disk.

use core::cell::RefCell;
use core::time::Duration;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Instant;

/// One line a minute says that something fails; a line per attempt would fill a disk.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// How many different lines are remembered. Strangers can name addresses that we then try.
const LINES_MAX: usize = 256;

/// Says each line at most once a minute, and how often it would have been said.
pub(super) struct Complaints {
    warn: Rc<dyn Fn(String)>,
    said: RefCell<BTreeMap<String, Said>>,
}

struct Said {
    at: Instant,
    times: u64,
}

impl Complaints {
    pub(super) fn new(warn: Rc<dyn Fn(String)>) -> Self {
        Self {
            warn,
            said: RefCell::default(),
        }
    }

    /// Says `line` if it was not said for a while.
    pub(super) fn say(&self, line: String) {
        self.say_at(line, Instant::now());
    }

    fn say_at(&self, line: String, now: Instant) {
        let mut all = self.said.borrow_mut();
        if let Some(said) = all.get_mut(&line) {
            said.times += 1;
            if now.saturating_duration_since(said.at) < SAY_EVERY {
                return;
            }
            said.at = now;
            let times = said.times;
            drop(all);
            return (self.warn)(format!("{line} ({times} times so far)"));
        }
        if all.len() >= LINES_MAX {
            all.retain(|_, said| now.saturating_duration_since(said.at) < SAY_EVERY);
        }
        // A flood of ever new lines is not worth more of them.
        if all.len() < LINES_MAX {
            all.insert(line.clone(), Said { at: now, times: 1 });
            drop(all);
            (self.warn)(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(lines: impl Fn(&Complaints)) -> Vec<String> {
        let heard = Rc::new(RefCell::new(Vec::new()));
        let hear = Rc::clone(&heard);
        let complaints = Complaints::new(Rc::new(move |line| hear.borrow_mut().push(line)));
        lines(&complaints);
        heard.take()
    }

    #[test]
    fn each_line_is_said_once_a_minute_with_its_count() {
        let start = Instant::now();
        let lines = said(|complaints| {
            for second in 0..61 {
                let now = start + Duration::from_secs(second);
                complaints.say_at("refused".to_owned(), now);
            }
            complaints.say_at("timeout".to_owned(), start);
        });
        assert_eq!(lines, ["refused", "refused (61 times so far)", "timeout"]);
    }

    #[test]
    fn flood_of_different_lines_is_cut_until_they_are_old() {
        let start = Instant::now();
        let lines = said(|complaints| {
            for number in 0..1000 {
                complaints.say_at(format!("line {number}"), start);
            }
            complaints.say_at("later".to_owned(), start + SAY_EVERY);
        });
        assert_eq!(lines.len(), LINES_MAX + 1);
        assert_eq!(lines.last().map(String::as_str), Some("later"));
    }
}
