//! Who has a vote, how far the followers are, and who leads next.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::WatchReceiver;
use openraft::error::{ClientWriteError, RaftError};

use tracing::info;

use crate::model::{Fate, LogIndex, MemberId, TimeOut, Unavailable};
use crate::raft::adapter::types::{self, Types};
use crate::raft::{Raft, Role};

/// Who takes part in consensus, as of the last entry in this member's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Voting {
    /// Those who vote, of both sides while the set is changing.
    pub voters: BTreeSet<MemberId>,
    /// Those who follow without a vote.
    pub learners: BTreeSet<MemberId>,
    /// A change is under way: it is in the log, but not committed yet.
    pub changing: bool,
    /// A change is half-way: old and new voters both count.
    pub joint: bool,
    /// Those who vote once the change is through.
    pub heirs: BTreeSet<MemberId>,
}

impl Voting {
    /// Does it take part, with or without a vote?
    pub fn has(&self, member: MemberId) -> bool {
        self.voters.contains(&member) || self.learners.contains(&member)
    }
}

/// How far a follower is, as its leader knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The last entry that it is known to have.
    pub matched: LogIndex,
    /// How long ago the heartbeat left that it answered last; `None` if it never did.
    pub silent: Option<Duration>,
}

/// Tells of changes of the voters.
pub struct VotingChanges(
    openraft::type_config::alias::WatchReceiverOf<
        Types,
        openraft::metrics::RaftServerMetrics<Types>,
    >,
);

impl VotingChanges {
    /// Waits until something may have changed; `false` when consensus has ended.
    pub async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

impl Raft {
    /// Who takes part in consensus.
    pub fn voting(&self) -> Voting {
        // The channel that `voting_changes` listens to: of two, one might tell of a change before the other has it.
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let committed = metrics.committed_membership_config.log_id();
        Voting {
            voters: membership.voter_ids().map(MemberId).collect(),
            learners: membership.learner_ids().map(MemberId).collect(),
            changing: metrics.membership_config.log_id() != committed,
            joint: membership.get_joint_config().len() > 1,
            heirs: membership
                .get_joint_config()
                .last()
                .map(|voters| voters.iter().copied().map(MemberId).collect())
                .unwrap_or_default(),
        }
    }

    /// Is it known that all other members, with and without a vote, speak at least this version of the protocol between members?
    pub fn all_speak(&self, since: u8) -> bool {
        let Voting { voters, learners, .. } = self.voting();
        let mut others = voters.union(&learners).filter(|id| **id != self.shared.member);
        others.all(|id| self.shared.transport.traffic().of(*id).version() >= since)
    }

    /// Tells when [`Raft::voting`] may have changed.
    pub fn voting_changes(&self) -> VotingChanges {
        VotingChanges(self.raft.server_metrics())
    }

    /// As [`Raft::progress`], asked of the leader.
    ///
    /// # Errors
    /// [`Unavailable::NotLeader`] when there is no leader, or it does not answer in time.
    pub async fn cluster_progress(&self) -> Result<BTreeMap<MemberId, Progress>, Unavailable> {
        let none = Unavailable::NotLeader { leader: None };
        let (leader, _) = self.leader()?;
        if leader == self.shared.member {
            return Ok(self.progress());
        }
        let asked = self.shared.asker.progress(leader);
        tokio::time::timeout(self.shared.election, asked).await.unwrap_or(Err(none))
    }

    /// How far each other member is; nothing unless this member leads.
    pub fn progress(&self) -> BTreeMap<MemberId, Progress> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let mut progress = BTreeMap::<MemberId, Progress>::new();
        for (id, matched) in metrics.replication.iter().flatten() {
            let matched = matched.as_ref().map(|log_id| types::log_index(log_id.index));
            progress.entry(MemberId(*id)).or_default().matched = matched.unwrap_or_default();
        }
        for (id, sent) in metrics.heartbeat.iter().flatten() {
            let silent = sent.map(|sent| openraft::Instant::elapsed(&*sent));
            progress.entry(MemberId(*id)).or_default().silent = silent;
        }
        progress.remove(&self.shared.member);
        progress
    }

    /// The last entry in this member's log.
    pub fn last_log_index(&self) -> LogIndex {
        let last = self.raft.metrics().borrow_watched().last_log_index;
        last.map(types::log_index).unwrap_or_default()
    }

    /// Lets a member follow without a vote. Returns once that is committed.
    ///
    /// # Errors
    /// [`Unavailable::NotLeader`], or [`Unavailable::TimedOut`] while another change is under way.
    pub async fn add_learner(&self, member: MemberId) -> Result<(), Unavailable> {
        let change = ChangeMembers::AddNodes(BTreeMap::from([(member.0, ())]));
        self.change(change).await
    }

