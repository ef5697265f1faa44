//! Times as people write them: RFC 3339 in UTC.

use core::time::Duration;
use std::time::SystemTime;

use zabra_core::ids::UnixMillis;

/// The end of the year 9999, the last that RFC 3339 can write.
const UNIX_MILLIS_MAX: i64 = 253_402_300_799_999;

/// The time, or its number of milliseconds where a damaged record has none that can be written.
#[must_use]
pub fn format_time(time: UnixMillis) -> String {
    match u64::try_from(time.0) {
        Ok(millis) if time.0 <= UNIX_MILLIS_MAX => {
            let time = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
            humantime::format_rfc3339_millis(time).to_string()
        }
        _ => time.0.to_string(),
    }
}

/// Reads `2026-11-23T01:02:03Z`, with or without fractions, or a space for the `T`.
///
/// # Errors
/// It is no such time.
pub fn parse_time(text: &str) -> Result<UnixMillis, String> {
    let wrong =
        || format!("expected a time in UTC such as 2026-11-23T01:02:03.456Z, found {text:?}");
    // Without its Z it could be meant as local time.
    let without_zone = text.strip_suffix(['Z', 'z']).ok_or_else(wrong)?;
    let time = humantime::parse_rfc3339_weak(without_zone).map_err(|_| wrong())?;
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    let millis = since.map_err(|_| wrong())?.as_millis();
    i64::try_from(millis).map(UnixMillis).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read_alike() {
        let time = UnixMillis(1_795_395_723_456);
        assert_eq!(format_time(time), "2026-11-23T01:02:03.456Z");
        assert_eq!(parse_time("2026-11-23T01:02:03.456Z"), Ok(time));
        assert_eq!(parse_time("2026-11-23 01:02:03.456z"), Ok(time));
    }

    #[test]
    fn what_is_no_time_is_refused_or_shown_as_a_number() {
        for text in [
            "",
            "Z",
            "now",
            "2026-11-23",
            "2026-11-23T01:02:03",
            "1969-01-01T00:00:00Z",
        ] {
            assert!(parse_time(text).is_err(), "{text:?}");
        }
        for millis in [-1, i64::MIN, i64::MAX, UNIX_MILLIS_MAX + 1] {
            assert_eq!(format_time(UnixMillis(millis)), millis.to_string());
        }
        assert_eq!(
            format_time(UnixMillis(UNIX_MILLIS_MAX)),
            "9999-12-31T23:59:59.999Z"
        );
    }
}
