//! Whether what clients saw is what was ordered.
//!
//! Every answer has the zxid of the state that it shows, so nothing has to be searched for: each is
//! compared with the model at that zxid, and the order of zxids with the order of time.

use core::net::SocketAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use zabra_core::ids::Zxid;
use zabra_core::tree::Tree;
use zabra_core::wire::client::OpCode;

use super::client::{Answer, Call, Entry, Request};
use super::history::History;
use super::membership::{CONFIG, Members};
use super::model::{Effect, Model, Node};
use super::network::Host;

/// Source: `KeeperException.Code`.
const NO_NODE: i32 = -101;
const NO_QUORUM: i32 = -13;
const IN_PROGRESS: i32 = -14;
const BAD_VERSION: i32 = -103;
const NODE_EXISTS: i32 = -110;
const SESSION_EXPIRED: i32 = -112;
const SESSION_MOVED: i32 = -118;

/// Source: `Watcher.Event.EventType`.
const EVENT_DELETED: i32 = 2;
const EVENT_CHANGED: i32 = 3;

/// What there is to compare with.
#[derive(Clone, Copy)]
pub(crate) struct Found<'a> {
    pub(crate) history: &'a History,
    /// What each member would start with.
    pub(crate) trees: &'a [(Host, Tree)],
    /// The last transaction.
    pub(crate) last: i64,
    /// The membership with which all began.
    pub(crate) first: &'a Members,
}

/// Checks everything, and says what there was to check.
///
/// # Panics
/// If something is not as it must be.
pub(crate) fn all(clients: &[Vec<Entry>], found: &Found<'_>) -> String {
    let Found {
        history,
        trees,
        last,
        first,
    } = *found;
    let newest = history.keys().next_back().copied();
    assert_eq!(newest, Some(last), "the last transaction");
    let model = Model::new(history);
    let calls = || {
        let entries = clients.iter().flatten();
        entries.filter_map(|entry| match entry {
            Entry::Call(call) => Some(call),
            Entry::Connected(_) | Entry::Event { .. } => None,
        })
    };
    for call in calls() {
        outcome(call, &model, first);
    }
    invented(calls(), &model);
    memberships(calls(), &model, first);
    real_time(clients);
    let mut fired = 0;
    for entries in clients {
        monotonic(entries);
        in_turn(entries, &model);
        fired += watches(entries, &model);
    }
    for (id, tree) in trees {
        same_tree(*id, tree, &model, last);
        // Before it changes, each server writes it by itself when it starts.
        if !model.memberships.is_empty() {
            let config = tree.find(CONFIG).and_then(|node| tree.data(node));
            assert_membership(config.unwrap_or_default(), last, &model, first);
        }
    }
    let mut places: BTreeMap<SocketAddr, usize> = BTreeMap::new();
    for entries in clients {
        let mut place = None;
        for entry in entries {
            match entry {
                Entry::Connected(server) => place = Some(*server),
                Entry::Call(call) if call.answer.is_some() => {
                    *place.map_or(&mut 0, |at| places.entry(at).or_default()) += 1;
                }
                Entry::Call(_) | Entry::Event { .. } => {}
            }
        }
    }
    let unknown = calls().filter(|call| call.answer.is_none()).count();
    let reads = calls().filter(|call| !call.request.is_write()).count();
    format!(
        "{} transactions, {} calls, {reads} of them reads, {unknown} without an answer, {fired} \
         watches, {} sessions expired, {} znodes, {} memberships; answers of each server {:?}",
        history.len(),
        calls().count(),
        model.expired,
        model.paths(last).count(),
        model.memberships.len() + 1,
        places.values().collect::<Vec<_>>()
    )
}

