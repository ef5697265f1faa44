//! What a key of `zoo.cfg` means to this server: the shape of the table, and how one setting is
//! judged.

use super::{
    admin, auth,
    draft::Draft,
    ensemble_keys, keys, no_effect,
    problem::{Origin, Problem, shown},
    sandbox, tls,
};

/// A key, or (when its name ends in `*`) all keys that begin alike.
pub(super) struct Key {
    /// As `zoo.cfg` spells it, without the prefix `zookeeper.`.
    pub(super) name: &'static str,
    /// The value that changes nothing, as text; empty when there is none.
    pub(super) default: &'static str,
    pub(super) effect: Effect,
    /// Whether the value must never be shown.
    pub(super) secret: bool,
}

/// What a key does.
pub(super) enum Effect {
    /// `true` or `false`.
    Switch(fn(&mut Draft, bool)),
    /// A whole number within bounds, both inclusive.
    Number {
        min: i64,
        max: i64,
        unit: &'static str,
        set: fn(&mut Draft, i64),
    },
    /// Anything that the function takes; else it says what was expected.
    Text(fn(&mut Draft, &str) -> Result<(), &'static str>),
    /// Something that warns instead of failing.
    Lenient(fn(&mut Draft, &str) -> Result<(), String>),
    /// Tunes something of ZooKeeper's ensembles that is otherwise here, so it is checked and
    /// otherwise left.
    Ensemble(Shape),
    /// Only these values (in any case) change nothing. With any other, `why` is a warning or an
    /// error.
    Fixed {
        fine: &'static [&'static str],
        severity: Severity,
        why: &'static str,
    },
    /// One of those that together say who is in the ensemble: `server.N`, `group.N`, `weight.N`.
    Member,
    /// One of those that count only if TLS is asked for, and are then read together.
    Tls,
}

/// What the value of a key without effect must look like.
pub(super) enum Shape {
    Switch,
    Count,
    Any,
}

/// What becomes of a value that cannot take effect.
pub(super) enum Severity {
    /// The server starts, and says so.
    Warning,
    /// Going on would silently take away what the operator asked for: the server does not start.
    Error,
}

/// A value for a key. Has no `Debug`: it may be a secret.
pub(super) struct Setting {
    pub(super) key: &'static Key,
    /// The name with its suffix, if the key is one of many: `server.1`.
    pub(super) name: String,
    pub(super) value: String,
    pub(super) origin: Origin,
}

/// The key of this name, with or without the prefix `zookeeper.`, and its canonical name.
pub(super) fn find(name: &str) -> Option<(&'static Key, String)> {
    let name = name.strip_prefix("zookeeper.").unwrap_or(name);
    let key = all().find(|key| key.name == name).or_else(|| {
        all().find(|key| key.prefix().is_some_and(|prefix| name.starts_with(prefix)))
    })?;
    Some((key, name.to_owned()))
}

/// The key that the rest of a variable's name (`TICKTIME`, `TICK_TIME`) stands for, and its
/// canonical name.
pub(super) fn find_folded(name: &str) -> Option<(&'static Key, String)> {
    let folded = fold(name);
    if let Some(key) = all().find(|key| fold(key.name) == folded) {
        return Some((key, key.name.to_owned()));
    }
    all().find_map(|key| {
        let prefix = key.prefix()?;
        let rest = folded.strip_prefix(&fold(prefix))?;
        (!rest.is_empty()).then(|| (key, format!("{prefix}{rest}")))
    })
}

/// Upper and lower case and the separators do not count in variables.
fn fold(name: &str) -> String {
    name.chars()
        .filter(|c| c.is_alphanumeric())
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

/// The key that was probably meant, if one is near.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let name = name.strip_prefix("zookeeper.").unwrap_or(name);
    let near_max = 2.max(name.len() / 6);
    all()
        .filter(|key| key.prefix().is_none())
        .map(|key| (distance(name, key.name), key.name))
        .min_by_key(|&(distance, _)| distance)
        .filter(|&(distance, _)| distance <= near_max)
        .map(|(_, name)| name)
}

/// Like [`nearest`], for the rest of a variable's name.
pub(super) fn nearest_folded(name: &str) -> Option<String> {
    all()
        .filter(|key| key.prefix().is_none())
        .map(|key| (distance(&fold(name), &fold(key.name)), key.name))
        .min_by_key(|&(distance, _)| distance)
        .filter(|&(distance, _)| distance <= 2)
        .map(|(_, name)| variable(name))
}

/// How a key is written in the environment: `ZABRA_AUTOPURGE_PURGEINTERVAL`.
pub(super) fn variable(name: &str) -> String {
    format!("ZABRA_{}", name.replace(['.', '-'], "_").to_uppercase())
}

/// A wrong case is no distance, but the right case is nearer still.
fn distance(a: &str, b: &str) -> usize {
    strsim::damerau_levenshtein(&a.to_lowercase(), &b.to_lowercase())
}

pub(super) fn all() -> impl Iterator<Item = &'static Key> {
    keys::KEYS
        .iter()
        .chain(ensemble_keys::KEYS)
        .chain(auth::KEYS)
        .chain(sandbox::KEYS)
        .chain(tls::KEYS)
        .chain(admin::KEYS)
        .chain(no_effect::KEYS)
}

