//! What must not stand in a log, how it is compared, and numbers that nobody can guess.

use alloc::string::String;
use core::{fmt, hint};

use serde::{Deserialize, Serialize};
use sha1::{Digest as _, Sha1};

/// What must not stand in a log: it has no text.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(String);

impl Secret {
    /// Whether this is the secret. Takes as long for any of this length.
    #[must_use]
    pub fn is(&self, other: &str) -> bool {
        same(self.0.as_bytes(), other.as_bytes())
    }

    /// What it is.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(secret: String) -> Self {
        Self(secret)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(not shown)")
    }
}

/// Compares in a time that does not tell how much was right.
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    let differing = a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b));
    a.len() == b.len() && hint::black_box(differing) == 0
}

/// The hash of a message. Once in the module: its rounds are written out, some kilobytes.
#[inline(never)]
pub(crate) fn sha1(message: &[u8]) -> [u8; 20] {
    Sha1::digest(message).into()
}

/// The keyed hash of these parts, one after the other. Source: RFC 2104.
pub(crate) fn hmac_sha1(key: &Secret, parts: &[&[u8]]) -> [u8; 20] {
    let key = sha1(key.reveal().as_bytes());
    let padded = |pad: u8| {
        let mut block = [pad; 64];
        for (byte, key) in block.iter_mut().zip(key) {
            *byte ^= key;
        }
        block.to_vec()
    };
    let mut inner = padded(0x36);
    for part in parts {
        inner.extend_from_slice(part);
    }
    let mut outer = padded(0x5c);
    outer.extend_from_slice(&sha1(&inner));
    sha1(&outer)
}

/// Numbers for one use, which nobody can guess who does not know the seed.
#[derive(Debug)]
pub(crate) struct Nonces {
    seed: Secret,
    entropy: u64,
    count: u64,
}

impl Nonces {
    /// `entropy` is another in every life of a server.
    pub(crate) const fn new(seed: Secret, entropy: u64) -> Self {
        Self {
            seed,
            entropy,
            count: 0,
        }
    }

    /// The next one.
    pub(crate) fn next(&mut self) -> String {
        self.count += 1;
        let place = (self.entropy.to_le_bytes(), self.count.to_le_bytes());
        hex(&hmac_sha1(&self.seed, &[&place.0, &place.1]))
    }
}

/// Two digits for each byte, in lower case.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    let halves = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    halves
        .filter_map(|half| DIGITS.get(usize::from(half)))
        .collect()
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    #[test]
    fn secrets_have_no_text() {
        let secret = Secret::from(String::from("canary"));
        assert!(!format!("{secret:?} {:?}", Nonces::new(secret.clone(), 1)).contains("canary"));
        assert!(secret.is("canary") && !secret.is("canar") && !secret.is("canarz"));
    }

    #[test]
    fn nonces_differ_and_follow_from_the_seed() {
        let of = |seed: &str, entropy| {
            let mut nonces = Nonces::new(Secret::from(String::from(seed)), entropy);
            [nonces.next(), nonces.next()]
        };
        let [first, second] = of("seed", 1);
        assert_ne!(first, second);
        assert_eq!(first.len(), 40);
        assert_eq!(of("seed", 1), [first.clone(), second]);
        assert_ne!(of("seed", 2)[0], first);
        assert_ne!(of("other", 1)[0], first);
    }

    /// What Python's `hmac` makes of the same, whose key is hashed first here.
    #[test]
    fn keyed_hash_is_that_of_its_standard() {
        let key = Secret::from(String::from("key"));
        assert_eq!(
            hex(&hmac_sha1(&key, &[b"what ", b"is hashed"])),
            "83c7fd2e9df42dd825ba24d1523de433cd1d9717"
        );
    }
}
