//! Which core runs.

#[cfg(feature = "wasm-runtime")]
use std::path::Path;

#[cfg(feature = "wasm-runtime")]
use zabra::config::SandboxConfig;

use super::{NEEDED, load, load_env, load_line, warnings};

#[test]
fn native_core_is_the_default() {
    assert_eq!(load(NEEDED).unwrap().sandbox, None);
    let config = load_line("core=native\ncore.module=a.wasm").unwrap();
    assert_eq!(config.sandbox, None);
    assert_eq!(warnings(&config), [""; 0]);
    let config = load_line("core.module=a.wasm").unwrap();
    assert_eq!(config.sandbox, None);
    assert_eq!(
        warnings(&config),
        ["core.module: \"a.wasm\" has no effect: the native core runs; set core=wasm"]
    );
}

#[test]
fn core_that_there_is_not_is_refused() {
    assert_eq!(
        load_line("core=java").unwrap_err(),
        ["zoo.cfg:3: core: expected native or wasm, found \"java\" (the default is native)"]
    );
    assert_eq!(
        load_line("core.memoryLimitInMb=5000").unwrap_err(),
        [
            "zoo.cfg:3: core.memoryLimitInMb: expected a whole number of MiB from 16 to 4096, \
             found \"5000\" (the default is 2048)"
        ]
    );
}

#[cfg(feature = "wasm-runtime")]
#[test]
fn module_has_its_limits() {
    let config = load_line("core=wasm\ncore.module=/m.wasm").unwrap();
    let mut expected = SandboxConfig {
        module: Some(Path::new("/m.wasm").into()),
        memory_bytes_max: 2 << 30,
        step_ms_max: 10_000,
    };
    assert_eq!(config.sandbox, Some(expected.clone()));
    let config = load_env(&[
        ("ZABRA_CORE", "wasm"),
        ("ZABRA_CORE_MODULE", "/m.wasm"),
        ("ZABRA_CORE_MEMORYLIMITINMB", "64"),
        ("ZABRA_CORE_STEPLIMITMS", "500"),
        // Of the build, not of the server.
        ("ZABRA_CORE_WASM", "/other.wasm"),
    ]);
    expected.memory_bytes_max = 64 << 20;
    expected.step_ms_max = 500;
    assert_eq!(config.unwrap().sandbox, Some(expected));
}

#[cfg(feature = "wasm")]
#[test]
fn module_in_the_binary_needs_no_file() {
    let config = load_line("core=wasm").unwrap();
    assert_eq!(config.sandbox.unwrap().module, None);
}

#[cfg(not(feature = "wasm-runtime"))]
#[test]
fn build_without_webassembly_says_which_has_it() {
    assert_eq!(
        load_line("core=wasm").unwrap_err(),
        [
            "zoo.cfg:3: core: this build of zabra runs no WebAssembly; take one that was built \
             with the cargo feature `wasm` (`cargo build --release --features wasm`), or set it \
             to native"
        ]
    );
    assert!(load_env(&[("ZABRA_CORE", "wasm")]).is_err());
}

#[cfg(feature = "wasm-runtime")]
#[test]
fn state_has_room_in_the_modules_memory() {
    let config = load_line("core=wasm\ncore.module=/m.wasm\ncore.memoryLimitInMb=64").unwrap();
    assert_eq!(config.core.tree_bytes_max, 24 << 20);
    assert_eq!(warnings(&config), [""; 0]);
    let config = load_line("core=native").unwrap();
    assert_eq!(config.core.tree_bytes_max, 0);

    let given = |bytes: u64| {
        let line = format!(
            "core=wasm\ncore.module=/m.wasm\ncore.memoryLimitInMb=64\nzabra.treeBytesMax={bytes}"
        );
        let config = load_line(&line).unwrap();
        assert_eq!(config.core.tree_bytes_max, bytes);
        warnings(&config)
    };
    assert_eq!(given(24 << 20), [""; 0]);
    let warned = "zabra.treeBytesMax: \"25165825\" is more than the 25165824 bytes for which \
                  core.memoryLimitInMb leaves room: the sandboxed core may run out of memory, and \
                  begin anew";
    assert_eq!(given((24 << 20) + 1), [warned]);
    assert_eq!(given(0).len(), 1);
}
