//! `/metrics`: the names that etcd's dashboards and alerts use.
//!
//! What the store, the replica and Raft count anyway is read when the page is asked for; only what nobody else knows is
//! counted here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Response, StatusCode};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder, exponential_buckets,
};

use crate::api::body::Body;
use crate::api::context::Context;
use crate::api::{CLUSTER_VERSION, ETCD_VERSION};
use crate::model::MemberId;
use crate::raft::Role;
use crate::replica::Replica;
use crate::store::Counter;
use crate::transport::PeerTraffic;

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
    round_trip: HistogramVec,
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
    /// Nothing counted yet.
    ///
    /// # Panics
    /// When two metrics have one name, which a test would have shown.
    pub fn new() -> Arc<Self> {
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
            Box::new(metrics.round_trip.clone()),
            Box::new(prometheus::process_collector::ProcessCollector::for_self()),
        ] {
            metrics.registry.register(collector).expect("each name is registered once");
        }
        Arc::new(metrics)
    }

    /// Adds what is read from a running member whenever the page is asked for.
    pub fn observe_member(&self, replica: Replica) {
        let collector = Box::new(MemberCollector { replica });
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
    pub fn wal_synced(&self, took: Duration, bytes: usize) {
        self.wal_fsync.observe(took.as_secs_f64());
        self.wal_fsync_2x.observe(took.as_secs_f64());
        self.wal_bytes.add(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// A peer answered a heartbeat.
    pub fn round_trip(&self, peer: MemberId, took: Duration) {
        let to = peer.to_string();
        self.round_trip.with_label_values(&[to.as_str()]).observe(took.as_secs_f64());
    }

    /// A checkpoint was committed.
    pub fn checkpoint_committed(&self, took: Duration) {
        self.backend_commit.observe(took.as_secs_f64());
    }
}

pub(super) async fn serve(State(api): State<Arc<Context>>) -> Response<Body> {
    let mut page = Vec::new();
    let encoder = TextEncoder::new();
    encoder
        .encode(&api.metrics.registry.gather(), &mut page)
        .expect("metrics with valid names are written to memory");
    let mut response = Response::new(Body::whole(page));
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, text);
    response
}

/// Resident memory of this process.
pub(super) fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = status.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Reads the numbers of a member when they are asked for.
struct MemberCollector {
    replica: Replica,
}

impl Collector for MemberCollector {
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = Families::default();
        self.server(&mut families);
        self.peers(&mut families);
        self.store(&mut families);
        families.0
    }
}

impl MemberCollector {
    fn server(&self, families: &mut Families) {
        let (status, options) = (self.replica.status(), self.replica.options());
        let (stats, view) = (self.replica.stats(), self.replica.view());
        let leads = status.leadership.role == Role::Leader;
        // In etcd a quorum read is a proposal too; here it costs no log entry, but dashboards count it all the same.
        let reads = stats.barriers();
        for (name, help, value) in [
            (
                "etcd_server_has_leader",
                "Is there a leader?",
                u64::from(status.leadership.leader.is_some()),
            ),
            ("etcd_server_is_leader", "Is it this member?", u64::from(leads)),
            (
                "etcd_server_is_learner",
                "Has it no vote?",
                u64::from(status.leadership.role == Role::Learner),
            ),
            (
                "etcd_server_proposals_committed_total",
                "Proposals that a majority has: log entries and quorum reads.",
                status.committed.0 + reads,
            ),
            (
                "etcd_server_proposals_applied_total",
                "Proposals that this member has applied: log entries and quorum reads.",
                view.position.index.0 + reads,
            ),
            (
                "etcd_server_proposals_pending",
                "Proposals that wait for a majority.",
                u64::try_from(stats.proposals_pending()).unwrap_or(0),
            ),
            ("etcd_server_quota_backend_bytes", "The quota of etcd 3's data; none here.", 0),
            ("etcd_server_snapshot_apply_in_progress_total", "Snapshots being installed.", 0),
            ("etcd_debugging_store_watchers", "Waiting watchers.", self.watchers()),
            ("etcd_store_watchers", "Waiting watchers.", self.watchers()),
        ] {
            families.gauge(name, help, value);
        }
        for (name, help, value) in [
            (
                "etcd_server_leader_changes_seen_total",
                "Leaders this member has seen come.",
                stats.leader_changes(),
            ),
            (
                "etcd_server_proposals_failed_total",
                "Proposals without an answer in time.",
                stats.proposals_failed(),
            ),
            (
                "etcd_server_heartbeat_send_failures_total",
                "Heartbeats that left too late, for want of processor most likely.",
                stats.late_heartbeats(),
            ),
            ("etcd_server_slow_apply_total", "Entries that took too long to apply.", 0),
            ("etcd_network_client_grpc_received_bytes_total", "Traffic of etcd 3 clients.", 0),
            ("etcd_network_client_grpc_sent_bytes_total", "Traffic of etcd 3 clients.", 0),
        ] {
            families.counter(name, help, value);
        }
        for (name, help, label, value) in [
            ("etcd_server_id", "This member.", "server_id", options.member.to_string()),
            ("etcd_server_version", "Its version.", "server_version", ETCD_VERSION.to_owned()),
            (
                "etcd_cluster_version",
                "The cluster's version.",
                "cluster_version",
                cluster_version(),
            ),
        ] {
            families.labelled(name, help, label, &value);
        }
    }

