//! Time as data: stamps from the log, never "now".

use std::time::Duration;

/// A moment as the log knows it: nanoseconds since 1970 UTC, stamped by the leader into each entry.
///
/// Nanoseconds as in etcd: of two keys with the same lifetime, written one after the other, the first dies first.
/// No floor below `server` can make one from a clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogTime(pub u64);

/// Where a member gets its time from. The real one is `server/clock.rs`; tests bring their own.
pub trait Clock: Send + Sync {
    /// Nanoseconds since 1970.
    fn now(&self) -> LogTime;
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
    /// The moment this long after 1970.
    pub fn since_1970(elapsed: Duration) -> Self {
        Self(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
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

    /// The moment a lifetime that starts here ends.
    #[must_use]
    pub fn after(self, ttl: Ttl) -> Self {
        Self(self.0 + ttl.0 * NANOS_PER_S)
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
    }
}
