//! How long followers take until they have what the leader has.
//!
//! Owns: when entries of the present term were appended here, and how far each follower has said that it is. Of appends that
//! follow one another closely only the first is timed: what is timed is exact, and costs next to nothing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::base::lock;
use crate::model::MemberId;

/// Appends that come within this time of a timed one are not timed.
const SAMPLE_EVERY: Duration = Duration::from_millis(10);

/// Timed appends that are kept for followers that do not have them yet; a follower that falls behind further is timed from the
/// moment that it fell behind.
const SAMPLES_MAX: usize = 1024;

/// How far behind its leader a member is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// For how long the oldest entry that it does not have has been in the leader's log; when it has all, how long the last timed
    /// one took.
    pub latency: Duration,
    /// Entries of the leader's log that it has not acknowledged.
    pub entries: u64,
}

/// The followers of one leader. Indexes are openraft's.
#[derive(Default)]
pub(in crate::raft) struct Lag {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    term: u64,
    /// The first entry that was appended in this term.
    begun: u64,
    /// The entry behind the last one.
    end: u64,
    samples: VecDeque<Sample>,
    followers: BTreeMap<MemberId, Follower>,
}

#[derive(Clone, Copy)]
struct Sample {
    index: u64,
    at: Instant,
}

struct Follower {
    /// The entry behind the last one that it has; zero before the first answer of this term.
    end: u64,
    /// When the oldest entry that it does not have was appended, to within [`SAMPLE_EVERY`].
    waiting_since: Option<Instant>,
    last: Duration,
}

impl Lag {
    /// Are there members that follow this one, in the present term?
    pub(in crate::raft) fn is_followed(&self) -> bool {
        !lock(&self.state).followers.is_empty()
    }

    /// The entries from `first` up to but not including `end` were appended, the last of them in `term`.
    pub(in crate::raft) fn appended(&self, term: u64, first: u64, end: u64) {
        let now = Instant::now();
        let mut state = lock(&self.state);
        state.end = end;
        if term != state.term {
            // One term has one leader: what it has appended and who has it begins anew.
            *state = State { term, begun: first, end, ..State::default() };
        }
        if state.samples.back().is_some_and(|last| now - last.at < SAMPLE_EVERY) {
            return;
        }
        if state.samples.len() == SAMPLES_MAX {
            state.samples.pop_front();
        }
        state.samples.push_back(Sample { index: first, at: now });
        for follower in state.followers.values_mut() {
            follower.waiting_since.get_or_insert(now);
        }
    }

    /// This member leads and begins to send to `follower`, or tries again.
    pub(in crate::raft) fn follows(&self, follower: MemberId) {
        let new = || Follower { end: 0, waiting_since: Some(Instant::now()), last: Duration::ZERO };
        lock(&self.state).followers.entry(follower).or_insert_with(new);
    }

    /// `follower` has told the leader of `term` that it has all entries up to but not including `end`. Returns how long each timed
    /// entry took that it did not have before.
    pub(in crate::raft) fn acknowledged(
        &self,
        follower: MemberId,
        term: u64,
        end: u64,
    ) -> Vec<Duration> {
        let now = Instant::now();
        let mut state = lock(&self.state);
        if term != state.term {
            return Vec::new();
        }
        let State { samples, followers, .. } = &mut *state;
        let Some(follower) = followers.get_mut(&follower) else { return Vec::new() };
        if end <= follower.end {
            return Vec::new();
        }
        let from = samples.partition_point(|sample| sample.index < follower.end);
        let to = samples.partition_point(|sample| sample.index < end);
        // The first answer of a term says what it had anyway.
        let news = if follower.end == 0 { to } else { from }..to;
        let took: Vec<_> = samples.range(news).map(|sample| now - sample.at).collect();
        follower.end = end;
        follower.waiting_since = samples.get(to).map(|sample| sample.at);
        if let Some(last) = took.last() {
            follower.last = *last;
        }
        took
    }

