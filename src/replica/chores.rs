//! What a member does on its own: the leader lets keys expire and records the facts of the cluster, every member says who
//! it is.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use crate::model::{MemberId, Unavailable};
use crate::raft::{Leadership, Role};
use crate::replica::Replica;
use crate::store::{Command, Members};

/// Pause after a chore that failed; it is tried again for as long as the member runs.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

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
    /// Logs changes of leadership, for as long as the member runs.
    pub async fn follow_leader(self) {
        let mut leadership = self.inner.raft.leadership();
        loop {
            let now = *leadership.borrow_and_update();
            if let Some(before) = self.inner.stats.saw_leader(now.leader, self.now()) {
                self.log_leader(before, now);
            }
            if leadership.changed().await.is_err() {
                return;
            }
        }
    }

    fn log_leader(&self, before: Option<MemberId>, now: Leadership) {
        let (member, term) = (self.inner.options.member, now.term);
        if now.role == Role::Leader {
            info!(target: "raft", "{member} became leader at term {term}");
        }
        match (before, now.leader) {
            (None, Some(leader)) => {
                info!(target: "raft", "raft.node: {member} elected leader {leader} at term {term}");
            }
            (Some(lost), None) => {
                warn!(target: "raft", "raft.node: {member} lost leader {lost} at term {term}");
            }
            (Some(lost), Some(leader)) => info!(
                target: "raft",
                "raft.node: {member} changed leader from {lost} to {leader} at term {term}"
            ),
            (None, None) => {}
        }
    }

    /// Logs who joins, moves and leaves, and the cluster's version, for as long as the member runs.
    pub async fn follow_members(self) {
        let mut members = self.inner.hub.members();
        let cluster = self.inner.options.cluster;
        let mut known = Members::default();
        loop {
            let now = members.borrow_and_update().clone();
            for (id, record) in now.iter() {
                let urls = &record.peer_urls;
                match known.get(id) {
                    None => {
                        info!(target: "etcdserver/membership", "added member {id} {urls:?} to cluster {cluster}");
                    }
                    Some(before) if before.peer_urls != *urls => {
                        info!(target: "etcdserver/membership", "updated member {id} {urls:?} in cluster {cluster}");
                    }
                    Some(_) => {}
                }
            }
            for (id, _) in known.iter().filter(|(id, _)| now.get(*id).is_none()) {
                info!(target: "etcdserver/membership", "removed member {id} from cluster {cluster}");
            }
            log_version(known.version(), now.version());
            known = now;
            if members.changed().await.is_err() {
                return;
            }
        }
    }

    /// Proposes a tick whenever a key is due, while this member leads; for as long as it runs.
    pub async fn tick(self) {
        let mut deadlines = self.inner.hub.next_deadline();
        let mut leadership = self.inner.raft.leadership();
        loop {
            let leads = leadership.borrow_and_update().role == Role::Leader;
            let deadline = *deadlines.borrow_and_update();
            let wait = match deadline {
                Some(at) if leads => at.since(self.now()),
                _ => Duration::MAX,
            };
            if wait.is_zero() {
                // Some other error than a lost leadership ends the member elsewhere.
                if self.inner.raft.propose(Command::Tick).await.is_err() {
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                continue;
            }
            tokio::select! {
                biased;
                () = tokio::time::sleep(wait.min(Duration::from_secs(3600))) => {}
                changed = deadlines.changed() => if changed.is_err() { return },
                changed = leadership.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Says so when this member leads and heartbeats cannot leave in time, for want of processor most likely. For as long as
    /// it runs.
    pub async fn watch_pulse(self, heartbeat: Duration) {
        let mut leadership = self.inner.raft.leadership();
        loop {
            // Followers have no pulse.
            if leadership.wait_for(|now| now.role == Role::Leader).await.is_err() {
                return;
            }
            let begun = Instant::now();
            tokio::time::sleep(heartbeat).await;
            let exceeded = begun.elapsed().saturating_sub(2 * heartbeat);
            if !exceeded.is_zero() && leadership.borrow().role == Role::Leader {
                self.inner.stats.count_late_heartbeat();
                warn!(
                    target: "etcdserver",
                    "failed to send out heartbeat on time (exceeded the {}ms timeout for {:?})",
                    heartbeat.as_millis(),
                    exceeded
                );
                warn!(target: "etcdserver", "server is likely overloaded");
            }
        }
    }

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
                    warn!(target: "etcdserver", "publish error: {why}; trying again");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
        Ok(())
    }

    /// The first fact that the cluster does not know yet. The order decides the indexes of a new cluster, which are etcd's.
    fn next_introduction(&self, facts: &Facts) -> Option<Command> {
        let view = self.view();
        let (members, options) = (view.store.members(), &self.inner.options);
        let unknown = |(id, _): &&(MemberId, Vec<String>)| {
            members.get(*id).is_none() && !members.was_removed(*id)
        };
        if let Some((id, peer_urls)) = facts.founders.iter().find(unknown) {
            return Some(Command::AddMember { id: *id, peer_urls: peer_urls.clone() });
        }
        let published = members.get(options.member).is_some_and(|record| {
            record.name == options.name && record.client_urls == facts.client_urls
        });
        if !published {
            return Some(Command::PublishMember {
                id: options.member,
                name: options.name.clone(),
                client_urls: facts.client_urls.clone(),
            });
        }
        if members.version() != Some(&facts.cluster_version) {
            return Some(Command::SetClusterVersion { version: facts.cluster_version.clone() });
        }
        None
    }
}

/// Tools wait for these lines.
fn log_version(before: Option<&str>, now: Option<&str>) {
    let short = |version: &str| version.trim_end_matches(".0").to_owned();
    match (before, now) {
        (None, Some(now)) => {
            info!(target: "etcdserver", "set the initial cluster version to {}", short(now));
        }
        (Some(before), Some(now)) if before != now => info!(
            target: "etcdserver",
            "updated the cluster version from {} to {}",
            short(before),
            short(now)
        ),
        (_, None) | (Some(_), Some(_)) => {}
    }
}
