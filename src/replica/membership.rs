//! Members join, move and leave at run time.
//!
//! Who belongs to the cluster is a fact in the store; who votes is consensus' business. A change is first recorded, then the
//! leader makes the voters follow (`reconcile`): a new member follows without a vote until it has caught up, so it cannot
//! cost the cluster its majority before it has even started; one that left loses its vote.
//!
//! Any member checks a change, on its own view. The command names the members that it was checked on and changes nothing of
//! others: of two changes that were checked at the same time at two members, one passes and the other is checked again.

use std::collections::BTreeSet;
use std::time::Duration;

use thiserror::Error;
use tracing::warn;

use crate::model::{MemberId, Unavailable, codes};
use crate::raft::Progress;
use crate::replica::{Replica, identity, request_timeout};
use crate::store::{Applied, Command, MemberRecord, Members, MembersRevision};

/// Time for an acknowledgement to reach the leader.
const ACKNOWLEDGED: Duration = Duration::from_millis(100);

/// Why the cluster stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MemberRefusal {
    /// The id that the URLs lead to is taken.
    #[error("membership: ID exists")]
    IdExists,
    /// A member has one of these URLs already.
    #[error("membership: peerURL exists")]
    UrlExists,
    /// There is no such member.
    #[error("No such member: {0}")]
    Unknown(MemberId),
    /// The member left for good; asked to leave again.
    #[error("Member permanently removed: {0}")]
    Removed(MemberId),
    /// The member left for good; asked to move.
    #[error("membership: ID removed")]
    Gone(MemberId),
    /// Afterwards the started members would be no majority.
    #[error("etcdserver: re-configuration failed due to not enough started members")]
    NotEnoughStarted,
    /// Too few members are within reach, or it is not known how many.
    #[error("etcdserver: unhealthy cluster")]
    Unhealthy,
    /// A new member is to take the place of one that is well.
    #[error("member {0} is alive: stop it first, or use peer URLs of your own")]
    Alive(MemberId),
    /// No answer from consensus.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Who has a vote, and who of them is heard of.
struct Reach {
    voters: BTreeSet<MemberId>,
    unreachable: BTreeSet<MemberId>,
}

impl Replica {
    /// Takes a member in.
    ///
    /// # Errors
    /// [`MemberRefusal::UrlExists`] and [`MemberRefusal::IdExists`] first, then what endangers the cluster if `strict`.
    pub async fn add_member(
        &self,
        peer_urls: Vec<String>,
        strict: bool,
    ) -> Result<(MemberId, MemberRecord), MemberRefusal> {
        let id = identity::added_member(&peer_urls, self.wall());
        loop {
            let checked = Some(self.check_addition(id, &peer_urls, strict).await?);
            let command = Command::AddMember { id, peer_urls: peer_urls.clone(), checked };
            match self.write(command).await?.applied {
                // Another change of members came after the checks; this member has applied it by now.
                Applied::Outdated => {}
                // Two asked for the same at the same time.
                Applied::Known => return Err(MemberRefusal::UrlExists),
                Applied::Recorded
                | Applied::Changed(_)
                | Applied::Refused(_)
                | Applied::Expired(_)
                | Applied::AuthChanged(_)
                | Applied::AuthRefused(_)
                | Applied::Mvcc(_) => break,
            }
        }
        let record = self.view().store.members().get(id).cloned();
        Ok((id, record.unwrap_or_default()))
    }

    /// May this member join? Returns the members that the checks were made on.
    async fn check_addition(
        &self,
        id: MemberId,
        peer_urls: &[String],
        strict: bool,
    ) -> Result<MembersRevision, MemberRefusal> {
        let view = self.view();
        let members = view.store.members();
        if members.has_url(peer_urls, None) {
            return Err(MemberRefusal::UrlExists);
        }
        if members.get(id).is_some() || members.was_removed(id) {
            return Err(MemberRefusal::IdExists);
        }
        let started = members.iter().filter(|(_, record)| !record.name.is_empty()).count();
        let count_then = members.iter().count() + 1;
        // The new one has no vote before it has started, so one member may always grow to two.
        if strict && count_then > 2 && started < count_then / 2 + 1 {
            return Err(MemberRefusal::NotEnoughStarted);
        }
        if strict && !self.reach(members).await?.unreachable.is_empty() {
            return Err(MemberRefusal::Unhealthy);
        }
        Ok(members.revision())
    }

    /// Notes where the peers of a member reach it from now on.
    ///
    /// # Errors
    /// When there is no such member, or another one has one of the URLs.
    pub async fn update_member(
        &self,
        id: MemberId,
        peer_urls: Vec<String>,
    ) -> Result<(), MemberRefusal> {
        {
            let view = self.view();
            let members = view.store.members();
            if members.was_removed(id) {
                return Err(MemberRefusal::Gone(id));
            }
            if members.get(id).is_none() {
                return Err(MemberRefusal::Unknown(id));
            }
            if members.has_url(&peer_urls, Some(id)) {
                return Err(MemberRefusal::UrlExists);
            }
        }
        let answer = self.write(Command::UpdateMember { id, peer_urls }).await?;
        if matches!(answer.applied, Applied::Known) {
            return Err(MemberRefusal::UrlExists);
        }
        Ok(())
    }

