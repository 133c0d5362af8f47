//! Lines in the log about a member that finds no leader after its start, with what to do.

use std::time::Duration;

use tracing::warn;

use crate::model::{MemberId, codes};
use crate::replica::Replica;

/// A leader is found within a few elections, unless something is wrong.
const PATIENCE: Duration = Duration::from_secs(10);

/// An operator who reads the log finds this line near the end; it does not fill the log up.
const REPEAT: Duration = Duration::from_secs(60);

impl Replica {
    /// Says why this member is not ready, now and then until it has found a leader.
    pub async fn explain_search(self) {
        let mut leadership = self.inner.raft.leadership();
        let mut pause = PATIENCE;
        loop {
            let found = leadership.wait_for(|now| now.leader.is_some());
            if tokio::time::timeout(pause, found).await.is_ok() {
                return;
            }
            self.log_search();
            pause = REPEAT;
        }
    }

    fn log_search(&self) {
        let me = self.inner.member.id;
        let transport = self.inner.raft.transport();
        let voters = self.inner.raft.voting().voters;
        let is_connected = |id: MemberId| transport.traffic().of(id).connections() > 0;
        let away = voters.iter().copied().filter(|id| *id != me && !is_connected(*id));
        let away: Vec<_> =
            away.map(|id| format!("{id} at {}", transport.book().urls(id).join(" "))).collect();
        let view = self.view();
        let recorded = view.store.members().get(me).map(|record| record.peer_urls.join(","));
        let (said, recorded) = (transport.identity().peer_urls.join(","), recorded);
        warn!(
            target: "etcdserver",
            code = codes::NO_LEADER,
            "this member has not found a leader: {} of {} voters are there. Check that a majority runs and can be reached from \
             here (missing: {}). The cluster has recorded this member at {}, and it says that it is at {said}: if it moved, tell a \
             member that works, with `etcdctl member update {me} {said}` or PUT /v2/members/{me}",
            voters.len() - away.len(),
            voters.len(),
            if away.is_empty() { "none".to_owned() } else { away.join(", ") },
            recorded.as_deref().unwrap_or("no URL"),
        );
    }
}
