//! The mutants as texts.
//!
//! ```text
//! what: one line
//! again: ZOOKEEPER-nnnn, or whose mistake it is        (may be missing)
//! expect: S16 | S10                                    (beginnings of invariants)
//! budget: 10                                           (seconds of one core)
//! servers: 3..7                                        (may be missing: all)
//! file: core/src/zab/learner/sync.rs
//! <<<<
//! the text, whole lines, as it stands there once
//! ====
//! what stands there instead
//! >>>>
//! ```
//!
//! Several `file:` with their blocks may follow. Lines that begin with `#` before a block are for
//! the reader.

use std::fs;
use std::path::Path;

/// Where the texts are.
const DIRECTORY: &str = "core/sim/mutants";
/// Where those are that the simulator does not find yet: tried only if they are named.
const OPEN: &str = "core/sim/mutants/open";

/// A mistake to be planted.
#[derive(Default)]
pub(super) struct Mutant {
    pub(super) name: String,
    pub(super) expect: Vec<String>,
    pub(super) budget: u64,
    pub(super) servers: String,
    /// Not found yet.
    pub(super) is_open: bool,
    pub(super) changes: Vec<Change>,
}

/// A text and what is to stand in its place.
#[derive(Default)]
pub(super) struct Change {
    file: String,
    old: String,
    new: String,
}

/// Every mutant there is, by name.
pub(super) fn all(root: &Path) -> Result<Vec<Mutant>, String> {
    let mut mutants = read(&root.join(DIRECTORY))?;
    let mut open = read(&root.join(OPEN))?;
    for mutant in &mut open {
        mutant.is_open = true;
    }
    mutants.append(&mut open);
    mutants.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(mutants)
}

fn read(directory: &Path) -> Result<Vec<Mutant>, String> {
    let failed = |error| format!("{}: {error}", directory.display());
    let mut mutants = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_none_or(|extension| extension != "txt") {
            continue;
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let text = super::read(&path)?;
        let mutant =
            Mutant::parse(&name, &text).map_err(|error| format!("{}: {error}", path.display()))?;
        mutants.push(mutant);
    }
    Ok(mutants)
}

impl Mutant {
    /// The core as it is, run for so long.
    pub(super) fn nobody(budget: u64) -> Self {
        Self {
            budget,
            ..Self::default()
        }
    }

    fn parse(name: &str, text: &str) -> Result<Self, String> {
        let mut mutant = Self {
            name: name.to_owned(),
            ..Self::default()
        };
        let (mut file, mut is_said) = (String::new(), false);
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if line == "<<<<" {
                let old = block(&mut lines, "====")?;
                let new = block(&mut lines, ">>>>")?;
                let file = file.clone();
                mutant.changes.push(Change { file, old, new });
                continue;
            }
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (key, value) = line
                .split_once(": ")
                .ok_or_else(|| format!("expected KEY: VALUE or <<<<, found {line:?}"))?;
            match key {
                "what" => is_said = true,
                "again" => {}
                "expect" => mutant.expect = value.split(" | ").map(str::to_owned).collect(),
                "budget" => {
                    let number = value.parse();
                    mutant.budget =
                        number.map_err(|_| format!("expected seconds, found {value:?}"))?;
                }
                "servers" => value.clone_into(&mut mutant.servers),
                "file" => value.clone_into(&mut file),
                _ => return Err(format!("no line begins with {key:?}")),
            }
        }
        let is_whole = is_said
            && mutant.budget > 0
            && !mutant.expect.is_empty()
            && !mutant.changes.is_empty()
            && mutant.changes.iter().all(|change| !change.file.is_empty());
        if is_whole {
            Ok(mutant)
        } else {
            Err("expected what, expect, budget, and file with a block".to_owned())
        }
    }

    /// The files that it changes, with their new texts.
    pub(super) fn edits(&self, root: &Path) -> Result<Vec<(String, String)>, String> {
        let mut edits: Vec<(String, String)> = Vec::new();
        for change in &self.changes {
            if !edits.iter().any(|(file, _)| *file == change.file) {
                let text = super::read(&root.join(&change.file))?;
                edits.push((change.file.clone(), text));
            }
            let edit = edits.iter_mut().find(|(file, _)| *file == change.file);
            let Some((file, text)) = edit else { continue };
            let count = text.matches(&change.old).count();
            if count != 1 {
                let old = change.old.lines().next().unwrap_or_default().trim();
                return Err(format!(
                    "mutant {}: expected its text once in {file}, found it {count} times: \
                     the code has changed, plant the mutant anew ({old} …)",
                    self.name
                ));
            }
            *text = text.replacen(&change.old, &change.new, 1);
        }
        Ok(edits)
    }
}

/// The lines up to a mark.
fn block<'a>(lines: &mut impl Iterator<Item = &'a str>, end: &str) -> Result<String, String> {
    let mut text = String::new();
    for line in lines {
        if line == end {
            return Ok(text);
        }
        text.push_str(line);
        text.push('\n');
    }
    Err(format!("expected {end} before the end"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
what: half
expect: S9 | S2
budget: 10
file: x
<<<<
a
====
b
>>>>
";

    #[test]
    fn text_is_replaced_only_where_it_stands_once() {
        let directory = std::env::temp_dir().join(format!("mutant-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory for temporary files");
        let mutant = Mutant::parse("m", TEXT).expect("right");
        assert_eq!(mutant.expect, ["S9", "S2"]);
        for (before, after) in [
            ("1\na\n2\n", Some("1\nb\n2\n")),
            ("2\n", None),
            ("a\na\n", None),
        ] {
            fs::write(directory.join("x"), before).expect("it can be written");
            let edits = mutant.edits(&directory).ok();
            let texts = edits.map(|edits| edits.into_iter().map(|edit| edit.1).collect());
            assert_eq!(
                texts,
                after.map(|after| vec![after.to_owned()]),
                "{before:?}"
            );
        }
        fs::remove_dir_all(&directory).expect("it can be removed");
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        for (from, to) in [
            ("budget: 10\n", ""),
            (">>>>", ""),
            ("file: x\n", ""),
            ("what", "why"),
        ] {
            assert!(
                Mutant::parse("m", &TEXT.replace(from, to)).is_err(),
                "{from:?}"
            );
        }
    }

    /// Each text of the workspace still applies: a change of the code must say so at once.
    #[test]
    fn every_mutant_of_the_workspace_applies() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mutants = all(&root).expect("they can be read");
        assert!(mutants.len() >= 25, "{} mutants", mutants.len());
        for mutant in mutants {
            assert!(!mutant.edits(&root).expect("it applies").is_empty());
        }
    }
}
