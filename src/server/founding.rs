//! Which cluster this member belongs to, and who founds it.
//!
//! Founders that find each other by discovery do so once: from then on the log says whose it is, and nobody is asked again.

use tracing::info;

use crate::discovery::{self, Own, Patience};
use crate::disk::{DataDir, RealFiles, Wal};
use crate::model::{ClusterId, Discovery, MemberId};
use crate::raft::Raft;
use crate::replica::identity;
use crate::server::{Options, ServerError};

/// The founding members and their peer URLs.
pub(super) type Founders = Vec<(MemberId, Vec<String>)>;

/// Who this member is.
pub(super) struct Identified {
    pub(super) member: MemberId,
    pub(super) cluster: ClusterId,
    /// Empty when they were found on an earlier start.
    pub(super) founders: Founders,
}

/// Who this member is, from its log if it was discovered before, else from its flags and whoever they lead to.
pub(super) async fn identify(
    options: &Options,
    data_dir: &DataDir,
) -> Result<Identified, ServerError> {
    let Some(discovery) = &options.discovery else {
        return listed(options, &options.initial_cluster);
    };
    let Some(owner) = Wal::owner(&RealFiles, &data_dir.wal())? else {
        return discovered(options, discovery).await;
    };
    info!(
        target: "etcdmain",
        "discovery token ignored since a cluster has already been initialized. Valid log found at {:?}",
        data_dir.wal(),
    );
    let (member, cluster) = (MemberId(owner.member), ClusterId(owner.cluster));
    Ok(Identified { member, cluster, founders: Founders::new() })
}

/// Founds the cluster, unless an earlier start has done so.
pub(super) async fn found(
    raft: &Raft,
    mut founders: Founders,
    options: &Options,
) -> Result<Founders, ServerError> {
    if raft.is_initialized().await.unwrap_or(true) {
        return Ok(founders);
    }
    // The last start ended after the log was made and before there was anything in it.
    if let (true, Some(discovery)) = (founders.is_empty(), &options.discovery) {
        founders = discovered(options, discovery).await?.founders;
    }
    let ids: Vec<_> = founders.iter().map(|(id, _)| *id).collect();
    raft.initialize(&ids).await?;
    Ok(founders)
}

async fn discovered(options: &Options, discovery: &Discovery) -> Result<Identified, ServerError> {
    let own = options.initial_cluster.iter().find(|(name, _)| *name == options.name);
    let (name, peer_urls) = own.ok_or_else(|| ServerError::NotAFounder(options.name.clone()))?;
    let own = Own { name, peer_urls, id_of: identity::founding_member };
    let found = discovery::found(discovery, &own, Patience::default()).await.map_err(Box::new)?;
    // The one place that knows that clusters have one member. It goes when they have more; then a founder that had registered
    // before must ask the others whether it has been a member.
    if found.members.len() > 1 {
        return Err(ServerError::ManyFounders(found.members.len()));
    }
    listed(options, &found.members)
}

fn listed(options: &Options, members: &[(String, Vec<String>)]) -> Result<Identified, ServerError> {
    let token = &options.initial_cluster_token;
    let mut own = None;
    let mut founders = Founders::new();
    for (name, peer_urls) in members {
        let id = identity::founding_member(peer_urls, token);
        if *name == options.name {
            own = Some(id);
        }
        founders.push((id, peer_urls.clone()));
    }
    let member = own.ok_or_else(|| ServerError::NotAFounder(options.name.clone()))?;
    let cluster = identity::cluster(founders.iter().map(|(id, _)| *id));
    for (id, urls) in &founders {
        info!(target: "etcdserver/membership", "added member {id} {urls:?} to cluster {cluster}");
    }
    Ok(Identified { member, cluster, founders })
}
