//! Any bytes as a `zoo.cfg` and as the environment: nothing panics, and no message and no `Debug` shows
//! a secret.
#![no_main]

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::sync::OnceLock;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use zabra::config::{ServerConfig, Sources};

const SECRET: &str = "Xk9secretQ3";

#[derive(Arbitrary, Debug)]
struct Settings {
    /// Where the secret stands: in the file, in the environment, nowhere; and whether it is well formed.
    secret: u8,
    file: Option<Vec<u8>>,
    zabra: Vec<(Vec<u8>, Vec<u8>)>,
    image: Vec<(u8, Vec<u8>)>,
}

/// Names are looked up by nobody: no network, and the same answer every time.
#[unsafe(no_mangle)]
pub extern "C" fn getaddrinfo(_: *const u8, _: *const u8, _: *const u8, _: *mut *mut u8) -> i32 {
    const EAI_NONAME: i32 = -2;
    EAI_NONAME
}

fuzz_target!(|settings: Settings| {
    let digest = match settings.secret & 1 {
        0 => format!("super:{SECRET}"),
        _ => format!("super:{SECRET}0123456789abcdef="),
    };
    let mut environment: Vec<(OsString, OsString)> = Vec::new();
    let mut file = None;
    if let Some(bytes) = &settings.file {
        // The fuzzer must not make the harness read devices.
        let text = String::from_utf8_lossy(bytes);
        if text.contains("/dev") || text.contains("/proc") || text.contains("\\u") {
            return;
        }
        let mut content = Vec::new();
        if settings.secret & 2 != 0 {
            let name = "zookeeper.DigestAuthenticationProvider.superDigest";
            content.extend(format!("{name}={digest}\n").bytes());
        }
        content.extend_from_slice(bytes);
        fs::write(path(), content).expect("a temporary file can be written");
        file = Some(path().clone());
    }
    if settings.secret & 4 != 0 {
        let name = "ZABRA_DIGESTAUTHENTICATIONPROVIDER_SUPERDIGEST";
        environment.push((name.into(), digest.into()));
    }
    for (name, value) in &settings.zabra {
        let name = [b"ZABRA_", &**name].concat();
        environment.push((OsString::from_vec(name), OsString::from_vec(value.clone())));
    }
    for (which, value) in &settings.image {
        let name = IMAGE[usize::from(*which) % IMAGE.len()];
        environment.push((name.into(), OsString::from_vec(value.clone())));
    }
    let sources = Sources {
        file,
        environment,
        flags: Vec::new(),
    };
    match ServerConfig::load(&sources) {
        Ok(config) => {
            assert!(!config.listen.is_empty());
            let core = &config.core;
            assert!(core.session_timeout_ms_min <= core.session_timeout_ms_max);
            for warning in &config.warnings {
                assert!(!warning.to_string().contains(SECRET), "{warning}");
            }
            let text = format!("{config:?}");
            assert!(!text.contains(SECRET), "{text}");
        }
        Err(problems) => {
            assert!(problems.iter().next().is_some());
            let text = problems.to_string();
            assert!(!text.is_empty());
            assert!(!text.contains(SECRET), "{text}");
        }
    }
});

const IMAGE: [&str; 8] = [
    "ZOO_4LW_COMMANDS_WHITELIST",
    "ZOO_CFG_EXTRA",
    "ZOO_DATA_DIR",
    "ZOO_INIT_LIMIT",
    "ZOO_MY_ID",
    "ZOO_SERVERS",
    "ZOO_STANDALONE_ENABLED",
    "ZOO_TICK_TIMES",
];

fn path() -> &'static PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let name = format!("zabra-fuzz-{}.cfg", std::process::id());
        let memory = PathBuf::from("/dev/shm");
        let directory = if memory.is_dir() {
            memory
        } else {
            std::env::temp_dir()
        };
        directory.join(name)
    })
}
