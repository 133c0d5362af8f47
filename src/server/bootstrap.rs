//! Which member is this, of which cluster? Decided once, when the data directory is new, and kept there.
//!
//! | data directory | flags | what happens |
//! |---|---|---|
//! | has a member | | it goes on; what `--initial-...` says is not looked at |
//! | empty | `--initial-cluster-state=new` | it founds the cluster with the others in `--initial-cluster` |
//! | empty | `existing`, added with `member add` | it joins as the member that was added |
//! | empty | `existing`, was a member before | it has lost its data: its old self is removed, and it joins as a new one |
//!
//! Etcd lets a member that lost its data come back under its old id. It may then vote twice in one term, and entries that
//! were acknowledged may be lost; so here it gets a new one.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::config::Config;
use crate::discovery::{self, DiscoveryError, Own, RetryPolicy};
use crate::disk::{DataDir, DataDirError, RealFiles};
use crate::model::{Discovery, MemberId, codes};
use crate::replica::identity::{self, MemberIdentity};
use crate::server::dial;
use crate::server::peer_http::{self, Cluster, Listed};
use crate::tls::{Tls, TlsError, Trust};

/// How long a member that lost its data tries to take the place of its old self, in elections: the others must first notice
/// that it is gone.
const REPLACE_ELECTIONS: u32 = 10;

/// Pause between such attempts.
const REPLACE_PAUSE: Duration = Duration::from_millis(200);

/// How long names of peers may take to have an address, as in etcd.
const RESOLVE_MAX: Duration = Duration::from_secs(30);

/// How long a member that joins looks for a member that knows the cluster.
const JOIN_MAX: Duration = Duration::from_secs(5);

/// Why a member cannot find its place.
#[derive(Debug, Error)]
pub enum BootstrapError {
    /// The list of founders leaves this member out.
    #[error(
        "couldn't find local name \"{0}\" in the initial cluster configuration: name this member in --initial-cluster, or \
         start it with a --name that is there"
    )]
    NotAFounder(String),
    /// The cluster knows this member, but the data directory does not.
    #[error(
        "member {0} has already been bootstrapped: the cluster is running with it, but its data directory {1} is empty. If \
         the data is elsewhere, name it with --data-dir. If it is lost, start with --initial-cluster-state=existing, and it \
         joins again"
    )]
    AlreadyBootstrapped(MemberId, String),
    /// No member of the list answers.
    #[error(
        "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs ({0}): check \
         --initial-cluster and that a majority of its members runs"
    )]
    NobodyAnswers(String),
    /// The list is not the cluster's.
    #[error(
        "error validating peerURLs: member count is unequal: --initial-cluster has {said}, the cluster has {known} \
         ({members}). Add this member with `etcdctl member add`, and start it with the ETCD_INITIAL_CLUSTER that it prints"
    )]
    UnequalCount {
        /// Members in the flag.
        said: usize,
        /// Members in the cluster.
        known: usize,
        /// Those of the cluster.
        members: String,
    },
    /// A member of the list is not the cluster's.
    #[error(
        "error validating peerURLs: unmatched member while checking PeerURLs: {name}={urls} of --initial-cluster is not in the \
         cluster, which has {members}: write the URLs as `etcdctl member list` shows them"
    )]
    Unmatched {
        /// Its name.
        name: String,
        /// Its URLs.
        urls: String,
        /// Those of the cluster.
        members: String,
    },
    /// The list says something else of this member than the member itself.
    #[error(
        "--initial-cluster has {name}={listed} but missing from --initial-advertise-peer-urls={advertised} ({why}): write the \
         same URLs in both"
    )]
    OtherUrls {
        /// Its name.
        name: String,
        /// Its URLs in the list.
        listed: String,
        /// Those in the other flag.
        advertised: String,
        /// What was found out.
        why: String,
    },
    /// Its old self could not be replaced.
    #[error(
        "this member was {0} and has lost its data, and the cluster does not let it join again: {1}. Remove it with `etcdctl \
         member remove {0}`, add it with `etcdctl member add`, and start it again"
    )]
    NotReplaced(MemberId, String),
    /// There is nothing to go on with.
    #[error(
        "--force-new-cluster goes on alone with the data of a member that lost its majority, but there is no member in {0}: \
         name the survivor's --data-dir, or leave the flag out"
    )]
    NothingToForce(String),
    /// The others are alive.
    #[error(
        "--force-new-cluster: member {0} still answers at {1}. The cluster would go on twice; stop the others for good first, \
         or leave the flag out"
    )]
    OthersAlive(MemberId, String),
    /// What is kept cannot be read.
    #[error("{path} cannot be read: {source}: restore it from a backup of this member's directory")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The other founders cannot be found.
    #[error("{0}")]
    Discovery(#[from] Box<DiscoveryError>),
    /// A certificate, a key or an authority.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
}

