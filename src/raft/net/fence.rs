//! Fences: what a follower asked of this member on connections that are broken by now must not happen any more.
//!
//! Owns: which connections with questions are being served, and which of them a follower has given up. Never knows: what is
//! asked on them.
//! Holds: once [`Fences::fence_off`] has returned, nothing more is taken from an earlier connection of that follower, whatever
//! still stands in its buffers; also not from one whose task has yet to begin. See `requests/tickets.rs` for what follows from it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio_util::sync::{CancellationToken, DropGuard};

use crate::base::lock;
use crate::model::MemberId;

/// The connections on which followers ask.
#[derive(Default)]
pub(in crate::raft) struct Fences {
    followers: Mutex<BTreeMap<MemberId, Follower>>,
}

/// The connections of one follower. Their numbers are those of [`crate::transport::Link::accepted`].
#[derive(Default)]
struct Follower {
    /// The first one that is not given up.
    first: u64,
    served: BTreeMap<u64, Tokens>,
}

struct Tokens {
    /// Ends the service.
    cancel: CancellationToken,
    /// Is cancelled when the service has ended, and with it whatever it was about to do.
    ended: CancellationToken,
}

/// A connection that is being served.
pub(in crate::raft) struct Served {
    fences: Arc<Fences>,
    follower: MemberId,
    number: u64,
    cancel: CancellationToken,
    _ended: DropGuard,
}

impl Fences {
    /// Begins to serve a connection; `None` when its follower has given it up already.
    pub(in crate::raft) fn enter(
        self: &Arc<Self>,
        follower: MemberId,
        number: u64,
    ) -> Option<Served> {
        let (cancel, ended) = (CancellationToken::new(), CancellationToken::new());
        {
            let mut followers = lock(&self.followers);
            let known = followers.entry(follower).or_default();
            if number < known.first {
                return None;
            }
            let tokens = Tokens { cancel: cancel.clone(), ended: ended.clone() };
            known.served.insert(number, tokens);
        }
        let (fences, _ended) = (Arc::clone(self), ended.drop_guard());
        Some(Served { fences, follower, number, cancel, _ended })
    }

    /// Ends the service of all connections of a follower before `number`, and returns when it has ended.
    pub(in crate::raft) async fn fence_off(&self, follower: MemberId, number: u64) {
        let ending: Vec<_> = {
            let mut followers = lock(&self.followers);
            let known = followers.entry(follower).or_default();
            known.first = known.first.max(number);
            let earlier = known.served.range(..number);
            earlier.map(|(_, tokens)| (tokens.cancel.clone(), tokens.ended.clone())).collect()
        };
        for (cancel, _) in &ending {
            cancel.cancel();
        }
        for (_, ended) in ending {
            ended.cancelled().await;
        }
    }
}

impl Served {
    /// Does `work` until it is done or fenced off; then `None`. When the fence stands, `work` is dropped.
    pub(in crate::raft) async fn run<T>(self, work: impl Future<Output = T>) -> Option<T> {
        let done = self.cancel.run_until_cancelled(work).await;
        // By now `work` is dropped; only then may a fence stand.
        drop(self);
        done
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let mut followers = lock(&self.fences.followers);
        if let Some(known) = followers.get_mut(&self.follower) {
            known.served.remove(&self.number);
            // Only members set up fences, so what stays behind is bounded by the cluster's size.
            if known.served.is_empty() && known.first == 0 {
                followers.remove(&self.follower);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use super::*;

    const ONE: MemberId = MemberId(1);

    /// Says when it is dropped, and takes its time over it.
    struct Slow(Arc<AtomicBool>);

    impl Drop for Slow {
        fn drop(&mut self) {
            std::thread::sleep(Duration::from_millis(20));
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_fence_stands_when_the_work_before_it_is_gone() {
        let fences = Arc::new(Fences::default());
        let (first, second) = (fences.enter(ONE, 3).unwrap(), fences.enter(ONE, 5).unwrap());
        let other = fences.enter(MemberId(2), 4).unwrap();
        let gone = Arc::new(AtomicBool::new(false));
        let work = Slow(Arc::clone(&gone));
        let serving = tokio::spawn(first.run(async move {
            let _work = work;
            std::future::pending::<()>().await;
        }));
        let (after, elsewhere) = (tokio::spawn(second.run(async { 7 })), other.run(async { 8 }));
        fences.fence_off(ONE, 5).await;
        assert!(gone.load(Ordering::SeqCst), "the fence stands, and the work goes on");
        assert_eq!(serving.await.unwrap(), None);
        assert_eq!(after.await.unwrap(), Some(7), "its own connection is not fenced off");
        assert_eq!(elsewhere.await, Some(8), "nor that of another follower");
    }

    /// A task that let a connection in may be late: the follower has given it up before anything was read from it.
    #[tokio::test]
    async fn a_connection_that_was_given_up_before_its_service_began_is_never_served() {
        let fences = Arc::new(Fences::default());
        fences.fence_off(ONE, 5).await;
        assert!(fences.enter(ONE, 4).is_none());
        assert!(fences.enter(ONE, 5).is_some());
        fences.fence_off(ONE, 3).await;
        assert!(fences.enter(ONE, 4).is_none(), "a fence never comes down");
        assert!(fences.enter(MemberId(2), 4).is_some());
    }

    #[tokio::test]
    async fn nothing_is_kept_of_connections_that_ended_without_a_fence() {
        let fences = Arc::new(Fences::default());
        drop(fences.enter(ONE, 1));
        assert_eq!(fences.enter(ONE, 2).unwrap().run(async { 1 }).await, Some(1));
        assert!(lock(&fences.followers).is_empty());
    }
}
