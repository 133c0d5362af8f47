//! `/metrics`: the names that etcd's dashboards and alerts use.
//!
//! What the store, the replica and Raft count anyway is read when the page is asked for; only what no other floor counts is
//! counted here.

mod calls;
mod collector;
mod connections;
mod families;
mod limits;
mod make;
mod mvcc;
mod proxy;
mod surroundings;

pub use proxy::ProxyMetrics;

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use prometheus::core::Collector;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts,
    Registry, TextEncoder,
};

use crate::api::metrics::calls::Calls;
use crate::api::metrics::collector::MemberCollector;
use crate::api::metrics::connections::Connections;
use crate::api::metrics::limits::LimitHits;
use crate::api::metrics::make::{counter, doubling, gauge, histogram, known};
use crate::api::metrics::mvcc::MvccMetrics;
use crate::model::MemberId;
use crate::mvcc::{Applied, Tally};
use crate::raft::Meter;
use crate::replica::Replica;

pub(super) use calls::CallMeter;
pub use connections::{ConnectionMeter, Handshake, OpenConnection};
pub use limits::Limit;
pub use surroundings::{LogLines, Surroundings};

/// Applying for so long is slow, as in etcd.
const SLOW_APPLY: Duration = Duration::from_millis(100);

/// What is counted while requests are served and the disk works.
pub struct Metrics {
    registry: Registry,
    requests: [RequestMetrics; METHODS.len()],
    failed: IntCounterVec,
    health_success: IntCounter,
    health_failures: IntCounter,
    wal_fsync: Histogram,
    wal_fsync_2x: Histogram,
    wal_bytes: IntGauge,
    backend_commit: Histogram,
    snapshot_save: Histogram,
    round_trip: HistogramVec,
    slow_applies: IntCounter,
    connections: Connections,
    calls: Calls,
    mvcc: MvccMetrics,
    limits: Arc<LimitHits>,
    extensive: Option<Extensive>,
}

/// What `--metrics=extensive` adds: distributions of what happens often.
struct Extensive {
    apply: Histogram,
    replication: HistogramVec,
}

impl Extensive {
    fn new(registry: &Registry) -> Self {
        let this = Self {
            apply: histogram(
                "cairn_apply_duration_seconds",
                "How long some entries take to be applied together.",
                doubling(0.00001, 18),
            ),
            replication: known(HistogramVec::new(
                HistogramOpts::new(
                    "cairn_member_replication_duration_seconds",
                    "How long entries take from the append to the leader's log until a follower has them on its disk.",
                )
                .buckets(doubling(0.0001, 18)),
                &["To"],
            )),
        };
        for collector in
            [Box::new(this.apply.clone()) as Box<dyn Collector>, Box::new(this.replication.clone())]
        {
            registry.register(collector).expect("each name is registered once");
        }
        this
    }
}

struct RequestMetrics {
    received: IntCounter,
    duration: Histogram,
}

/// The `method` label: HTTP's methods, and quorum reads as one of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MethodLabel(usize);

const METHODS: [&str; 6] = ["GET", "PUT", "POST", "DELETE", "HEAD", "QGET"];

impl MethodLabel {
    /// `None` for methods that `/v2/keys` does not have.
    pub(super) fn of(method: &Method) -> Option<Self> {
        let place = METHODS[..5].iter().position(|name| *name == method.as_str())?;
        Some(Self(place))
    }

    /// The same, or `QGET`.
    pub(super) fn quorum(self, quorum: bool) -> Self {
        if quorum { Self(5) } else { self }
    }
}

/// Measures one request of the key space.
pub(super) struct Timer<'a> {
    metrics: &'a Metrics,
    label: MethodLabel,
    begun: Instant,
}

impl Timer<'_> {
    pub(super) fn done(self, status: StatusCode) {
        if status.is_success() {
            self.metrics.requests[self.label.0]
                .duration
                .observe(self.begun.elapsed().as_secs_f64());
        } else {
            let labels = [METHODS[self.label.0], status.as_str()];
            self.metrics.failed.with_label_values(&labels).inc();
        }
    }
}

