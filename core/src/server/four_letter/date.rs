//! Dates as Java's `Date.toString` prints them.

use core::fmt;

use crate::ids::UnixMillis;

/// A moment as the clock on a wall shows it, so many seconds east of UTC.
pub(super) struct Date {
    pub(super) at: UnixMillis,
    pub(super) utc_offset_s: i32,
}

const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
const DAY_S: i64 = 86_400;

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.at.0.div_euclid(1000) + i64::from(self.utc_offset_s);
        let (days, second) = (seconds.div_euclid(DAY_S), seconds.rem_euclid(DAY_S));
        let (year, month, day) = civil_date(days);
        // 1970 began on a Thursday.
        let weekday = name(&DAYS, (days + 4).rem_euclid(7));
        let month = name(&MONTHS, month - 1);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(
            f,
            "{weekday} {month} {day:02} {hour:02}:{minute:02}:{second:02} "
        )?;
        match self.utc_offset_s {
            0 => write!(f, "UTC")?,
            // Java's name for a zone that is nothing but an offset.
            offset => {
                let sign = if offset < 0 { '-' } else { '+' };
                let minutes = offset.unsigned_abs() / 60;
                write!(f, "GMT{sign}{:02}:{:02}", minutes / 60, minutes % 60)?;
            }
        }
        write!(f, " {year:04}")
    }
}

fn name(names: &[&'static str], index: i64) -> &'static str {
    let index = usize::try_from(index).ok();
    index.and_then(|i| names.get(i)).copied().unwrap_or("???")
}

/// Year, month and day, so many days after 1970-01-01.
///
/// Source: Howard Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`: years
/// begin in March, so that the leap day is the last.
#[must_use]
pub const fn civil_date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + (month <= 2) as i64;
    (year, month, day)
}

/// Days after 1970-01-01 of a year, month and day: [`civil_date`] the other way round.
///
/// Source: Hinnant, `days_from_civil`.
#[must_use]
pub const fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    use super::*;

    #[test]
    fn days_are_counted_both_ways() {
        for days in (-800_000..800_000).step_by(13) {
            let (year, month, day) = civil_date(days);
            assert_eq!(days_since_1970(year, month, day), days);
        }
    }

    #[test]
    fn dates_are_those_of_java() {
        for (seconds, utc_offset_s, expected) in [
            (0, 0, "Thu Jan 01 00:00:00 UTC 1970"),
            (-1, 0, "Wed Dec 31 23:59:59 UTC 1969"),
            (951_782_399, 0, "Mon Feb 28 23:59:59 UTC 2000"),
            (951_782_400, 0, "Tue Feb 29 00:00:00 UTC 2000"),
            (951_868_800, 0, "Wed Mar 01 00:00:00 UTC 2000"),
            (4_107_542_399, 0, "Sun Feb 28 23:59:59 UTC 2100"),
            (4_107_542_400, 0, "Mon Mar 01 00:00:00 UTC 2100"),
            // Seen on a running Apache ZooKeeper.
            (1_795_364_060, 0, "Sun Nov 22 16:14:20 UTC 2026"),
            (1_795_364_060, 19_800, "Sun Nov 22 21:44:20 GMT+05:30 2026"),
            (1_795_364_060, -60_000, "Sat Nov 21 23:34:20 GMT-16:40 2026"),
        ] {
            let date = Date {
                at: UnixMillis(seconds * 1000),
                utc_offset_s,
            };
            assert_eq!(date.to_string(), expected);
        }
    }
}