/// Keeps who this member is, or what has become of it.
pub(super) fn keep(identity: &MemberIdentity, data_dir: &DataDir) -> Result<(), DataDirError> {
    data_dir.write_member(&RealFiles, &identity.encode())
}

impl BootstrapError {
    /// Has discovery found a cluster that is complete without this member?
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Discovery(error) if matches!(**error, DiscoveryError::Full { .. }))
    }
}

/// Finds out who this member is. `tls` is what it shows and demands when it asks the others.
pub(super) async fn identify(
    config: &Config,
    data_dir: &DataDir,
    tls: &Arc<Tls>,
) -> Result<MemberIdentity, BootstrapError> {
    if let Some(bytes) = data_dir.read_member(&RealFiles)? {
        let path = || data_dir.path().join("member.json").display().to_string();
        let identity = MemberIdentity::decode(&bytes)
            .map_err(|source| BootstrapError::Damaged { path: path(), source })?;
        let (member, cluster) = (identity.member, identity.cluster);
        info!(target: "etcdserver", "restarting member {member} in cluster {cluster}; --initial-... flags are not looked at");
        if config.discovery.is_some() {
            info!(
                target: "etcdmain",
                "discovery token ignored since a cluster has already been initialized. Valid log found at {:?}",
                data_dir.path(),
            );
        }
        if config.force_new_cluster {
            refuse_if_others_live(&identity, tls).await?;
        }
        return Ok(identity);
    }
    if config.force_new_cluster {
        let dir = data_dir.path().display().to_string();
        return Err(BootstrapError::NothingToForce(dir));
    }
    check_own_urls(config).await?;
    let identity = if config.join { join(config, tls).await? } else { found(config, tls).await? };
    keep(&identity, data_dir)?;
    Ok(identity)
}

/// A founder: all ids follow from the list of founders and the token, which all of them share.
async fn found(config: &Config, tls: &Arc<Tls>) -> Result<MemberIdentity, BootstrapError> {
    let token = &config.initial_cluster_token;
    let list = match &config.discovery {
        None => config.initial_cluster.clone(),
        Some(discovery) => discovered(config, discovery).await?,
    };
    let mut own = None;
    let mut founders = Vec::new();
    for (name, peer_urls) in &list {
        let id = identity::founding_member(peer_urls, token);
        if *name == config.name {
            own = Some(id);
        }
        founders.push((id, peer_urls.clone()));
    }
    let member = own.ok_or_else(|| BootstrapError::NotAFounder(config.name.clone()))?;
    let cluster = identity::cluster(founders.iter().map(|(id, _)| *id));
    for (url, answer) in ask_others(config, &list, tls).await {
        match answer {
            Ok(there) if there.id == cluster => {
                let started = |listed: &Listed| listed.id == member.0 && !listed.name.is_empty();
                if there.members.iter().any(started) {
                    let dir = config.data_dir.display().to_string();
                    return Err(BootstrapError::AlreadyBootstrapped(member, dir));
                }
            }
            Ok(there) => warn!(
                target: "etcdserver",
                code = codes::CLUSTER_ID,
                "{url} belongs to cluster {}, but this member founds cluster {cluster}: cluster ID mismatch; check that \
                 --initial-cluster and --initial-cluster-token are the same everywhere",
                there.id
            ),
            // Usual: the others are only just starting, too.
            Err(_) => {}
        }
    }
    let peers = founders.clone();
    Ok(MemberIdentity { cluster, member, peers, founders, restarted: false })
}

