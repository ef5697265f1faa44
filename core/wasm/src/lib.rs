//! Zabra's core as a WebAssembly module without imports.
//!
//! As a library for other hosts in Rust this crate is [`abi`], the batches that cross the border,
//! and [`Node`], which is what answers behind it. Compiled for `wasm32-unknown-unknown` it is
//! `zabra_core_wasm.wasm` with the exports of `exports.rs`. ABI.md tells it all to those who write
//! a host in another language.
#![no_std]

extern crate alloc;

pub mod abi;
#[cfg(any(test, target_arch = "wasm32"))]
mod buffers;
#[cfg(any(test, target_arch = "wasm32"))]
mod message;
mod node;

#[cfg(target_arch = "wasm32")]
mod exports;

pub use node::{Node, Opening};
