//! How long no client could write.
//!
//! Owns: one client that writes all the time, and the times of its acknowledged writes. Never knows: whether its writes are
//! kept; it is about when, not what.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::Api;
use super::targets::{Stop, Targets};
use super::wire::Line;
use crate::support::history::{Action, Outcome};

/// So many of the longest gaps are kept.
const GAPS_MAX: usize = 10;

/// A client that writes every few milliseconds; a write that fails is tried once more at the next member, at once.
pub(crate) struct Probe {
    thread: JoinHandle<Availability>,
    stop: Stop,
}

/// A time without an acknowledged write. Times count from the start of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Gap {
    pub(crate) length: Duration,
    pub(crate) from: Duration,
}

/// What a probe found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Availability {
    pub(crate) acknowledged: u64,
    /// Writes that failed twice.
    pub(crate) failed: u64,
    /// Writes that the second member took.
    pub(crate) second_try: u64,
    /// The longest times between two acknowledged writes, longest first. The end of the probe counts as one.
    pub(crate) gaps: Vec<Gap>,
}

impl Availability {
    /// The longest time between two acknowledged writes.
    pub(crate) fn longest(&self) -> Duration {
        self.gaps.first().map_or(Duration::ZERO, |gap| gap.length)
    }

    fn gap(&mut self, from: Duration, to: Duration) {
        self.gaps.push(Gap { length: to.saturating_sub(from), from });
        self.gaps.sort_by(|a, b| b.cmp(a));
        self.gaps.truncate(GAPS_MAX);
    }
}

impl Probe {
    /// Writes `key`, which must be outside the directory whose history is recorded. `patience` is for one try: a member
    /// that cannot say anything for so long is left.
    pub(crate) fn start(
        targets: impl Into<Targets>,
        key: &str,
        (pause, patience): (Duration, Duration),
        start: Instant,
    ) -> Self {
        let (targets, stop, key) = (targets.into(), Stop::default(), key.to_owned());
        let told = stop.clone();
        let thread = thread::spawn(move || {
            let first = targets.all().first().map_or(0, |(member, _)| *member);
            let mut line = Line::new(Api::V2, targets, first, patience);
            let (mut found, mut last) = (Availability::default(), start.elapsed());
            for number in 0_u64.. {
                let action = Action::Set { value: number.to_string() };
                let mut write = || matches!(line.call(&key, &action).outcome, Outcome::Done { .. });
                let first_try = write();
                if first_try || write() {
                    let now = start.elapsed();
                    found.gap(last, now);
                    found.acknowledged += 1;
                    found.second_try += u64::from(!first_try);
                    last = now;
                } else {
                    found.failed += 1;
                }
                if told.pause(pause) {
                    break;
                }
            }
            found.gap(last, start.elapsed());
            found
        });
        Self { thread, stop }
    }

    pub(crate) fn stop(self) -> Availability {
        self.stop.stop();
        self.thread.join().expect("a probe does not panic")
    }
}
