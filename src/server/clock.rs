//! The only clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::model::{Clock, WallTime};

/// The machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "here time enters; below, it is data")]
    fn wall(&self) -> WallTime {
        // A clock before 1970 counts as 1970: it is shown, and measures nothing.
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallTime::since_1970(since_1970)
    }

    /// Since the machine was started. Unlike `Instant`, this goes on while the machine is suspended.
    fn monotonic(&self) -> Duration {
        let since_boot = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(since_boot.tv_sec).unwrap_or_default();
        Duration::new(seconds, u32::try_from(since_boot.tv_nsec).unwrap_or_default())
    }
}

/// The clock by which service managers date a reload. Unlike [`SystemClock`]'s it stands still while the machine is suspended.
pub(super) fn since_boot() -> Duration {
    let since_boot = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(since_boot.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(since_boot.tv_nsec).unwrap_or_default())
}
