//! The log's clock on this member: it stamps entries while the member leads, and says how long keys live while it follows.
//!
//! Owns: how this member's monotonic clock goes with the log's. Never knows: deadlines, entries, who leads.
//! Holds: [`LogClock::now`] is never behind the last applied stamp, and a step of a wall clock moves nothing but dates.
//!
//! Three ways lead to the time, the first that is there counts:
//!
//! | this member | its log clock |
//! |---|---|
//! | has heard of the log's time since it started: as follower from its leader, as leader from a follower that had | goes on from there by its own monotonic clock |
//! | leads, and of its majority no member knows: all of them were down | goes on from the last applied stamp, and what the wall clock says has passed since |
//! | neither yet | the same, but it stamps nothing |
//!
//! The reasons are in ADR 10.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tracing::warn;

use crate::base::lock;
use crate::model::{Clock, LogTime, MemberId, Stamp, WallTime, codes};

/// A follower keeps the best reading of so long, and of the period before: the one that was on its way for the shortest time.
/// A shorter period would let one late message set the clock back, a longer one let two crystals drift apart.
const PERIOD: Duration = Duration::from_secs(5);

/// Wall clocks of members that differ by more than this are worth a warning.
pub(in crate::raft) const DIFFERENCE_MAX: Duration = Duration::from_secs(2);

/// Such a warning is repeated after so long.
const WARNED_AGAIN: Duration = Duration::from_secs(60);

/// What a leader says of its clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::raft) struct Reading {
    pub(in crate::raft) at: LogTime,
    pub(in crate::raft) wall: WallTime,
}

/// The clock.
pub(in crate::raft) struct LogClock {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    differences: Mutex<BTreeMap<MemberId, Difference>>,
}

struct State {
    /// The last stamp that was applied.
    applied: Stamp,
    /// The log's clock less this member's monotonic clock, in nanoseconds; `None` while it is not known.
    ahead: Option<i128>,
    /// The largest reading of the period, and of the one before.
    best: [i128; 2],
    period_began: Duration,
}

struct Difference {
    /// How far the leader's wall clock is ahead of ours, in nanoseconds.
    ahead: i64,
    warned: Option<Duration>,
}

impl LogClock {
    /// A clock that has heard nothing yet.
    pub(in crate::raft) fn new(clock: Arc<dyn Clock>) -> Self {
        let state = State {
            applied: Stamp::default(),
            ahead: None,
            best: [i128::MIN; 2],
            period_began: Duration::ZERO,
        };
        Self { clock, state: Mutex::new(state), differences: Mutex::default() }
    }

    /// The log's time, as well as this member can tell.
    pub(in crate::raft) fn now(&self) -> LogTime {
        let state = self.lock();
        self.now_in(&state)
    }

    fn now_in(&self, state: &State) -> LogTime {
        let applied = state.applied.at;
        match state.ahead {
            Some(ahead) => log_time(nanos(self.clock.monotonic()) + ahead).max(applied),
            // A wall clock that went back says that no time has passed.
            None => {
                let then = applied.on_the_wall(state.applied.offset);
                applied.plus(self.clock.wall().since(then))
            }
        }
    }

    /// What an entry is stamped with. `None` while this member cannot tell the time: it must not put anything into the log.
    pub(in crate::raft) fn stamp(&self) -> Option<Stamp> {
        let reading = self.reading()?;
        Some(Stamp { at: reading.at, offset: reading.wall.ahead_of(reading.at) })
    }

    /// The time, for other members. `None` while this one does not know it better than they do.
    pub(in crate::raft) fn reading(&self) -> Option<Reading> {
        let state = self.lock();
        state.ahead?;
        Some(Reading { at: self.now_in(&state), wall: self.clock.wall() })
    }

    /// Entries up to this stamp are applied.
    pub(in crate::raft) fn applied(&self, stamp: Stamp) {
        self.lock().applied = stamp;
    }

    /// The leader said what time it is.
    pub(in crate::raft) fn heard(&self, leader: LogTime) {
        let now = self.clock.monotonic();
        let reading = i128::from(leader.0) - nanos(now);
        let mut state = self.lock();
        if now.saturating_sub(state.period_began) > PERIOD {
            state.period_began = now;
            state.best = [i128::MIN, state.best[0]];
        }
        state.best[0] = state.best[0].max(reading);
        state.ahead = Some(state.best[0].max(state.best[1]));
    }