/// The answer to a request is what its place in the order makes it.
fn outcome(call: &Call, model: &Model, first: &Members) {
    let done = model.requests.get(&(call.session, call.xid));
    let Some(answer) = &call.answer else {
        return;
    };
    match (&call.request, answer.code) {
        (Request::Get { path, .. }, 0) if path == CONFIG => {
            let data = answer.data.as_deref().unwrap_or_default();
            assert_membership(data, answer.zxid, model, first);
        }
        (Request::Get { path, .. }, 0) => {
            let node = model.at(path, answer.zxid);
            assert!(
                node.is_some_and(|node| shows(answer, node)),
                "{call:x?}: {node:?}"
            );
        }
        (Request::Get { path, .. }, NO_NODE) => {
            assert_eq!(model.at(path, answer.zxid), None, "{call:x?}");
        }
        (Request::Sync, 0) => {}
        (_, SESSION_EXPIRED | SESSION_MOVED) => {
            let untouched = done.is_none_or(|(_, effect)| matches!(effect, Effect::Refused(_)));
            assert!(untouched, "refused and done: {call:x?}");
        }
        (Request::Get { .. } | Request::Sync, _) => panic!("{call:x?}"),
        (_, 0) => acknowledged(call, answer, model),
        (Request::Reconfig { .. }, code) => {
            let expected = Some(&(answer.zxid, Effect::Refused(code)));
            assert_eq!(done, expected, "a refusal has its place: {call:x?}");
            assert!([NO_QUORUM, IN_PROGRESS].contains(&code), "{call:x?}");
        }
        (request, code) => {
            let expected = Some(&(answer.zxid, Effect::Refused(code)));
            assert_eq!(done, expected, "a refusal has its place: {call:x?}");
            let (path, wanted) = match request {
                Request::Create { path, .. } => (path, NODE_EXISTS),
                Request::Set { path, version, .. } => {
                    let node = model.at(path, answer.zxid);
                    let differs = node.is_some_and(|node| node.version != *version);
                    assert!(code != BAD_VERSION || differs, "{call:x?}: {node:?}");
                    (path, if differs { BAD_VERSION } else { NO_NODE })
                }
                Request::Delete { path } => (path, NO_NODE),
                Request::SetBoth { .. }
                | Request::Get { .. }
                | Request::Reconfig { .. }
                | Request::Sync
                | Request::Close => panic!("{call:x?}"),
            };
            let there = model.at(path, answer.zxid).is_some();
            assert_eq!(there, code != NO_NODE, "{call:x?}");
            assert_eq!(code, wanted, "{call:x?}");
        }
    }
}

fn acknowledged(call: &Call, answer: &Answer, model: &Model) {
    let done = model.requests.get(&(call.session, call.xid));
    let op = match &call.request {
        Request::Create { .. } => OpCode::CREATE,
        Request::Set { .. } => OpCode::SET_DATA,
        Request::Delete { .. } => OpCode::DELETE,
        Request::SetBoth { .. } => OpCode::MULTI,
        Request::Reconfig { .. } => OpCode::RECONFIG,
        Request::Get { .. } | Request::Sync | Request::Close => OpCode::CLOSE_SESSION,
    };
    let expected = Some(&(answer.zxid, Effect::Done(op)));
    assert_eq!(done, expected, "an acknowledged write is lost: {call:x?}");
    let at = |path: &str| model.at(path, answer.zxid);
    match &call.request {
        Request::Create {
            path,
            data,
            ephemeral,
        } => {
            let owner = if *ephemeral { call.session } else { 0 };
            let node = at(path);
            let right = node.is_some_and(|node| {
                (&node.data, node.owner, node.created) == (data, owner, answer.zxid)
            });
            assert!(right, "{call:x?}: {node:?}");
        }
        Request::Set {
            path,
            data,
            version,
        } => {
            let node = at(path).expect("a znode that is set is there");
            let stat = answer.stat.as_ref().expect("a set is answered with a stat");
            assert_eq!(&node.data, data, "{call:x?}");
            assert_eq!((stat.version, stat.mzxid), (node.version, node.modified));
            assert!(
                [-1, node.version - 1].contains(version),
                "{call:x?}: {node:?}"
            );
        }
        Request::Delete { path } => assert_eq!(at(path), None, "{call:x?}"),
        Request::SetBoth { paths, data } => {
            for path in paths {
                assert_eq!(at(path).map(|node| &node.data), Some(data), "{call:x?}");
            }
        }
        Request::Reconfig { .. } => {
            let text = model.membership_at(answer.zxid).map(str::as_bytes);
            assert_eq!(answer.data.as_deref(), text, "{call:x?}");
        }
        Request::Get { .. } | Request::Sync | Request::Close => {}
    }
}

