//! Times as Go writes them: `2h`, `1h30m`, `500ms`.

use std::time::Duration;

use crate::config::Failure;
use crate::config::parse::Raw;

/// No operator means more: a hundred years.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

const UNITS: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// What a flag says.
pub(super) fn of(raw: &Raw, flag: &str) -> Result<Duration, Failure> {
    let text = raw.get(flag);
    parse(text).filter(|time| *time <= LONGEST).ok_or_else(|| {
        Failure::verifying(format!(
            "invalid value {text:?} for --{flag}: write a time as 90s, 5m or 1h30m"
        ))
    })
}

/// A time that is not negative; `0` alone needs no unit.
pub(super) fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut sum = 0_u128;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let unit_at = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let (number, tail) = rest.split_at(unit_at);
        let unit_end = tail
            .find(|letter: char| letter.is_ascii_digit() || letter == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let (_, nanoseconds) = UNITS.iter().find(|(name, _)| *name == unit)?;
        sum = sum.checked_add(part(number, u128::from(*nanoseconds))?)?;
        rest = tail;
    }
    u64::try_from(sum).ok().map(Duration::from_nanos)
}

/// `1.5` of a unit.
fn part(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut sum = whole.checked_mul(unit)?;
    let mut place = unit;
    for digit in fraction.chars() {
        place /= 10;
        sum += u128::from(digit.to_digit(10)?) * place;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_go_reads_them() {
        for (text, nanoseconds) in [
            ("0", Some(0)),
            ("0s", Some(0)),
            ("2h", Some(7_200_000_000_000)),
            ("1h30m", Some(5_400_000_000_000)),
            ("1.5s", Some(1_500_000_000)),
            (".5ms", Some(500_000)),
            ("+3us", Some(3_000)),
            ("5", None),
            ("", None),
            ("s", None),
            (".s", None),
            ("-1s", None),
            ("1 s", None),
            ("1d", None),
            ("1.2.3s", None),
            ("99999999999999999999999999999999999999999h", None),
        ] {
            assert_eq!(parse(text), nanoseconds.map(Duration::from_nanos), "{text}");
        }
    }
}