    /// How far behind `follower` is, as the leader of `term` knows it.
    pub(in crate::raft) fn of(&self, follower: MemberId, term: u64) -> Option<Latency> {
        let state = lock(&self.state);
        let known = state.followers.get(&follower).filter(|_| term == state.term)?;
        // Before its first answer only those of this term are known to be missing.
        let entries = state.end.saturating_sub(known.end.max(state.begun));
        let since = known.waiting_since.or_else(|| state.samples.back().map(|last| last.at));
        let latency = match since {
            Some(since) if entries > 0 => since.elapsed(),
            Some(_) | None => known.last,
        };
        Some(Latency { latency, entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: MemberId = MemberId(1);

    async fn pass(ms: u64) {
        tokio::time::advance(Duration::from_millis(ms)).await;
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[tokio::test(start_paused = true)]
    async fn an_entry_is_timed_from_the_append_to_the_answer() {
        let lag = Lag::default();
        lag.appended(1, 0, 1);
        lag.follows(A);
        assert!(lag.acknowledged(A, 1, 1).is_empty(), "what it had before it was asked");
        assert_eq!(lag.of(A, 1), Some(Latency::default()));
        pass(20).await;
        lag.appended(1, 1, 4);
        pass(3).await;
        assert_eq!(lag.of(A, 1), Some(Latency { latency: ms(3), entries: 3 }));
        assert_eq!(lag.acknowledged(A, 1, 4), [ms(3)]);
        pass(500).await;
        assert_eq!(lag.of(A, 1), Some(Latency { latency: ms(3), entries: 0 }));
        assert!(lag.acknowledged(A, 1, 4).is_empty(), "nothing new");
        assert_eq!(lag.of(MemberId(2), 1), None);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_silent_is_behind_for_longer_and_longer() {
        let lag = Lag::default();
        lag.appended(1, 0, 1);
        lag.follows(A);
        lag.acknowledged(A, 1, 1);
        for n in 1..=3 * SAMPLES_MAX as u64 {
            pass(10).await;
            lag.appended(1, n, n + 1);
        }
        let entries = 3 * SAMPLES_MAX as u64;
        let latency = ms(10 * (entries - 1));
        assert_eq!(lag.of(A, 1), Some(Latency { latency, entries }));
        // Half of what is still known.
        let took = lag.acknowledged(A, 1, entries + 1 - SAMPLES_MAX as u64 / 2);
        assert_eq!(took.len(), SAMPLES_MAX / 2);
        assert_eq!(lag.of(A, 1).map(|lag| lag.entries), Some(SAMPLES_MAX as u64 / 2));
        assert_eq!(
            lag.of(A, 1).map(|lag| lag.latency),
            Some(ms(10 * (SAMPLES_MAX as u64 / 2 - 1)))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_timed_by_its_first_entry() {
        let lag = Lag::default();
        lag.appended(1, 0, 1);
        lag.follows(A);
        lag.acknowledged(A, 1, 1);
        pass(100).await;
        lag.appended(1, 1, 2);
        pass(1).await;
        lag.appended(1, 2, 9);
        pass(1).await;
        assert_eq!(lag.acknowledged(A, 1, 2), [ms(2)]);
        assert_eq!(lag.of(A, 1), Some(Latency { latency: ms(2), entries: 7 }), "to within 10 ms");
        assert!(lag.acknowledged(A, 1, 9).is_empty());
        assert_eq!(lag.of(A, 1), Some(Latency { latency: ms(2), entries: 0 }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_term_begins_anew() {
        let lag = Lag::default();
        lag.appended(1, 0, 1);
        lag.follows(A);
        pass(60_000).await;
        lag.appended(3, 1, 2);
        assert_eq!(lag.of(A, 1), None);
        assert_eq!(lag.of(A, 3), None);
        assert!(lag.acknowledged(A, 1, 1).is_empty(), "an answer to the leader of the past");
        lag.follows(A);
        pass(5).await;
        assert_eq!(lag.of(A, 3), Some(Latency { latency: ms(5), entries: 1 }));
        assert!(lag.acknowledged(A, 3, 2).is_empty());
        assert_eq!(lag.of(A, 3), Some(Latency::default()));
    }
}
