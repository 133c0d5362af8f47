//! What a proxy counts, under etcd's names.

use std::sync::Arc;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

use crate::api::metrics::connections::{ConnectionMeter, Connections};
use crate::api::metrics::limits::LimitHits;
use crate::api::metrics::make::{doubling, gauge, known};

/// Methods that are counted under their names; others are counted as one, so that no client makes metrics.
const METHODS: [&str; 5] = ["GET", "HEAD", "PUT", "POST", "DELETE"];

/// What is counted while a proxy passes requests on.
pub struct ProxyMetrics {
    registry: Registry,
    requests: IntCounterVec,
    handled: IntCounterVec,
    dropped: IntCounterVec,
    duration: HistogramVec,
    inflight: IntGauge,
    connections: Connections,
    limits: Arc<LimitHits>,
}

impl ProxyMetrics {
    /// Nothing counted yet.
    ///
    /// # Panics
    /// When two metrics have one name, which a test would have shown.
    #[expect(clippy::new_without_default, reason = "a default would hide what it costs")]
    pub fn new() -> Self {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            known(IntCounterVec::new(Opts::new(name, help), labels))
        };
        let requests = counter("etcd_proxy_requests_total", "Requests that came.", &["method"]);
        let handled = counter(
            "etcd_proxy_handled_total",
            "Requests that a member has answered.",
            &["method", "code"],
        );
        let dropped = counter(
            "etcd_proxy_dropped_total",
            "Requests that no member has answered.",
            &["method", "proxying_error"],
        );
        let opts = HistogramOpts::new(
            "etcd_proxy_handling_duration_seconds",
            "From the request to the head of the member's answer.",
        );
        let duration = known(HistogramVec::new(opts.buckets(doubling(0.0005, 13)), &["method"]));
        let inflight = gauge(
            "cairn_requests_inflight_bytes",
            "Bytes of requests that are under way, of --max-inflight-bytes.",
        );
        let registry = Registry::new();
        let all: [Box<dyn Collector>; 5] = [
            Box::new(requests.clone()),
            Box::new(handled.clone()),
            Box::new(dropped.clone()),
            Box::new(duration.clone()),
            Box::new(inflight.clone()),
        ];
        for metric in all {
            known(registry.register(metric));
        }
        let connections = Connections::new(&registry);
        let limits = Arc::default();
        Self { registry, requests, handled, dropped, duration, inflight, connections, limits }
    }

    /// Counts the connections of the listeners called `listener`, of which at most `connections_max` may be open.
    pub fn connections(&self, listener: &str, connections_max: usize) -> Arc<ConnectionMeter> {
        self.connections.of(listener, connections_max, &self.limits)
    }

    /// A request came.
    pub fn received(&self, method: &str) {
        self.requests.with_label_values(&[label(method)]).inc();
    }

    /// A member has answered with this status.
    pub fn handled(&self, method: &str, code: &str, took: Duration) {
        self.handled.with_label_values(&[label(method), code]).inc();
        self.duration.with_label_values(&[label(method)]).observe(took.as_secs_f64());
    }

    /// No member has answered, for this reason.
    pub fn dropped(&self, method: &str, reason: &str) {
        self.dropped.with_label_values(&[label(method), reason]).inc();
    }

    /// The page, in the text format of Prometheus. `inflight_bytes` are those of requests under way.
    pub fn page(&self, inflight_bytes: usize) -> Vec<u8> {
        self.inflight.set(i64::try_from(inflight_bytes).unwrap_or(i64::MAX));
        let mut page = Vec::new();
        // Writing into memory does not fail.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut page);
        page
    }
}

fn label(method: &str) -> &'static str {
    METHODS.iter().find(|known| **known == method).copied().unwrap_or("OTHER")
}
