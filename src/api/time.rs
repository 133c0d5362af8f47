//! Moments and durations as Go writes them.

use std::fmt::Write as _;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::model::WallTime;

/// Appends `2026-11-23T04:05:06.123456789Z`; the fraction without trailing zeros, none when it is zero.
pub(crate) fn rfc3339(out: &mut Vec<u8>, at: WallTime) {
    let (seconds, nanos) = at.parts();
    let moment =
        i64::try_from(seconds).ok().and_then(|s| DateTime::<Utc>::from_timestamp(s, nanos));
    // A deadline has a date but for one 292 years from a clock that is centuries ahead.
    let moment = moment.unwrap_or(DateTime::<Utc>::MAX_UTC);
    let text = moment.format("%Y-%m-%dT%H:%M:%S%.9f").to_string();
    out.extend_from_slice(text.trim_end_matches('0').trim_end_matches('.').as_bytes());
    out.push(b'Z');
}

/// `1h2m3.5s`, `250ms`, `0s`; nothing below a millisecond.
pub(crate) fn go_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis == 0 {
        return "0s".to_owned();
    }
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (hours, minutes, rest) = (millis / 3_600_000, millis / 60_000 % 60, millis % 60_000);
    let mut text = String::new();
    if hours > 0 {
        let _ = write!(text, "{hours}h");
    }
    if hours > 0 || minutes > 0 {
        let _ = write!(text, "{minutes}m");
    }
    let _ = write!(text, "{}", rest / 1000);
    if rest % 1000 > 0 {
        let fraction = format!("{:03}", rest % 1000);
        let _ = write!(text, ".{}", fraction.trim_end_matches('0'));
    }
    text.push('s');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(millis: u64) -> String {
        let mut out = Vec::new();
        rfc3339(&mut out, WallTime(millis * 1_000_000));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn fractions_have_no_trailing_zeros() {
        assert_eq!(written(0), "1970-01-01T00:00:00Z");
        assert_eq!(written(1_790_000_000_120), "2026-09-21T14:13:20.12Z");
        assert_eq!(written(1_790_000_000_001), "2026-09-21T14:13:20.001Z");
        assert_eq!(written(1_790_000_010_000), "2026-09-21T14:13:30Z");
    }

    #[test]
    fn durations_are_spelled_as_in_go() {
        for (millis, text) in [
            (0, "0s"),
            (7, "7ms"),
            (1500, "1.5s"),
            (63_500, "1m3.5s"),
            (60_000, "1m0s"),
            (3_600_000, "1h0m0s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(millis)), text);
        }
    }
}
