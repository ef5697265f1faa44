//! When a session may and must end, and its password.

/// A session that the server knows.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    /// The timeout by which it is judged: that of its last connection.
    pub timeout_ms: u32,
    /// When the server last heard of its client, in microseconds.
    pub touched: u64,
    /// When something of it was last answered or proposed: requests may wait long before they are
    /// looked at.
    pub active: u64,
    /// The link it is bound to.
    pub link: Option<u64>,
}

impl Session {
    /// The first moment at which it may expire.
    #[must_use]
    pub fn expires_after(&self) -> u64 {
        self.touched + u64::from(self.timeout_ms) * 1000
    }

    /// The last moment at which it must have expired.
    #[must_use]
    pub fn expires_before(&self, tick_ms: u32) -> u64 {
        let last = self.touched.max(self.active);
        last + u64::from(self.timeout_ms) * 1000 + 2 * u64::from(tick_ms) * 1000
    }
}

/// The password of a session: what `java.util.Random` makes of its id.
#[must_use]
pub fn password(session: i64) -> [u8; 16] {
    const MULTIPLIER: u64 = 0x5_DEEC_E66D;
    const MASK: u64 = (1 << 48) - 1;
    let mut seed = (session.cast_unsigned() ^ 0xB341_5C00 ^ MULTIPLIER) & MASK;
    let mut bytes = [0; 16];
    for chunk in bytes.chunks_mut(4) {
        seed = (seed.wrapping_mul(MULTIPLIER).wrapping_add(0xB)) & MASK;
        let drawn = (seed >> 16).to_le_bytes();
        for (byte, drawn) in chunk.iter_mut().zip(drawn) {
            *byte = drawn;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::password;

    #[test]
    fn passwords_are_those_of_zookeeper() {
        let hex = |session| {
            let bytes = password(session);
            bytes
                .iter()
                .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
        };
        assert_eq!(
            hex(0x0100_0000_0000_0000),
            "f22acd4a97e69d6d20a49bb638eadb38"
        );
        assert_eq!(
            hex(0x0100_04d5_a9bc_0000),
            "86cb2e619b3de40bd4486cfcdcc29b54"
        );
        assert_eq!(hex(1), "054cc74a37327db215e702e20c73f005");
    }
}
