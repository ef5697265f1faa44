//! What Java servers said to each other is read, and written again byte for byte.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test stops where its expectation fails; its lengths are small"
)]

#[path = "peers/bodies.rs"]
mod bodies;
#[path = "peers/captured.rs"]
mod captured;
#[path = "peers/election.rs"]
mod election;
#[path = "peers/quorum.rs"]
mod quorum;

/// The bytes of a hexadecimal text with white space.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let pairs = digits.chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}
