//! Reads that are not stale.
//!
//! All readers that wait at the same moment share one round: the leader confirms with a majority that it still leads, and
//! says up to where the log must be applied. No entry is written. The only member of a cluster needs no round: see `storage/sole`.

use openraft::async_runtime::WatchReceiver;
use openraft::error::{LinearizableReadError, RaftError};
use openraft::{RaftState, ReadPolicy};
use tokio::sync::{mpsc, oneshot};

use crate::model::{LogIndex, MemberId, Unavailable};
use crate::raft::Raft;
use crate::raft::adapter::types::{self, Membership, Types};

/// Readers that wait for the next round; beyond that they wait to wait.
const READERS_BUFFERED: usize = 16_384;

/// Readers that one round takes along.
const ROUND_MAX: usize = 4096;

type Reader = oneshot::Sender<Result<(), Unavailable>>;

/// Where readers queue up.
pub(in crate::raft) struct Readers {
    readers_tx: mpsc::Sender<Reader>,
}

impl Readers {
    pub(in crate::raft) fn new() -> (Self, mpsc::Receiver<Reader>) {
        let (readers_tx, readers_rx) = mpsc::channel(READERS_BUFFERED);
        (Self { readers_tx }, readers_rx)
    }
}

impl Raft {
    /// Returns once this member has applied everything that was committed anywhere before the call (ReadIndex).
    ///
    /// # Errors
    /// [`Unavailable::NotLeader`] when no leader can tell now; one may later.
    pub async fn read_barrier(&self) -> Result<(), Unavailable> {
        if self.shared.log.sole().holds() {
            return Ok(());
        }
        let (done_tx, done_rx) = oneshot::channel();
        let queued = self.shared.readers.readers_tx.send(done_tx).await;
        queued.map_err(|_| Unavailable::Stopped)?;
        done_rx.await.unwrap_or(Err(Unavailable::Stopped))
    }

    /// One round after the other, each for all who wait when it begins.
    pub(in crate::raft) async fn serve_readers(self, mut readers_rx: mpsc::Receiver<Reader>) {
        let mut readers = Vec::new();
        while readers_rx.recv_many(&mut readers, ROUND_MAX).await > 0 {
            // A leader that is gone, or cut off, never tickets: the next round asks the next one.
            let round = tokio::time::timeout(self.shared.election, self.round());
            let done = round.await.unwrap_or(Err(Unavailable::NotLeader { leader: None }));
            for reader in readers.drain(..) {
                // It may have given up.
                let _ = reader.send(done);
            }
        }
    }

    async fn round(&self) -> Result<(), Unavailable> {
        let (leader, _) = self.leader()?;
        let turn = self.shared.log.sole().turn();
        let index = if leader == self.shared.member {
            self.linear_read_index().await?
        } else {
            self.shared.asker.read_index(leader).await?
        };
        if !self.shared.tickets.reach(index).await {
            return Err(Unavailable::Stopped);
        }
        // No reader waits for more than its own index: what is not applied yet is looked at again in the next round.
        if let Some(committed) = self.committed_as_sole_member().await
            && self.view.load().position.index >= committed
        {
            self.shared.log.sole().found(turn);
        }
        Ok(())
    }

    /// The last committed entry, if this member leads a cluster of which it is the only member, learners counted. Members that were
    /// removed have heard of no later one.
    async fn committed_as_sole_member(&self) -> Option<LogIndex> {
        let me = self.shared.member.0;
        let is_sole =
            move |members: &Membership| members.nodes().map(|(member, ())| *member).eq([me]);
        // Seen from here, which may be old, so that no member of a larger cluster asks its core with each round.
        if !is_sole(self.raft.server_metrics().borrow_watched().membership_config.membership()) {
            return None;
        }
        let now = move |state: &RaftState<Types>| {
            let (vote, members) = (state.vote_ref(), &state.membership_state);
            let leads = vote.committed && vote.leader_id.voted_for == me;
            let decided = members.effective().log_id() == members.committed().log_id();
            let committed = state
                .cluster_committed()
                .filter(|_| leads && decided && is_sole(members.effective().membership()));
            committed.map(|log_id| types::log_index(log_id.index))
        };
        self.raft.with_raft_state(now).await.ok().flatten()
    }

    /// As leader: up to where the log must be applied, confirmed by a majority after the call.
    pub(in crate::raft) async fn linear_read_index(&self) -> Result<LogIndex, Unavailable> {
        match self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
            Ok(linearizer) => Ok(types::log_index(linearizer.read_log_id().index())),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                Err(Unavailable::NotLeader { leader: forward.leader_id.map(MemberId) })
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                Err(Unavailable::NotLeader { leader: None })
            }
            Err(RaftError::Fatal(_)) => Err(Unavailable::Stopped),
        }
    }
}
