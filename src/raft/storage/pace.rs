//! When the next checkpoint is due, and how much of the log stays behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use tokio::sync::{Notify, watch};
use tracing::info;

use crate::disk::{BatchTimes, WalError, WalObserver};
use crate::model::{LogIndex, Unavailable};
use crate::raft::Raft;
use crate::raft::adapter::types;

/// A member that has nothing to do for so long writes a checkpoint, so that its restart is quick.
const IDLE: Duration = Duration::from_secs(60);

/// Below this a checkpoint is not worth its writes.
const IDLE_WAL_BYTES_MIN: u64 = 4 << 20;

/// From the end of a checkpoint to the beginning of the next. Whoever copies the directory of a running member needs a moment in which
/// the file of checkpoints stays as it is (`raft::saved`), and one that only has a second's writes in it is not worth its sync.
const PAUSE: Duration = Duration::from_millis(500);

/// While a checkpoint is on its way to a follower the next one waits until so many times as much was written: with the next
/// one the log is purged, and a follower that then finds it purged beyond what it just installed needs another snapshot. Under
/// load that could go on for ever. A follower that takes longer than this must not fill up the disk, though.
const SENDING_FACTOR: u64 = 8;

/// Entries kept behind a checkpoint, so that a follower that was away for a moment needs no snapshot: at most so many ...
const ENTRIES_KEPT_MAX: u64 = 20_000;
/// ... and at most so many bytes of them: a restart reads what is kept ...
const BYTES_KEPT_MAX: u64 = 64 << 20;
/// ... but a few however large they are. With values of 10 MiB that makes 160 MiB.
const ENTRIES_KEPT_MIN: u64 = 16;

/// How long the log waits to be cut while a checkpoint is on its way to a follower.
const CUT_RETRY: Duration = Duration::from_secs(1);

/// How much was written to the log since the last checkpoint, and how the log does.
pub(in crate::raft) struct Pace {
    wal_bytes: AtomicU64,
    wal_bytes_max: u64,
    due: Notify,
    /// A checkpoint is there, and the log can be cut behind it.
    written: Notify,
    /// Why the log has failed.
    failure: watch::Sender<Option<String>>,
    times: Arc<BatchTimes>,
}

/// How the log's disk does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogHealth {
    /// A write is under way for so long, or for no time when there is none.
    Works(Duration),
    /// The log has failed for good; why.
    Failed(String),
}

impl Pace {
    pub(in crate::raft) fn new(wal_bytes_max: u64) -> Self {
        Self {
            wal_bytes: AtomicU64::new(0),
            wal_bytes_max,
            due: Notify::new(),
            written: Notify::new(),
            failure: watch::Sender::new(None),
            times: Arc::default(),
        }
    }

    /// So many bytes more stand in the log behind the checkpoint.
    pub(in crate::raft) fn count(&self, bytes: u64) {
        if self.wal_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes >= self.wal_bytes_max {
            self.due.notify_one();
        }
    }

    /// Resolves when the log has failed, and says why.
    pub(in crate::raft) async fn log_failed(&self) -> String {
        let mut failure = self.failure.subscribe();
        let why = failure.wait_for(Option::is_some).await;
        why.ok().and_then(|why| why.clone()).expect("its other end is here, and it was waited for")
    }

    /// How long the log's batches take.
    pub(in crate::raft) fn times(&self) -> Arc<BatchTimes> {
        Arc::clone(&self.times)
    }

    fn health(&self) -> LogHealth {
        if let Some(why) = &*self.failure.borrow() {
            return LogHealth::Failed(why.clone());
        }
        LogHealth::Works(self.times.under_way())
    }

    /// Was anything written that a checkpoint is worth, and may it be written now?
    fn is_time(&self, sending: bool) -> bool {
        let bytes = self.wal_bytes.load(Ordering::Relaxed);
        bytes > 0 && self.may_cut(sending)
    }

    /// May the log be cut now, behind the last checkpoint?
    fn may_cut(&self, sending: bool) -> bool {
        let bytes = self.wal_bytes.load(Ordering::Relaxed);
        !sending || bytes >= self.wal_bytes_max.saturating_mul(SENDING_FACTOR)
    }
}

/// Counts what the log writes.
pub(in crate::raft) struct Counting {
    inner: Arc<dyn WalObserver>,
    pace: Arc<Pace>,
}

impl Counting {
    pub(in crate::raft) fn new(inner: Arc<dyn WalObserver>, pace: Arc<Pace>) -> Self {
        Self { inner, pace }
    }
}

impl WalObserver for Counting {
    fn begun(&self) {
        self.pace.times.begun();
        self.inner.begun();
    }

    fn ended(&self) {
        self.pace.times.ended();
        self.inner.ended();
    }

    /// What is written counts, synced or not: without syncs the log grows as well.
    fn written(&self, bytes: usize) {
        self.pace.count(bytes as u64);
        self.inner.written(bytes);
    }