/// The founders as they find each other. It may take as long as the last of them takes to come.
async fn discovered(
    config: &Config,
    discovery: &Discovery,
) -> Result<Vec<(String, Vec<String>)>, BootstrapError> {
    let own = config.initial_cluster.iter().find(|(name, _)| *name == config.name);
    let own = own.ok_or_else(|| BootstrapError::NotAFounder(config.name.clone()))?;
    let (name, peer_urls) = own;
    let own = Own { name, peer_urls, id_of: identity::founding_member };
    let tls = Tls::load(config.peer_tls.clone(), Trust::ConfiguredOrPublic, &[])?;
    let found = discovery::found(discovery, &own, RetryPolicy::default(), Arc::new(tls)).await;
    Ok(found.map_err(Box::new)?.members)
}

/// A member that was added to a running cluster, or was in it before.
async fn join(config: &Config, tls: &Arc<Tls>) -> Result<MemberIdentity, BootstrapError> {
    let there = find_cluster(config, tls).await?;
    let members = || {
        let show = |listed: &Listed| format!("{}={}", listed.name, listed.peer_urls.join(","));
        there.members.iter().map(show).collect::<Vec<_>>().join(" ")
    };
    if there.members.len() != config.initial_cluster.len() {
        let (said, known) = (config.initial_cluster.len(), there.members.len());
        return Err(BootstrapError::UnequalCount { said, known, members: members() });
    }
    let mut own = None;
    for (name, urls) in &config.initial_cluster {
        let Some(listed) = find_listed(&there.members, urls).await else {
            let (name, urls) = (name.clone(), urls.join(","));
            return Err(BootstrapError::Unmatched { name, urls, members: members() });
        };
        if *name == config.name {
            own = Some(listed);
        }
    }
    let own = own.ok_or_else(|| BootstrapError::NotAFounder(config.name.clone()))?;
    let mut member = MemberId(own.id);
    if !own.name.is_empty() {
        member = replace(config, &there, member, &own.peer_urls, tls).await?;
    }
    let others = there.members.iter().filter(|listed| listed.id != own.id);
    let mut peers: Vec<_> =
        others.map(|listed| (MemberId(listed.id), listed.peer_urls.clone())).collect();
    peers.push((member, own.peer_urls.clone()));
    let (cluster, founders) = (there.id, Vec::new());
    Ok(MemberIdentity { cluster, member, founders, peers, restarted: false })
}

/// The member that is reached at the same URLs, or at least at the same addresses.
async fn find_listed<'a>(members: &'a [Listed], urls: &[String]) -> Option<&'a Listed> {
    let sorted = |urls: &[String]| {
        let mut urls = urls.to_vec();
        urls.sort();
        urls
    };
    let same = |listed: &&Listed| sorted(&listed.peer_urls) == sorted(urls);
    if let Some(listed) = members.iter().find(same) {
        return Some(listed);
    }
    let places = dial::addresses(urls).await.ok()?;
    for listed in members {
        if dial::addresses(&listed.peer_urls).await.is_ok_and(|there| there == places) {
            return Some(listed);
        }
    }
    None
}

