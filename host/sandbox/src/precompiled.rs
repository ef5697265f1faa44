//! A module that was compiled before, in a file: what it was made from, then wasmtime's form of
//! the machine code, which names the version and the settings it was made with.
//!
//! Machine code is run as it is. The digests find what was cut short or damaged; they do not make a
//! file trustworthy that somebody else could write: keep it as you keep the binary.

use sha2::{Digest, Sha256};
use zabra_core_wasm::abi::ABI;

/// What a file begins with; the last byte is the version of the head.
const MAGIC: &[u8; 12] = b"ZABRA-CWASM\x01";
const DIGEST_BYTES: usize = 32;
const HEAD_BYTES: usize = MAGIC.len() + 4 + DIGEST_BYTES + DIGEST_BYTES;

/// Whether these bytes say that they are a compiled core, of whatever version.
pub(crate) fn is_compiled(bytes: &[u8]) -> bool {
    bytes.starts_with(b"ZABRA-CWASM")
}

/// The digest of a module's bytes, which names it.
pub(crate) fn digest(wasm: &[u8]) -> [u8; DIGEST_BYTES] {
    Sha256::digest(wasm).into()
}

/// Puts a head before the machine code that `wasm` was compiled to.
#[cfg(feature = "compile")]
pub(crate) fn wrap(wasm: &[u8], code: &[u8]) -> Vec<u8> {
    let mut file = Vec::with_capacity(HEAD_BYTES + code.len());
    file.extend_from_slice(MAGIC);
    file.extend_from_slice(&ABI.to_le_bytes());
    file.extend_from_slice(&digest(wasm));
    file.extend_from_slice(&digest(code));
    file.extend_from_slice(code);
    file
}

/// The digest of the module that a file was made from, and its machine code.
///
/// # Errors
/// What was found instead, as the end of a sentence.
pub(crate) fn unwrap(file: &[u8]) -> Result<([u8; DIGEST_BYTES], &[u8]), String> {
    let short = || {
        let found = file.len();
        format!("a compiled core cut short: {found} bytes, and its head alone has {HEAD_BYTES}")
    };
    let (magic, rest) = file.split_first_chunk().ok_or_else(short)?;
    let (abi, rest) = rest.split_first_chunk().ok_or_else(short)?;
    let (wasm, rest) = rest.split_first_chunk().ok_or_else(short)?;
    let (stored, code) = rest.split_first_chunk().ok_or_else(short)?;
    if magic != MAGIC {
        return Err("a compiled core whose form is another version's; compile it again".into());
    }
    let abi = u32::from_le_bytes(*abi);
    if abi != ABI {
        return Err(format!(
            "a compiled core of ABI version {abi}, where {ABI} is spoken"
        ));
    }
    if *stored != digest(code) {
        return Err("a compiled core that is damaged or cut short: its digest differs".into());
    }
    Ok((*wasm, code))
}
