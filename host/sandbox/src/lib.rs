//! Zabra's core as a WebAssembly module under wasmtime: loaded, contained, and stepped like the
//! native one.
//!
//! [`Engine`] → [`Module`] (a file, checked) → [`Instance`] (one life of a server). Whatever goes
//! wrong inside is a [`Trap`]: the instance is worth nothing then, and its last call had no effect.

mod engine;
pub mod faults;
mod instance;
mod machine;
mod precompiled;
mod restoring;
mod trap;

pub use engine::{Engine, Limits, LoadError, Module, Origin};
pub use instance::Instance;
pub use machine::Sandboxed;
pub use restoring::{Restoring, RestoringError};
pub use trap::Trap;
pub use zabra_core_wasm::abi;
