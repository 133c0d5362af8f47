//! The leader lets keys expire: it proposes a tick when a deadline has come.

use std::time::Duration;

use crate::raft::Role;
use crate::replica::Replica;
use crate::replica::chores::RETRY_PAUSE;
use crate::store::Command;

/// The next deadline is looked at again after so long: a timer stands still while the machine is suspended, the log's clock
/// does not.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

impl Replica {
    /// Proposes a tick whenever a key is due, while this member leads; for as long as it runs.
    ///
    /// A tick lets only so many keys die. While more are due the next one follows at once, through the log like the first:
    /// what clients write meanwhile gets its turn between two ticks.
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
                if self.inner.raft.propose(Command::tick()).await.is_err() {
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                continue;
            }
            tokio::select! {
                biased;
                () = tokio::time::sleep(wait.min(LOOK_AGAIN)) => {}
                changed = deadlines.changed() => if changed.is_err() { return },
                changed = leadership.changed() => if changed.is_err() { return },
            }
        }
    }
}