    /// A follower that has heard of the log's time since it started said what time it is. Only a leader that does not know
    /// itself listens to followers.
    pub(in crate::raft) fn told(&self, follower: LogTime) {
        let mut state = self.lock();
        if state.ahead.is_none() {
            state.ahead = Some(i128::from(follower.0) - nanos(self.clock.monotonic()));
        }
    }

    /// This member leads, has applied what leaders before it put into the log, and a majority has answered. If none of them
    /// knows the time, all were down, and the wall clock tells for how long.
    pub(in crate::raft) fn lead(&self) {
        let mut state = self.lock();
        if state.ahead.is_none() {
            let now = self.now_in(&state);
            state.ahead = Some(i128::from(now.0) - nanos(self.clock.monotonic()));
        }
    }

    /// Compares the wall clock of `leader` with ours; they are read at about the same moment.
    pub(in crate::raft) fn compare(&self, leader: MemberId, theirs: WallTime) {
        let (ours, now) = (self.clock.wall(), self.clock.monotonic());
        let ahead = theirs.ahead_of(LogTime(ours.0)).0;
        let too_much = Duration::from_nanos(ahead.unsigned_abs()) > DIFFERENCE_MAX;
        let due = {
            let mut differences = lock(&self.differences);
            let known = differences.entry(leader).or_insert(Difference { ahead, warned: None });
            known.ahead = ahead;
            let quiet = known.warned.is_some_and(|at| now.saturating_sub(at) < WARNED_AGAIN);
            if too_much && !quiet {
                known.warned = Some(now);
            }
            too_much && !quiet
        };
        if due {
            let (shown, max) = (Duration::from_nanos(ahead.unsigned_abs()), DIFFERENCE_MAX);
            warn!(
                target: "rafthttp",
                code = codes::CLOCKS_DIFFER,
                "the clock difference against peer {leader} is too high [{shown:.1?} > {max:?}]: it shows {theirs}, this \
                 member {ours}. Keys live as long as they should; `expiration` follows the leader's clock. Check NTP on both",
            );
        }
    }

