//! What came of the requests: counts and how long they took.
//!
//! Owns: the histograms. Never knows: sockets, how results are shown.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::bench::failure::{Failure, Kind};

/// Three digits of a duration are exact.
const DIGITS: u8 = 3;
/// Longer ones count as this: an hour.
const MICROSECONDS_MAX: u64 = 3_600_000_000;

/// Durations, in microseconds.
#[derive(Clone, Debug)]
pub(super) struct Durations(Histogram<u64>);

impl Durations {
    pub(super) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, MICROSECONDS_MAX, DIGITS);
        Self(histogram.expect("these bounds are allowed"))
    }

    pub(super) fn record(&mut self, duration: Duration) {
        let microseconds = u64::try_from(duration.as_micros()).unwrap_or(MICROSECONDS_MAX);
        self.0.saturating_record(microseconds);
    }

    pub(super) fn add(&mut self, other: &Self) {
        // The bounds are the same for all.
        self.0.add(&other.0).expect("equal bounds");
    }

    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    /// Milliseconds that this part of the durations does not exceed.
    pub(super) fn quantile_ms(&self, part: f64) -> f64 {
        milliseconds(self.0.value_at_quantile(part))
    }

    pub(super) fn max_ms(&self) -> f64 {
        milliseconds(self.0.max())
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn milliseconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1000.0
}

/// What one thread has counted. Every request that was sent is in `answered`, in `failed`, or still under way.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    pub(super) sent: u64,
    /// Answers by status.
    pub(super) answered: BTreeMap<u16, u64>,
    /// Answers that are what the load asks for.
    pub(super) good: u64,
    pub(super) failed: BTreeMap<Kind, u64>,
    /// The first failure or unexpected answer, in words.
    pub(super) first_trouble: Option<String>,
    /// From the moment at which a request was due to the end of its answer.
    pub(super) latencies: Durations,
    /// When the last answer or failure came.
    pub(super) last: Option<Instant>,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            sent: 0,
            answered: BTreeMap::new(),
            good: 0,
            failed: BTreeMap::new(),
            first_trouble: None,
            latencies: Durations::new(),
            last: None,
        }
    }

    /// A request that was due at `due` has its answer.
    pub(super) fn answer(&mut self, status: u16, good: bool, due: Instant, now: Instant) {
        *self.answered.entry(status).or_default() += 1;
        self.latencies.record(now.saturating_duration_since(due));
        self.last = Some(now);
        if good {
            self.good += 1;
        } else if self.first_trouble.is_none() {
            self.first_trouble = Some(format!("an answer with status {status}"));
        }
    }

    /// A request has no answer and will get none.
    pub(super) fn fail(&mut self, failure: Failure, now: Instant) {
        *self.failed.entry(failure.kind).or_default() += 1;
        self.last = Some(now);
        self.first_trouble.get_or_insert(failure.why);
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.good += other.good;
        for (status, count) in &other.answered {
            *self.answered.entry(*status).or_default() += count;
        }
        for (kind, count) in &other.failed {
            *self.failed.entry(*kind).or_default() += count;
        }
        if self.first_trouble.is_none() {
            self.first_trouble.clone_from(&other.first_trouble);
        }
        self.latencies.add(&other.latencies);
        self.last = self.last.max(other.last);
    }

    pub(super) fn answers(&self) -> u64 {
        self.answered.values().sum()
    }

    /// Requests without an answer, and answers that are not what was asked for.
    pub(super) fn troubles(&self) -> u64 {
        self.answers() - self.good + self.failed.values().sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_all() {
        let now = Instant::now();
        let (mut one, mut other) = (Tally::new(), Tally::new());
        for ms in 1..=100 {
            one.answer(200, true, now, now + Duration::from_millis(ms));
        }
        other.answer(500, false, now, now + Duration::from_secs(9));
        other.fail(Failure::closed(), now + Duration::from_secs(10));
        one.add(&other);
        assert_eq!((one.answers(), one.good, one.troubles()), (101, 100, 2));
        assert_eq!(one.first_trouble.as_deref(), Some("an answer with status 500"));
        assert_eq!(one.last, Some(now + Duration::from_secs(10)));
        let near = |value: f64, wanted: f64| (value / wanted - 1.0).abs() < 0.002;
        assert!(near(one.latencies.quantile_ms(0.5), 51.0), "{one:?}");
        assert!(near(one.latencies.max_ms(), 9000.0));
    }

    #[test]
    fn what_is_too_short_or_too_long_is_counted_too() {
        let mut durations = Durations::new();
        durations.record(Duration::ZERO);
        durations.record(Duration::from_secs(1 << 40));
        assert_eq!(durations.count(), 2);
    }
}
