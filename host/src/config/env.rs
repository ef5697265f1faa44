//! The layer of environment variables, for containers.
//!
//! * `ZABRA_<KEY>` sets any key of `zoo.cfg`. Case, dots, dashes and underscores do not count:
//!   `ZABRA_AUTOPURGE_PURGEINTERVAL`, `ZABRA_TICKTIME` and `ZABRA_TICK_TIME` set
//!   `autopurge.purgeInterval` and `tickTime`. A `ZABRA_` variable that stands for no key is an
//!   error, as it would do nothing.
//! * `ZOO_*` are those of the ZooKeeper image. A `ZABRA_` variable wins over one of them.
//! * `ZABRA_MYID_FROM_NAME` is the name of a StatefulSet's pod: that of `zabra-0` is server 1.
//! * An empty variable counts as one that is not set.
//! * What Kubernetes and Docker set by themselves for a service called `zabra` is left alone.

use std::ffi::OsString;

use super::{
    draft::{Draft, Settings},
    members::is_of_members,
    problem::{Origin, Problem, shown},
    table::{self, Key, Setting},
    zoo_cfg,
};

/// The variables of the ZooKeeper image (`docker-entrypoint.sh`) that stand for one key each.
const IMAGE: [(&str, &str); 12] = [
    ("ZOO_4LW_COMMANDS_WHITELIST", "4lw.commands.whitelist"),
    ("ZOO_ADMINSERVER_ENABLED", "admin.enableServer"),
    ("ZOO_AUTOPURGE_PURGEINTERVAL", "autopurge.purgeInterval"),
    ("ZOO_AUTOPURGE_SNAPRETAINCOUNT", "autopurge.snapRetainCount"),
    ("ZOO_DATA_DIR", "dataDir"),
    ("ZOO_DATA_LOG_DIR", "dataLogDir"),
    ("ZOO_INIT_LIMIT", "initLimit"),
    ("ZOO_MAX_CLIENT_CNXNS", "maxClientCnxns"),
    ("ZOO_MY_ID", "myid"),
    ("ZOO_STANDALONE_ENABLED", "standaloneEnabled"),
    ("ZOO_SYNC_LIMIT", "syncLimit"),
    ("ZOO_TICK_TIME", "tickTime"),
];

/// Numbers of pods begin with 0, of servers with 1.
const MY_ID_FROM_NAME: &str = "MYID_FROM_NAME";

/// `key=value` entries with blanks between them.
const IMAGE_LISTS: [&str; 2] = ["ZOO_CFG_EXTRA", "ZOO_SERVERS"];

/// Variables that are read elsewhere, or when Zabra is built.
const RESERVED: [&str; 4] = [
    "ZABRA_CONFIG",
    "ZABRA_CORE_WASM",
    "ZABRA_LOG_FORMAT",
    "ZABRA_LOG_LEVEL",
];

/// Reads the settings of the environment over those of the files.
pub(super) fn read(
    environment: &[(OsString, OsString)],
    draft: &mut Draft,
    settings: &mut Settings,
) {
    let mut variables: Vec<(String, String)> = Vec::new();
    for (name, value) in environment {
        let name = name.to_string_lossy().into_owned();
        if value.is_empty() || !(name.starts_with("ZOO_") || name.starts_with("ZABRA_")) {
            continue;
        }
        match value.to_str() {
            Some(value) => variables.push((name, value.trim().to_owned())),
            None => {
                let origin = Origin::Variable(name);
                let text = "expected text in UTF-8, found other bytes";
                draft.problems.push(Problem::new(Some(&origin), "", text));
            }
        }
    }
    // "ZOO_" sorts after "ZABRA_", which must come last to win.
    variables.sort_by(|a, b| b.cmp(a));
    for (name, value) in &variables {
        if let Some(rest) = name.strip_prefix("ZABRA_") {
            zabra(name, rest, value, draft, settings);
        } else {
            image(name, value, draft, settings);
        }
    }
}

