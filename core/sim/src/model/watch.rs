//! The watches of one connection.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::acl::{self, Identity, READ};
use crate::model::{State, Trigger, path};
use crate::wire::{Rearm, WatchEvent};

/// How long a watch lasts and what it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mode {
    Once,
    Persistent,
    Recursive,
}

type Table = BTreeMap<String, BTreeSet<Mode>>;

/// What watches exist on one connection.
#[derive(Clone, Debug, Default)]
pub struct Watches {
    data: Table,
    child: Table,
}

/// What a connection hears of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The event.
    pub event: WatchEvent,
    /// Whether the connection may read the znode, and so does hear it.
    pub is_readable: bool,
}

impl Watches {
    /// Whether there is no watch.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.data.is_empty() && self.child.is_empty()
    }

    /// Sets a one-shot watch on a znode's data and existence.
    pub fn watch_data(&mut self, path: &str) {
        insert(&mut self.data, path, Mode::Once);
    }

    /// Sets a one-shot watch on a znode's children.
    pub fn watch_children(&mut self, path: &str) {
        insert(&mut self.child, path, Mode::Once);
    }

    /// Sets a lasting watch; says whether there is such a mode.
    pub fn add(&mut self, path: &str, mode: i32) -> bool {
        match mode {
            0 => {
                insert(&mut self.data, path, Mode::Persistent);
                insert(&mut self.child, path, Mode::Persistent);
            }
            1 => insert(&mut self.data, path, Mode::Recursive),
            _ => return false,
        }
        true
    }

    /// Looks for watches of this kind, and forgets them if told so: the code of the answer.
    pub fn find(&mut self, path: &str, kind: i32, forget: bool) -> i32 {
        let (data, child): (&[Mode], &[Mode]) = match kind {
            1 => (&[], &[Mode::Once]),
            2 => (&[Mode::Once], &[]),
            3 => {
                const ALL: &[Mode] = &[Mode::Once, Mode::Persistent, Mode::Recursive];
                (ALL, ALL)
            }
            4 => (&[Mode::Persistent], &[Mode::Persistent]),
            5 => (&[Mode::Recursive], &[Mode::Recursive]),
            _ => return -5,
        };
        let in_data = find(&mut self.data, path, data, forget);
        let in_child = find(&mut self.child, path, child, forget);
        if in_data || in_child { 0 } else { -121 }
    }

    /// Lets watches hear of a change, and forgets those that it uses up.
    pub fn hear(&mut self, trigger: &Trigger, identities: &[Identity]) -> Vec<Heard> {
        let is_readable = acl::check(&trigger.acl, READ, identities).is_ok();
        let count = if trigger.kind == 4 {
            usize::from(fire(&mut self.child, &trigger.path))
        } else {
            let own = fire(&mut self.data, &trigger.path);
            let above = has_recursive_above(&self.data, &trigger.path);
            let child = trigger.kind == 2 && fire(&mut self.child, &trigger.path);
            usize::from(own || above || child)
        };
        let heard = Heard {
            event: WatchEvent {
                kind: trigger.kind,
                path: trigger.path.to_string(),
            },
            is_readable,
        };
        vec![heard; count]
    }

    /// Takes a client's watches over from its last connection: the events it has missed.
    pub fn rearm(&mut self, rearm: &Rearm, state: &State) -> Vec<WatchEvent> {
        let mut missed = Vec::new();
        let mut miss = |kind, path: &String| {
            missed.push(WatchEvent {
                kind,
                path: path.clone(),
            });
        };
        for path in &rearm.data {
            match state.node(path) {
                None => miss(2, path),
                Some(node) if node.mzxid > rearm.relative_zxid => miss(3, path),
                Some(_) => self.watch_data(path),
            }
        }
        for path in &rearm.exist {
            match state.node(path) {
                Some(_) => miss(1, path),
                None => self.watch_data(path),
            }
        }
        for path in &rearm.child {
            match state.node(path) {
                None => miss(2, path),
                Some(node) if node.pzxid > rearm.relative_zxid => miss(4, path),
                Some(_) => self.watch_children(path),
            }
        }
        let lasting = rearm.persistent.as_ref();
        for path in lasting.iter().flat_map(|(persistent, _)| persistent) {
            self.add(path, 0);
        }
        for path in lasting.iter().flat_map(|(_, recursive)| recursive) {
            self.add(path, 1);
        }
        missed
    }
}

fn insert(table: &mut Table, path: &str, mode: Mode) {
    table.entry(path.to_owned()).or_default().insert(mode);
}

/// Whether a watch at exactly this path hears; one-shot ones are used up.
fn fire(table: &mut Table, path: &str) -> bool {
    let Some(modes) = table.get_mut(path) else {
        return false;
    };
    modes.remove(&Mode::Once);
    if modes.is_empty() {
        table.remove(path);
    }
    true
}

fn has_recursive_above(table: &Table, path: &str) -> bool {
    let mut at = path;
    while at != "/" {
        at = path::parent_name(at);
        if table
            .get(at)
            .is_some_and(|modes| modes.contains(&Mode::Recursive))
        {
            return true;
        }
    }
    false
}

fn find(table: &mut Table, path: &str, wanted: &[Mode], forget: bool) -> bool {
    let Some(modes) = table.get_mut(path) else {
        return false;
    };
    let is_found = wanted.iter().any(|mode| modes.contains(mode));
    if forget {
        modes.retain(|mode| !wanted.contains(mode));
        if modes.is_empty() {
            table.remove(path);
        }
    }
    is_found
}
