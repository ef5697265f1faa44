//! The module's exports: `abi`, `alloc`, `open`, `step`, the memory, and `panicked`, the address at
//! which a panic leaves its message.
//!
//! There is one thread, and no export calls another: each has the state for itself.
#![expect(
    unsafe_code,
    reason = "exports have fixed names, and a module keeps its state in a static"
)]

use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::fmt::Write as _;
use core::panic::PanicInfo;

use crate::Node;
use crate::abi::ABI;
use crate::buffers::{reused, with_room};
use crate::message::Message;

#[global_allocator]
static ALLOCATOR: talc::wasm::WasmDynamicTalc = talc::wasm::new_wasm_dynamic_allocator();

/// A static of a module that has one thread.
struct Alone<T>(UnsafeCell<T>);

// SAFETY: `wasm32-unknown-unknown` without the feature `atomics` has one thread.
unsafe impl<T> Sync for Alone<T> {}

#[derive(Default)]
struct Module {
    node: Option<Node>,
    input: Vec<u8>,
    output: Vec<u8>,
}

static MODULE: Alone<Module> = Alone(UnsafeCell::new(Module {
    node: None,
    input: Vec::new(),
    output: Vec::new(),
}));

/// Exported as the global that holds its address.
#[unsafe(export_name = "panicked")]
static PANICKED: Alone<Message> = Alone(UnsafeCell::new(Message::EMPTY));

fn module() -> &'static mut Module {
    // SAFETY: one thread, and no export calls another or itself, so this is the only reference.
    unsafe { &mut *MODULE.0.get() }
}

/// The version of the ABI.
#[unsafe(no_mangle)]
extern "C" fn abi() -> u32 {
    ABI
}

/// Where the host writes the next batch of at most `bytes` bytes.
#[unsafe(no_mangle)]
extern "C" fn alloc(bytes: u32) -> *mut u8 {
    with_room(&mut module().input, bytes as usize).as_mut_ptr()
}

/// Takes a piece of what the server is made of: the first `bytes` bytes at `alloc`.
#[unsafe(no_mangle)]
extern "C" fn open(bytes: u32) -> u64 {
    let Module {
        node,
        input,
        output,
    } = module();
    *output = node.get_or_insert_default().open(batch(input, bytes));
    place(output)
}

/// Takes a step: the first `bytes` bytes at `alloc`.
#[unsafe(no_mangle)]
extern "C" fn step(bytes: u32) -> u64 {
    let Module {
        node,
        input,
        output,
    } = module();
    let node = node.get_or_insert_default();
    *output = node.step(batch(input, bytes), reused(output));
    place(output)
}

fn batch(input: &[u8], bytes: u32) -> &[u8] {
    match input.get(..bytes as usize) {
        Some(batch) => batch,
        None => panic!(
            "a batch of {bytes} bytes where {} were asked for",
            input.len()
        ),
    }
}

/// Address and length, until the next call.
fn place(output: &[u8]) -> u64 {
    ((output.as_ptr() as usize as u64) << 32) | output.len() as u64
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    // SAFETY: one thread, and the trap ends this instance.
    let message = unsafe { &mut *PANICKED.0.get() };
    // What does not fit is cut off.
    let _ = write!(message, "{info}");
    core::arch::wasm32::unreachable()
}
