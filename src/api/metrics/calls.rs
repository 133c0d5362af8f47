//! Calls of version 3, by service and method, under the names that gRPC's own middleware has; and what else etcd counts of them.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry,
};

use crate::api::metrics::make::{counter, known};
use crate::rpc::Code;

/// The metrics of all calls.
pub(super) struct Calls {
    started: IntCounterVec,
    received: IntCounterVec,
    sent: IntCounterVec,
    handled: IntCounterVec,
    /// Many series, so only where they are wanted.
    seconds: Option<HistogramVec>,
    received_bytes: IntCounter,
    sent_bytes: IntCounter,
    requests: IntCounterVec,
}

/// The metrics of one call.
#[derive(Clone)]
pub(in crate::api) struct CallMeter {
    started: IntCounter,
    received: IntCounter,
    sent: IntCounter,
    /// By code.
    handled: [IntCounter; Code::ALL.len()],
    seconds: Option<Histogram>,
    received_bytes: IntCounter,
    sent_bytes: IntCounter,
    /// Of clients that do not say which version they are of; the others are counted by what they say.
    unknown: IntCounter,
    requests: IntCounterVec,
    kind: &'static str,
}

impl CallMeter {
    /// A call begins; its client says that it is of this version of the API.
    pub(in crate::api) fn started(&self, version: Option<&str>) {
        self.started.inc();
        match version.filter(|version| is_version(version)) {
            Some(version) => self.requests.with_label_values(&[version, self.kind]).inc(),
            None => self.unknown.inc(),
        }
    }

    /// A message of a client.
    pub(in crate::api) fn received(&self, bytes: usize) {
        self.received.inc();
        self.received_bytes.inc_by(bytes as u64);
    }

    /// A message to a client.
    pub(in crate::api) fn sent(&self, bytes: usize) {
        self.sent.inc();
        self.sent_bytes.inc_by(bytes as u64);
    }

    /// A call is over.
    pub(in crate::api) fn handled(&self, code: Code, took: Duration) {
        self.handled[code as usize].inc();
        if let Some(seconds) = &self.seconds {
            seconds.observe(took.as_secs_f64());
        }
    }
}

/// Versions that there can be: clients choose no names of metrics.
fn is_version(text: &str) -> bool {
    let Some(minor) = text.strip_prefix("3.") else { return false };
    (1..=2).contains(&minor.len()) && minor.bytes().all(|digit| digit.is_ascii_digit())
}

impl Calls {
    pub(super) fn new(registry: &Registry, extensive: bool) -> Self {
        let labels = ["grpc_type", "grpc_service", "grpc_method"];
        let counters =
            |name, help, labels: &[&str]| known(IntCounterVec::new(Opts::new(name, help), labels));
        let by_code = [&labels[..], &["grpc_code"]].concat();
        let seconds = || {
            let name = "grpc_server_handling_seconds";
            known(HistogramVec::new(HistogramOpts::new(name, "How long calls take."), &labels))
        };
        let this = Self {
            started: counters("grpc_server_started_total", "Calls that have begun.", &labels),
            received: counters(
                "grpc_server_msg_received_total",
                "Messages of clients in calls.",
                &labels,
            ),
            sent: counters("grpc_server_msg_sent_total", "Messages to clients in calls.", &labels),
            handled: counters(
                "grpc_server_handled_total",
                "Calls that are over, by how they ended.",
                &by_code,
            ),
            seconds: extensive.then(seconds),
            received_bytes: counter(
                "etcd_network_client_grpc_received_bytes_total",
                "Bytes of messages of clients in calls.",
            ),
            sent_bytes: counter(
                "etcd_network_client_grpc_sent_bytes_total",
                "Bytes of messages to clients in calls.",
            ),
            requests: counters(
                "etcd_server_client_requests_total",
                "Calls by the version of the API that clients say they are of.",
                &["client_api_version", "type"],
            ),
        };
        let mut all: Vec<Box<dyn Collector>> =
            vec![Box::new(this.received_bytes.clone()), Box::new(this.sent_bytes.clone())];
        let counters = [&this.started, &this.received, &this.sent, &this.handled, &this.requests];
        all.extend(counters.map(|it| Box::new(it.clone()) as Box<dyn Collector>));
        all.extend(this.seconds.iter().map(|it| Box::new(it.clone()) as Box<dyn Collector>));
        for collector in all {
            registry.register(collector).expect("each name is registered once");
        }
        this
    }

    pub(super) fn of(&self, kind: &str, service: &str, method: &str) -> CallMeter {
        let labels = [kind, service, method];
        let kind_of_request = if kind == "unary" { "unary" } else { "stream" };
        CallMeter {
            started: self.started.with_label_values(&labels),
            received: self.received.with_label_values(&labels),
            sent: self.sent.with_label_values(&labels),
            handled: Code::ALL
                .map(|code| self.handled.with_label_values(&[kind, service, method, code.name()])),
            seconds: self.seconds.as_ref().map(|seconds| seconds.with_label_values(&labels)),
            received_bytes: self.received_bytes.clone(),
            sent_bytes: self.sent_bytes.clone(),
            unknown: self.requests.with_label_values(&["unknown", kind_of_request]),
            requests: self.requests.clone(),
            kind: kind_of_request,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_version_makes_no_series() {
        for (text, is) in [
            ("3.4", true),
            ("3.10", true),
            ("3", false),
            ("3.", false),
            ("3.4.1", false),
            ("3.x", false),
        ] {
            assert_eq!(is_version(text), is, "{text}");
        }
    }
}