    /// Lets a member go for good. Returns once it has no vote any more.
    ///
    /// # Errors
    /// When there is no such member, or the others would be no majority afterwards and that is checked (`strict`).
    pub async fn remove_member(&self, id: MemberId, strict: bool) -> Result<(), MemberRefusal> {
        loop {
            let checked = Some(self.check_removal(id, strict).await?);
            match self.write(Command::RemoveMember { id, checked }).await?.applied {
                // Another change of members came after the checks; this member has applied it by now.
                Applied::Outdated => {}
                Applied::Known => return Err(MemberRefusal::Removed(id)),
                Applied::Recorded
                | Applied::Changed(_)
                | Applied::Refused(_)
                | Applied::Expired(_)
                | Applied::AuthChanged(_)
                | Applied::AuthRefused(_)
                | Applied::Mvcc(_) => break,
            }
        }
        self.until_left(id, request_timeout(self.inner.member.election)).await;
        Ok(())
    }

    /// May this member leave? Returns the members that the checks were made on.
    async fn check_removal(
        &self,
        id: MemberId,
        strict: bool,
    ) -> Result<MembersRevision, MemberRefusal> {
        let view = self.view();
        let members = view.store.members();
        if members.was_removed(id) {
            return Err(MemberRefusal::Removed(id));
        }
        if members.get(id).is_none() {
            return Err(MemberRefusal::Unknown(id));
        }
        let left: Vec<_> = members.iter().filter(|(other, _)| *other != id).collect();
        let started = left.iter().filter(|(_, record)| !record.name.is_empty()).count();
        // The last member cannot go, whatever is checked: there would be no cluster to record it.
        if left.is_empty() || (strict && started < left.len() / 2 + 1) {
            return Err(MemberRefusal::NotEnoughStarted);
        }
        if strict {
            let Reach { voters, unreachable } = self.reach(members).await?;
            let left = voters.iter().filter(|voter| **voter != id);
            let within_reach = left.clone().filter(|voter| !unreachable.contains(voter)).count();
            // A voter that is down may always go; of the others a majority must remain.
            let (is_down, majority) = (unreachable.contains(&id), left.count() / 2 + 1);
            if voters.contains(&id) && !is_down && within_reach < majority {
                return Err(MemberRefusal::Unhealthy);
            }
        }
        Ok(members.revision())
    }

    /// Lets a member that has lost its data join again at the same URLs, as a new one.
    ///
    /// # Errors
    /// [`MemberRefusal::Alive`] while the old one still answers; else as the two changes that it is made of.
    pub async fn replace_member(
        &self,
        lost: MemberId,
        peer_urls: Vec<String>,
    ) -> Result<(MemberId, MemberRecord), MemberRefusal> {
        let view = self.view();
        let members = view.store.members();
        if !members.was_removed(lost) {
            if !self.reach(members).await?.unreachable.contains(&lost) {
                return Err(MemberRefusal::Alive(lost));
            }
            self.remove_member(lost, false).await?;
        }
        self.add_member(peer_urls, false).await
    }

    /// The voters among `members`, and which of them do not answer the leader. A voter whose removal is recorded counts no
    /// more: the leader is about to take its vote away.
    async fn reach(&self, members: &Members) -> Result<Reach, MemberRefusal> {
        let progress = self.inner.raft.cluster_progress().await;
        let progress = progress.map_err(|_| MemberRefusal::Unhealthy)?;
        let patience = self.inner.member.election;
        let silent = |progress: &Progress| progress.silent.is_none_or(|silent| silent > patience);
        let mut voters = self.inner.raft.voting().voters;
        voters.retain(|voter| !members.was_removed(*voter));
        let unreachable =
            progress.iter().filter(|(id, progress)| voters.contains(id) && silent(progress));
        let unreachable = unreachable.map(|(id, _)| *id).collect();
        Ok(Reach { voters, unreachable })
    }

    /// Waits until a member takes no part in consensus any more. Of itself a member learns only that the change has begun:
    /// then no majority needs it any more.
    async fn until_left(&self, id: MemberId, limit: Duration) {
        let is_me = id == self.inner.member.id;
        let left = async {
            let mut voting = self.inner.raft.voting_changes();
            loop {
                let now = self.inner.raft.voting();
                let gone = if is_me { !now.heirs.contains(&id) } else { !now.has(id) };
                if gone && (is_me || !now.changing) {
                    return;
                }
                if !voting.changed().await {
                    return;
                }
            }
        };
        if tokio::time::timeout(limit, left).await.is_err() {
            warn!(target: "etcdserver", code = codes::VOTE_STAYS, "member {id} is removed, but still has a vote; the leader goes on trying");
        }
    }

    /// Waits until this member has a vote that counts. An operator who sees a member that joined say that it is ready may take it
    /// for one of the majority.
    pub async fn until_voting(&self) {
        let mut changes = self.inner.raft.voting_changes();
        loop {
            let now = self.inner.raft.voting();
            if now.voters.contains(&self.inner.member.id) && !now.changing && !now.joint {
                return;
            }
            if !changes.changed().await {
                return;
            }
        }
    }

    /// This member was removed: does what it still has to, for a moment at most. Its vote may be needed to take it away.
    pub async fn leave(&self) {
        self.inner.raft.renounce();
        self.inner.raft.hand_over().await;
        self.until_left(self.inner.member.id, 2 * self.inner.member.election).await;
        // The entry that says so is on its way to the disk, and then the leader must hear of it.
        tokio::time::sleep(ACKNOWLEDGED).await;
    }
}

impl Replica {
    /// Records that all other members are gone; the majority was lost, and this member went on alone.
    pub(super) async fn forget_others(&self) -> Result<(), Unavailable> {
        let me = self.inner.member.id;
        loop {
            let view = self.view();
            let other = view.store.members().iter().map(|(id, _)| id).find(|id| *id != me);
            let Some(id) = other else { return Ok(()) };
            self.write(Command::RemoveMember { id, checked: None }).await?;
        }
    }
}