    fn synced(&self, took: Duration) {
        self.inner.synced(took);
    }

    fn failed(&self, error: &WalError) {
        self.pace.failure.send_replace(Some(error.to_string()));
        self.inner.failed(error);
    }
}

impl Raft {
    /// How the log's disk does.
    pub fn log_health(&self) -> LogHealth {
        self.shared.pace.health()
    }

    /// Writes a checkpoint soon, if anything changed since the last.
    ///
    /// # Errors
    /// When consensus has ended.
    pub async fn checkpoint(&self) -> Result<(), Unavailable> {
        self.shared.pace.wal_bytes.store(0, Ordering::Relaxed);
        self.raft.trigger().snapshot().await.map_err(|_| Unavailable::Stopped)
    }

    pub(in crate::raft) async fn write_checkpoints(self) {
        let pace = Arc::clone(&self.shared.pace);
        let mut bytes_before = 0;
        loop {
            let due = tokio::select! {
                biased;
                () = pace.due.notified() => true,
                () = tokio::time::sleep(IDLE) => {
                    let bytes = pace.wal_bytes.load(Ordering::Relaxed);
                    let idle = bytes == bytes_before;
                    bytes_before = bytes;
                    idle && bytes >= IDLE_WAL_BYTES_MIN
                }
            };
            if due && pace.is_time(self.shared.checkpoints.outgoing().is_on_its_way()) {
                let index = self.view.load().position.index;
                info!(target: "etcdserver", "start to snapshot (applied: {index})");
                if self.checkpoint().await.is_err() || !self.has_checkpoint_at(index).await {
                    return;
                }
                pace.written.notify_one();
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Waits until a checkpoint at `index` or later is on disk and openraft knows of it; `false` when consensus has ended.
    ///
    /// What openraft takes for the last checkpoint when it starts is later than the one on disk: it is told of the state that the
    /// log has led to since.
    async fn has_checkpoint_at(&self, index: LogIndex) -> bool {
        self.shared.checkpoints.until_durable(index).await;
        let mut metrics = self.raft.data_metrics();
        loop {
            let snapshot = metrics.borrow_and_update().snapshot;
            if snapshot.map(|last| types::log_index(last.index)).unwrap_or_default() >= index {
                return true;
            }
            if metrics.changed().await.is_err() {
                return false;
            }
        }
    }

    /// Cuts the log behind each checkpoint, at the start also behind the one that was there.
    ///
    /// openraft waits with it for as long as an entry is on its way to a follower, and never cuts what no checkpoint holds. It
    /// could count entries by itself, but not their bytes.
    pub(in crate::raft) async fn cut_log(self) {
        let pace = Arc::clone(&self.shared.pace);
        loop {
            while !pace.may_cut(self.shared.checkpoints.outgoing().is_on_its_way()) {
                tokio::time::sleep(CUT_RETRY).await;
            }
            let dispensable = self.shared.checkpoints.durable().and_then(|last| {
                let log = &self.shared.log;
                log.dispensable(last.index, ENTRIES_KEPT_MIN, ENTRIES_KEPT_MAX, BYTES_KEPT_MAX)
            });
            if let Some(index) = dispensable
                && self.raft.trigger().purge_log(index).await.is_err()
            {
                return;
            }
            pace.written.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_stands_still_is_seen_and_one_that_failed_says_why() {
        struct Deaf;
        impl WalObserver for Deaf {
            fn written(&self, _bytes: usize) {}
            fn synced(&self, _took: Duration) {}
            fn failed(&self, _error: &WalError) {}
        }
        let pace = Arc::new(Pace::new(100));
        let counting = Counting::new(Arc::new(Deaf), Arc::clone(&pace));
        assert_eq!(pace.health(), LogHealth::Works(Duration::ZERO));
        counting.begun();
        std::thread::sleep(Duration::from_millis(20));
        let LogHealth::Works(since) = pace.health() else { panic!("it has not failed") };
        assert!(since >= Duration::from_millis(19), "{since:?}");
        counting.ended();
        assert_eq!(pace.health(), LogHealth::Works(Duration::ZERO));
        pace.failure.send_replace(Some("a bit flipped".to_owned()));
        assert_eq!(pace.health(), LogHealth::Failed("a bit flipped".to_owned()));
    }

    #[test]
    fn a_checkpoint_waits_for_one_that_is_on_its_way_but_not_for_ever() {
        let pace = Pace::new(100);
        assert!(!pace.is_time(false), "nothing was written");
        pace.wal_bytes.store(100, Ordering::Relaxed);
        assert!(pace.is_time(false) && !pace.is_time(true));
        assert!(pace.may_cut(false) && !pace.may_cut(true));
        pace.wal_bytes.store(100 * SENDING_FACTOR, Ordering::Relaxed);
        assert!(pace.is_time(true) && pace.may_cut(true), "the disk has an end");
    }
}
