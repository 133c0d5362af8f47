//! Whether a client can write, and since when not.
//!
//! Owns: one writer at each member, which stays there whatever happens; clients that move on may all sit at the one member that
//! is cut off. Never knows: what is broken.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::support::history::{Action, Outcome};
use super::support::load::Api;
use super::support::load::targets::{Stop, Targets};
use super::support::load::wire::Line;

const PAUSE: Duration = Duration::from_millis(10);
/// After so long a write is given up, and the next one sent.
const PATIENCE: Duration = Duration::from_secs(1);

pub(crate) struct Pulse {
    writers: Vec<JoinHandle<Vec<Duration>>>,
    stop: Stop,
}

impl Pulse {
    /// Begins to write at each member that is there now. `start` is when the run's time began.
    pub(crate) fn start(targets: &Targets, start: Instant) -> Self {
        let stop = Stop::default();
        let writer = |(member, addr)| {
            let (stop, key) = (stop.clone(), format!("/pulse/{member}"));
            let mut line = Line::new(Api::V2, Targets::from(vec![addr]), 0, PATIENCE);
            thread::spawn(move || {
                let mut beats = Vec::new();
                while !stop.pause(PAUSE) {
                    let answered = line.call(&key, &Action::Set { value: "x".to_owned() });
                    if matches!(answered.outcome, Outcome::Done { .. }) {
                        beats.push(start.elapsed());
                    }
                }
                beats
            })
        };
        Self { writers: targets.all().into_iter().map(writer).collect(), stop }
    }

    /// When writes were acknowledged, by whichever member.
    pub(crate) fn stop(self) -> Beats {
        self.stop.stop();
        let beats = self.writers.into_iter();
        let mut beats: Vec<_> =
            beats.flat_map(|writer| writer.join().expect("a writer does not panic")).collect();
        beats.sort();
        Beats(beats)
    }
}

/// The times of acknowledged writes, in order.
pub(crate) struct Beats(Vec<Duration>);

impl Beats {
    /// The longest time without one that was not over before `from` and began before `to`.
    pub(crate) fn silence(&self, from: Duration, to: Duration) -> Duration {
        let around = self.0.windows(2).filter(|two| two[1] >= from && two[0] <= to);
        around.map(|two| two[1] - two[0]).max().unwrap_or_default()
    }
}
