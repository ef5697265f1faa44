//! The layer of files: `zoo.cfg` and the dynamic file that it may name.

use std::{fs, path::Path, sync::Arc};

use zabra_core::wire::properties;

use super::{
    draft::{Draft, Settings},
    dynamic,
    members::is_of_members,
    problem::{Origin, Problem},
    properties::decode,
    table::{self, Key, Setting},
};

/// Reads the settings of a `zoo.cfg`; what is wrong with it goes to the draft.
pub(super) fn read(file: &Arc<Path>, draft: &mut Draft, settings: &mut Settings) {
    read_keys(file, draft, settings, |_| Ok(()));
}

/// Reads the servers of the file named by `dynamicConfigFile`, if it is set.
pub(super) fn read_dynamic(draft: &mut Draft, settings: &mut Settings) {
    let Some(setting) = settings.get("dynamicConfigFile") else {
        return;
    };
    let file: Arc<Path> = Path::new(&setting.value).into();
    let names: Vec<String> = settings.keys().cloned().collect();
    // Removed, or they would be mixed with the file's.
    let doubled: Vec<Setting> = names
        .iter()
        .filter(|name| is_of_members(name))
        .filter_map(|name| settings.remove(name))
        .collect();
    if let Some(first) = doubled.first() {
        doubled_members(first, &file, draft);
    }
    read_keys(&file, draft, settings, |name| match name {
        _ if is_of_members(name) => Ok(()),
        "version" => Err("the version of a dynamic file is in its name; remove the line"),
        _ => Err("expected only server.N, group.N and weight.N in a dynamic file"),
    });
}

/// Source: `QuorumPeerConfig.parseProperties`: members are defined in one place only.
fn doubled_members(member: &Setting, file: &Path, draft: &mut Draft) {
    let version = dynamic::version_of(file);
    if matches!(member.origin, Origin::Variable(_)) && version > 0 {
        // Whoever started it with variables starts it with the same ones after the servers of the
        // ensemble have changed.
        let text = format!(
            "does not count: the servers of the ensemble have changed since, to those of {}",
            file.display()
        );
        let warning = Problem::new(Some(&member.origin), &member.name, text);
        draft.warnings.push(warning);
        return;
    }
    let text = "the servers are in the file that dynamicConfigFile names; remove one of them";
    let problem = Problem::new(Some(&member.origin), &member.name, text);
    draft.problems.push(problem);
}

fn read_keys(
    file: &Arc<Path>,
    draft: &mut Draft,
    settings: &mut Settings,
    permitted: fn(&str) -> Result<(), &'static str>,
) {
    let bytes = match fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) => {
            let origin = Origin::File(Arc::clone(file));
            let text = format!("cannot be read: {error}");
            draft.unreadable = true;
            draft.problems.push(Problem::new(Some(&origin), "", text));
            return;
        }
    };
    let properties = match properties::parse(&decode(&bytes)) {
        Ok(properties) => properties,
        Err(bad) => {
            draft.problems.extend(bad.into_iter().map(|bad| {
                let origin = Origin::Line(Arc::clone(file), bad.line);
                Problem::new(Some(&origin), "", bad.text)
            }));
            return;
        }
    };
    for property in properties {
        let origin = Origin::Line(Arc::clone(file), property.line);
        let found = match permitted(&property.key) {
            Ok(()) => known(&property.key),
            Err(text) => Err(text.to_owned()),
        };
        match found {
            Ok((key, name)) => {
                let setting = Setting {
                    key,
                    name: name.clone(),
                    value: property.value,
                    origin,
                };
                let Some(earlier) = settings.insert(name, setting) else {
                    continue;
                };
                if is_of_members(&earlier.name) {
                    // Which of two is meant decides who counts the votes of whom.
                    let text = format!("line {} is about it too; remove one", property.line);
                    let problem = Problem::new(Some(&earlier.origin), &earlier.name, text);
                    draft.problems.push(problem);
                } else {
                    let text = format!("line {} sets it again, and counts", property.line);
                    let warning = Problem::new(Some(&earlier.origin), &earlier.name, text);
                    draft.warnings.push(warning);
                }
            }
            Err(text) => {
                let problem = Problem::new(Some(&origin), &property.key, text);
                draft.problems.push(problem);
            }
        }
    }
}

/// The key of this name, or a message that it is not one. ZooKeeper makes a system property of any
/// name; one that nobody reads is a setting that silently does nothing.
pub(super) fn known(name: &str) -> Result<(&'static Key, String), String> {
    table::find(name).ok_or_else(|| match table::nearest(name) {
        Some(near) => format!("there is no such key; did you mean {near}?"),
        None => "there is no such key; remove it, or see the documentation for the keys".to_owned(),
    })
}
