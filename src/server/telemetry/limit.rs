//! Repeated lines: what says the same thing over and over must not fill a disk.
//!
//! Owns: how many lines of each place in the code were written lately. Never knows: clocks, what a line looks like.

use std::collections::BTreeMap;
use std::time::Duration;

/// Lines of one place in the code are counted for so long.
pub(super) const PERIOD: Duration = Duration::from_secs(10);

/// So many of them are written in that time; the rest is counted.
pub(super) const LINES_MAX: u32 = 20;

/// What becomes of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is written.
    Write,
    /// It is only counted.
    Count,
}

/// Lines that were left out: how many, and one of them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LeftOut<T> {
    pub(super) count: u64,
    pub(super) example: T,
}

struct Place<T> {
    since: Duration,
    written: u32,
    left_out: Option<LeftOut<T>>,
}

/// All places in the code that log, by some number of theirs.
pub(super) struct Limiter<T> {
    places: BTreeMap<usize, Place<T>>,
}

impl<T> Default for Limiter<T> {
    fn default() -> Self {
        Self { places: BTreeMap::new() }
    }
}

impl<T> Limiter<T> {
    /// Judges a line of `place`; `example` is asked for the first line that is left out. Also returns what was left out of a
    /// period that has ended.
    pub(super) fn judge(
        &mut self,
        place: usize,
        now: Duration,
        example: impl FnOnce() -> T,
    ) -> (Verdict, Option<LeftOut<T>>) {
        let place =
            self.places.entry(place).or_insert(Place { since: now, written: 0, left_out: None });
        let mut ended = None;
        if now.saturating_sub(place.since) >= PERIOD {
            ended = place.left_out.take();
            (place.since, place.written) = (now, 0);
        }
        if place.written < LINES_MAX {
            place.written += 1;
            return (Verdict::Write, ended);
        }
        let left_out =
            place.left_out.get_or_insert_with(|| LeftOut { count: 0, example: example() });
        left_out.count += 1;
        (Verdict::Count, ended)
    }

    /// What was left out of periods that have ended, or, with `all`, of any.
    pub(super) fn ended(&mut self, now: Duration, all: bool) -> Vec<LeftOut<T>> {
        let over = |place: &&mut Place<T>| all || now.saturating_sub(place.since) >= PERIOD;
        self.places.values_mut().filter(over).filter_map(|place| place.left_out.take()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_repeats_itself_is_cut_off_and_says_how_much_was_left_out() {
        let mut limiter = Limiter::default();
        let at = |ms| Duration::from_millis(ms);
        for n in 0..LINES_MAX {
            let verdict = limiter.judge(1, at(n.into()), || unreachable!("nothing is left out"));
            assert_eq!(verdict, (Verdict::Write, None));
        }
        for n in 0..4211 {
            assert_eq!(limiter.judge(1, at(100), || n), (Verdict::Count, None));
        }
        assert_eq!(limiter.judge(2, at(100), || 9), (Verdict::Write, None), "another place");
        assert_eq!(limiter.ended(at(9_999), false), []);
        let ended = Some(LeftOut { count: 4211, example: 0 });
        assert_eq!(limiter.judge(1, at(10_000), || 9), (Verdict::Write, ended));
        assert_eq!(limiter.ended(at(30_000), false), []);
    }

    #[test]
    fn what_was_left_out_is_told_also_when_no_line_follows() {
        let mut limiter = Limiter::default();
        for n in 0..=LINES_MAX {
            limiter.judge(1, Duration::ZERO, || n);
        }
        assert_eq!(limiter.ended(PERIOD, false), [LeftOut { count: 1, example: LINES_MAX }]);
        assert_eq!(limiter.ended(PERIOD, true), []);
    }
}