impl Key {
    fn prefix(&self) -> Option<&'static str> {
        self.name.strip_suffix('*')
    }

    pub(super) const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }
}

impl Setting {
    /// Puts the value into the draft, or says what is wrong with it.
    pub(super) fn apply(&self, draft: &mut Draft) {
        let value = self.value.as_str();
        match &self.key.effect {
            Effect::Switch(set) => match switch(value) {
                Some(on) => set(draft, on),
                None => self.refuse(draft, "true or false"),
            },
            Effect::Number {
                min,
                max,
                unit,
                set,
            } => match value.parse() {
                Ok(number) if (*min..=*max).contains(&number) => set(draft, number),
                Ok(_) | Err(_) => {
                    self.refuse(
                        draft,
                        &format!("a whole number of {unit} from {min} to {max}"),
                    );
                }
            },
            Effect::Text(set) => {
                if let Err(expected) = set(draft, value) {
                    self.refuse(draft, expected);
                }
            }
            Effect::Lenient(set) => {
                if let Err(text) = set(draft, value) {
                    self.warn(draft, text);
                }
            }
            Effect::Ensemble(shape) => match shape {
                Shape::Switch if switch(value).is_none() => self.refuse(draft, "true or false"),
                Shape::Count if value.parse::<i32>().is_err() => {
                    self.refuse(draft, "a whole number");
                }
                Shape::Switch | Shape::Count | Shape::Any => {}
            },
            Effect::Fixed {
                fine,
                severity,
                why,
            } => {
                if fine.iter().any(|fine| fine.eq_ignore_ascii_case(value)) {
                    return;
                }
                match severity {
                    Severity::Warning => self.warn(draft, format!("has no effect: {why}")),
                    Severity::Error => self.refuse_unbuilt(draft, fine, why),
                }
            }
            Effect::Member | Effect::Tls => {}
        }
    }

    fn refuse(&self, draft: &mut Draft, expected: &str) {
        let found = if self.key.secret {
            "something else (not shown)".to_owned()
        } else if self.value.is_empty() {
            "nothing".to_owned()
        } else {
            shown(&self.value)
        };
        let mut text = format!("expected {expected}, found {found}");
        if !self.key.default.is_empty() {
            text.push_str(&format!(" (the default is {})", self.key.default));
        }
        draft
            .problems
            .push(Problem::new(Some(&self.origin), &self.name, text));
    }

    fn refuse_unbuilt(&self, draft: &mut Draft, fine: &[&str], why: &str) {
        let remedy = fine
            .first()
            .map_or_else(String::new, |fine| format!(", or set it to {fine}"));
        let text = format!("{why}; remove it{remedy}");
        draft
            .problems
            .push(Problem::new(Some(&self.origin), &self.name, text));
    }

    fn warn(&self, draft: &mut Draft, text: String) {
        draft
            .warnings
            .push(Problem::new(Some(&self.origin), &self.name, text));
    }
}

fn switch(value: &str) -> Option<bool> {
    if value.eq_ignore_ascii_case("true") {
        Some(true)
    } else if value.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::Path};

    use super::*;

    #[test]
    fn no_two_keys_are_the_same_variable() {
        let mut seen = BTreeMap::new();
        for key in all() {
            if let Some(other) = seen.insert(fold(key.name), key.name) {
                // `superUser` and `superUser.*` fold alike, but a prefix needs something behind it.
                assert!(
                    key.prefix().is_some() != other.ends_with('*'),
                    "{} {other}",
                    key.name
                );
            }
        }
    }

    #[test]
    fn every_key_is_found_by_its_name_and_its_variable() {
        for key in all().filter(|key| key.prefix().is_none()) {
            for name in [key.name.to_owned(), format!("zookeeper.{}", key.name)] {
                let found = find(&name).map(|(found, canonical)| (found.name, canonical));
                assert_eq!(found, Some((key.name, key.name.to_owned())));
            }
            let variable = variable(key.name);
            let rest = variable.strip_prefix("ZABRA_").unwrap_or_default();
            assert_eq!(
                find_folded(rest).map(|(found, _)| found.name),
                Some(key.name)
            );
        }
        let found = find_folded("SERVER_2").map(|(found, name)| (found.name, name));
        assert_eq!(found, Some(("server.*", "server.2".to_owned())));
    }

    #[test]
    fn defaults_in_the_table_are_the_defaults() {
        let finish = |settings: Vec<Setting>| {
            let mut draft = Draft::with_file();
            draft.data_dir = Some("/nonexistent".into());
            draft.client_port = Some(2181);
            for setting in settings {
                setting.apply(&mut draft);
            }
            let mut config = draft
                .finish(&BTreeMap::new(), None)
                .map_err(|p| p.to_string())?;
            // Free memory is part of it, and differs from call to call.
            config.core.host.environment.clear();
            Ok::<_, String>(config)
        };
        let untouched = finish(Vec::new());
        for key in all().filter(|key| !key.default.is_empty()) {
            let setting = Setting {
                key,
                name: key.name.to_owned(),
                value: key.default.to_owned(),
                origin: Origin::File(Path::new("test").into()),
            };
            assert_eq!(finish(vec![setting]), untouched, "{}", key.name);
        }
    }
}
