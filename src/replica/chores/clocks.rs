//! Does the wall clock agree with the clock that never jumps, and does the log know the leader's wall clock?

use std::time::Duration;

use tracing::warn;

use crate::model::{WallTime, codes};
use crate::raft::Role;
use crate::replica::Replica;
use crate::store::Command;

/// How often the clocks are read.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// A wall clock that moves by more than this against the monotonic clock, between two looks, has jumped. NTP corrects less by
/// slowing it down or speeding it up.
const JUMP_MIN: Duration = Duration::from_secs(2);

/// The log hears of the leader's wall clock when dates that are shown would be wrong by more than this.
const DATES_WRONG_MAX: Duration = Duration::from_millis(500);

impl Replica {
    /// Warns when the wall clock jumps, and, while this member leads, lets the log know its wall clock, so that every member
    /// shows the right dates. For as long as it runs.
    pub async fn watch_clocks(self) {
        let mut before = self.read_clocks();
        loop {
            tokio::time::sleep(LOOK_PAUSE).await;
            let now = self.read_clocks();
            self.compare_clocks(before, now);
            before = now;
            self.show_right_dates().await;
        }
    }

    fn read_clocks(&self) -> (WallTime, Duration) {
        (self.inner.clock.wall(), self.inner.clock.monotonic())
    }

    fn compare_clocks(&self, before: (WallTime, Duration), now: (WallTime, Duration)) {
        let passed = now.1.saturating_sub(before.1);
        let expected = WallTime::since_1970(Duration::from_nanos(before.0.0) + passed);
        let jumped = now.0.since(expected).max(expected.since(now.0));
        if jumped < JUMP_MIN {
            return;
        }
        self.inner.stats.count_clock_jump();
        let shown = now.0;
        warn!(
            target: "etcdserver",
            code = codes::CLOCK_JUMPED,
            "the wall clock jumped by {jumped:.1?}: it shows {shown} (seconds since 1970) where {expected} was expected. Keys \
             live as long as they should; `expiration` follows the new time. Check NTP, or the host of this virtual machine",
        );
    }

    /// Nothing is written for this while dates are right: what a client writes brings the wall clock along.
    async fn show_right_dates(&self) {
        if self.inner.raft.leadership().borrow().role != Role::Leader {
            return;
        }
        let known = self.view().store.wall_offset();
        let actual = self.wall().ahead_of(self.now());
        if known.differs_by(actual) <= DATES_WRONG_MAX {
            return;
        }
        // The next look tries again.
        let _ = self.inner.raft.propose(Command::tick()).await;
    }
}
