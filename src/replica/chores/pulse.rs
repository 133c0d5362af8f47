//! Are heartbeats on time?

use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use crate::model::codes;
use crate::raft::Role;
use crate::replica::Replica;

impl Replica {
    /// Says so when this member leads and heartbeats cannot leave in time, for want of processor most likely. For as long as
    /// it runs.
    pub async fn watch_pulse(self, heartbeat: Duration) {
        let mut leadership = self.inner.raft.leadership();
        loop {
            // Followers have no pulse.
            if leadership.wait_for(|now| now.role == Role::Leader).await.is_err() {
                return;
            }
            let begun = Instant::now();
            tokio::time::sleep(heartbeat).await;
            let exceeded = begun.elapsed().saturating_sub(2 * heartbeat);
            if !exceeded.is_zero() && leadership.borrow().role == Role::Leader {
                self.inner.stats.count_late_heartbeat();
                warn!(
                    target: "etcdserver",
                    code = codes::LATE_HEARTBEAT,
                    "failed to send out heartbeat on time (exceeded the {}ms timeout for {:?})",
                    heartbeat.as_millis(),
                    exceeded
                );
                warn!(target: "etcdserver", code = codes::LATE_HEARTBEAT, "server is likely overloaded");
            }
        }
    }
}
