//! With the feature `wasm`, the core as a module for the binary to carry.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    #[cfg(feature = "wasm")]
    embed::core();
}

#[cfg(feature = "wasm")]
mod embed {
    use std::path::{Path, PathBuf};
    use std::{env, fs};

    use zabra_core_wasm_build::{Source, VARIABLE, ways};

    /// What the module is made from, below the workspace.
    const SOURCES: [&str; 6] = [
        "Cargo.lock",
        "Cargo.toml",
        "core/Cargo.toml",
        "core/src",
        "core/wasm/Cargo.toml",
        "core/wasm/src",
    ];

    /// Leaves the module as `core.wasm` where the crate includes it from.
    pub(super) fn core() {
        let variable = |name| PathBuf::from(env::var_os(name).expect("cargo sets it"));
        let out = variable("OUT_DIR");
        let manifest = variable("CARGO_MANIFEST_DIR");
        let root = manifest.parent().unwrap_or(&manifest);
        println!("cargo:rerun-if-env-changed={VARIABLE}");
        for source in SOURCES {
            println!("cargo:rerun-if-changed={}", root.join(source).display());
        }
        let source = Source::find().unwrap_or_else(|| stop(&ways()));
        let module = source.module(root, &target(&out));
        let module = module.unwrap_or_else(|error| stop(&error));
        if let Source::Given(_) = source {
            println!("cargo:rerun-if-changed={}", module.display());
        }
        let embedded = out.join("core.wasm");
        if let Err(error) = fs::copy(&module, &embedded) {
            stop(&format!("{}: {error}", module.display()));
        }
    }

    /// Beside the profiles' directories, where `cargo xtask wasm` has it too.
    fn target(out: &Path) -> PathBuf {
        // target/PROFILE/build/zabra-HASH/out
        let target = out.ancestors().nth(4);
        target.unwrap_or(out).join("wasm")
    }

    fn stop(why: &str) -> ! {
        panic!("the feature `wasm` puts the core as a module into the binary: {why}")
    }
}
