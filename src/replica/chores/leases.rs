//! The leader ends leases whose time is over: it proposes that they be revoked. And it records when those end that are not kept alive.

use std::pin::pin;
use std::time::Duration;

use futures_util::{StreamExt, stream};

use crate::model::Term;
use crate::mvcc::{Command, Request};
use crate::raft::Role;
use crate::replica::v3::seconds;
use crate::replica::{Replica, request_timeout};
use crate::store;

/// How often to look.
const LOOK_PAUSE: Duration = Duration::from_millis(500);

/// Leases that are ended in one look: 1000 a second.
const LEASES_A_LOOK: usize = 500;

/// So many are on their way through the log at a time: what clients write gets its turn between them.
const UNDER_WAY_MAX: usize = 16;

/// Ends of leases that one entry records.
const ENDS_AN_ENTRY: usize = 1000;

/// Entries that record ends, in one look.
const ENTRIES_A_LOOK: usize = 16;

/// Version of the protocol between members whose speakers understand entries that record ends.
const RECORDED_SINCE: u8 = 4;

impl Replica {
    /// Ends leases while this member leads; for as long as it runs.
    pub async fn end_leases(self) {
        let lessor = self.inner.hub.lessor();
        let mut leadership = self.inner.raft.leadership();
        loop {
            let now = *leadership.borrow_and_update();
            if now.role == Role::Leader {
                // One that is not sure to lead may be the last to know.
                if self.lead_leases(now.term) && self.inner.raft.leads_for_sure() == Some(now.term)
                {
                    let mut ended = pin!(async {
                        self.end_some(now.term).await;
                        self.record_ends(now.term).await;
                    });
                    tokio::select! {
                        biased;
                        () = &mut ended => {}
                        changed = leadership.changed() => if changed.is_err() { return },
                    }
                }
            } else {
                lessor.follow();
            }
            lessor.passed();
            tokio::select! {
                biased;
                changed = leadership.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(LOOK_PAUSE) => {}
            }
        }
    }

    /// This member leads `term`: from the moment on in which it has applied all that was put into the log before, it keeps account of
    /// leases. `false` before that.
    pub(in crate::replica) fn lead_leases(&self, term: Term) -> bool {
        let (lessor, view) = (self.inner.hub.lessor(), self.view());
        // Its first entry is behind those of earlier leaders.
        if view.position.term != term {
            return false;
        }
        let leases = view.store.mvcc().leases();
        let leases = leases.map(|(id, lease)| (id, seconds(lease.ttl_s()), lease.deadline()));
        let least = Duration::from_secs(self.lease_ttl_min_s().unsigned_abs());
        lessor.lead(term, self.now(), [least, self.inner.member.election], leases);
        true
    }

    async fn record_ends(&self, term: Term) {
        if !self.inner.raft.all_speak(RECORDED_SINCE) {
            return;
        }
        let lessor = self.inner.hub.lessor();
        for _ in 0..ENTRIES_A_LOOK {
            let ends = lessor.next_to_record(self.now(), ENDS_AN_ENTRY);
            if ends.is_empty() {
                return;
            }
            let checkpoint = Command::internal(Request::LeaseCheckpoint(ends.clone()));
            let proposed = self.inner.raft.propose_in(term, store::Command::Mvcc(checkpoint));
            // What is not known to be recorded is proposed again in a later look.
            let patience = request_timeout(self.inner.member.election);
            match tokio::time::timeout(patience, proposed).await {
                Ok(Ok(_)) => lessor.recorded(&ends),
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }

    async fn end_some(&self, term: Term) {
        let (lessor, view) = (self.inner.hub.lessor(), self.view());
        let mvcc = view.store.mvcc();
        let is_there = |lease| mvcc.lease(lease).is_some();
        lessor.tidy(is_there);
        let over = lessor.over(LEASES_A_LOOK, is_there);
        drop(view);
        let revoked = stream::iter(over).for_each_concurrent(UNDER_WAY_MAX, |lease| async move {
            let revoke = Command::internal(Request::LeaseRevoke(lease));
            let revoke = store::Command::Mvcc(revoke);
            // One that fails is tried again in the next look.
            if self.inner.raft.propose_in(term, revoke).await.is_ok() {
                self.inner.hub.lessor().expired();
            }
        });
        // Without a majority there is no answer for long.
        let _ = tokio::time::timeout(request_timeout(self.inner.member.election), revoked).await;
    }
}