/// What the list of founders says of this member and what it says itself must come to the same addresses. A name server may
/// be just starting, too.
async fn check_own_urls(config: &Config) -> Result<(), BootstrapError> {
    let own = config.initial_cluster.iter().find(|(name, _)| *name == config.name);
    let Some((name, listed)) = own else { return Ok(()) };
    let advertised = &config.advertise_peer_urls;
    if listed.iter().all(|url| advertised.contains(url)) && listed.len() == advertised.len() {
        return Ok(());
    }
    let until = Instant::now() + RESOLVE_MAX;
    let why = loop {
        let resolved = (dial::addresses(listed).await, dial::addresses(advertised).await);
        match resolved {
            (Ok(listed), Ok(advertised)) if listed == advertised => return Ok(()),
            (Ok(_), Ok(_)) => break "they lead to different addresses".to_owned(),
            (Err(error), _) | (_, Err(error)) if Instant::now() > until => break error.to_string(),
            (Err(_), _) | (_, Err(_)) => tokio::time::sleep(REPLACE_PAUSE).await,
        }
    };
    let (name, listed, advertised) = (name.clone(), listed.join(","), advertised.join(","));
    Err(BootstrapError::OtherUrls { name, listed, advertised, why })
}

/// Takes the place of this member's old self, which has lost its data.
async fn replace(
    config: &Config,
    there: &Cluster,
    lost: MemberId,
    peer_urls: &[String],
    tls: &Arc<Tls>,
) -> Result<MemberId, BootstrapError> {
    warn!(
        target: "etcdserver",
        code = codes::JOINS_AGAIN,
        "this member was {lost}, and its data directory is empty: it joins again as a new member",
    );
    let until = Instant::now() + REPLACE_ELECTIONS * config.election;
    loop {
        let mut last = "no other member answers".to_owned();
        for listed in there.members.iter().filter(|listed| listed.id != lost.0) {
            for url in &listed.peer_urls {
                match peer_http::replace(url, lost, peer_urls, tls).await {
                    Ok(member) => {
                        info!(target: "etcdserver", "member {member} takes the place of {lost}");
                        return Ok(member);
                    }
                    Err(error) => last = error,
                }
            }
        }
        if Instant::now() > until {
            return Err(BootstrapError::NotReplaced(lost, last));
        }
        tokio::time::sleep(REPLACE_PAUSE).await;
    }
}

/// The cluster as the first who answers knows it.
async fn find_cluster(config: &Config, tls: &Arc<Tls>) -> Result<Cluster, BootstrapError> {
    let until = Instant::now() + JOIN_MAX;
    loop {
        let mut silent = Vec::new();
        for (url, answer) in ask_others(config, &config.initial_cluster, tls).await {
            match answer {
                Ok(there) if !there.members.is_empty() => return Ok(there),
                Ok(_) => silent.push(format!("{url}: it knows no members yet")),
                Err(error) => silent.push(format!("{url}: {error}")),
            }
        }
        if Instant::now() > until {
            return Err(BootstrapError::NobodyAnswers(silent.join("; ")));
        }
        tokio::time::sleep(REPLACE_PAUSE).await;
    }
}

/// Asks all others in a list at once.
async fn ask_others(
    config: &Config,
    list: &[(String, Vec<String>)],
    tls: &Arc<Tls>,
) -> Vec<(String, Result<Cluster, String>)> {
    let others = list.iter().filter(|(name, _)| *name != config.name);
    let questions = others.flat_map(|(_, urls)| urls).map(async |url| {
        let answer = peer_http::cluster(url, tls).await;
        (url.clone(), answer)
    });
    futures_util::future::join_all(questions).await
}

/// Going on alone while the others go on too would make two clusters of one.
async fn refuse_if_others_live(
    identity: &MemberIdentity,
    tls: &Arc<Tls>,
) -> Result<(), BootstrapError> {
    for (id, urls) in &identity.peers {
        if *id == identity.member {
            continue;
        }
        for url in urls {
            if peer_http::cluster(url, tls).await.is_ok_and(|there| there.id == identity.cluster) {
                return Err(BootstrapError::OthersAlive(*id, url.clone()));
            }
        }
    }
    Ok(())
}
