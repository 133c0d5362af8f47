//! What the disk does, in metrics and in the log.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tracing::{error, warn};

use crate::api::{Metrics, Surroundings};
use crate::disk::{DataDir, WalError, WalObserver};
use crate::model::codes;
use crate::server::sides::Sides;
use crate::server::telemetry::LogHandle;
use crate::tls::Tls;

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

/// Numbers that only the server knows.
pub(super) fn surroundings(data_dir: &DataDir, sides: &Sides, log: &LogHandle) -> Surroundings {
    let (clients, peers) = (Arc::clone(&sides.clients), Arc::clone(&sides.peers));
    let (checkpoint, log) = (data_dir.checkpoint(), log.clone());
    Surroundings {
        certificates: Box::new(move || {
            let ends = |(side, tls): (&'static str, &Arc<Tls>)| {
                tls.expires().map(|at| (side, at.as_secs_f64()))
            };
            [("client", &clients), ("peer", &peers)].into_iter().filter_map(ends).collect()
        }),
        checkpoint_bytes: Box::new(move || bytes(&checkpoint)),
        log_lines: Box::new(move || log.lines()),
    }
}

/// Size of a file.
pub(super) fn bytes(file: &Path) -> Option<u64> {
    std::fs::metadata(file).ok().map(|file| file.len())
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
                code = codes::SLOW_SYNC,
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
            code = codes::LOG_FAILED,
            "{failure}. What was acknowledged is safe; nothing more will be. This member stops{fix}",
        );
    }
}
