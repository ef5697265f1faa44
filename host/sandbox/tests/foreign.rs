//! Modules that are not ours, or do not behave.
#![expect(
    clippy::unwrap_used,
    reason = "a test may stop at what it did not expect"
)]

use zabra_core::machine::Now;
use zabra_sandbox::{Engine, Instance, Limits, LoadError, Module, Trap};

/// A module with our exports whose `step` does this; `alloc` always gives 65,536 of two pages.
fn with_step(step: &str) -> Vec<u8> {
    module(1, "", step)
}

fn module(abi: u32, import: &str, step: &str) -> Vec<u8> {
    let text = format!(
        r#"(module {import}
            (memory (export "memory") 2)
            (global (export "panicked") i32 (i32.const 16))
            (func (export "abi") (result i32) i32.const {abi})
            (func (export "alloc") (param i32) (result i32) i32.const 65536)
            (func (export "open") (param i32) (result i64) i64.const 0)
            (func (export "step") (param i32) (result i64) {step}))"#
    );
    wat::parse_str(text).unwrap()
}

fn limits() -> Limits {
    Limits {
        memory_bytes_max: 1 << 20,
        step_ms_max: 100,
    }
}

fn trap_of(wasm: &[u8]) -> Trap {
    let engine = Engine::new().unwrap();
    let module = Module::from_bytes(&engine, "a module", wasm).unwrap();
    let mut instance = Instance::new(&engine, &module, limits()).unwrap();
    let mut outputs = Vec::new();
    let trap = instance
        .step(Now::default(), &mut Vec::new(), &mut outputs)
        .unwrap_err();
    assert_eq!(outputs, [], "a step that failed asks for nothing");
    trap
}

fn refusal(bytes: &[u8]) -> String {
    let engine = Engine::new().unwrap();
    match Module::from_bytes(&engine, "core.wasm", bytes) {
        Ok(_) => panic!("it was taken"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn endless_step_is_ended() {
    let trap = trap_of(&with_step("(loop br 0) unreachable"));
    assert_eq!(trap, Trap::Endless { step_ms_max: 100 });
}

#[test]
fn step_that_wants_too_much_memory_is_told_from_other_traps() {
    let grow = "(if (i32.eq (memory.grow (i32.const 100)) (i32.const -1)) (then unreachable)) \
                unreachable";
    let trap = trap_of(&with_step(grow));
    assert_eq!(
        trap,
        Trap::OutOfMemory {
            memory_bytes_max: 1 << 20
        }
    );
    let other = trap_of(&with_step("unreachable"));
    assert!(matches!(&other, Trap::Other(text) if text.contains("unreachable")));
}

#[test]
fn panic_is_told_with_its_place() {
    // "oh" behind its length, where `panicked` points.
    let panic = "(i32.store (i32.const 16) (i32.const 2)) \
                 (i32.store16 (i32.const 20) (i32.const 0x686f)) unreachable";
    assert_eq!(trap_of(&with_step(panic)), Trap::Panicked("oh".into()));
    // A length that no memory has tells nothing, and does no harm.
    let lie = "(i32.store (i32.const 16) (i32.const -1)) unreachable";
    assert!(matches!(trap_of(&with_step(lie)), Trap::Other(_)));
}

#[test]
fn result_outside_the_memory_is_a_trap() {
    for returned in ["0x0000_ffff_ffff_ffff", "-1", "0x0002_0000_0000_0001"] {
        let trap = trap_of(&with_step(&format!("i64.const {returned}")));
        assert!(matches!(&trap, Trap::Corrupt(_)), "{returned}: {trap}");
    }
    // In the memory, but one byte longer than a batch.
    let trap = trap_of(&with_step("i64.const 0x0001_0000_0000_0004"));
    assert!(matches!(&trap, Trap::Corrupt(_)), "{trap}");
}

#[test]
fn batch_that_does_not_fit_is_a_trap() {
    let wasm = with_step("unreachable");
    let engine = Engine::new().unwrap();
    let module = Module::from_bytes(&engine, "a module", &wasm).unwrap();
    let mut instance = Instance::new(&engine, &module, limits()).unwrap();
    // `alloc` always gives the second page, whatever it is asked for.
    let trap = instance.step_encoded(&vec![0; 65_537]).unwrap_err();
    assert_eq!(
        trap.to_string(),
        "the sandboxed core returned no batch: 65537 bytes at 65536 are not in its memory"
    );
}

#[test]
fn what_is_no_core_is_refused_by_name() {
    let of_abi = |abi| refusal(&module(abi, "", "unreachable"));
    assert_eq!(
        of_abi(7),
        "core.wasm: expected a core of ABI version 1, found version 7; take the core that was \
         built with this server"
    );
    let begins = "core.wasm: expected a core of Zabra as a WebAssembly module, found ";
    let found = |bytes: &[u8]| {
        let text = refusal(bytes);
        text.strip_prefix(begins).map(str::to_owned).unwrap()
    };
    assert_eq!(found(b""), "0 bytes that begin with []");
    assert_eq!(
        found(b"#!/bin/sh\n"),
        "10 bytes that begin with [23, 21, 2f, 62, 69, 6e, 2f, 73]"
    );
    assert!(found(b"\0asm\x01\0\0\0\x07").starts_with("one that cannot be compiled"));
    let import = r#"(import "env" "now" (func))"#;
    let text = found(&module(1, import, "unreachable"));
    assert!(text.contains("import"), "{text}");
    let text = found(&wat::parse_str("(module)").unwrap());
    assert!(text.contains("no export memory"), "{text}");
}

#[test]
fn compiled_module_runs_like_its_source_and_damage_is_found() {
    let wasm = with_step("unreachable");
    let compiled = Module::compile("core.wasm", &wasm).unwrap();
    let engine = Engine::new().unwrap();
    let module = Module::from_bytes(&engine, "core.cwasm", &compiled).unwrap();
    let source = Module::from_bytes(&engine, "core.wasm", &wasm).unwrap();
    assert!(module.origin().compiled && !source.origin().compiled);
    assert_eq!(module.origin().digest, source.origin().digest);
    assert!(matches!(trap_of(&compiled), Trap::Other(_)));

    // One length for each part of the head and the body.
    for end in [11, 13, 20, 60, 79, 80, 81, compiled.len() - 1] {
        let text = refusal(compiled.get(..end).unwrap());
        assert!(text.contains("cut short"), "{end}: {text}");
    }
    for at in [11, 12, 60, 80, compiled.len() - 1] {
        let mut damaged = compiled.clone();
        *damaged.get_mut(at).unwrap() ^= 1;
        let text = refusal(&damaged);
        assert!(text.contains("a compiled core"), "{at}: {text}");
    }
}

#[test]
fn missing_file_is_named() {
    let engine = Engine::new().unwrap();
    let file = std::path::Path::new("/nowhere/core.wasm");
    match Module::load(&engine, file) {
        Err(LoadError::Read { file: named, .. }) => assert_eq!(named, file),
        other => panic!("{:?}", other.map(|_| ())),
    }
}
