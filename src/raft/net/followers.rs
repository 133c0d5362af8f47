//! How the exchange of log entries with the others goes, in numbers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use crate::base::lock;
use crate::model::MemberId;
use crate::raft::Meter;
use crate::transport::Lane;

/// Messages that the rates are taken from, at most; etcd takes as many.
const SAMPLE_MAX: usize = 200;

/// Rates are nothing when there was no message for so long.
const SAMPLE_AGE_MAX: Duration = Duration::from_secs(1);

/// How one follower answers. Latencies in milliseconds. Wire: `/v2/stats/leader`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FollowerStats {
    /// The last one.
    pub current: f64,
    /// Mean of all.
    pub average: f64,
    /// Standard deviation.
    pub deviation: f64,
    /// The shortest; before the first success a number beyond all, as in etcd.
    pub minimum: f64,
    /// The longest.
    pub maximum: f64,
    /// Appends that were answered.
    pub success: u64,
    /// Those that were not.
    pub fail: u64,
    mean_square: f64,
}

/// Messages sent or received: how many, and how fast lately. Wire: `/v2/stats/self`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AppendStats {
    /// Messages with entries.
    pub count: u64,
    /// Messages a second.
    pub rate: f64,
    /// Bytes a second.
    pub bandwidth: f64,
}

#[derive(Debug, Default)]
struct Window {
    count: u64,
    sample: VecDeque<(Instant, usize)>,
}

/// The numbers of one member.
pub(in crate::raft) struct Followers {
    by_member: Mutex<BTreeMap<MemberId, FollowerStats>>,
    sent: Mutex<Window>,
    received: Mutex<Window>,
    meter: Arc<dyn Meter>,
}

impl Followers {
    /// `meter` is told how long heartbeats and entries take.
    pub(in crate::raft) fn new(meter: Arc<dyn Meter>) -> Self {
        let (sent, received) = (Mutex::default(), Mutex::default());
        Self { by_member: Mutex::default(), sent, received, meter }
    }

    pub(in crate::raft) fn answered(&self, follower: MemberId, lane: Lane, took: Duration) {
        match lane {
            Lane::Heartbeat => self.meter.round_trip(follower, took),
            Lane::Log => lock(&self.by_member).entry(follower).or_default().succeeded(took),
            Lane::Vote | Lane::Snapshot | Lane::Ask => {}
        }
    }

    /// The follower has an entry on its disk that was appended so long ago.
    pub(in crate::raft) fn replicated(&self, follower: MemberId, took: Duration) {
        self.meter.replicated(follower, took);
    }

    pub(in crate::raft) fn failed(&self, follower: MemberId, lane: Lane) {
        if lane == Lane::Log {
            lock(&self.by_member).entry(follower).or_default().fail += 1;
        }
    }

    pub(in crate::raft) fn sent(&self, entries: bool, bytes: usize) {
        lock(&self.sent).note(entries, bytes);
    }

    pub(in crate::raft) fn received(&self, entries: bool, bytes: usize) {
        lock(&self.received).note(entries, bytes);
    }

    pub(in crate::raft) fn of(&self, follower: MemberId) -> FollowerStats {
        lock(&self.by_member).get(&follower).copied().unwrap_or_default()
    }

    pub(in crate::raft) fn appends_sent(&self) -> AppendStats {
        lock(&self.sent).stats()
    }

    pub(in crate::raft) fn appends_received(&self) -> AppendStats {
        lock(&self.received).stats()
    }
}

impl Default for FollowerStats {
    fn default() -> Self {
        // What etcd shows before the first answer: the largest 64-bit integer with a sign, rounded.
        let minimum = 9_223_372_036_854_775_808.0;
        Self {
            current: 0.0,
            average: 0.0,
            deviation: 0.0,
            minimum,
            maximum: 0.0,
            success: 0,
            fail: 0,
            mean_square: 0.0,
        }
    }
}

impl FollowerStats {
    #[expect(clippy::cast_precision_loss, reason = "a mean of 2^53 answers may be a little off")]
    fn succeeded(&mut self, took: Duration) {
        let (ms, before) = (took.as_secs_f64() * 1000.0, self.success as f64);
        self.success += 1;
        let after = before + 1.0;
        self.current = ms;
        self.average = (self.average * before + ms) / after;
        self.mean_square = (self.mean_square * before + ms * ms) / after;
        self.deviation = (self.mean_square - self.average * self.average).max(0.0).sqrt();
        self.minimum = self.minimum.min(ms);
        self.maximum = self.maximum.max(ms);
    }
}

impl Window {
    fn note(&mut self, entries: bool, bytes: usize) {
        self.count += u64::from(entries);
        if self.sample.len() == SAMPLE_MAX {
            self.sample.pop_front();
        }
        self.sample.push_back((Instant::now(), bytes));
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate may be a little off")]
    fn stats(&self) -> AppendStats {
        let quiet = AppendStats { count: self.count, ..AppendStats::default() };
        let (Some((first, _)), Some((last, _))) = (self.sample.front(), self.sample.back()) else {
            return quiet;
        };
        let seconds = (*last - *first).as_secs_f64();
        if last.elapsed() > SAMPLE_AGE_MAX || seconds <= 0.0 {
            return quiet;
        }
        let bytes: usize = self.sample.iter().map(|(_, bytes)| bytes).sum();
        let (rate, bandwidth) = (self.sample.len() as f64 / seconds, bytes as f64 / seconds);
        AppendStats { rate, bandwidth, ..quiet }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_summed_up() {
        struct Deaf;
        impl Meter for Deaf {}
        let followers = Followers::new(Arc::new(Deaf));
        for ms in [1, 2, 3] {
            followers.answered(MemberId(1), Lane::Log, Duration::from_millis(ms));
        }
        followers.failed(MemberId(1), Lane::Log);
        followers.answered(MemberId(1), Lane::Heartbeat, Duration::from_secs(9));
        let stats = followers.of(MemberId(1));
        assert_eq!((stats.success, stats.fail), (3, 1));
        assert_eq!((stats.current, stats.minimum, stats.maximum), (3.0, 1.0, 3.0));
        assert!((stats.average - 2.0).abs() < 1e-9);
        assert!((stats.deviation - (2.0f64 / 3.0).sqrt()).abs() < 1e-6);
    }

    #[tokio::test(start_paused = true)]
    async fn rates_are_those_of_the_last_messages() {
        let mut window = Window::default();
        assert_eq!(window.stats(), AppendStats::default());
        for _ in 0..300 {
            window.note(true, 50);
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        let stats = window.stats();
        assert_eq!(stats.count, 300);
        assert!((stats.rate - 1005.0).abs() < 1.0, "{}", stats.rate);
        assert!((stats.bandwidth - 50_251.0).abs() < 10.0, "{}", stats.bandwidth);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(window.stats(), AppendStats { count: 300, ..AppendStats::default() });
    }
}
