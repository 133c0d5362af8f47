//! The `Date` of answers, formatted once in a second by each thread.

use std::cell::Cell;
use std::time::{Duration, UNIX_EPOCH};

use crate::model::Clock as _;
use crate::server::clock::SystemClock;

/// `Sat, 28 Nov 2026 10:00:00 GMT`
const DATE_BYTES: usize = 29;

const NANOSECONDS: u64 = 1_000_000_000;

thread_local! {
    /// The second that was formatted last, and how it reads.
    static LAST: Cell<(u64, [u8; DATE_BYTES])> = const { Cell::new((u64::MAX, [0; DATE_BYTES])) };
}

/// Writes the present second, as the wall clock has it.
pub(super) fn write(out: &mut Vec<u8>) {
    let second = SystemClock.wall().0 / NANOSECONDS;
    let (last, mut text) = LAST.get();
    if last != second {
        let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second));
        text.copy_from_slice(date.as_bytes());
        LAST.set((second, text));
    }
    out.extend_from_slice(&text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_dates_that_a_wall_clock_can_show_are_as_long() {
        for second in [0, 951_782_400, u64::MAX / NANOSECONDS] {
            let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second));
            assert_eq!(date.len(), DATE_BYTES, "{date}");
        }
    }
}