    /// Gives a learner a vote. Returns once that is committed.
    ///
    /// # Errors
    /// As [`Raft::add_learner`].
    pub async fn promote(&self, member: MemberId) -> Result<(), Unavailable> {
        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([member.0]))).await
    }

    /// Takes a member out, whatever it is. Returns once that is committed.
    ///
    /// # Errors
    /// As [`Raft::add_learner`].
    pub async fn remove(&self, member: MemberId) -> Result<(), Unavailable> {
        let gone = BTreeSet::from([member.0]);
        let change = if self.voting().voters.contains(&member) {
            ChangeMembers::RemoveVoters(gone)
        } else {
            ChangeMembers::RemoveNodes(gone)
        };
        self.change(change).await
    }

    /// Completes a change that a leader before has left half-way.
    ///
    /// # Errors
    /// As [`Raft::add_learner`].
    pub async fn finish_change(&self) -> Result<(), Unavailable> {
        self.change(ChangeMembers::AddVoterIds(BTreeSet::new())).await
    }

    async fn change(&self, change: ChangeMembers<u64, ()>) -> Result<(), Unavailable> {
        match self.raft.change_membership(change, false).await {
            Ok(_) => Ok(()),
            Err(error) => Err(refused(error)),
        }
    }

    /// Stands for election no more: this member was removed.
    pub fn renounce(&self) {
        self.raft.runtime_config().elect(false);
    }

    /// Hands the lead to the voter that is furthest, and waits until another member leads, for about an election at most.
    /// Nothing happens unless this member leads and another voter is within reach.
    pub async fn hand_over(&self) {
        let mut leadership = self.leadership();
        let me = self.shared.member;
        if leadership.borrow().role != Role::Leader {
            return;
        }
        let voters = self.voting().voters;
        let Some(heir) = successor(&self.progress(), &voters, self.shared.election) else { return };
        info!(target: "raft", "{me} hands the lead over to {heir}");
        if self.raft.trigger().transfer_leader(heir.0).await.is_err() {
            return;
        }
        let other = leadership.wait_for(|now| now.leader.is_some_and(|leader| leader != me));
        // Should it fail, the others elect a leader as if this member had crashed.
        let _ = tokio::time::timeout(self.shared.election, other).await;
    }

    /// Lets a voter lead instead of this member; `false` if it does not within `patience`.
    pub async fn hand_over_to(&self, heir: MemberId, patience: Duration) -> bool {
        let mut leadership = self.leadership();
        info!(target: "raft", "{} hands the lead over to {heir}, as it was asked to", self.shared.member);
        if self.raft.trigger().transfer_leader(heir.0).await.is_err() {
            return false;
        }
        let leads = leadership.wait_for(|now| now.leader == Some(heir));
        matches!(tokio::time::timeout(patience, leads).await, Ok(Ok(_)))
    }
}

/// The voter to which a leader hands over: of those who answered within `election` the one that has most of the log, and of equals the
/// one that answered last. A member that has just ended still counts as within reach, and has as much of an idle log as the others.
fn successor(
    progress: &BTreeMap<MemberId, Progress>,
    voters: &BTreeSet<MemberId>,
    election: Duration,
) -> Option<MemberId> {
    let near = progress.iter().filter_map(|(id, progress)| {
        let silent = progress.silent.filter(|silent| *silent < election)?;
        voters.contains(id).then_some((progress.matched, Reverse(silent), *id))
    });
    near.max().map(|(_, _, id)| id)
}

fn refused(error: RaftError<Types, ClientWriteError<Types>>) -> Unavailable {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
            Unavailable::NotLeader { leader: forward.leader_id.map(MemberId) }
        }
        RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => {
            Unavailable::TimedOut { why: TimeOut::LeaderFailed, fate: Fate::Unknown }
        }
        // Another change of membership is under way.
        RaftError::APIError(
            ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_),
        ) => Unavailable::TimedOut { why: TimeOut::Unclear, fate: Fate::NotWritten },
        RaftError::Fatal(_) => Unavailable::Stopped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lead_goes_to_the_voter_that_has_most_and_answered_last() {
        let election = Duration::from_secs(1);
        let heard = |matched, millis: u64| Progress {
            matched: LogIndex(matched),
            silent: Some(Duration::from_millis(millis)),
        };
        let silent = Progress { matched: LogIndex(9), silent: None };
        let voters = BTreeSet::from([1, 2, 3].map(MemberId));
        let chosen = |progress: &[(u64, Progress)]| {
            let progress = progress.iter().map(|(id, progress)| (MemberId(*id), *progress));
            successor(&progress.collect(), &voters, election).map(|id| id.0)
        };
        // 3 may have just ended: it is as far as 2, but was heard of longer ago.
        assert_eq!(chosen(&[(2, heard(7, 90)), (3, heard(7, 300))]), Some(2));
        assert_eq!(chosen(&[(2, heard(7, 300)), (3, heard(7, 90))]), Some(3));
        assert_eq!(chosen(&[(2, heard(6, 0)), (3, heard(7, 300))]), Some(3));
        // Neither who is out of reach nor who has no vote.
        assert_eq!(chosen(&[(2, heard(7, 1000)), (3, silent), (4, heard(9, 0))]), None);
        assert_eq!(chosen(&[(2, heard(1, 999)), (3, silent), (4, heard(9, 0))]), Some(2));
    }
}
