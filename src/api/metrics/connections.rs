//! Connections, by the kind of listener that they came in on.

use std::sync::Arc;

use prometheus::core::Collector;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::api::metrics::limits::{Limit, LimitHits};
use crate::api::metrics::make::known;

/// How the TLS handshake of a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// Both ends agreed.
    Done,
    /// The client went, took too long, or did not agree.
    Failed,
    /// The client did not speak TLS.
    Plain,
}

/// The metrics of all kinds of listeners.
pub(super) struct Connections {
    open: IntGaugeVec,
    limit: IntGaugeVec,
    accepted: IntCounterVec,
    handshakes: IntCounterVec,
}

impl Connections {
    pub(super) fn new(registry: &Registry) -> Self {
        let gauges = |name, help| known(IntGaugeVec::new(Opts::new(name, help), &["listener"]));
        let counters =
            |name, help, labels: &[&str]| known(IntCounterVec::new(Opts::new(name, help), labels));
        let this = Self {
            open: gauges("cairn_connections", "Open connections."),
            limit: gauges(
                "cairn_connections_limit",
                "Connections that may be open at a time; more wait to be accepted.",
            ),
            accepted: counters(
                "cairn_connections_accepted_total",
                "Connections accepted.",
                &["listener"],
            ),
            handshakes: counters(
                "cairn_tls_handshakes_total",
                "TLS handshakes of accepted connections, by how they ended.",
                &["listener", "result"],
            ),
        };
        for collector in [
            Box::new(this.open.clone()) as Box<dyn Collector>,
            Box::new(this.limit.clone()),
            Box::new(this.accepted.clone()),
            Box::new(this.handshakes.clone()),
        ] {
            registry.register(collector).expect("each name is registered once");
        }
        this
    }

    /// The meter of the listeners called so.
    pub(super) fn of(
        &self,
        listener: &str,
        connections_max: usize,
        limits: &Arc<LimitHits>,
    ) -> Arc<ConnectionMeter> {
        let most = i64::try_from(connections_max).unwrap_or(i64::MAX);
        self.limit.with_label_values(&[listener]).set(most);
        let results = ["ok", "failed", "plain"];
        Arc::new(ConnectionMeter {
            open: self.open.with_label_values(&[listener]),
            accepted: self.accepted.with_label_values(&[listener]),
            handshakes: results
                .map(|result| self.handshakes.with_label_values(&[listener, result])),
            limits: Arc::clone(limits),
        })
    }
}

/// Counts the connections of one kind of listener.
pub struct ConnectionMeter {
    open: IntGauge,
    accepted: IntCounter,
    handshakes: [IntCounter; 3],
    limits: Arc<LimitHits>,
}

/// A connection that counts as open until this is dropped.
pub struct OpenConnection(IntGauge);

impl ConnectionMeter {
    /// A connection was accepted.
    pub fn accepted(&self) -> OpenConnection {
        self.accepted.inc();
        self.open.inc();
        OpenConnection(self.open.clone())
    }

    /// A handshake has ended.
    pub fn handshake(&self, how: Handshake) {
        let [done, failed, plain] = &self.handshakes;
        match how {
            Handshake::Done => done,
            Handshake::Failed => failed,
            Handshake::Plain => plain,
        }
        .inc();
    }

    /// A limit was hit.
    pub fn hit(&self, limit: Limit) {
        self.limits.hit(limit);
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}
