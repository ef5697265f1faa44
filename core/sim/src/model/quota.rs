//! Quotas: what they allow, and the usage kept in `zookeeper_stats`.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::model::State;
use crate::model::path;

const ROOT: &str = "/zookeeper/quota";
const LIMITS: &str = "/zookeeper_limits";
const STATS: &str = "/zookeeper_stats";
const QUOTA_EXCEEDED: i32 = -125;

/// The text of a limits or stats znode.
#[derive(Clone, Debug, Default)]
struct Track(BTreeMap<String, i64>);

impl Track {
    fn parse(data: Option<&[u8]>) -> Self {
        let text = String::from_utf8_lossy(data.unwrap_or_default()).into_owned();
        let parts = text.split([',', ';']).filter(|part| !part.is_empty());
        Self(
            parts
                .filter_map(|part| {
                    let (key, value) = part.split_once('=')?;
                    Some((
                        key.to_owned(),
                        value.trim_matches('=').parse().unwrap_or(-1),
                    ))
                })
                .collect(),
        )
    }

    fn value(&self, key: &str) -> i64 {
        self.0.get(key).copied().unwrap_or(-1)
    }

    fn text(&self) -> String {
        let mut text = format!(
            "count={},bytes={}",
            self.value("count"),
            self.value("bytes")
        );
        let others = || {
            self.0
                .iter()
                .filter(|(key, _)| *key != "count" && *key != "bytes")
        };
        if others().next().is_some() {
            text.push('=');
        }
        for (key, value) in others() {
            text.push_str(&format!(";{key}={value}"));
        }
        text
    }
}

/// The deepest path at or above this one that has a quota.
fn prefix<'a>(state: &State, path: &'a str) -> Option<&'a str> {
    let mut at = path;
    while !at.is_empty() && at != "/" {
        if state
            .nodes
            .contains_key(format!("{ROOT}{at}{LIMITS}").as_str())
        {
            return Some(at);
        }
        at = path::parent(at);
    }
    None
}

/// Counts a change below a quota in the quota's stats znode, in place.
pub fn count(state: &mut State, path: &str, bytes: i64, nodes: i64) {
    let Some(prefix) = prefix(state, path) else {
        return;
    };
    state.change(&format!("{ROOT}{prefix}{STATS}"), |node| {
        let mut track = Track::parse(node.data.as_deref());
        track
            .0
            .insert("count".to_owned(), track.value("count") + nodes);
        track
            .0
            .insert("bytes".to_owned(), track.value("bytes") + bytes);
        node.data = Some(Rc::from(track.text().as_bytes()));
    });
}

/// Fills in a stats znode that was just created.
pub fn created(state: &mut State, path: &str) {
    let Some(target) = path
        .strip_prefix(ROOT)
        .and_then(|path| path.strip_suffix(STATS))
    else {
        return;
    };
    if !target.is_empty() {
        recount(state, target);
    }
}

/// Counts everything below every quota anew, as a server does when it starts.
pub fn recount_all(state: &mut State) {
    let targets: Vec<String> = state
        .nodes
        .keys()
        .filter_map(|path| path.strip_prefix(ROOT)?.strip_suffix(LIMITS))
        .filter(|target| !target.is_empty())
        .map(str::to_owned)
        .collect();
    for target in targets {
        recount(state, &target);
    }
}

fn recount(state: &mut State, target: &str) {
    let mut nodes = 0_i64;
    let mut bytes = 0_i64;
    let own = state.node(target).into_iter();
    for node in own.chain(state.descendants(target).map(|(_, node)| node)) {
        if state.node(target).is_some() {
            nodes += 1;
            bytes += i64::try_from(node.data_len()).unwrap_or(i64::MAX);
        }
    }
    state.change(&format!("{ROOT}{target}{STATS}"), |node| {
        node.data = Some(Rc::from(format!("count={nodes},bytes={bytes}").as_bytes()));
    });
}

/// Whether a change is allowed.
///
/// # Errors
/// `QuotaExceeded`.
pub fn check(state: &State, path: &str, bytes: i64, nodes: i64) -> Result<(), i32> {
    let Some(prefix) = prefix(state, path) else {
        return Ok(());
    };
    let track = |name| {
        let node = state.node(&format!("{ROOT}{prefix}{name}"))?;
        Some(Track::parse(node.data.as_deref()))
    };
    let (Some(limits), Some(stats)) = (track(LIMITS), track(STATS)) else {
        return Ok(());
    };
    let exceeds = |difference, used: &str, hard: &str| {
        let hard = limits.value(hard);
        difference != 0 && hard > -1 && stats.value(used) + difference > hard
    };
    if exceeds(nodes, "count", "countHardLimit") || exceeds(bytes, "bytes", "byteHardLimit") {
        return Err(QUOTA_EXCEEDED);
    }
    Ok(())
}
