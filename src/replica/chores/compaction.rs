//! The leader compacts the v3 key space: by age or number of revisions if it is told to, and when superseded values take too much
//! memory.
//!
//! Every member takes note of its revisions, so that the next leader knows what was an hour ago; the leader alone proposes.

use std::collections::VecDeque;
use std::time::Duration;

use tracing::{info, warn};

use crate::model::{Retention, codes};
use crate::mvcc::{Applied, Command, Refusal, Request, Revision};
use crate::raft::Role;
use crate::replica::Replica;
use crate::store;

/// Revisions are compacted so often.
const REVISIONS_PAUSE: Duration = Duration::from_secs(5 * 60);

/// Time is compacted so often, or as often as it is kept, if that is less.
const TIME_PAUSE_MAX: Duration = Duration::from_secs(60 * 60);

/// Superseded values are weighed so often.
const BYTES_PAUSE: Duration = Duration::from_secs(1);

/// Notes that are taken between two compactions.
const NOTES: u32 = 10;

/// Decides what is compacted when.
#[derive(Debug)]
struct Schedule {
    retention: Retention,
    /// When, on the clock that never jumps, and which revision it was; the oldest first.
    notes: VecDeque<(Duration, Revision)>,
    /// When something was compacted last, or this began.
    last: Duration,
    /// Something was compacted already.
    begun: bool,
    /// Everything up to here.
    compacted: Revision,
}

impl Schedule {
    fn new(retention: Retention, now: Duration) -> Self {
        let notes = VecDeque::new();
        Self { retention, notes, last: now, begun: false, compacted: Revision::default() }
    }

    /// Between two looks.
    fn pause(&self) -> Duration {
        match self.retention {
            Retention::All => Duration::MAX,
            Retention::Time(kept) => kept.min(TIME_PAUSE_MAX) / NOTES,
            Retention::Revisions(_) => REVISIONS_PAUSE,
        }
    }

    /// What is due, when the store is at `revision`. It is named again until [`Schedule::done`].
    fn look(&mut self, now: Duration, revision: Revision) -> Option<Revision> {
        let due = match self.retention {
            Retention::All => None,
            Retention::Revisions(kept) => revision.0.checked_sub(kept).map(Revision),
            Retention::Time(kept) => self.look_back(kept, now, revision),
        };
        due.filter(|due| *due > self.compacted && due.0 > 0)
    }

    fn look_back(&mut self, kept: Duration, now: Duration, revision: Revision) -> Option<Revision> {
        self.notes.push_back((now, revision));
        // The newest note that is old enough; those before it say nothing more.
        while self.notes.get(1).is_some_and(|(at, _)| *at + kept <= now) {
            self.notes.pop_front();
        }
        let pause = if self.begun { kept.min(TIME_PAUSE_MAX) } else { kept };
        if now < self.last + pause {
            return None;
        }
        self.notes.front().filter(|(at, _)| *at + kept <= now).map(|(_, revision)| *revision)
    }

    fn done(&mut self, now: Duration, revision: Revision) {
        (self.last, self.begun, self.compacted) = (now, true, revision);
    }
}

impl Replica {
    /// Compacts the v3 key space while this member leads, for as long as this runs: what is older than `retention` goes, and the
    /// oldest when superseded values weigh more than `past_bytes_max`. Then half of that stays, so that not each write compacts.
    pub async fn compact(self, retention: Retention, past_bytes_max: Option<u64>) {
        let by_bytes = async {
            if let Some(max) = past_bytes_max {
                self.compact_by_bytes(max).await;
            }
        };
        tokio::join!(self.compact_by_retention(retention), by_bytes);
    }

    async fn compact_by_retention(&self, retention: Retention) {
        if retention == Retention::All {
            return;
        }
        let mut schedule = Schedule::new(retention, self.inner.clock.monotonic());
        loop {
            let now = self.inner.clock.monotonic();
            let mvcc = self.view().store.mvcc().clone();
            if let Some(due) = schedule.look(now, mvcc.revision()) {
                // Another member leads and compacts; should this one lead later, it begins where that one ended.
                let compacted = mvcc.compacted().unwrap_or_default();
                if compacted >= due {
                    schedule.done(now, compacted);
                } else if self.leads() && self.compact_to(due).await {
                    schedule.done(now, due);
                }
            }
            tokio::time::sleep(schedule.pause()).await;
        }
    }

