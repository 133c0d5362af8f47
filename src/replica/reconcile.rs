//! The leader makes the voters follow the facts: one step at a time, for as long as it leads.
//!
//! Who belongs to the cluster is a fact in the store; who votes is consensus' business. A new member follows without a vote
//! until it has caught up; one that left loses its vote. Source of the rules: ADR 9.

use std::collections::BTreeMap;
use std::time::Duration;

use tracing::{info, warn};

use crate::model::{MemberId, Unavailable, codes};
use crate::raft::{Progress, Role, Voting};
use crate::replica::Replica;

/// A learner that lacks no more entries than this gets a vote.
const CAUGHT_UP_ENTRIES: u64 = 5_000;

/// How often the leader looks how far learners are.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// Pause after a change of the voters that failed.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

impl Replica {
    /// Makes the voters follow the facts while this member leads, for as long as it runs.
    pub async fn reconcile(self) {
        let mut leadership = self.inner.raft.leadership();
        let mut members = self.inner.hub.members();
        let mut voting = self.inner.raft.voting_changes();
        loop {
            let leads = leadership.borrow_and_update().role == Role::Leader;
            members.borrow_and_update();
            let change = if leads { self.next_change() } else { None };
            if let Some(change) = change {
                if let Err(why) = self.make(change).await {
                    warn!(target: "etcdserver", code = codes::CHANGE_RETRIED, "{change:?} failed: {why}; trying again");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                continue;
            }
            let look_again = leads && !self.inner.raft.voting().learners.is_empty();
            tokio::select! {
                biased;
                changed = leadership.changed() => if changed.is_err() { return },
                changed = members.changed() => if changed.is_err() { return },
                changed = voting.changed() => if !changed { return },
                () = tokio::time::sleep(LOOK_PAUSE), if look_again => {}
            }
        }
    }

    async fn make(&self, change: VoterChange) -> Result<(), Unavailable> {
        let raft = &self.inner.raft;
        match change {
            VoterChange::Finish => raft.finish_change().await,
            VoterChange::Learn(id) => {
                raft.add_learner(id).await?;
                info!(target: "etcdserver", "member {id} follows, without a vote until it has caught up");
                Ok(())
            }
            VoterChange::Promote(id) => {
                raft.promote(id).await?;
                self.inner.stats.count_promotion();
                info!(target: "etcdserver", "member {id} has caught up and has a vote");
                Ok(())
            }
            VoterChange::Remove(id) => raft.remove(id).await,
            VoterChange::HandOver => {
                raft.hand_over().await;
                // It may have failed, for want of a member within reach.
                tokio::time::sleep(RETRY_PAUSE).await;
                Ok(())
            }
        }
    }

    fn next_change(&self) -> Option<VoterChange> {
        let view = self.view();
        let members = view.store.members();
        let raft = &self.inner.raft;
        let situation = Situation {
            me: self.inner.member.id,
            voting: raft.voting(),
            progress: raft.progress(),
            last: raft.last_log_index().0,
            patience: self.inner.member.election,
        };
        situation.next_change(&members.iter().map(|(id, _)| id).collect::<Vec<_>>(), &|id| {
            members.was_removed(id)
        })
    }
}

/// One step towards voters that are the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum VoterChange {
    /// A leader before left a change half-done.
    Finish,
    Learn(MemberId),
    Promote(MemberId),
    Remove(MemberId),
    /// The one who is to go leads.
    HandOver,
}

/// What the leader knows of consensus.
struct Situation {
    me: MemberId,
    voting: Voting,
    progress: BTreeMap<MemberId, Progress>,
    last: u64,
    patience: Duration,
}

