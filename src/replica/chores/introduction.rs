//! A member that starts tells the cluster who it is.

use tracing::warn;

use crate::model::{MemberId, Unavailable, codes};
use crate::replica::Replica;
use crate::replica::chores::RETRY_PAUSE;
use crate::store::Command;

/// What a member tells the cluster when it starts.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The members that the cluster was founded with, and where their peers reach them.
    pub founders: Vec<(MemberId, Vec<String>)>,
    /// Where clients reach this member.
    pub client_urls: Vec<String>,
    /// The version this build speaks to its cluster, `MAJOR.MINOR.0`.
    pub cluster_version: String,
    /// The others are lost for good, and this member goes on without them.
    pub alone: bool,
}

impl Replica {
    /// Makes the cluster know its founders, this member's name and URLs, and its version. Returns once all is applied here.
    ///
    /// # Errors
    /// [`Unavailable::Stopped`]; everything else is tried again.
    pub async fn introduce(&self, facts: &Facts) -> Result<(), Unavailable> {
        if facts.alone {
            self.forget_others().await?;
        }
        while let Some(command) = self.next_introduction(facts) {
            match self.write(command).await {
                Ok(_) => {}
                Err(Unavailable::Stopped) => return Err(Unavailable::Stopped),
                Err(why) => {
                    warn!(target: "etcdserver", code = codes::PUBLISH, "publish error: {why}; trying again");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
        Ok(())
    }

    /// The first fact that the cluster does not know yet. The order decides the indexes of a new cluster, which are etcd's.
    fn next_introduction(&self, facts: &Facts) -> Option<Command> {
        let view = self.view();
        let (members, member) = (view.store.members(), &self.inner.member);
        let unknown = |(id, _): &&(MemberId, Vec<String>)| {
            members.get(*id).is_none() && !members.was_removed(*id)
        };
        if let Some((id, peer_urls)) = facts.founders.iter().find(unknown) {
            let peer_urls = peer_urls.clone();
            return Some(Command::AddMember { id: *id, peer_urls, checked: None });
        }
        let published = members.get(member.id).is_some_and(|record| {
            record.name == member.name && record.client_urls == facts.client_urls
        });
        if !published {
            return Some(Command::PublishMember {
                id: member.id,
                name: member.name.clone(),
                client_urls: facts.client_urls.clone(),
            });
        }
        if members.version() != Some(&facts.cluster_version) {
            return Some(Command::SetClusterVersion { version: facts.cluster_version.clone() });
        }
        None
    }
}
