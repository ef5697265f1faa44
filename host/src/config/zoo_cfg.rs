//! The layer of files: `zoo.cfg` and the dynamic file that it may name.

use std::{fs, path::Path, sync::Arc};

use zabra_core::wire::properties;

use super::{
    draft::{Draft, Settings},
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
    // Source: QuorumPeerConfig.parseProperties: members are defined in one place only.
    let doubled = settings
        .values()
        .find(|setting| is_of_members(&setting.name));
    if let Some(doubled) = doubled {
        let text = "the servers are in the file that dynamicConfigFile names; remove one of them";
        let problem = Problem::new(Some(&doubled.origin), &doubled.name, text);
        draft.problems.push(problem);
    }
    let file: Arc<Path> = Path::new(&setting.value).into();
    read_keys(&file, draft, settings, |name| {
        if is_of_members(name) || name == "version" {
            Ok(())
        } else {
            Err("expected only server.N, group.N, weight.N and version in a dynamic file")
        }
    });
}

fn is_of_members(name: &str) -> bool {
    ["server.", "group.", "weight."]
        .iter()
        .any(|prefix| name.starts_with(prefix))
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
                if let Some(earlier) = settings.insert(name, setting) {
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
