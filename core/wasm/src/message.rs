//! What a panic leaves for the host.

use core::fmt;

/// Bytes of a message that are kept.
const TEXT_BYTES_MAX: usize = 1020;

/// How many bytes of message follow, little-endian, and these. Zero until a panic.
#[repr(C, align(4))]
pub(crate) struct Message {
    bytes: u32,
    text: [u8; TEXT_BYTES_MAX],
}

impl Message {
    pub(crate) const EMPTY: Self = Self {
        bytes: 0,
        text: [0; TEXT_BYTES_MAX],
    };
}

impl fmt::Write for Message {
    /// What does not fit is cut off, between two characters.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            let mut bytes = [0; 4];
            let bytes = character.encode_utf8(&mut bytes).as_bytes();
            let begin = self.bytes as usize;
            let place = self.text.get_mut(begin..begin + bytes.len());
            place.ok_or(fmt::Error)?.copy_from_slice(bytes);
            self.bytes += u32::try_from(bytes.len()).unwrap_or(0);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use core::fmt::Write as _;

    use super::*;

    /// As a host reads it that knows only where it begins.
    fn read(message: &Message) -> &str {
        assert_eq!(core::mem::offset_of!(Message, bytes), 0);
        assert_eq!(core::mem::offset_of!(Message, text), 4);
        let text = message.text.get(..message.bytes as usize);
        core::str::from_utf8(text.unwrap_or_default()).unwrap_or("(cut in a character)")
    }

    #[test]
    fn a_host_reads_what_was_written() {
        let mut message = Message::EMPTY;
        assert_eq!(read(&message), "");
        assert!(write!(message, "panicked at node.rs:{}", 7).is_ok());
        assert_eq!(read(&message), "panicked at node.rs:7");
    }

    #[test]
    fn a_message_that_is_too_long_is_cut_between_characters() {
        let long: String = core::iter::repeat_n('€', 400).collect();
        let mut message = Message::EMPTY;
        assert!(write!(message, "{long}").is_err());
        let text = read(&message);
        assert_eq!(text.len(), TEXT_BYTES_MAX);
        assert!(text.chars().all(|character| character == '€'));
    }
}