/// Each membership is what somebody asked for makes of the one before, and is named by its
/// transaction.
fn memberships<'a>(calls: impl Iterator<Item = &'a Call>, model: &Model, first: &Members) {
    let mut asked = BTreeMap::new();
    for call in calls {
        if let Request::Reconfig { joining, leaving } = &call.request {
            asked.insert((call.session, call.xid), (joining.as_deref(), *leaving));
        }
    }
    let mut now = first.clone();
    for (zxid, request, text) in &model.memberships {
        let Some((joining, leaving)) = asked.get(request) else {
            panic!("nobody asked for the membership of 0x{zxid:x}: {text}");
        };
        now = now.changed(*joining, *leaving);
        assert_eq!(Members::parse(text), (now.clone(), *zxid));
    }
}

/// The membership that a server shows is that of the history.
fn assert_membership(data: &[u8], zxid: i64, model: &Model, first: &Members) {
    let found = Members::parse(&String::from_utf8_lossy(data));
    let expected = match model.membership_at(zxid) {
        Some(text) => Members::parse(text),
        None => {
            // Source: Leader.lead: what has no version yet is given that of the NEWLEADER.
            let version = Zxid(found.1);
            assert_eq!(version.counter(), 0, "of no transaction: {found:?}");
            (first.clone(), version.0)
        }
    };
    assert_eq!(found, expected, "the membership at 0x{zxid:x}");
}

/// Whether the answer to a read is what the model says.
fn shows(answer: &Answer, node: &Node) -> bool {
    answer.data.as_ref() == Some(&node.data)
        && answer.stat.as_ref().is_some_and(|stat| {
            (stat.version, stat.czxid, stat.mzxid) == (node.version, node.created, node.modified)
                && stat.ephemeral_owner == node.owner
        })
}

/// Nothing was ordered that nobody asked for.
fn invented<'a>(calls: impl Iterator<Item = &'a Call>, model: &Model) {
    let asked: BTreeSet<(i64, i32)> = calls.map(|call| (call.session, call.xid)).collect();
    for request in model.requests.keys() {
        assert!(asked.contains(request), "nobody asked for {request:x?}");
    }
}

/// A moment in what all clients did.
enum Moment {
    /// The answer with this zxid came.
    Answered(i64),
    /// A request was made, and this is the zxid of its answer.
    Invoked(i64),
}

/// A write that was asked for after another was acknowledged, by whomever, is ordered after it; and
/// what is read after a sync holds every write that was acknowledged before the sync was asked for.
fn real_time(clients: &[Vec<Entry>]) {
    let mut moments: Vec<(Instant, u8, Moment, &Call)> = Vec::new();
    for entries in clients {
        let mut synced: Option<Instant> = None;
        for entry in entries {
            let Entry::Call(call) = entry else {
                if matches!(entry, Entry::Connected(_)) {
                    synced = None;
                }
                continue;
            };
            let Some(answer) = &call.answer else {
                synced = None;
                continue;
            };
            let since = synced.take();
            if [SESSION_EXPIRED, SESSION_MOVED].contains(&answer.code) {
                continue;
            }
            if call.request.is_write() {
                moments.push((call.invoked, 1, Moment::Invoked(answer.zxid), call));
                moments.push((answer.at, 0, Moment::Answered(answer.zxid), call));
            } else if call.request == Request::Sync {
                synced = Some(call.invoked);
            } else if let Some(since) = since {
                // Whoever waits for the sync's answer reads what is as new as the sync.
                moments.push((since, 2, Moment::Invoked(answer.zxid + 1), call));
            }
        }
    }
    moments.sort_by_key(|(at, kind, ..)| (*at, *kind));
    let mut answered = 0;
    for (_, _, moment, call) in &moments {
        match moment {
            Moment::Answered(zxid) => answered = answered.max(*zxid),
            Moment::Invoked(zxid) => assert!(
                *zxid > answered,
                "0x{answered:x} was acknowledged before, and does not show: {call:x?}"
            ),
        }
    }
}

