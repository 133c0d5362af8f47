//! Who leads, in our words.

use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use tokio::sync::watch;

use crate::model::{MemberId, Term};
use crate::raft::machine::Machine;
use crate::raft::types::Types;

/// What a member is to its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It orders the log.
    Leader,
    /// It follows.
    Follower,
    /// It stands for election.
    Candidate,
    /// It follows and has no vote.
    Learner,
}

/// Who leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// This member's role.
    pub role: Role,
    /// The term.
    pub term: Term,
    /// The leader of that term, if this member knows one.
    pub leader: Option<MemberId>,
}

type Metrics = openraft::metrics::RaftServerMetrics<Types>;

fn read(metrics: &Metrics) -> Leadership {
    let role = match metrics.state {
        ServerState::Leader => Role::Leader,
        ServerState::Candidate => Role::Candidate,
        ServerState::Learner => Role::Learner,
        ServerState::Follower | ServerState::Shutdown => Role::Follower,
    };
    // The vote here is the one on disk; the leader may be of a later term, whose vote is still on its way there.
    let vote = &metrics.vote;
    let leader = metrics.current_leader.filter(|leader| *leader == vote.leader_id.voted_for);
    let leader = leader.filter(|_| vote.committed);
    Leadership { role, term: Term(vote.leader_id.term), leader: leader.map(MemberId) }
}

/// openraft's view of who leads, for as long as it runs; `ended` is called when it does not any more.
pub(super) fn follow(
    raft: &openraft::Raft<Types, Machine>,
    ended: impl FnOnce() + Send + 'static,
) -> watch::Receiver<Leadership> {
    let mut metrics = raft.server_metrics();
    let (leadership_tx, leadership_rx) = watch::channel(read(&metrics.borrow_watched()));
    tokio::spawn(async move {
        while metrics.changed().await.is_ok() {
            let now = read(&metrics.borrow_watched());
            leadership_tx.send_if_modified(|before| {
                let changed = *before != now;
                *before = now;
                changed
            });
        }
        ended();
    });
    leadership_rx
}