impl Metrics {
    /// Nothing counted yet. With `extensive` there are more histograms.
    ///
    /// # Panics
    /// When two metrics have one name, which a test would have shown.
    pub fn new(extensive: bool) -> Arc<Self> {
        let registry = Registry::new();
        let received = IntCounterVec::new(
            Opts::new("etcd_http_received_total", "Requests of the key space, without watches."),
            &["method"],
        );
        let failed = IntCounterVec::new(
            Opts::new("etcd_http_failed_total", "Of these, answered with an error."),
            &["method", "code"],
        );
        let duration = HistogramVec::new(
            HistogramOpts::new(
                "etcd_http_successful_duration_seconds",
                "How long the successful ones took.",
            )
            .buckets(doubling(0.0005, 13)),
            &["method"],
        );
        let (received, failed, duration) = (known(received), known(failed), known(duration));
        let requests = METHODS.map(|method| RequestMetrics {
            received: received.with_label_values(&[method]),
            duration: duration.with_label_values(&[method]),
        });
        let metrics = Self {
            requests,
            failed: failed.clone(),
            health_success: counter("etcd_server_health_success", "Healthy answers of /health."),
            health_failures: counter(
                "etcd_server_health_failures",
                "The other answers of /health.",
            ),
            wal_fsync: histogram(
                "etcd_disk_wal_fsync_duration_seconds",
                "How long the log's syncs take.",
                doubling(0.001, 14),
            ),
            wal_fsync_2x: histogram(
                "etcd_wal_fsync_durations_seconds",
                "etcd_disk_wal_fsync_duration_seconds under its etcd 2 name.",
                doubling(0.001, 14),
            ),
            wal_bytes: gauge("etcd_disk_wal_write_bytes_total", "Bytes written to the log."),
            backend_commit: histogram(
                "etcd_disk_backend_commit_duration_seconds",
                "How long the commits of checkpoints take.",
                doubling(0.001, 14),
            ),
            snapshot_save: histogram(
                "etcd_debugging_snap_save_total_duration_seconds",
                "etcd_disk_backend_commit_duration_seconds under another name: a checkpoint is the snapshot.",
                doubling(0.001, 14),
            ),
            slow_applies: counter(
                "etcd_server_slow_apply_total",
                "How often entries took more than 100 ms to be applied together.",
            ),
            connections: Connections::new(&registry),
            calls: Calls::new(&registry, extensive),
            mvcc: MvccMetrics::new(&registry),
            limits: Arc::default(),
            extensive: extensive.then(|| Extensive::new(&registry)),
            round_trip: known(HistogramVec::new(
                HistogramOpts::new(
                    "etcd_network_peer_round_trip_time_seconds",
                    "How long peers take to answer a heartbeat.",
                )
                .buckets(doubling(0.0001, 16)),
                &["To"],
            )),
            registry,
        };
        for collector in [
            Box::new(received) as Box<dyn Collector>,
            Box::new(failed),
            Box::new(duration),
            Box::new(metrics.health_success.clone()),
            Box::new(metrics.health_failures.clone()),
            Box::new(metrics.wal_fsync.clone()),
            Box::new(metrics.wal_fsync_2x.clone()),
            Box::new(metrics.wal_bytes.clone()),
            Box::new(metrics.backend_commit.clone()),
            Box::new(metrics.snapshot_save.clone()),
            Box::new(metrics.slow_applies.clone()),
            Box::new(metrics.round_trip.clone()),
            Box::new(prometheus::process_collector::ProcessCollector::for_self()),
        ] {
            metrics.registry.register(collector).expect("each name is registered once");
        }
        Arc::new(metrics)
    }

