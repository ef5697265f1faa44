//! What a WebAssembly module imports and exports.
//!
//! Source: WebAssembly Core Specification 2.0, 5.5 (modules): a preamble of 8 bytes, then sections:
//! a number, a length, that many bytes; numbers are LEB128.

/// What the core offers, and all that it may; with two numbers that rustc has every module export.
const EXPORTS: [&str; 8] = [
    "__data_end",
    "__heap_base",
    "abi",
    "alloc",
    "memory",
    "open",
    "panicked",
    "step",
];
/// What a host downloads, and a browser compiles before the first step.
const BYTES_MAX: usize = 1_000_000;

const PREAMBLE: &[u8] = b"\0asm\x01\0\0\0";
const IMPORTS: u8 = 2;
const EXPORTED: u8 = 7;

/// Checks that a module is one that any host can run: nothing but the core's exports, no imports,
/// and not too long.
pub(crate) fn check(module: &[u8]) -> Result<(), String> {
    let exports = exports(module)?;
    let names: Vec<&str> = exports.iter().map(String::as_str).collect();
    if names != EXPORTS {
        return Err(format!("expected the exports {EXPORTS:?}, found {names:?}"));
    }
    if module.len() >= BYTES_MAX {
        return Err(format!(
            "expected a module of less than {BYTES_MAX} bytes, found {}",
            module.len()
        ));
    }
    Ok(())
}

/// The names of a module's exports, sorted, if it imports nothing.
fn exports(module: &[u8]) -> Result<Vec<String>, String> {
    let Some(mut rest) = module.strip_prefix(PREAMBLE) else {
        return Err("expected a WebAssembly module of version 1".into());
    };
    let short = || "the module ends too early".to_owned();
    let mut exports = Vec::new();
    while let Some((&section, after)) = rest.split_first() {
        rest = after;
        let mut body = take_bytes(&mut rest).ok_or_else(short)?;
        if section == IMPORTS {
            let count = take_number(&mut body).ok_or_else(short)?;
            if count > 0 {
                let module = take_bytes(&mut body).unwrap_or_default();
                let name = take_bytes(&mut body).unwrap_or_default();
                return Err(format!(
                    "expected no imports, found {count}, the first {:?} of {:?}",
                    String::from_utf8_lossy(name),
                    String::from_utf8_lossy(module)
                ));
            }
        }
        if section == EXPORTED {
            for _ in 0..take_number(&mut body).ok_or_else(short)? {
                let name = take_bytes(&mut body).ok_or_else(short)?;
                exports.push(String::from_utf8_lossy(name).into_owned());
                // What kind of thing it is, and which of them.
                body = body.split_first().ok_or_else(short)?.1;
                take_number(&mut body).ok_or_else(short)?;
            }
        }
    }
    exports.sort();
    Ok(exports)
}

fn take_bytes<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take_number(input)?).ok()?;
    let (bytes, rest) = input.split_at_checked(length)?;
    *input = rest;
    Some(bytes)
}

fn take_number(input: &mut &[u8]) -> Option<u32> {
    let mut number = 0;
    for shift in [0, 7, 14, 21, 28] {
        let (&byte, rest) = input.split_first()?;
        *input = rest;
        number |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(sections: &[&[u8]]) -> Vec<u8> {
        [PREAMBLE, &sections.concat()].concat()
    }

    const MEMORY: &[u8] = b"\x07\x0a\x01\x06memory\x02\x00";

    #[test]
    fn exports_are_found_behind_other_sections() {
        let exported = exports(&module(&[b"\x00\x03\x01xy", MEMORY]));
        assert_eq!(exported, Ok(vec!["memory".to_owned()]));
    }

    #[test]
    fn what_is_imported_is_named() {
        let import = b"\x02\x0b\x01\x03env\x03now\x00\x00";
        let refused = exports(&module(&[import, MEMORY]));
        assert!(refused.is_err_and(|why| why.contains("\"now\" of \"env\"")));
        assert!(exports(&module(&[b"\x02\x01\x00", MEMORY])).is_ok());
    }

    #[test]
    fn what_is_no_module_or_lacks_an_export_is_refused() {
        assert!(check(b"").is_err());
        assert!(check(&module(&[MEMORY])).is_err_and(|why| why.contains("step")));
        let cut = module(&[MEMORY]);
        let cut = cut.split_last().map_or(&[][..], |(_, cut)| cut);
        assert_eq!(exports(cut), Err("the module ends too early".to_owned()));
    }
}
