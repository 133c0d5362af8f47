//! Wall clock and RFC 3339, as far as the answers of the API need them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The wall clock, which the tests share with the server on the same machine.
#[expect(clippy::disallowed_methods, reason = "expirations are compared with the real time")]
pub(crate) fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970")
}

/// Length of the RFC 3339 time in UTC (with `Z`, up to 9 digits of fraction) that `text` begins with.
pub(crate) fn time_len(text: &[u8]) -> Option<usize> {
    const SHAPE: &[u8] = b"dddd-dd-ddTdd:dd:dd";
    let head = text.get(..SHAPE.len())?;
    let fits = |(&shape, &c): (&u8, &u8)| match shape {
        b'd' => c.is_ascii_digit(),
        _ => c == shape,
    };
    if !SHAPE.iter().zip(head).all(fits) {
        return None;
    }
    let mut at = SHAPE.len();
    if text.get(at) == Some(&b'.') {
        let digits = text[at + 1..].iter().take_while(|c| c.is_ascii_digit()).count();
        if !(1..=9).contains(&digits) {
            return None;
        }
        at += 1 + digits;
    }
    (text.get(at) == Some(&b'Z')).then_some(at + 1)
}

/// Seconds since 1970 of an RFC 3339 time in UTC.
pub(crate) fn parse_time(text: &str) -> Option<f64> {
    if time_len(text.as_bytes()) != Some(text.len()) {
        return None;
    }
    let number = |from: usize, to: usize| text[from..to].parse::<i32>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let fraction: f64 = match &text[19..text.len() - 1] {
        "" => 0.0,
        fraction => format!("0{fraction}").parse().ok()?,
    };
    // Days of a year that begins in March, so that the leap day is the last one.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400);
    let days = days + (153 * m + 2) / 5 + day - 1 - 719_468;
    let seconds = f64::from(hour * 3600 + minute * 60 + second);
    Some(f64::from(days) * 86_400.0 + seconds + fraction)
}
