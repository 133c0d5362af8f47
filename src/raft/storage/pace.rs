//! When the next checkpoint is due.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tracing::info;

use crate::disk::{WalError, WalObserver};
use crate::model::Unavailable;
use crate::raft::Raft;

/// A member that has nothing to do for so long writes a checkpoint, so that its restart is quick.
const IDLE: Duration = Duration::from_secs(60);

/// Below this a checkpoint is not worth its writes.
const IDLE_WAL_BYTES_MIN: u64 = 4 << 20;

/// While a checkpoint is on its way to a follower the next one waits until so many times as much was written: with the next
/// one the log is purged, and a follower that then finds it purged beyond what it just installed needs another snapshot. Under
/// load that could go on for ever. A follower that takes longer than this must not fill up the disk, though.
const SENDING_FACTOR: u64 = 8;

/// How much was written to the log since the last checkpoint.
pub(in crate::raft) struct Pace {
    wal_bytes: AtomicU64,
    wal_bytes_max: u64,
    due: Notify,
}

impl Pace {
    pub(in crate::raft) fn new(wal_bytes_max: u64) -> Self {
        Self { wal_bytes: AtomicU64::new(0), wal_bytes_max, due: Notify::new() }
    }

    /// Was anything written that a checkpoint is worth, and may it be written now?
    fn is_time(&self, sending: bool) -> bool {
        let bytes = self.wal_bytes.load(Ordering::Relaxed);
        bytes > 0 && (!sending || bytes >= self.wal_bytes_max.saturating_mul(SENDING_FACTOR))
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
    fn synced(&self, took: Duration, bytes: usize) {
        let before = self.pace.wal_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        if before + bytes as u64 >= self.pace.wal_bytes_max {
            self.pace.due.notify_one();
        }
        self.inner.synced(took, bytes);
    }

    fn failed(&self, error: &WalError) {
        self.inner.failed(error);
    }
}

impl Raft {
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
            if due && pace.is_time(self.shared.checkpoints.is_on_its_way()) {
                let index = self.view.load().position.index;
                info!(target: "etcdserver", "start to snapshot (applied: {index})");
                if self.checkpoint().await.is_err() {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_waits_for_one_that_is_on_its_way_but_not_for_ever() {
        let pace = Pace::new(100);
        assert!(!pace.is_time(false), "nothing was written");
        pace.wal_bytes.store(100, Ordering::Relaxed);
        assert!(pace.is_time(false) && !pace.is_time(true));
        pace.wal_bytes.store(100 * SENDING_FACTOR, Ordering::Relaxed);
        assert!(pace.is_time(true), "the disk has an end");
    }
}
