//! The bytes of a properties file, as text.
//!
//! One difference to Java, a wider one: text that is valid UTF-8 is read as such (Java reads
//! ISO-8859-1).

use std::borrow::Cow;

/// The text of a file.
pub(super) fn decode(bytes: &[u8]) -> Cow<'_, str> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        // Every byte of ISO-8859-1 is the code point of the same number.
        Err(_) => bytes.iter().map(|&byte| char::from(byte)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn text_is_utf8_if_it_can_be_and_latin1_otherwise() {
        assert_eq!(decode("a=é".as_bytes()), "a=é");
        assert_eq!(decode(b"a=\xe9"), "a=é");
        assert_eq!(decode(b"\xef\xbb\xbfa=1"), "a=1");
    }
}
