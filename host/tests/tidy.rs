//! What a reader of the code would be hurt by if it were not so: ARCHITECTURE.md's import rules,
//! where what may appear, and files nobody uses.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

const SOURCES: [&str; 7] = [
    "core/src",
    "core/sim/src",
    "core/wasm/build/src",
    "core/wasm/src",
    "host/sandbox/src",
    "host/src",
    "xtask/src",
];

/// Rust files below a directory of the workspace, by their paths from its root.
fn files(directory: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut waiting = vec![root().join(directory)];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path
                    .strip_prefix(root())
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                found.push((name, fs::read_to_string(path).unwrap()));
            }
        }
    }
    assert!(!found.is_empty(), "{directory} has Rust files");
    found
}

/// A file's code without what is behind `//`, and without its tests.
fn code(text: &str) -> String {
    let tests = text.find("#[cfg(test)]\nmod tests").unwrap_or(text.len());
    let lines = text.get(..tests).unwrap().lines();
    lines
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n")
}

/// The top-level modules that a file names by `crate::a` or `crate::{a, b::c}`.
fn imports(text: &str) -> BTreeSet<String> {
    let code = code(text);
    let mut names = BTreeSet::new();
    for after in code.split("crate::").skip(1) {
        let group = after.strip_prefix('{');
        let mut depth = 0_u32;
        for item in group.unwrap_or(after).split_inclusive(['{', '}', ',']) {
            let name: String = item.trim().chars().take_while(|&c| is_name(c)).collect();
            if depth == 0 && !name.is_empty() {
                names.insert(name);
            }
            match item.chars().last() {
                Some('{') => depth += 1,
                Some('}') if depth == 0 => break,
                Some('}') => depth -= 1,
                _ => {}
            }
            if group.is_none() {
                break;
            }
        }
    }
    names
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Module of the core, and what it may import besides itself.
const CORE: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("ids", &[]),
    ("jute", &[]),
    ("lane", &["ids"]),
    ("link", &["sorted"]),
    ("machine", &["ids"]),
    ("path", &[]),
    ("sasl", &["secret"]),
    ("secret", &[]),
    ("sorted", &[]),
    ("wire", &["error", "ids", "jute"]),
    ("store", &["ids", "jute", "lane", "wire"]),
    (
        "tree",
        &["error", "ids", "jute", "path", "sorted", "store", "wire"],
    ),
    (
        "server",
        &[
            "error", "ids", "jute", "lane", "link", "machine", "path", "sasl", "secret", "sorted",
            "tree", "wire", "zab",
        ],
    ),
    (
        "zab",
        &[
            "ids", "jute", "lane", "link", "sasl", "secret", "sorted", "wire",
        ],
    ),
];

/// Module of the host, and what it may import besides itself.
const HOST: &[(&str, &[&str])] = &[
    (
        "admin",
        &["config", "histogram", "host_facts", "net", "store"],
    ),
    ("audit", &["config", "error", "host_facts"]),
    ("backup", &["store"]),
    ("config", &["host_facts"]),
    ("error", &["config", "tls"]),
    ("histogram", &[]),
    ("host_facts", &[]),
    ("logging", &[]),
    ("net", &["histogram", "tls"]),
    ("store", &["Error", "error", "histogram"]),
    (
        "server",
        &[
            "admin",
            "audit",
            "config",
            "error",
            "host_facts",
            "logging",
            "net",
            "store",
            "tls",
        ],
    ),
    ("tls", &["config"]),
    (
        "cli",
        &[
            "Error",
            "backup",
            "config",
            "error",
            "host_facts",
            "logging",
            "server",
            "store",
        ],
    ),
];

fn check_imports(source: &str, rules: &[(&str, &[&str])]) {
    for (file, text) in files(source) {
        let within = file.strip_prefix(source).unwrap().trim_start_matches('/');
        let module = within.split(['/', '.']).next().unwrap();
        if matches!(module, "lib" | "main") || file.contains("/tests") {
            continue;
        }
        let rule = rules.iter().find(|(name, _)| *name == module);
        let (_, allowed) = rule.unwrap_or_else(|| panic!("{file}: no rule for module {module}"));
        for import in imports(&text) {
            assert!(
                import == module || allowed.contains(&import.as_str()),
                "{file} imports {import}, which ARCHITECTURE.md does not allow to {module}"
            );
        }
    }
}

#[test]
fn modules_import_what_the_architecture_allows() {
    check_imports("core/src", CORE);
    check_imports("host/src", HOST);
}

#[test]
fn crates_and_words_stay_where_they_belong() {
    // Word, where it may be.
    let rules: &[(&str, &[&str])] = &[
        (
            "tokio::",
            &[
                "host/src/admin/",
                "host/src/net/",
                "host/src/server/",
                "host/src/cli/server.rs",
                "host/src/cli/ensemble/stop.rs",
            ],
        ),
        (
            "rustls::",
            &[
                "host/src/net/session.rs",
                "host/src/net/securing.rs",
                "host/src/tls/",
            ],
        ),
        ("wasmtime", &["host/sandbox/"]),
        ("postcard", &["core/wasm/"]),
        (
            "unsafe {",
            &["core/wasm/src/exports.rs", "host/sandbox/src/engine.rs"],
        ),
        ("unsafe fn", &[]),
        (
            "std::time::",
            &["host/src/", "core/sim/src/main.rs", "xtask/"],
        ),
        // The generator must not share the codec that it measures, the simulator not the one that
        // it judges.
        (
            "_be_bytes",
            &[
                "core/src/jute/",
                "core/src/wire/",
                "core/src/server/conn.rs",
                "core/src/server/four_letter/",
                "core/src/tree/digest.rs",
                "core/sim/",
                "host/src/cli/bench/",
                "host/src/store/compress.rs",
            ],
        ),
    ];
    for (file, text) in SOURCES.into_iter().flat_map(files) {
        if file.contains("/tests") {
            continue;
        }
        let code = code(&text);
        for (word, places) in rules {
            let here = places.iter().any(|place| file.starts_with(place));
            assert!(
                here || !code.contains(word),
                "{file} has {word:?}, which belongs to {places:?}"
            );
        }
    }
}

#[test]
fn every_file_is_part_of_its_crate() {
    for source in SOURCES {
        let all = files(source);
        let text: String = all.iter().map(|(_, text)| text.as_str()).collect();
        for (file, _) in &all {
            let path = Path::new(file);
            let stem = path.file_stem().unwrap().to_str().unwrap();
            let name = match stem {
                "lib" | "main" => continue,
                "mod" => path
                    .parent()
                    .unwrap()
                    .file_name()
                    .unwrap()
                    .to_str()
                    .unwrap(),
                stem => stem,
            };
            assert!(
                text.contains(&format!("mod {name};")),
                "{file} is in no module"
            );
        }
    }
}

#[test]
fn lines_fit_and_say_nothing_is_left_to_do() {
    for (file, text) in SOURCES.into_iter().flat_map(files) {
        for (number, line) in text.lines().enumerate() {
            let place = format!("{file}:{}", number + 1);
            assert!(
                line.chars().count() <= 120,
                "{place} is longer than 120 columns"
            );
            assert!(
                !line.contains("todo!(") && !line.contains("FIXME"),
                "{place} is not done"
            );
        }
    }
}