    /// Adds what is read from a running member whenever the page is asked for.
    pub fn observe_member(&self, replica: Replica, surroundings: Surroundings) {
        let limits = Arc::clone(&self.limits);
        let collector = Box::new(MemberCollector { replica, surroundings, limits });
        self.registry.register(collector).expect("a member is observed once");
    }

    /// Counts a request of the key space that was understood.
    pub(super) fn keys_request(&self, label: MethodLabel) -> Timer<'_> {
        self.requests[label.0].received.inc();
        Timer { metrics: self, label, begun: Instant::now() }
    }

    pub(super) fn count_health(&self, healthy: bool) {
        if healthy { &self.health_success } else { &self.health_failures }.inc();
    }

    /// The log was synced.
    pub fn wal_synced(&self, took: Duration) {
        self.wal_fsync.observe(took.as_secs_f64());
        self.wal_fsync_2x.observe(took.as_secs_f64());
    }

    /// So much was written to the log, synced or not.
    pub fn wal_written(&self, bytes: usize) {
        self.wal_bytes.add(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Counts the connections of the listeners called `listener`, of which at most `connections_max` may be open.
    pub fn connections(&self, listener: &str, connections_max: usize) -> Arc<ConnectionMeter> {
        self.connections.of(listener, connections_max, &self.limits)
    }

    /// Counts the calls of a method.
    pub(super) fn calls(&self, kind: &str, service: &str, method: &str) -> CallMeter {
        self.calls.of(kind, service, method)
    }

    /// Something was done with keys of version 3 that did not go through the log.
    pub(super) fn read(&self, tally: Tally) {
        self.mvcc.count(tally);
    }

    /// A check sum of these keys was made: up to a revision, or of all.
    pub(super) fn hashed(&self, by_revision: bool, took: Duration) {
        self.mvcc.hashed(by_revision, took);
    }

    pub(super) fn hit(&self, limit: Limit) {
        self.limits.hit(limit);
    }

    /// All of them, as Prometheus reads them.
    pub(super) fn page(&self) -> Vec<u8> {
        let mut page = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut page)
            .expect("metrics with valid names are written to memory");
        page
    }
}

impl Meter for Metrics {
    fn checkpoint(&self, took: Duration) {
        self.backend_commit.observe(took.as_secs_f64());
        self.snapshot_save.observe(took.as_secs_f64());
    }

    fn round_trip(&self, member: MemberId, took: Duration) {
        let to = member.to_string();
        self.round_trip.with_label_values(&[to.as_str()]).observe(took.as_secs_f64());
    }

    fn replicated(&self, follower: MemberId, took: Duration) {
        if let Some(extensive) = &self.extensive {
            let to = follower.to_string();
            let of_follower = extensive.replication.with_label_values(&[to.as_str()]);
            of_follower.observe(took.as_secs_f64());
        }
    }

    fn applied(&self, took: Duration) {
        if took > SLOW_APPLY {
            self.slow_applies.inc();
        }
        if let Some(extensive) = &self.extensive {
            extensive.apply.observe(took.as_secs_f64());
        }
    }

    fn changed(&self, applied: &Applied) {
        self.mvcc.applied(applied);
    }
}

/// Files, sockets and the like that this process has open.
fn open_descriptors() -> Option<u64> {
    // The one that lists them is among them.
    let count = std::fs::read_dir("/proc/self/fd").ok()?.count();
    Some(count.saturating_sub(1) as u64)
}

/// Resident memory of this process.
pub(super) fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = status.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_metrics_can_be_made() {
        let metrics = Metrics::new(true);
        metrics.wal_synced(Duration::from_millis(1));
        let timer = metrics.keys_request(MethodLabel::of(&Method::GET).unwrap().quorum(true));
        timer.done(StatusCode::NOT_FOUND);
        let names: Vec<_> =
            metrics.registry.gather().iter().map(|family| family.name().to_owned()).collect();
        assert!(names.contains(&"etcd_http_failed_total".to_owned()), "{names:?}");
    }
}
