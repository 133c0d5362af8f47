//! Members join, move and leave at run time.

use thiserror::Error;

use crate::model::{MemberId, Unavailable};
use crate::replica::{Replica, identity};
use crate::store::{Command, MemberRecord};

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
    /// Somebody cannot be reached.
    #[error("etcdserver: unhealthy cluster")]
    Unhealthy,
    /// No answer from consensus.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Replica {
    /// Takes a member in. It is a learner, without a vote, until it has caught up; so it cannot cost the cluster its
    /// majority before it has even started.
    ///
    /// # Errors
    /// [`MemberRefusal::UrlExists`] and [`MemberRefusal::IdExists`] first, then what endangers the cluster if `strict`.
    pub async fn add_member(
        &self,
        peer_urls: Vec<String>,
        strict: bool,
    ) -> Result<(MemberId, MemberRecord), MemberRefusal> {
        let id = identity::added_member(&peer_urls, self.now());
        {
            let view = self.view();
            let members = view.store.members();
            let taken = members
                .iter()
                .any(|(_, record)| record.peer_urls.iter().any(|url| peer_urls.contains(url)));
            if taken {
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
        }
        self.inner.raft.add_learner(id).await?;
        self.write(Command::AddMember { id, peer_urls }).await?;
        let record = self.view().store.members().get(id).cloned();
        Ok((id, record.unwrap_or_default()))
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
            let taken = members.iter().any(|(other, record)| {
                other != id && record.peer_urls.iter().any(|url| peer_urls.contains(url))
            });
            if taken {
                return Err(MemberRefusal::UrlExists);
            }
        }
        self.write(Command::UpdateMember { id, peer_urls }).await?;
        Ok(())
    }

    /// Lets a member go for good.
    ///
    /// # Errors
    /// When there is no such member, or the started ones would be no majority afterwards and that is checked (`strict`).
    pub async fn remove_member(&self, id: MemberId, strict: bool) -> Result<(), MemberRefusal> {
        {
            let view = self.view();
            let members = view.store.members();
            if members.was_removed(id) {
                return Err(MemberRefusal::Removed(id));
            }
            if members.get(id).is_none() {
                return Err(MemberRefusal::Unknown(id));
            }
            let left = members.iter().filter(|(other, _)| *other != id);
            let (mut count, mut started) = (0, 0);
            for (_, record) in left {
                count += 1;
                started += usize::from(!record.name.is_empty());
            }
            // The last member cannot go, whatever is checked: there would be no cluster to record it.
            if count == 0 || (strict && started < count / 2 + 1) {
                return Err(MemberRefusal::NotEnoughStarted);
            }
        }
        self.inner.raft.remove(id).await?;
        self.write(Command::RemoveMember { id }).await?;
        Ok(())
    }
}