    fn peers(&self, families: &mut Families) {
        let traffic = self.replica.raft().transport().traffic().all();
        let by_peer = |value: &dyn Fn(&PeerTraffic) -> u64| -> Vec<(String, u64)> {
            traffic.iter().map(|(id, peer)| (id.to_string(), value(peer))).collect()
        };
        for (name, help, label, values) in [
            (
                "etcd_network_peer_sent_bytes_total",
                "Bytes to peers.",
                "To",
                by_peer(&PeerTraffic::sent_bytes),
            ),
            (
                "etcd_network_peer_received_bytes_total",
                "Bytes from peers.",
                "From",
                by_peer(&PeerTraffic::received_bytes),
            ),
            (
                "etcd_network_peer_sent_failures_total",
                "Messages to peers that did not get through.",
                "To",
                by_peer(&PeerTraffic::sent_failures),
            ),
            (
                "etcd_network_peer_received_failures_total",
                "Messages from peers that could not be read.",
                "From",
                by_peer(&PeerTraffic::received_failures),
            ),
        ] {
            families.counter_by(name, help, label, &values);
        }
        let local = self.replica.options().member.to_string();
        let mut active = Vec::new();
        let mut lost = Vec::new();
        for (id, peer) in &traffic {
            active.push((id.to_string(), u64::from(peer.connections() > 0)));
            lost.push((id.to_string(), peer.disconnects()));
        }
        let name = "etcd_network_active_peers";
        families.gauge_between(name, "Is there a connection to the peer?", &local, &active);
        let name = "etcd_network_disconnected_peers_total";
        families.counter_between(name, "How often the last one went.", &local, &lost);
    }

    fn store(&self, families: &mut Families) {
        let view = self.replica.view();
        let count = |counter| view.store.counters().get(counter);
        let reads = self.replica.reads();
        let reads = [
            ("get", reads.plain.load(std::sync::atomic::Ordering::Relaxed)),
            ("getRecursive", reads.recursive.load(std::sync::atomic::Ordering::Relaxed)),
        ];
        use Counter as C;
        let writes = [
            ("set", count(C::SetsSuccess) + count(C::SetsFail)),
            ("create", count(C::CreateSuccess) + count(C::CreateFail)),
            ("update", count(C::UpdateSuccess) + count(C::UpdateFail)),
            ("delete", count(C::DeleteSuccess) + count(C::DeleteFail)),
            ("compareAndSwap", count(C::CompareAndSwapSuccess) + count(C::CompareAndSwapFail)),
            (
                "compareAndDelete",
                count(C::CompareAndDeleteSuccess) + count(C::CompareAndDeleteFail),
            ),
        ];
        let requests = self.replica.hub().requests();
        // The names of etcd 3, and those of etcd 2.
        for prefix in ["etcd_debugging_store", "etcd_store"] {
            families.by_action(&format!("{prefix}_reads_total"), "Reads of the key space.", &reads);
            families.by_action(&format!("{prefix}_writes_total"), "Writes to it.", &writes);
            families.counter(
                &format!("{prefix}_expires_total"),
                "Keys that died of their deadline.",
                count(C::ExpireCount),
            );
            families.counter(
                &format!("{prefix}_watch_requests_total"),
                "Watches asked for.",
                requests,
            );
        }
    }

