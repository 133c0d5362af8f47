//! What is done with the keys of version 3, under etcd's names. Some numbers have two of them.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{Histogram, IntCounter, IntGauge, Registry};

use crate::api::metrics::make::{counter, doubling, gauge, histogram};
use crate::mvcc::{Applied, Reply, Tally};

/// The metrics of the key space.
pub(super) struct MvccMetrics {
    puts: Twice,
    deletes: Twice,
    ranges: Twice,
    txns: Twice,
    put_bytes: IntGauge,
    granted: IntCounter,
    revoked: IntCounter,
    ttl: Histogram,
    hash: Histogram,
    hash_revision: Histogram,
}

/// A counter with two names.
struct Twice([IntCounter; 2]);

impl Twice {
    fn new(what: &str, help: &str) -> Self {
        let prefixes = ["etcd_mvcc", "etcd_debugging_mvcc"];
        Self(prefixes.map(|prefix| counter(&format!("{prefix}_{what}_total"), help)))
    }

    fn add(&self, count: u64) {
        self.0.iter().for_each(|counter| counter.inc_by(count));
    }
}

impl MvccMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let hashes = |name, help| histogram(name, help, doubling(0.01, 15));
        let this = Self {
            puts: Twice::new("put", "Puts that this member has seen."),
            deletes: Twice::new("delete", "Deletions that this member has seen."),
            ranges: Twice::new("range", "Ranges that this member has read."),
            txns: Twice::new("txn", "Requests of more than one thing that this member has seen."),
            put_bytes: gauge(
                "etcd_debugging_mvcc_total_put_size_in_bytes",
                "Bytes of the keys and values that were put.",
            ),
            granted: counter("etcd_debugging_lease_granted_total", "Leases that were granted."),
            revoked: counter("etcd_debugging_lease_revoked_total", "Leases that have ended."),
            ttl: histogram(
                "etcd_debugging_lease_ttl_total",
                "How long the leases live that were granted.",
                doubling(1.0, 24),
            ),
            hash: hashes("etcd_mvcc_hash_duration_seconds", "How long check sums of all take."),
            hash_revision: hashes(
                "etcd_mvcc_hash_rev_duration_seconds",
                "How long check sums up to a revision take.",
            ),
        };
        let mut all: Vec<Box<dyn Collector>> = vec![
            Box::new(this.put_bytes.clone()),
            Box::new(this.granted.clone()),
            Box::new(this.revoked.clone()),
            Box::new(this.ttl.clone()),
            Box::new(this.hash.clone()),
            Box::new(this.hash_revision.clone()),
        ];
        for twice in [&this.puts, &this.deletes, &this.ranges, &this.txns] {
            all.extend(twice.0.iter().map(|it| Box::new(it.clone()) as Box<dyn Collector>));
        }
        for collector in all {
            registry.register(collector).expect("each name is registered once");
        }
        this
    }

    /// A command was applied.
    pub(super) fn applied(&self, applied: &Applied) {
        match &applied.reply {
            Ok(Reply::LeaseGrant { ttl_s, .. }) => {
                self.granted.inc();
                self.ttl.observe(*ttl_s as f64);
            }
            Ok(Reply::LeaseRevoke) => self.revoked.inc(),
            Ok(
                Reply::Put { .. }
                | Reply::DeleteRange { .. }
                | Reply::Txn(_)
                | Reply::Compact
                | Reply::LeaseCheckpoint
                | Reply::LeaseKeepAlive
                | Reply::Alarm(_)
                | Reply::Auth(_),
            )
            | Err(_) => {}
        }
        self.count(applied.tally());
    }

    /// So much was done.
    pub(super) fn count(&self, tally: Tally) {
        let Tally { puts, put_bytes, deletes, ranges, txns } = tally;
        for (counter, count) in [
            (&self.puts, puts),
            (&self.deletes, deletes),
            (&self.ranges, ranges),
            (&self.txns, txns),
        ] {
            if count > 0 {
                counter.add(count);
            }
        }
        self.put_bytes.add(i64::try_from(put_bytes).unwrap_or(i64::MAX));
    }

    /// A check sum was made: up to a revision, or of all.
    pub(super) fn hashed(&self, by_revision: bool, took: Duration) {
        let histogram = if by_revision { &self.hash_revision } else { &self.hash };
        histogram.observe(took.as_secs_f64());
    }
}