    /// How far each leader's wall clock was ahead of ours when it was last heard of, in nanoseconds.
    pub(in crate::raft) fn differences(&self) -> Vec<(MemberId, i64)> {
        lock(&self.differences).iter().map(|(id, difference)| (*id, difference.ahead)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn nanos(duration: Duration) -> i128 {
    i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX)
}

fn log_time(nanos: i128) -> LogTime {
    LogTime(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use super::*;
    use crate::model::WallOffset;

    const S: u64 = 1_000_000_000;
    const YEAR: u64 = 365 * 24 * 3600 * S;
    /// Some day in 2026.
    const TODAY: u64 = 1_790_000_000 * S;

    /// A machine's two clocks.
    #[derive(Default)]
    struct Machine {
        wall: AtomicU64,
        monotonic: AtomicU64,
    }

    impl Machine {
        fn new(wall: u64, monotonic: u64) -> Arc<Self> {
            Arc::new(Self { wall: wall.into(), monotonic: monotonic.into() })
        }

        fn pass(&self, ns: u64) {
            self.wall.fetch_add(ns, Relaxed);
            self.monotonic.fetch_add(ns, Relaxed);
        }
    }

    impl Clock for Machine {
        fn wall(&self) -> WallTime {
            WallTime(self.wall.load(Relaxed))
        }

        fn monotonic(&self) -> Duration {
            Duration::from_nanos(self.monotonic.load(Relaxed))
        }
    }

    fn clock(machine: &Arc<Machine>) -> LogClock {
        LogClock::new(Arc::clone(machine) as Arc<dyn Clock>)
    }

    #[test]
    fn a_new_cluster_begins_at_the_founders_wall_clock() {
        let machine = Machine::new(TODAY, 7);
        let clock = clock(&machine);
        assert_eq!(clock.stamp(), None, "it does not lead yet");
        clock.lead();
        assert_eq!(clock.stamp(), Some(Stamp { at: LogTime(TODAY), offset: WallOffset(0) }));
    }

    #[test]
    fn a_step_of_the_wall_clock_moves_dates_and_not_time() {
        for (wall, offset) in
            [(TODAY + YEAR, YEAR.cast_signed()), (TODAY - YEAR, -YEAR.cast_signed())]
        {
            let machine = Machine::new(TODAY, 0);
            let clock = clock(&machine);
            clock.lead();
            machine.wall.store(wall, Relaxed);
            assert_eq!(clock.now(), LogTime(TODAY));
            machine.pass(S);
            let expected = Stamp { at: LogTime(TODAY + S), offset: WallOffset(offset) };
            assert_eq!(clock.stamp(), Some(expected));
        }
    }

    #[test]
    fn a_follower_goes_on_where_its_leader_was_whatever_its_wall_clock_says() {
        let machine = Machine::new(TODAY + YEAR, 5 * S);
        let clock = clock(&machine);
        clock.applied(LogTime(TODAY).into());
        assert_eq!(clock.now(), LogTime(TODAY + YEAR), "it has nothing but its wall clock");
        clock.heard(LogTime(TODAY + 10 * S));
        machine.pass(3 * S);
        clock.lead();
        let stamp = clock.stamp().expect("it knows the time");
        assert_eq!(stamp.at, LogTime(TODAY + 13 * S));
        assert_eq!(stamp.at.on_the_wall(stamp.offset), WallTime(TODAY + YEAR + 3 * S));
    }

    #[test]
    fn a_leader_that_has_just_started_asks_its_followers_before_its_wall_clock() {
        let machine = Machine::new(TODAY + YEAR, 0);
        let clock = clock(&machine);
        clock.applied(LogTime(TODAY).into());
        clock.told(LogTime(TODAY + 2 * S));
        clock.told(LogTime(TODAY + YEAR));
        clock.lead();
        assert_eq!(clock.now(), LogTime(TODAY + 2 * S), "the first that answered knows");
    }

    #[test]
    fn when_all_were_down_the_wall_clock_says_for_how_long_unless_it_went_back() {
        let hour = 3600 * S;
        for (wall, passed) in [(TODAY + hour, hour), (TODAY - hour, 0)] {
            let machine = Machine::new(wall, 0);
            let clock = clock(&machine);
            clock.applied(LogTime(TODAY).into());
            clock.lead();
            assert_eq!(clock.now(), LogTime(TODAY + passed));
        }
        // The last leader's wall clock was a year ahead of the log's: so is the one that is compared with it.
        let machine = Machine::new(TODAY + YEAR + hour, 0);
        let clock = clock(&machine);
        let offset = WallOffset(YEAR.cast_signed());
        clock.applied(Stamp { at: LogTime(TODAY), offset });
        clock.lead();
        assert_eq!(clock.now(), LogTime(TODAY + hour));
    }

    #[test]
    fn a_late_message_does_not_set_the_clock_back_and_a_faster_crystal_does_not_run_away() {
        let machine = Machine::new(TODAY, 0);
        let clock = clock(&machine);
        clock.heard(LogTime(TODAY));
        machine.pass(S);
        clock.heard(LogTime(TODAY + S / 10));
        assert_eq!(clock.now(), LogTime(TODAY + S), "that message took 0.9 s");
        // Ours runs a thousandth too fast: after an hour it would be 3.6 s ahead.
        let mut leader = TODAY + S;
        for _ in 0..36_000 {
            machine.pass(S / 10 + S / 10_000);
            leader += S / 10;
            clock.heard(LogTime(leader));
        }
        let ahead = clock.now().since(LogTime(leader));
        assert!(ahead <= Duration::from_millis(11), "{ahead:?}");
    }

    #[test]
    fn time_never_runs_behind_what_is_applied() {
        let machine = Machine::new(TODAY, 0);
        let clock = clock(&machine);
        clock.heard(LogTime(TODAY));
        clock.applied(LogTime(TODAY + S).into());
        assert_eq!(clock.now(), LogTime(TODAY + S));
    }

    #[test]
    fn clocks_that_differ_are_known_by_how_much() {
        let machine = Machine::new(TODAY, 0);
        let clock = clock(&machine);
        clock.compare(MemberId(3), WallTime(TODAY - 5 * S));
        assert_eq!(clock.differences(), [(MemberId(3), -5 * S.cast_signed())]);
        clock.compare(MemberId(3), WallTime(TODAY + 1));
        assert_eq!(clock.differences(), [(MemberId(3), 1)]);
    }
}
