//! The leader lets keys expire: it proposes a tick when a deadline has come.

use std::time::Duration;

use crate::raft::Role;
use crate::replica::Replica;
use crate::replica::chores::RETRY_PAUSE;
use crate::store::Command;

impl Replica {
    /// Proposes a tick whenever a key is due, while this member leads; for as long as it runs.
    pub async fn tick(self) {
        let mut deadlines = self.inner.hub.next_deadline();
        let mut leadership = self.inner.raft.leadership();
        loop {
            let leads = leadership.borrow_and_update().role == Role::Leader;
            let deadline = *deadlines.borrow_and_update();
            let wait = match deadline {
                Some(at) if leads => at.since(self.now()),
                _ => Duration::MAX,
            };
            if wait.is_zero() {
                // Some other error than a lost leadership ends the member elsewhere.
                if self.inner.raft.propose(Command::Tick).await.is_err() {
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                continue;
            }
            tokio::select! {
                biased;
                () = tokio::time::sleep(wait.min(Duration::from_secs(3600))) => {}
                changed = deadlines.changed() => if changed.is_err() { return },
                changed = leadership.changed() => if changed.is_err() { return },
            }
        }
    }
}
