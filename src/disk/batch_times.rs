//! How long the log's batches take: what clients wait for, and what other writers of the device must not make longer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The time of the log's batches, each from the beginning of its write to the end of its sync.
///
/// Told by the observer of the log, and asked by those who watch over the log and by those who write much beside it.
#[derive(Debug)]
pub struct BatchTimes {
    start: Instant,
    /// When the batch under way began: microseconds from `start`, and one; zero while there is none.
    begun_us: AtomicU64,
    /// The longest of those that have ended since [`BatchTimes::take_longest`], in microseconds.
    longest_us: AtomicU64,
}

impl Default for BatchTimes {
    fn default() -> Self {
        let (start, zero) = (Instant::now(), || AtomicU64::new(0));
        Self { start, begun_us: zero(), longest_us: zero() }
    }
}

impl BatchTimes {
    fn now_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX - 1) + 1
    }

    /// A batch is about to be written. There is one at a time.
    pub fn begun(&self) {
        self.begun_us.store(self.now_us(), Ordering::Relaxed);
    }

    /// The batch is safe.
    pub fn ended(&self) {
        let took = self.under_way();
        self.begun_us.store(0, Ordering::Relaxed);
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.longest_us.fetch_max(took, Ordering::Relaxed);
    }

    /// For how long a batch has been under way; zero while there is none.
    pub fn under_way(&self) -> Duration {
        match self.begun_us.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            begun => Duration::from_micros(self.now_us().saturating_sub(begun)),
        }
    }

    /// How long the longest batch took of those that have ended since the last call, or the one under way, if that is longer.
    pub fn take_longest(&self) -> Duration {
        let ended = Duration::from_micros(self.longest_us.swap(0, Ordering::Relaxed));
        ended.max(self.under_way())
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use super::*;

    const SOME: Duration = Duration::from_millis(5);

    #[test]
    fn the_longest_batch_is_told_once_and_the_one_under_way_as_long_as_it_takes() {
        let times = BatchTimes::default();
        assert_eq!((times.under_way(), times.take_longest()), (Duration::ZERO, Duration::ZERO));
        times.begun();
        sleep(SOME);
        assert!(times.under_way() >= SOME);
        assert!(times.take_longest() >= SOME, "it is under way");
        assert!(times.take_longest() >= SOME, "it still is");
        times.ended();
        times.begun();
        times.ended();
        assert_eq!(times.under_way(), Duration::ZERO);
        assert!(times.take_longest() >= SOME, "the longer one of two");
        assert_eq!(times.take_longest(), Duration::ZERO);
    }
}
