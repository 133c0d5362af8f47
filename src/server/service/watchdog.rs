//! The watchdog: a member that hangs is ended and started again.
//!
//! | what stands still | what the manager hears |
//! |---|---|
//! | the runtime: no task gets a turn | nothing |
//! | consensus, while the disk answers | nothing |
//! | the log's thread, with work and outside of any call to the disk | nothing |
//! | the disk | that this member is alive |
//!
//! A disk that stands still is no reason to end a member: a process inside a call to it cannot even be killed before the call
//! returns, and the next one would have to read from the same disk. Meanwhile such a member answers reads, and a leader whose
//! followers write goes on leading.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tracing::{error, warn};

use crate::disk::LogPulse;
use crate::model::codes;
use crate::raft::{Raft, SignsOfLife};
use crate::server::service::Manager;

/// Tells the manager twice in each of its intervals that this member is alive, for as long as that is so.
pub(in crate::server) async fn watch(manager: Manager, raft: Raft) {
    let Some(interval) = manager.watchdog() else { return };
    let mut ticks = tokio::time::interval(interval / 2);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looked = Looked::default();
    loop {
        ticks.tick().await;
        let signs = raft.signs_of_life(interval / 4).await;
        match looked.judge(signs, Instant::now()) {
            Verdict::Alive => manager.alive().await,
            Verdict::DiskStill(since) => {
                warn!(
                    target: "etcdserver",
                    code = codes::DISK_STILL,
                    "the disk of the log has not answered for {:.0} s; the service manager is told to wait, because another start \
                     would need the same disk",
                    since.as_secs_f64(),
                );
                manager.alive().await;
            }
            Verdict::Hangs(what) => error!(
                target: "etcdserver",
                code = codes::HANGS,
                "{what}; without a change the service manager ends this process within {:.0} s and starts it again",
                interval.as_secs_f64(),
            ),
        }
    }
}

/// The same for a program without a log and without consensus: that this task gets its turn says all there is to say.
pub(in crate::server) async fn keep_alive(manager: Manager) {
    let Some(interval) = manager.watchdog() else { return };
    let mut ticks = tokio::time::interval(interval / 2);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        manager.alive().await;
    }
}

/// What the last look has found.
#[derive(Debug, Default)]
struct Looked {
    log: Option<(LogPulse, Instant)>,
}

#[derive(Debug, PartialEq)]
enum Verdict {
    Alive,
    /// For so long at least.
    DiskStill(Duration),
    Hangs(&'static str),
}

impl Looked {
    fn judge(&mut self, signs: SignsOfLife, now: Instant) -> Verdict {
        let log = signs.log;
        let same = self.log.filter(|(before, _)| log.busy && *before == log);
        let since = same.map_or(now, |(_, since)| since);
        self.log = Some((log, since));
        match (same, log.on_disk) {
            (Some(_), true) => Verdict::DiskStill(now - since),
            (Some(_), false) => Verdict::Hangs("the log's thread has work and does not go on"),
            // Consensus may be waiting for its vote.
            (None, true) => Verdict::Alive,
            (None, false) if !signs.consensus_answers => {
                Verdict::Hangs("consensus does not answer")
            }
            (None, false) => Verdict::Alive,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pulse(batches: u64, busy: bool, on_disk: bool) -> LogPulse {
        LogPulse { batches, busy, on_disk }
    }

    fn judge(looks: &[(bool, LogPulse)]) -> Vec<Verdict> {
        let (mut looked, begun) = (Looked::default(), Instant::now());
        let looks = looks.iter().zip(0..).map(|((consensus_answers, log), second)| {
            let signs = SignsOfLife { consensus_answers: *consensus_answers, log: *log };
            looked.judge(signs, begun + Duration::from_secs(second))
        });
        looks.collect()
    }

    #[test]
    fn work_that_goes_on_and_no_work_are_both_life() {
        let idle = pulse(7, false, false);
        assert_eq!(judge(&[(true, idle), (true, idle)]), [Verdict::Alive, Verdict::Alive]);
        let batches = [1, 2, 3].map(|batches| (true, pulse(batches, true, batches == 2)));
        assert!(judge(&batches).iter().all(|verdict| *verdict == Verdict::Alive));
    }

    #[test]
    fn a_disk_that_stands_still_ends_no_member_even_when_consensus_waits_for_it() {
        let still = (false, pulse(3, true, true));
        let second = Duration::from_secs(1);
        assert_eq!(
            judge(&[still, still, still]),
            [Verdict::Alive, Verdict::DiskStill(second), Verdict::DiskStill(2 * second)]
        );
    }

    #[test]
    fn a_thread_that_hangs_and_consensus_that_is_silent_are_no_life() {
        let stuck = (true, pulse(3, true, false));
        let verdicts = judge(&[stuck, stuck]);
        assert_eq!(verdicts[0], Verdict::Alive, "it may have just begun");
        assert!(matches!(verdicts[1], Verdict::Hangs(_)), "{verdicts:?}");
        let verdicts = judge(&[(false, pulse(3, false, false))]);
        assert!(matches!(verdicts[0], Verdict::Hangs(_)), "{verdicts:?}");
    }
}
