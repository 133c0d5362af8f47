//! How often limits were hit.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The limits whose hits are counted here; watchers and the bytes of requests are counted where they are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// A connection waited until another one had ended.
    Connections,
    /// A connection was closed because its address had too many.
    ConnectionsOfOneAddress,
    /// A form was too large.
    Body,
}

/// The flags that set them, in the order of the variants.
const FLAGS: [&str; 3] = ["max-connections", "max-connections-per-ip", "max-body-bytes"];

/// Counts them.
#[derive(Debug, Default)]
pub(super) struct LimitHits([AtomicU64; FLAGS.len()]);

impl LimitHits {
    pub(super) fn hit(&self, limit: Limit) {
        self.0[limit as usize].fetch_add(1, Relaxed);
    }

    /// By the flag that sets the limit.
    pub(super) fn by_flag(&self) -> impl Iterator<Item = (&'static str, u64)> {
        FLAGS.into_iter().zip(&self.0).map(|(flag, hits)| (flag, hits.load(Relaxed)))
    }
}
