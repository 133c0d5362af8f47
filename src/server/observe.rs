//! What the disk does, in metrics and in the log.

use std::sync::Arc;
use std::time::Duration;

use tracing::{error, warn};

use crate::api::Metrics;
use crate::disk::{WalError, WalObserver};

/// A sync that takes longer is worth a warning; etcd's users look for its text.
const SYNC_EXPECTED_MAX: Duration = Duration::from_secs(1);

pub(super) struct Disk {
    metrics: Arc<Metrics>,
}

impl Disk {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics }
    }
}

impl WalObserver for Disk {
    fn written(&self, bytes: usize) {
        self.metrics.wal_written(bytes);
    }

    fn synced(&self, took: Duration) {
        self.metrics.wal_synced(took);
        if took > SYNC_EXPECTED_MAX {
            warn!(
                target: "wal",
                "sync duration of {:.3}s, expected less than 1s",
                took.as_secs_f64(),
            );
        }
    }

    fn failed(&self, failure: &WalError) {
        // Damage says itself what is to be done.
        let fix = match failure {
            WalError::Corrupt { .. } => "",
            WalError::Io { .. } | WalError::Foreign { .. } | WalError::Newer { .. } => {
                ". When the disk is well and has space, start it again"
            }
        };
        error!(
            target: "wal",
            "{failure}. What was acknowledged is safe; nothing more will be. This member stops{fix}",
        );
    }
}
