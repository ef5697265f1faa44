//! The two buffers of the border, one for batches that come in and one for those that go out.

use alloc::vec::Vec;

/// How long a buffer may be to be kept for the next batch: most fit, and what one snapshot or one
/// full frame has needed is not missing ever after.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// Makes room for the next batch that comes in. What was written before is lost.
pub(crate) fn with_room(buffer: &mut Vec<u8>, bytes: usize) -> &mut [u8] {
    if buffer.capacity() > KEPT_BYTES_MAX.max(bytes) {
        *buffer = Vec::new();
    }
    if buffer.len() < bytes {
        // To clear it first saves the copy when it has to move.
        buffer.clear();
        buffer.reserve_exact(bytes);
        buffer.resize(bytes, 0);
    }
    buffer
}

/// The buffer that the next batch that goes out is written to.
pub(crate) fn reused(buffer: &mut Vec<u8>) -> Vec<u8> {
    let mut buffer = core::mem::take(buffer);
    if buffer.capacity() > KEPT_BYTES_MAX {
        buffer = Vec::new();
    }
    buffer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_what_is_asked_and_nothing_long_is_kept() {
        let mut buffer = Vec::new();
        for bytes in [10, 5, 3 * KEPT_BYTES_MAX, 2 * KEPT_BYTES_MAX, 10] {
            assert!(with_room(&mut buffer, bytes).len() >= bytes);
        }
        assert!(buffer.capacity() <= KEPT_BYTES_MAX);
        let kept = buffer.as_ptr();
        assert_eq!(with_room(&mut buffer, 7).as_ptr(), kept);
    }

    #[test]
    fn a_short_output_is_written_where_the_last_was_and_a_long_one_is_given_back() {
        let mut short = Vec::with_capacity(KEPT_BYTES_MAX);
        let place = short.as_ptr();
        let short = reused(&mut short);
        assert_eq!(short.as_ptr(), place);
        let mut long = Vec::with_capacity(KEPT_BYTES_MAX + 1);
        assert_eq!(reused(&mut long).capacity(), 0);
    }
}
