//! Time as data: stamps from the log, never "now".

/// A moment as the log knows it: milliseconds since 1970 UTC, stamped by the leader into each entry.
///
/// No floor below `server` can make one from a clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogTime(pub u64);

/// Where a member gets its time from. The real one is `server/clock.rs`; tests bring their own.
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970.
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

impl LogTime {
    /// The moment a lifetime that starts here ends.
    #[must_use]
    pub fn after(self, ttl: Ttl) -> Self {
        Self(self.0 + ttl.0 * 1000)
    }

    /// Whole seconds from `now` until this moment, rounded up; rounded towards zero when it has passed, as etcd does.
    pub fn seconds_left(self, now: Self) -> i64 {
        let left_ms = i128::from(self.0) - i128::from(now.0);
        let rounded_up = if left_ms > 0 { (left_ms + 999) / 1000 } else { left_ms / 1000 };
        i64::try_from(rounded_up).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_left_round_up_and_pass_through_zero() {
        let at = LogTime(10_000);
        assert_eq!(at.seconds_left(LogTime(9_999)), 1);
        assert_eq!(at.seconds_left(LogTime(9_000)), 1);
        assert_eq!(at.seconds_left(LogTime(8_999)), 2);
        assert_eq!(at.seconds_left(LogTime(10_000)), 0);
        assert_eq!(at.seconds_left(LogTime(10_999)), 0);
        assert_eq!(at.seconds_left(LogTime(11_000)), -1);
    }

    #[test]
    fn a_lifetime_that_would_overflow_a_clock_is_no_lifetime() {
        assert!(Ttl::from_s(TTL_MAX_S).is_some());
        assert!(Ttl::from_s(TTL_MAX_S + 1).is_none());
    }
}