    async fn compact_by_bytes(&self, max: u64) {
        loop {
            tokio::time::sleep(BYTES_PAUSE).await;
            let mvcc = self.view().store.mvcc().clone();
            if mvcc.past_bytes() <= max || !self.leads() {
                continue;
            }
            let compacted = mvcc.compacted();
            // It looks at each change that is to go.
            let due = tokio::task::spawn_blocking(move || mvcc.compaction_for(max / 2)).await;
            // What was compacted goes little by little, and weighs something until then.
            if let Some(due) = due.ok().flatten().filter(|due| compacted.is_none_or(|at| at < *due))
            {
                self.compact_to(due).await;
            }
        }
    }

    fn leads(&self) -> bool {
        self.inner.raft.leadership().borrow().role == Role::Leader
    }

    /// Returns whether everything up to `due` is compacted now.
    async fn compact_to(&self, due: Revision) -> bool {
        info!(target: "compactor", "Starting auto-compaction at revision {due}");
        let command = store::Command::Mvcc(Command::internal(Request::Compact(due)));
        let applied = self.write(command).await.map(|answer| answer.applied);
        match applied {
            Ok(store::Applied::Mvcc(Applied {
                reply: Ok(_) | Err(Refusal::Compacted), ..
            })) => {
                info!(target: "compactor", "Finished auto-compaction at revision {due}");
                return true;
            }
            Ok(refused) => warn!(
                target: "compactor",
                code = codes::NOT_COMPACTED,
                "auto-compaction at revision {due} was refused: {refused:?}; trying again"
            ),
            Err(why) => warn!(
                target: "compactor",
                code = codes::NOT_COMPACTED,
                "auto-compaction at revision {due} failed: {why}; trying again"
            ),
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn the_last_revisions_are_kept() {
        let mut schedule = Schedule::new(Retention::Revisions(100), Duration::ZERO);
        assert_eq!(schedule.pause(), 5 * MINUTE);
        assert_eq!(schedule.look(Duration::ZERO, Revision(1)), None);
        assert_eq!(schedule.look(5 * MINUTE, Revision(100)), None);
        assert_eq!(schedule.look(10 * MINUTE, Revision(350)), Some(Revision(250)));
        assert_eq!(schedule.look(15 * MINUTE, Revision(351)), Some(Revision(251)), "not done yet");
        schedule.done(15 * MINUTE, Revision(251));
        assert_eq!(schedule.look(20 * MINUTE, Revision(351)), None, "nothing new");
        assert_eq!(schedule.look(25 * MINUTE, Revision(352)), Some(Revision(252)));
    }

    /// One revision a minute; what was compacted, by minute.
    fn an_evening(kept: Duration, minutes: u32) -> Vec<(u32, u64)> {
        let mut schedule = Schedule::new(Retention::Time(kept), Duration::ZERO);
        let every = u32::try_from(schedule.pause().as_secs() / 60).unwrap();
        let mut compacted = Vec::new();
        for minute in (0..=minutes).step_by(usize::try_from(every).unwrap()) {
            let now = minute * MINUTE;
            if let Some(due) = schedule.look(now, Revision(minute.into())) {
                compacted.push((minute, due.0));
                schedule.done(now, due);
            }
        }
        compacted
    }

    #[test]
    fn half_an_hour_is_kept_and_the_rest_goes_every_half_hour() {
        // At minute 30 it was revision 0 half an hour ago: there is nothing to compact.
        let expected = [(33, 3), (63, 33), (93, 63), (123, 93), (153, 123)];
        assert_eq!(an_evening(30 * MINUTE, 160), expected);
    }

    #[test]
    fn many_hours_are_kept_and_the_rest_goes_every_hour() {
        let compacted = an_evening(5 * 60 * MINUTE, 9 * 60);
        assert_eq!(compacted, [(306, 6), (366, 66), (426, 126), (486, 186)]);
    }

    #[test]
    fn what_fails_is_tried_again_and_what_others_did_is_not() {
        let mut schedule = Schedule::new(Retention::Time(10 * MINUTE), Duration::ZERO);
        for minute in 0..10 {
            assert_eq!(schedule.look(minute * MINUTE, Revision(7)), None);
        }
        assert_eq!(schedule.look(10 * MINUTE, Revision(7)), Some(Revision(7)));
        assert_eq!(schedule.look(11 * MINUTE, Revision(7)), Some(Revision(7)));
        schedule.done(11 * MINUTE, Revision(7));
        for minute in 12..60 {
            assert_eq!(schedule.look(minute * MINUTE, Revision(7)), None, "{minute}");
        }
    }

    #[test]
    fn nothing_is_kept_account_of_where_everything_is_kept() {
        let mut schedule = Schedule::new(Retention::All, Duration::ZERO);
        assert_eq!(schedule.look(100 * MINUTE, Revision(1000)), None);
        assert!(schedule.notes.is_empty());
    }
}