fn zabra(name: &str, rest: &str, value: &str, draft: &mut Draft, settings: &mut Settings) {
    if RESERVED.contains(&name) || is_of_orchestrator(rest, value) {
        return;
    }
    let origin = Origin::Variable(name.to_owned());
    if rest == MY_ID_FROM_NAME {
        let pod = value
            .rsplit_once('-')
            .and_then(|(_, pod)| pod.parse::<u8>().ok());
        let id = pod.and_then(|pod| pod.checked_add(1));
        match (id, table::find("myid")) {
            (Some(id), Some((key, name))) => set(settings, key, name, &id.to_string(), origin),
            (None, _) | (_, None) => {
                let found = shown(value);
                let text = format!(
                    "expected the name of a StatefulSet's pod, which ends in a dash and a number \
                     from 0 to 254, found {found}"
                );
                draft.problems.push(Problem::new(Some(&origin), "", text));
            }
        }
        return;
    }
    let Some((key, canonical)) = table::find_folded(rest) else {
        let text = match table::nearest_folded(rest) {
            Some(near) => format!("there is no such setting; did you mean {near}?"),
            None => "there is no such setting; unset it".to_owned(),
        };
        draft.problems.push(Problem::new(Some(&origin), "", text));
        return;
    };
    if let Some(Origin::Variable(earlier)) = settings.get(&canonical).map(|s| &s.origin)
        && earlier.starts_with("ZABRA_")
    {
        let text = format!("{earlier} sets it too; unset one of them");
        draft
            .problems
            .push(Problem::new(Some(&origin), &canonical, text));
        return;
    }
    set(settings, key, canonical, value, origin);
}

fn image(name: &str, value: &str, draft: &mut Draft, settings: &mut Settings) {
    let origin = Origin::Variable(name.to_owned());
    if IMAGE_LISTS.contains(&name) {
        for entry in value.split_whitespace() {
            let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
            match zoo_cfg::known(key) {
                Ok((key, canonical)) => {
                    let earlier = settings.get(&canonical);
                    if earlier.is_some_and(|s| s.origin == origin) && is_of_members(&canonical) {
                        let text = "is there twice; remove one";
                        let problem = Problem::new(Some(&origin), &canonical, text);
                        draft.problems.push(problem);
                    }
                    set(settings, key, canonical, value, origin.clone());
                }
                Err(text) => draft.problems.push(Problem::new(Some(&origin), key, text)),
            }
        }
        return;
    }
    let stands_for = IMAGE.iter().find(|(variable, _)| *variable == name);
    if let Some((key, canonical)) = stands_for.and_then(|(_, key)| table::find(key)) {
        set(settings, key, canonical, value, origin);
        return;
    }
    // Others set variables of this prefix too, so one that is not known is no error; a slip is
    // worth a word.
    let near = IMAGE
        .iter()
        .map(|(variable, _)| *variable)
        .chain(IMAGE_LISTS)
        .find(|variable| variable.replace('_', "") == name.replace('_', ""));
    if let Some(near) = near {
        let text = format!("has no effect; did you mean {near}?");
        draft.warnings.push(Problem::new(Some(&origin), "", text));
    }
}

fn set(settings: &mut Settings, key: &'static Key, name: String, value: &str, origin: Origin) {
    let setting = Setting {
        key,
        name: name.clone(),
        value: value.to_owned(),
        origin,
    };
    settings.insert(name, setting);
}

/// Whether Kubernetes or Docker set this for a service whose name begins with "zabra":
/// `ZABRA_SERVICE_HOST`, `ZABRA_PORT=tcp://…`, `ZABRA_CLIENT_PORT_2181_TCP_ADDR`.
fn is_of_orchestrator(rest: &str, value: &str) -> bool {
    let is_url = ["tcp://", "udp://", "sctp://"]
        .iter()
        .any(|scheme| value.starts_with(scheme));
    let rest = format!("_{rest}");
    let numbered_port = rest.split_once("_PORT_").is_some_and(|(_, after)| {
        let number = after.trim_start_matches(|c: char| c.is_ascii_digit());
        number.len() < after.len()
            && ["_TCP", "_UDP", "_SCTP"]
                .iter()
                .any(|protocol| number.starts_with(protocol))
    });
    rest.ends_with("_SERVICE_HOST")
        || rest.contains("_SERVICE_PORT")
        || numbered_port
        || (rest.ends_with("_PORT") && is_url)
}