/// A session never sees an older state after a newer one, on whatever server.
fn monotonic(entries: &[Entry]) {
    let mut seen = (0, 0);
    for entry in entries {
        let Entry::Call(call) = entry else {
            continue;
        };
        let Some(answer) = &call.answer else {
            continue;
        };
        if seen.0 == call.session {
            assert!(answer.zxid >= seen.1, "after 0x{:x}: {call:x?}", seen.1);
        }
        seen = (call.session, answer.zxid);
    }
}

/// What is asked on one connection is done in this order; if the connection is lost, up to some
/// request and not beyond.
fn in_turn(entries: &[Entry], model: &Model) {
    let mut before = 0;
    let mut undone: Option<&Call> = None;
    for entry in entries {
        let call = match entry {
            Entry::Connected(_) => {
                undone = None;
                continue;
            }
            Entry::Call(call) if call.request.is_write() => call,
            Entry::Call(_) | Entry::Event { .. } => continue,
        };
        match model.requests.get(&(call.session, call.xid)) {
            Some((zxid, _)) => {
                assert!(undone.is_none(), "done: {call:x?}, and not: {undone:x?}");
                assert!(*zxid > before, "after 0x{before:x}: {call:x?}");
                before = *zxid;
            }
            None => undone = Some(call),
        }
    }
}

/// A watch fires once, for the first change, before anything that shows the change; and never
/// otherwise. Returns how many fired.
fn watches(entries: &[Entry], model: &Model) -> usize {
    let mut set: BTreeMap<&str, i64> = BTreeMap::new();
    let mut fired = 0;
    for entry in entries {
        match entry {
            Entry::Connected(_) => set.clear(),
            Entry::Event { zxid, kind, path } => {
                let since = set.remove(path.as_str());
                let since = since.unwrap_or_else(|| panic!("no watch was on {path}"));
                let change = model.next_change(path, since);
                let kind_is_right = match change {
                    Some((_, true)) => *kind == EVENT_CHANGED,
                    Some((_, false)) => *kind == EVENT_DELETED,
                    None => false,
                };
                let right = kind_is_right && change.is_some_and(|change| change.0 == *zxid);
                assert!(right, "{entry:x?}, set at 0x{since:x}: {change:x?}");
                fired += 1;
            }
            Entry::Call(call) => {
                let Some(answer) = &call.answer else {
                    continue;
                };
                for (path, since) in &set {
                    let change = model.next_change(path, *since);
                    let shown = change.is_some_and(|change| change.0 <= answer.zxid);
                    assert!(!shown, "{path} changed unseen since 0x{since:x}: {call:x?}");
                }
                if let Request::Get { path, watch: true } = &call.request
                    && answer.code == 0
                {
                    set.entry(path).or_insert(answer.zxid);
                }
            }
        }
    }
    fired
}

/// What a server would start with is what the history makes.
fn same_tree(id: Host, tree: &Tree, model: &Model, last: i64) {
    assert_eq!(
        tree.last_zxid().0,
        last,
        "server {id}: the last transaction"
    );
    let root = tree.find("/").expect("every tree has a root");
    let mut found = BTreeMap::new();
    for node in tree.walk(root) {
        let path = tree.path(node);
        if path == "/" || path.starts_with("/zookeeper") {
            continue;
        }
        let stat = tree.stat_persisted(node);
        let node = Node {
            data: tree.data(node).unwrap_or_default().to_vec(),
            version: stat.version,
            created: stat.czxid.0,
            modified: stat.mzxid.0,
            owner: stat.ephemeral_owner,
        };
        found.insert(path, node);
    }
    let expected: BTreeMap<String, Node> = model
        .paths(last)
        .map(|(path, node)| (path.to_owned(), node.clone()))
        .collect();
    let differs = expected
        .iter()
        .find(|(path, node)| found.get(*path) != Some(*node));
    assert_eq!(differs, None, "server {id}");
    let more = found.keys().find(|path| !expected.contains_key(*path));
    assert_eq!(more, None, "server {id}");
    let owned = found.iter().find(|(_, node)| node.owner != 0);
    assert_eq!(owned, None, "server {id}: every session is over");
    assert_eq!(tree.sessions().len(), 0, "server {id}: sessions");
}
