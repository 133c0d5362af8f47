//! Lines in the log about who belongs to the cluster.

use tracing::info;

use crate::replica::Replica;
use crate::store::Members;

impl Replica {
    /// Logs who joins, moves and leaves, and the cluster's version, for as long as the member runs.
    pub async fn follow_members(self) {
        let mut members = self.inner.hub.members();
        let cluster = self.inner.member.cluster;
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
}

/// Tools wait for these lines, in etcd's words; it writes the second one behind the first, at every start.
fn log_version(before: Option<&str>, now: Option<&str>) {
    let short = |version: &str| version.trim_end_matches(".0").to_owned();
    let Some(now) = now.filter(|now| before != Some(now)) else { return };
    match before {
        None => info!(
            target: "etcdserver/membership",
            "set the initial cluster version to {}",
            short(now)
        ),
        Some(before) => info!(
            target: "etcdserver/membership",
            "updated the cluster version from {} to {}",
            short(before),
            short(now)
        ),
    }
    info!(target: "etcdserver/api", "enabled capabilities for version {}", short(now));
}
