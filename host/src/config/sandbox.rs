//! Which core runs: the native one, or a WebAssembly module with limits.

use std::path::PathBuf;

use super::{
    draft::{Draft, Settings},
    keys::{key, number, path},
    problem::{Problem, shown},
    table::{Effect, Key},
};

/// A core that is a WebAssembly module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxConfig {
    /// `core.module`: the module's file; `None`: the one in the binary.
    pub module: Option<PathBuf>,
    /// `core.memoryLimitInMb`, in bytes: how much memory the module may have.
    pub memory_bytes_max: usize,
    /// `core.stepLimitMs`: how long one call of the module may take.
    pub step_ms_max: u64,
}

/// Why a wish for a module cannot be met, if this build cannot.
const NO_RUNTIME: Option<&str> = if cfg!(feature = "wasm-runtime") {
    None
} else {
    Some(
        "this build of zabra runs no WebAssembly; take one that was built with the cargo feature \
         `wasm` (`cargo build --release --features wasm`), or set it to native",
    )
};

/// Why a module's file must be named, if it must.
const NO_MODULE: Option<&str> = if cfg!(feature = "wasm") {
    None
} else {
    Some(
        "this build of zabra has no module in it; name a compiled one with core.module or \
         --core-module (`zabra wasm compile` makes it)",
    )
};

pub(super) static KEYS: &[Key] = &[
    key("core", "native", Effect::Text(core)),
    key(
        "core.module",
        "",
        Effect::Text(|d, v| path(&mut d.sandbox.module, v)),
    ),
    key(
        "core.memoryLimitInMb",
        "2048",
        // Memories of WebAssembly end at 4 GiB; an empty server needs about 2 MiB.
        number(16, 4096, "MiB", |d, n| {
            d.sandbox.memory_bytes_max = usize::try_from(n).unwrap_or(0) << 20;
        }),
    ),
    key(
        "core.stepLimitMs",
        "10000",
        number(100, 600_000, "milliseconds", |d, n| {
            d.sandbox.step_ms_max = u64::try_from(n).unwrap_or(0);
        }),
    ),
];

/// The settings of a sandboxed core, which count only if there is to be one.
pub(super) struct SandboxDraft {
    wanted: bool,
    module: Option<PathBuf>,
    memory_bytes_max: usize,
    step_ms_max: u64,
}

impl Default for SandboxDraft {
    fn default() -> Self {
        Self {
            wanted: false,
            module: None,
            memory_bytes_max: 2 << 30,
            step_ms_max: 10_000,
        }
    }
}

fn core(draft: &mut Draft, value: &str) -> Result<(), &'static str> {
    draft.sandbox.wanted = match value {
        "native" => false,
        "wasm" => true,
        _ => return Err("native or wasm"),
    };
    Ok(())
}

impl Draft {
    /// What was decided; `None` is the native core.
    pub(super) fn sandboxed(
        &mut self,
        settings: &Settings,
        has_peers: bool,
    ) -> Option<SandboxConfig> {
        let wished = settings.get("core");
        if !self.sandbox.wanted {
            // It is only worth a word where nobody chose between the two.
            let lonely = settings
                .get("core.module")
                .filter(|_| wished.is_none() && self.sandbox.module.is_some());
            if let Some(setting) = lonely {
                let text = format!(
                    "{} has no effect: the native core runs; set core=wasm",
                    shown(&setting.value)
                );
                let problem = Problem::new(Some(&setting.origin), &setting.name, text);
                self.warnings.push(problem);
            }
            return None;
        }
        let lack = NO_RUNTIME.or_else(|| NO_MODULE.filter(|_| self.sandbox.module.is_none()));
        if let Some(text) = lack {
            let origin = wished.map(|setting| &setting.origin);
            self.problems.push(Problem::new(origin, "core", text));
            return None;
        }
        self.bound_tree(settings, has_peers);
        Some(SandboxConfig {
            module: self.sandbox.module.take(),
            memory_bytes_max: self.sandbox.memory_bytes_max,
            step_ms_max: self.sandbox.step_ms_max,
        })
    }

    /// Lets writes be refused before the module's memory can run out.
    fn bound_tree(&mut self, settings: &Settings, has_peers: bool) {
        let room = tree_bytes_max(self.sandbox.memory_bytes_max);
        let Some(setting) = settings.get(TREE_BYTES_MAX) else {
            self.core.tree_bytes_max = room;
            if has_peers {
                let text = format!(
                    "is {room} here, for the memory that the sandboxed core may have; set it on every \
                     server: what a leader without it commits could be more than this one can hold"
                );
                self.warnings.push(Problem::new(None, TREE_BYTES_MAX, text));
            }
            return;
        };
        let found = self.core.tree_bytes_max;
        if found == 0 || found > room {
            let text = format!(
                "{} is more than the {room} bytes for which core.memoryLimitInMb leaves room: the \
                 sandboxed core may run out of memory, and begin anew",
                shown(&setting.value)
            );
            let problem = Problem::new(Some(&setting.origin), &setting.name, text);
            self.warnings.push(problem);
        }
    }
}

const TREE_BYTES_MAX: &str = "zabra.treeBytesMax";

/// How large a state may become in this much memory: three eighths. It can need twice what it is
/// counted for, and a quarter is for what is on its way (SECURITY.md).
fn tree_bytes_max(memory_bytes_max: usize) -> u64 {
    memory_bytes_max as u64 / 8 * 3
}
