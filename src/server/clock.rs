//! The time goes in; RFC 3339 and the ids of jobs come out.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970.
pub(crate) fn millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// Year, month, day, hour, minute, second in UTC.
fn civil(seconds: u64) -> (u64, u64, u64, u64, u64, u64) {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Howard Hinnant's days-to-civil: years that begin in March, in eras of 400.
    let z = days + 719_468;
    let (era, of_era) = (z / 146_097, z % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (year + era * 400 + later, month, day, rest / 3600, rest / 60 % 60, rest % 60)
}

/// Now, as RFC 3339 in UTC with milliseconds.
pub(crate) fn now() -> String {
    rfc3339(millis())
}

/// A time in milliseconds as RFC 3339.
pub(crate) fn rfc3339(millis: u64) -> String {
    let (y, mo, d, h, mi, s) = civil(millis / 1000);
    format!("{y:04}-{mo:02}-{d:02}T{h:02}:{mi:02}:{s:02}.{:03}Z", millis % 1000)
}

/// The id of a job of this time: `20261130-225620-123-00`; ids sort by time, and `turn` tells those of one millisecond
/// apart.
pub(crate) fn job_id(millis: u64, turn: u32) -> String {
    let (y, mo, d, h, mi, s) = civil(millis / 1000);
    format!("{y:04}{mo:02}{d:02}-{h:02}{mi:02}{s:02}-{:03}-{turn:02}", millis % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        // date -u -d 2024-02-29T23:59:59 +%s
        assert_eq!(rfc3339(1_709_251_199_005), "2024-02-29T23:59:59.005Z");
        assert_eq!(rfc3339(1_709_251_200_000), "2024-03-01T00:00:00.000Z");
        assert_eq!(rfc3339(4_102_444_800_000), "2100-01-01T00:00:00.000Z");
        assert_eq!(job_id(1_709_251_199_005, 7), "20240229-235959-005-07");
    }
}
