//! What the leader alone knows and the log does not: the floor above asks and answers, this one carries the words.

use std::sync::{Arc, Weak};

use futures_util::future::BoxFuture;
use openraft::async_runtime::WatchReceiver;

use crate::model::{Term, Unavailable};
use crate::raft::{Raft, Role};

/// Answers what followers ask their leader.
pub trait Answerer: Send + Sync {
    /// `None` when this member cannot tell, because it does not lead most likely.
    fn answer(self: Arc<Self>, question: Vec<u8>) -> BoxFuture<'static, Option<Vec<u8>>>;
}

impl Raft {
    /// From now on `answerer` answers the questions that come to this member. The first one stays.
    pub fn answer_with(&self, answerer: Weak<dyn Answerer>) {
        let _ = self.shared.answerer.set(answerer);
    }

    /// Asks the leader, which may be this member. There is no deadline here.
    ///
    /// # Errors
    /// [`Unavailable::NotLeader`] when no leader can tell now; one may later. [`Unavailable::Stopped`].
    pub async fn ask_leader(&self, question: Vec<u8>) -> Result<Vec<u8>, Unavailable> {
        let (leader, _) = self.leader()?;
        if leader != self.shared.member {
            return self.shared.asker.question(leader, question).await;
        }
        let answer = self.answer_here(question).await;
        answer.ok_or(Unavailable::NotLeader { leader: None })
    }

    pub(in crate::raft) async fn answer_here(&self, question: Vec<u8>) -> Option<Vec<u8>> {
        let answerer = self.shared.answerer.get()?.upgrade()?;
        answerer.answer(question).await
    }

    /// The term that this member leads, if a majority has answered what it sent within the last election: what it says now, no
    /// leader that was elected longer ago than that can have contradicted.
    ///
    /// Looked up, not remembered: a process that was stopped for a while does not know that it was.
    pub fn leads_for_sure(&self) -> Option<Term> {
        let now = *self.leadership.borrow();
        if now.role != Role::Leader {
            return None;
        }
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let alone = metrics.membership_config.membership().voter_ids().eq([self.shared.member.0]);
        let acked = metrics.last_quorum_acked;
        let lately =
            acked.is_some_and(|acked| openraft::Instant::elapsed(&*acked) <= self.shared.election);
        (alone || lately).then_some(now.term)
    }
}
