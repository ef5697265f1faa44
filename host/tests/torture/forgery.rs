//! The checker is checked: of what clients wrote down one line is forged, and it must not pass.

use core::panic::AssertUnwindSafe;
use core::time::Duration;
use std::panic;

use super::check::{self, Found};
use super::client::{Answer, Call, Entry, Request};

const LATER: Duration = Duration::from_secs(3600);

/// Changes one line; `false` if there is none of its kind.
type Forge = fn(&mut [Vec<Entry>]) -> bool;

const FORGERIES: [(&str, Forge); 9] = [
    ("an acknowledged write is not in the log", lose_write),
    ("a write is in the log that nobody asked for", invent_write),
    ("a read shows what never was", change_data),
    ("a session goes back", go_back),
    (
        "a write comes before one that was acknowledged before it was asked for",
        write_late,
    ),
    ("a read after a sync misses a write", sync_late),
    ("a watch does not fire", drop_event),
    ("a watch fires that is not there", add_event),
    ("a membership is none that was asked for", ask_otherwise),
];

/// Returns how many were noticed.
///
/// # Panics
/// If a forgery passes.
pub(crate) fn none_passes(clients: &[Vec<Entry>], found: &Found<'_>) -> usize {
    let mut noticed = 0;
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let passed: Vec<&str> = FORGERIES
        .into_iter()
        .filter(|(_, forge)| {
            let mut clients = clients.to_vec();
            if !forge(&mut clients) {
                return false;
            }
            let check = || check::all(&clients, found);
            let passed = panic::catch_unwind(AssertUnwindSafe(check)).is_ok();
            noticed += usize::from(!passed);
            passed
        })
        .map(|(name, _)| name)
        .collect();
    panic::set_hook(hook);
    assert_eq!(passed, Vec::<&str>::new(), "forged, and not noticed");
    noticed
}

/// The last call like that: by then much has happened that it can contradict.
fn last_call(clients: &mut [Vec<Entry>], like: fn(&Call, &Answer) -> bool) -> Option<&mut Call> {
    let calls = clients
        .iter_mut()
        .flatten()
        .filter_map(|entry| match entry {
            Entry::Call(call) => Some(call),
            Entry::Connected(_) | Entry::Event { .. } => None,
        });
    let like = calls.filter(|call| {
        call.answer
            .as_ref()
            .is_some_and(|answer| like(call, answer))
    });
    like.last()
}

fn is_set(call: &Call, answer: &Answer) -> bool {
    matches!(call.request, Request::Set { .. }) && answer.code == 0
}

fn lose_write(clients: &mut [Vec<Entry>]) -> bool {
    let call = last_call(clients, is_set);
    call.map(|call| call.xid += 1_000_000).is_some()
}

fn invent_write(clients: &mut [Vec<Entry>]) -> bool {
    let call = last_call(clients, is_set);
    let forged = call.map(|call| {
        call.answer = None;
        call.xid += 1_000_000;
    });
    forged.is_some()
}

fn change_data(clients: &mut [Vec<Entry>]) -> bool {
    let call = last_call(clients, |call, answer| {
        matches!(call.request, Request::Get { .. }) && answer.data.is_some()
    });
    let answer = call.and_then(|call| call.answer.as_mut());
    answer
        .map(|answer| answer.data = Some(b"forged".to_vec()))
        .is_some()
}

fn go_back(clients: &mut [Vec<Entry>]) -> bool {
    let call = last_call(clients, |call, _| call.request == Request::Sync);
    let answer = call.and_then(|call| call.answer.as_mut());
    answer.map(|answer| answer.zxid = 1).is_some()
}

fn write_late(clients: &mut [Vec<Entry>]) -> bool {
    let call = last_call(clients, is_set);
    call.map(|call| call.invoked += LATER).is_some()
}

fn sync_late(clients: &mut [Vec<Entry>]) -> bool {
    for entries in clients {
        let pair = entries.windows(2).rposition(|pair| match pair {
            [Entry::Call(sync), Entry::Call(get)] => {
                sync.request == Request::Sync && sync.answer.is_some() && get.answer.is_some()
            }
            _ => false,
        });
        if let Some(Entry::Call(sync)) = pair.and_then(|at| entries.get_mut(at)) {
            sync.invoked += LATER;
            return true;
        }
    }
    false
}

fn drop_event(clients: &mut [Vec<Entry>]) -> bool {
    for entries in clients {
        // An answer shows its change before the connection ends.
        let at = entries.windows(2).rposition(|pair| match pair {
            [Entry::Event { zxid, .. }, Entry::Call(call)] => call
                .answer
                .as_ref()
                .is_some_and(|answer| answer.zxid >= *zxid),
            _ => false,
        });
        if let Some(at) = at {
            entries.remove(at);
            return true;
        }
    }
    false
}

fn add_event(clients: &mut [Vec<Entry>]) -> bool {
    let entries = clients.iter_mut().find(|entries| !entries.is_empty());
    let event = Entry::Event {
        zxid: 1,
        kind: 3,
        path: "/forged".to_owned(),
    };
    entries.map(|entries| entries.push(event)).is_some()
}

fn ask_otherwise(clients: &mut [Vec<Entry>]) -> bool {
    let call = last_call(clients, |call, answer| {
        matches!(call.request, Request::Reconfig { .. }) && answer.code == 0
    });
    let forged = call.map(|call| {
        call.request = Request::Reconfig {
            joining: None,
            leaving: None,
        };
    });
    forged.is_some()
}