    fn watchers(&self) -> u64 {
        self.replica.hub().watchers() as u64
    }
}

fn cluster_version() -> String {
    CLUSTER_VERSION.trim_end_matches(".0").to_owned()
}

/// Metric families made on the spot.
#[derive(Default)]
struct Families(Vec<MetricFamily>);

impl Families {
    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        let metric = gauge(name, help);
        metric.set(i64::try_from(value).unwrap_or(i64::MAX));
        self.0.extend(metric.collect());
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        let metric = counter(name, help);
        metric.inc_by(value);
        self.0.extend(metric.collect());
    }

    fn labelled(&mut self, name: &str, help: &str, label: &str, value: &str) {
        let metric = known(IntGaugeVec::new(Opts::new(name, help), &[label]));
        metric.with_label_values(&[value]).set(1);
        self.0.extend(metric.collect());
    }

    fn by_action(&mut self, name: &str, help: &str, values: &[(&str, u64)]) {
        let values: Vec<_> =
            values.iter().map(|(action, value)| ((*action).to_owned(), *value)).collect();
        self.counter_by(name, help, "action", &values);
    }

    fn counter_by(&mut self, name: &str, help: &str, label: &str, values: &[(String, u64)]) {
        let metric = known(IntCounterVec::new(Opts::new(name, help), &[label]));
        for (key, value) in values {
            metric.with_label_values(&[key.as_str()]).inc_by(*value);
        }
        self.0.extend(metric.collect());
    }

    fn counter_between(&mut self, name: &str, help: &str, local: &str, values: &[(String, u64)]) {
        let metric = known(IntCounterVec::new(Opts::new(name, help), &["Local", "Remote"]));
        for (remote, value) in values {
            metric.with_label_values(&[local, remote.as_str()]).inc_by(*value);
        }
        self.0.extend(metric.collect());
    }

    fn gauge_between(&mut self, name: &str, help: &str, local: &str, values: &[(String, u64)]) {
        let metric = known(IntGaugeVec::new(Opts::new(name, help), &["Local", "Remote"]));
        for (remote, value) in values {
            let value = i64::try_from(*value).unwrap_or(i64::MAX);
            metric.with_label_values(&[local, remote.as_str()]).set(value);
        }
        self.0.extend(metric.collect());
    }
}

fn counter(name: &str, help: &str) -> IntCounter {
    known(IntCounter::new(name, help))
}

fn gauge(name: &str, help: &str) -> IntGauge {
    known(IntGauge::new(name, help))
}

fn histogram(name: &str, help: &str, buckets: Vec<f64>) -> Histogram {
    known(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets)))
}

fn doubling(first: f64, count: usize) -> Vec<f64> {
    known(exponential_buckets(first, 2.0, count))
}

/// Names, labels and buckets stand in this file, and a test makes them all.
fn known<T>(made: prometheus::Result<T>) -> T {
    made.expect("names, labels and buckets are valid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_metrics_can_be_made() {
        let metrics = Metrics::new();
        metrics.wal_synced(Duration::from_millis(1), 100);
        let timer = metrics.keys_request(MethodLabel::of(&Method::GET).unwrap().quorum(true));
        timer.done(StatusCode::NOT_FOUND);
        let names: Vec<_> =
            metrics.registry.gather().iter().map(|family| family.name().to_owned()).collect();
        assert!(names.contains(&"etcd_http_failed_total".to_owned()), "{names:?}");
    }
}
