//! Lines in the log about who leads.

use tracing::{info, warn};

use crate::model::{MemberId, codes};
use crate::raft::{Leadership, Role};
use crate::replica::Replica;

impl Replica {
    /// Logs changes of leadership, for as long as the member runs.
    pub async fn follow_leader(self) {
        let mut leadership = self.inner.raft.leadership();
        loop {
            let now = *leadership.borrow_and_update();
            if let Some(before) = self.inner.stats.saw_leader(now.leader, self.wall()) {
                self.log_leader(before, now);
            }
            if leadership.changed().await.is_err() {
                return;
            }
        }
    }

    fn log_leader(&self, before: Option<MemberId>, now: Leadership) {
        let (member, term) = (self.inner.member.id, now.term);
        if now.role == Role::Leader {
            info!(target: "raft", "{member} became leader at term {term}");
        }
        match (before, now.leader) {
            (None, Some(leader)) => {
                info!(target: "raft", "raft.node: {member} elected leader {leader} at term {term}");
            }
            (Some(lost), None) => {
                warn!(target: "raft", code = codes::LEADER_LOST, "raft.node: {member} lost leader {lost} at term {term}");
            }
            (Some(lost), Some(leader)) => info!(
                target: "raft",
                "raft.node: {member} changed leader from {lost} to {leader} at term {term}"
            ),
            (None, None) => {}
        }
    }
}
