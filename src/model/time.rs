//! Time as data: what the log measures, and what is shown. There is no "now" here.
//!
//! Two clocks that must never be mixed up. [`LogTime`] measures durations: it goes on by the monotonic clock of the member that
//! leads, also across elections, and a step of a wall clock does not move it. [`WallTime`] is a date: it is shown, and
//! it tells how long a cluster was down. A [`WallOffset`] leads from the one to the other.

use std::fmt;
use std::time::Duration;

/// A moment on the log's clock, in nanoseconds; the leader stamps it into each entry.
///
/// The number looks like a date (nanoseconds since 1970), because a new cluster's log clock starts at the founder's wall clock;
/// from there on only differences mean something. Nanoseconds as in etcd: of two keys with the same lifetime, written one after
/// the other, the first dies first. No floor below `server` can make one from a clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogTime(pub u64);

/// A moment on a wall clock: nanoseconds since 1970 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(pub u64);

/// What has to be added to a [`LogTime`] to get the [`WallTime`] that the leader's wall clock shows at that moment, in
/// nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallOffset(pub i64);

/// What the leader notes of the moment in which it puts an entry into the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The log's clock.
    pub at: LogTime,
    /// How far the leader's wall clock was ahead of it.
    pub offset: WallOffset,
}

/// Where a member gets its time from. The real one is `server/clock.rs`; tests bring their own.
pub trait Clock: Send + Sync {
    /// What the machine takes for the time of day. It may jump, either way, at any moment.
    fn wall(&self) -> WallTime;
    /// Time since some moment in the past. It never jumps and goes on while the process, or the machine, is suspended.
    fn monotonic(&self) -> Duration;
}

/// A clock that stands still.
#[cfg(test)]
pub(crate) struct StillClock;

#[cfg(test)]
impl Clock for StillClock {
    fn wall(&self) -> WallTime {
        WallTime(0)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// A lifetime in whole seconds, at most [`TTL_MAX_S`]. Wire: `ttl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ttl(u64);

/// The longest lifetime: about 292 years. etcd's clock overflows above it; here it is refused.
pub const TTL_MAX_S: u64 = 9_223_372_036;

impl Ttl {
    /// `None` when `seconds` exceeds [`TTL_MAX_S`].
    pub fn from_s(seconds: u64) -> Option<Self> {
        (seconds <= TTL_MAX_S).then_some(Self(seconds))
    }

    /// The seconds.
    pub fn as_s(self) -> u64 {
        self.0
    }
}

const NANOS_PER_S: u64 = 1_000_000_000;

impl LogTime {
    /// How long after `earlier` this moment comes; zero when it does not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The moment this long after this one.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }

    /// The moment a lifetime that starts here ends.
    #[must_use]
    pub fn after(self, ttl: Ttl) -> Self {
        Self(self.0.saturating_add(ttl.0 * NANOS_PER_S))
    }

    /// What a wall clock shows at this moment.
    pub fn on_the_wall(self, offset: WallOffset) -> WallTime {
        WallTime(self.0.saturating_add_signed(offset.0))
    }

    /// Whole seconds from `now` until this moment, rounded up; rounded towards zero when it has passed, as etcd does.
    pub fn seconds_left(self, now: Self) -> i64 {
        let left_ns = i128::from(self.0) - i128::from(now.0);
        let second = i128::from(NANOS_PER_S);
        let rounded_up =
            if left_ns > 0 { (left_ns + second - 1) / second } else { left_ns / second };
        i64::try_from(rounded_up).unwrap_or(i64::MAX)
    }
}

impl WallTime {
    /// The moment this long after 1970.
    pub fn since_1970(elapsed: Duration) -> Self {
        Self(nanos(elapsed))
    }

    /// How long after `earlier` this moment comes; zero when it does not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Whole seconds since 1970, and the nanoseconds beyond them.
    pub fn parts(self) -> (u64, u32) {
        let nanos = self.0 % NANOS_PER_S;
        (self.0 / NANOS_PER_S, u32::try_from(nanos).unwrap_or(u32::MAX))
    }

    /// How far this is ahead of the log's clock, when that shows `at`.
    pub fn ahead_of(self, at: LogTime) -> WallOffset {
        WallOffset(clamped(i128::from(self.0) - i128::from(at.0)))
    }
}

impl fmt::Display for WallTime {
    /// Seconds since 1970 with three digits: for the log, whose readers compare two of them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = self.parts();
        write!(f, "{seconds}.{:03}", nanos / 1_000_000)
    }
}

impl WallOffset {
    /// How much this is more than `other`, either way.
    pub fn differs_by(self, other: Self) -> Duration {
        Duration::from_nanos(self.0.abs_diff(other.0))
    }
}

impl From<LogTime> for Stamp {
    /// A wall clock that agrees with the log's clock.
    fn from(at: LogTime) -> Self {
        Self { at, offset: WallOffset(0) }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn clamped(nanos: i128) -> i64 {
    i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_left_round_up_and_pass_through_zero() {
        let at = LogTime(10 * NANOS_PER_S);
        assert_eq!(at.seconds_left(LogTime(9_999_999_999)), 1);
        assert_eq!(at.seconds_left(LogTime(9_000_000_000)), 1);
        assert_eq!(at.seconds_left(LogTime(8_999_999_999)), 2);
        assert_eq!(at.seconds_left(LogTime(10_000_000_000)), 0);
        assert_eq!(at.seconds_left(LogTime(10_999_999_999)), 0);
        assert_eq!(at.seconds_left(LogTime(11_000_000_000)), -1);
    }

    #[test]
    fn a_lifetime_that_would_overflow_a_clock_is_no_lifetime() {
        assert!(Ttl::from_s(TTL_MAX_S).is_some());
        assert!(Ttl::from_s(TTL_MAX_S + 1).is_none());
        let longest = Ttl::from_s(TTL_MAX_S).expect("it is the longest");
        assert_eq!(LogTime(u64::MAX - 1).after(longest), LogTime(u64::MAX), "a stamp of nonsense");
    }

    #[test]
    fn an_offset_leads_from_the_log_to_the_wall_and_never_out_of_range() {
        let at = LogTime(1_000);
        for wall in [WallTime(0), WallTime(999), WallTime(1_000), WallTime(i64::MAX as u64)] {
            assert_eq!(at.on_the_wall(wall.ahead_of(at)), wall);
        }
        assert_eq!(at.on_the_wall(WallOffset(-2_000)), WallTime(0));
        assert_eq!(WallTime(u64::MAX).ahead_of(LogTime(0)), WallOffset(i64::MAX));
        assert_eq!(WallTime(0).ahead_of(LogTime(u64::MAX)), WallOffset(i64::MIN));
        let apart = WallOffset(i64::MIN).differs_by(WallOffset(i64::MAX));
        assert_eq!(apart, Duration::from_nanos(u64::MAX));
    }
}
