//! Whether this member's part in consensus goes on, for the one who would end a process that hangs.

use std::time::Duration;

use crate::disk::LogPulse;
use crate::raft::Raft;

/// What shows that a member's threads work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignsOfLife {
    /// Consensus has answered a question in time. While it waits for a vote to be safe, it does not.
    pub consensus_answers: bool,
    /// What the log's thread is about.
    pub log: LogPulse,
}

impl Raft {
    /// Asks consensus a question that has to be answered within `patience`, and then looks at the log.
    pub async fn signs_of_life(&self, patience: Duration) -> SignsOfLife {
        let question = self.raft.with_raft_state(|_| ());
        let answer = tokio::time::timeout(patience, question).await;
        SignsOfLife { consensus_answers: matches!(answer, Ok(Ok(()))), log: self.wal.pulse() }
    }
}