impl Situation {
    fn next_change(
        &self,
        members: &[MemberId],
        was_removed: &impl Fn(MemberId) -> bool,
    ) -> Option<VoterChange> {
        if self.voting.joint {
            return Some(VoterChange::Finish);
        }
        if self.voting.changing {
            return None;
        }
        // Founders vote before they are recorded, so only who left for good is taken out.
        let all = self.voting.voters.iter().chain(&self.voting.learners);
        let mut gone = all.copied().filter(|id| was_removed(*id));
        if let Some(id) = gone.next() {
            let last_voter = self.voting.voters.len() == 1 && self.voting.voters.contains(&id);
            return match id == self.me {
                true if last_voter => None,
                true => Some(VoterChange::HandOver),
                false => Some(VoterChange::Remove(id)),
            };
        }
        let part =
            |id: &MemberId| self.voting.voters.contains(id) || self.voting.learners.contains(id);
        if let Some(id) = members.iter().find(|id| !part(id)) {
            return Some(VoterChange::Learn(*id));
        }
        let caught_up = |id: &MemberId| {
            self.progress.get(id).is_some_and(|progress| {
                progress.silent.is_some_and(|silent| silent < self.patience)
                    && progress.matched.0 + CAUGHT_UP_ENTRIES > self.last
                    && progress.matched.0 > 0
            })
        };
        let learners = self.voting.learners.iter().filter(|id| members.contains(id));
        learners.copied().find(|id| caught_up(id)).map(VoterChange::Promote)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LogIndex;

    fn situation(voters: &[u64], learners: &[u64]) -> Situation {
        let set = |ids: &[u64]| ids.iter().copied().map(MemberId).collect();
        Situation {
            me: MemberId(1),
            voting: Voting { voters: set(voters), learners: set(learners), ..Voting::default() },
            progress: BTreeMap::new(),
            last: 100_000,
            patience: Duration::from_secs(1),
        }
    }

    fn ids(ids: &[u64]) -> Vec<MemberId> {
        ids.iter().copied().map(MemberId).collect()
    }

    fn progress(matched: u64, silent_ms: u64) -> Progress {
        let silent = Some(Duration::from_millis(silent_ms));
        Progress { matched: LogIndex(matched), silent }
    }

    #[test]
    fn a_new_member_learns_first_and_votes_when_it_has_caught_up() {
        let none_left = |_| false;
        let mut now = situation(&[1, 2], &[]);
        assert_eq!(now.next_change(&ids(&[1, 2]), &none_left), None);
        assert_eq!(
            now.next_change(&ids(&[1, 2, 3]), &none_left),
            Some(VoterChange::Learn(MemberId(3)))
        );
        now = situation(&[1, 2], &[3]);
        assert_eq!(now.next_change(&ids(&[1, 2, 3]), &none_left), None, "it was never heard of");
        for (matched, silent, expected) in [
            (1, 10, None),
            (99_000, 5000, None),
            (99_000, 10, Some(VoterChange::Promote(MemberId(3)))),
        ] {
            now.progress.insert(MemberId(3), progress(matched, silent));
            assert_eq!(
                now.next_change(&ids(&[1, 2, 3]), &none_left),
                expected,
                "{matched} {silent}"
            );
        }
        assert_eq!(
            now.next_change(&ids(&[1, 2]), &none_left),
            None,
            "no other member knows it yet"
        );
    }

    #[test]
    fn who_left_loses_the_vote_and_a_leader_hands_over_first() {
        let left = |id: u64| move |other: MemberId| other == MemberId(id);
        let now = situation(&[1, 2, 3], &[]);
        assert_eq!(
            now.next_change(&ids(&[1, 2]), &left(3)),
            Some(VoterChange::Remove(MemberId(3)))
        );
        assert_eq!(now.next_change(&ids(&[2, 3]), &left(1)), Some(VoterChange::HandOver));
        let alone = situation(&[1], &[]);
        assert_eq!(alone.next_change(&ids(&[]), &left(1)), None, "no other member could take over");
        let founding = situation(&[1, 2, 3], &[]);
        assert_eq!(founding.next_change(&ids(&[]), &|_| false), None, "they are not recorded yet");
    }

    #[test]
    fn one_change_at_a_time_and_a_half_done_one_first() {
        let mut now = situation(&[1, 2, 3], &[]);
        now.voting.changing = true;
        assert_eq!(now.next_change(&ids(&[1, 2, 3, 4]), &|_| false), None);
        now.voting.joint = true;
        assert_eq!(now.next_change(&ids(&[1, 2, 3, 4]), &|_| false), Some(VoterChange::Finish));
    }
}
